"""One app's durable messages: how they are stored, given to an engine, and run.

A message is a row of the table :mod:`~flask_signals_kit.deliveries.durable.table`. Three steps use
it: a send stores it in the sender's transaction; a worker claims what is due; and runs it.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from flask import Flask

from ..compat import is_current
from ..core.delivery import Call, add_note
from ..core.introspection import LazyEmission, carried_emission, frame_place, is_reloaded
from ..deliveries.durable.delivery import TIMEOUT, Discard, Durable, RetryAfter, default_backoff
from ..deliveries.durable.payload import Headers, decode, encode, hints_of, names_in
from ..deliveries.durable.table import (
    DIALECTS,
    NAME,
    RESEND,
    Statements,
    missing_part,
    outbox_table,
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
from ..records import Emission, Place

if TYPE_CHECKING:
    from ..core.connection import LiveConnection
    from .contract import Contract

logger: logging.Logger = logging.getLogger("flask_signals_kit")

_running: ContextVar[Headers | None] = ContextVar("signals_kit_message", default=None)
"""The message whose receiver is running."""


class Engine(Protocol):
    """Carries messages to workers; the type of ``SIGNALS_KIT_ENGINE``.

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Run:
    """A run of a message that has begun."""

    message: int
    attempt: int
    signal: str
    payload: str
    headers: Headers
    connection: LiveConnection
    delivery: Durable
    emission: LazyEmission

    @property
    def receiver(self) -> Any:
        """The receiver; ``None`` if it is weak and was collected."""
        return self.connection.resolve()

    def __str__(self) -> str:
        place = self.connection.place
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
        self._has_table = False
        self._hints: dict[str, tuple[Any, dict[str, Any]]] = {}
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
                self._insert(connection, values)
            self.wake()
            return
        session.flush()  # so that new instances have their primary key
        connection = session.connection(bind_arguments={"clause": self._statements.table})
        self._insert(connection, self._values(call, delivery))
        waiting: Any = pending or pending_in(session)
        waiting.keep(_Stored(call, self.wake))

    def wake(self) -> None:
        """Let the engine of this process know that a message is due."""
        if self.embedded is not None:
            self.embedded.wake()

    def close(self, app: Flask) -> None:
        """Stop the engine of this process."""
        if self.embedded is not None:
            self.embedded.close(app)

    def _insert(self, connection: Any, values: dict[str, Any]) -> None:
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
        self._statements.insert(connection, values)

    def _values(self, call: Call, delivery: Durable) -> dict[str, Any]:
        name, lazy, running = call._context.name, call._emission, _running.get()
        emission, message = lazy.emission, uuid4().hex
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

    # -- working ------------------------------------------------------------------------------

    def seconds_to_next(self, queue: str | None = None) -> float | None:
        """Return the time until the next message is due, or ``None`` without any.

        :param queue: the only queue, or ``None`` for all.
        """
        with self.engine().connect() as connection:
            # Without a transaction: one that begins by BEGIN IMMEDIATE would lock SQLite.
            reading = connection.execution_options(isolation_level="AUTOCOMMIT")
            return self._statements.seconds_to_next(reading, queue)

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
        with self.engine().begin() as connection:
            claimed = self._statements.claim(connection, limit, queue, resend)
        for message in claimed:
            engine.submit(*message)
        return len(claimed)

    def run(self, message: int, attempt: int) -> bool:
        """Run a message, if it has not begun since it was claimed.

        :param message: the id of the message.
        :param attempt: how often it had run when it was claimed.
        :return: whether the receiver returned, and its transaction has committed.
        """
        app = self.app
        with app.app_context():
            run = self._begin(message, attempt)
            if run is None:
                return False
            carried, running = carried_emission.set(run.emission), _running.set(run.headers)
            try:
                return self._run(run)
            finally:
                _running.reset(running)
                carried_emission.reset(carried)

    def _begin(self, message: int, attempt: int) -> _Run | None:
        with self.engine().begin() as connection:
            row = self._statements.begin(connection, message, attempt, TIMEOUT)
            if row is None:
                return None
            live = self._find(row.signal, row.receiver)
            delivery: Durable = _UNKNOWN if live is None else live.options.delivery
            if live is not None:
                if row.attempt > delivery.max_attempts:
                    connection.rollback()  # the run does not begin
                elif delivery.timeout != TIMEOUT:
                    self._statements.lease(connection, message, row.attempt, delivery.timeout)
        headers, damage = _headers_of(row)
        emission = LazyEmission.of(_emission_of(row, headers))
        if live is None:
            error = DeadMessageError(
                f"There is no durable receiver {row.receiver!r} of signal {row.signal!r}: it was "
                "renamed or removed, or its module is not imported here."
            )
            self._bury(message, row.attempt, error, str(error), emission, None)
            return None
        if row.attempt > delivery.max_attempts:
            error = DeadMessageError(
                f"Receiver {row.receiver!r} of signal {row.signal!r} has begun "
                f"{attempt} times, and its last run did not end within {delivery.timeout:g} s."
            )
            self._bury(message, attempt, error, str(error), emission, live.resolve())
            return None
        if damage is not None:
            self._bury(message, row.attempt, damage, str(damage), emission, live.resolve())
            return None
        return _Run(
            message=message,
            attempt=row.attempt,
            signal=row.signal,
            payload=row.payload,
            headers=headers,
            connection=live,
            delivery=delivery,
            emission=emission,
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

    def _run(self, run: _Run) -> bool:
        """Run a receiver; store the result if it does not return."""
        try:
            sender, payload = self._decode(run)
        except PayloadError as error:
            self._bury(run.message, run.attempt, error, str(error), run.emission, run.receiver)
            return False
        except Exception as error:  # noqa: BLE001  of the database, or of the upgrade
            self._fail(run, error)
            return False
        try:
            self._call(run, sender, payload)
        except _OutrunError:
            logger.warning("The run of %s took too long: another worker has begun it.", run)
        except Discard as asked:
            logger.info("%s is discarded: %s", run, asked.reason)
            with self.engine().begin() as connection:
                self._statements.finish(connection, run.message, run.attempt)
        except Exception as error:  # noqa: BLE001  of the receiver
            self._fail(run, error)
        else:
            return True
        return False

    def _decode(self, run: _Run) -> tuple[Any, dict[str, Any]]:
        """Return the sender and the payload; names that are no longer declared are left out."""
        contract, version, upgrade = self._contract(run.signal), run.headers.version, None
        if contract is not None and contract.upgrade is not None and version < contract.version:
            upgrade = partial(_call_upgrade, contract.upgrade, version)
        hints, load = self._hints_of(run.signal), partial(self._load, run)
        sender, payload = decode(run.payload, self.app, hints, load, upgrade)
        if contract is not None and not contract.open:
            payload = {name: payload[name] for name in contract.names if name in payload}
        return sender, payload

    def _call(self, run: _Run, sender: Any, payload: dict[str, Any]) -> None:
        context = self._signals.namespace.signal(run.signal).context
        call = Call(context, run.connection, run.receiver, sender, payload, run.emission, None, 0)
        call.run(self._own_transaction(run))

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
            for other in self._open_sessions():
                other.rollback()
            raise

    def _open_sessions(self) -> Iterator[Any]:
        return (session for session in self._signals.sessions.current() if session.in_transaction())

    def _finish(self, connection: Any, run: _Run) -> None:
        if not self._statements.finish(connection, run.message, run.attempt):
            raise _OutrunError

    # -- failures -----------------------------------------------------------------------------

    def _fail(self, run: _Run, error: Exception) -> None:
        add_note(error, run.emission.emission)
        if run.attempt >= run.delivery.max_attempts:
            self._bury(run.message, run.attempt, error, _shown(error), run.emission, run.receiver)
            return
        delay = self._delay(run, error)
        with self.engine().begin() as connection:
            self._statements.retry(connection, run.message, run.attempt, delay, _shown(error))
        asked = isinstance(error, RetryAfter)
        logger.log(
            logging.INFO if asked else logging.WARNING,
            "Attempt %d of %d of %s %s; the next one is in %.0f s",
            run.attempt,
            run.delivery.max_attempts,
            run,
            "asked to be run again" if asked else "failed",
            delay,
            exc_info=None if asked else error,
        )

    def _delay(self, run: _Run, error: Exception) -> float:
        if isinstance(error, RetryAfter):
            return error.seconds
        try:
            return max(0.0, float(run.delivery.backoff(run.attempt)))
        except Exception:
            logger.exception("The function backoff of %s failed; the default is used", run)
            return default_backoff(run.attempt)

    def _bury(
        self,
        message: int,
        attempt: int,
        error: Exception,
        reason: str,
        emission: LazyEmission,
        receiver: Any,
    ) -> None:
        """Make a message dead, and report it."""
        with self.engine().begin() as connection:
            if not self._statements.kill(connection, message, attempt, reason):
                return
        record = emission.emission
        logger.error(
            "Message %d of signal %r is dead: %s", message, record.signal, reason, exc_info=error
        )
        self._signals.hooks.report(error, "delivery", signal=record.signal, receiver=receiver)


_UNKNOWN = Durable()


def receiver_name(connection: LiveConnection) -> str:
    """Return the name by which messages know a receiver: its ``uid``, else module and name."""
    place = connection.place
    return connection.options.uid or f"{place.module}.{place.name}"


def _headers_of(row: Any) -> tuple[Headers, PayloadError | None]:
    """Return the headers of a row; empty ones with the error if they are damaged."""
    try:
        return Headers.from_text(row.headers), None
    except PayloadError as error:
        return Headers(id="", correlation="", sent_at=0.0, sender=""), error


def _emission_of(row: Any, headers: Headers) -> Emission:
    site = headers.site and Place(
        module=headers.site[0], name=headers.site[1], file=headers.site[2], line=headers.site[3]
    )
    return Emission(
        signal=row.signal,
        sender=headers.sender,
        payload=names_in(row.payload),
        site=site,
        request=headers.request,
        attempt=row.attempt,
        idempotency_key=headers.id,
        message_id=headers.id,
        correlation_id=headers.correlation,
        causation_id=headers.causation,
    )


def _call_upgrade(
    upgrade: Callable[[dict[str, Any], int], Any], version: int, payload: dict[str, Any]
) -> Any:
    return upgrade(payload, version)


def _shown(error: Exception) -> str:
    """Return type and place of an exception; its message may contain values."""
    place = frame_place(error)
    where = "" if place is None or not place.file else f" at {place.file}:{place.line}"
    return f"{type_name(error)}{where}"
