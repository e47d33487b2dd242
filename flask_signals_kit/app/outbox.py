"""One app's outbox: a send stores durable messages, and they are claimed, run and changed."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from flask import Flask

from ..compat import is_current
from ..core.delivery import Call, LateResult
from ..core.introspection import is_reloaded
from ..deliveries.durable.delivery import Durable, receiver_name
from ..deliveries.durable.payload import Headers
from ..deliveries.durable.queries import Queries, engine_of, reading, writing
from ..deliveries.durable.table import (
    DIALECTS,
    NAME,
    RESEND,
    Statements,
    check_database,
    missing_part,
    outbox_table,
)
from ..deliveries.sqlite import engine_label
from ..deliveries.transactions import connection_in, listen_to_begins
from ..errors import ConfigurationError, DeadMessageError, DuplicateReceiverError
from .contract import Contract
from .runs import RunResult, run
from .sessions import Sessions, plain_sessions
from .storing import store

if TYPE_CHECKING:
    from ..core.connection import LiveConnection
    from .registry import Registry


BATCH = 500
"""The number of messages that a command changes in one transaction."""


class Engine(Protocol):
    """Carries messages to workers; :meth:`Outbox.forward` gets one.

    >>> class Direct:
    ...     def __init__(self, outbox):
    ...         self.outbox = outbox
    ...     def submit(self, message, attempt, queue):
    ...         self.outbox.run(message, attempt)
    """

    def submit(self, message: int, attempt: int, queue: str | None, /) -> None:
        """Let a worker call ``outbox.run(message, attempt)``, at any time.

        The message may be carried twice or lost: it is due again until it has run.

        :param message: the id of the message.
        :param attempt: how often it had run when it was claimed.
        :param queue: its queue.
        """


class Outbox:
    """The durable messages of one app: a send stores them, and workers claim and run them.

    :param app_signals: the app's signals, which own this object.
    :param metadata: the metadata that the table belongs to.
    :param engine: the engine of the table; ``None`` for that of the app's session.
    """

    def __init__(self, app_signals: Any, metadata: Any, engine: Any = None) -> None:
        self._app_signals: Callable[[], Any] = weakref.ref(app_signals)
        self.sessions: Sessions = app_signals.sessions
        self._registry: Registry = app_signals.registry
        table = outbox_table(metadata)
        self.statements: Statements = Statements(table)
        self.queries: Queries = Queries(table)
        """What can be read of the table."""
        listen_to_begins()
        self._engine = engine
        self._found_engine: Any = None
        self._fixed_engine = engine
        """The engine of the table if it cannot change: in a test, only one that was given."""
        self._process = os.getpid()
        self.results: WeakValueDictionary[str, LateResult] = WeakValueDictionary()
        """The results that the journal shows, by the id of the message."""
        self.embedded: Any = None
        """The engine of this process, which has ``wake()`` and ``stop()``; or ``None``."""

    # -- what it needs ------------------------------------------------------------------------

    @property
    def signals(self) -> Any:
        """The app's signals."""
        app_signals = self._app_signals()
        if app_signals is None:
            raise DeadMessageError("The app of this outbox no longer exists.")
        return app_signals

    @property
    def app(self) -> Flask:
        """The app."""
        app: Flask = self.signals.app
        return app

    def engine(self) -> Any:
        """Return the engine of the table.

        It is found once. In a test, it is that of the current session, which may change.

        :raises ConfigurationError: if it is not known, or its database cannot be used.
        """
        bind = self._engine or self._bind_of_session()
        if bind is None:
            raise ConfigurationError(
                f"The database of {NAME} is not known: name it, as in "
                "kit.use_outbox(metadata, engine)."
            )
        if self._process != os.getpid():  # forked: connections must not be shared with the parent
            bind.engine.dispose(close=False)
            self._process = os.getpid()
        dialect = bind.dialect
        if dialect.name not in DIALECTS or dialect.is_async:
            kind = f"{dialect.name} with the async driver {dialect.driver}"
            raise ConfigurationError(
                f"Durable receivers need an engine of SQLite or PostgreSQL that is not async; this "
                f"one is of {kind if dialect.is_async else dialect.name}."
            )
        return engine_of(bind)

    def _bind_of_session(self) -> Any:
        """Return the engine of the app's session, or in a test the connection that it is bound to.

        Outside of the app's context it is the engine that was found last.
        """
        is_here, known = is_current(self.app), self._found_engine
        if known is not None and not (is_here and self.app.testing):
            return known
        # Only outside of the app's context: the end of another one may close the session.
        with nullcontext() if is_here else self.app.app_context():
            try:
                session = self.session(None)
            except Exception:  # for example a session that exists only in requests
                if known is None:
                    raise
                return known
            if session is None:
                return known
            bind = session.get_bind(clause=self.statements.table)
        self._found_engine = bind.engine
        if not self.app.testing:
            self._fixed_engine = bind.engine
        return bind

    @property
    def known_engine(self) -> Any:
        """The engine of the table, if it is known without a session; else ``None``."""
        return self._engine or self._found_engine

    def session(self, delivery: Durable | None) -> Any:
        """Return the session of a receiver; create it if need be."""
        own = None if delivery is None else delivery.session
        sources = self.sessions.here() if own is None else [own]
        found = (source.open() for source in sources)
        return next((session for session in found if session is not None), None)

    def connection_of(self, session: Any) -> Any:
        """Return the connection of a session's transaction to the database of the table."""
        return connection_in(session, self._fixed_engine) or session.connection(
            bind_arguments={"clause": self.statements.table}
        )

    def sessions_here(self, delivery: Durable) -> list[Any]:
        """Return the sessions of the current app context, and that of a delivery."""
        found = plain_sessions(self.sessions.here())
        own = [] if delivery.session is None else delivery.session.plain_sessions()
        return [*found, *(session for session in own if session not in found)]

    def check(self, connection: LiveConnection) -> None:
        """Refuse a receiver whose name is that of another one.

        :raises DuplicateReceiverError: naming both.
        :raises ConfigurationError: for a weak receiver.
        """
        if connection.weak:
            raise ConfigurationError(
                f"Receiver {connection.place} is durable and weak: it would be missing when its "
                "message runs. Connect it without weak=True."
            )
        for registry in self._registry.chain:
            for other in registry.connections:
                if isinstance(other.options.delivery, Durable):
                    _refuse_same_name(connection, other)

    # -- sending ------------------------------------------------------------------------------

    def store(self, call: Call, delivery: Durable) -> None:
        """Store a call, as :func:`.storing.store` describes."""
        store(self, call, delivery)

    def wake(self) -> None:
        """Let the engine of this process know that a message is due."""
        if self.embedded is not None:
            self.embedded.wake()

    def close(self) -> None:
        """Stop the engine of this process."""
        if self.embedded is not None:
            self.embedded.stop()

    def result_of(self, message: str) -> LateResult:
        """Return the result of a call; a new one if this process has not recorded its send."""
        return self.results.get(message) or LateResult()

    def contract_of(self, signal: str) -> Contract | None:
        """Return the contract of a signal."""
        handle = self._registry.handle(signal)
        return None if handle is None else handle.contract

    def check_database(self, connection: Any) -> None:
        """Refuse a connection to another database, or to one without the table."""
        check_database(self.statements.table, connection, self.engine())

    # -- reading ------------------------------------------------------------------------------

    def reading(self) -> AbstractContextManager[Any]:
        """Return a context manager that gives a connection to read the table with.

        :raises OutboxError: if the database cannot be used, or lacks a part of the table.
        """
        return reading(self.engine(), self.statements.table)

    def missing(self) -> str | None:
        """Name what the database lacks of the table, and the database; ``None`` if it is complete.

        :raises OutboxError: if the database cannot be used.
        """
        with self.reading() as connection:
            found = missing_part(self.statements.table, connection)
        return None if found is None else f"{found} in {engine_label(self.engine())}"

    # -- finding ------------------------------------------------------------------------------

    def find(self, signal: str, name: str) -> LiveConnection | None:
        """Return the connection of a durable receiver."""
        for connection in self._registry.resolve(signal):
            delivery = connection.options.delivery
            if isinstance(delivery, Durable) and receiver_name(connection) == name:
                return connection
        return None

    def delivery_of(self, signal: str, receiver: str) -> Durable | None:
        """Return the delivery of a durable receiver; ``None`` if there is no such receiver."""
        live = self.find(signal, receiver)
        delivery: Durable | None = None if live is None else live.options.delivery
        return delivery

    # -- running ------------------------------------------------------------------------------

    def seconds_to_next(self, queue: str | None = None) -> float | None:
        """Return the time until the next message is due, or ``None`` without any.

        :param queue: the only queue, or ``None`` for all.
        """
        with self.reading() as connection:
            return self.statements.seconds_to_next(connection, queue)

    def claim(
        self, limit: int = 100, *, queue: str | None = None, resend: float = RESEND
    ) -> Sequence[Any]:
        """Return messages that are due, without their payload, and make them due later.

        :param limit: how many messages at most.
        :param queue: the only queue, or ``None`` for all.
        :param resend: the time after which a message that has not begun is due again, in seconds.
        """
        with self.engine().begin() as connection:
            return self.statements.claim(connection, limit, queue, resend)

    def forward(
        self,
        engine: Engine,
        limit: int = 100,
        *,
        queue: str | None = None,
        resend: float = RESEND,
    ) -> int:
        """Give messages that are due to an engine.

        Call this again and again, in one process or in many.

        :param engine: its ``submit(message, attempt, queue)`` is called for each message.
        :param limit: how many messages at most.
        :param queue: the only queue, or ``None`` for all.
        :param resend: the time after which a message that has not begun is due again, in seconds.
        :return: the number of messages.
        """
        claimed = self.claim(limit, queue=queue, resend=resend)
        for message in claimed:
            engine.submit(message.id, message.attempt, message.queue)
        return len(claimed)

    def run_due(self) -> int:
        """Run the messages that are due here, one after the other, until none is due.

        For tests and scripts. Receivers run in app contexts of their own. If a session does not
        belong to the app context, but to the thread, end its transaction before: the runs commit
        it, or roll it back.

        :return: how many runs there were, including those that failed.
        """
        count = 0
        while claimed := self.claim():
            for message in claimed:
                self.run(message.id, message.attempt)
            count += len(claimed)
        return count

    def run(self, message: int, attempt: int) -> RunResult | None:
        """Run a message, if it has not begun since it was claimed.

        :param message: the id of the message.
        :param attempt: how often it had run when it was claimed.
        :return: how the run ended; ``None`` if the message has begun since it was claimed.
        """
        with self.app.app_context():
            return run(self, message, attempt)

    # -- changing by a command ----------------------------------------------------------------

    def retry(self, where: list[Any]) -> Iterator[int]:
        """Make messages due that are dead or wait for their next attempt, in batches.

        A dead one gets as many attempts as a new one. Other messages are not changed, nor dead ones
        whose headers are damaged.

        :param where: the conditions of :meth:`.Queries.where`.
        :return: yields the number of the messages in each batch.
        :raises OutboxError: if the database cannot be used.
        """
        queries = self.queries
        for rows in self._batches([*where, queries.retryable]):
            done = 0
            with writing(self.engine(), self.statements.table) as connection:
                for row in rows:
                    headers = row.headers if row.due is not None else _renewed(row)
                    if headers is not None:
                        done += queries.revive(connection, row.id, row.attempt, headers)
            yield done

    def discard(self, where: list[Any]) -> Iterator[int]:
        """Delete messages, in batches; those that run are not changed.

        :param where: the conditions of :meth:`.Queries.where`.
        :return: yields the number of the messages in each batch.
        :raises OutboxError: if the database cannot be used.
        """
        queries = self.queries
        where = [*where, queries.not_running]
        for rows in self._batches(where):
            with writing(self.engine(), self.statements.table) as connection:
                done = queries.discard(connection, [row.id for row in rows], where)
            yield done

    def _batches(self, where: list[Any]) -> Iterator[Any]:
        after = 0
        while True:
            with self.reading() as connection:
                rows = self.queries.batch(connection, where, after, BATCH)
            if not rows:
                return
            yield rows
            after = rows[-1].id


def _renewed(row: Any) -> str | None:
    """Return the headers of a dead message with new attempts; ``None`` if they are damaged."""
    headers = Headers.from_text(row.headers)
    return None if headers is None else headers.renewed(row.attempt).to_text()


def _refuse_same_name(connection: LiveConnection, other: LiveConnection) -> None:
    """Refuse a receiver that has the name of another one, unless it is that one reloaded.

    :raises DuplicateReceiverError: naming both.
    """
    name = receiver_name(connection)
    if (
        other.key[0] != connection.key[0]
        and receiver_name(other) == name
        and not is_reloaded(connection.resolve(), other.resolve())
    ):
        raise DuplicateReceiverError(
            f"Two durable receivers have the name {name!r}: {other.place}, connected to "
            f"{other.target!r}, and {connection.place}. A message stores only the name, so give "
            "one of them a uid."
        )
