"""What the page and the commands read of the outbox's table, and what the commands change."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import Table, and_, bindparam, case, delete, func, or_, select, update
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.expression import ColumnElement

from ...errors import HOW_TO_CREATE, OutboxError, type_name
from ..sqlite import engine_label
from .table import Now, missing_part


class Queries:
    """What the page and the commands read of one table, and what the commands change.

    :param table: the table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        columns, now = table.c, Now()
        self._is: dict[str, ColumnElement[bool]] = {
            "dead": columns.due.is_(None),
            # A claim makes a message due later, although it has not begun.
            "due": or_(columns.due <= now, and_(columns.error.is_(None), columns.attempt == 0)),
            "retrying": and_(columns.due > now, columns.error.is_not(None)),
            "running": and_(columns.due > now, columns.error.is_(None), columns.attempt > 0),
        }
        self._status = case(*((each, name) for name, each in self._is.items())).label("status")
        self._age = select(now - func.min(columns.due))
        # Without "due": each claim of a worker that does not begin moves it.
        self._first = (
            select(columns.headers, now.label("now"))
            .where(columns.attempt == 0, columns.due.is_not(None))
            .order_by(columns.id)
            .limit(1)
        )
        # Not "not running": that is null for a dead message.
        self.not_running: ColumnElement[bool] = or_(
            *(each for name, each in self._is.items() if name != "running")
        )
        self.retryable: ColumnElement[bool] = or_(self._is["dead"], self._is["retrying"])
        self._revive = (
            update(table)
            .where(columns.id == bindparam("row_id"), columns.attempt == bindparam("row_attempt"))
            .where(self.retryable)
            .values(due=now, headers=bindparam("new_headers"))
        )

    def where(
        self,
        *,
        number: int | None = None,
        status: str = "",
        receiver: str = "",
        signal: str = "",
        queue: str = "",
    ) -> list[ColumnElement[bool]]:
        """Return the conditions of a filter; an empty text matches all."""
        equal = {"id": number, "receiver": receiver, "signal": signal, "queue": queue}
        found = [self._table.c[name] == value for name, value in equal.items() if value]
        return [self._is[status], *found] if status else found

    def count(self, connection: Connection, where: Sequence[Any]) -> int:
        """Return the number of the messages that meet these conditions."""
        counted = select(func.count()).select_from(self._table).where(*where)
        return int(connection.execute(counted).scalar_one())

    def batch(
        self, connection: Connection, where: Sequence[Any], after: int, limit: int
    ) -> Sequence[Any]:
        """Return id, attempt, due and headers of messages, those with the lowest ids first.

        :param after: only messages with higher ids.
        """
        columns = self._table.c
        found = select(columns.id, columns.attempt, columns.due, columns.headers).where(*where)
        found = found.where(columns.id > after).order_by(columns.id).limit(limit)
        return connection.execute(found).all()

    def revive(self, connection: Connection, number: int, attempt: int, headers: str) -> bool:
        """Make a dead or retrying message due, with these headers.

        :return: false if it has changed since.
        """
        values = {"row_id": number, "row_attempt": attempt, "new_headers": headers}
        return connection.execute(self._revive, values).rowcount == 1

    def discard(self, connection: Connection, numbers: list[int], where: Sequence[Any]) -> int:
        """Delete those of these messages that still meet the conditions; return their number."""
        chosen = delete(self._table).where(self._table.c.id.in_(numbers), *where)
        return connection.execute(chosen).rowcount

    def totals(self, connection: Connection) -> Sequence[Any]:
        """Return receiver, signal, status and number of the messages that have these in common."""
        columns = self._table.c
        shared = columns.receiver, columns.signal, self._status
        number = func.count().label("number")
        # Grouped by the name of the status: its expression has the clock in it.
        totals = select(*shared, number).group_by(columns.receiver, columns.signal, "status")
        return connection.execute(totals.order_by(columns.receiver, columns.signal)).all()

    def oldest_age(self, connection: Connection) -> float | None:
        """Return for how long the oldest message is due, in seconds; ``None`` if none is."""
        age = connection.execute(self._age).scalar()
        return age if age is not None and age >= 0 else None

    def first_not_begun(self, connection: Connection) -> Any:
        """Return ``headers`` of the first message that has not begun, and ``now``; or ``None``."""
        return connection.execute(self._first).one_or_none()

    def newest(
        self, connection: Connection, where: Sequence[Any], limit: int, before: int | None
    ) -> Sequence[Any]:
        """Return messages with their status, the newest first.

        :param where: their conditions, of :meth:`where`.
        :param limit: how many at most.
        :param before: only messages with lower ids.
        """
        columns = self._table.c
        older = () if before is None else (columns.id < before,)
        found = select(self._table, self._status).where(*where, *older)
        return connection.execute(found.order_by(columns.id.desc()).limit(limit)).all()

    def find(self, connection: Connection, number: int) -> Any:
        """Return one message with its status, or ``None``."""
        found = select(self._table, self._status).where(self._table.c.id == number)
        return connection.execute(found).one_or_none()

    def states(self, connection: Connection, numbers: Sequence[int]) -> Sequence[Any]:
        """Return those of these messages that are stored, without headers and payload.

        ``is_later`` tells whether a message is not due yet, by the database's clock.
        """
        columns = self._table.c
        is_later = (columns.due > Now()).label("is_later")
        found = select(
            columns.id, self._status, columns.attempt, columns.error, columns.due, is_later
        )
        return connection.execute(found.where(columns.id.in_(numbers))).all()


