"""One run of a durable message: it begins, calls the receiver, and ends in the database."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from threading import get_ident
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..compat import active_contexts, call_inside
from ..core.delivery import Call, LateResult, add_note
from ..core.introspection import LazyEmission, carried_emission, frame_place
from ..deliveries.durable.delivery import (
    TIMEOUT,
    Discard,
    Durable,
    RetryAfter,
    default_backoff,
    limited,
)
from ..deliveries.durable.payload import Headers, decode, names_in, site_of
from ..errors import ConfigurationError, DeadMessageError, PayloadError, type_name
from ..records import ASKED, Emission

if TYPE_CHECKING:
    from ..core.connection import LiveConnection
    from .contract import Contract
    from .outbox import Outbox

logger: logging.Logger = logging.getLogger("flask_signals_kit")

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
    ended: float
    """When its end was stored, on ``time.perf_counter``."""
    error: BaseException | None = None
    """What the receiver raised, or why it could not run; ``None`` if neither."""


class _OutrunError(Exception):
    """The message is another worker's now."""


class _UsedUpError(Exception):
    """The message has no attempts left, so the run does not begin."""


MISSES = 6
"""After how many runs in a row that do not find its receiver, or its version, a message is dead.
That takes 16 minutes, in which a release can be replaced. These runs do not count as attempts."""

_UNKNOWN = Durable()
"""The delivery of a receiver that is not found."""

_DAMAGED = Headers(id="", correlation="", sent_at=0.0, sender="?")

current_run: ContextVar[_Run | None] = ContextVar("signals_kit_message", default=None)
"""The run of the message whose receiver is running in this context."""


def run(outbox: Outbox, message: int, attempt: int) -> RunResult | None:
    """Run a message in the current app context.

    :param message: the id of the message.
    :param attempt: how often it had run when it was claimed.
    :return: how the run ended; ``None`` if the message has begun since it was claimed.
    """
    begun: _Run | None = None
    with suppress(_UsedUpError), outbox.engine().begin() as connection:
        begun = _begin(outbox, connection, message, attempt)
        if begun is not None and begun.is_used_up:
            raise _UsedUpError  # this rolls back; in a test, perhaps to a savepoint only
    if begun is None:
        return None
    if begun.is_used_up:
        begun.attempt, begun.last_end = attempt, _last_end(begun)
    with begun.current():
        status, error = begun.execute()
        ended = begun.end_stored or perf_counter()
    return RunResult(
        message=message,
        attempt=begun.attempt,
        receiver=begun.row.receiver,
        signal=begun.signal,
        status=status,
        ended=ended,
        error=error,
    )


def run_before_commit(outbox: Outbox, message: int, session: Any) -> None:
    """Run a message in the transaction that has stored it, which is still open. For tests.

    :param message: the id of the message.
    :param session: the session of the transaction; it is not committed.
    :raises Exception: what the receiver raised, or why it could not run.
    """
    begun = _begin(outbox, outbox.connection_of(session), message, 0)
    if begun is not None:
        with begun.current():
            begun.execute_in(session)


def _begin(outbox: Outbox, connection: Any, message: int, attempt: int) -> _Run | None:
    """Begin a run.

    :return: ``None`` if the message has begun since it was claimed.
    """
    row = outbox.statements.begin(connection, message, attempt, TIMEOUT)
    if row is None:
        return None
    live = outbox.find(row.signal, row.receiver)
    delivery: Durable = _UNKNOWN if live is None else live.options.delivery
    headers = Headers.from_text(row.headers) or _DAMAGED
    late = outbox.result_of(headers.id)
    begun = _Run(
        outbox=outbox,
        headers=headers,
        delivery=delivery,
        app_context=next(active_contexts()),
        threads={get_ident()},
        message=message,
        attempt=row.attempt,
        row=row,
        connection=live,
        contract=outbox.contract_of(row.signal),
        emission=_StoredEmission(row, headers, late),
        late=late,
        began=perf_counter(),
    )
    if delivery.timeout != TIMEOUT and not begun.is_used_up:
        outbox.statements.lease(connection, message, row.attempt, delivery.timeout)
    return begun


def _last_end(run: _Run) -> str:
    """Describe how the last run of a message ended."""
    with run.outbox.reading() as connection:
        row = run.outbox.queries.find(connection, run.message)
    error = None if row is None else row.error
    return error or f"it did not end within {run.delivery.timeout:g} s, or its process was killed"


