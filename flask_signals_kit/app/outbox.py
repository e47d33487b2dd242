"""One app's durable messages: how they are stored, given to an engine, and run.

A message is a row of the table :mod:`~flask_signals_kit.deliveries.durable.table`. Three steps use
it: a send stores it in the sender's transaction; a worker claims what is due; and runs it.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias
from uuid import uuid4
from weakref import WeakValueDictionary

from flask import Flask

from ..compat import is_current
from ..core.delivery import Call, LateResult, add_note
from ..core.introspection import LazyEmission, carried_emission, frame_place, is_reloaded
from ..deliveries.durable.delivery import TIMEOUT, Discard, Durable, RetryAfter, default_backoff
from ..deliveries.durable.payload import (
    Headers,
    decode,
    emission_of,
    encode,
    headers_in,
    hints_of,
)
from ..deliveries.durable.table import (
    DIALECTS,
    NAME,
    RESEND,
    Queries,
    Statements,
    missing_part,
    outbox_table,
    reading,
    writing,
)
from ..deliveries.sqlite import engine_label
from ..deliveries.transactions import pending_in
from ..errors import (
    ConfigurationError,
    DeadMessageError,
    DuplicateReceiverError,
    PayloadError,
    type_name,
)

if TYPE_CHECKING:
    from ..core.connection import LiveConnection
    from .contract import Contract

logger: logging.Logger = logging.getLogger("flask_signals_kit")

_running: ContextVar[Headers | None] = ContextVar("signals_kit_message", default=None)
"""The message whose receiver is running."""


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

        ``message`` is the id of a message. The message may be carried twice or
        lost: it is due again until it has run.
        """


RunStatus: TypeAlias = Literal["ran", "failed", "discarded", "dead", "too_slow"]
"""How a run ended; ``failed``: it is run again; ``too_slow``: another worker has begun it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunResult:
    """How one run of a message ended."""

    message: int
    """The id of the message."""
    attempt: int
    """The number of the run."""
    receiver: str
    """The name of the receiver."""
    signal: str
    """The signal's name."""
    status: RunStatus
    """How it ended."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Claimed:
    """A message that was due and is to be run."""

    id: int
    """The id of the message."""
    attempt: int
    """How often it has run."""
    queue: str | None
    """Its queue."""
    signal: str
    """The name of the signal."""
    receiver: str
    """The name of the receiver."""
    headers: str
    """Its headers, as text."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """A run of a message that has begun."""

    message: int
    attempt: int
    is_used_up: bool
    row: Any
    headers: Headers
    connection: LiveConnection | None
    delivery: Durable
    emission: LazyEmission

    @property
    def signal(self) -> str:
        """The signal's name."""
        return str(self.row.signal)

    @property
    def receiver(self) -> Any:
        """The receiver; ``None`` if it is gone."""
        return None if self.connection is None else self.connection.resolve()

    @property
    def max_attempts(self) -> int:
        """The attempt after which the message is dead."""
        return self.headers.spent + self.delivery.max_attempts

    def ended(self, status: RunStatus) -> RunResult:
        """Return how the run ended."""
        return RunResult(
            message=self.message,
            attempt=self.attempt,
            receiver=self.row.receiver,
            signal=self.signal,
            status=status,
        )

    def __str__(self) -> str:
        place = self.row.receiver if self.connection is None else self.connection.place
        return f"receiver {place} of signal {self.signal!r}, message {self.message}"


class _Stored:
    """Stands for a stored message among the calls that wait for a commit."""

    def __init__(self, call: Call, committed: Callable[[], None]) -> None:
        self._call = call
        self._committed = committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def run_contained(self, within: AbstractContextManager[Any] | None = None) -> None:
        """Report that the transaction has committed: the message is due."""
        self._committed()


class _Here:
    """The engine that runs messages at once."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def submit(self, message: int, attempt: int, queue: str | None, /) -> None:
        self._outbox.run(message, attempt)


class _OutrunError(Exception):
    """The message is another worker's now."""


