"""Regression tests of sessions, contexts and listeners: lost calls and failed commits."""

import asyncio
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, current_app, request
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as Lite
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import (
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_signals_kit import AfterCommit, ConfigurationError, SignalsKit
from flask_signals_kit.deliveries import transactions
from tests.deliveries.support import Account, Shop, messages

INSERT = text("INSERT INTO account (funds) VALUES (1)")
COUNT = text("SELECT count(*) FROM account")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return an engine with one table."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.sqlite")
    SignalsKit.begin_immediate(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, funds INTEGER)"))
    yield engine
    engine.dispose()


@pytest.fixture
def scoped(engine: Engine) -> Iterator[Any]:
    """Return a scoped session, as in a plain SQLAlchemy app."""
    scoped = scoped_session(sessionmaker(engine))
    yield scoped
    scoped.remove()


def make(kit: SignalsKit, scoped: Any) -> Flask:
    """Return an app whose contexts remove the session, as in SQLAlchemy's documentation."""
    app = Flask("shop")
    kit.use_session(scoped)
    kit.init_app(app)

    @app.teardown_appcontext
    def end(error: BaseException | None) -> None:
        scoped.remove()

    return app


def test_send_outside_a_context_does_not_end_the_transaction(scoped: Any) -> None:
    """It pushes no context, whose end would roll back."""
    kit = SignalsKit()
    app = make(kit, scoped)
    ran: list[Any] = []
    app_signals = kit.for_app(app)
    app_signals.on("account_funded", delivery="after_commit")(
        lambda sender, **extra: ran.append(sender)
    )
    scoped.execute(INSERT)
    app_signals.send("account_funded", "acme")
    scoped.commit()
    assert ran == ["acme"]
    assert scoped.scalar(COUNT) == 1


@pytest.mark.parametrize("first", [True, False])
def test_send_in_an_after_commit_listener_waits_for_the_end(
    scoped: Any, engine: Engine, first: bool
) -> None:
    """The transaction has committed and not ended: SQL is not possible yet."""
    kit = SignalsKit()
    app = make(kit, scoped)
    ran: list[int] = []
    session = scoped()

    def tell(_: Session) -> None:
        if not ran:  # the receiver's own transaction ends with a commit, too
            kit.send("account_funded", "acme")

    if first:
        event.listen(session, "after_commit", tell)
    kit.on("account_funded", delivery="after_commit")(
        lambda sender, **extra: ran.append(scoped.scalar(COUNT))
    )
    if not first:
        event.listen(session, "after_commit", tell)
    with app.app_context():
        session.execute(INSERT)
        session.commit()
        event.remove(session, "after_commit", tell)
        assert ran == [1]


def test_failure_around_a_receiver_does_not_reach_commit(
    scoped: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a teardown function of the receiver's context."""
    kit = SignalsKit()
    app = Flask("shop")
    kit.use_session(scoped)
    kit.init_app(app)

    @app.teardown_appcontext
    def fail(error: BaseException | None) -> None:
        raise OSError("teardown")

    ran: list[Any] = []
    app_signals = kit.for_app(app)
    app_signals.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(1))
    app_signals.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(2))
    scoped.execute(INSERT)
    app_signals.send("account_funded", "acme")
    scoped.commit()
    assert ran == [1, 2]
    assert "teardown" in caplog.text


def test_exception_with_invalid_notes_is_contained(scoped: Any) -> None:
    """No note is added."""
    kit = SignalsKit()
    app = make(kit, scoped)
    ran: list[Any] = []

    @kit.on("account_funded", delivery="after_commit")
    def fail(sender: Any, **extra: Any) -> None:
        error = ValueError("odd")
        error.__notes__ = 5  # type: ignore[assignment]
        raise error

    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with app.app_context():
        scoped.execute(INSERT)
        kit.send("account_funded", "acme")
        scoped.commit()
    assert ran == ["acme"]


def test_receivers_after_a_keyboard_interrupt_are_logged_as_dropped(
    scoped: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The interrupt propagates."""
    kit = SignalsKit()
    app = make(kit, scoped)

    @kit.on("account_funded", delivery="after_commit")
    def interrupt(sender: Any, **extra: Any) -> None:
        raise KeyboardInterrupt

    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: None)
    with app.app_context(), caplog.at_level("DEBUG", "flask_signals_kit"):
        scoped.execute(INSERT)
        kit.send("account_funded", "acme")
        with pytest.raises(KeyboardInterrupt):
            scoped.commit()
    assert "is not called" in caplog.text


def test_begin_immediate_does_not_change_autocommit(engine: Engine) -> None:
    """`VACUUM` and pragmas need a connection without a transaction."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM"))


