"""The table of the outbox, and the statements that store, claim and end messages.

The column ``attempt`` counts the runs that have begun, and is never reset. Each statement on one
row names the attempt that it is about, so a worker that was too slow, or got a message twice, finds
no row. ``due`` is when the message runs next, or null if it is dead; ``error`` is why its last run
failed, and null while it runs. All times are those of the database's clock, in seconds since the
epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

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
    bindparam,
    delete,
    func,
    insert,
    inspect,
    null,
    select,
    update,
)
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import Executable
from sqlalchemy.sql.functions import FunctionElement

from ...errors import HOW_TO_CREATE, ConfigurationError
from ..sqlite import engine_label

NAME = "signals_outbox"

DIALECTS = frozenset({"sqlite", "postgresql"})
"""The databases that the statements work on."""

RESEND = 60.0
"""The time after which a message that was given to an engine, but has not begun, is due again."""


def outbox_table(metadata: MetaData) -> Table:
    """Return the table of the outbox in this metadata; add it if it is not there yet."""
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
        keep_existing=True,
    )


class Now(FunctionElement[float]):
    """The time of the database's clock when a statement begins.

    It is the same for the whole statement, so that an index can be searched for it.
    """

    inherit_cache: bool | None = True
    type: Any = Double()


@compiles(Now, "sqlite")
def _sqlite_now(element: Now, compiler: Any, **options: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _postgresql_now(element: Now, compiler: Any, **options: Any) -> str:
    return "extract(epoch FROM statement_timestamp())::double precision"


class Statements:
    """The statements on one table.

    :param table: the table.
    """

    def __init__(self, table: Table) -> None:
        self.table: Table = table
        self._compiled: WeakKeyDictionary[Any, dict[Any, _Compiled]] = WeakKeyDictionary()
        """The statements that were executed, as text, by dialect: each engine has its own. In it, a
        statement is found by itself and the table's schema."""
        columns, now = table.c, Now()
        stored = ("receiver", "signal", "payload", "headers", "queue")
        self._insert = insert(table).values(**dict.fromkeys(stored), due=now, attempt=0).inline()
        self._insert_returning = self._insert.returning(columns.id)
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
        alive = (*same, columns.due.is_not(None))
        self._begin = (
            update(table)
            .where(*alive)
            .values(attempt=columns.attempt + 1, due=now + bindparam("timeout"), error=null())
            .returning(
                columns.receiver, columns.signal, columns.payload, columns.headers, columns.attempt
            )
        )
        self._lease = update(table).where(*same).values(due=now + bindparam("timeout"))
        self._finish = delete(table).where(*same)
        self._retry = (
            update(table)
            .where(*alive)
            .values(
                due=now + bindparam("delay"),
                error=bindparam("reason"),
                headers=func.coalesce(bindparam("new_headers"), columns.headers),
            )
        )
        self._kill = update(table).where(*alive).values(due=null(), error=bindparam("reason"))
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
            .values(due=Now() + bindparam("resend"))
            .returning(
                columns.id,
                columns.attempt,
                columns.queue,
                columns.signal,
                columns.receiver,
                columns.headers,
            )
        )

    def insert(
        self,
        connection: Connection,
        values: dict[str, Any],
        *,
        returns_id: bool,
        check: Callable[[Connection], None],
    ) -> int | None:
        """Store a message, which is due at once.

        :param values: its receiver, signal, payload, headers and queue.
        :param returns_id: whether to return its id; PostgreSQL takes longer then.
        :param check: called with a connection before the first insert of an engine into a schema;
            may refuse it by an error.
        """
        is_returned = returns_id and connection.dialect.name != "sqlite"
        statement = self._insert_returning if is_returned else self._insert
        try:
            result = self._execute(connection, statement, values, check)
        except StatementError as error:
            error.hide_parameters = True  # they contain the payload
            raise
        if not returns_id:
            return None
        number: int = result.scalar_one() if is_returned else result.lastrowid
        return number

    def claim(
        self, connection: Connection, limit: int, queue: str | None, resend: float
    ) -> Sequence[Any]:
        """Return messages that are due, without their payload, and make them due later.

        :param limit: how many at most.
        :param queue: the only queue, or ``None`` for all.
        :param resend: the time until they are due again if they do not begin, in seconds.
        """
        values: dict[str, Any] = {"limit": limit, "resend": resend}
        if queue is not None:
            values["only"] = queue
        return self._execute(connection, self._claims[queue is not None], values).all()

    def begin(self, connection: Connection, number: int, attempt: int, timeout: float) -> Any:
        """Begin the next run of a message, and return it; ``None`` if another worker did so before.

        :param attempt: how often it had run.
        :param timeout: the time until it is due again if it does not end, in seconds.
        """
        values = {"row_id": number, "row_attempt": attempt, "timeout": timeout}
        return self._execute(connection, self._begin, values).one_or_none()

    def lease(self, connection: Connection, number: int, attempt: int, timeout: float) -> None:
        """Change the time until a run that has begun counts as lost."""
        values = {"row_id": number, "row_attempt": attempt, "timeout": timeout}
        self._execute(connection, self._lease, values)

    def finish(self, connection: Connection, number: int, attempt: int) -> bool:
        """Delete a message; return false if it is another worker's now."""
        values = {"row_id": number, "row_attempt": attempt}
        return self._execute(connection, self._finish, values).rowcount == 1

    def retry(
        self,
        connection: Connection,
        number: int,
        attempt: int,
        delay: float,
        reason: str,
        headers: str | None = None,
    ) -> bool:
        """Make a message due again after a time in seconds.

        :param headers: its new headers, or ``None`` to leave them.
        :return: false if it is another worker's now, or dead.
        """
        values = {
            "row_id": number,
            "row_attempt": attempt,
            "delay": delay,
            "reason": reason,
            "new_headers": headers,
        }
        return self._execute(connection, self._retry, values).rowcount == 1

    def kill(self, connection: Connection, number: int, attempt: int, reason: str) -> bool:
        """Make a message dead; return false if it is another worker's now, or dead already."""
        values = {"row_id": number, "row_attempt": attempt, "reason": reason}
        return self._execute(connection, self._kill, values).rowcount == 1

    def seconds_to_next(self, connection: Connection, queue: str | None) -> float | None:
        """Return the time until the next message is due, or ``None`` without any."""
        values = {} if queue is None else {"only": queue}
        found: float | None = self._execute(
            connection, self._next[queue is not None], values
        ).scalar()
        return found

    def _execute(
        self,
        connection: Connection,
        statement: Executable,
        values: dict[str, Any],
        check: Callable[[Connection], None] | None = None,
    ) -> CursorResult[Any]:
        """Execute a statement with values for its parameters.

        It is compiled once for each engine. SQLAlchemy's own cache needs a key, which takes longer
        to build than SQLite takes to insert a row.

        :param check: as for :meth:`insert`.
        """
        compiled = self._compiled.setdefault(connection.dialect, {})
        key = statement, schema_in(self.table, connection)
        text = compiled.get(key)
        if text is None:
            if check is not None:
                check(connection)
            how = connection.dialect, self.table.schema, key[1]
            text = compiled[key] = _Compiled(statement, *how)
        return connection.exec_driver_sql(text.sql, text.parameters(values))


