"""`kit.capture()`: a record of what was sent, and after-commit receivers without a commit."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, current_app, g
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from flask_signals_kit import (
    AppContextError,
    ContractError,
    ReceiverError,
    Signal,
    SignalsKit,
    UnknownSignalError,
)
from tests.support import make_app, read_back


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Account(db.Model):  # type: ignore[name-defined,misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    funds: Mapped[int] = mapped_column(default=0)


@pytest.fixture
def app(kit: SignalsKit, tmp_path: Path) -> Iterator[Flask]:
    """Return an app with a database, in its context."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/shop.sqlite"
    db.init_app(app)
    kit.init_app(app)
    with app.app_context():
        kit.begin_immediate(db.engine)
        db.create_all()
        yield app
        db.session.remove()
        db.engine.dispose()


def names(sent: list[Any]) -> list[str]:
    """Return the signals' names."""
    return [captured.signal for captured in sent]


def test_capture_records_sender_and_payload_values(kit: SignalsKit, app: Flask) -> None:
    """A test compares values, so the capture has them."""
    account_funded = kit.signal("account_funded")
    with kit.capture(account_funded) as sent:
        account_funded.send("acme", amount=5)
        kit.send("campaign_created", "acme")
    [captured] = sent
    assert captured.signal == "account_funded"
    assert captured.sender == "acme"
    assert captured.payload == {"amount": 5}
    assert captured.emission.site is not None
    assert captured.emission.site.file == __file__


def test_capture_without_names_records_domain_signals_only(kit: SignalsKit, app: Flask) -> None:
    """Flask's own are recorded if named."""

    @app.get("/")
    def index() -> str:
        kit.send("account_funded", "acme")
        return "ok"

    kit.on("request_started")(lambda sender, **extra: None)
    with kit.capture() as sent:
        app.test_client().get("/")
    assert names(sent) == ["account_funded"]
    with kit.capture("request_started") as sent:
        app.test_client().get("/")
    assert names(sent) == ["request_started"]


def test_capture_records_a_flask_signal_without_receivers(kit: SignalsKit, app: Flask) -> None:
    """Capturing it adds the relay, only for the block."""
    with kit.capture("request_finished") as sent:
        app.test_client().get("/")
    app.test_client().get("/")
    assert names(sent) == ["request_finished"]


def test_capture_lists_in_the_order_of_sending(kit: SignalsKit, app: Flask) -> None:
    """What a receiver sends ends earlier, but was sent later."""
    kit.on("account_funded")(lambda sender, **extra: kit.send("alert_dismissed", sender))
    with kit.capture() as sent:
        kit.send("account_funded", "acme")
    assert names(sent) == ["account_funded", "alert_dismissed"]


def test_capture_ends_with_its_block_and_can_be_nested(kit: SignalsKit, app: Flask) -> None:
    """An exception ends it as well."""

    def fail() -> None:
        kit.send("account_funded", "acme")
        raise ValueError("boom")

    with kit.capture() as outer:
        with pytest.raises(ValueError, match="boom"), kit.capture() as inner:
            fail()
        kit.send("campaign_created", "acme")
    kit.send("account_funded", "late")
    assert names(inner) == ["account_funded"]
    assert names(outer) == ["account_funded", "campaign_created"]


def test_capture_outside_an_app_context_is_refused(kit: SignalsKit) -> None:
    """Signals belong to an app; the message says to push a context, or to pass the app."""
    fix = r"with app\.app_context\(\):'; or pass kit\.capture\(app=app\)"
    with pytest.raises(AppContextError, match=fix), kit.capture():
        pass


def test_capture_of_an_app_leaves_each_request_a_context_of_its_own(kit: SignalsKit) -> None:
    """A pushed context would give all of them one ``g`` and one session."""
    app, other = make_app(kit), make_app(kit)

    @app.post("/fund")
    def fund() -> str:
        g.visits = g.get("visits", 0) + 1
        kit.send("account_funded", visits=g.visits)
        return "ok"

    with kit.capture(app=app) as sent:
        app.test_client().post("/fund")
        app.test_client().post("/fund")
        kit.for_app(other).send("account_funded", visits=0)
    assert [captured.payload for captured in sent] == [{"visits": 1}, {"visits": 1}]


