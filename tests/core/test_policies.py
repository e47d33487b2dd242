"""Failure policies: the effect of a failing receiver on its sender and other receivers."""

import asyncio
import logging
from time import sleep
from typing import Any

import pytest

from flask_signals_kit import Call, DeclarationError, Deferred, Emission, Failed, Ok, Signal
from flask_signals_kit.records import OnError
from tests.support import Later, make_signal

BOOM = ValueError("boom")


def fail(sender: Any, **payload: Any) -> None:
    """Raise always the same exception."""
    raise BOOM


def fail_too(sender: Any, **payload: Any) -> None:
    """Raise another one."""
    raise KeyError("bang")


def fine(sender: Any, **payload: Any) -> str:
    """Return without an error."""
    return "fine"


def make(on_error: OnError, **more: Any) -> Signal:
    """Make a signal with a successful receiver between two failing ones."""
    signal = make_signal("account_funded", on_error=on_error, **more)
    for receiver in (fail, fine, fail_too):
        signal.connect(receiver)
    return signal


def test_raise_propagates_the_first_exception_and_stops() -> None:
    """Blinker's behaviour is the default: the exception itself, and no receiver after it runs."""
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
    """The traceback ends in the receiver, in every kind of send."""
    signal = Signal("account_funded")
    signal.connect(fail_too, when=(lambda sender: True) if special else None)
    with pytest.raises(KeyError) as caught:
        signal.send("acme")
    assert caught.traceback[-1].name == "fail_too"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_group_runs_all_receivers_and_raises_one_group() -> None:
    """All failures in one `ExceptionGroup`, in calling order, which names the signal."""
    with pytest.raises(ExceptionGroup) as caught:
        make("group").send("acme")
    assert "'account_funded'" in caught.value.message
    assert "2 receivers" in caught.value.message
    assert caught.value.exceptions[0] is BOOM
    assert isinstance(caught.value.exceptions[1], KeyError)


def test_group_without_failures_returns_the_results() -> None:
    """No exception group is raised."""
    signal = Signal("account_funded", on_error="group")
    signal.connect(fine)
    assert signal.send() == [(fine, "fine")]


def test_group_with_one_failure_raises_a_group_of_one() -> None:
    """Callers can rely on `except*`."""
    signal = Signal("account_funded", on_error="group")
    signal.connect(fail)
    with pytest.raises(ExceptionGroup, match="1 receiver of signal 'account_funded' failed"):
        signal.send()


def test_isolate_runs_all_receivers_and_returns_the_results() -> None:
    """`send` lists the receivers that ran and returned."""
    assert make("isolate").send("acme") == [(fine, "fine")]


