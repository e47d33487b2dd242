"""What every delivery guarantees: the kit's own, in each situation, and one written by a user."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask, current_app
from sqlalchemy import create_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from flask_signals_kit import (
    AfterCommit,
    Call,
    ConfigurationError,
    Deferred,
    Delivery,
    Emission,
    Failed,
    Ok,
    SignalsKit,
    current_emission,
)
from flask_signals_kit.core.journal import Tally
from tests.deliveries.support import messages
from tests.support import Later, tally_of


class Recording:
    """A delivery that records its calls and passes them to another one."""

    def __init__(self, inner: Delivery) -> None:
        self.name = inner.name
        self.inner = inner
        self.calls: list[Call] = []
        if hasattr(inner, "session"):
            self.session = inner.session

    def deliver(self, call: Call, /) -> None:
        """Record a call, and pass it on."""
        self.calls.append(call)
        self.inner.deliver(call)


@dataclass
class Case:
    """A kit with one delivery.

    In ``sending()`` something is sent; when it is left, everything has been delivered.
    """

    app: Flask
    kit: SignalsKit
    delivery: str | Delivery
    sending: Callable[[], AbstractContextManager[None]]
    at_once: bool
    source: str

    def on(self, receiver: Callable[..., Any], **how: Any) -> None:
        """Connect a receiver with this delivery."""
        self.kit.on("account_funded", delivery=self.delivery, **how)(receiver)

    def tally(self, index: int = 0) -> Tally:
        """Return what was counted of a receiver."""
        namespace = self.kit.for_app(self.app).namespace
        return tally_of(namespace.signal("account_funded"), index)


CASES = ("immediate", "after_commit at once", "after_commit", "user's own", "user's own at once")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Return each delivery in each situation."""
    app, kit = Flask("shop"), SignalsKit()
    app.testing = True
    app.config["SIGNALS_KIT_ON_ERROR"] = "isolate"  # as every delivery but the immediate one does
    engine = create_engine("sqlite://")
    kit.begin_immediate(engine)
    session = scoped_session(sessionmaker(engine))
    kit.use_session(session)
    kit.signal("account_funded", "Money arrived.")
    kit.init_app(app)
    later = Later()

    @contextmanager
    def at_once() -> Iterator[None]:
        with app.app_context():
            yield

    @contextmanager
    def committing() -> Iterator[None]:
        with app.app_context():
            session.begin()
            yield
            session.commit()

    @contextmanager
    def keeping() -> Iterator[None]:
        with app.app_context():
            yield
        later.run()

    class AtOnce:
        name = "at once"

        def deliver(self, call: Call, /) -> None:
            call.run_contained()

    yield {
        "immediate": Case(app, kit, "immediate", at_once, True, "receiver"),
        "after_commit at once": Case(app, kit, "after_commit", at_once, True, "delivery"),
        "after_commit": Case(app, kit, AfterCommit(), committing, False, "delivery"),
        "user's own": Case(app, kit, later, keeping, False, "delivery"),
        "user's own at once": Case(app, kit, AtOnce(), at_once, True, "delivery"),
    }[request.param]
    session.remove()
    engine.dispose()


def fail(sender: Any, **payload: Any) -> None:
    """Raise."""
    raise ValueError("boom")


def fine(sender: Any, **payload: Any) -> str:
    """Return without an error."""
    return f"fine, {sender}"


def test_receiver_runs_once_with_sender_and_payload(case: Case) -> None:
    """The objects of the send themselves, once."""
    seen: list[tuple[Any, dict[str, Any]]] = []
    sender, amount = object(), object()

    def note(sender: Any, **payload: Any) -> None:
        seen.append((sender, payload))

    case.on(note)
    with case.sending():
        case.kit.send("account_funded", sender, amount=amount)
    ((got, payload),) = seen
    assert got is sender
    assert list(payload) == ["amount"]
    assert payload["amount"] is amount


def test_order_of_sends_and_priorities(case: Case) -> None:
    """Within one send by priority, then connection; sends in their order."""
    order: list[str] = []
    for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 1)):

        def note(sender: str, name: str = name, **payload: Any) -> None:
            order.append(f"{name} {sender}")

        case.on(note, priority=priority)
    with case.sending():
        case.kit.send("account_funded", "acme")
        case.kit.send("account_funded", "globex")
    assert order == [
        f"{name} {sender}"
        for sender in ("acme", "globex")
        for name in ("high", "first", "second", "low")
    ]


