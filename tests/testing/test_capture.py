"""`kit.capture()`: a record of what was sent, and after-commit receivers without a commit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_signals_kit import AppContextError, SignalsKit, UnknownSignalError


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Account(db.Model):  # type: ignore[name-defined,misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    funds: Mapped[int] = mapped_column(default=0)


@pytest.fixture
def kit() -> SignalsKit:
    """Return a kit for one test."""
    return SignalsKit()


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
    """Signals belong to an app; the message says to push a context."""
    with pytest.raises(AppContextError, match=r"with app\.app_context\(\)"), kit.capture():
        pass


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
