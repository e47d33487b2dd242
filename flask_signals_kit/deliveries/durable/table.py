"""The table of the outbox, and every statement on it.

The column ``attempt`` counts the runs that have begun, and is never reset. Each statement on one
row names the attempt that it is about, so a worker that was too slow, or got a message twice, finds
no row. ``due`` is when the message runs next, or null if it is dead; ``error`` is why its last run
failed, and null while it runs. All times are those of the database's clock, in seconds since the
epoch.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    inspect,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement, Executable
from sqlalchemy.sql.functions import FunctionElement

from ...errors import HOW_TO_CREATE, OutboxError, type_name
from ..sqlite import engine_label

NAME = "signals_outbox"

DIALECTS = frozenset({"sqlite", "postgresql"})
"""The databases that the statements work on."""

RESEND = 60.0
"""The time after which a message that was given to an engine, but has not begun, is due again."""


def outbox_table(metadata: MetaData) -> Table:
    """Return the table of the outbox in this metadata; add it if it is not there yet."""
    found = metadata.tables.get(NAME)
    if found is not None:
        return found
    return Table(
        NAME,
        metadata,
        # AUTOINCREMENT: SQLite would give the id of a deleted row to a new one.
        Column("id", BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True),
        Column("receiver", Text, nullable=False),
        Column("signal", Text, nullable=False),
        Column("payload", Text, nullable=False),
        Column("headers", Text, nullable=False),
        Column("queue", Text),
        Column("due", Double),
        Column("attempt", Integer, nullable=False),
        Column("error", Text),
        Index(f"ix_{NAME}_due", "due"),
        sqlite_autoincrement=True,
    )


class _Now(FunctionElement[float]):
    """The time of the database's clock, also in the middle of a transaction."""

    inherit_cache = True
    type = Double()