def test_sender_filter_and_predicate_are_checked_at_the_send(case: Case) -> None:
    """However late the delivery."""
    seen: list[str] = []
    acme, globex = "acme", "globex"
    case.on(lambda sender, **payload: seen.append(f"sender {sender}"), sender=acme)
    case.on(
        lambda sender, **payload: seen.append(f"amount {payload['amount']}"),
        when=lambda sender, **payload: payload["amount"] > 1,
    )
    with case.sending():
        case.kit.send("account_funded", acme, amount=1)
        case.kit.send("account_funded", globex, amount=2)
    assert seen == ["sender acme", "amount 2"]


def test_current_emission_and_app(case: Case) -> None:
    """Both are available while the receiver runs."""
    seen: list[tuple[Emission, str]] = []

    def look(sender: Any, **payload: Any) -> None:
        seen.append((current_emission._get_current_object(), current_app.name))  # type: ignore[attr-defined]

    case.on(look)
    with case.sending():
        case.kit.send("account_funded", "acme", amount=5)
    ((emission, app),) = seen
    assert app == "shop"
    assert (emission.signal, emission.sender, emission.payload) == (
        "account_funded",
        "str",
        ("amount",),
    )
    assert emission.site is not None
    assert emission.site.name == "test_current_emission_and_app"
    assert emission.attempt == 1
    assert not bool(current_emission)


def test_results_and_outcomes(case: Case) -> None:
    """``send`` returns the receivers that ran; ``send_robust`` all, with ``Deferred``."""
    case.on(fine)
    case.on(fail)
    with case.sending():
        results = case.kit.send("account_funded", "acme")
        outcomes = case.kit.send_robust("account_funded", "acme")
    assert [outcome.receiver for outcome in outcomes] == [fine, fail]
    if case.at_once:
        assert results == [(fine, "fine, acme")]
        ok, failed = outcomes
        assert isinstance(ok, Ok)
        assert ok.value == "fine, acme"
        assert ok.duration >= 0
        assert isinstance(failed, Failed)
        assert str(failed.exception) == "boom"
        assert failed.duration >= 0
    else:
        assert results == []
        name = getattr(case.delivery, "name", "")
        assert [(type(o), getattr(o, "delivery", None)) for o in outcomes] == [(Deferred, name)] * 2


