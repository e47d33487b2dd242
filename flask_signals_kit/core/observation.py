"""Observers: they are called with an ``Observation`` once an emission is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from ..records import Connection, Emission, Status
from .introspection import LazyEmission, place_of

if TYPE_CHECKING:
    from .connection import LiveConnection
    from .environment import SignalContext
    from .introspection import Caller, Parent
    from .plan import Roster

    Details: TypeAlias = tuple[
        Any,
        dict[str, Any],
        tuple[LiveConnection, ...],
        list[float],
        dict[int, tuple[Status, Any]] | None,
        Caller | None,
        int,
        Parent | None,
        dict[int, str] | None,
    ]
    """What is known of an emission that is over: the attributes of :class:`Observation` from
    ``sender`` on, in the order in which it documents them."""

logger: logging.Logger = logging.getLogger("flask_signals_kit")

Observer: TypeAlias = Callable[[Any], None]
"""Called with an :class:`Observation` of each emission that is over. It must change nothing; its
exceptions are logged and do not propagate. If it has a true attribute ``passive``, the kit does not
connect to third-party signals just for it."""


class Observation:
    """One emission that is over, as an observer gets it.

    Read :attr:`emission` and :meth:`steps` while the observer runs; afterwards they raise
    ``RuntimeError``, because receivers and exceptions are not kept.

    :param context: the signal's context.
    :param roster: every connection of the signal.
    :param details: the other attributes.
    :ivar sender: the sender.
    :ivar payload: the payload, by name.
    :ivar connections: the connections that it called, in order; then those that it did not reach,
        because a receiver raised.
    :ivar times: when it began, and when each receiver ended, on ``time.perf_counter``.
    :ivar exceptional: the status and value of each receiver that did not simply return, by index.
    :ivar caller: the place of the send, or ``None`` if it is unknown.
    :ivar number: its number, in the order in which emissions begin.
    :ivar parent: the emission that it was sent in.
    :ivar muted: why other connections were not called, by the order of each.
    """

    __slots__ = (
        "caller",
        "connections",
        "context",
        "exceptional",
        "is_over",
        "muted",
        "number",
        "parent",
        "payload",
        "roster",
        "sender",
        "times",
    )

    sender: Any
    payload: dict[str, Any]
    connections: tuple[LiveConnection, ...]
    times: list[float]
    exceptional: dict[int, tuple[Status, Any]] | None
    caller: Caller | None
    number: int
    parent: Parent | None
    muted: dict[int, str] | None

    def __init__(self, context: SignalContext, roster: Roster, details: Details) -> None:
        self.context: SignalContext = context
        self.roster: Roster = roster
        (
            self.sender,
            self.payload,
            self.connections,
            self.times,
            self.exceptional,
            self.caller,
            self.number,
            self.parent,
            self.muted,
        ) = details
        self.is_over: bool = False
        """Whether its observers have returned."""

    @property
    def signal(self) -> str:
        """The signal's name."""
        return self.context.name

    @property
    def emission(self) -> Emission:
        """The record of the emission."""
        self._check()
        return make_emission(self.context, self.sender, self.payload, self.caller, self.number)

    @property
    def started(self) -> float:
        """When it began, in seconds, on the clock of ``time.perf_counter``."""
        return self.times[0]

    @property
    def duration(self) -> float:
        """How long it took in total, in seconds."""
        return self.times[-1] - self.times[0]

    def steps(self) -> Iterator[tuple[Connection, Status, float, Exception | None]]:
        """Yield the connection, status, seconds and exception of each receiver that was called."""
        self._check()
        for index, connection in enumerate(self.connections[: len(self.times) - 1]):
            self._check()
            status, value = (self.exceptional or {}).get(index, ("ok", None))
            if status == "skipped":
                continue
            error = value if status in {"failed", "contained"} else None
            seconds = self.times[index + 1] - self.times[index]
            yield connection.describe(self.context.name), status, seconds, error

    def _check(self) -> None:
        """Raise an error after the observer has returned."""
        if self.is_over:
            raise RuntimeError(
                f"The observation of signal {self.context.name!r} is read after its observer has "
                "returned. Read it while the observer runs, and store for example "
                "observation.emission or list(observation.steps())."
            )


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
    finally:  # an observer that stores the observation must not keep the send alive
        observation.is_over = True
        observation.exceptional, observation.connections = None, ()


def make_emission(
    context: SignalContext,
    sender: Any,
    payload: Iterable[str],
    caller: Caller | None,
    number: int | None = None,
) -> Emission:
    """Return the record of an emission.

    :param caller: the place of the send, or ``None`` if it is unknown.
    :param number: its number, which counts only with a journal.
    """
    request = context.environment.request()
    number = None if context.environment.journal is None else number
    return LazyEmission(context.name, sender, payload, request, caller, number).emission


def without(observer: Observer, observers: tuple[Observer, ...]) -> tuple[Observer, ...]:
    """Remove an observer once, even if it was added twice."""
    left = list(observers)
    if observer in left:
        left.remove(observer)
    return tuple(left)


def once(undo: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls another one at its first call only."""
    left = iter((undo,))

    def undo_once() -> None:
        for end in left:
            end()

    return undo_once
