"""What the signals of a namespace need besides their own connections."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

from ..errors import AsyncReceiverError
from ..records import Connection, Emission, OnError, Receiver, Source
from .introspection import place_of

if TYPE_CHECKING:
    from .connection import LiveConnection


PayloadCheck: TypeAlias = Callable[[dict[str, Any]], None]
"""Raises for a payload that was not declared."""


class Transaction(Protocol):
    """An open transaction, as a delivery that waits for it sees it."""

    def keep(self, call: Any, /) -> None:
        """Keep a call until the transaction, and every one around it, has committed."""


class Environment:
    """What signals without a framework need: nothing. A subclass provides what an app has.

    One environment serves all signals of a namespace; most methods get the signal's name.
    """

    # -- when a signal computes its plan ------------------------------------------------------

    def connections(self, signal: str, receiver: Hashable = None) -> Iterable[LiveConnection]:
        """Return what is connected to a signal besides its own connections.

        :param receiver: the key of a receiver, for its connections alone.
        """
        return ()

    def has_connections(self, signal: str) -> bool:
        """Tell whether :meth:`connections` would return any."""
        return False

    def on_error(self, signal: str) -> OnError | None:
        """Return the failure policy of a signal, or ``None`` for the signal's own."""
        return None

    def check_payload(self, signal: str) -> PayloadCheck | None:
        """Return what checks the payload of each send, or ``None``."""
        return None

    # -- when receivers come and go -----------------------------------------------------------

    def changed(self, signal: str, wait: bool) -> None:
        """Take note that the receivers or observers of a signal changed.

        :param wait: whether this may wait for a lock; false in the garbage collector.
        """

    def collected(self, connection: Connection) -> None:
        """Take note of a weak receiver that was garbage-collected."""

    # -- when a signal is sent ----------------------------------------------------------------

    @property
    def app(self) -> Any:
        """The app, or ``None``."""
        return None

    def request(self) -> str | None:
        """Describe the current request, such as ``POST /funding/card``."""
        return None

    def report(
        self, exception: Exception, receiver: Receiver, emission: Emission, source: Source
    ) -> None:
        """Report a failure that goes no further."""

    def make_sync(self, receiver: Receiver) -> Receiver:
        """Make an async receiver callable.

        :raises AsyncReceiverError: if that is not possible here.
        """
        return _refuse_async(receiver)

    def make_sync_anywhere(self, receiver: Receiver) -> Receiver:
        """Make an async receiver callable, even in a thread whose event loop is running."""
        return self.make_sync(receiver)

    def make_async(self, receiver: Receiver) -> Receiver:
        """Make a plain receiver awaitable; or return it as it is, to have it called directly.

        :raises AsyncReceiverError: if that is not possible here.
        """
        return _refuse_sync(receiver)

    def enter(self) -> AbstractContextManager[Any]:
        """Return a context manager that makes the app current, where it is not."""
        return nullcontext()

    def sessions(self) -> list[Any]:
        """Return the app's current SQLAlchemy sessions."""
        return []

    def has_unusable_transaction(self, sender: Any, payload: dict[str, Any]) -> bool:
        """Tell whether a failure left a transaction that a send is part of unusable."""
        return False

    def transaction(
        self, session: Callable[[], Any] | None, sender: Any, payload: dict[str, Any]
    ) -> Transaction | None:
        """Return the open transaction that a delivery waits for.

        :param session: returns the delivery's own session; ``None`` for that of what was sent.
        :param sender: the sender.
        :param payload: the payload.
        """
        return None


def _refuse_async(receiver: Receiver) -> NoReturn:
    raise AsyncReceiverError(
        f"Receiver {place_of(receiver)} is async, and send() has no way to run it. "
        "Use 'await signal.send_async(...)', or pass send() an _async_wrapper."
    )


def _refuse_sync(receiver: Receiver) -> NoReturn:
    raise AsyncReceiverError(
        f"Receiver {place_of(receiver)} is not async, and send_async() has no way to await it. "
        "Pass send_async() a _sync_wrapper, or connect an async function."
    )


class SignalContext:
    """What the sends of one signal share with the deliveries and observers of its emissions.

    :param name: the signal's name.
    :param environment: what it needs besides its own connections.
    """

    __slots__ = ("environment", "name", "observers", "tallies")

    def __init__(self, name: str, environment: Environment) -> None:
        self.name: str = name
        self.environment: Environment = environment
        self.observers: tuple[Callable[[Any], None], ...] = ()
        self.tallies: dict[int, Any] = {}
        """What a journal counts of each connection, by the connection's order."""