class Outbox:
    """The durable messages of one app.

    :param app_signals: the app's signals, which own this object.
    :param metadata: the metadata that the table belongs to.
    :param engine: the engine of the table; ``None`` for that of the app's session.
    """

    def __init__(self, app_signals: Any, metadata: Any, engine: Any = None) -> None:
        self._app_signals: Callable[[], Any] = weakref.ref(app_signals)
        self._statements = Statements(outbox_table(metadata))
        self._engine = engine
        self._process = os.getpid()
        self._has_table = False
        self._hints: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._results: WeakValueDictionary[str, LateResult] = WeakValueDictionary()
        """The results that the journal shows, by the id of the message."""
        self.embedded: Any = None
        """The engine of this process, which has ``wake()`` and ``close(app)``; or ``None``."""

    # -- what it needs ------------------------------------------------------------------------

    @property
    def _signals(self) -> Any:
        app_signals = self._app_signals()
        if app_signals is None:
            raise DeadMessageError("The app of this outbox no longer exists.")
        return app_signals

    @property
    def app(self) -> Flask:
        """The app."""
        app: Flask = self._signals.app
        return app

    def engine(self) -> Any:
        """Return the engine of the table.

        :raises ConfigurationError: if it is not known, or its database cannot be used.
        """
        if self._engine is None:
            # Only outside of the app's context: the end of another one may close the session.
            with nullcontext() if is_current(self.app) else self.app.app_context():
                session = self._session(None)
                if session is None:
                    raise ConfigurationError(
                        f"The database of {NAME} is not known: name it, as in "
                        "kit.use_outbox(metadata, engine)."
                    )
                self._engine = session.get_bind(clause=self._statements.table).engine
        if self._process != os.getpid():  # forked: connections must not be shared with the parent
            self._engine.dispose(close=False)
            self._process = os.getpid()
        dialect = self._engine.dialect
        if dialect.name not in DIALECTS or dialect.is_async:
            kind = f"{dialect.name} with the async driver {dialect.driver}"
            raise ConfigurationError(
                f"Durable receivers need an engine of SQLite or PostgreSQL that is not async; this "
                f"one is of {kind if dialect.is_async else dialect.name}."
            )
        return self._engine

    def _session(self, delivery: Durable | None) -> Any:
        """Return the session of a receiver; create it if need be."""
        own = None if delivery is None else delivery.session
        sources = self._signals.sessions._sources() if own is None else [own]
        found = (source.open() for source in sources)
        return next((session for session in found if session is not None), None)

    def check(self, connection: LiveConnection) -> None:
        """Refuse a receiver whose name is that of another one.

        :raises DuplicateReceiverError: naming both.
        """
        name = receiver_name(connection)
        registry = self._signals.registry
        for other in (*registry.connections, *registry.parent.connections):
            if (
                isinstance(other.options.delivery, Durable)
                and other.key[0] != connection.key[0]
                and other.target == connection.target
                and receiver_name(other) == name
                and not is_reloaded(connection.resolve(), other.resolve())
            ):
                raise DuplicateReceiverError(
                    f"Two durable receivers of signal {connection.target!r} have the name "
                    f"{name!r}: {other.place} and {connection.place}. A message stores only the "
                    "name, so give one of them a uid."
                )

    # -- sending ------------------------------------------------------------------------------

    def store(self, call: Call, delivery: Durable) -> None:
        """Store a call, in the transaction that was open when the signal was sent.

        :raises PayloadError: for a sender or a payload that cannot be stored.
        :raises ConfigurationError: if the session uses another database, or one without the table.
        """
        pending: Any = call.transaction
        if pending is None and _running.get() is not None:
            session = self._session(delivery)  # it commits with the end of the running message
        elif pending is None or pending.is_committed:
            session = None
        elif pending.has_ended:  # by an earlier receiver of the same emission
            pending.keep(call)
            return
        else:
            session = pending.session
        if session is None:
            values = self._values(call, delivery)
            with self.engine().begin() as connection:
                message = self._insert(connection, values)
            self._committed(call._late, message)
            return
        session.flush()  # so that new instances have their primary key
        connection = session.connection(bind_arguments={"clause": self._statements.table})
        message = self._insert(connection, self._values(call, delivery))
        waiting: Any = pending or pending_in(session)
        waiting.keep(_Stored(call, partial(self._committed, call._late, message)))

    def _committed(self, late: LateResult | None, message: int) -> None:
        if late is not None:
            late.message = message
        self.wake()

    def wake(self) -> None:
        """Let the engine of this process know that a message is due."""
        if self.embedded is not None:
            self.embedded.wake()

    def close(self, app: Flask) -> None:
        """Stop the engine of this process."""
        if self.embedded is not None:
            self.embedded.close(app)

    def _insert(self, connection: Any, values: dict[str, Any]) -> int:
        engine = self.engine()
        if connection.engine is not engine and connection.engine.url != engine.url:
            raise ConfigurationError(
                f"The session uses {engine_label(connection.engine)}, but the outbox is in "
                f"{engine_label(engine)}: a durable receiver's message is stored in the sender's "
                "transaction, so both must be one database."
            )
        if not self._has_table:
            missing = missing_part(self._statements.table, connection)
            if missing:
                raise ConfigurationError(
                    f"There is no {missing} in {engine_label(connection.engine)}, which durable "
                    "receivers need: create it with db.create_all(), or by a migration."
                )
            self._has_table = True
        return self._statements.insert(connection, values)

    def _values(self, call: Call, delivery: Durable) -> dict[str, Any]:
        name, lazy, running = call._context.name, call._emission, _running.get()
        emission, message = lazy.emission, uuid4().hex
        if call._late is not None:
            self._remember(message, call._late, call, delivery)
        if lazy.correlation_id is None:
            lazy.correlation_id = message if running is None else running.correlation
        contract, site = self._contract(name), emission.site
        headers = Headers(
            id=message,
            correlation=lazy.correlation_id,
            causation=None if running is None else running.id,
            sent_at=time.time(),
            sender=emission.sender,
            request=emission.request,
            site=None if site is None else (site.module, site.name, site.file, site.line),
            version=1 if contract is None else contract.version,
        )
        return {
            "receiver": receiver_name(call._connection),
            "signal": name,
            "payload": encode(name, call.app, call._sender, call._payload, self._hints_of(name)),
            "headers": headers.to_text(),
            "queue": delivery.queue,
        }

    def _remember(self, message: str, late: LateResult, call: Call, delivery: Durable) -> None:
        """Find the result of a call by the id of its message, as long as the journal keeps it."""
        late.number, late.attempts = call.number, delivery.max_attempts
        if self._signals.requests is not None:
            late.request = self._signals.requests.of(call._context.name, sys._getframe())
        self._results[message] = late

    def _result(self, message: str | None) -> LateResult:
        """Return the result of a call; a new one if this process has not recorded its send."""
        return self._results.get(message or "") or LateResult()

    def _contract(self, signal: str) -> Contract | None:
        handle = self._signals.registry.handle(signal)
        return None if handle is None else handle.contract

    def _hints_of(self, signal: str) -> dict[str, Any]:
        contract = self._contract(signal)
        stub = None if contract is None else contract.stub
        known, hints = self._hints.get(signal, (None, {}))
        if known is not stub:
            hints = hints_of(stub)
            self._hints[signal] = stub, hints
        return hints

    # -- reading ------------------------------------------------------------------------------

    @property
    def queries(self) -> Queries:
        """What can be read of the table."""
        return Queries(self._statements.table)

    def reading(self) -> AbstractContextManager[Any]:
        """Return a context manager that gives a connection to read the table with.

        :raises OutboxError: if the database cannot be used, or lacks a part of the table.
        """
        return reading(self.engine(), self._statements.table)

    def emission_of(self, message: str) -> int | None:
        """Return the number of a message's emission, as long as the journal of this process has it.

        :param message: the id of the message, which is also the idempotency key.
        """
        return self._result(message).number

    def max_attempts(self, signal: str, receiver: str) -> int | None:
        """Return how often a receiver is run at most; ``None`` if there is none of this name."""
        live = self._find(signal, receiver)
        return None if live is None else live.options.delivery.max_attempts

    def missing(self) -> str | None:
        """Name what the database lacks of the table, and the database; ``None`` if it is complete.

        :raises OutboxError: if the database cannot be used.
        """
        with self.reading() as connection:
            found = missing_part(self._statements.table, connection)
        return None if found is None else f"{found} in {engine_label(self.engine())}"

    # -- changing by a command ----------------------------------------------------------------

    def retry(self, where: list[Any]) -> Iterator[int]:
        """Make dead messages due again, in batches; each gets as many attempts as a new one.

        Messages that wait or run are left alone, and those whose headers are damaged.

        :param where: the conditions of :meth:`.Queries.where`.
        :return: yields the number of the messages in each batch.
        :raises OutboxError: if the database cannot be used.
        """
        queries = self.queries
        for rows in self._batches([*where, *queries.where(status="dead")]):
            done = 0
            with writing(self.engine(), self._statements.table) as connection:
                for row in rows:
                    headers = headers_in(row.headers)
                    if headers is not None:
                        new = headers.renewed(row.attempt).to_text()
                        done += queries.revive(connection, row.id, row.attempt, new)
            yield done

    def discard(self, where: list[Any]) -> Iterator[int]:
        """Delete messages, in batches; those that run are left alone.

        :param where: the conditions of :meth:`.Queries.where`.
        :return: yields the number of the messages in each batch.
        :raises OutboxError: if the database cannot be used.
        """
        queries = self.queries
        where = [*where, queries.not_running]
        for rows in self._batches(where):
            with writing(self.engine(), self._statements.table) as connection:
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

    # -- working ------------------------------------------------------------------------------

    def seconds_to_next(self, queue: str | None = None) -> float | None:
        """Return the time until the next message is due, or ``None`` without any.

        :param queue: the only queue, or ``None`` for all.
        """
        with self.reading() as connection:
            return self._statements.seconds_to_next(connection, queue)

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

        :param engine: its ``submit(id, attempt, queue)`` is called for each message.
        :param limit: how many messages at most.
        :param queue: the only queue, or ``None`` for all.
        :param resend: the time after which a message that has not begun is due again, in seconds.
        :return: the number of messages.
        """
        claimed = self.claim(limit, queue=queue, resend=resend)
        for message in claimed:
            engine.submit(message.id, message.attempt, message.queue)
        return len(claimed)

    def claim(
        self, limit: int = 100, *, queue: str | None = None, resend: float = RESEND
    ) -> list[Claimed]:
        """Return messages that are due, and make them due later.

        :param limit: how many messages at most.
        :param queue: the only queue, or ``None`` for all.
        :param resend: the time after which a message that has not begun is due again, in seconds.
        """
        with self.engine().begin() as connection:
            rows = self._statements.claim(connection, limit, queue, resend)
        return [Claimed(**row) for row in rows]

    def delivery_of(self, signal: str, receiver: str) -> Durable | None:
        """Return the delivery of a durable receiver; ``None`` if there is no such receiver."""
        live = self._find(signal, receiver)
        delivery: Durable | None = None if live is None else live.options.delivery
        return delivery

    def run_due(self) -> int:
        """Run the messages that are due here, one after the other, until none is due.

        For tests and scripts. Receivers run in app contexts of their own.

        :return: how many runs there were, including those that failed.
        """
        engine, count = _Here(self), 0
        while forwarded := self.forward(engine):
            count += forwarded
        return count

    def run(self, message: int, attempt: int) -> RunResult | None:
        """Run a message, if it has not begun since it was claimed.

        :param message: the id of the message.
        :param attempt: how often it had run when it was claimed.
        :return: how the run ended; ``None`` if the message has begun since it was claimed.
        """
        app = self.app
        with app.app_context():
            run = self._begin(message, attempt)
            if run is None:
                return None
            carried, running = carried_emission.set(run.emission), _running.set(run.headers)
            try:
                with self._joined(run):
                    return run.ended(self._run(run))
            finally:
                _running.reset(running)
                carried_emission.reset(carried)

    @contextmanager
    def _joined(self, run: _Run) -> Generator[None, None, None]:
        """Let the journal show a run at its emission, if this process has recorded that."""
        late, requests = self._result(run.headers.id), self._signals.requests
        if requests is not None and late.request is not None:
            requests.resume(late.request)
        late.begin(run.attempt, run.max_attempts)
        try:
            yield
        finally:
            late.is_running = False

    def _begin(self, message: int, attempt: int) -> _Run | None:
        with self.engine().begin() as connection:
            row = self._statements.begin(connection, message, attempt, TIMEOUT)
            if row is None:
                return None
            live = self._find(row.signal, row.receiver)
            delivery: Durable = _UNKNOWN if live is None else live.options.delivery
            headers = Headers.from_text(row.headers) or _DAMAGED
            is_used_up = row.attempt > headers.spent + delivery.max_attempts
            if is_used_up:
                connection.rollback()  # the run does not begin
            elif delivery.timeout != TIMEOUT:
                self._statements.lease(connection, message, row.attempt, delivery.timeout)
        return _Run(
            message=message,
            attempt=attempt if is_used_up else row.attempt,
            is_used_up=is_used_up,
            row=row,
            headers=headers,
            connection=live,
            delivery=delivery,
            emission=LazyEmission.of(emission_of(row, headers, self._result(headers.id).number)),
        )

    def _find(self, signal: str, name: str) -> LiveConnection | None:
        """Return the connection of a durable receiver."""
        for connection in self._signals.registry.resolve(signal):
            if (
                isinstance(connection.options.delivery, Durable)
                and receiver_name(connection) == name
                and connection.is_alive
            ):
                found: LiveConnection = connection
                return found
        return None

    def _run(self, run: _Run) -> RunStatus:
        """Run a receiver; store the result if it does not return."""
        late, began = self._result(run.headers.id), perf_counter()
        try:
            call = self._prepare(run)
        except (DeadMessageError, PayloadError) as error:
            self._roll_back()
            self._bury(run, error, str(error))
            return "dead"
        except Exception as error:  # noqa: BLE001  of the database, or of the upgrade
            self._roll_back()
            return self._fail(run, error, began)
        try:
            call.run(self._own_transaction(run))
        except _OutrunError:
            logger.warning("The run of %s took too long: another worker has begun it.", run)
            return "too_slow"
        except Discard as asked:
            logger.info("%s is discarded: %s", run, asked.reason)
            with self.engine().begin() as connection:
                self._statements.finish(connection, run.message, run.attempt)
            late.drop(f"discarded: {asked.reason}")
            return "discarded"
        except Exception as error:  # noqa: BLE001  of the receiver
            return self._fail(run, error, began)
        late.ran(began, None)
        return "ran"

    def _prepare(self, run: _Run) -> Call:
        """Return the call for a run.

        :raises DeadMessageError: if there is no receiver, or its attempts are used up.
        :raises PayloadError: if the message cannot be read.
        """
        if run.headers is _DAMAGED:
            raise PayloadError("The stored headers are damaged.")
        if run.connection is None or run.receiver is None:
            raise DeadMessageError(
                f"There is no durable receiver {run.row.receiver!r} of signal {run.signal!r}: it "
                "was renamed or removed, or its module is not imported here."
            )
        if run.is_used_up:
            raise DeadMessageError(
                f"Receiver {run.row.receiver!r} of signal {run.signal!r} has begun {run.attempt} "
                f"times, and its last run did not end within {run.delivery.timeout:g} s."
            )
        sender, payload = self._decode(run)
        context = self._signals.namespace.signal(run.signal).context
        number = run.emission.emission.number or 0
        return Call(
            context, run.connection, run.receiver, sender, payload, run.emission, None, number
        )

    def _decode(self, run: _Run) -> tuple[Any, dict[str, Any]]:
        """Return the sender and the payload; names that are no longer declared are left out."""
        contract, version, upgrade = self._contract(run.signal), run.headers.version, None
        if contract is not None and contract.upgrade is not None and version < contract.version:
            upgrade = partial(_call_upgrade, contract.upgrade, version)
        hints, load = self._hints_of(run.signal), partial(self._load, run)
        sender, payload = decode(run.row.payload, self.app, hints, load, upgrade)
        missing = [] if contract is None else [n for n in contract.required if n not in payload]
        if missing:
            raise PayloadError(
                f"The stored payload lacks {', '.join(map(repr, missing))}: declare the signal "
                "with a higher version and an upgrade."
            )
        if contract is not None and not contract.open:
            payload = {name: payload[name] for name in contract.names if name in payload}
        return sender, payload

    def _load(self, run: _Run, kind: type, key: Any) -> Any:
        session = self._session(run.delivery)
        if session is None:
            raise ConfigurationError(f"There is no session to load {kind.__qualname__} with.")
        return session.get(kind, key)

    @contextmanager
    def _own_transaction(self, run: _Run) -> Generator[None, None, None]:
        """Commit what a receiver has written, together with the end of its message."""
        try:
            yield
            session = self._session(run.delivery)
            for other in self._open_sessions():
                if other is not session:
                    other.commit()
            if session is None:
                with self.engine().begin() as connection:
                    self._finish(connection, run)
            else:
                self._finish(
                    session.connection(bind_arguments={"clause": self._statements.table}), run
                )
                session.commit()
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        for session in self._open_sessions():
            session.rollback()

    def _open_sessions(self) -> Iterator[Any]:
        return (session for session in self._signals.sessions.current() if session.in_transaction())

    def _finish(self, connection: Any, run: _Run) -> None:
        if not self._statements.finish(connection, run.message, run.attempt):
            raise _OutrunError

    # -- failures -----------------------------------------------------------------------------

    def _fail(self, run: _Run, error: Exception, began: float) -> RunStatus:
        add_note(error, run.emission.emission)
        asked = isinstance(error, RetryAfter)
        self._result(run.headers.id).ran(began, None if asked else error, "retrying")
        if run.attempt >= run.max_attempts:
            self._bury(run, error, _shown(error))
            return "dead"
        delay = self._delay(run, error)
        with self.engine().begin() as connection:
            self._statements.retry(connection, run.message, run.attempt, delay, _shown(error))
        logger.log(
            logging.INFO if asked else logging.WARNING,
            "Attempt %d of %d of %s %s; the next one is in %.0f s",
            run.attempt,
            run.max_attempts,
            run,
            "asked to be run again" if asked else "failed",
            delay,
            exc_info=None if asked else error,
        )
        return "failed"

    def _delay(self, run: _Run, error: Exception) -> float:
        if isinstance(error, RetryAfter):
            return error.seconds
        attempt = run.attempt - run.headers.spent
        try:
            return max(0.0, float(run.delivery.backoff(attempt)))
        except Exception:
            logger.exception("The function backoff of %s failed; the default is used", run)
            return default_backoff(attempt)

    def _bury(self, run: _Run, error: Exception, reason: str) -> None:
        """Make a message dead, and report it."""
        with self.engine().begin() as connection:
            if not self._statements.kill(connection, run.message, run.attempt, reason):
                return
        self._result(run.headers.id).die(reason)
        logger.error(
            "Message %d of signal %r is dead, for receiver %s: %s",
            run.message,
            run.signal,
            run.row.receiver,
            reason,
            exc_info=error,
        )
        self._signals.hooks.report(error, "delivery", signal=run.signal, receiver=run.receiver)


_UNKNOWN = Durable()

_DAMAGED = Headers(id="", correlation="", sent_at=0.0, sender="?")


def receiver_name(connection: LiveConnection) -> str:
    """Return the name by which messages know a receiver: its ``uid``, else module and name."""
    place = connection.place
    return connection.options.uid or f"{place.module}.{place.name}"


def _call_upgrade(
    upgrade: Callable[[dict[str, Any], int], Any], version: int, payload: dict[str, Any]
) -> Any:
    return upgrade(payload, version)


def _shown(error: Exception) -> str:
    """Return type and place of an exception; its message may contain values."""
    place = frame_place(error)
    where = "" if place is None or not place.file else f" at {place.file}:{place.line}"
    return f"{type_name(error)}{where}"
