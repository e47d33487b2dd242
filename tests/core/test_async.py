"""Async receivers: awaited by `send_async`, run through a wrapper by `send`."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

import pytest
from blinker import ANY
from werkzeug.local import LocalProxy

from flask_signals_kit import AsyncReceiverError, Failed, Ok, Signal, current_emission
from tests.support import make_signal


async def waiting(sender: Any, **payload: Any) -> str:
    """Wait for one turn of the loop."""
    await asyncio.sleep(0)
    return f"awaited {sender}"


def plain(sender: Any, **payload: Any) -> str:
    """Be a plain receiver."""
    return f"called {sender}"


class Ledger:
    """A receiver with an async `__call__`, which blinker does not detect."""

    async def __call__(self, sender: Any, **payload: Any) -> str:
        await asyncio.sleep(0)
        return f"ledger {sender}"

    async def note(self, sender: Any, **payload: Any) -> str:
        await asyncio.sleep(0)
        return f"noted {sender}"


def to_sync(receiver: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Run an async receiver in an event loop of its own."""
    return lambda *args, **kwargs: asyncio.run(receiver(*args, **kwargs))


def to_async(receiver: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Run a plain receiver in a thread."""
    return functools.partial(asyncio.to_thread, receiver)


def test_send_async_awaits_async_receivers_in_order() -> None:
    """One after the other, not concurrently."""
    signal = Signal("account_funded")
    story: list[str] = []

    async def slow(sender: Any) -> str:
        story.append("slow begins")
        await asyncio.sleep(0.01)
        story.append("slow ends")
        return "slow"

    async def fast(sender: Any) -> str:
        story.append("fast")
        return "fast"

    signal.connect(fast)
    signal.connect(slow, priority=1)
    assert asyncio.run(signal.send_async("acme")) == [(slow, "slow"), (fast, "fast")]
    assert story == ["slow begins", "slow ends", "fast"]


def test_send_async_passes_sender_and_payload() -> None:
    """As `send` does."""
    signal = Signal("account_funded")

    @signal.connect
    async def receive(who: Any, *, amount: int, **extra: Any) -> tuple[Any, int, Any]:
        return who, amount, extra

    assert asyncio.run(signal.send_async("acme", amount=5, method="card")) == [
        (receive, ("acme", 5, {"method": "card"}))
    ]


def test_send_async_refuses_a_plain_receiver_without_a_wrapper() -> None:
    """As with blinker; the RuntimeError names the receiver and the solution."""
    signal = Signal("account_funded")
    signal.connect(plain)
    with pytest.raises(RuntimeError) as caught:
        asyncio.run(signal.send_async("acme"))
    assert isinstance(caught.value, AsyncReceiverError)
    message = str(caught.value)
    assert "plain" in message
    assert __file__ in message
    assert "_sync_wrapper" in message


def test_send_async_runs_plain_receivers_through_the_wrapper() -> None:
    """`_sync_wrapper` makes a plain receiver awaitable; async ones are awaited as they are."""
    signal = Signal("account_funded")
    signal.connect(plain)
    signal.connect(waiting)
    found = asyncio.run(signal.send_async("acme", _sync_wrapper=to_async))
    assert found == [(plain, "called acme"), (waiting, "awaited acme")]


def test_sync_wrapper_of_the_environment_is_the_default() -> None:
    """Of the signal's environment."""
    signal = make_signal("account_funded", sync_wrapper=to_async)
    signal.connect(plain)
    assert asyncio.run(signal.send_async("acme")) == [(plain, "called acme")]


def test_send_refuses_an_async_receiver_without_a_wrapper() -> None:
    """No coroutine is created and dropped; the message has receiver, place and fix."""
    signal = Signal("account_funded")
    signal.connect(waiting)
    with pytest.raises(RuntimeError) as caught:
        signal.send("acme")
    assert isinstance(caught.value, AsyncReceiverError)
    message = str(caught.value)
    assert "waiting" in message
    assert __file__ in message
    assert "send_async" in message
    assert "_async_wrapper" in message


def test_send_runs_async_receivers_through_the_wrapper() -> None:
    """`_async_wrapper` makes an async receiver callable; plain ones are called as they are."""
    signal = Signal("account_funded")
    signal.connect(plain)
    signal.connect(waiting)
    found = signal.send("acme", _async_wrapper=to_sync)
    assert found == [(plain, "called acme"), (waiting, "awaited acme")]


def test_async_wrapper_of_the_environment_is_the_default() -> None:
    """Of the signal's environment; `send_robust` uses it, too."""
    signal = make_signal("account_funded", async_wrapper=to_sync)
    signal.connect(waiting)
    assert signal.send("acme") == [(waiting, "awaited acme")]
    [outcome] = signal.send_robust("acme")
    assert isinstance(outcome, Ok)
    assert outcome.value == "awaited acme"


def test_wrapper_arguments_are_not_in_the_payload() -> None:
    """Receivers get the payload alone."""
    signal = Signal("account_funded")
    signal.connect(receive := lambda sender, **payload: payload)
    assert signal.send("acme", _async_wrapper=to_sync) == [(receive, {})]
    found = asyncio.run(signal.send_async("acme", _sync_wrapper=to_async))
    assert found == [(receive, {})]


@pytest.mark.parametrize(
    "make",
    [
        Ledger,
        lambda: Ledger().note,
        lambda: functools.partial(waiting),
        lambda: staticmethod(waiting),
    ],
)
def test_async_callables_are_detected(make: Callable[[], Any]) -> None:
    """Objects with `async __call__`, async methods and partials are awaited."""
    receiver = make()
    signal = Signal("account_funded")
    signal.connect(receiver, weak=False)
    [connection] = signal.connections
    assert connection.is_async
    [(_, result)] = asyncio.run(signal.send_async("acme"))
    assert result.endswith("acme")
    with pytest.raises(AsyncReceiverError):
        signal.send("acme")


def test_partial_of_an_object_with_async_call_is_detected() -> None:
    """The coroutine of what a partial calls is awaited as well."""
    signal = Signal("account_funded")
    signal.connect(functools.partial(Ledger()), weak=False)
    assert [connection.is_async for connection in signal.connections] == [True]
    [(_, result)] = asyncio.run(signal.send_async("acme"))
    assert result == "ledger acme"


def test_send_async_with_connected_to_and_a_sender_filter() -> None:
    """Temporary async receivers run inside their block only."""
    signal = Signal("account_funded")

    async def story() -> list[Any]:
        with signal.connected_to(waiting, sender="acme"):
            assert await signal.send_async("other") == []
            return await signal.send_async("acme")

    assert asyncio.run(story()) == [(waiting, "awaited acme")]
    assert asyncio.run(signal.send_async("acme")) == []


def test_raise_policy_propagates_the_exception_of_an_async_receiver() -> None:
    """`"raise"` is blinker's behaviour, for async sends too: later receivers do not run."""
    signal = Signal("account_funded")
    calls: list[str] = []

    @signal.connect
    async def fail(sender: Any) -> None:
        raise ValueError("boom")

    @signal.connect
    async def later(sender: Any) -> None:
        calls.append("later")

    with pytest.raises(ValueError, match="boom"):
        asyncio.run(signal.send_async())
    assert calls == []


@pytest.mark.parametrize("method", ["send_async", "send_robust_async"])
def test_cancellation_propagates_under_every_policy(method: str) -> None:
    """`CancelledError` is no failure of a receiver: later receivers do not run."""
    signal = Signal("account_funded", on_error="isolate")
    calls: list[str] = []

    async def story() -> None:
        running = asyncio.Event()

        async def wait(sender: Any) -> None:
            calls.append("wait")
            running.set()
            await asyncio.sleep(60)

        async def later(sender: Any) -> None:
            calls.append("later")

        signal.connect(wait)
        signal.connect(later)
        task = asyncio.create_task(getattr(signal, method)())
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert calls == ["wait"]


def test_concurrent_async_sends_are_separate() -> None:
    """Each send has its own sender, payload, results and emission."""
    signal = Signal("account_funded")
    seen: list[tuple[str, tuple[str, ...]]] = []

    @signal.connect
    async def receive(sender: str, **payload: int) -> tuple[str, dict[str, int]]:
        await asyncio.sleep(0.001)
        seen.append((sender, current_emission.payload))
        return sender, payload

    def payload(number: int) -> Any:
        return {f"amount_{number}": number}

    async def story() -> Any:
        return await asyncio.gather(
            *(signal.send_async(f"account {n}", **payload(n)) for n in range(10))
        )

    found = asyncio.run(story())
    assert [results[0][1] for results in found] == [(f"account {n}", payload(n)) for n in range(10)]
    assert sorted(seen) == [(f"account {n}", (f"amount_{n}",)) for n in range(10)]


def test_receiver_disconnected_during_an_async_send_is_still_called() -> None:
    """As with plain sends, the receivers at the beginning count."""
    signal = Signal("account_funded")

    @signal.connect
    async def first(sender: Any) -> str:
        await asyncio.sleep(0)
        return "first"

    signal.connect(waiting)

    async def story() -> Any:
        task = asyncio.create_task(signal.send_async("acme"))
        await asyncio.sleep(0)
        signal.disconnect(waiting)
        return await task

    assert [result for _, result in asyncio.run(story())] == ["first", "awaited acme"]


def test_send_robust_async_returns_an_outcome_for_each_receiver(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Failures are logged."""
    signal = make_signal("account_funded", sync_wrapper=to_async)
    error = ValueError("boom")

    @signal.connect
    async def fail(sender: Any) -> None:
        raise error

    signal.connect(plain)
    failed, ok = asyncio.run(signal.send_robust_async("acme"))
    assert isinstance(failed, Failed)
    assert failed.receiver is fail
    assert failed.exception is error
    assert isinstance(ok, Ok)
    assert (ok.receiver, ok.value) == (plain, "called acme")
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error]


def test_coroutine_returned_by_a_plain_receiver_is_returned_to_the_sender() -> None:
    """A lambda around an async function is no async function: a plain send does not await it."""
    signal = Signal("account_funded")
    signal.connect(lambda sender: waiting(sender.upper()), weak=False)
    [(_, coroutine)] = signal.send("acme")
    assert asyncio.run(coroutine) == "awaited ACME"


@pytest.mark.parametrize("how", ["returned", "raised"])
def test_send_async_awaits_what_a_plain_receiver_returns(how: str) -> None:
    """A lambda around an async function is called directly; nothing is left un-awaited."""
    signal = make_signal("account_funded", sync_wrapper=lambda receiver: receiver)
    story: list[str] = []

    async def later(sender: Any) -> str:
        await asyncio.sleep(0)
        story.append("done")
        if how == "raised":
            raise LookupError(sender)
        return "result"

    signal.connect(lambda sender: later(sender.lower()), weak=False)
    signal.connect(plain)
    outcomes = asyncio.run(signal.send_robust_async("Acme"))
    assert story == ["done"]
    assert [type(outcome) for outcome in outcomes] == [Ok if how == "returned" else Failed, Ok]
    if how == "returned":
        results = asyncio.run(signal.send_async("Acme"))
        assert [result for _, result in results] == ["result", "called Acme"]


@pytest.mark.parametrize("end", ["step", "close"])
def test_async_send_can_continue_in_another_context(end: str) -> None:
    """A coroutine can be stepped or closed in another context than it began in."""
    signal = Signal("account_funded")

    async def receive(sender: Any) -> str:
        await asyncio.sleep(0)
        return "received"

    signal.connect(receive)
    running = signal.send_async("acme")
    Context().run(running.send, None)
    elsewhere = Context()
    if end == "step":
        with pytest.raises(StopIteration) as stopped:
            elsewhere.run(running.send, None)
        assert stopped.value.value == [(receive, "received")]
    else:
        elsewhere.run(running.close)
    assert not elsewhere.run(bool, current_emission)


def test_async_send_restores_its_context() -> None:
    """After it, and inside an emission of another signal."""
    outer, inner = Signal("outer"), Signal("inner")
    seen: list[str] = []

    async def note() -> None:
        seen.append(current_emission.signal)

    async def receive(sender: Any) -> None:
        await asyncio.create_task(note())

    async def pass_on(sender: Any) -> None:
        await inner.send_async()
        await asyncio.create_task(note())

    async def main() -> bool:
        await outer.send_async()
        return bool(current_emission)

    inner.connect(receive)
    outer.connect(pass_on)
    assert asyncio.run(main()) is False
    assert seen == ["inner", "outer"]


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
@pytest.mark.parametrize("how", ["plain", "when", "filtered", "robust"])
def test_stop_iteration_from_a_receiver_propagates(error: type[Exception], how: str) -> None:
    """It does not become a RuntimeError."""
    signal = Signal("account_funded")

    def fail(sender: Any) -> None:
        raise error("empty")

    signal.connect(
        fail,
        sender="acme" if how == "filtered" else ANY,
        when=(lambda sender: True) if how == "when" else None,
    )
    if how == "robust":
        [outcome] = signal.send_robust("acme")
        assert isinstance(outcome, Failed)
        assert type(outcome.exception) is error
    else:
        with pytest.raises(error, match="empty"):
            signal.send("acme")


def test_send_async_returns_a_proxy_result_unawaited() -> None:
    """Werkzeug's proxies look awaitable, whatever object they are bound to."""
    signal = make_signal("account_funded", sync_wrapper=lambda receiver: receiver)
    proxy = LocalProxy(lambda: "acme")
    signal.connect(give := lambda sender: proxy)
    [(receiver, result)] = asyncio.run(signal.send_async("acme"))
    assert receiver is give
    assert result is proxy


def test_send_async_awaits_a_proxy_of_an_awaitable() -> None:
    """If that can be awaited, and not because the proxy looks as if it could."""

    async def later() -> str:
        return "later"

    signal = make_signal("account_funded", sync_wrapper=lambda receiver: receiver)
    begun = later()
    signal.connect(lambda sender: LocalProxy(lambda: begun), weak=False)
    [(_, result)] = asyncio.run(signal.send_async("acme"))
    assert result == "later"