class _StoredEmission(LazyEmission):
    """The record of the emission that a message was stored for, created on first use.

    Only :attr:`emission` and :attr:`correlation_id` can be read of it.
    """

    __slots__ = ("_headers", "_late", "_row")

    def __init__(self, row: Any, headers: Headers, late: LateResult) -> None:
        self._row = row
        self._headers = headers
        self._late = late
        self._record = None
        self.correlation_id = headers.correlation

    @property
    def emission(self) -> Emission:
        """The record."""
        if self._record is None:
            row, headers = self._row, self._headers
            self._record = Emission(
                signal=row.signal,
                sender=headers.sender,
                payload=names_in(row.payload),
                site=site_of(headers),
                request=headers.request,
                attempt=row.attempt,
                idempotency_key=headers.id,
                message_id=headers.id,
                correlation_id=headers.correlation,
                causation_id=headers.causation,
                traceparent=headers.traceparent,
                number=self._late.number,
            )
        return self._record


@dataclass(slots=True, kw_only=True, eq=False)
class _Run:
    """A run of a message that has begun."""

    outbox: Outbox
    """Where its message is stored."""
    headers: Headers
    """Its headers."""
    delivery: Durable
    """The delivery of its receiver."""
    app_context: Any
    """The app context of the run."""
    threads: set[int]
    """The identifiers of the threads that its receiver runs in; an async one may have two."""
    message: int
    attempt: int
    row: Any
    connection: LiveConnection | None
    contract: Contract | None
    emission: LazyEmission
    late: LateResult
    began: float
    is_open: bool = True
    """Whether the transaction of the run has not ended yet."""
    end_stored: float | None = None
    """When it was stored that it is run again, or dead, on ``time.perf_counter``."""
    last_end: str | None = None
    """How the last run ended, if the attempts are used up; then this one does not begin."""

    @property
    def session(self) -> Any:
        """The session of the run, or ``None``; another one if the receiver has removed it."""
        if next(active_contexts(), None) is self.app_context:
            return self.outbox.session(self.delivery)
        # In a copy of the context: a function that creates a session may keep it in a variable.
        return call_inside(self.app_context, lambda: self.outbox.session(self.delivery))

    def joined_session(self, outbox: Outbox) -> Any:
        """Return the session in which a message is stored with the end of this one, or ``None``."""
        is_here = self.outbox is outbox and get_ident() in self.threads
        return self.session if self.is_open and is_here else None

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

    @property
    def is_used_up(self) -> bool:
        """Whether this run would be one too many."""
        return self.connection is not None and self.row.attempt > self.max_attempts

    def __str__(self) -> str:
        place = self.row.receiver if self.connection is None else self.connection.place
        return f"receiver {place} of signal {self.signal!r}, message {self.message}"

    @contextmanager
    def current(self) -> Generator[None, None, None]:
        """Make this the run that is executed here, and show it in the journal at its emission."""
        late, requests = self.late, self.outbox.signals.requests
        if requests is not None and late.request is not None:
            requests.resume(late.request)
        late.begin(self.attempt, self.max_attempts)
        carried = carried_emission.set(self.emission)
        running = current_run.set(self)
        try:
            yield
        finally:
            current_run.reset(running)
            carried_emission.reset(carried)
            late.is_running = False

    def execute(self) -> tuple[RunStatus, BaseException | None]:
        """Call the receiver; store the result if it does not return.

        :return: how it ended, and the failure.
        """
        try:
            self._check_release()
        except DeadMessageError as error:
            return self._miss(error), error
        try:
            call = self._prepare()
        except (DeadMessageError, PayloadError) as error:
            self._roll_back()
            return self._make_dead(error, str(error)), error
        except Exception as error:  # noqa: BLE001  of the database, or of the upgrade
            self._roll_back()
            return self._fail(error), error
        try:
            call.run(self._own_transaction())
        except _OutrunError:
            logger.warning("The run of %s took too long: another worker has begun it.", self)
            return "too_slow", None
        except Discard as asked:
            with self.outbox.engine().begin() as connection:
                self._discard(connection, asked)
            return "discarded", None
        except RetryAfter as asked:
            return self._fail(asked), None
        except Exception as error:  # noqa: BLE001  of the receiver
            return self._fail(error), error
        except BaseException as error:  # such as SystemExit: it ends this thread
            self._fail(error)
            raise
        self.late.ran(self.began, None)
        return "ran", None

    def execute_in(self, session: Any) -> None:
        """Call the receiver, and delete its message, in a transaction that stays open.

        What a receiver that does not return has written is rolled back.

        :param session: the session of the transaction.
        :raises Exception: what the receiver raised, or why it could not run.
        """
        try:
            self._check_release()
            call = self._prepare()
            with _savepoint(session):
                call.run()
        except RetryAfter:
            self.late.ran(self.began, None, "retrying")
        except Discard as asked:
            with self._transaction(session) as connection:
                self._discard(connection, asked)
        except Exception as error:
            self.late.ran(self.began, error)
            raise
        else:
            # A receiver that has removed the session may have written in the one that replaced it.
            current = session if session.in_transaction() else self.session
            with self._transaction(current) as connection:
                self.outbox.statements.finish(connection, self.message, self.attempt)
            self.late.ran(self.began, None)

    def _discard(self, connection: Any, asked: Discard) -> None:
        logger.info("%s is discarded: %s", self, asked.reason)
        self.outbox.statements.finish(connection, self.message, self.attempt)
        self.late.drop(f"discarded: {asked.reason}")

    def _check_release(self) -> None:
        """Refuse a message that another release of the app must run.

        :raises DeadMessageError: if its receiver or its version does not exist here.
        """
        if self.headers is _DAMAGED:
            return  # so that it is dead at once
        if self.receiver is None:
            raise DeadMessageError(
                f"There is no durable receiver {self.row.receiver!r} of signal {self.signal!r}: it "
                "was renamed or removed, or its module is not imported here."
            )
        contract, version = self.contract, self.headers.version
        if contract is not None and version > contract.version:
            raise DeadMessageError(
                f"The message was stored by version {version} of signal {self.signal!r}; here it "
                f"is declared with version {contract.version}."
            )

    def _prepare(self) -> Call:
        """Return the call of the receiver.

        :raises DeadMessageError: if the attempts are used up.
        :raises PayloadError: if the message cannot be read.
        """
        if self.headers is _DAMAGED:
            raise PayloadError("The stored headers are damaged.")
        if self.last_end is not None:
            raise DeadMessageError(
                f"Receiver {self.row.receiver!r} of signal {self.signal!r} has used up its "
                f"attempts ({self.attempt - self.headers.spent}). The last one: {self.last_end}."
            )
        live: Any = self.connection
        sender, payload = self._decode()
        context = self.outbox.signals.namespace.signal(self.signal).context
        number = self.late.number or 0
        receiver = self._in_its_thread(self.receiver) if live.is_async else self.receiver
        # With it, what the receiver sends is shown under it. The run's own result is self.late.
        late = LateResult() if context.is_observed else None
        return Call(context, live, receiver, sender, payload, self.emission, None, number, late)

    def _in_its_thread(self, receiver: Any) -> Any:
        """Let the messages that an async receiver sends be stored with the end of this one.

        Its event loop may run in another thread, while this one waits.
        """
        session = self.session

        async def run(sender: Any, /, **payload: Any) -> Any:
            if self.session is session:  # not if each thread has a session of its own
                self.threads.add(get_ident())
            return await receiver(sender, **payload)

        return run

    def _decode(self) -> tuple[Any, dict[str, Any]]:
        """Return the sender and the payload; names that are no longer declared are left out."""
        contract, version = self.contract, self.headers.version
        declared = contract.upgrade if contract and version < contract.version else None
        upgrade = None if declared is None else lambda payload: declared(payload, version)
        hints = {} if contract is None else contract.hints
        sender, payload = decode(self.row.payload, self.outbox.app, hints, self._load, upgrade)
        missing = [] if contract is None else [n for n in contract.required if n not in payload]
        if missing:
            raise PayloadError(
                f"The stored payload lacks {', '.join(map(repr, missing))}: declare the signal "
                "with a higher version and an upgrade."
            )
        if contract is not None and not contract.open:
            payload = {name: payload[name] for name in contract.names if name in payload}
        return sender, payload

    def _load(self, kind: type, key: Any) -> Any:
        session = self.session
        if session is None:
            raise ConfigurationError(f"There is no session to load {kind.__qualname__} with.")
        return session.get(kind, key)

    @contextmanager
    def _own_transaction(self) -> Generator[None, None, None]:
        """Commit what a receiver has written, together with the end of its message.

        :raises _OutrunError: if another worker has begun it.
        """
        try:
            yield
            self.is_open = False  # what the commit runs sends messages of their own
            used = list(self._open_sessions())
            session = self.session if used else None
            for other in used:
                if other is not session:
                    other.commit()
            with self._transaction(session) as connection:
                if not self.outbox.statements.finish(connection, self.message, self.attempt):
                    raise _OutrunError
            if session is not None and session.in_transaction():
                session.commit()
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        self.is_open = False
        for session in self._open_sessions():
            session.rollback()

    def _open_sessions(self) -> Iterator[Any]:
        """Return the sessions that the receiver may have used, and that have a transaction."""
        found = self.outbox.sessions_here(self.delivery)
        context = self.app_context
        if next(active_contexts(), None) is not context:  # the receiver has left another one open
            outer = call_inside(context, lambda: self.outbox.sessions_here(self.delivery))
            found += [session for session in outer if session not in found]
        return (session for session in found if session.in_transaction())

    @contextmanager
    def _transaction(self, session: Any) -> Generator[Any, None, None]:
        """Give the connection of a session's transaction, or one of its own if there is none."""
        if session is not None and session.in_transaction():
            yield self.outbox.connection_of(session)
            return
        with self.outbox.engine().begin() as connection:
            yield connection

    # -- failures -----------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> RunStatus:
        add_note(error, self.emission.emission)
        asked = isinstance(error, RetryAfter)
        self.late.ran(self.began, None if asked else error, "retrying")
        if self.attempt >= self.max_attempts:
            return self._make_dead(error, _shown(error))
        delay = _delay(self, error)
        headers = self.headers.after_run().to_text() if self.headers.missed else None
        if not self._try_again(delay, _shown(error), headers):
            return "too_slow"
        logger.log(
            logging.INFO if asked else logging.WARNING,
            "Attempt %d of %d of %s %s; the next one is in %.0f s",
            self.attempt,
            self.max_attempts,
            self,
            ASKED if asked else "failed",
            delay,
            exc_info=None if asked else error,
        )
        return "failed"

    def _miss(self, error: DeadMessageError) -> RunStatus:
        """Leave the message to a process that can run it; the attempt does not count."""
        reason, headers = str(error), self.headers.after_miss()
        self.late.begin(headers.missed, MISSES)
        self.late.ran(self.began, error, "retrying")
        if headers.missed >= MISSES:
            return self._make_dead(error, reason)
        delay = default_backoff(headers.missed)
        if not self._try_again(delay, reason, headers.to_text()):
            return "too_slow"
        logger.warning(
            "Message %d cannot be run here, %d of %d times; it is due again in %.0f s: %s",
            self.message,
            headers.missed,
            MISSES,
            delay,
            reason,
        )
        return "failed"

    def _try_again(self, delay: float, reason: str, headers: str | None = None) -> bool:
        """Make the message due after a time in seconds; return false if it is another worker's."""
        with self.outbox.engine().begin() as connection:
            is_stored = self.outbox.statements.retry(
                connection, self.message, self.attempt, delay, reason, headers
            )
            self.end_stored = perf_counter()  # after the commit, it may be claimed
        return is_stored

    def _make_dead(self, error: BaseException, reason: str) -> RunStatus:
        """Make a message dead and report it, unless another worker has begun it or did the same."""
        with self.outbox.engine().begin() as connection:
            if not self.outbox.statements.kill(connection, self.message, self.attempt, reason):
                return "too_slow"
            self.end_stored = perf_counter()  # after the commit, it may be retried by hand
        self.late.die(reason)
        logger.error(
            "Message %d of signal %r is dead, for receiver %s: %s",
            self.message,
            self.signal,
            self.row.receiver,
            reason,
            exc_info=error,
        )
        hooks = self.outbox.signals.hooks
        hooks.report(error, "delivery", signal=self.signal, receiver=self.receiver)
        return "dead"


