"""What happened: requests, the emissions in them, and the part of each receiver.

Plain records, made from the journal; the page, its JSON and the commands show them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from ..core.journal import Journal, JournalEntry, JournalStep, RequestKind, RequestRecord
from ..errors import nearest
from ..records import AFTER_COMMIT, IMMEDIATE, Place
from .labels import duration, label, named, plain, short_file

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepInfo:
    """One receiver's part in one emission."""

    number: int
    """Its place in the order of the receivers, from 1."""
    receiver: Place
    """The receiver."""
    status: str
    """``ran``, ``failed``, ``skipped``, ``other_sender``, ``not_reached``, ``muted``, ``waiting``
    or ``dropped``."""
    reason: str | None
    """Why it has this status, if the status does not tell."""
    duration: float | None
    """How long it ran, in seconds; ``None`` if it did not run."""
    error: str | None
    """The type of the exception that it raised."""


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
    """How often a receiver failed."""
    signals: tuple[str, ...]
    """The signals of its recorded emissions."""

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return _title(self)


def _title(request: RequestInfo | RequestRecord) -> str:
    if request.kind == "request":
        return f"{request.method} {request.path or '(no route)'}"
    return request.path or "Outside a request"


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
            self.path.lower() in _title(request).lower()
            and (not self.signal or self.signal in signals)
            and str(request.status or "").startswith(self.status)
            and (request.failures > 0 or not self.failed)
            and (not self.domain or any(app_signals.origin(name) == "domain" for name in signals))
        )


Found: TypeAlias = tuple[RequestRecord, set[str]]
"""A request, and the signals of its recorded emissions."""


def requests(app_signals: AppSignals) -> list[Found]:
    """Return the requests in which signals were sent, newest first."""
    journal = app_signals.journal
    return [] if journal is None else list(journal.requests().items())


def describe(app_signals: AppSignals, found: Iterable[Found]) -> list[RequestInfo]:
    """Return the records of requests.

    :param found: some of the :func:`requests`.
    """
    journal = app_signals.journal
    return [] if journal is None else [_request(journal, *each) for each in found]


def request(app_signals: AppSignals, number: int) -> RequestInfo | None:
    """Return one request, or ``None`` if it is not recorded."""
    found = [each for each in requests(app_signals) if each[0].id == number]
    return next(iter(describe(app_signals, found)), None)


def emissions(
    app_signals: AppSignals, requests: Iterable[RequestInfo], rows: int
) -> dict[int, list[EmissionInfo]]:
    """Return recorded emissions of requests, by the request's id, in the order of the sends.

    :param requests: the requests.
    :param rows: how many emissions and steps to return at most, the last ones; one emission more if
        there are more.
    """
    ids = {request.id for request in requests}
    found: dict[int, list[EmissionInfo]] = {each: [] for each in ids}
    for emission in _emissions(app_signals, lambda number, signal, record: record.id in ids, rows):
        found[emission.request].append(emission)
    return found


def emission(app_signals: AppSignals, number: int) -> EmissionInfo | None:
    """Return one emission, or ``None`` if it is not recorded."""
    found = _emissions(app_signals, lambda each, signal, record: each == number)
    return found[0] if found else None


def within(app_signals: AppSignals, emission: EmissionInfo, rows: int) -> list[EmissionInfo]:
    """Return one emission, and those that its receivers sent, directly or not.

    :param emission: the emission.
    :param rows: as in :func:`emissions`.
    """
    journal = app_signals.journal
    numbers = set() if journal is None else journal.within(emission.number)
    found = _emissions(app_signals, lambda each, *_: each in numbers, rows)
    return found if found[:1] and found[0].number == emission.number else [emission, *found]


def last_emissions(app_signals: AppSignals, name: str, count: int) -> list[EmissionInfo]:
    """Return the last emissions of a signal, newest first."""
    journal = app_signals.journal
    if journal is None:
        return []
    found = islice(journal.newest(lambda number, signal, record: signal == name), count)
    return [_emission(entry, None) for entry in found]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explained:
    """What happened to each receiver in the last emissions of a signal."""

    emissions: tuple[EmissionInfo, ...]
    """The emissions, newest first."""
    rows: tuple[tuple[Place, tuple[StepInfo | None, ...]], ...]
    """Each receiver with its step in each of the emissions; ``None`` where it was not connected."""


RECEIVERS = 100
"""The most receivers that are explained."""

JSON_ROWS = 20_000
"""The most emissions and steps together in the JSON of requests."""


def explain(emissions: list[EmissionInfo]) -> Explained | None:
    """Return what happened to each receiver in these emissions, or ``None`` without emissions."""
    if not emissions:
        return None
    rows: dict[tuple[Place, int], dict[int, StepInfo]] = {}
    for emission in emissions:
        seen: Counter[Place] = Counter()  # one function may be connected for several senders
        for step in emission.steps:
            key = step.receiver, seen[step.receiver]
            seen[step.receiver] += 1
            rows.setdefault(key, {})[emission.number] = step
    return Explained(
        emissions=tuple(emissions),
        rows=tuple(
            (place, tuple(steps.get(emission.number) for emission in emissions))
            for (place, _), steps in islice(rows.items(), RECEIVERS)
        ),
    )