def test_captured_model_is_compared_by_its_row(kit: SignalsKit, app: Flask) -> None:
    """A request has a session of its own, so it sends another instance, which is detached."""
    with Session(db.engine, expire_on_commit=False) as session:
        ours, other = Account(), Account()
        session.add_all([ours, other])
        session.commit()
    with kit.capture() as sent:
        kit.send("account_funded", db.session.get(Account, ours.id), account=ours)
        db.session.commit()
        db.session.remove()
    sent.assert_sent_once("account_funded", sender=ours, account=db.session.get(Account, ours.id))
    sent.assert_not_sent("account_funded", sender=other)
    sent.assert_not_sent("account_funded", sender=Account(id=ours.id))


def test_captured_row_is_not_a_deleted_one(kit: SignalsKit, app: Flask) -> None:
    """SQLite gives its key to a new one."""
    with Session(db.engine) as session:
        session.add(deleted := Account(id=7))
        session.commit()
        session.delete(deleted)
        session.commit()
        session.add(new := Account(id=7))
        session.flush()
        with kit.capture() as sent:
            kit.send("account_funded", deleted)
        sent.assert_not_sent("account_funded", sender=new)
        sent.assert_sent("account_funded", sender=deleted)


def test_captured_object_is_itself_whatever_it_equals(kit: SignalsKit, app: Flask) -> None:
    """As an array, which has no truth value, or NaN, which does not equal itself."""
    nothing = float("nan")
    with kit.capture() as sent:
        kit.send("account_funded", "acme", amount=nothing)
    sent.assert_sent("account_funded", amount=nothing)


def test_capture_can_run_after_commit_receivers_at_the_end_of_the_block(
    kit: SignalsKit, app: Flask
) -> None:
    """Although the transaction around a test is rolled back, in order."""
    ran: list[str] = []
    kit.on("account_funded", delivery="after_commit")(lambda s, **e: ran.append("second"))
    kit.on("account_funded", delivery="after_commit", priority=1)(
        lambda s, **e: ran.append("first")
    )
    db.session.add(Account(funds=1))
    with kit.capture(run_after_commit=True):
        kit.send("account_funded", "acme")
        kit.send("account_funded", "initech")
        assert ran == []
    assert ran == ["first", "second", "first", "second"]
    db.session.rollback()
    assert ran == ["first", "second", "first", "second"]
    assert db.session.scalar(sa.select(sa.func.count(Account.id))) == 0


def test_capture_leaves_after_commit_receivers_waiting_by_default(
    kit: SignalsKit, app: Flask
) -> None:
    """Recording alone changes nothing."""
    ran: list[str] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    db.session.add(Account(funds=1))
    with kit.capture():
        kit.send("account_funded", "acme")
    assert ran == []
    db.session.commit()
    assert ran == ["acme"]


def test_after_commit_receivers_of_nested_sends_run_too(kit: SignalsKit, app: Flask) -> None:
    """As in a chain of commits."""
    ran: list[str] = []

    @kit.on("account_funded", delivery="after_commit")
    def thank(sender: str, **extra: Any) -> None:
        ran.append("thank")
        kit.send("mail_sent", sender)

    kit.on("mail_sent", delivery="after_commit")(lambda sender, **extra: ran.append("count"))
    db.session.add(Account(funds=1))
    with kit.capture(run_after_commit=True) as sent:
        kit.send("account_funded", "acme")
    assert ran == ["thank", "count"]
    assert names(sent) == ["account_funded", "mail_sent"]


def test_capture_runs_no_receiver_that_was_dropped_or_has_run(kit: SignalsKit, app: Flask) -> None:
    """Each receiver runs once, and none for what was rolled back in the block."""
    ran: list[str] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with kit.capture(run_after_commit=True):
        db.session.add(Account(funds=1))
        kit.send("account_funded", "committed")
        db.session.commit()
        db.session.add(Account(funds=1))
        savepoint = db.session.begin_nested()
        kit.send("account_funded", "taken back")
        savepoint.rollback()
        kit.send("account_funded", "waiting")
    assert ran == ["committed", "waiting"]


def test_failed_capture_block_runs_no_receivers(kit: SignalsKit, app: Flask) -> None:
    """The test has failed already."""
    ran: list[str] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    db.session.add(Account(funds=1))

    def fail() -> None:
        kit.send("account_funded", "acme")
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"), kit.capture(run_after_commit=True):
        fail()
    assert ran == []


