"""`muted()` and `connected_to()`: nesting, threads and tasks."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from flask_signals_kit import Namespace, Signal
from flask_signals_kit.core.environment import Environment, Restriction
from flask_signals_kit.core.scopes import EVERYWHERE


class MutingEnvironment(Environment):
    """An environment that mutes signals by name."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def restrictions_of(self, signal: str) -> tuple[Restriction, ...]:
        named = Restriction(scope=EVERYWHERE, reason="by its name")
        return (named,) if signal in self._names else ()


@pytest.fixture
def signal() -> Signal:
    """Return a signal with one receiver, which returns "called"."""
    made = Signal("account_funded")
    made.connect(permanent, weak=False)
    return made


def permanent(sender: Any, **payload: Any) -> str:
    """Be a permanent receiver."""
    return "permanent"


def temporary(sender: Any, **payload: Any) -> str:
    """Be a temporary receiver."""
    return "temporary"


def results(signal: Signal, sender: Any = None) -> list[Any]:
    """Send and return what the receivers returned."""
    return [result for _, result in signal.send(sender)]


def in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own and return its result."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(timeout=10)


def test_muted_signal_calls_no_receivers(signal: Signal) -> None:
    """In plain, robust and async sends; `is_muted` is true."""
    assert [signal.is_muted] == [False]
    with signal.muted():
        assert [signal.is_muted] == [True]
        assert signal.send() == []
        assert signal.send_robust() == []
        assert asyncio.run(signal.send_async()) == []
        assert asyncio.run(signal.send_robust_async()) == []
    assert [signal.is_muted] == [False]
    assert results(signal) == ["permanent"]


def test_inner_muted_block_does_not_unmute_the_outer(signal: Signal) -> None:
    """The signal calls receivers again when the outermost block ends."""
    with signal.muted():
        with signal.muted():
            assert results(signal) == []
        assert results(signal) == []
    assert results(signal) == ["permanent"]


def test_muted_ends_with_an_exception(signal: Signal) -> None:
    """A block that raises unmutes, and the exception propagates."""
    with pytest.raises(ValueError, match="boom"), signal.muted():
        raise ValueError("boom")
    assert results(signal) == ["permanent"]


def test_muted_concerns_one_signal(signal: Signal) -> None:
    """A mute belongs to one signal."""
    other = Signal("alert_raised")
    other.connect(permanent)
    with signal.muted():
        assert results(other) == ["permanent"]


def test_muted_blocks_can_end_in_any_order(signal: Signal) -> None:
    """Two blocks that overlap without nesting each count until their own end."""
    first, second = ExitStack(), ExitStack()
    first.enter_context(signal.muted())
    second.enter_context(signal.muted())
    first.close()
    assert results(signal) == []
    second.close()
    assert results(signal) == ["permanent"]


def test_setting_is_muted_mutes_every_thread(signal: Signal) -> None:
    """Blinker's attribute can still be set; it concerns every thread."""
    signal.is_muted = True
    assert signal.is_muted
    assert results(signal) == []
    assert in_thread(lambda: results(signal)) == []
    signal.is_muted = False
    assert results(signal) == ["permanent"]


def test_environment_can_mute_a_signal() -> None:
    """In every thread, until the plan is discarded."""
    muted = {"account_funded"}
    signals = Namespace(MutingEnvironment(muted))
    for name in ("account_funded", "alert_dismissed"):
        signals.signal(name).connect(permanent, weak=False)
    signal = signals.signal("account_funded")
    assert results(signal) == in_thread(lambda: results(signal)) == []
    assert signal.is_muted
    assert results(signals.signal("alert_dismissed")) == ["permanent"]
    muted.clear()
    signal.invalidate()
    assert results(signal) == ["permanent"]


def test_muted_concerns_the_current_thread_only(signal: Signal) -> None:
    """Receivers run in another thread while this one has it muted, and the reverse."""
    with signal.muted():
        assert in_thread(lambda: results(signal)) == ["permanent"]
        assert results(signal) == []

    entered, go_on = threading.Event(), threading.Event()

    def mute() -> list[Any]:
        with signal.muted():
            entered.set()
            go_on.wait(10)
            return results(signal)

    with ThreadPoolExecutor(1) as pool:
        silent = pool.submit(mute)
        assert entered.wait(10)
        assert results(signal) == ["permanent"]
        go_on.set()
        assert silent.result(timeout=10) == []


def test_muted_concerns_the_current_task_and_its_subtasks(signal: Signal) -> None:
    """Not a sibling task."""

    async def mute(entered: asyncio.Event, go_on: asyncio.Event) -> tuple[list[Any], list[Any]]:
        with signal.muted():
            entered.set()
            await go_on.wait()

            async def child() -> list[Any]:
                return results(signal)

            return results(signal), await asyncio.create_task(child())

    async def story() -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(mute(entered, go_on))
        await entered.wait()
        assert results(signal) == ["permanent"]
        go_on.set()
        assert await task == ([], [])
        assert results(signal) == ["permanent"]

    asyncio.run(story())


def test_connected_to_connects_until_the_block_ends(signal: Signal) -> None:
    """The receiver is temporary."""
    with signal.connected_to(temporary):
        assert results(signal) == ["permanent", "temporary"]
    assert results(signal) == ["permanent"]


def test_connected_to_holds_its_receiver_strongly(signal: Signal) -> None:
    """A lambda stays connected for the block."""
    with signal.connected_to(lambda sender: "lambda"):
        assert results(signal) == ["permanent", "lambda"]