def test_isolate_logs_each_failure_with_receiver_place_and_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One error record for each failure, with receiver and send site."""
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


def test_isolate_calls_on_failure_once_for_each() -> None:
    """With exception, receiver and emission."""
    notified: list[Any] = []
    make("isolate", on_failure=lambda *args: notified.append(args)).send("acme", amount=5)
    (error, receiver, emission, *_), (_, second, *_) = notified
    assert (error, receiver, second) == (BOOM, fail, fail_too)
    assert isinstance(emission, Emission)
    assert (emission.signal, emission.sender, emission.payload) == (
        "account_funded",
        "str",
        ("amount",),
    )
    assert emission.site is not None
    assert emission.site.file == __file__


def test_notes_of_a_reused_exception_do_not_accumulate() -> None:
    """A module-level exception object that is raised repeatedly keeps few notes."""
    error = ValueError("always the same")

    def again(sender: Any) -> None:
        raise error

    signal = Signal("account_funded", on_error="isolate")
    signal.connect(again)
    for _ in range(50):
        signal.send()
    assert len(getattr(error, "__notes__", [])) <= 1


@pytest.mark.parametrize("on_error", ["raise", "group"])
def test_on_failure_is_not_called_for_propagated_exceptions(
    on_error: OnError, caplog: pytest.LogCaptureFixture
) -> None:
    """They are reported where they leave the app; twice would be worse."""
    notified: list[Any] = []
    signal = make(on_error, on_failure=lambda *args: notified.append(args))
    with pytest.raises((ValueError, ExceptionGroup)):
        signal.send("acme")
    assert notified == []
    assert caplog.records == []


@pytest.mark.parametrize("on_error", ["raise", "group", "isolate"])
def test_base_exceptions_propagate_under_every_policy(on_error: OnError) -> None:
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
def test_send_robust_returns_an_outcome_for_each_receiver(
    on_error: OnError, caplog: pytest.LogCaptureFixture
) -> None:
    """Under every policy, in order, and failures are logged."""
    first, second, third = make(on_error).send_robust("acme")
    assert isinstance(first, Failed)
    assert first.exception is BOOM
    assert first.receiver is fail
    assert first.duration >= 0
    assert isinstance(second, Ok)
    assert (second.receiver, second.value) == (fine, "fine")
    assert isinstance(third, Failed)
    assert len(caplog.records) == 2


def test_returned_exception_is_ok() -> None:
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
    """A slow receiver has a longer duration."""
    signal = Signal("account_funded")
    signal.connect(lambda sender: sleep(0.02), weak=False)
    signal.connect(fine)
    slow, fast = signal.send_robust()
    assert isinstance(slow, Ok)
    assert isinstance(fast, Ok)
    assert 0.02 <= slow.duration < 2
    assert 0 <= fast.duration < slow.duration


def test_unknown_policy_is_refused() -> None:
    """The message has the signal, the value and the valid ones."""
    with pytest.raises(DeclarationError) as caught:
        Signal("account_funded", on_error="ignore")  # type: ignore[arg-type]
    message = str(caught.value)
    assert "'account_funded'" in message
    assert "'ignore'" in message
    assert "'raise', 'group', 'isolate'" in message


# -- a policy of its own ---------------------------------------------------------------------------


def test_receiver_policy_isolate(caplog: pytest.LogCaptureFixture) -> None:
    """The failure is logged, reported and noted; the others run, and the sender goes on."""
    notified: list[Any] = []
    signal = make_signal("account_funded", on_failure=lambda *args: notified.append(args))
    signal.connect(fail, on_error="isolate")
    signal.connect(fine)
    assert signal.send("acme") == [(fine, "fine")]
    [(error, receiver, *_)] = notified
    assert (error, receiver) == (BOOM, fail)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert asyncio.run(async_twin("raise", (fail, "isolate"), (fine, None))) == [(fine, "fine")]


@pytest.mark.parametrize("on_error", ["group", "isolate"])
def test_receiver_policy_raise_propagates_the_exception(on_error: OnError) -> None:
    """The exception itself, and later receivers do not run."""
    signal = Signal("account_funded", on_error=on_error)
    calls: list[str] = []
    signal.connect(fail, on_error="raise")
    signal.connect(lambda sender: calls.append("later"), weak=False)
    with pytest.raises(ValueError, match="boom") as caught:
        signal.send()
    assert caught.value is BOOM
    assert calls == []


@pytest.mark.parametrize("on_error", ["raise", "isolate"])
def test_receiver_policy_group_raises_after_the_last_receiver(on_error: OnError) -> None:
    """Only failures of receivers with this policy are in it."""
    signal = Signal("account_funded", on_error=on_error)
    calls: list[str] = []
    signal.connect(fail, on_error="group")
    signal.connect(lambda sender: calls.append("later"), weak=False)
    signal.connect(fail_too, on_error="isolate")
    with pytest.raises(ExceptionGroup, match="1 receiver of signal 'account_funded' failed") as up:
        signal.send()
    assert up.value.exceptions == (BOOM,)
    assert calls == ["later"]


def test_grouped_failures_are_reported_if_another_exception_propagates(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One send raises one exception; the other failures are not lost."""
    notified: list[Any] = []
    signal = make_signal("account_funded", on_failure=lambda *args: notified.append(args[0]))
    signal.connect(fail, on_error="group")
    signal.connect(fail_too)
    with pytest.raises(KeyError, match="bang"):
        signal.send()
    assert notified == [BOOM]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("own", ["raise", "group"])
def test_send_robust_isolates_under_every_receiver_policy(own: OnError) -> None:
    """It asks what became of each."""
    signal = Signal("account_funded")
    signal.connect(fail, on_error=own)
    signal.connect(fine)
    first, second = signal.send_robust()
    assert isinstance(first, Failed)
    assert isinstance(second, Ok)


