"""Plain records of requests, of their emissions and of each receiver's step, from the journal.

The page, its JSON and the commands show them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from ..core.journal import (
    Journal,
    JournalEntry,
    JournalStep,
    RequestKind,
    RequestRecord,
)
from ..errors import nearest
from ..records import AFTER_COMMIT, IMMEDIATE, Place
from .labels import duration, label, named, plain, short_file, to_json
from .stored import Stored, ask, next_attempt, updated, why_stored

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals


OUTSIDE = "Outside a request"
"""The title of app contexts outside of requests and commands."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepInfo:
    """One receiver's part in one emission."""

    number: int
    """Its place in the order of the receivers, from 1."""
    receiver: Place
    """The receiver."""
    status: str
    """``ran``, ``failed``, ``skipped``, ``other_sender``, ``not_reached``, ``muted``, ``waiting``,
    ``dropped``, ``retrying``, ``dead`` or ``done``."""
    reason: str | None
    """Why it has this status, if the status does not tell."""
    duration: float | None
    """How long it ran, in seconds; ``None`` if it did not run."""
    error: str | None
    """The type of the exception that it raised."""
    raised: Place | None
    """The last frame of the exception's traceback."""
    message: int | None
    """The id of its message in the outbox, as long as that is stored."""
    next_attempt: float | None
    """When a step that is retried runs next, in seconds since the epoch, if that is not now."""

    @property
    def outcome(self) -> str:
        """The status in words."""
        return self.status.replace("_", " ")

    @property
    def explanation(self) -> str:
        """The outcome and its reason, such as ``muted: the signal was muted``."""
        return self.outcome if self.reason is None else f"{self.outcome}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmissionInfo:
    """One emission."""

    number: int
    """Its number in this process, in the order in which emissions began."""
    parent: int | None
    """The number of the emission whose receiver sent it, or ``None``."""
    parent_step: int | None
    """The number of that receiver's step, or ``None`` if it is not known."""
    signal: str
    """The signal's name."""
    site: Place | None
    """The place of the send."""
    sender: str
    """The sender's type."""
    payload: tuple[str, ...]
    """The payload's names."""
    started: float
    """When it began, in seconds since the epoch."""
    duration: float
    """How long it took, in seconds."""
    thread: int
    """The identifier of the thread."""
    task: str | None
    """The name of the asyncio task, or ``None`` outside of one."""
    request: int
    """The id of the request that it was sent in."""
    steps: tuple[StepInfo, ...]
    """A step for every receiver that was connected, in calling order."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestInfo:
    """A request, a command or an app context in which signals were sent."""

    id: int
    """Its number in this process."""
    kind: RequestKind
    """``request``, ``command``, or ``none`` outside of both."""
    method: str | None
    """The method of the request."""
    path: str | None
    """The path without its query; outside debug and testing the URL rule; a command's name."""
    endpoint: str | None
    """The endpoint of the request."""
    status: int | None
    """The status of the response."""
    started: float
    """When it began, in seconds since the epoch."""
    duration: float | None
    """How long it took, in seconds; ``None`` if it has not ended."""
    sent: int
    """The number of its emissions, including those that are no longer recorded."""
    failures: int
    """How often a receiver failed; a durable one counts once its message is dead."""
    signals: tuple[str, ...]
    """The signals of its recorded emissions: domain signals, then others, each in alphabetical
    order."""

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return _title(self)


