"""A failure that leaves the sender's transaction unusable is not contained."""

import asyncio
import gc
import logging
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any
from unittest.mock import Mock

import pytest
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from flask_signals_kit import AfterCommit, Failed, SignalsKit
from tests.deliveries.support import EXTENSIONS, Account, Base, Shop, messages, run_python


def _send(shop: Shop, *sent: Any, **payload: Any) -> Any:
    return shop.kit.send("account_changed", *sent, **payload)


def _send_async(shop: Shop, *sent: Any, **payload: Any) -> Any:
    return asyncio.run(shop.kit.send_async("account_changed", *sent, **payload))


def _send_robust(shop: Shop, *sent: Any, **payload: Any) -> Any:
    return shop.kit.send_robust("account_changed", *sent, **payload)


WAYS: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[..., Any]]] = {
    "isolate": ({"on_error": "isolate"}, {}, _send),
    "group": ({"on_error": "group"}, {}, _send),
    "of the receiver": ({}, {"on_error": "isolate"}, _send),
    "robust": ({}, {}, _send_robust),
    "async": ({"on_error": "isolate"}, {}, _send_async),
}


def fail_flush(session: Session) -> None:
    """Break the session: it needs a rollback."""
    session.add(Account(name="taken"))
    session.flush()


def fail_statement(session: Session) -> None:
    """Abort the transaction on PostgreSQL; SQLite goes on."""
    session.execute(text("SELECT * FROM nowhere"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("breaks", [fail_flush, fail_statement])
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_failure_that_breaks_the_transaction_is_raised_by_the_send(
    database: str, extension: str, breaks: Any, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported once, with receiver and fix."""
    if (database.startswith("sqlite"), breaks) == (True, fail_statement):
        return  # the transaction goes on: see below
    declared, connected, send = WAYS[way]
    with closing(Shop(database, extension)) as shop, shop.open() as session:
        shop.kit.signal("account_changed", "An account is another.", **declared)
        reported: list[tuple[str, Exception]] = []
        ran: list[str] = []
        after: list[str] = []

        @shop.kit.on_exception
        def report(app: Flask, error: Exception, *, source: str, **extra: Any) -> None:
            reported.append((source, error))

        @shop.kit.on("account_changed", priority=1, **connected)
        def audit(sender: str, **extra: Any) -> None:
            breaks(session)

        shop.kit.on("account_changed", **connected)(lambda sender, **extra: ran.append(sender))
        shop.kit.on("account_changed", delivery="after_commit")(
            lambda sender, **extra: after.append(sender)
        )
        session.add(Account(name="taken"))
        session.commit()
        session.add(Account(name="acme"))
        session.flush()
        with pytest.raises(DBAPIError) as caught:
            send(shop, "acme")
        [note] = [n for n in caught.value.__notes__ if "begin_nested" in n]
        assert "test_unusable" in note
        assert "audit" in note
        assert "delivery='after_commit'" in note
        assert reported == [("receiver", caught.value)]
        assert len(messages(caplog)) == 1
        assert ran == []
        session.rollback()
        assert after == []
        session.add(Account(name="globex"))
        session.commit()
        assert shop.rows() == ["taken", "globex"]


def contain_value_error(session: Session) -> None:
    """Fail without the database."""
    raise ValueError("no audit")


def contain_in_savepoint(session: Session) -> None:
    """Fail in a savepoint, whose rollback restores the transaction."""
    with session.begin_nested():
        session.add(Account(name="taken"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("breaks", [contain_value_error, contain_in_savepoint, fail_statement])
def test_failure_that_leaves_the_transaction_usable_is_contained(
    shop: Shop, breaks: Any, way: str
) -> None:
    """The sender can commit."""
    if (shop.engine.dialect.name, breaks) == ("postgresql", fail_statement):
        return  # see above
    declared, connected, send = WAYS[way]
    shop.kit.signal("account_changed", "An account is another.", **declared)
    ran: list[str] = []

    @shop.kit.on("account_changed", priority=1, **connected)
    def audit(sender: str, **extra: Any) -> None:
        breaks(shop.session)

    shop.kit.on("account_changed", **connected)(lambda sender, **extra: ran.append(sender))
    with shop.open() as session:
        session.add(Account(name="taken"))
        session.commit()
        session.add(Account(name="acme"))
        session.flush()
        if way == "group":
            with pytest.raises(ExceptionGroup):
                send(shop, "acme")
        else:
            send(shop, "acme")
        assert ran == ["acme"]
        session.commit()
    assert shop.rows() == ["taken", "acme"]


@pytest.mark.parametrize("of", ["sender", "payload"])
def test_broken_transaction_of_the_senders_session_is_detected(shop: Shop, of: str) -> None:
    """The app need not have configured it."""
    shop.kit.signal("account_changed", "An account is another.", on_error="isolate")
    with shop.open(), Session(shop.engine) as own:
        acme = Account(name="taken")
        own.add(acme)
        own.commit()
        acme.balance = 5
        shop.kit.on("account_changed")(lambda sender, **extra: fail_flush(own))
        sent = (acme, {}) if of == "sender" else ("acme", {"account": acme})
        with pytest.raises(IntegrityError, match="taken"):
            _send(shop, sent[0], **sent[1])


def test_failure_in_nested_sends_is_reported_once(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """The outer send raises the exception of the inner one."""
    for name in ("account_changed", "account_closed"):
        shop.kit.signal(name, "A signal.", on_error="isolate")
    shop.kit.on("account_closed")(lambda sender, **extra: _send(shop, sender))
    shop.kit.on("account_changed")(lambda sender, **extra: fail_flush(shop.session))
    with shop.open() as session:
        session.add(Account(name="taken"))
        session.flush()
        with pytest.raises(IntegrityError) as caught:
            shop.kit.send("account_closed", "acme")
    assert len([n for n in caught.value.__notes__ if "begin_nested" in n]) == 1
    assert len(messages(caplog)) == 1


def test_failed_statement_of_an_async_session(postgresql: str) -> None:
    """The status is that of the driver's connection."""
    app, kit = Flask("shop"), SignalsKit()
    kit.use_session(lambda: current[-1])
    kit.init_app(app)
    kit.signal("account_changed", "An account is another.", on_error="isolate")
    current: list[Any] = [None]

    @kit.on("account_changed")
    async def audit(sender: str, **extra: Any) -> None:
        await current[-1].execute(text("SELECT * FROM nowhere"))

    async def main() -> None:
        engine = create_async_engine(postgresql)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with async_sessionmaker(engine)() as session:
            current.append(session)
            await session.execute(text("SELECT 1"))
            with pytest.raises(ProgrammingError, match="nowhere"):
                await kit.send_async("account_changed", "acme")
            await session.rollback()
        await engine.dispose()

    with app.app_context():
        asyncio.run(main())


def test_commit_that_the_database_turns_into_a_rollback(
    postgresql: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The app swallows an error: nothing is stored, so no receiver runs."""
    with closing(Shop(postgresql)) as shop, shop.open() as session:
        seen = shop.listen()
        shop.fund("acme")
        session.flush()
        with pytest.raises(ProgrammingError):
            fail_statement(session)
        session.commit()
        assert seen == shop.rows() == []
        [warning] = messages(caplog, logging.WARNING)
        assert "The database rolled back a commit" in warning
        assert "Shop.listen" in warning
        assert shop.tally().dropped == 1
        shop.fund("globex")
        session.commit()
        assert seen == shop.rows() == ["globex"]


NEW_APP = """
import sys

from flask import Flask
from flask_signals_kit import SignalsKit
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

app, kit, current, seen = Flask("shop"), SignalsKit(), [], []
kit.use_session(lambda: current[-1])
kit.init_app(app)


@kit.on("account_funded", delivery="after_commit")
def note(sender, **extra):
    seen.append(sender)
"""
"""The beginning of a program whose process has not used psycopg yet."""


def test_listener_of_the_app_that_aborts_the_transaction_as_it_commits(postgresql: str) -> None:
    """It was added after the receiver was connected, and swallows the error."""
    run_python(
        NEW_APP
        + """
@event.listens_for(Session, "before_commit")
def audit(session):
    try:
        session.execute(text("SELECT * FROM missing"))
    except ProgrammingError:
        pass


with app.app_context(), Session(create_engine(sys.argv[1])) as session:
    current.append(session)
    session.begin()
    kit.send("account_funded", "acme")
    session.commit()
assert seen == [], seen
""",
        postgresql,
    )


@pytest.mark.parametrize("name", ["before_commit", "after_flush"])
@pytest.mark.parametrize("has_begun", [True, False])
def test_listener_that_is_added_late_and_aborts_the_transaction_as_it_commits(
    postgresql: str, name: str, has_begun: bool
) -> None:
    """After the first transaction, to one session, as an extension may do."""
    with closing(Shop(postgresql)) as shop, shop.open() as session:
        seen = shop.listen()
        shop.fund("acme")
        session.commit()

        def audit(session: Session, *details: Any) -> None:
            with suppress(DBAPIError):
                fail_statement(session)

        event.listen(session, name, audit)
        if has_begun:
            session.execute(text("SELECT 1"))
        shop.fund("globex")
        with suppress(DBAPIError):  # if the listener failed before the flush
            session.commit()
        session.rollback()
        assert seen == shop.rows() == ["acme"]


def test_connection_of_the_app_is_used_again_after_a_commit_was_a_rollback(
    postgresql: str,
) -> None:
    """The next transaction begins anew; a session that joins it does not commit by itself."""
    with closing(Shop(postgresql)) as shop, shop.open(), shop.outside.connect() as connection:
        received: list[list[str]] = []
        current: list[Session] = []
        seen = shop.listen(delivery=AfterCommit(session=lambda: current[-1]))
        for fails in (False, True, False):
            with (
                connection.begin(),
                Session(connection, join_transaction_mode="rollback_only") as session,
            ):
                current.append(session)
                session.execute(text("SELECT 1"))
                shop.funded.send("acme")
                if fails:
                    with suppress(ProgrammingError):
                        fail_statement(session)
                session.commit()
            received.append(seen[:])
        assert received == [["acme"], ["acme"], ["acme", "acme"]]


def test_transaction_whose_calls_have_run_drops_none(
    postgresql: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A test has run them, and a later statement aborts the transaction."""
    with closing(Shop(postgresql)) as shop, shop.open() as session:
        seen = shop.listen()
        session.connection()
        with shop.kit.capture("account_funded", run_after_commit=True):
            shop.funded.send("acme")
        with suppress(ProgrammingError):
            fail_statement(session)
        session.commit()
        assert seen == ["acme"]
        assert messages(caplog, logging.WARNING) == []


def test_session_that_an_earlier_receiver_gives_up_drops_the_call(
    sqlite: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The send does not fail, also where psycopg is imported."""
    pytest.importorskip("psycopg")
    with closing(Shop(sqlite)) as shop, shop.app.app_context():
        current = [Session(shop.engine)]
        own = AfterCommit(session=lambda: current[-1])

        @shop.kit.on("account_funded", priority=1)
        def give_up(sender: Any, **extra: Any) -> None:
            current.clear()
            gc.collect()

        seen = shop.listen(delivery=own)
        current[-1].execute(text("SELECT 1"))
        shop.kit.send("account_funded", "acme")
        gc.collect()
        assert seen == []
        assert "was discarded without commit" in messages(caplog, logging.WARNING)[0]


def test_listener_that_connects_the_first_receiver_as_a_session_commits(sqlite: str) -> None:
    """Such as by the import of its module."""
    run_python(
        NEW_APP.partition("@kit.on")[0]
        + """
@event.listens_for(Session, "before_commit")
def load(session):
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: seen.append(sender))
    kit.send("account_funded", "acme")


with app.app_context(), Session(create_engine(sys.argv[1])) as session:
    current.append(session)
    session.execute(text("SELECT 1"))
    session.commit()
assert seen == ["acme"], seen
""",
        sqlite,
    )


def test_commit_that_psycopg_rolls_back_although_it_is_imported_late(postgresql: str) -> None:
    """The engine is created after the receiver was connected, and imports the driver."""
    run_python(
        NEW_APP
        + """
assert "psycopg" not in sys.modules
with app.app_context(), Session(create_engine(sys.argv[1])) as session:
    current.append(session)
    session.begin()
    kit.send("account_funded", "acme")
    try:
        session.execute(text("SELECT * FROM missing"))
    except ProgrammingError:
        session.commit()
    assert seen == [], seen
    session.begin()
    kit.send("account_funded", "globex")
    session.commit()
assert seen == ["globex"], seen
""",
        postgresql,
    )


def test_commit_that_psycopg_rolls_back_in_the_transaction_of_the_first_connection(
    postgresql: str,
) -> None:
    """A view imports the module of the app's first after-commit receiver."""
    run_python(
        NEW_APP.partition("@kit.on")[0]
        + """
with app.app_context(), Session(create_engine(sys.argv[1])) as session:
    current.append(session)
    session.execute(text("SELECT 1"))
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: seen.append(sender))
    kit.send("account_funded", "acme")
    try:
        session.execute(text("SELECT * FROM missing"))
    except ProgrammingError:
        session.commit()
assert seen == [], seen
""",
        postgresql,
    )


def test_listener_of_the_app_that_begins_a_transaction_as_another_commits(postgresql: str) -> None:
    """It is the first transaction after the app's first after-commit receiver was connected."""
    run_python(
        NEW_APP.partition("@kit.on")[0]
        + """
@event.listens_for(Session, "before_commit")
def audit(session):
    if session.get_bind().dialect.name == "sqlite":
        with Session(create_engine(sys.argv[1])) as second:
            second.execute(text("SELECT 1"))


with app.app_context(), Session(create_engine("sqlite://")) as session:
    current.append(session)
    session.execute(text("SELECT 1"))
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: seen.append(sender))
    kit.send("account_funded", "acme")
    session.commit()
assert seen == ["acme"], seen
""",
        postgresql,
    )


def test_failure_of_an_immediate_after_commit_receiver_is_contained(shop: Shop) -> None:
    """Its own transaction is rolled back."""
    shop.kit.signal("account_changed", "An account is another.", on_error="isolate")
    shop.kit.on("account_changed", delivery="after_commit")(
        lambda sender, **extra: fail_statement(shop.session)
    )
    with shop.open():
        [outcome] = _send_robust(shop, "acme")
        assert isinstance(outcome, Failed)


@pytest.mark.parametrize("session", [Mock(spec=Session), Mock(), Mock(spec=AsyncSession)])
def test_failure_is_contained_although_the_session_is_a_mock(sqlite: str, session: Any) -> None:
    """In a unit test without a database."""
    with closing(Shop(sqlite, "use_session")) as shop:
        shop.kit.use_session(lambda: session)

        @shop.kit.on(shop.funded, on_error="isolate")
        def fail(sender: str, **extra: Any) -> None:
            raise ValueError

        seen = shop.listen(delivery="immediate")
        with shop.open():
            shop.funded.send("acme")
        assert seen == ["acme"]


def test_invalid_session_source_does_not_replace_the_failure(sqlite: str) -> None:
    """Looking for an unusable transaction is part of handling a failure."""
    with closing(Shop(sqlite, "use_session")) as shop:
        shop.kit.use_session(lambda: "no session")
        failure = ValueError("boom")

        @shop.kit.on(shop.funded, on_error="isolate")
        def fail(sender: str, **extra: Any) -> None:
            raise failure

        with shop.open():
            [outcome] = shop.funded.send_robust("acme")
        assert isinstance(outcome, Failed)
        assert outcome.exception is failure