def _delay(run: _Run, error: BaseException) -> float:
    """Return the time until the next attempt, in seconds."""
    if isinstance(error, RetryAfter):
        return error.seconds
    attempt = run.attempt - run.headers.spent
    try:
        return limited(run.delivery.backoff(attempt))
    except Exception:
        logger.exception("The function backoff of %s failed; the default is used", run)
        return default_backoff(attempt)


@contextmanager
def _savepoint(session: Any) -> Generator[None, None, None]:
    """Roll a block back if it raises. The block may end the transaction itself."""
    savepoint = session.begin_nested()
    try:
        yield
        if savepoint.is_active:
            savepoint.commit()
    except BaseException:
        current = session.get_nested_transaction()
        while current not in {None, savepoint}:  # savepoints that the block has left open
            current = current.parent
        if current is not None:  # also after a failed flush, which leaves it inactive
            savepoint.rollback()
        raise


def _shown(error: BaseException) -> str:
    """Return type and place of an exception; the message of one of the app's may have values."""
    if isinstance(error, (DeadMessageError, PayloadError)):
        return str(error)
    place = frame_place(error)
    what = ASKED if isinstance(error, RetryAfter) else type_name(error)
    where = "" if place is None or not place.file else f" at {place.file}:{place.line}"
    return f"{what}{where}"