def test_connected_to_can_be_limited_to_a_sender(signal: Signal) -> None:
    """As with `connect`."""
    with signal.connected_to(temporary, sender="acme"):
        assert results(signal, "acme") == ["permanent", "temporary"]
        assert results(signal, "other") == ["permanent"]


def test_connected_to_keeps_an_earlier_connection_of_the_receiver(signal: Signal) -> None:
    """Other senders included."""
    signal.connect(temporary, sender="acme")
    with signal.connected_to(temporary, sender="globex"):
        assert results(signal, "acme") == ["permanent", "temporary"]
        assert results(signal, "globex") == ["permanent", "temporary"]
    assert results(signal, "acme") == ["permanent", "temporary"]
    assert results(signal, "globex") == ["permanent"]
    with signal.connected_to(permanent):
        assert results(signal) == ["permanent"]
    assert results(signal) == ["permanent"]


def test_connected_to_nests_with_the_same_receiver(signal: Signal) -> None:
    """An inner block does not end the outer one's connection."""
    with signal.connected_to(temporary):
        with signal.connected_to(temporary):
            assert results(signal) == ["permanent", "temporary"]
        assert results(signal) == ["permanent", "temporary"]
    assert results(signal) == ["permanent"]


def test_connect_inside_connected_to_outlives_the_block(signal: Signal) -> None:
    """The block ends its own connection and no other."""
    with signal.connected_to(temporary):
        signal.connect(temporary)
    assert results(signal) == ["permanent", "temporary"]


def test_disconnect_inside_connected_to_ends_the_temporary_connection(signal: Signal) -> None:
    """At once, before the block ends."""
    with signal.connected_to(temporary):
        signal.disconnect(temporary)
        assert results(signal) == ["permanent"]
    assert results(signal) == ["permanent"]


def test_connected_to_ends_with_an_exception(signal: Signal) -> None:
    """A block that raises disconnects, and the exception propagates."""
    with pytest.raises(ValueError, match="boom"), signal.connected_to(temporary):
        raise ValueError("boom")
    assert results(signal) == ["permanent"]


def test_connected_to_concerns_the_current_thread_only(signal: Signal) -> None:
    """Another thread neither calls nor disconnects the temporary receiver."""
    with signal.connected_to(temporary):
        assert in_thread(lambda: results(signal)) == ["permanent"]
        assert in_thread(lambda: [*signal.receivers_for(None)]) == [permanent]
        in_thread(lambda: signal.disconnect(temporary))
        assert results(signal) == ["permanent", "temporary"]


def test_temporary_receiver_is_unknown_to_other_threads() -> None:
    """`has_receivers_for` answers for the thread that calls it."""
    signal = Signal("account_funded")
    with signal.connected_to(temporary):
        assert signal.has_receivers_for(None)
        assert not in_thread(lambda: signal.has_receivers_for(None))


def test_connected_to_concerns_the_current_task_and_its_subtasks(signal: Signal) -> None:
    """Two tasks each have their own temporary receiver."""

    async def listen(name: str, barrier: asyncio.Barrier) -> tuple[list[Any], list[Any]]:
        with signal.connected_to(lambda sender: name):
            await barrier.wait()

            async def child() -> list[Any]:
                return results(signal)

            found = results(signal), await asyncio.create_task(child())
            await barrier.wait()
        return found

    async def story() -> None:
        barrier = asyncio.Barrier(2)
        found = await asyncio.gather(listen("one", barrier), listen("two", barrier))
        assert [*found] == [
            (["permanent", "one"], ["permanent", "one"]),
            (["permanent", "two"], ["permanent", "two"]),
        ]
        assert results(signal) == ["permanent"]

    asyncio.run(story())


def test_blocks_apply_in_worker_threads_with_the_context(signal: Signal) -> None:
    """`asyncio.to_thread` and `copy_context` carry mutes and temporary receivers."""

    async def story() -> tuple[list[Any], list[Any]]:
        with signal.connected_to(temporary):
            one = await asyncio.to_thread(results, signal)
        with signal.muted():
            two = await asyncio.to_thread(results, signal)
        return one, two

    assert asyncio.run(story()) == (["permanent", "temporary"], [])
    with signal.muted():
        context = contextvars.copy_context()
    assert context.run(results, signal) == ["permanent"]


def test_muted_applies_to_temporary_receivers(signal: Signal) -> None:
    """A temporary is as silent as everybody while the signal is muted."""
    with signal.muted(), signal.connected_to(temporary):
        assert results(signal) == []
    with signal.connected_to(temporary):
        with signal.muted():
            assert results(signal) == []
        assert results(signal) == ["permanent", "temporary"]


def test_muting_inside_a_receiver_does_not_stop_the_running_send(signal: Signal) -> None:
    """It calls all receivers that were connected when it began."""
    stack = ExitStack()
    signal.connect(lambda sender: stack.enter_context(signal.muted()), weak=False, priority=1)
    assert len(signal.send()) == 2
    assert signal.send() == []
    stack.close()
    assert "permanent" in results(signal)
    stack.close()


def test_threads_have_separate_temporary_receivers() -> None:
    """Eight threads with receivers and mutes of their own."""
    signal = Signal("account_funded")
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait(10)
        for turn in range(50):
            with signal.connected_to(lambda sender: (number, turn)):  # noqa: B023  called at once
                assert results(signal) == [(number, turn)]
                with signal.muted():
                    assert results(signal) == []
                assert results(signal) == [(number, turn)]
            assert results(signal) == []

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, number) for number in range(8)]:
            done.result(timeout=30)
    assert not signal.receivers
