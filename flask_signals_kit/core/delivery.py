"""The protocol of a delivery, and the call that it gets."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from ..errors import ConfigurationError, DeadMessageError, PayloadError
from ..records import Connection, Emission, Place, Receiver, Source, Status
from .introspection import LazyEmission, carried_emission, frame_place, parent_emission, place_of

if TYPE_CHECKING:
    from .connection import LiveConnection
    from .environment import SignalContext

logger: logging.Logger = logging.getLogger("flask_signals_kit")


NO_CONTEXT: AbstractContextManager[None] = nullcontext()

LateStatus: TypeAlias = Literal["waiting", "ran", "failed", "dropped", "retrying", "dead"]
"""The status of a call that its delivery runs after the send."""

LateWatcher: TypeAlias = Callable[[LateStatus, "float | None", "str | None", "Place | None"], None]
"""Called with the status of a call, the seconds that its receiver ran, or ``None`` if it did not,
the type of its exception and the last frame of the traceback."""


class Transaction(Protocol):
    """An open transaction that a delivery can wait for."""

    def keep(self, call: Call, /) -> None:
        """Keep a call until the transaction and those that enclose it have committed."""


class Delivery(Protocol):
    """Decides how a receiver gets an emission; the type of ``delivery=``.

    >>> class Later:
    ...     name = "later"
    ...     def __init__(self):
    ...         self.calls = []
    ...     def deliver(self, call):
    ...         self.calls.append(call)
    """

    name: str
    """Its name on the page and in :class:`~flask_signals_kit.Deferred`."""

    def deliver(self, call: Call, /) -> None:
        """Run the call now, or keep it and run it later.

        If the delivery has an attribute ``session`` (``None`` for the app's session), which is read
        when a receiver connects, ``call.transaction`` is the transaction that was open there when
        the signal was sent.
        """


class LateResult:
    """The result of a call that its delivery runs after the send, for a journal or an observer.

    A delivery may run the call again: the attributes tell of the last time. A call that is stored
    in an outbox is found there by its message, so another process may run it.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_watcher",
        "attempt",
        "attempts",
        "began",
        "error",
        "is_running",
        "message",
        "number",
        "place",
        "reason",
        "request",
        "seconds",
        "status",
    )

    def __init__(self) -> None:
        self._ended: deque[tuple[LateStatus, float | None, str | None, Place | None]] = deque()
        self._watcher: LateWatcher | None = None
        self.status: LateStatus = "waiting"
        self.began: float | None = None
        """When the receiver ran, on ``time.perf_counter``."""
        self.seconds: float | None = None
        """How long it ran."""
        self.error: str | None = None
        """The type of the exception that it raised."""
        self.place: Place | None = None
        """The last frame of the exception's traceback."""
        self.reason: str | None = None
        """Why the call was dropped, or its message is dead; the text of an error of the kit."""
        self.attempt: int = 0
        """How often a stored call has begun in this process."""
        self.attempts: int | None = None
        """How often a stored call runs at most; ``None`` for other deliveries."""
        self.message: int | None = None
        """The id of the stored message, once the sender's transaction has committed."""
        self.is_running: bool = False
        """Whether this process is running the stored call."""
        self.number: int | None = None
        """The number of the emission of a stored call."""
        self.request: Any = None
        """The record of the request in which a stored call was sent."""

    def ran(
        self, began: float, error: BaseException | None, status: LateStatus | None = None
    ) -> None:
        """Record that the receiver has run.

        :param status: the status; ``ran`` or ``failed`` if omitted.
        """
        self.began, self.seconds = began, perf_counter() - began
        self.error = None if error is None else type(error).__qualname__
        self.place = None if error is None else frame_place(error)
        is_own = isinstance(error, (DeadMessageError, PayloadError))
        self.reason = str(error) if is_own else None
        self.status = status or ("ran" if error is None else "failed")
        self._end(self.seconds)

    def begin(self, attempt: int, attempts: int) -> None:
        """Record that this process begins to run a stored call.

        :param attempt: the number of the attempt.
        :param attempts: how many there are at most.
        """
        self.attempt, self.attempts, self.is_running = attempt, attempts, True
        self.status = "waiting" if attempt == 1 else "retrying"
        self.error = self.place = None

    def die(self, reason: str) -> None:
        """Record that a stored call is not run again."""
        self.reason, self.status = reason, "dead"
        self._end(None)

    def drop(self, reason: str | None) -> None:
        """Record that the receiver will not run."""
        self.reason, self.status = reason, "dropped"
        self._end(None)

    def watch(self, watcher: LateWatcher) -> None:
        """Call a function each time that the receiver has run, or the call was dropped or is dead.

        :param watcher: called perhaps in another thread.
        """
        self._watcher = watcher
        if self._ended:
            self._notify()

    def _end(self, seconds: float | None) -> None:
        self._ended.append((self.status, seconds, self.error, self.place))
        self._notify()

    def _notify(self) -> None:
        watcher = self._watcher
        with suppress(IndexError):  # another thread may notify as well
            while watcher is not None:
                watcher(*self._ended.popleft())


