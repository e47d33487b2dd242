"""The journal: the last emissions and counts for each receiver, in bounded memory.

It stores plain values only: no app, sender, payload value, exception or
receiver.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property, partial
from itertools import count, pairwise
from math import ceil
from operator import attrgetter, itemgetter
from sys import modules
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ..errors import type_name
from ..records import Connection, Place, Status
from .delivery import LateResult
from .introspection import frame_place, place_of_caller, sender_behind

if TYPE_CHECKING:
    from .delivery import LateStatus
    from .environment import SignalContext
    from .introspection import Caller, Parent
    from .observation import Details, Observation
    from .plan import Roster

_UNINFORMATIVE = frozenset({"LocalProxy", "NoneType"})
"""Types that do not describe a sender."""

StepStatus: TypeAlias = Literal[
    "ran",
    "failed",
    "skipped",
    "other_sender",
    "not_reached",
    "muted",
    "waiting",
    "dropped",
    "retrying",
    "dead",
    "done",
]
"""What happened to one receiver in one emission; ``done``: another process has deleted the message,
because its receiver ran or it was discarded."""

RequestKind: TypeAlias = Literal["request", "command", "none"]

_ids = count(1)


def epoch_of_clock() -> float:
    """Return when the clock of ``time.perf_counter`` began, in seconds since the epoch."""
    return time.time() - time.perf_counter()


@dataclass(slots=True, eq=False)
class RequestRecord:
    """A request, a command or an app context in which signals were sent."""

    kind: RequestKind = "none"
    """``request``, ``command``, or ``none`` for an app context outside both."""
    _: KW_ONLY
    method: str | None = None
    """The method of the request."""
    path: str | None = None
    """The path of the request without its query, or the name of the command."""
    excluded: bool = False
    """Whether its emissions are not recorded."""
    endpoint: str | None = None
    """The endpoint of the request; ``None`` before routing, or without a route."""
    status: int | None = None
    """The status of the response, 500 for an exception without one; else ``None``."""
    duration: float | None = None
    """How long it took, in seconds; ``None`` while it is running, and for ``none``."""
    emissions: int = 0
    """The number of its emissions, including those that the journal has dropped."""
    failures: int = 0
    """How often a receiver of one of its emissions failed, or its message is dead."""
    id: int = field(default_factory=_ids.__next__)
    """Its number in this process."""
    started: float = field(default_factory=time.perf_counter)
    """When it began, in seconds, on the clock of ``time.perf_counter``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JournalStep:
    """One receiver's part in a recorded emission."""

    connection: Connection
    """The connection."""
    status: StepStatus
    """What happened to the receiver."""
    started: float | None = None
    """When it ran, in seconds, on the clock of ``time.perf_counter``; ``None`` if it did not."""
    duration: float | None = None
    """How long it ran, in seconds."""
    error: str | None = None
    """The type of the exception that it raised."""
    raised: Place | None = None
    """The last frame of the exception's traceback."""
    late: bool = False
    """Whether a delivery ran it, or will run it, after the send."""
    dropped: str | None = None
    """Why its delivery dropped the call, or the message is dead."""
    muted: str | None = None
    """Why it was not called, if it was muted."""
    attempt: int = 0
    """How often this process has begun to run a stored call."""
    attempts: int | None = None
    """How often a stored call runs at most; ``None`` for other deliveries."""
    message: int | None = None
    """The id of the stored message, once the sender's transaction has committed."""
    is_running: bool = False
    """Whether this process is running a stored call."""

    @property
    def receiver(self) -> Place:
        """The receiver."""
        return self.connection.receiver


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LastFailure:
    """The last failure of a receiver."""

    error: str
    """The type of the exception."""
    time: float
    """When the emission began, in seconds since the epoch."""
    emission: int
    """The number of the emission."""
    place: Place | None
    """The last frame of the traceback."""


RECENT = 100
"""The number of durations that are stored for each connection."""


