"""Which transaction a message is stored in, and which transactions a send or a run ends."""

from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any

import pytest
from flask import g
from sqlalchemy import event, insert
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tests.deliveries.durable.support import DurableShop
from tests.deliveries.support import Account
from tests.support import write_down


def read(session: Session) -> None:
    """Read the database."""
    session.query(Account).count()


def add(session: Session) -> None:
    """Add an instance, which is not flushed yet."""
    session.add(Account(name="booked"))


def insert_by_core(session: Session) -> None:
    """Write by a statement."""
    session.execute(insert(Account).values(name="booked", balance=0))


def insert_in_bulk(session: Session) -> None:
    """Write by a method that flushes nothing."""
    session.bulk_save_objects([Account(name="booked")])


def insert_on_the_connection(session: Session) -> None:
    """Write past the session."""
    session.connection().execute(insert(Account).values(name="booked", balance=0))


def insert_and_read_in_a_savepoint(session: Session) -> None:
    """Write by a statement, and read in a savepoint after it."""
    insert_by_core(session)
    with session.begin_nested():
        read(session)


WRITES = [
    add,
    insert_by_core,
    insert_in_bulk,
    insert_on_the_connection,
    insert_and_read_in_a_savepoint,
]


@pytest.mark.parametrize("book", [read, *WRITES])
def test_earlier_receiver_that_begins_a_transaction(shop: DurableShop, book: Any) -> None:
    """What it has read is ended; what it has written waits for the sender, as the message does."""
    shop.kit.on("account_funded", priority=1)(lambda sender, **extra: book(shop.session))
    shop.on(lambda sender, **extra: None)
    with shop.open() as session:
        shop.funded.send("acme")
        assert len(shop.messages()) == (book is read)
        session.rollback()
    assert len(shop.messages()) == (book is read)
    with shop.open() as session:
        assert session.query(Account).count() == 0
        session.rollback()
        shop.funded.send("acme")
        session.commit()
    assert len(shop.messages()) == 1 + (book is read)


@pytest.mark.parametrize("book", [read, *WRITES])
def test_earlier_receiver_that_commits_and_begins_another_transaction(
    shop: DurableShop, book: Any
) -> None:
    """On SQLite it has the lock, so the message is stored in it."""

    @shop.kit.on("account_funded", priority=1)
    def commit(sender: Any, **extra: Any) -> None:
        shop.session.commit()
        book(shop.session)

    shop.on(lambda sender, **extra: None)
    with shop.open() as session:
        session.add(Account(name="acme"))
        shop.funded.send("acme")
        session.commit()
    assert len(shop.messages()) == 1
    assert shop.rows()[0] == "acme"


def test_listener_of_a_commit_may_send(shop: DurableShop) -> None:
    """The session runs no statement then, so the message has a transaction of its own."""
    shop.on(lambda sender, **extra: None)

    def send(session: Any) -> None:
        shop.funded.send("acme")

    with shop.open() as session:
        session.add(Account(name="acme"))
        event.listen(session, "after_commit", send)
        session.commit()
    assert len(shop.messages()) == 1


def test_predicate_that_reads_does_not_lock_the_message_out(shop: DurableShop) -> None:
    """The account is expired by the commit, so its predicate loads it."""
    shop.on(write_down, when=lambda account, **extra: account.balance > 0)
    with shop.open() as session:
        account = Account(name="acme", balance=1)
        session.add(account)
        session.commit()
        shop.funded.send(account)
    assert len(shop.messages()) == 1


def test_session_of_the_delivery_is_rolled_back(shop: DurableShop) -> None:
    """So the next run in this thread does not commit what a failed one has written."""
    own = scoped_session(sessionmaker(shop.engine))

    def bad(sender: Any, **extra: Any) -> None:
        own.add(Account(name="half"))
        own.flush()
        raise LookupError

    shop.on(bad, session=own, max_attempts=1)
    shop.on(write_down, session=own)
    shop.send()
    shop.work()
    assert not own().in_transaction()
    own.remove()
    with shop.open() as session:
        assert session.query(Account).count() == 0
    assert [message.due for message in shop.messages()] == [None]


def test_transaction_of_an_enclosing_context_stays_open(shop: DurableShop) -> None:
    """Neither committed nor rolled back by a run."""
    if shop.engine.dialect.name == "sqlite":
        pytest.skip("the open transaction holds the lock")
    shop.on(write_down)
    with shop.open() as session:
        shop.funded.send("acme")
        session.add(Account(name="draft"))
        session.flush()
        assert shop.outbox.run_due() == 1
        session.rollback()
        assert session.query(Account).count() == 0


def run_leaving_a_context(
    shop: DurableShop, write: Callable[[str], None], fails: bool
) -> list[str]:
    """Run a receiver that writes, leaves an app context open and perhaps fails.

    :return: the errors of the messages that are left.
    """
    contexts: list[Any] = []

    def receive(sender: Any, **extra: Any) -> None:
        write(sender)
        contexts.append(shop.app.app_context())
        contexts[-1].push()
        if fails:
            raise LookupError

    shop.on(receive)
    with shop.open() as g.of_a_request:
        shop.funded.send("acme")
        g.of_a_request.commit()

    def run() -> None:
        with pytest.raises((AssertionError, RuntimeError)):  # of Flask: another context is current
            shop.run_once()
        with suppress(LookupError):
            contexts.pop().pop()

    copy_context().run(run)  # Flask 3.2 leaves the context of the run active
    return [message.error.split()[0] for message in shop.messages()]


@pytest.mark.parametrize("fails", [True, False])
def test_receiver_that_leaves_an_app_context_open(shop: DurableShop, fails: bool) -> None:
    """Its transactions, in two sessions of the context of the run, end all the same."""

    def second() -> Session:
        if "second" not in g:
            g.second = Session(shop.engine)
        found: Session = g.second
        return found

    def write(name: str) -> None:
        second().add(Account(name=name))
        second().flush()

    shop.kit.use_session(lambda: shop.session)
    shop.kit.use_session(second)
    left = run_leaving_a_context(shop, write, fails)
    assert (shop.rows(), left) == (([], ["LookupError"]) if fails else (["acme"], []))


@pytest.mark.parametrize("fails", [True, False])
def test_receiver_that_leaves_an_app_context_open_without_its_session(
    shop: DurableShop, fails: bool
) -> None:
    """The session exists in requests only."""
    shop.kit.use_session(lambda: g.of_a_request)
    left = run_leaving_a_context(shop, lambda name: None, fails)
    assert left == (["LookupError"] if fails else [])


def test_event_of_a_flush_may_send(shop: DurableShop) -> None:
    """The instance has its key by then."""
    got: list[Any] = []
    shop.on(lambda account, **extra: got.append(account.name))

    def inserted(mapper: Any, connection: Any, target: Any) -> None:
        shop.funded.send(target)

    event.listen(Account, "after_insert", inserted)
    try:
        with shop.open() as session:
            session.add(Account(name="acme"))
            session.commit()
    finally:
        event.remove(Account, "after_insert", inserted)
    shop.work()
    assert got == ["acme"]


def test_session_that_can_only_roll_back_stores_no_message(shop: DurableShop) -> None:
    """The sender has ignored that its own row could not be stored."""
    shop.on(write_down)
    with shop.open() as session:
        session.add(Account(id=1, name="acme"))
        session.commit()
        shop.funded.send("acme")
        session.commit()
        session.add(Account(id=1, name="initech"))
        with pytest.raises(IntegrityError):
            session.flush()
        with pytest.raises(PendingRollbackError):
            shop.funded.send("initech")
        session.rollback()
    assert len(shop.messages()) == 1