class _Compiled:
    """A statement as the text that a driver gets.

    :param statement: the statement.
    :param dialect: its dialect.
    :param declared: the table's schema.
    :param used: the one to use instead.
    """

    def __init__(
        self, statement: Any, dialect: Any, declared: str | None, used: str | None
    ) -> None:
        how: dict[str, Any] = {}
        if used != declared:
            how = {"schema_translate_map": {declared: used}, "render_schema_translate": True}
        compiled = statement.compile(dialect=dialect, **how)
        self.sql: str = compiled.string
        self._defaults: dict[str, Any] = compiled.construct_params(_check=False)
        names = compiled.positiontup if compiled.positional else None
        self._arrange: Callable[[dict[str, Any]], Any] = dict if names is None else _getter(names)

    def parameters(self, values: dict[str, Any]) -> Any:
        """Return the parameters as the driver takes them."""
        return self._arrange({**self._defaults, **values})


def _getter(names: list[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    """Return a function that returns the values of these names as a tuple."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)


def schema_in(table: Table, connection: Any) -> str | None:
    """Return the schema of a table on a connection or engine, which may translate it."""
    schema: str | None = table.schema
    schemas = connection.get_execution_options().get("schema_translate_map")
    return schemas.get(schema, schema) if schemas else schema


def check_database(table: Table, connection: Connection, engine: Any) -> None:
    """Refuse a connection to another database than that of the table, or to one without it.

    :param engine: the engine of the table.
    :raises ConfigurationError: naming both.
    """
    schema, known = schema_in(table, connection), schema_in(table, engine)
    used = engine_label(connection.engine)
    if schema != known:
        raise ConfigurationError(
            f"The session uses schema {schema!r} of {used}, but the outbox is in schema {known!r}: "
            "the workers of an app read one table, so all sessions must translate its schema to "
            "the same."
        )
    if connection.engine is not engine and connection.engine.url != engine.url:
        raise ConfigurationError(
            f"The session uses {used}, but the outbox is in {engine_label(engine)}: a durable "
            "receiver's message is stored in the sender's transaction, so both must be one "
            "database."
        )
    missing = missing_part(table, connection)
    if missing:
        raise ConfigurationError(
            f"There is no {missing} in {used}, which durable receivers need. {HOW_TO_CREATE}"
        )


def missing_part(table: Table, connection: Connection) -> str | None:
    """Name what a database lacks of the table; return ``None`` if it is complete."""
    inspector, schema = inspect(connection), schema_in(table, connection)
    if not inspector.has_table(NAME, schema=schema):
        return f"table {NAME!r}"
    existing = {column["name"] for column in inspector.get_columns(NAME, schema=schema)}
    missing = [repr(column.name) for column in table.columns if column.name not in existing]
    return f"column {', '.join(missing)} in table {NAME!r}" if missing else None