class Call:
    """The call of one receiver for one emission, which a :class:`Delivery` gets.

    A delivery calls :meth:`run` or :meth:`run_contained` once, now or later, or :meth:`drop`.
    """

    __slots__ = (
        "_connection",
        "_context",
        "_emission",
        "_late",
        "_payload",
        "_receiver",
        "_retains_failure",
        "_sender",
        "_status",
        "number",
        "transaction",
        "value",
    )

    def __init__(
        self,
        context: SignalContext,
        connection: LiveConnection,
        receiver: Receiver,
        sender: Any,
        payload: dict[str, Any],
        emission: LazyEmission,
        transaction: Transaction | None,
        number: int,
        late: LateResult | None = None,
        retains_failure: bool = False,
    ) -> None:
        self._context = context
        self._connection = connection
        self._receiver = receiver
        self._sender = sender
        self._payload = payload
        self._emission = emission
        self._late = late
        self._retains_failure = retains_failure  # that of run_contained, until outcome() returns it
        self.number: int = number
        """The number of the emission, in the order in which emissions began; 0 if it is unknown."""
        self.transaction: Transaction | None = transaction
        """The transaction that was open in the delivery's session when the signal was sent."""
        self._status: Status = "deferred"  # "failed" if it could not be stored
        self.value: Any = None
        """What the receiver returned, once :attr:`has_run` is true."""

    @property
    def emission(self) -> Emission:
        """The record of the emission."""
        return self._emission.emission

    @property
    def receiver(self) -> Place:
        """Where the receiver is defined."""
        return self._connection.place

    @property
    def connection(self) -> Connection:
        """The receiver's connection."""
        return self._connection.describe(self._context.name)

    @property
    def app(self) -> Any:
        """The app, or ``None`` for a signal without one."""
        return self._context.environment.app

    def sessions(self) -> list[Any]:
        """Return the app's current SQLAlchemy sessions."""
        sessions = self._context.environment.sessions
        return [] if sessions is None else sessions.current()

    @property
    def has_run(self) -> bool:
        """Whether :meth:`run` has returned."""
        return self._status == "ok"

    def run(self, within: AbstractContextManager[Any] = NO_CONTEXT) -> Any:
        """Call the receiver with the sender and payload of the emission, in an app context.

        :param within: a context manager in which the receiver runs, inside the app context; its
            exceptions count as failures of the receiver.
        :return: what the receiver returned.
        :raises Exception: what the receiver raised.
        """
        app_context = self._context.environment.enter()
        if app_context is None:
            return self._run_here(within)
        with app_context:
            return self._run_here(within)

    def _run_here(self, within: AbstractContextManager[Any]) -> Any:
        """Call the receiver in the current app context."""
        receiver = self._run_async if self._connection.is_async else self._receiver
        if self._late is None:
            with within:
                value = receiver(self._sender, **self._payload)
            self.value, self._status = value, "ok"
            return value
        parent = (self.number, self._connection.order) if self.number else None
        token, began = parent_emission.set(parent), perf_counter()
        try:
            with within:
                value = receiver(self._sender, **self._payload)
            self.value, self._status = value, "ok"
        except BaseException as error:
            self._late.ran(began, error)
            raise
        finally:
            parent_emission.reset(token)
        self._late.ran(began, None)
        return value

    def _run_async(self, sender: Any, /, **payload: Any) -> Any:
        """Call the async receiver; its event loop may run in another thread."""
        token = carried_emission.set(self._emission)
        try:
            return self._context.environment.make_sync_anywhere(self._receiver)(sender, **payload)
        finally:
            carried_emission.reset(token)

    def run_contained(self, within: AbstractContextManager[Any] = NO_CONTEXT) -> None:
        """Do the same as :meth:`run`, but log a failure and report it to the exception hooks."""
        app_context = self._context.environment.enter()
        if app_context is not None:
            with app_context:  # outside: a failure that ended it would be reported twice
                self.run_contained(within)
            return
        try:
            self._run_here(within)
        except Exception as error:  # noqa: BLE001  contained
            add_note(error, self.emission)
            report(error, self._context, self._receiver, self.emission, "delivery")
            if self._retains_failure:
                self.value, self._status = error, "contained"

    def drop(self, reason: str | None = None) -> None:
        """Record and log that the receiver will not be called for this emission.

        :param reason: why, for the page, such as ``"rolled back"``.
        """
        if self._late is not None:  # no other object is kept
            self._late.drop(reason if isinstance(reason, str) else None)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "Receiver %s of signal %r is dropped: it is not called",
                self.receiver,
                self._context.name,
                extra={"signals_kit_signal": self._context.name},
            )

    def store(self, delivery: Any) -> None:
        """Store the call in the app's outbox.

        :param delivery: the delivery of the call, a ``Durable``.
        :raises ConfigurationError: if the app has none.
        """
        outbox = self._context.environment.outbox
        if outbox is None:
            raise ConfigurationError(
                f"Receiver {self.receiver} of signal {self._context.name!r} has "
                "delivery='durable', but there is no app with an outbox here: connect it with "
                "kit.on or kit.for_app(app).on."
            )
        try:
            outbox.store(self, delivery)
        except Exception:
            self._status = "failed"
            raise

    @property
    def is_refused(self) -> bool:
        """Whether it could not be stored: then the send has failed, and not the receiver."""
        return self._status == "failed"

    def outcome(self) -> tuple[Status, Any]:
        """Return the status of the call when its delivery has returned.

        :return: the status, with what the receiver returned or raised, or with the late result.
        """
        self._retains_failure = False
        status = self._status  # once: another thread may run the call
        if status == "ok":
            return status, self.value
        if status == "contained":
            failure, self.value = self.value, None  # its traceback references this call
            return status, failure
        return "deferred", self._late