class JoinedConnection:
    """Stands for the engine of a connection that is in a transaction of a test.

    A test that rolls everything back binds its sessions to such a connection. Other connections
    cannot see its messages, so they are read and run in savepoints of this one.

    :param connection: the connection.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.dialect: Any = connection.dialect
        self.url: Any = connection.engine.url

    def get_execution_options(self) -> Any:
        """Return the options of the connection."""
        return self._connection.get_execution_options()

    def connect(self) -> AbstractContextManager[Connection]:
        """Give the connection."""
        return nullcontext(self._connection)

    @contextmanager
    def begin(self) -> Generator[Connection, None, None]:
        """Give the connection, in a savepoint that is released at the end."""
        with self._connection.begin_nested():
            yield self._connection


def engine_of(bind: Any) -> Any:
    """Return the engine of a session's bind, or what stands for it in a test."""
    if isinstance(bind, Connection) and bind.in_transaction():
        return JoinedConnection(bind)
    return bind.engine


@contextmanager
def reading(engine: Engine, table: Table) -> Generator[Connection, None, None]:
    """Give a connection that reads; on SQLite it takes no lock, whatever begins transactions.

    :raises OutboxError: if the database cannot be used, or lacks a part of the table.
    """
    with _explained(engine, table), engine.connect() as connection:
        if connection.in_transaction():  # of a test
            yield connection
        else:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def writing(engine: Engine, table: Table) -> Generator[Connection, None, None]:
    """Give a connection that is committed at the end.

    :raises OutboxError: as :func:`reading`.
    """
    with _explained(engine, table), engine.begin() as connection:
        yield connection


@contextmanager
def _explained(engine: Engine, table: Table) -> Generator[None, None, None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise OutboxError(_what_is_wrong(engine, table, error)) from error


def _what_is_wrong(engine: Engine, table: Table, error: SQLAlchemyError) -> str:
    """Describe why a statement failed, without its parameters."""
    try:
        with engine.connect() as connection:
            missing = missing_part(table, connection)
    except SQLAlchemyError:
        missing = None
    if missing:
        return f"There is no {missing} in {engine_label(engine)}. {HOW_TO_CREATE}"
    cause = getattr(error, "orig", None) or error
    reason = next(iter(str(cause).splitlines()), "")
    return f"The outbox in {engine_label(engine)} cannot be used: {type_name(cause)}: {reason}"
