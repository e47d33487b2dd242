"""How a receiver gets an emission: the protocol of a delivery, and the call that it gets."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from ..records import Connection, Emission, Place, Receiver, Source, Status
from .introspection import find_caller, place_of, place_of_caller, sender_behind, type_name

if TYPE_CHECKING:
    from .connection import LiveConnection
    from .environment import SignalContext, Transaction

logger: logging.Logger = logging.getLogger("flask_signals_kit")


class LateEmission:
    """The record of an emission, made when it is first read.

    What the record tells is noted as the signal is sent. It keeps neither the sender nor the
    payload: threads and tasks copy the context that carries it.

    :param context: the signal's context.
    :param sender: the sender.
    :param payload: the payload, or its names.
    :param frame: the frame of the send, or of something that it called within the kit.
    """

    __slots__ = ("_payload", "_record", "_request", "_sender", "_signal", "_site")

    def __init__(
        self,
        context: SignalContext,
        sender: Any,
        payload: Iterable[str],
        frame: types.FrameType,
    ) -> None:
        self._signal = context.name
        is_proxy = hasattr(type(sender), "_get_current_object")
        self._sender = type_name(sender_behind(sender) if is_proxy else sender)
        self._payload = tuple(payload)
        self._site = find_caller(frame)
        self._request = context.environment.request()
        self._record: Emission | None = None

    @property
    def emission(self) -> Emission:
        """The record."""
        if self._record is None:
            self._record = Emission(
                signal=self._signal,
                sender=self._sender,
                payload=self._payload,
                site=place_of_caller(self._site),
                request=self._request,
            )
        return self._record


carried_emission: ContextVar[LateEmission | None] = ContextVar("signals_kit_emission", default=None)
"""The emission being delivered where its send is not on the stack: in another thread or later."""


class Delivery(Protocol):
    """How one receiver gets one emission: what ``delivery=`` takes.

    >>> class Later:
    ...     name = "later"
    ...     def __init__(self):
    ...         self.calls = []
    ...     def deliver(self, call):
    ...         self.calls.append(call)
    """

    name: str
    """What the page and :class:`~flask_signals_kit.Deferred` call it."""

    def deliver(self, call: Call, /) -> None:
        """Run the call now, or keep it and run it later.

        A delivery that has an attribute ``session`` (``None`` for the app's own) finds in
        ``call.transaction`` what was open there when the signal was sent.
        """


class Call:
    """One receiver's part in one emission, as a :class:`Delivery` gets it.

    A delivery calls :meth:`run` or :meth:`run_contained` once, now or later, or :meth:`drop`.
    """

    __slots__ = (
        "_connection",
        "_context",
        "_emission",
        "_failure",
        "_handed_on",
        "_payload",
        "_receiver",
        "_sender",
        "number",
        "transaction",
        "value",
    )

    _NOT_RUN = object()

    def __init__(
        self,
        context: SignalContext,
        connection: LiveConnection,
        receiver: Receiver,
        sender: Any,
        payload: dict[str, Any],
        emission: LateEmission,
        transaction: Transaction | None,
        number: int,
    ) -> None:
        self._context = context
        self._connection = connection
        self._receiver = receiver
        self._sender = sender
        self._payload = payload
        self._emission = emission
        self._failure: Exception | None = None
        self._handed_on = False
        self.number: int = number
        """The number of the emission: they are numbered in the order in which they began."""
        self.transaction: Transaction | None = transaction
        """The transaction that was open in the delivery's session when the signal was sent."""
        self.value: Any = self._NOT_RUN
        """What the receiver returned, once :attr:`has_run` is true."""

    @property
    def emission(self) -> Emission:
        """What was sent."""
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
        return self._context.environment.sessions()

    @property
    def has_run(self) -> bool:
        """Whether :meth:`run` has returned."""
        return self.value is not self._NOT_RUN

    def run(self, within: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Any:
        """Call the receiver with the sender and the payload of the emission, in its app's context.

        :param within: makes a context manager around the receiver, inside the app's context; what
            it raises counts as the receiver's failure.

        :return: what the receiver returned.
        :raises Exception: whatever the receiver raised.
        """
        app_context = self._context.environment.enter()
        if app_context is None:
            return self._run_here(within)
        with app_context:
            return self._run_here(within)

    def _run_here(self, within: Callable[[], AbstractContextManager[Any]]) -> Any:
        """Call the receiver where the app is current."""
        receiver = self._receiver
        token = carried_emission.set(self._emission)
        began = perf_counter()
        try:
            if self._connection.is_async:
                receiver = self._context.environment.make_sync_anywhere(receiver)
            with within():
                value = receiver(self._sender, **self._payload)
            self.value = value
        except Exception as error:
            self._count(began, type(error).__qualname__)
            raise
        finally:
            carried_emission.reset(token)
        if self._context.tallies:
            self._count(began, None)
        return self.value

    def run_contained(
        self, within: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        """Do what :meth:`run` does; log a failure and call the exception hooks, but go on."""
        app_context = self._context.environment.enter()
        if app_context is not None:
            with app_context:  # it reports what fails as it ends, too
                self.run_contained(within)
            return
        try:
            self._run_here(within)
        except Exception as error:  # noqa: BLE001  this is what containing means
            add_note(error, self.emission)
            report(error, self._context, self._receiver, self.emission, "delivery")
            if not self._handed_on:
                self._failure = error

    def drop(self) -> None:
        """Note that the receiver will not be called for this emission."""
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "Receiver %s of signal %r is dropped: it is not called",
                self.receiver,
                self._context.name,
                extra={"signals_kit_signal": self._context.name},
            )
        tally = self._context.tallies.get(self._connection.order)
        if tally is not None:
            tally.dropped += 1

    def outcome(self, delivery: str) -> tuple[Status, Any]:
        """Return what came of the call so far; from now on it counts as handed on."""
        self._handed_on = True
        if self.value is not self._NOT_RUN:
            return "ok", self.value
        if self._failure is not None:
            failure, self._failure = self._failure, None
            return "contained", failure
        return "deferred", delivery

    def _count(self, began: float, failure: str | None) -> None:
        """Count a call that comes after its emission has been observed."""
        if not self._handed_on:
            return
        tally = self._context.tallies.get(self._connection.order)
        if tally is not None:
            tally.add(perf_counter() - began, failure)


def add_note(error: Exception, emission: Emission) -> None:
    """Add to an exception which signal it failed in, and where that was sent."""
    _add_note(error, f"In a receiver of signal {emission.signal!r}, sent from {emission.site}.")


def note_unusable(error: Exception, receiver: Receiver) -> bool:
    """Add to an exception why it is raised in spite of the failure policy.

    :return: whether that is new.
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


def _add_note(error: Exception, text: str) -> None:
    notes = getattr(error, "__notes__", [])
    if isinstance(notes, list) and text not in notes:  # one object may be raised again and again
        with suppress(Exception):  # a frozen dataclass, say, takes none
            error.add_note(text)


def report(
    error: Exception,
    context: SignalContext,
    receiver: Receiver,
    emission: Emission,
    source: Source,
) -> None:
    """Report a failure that goes no further: to the log and to the environment."""
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
