"""Tests whose transaction is always rolled back, as fixtures for each extension make them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as Lite
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_signals_kit import SignalsKit
from tests.deliveries.support import Account, Base


class Suite:
    """A test suite whose app and database are made once.

    :param url: the database's URL.
    """

    def __init__(self, url: str) -> None:
        self.kit = SignalsKit()
        self.kit.use_outbox(Base.metadata)
        self.funded = self.kit.signal("account_funded")
        self.app = Flask("shop")
        self.app.testing = True
        self.outside = create_engine(url)
        self.ran: list[str] = []

    @property
    def engine(self) -> Engine:
        """The engine of the app."""
        raise NotImplementedError

    @property
    def session(self) -> Session:
        """The current session of the app."""
        raise NotImplementedError

    def rolled_back(self) -> Any:
        """Return a context manager that rolls everything back, as the fixture of a test."""
        raise NotImplementedError

    def start(self) -> None:
        """Initialise the kit, connect a receiver of each delivery, and create the tables."""
        self.kit.init_app(self.app)
        for delivery in ("immediate", "after_commit", "durable"):
            self.kit.on(self.funded, delivery=delivery, uid=delivery)(self._receiver(delivery))
        with self.app.app_context():
            self.kit.begin_immediate(self.engine)
            Base.metadata.create_all(self.engine)

        @self.app.post("/fund")
        def fund() -> str:
            account = Account(name="acme", balance=0)
            self.session.add(account)
            self.funded.send(account, amount=5)
            self.session.commit()
            return "ok"

    def _receiver(self, delivery: str) -> Callable[..., None]:
        def receiver(account: Account, *, amount: int, **extra: Any) -> None:
            self.ran.append(delivery)
            account.balance += amount

        return receiver

    def close(self) -> None:
        """Close every connection."""
        with self.app.app_context():
            self.engine.dispose()
        self.outside.dispose()

    def left(self) -> list[Any]:
        """Return what another connection finds in the database."""
        with self.outside.connect() as connection:
            accounts = connection.scalars(select(Account.name)).all()
            return [*accounts, *connection.execute(text("SELECT id FROM signals_outbox"))]


class WithFlaskSQLAlchemy(Suite):
    """Replaces the engine by a connection, as many suites with Flask-SQLAlchemy do."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.db = SQLAlchemy(session_options={"join_transaction_mode": "create_savepoint"})
        self.db.init_app(self.app)
        self.start()

    @property
    def engine(self) -> Engine:
        return self.db.engine

    @property
    def session(self) -> Session:
        return self.db.session()

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        with self.app.app_context():
            engines: Any = self.db.engines
            engine = engines[None]
            with engine.connect() as connection, connection.begin() as transaction:
                engines[None] = connection
                try:
                    yield
                finally:
                    engines[None] = engine
                    transaction.rollback()


class WithLite(Suite):
    """Binds the sessions of Flask-SQLAlchemy-Lite to a connection.

    Its own ``test_isolation`` does not work with SQLAlchemy 2.1.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.app.config["SQLALCHEMY_ENGINES"] = {"default": url}
        self.db = Lite()
        self.db.init_app(self.app)
        self.start()

    @property
    def engine(self) -> Engine:
        return self.db.engine

    @property
    def session(self) -> Session:
        return self.db.session

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        with (
            self.app.app_context(),
            self.engine.connect() as connection,
            connection.begin() as transaction,
        ):
            sessions = self.db.sessionmaker
            options = sessions.kw.copy()
            sessions.configure(bind=connection, join_transaction_mode="create_savepoint")
            try:
                yield
            finally:
                sessions.kw = options
                transaction.rollback()


class WithSQLAlchemy(Suite):
    """Joins a session into an external transaction, as SQLAlchemy's manual describes."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._engine = create_engine(url)
        self._session = scoped_session(sessionmaker(self._engine))
        self.kit.use_session(self._session)
        self.app.teardown_appcontext(lambda error: self._session.remove())
        self.start()

    @property
    def engine(self) -> Engine:
        return self._engine

    @property
    def session(self) -> Session:
        return self._session()

    @contextmanager
    def rolled_back(self) -> Iterator[None]:
        self._session.remove()
        with self._engine.connect() as connection, connection.begin() as transaction:
            self._session.configure(bind=connection, join_transaction_mode="create_savepoint")
            try:
                with self.app.app_context():
                    yield
            finally:
                self._session.remove()
                self._session.configure(bind=self._engine)
                transaction.rollback()


@pytest.fixture(params=[WithFlaskSQLAlchemy, WithLite, WithSQLAlchemy])
def suite(request: pytest.FixtureRequest, database: str) -> Iterator[Suite]:
    """Give a suite of each kind, on each database."""
    suite: Suite = request.param(database)
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
    outbox: Any = suite.kit.for_app(suite.app).outbox
    with suite.rolled_back():
        suite.app.test_client().post("/fund")
        assert outbox.run_due() == 1
        assert outbox.run_due() == 0
    assert suite.ran == ["immediate", "after_commit", "durable"]
    assert suite.left() == []


def test_failing_durable_receiver_leaves_the_data_of_the_test(suite: Suite) -> None:
    """Its own transaction is rolled back, not that of the test."""

    def fail(account: Account, **extra: Any) -> None:
        account.balance = 99
        suite.session.flush()
        raise ValueError("boom")

    suite.kit.on(suite.funded, delivery="durable")(fail)
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
        account = Account(name="acme", balance=0)
        suite.session.add(account)
        suite.funded.send(account, amount=5)
    assert sorted(suite.ran) == ["after_commit", "durable", "immediate"]
    assert suite.left() == []
