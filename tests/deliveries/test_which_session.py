"""The transaction to wait for is the one of the sender or the payload."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from werkzeug.local import LocalProxy

from flask_signals_kit import AfterCommit, SignalsKit
from tests.deliveries.support import Account, Base, Shop


@pytest.fixture
def reading(shop: Shop, tmp_path: Path) -> Iterator[Any]:
    """Give the shop a first session on another database."""
    second = Shop(f"sqlite:///{tmp_path / 'reading.sqlite'}", "use_session")
    sessions = scoped_session(sessionmaker(second.engine))
    shop.kit.use_session(sessions)
    yield sessions
    sessions.remove()
    second.close()


WAYS: dict[str, Callable[[Shop, Account], object]] = {
    "sender": lambda shop, account: shop.funded.send(account),
    "payload": lambda shop, account: shop.funded.send("acme", account=account),
    "proxy": lambda shop, account: shop.funded.send(LocalProxy(lambda: account)),
    "by name": lambda shop, account: shop.kit.send("account_funded", account),
}


@pytest.mark.parametrize("way", WAYS)
def test_call_waits_for_the_session_of_the_sender(shop: Shop, reading: Any, way: str) -> None:
    """The app reads from one session and writes into another one."""
    seen = shop.listen()
    with shop.open() as session:
        for end in ("rollback", "commit"):
            reading.scalars(select(Account)).all()
            account = Account(name=end)
            session.add(account)
            WAYS[way](shop, account)
            getattr(session, end)()
            assert len(seen) == (end == "commit")
            assert reading().in_transaction()
            reading.commit()
    assert len(seen) == 1
    assert shop.rows() == ["commit"]


def test_call_runs_at_once_if_the_senders_session_has_no_transaction(
    shop: Shop, reading: Any
) -> None:
    """Other sessions do not matter."""
    names: list[str] = []

    @shop.kit.on("account_funded", delivery="after_commit")
    def note(sender: Account, **extra: Any) -> None:
        names.append(sender.name)

    with shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        session.commit()
        reading.scalars(select(Account)).all()
        shop.funded.send(account)
        assert names == ["acme"]
        assert not session.in_transaction()
        assert reading().in_transaction()


def test_session_of_the_delivery_overrides_that_of_the_sender(shop: Shop, reading: Any) -> None:
    """The receiver's option comes first."""
    seen = shop.listen(delivery=AfterCommit(session=reading))
    with shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        reading.add(Account(name="globex"))
        shop.funded.send(account)
        session.commit()
        assert seen == []
        reading.commit()
        assert seen == [account]


def test_session_of_the_sender_need_not_be_configured(shop: Shop) -> None:
    """It is found by its instance, and its transaction is ended likewise."""
    names: list[str] = []

    @shop.kit.on("account_funded", delivery="after_commit")
    def note(sender: Account, **extra: Any) -> None:
        names.append(sender.name)

    with shop.open(), Session(shop.engine) as own:
        account = Account(name="acme")
        own.add(account)
        shop.funded.send(account)
        assert names == []
        own.commit()
        assert names == ["acme"]
        shop.funded.send(account)
        assert names == ["acme", "acme"]
        assert not own.in_transaction()


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("extension", ["flask_sqlalchemy", "flask_sqlalchemy_lite"])
def test_transaction_of_an_enclosing_context_of_the_app(
    database: str, extension: str, end: str
) -> None:
    """A nested context has its own session; the outer one's has the transaction."""
    with closing(Shop(database, extension)) as shop, shop.open() as session:
        seen = shop.listen()
        session.add(Account(name="acme"))
        with shop.app.app_context(), shop.open() as inner:
            assert inner is not session
            shop.funded.send("acme")
        assert seen == []
        getattr(session, end)()
        assert seen == shop.rows() == (["acme"] if end == "commit" else [])


def test_nested_context_with_a_transaction_of_its_own(shop: Shop) -> None:
    """The innermost open transaction counts."""
    seen = shop.listen()
    with shop.open() as outer:
        outer.begin()
        with shop.open() as inner:
            inner.begin()
            shop.funded.send("acme")
            inner.commit()
            assert seen == ["acme"]


def test_session_function_is_called_in_each_enclosing_context(shop: Shop) -> None:
    """It can read ``g``, which belongs to a context."""
    app, kit = Flask("plain"), SignalsKit()
    kit.use_session(lambda: g.get("session"))
    kit.init_app(app)
    seen: list[str] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: seen.append(sender))
    with app.app_context(), Session(shop.engine) as g.session:
        session = g.session
        session.begin()
        with app.app_context():
            kit.send("account_funded", "acme")
            assert g.get("session") is None
        assert seen == []
        session.commit()
    assert seen == ["acme"]


def test_signal_for_an_app_whose_context_encloses_that_of_another(tmp_path: Path) -> None:
    """Its transaction is found in the outer context, not in the other app's."""
    kit, db = SignalsKit(), SQLAlchemy()
    one, two = Flask("one"), Flask("two")
    for app in (one, two):
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / app.name}.sqlite"
        db.init_app(app)
        kit.init_app(app)
    seen: list[str] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: seen.append(sender))
    with one.app_context():
        db.session.execute(text("SELECT 1"))
        with two.app_context():
            db.session.execute(text("SELECT 1"))
            kit.for_app(one).send("account_funded", "acme")
            db.session.commit()
            assert seen == []
            db.engine.dispose()
        db.session.commit()
        db.engine.dispose()
    assert seen == ["acme"]


@pytest.mark.needs("aiosqlite")
def test_instance_of_an_async_session(database: str) -> None:
    """The call waits for the sync session; at once, the session is left to the task."""
    url = database.replace("sqlite:", "sqlite+aiosqlite:")
    app, kit = Flask("shop"), SignalsKit()
    kit.use_session(lambda: None)
    kit.init_app(app)
    seen: list[int] = []
    failures: list[Exception] = []
    kit.on_exception(lambda app, error, **extra: failures.append(error))
    kit.on("account_funded", delivery="after_commit")(
        lambda sender, *, number, **extra: seen.append(number)
    )

    async def main() -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with async_sessionmaker(engine)() as session:
            account = Account(name="acme")
            session.add(account)
            kit.send("account_funded", account, number=1)
            assert seen == []
            await session.commit()
            assert seen == [1]
            kit.send("account_funded", account, number=2)
            assert seen == [1, 2]
            await session.refresh(account)
            await kit.send_async("account_funded", account, number=3)
            await session.rollback()
        await engine.dispose()

    with app.app_context():
        asyncio.run(main())
    assert seen == [1, 2]
    assert failures == []


def test_session_of_flask_sqlalchemy_can_be_replaced(kit: SignalsKit, sqlite: str) -> None:
    """As pytest-flask-sqlalchemy does with `mocked-sessions`."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite
    db = SQLAlchemy()
    db.init_app(app)
    kit.init_app(app)
    ran: list[str] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with app.app_context():
        Base.metadata.create_all(db.engine)
        kit.send("account_funded", "no transaction")
        with db.engine.connect() as connection, connection.begin() as transaction:
            replaced: Any = scoped_session(
                sessionmaker(connection, join_transaction_mode="create_savepoint")
            )
            db.session = replaced
            db.session.add(Account(name="acme"))
            kit.send("account_funded", "replaced")
            assert ran == ["no transaction"]
            db.session.commit()
            assert ran == ["no transaction", "replaced"]
            db.session.remove()
            transaction.rollback()
        db.engine.dispose()
