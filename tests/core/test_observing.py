"""Observers: they get each emission after its last receiver, and change nothing."""

import asyncio
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from flask_signals_kit import Call, Namespace, Observation, Signal
from tests.support import Later, make_signal

Seen = list[tuple[str, str]]


class Account:
    """A sender."""


def fine(sender: object, **payload: object) -> str:
    """Return without an error."""
    return "fine"


def fine_less(sender: object, **payload: object) -> None:
    """Return without an error, and without a result."""


def fail(sender: object, **payload: object) -> None:
    """Raise an exception."""
    raise LookupError("boom")


def clumsy(seen: Observation) -> None:
    """Be an observer that fails."""
    raise ZeroDivisionError


async def fine_later(sender: object, **payload: object) -> str:
    """Return without an error, asynchronously."""
    await asyncio.sleep(0)
    return "later"


def stop(sender: object, **payload: object) -> None:
    """Raise `KeyboardInterrupt`."""
    raise KeyboardInterrupt


def steps_of(signal: Signal) -> tuple[list[Seen], Callable[[], None]]:
    """Observe a signal; return the steps of each emission, and the function that ends it."""
    seen: list[Seen] = []

    def observer(observation: Observation) -> None:
        seen.append(
            [(connection.receiver.name, status) for connection, status, _, _ in observation.steps()]
        )

    return seen, signal.observe(observer)


# -- what is seen ---------------------------------------------------------------------------------


def test_observation_has_signal_sender_payload_receivers_and_times() -> None:
    """After the last receiver."""
    signal = Signal("account_funded")
    account, order = Account(), []

    def receiver(sender: object, **payload: object) -> None:
        order.append("receiver")

    def observer(seen: Observation) -> None:
        order.append("observer")
        assert seen.signal == "account_funded"
        assert seen.sender is account
        assert seen.payload == {"amount": 5}
        assert seen.emission.payload == ("amount",)
        assert seen.emission.site is not None
        assert seen.emission.site.file == __file__
        [(connection, status, seconds, error)] = seen.steps()
        assert connection.receiver.line == receiver.__code__.co_firstlineno
        assert (status, error) == ("ok", None)
        assert 0 < seconds <= seen.duration

    signal.connect(receiver)
    signal.observe(observer)
    signal.send(account, amount=5)
    assert order == ["receiver", "observer"]


def test_observation_has_the_exception_of_a_receiver() -> None:
    """The object itself, which an observer must not keep."""
    signal = Signal("account_funded")
    signal.connect(fail)
    found: list[str] = []
    signal.observe(lambda seen: found.extend(str(error) for *_, error in seen.steps()))
    with pytest.raises(LookupError):
        signal.send()
    assert found == ["boom"]


def test_emission_without_receivers_is_observed() -> None:
    """A missing receiver is often what a user looks for."""
    signal = Signal("account_funded")
    seen, _ = steps_of(signal)
    signal.send()
    with signal.muted():
        signal.connect(fine)
        signal.send()
    assert seen == [[], []]


def test_refused_send_is_not_observed() -> None:
    """A payload that is not in the contract was never sent."""

    def refuse(payload: dict[str, Any]) -> None:
        raise TypeError(f"no {payload}")

    signal = make_signal("account_funded", check_payload=refuse)
    seen, _ = steps_of(signal)
    with pytest.raises(TypeError):
        signal.send("acme", amont=5)
    assert seen == []


def test_skipped_receivers_are_not_observed() -> None:
    """Predicate, other sender, or collected weak receiver."""
    signal = Signal("account_funded")
    account = Account()
    gone = [lambda sender, **payload: None]
    signal.connect(gone[0])
    signal.connect(fail, when=lambda sender, **payload: False)
    signal.connect(stop, sender=account)
    signal.connect(fine)
    gone.clear()
    seen, _ = steps_of(signal)
    signal.send(Account())
    assert seen == [[("fine", "ok")]]


def test_inner_send_is_observed_before_the_outer() -> None:
    """Each when it ends."""
    outer, inner = Signal("outer"), Signal("inner")
    seen: list[str] = []
    for signal in (outer, inner):
        signal.observe(lambda observation: seen.append(observation.signal))

    def pass_on(sender: object, **payload: object) -> None:
        inner.send()

    outer.connect(pass_on)
    outer.send()
    assert seen == ["inner", "outer"]


# -- every way to send ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_error", "wanted"),
    [
        ("raise", [("fine", "ok"), ("fail", "failed")]),
        ("group", [("fine", "ok"), ("fail", "failed"), ("fine_less", "ok")]),
        ("isolate", [("fine", "ok"), ("fail", "failed"), ("fine_less", "ok")]),
    ],
)
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_failures_are_observed_under_every_policy(
    on_error: Any, wanted: Seen, special: bool, asynchronous: bool
) -> None:
    """Every called receiver with its outcome, and no other."""
    signal = make_signal(
        "account_funded", on_error=on_error, sync_wrapper=lambda receiver: receiver
    )
    for receiver in (fine, fail, fine_less):
        when = (lambda sender, **payload: True) if special else None
        signal.connect(_awaitable(receiver) if asynchronous else receiver, weak=False, when=when)
    seen, _ = steps_of(signal)
    try:
        if asynchronous:
            asyncio.run(signal.send_async())
        else:
            signal.send()
    except (LookupError, ExceptionGroup):
        assert on_error != "isolate"
    else:
        assert on_error == "isolate"
    assert seen == [wanted]


