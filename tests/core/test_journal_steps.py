"""The journal's record of an emission: a step with a status for every connected receiver."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from contextvars import copy_context
from itertools import pairwise
from typing import Any

import pytest

from flask_signals_kit import Call, Namespace, Signal
from flask_signals_kit.core.journal import JournalEntry, JournalStep
from flask_signals_kit.records import OnError
from tests.support import JournalEnvironment, Later, tally_of, together


class Environment(JournalEnvironment):
    """An environment with a journal, in which plain and async receivers can be mixed."""

    def make_sync(self, receiver: Any) -> Any:
        return lambda *args, **payload: asyncio.run(receiver(*args, **payload))

    def make_async(self, receiver: Any) -> Any:
        return receiver


class Account:
    """A sender."""


class GoneError(Exception):
    """A failure that supports weak references."""


def first(sender: object, **payload: object) -> None:
    """Be a receiver."""


def second(sender: object, **payload: object) -> None:
    """Be another receiver."""


async def awaited(sender: object, **payload: object) -> None:
    """Be an async receiver."""
    await asyncio.sleep(0)


def fail(sender: object, **payload: object) -> None:
    """Raise an exception."""
    raise GoneError("boom")


async def fail_late(sender: object, **payload: object) -> None:
    """Raise an exception after a wait."""
    await asyncio.sleep(0)
    raise GoneError("boom")


def never(sender: object, **payload: object) -> bool:
    """Refuse every emission."""
    return False


def make(on_error: OnError = "raise", size: int = 10) -> Signal:
    """Return a signal with a journal."""
    return Signal("account_funded", on_error=on_error, environment=Environment(size))


def entries(signal: Signal) -> list[JournalEntry]:
    """Return what was recorded, in the order in which the emissions began."""
    recorded: list[JournalEntry] = signal.context.environment.journal.entries()
    return sorted(recorded, key=lambda entry: entry.number)


def steps(signal: Signal, index: int = -1) -> list[tuple[str, str]]:
    """Return receiver and status of each step of an emission."""
    return [(step.receiver.name, step.status) for step in entries(signal)[index].steps]


def send_plain(signal: Signal, sender: Any) -> None:
    """Send."""
    signal.send(sender)


def send_robust(signal: Signal, sender: Any) -> None:
    """Send robustly."""
    signal.send_robust(sender)


def send_async(signal: Signal, sender: Any) -> None:
    """Send and await."""
    asyncio.run(signal.send_async(sender))


def send_robust_async(signal: Signal, sender: Any) -> None:
    """Send robustly and await."""
    asyncio.run(signal.send_robust_async(sender))


SENDS = (send_plain, send_robust, send_async, send_robust_async)
Send = Callable[[Signal, Any], None]


# -- each status ----------------------------------------------------------------------------------


@pytest.mark.parametrize("send", SENDS)
def test_receivers_that_run_have_steps_in_calling_order(send: Send) -> None:
    """By priority, with the time and duration of each."""
    signal = make()
    signal.connect(first)
    signal.connect(second, priority=1)
    send(signal, "acme")
    assert steps(signal) == [("second", "ran"), ("first", "ran")]
    ran = entries(signal)[0].steps
    assert all(step.duration is not None and step.duration > 0 for step in ran)
    assert (ran[0].started or 0) <= (ran[1].started or 0)


@pytest.mark.parametrize("send", SENDS)
def test_async_receivers_have_steps(send: Send) -> None:
    """As plain ones have."""
    signal = make()
    signal.connect(awaited)
    signal.connect(first)
    send(signal, "acme")
    assert steps(signal) == [("awaited", "ran"), ("first", "ran")]


@pytest.mark.parametrize("send", [send_plain, send_async])
@pytest.mark.parametrize("failing", [fail, fail_late])
@pytest.mark.parametrize("when", [None, lambda sender, **payload: True])
def test_receivers_after_a_failure_are_not_reached(send: Send, failing: Any, when: Any) -> None:
    """With the policy ``raise``, in a plain loop and in the other one."""
    signal = make()
    signal.connect(first)
    signal.connect(failing, when=when)
    signal.connect(second)
    with pytest.raises(GoneError):
        send(signal, "acme")
    found = [("first", "ran"), (failing.__name__, "failed"), ("second", "not_reached")]
    assert steps(signal) == found
    assert [step.error for step in entries(signal)[0].steps] == [None, "GoneError", None]


@pytest.mark.parametrize("on_error", ["isolate", "group"])
@pytest.mark.parametrize("send", [send_plain, send_async])
def test_contained_failure_reaches_the_others(send: Send, on_error: OnError) -> None:
    """Failed, and the next one ran."""
    signal = make(on_error)
    signal.connect(fail)
    signal.connect(second)
    if on_error == "isolate":
        send(signal, "acme")
    else:
        with pytest.raises(ExceptionGroup):
            send(signal, "acme")
    assert steps(signal) == [("fail", "failed"), ("second", "ran")]


@pytest.mark.parametrize("send", [send_robust, send_robust_async])
def test_robust_send_reaches_the_others(send: Send) -> None:
    """Whatever the policy is."""
    signal = make("raise")
    signal.connect(fail)
    signal.connect(second)
    send(signal, "acme")
    assert steps(signal) == [("fail", "failed"), ("second", "ran")]


@pytest.mark.parametrize("send", SENDS)
def test_predicate_skips(send: Send) -> None:
    """A step of its own status, without a time."""
    signal = make()
    signal.connect(first, when=never)
    signal.connect(second)
    send(signal, "acme")
    assert steps(signal) == [("first", "skipped"), ("second", "ran")]
    assert entries(signal)[0].steps[0].duration is None


@pytest.mark.parametrize("send", SENDS)
@pytest.mark.parametrize("others", [[], [second]])
def test_receiver_of_another_sender_has_a_step(send: Send, others: list[Any]) -> None:
    """Whether or not the send reached any receiver."""
    signal = make()
    signal.connect(first, "acme")
    for other in others:
        signal.connect(other)
    send(signal, "else")
    assert steps(signal) == [
        ("first", "other_sender"),
        *((other.__name__, "ran") for other in others),
    ]


@pytest.mark.parametrize("send", SENDS)
def test_muted_signal_has_muted_steps(send: Send) -> None:
    """For every receiver that it would call."""
    signal = make()
    signal.connect(first)
    signal.connect(second, "acme")
    with signal.muted():
        send(signal, "acme")
        send(signal, "else")
    assert steps(signal, 0) == [("first", "muted"), ("second", "muted")]
    assert steps(signal, 1) == [("first", "muted"), ("second", "other_sender")]


@pytest.mark.parametrize("send", SENDS)
def test_muted_receiver_with_two_connections_has_one_step(send: Send) -> None:
    """As if it were called: the connection that it is not called for is left out."""
    signal = make()
    signal.connect(first)
    signal.connect(first, "acme")
    with signal.muted():
        send(signal, "acme")
    assert steps(signal) == [("first", "muted")]


def test_signal_muted_everywhere_has_muted_steps() -> None:
    """By ``is_muted``, in each thread."""
    signal = make()
    signal.connect(first)
    signal.is_muted = True
    together(lambda: signal.send("acme"), lambda: signal.send("acme"))
    assert [steps(signal, index) for index in (0, 1)] == [[("first", "muted")]] * 2


@pytest.mark.parametrize("send", SENDS)
@pytest.mark.parametrize("muted", [False, True])
def test_emission_without_receivers_has_no_steps(send: Send, muted: bool) -> None:
    """It is recorded nevertheless."""
    signal = make()
    with signal.muted() if muted else nullcontext():
        send(signal, "acme")
    assert steps(signal) == []


# -- deliveries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("send", SENDS)
@pytest.mark.parametrize("receiver", [first, awaited])
def test_delivered_receiver_waits_and_then_has_run(send: Send, receiver: Any) -> None:
    """Its step changes, although the send is over."""
    signal = make()
    later = Later()
    signal.connect(receiver, delivery=later)
    send(signal, "acme")
    assert steps(signal) == [(receiver.__name__, "waiting")]
    [before] = entries(signal)[0].steps
    assert (before.late, before.started, before.duration) == (True, None, None)
    later.run()
    [after] = entries(signal)[0].steps
    assert after.status == "ran"
    assert (after.started or 0) > entries(signal)[0].started
    assert (after.duration or 0) > 0


@pytest.mark.parametrize("send", [send_plain, send_async])
@pytest.mark.parametrize("receiver", [fail, fail_late])
def test_delivered_receiver_fails_late(send: Send, receiver: Any) -> None:
    """With the type of the exception."""
    signal = make()
    later = Later()
    signal.connect(receiver, delivery=later)
    send(signal, "acme")
    later.run()
    [step] = entries(signal)[0].steps
    assert (step.status, step.error, step.late) == ("failed", "GoneError", True)
    assert entries(signal)[0].request.failures == 1


def test_delivered_receiver_that_is_interrupted_has_failed() -> None:
    """It does not wait for ever."""
    signal = make()
    later = Later()

    def interrupted(sender: object, **payload: object) -> None:
        raise KeyboardInterrupt

    signal.connect(interrupted, delivery=later)
    signal.send("acme")
    with pytest.raises(KeyboardInterrupt):
        later.run()
    [step] = entries(signal)[0].steps
    assert (step.status, step.error) == ("failed", "KeyboardInterrupt")


@pytest.mark.parametrize("reason", [None, "rolled back"])
def test_dropped_receiver_has_the_reason(reason: str | None) -> None:
    """Which its delivery may give."""
    signal = make()
    later = Later()
    signal.connect(first, delivery=later)
    signal.send("acme")
    later.calls[0].drop(reason)
    [step] = entries(signal)[0].steps
    assert (step.status, step.dropped, step.duration) == ("dropped", reason, None)


class AtOnce:
    """A delivery that runs or drops its calls during the send."""

    name = "at_once"

    def __init__(self, drops: bool) -> None:
        self.drops = drops

    def deliver(self, call: Call, /) -> None:
        """Run or drop a call."""
        call.drop("not today") if self.drops else call.run_contained()


@pytest.mark.parametrize(
    ("receiver", "drops", "status", "late"),
    [(first, False, "ran", False), (fail, False, "failed", False), (first, True, "dropped", True)],
)
def test_delivery_during_the_send(receiver: Any, drops: bool, status: str, late: bool) -> None:
    """Ran, failed or was dropped before the send was over."""
    signal = make()
    signal.connect(receiver, delivery=AtOnce(drops))
    signal.connect(second)
    signal.send("acme")
    step, other = entries(signal)[0].steps
    assert (step.status, step.late, other.status) == (status, late, "ran")


# -- the same function for several senders --------------------------------------------------------


@pytest.mark.parametrize("when", [None, never])
def test_receiver_connected_for_any_and_for_one_sender_has_one_step(when: Any) -> None:
    """It is called once, and so it has one step for what happened."""
    signal = make()
    signal.connect(first)
    signal.connect(first, "acme")
    signal.connect(second, when=when)
    for sender in ("acme", "else"):
        signal.send(sender)
        assert [name for name, _ in steps(signal)] == ["first", "second"]
        assert steps(signal)[0] == ("first", "ran")


def test_receiver_with_two_predicates_has_its_call_and_what_was_skipped() -> None:
    """The connection for any sender was skipped, the one for this sender ran."""
    signal = make()
    signal.connect(first, when=never)
    signal.connect(first, "acme")
    signal.send("acme")
    assert steps(signal) == [("first", "skipped"), ("first", "ran")]


def test_receiver_connected_for_two_senders_has_one_step_for_the_right_one() -> None:
    """The other connection says nothing new; if none is right, both have a step."""
    signal = make()
    for sender in ("acme", "initech"):
        signal.connect(first, sender)
    signal.send("acme")
    assert steps(signal) == [("first", "ran")]
    signal.send("else")
    assert steps(signal) == [("first", "other_sender"), ("first", "other_sender")]


def test_closures_of_one_place_for_two_senders_have_a_step_each() -> None:
    """They are two receivers, although they have the same name and line."""
    signal = make()

    def make_receiver() -> Callable[..., None]:
        def closure(sender: object, **payload: object) -> None: ...

        return closure

    for sender in ("acme", "else"):
        signal.connect(make_receiver(), sender, weak=False)
    signal.send("acme")
    assert [status for _, status in steps(signal)] == ["ran", "other_sender"]


# -- nesting --------------------------------------------------------------------------------------


def chain(asynchronous: bool, delivery: Later | None) -> tuple[list[Signal], Namespace]:
    """Return three signals; the second receiver of each sends the next."""
    shop = Namespace(Environment())
    signals = [shop.signal(name) for name in ("opened", "funded", "closed")]

    def make_receiver(following: Signal) -> Callable[..., Any]:
        def sends(sender: object, **payload: object) -> None:
            following.send(sender)

        async def sends_async(sender: object, **payload: object) -> None:
            await asyncio.sleep(0)
            await following.send_async(sender)

        return sends_async if asynchronous else sends

    for signal, following in pairwise(signals):
        signal.connect(first)
        signal.connect(make_receiver(following), weak=False, delivery=delivery)
        signal.connect(second)
    signals[-1].connect(first)
    return signals, shop


@pytest.mark.parametrize("delivery", [None, Later])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("plain", [True, False])
def test_nested_emissions_have_their_parents(
    asynchronous: bool, plain: bool, delivery: Callable[[], Later] | None
) -> None:
    """Three deep: the number of the sending emission, and the receiver that sent."""
    later = None if delivery is None else delivery()
    signals, _ = chain(asynchronous, later)
    if not plain:
        signals[0].connect(second, when=never, priority=9)
    send = send_async if asynchronous else send_plain
    send(signals[0], "acme")
    while later is not None and later.calls:
        later.run()
    opened, funded, closed = entries(signals[0])
    assert (opened.parent, funded.parent, closed.parent) == (None, opened.number, funded.number)
    for inner, outer in ((funded, opened), (closed, funded)):
        assert sender_of(inner, outer).receiver.name.endswith(
            "sends_async" if asynchronous else "sends"
        )


def sender_of(inner: JournalEntry, outer: JournalEntry) -> JournalStep:
    """Return the step that an emission was sent in, by its order or by its time."""
    for step in outer.steps:
        began, took = step.started or 0, step.duration or 0
        runs = began <= inner.started <= began + took
        if step.connection.order == inner.parent_order or (inner.parent_order is None and runs):
            return step
    raise AssertionError("no step sent it")


def test_parent_ends_with_the_receiver() -> None:
    """A later send belongs to no emission, also after a failure or an interrupt."""
    shop = Namespace(Environment())
    outer, inner = shop.signal("outer"), shop.signal("inner")

    def interrupted(sender: object, **payload: object) -> None:
        raise KeyboardInterrupt

    for receiver, when, error in (
        (first, None, None),
        (fail, None, GoneError),
        (interrupted, None, KeyboardInterrupt),
        (interrupted, lambda sender, **payload: True, KeyboardInterrupt),
    ):
        outer.connect(receiver, when=when)
        if error is None:
            outer.send("acme")
        else:
            with pytest.raises(error):
                outer.send("acme")
        outer.disconnect(receiver)
        inner.send("acme")
        assert entries(inner)[-1].parent is None


@pytest.mark.parametrize("when", [None, lambda sender, **payload: True])
def test_interrupted_receiver_has_failed_and_the_next_is_not_reached(when: Any) -> None:
    """A ``KeyboardInterrupt`` is recorded, too."""
    signal = make("isolate")

    def interrupted(sender: object, **payload: object) -> None:
        raise KeyboardInterrupt

    signal.connect(interrupted, when=when)
    signal.connect(second)
    with pytest.raises(KeyboardInterrupt):
        signal.send("acme")
    assert [status for _, status in steps(signal)] == ["failed", "not_reached"]
    assert entries(signal)[0].steps[0].error == "KeyboardInterrupt"


def test_task_that_outlives_its_send_belongs_to_the_receiver() -> None:
    """What it sends has the emission as its parent, and the receiver that started it."""
    shop = Namespace(Environment())
    outer, inner = shop.signal("outer"), shop.signal("inner")
    tasks: list[asyncio.Task[None]] = []

    async def send_soon() -> None:
        await asyncio.sleep(0.01)
        await inner.send_async("acme")

    async def starts(sender: object, **payload: object) -> None:
        tasks.append(asyncio.create_task(send_soon(), name="soon"))

    outer.connect(first)
    outer.connect(starts)

    async def run() -> None:
        await outer.send_async("acme")
        assert len(entries(outer)) == 1
        await tasks[0]

    asyncio.run(run())
    sent, late = entries(outer)
    assert (late.parent, late.task) == (sent.number, "soon")
    assert sender_of(late, sent).receiver.name.endswith("starts")


def test_coroutine_closed_half_way_has_failed() -> None:
    """The receiver that it waited for was ended, and the next one was not reached."""
    signal = make()
    signal.connect(first)
    signal.connect(awaited)
    signal.connect(second)
    run: Coroutine[Any, Any, Any] = signal.send_async("acme")
    copy_context().run(run.send, None)
    copy_context().run(run.close)
    assert steps(signal) == [("first", "ran"), ("awaited", "failed"), ("second", "not_reached")]
    assert entries(signal)[0].steps[1].error == "GeneratorExit"
    signal.send_robust("acme", _async_wrapper=lambda receiver: first)
    assert len(entries(signal)) == 2


def test_coroutine_that_never_began_is_not_recorded() -> None:
    """No receiver had a part in it."""
    signal = make()
    signal.connect(first)
    signal.send_async("acme").close()
    assert entries(signal) == []


# -- threads and blocks ---------------------------------------------------------------------------


def test_two_threads_record_their_own_emissions() -> None:
    """Each with its own steps, parent and thread, though they run at once."""
    shop = Namespace(Environment(100))
    outer, inner = shop.signal("outer"), shop.signal("inner")
    both = threading.Barrier(2)

    def sends(sender: str, **payload: object) -> None:
        both.wait(10)
        inner.send(sender)
        both.wait(10)

    outer.connect(sends, weak=False)
    inner.connect(first, "acme")
    inner.connect(second, "else")
    together(lambda: outer.send("acme"), lambda: outer.send("else"))
    by_number = {entry.number: entry for entry in entries(outer)}
    nested = [entry for entry in by_number.values() if entry.signal == "inner"]
    assert len(by_number) == 4
    assert len({entry.thread for entry in nested}) == 2
    assert {entry.parent for entry in nested} == by_number.keys() - {e.number for e in nested}
    for entry in nested:
        assert by_number[entry.parent or 0].thread == entry.thread
        assert sorted(step.status for step in entry.steps) == ["other_sender", "ran"]


@pytest.mark.parametrize("sender", [None, "acme"])
def test_receiver_of_a_block_in_another_thread_has_no_step(sender: str | None) -> None:
    """``connected_to`` applies to one thread; for the others, the receiver is not connected."""
    signal = make()
    signal.connect(first)
    limit = {} if sender is None else {"sender": sender}
    with signal.connected_to(second, **limit):
        threads = [threading.Thread(target=signal.send, args=["else"])]
        threads[0].start()
        threads[0].join()
        assert steps(signal) == [("first", "ran")]
        signal.send("acme")
        assert steps(signal) == [("first", "ran"), ("second", "ran")]
        with signal.muted():
            signal.send("acme")
            assert steps(signal)[0] == ("first", "muted")
    signal.send("acme")
    assert steps(signal) == [("first", "ran")]


def test_steps_are_those_of_the_receivers_connected_when_it_was_sent() -> None:
    """Later connections and disconnections change nothing."""
    signal = make()
    signal.connect(first)
    signal.send("acme")
    signal.disconnect(first)
    signal.connect(second)
    signal.send("acme")
    assert [steps(signal, index) for index in (0, 1)] == [[("first", "ran")], [("second", "ran")]]


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("ends", ["waiting", "failed", "dropped"])
def test_record_keeps_nothing_alive(caplog: pytest.LogCaptureFixture, ends: str) -> None:
    """No sender, value, receiver, predicate or exception, whatever happened to the receiver."""
    caplog.set_level(100, "flask_signals_kit")  # the log keeps exceptions
    signal = make("isolate")
    gone: list[weakref.ref[Any]] = []
    later = Later()

    def tracked(thing: Any) -> Any:
        gone.append(weakref.ref(thing))
        return thing

    def run() -> None:
        def receiver(sender: object, **payload: object) -> None:
            raise tracked(GoneError())

        def predicate(sender: object, **payload: object) -> bool:
            return True

        receivers = [tracked(receiver), tracked(lambda sender, **payload: None)]
        signal.connect(receivers[0], weak=False, when=tracked(predicate))
        signal.connect(receivers[1], weak=False, sender=tracked(Account()))
        signal.connect(receivers[0], weak=False, delivery=later)
        signal.send(tracked(Account()), value=tracked(Account()))
        if ends == "failed":
            later.run()
        for call in later.calls:
            call.drop() if ends == "dropped" else None
        for each in receivers:
            signal.disconnect(each)
        later.calls.clear()

    run()
    assert len(gone) >= 6
    assert [ref() for ref in gone if ref() is not None] == []
    assert entries(signal)[0].steps[-1].status in {"other_sender", ends}


def test_record_is_bounded() -> None:
    """The newest replace the oldest, in a chain of nested sends as well."""
    signals, _ = chain(False, None)
    for _ in range(25):
        signals[0].send("acme")
    numbers = [entry.number for entry in entries(signals[0])]
    assert len(numbers) == 10
    assert numbers[-1] - numbers[0] < 12


class Handled:
    """Runs a call during the send, and handles its failure itself."""

    name = "handled"

    def deliver(self, call: Call, /) -> None:
        with suppress(GoneError):
            call.run()


def test_failure_that_a_delivery_handles_is_recorded() -> None:
    """Although the send does not get it."""
    signal = make()
    signal.connect(fail, delivery=Handled())
    signal.send("acme")
    assert steps(signal) == [("fail", "failed")]
    assert tally_of(signal).failures == 1


def test_call_that_is_run_again_has_the_last_result() -> None:
    """And each run is counted."""
    signal, later, left = make(), Later(), [1, 2]

    def fail_twice(sender: object) -> None:
        if left:
            left.pop()
            raise GoneError

    signal.connect(fail_twice, delivery=later, weak=False)
    signal.send("acme")
    for _ in range(3):
        later.calls[0].run_contained()
    [step] = entries(signal)[0].steps
    assert (step.status, step.error) == ("ran", None)
    assert (tally_of(signal).calls, tally_of(signal).failures) == (3, 2)