def test_receiver_policy_covers_its_predicate_and_delivery() -> None:
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


def test_receiver_policy_isolate_is_observed() -> None:
    """The failure, and the receivers that ran nevertheless."""
    signal = Signal("account_funded")
    signal.connect(fail, on_error="isolate")
    signal.connect(fine)
    seen: list[Any] = []
    signal.observe(lambda watched: seen.extend(status for _, status, *_ in watched.steps()))
    signal.send()
    assert seen == ["failed", "ok"]


def test_connecting_again_replaces_the_receiver_policy() -> None:
    """Without one, the signal's applies again, and a send takes the fast path again."""
    signal = Signal("account_funded")
    signal.connect(fine, on_error="group")
    assert [connection.on_error for connection in signal.connections] == ["group"]
    signal.connect(fine)
    assert [connection.on_error for connection in signal.connections] == [None]


@pytest.mark.parametrize("on_error", ["ignore", "", 3, True, ["raise"]])
def test_unknown_receiver_policy_is_refused(on_error: Any) -> None:
    """The message has receiver, place, value and the valid ones; nothing is connected."""
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


def test_predicate_is_called_for_each_send() -> None:
    """With sender and payload; if it returns false, the receiver does not run."""
    signal = Signal("account_funded")
    signal.connect(fine, when=lambda sender, *, amount: amount > 10)
    assert signal.send("acme", amount=11) == [(fine, "fine")]
    assert signal.send("acme", amount=9) == []
    assert signal.send_robust("acme", amount=9) == []


@pytest.mark.parametrize("on_error", ["raise", "isolate"])
def test_failing_predicate_is_a_failure_of_its_receiver(on_error: OnError) -> None:
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


def test_receiver_runs_if_one_of_its_predicates_is_true() -> None:
    """A condition for any sender does not limit a connection for one sender without it."""
    signal = Signal("account_funded")
    signal.connect(fine, when=lambda sender: False)
    signal.connect(fine, sender="acme")
    assert signal.send("acme") == [(fine, "fine")]
    assert signal.send("other") == []


def test_check_payload_is_called_before_the_receivers() -> None:
    """Its exception propagates under every policy, and no receiver has run."""
    signal = make_signal("account_funded", on_error="isolate", check_payload=lambda p: p["amount"])
    calls: list[str] = []
    signal.connect(lambda sender, **payload: calls.append("ran"), weak=False)
    signal.send("acme", amount=5)
    with pytest.raises(KeyError):
        signal.send("acme")
    with pytest.raises(KeyError):
        signal.send_robust("acme")
    assert calls == ["ran"]


def test_check_payload_is_called_without_receivers() -> None:
    """A wrong send fails on a developer's machine, too, where the signal has no receivers yet."""
    signal = make_signal("account_funded", check_payload=lambda p: p["amount"])
    with pytest.raises(KeyError):
        signal.send("acme")


def test_delivery_can_defer_a_call() -> None:
    """`send` omits it, `send_robust` returns `Deferred`; the delivery runs it later."""
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


def test_delivery_can_run_a_call_immediately() -> None:
    """The result is returned, a `None` result as well."""

    class AtOnce:
        name = "at_once"

        def deliver(self, call: Call, /) -> None:
            call.run()

    signal = Signal("account_funded")
    signal.connect(fine, delivery=AtOnce())
    signal.connect(nothing := lambda sender: None, delivery=AtOnce())
    assert signal.send() == [(fine, "fine"), (nothing, None)]


def test_failing_delivery_is_a_failure_of_its_receiver() -> None:
    """The policy applies."""

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


@pytest.mark.parametrize("error", [RecursionError("deep"), SystemExit(1)])
def test_grouped_failure_is_reported_if_the_send_ends_early(error: BaseException) -> None:
    """What propagates under every policy leaves no group to raise."""
    reported: list[Exception] = []
    signal = make_signal(
        "account_funded",
        on_error="group",
        on_failure=lambda error, receiver, emission, source: reported.append(error),
    )
    failure = ValueError("boom")

    def fail(sender: Any) -> None:
        raise failure

    def end(sender: Any) -> None:
        raise error

    signal.connect(fail)
    signal.connect(end)
    with pytest.raises(type(error)):
        signal.send()
    assert reported == [failure]
