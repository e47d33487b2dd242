"""The journal: the last emissions and counts for each receiver, in bounded memory.

It stores plain values only: no app, sender, payload value, exception or
receiver.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from math import ceil
from operator import attrgetter, itemgetter
from sys import modules
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

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


class RequestRecord:
    """A request, a command or an app context in which signals were sent.

    :param kind: ``request``, ``command``, or ``none`` for an app context outside both.
    :param method: the method of the request, or ``None``.
    :param path: the path of the request without its query, or the name of the command.
    :param excluded: whether its emissions are not recorded.
    """

    __slots__ = (
        "duration",
        "emissions",
        "endpoint",
        "excluded",
        "failures",
        "id",
        "kind",
        "method",
        "path",
        "started",
        "status",
    )

    def __init__(
        self,
        kind: RequestKind = "none",
        *,
        method: str | None = None,
        path: str | None = None,
        excluded: bool = False,
    ) -> None:
        self.id: int = next(_ids)
        """Its number in this process."""
        self.kind: RequestKind = kind
        self.method: str | None = method
        self.path: str | None = path
        self.excluded: bool = excluded
        self.endpoint: str | None = None
        """The endpoint of the request; ``None`` before routing, or without a route."""
        self.status: int | None = None
        """The status of the response, 500 for an exception without one; else ``None``."""
        self.started: float = time.perf_counter()
        """When it began, in seconds, on the clock of ``time.perf_counter``."""
        self.duration: float | None = None
        """How long it took, in seconds; ``None`` while it is running, and for ``none``."""
        self.emissions: int = 0
        """The number of its emissions, including those that the journal has dropped."""
        self.failures: int = 0
        """How often a receiver of one of its emissions failed, or its message is dead."""


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
class JournalEntry:
    """One recorded emission."""

    number: int
    """The number of the emission in this process, in the order in which emissions began."""
    parent: int | None
    """The number of the emission whose receiver sent it, or ``None``."""
    parent_order: int | None
    """The order of that receiver's connection; ``None`` where the time tells which it was."""
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
    request: RequestRecord
    """The request that it was sent in."""
    thread: int
    """The thread's identifier."""
    task: str | None
    """The name of the asyncio task, or ``None`` outside of one."""
    started: float
    """When it began, in seconds, on the clock of ``time.perf_counter``."""
    duration: float
    """How long it took in total, in seconds."""
    steps: tuple[JournalStep, ...]
    """A step for every receiver that was connected, in calling order."""


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

_order_of = attrgetter("order")

_FAILED: frozenset[Status] = frozenset({"failed", "contained"})

_Detail: TypeAlias = "tuple[str, Place | None] | LateResult | None"
"""The type of an exception and the last frame of its traceback, or the result of a call that its
delivery runs later."""

_Exceptional: TypeAlias = "dict[int, tuple[Status, _Detail]]"


