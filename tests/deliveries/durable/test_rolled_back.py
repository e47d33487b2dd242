"""Durable receivers in tests whose transaction is always rolled back, with each extension."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, select

from tests.deliveries.durable.support import DurableShop, fund
from tests.deliveries.support import EXTENSIONS, Account


@contextmanager
def outer_transaction(shop: DurableShop) -> Iterator[Connection]:
    """Give a connection with a transaction that is rolled back."""
    with shop.engine.connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


@contextmanager
def engine_replaced(shop: DurableShop) -> Iterator[None]:
    """Replace the engine by a connection, as many suites with Flask-SQLAlchemy do."""
    db = shop.app.extensions["sqlalchemy"]
    with shop.app.app_context(), outer_transaction(shop) as connection:
        db.session.configure(join_transaction_mode="create_savepoint")
        db.engines[None] = connection
        yield
        db.engines[None] = shop.engine


@contextmanager
def sessions_bound(shop: DurableShop) -> Iterator[None]:
    """Bind the sessions of Flask-SQLAlchemy-Lite to a connection.

    Its own ``test_isolation`` does not work with SQLAlchemy 2.1.
    """
    with shop.app.app_context(), outer_transaction(shop) as connection:
        sessions = shop.app.extensions["sqlalchemy"].sessionmaker
        options = sessions.kw.copy()
        sessions.configure(bind=connection, join_transaction_mode="create_savepoint")
        yield
        sessions.kw = options


@contextmanager
def session_joined(shop: DurableShop) -> Iterator[None]:
    """Join the session into an external transaction, as SQLAlchemy's manual describes."""
    sessions: Any = shop._session
    sessions.remove()
    with outer_transaction(shop) as connection:
        sessions.configure(bind=connection, join_transaction_mode="create_savepoint")
        with shop.app.app_context():
            yield
        sessions.remove()
        sessions.configure(bind=shop.engine)


FIXTURES: dict[str, Callable[[DurableShop], AbstractContextManager[None]]] = {
    "flask_sqlalchemy": engine_replaced,
    "flask_sqlalchemy_lite": sessions_bound,
    "use_session": session_joined,
}
"""How the tests of a suite roll everything back, for each of ``EXTENSIONS``."""


class Suite(DurableShop):
    """A test suite whose app, with a receiver of each delivery, and database are made once."""

    def __init__(self, url: str, extension: str) -> None:
        super().__init__(url, extension)
        self._fixture = FIXTURES[extension]
        self.ran: list[str] = []
        for delivery in ("immediate", "after_commit"):
            self.kit.on(self.funded, delivery=delivery, uid=delivery)(self._receiver(delivery))
        self.on(self._receiver("durable"), uid="durable")

        @self.app.post("/fund")
        def fund_account() -> str:
            fund(self, amount=5)
            self.session.commit()
            return "ok"

    def _receiver(self, delivery: str) -> Callable[..., None]:
        def receiver(account: Account, *, amount: int, **extra: Any) -> None:
            self.ran.append(delivery)
            account.balance += amount

        return receiver

    def rolled_back(self) -> AbstractContextManager[None]:
        """Return a context manager that rolls everything back, as the fixture of a test."""
        return self._fixture(self)

    def left(self) -> list[Any]:
        """Return what another connection finds in the database."""
        return [*self.rows(), *self.messages()]


@pytest.fixture(params=EXTENSIONS)
def suite(request: pytest.FixtureRequest, database: str) -> Iterator[Suite]:
    """Give a suite of each kind, on each database."""
    suite = Suite(database, request.param)
    yield suite
    suite.close()


def test_commit_of_the_code_under_test_runs_all_but_durable_receivers(suite: Suite) -> None:
    """The commit releases a savepoint, and counts as one; nothing is left afterwards."""
    with suite.rolled_back():
        with suite.kit.capture() as sent:
            suite.app.test_client().post("/fund")
        assert suite.ran == ["immediate", "after_commit"]
        sent.assert_called("after_commit")
        assert suite.left() == []
    assert suite.left() == []


def test_durable_receivers_run_in_the_transaction_of_the_test(suite: Suite) -> None:
    """At the end of the block; what they write is rolled back as well."""
    with suite.rolled_back():
        with suite.kit.capture(run_durable=True) as sent:
            suite.app.test_client().post("/fund")
        assert suite.ran == ["immediate", "after_commit", "durable"]
        sent.assert_called("durable")
        assert suite.session.scalar(select(Account.balance)) == 15
        suite.session.close()
    assert suite.left() == []


def test_run_due_runs_messages_in_the_transaction_of_the_test(suite: Suite) -> None:
    """Also without a capture."""
    with suite.rolled_back():
        suite.app.test_client().post("/fund")
        assert suite.outbox.run_due() == 1
        assert suite.outbox.run_due() == 0
    assert suite.ran == ["immediate", "after_commit", "durable"]
    assert suite.left() == []


def test_failing_durable_receiver_leaves_the_data_of_the_test(suite: Suite) -> None:
    """Its own transaction is rolled back, not that of the test."""

    def fail(account: Account, **extra: Any) -> None:
        account.balance = 99
        suite.session.flush()
        raise ValueError("boom")

    suite.on(fail)
    with suite.rolled_back():
        with suite.kit.capture(run_durable=True, contain=True):
            suite.app.test_client().post("/fund")
        assert suite.session.scalar(select(Account.balance)) == 15
        suite.session.close()
    assert suite.left() == []


def test_tests_of_a_suite_do_not_see_each_others_data(suite: Suite) -> None:
    """Nor messages; a test without a fixture finds the real database afterwards."""
    for _ in range(2):
        with suite.rolled_back(), suite.kit.capture(run_durable=True):
            suite.app.test_client().post("/fund")
    with suite.app.app_context(), suite.kit.capture(run_durable=True) as sent:
        suite.app.test_client().post("/fund")
    assert suite.ran == ["immediate", "after_commit", "durable"] * 3
    with suite.app.app_context():
        sent.assert_called("durable")
    assert suite.left() == ["acme"]


def test_uncommitted_changes_of_the_test_are_kept(suite: Suite) -> None:
    """Of a test that calls functions which do not commit, in its own session."""
    with suite.rolled_back(), suite.kit.capture(run_after_commit=True, run_durable=True):
        fund(suite, amount=5)
    assert sorted(suite.ran) == ["after_commit", "durable", "immediate"]
    assert suite.left() == []
