"""`muted()` and `connected_to()`: right when nested, and for the current thread or task alone."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from flask_signals_kit import Signal


@pytest.fixture
def signal() -> Signal:
    """Give a signal with one receiver, which returns "heard"."""
    made = Signal("account_funded")
    made.connect(heard, weak=False)
    return made


def heard(sender: Any, **payload: Any) -> str:
    """Be there all the time."""
    return "heard"


def guest(sender: Any, **payload: Any) -> str:
    """Be there for a while."""
    return "guest"


def results(signal: Signal, sender: Any = None) -> list[Any]:
    """Send and return what the receivers returned."""
    return [result for _, result in signal.send(sender)]


def in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own and return its result."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(timeout=10)


def test_a_muted_signal_calls_nobody(signal: Signal) -> None:
    """Plain, robust and async sends are silent, and `is_muted` says so."""
    assert [signal.is_muted] == [False]
    with signal.muted():
        assert [signal.is_muted] == [True]
        assert signal.send() == []
        assert signal.send_robust() == []
        assert asyncio.run(signal.send_async()) == []
        assert asyncio.run(signal.send_robust_async()) == []
    assert [signal.is_muted] == [False]
    assert results(signal) == ["heard"]


def test_an_inner_muted_does_not_unmute_the_outer(signal: Signal) -> None:
    """The signal speaks again when the outermost block ends."""
    with signal.muted():
        with signal.muted():
            assert results(signal) == []
        assert results(signal) == []
    assert results(signal) == ["heard"]


def test_muted_ends_with_an_exception(signal: Signal) -> None:
    """A block that raises unmutes, and the exception goes on."""
    with pytest.raises(ValueError, match="boom"), signal.muted():
        raise ValueError("boom")
    assert results(signal) == ["heard"]


def test_muting_one_signal_leaves_others(signal: Signal) -> None:
    """A mute belongs to one signal."""
    other = Signal("alert_raised")
    other.connect(heard)
    with signal.muted():
        assert results(other) == ["heard"]


def test_blocks_may_end_in_any_order(signal: Signal) -> None:
    """Two blocks that overlap without nesting each count until their own end."""
    first, second = ExitStack(), ExitStack()
    first.enter_context(signal.muted())
    second.enter_context(signal.muted())
    first.close()
    assert results(signal) == []
    second.close()
    assert results(signal) == ["heard"]


def test_setting_is_muted_mutes_every_thread(signal: Signal) -> None:
    """Blinker's attribute may still be set; it concerns everybody."""
    signal.is_muted = True
    assert signal.is_muted
    assert results(signal) == []
    assert in_thread(lambda: results(signal)) == []
    signal.is_muted = False
    assert results(signal) == ["heard"]


def test_muted_concerns_the_current_thread_alone(signal: Signal) -> None:
    """Another thread hears the signal while this one has it muted, and the other way round."""
    with signal.muted():
        assert in_thread(lambda: results(signal)) == ["heard"]
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
        assert results(signal) == ["heard"]
        go_on.set()
        assert silent.result(timeout=10) == []


def test_muted_concerns_the_current_task_and_those_it_starts(signal: Signal) -> None:
    """A sibling task hears the signal; a task started inside the block does not."""

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
        assert results(signal) == ["heard"]
        go_on.set()
        assert await task == ([], [])
        assert results(signal) == ["heard"]

    asyncio.run(story())


def test_connected_to_connects_until_the_block_ends(signal: Signal) -> None:
    """A temporary receiver comes and goes."""
    with signal.connected_to(guest):
        assert results(signal) == ["heard", "guest"]
    assert results(signal) == ["heard"]


def test_connected_to_holds_its_receiver(signal: Signal) -> None:
    """A lambda stays for the block, without anybody keeping it."""
    with signal.connected_to(lambda sender: "lambda"):
        assert results(signal) == ["heard", "lambda"]


def test_connected_to_can_be_limited_to_a_sender(signal: Signal) -> None:
    """As with `connect`, other senders pass it by."""
    with signal.connected_to(guest, sender="acme"):
        assert results(signal, "acme") == ["heard", "guest"]
        assert results(signal, "other") == ["heard"]