class Tally:
    """The counts of one connection; the signal stores them as long as the connection."""

    __slots__ = ("calls", "dropped", "failures", "last_failure", "recent")

    def __init__(self) -> None:
        self.calls: int = 0
        self.failures: int = 0
        self.dropped: int = 0
        self.last_failure: LastFailure | None = None
        self.recent: deque[float] = deque(maxlen=RECENT)

    def count_failure(self, error: str, place: Place | None, began: float, number: int) -> None:
        """Count a failure in an emission.

        :param began: when the emission began, in seconds since the epoch.
        :param number: the number of the emission.
        """
        self.failures += 1
        self.last_failure = LastFailure(error=error, time=began, emission=number, place=place)

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


FindRequest: TypeAlias = "Callable[[str], RequestRecord]"
"""Returns the record of the request that a signal is sent in, by its name; called by its send."""

Wanted: TypeAlias = "Callable[[int, str, RequestRecord], bool]"
"""Tells by its number, its signal and its request whether an emission is wanted."""

_order_of = attrgetter("order")

_FAILED: frozenset[Status] = frozenset({"failed", "contained"})

_Detail: TypeAlias = "tuple[str, Place | None] | LateResult | None"
"""The type of an exception and the last frame of its traceback, or the result of a call that its
delivery runs later."""

_Exceptional: TypeAlias = "dict[int, tuple[Status, _Detail]]"


class _Recorded(NamedTuple):
    """What the journal stores of one emission."""

    number: int
    """The number of the emission in this process, in the order in which emissions began."""
    sent_in: Parent | None
    """The emission whose receiver sent it."""
    signal: str
    """The signal's name."""
    sender_module: str
    """The module of the sender's type."""
    sender_name: str
    """The name of the sender's type in that module."""
    payload: tuple[str, ...]
    """The payload's names."""
    caller: Caller | None
    """The code that sent it."""
    request: RequestRecord
    """The request that it was sent in."""
    thread: int
    """The thread's identifier."""
    task: str | None
    """The name of the asyncio task, or ``None`` outside of one."""
    times: list[float]
    """When it began, and when each of the called receivers ended, on ``time.perf_counter``."""
    roster: Roster
    """Every connection of the signal."""
    orders: tuple[int, ...] | None
    """The orders of the connections that it called, then of those that it did not reach; ``None``
    for all."""
    muted: dict[int, str] | None
    """Why others were muted, by their orders."""
    exceptional: _Exceptional | None
    """What happened to each receiver that did not simply return, by its index."""
    epoch: float
    """When the clock of its times began, in seconds since the epoch."""


class JournalEntry(_Recorded):
    """One recorded emission. Its steps are put together when they are read."""

    @property
    def parent(self) -> int | None:
        """The number of the emission whose receiver sent it, or ``None``."""
        return None if self.sent_in is None else self.sent_in[0]

    @property
    def parent_order(self) -> int | None:
        """The order of that receiver's connection; ``None`` where the time tells which it was."""
        return None if self.sent_in is None else self.sent_in[1]

    @property
    def sender(self) -> str:
        """The sender's type."""
        module, name = self.sender_module, self.sender_name
        return name if module == "builtins" else f"{module}.{name}"

    @property
    def site(self) -> Place | None:
        """The place of the send."""
        return place_of_caller(self.caller)

    @property
    def started(self) -> float:
        """When it began, in seconds, on the clock of ``time.perf_counter``."""
        return self.times[0]

    @property
    def time(self) -> float:
        """When it began, in seconds since the epoch."""
        return self.epoch + self.started

    @property
    def duration(self) -> float:
        """How long it took in total, in seconds."""
        return self.times[-1] - self.times[0]

    @cached_property
    def steps(self) -> tuple[JournalStep, ...]:
        """A step for every receiver that was connected, in calling order, as of the first read."""
        roster, muted, exceptional = self.roster, self.muted or {}, self.exceptional or {}
        connections = roster.connections
        orders = tuple(connections) if self.orders is None else self.orders
        called: dict[int, JournalStep] = {}
        for index, (began, ended) in enumerate(pairwise(self.times)):
            status, detail = exceptional.get(index, ("ok", None))
            connection = connections[orders[index]]
            called[connection.order] = _step(connection, status, detail, began, ended)
        reached = frozenset(orders)
        receivers = {roster.receivers[order] for order in (*called, *muted)}
        steps: list[JournalStep] = []
        for order, connection in connections.items():
            if order in called:
                steps.append(called[order])
            elif order in reached:
                steps.append(JournalStep(connection=connection, status="not_reached"))
            elif order in roster.scoped:  # perhaps of another thread
                continue
            elif order in muted:
                reason = muted[order]
                steps.append(JournalStep(connection=connection, status="muted", muted=reason))
            elif connection.sender is not None and roster.receivers[order] not in receivers:
                steps.append(JournalStep(connection=connection, status="other_sender"))
        return tuple(steps)

    def again(self) -> JournalEntry:
        """Return the same emission, with its steps as they are now."""
        return self._replace()