def test_begin_immediate_works_with_other_begin_listeners(tmp_path: Path) -> None:
    """Such as a tracer, which does not begin."""
    engine = create_engine(f"sqlite:///{tmp_path}/traced.sqlite")
    event.listen(engine, "begin", lambda connection: None)
    SignalsKit.begin_immediate(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, funds INTEGER)"))
    with engine.connect() as connection:
        with connection.begin_nested():
            connection.execute(INSERT)
        connection.rollback()
        assert connection.scalar(COUNT) == 0
    engine.dispose()


def test_delivery_with_an_unrelated_session_is_refused() -> None:
    """Such as the HTTP session of a webhook."""

    class Webhook:
        name = "webhook"
        session = object()

        def deliver(self, call: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="Webhook has an attribute session"):
        SignalsKit().on("account_funded", delivery=Webhook())(lambda sender, **extra: None)


def test_session_function_can_return_the_scoped_session(scoped: Any) -> None:
    """A likely mistake, with a clear meaning."""
    kit = SignalsKit()
    app = Flask("shop")
    kit.use_session(lambda: scoped)
    kit.init_app(app)
    ran: list[Any] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with app.app_context():
        scoped.execute(INSERT)
        kit.send("account_funded", "acme")
        assert ran == []
        scoped.commit()
    assert ran == ["acme"]


def test_session_function_with_a_wrong_result_is_named_in_the_error() -> None:
    """With the result and the expected type."""
    kit = SignalsKit()
    app = Flask("shop")
    kit.use_session(lambda: "postgresql://")
    kit.init_app(app)
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: None)
    with app.app_context(), pytest.raises(ConfigurationError, match="returned str, which is no"):
        kit.send("account_funded", "acme")


def test_named_session_of_flask_sqlalchemy_lite_is_found(tmp_path: Path) -> None:
    """Not only the default one."""
    db, kit, app = Lite(), SignalsKit(), Flask("shop")
    app.config["SQLALCHEMY_ENGINES"] = {"default": f"sqlite:///{tmp_path}/lite.sqlite"}
    db.init_app(app)
    kit.init_app(app)
    ran: list[Any] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with app.app_context():
        other = db.get_session("other")
        other.execute(text("SELECT 1"))
        kit.send("account_funded", "lost")
        other.rollback()
        other.execute(text("SELECT 1"))
        kit.send("account_funded", "kept")
        assert ran == []
        other.commit()
        assert ran == ["kept"]
        db.engine.dispose()


def test_captured_receivers_run_one_after_the_other(scoped: Any) -> None:
    """As after a real commit, not nested."""
    kit = SignalsKit()
    app = make(kit, scoped)
    steps: list[str] = []

    @kit.on("account_funded", delivery="after_commit")
    def one(sender: Any, **extra: Any) -> None:
        steps.append("one starts")
        scoped.execute(INSERT)
        scoped.commit()
        steps.append("one ends")

    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: steps.append("two"))
    with app.app_context():
        scoped.execute(INSERT)
        with kit.capture(run_after_commit=True):
            kit.send("account_funded", "acme")
    assert steps == ["one starts", "one ends", "two"]


@pytest.fixture
def breaking_listener() -> Iterator[None]:
    """Register a listener that fails at each commit, before the kit's."""

    def fail(_: Session) -> None:
        raise OSError("the cache is down")

    for name, listener in (
        ("after_commit", transactions._after_commit),
        ("after_transaction_end", transactions._after_transaction_end),
    ):
        if event.contains(Session, name, listener):
            event.remove(Session, name, listener)
    event.listen(Session, "after_commit", fail)
    transactions.listen.cache_clear()
    yield
    event.remove(Session, "after_commit", fail)


