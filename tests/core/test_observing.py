"""Observers look on: they see each emission once it is over, and change nothing."""

import asyncio
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from flask_signals_kit import Call, Namespace, Observation, Signal
from tests.support import make_signal

Seen = list[tuple[str, str]]


class Account:
    """A sender."""


class Later:
    """A delivery that keeps its calls."""

    name = "later"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def deliver(self, call: Call, /) -> None:
        self.calls.append(call)


def fine(sender: object, **payload: object) -> str:
    """Do well."""
    return "fine"


def fine_less(sender: object, **payload: object) -> None:
    """Do well without saying so."""


def fail(sender: object, **payload: object) -> None:
    """Fail."""
    raise LookupError("boom")


def clumsy(seen: Observation) -> None:
    """Look on, and stumble."""
    raise ZeroDivisionError


async def fine_later(sender: object, **payload: object) -> str:
    """Do well, asynchronously."""
    await asyncio.sleep(0)
    return "later"


def stop(sender: object, **payload: object) -> None:
    """Want to end the program."""
    raise KeyboardInterrupt


def steps_of(signal: Signal) -> tuple[list[Seen], Callable[[], None]]:
    """Observe a signal; return what is seen of each emission, and what ends it."""
    seen: list[Seen] = []

    def observer(observation: Observation) -> None:
        seen.append(
            [(connection.receiver.name, status) for connection, status, _, _ in observation.steps()]
        )

    return seen, signal.observe(observer)


# -- what is seen ---------------------------------------------------------------------------------


def test_an_observer_sees_signal_sender_payload_receivers_and_times() -> None:
    """Everything that there is to know, after the last receiver."""
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


def test_the_exception_of_a_receiver_is_seen() -> None:
    """The very object, which an observer must not keep."""
    signal = Signal("account_funded")
    signal.connect(fail)
    found: list[str] = []
    signal.observe(lambda seen: found.extend(str(error) for *_, error in seen.steps()))
    with pytest.raises(LookupError):
        signal.send()
    assert found == ["boom"]


def test_an_emission_that_nobody_hears_is_seen() -> None:
    """That is what somebody who looks for it wants to know."""
    signal = Signal("account_funded")
    seen, _ = steps_of(signal)
    signal.send()
    with signal.muted():
        signal.connect(fine)
        signal.send()
    assert seen == [[], []]


def test_what_was_refused_is_not_seen() -> None:
    """A payload that nobody declared was never sent."""

    def refuse(payload: dict[str, Any]) -> None:
        raise TypeError(f"no {payload}")

    signal = make_signal("account_funded", check_payload=refuse)
    seen, _ = steps_of(signal)
    with pytest.raises(TypeError):
        signal.send("acme", amont=5)
    assert seen == []


def test_receivers_that_are_not_meant_are_not_seen() -> None:
    """A predicate said no, the sender is another, or a weak receiver is gone."""
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


def test_an_inner_send_is_seen_before_the_outer_one() -> None:
    """Each as it is over."""
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
def test_failures_are_seen_under_every_policy(
    on_error: Any, wanted: Seen, special: bool, asynchronous: bool
) -> None:
    """Whoever was called, with what became of it; whoever was not is not there."""
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
    """Make a plain receiver an async one of the same name."""

    async def run(sender: object, **payload: object) -> Any:
        await asyncio.sleep(0)
        return receiver(sender, **payload)

    run.__qualname__ = receiver.__qualname__
    return run


def test_a_robust_send_is_seen() -> None:
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


def test_a_deferred_receiver_is_seen_as_deferred() -> None:
    """It was handed on; what becomes of it is another story."""
    signal = Signal("account_funded")
    signal.connect(fail, delivery=(later := Later()))
    seen, _ = steps_of(signal)
    signal.send()
    assert seen == [[("fail", "deferred")]]
    with pytest.raises(LookupError):
        later.calls[0].run()
    assert len(seen) == 1


def test_a_failure_that_a_delivery_contained_is_seen() -> None:
    """It ran at once and failed, and the delivery dealt with it."""

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
def test_what_goes_up_in_any_case_is_seen(on_error: Any) -> None:
    """``KeyboardInterrupt`` and the like, on the fast way and on the slow one."""
    signal = Signal("account_funded", on_error=on_error)
    signal.connect(fine)
    signal.connect(stop)
    signal.connect(fail)
    seen, _ = steps_of(signal)
    with pytest.raises(KeyboardInterrupt):
        signal.send()
    assert seen == [[("fine", "ok"), ("stop", "failed")]]


def test_a_cancelled_async_send_is_seen() -> None:
    """Whoever cancels a task still wants to know how far it came."""
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
def test_an_observation_that_is_kept_refuses_to_tell_what_it_no_longer_knows(how: str) -> None:
    """Rather than to say that all went well, from nowhere; what it may say stays true."""
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
def test_an_observation_that_is_kept_keeps_no_receiver_and_no_exception(special: bool) -> None:
    """Nor the frames that either came through."""
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


def test_results_are_the_same_under_observation() -> None:
    """Receivers, results and their order."""
    signal = Signal("account_funded")
    signal.connect(fine)
    signal.connect(fail, when=lambda sender, **payload: "fail" in payload)
    signal.connect(fine, sender="acme", priority=1)
    plain = [signal.send(sender) for sender in ("acme", "else")]
    steps_of(signal)
    assert [signal.send(sender) for sender in ("acme", "else")] == plain


@pytest.mark.parametrize("on_error", ["raise", "isolate"])
def test_a_failing_observer_never_reaches_the_sender(
    caplog: pytest.LogCaptureFixture, on_error: Any
) -> None:
    """It is logged, by name, and the other observers are told."""
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


def test_a_failing_observer_does_not_hide_a_receivers_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The sender gets what the receiver raised, and nothing of the observer's in its context."""
    signal = Signal("account_funded")
    signal.connect(fail)
    signal.observe(clumsy)
    with pytest.raises(LookupError) as caught:
        signal.send()
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert len(caplog.records) == 1


def test_a_receiver_may_disconnect_under_observation() -> None:
    """A send calls exactly those that were connected when it began, observed or not."""
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


def test_without_observers_a_send_is_the_plain_loop() -> None:
    """It costs nothing when it is not used, before and after."""
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


def test_an_observer_that_ended_sees_no_more() -> None:
    """Undoing twice does no harm."""
    signal = Signal("account_funded")
    seen, undo = steps_of(signal)
    others, _ = steps_of(signal)
    signal.send()
    undo()
    undo()
    signal.send()
    assert (len(seen), len(others)) == (1, 2)


def test_an_observer_that_looks_on_twice_is_told_twice() -> None:
    """And each undo ends one of the two."""
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


def test_an_undo_that_is_called_twice_leaves_what_somebody_else_asked_for() -> None:
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


def test_a_namespace_is_observed_as_a_whole() -> None:
    """Signals that are made later included; the undo ends it for all of them."""
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


def test_a_signal_is_in_use_while_somebody_looks_on() -> None:
    """Unless the observer says that it minds only what others listen to."""
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


def test_whoever_owns_a_signal_is_told_when_observers_come_and_go() -> None:
    """So that a relay begins and ends with them."""
    told: list[bool] = []
    signal: Signal = make_signal("request_started", on_change=lambda: told.append(signal.in_use))
    _, undo = steps_of(signal)
    undo()
    assert told == [True, False]
