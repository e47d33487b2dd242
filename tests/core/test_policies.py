"""What a failing receiver does to its sender and its siblings, and how it is told."""

import asyncio
import logging
from time import sleep
from typing import Any

import pytest

from flask_signals_kit import Call, DeclarationError, Deferred, Emission, Failed, Ok, Signal
from flask_signals_kit.records import OnError
from tests.support import make_signal

BOOM = ValueError("boom")


def fail(sender: Any, **payload: Any) -> None:
    """Raise always the same exception."""
    raise BOOM


def fail_too(sender: Any, **payload: Any) -> None:
    """Raise another one."""
    raise KeyError("bang")


def fine(sender: Any, **payload: Any) -> str:
    """Do well."""
    return "fine"


def make(on_error: OnError, **more: Any) -> Signal:
    """Make a signal with a receiver that does well between two that fail."""
    signal = make_signal("account_funded", on_error=on_error, **more)
    for receiver in (fail, fine, fail_too):
        signal.connect(receiver)
    return signal


def test_raise_lets_the_first_exception_up_and_stops() -> None:
    """Blinker's behaviour is the default: the very exception, and nobody after it runs."""
    signal = Signal("account_funded")
    calls: list[str] = []
    signal.connect(fail)
    signal.connect(lambda sender: calls.append("later"), weak=False)
    with pytest.raises(ValueError, match="boom") as caught:
        signal.send("acme")
    assert caught.value is BOOM
    assert calls == []


@pytest.mark.parametrize("special", [False, True])
def test_raise_shows_the_receiver_in_the_traceback(special: bool) -> None:
    """The traceback ends in the receiver, however the send went."""
    signal = Signal("account_funded")
    signal.connect(fail_too, when=(lambda sender: True) if special else None)
    with pytest.raises(KeyError) as caught:
        signal.send("acme")
    assert caught.traceback[-1].name == "fail_too"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_group_runs_everybody_and_raises_one_group() -> None:
    """All failures in one `ExceptionGroup`, in calling order, which names the signal."""
    with pytest.raises(ExceptionGroup) as caught:
        make("group").send("acme")
    assert "'account_funded'" in caught.value.message
    assert "2 receivers" in caught.value.message
    assert caught.value.exceptions[0] is BOOM
    assert isinstance(caught.value.exceptions[1], KeyError)


def test_group_without_failures_returns_the_results() -> None:
    """Nobody failed: nothing is raised."""
    signal = Signal("account_funded", on_error="group")
    signal.connect(fine)
    assert signal.send() == [(fine, "fine")]


def test_group_with_one_failure_raises_a_group_of_one() -> None:
    """Callers can rely on `except*`."""
    signal = Signal("account_funded", on_error="group")
    signal.connect(fail)
    with pytest.raises(ExceptionGroup, match="1 receiver of signal 'account_funded' failed"):
        signal.send()


def test_isolate_runs_everybody_and_lets_the_sender_go_on() -> None:
    """`send` lists the receivers that ran and returned."""
    assert make("isolate").send("acme") == [(fine, "fine")]


def test_isolate_logs_each_failure_with_receiver_place_and_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Never silent: one error record a failure, which says who failed and who sent."""
    make("isolate").send("acme", card_number="4111")
    first, second = caplog.records
    assert (first.levelno, first.name) == (logging.ERROR, "flask_signals_kit")
    assert first.exc_info is not None
    assert first.exc_info[1] is BOOM
    message = first.getMessage()
    assert f"fail ({__file__}:{fail.__code__.co_firstlineno})" in message
    assert "'account_funded'" in message
    assert "test_isolate_logs_each_failure" in message
    assert "fail_too" in second.getMessage()
    assert "4111" not in caplog.text, "no payload value in the log"


def test_isolate_tells_on_failure_once_for_each() -> None:
    """Whoever asked is told of exception, receiver and emission."""
    told: list[Any] = []
    make("isolate", on_failure=lambda *told_of: told.append(told_of)).send("acme", amount=5)
    (error, receiver, emission, *_), (_, second, *_) = told
    assert (error, receiver, second) == (BOOM, fail, fail_too)
    assert isinstance(emission, Emission)
    assert (emission.signal, emission.sender, emission.payload) == (
        "account_funded",
        "str",
        ("amount",),
    )
    assert emission.site is not None
    assert emission.site.file == __file__


def test_an_exception_that_is_raised_again_and_again_does_not_grow() -> None:
    """A module's one exception object, raised for years, has no notes for years."""
    error = ValueError("always the same")

    def again(sender: Any) -> None:
        raise error

    signal = Signal("account_funded", on_error="isolate")
    signal.connect(again)
    for _ in range(50):
        signal.send()
    assert len(getattr(error, "__notes__", [])) <= 1