_signal_and_request: Callable[[tuple[Any, ...]], Any] = itemgetter(2, 7)
"""Returns the signal and the request of a stored emission; to make an entry takes longer."""


class Journal:
    """Counts calls per connection and stores the last emissions.

    :param size: the number of emissions to store.
    :param request_of: finds the request that an emission is sent in; one for all if omitted.
    """

    def __init__(self, size: int, *, request_of: FindRequest | None = None) -> None:
        # The fields of `_Recorded`: to make entries of many emissions takes longer.
        self._entries: deque[tuple[Any, ...]] = deque(maxlen=size)
        self._epoch = epoch_of_clock()
        outside = RequestRecord()
        self._request_of: FindRequest = request_of or (lambda signal: outside)

    def record(self, context: SignalContext, roster: Roster, details: Details) -> None:
        """Record one emission that is over.

        :param context: the signal's context.
        :param roster: every connection of the signal.
        :param details: what is known of it.
        """
        sender, payload, connections, times, exceptional, caller, number, parent, muted = details
        request = self._request_of(context.name)
        if request.excluded:
            return
        is_whole = len(connections) == len(roster.connections)
        tallies = roster.tallies if is_whole else None
        if not tallies:
            tallies = [context.tallies.setdefault(c.order, Tally()) for c in connections]
            if is_whole:
                roster.tallies = tallies
        began, *ends = times
        for tally, ended in zip(tallies, ends):  # noqa: B905  times may end early
            tally.calls += 1
            tally.recent.append(ended - began)
            began = ended
        kind = type(sender)
        owner, name = kind.__module__, kind.__qualname__
        if name in _UNINFORMATIVE or issubclass(kind, type) or type(owner) is not str:
            owner, name = "builtins", type_name(sender_behind(sender))
        asyncio = modules.get("asyncio")
        context.sent += 1
        context.last_sent = began = times[0]
        request.emissions += 1
        self._entries.append(
            (  # as JournalEntry, which takes longer to make
                number,
                parent,
                context.name,
                owner,
                name,
                tuple(payload),
                caller,
                request,
                get_ident(),
                asyncio and asyncio._get_running_loop() and _task_name(asyncio),
                times,
                roster,
                None if is_whole else tuple(map(_order_of, connections)),
                muted,
                exceptional
                and _count_exceptional(exceptional, tallies, request, self.epoch(began), number),
                self._epoch,
            )
        )

    def epoch(self, clock: float) -> float:
        """Return a time on the clock of ``time.perf_counter`` in seconds since the epoch."""
        return self._epoch + clock

    @property
    def is_empty(self) -> bool:
        """Whether no emission is recorded."""
        return not self._entries

    def newest(self, wanted: Wanted = lambda *_: True) -> Iterator[JournalEntry]:
        """Yield recorded emissions, the last that ended first.

        :param wanted: tells by number, signal and request which ones to yield: a large journal has
            many more than are shown.
        """
        for entry in reversed(tuple(self._entries)):
            if wanted(entry[0], *_signal_and_request(entry)):
                yield JournalEntry._make(entry)

    def entries(self) -> list[JournalEntry]:
        """Return the recorded emissions, the last that ended first."""
        return list(self.newest())

    def within(self, number: int) -> set[int]:
        """Return the numbers of an emission and of those that its receivers sent, directly or not.

        :param number: the number of the emission.
        """
        found = {number}
        for entry in sorted(self._entries, key=itemgetter(0)):  # a parent begins first
            if entry[1] is not None and entry[1][0] in found:
                found.add(entry[0])
        return found

    def requests(self, number: int | None = None) -> dict[RequestRecord, set[str]]:
        """Return the requests of the recorded emissions, newest first, with their signals.

        :param number: the number of the only request; all if omitted.
        """
        found: dict[RequestRecord, set[str]] = {}
        every: Iterable[Any] = map(_signal_and_request, tuple(self._entries))
        if number is not None:
            every = (each for each in every if each[1].id == number)
        for signal, request in every:
            found.setdefault(request, set()).add(signal)
        return dict(sorted(found.items(), key=lambda item: item[0].id, reverse=True))

    def signals_of(self, request: RequestRecord) -> list[str]:
        """Return the signals that a request has sent, each once, in the order of the sends."""
        entries = tuple(self._entries)
        sent = sorted((entry[0], entry[2]) for entry in entries if entry[7] is request)
        return list(dict.fromkeys(signal for _, signal in sent))