def _title(request: RequestInfo | RequestRecord) -> str:
    if request.kind == "request":
        return f"{request.method} {request.path or '(no route)'}"
    return request.path or OUTSIDE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    """One line of a request's tree: an emission or a step of one."""

    depth: int
    """The number of rows that it is nested in."""
    emission: EmissionInfo
    """The emission."""
    step: StepInfo | None
    """The step, or ``None`` for the emission itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFilter:
    """Which requests to show; an empty filter matches all."""

    id: int | None = None
    """The only request."""
    path: str = ""
    """A part of the path, the method or the command."""
    signal: str = ""
    """The name of a signal that was sent."""
    status: str = ""
    """The first digits of the status, such as ``5`` or ``404``."""
    failed: bool = False
    """Only requests in which a receiver failed."""
    domain: bool = False
    """Only requests that sent other signals than those of Flask and extensions."""

    def matches(self, request: RequestRecord, signals: set[str], app_signals: AppSignals) -> bool:
        """Tell whether a request matches.

        :param request: the request.
        :param signals: the signals that were sent in it.
        :param app_signals: the app's signals.
        """
        return (
            self.id in (None, request.id)
            and self.path.lower() in _title(request).lower()
            and (not self.signal or self.signal in signals)
            and str(request.status or "").startswith(self.status)
            and (request.failures > 0 or not self.failed)
            and (not self.domain or any(app_signals.origin(name) == "domain" for name in signals))
        )


Found: TypeAlias = tuple[RequestRecord, set[str]]
"""A request, and the signals of its recorded emissions."""


def _journal_of(app_signals: AppSignals) -> Journal:
    """Return the journal of an app; an empty one if it keeps none."""
    return app_signals.journal or Journal(1)


def requests(app_signals: AppSignals, wanted: RequestFilter | None = None) -> list[Found]:
    """Return the requests in which signals were sent, newest first.

    :param wanted: which ones to return; all if omitted.
    """
    found = list(_journal_of(app_signals).requests().items())
    if wanted is None:
        return found
    return [each for each in found if wanted.matches(*each, app_signals)]


def describe(app_signals: AppSignals, found: Iterable[Found]) -> list[RequestInfo]:
    """Return the records of requests.

    :param found: some of the :func:`requests`.
    """
    return [_request(app_signals, *each) for each in found]


def request(app_signals: AppSignals, number: int) -> RequestInfo | None:
    """Return one request, or ``None`` if it is not recorded."""
    found = _journal_of(app_signals).requests(number)
    return next(iter(describe(app_signals, found.items())), None)


def emissions(
    app_signals: AppSignals, listed: Iterable[RequestInfo], rows: int, only: str = ""
) -> dict[int, list[EmissionInfo]]:
    """Return recorded emissions of requests, by the request's id, in the order of the sends.

    :param listed: the requests.
    :param rows: how many emissions and steps to return at most, the last ones; one emission more if
        there are more.
    :param only: the name of the only signal whose emissions are returned; those of all if empty.
    """
    found: dict[int, list[EmissionInfo]] = {request.id: [] for request in listed}
    entries = _journal_of(app_signals).newest(
        lambda number, signal, record: record.id in found and only in ("", signal)
    )
    for emission in describe_entries(app_signals, _last(entries, rows)):
        found[emission.request].append(emission)
    return found


def emission_of_message(app_signals: AppSignals, message: str | None) -> int | None:
    """Return the number of the emission that a message was stored for, if it is recorded.

    :param message: the id of the message, which is also the idempotency key.
    """
    outbox = app_signals.outbox
    return None if outbox is None or message is None else outbox.result_of(message).number


def within(app_signals: AppSignals, number: int, rows: int) -> list[EmissionInfo]:
    """Return one emission, and those that its receivers sent, directly or not.

    :param number: the number of the emission.
    :param rows: as in :func:`emissions`.
    :return: the emission first; an empty list if it is not recorded.
    """
    journal = _journal_of(app_signals)
    numbers = journal.within(number)
    found = _last(journal.newest(lambda each, *_: each in numbers), rows)
    if all(entry.number != number for entry in found):
        found += journal.newest(lambda each, *_: each == number)
    described = describe_entries(app_signals, found)
    return described if described and described[0].number == number else []


EXPLAINED = 8
"""The number of emissions that are explained."""


def last_emissions(app_signals: AppSignals, name: str) -> list[EmissionInfo]:
    """Return the last :data:`EXPLAINED` emissions of a signal, newest first."""
    entries = _journal_of(app_signals).newest(lambda number, signal, record: signal == name)
    return describe_entries(app_signals, islice(entries, EXPLAINED))[::-1]


RECEIVERS = 100
"""The most receivers that are explained."""

JSON_ROWS = 20_000
"""The most emissions and steps together in the JSON of requests."""


def receivers_by_emission(
    emissions: list[EmissionInfo],
) -> list[tuple[Place, list[StepInfo | None]]]:
    """Return each receiver with its step in each emission, or ``None`` if it was not connected."""
    rows: dict[tuple[Place, int], dict[int, StepInfo]] = {}
    for emission in emissions:
        seen: Counter[Place] = Counter()  # one function may be connected for several senders
        for step in emission.steps:
            key = step.receiver, seen[step.receiver]
            seen[step.receiver] += 1
            rows.setdefault(key, {})[emission.number] = step
    return [
        (place, [steps.get(emission.number) for emission in emissions])
        for (place, _), steps in islice(rows.items(), RECEIVERS)
    ]


def emissions_after(app_signals: AppSignals, number: int, rows: int) -> list[EmissionInfo]:
    """Return the emissions that began after another one, in the order of the sends.

    The outbox is not asked: a test that has failed may have left its database locked.

    :param number: the number of the other emission.
    :param rows: as in :func:`emissions`.
    """
    entries = _journal_of(app_signals).newest(lambda each, *_: each > number)
    return _in_sending_order(_last(entries, rows), {})


def _last(entries: Iterable[JournalEntry], rows: int) -> list[JournalEntry]:
    """Return entries from the first on, until they and their steps are more than the rows.

    :param entries: some of :meth:`.Journal.newest`.
    :param rows: as in :func:`emissions`.
    """
    found: list[JournalEntry] = []
    room = rows
    for entry in entries:
        found.append(entry)
        room -= 1 + len(entry.steps)
        if room < 0:
            break
    return found


def describe_entries(
    app_signals: AppSignals, entries: Iterable[JournalEntry]
) -> list[EmissionInfo]:
    """Return the records of emissions, in the order in which they began.

    A worker in another process may have run a message. One that this process runs meanwhile is
    complete in the journal when its row is gone, so the steps are then put together again.
    """
    found = list(entries)
    stored = ask(app_signals, (step for entry in found for step in entry.steps))
    return _in_sending_order([entry.again() for entry in found] if stored else found, stored)


def _in_sending_order(entries: list[JournalEntry], stored: Stored) -> list[EmissionInfo]:
    entries.sort(key=lambda entry: entry.number)
    parents = {entry.number: _Parent(entry) for entry in entries}
    return [_emission(entry, parents.get(entry.parent or 0), stored) for entry in entries]


def tree(emissions: Iterable[EmissionInfo]) -> Iterator[Row]:
    """Yield the rows of emissions and their steps; what a receiver sent follows its step."""
    every = list(emissions)
    numbers = {each.number for each in every}
    children: dict[tuple[int, int | None], list[EmissionInfo]] = {}
    for each in every:
        if each.parent in numbers:
            children.setdefault((each.parent or 0, each.parent_step), []).append(each)
    roots = [each for each in every if each.parent not in numbers]
    waiting = [Row(depth=0, emission=each, step=None) for each in reversed(roots)]
    while waiting:  # a loop: a chain of sends may be longer than the stack
        row = waiting.pop()
        yield row
        emission, depth = row.emission, row.depth + 1
        below: list[Row] = []
        if row.step is not None:
            sent = children.get((emission.number, row.step.number), ())
            below = [Row(depth=depth, emission=each, step=None) for each in sent]
        else:
            below = [Row(depth=depth, emission=emission, step=step) for step in emission.steps]
            late = children.get((emission.number, None), ())
            below += [Row(depth=depth, emission=each, step=None) for each in late]
        waiting += reversed(below)


def requests_to_json(
    app_signals: AppSignals, listed: Sequence[RequestInfo], only: str = ""
) -> dict[str, Any]:
    """Return requests and their emissions as JSON types.

    :param only: as in :func:`emissions`.
    """
    sent = emissions(app_signals, listed, JSON_ROWS, only)
    return {
        "app": app_signals.app.name,
        "journal": app_signals.journal is not None,
        "requests": [
            {**to_json(request), "emissions": [to_json(each) for each in sent[request.id]]}
            for request in listed
        ],
    }


def _request(app_signals: AppSignals, record: RequestRecord, signals: set[str]) -> RequestInfo:
    is_domain = app_signals.registry.is_domain
    return RequestInfo(
        id=record.id,
        kind=record.kind,
        method=record.method and plain(record.method),
        path=record.path and plain(record.path),
        endpoint=record.endpoint and plain(record.endpoint),
        status=record.status,
        started=_journal_of(app_signals).epoch(record.started),
        duration=record.duration,
        sent=record.emissions,
        failures=record.failures,
        signals=tuple(map(plain, sorted(signals, key=lambda name: (not is_domain(name), name)))),
    )


def _emission(entry: JournalEntry, parent: _Parent | None, stored: Stored) -> EmissionInfo:
    return EmissionInfo(
        number=entry.number,
        parent=entry.parent,
        parent_step=None if parent is None else parent.step_of(entry),
        signal=plain(entry.signal),
        site=entry.site,
        sender=plain(entry.sender),
        payload=tuple(map(plain, entry.payload)),
        started=entry.time,
        duration=entry.duration,
        thread=entry.thread,
        task=entry.task,
        request=entry.request.id,
        steps=tuple(_steps(entry, stored)),
    )


class _Parent:
    """An emission whose receivers sent others."""

    def __init__(self, entry: JournalEntry) -> None:
        self._entry = entry

    @cached_property
    def _numbers(self) -> dict[int, int]:
        """The number of each step, by the order of its connection."""
        steps = enumerate(in_order(self._entry), 1)
        return {step.connection.order: number for number, step in steps}

    @cached_property
    def _runs(self) -> list[tuple[float, float, int]]:
        """When each receiver ran: its beginning, its end, and the number of its step."""
        return sorted(
            (step.started, step.started + step.duration, self._numbers[step.connection.order])
            for step in self._entry.steps
            if step.started is not None and step.duration is not None
        )

    def step_of(self, child: JournalEntry) -> int | None:
        """Return the number of the step whose receiver sent another emission, if it is known."""
        if child.parent_order is not None:
            return self._numbers.get(child.parent_order)
        index = bisect_right(self._runs, child.started, key=itemgetter(0)) - 1
        if index < 0 or child.thread != self._entry.thread:
            return None
        _, end, number = self._runs[index]
        return number if child.started <= end else None


def in_order(entry: JournalEntry) -> list[JournalStep]:
    """Return the steps in the order in which they run: deliveries follow what runs immediately."""
    return sorted(entry.steps, key=lambda step: step.connection.delivery != IMMEDIATE)


def _steps(entry: JournalEntry, stored: Stored) -> Iterator[StepInfo]:
    failed: str | None = None
    for number, recorded in enumerate(in_order(entry), 1):
        step = updated(recorded, stored)
        row = None if step.message is None else stored.get(step.message)
        yield StepInfo(
            number=number,
            receiver=step.receiver,
            status=step.status,
            reason=_reason(entry, step, failed, row),
            duration=step.duration,
            error=step.error,
            raised=step.raised,
            message=None if step.status in {"ran", "dropped", "done"} else step.message,
            next_attempt=next_attempt(step, row),
        )
        if step.status == "failed" and not step.late:
            failed = f"receiver {number}, {named(step.receiver)}, raised {step.error}"


def _reason(entry: JournalEntry, step: JournalStep, failed: str | None, row: Any) -> str | None:
    """Return why a step has its status.

    :param failed: the receiver that raised before this one, if any.
    :param row: that of its message, if the outbox was asked.
    """
    connection = step.connection
    if step.attempts is not None:
        return why_stored(entry, step, row)
    match step.status:
        case "failed":
            return f"raised {step.error}" + (f", {_late(entry, step)}" if step.late else "")
        case "ran":
            return _late(entry, step) if step.late else None
        case "skipped":
            return f"{_predicate(connection.when)} returned false"
        case "other_sender":
            if connection.sender == entry.sender:
                return f"connected for another object of type {entry.sender}"
            return f"connected for sender {connection.sender}, sent by {entry.sender}"
        case "not_reached":
            return failed or "an earlier receiver raised"
        case "muted":
            return step.muted
        case "waiting":
            commit = connection.delivery == AFTER_COMMIT
            return "waits for the commit" if commit else f"waits for {connection.delivery}"
        case _:
            return plain(step.dropped or f"{connection.delivery} dropped the call")


def _late(entry: JournalEntry, step: JournalStep) -> str:
    """Return when the delivery of a step ran its receiver."""
    if step.started is None:
        return "after the send"
    delivery = step.connection.delivery
    how = "after the commit" if delivery == AFTER_COMMIT else delivery
    return f"{how}, {duration(step.started - entry.started)} after the send"


def _predicate(when: Place | None) -> str:
    """Return the name of a predicate; for a lambda also its place, because its name says little."""
    if when is None:
        return "its predicate"
    return f"{named(when)} ({label(when, short_file)})" if "<lambda>" in when.name else named(when)


def similar_name(app_signals: AppSignals, name: str) -> str | None:
    """Return an undeclared name with receivers that may be a typo of a declared one, or ``None``.

    :param name: the declared name.
    """
    is_declared = app_signals.registry.is_declared
    undeclared = [each for each in app_signals.names.all() if not is_declared(each)]
    found = nearest(name, undeclared) if is_declared(name) else None
    return None if found is None else plain(found)