def test_failure_does_not_affect_other_receivers(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has receiver, signal and place, and each hook is called once."""
    seen: list[str] = []
    reported: list[tuple[str, str, str | None, Any]] = []

    @case.kit.on_exception
    def report(
        app: Flask, error: Exception, *, source: str, signal: Any, receiver: Any, **extra: Any
    ) -> None:
        reported.append((source, str(error), signal, receiver))

    case.on(lambda sender, **payload: seen.append("before"), priority=1)
    case.on(fail)
    case.on(lambda sender, **payload: seen.append("after"), priority=-1)
    with case.sending():
        case.kit.send("account_funded", "acme")
    assert seen == ["before", "after"]
    assert reported == [(case.source, "boom", "account_funded", fail)]
    (message,) = messages(caplog)
    assert f"{fail.__module__}.fail" in message
    assert "'account_funded'" in message
    assert "test_failure_does_not_affect_other_receivers" in message
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    notes = getattr(record.exc_info[1], "__notes__", [])
    assert len(notes) == 1
    assert "In a receiver of signal 'account_funded', sent from" in notes[0]


def test_async_receivers(case: Case) -> None:
    """They run to their end, from plain and awaited sends, with their emission.

    Which thread and event loop they run in is not promised.
    """
    seen: list[str] = []

    async def note(sender: Any, **payload: Any) -> str:
        await asyncio.sleep(0)
        assert (current_emission.signal, current_app.name) == ("account_funded", "shop")
        seen.append(sender)
        return "noted"

    case.on(note)
    with case.sending():
        case.kit.send("account_funded", "acme")

    async def main() -> None:
        with case.sending():
            await case.kit.send_async("account_funded", "globex")

    asyncio.run(main())
    assert seen == ["acme", "globex"]
    assert (case.tally().calls, case.tally().failures) == (2, 0)


def test_counts(case: Case) -> None:
    """Calls, failures and durations count once each, when they happen."""
    case.on(fine)
    case.on(fail)
    for _ in range(3):
        with case.sending():
            case.kit.send("account_funded", "acme")
            case.kit.send_robust("account_funded", "acme")
    good, bad = case.tally(0), case.tally(1)
    assert (good.calls, good.failures, good.dropped, good.last_failure) == (6, 0, 0, None)
    assert (bad.calls, bad.failures, bad.dropped) == (6, 6, 0)
    assert bad.last_failure is not None
    assert bad.last_failure.error == "ValueError"
    assert len(good.recent) == len(bad.recent) == 6


def test_call_has_its_result(case: Case) -> None:
    """Once its receiver has returned, it is marked as run and has the value."""
    if isinstance(case.delivery, str):
        case.delivery = AfterCommit()
    recording = case.delivery = Recording(case.delivery)
    case.on(fine)
    case.on(fail)
    with case.sending():
        case.kit.send("account_funded", "acme", amount=5)
        good, bad = recording.calls
        assert good.has_run is case.at_once
    assert good.has_run
    assert good.value == "fine, acme"
    assert not bad.has_run
    assert good.number == bad.number
    assert good.emission is bad.emission
    assert (good.emission.signal, good.emission.payload) == ("account_funded", ("amount",))
    assert good.connection.receiver.name == "fine"
    assert good.connection.delivery == case.delivery.name
    assert good.app is case.app


def test_muted_and_disconnected_receivers(case: Case) -> None:
    """After a disconnect, no new calls are made; earlier sends are still delivered."""
    seen: list[str] = []

    def note(sender: str, **payload: Any) -> None:
        seen.append(sender)

    signal = case.kit.signal("account_funded")
    case.on(note)
    with case.sending():
        with signal.muted():
            case.kit.send("account_funded", "muted")
        case.kit.send("account_funded", "acme")
        signal.disconnect(note)
        case.kit.send("account_funded", "late")
    assert seen == ["acme"]


def test_run_raises_what_the_receiver_raised() -> None:
    """``run`` is for deliveries that retry: it raises, and may be called again."""
    app = Flask("shop")
    kit = SignalsKit(app)
    later = Later()
    attempts: list[str] = []

    @kit.on("account_funded", delivery=later)
    def flaky(sender: str, **payload: Any) -> str:
        attempts.append(sender)
        if len(attempts) < 3:
            raise ConnectionError("try again")
        return "done"

    with app.app_context():
        kit.send("account_funded", "acme")
    (call,) = later.calls
    for _ in range(2):
        with pytest.raises(ConnectionError, match="try again"):
            call.run()
        assert not call.has_run
    assert call.run() == call.value == "done"
    assert call.has_run
    assert attempts == ["acme"] * 3


def test_failing_delivery_is_a_failure_of_its_receiver() -> None:
    """An exception in ``deliver`` follows the signal's policy."""

    class Broken:
        name = "broken"

        def deliver(self, call: Call, /) -> None:
            raise OSError("queue is down")

    app = Flask("shop")
    kit = SignalsKit(app)
    kit.on("account_funded", delivery=Broken())(fine)
    with app.app_context():
        with pytest.raises(OSError, match="queue is down"):
            kit.send("account_funded", "acme")
        (outcome,) = kit.send_robust("account_funded", "acme")
    assert isinstance(outcome, Failed)
    assert str(outcome.exception) == "queue is down"


def test_delivery_with_a_session_gets_the_transaction() -> None:
    """With an attribute ``session`` the call has the send's open transaction; without, none."""
    app, kit = Flask("shop"), SignalsKit()
    engine = create_engine("sqlite://")
    session = scoped_session(sessionmaker(engine))
    kit.use_session(session)
    kit.init_app(app)

    class Asking(Later):
        session = None

    plain, asking = Later(), Asking()
    kit.on("account_funded", delivery=plain)(fine)
    kit.on("account_funded", delivery=asking)(fail)
    with app.app_context():
        kit.send("account_funded", "acme")
        session.begin()
        kit.send("account_funded", "acme")
        session.rollback()
    assert [call.transaction for call in plain.calls] == [None, None]
    none, some = asking.calls
    assert none.transaction is None
    assert some.transaction is not None
    session.remove()
    engine.dispose()


@pytest.mark.parametrize(
    ("delivery", "message"),
    [
        ("after_comit", r"no delivery 'after_comit'\. Did you mean 'after_commit'\?"),
        ("celery", "Use 'immediate', 'after_commit', 'durable', or an object with a name"),
        (object(), r"object is not a delivery: it needs a name and a method deliver\(call\)"),
        (None, r"NoneType is not a delivery: it needs a name and a method deliver\(call\)"),
    ],
)
def test_invalid_delivery_is_refused(delivery: Any, message: str) -> None:
    """For a wrong name, the message has the nearest; for an object, what it lacks."""
    with pytest.raises(ConfigurationError, match=message):
        SignalsKit().on("account_funded", delivery=delivery)(fine)
