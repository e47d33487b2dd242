"""The environment of a namespace's signals: what they need besides their own connections."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import AsyncReceiverError
from ..records import Connection, Emission, OnError, Receiver, Source
from .introspection import place_of

if TYPE_CHECKING:
    from .connection import LiveConnection


PayloadCheck: TypeAlias = Callable[[dict[str, Any]], None]
"""Raises an error for an undeclared payload."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Restriction:
    """Limits which receivers of some signals run in one ``with`` block."""

    scope: object
    """Identifies the block; other threads and tasks are not in it, unless it is ``EVERYWHERE``."""
    reason: str
    """Why the receivers are muted that it does not allow."""
    applies_to: Callable[[str], bool] = lambda name: True
    """Tells by the name of a signal whether its receivers are limited; by default, all are."""
    allows: Callable[[LiveConnection], bool] = lambda connection: False
    """Tells whether a connection is called; by default, none is."""


class Environment:
    """The environment of signals without a framework; a subclass adds an app.

    All signals of a namespace share one environment; most methods get the signal's name.
    """

    journal: Any = None
    """The :class:`~.journal.Journal` that records the emissions, or ``None``."""

    restrictions: tuple[Restriction, ...] = ()
    """The blocks that limit which receivers run."""

    # -- when a signal computes its plan ------------------------------------------------------

    def connections(self, signal: str, receiver: Hashable = None) -> Iterable[LiveConnection]:
        """Return the connections of a signal besides its own.

        :param receiver: the key of a receiver, to return only its connections.
        """
        return ()

    def has_connections(self, signal: str) -> bool:
        """Tell whether :meth:`connections` would return any."""
        return False

    def on_error(self, signal: str) -> OnError | None:
        """Return the failure policy of a signal, or ``None`` for the signal's own."""
        return None

    def check_payload(self, signal: str) -> PayloadCheck | None:
        """Return the function that checks the payload of each send, or ``None``."""
        return None

    def restrictions_of(self, signal: str) -> tuple[Restriction, ...]:
        """Return the blocks that limit which receivers of a signal run."""
        return tuple(limit for limit in self.restrictions if limit.applies_to(signal))

    # -- when receivers change ----------------------------------------------------------------

    def changed(self, signal: str, wait: bool) -> None:
        """Handle a change of a signal's receivers or observers.

        :param wait: whether this may wait for a lock; false in the garbage collector.
        """

    def collected(self, connection: Connection) -> None:
        """Handle a weak receiver that was garbage-collected."""

    # -- when a signal is sent ----------------------------------------------------------------

    @property
    def app(self) -> Any:
        """The app, or ``None``."""
        return None

    request: Callable[[], str | None] = staticmethod(lambda: None)
    """Describes the current request, such as ``POST /funding/card``."""

    def report(
        self, exception: Exception, receiver: Receiver, emission: Emission, source: Source
    ) -> None:
        """Report a failure that does not propagate."""

    def make_sync(self, receiver: Receiver) -> Receiver:
        """Make an async receiver callable.

        :raises AsyncReceiverError: if that is not possible here.
        """
        raise AsyncReceiverError(
            f"Receiver {place_of(receiver)} is async, and send() cannot run it here. "
            "Use 'await signal.send_async(...)', or pass send() an _async_wrapper."
        )

    def make_sync_anywhere(self, receiver: Receiver) -> Receiver:
        """Make an async receiver callable, even in a thread whose event loop is running."""
        return self.make_sync(receiver)

    def make_async(self, receiver: Receiver) -> Receiver:
        """Make a plain receiver awaitable, or return it unchanged, to be called directly.

        :raises AsyncReceiverError: if that is not possible here.
        """
        raise AsyncReceiverError(
            f"Receiver {place_of(receiver)} is not async, and send_async() cannot await it. "
            "Pass send_async() a _sync_wrapper, or connect an async function."
        )

    def enter(self) -> AbstractContextManager[Any] | None:
        """Return a context manager that makes the app current; ``None`` if it already is."""
        return None

    @property
    def sessions(self) -> Any:
        """The app's SQLAlchemy sessions, which find the transactions of a send; or ``None``."""
        return None

    @property
    def outbox(self) -> Any:
        """The app's :class:`~.outbox.Outbox` of durable messages, or ``None``."""
        return None


class SignalContext:
    """The data that a signal shares with the deliveries and observers of its emissions.

    :param name: the signal's name.
    :param environment: the signal's environment.
    """

    __slots__ = ("environment", "last_sent", "name", "observers", "sent", "tallies")

    def __init__(self, name: str, environment: Environment) -> None:
        self.name: str = name
        self.environment: Environment = environment
        self.observers: tuple[Callable[[Any], None], ...] = ()
        self.tallies: dict[int, Any] = {}
        """The counts of a journal, by the order of the connection."""
        self.sent: int = 0
        """How often a journal saw the signal sent."""
        self.last_sent: float | None = None
        """When it was last sent, on ``time.perf_counter``."""

    @property
    def is_observed(self) -> bool:
        """Whether sends are recorded by a journal or an observer."""
        return self.environment.journal is not None or bool(self.observers)
