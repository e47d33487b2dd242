"""One receiver's part in one emission, and the protocol of what is done with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, Protocol, TypeAlias

from .callables import place_of
from .records import Connection, Emission, OnError, Place, Source

logger: logging.Logger = logging.getLogger("flask_signals_kit")

Receiver: TypeAlias = Callable[..., Any]
"""What can be connected: called as ``receiver(sender, **payload)``."""

Wrapper: TypeAlias = Callable[[Receiver], Receiver]
"""Makes an async receiver callable, or a plain one awaitable."""

Status: TypeAlias = Literal["ok", "failed", "contained", "deferred", "skipped"]
"""What became of a receiver; ``contained`` is a failure that its delivery has dealt with."""

Observer: TypeAlias = Callable[[Any], None]
"""Told of each emission, an ``Observation``, once it is over. It may look, and must change nothing;
what it raises is logged and goes no further. With a true attribute ``passive`` it does not make the
kit listen to a signal of Flask's or of others that nobody in the app receives."""

carried_emission: ContextVar[Emission | None] = ContextVar("signals_kit_emission", default=None)
"""The emission being delivered where its stack cannot be seen: in another thread or later."""


class Described(Protocol):
    """A connection's link: it describes the connection and keeps what is counted of it."""

    tally: Any

    def describe(self, signal: str, /) -> Connection:
        """Return the connection's record."""
        ...


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


class Transaction(Protocol):
    """An open transaction, as a delivery that waits for it sees it."""

    def keep(self, call: Call, /) -> None:
        """Keep a call until the transaction has committed with all that is around it."""


@dataclass(slots=True, kw_only=True, eq=False)
class Surroundings:
    """What a signal's owner lends to its sends."""

    name: str
    """The signal's name."""
    on_error: OnError = "raise"
    """What a failing receiver does."""
    check_payload: Callable[[dict[str, Any]], None] | None = None
    """Raises for a payload that nobody declared."""
    async_wrapper: Wrapper | None = None
    """Used where the caller of ``send`` gives none."""
    sync_wrapper: Wrapper | None = None
    """Used where the caller of ``send_async`` gives none."""
    on_failure: Callable[[Exception, Receiver, Emission, Source], None] | None = None
    """Told of each failure that is contained."""
    request: Callable[[], str | None] | None = None
    """Describes the current request."""
    app: Callable[[], Any] | None = None
    """Returns the app for a :class:`Call`."""
    late_async_wrapper: Wrapper | None = None
    """Used for an async receiver that a delivery runs, wherever that is."""
    enter: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Makes the app current, where it is not."""
    transaction: Callable[[Any, Any, dict[str, Any]], Transaction | None] | None = None
    """Finds the open transaction to wait for: in the session given, if any, or in the one that
    holds the sender or a model instance in the payload, or in the app's."""
    sessions: Callable[[], list[Any]] = list
    """Returns the app's SQLAlchemy sessions, as far as there are any here."""
    unusable: Callable[[Any, dict[str, Any]], bool] | None = None
    """Tells whether a database transaction that a sender and payload concern is unusable."""
    observers: tuple[Observer, ...] = ()
    """Told of each emission once it is over."""


class Call:
    """One receiver's part in one emission, as a :class:`Delivery` gets it.

    A delivery calls :meth:`run` or :meth:`run_contained` once, now or later, or :meth:`drop`.
    """

    __slots__ = (
        "_around",
        "_failure",
        "_handed_on",
        "_link",
        "_payload",
        "_receiver",
        "_sender",
        "_wrap",
        "emission",
        "number",
        "transaction",
        "value",
    )

    _NOT_RUN = object()

    def __init__(
        self,
        *,
        receiver: Receiver,
        sender: Any,
        payload: dict[str, Any],
        emission: Emission,
        around: Surroundings,
        link: Described,
        wrap: Wrapper | None,
        transaction: Transaction | None,
        number: int,
    ) -> None:
        self._receiver = receiver
        self._sender = sender
        self._payload = payload
        self._around = around
        self._link = link
        self._wrap = wrap
        self._failure: Exception | None = None
        self._handed_on = False
        self.emission: Emission = emission
        """What was sent."""
        self.number: int = number
        """Its emission's: they are numbered in the order in which they began."""
        self.transaction: Transaction | None = transaction
        """The transaction that was open in the delivery's session when the signal was sent."""
        self.value: Any = self._NOT_RUN
        """What the receiver returned, once :attr:`has_run` is true."""

    @property
    def receiver(self) -> Place:
        """Where the receiver is."""
        return place_of(self._receiver)

    @property
    def connection(self) -> Connection:
        """The receiver's connection."""
        return self._link.describe(self.emission.signal)

    @property
    def app(self) -> Any:
        """The app, or ``None`` for a signal without one."""
        return None if self._around.app is None else self._around.app()

    def sessions(self) -> list[Any]:
        """Return the app's SQLAlchemy sessions, as far as there are any here."""
        return self._around.sessions()

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
        with self._around.enter():
            return self._run_here(within)

    def _run_here(self, within: Callable[[], AbstractContextManager[Any]]) -> Any:
        """Call the receiver where the app is current."""
        token = carried_emission.set(self.emission)
        began = perf_counter()
        try:
            receiver = self._wrap(self._receiver) if self._wrap else self._receiver
            with within():
                value = receiver(self._sender, **self._payload)
            self.value = value
        except Exception as error:
            self._count(began, type(error).__qualname__)
            raise
        finally:
            carried_emission.reset(token)
        self._count(began, None)
        return self.value

    def run_contained(
        self, within: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> None:
        """Do what :meth:`run` does; log a failure and tell the exception hooks, but go on."""
        with self._around.enter():  # a context that ended by the failure would report it, too
            try:
                self._run_here(within)
            except Exception as error:  # noqa: BLE001  this is what containing means
                note(error, self.emission)
                contain(error, self._around, self._receiver, self.emission, "delivery")
                if not self._handed_on:
                    self._failure = error

    def drop(self) -> None:
        """Say that the receiver will not be called for this emission."""
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug(
                "Receiver %s of signal %r is dropped: it is not called",
                self.receiver,
                self.emission.signal,
                extra={"signals_kit_signal": self.emission.signal},
            )
        tally = self._link.tally
        if tally is not None:
            tally.dropped += 1

    def outcome(self, delivery: str) -> tuple[Status, Any]:
        """Say what came of the call so far; from now on it counts as handed on."""
        self._handed_on = True
        if self.has_run:
            return "ok", self.value
        if self._failure is not None:
            failure, self._failure = self._failure, None
            return "contained", failure
        return "deferred", delivery

    def _count(self, began: float, failure: str | None) -> None:
        """Count a call that comes after its emission has been journalled."""
        tally = self._link.tally
        if self._handed_on and tally is not None:
            tally.add(perf_counter() - began, failure)


def note(error: Exception, emission: Emission) -> None:
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


def contain(
    error: Exception,
    around: Surroundings,
    receiver: Receiver,
    emission: Emission,
    source: Source,
) -> None:
    """Report a failure that goes no further: to the log, and to whoever asked to be told."""
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
    if around.on_failure is not None:
        around.on_failure(error, receiver, emission, source)