def _count_exceptional(
    exceptional: dict[int, tuple[Status, Any]],
    tallies: list[Tally],
    request: RequestRecord,
    began: float,
    number: int,
) -> _Exceptional:
    """Count failures; do not count the call of a receiver that was skipped or runs later.

    :param began: when the emission began, in seconds since the epoch.
    """
    recorded: _Exceptional = {}
    for index, (status, value) in exceptional.items():
        tally = tallies[index]
        if status in _FAILED:
            error, place = detail = _raised(value)
            request.failures += 1
            tally.count_failure(error, place, began, number)
            recorded[index] = (status, detail)
            continue
        tally.calls -= 1
        tally.recent.pop()
        recorded[index] = (status, value)
        if isinstance(value, LateResult):
            value.watch(partial(_count_late, request, tally, began, number))
    return recorded


def _count_late(
    request: RequestRecord,
    tally: Tally,
    began: float,
    number: int,
    status: LateStatus,
    seconds: float | None,
    error: str | None,
    place: Place | None,
) -> None:
    """Count a receiver that has run after the send, was dropped, or is not run again.

    A failed attempt of a durable receiver is a failure of the receiver; that of the request is
    the death of the message, because the attempts before it may yet lead to success.
    """
    request.failures += status in {"failed", "dead"}
    tally.dropped += status == "dropped"
    if seconds is None:
        return
    tally.calls += 1
    tally.recent.append(seconds)
    if error is not None:
        tally.count_failure(error, place, began, number)


def entry_of(observation: Observation, sender: str, request: RequestRecord) -> JournalEntry:
    """Return an observed emission as a journal records it.

    :param observation: the emission.
    :param sender: the type of its sender.
    :param request: the request that it counts to.
    """
    details = observation.exceptional or {}
    return JournalEntry(
        number=observation.number,
        sent_in=observation.parent,
        signal=observation.signal,
        sender_module="builtins",  # the name has the module already
        sender_name=sender,
        payload=tuple(observation.payload),
        caller=observation.caller,
        request=request,
        thread=get_ident(),
        task=None,
        times=observation.times,
        roster=observation.roster,
        orders=tuple(map(_order_of, observation.connections)),
        muted=observation.muted,
        exceptional={
            index: (status, _raised(value) if status in _FAILED else value)
            for index, (status, value) in details.items()
        },
        epoch=epoch_of_clock(),
    )


def _raised(error: BaseException) -> tuple[str, Place | None]:
    """Return type and place of an exception, which would keep its frames."""
    return type(error).__qualname__, frame_place(error)


def _task_name(asyncio: Any) -> str | None:
    """Return the name of the current asyncio task."""
    task = asyncio.current_task()
    return None if task is None else str(task.get_name())


def _step(
    connection: Connection,
    status: Status,
    detail: _Detail,
    began: float,
    ended: float,
) -> JournalStep:
    """Return the step of a connection that was called."""
    if isinstance(detail, LateResult):
        return JournalStep(
            connection=connection,
            status=detail.status,
            started=detail.began,
            duration=detail.seconds,
            error=detail.error,
            raised=detail.place,
            late=True,
            dropped=detail.reason,
            attempt=detail.attempt,
            attempts=detail.attempts,
            message=detail.message,
            is_running=detail.is_running,
        )
    if status == "skipped":
        return JournalStep(connection=connection, status="skipped")
    error, raised = detail or (None, None)
    return JournalStep(
        connection=connection,
        status="ran" if status == "ok" else "failed",
        started=began,
        duration=ended - began,
        error=error,
        raised=raised,
    )