def test_capture_accepts_globs(kit: SignalsKit, app: Flask) -> None:
    """Later signals are included, each recorded once."""
    with kit.capture("account_*", "account_funded") as sent:
        kit.send("account_funded", "acme")
        kit.send("account_opened", "acme")
        kit.send("campaign_created", "acme")
    assert names(sent) == ["account_funded", "account_opened"]


def test_capturing_an_unknown_name_is_reported(
    kit: SignalsKit, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise "nothing was sent" would always be true."""
    kit.signal("account_funded")
    with kit.capture("acount_funded"):
        pass
    assert "Did you mean 'account_funded'?" in caplog.text
    assert f"by {__name__}.test_capturing_an_unknown_name_is_reported ({__file__}:" in caplog.text
    kit.detach(app)
    app.config["SIGNALS_KIT_STRICT"] = True
    kit.init_app(app)
    with pytest.raises(UnknownSignalError, match="acount_funded"), kit.capture("acount_funded"):
        pass


# -- which receivers run --------------------------------------------------------------------------


def first(sender: Any, **extra: Any) -> str:
    """Be a receiver."""
    return "first"


def second(sender: Any, **extra: Any) -> str:
    """Be a second receiver."""
    return "second"


@pytest.fixture
def connected(kit: SignalsKit, app: Flask) -> Any:
    """Connect two receivers, one of them by a glob, and return a function that sends."""
    kit.on("account_funded", uid="one")(first)
    kit.on("account_*")(second)
    return lambda: [result for _, result in kit.send("account_funded")]


def test_capture_can_run_no_receivers(kit: SignalsKit, connected: Any) -> None:
    """A send returns an empty list, and is recorded."""
    with kit.capture(run=False) as sent:
        assert connected() == []
    sent.assert_sent_once("account_funded")
    sent.assert_skipped(first, reason="muted")
    assert connected() == ["first", "second"]


def test_send_without_receivers_checks_its_payload(kit: SignalsKit, app: Flask) -> None:
    """The code under test is at fault, whatever runs."""
    app.testing = True

    @kit.declare
    def account_opened(sender: object, *, name: str) -> None: ...

    with app.app_context(), kit.capture(run=False), pytest.raises(ContractError, match="name"):
        kit.send("account_opened", "acme")


def test_capture_can_run_only_some_receivers(kit: SignalsKit, connected: Any) -> None:
    """Given as functions, by module and name, or by uid."""
    for receiver in (first, "one", f"{__name__}.first"):
        with kit.capture(only=[receiver]) as sent:
            assert connected() == ["first"]
        sent.assert_called(first)
        sent.assert_skipped(second, reason="by kit.capture")
    with kit.capture(only=[]):
        assert connected() == []
    with kit.capture(only=[second, first]):
        assert connected() == ["first", "second"]


def test_one_receiver_needs_no_list(kit: SignalsKit, connected: Any) -> None:
    """A string is not a list of its letters."""
    with kit.capture(only=first):
        assert connected() == ["first"]
    with kit.capture(except_=f"{__name__}.first"):
        assert connected() == ["second"]


def test_tree_names_the_capture_if_its_only_receiver_does_not_run(
    kit: SignalsKit, app: Flask
) -> None:
    """The signal itself is not muted."""
    kit.on("account_funded")(first)
    limits: list[dict[str, Any]] = [{"run": False}, {"except_": [first]}, {"only": []}]
    for limit in limits:
        with kit.capture(**limit) as sent:
            kit.send("account_funded")
        sent.assert_skipped(first, reason="by kit.capture")


def test_capture_of_one_signal_observes_no_other(kit: SignalsKit, app: Flask) -> None:
    """The sends of others stay fast."""
    kit.on("account_funded", "mail_sent")(first)
    kit.send("mail_sent")
    with kit.capture("account_funded"):
        kit.send("mail_sent")
        signal: Signal = kit.namespace.signal("mail_sent")
        assert signal._fast == (first,)


def test_capture_can_exclude_receivers(kit: SignalsKit, connected: Any) -> None:
    """The others run; together with `only`, both apply."""
    with kit.capture(except_=["one"]):
        assert connected() == ["second"]
    with kit.capture(only=[first, second], except_=[second]):
        assert connected() == ["first"]


def test_receivers_of_signals_that_are_not_captured_run(kit: SignalsKit, connected: Any) -> None:
    """A limit applies to the captured signals: also to Flask's, if they are named."""
    started: list[str] = []
    kit.on("request_started")(lambda sender, **extra: started.append("started"))
    client = current_app.test_client()
    with kit.capture("mail_sent", run=False):
        assert connected() == ["first", "second"]
    with kit.capture(run=False):
        client.get("/")
    assert started == ["started"]
    with kit.capture("request_started", run=False):
        client.get("/")
    assert started == ["started"]


def test_limit_applies_to_signals_that_are_created_in_the_block(
    kit: SignalsKit, connected: Any
) -> None:
    """They match a glob that receivers are connected to."""
    with kit.capture(run=False):
        assert kit.send("account_reopened") == []
    assert len(kit.send("account_reopened")) == 1


def test_limit_is_that_of_its_thread(kit: SignalsKit, app: Flask, connected: Any) -> None:
    """Other threads and tasks run every receiver, as with `muted`."""
    with kit.capture(run=False) as sent, ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(lambda: [r for _, r in kit.for_app(app).send("account_funded")])
        assert elsewhere.result() == ["first", "second"]
        assert connected() == []
        assert copy_context().run(connected) == []
    assert len(sent) == 3


def test_limits_can_be_nested(kit: SignalsKit, connected: Any) -> None:
    """A receiver runs if each of them allows it."""
    with kit.capture(only=[first]):
        with kit.capture(only=[second]):
            assert connected() == []
        with kit.capture():
            assert connected() == ["first"]
    assert connected() == ["first", "second"]


def test_limit_applies_to_every_way_to_send(kit: SignalsKit, connected: Any) -> None:
    """Also to robust and async sends, and to a receiver of a block."""
    handle = kit.signal("account_funded")
    with kit.capture(only=[first]):
        assert len(kit.send_robust("account_funded")) == 1
        assert len(handle.send("acme")) == 1
        assert len(asyncio.run(kit.send_async("account_funded"))) == 1
        with handle.connected_to(lambda sender: None):
            assert len(handle.send("acme")) == 1
    with handle.connected_to(read_back), kit.capture(only=[read_back]):
        assert handle.send("acme") == [(read_back, "read")]


def test_limit_applies_to_deliveries(kit: SignalsKit, app: Flask) -> None:
    """A receiver that does not run is not kept for the commit either."""
    ran: list[str] = []
    late = kit.on("account_funded", delivery="after_commit")(lambda s, **e: ran.append(s))
    db.session.add(Account(funds=1))
    with kit.capture(except_=[late]):
        kit.send("account_funded", "not kept")
    kit.send("account_funded", "kept")
    db.session.commit()
    assert ran == ["kept"]


def test_receiver_that_is_not_connected_is_refused(kit: SignalsKit, connected: Any) -> None:
    """A typo would run nothing, or everything."""
    kit.on("mail_sent")(read_back)
    with (
        pytest.raises(ReceiverError, match=r"'oen', which is not connected.*Did you mean 'one'\?"),
        kit.capture(only=["oen"]),
    ):
        pass
    with (
        pytest.raises(ReceiverError, match=r"read_back .*not connected.*Connected are: .*one"),
        kit.capture("account_funded", except_=[read_back]),
    ):
        pass
    assert connected() == ["first", "second"]


def test_plain_send_is_fast_again_after_a_limit(kit: SignalsKit, app: Flask) -> None:
    """A capture costs nothing outside of its block."""
    kit.on("account_funded")(first)
    kit.send("account_funded")
    signal: Signal = kit.namespace.signal("account_funded")
    with kit.capture(run=False):
        kit.send("account_funded")
        assert signal._fast is None
    kit.send("account_funded")
    assert signal._fast == (first,)


def test_capture_needs_no_journal(kit: SignalsKit, app: Flask) -> None:
    """Outside of debug and testing there is none; what runs after the commit is recorded, too."""
    assert kit.for_app(app).journal is None
    late = kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: None)
    with kit.capture() as sent:
        db.session.add(Account(funds=1))
        kit.send("account_funded")
        with pytest.raises(AssertionError, match=r"was not called \(waiting: waits for the commit"):
            sent.assert_called(late)
        db.session.commit()
        sent.assert_called(late)


def test_capture_keeps_no_number_of_the_journal(kit: SignalsKit) -> None:
    """The page of a test's app shows the requests, whatever is captured."""
    app = make_app(kit, TESTING=True)
    with app.app_context(), kit.capture() as sent:
        kit.signal("account_funded").send()
    journal = kit.for_app(app).journal
    assert journal is not None
    [entry] = journal.entries()
    assert sent[0].emission.number == entry.number