def add_note(error: BaseException, emission: Emission) -> None:
    """Add a note with the signal, and the place of its send, to an exception."""
    _add_note(error, f"In a receiver of signal {emission.signal!r}, sent from {emission.site}.")


def note_unusable(error: Exception, receiver: Receiver) -> bool:
    """Add a note to an exception that explains why it is raised in spite of the failure policy.

    :return: whether the exception did not have the note yet.
    """
    notes = getattr(error, "__notes__", [])
    if isinstance(notes, list) and any(UNUSABLE in text for text in notes):
        return False
    _add_note(
        error,
        f"Receiver {place_of(receiver)} failed, and {UNUSABLE}: nothing that it commits would be "
        "stored, so this failure is raised in spite of the failure policy. Run the receiver's "
        "statements in 'with session.begin_nested():', or connect it with "
        "delivery='after_commit'.",
    )
    return True


UNUSABLE = "the database transaction of the sender is unusable"


def _add_note(error: BaseException, text: str) -> None:
    notes = getattr(error, "__notes__", [])
    if isinstance(notes, list) and text not in notes:  # an exception may be raised repeatedly
        with suppress(Exception):  # for example a frozen dataclass
            error.add_note(text)


def report(
    error: Exception,
    context: SignalContext,
    receiver: Receiver,
    emission: Emission,
    source: Source,
) -> None:
    """Report a failure that does not propagate, to the log and to the environment."""
    place = place_of(receiver)
    logger.error(
        "Receiver %s of signal %r failed; it was sent from %s",
        place,
        emission.signal,
        emission.site,
        exc_info=error,
        extra={
            "signals_kit_signal": emission.signal,
            "signals_kit_receiver": f"{place.module}.{place.name}",
            "signals_kit_site": str(emission.site),
        },
    )
    context.environment.report(error, receiver, emission, source)
