"""After-commit receivers run for what is in the database, and for nothing else."""

import logging
from collections.abc import Callable

import pytest
import sqlalchemy
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, PendingRollbackError
from sqlalchemy.orm import Session

from tests.deliveries.support import Account, Invoice, Shop, messages


def test_commit_runs_the_receiver(any_shop: Shop) -> None:
    """Once other connections can read the row, and not before."""
    visible: list[list[str]] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def look(sender: str, **extra: object) -> None:
        visible.append(any_shop.rows())

    with any_shop.open() as session:
        any_shop.fund("acme")
        session.flush()
        assert visible == []
        session.commit()
        assert visible == [["acme"]]
        session.commit()
    assert visible == [["acme"]]
    assert (any_shop.tally().calls, any_shop.tally().dropped) == (1, 0)


def test_rollback_drops_the_call(any_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """It never runs; the log has a debug record, and the page counts it."""
    caplog.set_level(logging.DEBUG, "flask_signals_kit")
    seen = any_shop.listen()
    with any_shop.open() as session:
        any_shop.fund("acme")
        session.flush()
        session.rollback()
        any_shop.fund("globex")
        session.commit()
    assert seen == any_shop.rows() == ["globex"]
    assert (any_shop.tally().calls, any_shop.tally().dropped) == (1, 1)
    (message,) = messages(caplog, logging.DEBUG)
    assert "receiver" in message
    assert "'account_funded' is dropped: it is not called" in message


def test_released_savepoint_waits_for_the_root(any_shop: Shop) -> None:
    """Releasing a savepoint stores nothing; the outer commit does."""
    seen = any_shop.listen()
    with any_shop.open() as session:
        with session.begin_nested():
            any_shop.fund("acme")
        assert seen == []
        session.commit()
    assert seen == any_shop.rows() == ["acme"]


def test_outer_rollback_drops_a_released_savepoint(any_shop: Shop) -> None:
    """A released savepoint is lost if the outer transaction rolls back."""
    seen = any_shop.listen()
    with any_shop.open() as session:
        with session.begin_nested():
            any_shop.fund("acme")
        session.rollback()
        session.commit()
    assert seen == any_shop.rows() == []


def test_rolled_back_savepoint_drops_its_own(any_shop: Shop) -> None:
    """Calls of the savepoint are dropped; calls of the outer transaction run, in order."""
    seen = any_shop.listen()
    with any_shop.open() as session:
        any_shop.fund("before")
        savepoint = session.begin_nested()
        any_shop.fund("inside")
        savepoint.rollback()
        any_shop.fund("after")
        session.commit()
    assert seen == any_shop.rows() == ["before", "after"]


@pytest.mark.parametrize(
    ("inner", "outer", "expected"),
    [
        ("commit", "commit", ["root", "outer", "inner", "outer again", "root again"]),
        ("rollback", "commit", ["root", "outer", "outer again", "root again"]),
        ("commit", "rollback", ["root", "root again"]),
        ("rollback", "rollback", ["root", "root again"]),
    ],
)
def test_two_levels_of_savepoints(
    any_shop: Shop, inner: str, outer: str, expected: list[str]
) -> None:
    """Each level applies to itself and inner levels; order is kept."""
    seen = any_shop.listen()
    with any_shop.open() as session:
        any_shop.fund("root")
        first = session.begin_nested()
        any_shop.fund("outer")
        second = session.begin_nested()
        any_shop.fund("inner")
        getattr(second, inner)()
        any_shop.fund("outer again")
        getattr(first, outer)()
        any_shop.fund("root again")
        session.commit()
    assert seen == any_shop.rows() == expected


def test_rollback_with_an_open_savepoint(any_shop: Shop) -> None:
    """Session.rollback() ends the root, too: calls of neither run."""
    seen = any_shop.listen()
    with any_shop.open() as session:
        any_shop.fund("outside")
        session.begin_nested()
        any_shop.fund("inside")
        session.rollback()
        session.commit()
    assert seen == any_shop.rows() == []


def test_commit_with_an_open_savepoint(any_shop: Shop) -> None:
    """Session.commit() releases open savepoints, and all calls run."""
    seen = any_shop.listen()
    with any_shop.open() as session:
        any_shop.fund("outside")
        session.begin_nested()
        any_shop.fund("inside")
        session.commit()
    assert seen == any_shop.rows() == ["outside", "inside"]


def test_commit_that_fails_drops_the_calls(any_shop: Shop) -> None:
    """A constraint that is checked at the commit: nothing was committed, so nothing runs."""
    seen = any_shop.listen()
    with any_shop.open() as session:
        any_shop.fund("acme")
        session.add(Invoice(account_id=4711))
        session.flush()
        with pytest.raises(IntegrityError):
            session.commit()
        session.rollback()
        assert seen == any_shop.rows() == []
        any_shop.fund("globex")
        session.commit()
    assert seen == any_shop.rows() == ["globex"]


@pytest.mark.parametrize("end", ["close", "reset", "invalidate"])
def test_session_closed_without_commit(any_shop: Shop, end: str) -> None:
    """However a session is closed, uncommitted calls are dropped."""
    if not hasattr(Session, end):
        pytest.skip(f"SQLAlchemy {sqlalchemy.__version__} has no Session.{end}")
    seen = any_shop.listen()
    with any_shop.open() as session:
        any_shop.fund("acme")
        session.flush()
        getattr(session, end)()
        any_shop.fund("globex")
        session.commit()
    assert seen == any_shop.rows() == ["globex"]
    assert any_shop.tally().dropped == 1


def test_end_of_request_without_commit(any_shop: Shop) -> None:
    """The extension removes the session at the end of the request: nothing runs."""
    seen = any_shop.listen()

    @any_shop.app.post("/<how>/<name>")
    def fund(how: str, name: str) -> str:
        any_shop.fund(name)
        if how == "commit":
            any_shop.session.commit()
        return name

    client = any_shop.app.test_client()
    client.post("/forget/acme")
    client.post("/commit/globex")
    client.post("/forget/hooli")
    assert seen == any_shop.rows() == ["globex"]
    assert any_shop.tally().dropped == 2


def test_no_transaction_runs_at_once(any_shop: Shop) -> None:
    """Without a transaction, the receiver runs in the send, and its result is returned."""

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def thank(sender: str, **extra: object) -> str:
        return f"thanks, {sender}"

    with any_shop.open():
        assert any_shop.funded.send("acme") == [(thank, "thanks, acme")]


@pytest.mark.parametrize("delivery", ["immediate", "after_commit"])
def test_receiver_that_reads_does_not_defer_the_next(any_shop: Shop, delivery: str) -> None:
    """The transaction at the send counts, not one that an earlier receiver began."""

    @any_shop.kit.on("account_funded", delivery=delivery, priority=1)
    def read(sender: str, **extra: object) -> None:
        any_shop.session.scalars(select(Account)).all()

    seen = any_shop.listen()
    with any_shop.open() as session:
        any_shop.funded.send("acme")
        assert session.in_transaction() == (delivery == "immediate")
        assert seen == ["acme"]


def test_block_of_session_begin(any_shop: Shop) -> None:
    """The end of the block commits; an exception in it rolls back."""
    seen = any_shop.listen()
    with any_shop.open() as session:
        with session.begin():
            any_shop.fund("acme")
            assert seen == []
        assert seen == ["acme"]
        with pytest.raises(IntegrityError), session.begin():
            any_shop.fund("acme")
    assert seen == any_shop.rows() == ["acme"]


@pytest.mark.parametrize("how", ["commit", "block", "nested blocks"])
def test_receiver_uses_the_session(
    any_shop: Shop, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A receiver can read and write with the session that has just committed."""

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def open_another(sender: str, **extra: object) -> None:
        found = any_shop.session.scalars(select(Account.name)).all()
        any_shop.session.add(Account(name=f"friend of {', '.join(found)}"))
        any_shop.session.commit()

    with any_shop.open() as session:
        if how == "commit":
            any_shop.fund("acme")
            session.commit()
        elif how == "block":
            with session.begin():
                any_shop.fund("acme")
        else:
            with session.begin(), session.begin_nested():
                any_shop.fund("acme")
        assert messages(caplog) == []
        assert any_shop.rows() == ["acme", "friend of acme"]
        with session.begin():
            session.add(Account(name="globex"))
    assert any_shop.rows() == ["acme", "friend of acme", "globex"]


@pytest.mark.parametrize("end", ["commit", "rollback", "leave"])
def test_send_in_a_receiver_waits_for_its_transaction(any_shop: Shop, end: str) -> None:
    """A receiver that begins a transaction and sends: that call waits for the transaction."""
    seen = any_shop.listen("account_opened")
    early: list[int] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def open_another(sender: str, **extra: object) -> None:
        session = any_shop.session
        session.add(Account(name="friend"))
        session.flush()
        any_shop.opened.send("friend")
        early.append(len(seen))
        if end != "leave":
            getattr(session, end)()

    with any_shop.open() as session:
        any_shop.fund("acme")
        session.commit()
        assert early == [0]
        expected = [] if end == "rollback" else ["friend"]
        assert seen == expected
        assert not session.in_transaction()
    assert any_shop.rows() == ["acme", *expected]


def test_send_in_a_receiver_without_transaction_runs_after_it(any_shop: Shop) -> None:
    """A receiver without a transaction that sends: that call runs after it returns."""
    seen = any_shop.listen("account_opened")
    early: list[int] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def send(sender: str, **extra: object) -> None:
        any_shop.opened.send(sender)
        early.append(len(seen))

    with any_shop.open() as session:
        any_shop.fund("acme")
        session.commit()
        assert (early, seen) == ([0], ["acme"])
        any_shop.funded.send("globex")
    assert (early, seen) == ([0, 1], ["acme", "globex"])


def test_order_across_signals_and_priorities(any_shop: Shop) -> None:
    """Sends run in the order they were sent in; receivers of one send, by priority."""
    order: list[tuple[str, str]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda sender, **extra: order.append((name, sender))

    for signal in ("account_funded", "account_opened"):
        for name, priority in (("low", -1), ("first", 0), ("second", 0), ("high", 5)):
            any_shop.kit.on(signal, delivery="after_commit", priority=priority)(note(name))
    with any_shop.open() as session:
        session.begin()
        any_shop.funded.send("1")
        with session.begin_nested():
            any_shop.opened.send("2")
            any_shop.funded.send("3")
        any_shop.opened.send("4")
        session.commit()
    names = ["high", "first", "second", "low"]
    assert order == [(name, sender) for sender in "1234" for name in names]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_earlier_receiver_ends_the_transaction(
    any_shop: Shop, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If a receiver of the same emission commits, the next runs; if it rolls back, not."""
    caplog.set_level(logging.DEBUG, "flask_signals_kit")

    @any_shop.kit.on("account_funded", priority=1)
    def finish(sender: str, **extra: object) -> None:
        getattr(any_shop.session, end)()

    seen = any_shop.listen()
    with any_shop.open():
        any_shop.fund("acme")
        assert seen == (["acme"] if end == "commit" else [])
    assert seen == any_shop.rows()
    assert len(messages(caplog, logging.DEBUG)) == (end == "rollback")


@pytest.mark.parametrize(("end", "after"), [("commit", ["acme"]), ("rollback", [])])
def test_earlier_receiver_ends_the_savepoint(any_shop: Shop, end: str, after: list[str]) -> None:
    """If it releases the savepoint, the call waits for the outer transaction."""

    @any_shop.kit.on("account_funded", priority=1)
    def finish(sender: str, **extra: object) -> None:
        savepoint = any_shop.session.get_nested_transaction()
        assert savepoint is not None
        getattr(savepoint, end)()

    seen = any_shop.listen()
    with any_shop.open() as session:
        session.begin_nested()
        any_shop.fund("acme")
        assert seen == []
        session.commit()
    assert seen == any_shop.rows() == after


def test_commit_on_a_lost_connection_drops_the_receiver(shop: Shop) -> None:
    """Nothing is stored, and the commit itself raises."""
    ran: list[object] = []
    shop.kit.on("account_funded", delivery="after_commit")(lambda s, **extra: ran.append(s))
    with shop.open() as session:
        shop.fund("acme")
        session.flush()
        session.connection().invalidate()
        with pytest.raises(PendingRollbackError):
            session.commit()
        session.rollback()
    assert ran == []
    assert shop.rows() == []