def _emissions(
    app_signals: AppSignals, wanted: Callable[[int, str, RequestRecord], bool], rows: int = 1
) -> list[EmissionInfo]:
    """Return the last recorded emissions, in the order in which they began.

    :param wanted: as in :meth:`.Journal.newest`.
    :param rows: as in :func:`emissions`.
    """
    journal = app_signals.journal
    entries: list[JournalEntry] = []
    for entry in () if journal is None else journal.newest(wanted):
        entries.append(entry)
        rows -= 1 + len(entry.steps)
        if rows < 0:
            break
    entries.sort(key=lambda entry: entry.number)
    by_number = {entry.number: entry for entry in entries}
    return [_emission(entry, by_number.get(entry.parent or 0)) for entry in entries]


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


def clock(seconds: float) -> str:
    """Return a time since the epoch as the local time of day, with milliseconds."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S.%f")[:-3]


def requests_to_json(app_signals: AppSignals, found: Iterable[RequestInfo]) -> dict[str, Any]:
    """Return requests and their emissions as JSON types."""
    listed = list(found)
    sent = emissions(app_signals, listed, JSON_ROWS)
    return {
        "app": app_signals.app.name,
        "journal": app_signals.journal is not None,
        "requests": [
            {**_fields(request), "emissions": [emission_to_json(each) for each in sent[request.id]]}
            for request in listed
        ],
    }


def emission_to_json(emission: EmissionInfo) -> dict[str, Any]:
    """Return one emission as JSON types."""
    return {
        **_fields(emission),
        "site": None if emission.site is None else _fields(emission.site),
        "steps": [{**_fields(step), "receiver": _fields(step.receiver)} for step in emission.steps],
    }


def _fields(record: Any) -> dict[str, Any]:
    """Return the fields of a record; a tuple becomes a list."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def _request(journal: Journal, record: RequestRecord, signals: set[str]) -> RequestInfo:
    return RequestInfo(
        id=record.id,
        kind=record.kind,
        method=record.method and plain(record.method),
        path=record.path and plain(record.path),
        endpoint=record.endpoint and plain(record.endpoint),
        status=record.status,
        started=journal.epoch(record.started),
        duration=record.duration,
        sent=record.emissions,
        failures=record.failures,
        signals=tuple(sorted(map(plain, signals))),
    )


def _emission(entry: JournalEntry, parent: JournalEntry | None) -> EmissionInfo:
    return EmissionInfo(
        number=entry.number,
        parent=entry.parent,
        parent_step=None if parent is None else _sending_step(entry, parent),
        signal=plain(entry.signal),
        site=entry.site,
        sender=plain(entry.sender),
        payload=tuple(map(plain, entry.payload)),
        started=entry.time,
        duration=entry.duration,
        thread=entry.thread,
        task=entry.task,
        request=entry.request.id,
        steps=tuple(_steps(entry)),
    )


def _sending_step(entry: JournalEntry, parent: JournalEntry) -> int | None:
    """Return the number of the parent's step whose receiver sent an emission."""
    for number, step in enumerate(_in_order(parent), 1):
        if entry.parent_order is None:
            is_sender = entry.thread == parent.thread and _covers(step, entry.started)
        else:
            is_sender = step.connection.order == entry.parent_order
        if is_sender:
            return number
    return None


def _covers(step: JournalStep, time: float) -> bool:
    """Tell whether a receiver was running at a time."""
    if step.started is None or step.duration is None:
        return False
    return step.started <= time <= step.started + step.duration


def _in_order(entry: JournalEntry) -> list[JournalStep]:
    """Return the steps in the order in which they run: deliveries follow what runs immediately."""
    return sorted(entry.steps, key=lambda step: step.connection.delivery != IMMEDIATE)


def _steps(entry: JournalEntry) -> Iterator[StepInfo]:
    failed: str | None = None
    for number, step in enumerate(_in_order(entry), 1):
        yield StepInfo(
            number=number,
            receiver=step.receiver,
            status=step.status,
            reason=_reason(entry, step, failed),
            duration=step.duration,
            error=step.error,
        )
        if step.status == "failed" and not step.late:
            failed = f"receiver {number}, {named(step.receiver)}, raised {step.error}"


def _reason(entry: JournalEntry, step: JournalStep, failed: str | None) -> str | None:
    """Return why a step has its status.

    :param failed: the receiver that raised before this one, if any.
    """
    connection, late = step.connection, "after the send"
    if step.late and step.started is not None:
        how = "after the commit" if connection.delivery == AFTER_COMMIT else connection.delivery
        late = f"{how}, {duration(step.started - entry.started)} after the send"
    match step.status:
        case "failed":
            return f"raised {step.error}" + (f", {late}" if step.late else "")
        case "ran":
            return late if step.late else None
        case "skipped":
            return f"{_predicate(connection.when)} returned false"
        case "other_sender":
            if connection.sender == entry.sender:
                return f"connected for another object of type {entry.sender}"
            return f"connected for sender {connection.sender}, sent by {entry.sender}"
        case "not_reached":
            return failed or "an earlier receiver raised"
        case "muted":
            return "the signal was muted"
        case "waiting":
            commit = connection.delivery == AFTER_COMMIT
            return "waits for the commit" if commit else f"waits for {connection.delivery}"
        case "dropped":
            return step.dropped or f"{connection.delivery} dropped the call"


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
    undeclared = [each for each in app_signals.known_names() if not is_declared(each)]
    found = nearest(name, undeclared) if is_declared(name) else None
    return None if found is None else plain(found)
