"""SQLite's default breaks savepoints and loses updates; ``begin_immediate`` fixes both."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from flask_signals_kit import ConfigurationError, SignalsKit
from tests.deliveries.support import Account, Base

THREADS, TURNS = 4, 10


@pytest.fixture
def engine(sqlite: str) -> Iterator[Engine]:
    """Give an engine on an SQLite file, as SQLAlchemy makes it."""
    engine = create_engine(sqlite, connect_args={"timeout": 30})
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Account(name="acme", balance=0))
    yield engine
    engine.dispose()


def _savepoint_then_rollback(engine: Engine) -> list[str]:
    """Release a savepoint, roll back the outer transaction, and return the stored rows."""
    with Session(engine) as session:
        with session.begin_nested():
            session.add(Account(name="ghost"))
        session.rollback()
        return list(session.scalars(select(Account.name).order_by(Account.id)))


def _updates_of_many(engine: Engine) -> tuple[int, int]:
    """Let threads read a balance and write it one higher; return the successes and the sum."""
    barrier = Barrier(THREADS)

    def work(number: int) -> int:
        done = 0
        barrier.wait(30)
        for _ in range(TURNS):
            with Session(engine) as session:
                try:
                    account = session.scalars(select(Account)).one()
                    balance = account.balance
                    sleep(0.002)
                    account.balance = balance + 1
                    session.commit()
                except OperationalError:
                    session.rollback()
                else:
                    done += 1
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        done = sum(pool.map(work, range(THREADS)))
    with Session(engine) as session:
        return done, session.scalars(select(Account.balance)).one()


def test_default_keeps_a_released_savepoint_after_the_rollback(engine: Engine) -> None:
    """The reason for ``begin_immediate``: the rolled-back row is stored."""
    assert _savepoint_then_rollback(engine) == ["acme", "ghost"]


def test_begin_immediate_rolls_a_released_savepoint_back(engine: Engine) -> None:
    """The transaction begins first, so its rollback includes the savepoint."""
    SignalsKit.begin_immediate(engine)
    assert _savepoint_then_rollback(engine) == ["acme"]


@pytest.mark.parametrize("mode", ["DEFERRED", "EXCLUSIVE"])
def test_every_mode_fixes_savepoints(engine: Engine, mode: str) -> None:
    """The modes differ in when the write lock is taken, not in what a rollback undoes."""
    SignalsKit.begin_immediate(engine, mode)
    assert _savepoint_then_rollback(engine) == ["acme"]


def test_default_loses_updates(engine: Engine) -> None:
    """The reason for ``begin_immediate``: threads overwrite each other's committed values."""
    done, balance = _updates_of_many(engine)
    assert balance < THREADS * TURNS
    assert balance < done


def test_begin_immediate_loses_no_update(engine: Engine) -> None:
    """Writers wait for each other: every one succeeds, and every update counts."""
    SignalsKit.begin_immediate(engine)
    assert _updates_of_many(engine) == (THREADS * TURNS, THREADS * TURNS)


def _begins(engine: Engine) -> list[str]:
    """Return the BEGIN statements of one transaction."""
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    with engine.begin() as connection:
        connection.execute(select(1))
    event.remove(engine, "before_cursor_execute", note)
    return [statement for statement in statements if statement.startswith("BEGIN")]


def test_called_twice_begins_once(engine: Engine) -> None:
    """The first call stays in force; a second BEGIN would fail."""
    assert _begins(engine) == []
    SignalsKit.begin_immediate(engine)
    SignalsKit.begin_immediate(engine)
    SignalsKit.begin_immediate(engine, "DEFERRED")
    assert _begins(engine) == ["BEGIN IMMEDIATE"]


def test_begin_listener_of_the_app_is_kept(engine: Engine) -> None:
    """An app that uses SQLAlchemy's recipe keeps it."""

    def begin(connection: Any) -> None:
        connection.connection.dbapi_connection.isolation_level = None
        connection.exec_driver_sql("BEGIN EXCLUSIVE")

    event.listen(engine, "begin", begin)
    SignalsKit.begin_immediate(engine)
    assert _begins(engine) == ["BEGIN EXCLUSIVE"]


def test_existing_connections_are_fixed_too(engine: Engine) -> None:
    """A pooled connection begins correctly from its next transaction on."""
    with engine.connect() as connection:
        connection.execute(select(1))
    SignalsKit.begin_immediate(engine)
    assert _begins(engine) == ["BEGIN IMMEDIATE"]
    assert _savepoint_then_rollback(engine) == ["acme"]


def test_other_databases_are_not_changed(postgresql: str) -> None:
    """PostgreSQL does not need it."""
    engine = create_engine(postgresql)
    SignalsKit.begin_immediate(engine)
    assert _begins(engine) == []
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Account(name="acme"))
    assert _savepoint_then_rollback(engine) == ["acme"]
    engine.dispose()


@pytest.mark.parametrize("mode", ["immediate", "CONCURRENT", "", "IMMEDIATE; DROP TABLE account"])
def test_invalid_mode_is_refused(engine: Engine, mode: str) -> None:
    """At once, on every database."""
    message = r"no transactions of mode .*use 'IMMEDIATE', 'DEFERRED' or 'EXCLUSIVE'"
    with pytest.raises(ConfigurationError, match=message):
        SignalsKit.begin_immediate(engine, mode)
    assert _begins(engine) == []


@pytest.mark.needs("aiosqlite")
def test_async_engine(sqlite: str) -> None:
    """An ``AsyncEngine`` is accepted."""

    async def main() -> list[str]:
        engine = create_async_engine(sqlite.replace("sqlite:", "sqlite+aiosqlite:"))
        SignalsKit.begin_immediate(engine)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session:
            async with session.begin_nested():
                session.add(Account(name="ghost"))
            await session.rollback()
            names = list(await session.scalars(select(Account.name)))
        await engine.dispose()
        return names

    assert asyncio.run(main()) == []