@compiles(_Now, "sqlite")
def _sqlite_now(element: _Now, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(_Now, "postgresql")
def _postgresql_now(element: _Now, compiler: Any, **options: Any) -> str:
    return "extract(epoch FROM clock_timestamp())::double precision"


class Statements:
    """The statements on one table.

    :param table: the table.
    """

    def __init__(self, table: Table) -> None:
        self.table: Table = table
        columns, now = table.c, _Now()
        self._insert = insert(table).values(due=now, attempt=0)
        # A common table expression: PostgreSQL may evaluate a plain subselect more than once.
        due = (
            select(columns.id)
            .where(columns.due <= now)
            .order_by(columns.due)
            .limit(bindparam("limit"))
            .with_for_update(skip_locked=True)
        )
        self._claims = {
            False: self._claim(due.cte("due")),
            True: self._claim(due.where(columns.queue == bindparam("only")).cte("due")),
        }
        same = (columns.id == bindparam("row_id"), columns.attempt == bindparam("row_attempt"))
        self._begin = (
            update(table)
            .where(*same, columns.due.is_not(None))
            .values(attempt=columns.attempt + 1, due=now + bindparam("timeout"), error=null())
            .returning(
                columns.receiver, columns.signal, columns.payload, columns.headers, columns.attempt
            )
        )
        self._lease = update(table).where(*same).values(due=now + bindparam("timeout"))
        self._finish = delete(table).where(*same)
        self._retry = (
            update(table)
            .where(*same)
            .values(due=now + bindparam("delay"), error=bindparam("reason"))
        )
        self._kill = update(table).where(*same).values(due=null(), error=bindparam("reason"))
        following = select(func.min(columns.due) - now)
        self._next = {
            False: following,
            True: following.where(columns.queue == bindparam("only")),
        }

    def _claim(self, due: Any) -> Executable:
        columns = self.table.c
        return (
            update(self.table)
            .where(columns.id.in_(select(due.c.id)))
            .values(due=_Now() + bindparam("resend"))
            .returning(
                columns.id,
                columns.attempt,
                columns.queue,
                columns.signal,
                columns.receiver,
                columns.headers,
            )
        )

    def insert(self, connection: Connection, values: dict[str, Any]) -> int:
        """Store a message, which is due at once; return its id."""
        stored: Any = connection.execute(self._insert, values).inserted_primary_key
        number: int = stored[0]
        return number

    def claim(
        self, connection: Connection, limit: int, queue: str | None, resend: float
    ) -> list[dict[str, Any]]:
        """Return messages that are due, without their payload, and make them due later.

        :param limit: how many at most.
        :param queue: the only queue, or ``None`` for all.
        :param resend: the time until they are due again if they do not begin, in seconds.
        """
        values: dict[str, Any] = {"limit": limit, "resend": resend}
        if queue is not None:
            values["only"] = queue
        rows = connection.execute(self._claims[queue is not None], values)
        return [dict(row) for row in rows.mappings()]

    def begin(self, connection: Connection, number: int, attempt: int, timeout: float) -> Any:
        """Begin the next run of a message, and return it; ``None`` if another worker did so before.

        :param attempt: how often it had run.
        :param timeout: the time until it is due again if it does not end, in seconds.
        """
        values = {"row_id": number, "row_attempt": attempt, "timeout": timeout}
        return connection.execute(self._begin, values).one_or_none()

    def lease(self, connection: Connection, number: int, attempt: int, timeout: float) -> None:
        """Change the time until a run that has begun counts as lost."""
        values = {"row_id": number, "row_attempt": attempt, "timeout": timeout}
        connection.execute(self._lease, values)

    def finish(self, connection: Connection, number: int, attempt: int) -> bool:
        """Delete a message; return false if it is another worker's now."""
        values = {"row_id": number, "row_attempt": attempt}
        return connection.execute(self._finish, values).rowcount == 1

    def retry(
        self, connection: Connection, number: int, attempt: int, delay: float, reason: str
    ) -> bool:
        """Make a message due again after a time in seconds; return false as :meth:`finish`."""
        values = {"row_id": number, "row_attempt": attempt, "delay": delay, "reason": reason}
        return connection.execute(self._retry, values).rowcount == 1

    def kill(self, connection: Connection, number: int, attempt: int, reason: str) -> bool:
        """Make a message dead; return false as :meth:`finish`."""
        values = {"row_id": number, "row_attempt": attempt, "reason": reason}
        return connection.execute(self._kill, values).rowcount == 1

    def seconds_to_next(self, connection: Connection, queue: str | None) -> float | None:
        """Return the time until the next message is due, or ``None`` without any."""
        values = {} if queue is None else {"only": queue}
        found: float | None = connection.execute(self._next[queue is not None], values).scalar()
        return found


def missing_part(table: Table, connection: Connection) -> str | None:
    """Name what a database lacks of the table; return ``None`` if it is complete."""
    inspector = inspect(connection)
    if not inspector.has_table(NAME):
        return f"table {NAME!r}"
    existing = {column["name"] for column in inspector.get_columns(NAME)}
    missing = [repr(column.name) for column in table.columns if column.name not in existing]
    return f"column {', '.join(missing)} in table {NAME!r}" if missing else None


class Queries:
    """What the page and the commands read of one table, and what the commands change.

    :param table: the table.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        columns, now = table.c, _Now()
        self._is: dict[str, ColumnElement[bool]] = {
            "dead": columns.due.is_(None),
            # A claim makes a message due later, although it has not begun.
            "due": or_(columns.due <= now, and_(columns.error.is_(None), columns.attempt == 0)),
            "retrying": and_(columns.due > now, columns.error.is_not(None)),
            "running": and_(columns.due > now, columns.error.is_(None), columns.attempt > 0),
        }
        self._status = case(*((each, name) for name, each in self._is.items())).label("status")
        self._age = select(now - func.min(columns.due))
        # Not "not running": that is null for a dead message.
        self.not_running: ColumnElement[bool] = or_(
            *(each for name, each in self._is.items() if name != "running")
        )
        self._revive = (
            update(table)
            .where(columns.id == bindparam("row_id"), columns.attempt == bindparam("row_attempt"))
            .where(self._is["dead"])
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
        """Return id, attempt and headers of messages, those with the lowest ids first.

        :param after: only messages with higher ids.
        """
        columns = self._table.c
        found = select(columns.id, columns.attempt, columns.headers).where(*where)
        found = found.where(columns.id > after).order_by(columns.id).limit(limit)
        return connection.execute(found).all()

    def revive(self, connection: Connection, number: int, attempt: int, headers: str) -> bool:
        """Make a dead message due, with new headers; return false if it has changed meanwhile."""
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
        """Return id, status, attempt and error of those of these messages that are stored."""
        columns = self._table.c
        found = select(columns.id, self._status, columns.attempt, columns.error)
        return connection.execute(found.where(columns.id.in_(numbers))).all()


@contextmanager
def reading(engine: Engine, table: Table) -> Generator[Connection, None, None]:
    """Give a connection that reads; on SQLite it takes no lock, whatever begins transactions.

    :raises OutboxError: if the database cannot be used, or lacks a part of the table.
    """
    with _explained(engine, table), engine.connect() as connection:
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