class Journal:
    """Counts calls per connection and stores the last emissions.

    :param size: the number of emissions to store.
    :param request_of: finds the request that an emission is sent in; one for all if omitted.
    """

    def __init__(self, size: int, *, request_of: FindRequest | None = None) -> None:
        self._entries: deque[tuple[Any, ...]] = deque(maxlen=size)
        outside = RequestRecord()
        self._request_of: FindRequest = request_of or (lambda signal: outside)
        self._epoch = time.time() - time.perf_counter()

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
            (
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
                and self._count_exceptional(exceptional, tallies, request, began, number),
            )
        )

    def _count_exceptional(
        self,
        exceptional: dict[int, tuple[Status, Any]],
        tallies: list[Tally],
        request: RequestRecord,
        began: float,
        number: int,
    ) -> _Exceptional:
        """Count failures; do not count the call of a receiver that was skipped or runs later."""
        recorded: _Exceptional = {}
        for index, (status, value) in exceptional.items():
            tally = tallies[index]
            if status in _FAILED:
                error, place = detail = _raised(value)
                request.failures += 1
                self._count_failure(tally, error, began, number, place)
                recorded[index] = (status, detail)
                continue
            tally.calls -= 1
            tally.recent.pop()
            recorded[index] = (status, value)
            if isinstance(value, LateResult):
                value.watch(partial(self._count_late, request, tally, began, number))
        return recorded

    def _count_late(
        self,
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
            self._count_failure(tally, error, began, number, place)

    def _count_failure(
        self,
        tally: Tally,
        error: str,
        began: float,
        number: int,
        place: Place | None,
    ) -> None:
        tally.failures += 1
        tally.last_failure = LastFailure(
            error=error, time=self.epoch(began), emission=number, place=place
        )

    def epoch(self, clock: float) -> float:
        """Return a time on the clock of ``time.perf_counter`` in seconds since the epoch."""
        return self._epoch + clock

    @property
    def is_empty(self) -> bool:
        """Whether no emission is recorded."""
        return not self._entries

    def entries(self) -> list[JournalEntry]:
        """Return the recorded emissions, the last that ended first."""
        return list(self.newest(lambda number, signal, request: True))

    def newest(
        self, wanted: Callable[[int, str, RequestRecord], bool]
    ) -> Generator[JournalEntry, None, None]:
        """Yield recorded emissions, the last that ended first; each is put together when it is due.

        :param wanted: tells, by number, signal and request, which ones to yield.
        """
        for raw in reversed(tuple(self._entries)):
            if wanted(raw[0], *_key(raw)):
                yield _entry(self._epoch, *raw)

    def within(self, number: int) -> set[int]:
        """Return the numbers of an emission and of those that its receivers sent, directly or not.

        :param number: the number of the emission.
        """
        found = {number}
        for raw in sorted(self._entries, key=itemgetter(0)):  # a parent begins first
            if raw[1] is not None and raw[1][0] in found:
                found.add(raw[0])
        return found

    def requests(self) -> dict[RequestRecord, set[str]]:
        """Return the requests of the recorded emissions, newest first, with their signals."""
        found: dict[RequestRecord, set[str]] = {}
        for raw in tuple(self._entries):
            signal, request = _key(raw)
            found.setdefault(request, set()).add(signal)
        return dict(sorted(found.items(), key=lambda item: item[0].id, reverse=True))

    def signals_of(self, request: RequestRecord) -> list[str]:
        """Return the signals that a request has sent, each once, in the order of the sends."""
        raw = sorted((each[0], each[2]) for each in tuple(self._entries) if each[7] is request)
        return list(dict.fromkeys(signal for _, signal in raw))


def _entry(
    epoch: float,
    number: int,
    parent: Parent | None,
    signal: str,
    module: str,
    sender: str,
    payload: tuple[str, ...],
    site: Caller | None,
    request: RequestRecord,
    thread: int,
    task: str | None,
    times: list[float],
    roster: Roster,
    orders: tuple[int, ...] | None,
    muted: dict[int, str] | None,
    exceptional: _Exceptional | None,
) -> JournalEntry:
    """Return a recorded emission.

    :param epoch: when the clock of its times began, in seconds since the epoch.
    """
    return JournalEntry(
        number=number,
        parent=None if parent is None else parent[0],
        parent_order=None if parent is None else parent[1],
        time=epoch + times[0],
        signal=signal,
        sender=f"{module}.{sender}" if module != "builtins" else sender,
        payload=payload,
        site=place_of_caller(site),
        request=request,
        thread=thread,
        task=task,
        started=times[0],
        duration=times[-1] - times[0],
        steps=tuple(
            _steps(
                times,
                roster,
                tuple(roster.connections) if orders is None else orders,
                muted or {},
                exceptional or {},
            )
        ),
    )


def entry_of(
    observation: Observation, sender: str, request: RequestRecord
) -> Callable[[], JournalEntry]:
    """Return a function that returns an observed emission as a journal records it.

    What its deliveries have done since is included.

    :param observation: the emission.
    :param sender: the type of its sender.
    :param request: the request that it counts to.
    """
    details = observation.exceptional or {}
    exceptional: _Exceptional = {
        index: (status, _raised(value) if status in _FAILED else value)
        for index, (status, value) in details.items()
    }
    return partial(
        _entry,
        time.time() - time.perf_counter(),
        observation.number,
        observation.parent,
        observation.signal,
        "builtins",
        sender,
        tuple(observation.payload),
        observation.caller,
        request,
        get_ident(),
        None,
        observation.times,
        observation.roster,
        tuple(map(_order_of, observation.connections)),
        observation.muted,
        exceptional,
    )


def _raised(error: BaseException) -> tuple[str, Place | None]:
    """Return type and place of an exception, which would keep its frames."""
    return type(error).__qualname__, frame_place(error)


def _key(raw: tuple[Any, ...]) -> tuple[str, RequestRecord]:
    """Return the signal and the request of a recorded emission."""
    return raw[2], raw[7]


def _task_name(asyncio: Any) -> str | None:
    """Return the name of the current asyncio task."""
    task = asyncio.current_task()
    return None if task is None else str(task.get_name())


def _steps(
    times: list[float],
    roster: Roster,
    orders: tuple[int, ...],
    muted: dict[int, str],
    exceptional: _Exceptional,
) -> list[JournalStep]:
    """Return a step for every connection, in calling order.

    :param times: when the emission began, and when each of the called receivers ended.
    :param orders: the orders of the connections that were called, then of those not reached.
    :param muted: why others were muted, by their orders.
    """
    called: dict[int, JournalStep] = {}
    connections = roster.connections
    for index, (began, ended) in enumerate(pairwise(times)):
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
    return steps


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