@pytest.mark.parametrize("on_error", ["raise", "group"])
def test_what_goes_up_is_not_told_to_on_failure(
    on_error: OnError, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever catches it reports it; told twice would be worse."""
    told: list[Any] = []
    signal = make(on_error, on_failure=lambda *told_of: told.append(told_of))
    with pytest.raises((ValueError, ExceptionGroup)):
        signal.send("acme")
    assert told == []
    assert caplog.records == []


@pytest.mark.parametrize("on_error", ["raise", "group", "isolate"])
def test_base_exceptions_are_swallowed_by_no_policy(on_error: OnError) -> None:
    """Ctrl-C in a receiver is Ctrl-C."""
    signal = Signal("account_funded", on_error=on_error)

    @signal.connect
    def interrupt(sender: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        signal.send()
    with pytest.raises(KeyboardInterrupt):
        signal.send_robust()


@pytest.mark.parametrize("on_error", ["raise", "group", "isolate"])
def test_send_robust_says_what_became_of_each(
    on_error: OnError, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the policy: one outcome a receiver, in order, and the failures are logged."""
    first, second, third = make(on_error).send_robust("acme")
    assert isinstance(first, Failed)
    assert first.exception is BOOM
    assert first.receiver is fail
    assert first.duration >= 0
    assert isinstance(second, Ok)
    assert (second.receiver, second.value) == (fine, "fine")
    assert isinstance(third, Failed)
    assert len(caplog.records) == 2


def test_a_returned_exception_differs_from_a_raised_one() -> None:
    """`Ok` with an exception as its value is not `Failed`."""
    signal = Signal("account_funded")
    signal.connect(lambda sender: BOOM, weak=False)
    signal.connect(fail)
    returned, raised = signal.send_robust()
    assert isinstance(returned, Ok)
    assert returned.value is BOOM
    assert isinstance(raised, Failed)
    assert raised.exception is BOOM


def test_durations_are_measured_in_seconds() -> None:
    """A receiver that takes a while shows that it did."""
    signal = Signal("account_funded")
    signal.connect(lambda sender: sleep(0.02), weak=False)
    signal.connect(fine)
    slow, fast = signal.send_robust()
    assert isinstance(slow, Ok)
    assert isinstance(fast, Ok)
    assert 0.02 <= slow.duration < 2
    assert 0 <= fast.duration < slow.duration


def test_a_policy_that_does_not_exist_is_refused() -> None:
    """The message names signal, value and the ones that exist."""
    with pytest.raises(DeclarationError) as caught:
        Signal("account_funded", on_error="ignore")  # type: ignore[arg-type]
    message = str(caught.value)
    assert "'account_funded'" in message
    assert "'ignore'" in message
    assert "'raise', 'group', 'isolate'" in message


# -- a policy of its own ---------------------------------------------------------------------------


def test_a_receiver_that_isolates_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Its failure is logged, reported and noted; the others run, and the sender goes on."""
    told: list[Any] = []
    signal = make_signal("account_funded", on_failure=lambda *told_of: told.append(told_of))
    signal.connect(fail, on_error="isolate")
    signal.connect(fine)
    assert signal.send("acme") == [(fine, "fine")]
    [(error, receiver, *_)] = told
    assert (error, receiver) == (BOOM, fail)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert asyncio.run(async_twin("raise", (fail, "isolate"), (fine, None))) == [(fine, "fine")]


@pytest.mark.parametrize("on_error", ["group", "isolate"])
def test_a_receiver_that_raises_ends_a_signal_that_contains(on_error: OnError) -> None:
    """The very exception goes up, and later receivers do not run."""
    signal = Signal("account_funded", on_error=on_error)
    calls: list[str] = []
    signal.connect(fail, on_error="raise")
    signal.connect(lambda sender: calls.append("later"), weak=False)
    with pytest.raises(ValueError, match="boom") as caught:
        signal.send()
    assert caught.value is BOOM
    assert calls == []


@pytest.mark.parametrize("on_error", ["raise", "isolate"])
def test_a_receiver_that_groups_raises_a_group_after_the_last(on_error: OnError) -> None:
    """Of the receivers whose policy it is, and of no other."""
    signal = Signal("account_funded", on_error=on_error)
    calls: list[str] = []
    signal.connect(fail, on_error="group")
    signal.connect(lambda sender: calls.append("later"), weak=False)
    signal.connect(fail_too, on_error="isolate")
    with pytest.raises(ExceptionGroup, match="1 receiver of signal 'account_funded' failed") as up:
        signal.send()
    assert up.value.exceptions == (BOOM,)
    assert calls == ["later"]


def test_a_failure_meant_for_a_group_is_reported_if_another_exception_is_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One send raises one exception; the other failures are not lost."""
    told: list[Any] = []
    signal = make_signal("account_funded", on_failure=lambda *told_of: told.append(told_of[0]))
    signal.connect(fail, on_error="group")
    signal.connect(fail_too)
    with pytest.raises(KeyError, match="bang"):
        signal.send()
    assert told == [BOOM]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("own", ["raise", "group"])
def test_send_robust_isolates_whatever_a_receivers_policy_is(own: OnError) -> None:
    """It asks what became of each."""
    signal = Signal("account_funded")
    signal.connect(fail, on_error=own)
    signal.connect(fine)
    first, second = signal.send_robust()
    assert isinstance(first, Failed)
    assert isinstance(second, Ok)


def test_a_receivers_policy_covers_its_when_and_its_delivery() -> None:
    """What fails before the receiver runs is its failure, too."""

    class Broken:
        name = "broken"

        def deliver(self, call: Call, /) -> None:
            raise BOOM

    signal = Signal("account_funded")
    signal.connect(fine, when=fail, on_error="isolate")
    signal.connect(other := lambda sender: "other", delivery=Broken(), on_error="isolate")
    signal.connect(last := lambda sender: "last")
    assert signal.send() == [(last, "last")]
    del other


def test_an_observer_sees_what_became_of_a_receiver_with_its_own_policy() -> None:
    """The failure, and the receivers that ran nevertheless."""
    signal = Signal("account_funded")
    signal.connect(fail, on_error="isolate")
    signal.connect(fine)
    seen: list[Any] = []
    signal.observe(lambda watched: seen.extend(status for _, status, *_ in watched.steps()))
    signal.send()
    assert seen == ["failed", "ok"]


def test_connecting_again_changes_a_receivers_policy() -> None:
    """Without one, the signal's counts again, and a send is a plain one again."""
    signal = Signal("account_funded")
    signal.connect(fine, on_error="group")
    assert [connection.on_error for connection in signal.connections] == ["group"]
    signal.connect(fine)
    assert [connection.on_error for connection in signal.connections] == [None]


@pytest.mark.parametrize("on_error", ["ignore", "", 3, True, ["raise"]])
def test_a_receivers_policy_that_does_not_exist_is_refused(on_error: Any) -> None:
    """The message names receiver, place, value and the ones that exist; nothing is connected."""
    signal = Signal("account_funded")
    with pytest.raises(DeclarationError) as caught:
        signal.connect(fail, on_error=on_error)
    message = str(caught.value)
    assert f"fail ({__file__}:{fail.__code__.co_firstlineno})" in message
    assert (repr(on_error) if isinstance(on_error, str) else type(on_error).__name__) in message
    assert "'raise', 'group', 'isolate'" in message
    assert not signal.receivers


async def async_twin(on_error: OnError, *connected: tuple[Any, OnError | None]) -> Any:
    """Send to plain receivers with `send_async`."""
    signal = make_signal(
        "account_funded", on_error=on_error, sync_wrapper=lambda receiver: receiver
    )
    for receiver, own in connected:
        signal.connect(receiver, on_error=own)
    return await signal.send_async()


# -- when and delivery -----------------------------------------------------------------------------


def test_when_decides_at_each_send() -> None:
    """It is called with sender and payload; where it says no, the receiver did not run."""
    signal = Signal("account_funded")
    signal.connect(fine, when=lambda sender, *, amount: amount > 10)
    assert signal.send("acme", amount=11) == [(fine, "fine")]
    assert signal.send("acme", amount=9) == []
    assert signal.send_robust("acme", amount=9) == []


@pytest.mark.parametrize("on_error", ["raise", "isolate"])
def test_a_failing_when_counts_as_its_receivers_failure(on_error: OnError) -> None:
    """The policy decides, as if the receiver had raised."""
    signal = Signal("account_funded", on_error=on_error)
    signal.connect(fine, when=fail)
    signal.connect(other := lambda sender: "other")
    if on_error == "raise":
        with pytest.raises(ValueError, match="boom"):
            signal.send()
    else:
        assert signal.send() == [(other, "other")]
    outcome, _ = signal.send_robust()
    assert isinstance(outcome, Failed)
    assert outcome.receiver is fine


def test_of_two_connections_of_a_receiver_either_when_may_say_yes() -> None:
    """A receiver of any sender under a condition, and of one sender always, hears that one."""
    signal = Signal("account_funded")
    signal.connect(fine, when=lambda sender: False)
    signal.connect(fine, sender="acme")
    assert signal.send("acme") == [(fine, "fine")]
    assert signal.send("other") == []


def test_check_payload_sees_each_payload_before_anybody_runs() -> None:
    """What it raises goes up, whatever the policy, and nobody has run."""
    signal = make_signal("account_funded", on_error="isolate", check_payload=lambda p: p["amount"])
    calls: list[str] = []
    signal.connect(lambda sender, **payload: calls.append("ran"), weak=False)
    signal.send("acme", amount=5)
    with pytest.raises(KeyError):
        signal.send("acme")
    with pytest.raises(KeyError):
        signal.send_robust("acme")
    assert calls == ["ran"]


def test_check_payload_speaks_without_receivers_too() -> None:
    """A wrong send is wrong on a developer's machine, where nobody listens yet."""
    signal = make_signal("account_funded", check_payload=lambda p: p["amount"])
    with pytest.raises(KeyError):
        signal.send("acme")


class Later:
    """A delivery that keeps its calls."""

    name = "later"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def deliver(self, call: Call, /) -> None:
        self.calls.append(call)


def test_a_delivery_may_keep_a_call_and_run_it_later() -> None:
    """`send` leaves it out, `send_robust` says `Deferred`; the call runs when the delivery says."""
    signal = make_signal("account_funded", app=lambda: "the app")
    later = Later()
    signal.connect(fine, delivery=later)
    signal.connect(other := lambda sender, **payload: "other")
    assert signal.send("acme", amount=5) == [(other, "other")]
    deferred, ok = signal.send_robust("acme", amount=5)
    assert isinstance(deferred, Deferred)
    assert (deferred.receiver, deferred.delivery) == (fine, "later")
    assert isinstance(ok, Ok)
    call = later.calls[0]
    assert not call.has_run
    assert call.app == "the app"
    assert call.emission.payload == ("amount",)
    assert call.connection.receiver.name == "fine"
    assert call.connection.delivery == "later"
    assert call.run() == "fine"
    assert call.has_run


def test_a_delivery_that_runs_at_once_is_as_good_as_immediate() -> None:
    """The result is there, a `None` result as well."""

    class AtOnce:
        name = "at_once"

        def deliver(self, call: Call, /) -> None:
            call.run()

    signal = Signal("account_funded")
    signal.connect(fine, delivery=AtOnce())
    signal.connect(nothing := lambda sender: None, delivery=AtOnce())
    assert signal.send() == [(fine, "fine"), (nothing, None)]


def test_a_delivery_that_fails_counts_as_its_receivers_failure() -> None:
    """The failure policy covers the hand-over."""

    class Broken:
        name = "broken"

        def deliver(self, call: Call, /) -> None:
            raise BOOM

    signal = Signal("account_funded", on_error="isolate")
    signal.connect(fine, delivery=Broken())
    assert signal.send() == []
    [outcome] = signal.send_robust()
    assert isinstance(outcome, Failed)
    assert outcome.exception is BOOM