def test_failing_listener_does_not_lose_the_call(
    scoped: Any, engine: Engine, breaking_listener: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The rows are stored, so the receiver runs: at the latest when the session is closed.

    What it reads in a session that is being thrown away is over with it.
    """
    caplog.set_level(logging.DEBUG, "flask_signals_kit")
    kit = SignalsKit()
    app = make(kit, scoped)
    ran: list[str] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with app.app_context():
        scoped.execute(INSERT)
        kit.send("account_funded", "acme")
        with pytest.raises(OSError, match="cache"):
            scoped.commit()
        scoped.remove()
        assert ran == ["acme"]
        assert scoped.scalar(COUNT) == 1
        scoped.remove()
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    assert caplog.text == ""


@pytest.mark.parametrize("how", ["at once", "in a receiver", "after the commit"])
def test_session_is_usable_after_a_database_failure_of_a_receiver(scoped: Any, how: str) -> None:
    """Its transaction is rolled back."""
    kit = SignalsKit()
    app = make(kit, scoped)
    counted: list[int] = []

    @kit.on("account_funded", delivery="after_commit", priority=1)
    def fail(sender: str, **extra: object) -> None:
        scoped.execute(INSERT)
        scoped.execute(text("SELECT * FROM nowhere"))

    @kit.on("account_funded", delivery="after_commit")
    def count(sender: str, **extra: object) -> None:
        counted.append(scoped.scalar(COUNT))

    @kit.on("account_opened", delivery="after_commit")
    def open_account(sender: str, **extra: object) -> None:
        kit.send("account_funded", sender)
        scoped.execute(INSERT)

    with app.app_context():
        if how == "after the commit":
            scoped.execute(INSERT)
        kit.send("account_opened" if how == "in a receiver" else "account_funded", "acme")
        assert len(counted) == (how != "after the commit")
        scoped.execute(INSERT)
        scoped.commit()
        expected = {"at once": (1, [0]), "in a receiver": (2, [1]), "after the commit": (2, [2])}
        assert (scoped.scalar(COUNT), counted) == expected[how]


def test_failing_receiver_after_a_reading_one_affects_no_other(any_shop: Shop) -> None:
    """Each runs in a transaction of its own."""
    kit = any_shop.kit

    @kit.on("account_funded", delivery="after_commit", priority=4)
    def read(sender: str, **extra: object) -> None:
        any_shop.session.scalars(select(Account)).all()

    @kit.on("account_funded", delivery="after_commit", priority=3)
    def break_statement(sender: str, **extra: object) -> None:
        any_shop.session.execute(text("SELECT * FROM nowhere"))

    @kit.on("account_funded", delivery="after_commit", priority=2)
    def leave_half(sender: str, **extra: object) -> None:
        any_shop.session.add(Account(name="half-done"))
        raise ValueError(sender)

    @kit.on("account_funded", delivery="after_commit", priority=1)
    def befriend(sender: str, **extra: object) -> None:
        any_shop.session.add(Account(name="friend"))

    with any_shop.open() as session:
        any_shop.fund("acme")
        session.commit()
        session.rollback()
    assert any_shop.rows() == ["acme", "friend"]


def test_transaction_of_a_reading_receiver_is_ended(any_shop: Shop) -> None:
    """The session has no transaction afterwards, and no lock is kept."""
    kit = any_shop.kit
    names: list[str] = []

    @kit.on("account_funded", delivery="after_commit")
    def read(sender: Account, **extra: object) -> None:
        names.append(sender.name)

    with any_shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        any_shop.funded.send(account)
        session.commit()
        assert names == ["acme"]
        assert not session.in_transaction()
        with any_shop.outside.begin() as other:
            other.execute(text("INSERT INTO account (name, balance) VALUES ('globex', 0)"))
    assert any_shop.rows() == ["acme", "globex"]


def test_receivers_after_a_with_block_are_committed(scoped: Any) -> None:
    """Inside "with session.begin():", a commit would close the block."""
    kit = SignalsKit()
    app = make(kit, scoped)
    kit.on("account_funded", delivery="after_commit")(
        lambda sender, **extra: [scoped.scalar(COUNT), scoped.execute(INSERT)]
    )
    with app.app_context():
        with scoped.begin():
            scoped.execute(INSERT)
            kit.send("account_funded", "acme")
            scoped.commit()
            with pytest.raises(InvalidRequestError, match="closed transaction"):
                scoped.execute(INSERT)
        assert scoped.scalar(COUNT) == 2


def test_send_in_another_app_does_not_wait_for_this_apps_transaction() -> None:
    """A database object that two apps share has a session for each."""
    kit, db = SignalsKit(), SQLAlchemy()
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        db.init_app(app)
        kit.init_app(app)
    ran: list[str] = []

    @kit.on("account_funded", delivery="after_commit")
    def receive(sender: str, **extra: object) -> None:
        ran.append(current_app.name)

    one, two = apps
    with two.app_context():
        db.session.execute(text("SELECT 1"))
        kit.for_app(one).send("account_funded", "acme")
        kit.send("account_funded", "acme")
        assert ran == ["one"]
        db.session.rollback()
        db.engine.dispose()
    assert ran == ["one"]


def test_calls_run_in_the_order_of_the_sends(any_shop: Shop) -> None:
    """Not in the order in which their receivers began to wait."""
    kit = any_shop.kit
    ran: list[str] = []

    @kit.on("account_funded", priority=1)
    def open_another(sender: str, **extra: object) -> None:
        any_shop.opened.send("inner")

    for name in ("account_opened", "account_funded"):
        kit.on(name, delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with any_shop.open() as session:
        savepoint = session.begin_nested()
        any_shop.fund("outer")
        savepoint.commit()
        session.commit()
    assert ran == ["outer", "inner"]


def test_log_names_the_receivers_that_an_interrupt_prevented(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """Their transaction has committed, so it is more than a debug record."""

    @shop.kit.on("account_funded", delivery="after_commit", priority=1)
    def interrupt(sender: str, **extra: object) -> None:
        raise KeyboardInterrupt

    shop.listen()
    with shop.open() as session:
        shop.fund("acme")
        with pytest.raises(KeyboardInterrupt):
            session.commit()
    [warning] = messages(caplog, logging.WARNING)
    assert "Interrupted after a commit" in warning
    assert "Shop.listen" in warning
    assert "'account_funded'" in warning


def test_concurrent_captures_run_each_call_once(scoped: Any) -> None:
    """A capture that ends does not affect those of other threads."""
    kit = SignalsKit()
    app = make(kit, scoped)
    kit.signal("account_funded")
    ran: list[int] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    threads, turns = 4, 30

    def capture(thread: int) -> None:
        for turn in range(turns):
            with app.app_context():
                scoped.connection()
                with kit.capture(run_after_commit=True):
                    kit.send("account_funded", thread * turns + turn)
                scoped.rollback()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(capture, thread) for thread in range(threads)]:
                done.result(timeout=60)
    finally:
        sys.setswitchinterval(interval)
    assert sorted(ran) == [*range(threads * turns)]
    assert not kit.for_app(app).sessions.kept_observers


def test_failing_session_source_loses_no_call(scoped: Any) -> None:
    """Once the session is found, no other source is called."""
    kit = SignalsKit()
    app = make(kit, scoped)
    kit.use_session(lambda: request.environ.get("session"))  # in requests alone
    ran: list[str] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with app.app_context():
        scoped.execute(INSERT)
        kit.send("account_funded", "acme")
        scoped.commit()
    assert ran == ["acme"]


def test_transaction_of_an_immediate_receiver_is_ended_too(scoped: Any, engine: Engine) -> None:
    """An earlier receiver has committed, so this one runs at once."""
    kit = SignalsKit()
    app = make(kit, scoped)
    archive = scoped_session(sessionmaker(engine))

    @kit.on("account_funded", priority=1)
    def commit(sender: str, **extra: object) -> None:
        archive.commit()

    @kit.on("account_funded", delivery=AfterCommit(session=archive))
    def write(sender: str, **extra: object) -> None:
        archive.execute(INSERT)

    with app.app_context():
        archive.execute(INSERT)
        kit.send("account_funded", "acme")
        assert not archive().in_transaction()
        archive.remove()
        assert scoped.scalar(COUNT) == 2


@pytest.mark.needs("aiosqlite")
def test_async_session_is_not_committed_by_the_kit(scoped: Any) -> None:
    """It works in its task only."""
    kit, app = SignalsKit(), Flask("shop")
    engine = create_async_engine("sqlite+aiosqlite://")
    sessions = async_scoped_session(async_sessionmaker(engine), scopefunc=lambda: 1)
    kit.use_session(lambda: sessions)
    kit.init_app(app)
    failures: list[BaseException] = []
    kit.on_exception(lambda app, exception, **extra: failures.append(exception))

    @kit.on("account_funded", delivery="after_commit")
    def begin(sender: str, **extra: object) -> None:
        sessions().sync_session.begin()

    sessions()
    with app.app_context():
        kit.send("account_funded", "acme")
        assert failures == []
        assert sessions().in_transaction()
    asyncio.run(sessions.remove())
    asyncio.run(engine.dispose())


@pytest.mark.needs("aiosqlite", "asgiref")
def test_transaction_after_an_async_receiver_is_left_to_its_task(
    tmp_path: Path,
) -> None:
    """Only the task can commit it."""
    kit, app = SignalsKit(), Flask("shop")
    app.config["SQLALCHEMY_ASYNC_ENGINES"] = {
        "default": f"sqlite+aiosqlite:///{tmp_path}/shop.sqlite"
    }
    db = Lite()
    db.init_app(app)
    kit.init_app(app)
    failures: list[BaseException] = []
    kit.on_exception(lambda app, exception, **extra: failures.append(exception))

    @kit.on("account_funded", priority=1)
    async def commit(sender: str, **extra: object) -> None:
        await db.async_session.commit()

    @kit.on("account_funded", delivery="after_commit")
    def begin(sender: str, **extra: object) -> None:
        db.async_session.sync_session.begin()

    async def fund() -> bool:
        await db.async_session.execute(text("SELECT 1"))
        await kit.send_async("account_funded", "acme")
        begun = db.async_session.in_transaction()
        await db.async_session.close()
        await db.async_engine.dispose()
        return begun

    with app.app_context():
        assert asyncio.run(fund())
    assert failures == []