def _awaitable(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Make an async receiver of the same name."""

    async def run(sender: object, **payload: object) -> Any:
        await asyncio.sleep(0)
        return receiver(sender, **payload)

    run.__qualname__ = receiver.__qualname__
    return run


def test_robust_send_is_observed() -> None:
    """Plain and async alike."""
    signal = Signal("account_funded")
    signal.connect(fail)
    signal.connect(fine)
    seen, _ = steps_of(signal)
    signal.send_robust()
    signal.disconnect(fine)
    signal.disconnect(fail)
    signal.connect(fine_later)
    asyncio.run(signal.send_robust_async())
    assert seen == [[("fail", "failed"), ("fine", "ok")], [("fine_later", "ok")]]


def test_deferred_receiver_is_observed_as_deferred() -> None:
    """Its later result is not part of the observation."""
    signal = Signal("account_funded")
    signal.connect(fail, delivery=(later := Later()))
    seen, _ = steps_of(signal)
    signal.send()
    assert seen == [[("fail", "deferred")]]
    with pytest.raises(LookupError):
        later.calls[0].run()
    assert len(seen) == 1


def test_failure_contained_by_a_delivery_is_observed() -> None:
    """It ran at once and failed, and the delivery contained it."""

    class Containing:
        name = "containing"

        def deliver(self, call: Call, /) -> None:
            call.run_contained()

    signal = Signal("account_funded")
    signal.connect(fail, delivery=Containing())
    seen: list[tuple[str, str]] = []
    signal.observe(
        lambda observation: seen.extend((s, type(e).__name__) for _, s, _, e in observation.steps())
    )
    signal.send()
    assert seen == [("contained", "LookupError")]


@pytest.mark.parametrize("on_error", ["raise", "group", "isolate"])
def test_base_exceptions_are_observed(on_error: Any) -> None:
    """``KeyboardInterrupt`` and others, on the fast path and on the slow one."""
    signal = Signal("account_funded", on_error=on_error)
    signal.connect(fine)
    signal.connect(stop)
    signal.connect(fail)
    seen, _ = steps_of(signal)
    with pytest.raises(KeyboardInterrupt):
        signal.send()
    assert seen == [[("fine", "ok"), ("stop", "failed")]]


def test_cancelled_async_send_is_observed() -> None:
    """With the receivers called until then."""
    signal = Signal("account_funded")

    async def wait(sender: object, **payload: object) -> None:
        await asyncio.sleep(60)

    signal.connect(wait)
    seen, _ = steps_of(signal)

    async def main() -> None:
        await asyncio.wait_for(signal.send_async(), 0.01)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert [status for _, status in seen[0]] == ["failed"]


# -- it is over -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["plain", "special", "failing", "deferred"])
def test_kept_observation_raises_for_released_attributes(how: str) -> None:
    """Those that remain stay valid."""
    signal = Signal("account_funded", on_error="isolate" if how == "failing" else "raise")
    signal.connect(
        fail if how in ("failing", "deferred") else fine,
        when=(lambda sender, **payload: True) if how == "special" else None,
        delivery=Later() if how == "deferred" else None,
    )
    seen: list[Observation] = []
    begun: list[Iterator[object]] = []
    signal.observe(seen.append)
    signal.observe(lambda observation: begun.append(observation.steps()))
    signal.send("acme", amount=5)
    [kept], [steps] = seen, begun
    with pytest.raises(
        RuntimeError, match=r"'account_funded' is read after .* list\(observation.steps"
    ):
        list(kept.steps())
    with pytest.raises(RuntimeError, match="is read after"):
        next(steps)
    with pytest.raises(RuntimeError, match="is read after"):
        kept.emission  # noqa: B018  reading it is what is tested
    assert (kept.signal, kept.sender, kept.payload) == ("account_funded", "acme", {"amount": 5})
    assert kept.started > 0
    assert kept.duration > 0


@pytest.mark.parametrize("special", [False, True])
def test_kept_observation_keeps_no_receiver_and_no_exception_alive(special: bool) -> None:
    """Nor their frames."""
    signal = Signal("account_funded")
    seen: list[Observation] = []
    signal.observe(seen.append)

    class Failing:
        def __call__(self, sender: object, **payload: object) -> None:
            raise LookupError("boom")

    def send() -> weakref.ref[Failing]:
        receiver = Failing()
        when = (lambda sender, **payload: True) if special else None
        signal.connect(receiver, weak=False, when=when)
        with suppress(LookupError):
            signal.send()
        signal.disconnect(receiver)
        return weakref.ref(receiver)

    assert send()() is None
    assert len(seen) == 1


# -- it changes nothing ---------------------------------------------------------------------------


def test_observing_does_not_change_results() -> None:
    """Receivers, results and their order."""
    signal = Signal("account_funded")
    signal.connect(fine)
    signal.connect(fail, when=lambda sender, **payload: "fail" in payload)
    signal.connect(fine, sender="acme", priority=1)
    plain = [signal.send(sender) for sender in ("acme", "else")]
    steps_of(signal)
    assert [signal.send(sender) for sender in ("acme", "else")] == plain


@pytest.mark.parametrize("on_error", ["raise", "isolate"])
def test_failing_observer_is_logged(caplog: pytest.LogCaptureFixture, on_error: Any) -> None:
    """By name; the sender gets no exception, and the other observers are called."""
    signal = Signal("account_funded", on_error=on_error)
    signal.connect(fine)

    signal.observe(clumsy)
    seen, _ = steps_of(signal)
    assert signal.send() == [(fine, "fine")]
    assert seen == [[("fine", "ok")]]
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "clumsy" in record.getMessage()
    assert "'account_funded'" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_failing_observer_does_not_replace_a_receivers_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The receiver's exception has nothing of the observer's in its context."""
    signal = Signal("account_funded")
    signal.connect(fail)
    signal.observe(clumsy)
    with pytest.raises(LookupError) as caught:
        signal.send()
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert len(caplog.records) == 1


def test_receiver_can_disconnect_while_observed() -> None:
    """A send calls exactly the receivers that were connected when it began."""
    signal = Signal("account_funded")

    def leave(sender: object, **payload: object) -> None:
        signal.disconnect(fine)

    signal.connect(leave)
    signal.connect(fine)
    seen, _ = steps_of(signal)
    signal.send()
    signal.send()
    assert [len(steps) for steps in seen] == [2, 1]


# -- beginning and ending -------------------------------------------------------------------------


def test_send_without_observers_takes_the_fast_path() -> None:
    """Before the first observer and after the last."""
    signal = Signal("account_funded")
    signal.connect(fine, weak=False)
    signal.connect(fine_less, weak=False)
    plans: list[object] = []

    def send() -> None:
        signal.send()
        plans.append(signal._fast)

    send()
    undo = signal.observe(lambda seen: None)
    send()
    undo()
    send()
    assert plans == [(fine, fine_less), None, (fine, fine_less)]


def test_ended_observer_is_not_called() -> None:
    """Undoing twice does no harm."""
    signal = Signal("account_funded")
    seen, undo = steps_of(signal)
    others, _ = steps_of(signal)
    signal.send()
    undo()
    undo()
    signal.send()
    assert (len(seen), len(others)) == (1, 2)


def test_observer_added_twice_is_called_twice() -> None:
    """Each undo ends one of the two."""
    signal = Signal("account_funded")
    seen: list[str] = []

    def observer(observation: Observation) -> None:
        seen.append(observation.signal)

    undo = signal.observe(observer)
    signal.observe(observer)
    signal.send()
    assert len(seen) == 2
    undo()
    signal.send()
    assert len(seen) == 3


def test_undoing_twice_does_not_end_another_observation() -> None:
    """The same observer, on a signal and on its namespace: each undo ends its own."""
    shop = Namespace()
    signal = shop.signal("account_funded")
    seen: list[str] = []

    def observer(observation: Observation) -> None:
        seen.append(observation.signal)

    signal.observe(observer)
    for undo in (signal.observe(observer), shop.observe(observer)):
        undo()
        undo()
    signal.send()
    assert len(seen) == 1


def test_namespace_observer_gets_all_its_signals() -> None:
    """Later signals included; the undo ends it for all of them."""
    shop = Namespace()
    before = shop.signal("before")
    seen: list[str] = []
    undo = shop.observe(lambda observation: seen.append(observation.signal))
    after = shop.signal("after")
    before.send()
    after.send()
    assert seen == ["before", "after"]
    undo()
    before.send()
    after.send()
    shop.signal("much_later").send()
    assert len(seen) == 2


def test_signal_is_in_use_while_observed() -> None:
    """Unless the observer only wants emissions that have receivers."""
    signal = Signal("account_funded")

    def passive(observation: Observation) -> None: ...

    passive.passive = True  # type: ignore[attr-defined]

    def states() -> Iterator[bool]:
        undo_passive = signal.observe(passive)
        yield signal.in_use
        _, undo = steps_of(signal)
        yield signal.in_use
        undo()
        yield signal.in_use
        signal.connect(fine)
        undo_passive()
        yield signal.in_use

    assert list(states()) == [False, True, False, True]


def test_environment_is_notified_when_observers_are_added_and_removed() -> None:
    """So that a relay begins and ends with them."""
    notified: list[bool] = []
    signal: Signal = make_signal(
        "request_started", on_change=lambda: notified.append(signal.in_use)
    )
    _, undo = steps_of(signal)
    undo()
    assert notified == [True, False]
