"""Failing after-commit receivers: they affect neither the commit nor other receivers."""

import logging
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from flask_signals_kit import Deferred, Failed, Ok
from tests.deliveries.support import Account, Invoice, Shop, messages


def fail(sender: Any, **extra: Any) -> None:
    """Raise."""
    raise ValueError(f"no thanks for {sender}")


def test_failing_receiver_is_isolated(any_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """The commit returns, other receivers and later sends run; log and hooks get it once."""
    reported: list[tuple[str, str, Any, Any]] = []
    first = any_shop.listen(priority=1)
    any_shop.kit.on("account_funded", delivery="after_commit")(fail)
    last = any_shop.listen(priority=-1)

    @any_shop.kit.on_exception
    def report(
        app: object, error: Exception, *, source: str, signal: Any, receiver: Any, **extra: Any
    ) -> None:
        reported.append((source, str(error), signal, receiver))

    @any_shop.app.post("/")
    def fund() -> str:
        any_shop.fund("acme")
        any_shop.fund("globex")
        any_shop.session.commit()
        any_shop.session.add(Account(name="hooli"))
        any_shop.session.commit()
        return "funded"

    assert any_shop.app.test_client().post("/").text == "funded"
    assert first == last == ["acme", "globex"]
    assert any_shop.rows() == ["acme", "globex", "hooli"]
    assert reported == [
        ("delivery", f"no thanks for {name}", "account_funded", fail) for name in ("acme", "globex")
    ]
    errors = messages(caplog)
    assert len(errors) == 2
    assert all(f"{fail.__module__}.fail" in error for error in errors)
    assert all("tests.deliveries.support.Shop.fund" in error for error in errors)
    assert any_shop.tally(index=1).failures == 2
    last_failure = any_shop.tally(index=1).last_failure
    assert last_failure is not None
    assert last_failure.error == "ValueError"
    assert last_failure.place is not None
    assert last_failure.place.line == fail.__code__.co_firstlineno + 2


def test_failure_without_a_transaction_is_isolated(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """The sender never gets the failure, with or without a transaction."""
    sources: list[str] = []
    shop.kit.on("account_funded", delivery="after_commit")(fail)
    last = shop.listen()

    @shop.kit.on_exception
    def report(app: object, error: Exception, *, source: str, **extra: Any) -> None:
        sources.append(source)

    with shop.open():
        shop.funded.send("acme")
    assert last == ["acme"]
    assert sources == ["delivery"]
    assert len(messages(caplog)) == 1


@pytest.mark.parametrize("how", ["flush", "statement"])
def test_database_failure_is_rolled_back(any_shop: Shop, how: str) -> None:
    """Other receivers and the sender can use the session."""

    @any_shop.kit.on("account_funded", delivery="after_commit", priority=1)
    def break_session(sender: str, **extra: Any) -> None:
        session = any_shop.session
        session.add(Account(name="never"))
        if how == "flush":
            session.add(Account(name="acme"))
            session.flush()
        session.execute(text("SELECT * FROM nowhere"))

    counted: list[int] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def count(sender: str, **extra: Any) -> None:
        counted.append(len(any_shop.session.scalars(select(Account)).all()))
        any_shop.session.commit()

    with any_shop.open() as session:
        any_shop.fund("acme")
        session.commit()
        assert counted == [1]
        session.add(Account(name="globex"))
        session.commit()
    assert any_shop.rows() == ["acme", "globex"]


def test_failure_keeps_what_an_earlier_receiver_did(any_shop: Shop) -> None:
    """A failing receiver rolls back its own transaction; an earlier one's is committed."""

    @any_shop.kit.on("account_funded", delivery="after_commit", priority=2)
    def begin(sender: str, **extra: Any) -> None:
        any_shop.session.add(Account(name="friend"))

    @any_shop.kit.on("account_funded", delivery="after_commit", priority=1)
    def break_session(sender: str, **extra: Any) -> None:
        any_shop.session.add(Account(name=sender))
        any_shop.session.flush()

    counted: list[int] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def count(sender: str, **extra: Any) -> None:
        counted.append(len(any_shop.session.scalars(select(Account)).all()))

    with any_shop.open() as session:
        any_shop.fund("acme")
        session.commit()
        assert counted == [2]
    assert any_shop.rows() == ["acme", "friend"]


def test_failing_commit_of_a_receivers_work_is_its_failure(any_shop: Shop) -> None:
    """It is reported like any failure, and rolled back."""
    reported: list[str] = []

    @any_shop.kit.on("account_funded", delivery="after_commit", priority=1)
    def leave_broken(sender: str, **extra: Any) -> None:
        any_shop.session.add(Invoice(account_id=999))
        any_shop.session.flush()

    last = any_shop.listen()

    @any_shop.kit.on_exception
    def report(app: object, error: Exception, *, source: str, receiver: Any, **extra: Any) -> None:
        reported.append(f"{source}: {receiver.__name__}: {type(error).__name__}")

    with any_shop.open() as session:
        any_shop.fund("acme")
        session.commit()
        assert last == ["acme"]
        session.add(Account(name="globex"))
        session.commit()
    assert any_shop.rows() == ["acme", "globex"]
    assert reported == ["delivery: leave_broken: IntegrityError"]
    assert (any_shop.tally().calls, any_shop.tally().failures) == (1, 1)


def test_failing_commit_in_a_receiver_is_its_own_failure(any_shop: Shop) -> None:
    """The sender's commit has succeeded."""

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def open_twice(sender: str, **extra: Any) -> None:
        any_shop.session.add(Account(name=sender))
        any_shop.session.commit()

    errors: list[str] = []

    @any_shop.kit.on_exception
    def report(app: object, error: Exception, **extra: Any) -> None:
        errors.append(type(error).__name__)

    with any_shop.open() as session:
        any_shop.fund("acme")
        session.commit()
        any_shop.fund("globex")
        session.commit()
    assert errors == [IntegrityError.__name__] * 2
    assert any_shop.rows() == ["acme", "globex"]


def test_keyboard_interrupt_propagates_through_commit(shop: Shop) -> None:
    """The commit has happened; the session stays usable."""

    @shop.kit.on("account_funded", delivery="after_commit")
    def interrupt(sender: str, **extra: Any) -> None:
        if sender == "acme":
            raise KeyboardInterrupt

    seen = shop.listen(priority=1)
    with shop.open() as session:
        shop.fund("acme")
        with pytest.raises(KeyboardInterrupt):
            session.commit()
        session.close()
        shop.fund("globex")
        session.commit()
    assert seen == shop.rows() == ["acme", "globex"]


def test_send_robust_returns_deferred_in_a_transaction(shop: Shop) -> None:
    """Without one, the outcomes are ok or failed."""

    @shop.kit.on("account_funded", delivery="after_commit", priority=1)
    def thank(sender: str, **extra: Any) -> str:
        return f"thanks, {sender}"

    shop.kit.on("account_funded", delivery="after_commit")(fail)
    with shop.open() as session:
        ok, failed = shop.funded.send_robust("acme")
        assert isinstance(ok, Ok)
        assert (ok.receiver, ok.value) == (thank, "thanks, acme")
        assert isinstance(failed, Failed)
        assert failed.receiver is fail
        assert str(failed.exception) == "no thanks for acme"

        session.begin()
        outcomes = shop.funded.send_robust("globex")
        assert [type(outcome) for outcome in outcomes] == [Deferred, Deferred]
        for outcome in outcomes:
            assert isinstance(outcome, Deferred)
            assert outcome.delivery == "after_commit"
        assert shop.funded.send("hooli") == []
        session.rollback()


def test_counts_of_deferred_calls(shop: Shop) -> None:
    """Calls and failures are counted when they happen, drops when they are dropped."""
    shop.kit.on("account_funded", delivery="after_commit")(fail)
    with shop.open() as session:
        session.begin()
        shop.funded.send("acme")
        shop.funded.send("globex")
        assert (shop.tally().calls, shop.tally().failures) == (0, 0)
        session.commit()
        assert (shop.tally().calls, shop.tally().failures, shop.tally().dropped) == (2, 2, 0)
        session.begin()
        shop.funded.send("hooli")
        session.rollback()
    tally = shop.tally()
    assert (tally.calls, tally.failures, tally.dropped) == (2, 2, 1)
    assert len(tally.recent) == 2


def test_drop_is_logged_at_debug(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """A rollback is normal: no warning."""
    shop.listen()
    with caplog.at_level(logging.DEBUG, "flask_signals_kit"), shop.open() as session:
        session.begin()
        shop.funded.send("acme")
        session.rollback()
    assert [r.levelno for r in caplog.records if r.name == "flask_signals_kit"] == [logging.DEBUG]
