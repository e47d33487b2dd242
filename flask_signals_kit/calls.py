"""One receiver's part in one emission, and the protocol of what is done with it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from .records import Connection, Emission

Receiver: TypeAlias = Callable[..., Any]
"""What can be connected: called as ``receiver(sender, **payload)``."""

carried_emission: ContextVar[Emission | None] = ContextVar("signals_kit_emission", default=None)
"""The emission being delivered where its stack cannot be seen: in another thread or later."""


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
        """Run the call now, or keep it and run it later."""


class Call:
    """One receiver's part in one emission, as a :class:`Delivery` gets it."""

    __slots__ = (
        "_payload",
        "_receiver",
        "_sender",
        "_wrap",
        "app",
        "connection",
        "emission",
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
        connection: Connection,
        app: Any,
        wrap: Callable[[Receiver], Receiver] | None,
    ) -> None:
        self._receiver = receiver
        self._sender = sender
        self._payload = payload
        self._wrap = wrap
        self.emission = emission
        """What was sent."""
        self.connection = connection
        """The receiver's connection."""
        self.app = app
        """The app, or ``None`` for a signal without one."""
        self.value: Any = self._NOT_RUN
        """What the receiver returned, once :attr:`has_run` is true."""

    @property
    def has_run(self) -> bool:
        """Whether :meth:`run` has returned."""
        return self.value is not self._NOT_RUN

    def run(self) -> Any:
        """Call the receiver with the sender and the payload of the emission.

        :return: what the receiver returned.
        :raises Exception: whatever the receiver raised.
        """
        token = carried_emission.set(self.emission)
        try:
            receiver = self._wrap(self._receiver) if self._wrap else self._receiver
            self.value = receiver(self._sender, **self._payload)
        finally:
            carried_emission.reset(token)
        return self.value
