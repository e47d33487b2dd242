"""What observers see of an emission once it is over."""

from __future__ import annotations

import logging
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from ..records import Connection, Emission, Place, Receiver, Status
from .introspection import call_site, place_of, sender_behind, type_name

if TYPE_CHECKING:
    from .connection import LiveConnection
    from .environment import SignalContext

logger: logging.Logger = logging.getLogger("flask_signals_kit")

Observer: TypeAlias = Callable[[Any], None]
"""Called with each emission, an :class:`Observation`, once it is over. It must change nothing; what
it raises is logged and goes no further. An observer with a true attribute ``passive`` does not make
the kit connect to a third-party signal that has no receivers in the app."""


class Called:
    """The connections that an emission called, resolved once for all plain sends of a plan."""

    __slots__ = ("connections", "places", "receivers")

    def __init__(self, connections: tuple[LiveConnection, ...]) -> None:
        self.connections: tuple[LiveConnection, ...] = connections
        self.receivers: tuple[Receiver, ...] = tuple(c.receiver for c in connections)
        self.places: tuple[Place, ...] = tuple(c.place for c in connections)


_NONE: Called = Called(())


class Observation:
    """One emission that is over, as an observer sees it while it is called.

    Afterwards :attr:`emission` and :meth:`steps` raise ``RuntimeError``: take from them what is
    to be kept. What they are read from, receivers, exceptions and frames, is not kept here.

    :param context: the signal's context.
    :param sender: who sent it.
    :param payload: what was passed.
    :param called: the connections that it reached, in order.
    :param times: when it began, and when each receiver was done, on ``time.perf_counter``.
    :param exceptional: status and value of each receiver that did not simply return, by its index.
    :param frame: the frame of the send, or one that it called.
    """

    __slots__ = ("called", "context", "exceptional", "frame", "payload", "sender", "times")

    def __init__(
        self,
        context: SignalContext,
        sender: Any,
        payload: dict[str, Any],
        called: Called,
        times: list[float],
        exceptional: dict[int, tuple[Status, Any]] | None,
        frame: types.FrameType,
    ) -> None:
        self.context: SignalContext = context
        self.sender: Any = sender
        self.payload: dict[str, Any] = payload
        self.called: Called = called
        self.times: list[float] = times
        self.exceptional: dict[int, tuple[Status, Any]] | None = exceptional
        self.frame: types.FrameType | None = frame

    @property
    def signal(self) -> str:
        """The signal's name."""
        return self.context.name

    @property
    def emission(self) -> Emission:
        """The record of the emission."""
        return make_emission(self.context, self.sender, self.payload, self._send())

    @property
    def started(self) -> float:
        """When it began, on the clock of ``time.perf_counter``, in seconds."""
        return self.times[0]

    @property
    def duration(self) -> float:
        """How long all of it took, in seconds."""
        return self.times[-1] - self.times[0]

    def steps(self) -> Iterator[tuple[Connection, Status, float, Exception | None]]:
        """Yield each receiver's connection, what became of it, its seconds and its exception."""
        self._send()
        for index, connection in enumerate(self.called.connections[: len(self.times) - 1]):
            self._send()
            status, value = (self.exceptional or {}).get(index, ("ok", None))
            error = value if status in {"failed", "contained"} else None
            seconds = self.times[index + 1] - self.times[index]
            yield connection.describe(self.context.name), status, seconds, error

    def _send(self) -> types.FrameType:
        """Return the frame of the send, while the observer runs."""
        if self.frame is None:
            raise RuntimeError(
                f"The observation of signal {self.context.name!r} is read after its observer has "
                "returned. Take what is to be kept while the observer runs, such as "
                "observation.emission or list(observation.steps())."
            )
        return self.frame


def notify_observers(observation: Observation) -> None:
    """Call the observers of a signal; their errors are logged."""
    try:
        for observer in observation.context.observers:
            try:
                observer(observation)
            except Exception:
                logger.exception(
                    "Observer %s of signal %r failed", place_of(observer), observation.signal
                )
    finally:  # an observer that keeps it keeps nothing of the send
        observation.frame = observation.exceptional = None
        observation.called = _NONE


def make_emission(
    context: SignalContext, sender: Any, payload: Iterable[str], frame: types.FrameType
) -> Emission:
    """Describe an emission.

    :param frame: the frame of the send, or of something that it called within the kit.
    """
    return Emission(
        signal=context.name,
        sender=type_name(sender_behind(sender)),
        payload=tuple(payload),
        site=call_site(frame),
        request=context.environment.request(),
    )