def test_connected_to_leaves_an_earlier_connection_of_the_receiver(signal: Signal) -> None:
    """What was connected before is connected afterwards, other senders included."""
    signal.connect(guest, sender="acme")
    with signal.connected_to(guest, sender="globex"):
        assert results(signal, "acme") == ["heard", "guest"]
        assert results(signal, "globex") == ["heard", "guest"]
    assert results(signal, "acme") == ["heard", "guest"]
    assert results(signal, "globex") == ["heard"]
    with signal.connected_to(heard):
        assert results(signal) == ["heard"]
    assert results(signal) == ["heard"]


def test_connected_to_nests_with_the_same_receiver(signal: Signal) -> None:
    """An inner block does not end the outer one's connection."""
    with signal.connected_to(guest):
        with signal.connected_to(guest):
            assert results(signal) == ["heard", "guest"]
        assert results(signal) == ["heard", "guest"]
    assert results(signal) == ["heard"]


def test_a_receiver_connected_for_good_inside_connected_to_stays(signal: Signal) -> None:
    """The block ends its own connection and no other."""
    with signal.connected_to(guest):
        signal.connect(guest)
    assert results(signal) == ["heard", "guest"]


def test_a_receiver_disconnected_inside_connected_to_is_gone_at_once(signal: Signal) -> None:
    """`disconnect` inside the block ends the temporary connection, too."""
    with signal.connected_to(guest):
        signal.disconnect(guest)
        assert results(signal) == ["heard"]
    assert results(signal) == ["heard"]


def test_connected_to_ends_with_an_exception(signal: Signal) -> None:
    """A block that raises disconnects, and the exception goes on."""
    with pytest.raises(ValueError, match="boom"), signal.connected_to(guest):
        raise ValueError("boom")
    assert results(signal) == ["heard"]


def test_connected_to_concerns_the_current_thread_alone(signal: Signal) -> None:
    """Another thread does not call the temporary receiver, nor can it disconnect it."""
    with signal.connected_to(guest):
        assert in_thread(lambda: results(signal)) == ["heard"]
        assert in_thread(lambda: [*signal.receivers_for(None)]) == [heard]
        in_thread(lambda: signal.disconnect(guest))
        assert results(signal) == ["heard", "guest"]


def test_connected_to_does_not_count_as_a_receiver_elsewhere() -> None:
    """`has_receivers_for` answers for the thread that asks."""
    signal = Signal("account_funded")
    with signal.connected_to(guest):
        assert signal.has_receivers_for(None)
        assert not in_thread(lambda: signal.has_receivers_for(None))


def test_connected_to_concerns_the_current_task_and_those_it_starts(signal: Signal) -> None:
    """Two tasks with a guest each hear their own."""

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
            (["heard", "one"], ["heard", "one"]),
            (["heard", "two"], ["heard", "two"]),
        ]
        assert results(signal) == ["heard"]

    asyncio.run(story())


def test_a_block_reaches_a_worker_thread_that_takes_the_context_along(signal: Signal) -> None:
    """`asyncio.to_thread` and `copy_context` carry mutes and temporary receivers."""

    async def story() -> tuple[list[Any], list[Any]]:
        with signal.connected_to(guest):
            one = await asyncio.to_thread(results, signal)
        with signal.muted():
            two = await asyncio.to_thread(results, signal)
        return one, two

    assert asyncio.run(story()) == (["heard", "guest"], [])
    with signal.muted():
        context = contextvars.copy_context()
    assert context.run(results, signal) == ["heard"]


def test_muted_and_connected_to_mix(signal: Signal) -> None:
    """A guest is as silent as everybody while the signal is muted."""
    with signal.muted(), signal.connected_to(guest):
        assert results(signal) == []
    with signal.connected_to(guest):
        with signal.muted():
            assert results(signal) == []
        assert results(signal) == ["heard", "guest"]


def test_muting_within_a_receiver_lets_the_running_send_finish(signal: Signal) -> None:
    """A send that has begun calls everybody who was connected then."""
    stack = ExitStack()
    signal.connect(lambda sender: stack.enter_context(signal.muted()), weak=False, priority=1)
    assert len(signal.send()) == 2
    assert signal.send() == []
    stack.close()
    assert "heard" in results(signal)
    stack.close()


def test_many_threads_with_guests_of_their_own_hear_only_those() -> None:
    """Eight threads, each with its own receivers and mutes, never see each other's."""
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
