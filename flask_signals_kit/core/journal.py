"""The journal: the last emissions and counts for each receiver, in bounded memory.

It is an observer. It stores plain values only: no app, sender, payload value, exception or
receiver.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..records import Place, Status
from .introspection import find_caller, place_of_caller, sender_behind, type_name

if TYPE_CHECKING:
    from .introspection import Caller
    from .observation import Observation

_UNINFORMATIVE = frozenset({"LocalProxy", "NoneType"})
"""Types that do not describe a sender."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JournalStep:
    """One receiver's part in a recorded emission."""

    receiver: Place
    """The receiver."""
    status: Status
    """Its result."""
    duration: float
    """How long it ran, in seconds."""
    error: str | None
    """The type of the exception that it raised."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JournalEntry:
    """One recorded emission."""

    number: int
    """The number of the emission in the app, from 1."""
    time: float
    """When it began, in seconds since the epoch."""
    signal: str
    """The signal's name."""
    sender: str
    """The sender's type."""
    payload: tuple[str, ...]
    """The payload's names."""
    site: Place | None
    """The place of the send."""
    request: str | None
    """The method and path of the request it was sent in."""
    thread: int
    """The thread's identifier."""
    started: float
    """When it began, in seconds, on the clock of ``time.perf_counter``."""
    duration: float
    """How long it took in total, in seconds."""
    steps: tuple[JournalStep, ...]
    """The receivers that were called, in order."""


RECENT = 100
"""The number of durations that are stored for each connection."""


class Tally:
    """The counts of one connection; the signal stores them as long as the connection."""

    __slots__ = ("calls", "dropped", "failures", "last_failure", "recent")

    def __init__(self) -> None:
        self.calls: int = 0
        self.failures: int = 0
        self.dropped: int = 0
        self.last_failure: str | None = None
        self.recent: deque[float] = deque(maxlen=RECENT)

    def add(self, seconds: float, failure: str | None) -> None:
        """Count one call.

        :param seconds: its duration.
        :param failure: the type of its exception, or ``None``.
        """
        self.calls += 1
        self.recent.append(seconds)
        if failure is not None:
            self.failures += 1
            self.last_failure = failure

    @property
    def mean(self) -> float | None:
        """The mean duration of the last hundred calls, in seconds; ``None`` before the first."""
        recent = tuple(self.recent)
        return sum(recent) / len(recent) if recent else None

    @property
    def p95(self) -> float | None:
        """The 95th percentile of the last hundred calls, in seconds; ``None`` before the first."""
        durations = sorted(self.recent)
        return durations[ceil(0.95 * len(durations)) - 1] if durations else None


class Journal:
    """Counts calls per connection and stores the last emissions.

    :param size: the number of emissions to store.
    :param request: describes the request that an emission belongs to.
    :param is_excluded: tells, by the request's description, which emissions are not recorded.
    """

    passive = True  # do not connect to Flask's signals that have no receivers

    def __init__(
        self,
        size: int,
        *,
        request: Callable[[Observation], str | None] | None = None,
        is_excluded: Callable[[str], bool] = lambda request: False,
    ) -> None:
        self._entries: deque[tuple[Any, ...]] = deque(maxlen=size)
        self._count = 0
        self._request = request
        self._is_excluded = is_excluded
        self._epoch = time.time() - time.perf_counter()

    def __call__(self, observation: Observation, /) -> None:
        """Record one emission."""
        describe = self._request
        request = None if describe is None else describe(observation)
        if request is not None and self._is_excluded(request):
            return
        called, times = observation.called, observation.times
        tallies = observation.context.tallies
        began, *ends = times
        for connection, ended in zip(called.connections, ends):  # noqa: B905  times may end early
            tally = tallies.get(connection.order)
            if tally is None:
                tally = tallies[connection.order] = Tally()
            tally.calls += 1
            tally.recent.append(ended - began)
            began = ended
        sender = type(observation.sender)
        owner, name = sender.__module__, sender.__qualname__
        if name in _UNINFORMATIVE or issubclass(sender, type):
            owner, name = "builtins", type_name(sender_behind(observation.sender))
        self._count = number = self._count + 1
        self._entries.append(
            (
                number,
                observation.context.name,
                owner,
                name,
                tuple(observation.payload),
                find_caller(observation.frame),
                request,
                get_ident(),
                times,
                called.places,
                observation.exceptional and self._count_exceptional(observation),
            )
        )

    def _count_exceptional(self, observation: Observation) -> dict[int, tuple[Status, str | None]]:
        """Count failures; do not count the call of a receiver that was only deferred."""
        recorded: dict[int, tuple[Status, str | None]] = {}
        for index, (status, value) in (observation.exceptional or {}).items():
            order = observation.called.connections[index].order
            tally = observation.context.tallies.get(order)  # another thread may have pruned it
            error = None
            if status in {"failed", "contained"}:
                error = type(value).__qualname__
            if tally is not None and error is not None:
                tally.failures += 1
                tally.last_failure = error
            elif tally is not None:
                tally.calls -= 1
                tally.recent.pop()
            recorded[index] = (status, error)
        return recorded

    def entries(self) -> list[JournalEntry]:
        """Return the recorded emissions, newest first."""
        return [self._entry(*raw) for raw in reversed(tuple(self._entries))]

    def _entry(
        self,
        number: int,
        signal: str,
        module: str,
        sender: str,
        payload: tuple[str, ...],
        site: Caller | None,
        request: str | None,
        thread: int,
        times: list[float],
        places: tuple[Place, ...],
        exceptional: dict[int, tuple[Status, str | None]] | None,
    ) -> JournalEntry:
        steps: list[JournalStep] = []
        for index, (began, ended) in enumerate(pairwise(times)):
            status, error = (exceptional or {}).get(index, ("ok", None))
            step = JournalStep(
                receiver=places[index], status=status, duration=ended - began, error=error
            )
            steps.append(step)
        return JournalEntry(
            number=number,
            time=self._epoch + times[0],
            signal=signal,
            sender=sender if module == "builtins" else f"{module}.{sender}",
            payload=payload,
            site=place_of_caller(site),
            request=request,
            thread=thread,
            started=times[0],
            duration=times[-1] - times[0],
            steps=tuple(steps),
        )
