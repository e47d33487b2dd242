"""The report of one app's signals as plain records; the page and the commands show it."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Literal, cast

import blinker
from blinker.base import ANY_ID
from flask import Flask

from ..app.handle import DomainSignal
from ..bridge import BUILTIN_PAYLOADS
from ..catalogue import CATALOGUE
from ..core.introspection import is_async, locate, place_of, takes_extra
from ..core.journal import LastFailure, Tally
from ..core.names import is_glob
from ..core.signal import Signal
from ..deliveries.durable.delivery import Durable
from ..deliveries.sqlite import begins_late, engine_label
from ..errors import how_to_declare, nearest, sender_label, suggestion
from ..records import AFTER_COMMIT, DURABLE, IMMEDIATE, Connection, OnError, Place
from .labels import label, named, near_file, plain, short_file, to_json

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..core.connection import LiveConnection

ProblemKind = Literal[
    "dead", "undeclared", "unknown", "no_extra", "duplicate", "sqlite", "outbox", "no_receiver"
]

TITLES: dict[ProblemKind, str] = {
    "dead": "Receiver collected",
    "undeclared": "Not declared",
    "unknown": "Unknown name",
    "no_extra": "No **kwargs",
    "duplicate": "Connected twice",
    "sqlite": "SQLite begins late",
    "outbox": "Outbox incomplete",
    "no_receiver": "Receiver missing",
}
"""The short title of each kind of problem."""

POLICIES: dict[OnError, str] = {
    "raise": "the exception propagates to the sender, and later receivers do not run",
    "group": "every receiver runs, then the sender gets one ExceptionGroup",
    "isolate": "the failure is logged and reported, every receiver runs, and the sender continues",
}
"""What happens if a receiver fails, by failure policy."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """A likely mistake, and how to fix it."""

    kind: ProblemKind
    """``dead``: a weak receiver was collected. ``undeclared``: a name with receivers is not
    declared. ``unknown``: a name was sent that is not declared and has no receivers. ``no_extra``:
    a receiver has no ``**kwargs``. ``duplicate``: the same function is connected twice, by module
    and name or by file and line. ``sqlite``: a receiver waits for the commits of an SQLite engine
    that needs ``kit.begin_immediate``, or is durable and stores its messages with one. ``outbox``:
    the database lacks the table of durable receivers, or a column. ``no_receiver``: there are
    messages for a receiver that does not exist. Only ``flask signals check`` finds the last two."""
    signal: str
    """The signal's name."""
    message: str
    """A description in one sentence."""
    fix: str
    """How to fix it."""
    place: Place | None = None
    """The place in the code."""

    @property
    def title(self) -> str:
        """The short title of its kind."""
        return TITLES[self.kind]

    def __str__(self) -> str:
        where = "" if self.place is None else label(self.place, near_file)
        return f"{self.message} {self.fix}" + (f" ({where})" if where else "")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReceiverInfo:
    """One receiver of one signal."""

    module: str
    """The module that it is defined in."""
    name: str
    """Its qualified name there."""
    file: str | None
    """Its source file."""
    line: int | None
    """Its line in that file."""
    sender: str | None
    """The sender it is limited to, or ``None`` for any."""
    priority: int
    """Higher runs first."""
    position: int | None = None
    """The place in which a send comes to it, from 1: it calls the receiver, or gives the call to
    the delivery. ``None`` if it is foreign."""
    delivery: str
    """The name of its delivery."""
    when: Place | None
    """The place of its ``when`` predicate, or ``None``."""
    is_async: bool
    """Whether it is a coroutine function."""
    weak: bool
    """Whether it is only weakly referenced."""
    uid: str | None
    """Its ``uid``."""
    pattern: str | None = None
    """The pattern that connected it, such as ``account_*``; ``None`` if it is connected by name."""
    takes_extra: bool
    """Whether it has ``**kwargs``."""
    on_error: OnError | None = None
    """Its own failure policy, or ``None`` for the signal's."""
    foreign: bool = False
    """Whether it is connected to the original signal of Flask or an extension, not by the kit."""
    calls: int | None = None
    """How often it was called; ``None`` without a journal."""
    failures: int | None = None
    """How often it raised."""
    dropped: int | None = None
    """How often its delivery dropped the call, as after a rollback or ``Discard``."""
    mean: float | None = None
    """The mean duration of its last hundred calls, in seconds; ``None`` before the first."""
    p95: float | None = None
    """The 95th percentile of the last hundred durations, in seconds; ``None`` below
    :data:`ENOUGH` calls."""
    last_failure: LastFailure | None = None
    """Its last failure."""

    @property
    def phase(self) -> str | None:
        """The heading of the receivers with its delivery; ``None`` if it runs during the send."""
        if self.delivery == IMMEDIATE:
            return None
        return HEADINGS.get(self.delivery) or f"By delivery {self.delivery!r}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignalInfo:
    """One signal of one app."""

    name: str
    """Its name."""
    doc: str | None
    """What it means."""
    origin: str
    """``domain``, ``flask`` or ``bridged``."""
    declared: bool
    """Whether it is declared or bridged."""
    file: str | None
    """Where it was declared."""
    line: int | None
    """The line there."""
    payload: tuple[str, ...] | None
    """The payload's names, or ``None`` for any payload."""
    optional: tuple[str, ...]
    """The payload names that a send may omit."""
    types: dict[str, str]
    """The text of the stub's annotation, by the name of the payload."""
    sender_type: str | None
    """The text of the annotation of the sender, or ``None`` without one."""
    open: bool
    """Whether a send may pass other names as well."""
    on_error: OnError
    """Its failure policy."""
    muted: bool
    """Whether it is muted, in every thread and task or in the current one."""
    receivers: tuple[ReceiverInfo, ...]
    """In the order in which they run: those called during the send first, foreign ones last among
    them; then those of each delivery."""
    problems: tuple[Problem, ...]
    """Its problems."""
    sent: int | None = None
    """How often it was sent; ``None`` without a journal."""
    last_sent: float | None = None
    """When it was last sent, in seconds since the epoch; ``None`` before the first time."""

    @property
    def orphan(self) -> bool:
        """Whether it is declared and has no receivers."""
        return self.origin == "domain" and self.declared and not self.receivers

    @property
    def traits(self) -> tuple[str, ...]:
        """The names of the :data:`TRAITS` that it has."""
        return tuple(trait for trait, has in TRAITS.items() if has(self))

    @property
    def text(self) -> str:
        """The text that a search matches, in lower case."""
        parts = [self.name, self.doc or "", *(self.payload or ()), label(self, short_file)]
        parts += [self.sender_type or "", *self.types.values()]
        for receiver in self.receivers:
            parts += [f"{receiver.module}.{receiver.name}", label(receiver, short_file)]
            parts += [receiver.delivery, receiver.sender or "", receiver.uid or ""]
            parts += [receiver.pattern or ""]
            parts += [] if receiver.when is None else [named(receiver.when)]
            parts += [] if receiver.last_failure is None else [receiver.last_failure.error]
        return " ".join(part for part in parts if part).lower()


TRAITS: dict[str, Callable[[SignalInfo], bool]] = {
    "receivers": lambda signal: bool(signal.receivers),
    "orphans": lambda signal: signal.orphan,
    "problems": lambda signal: bool(signal.problems),
    "failing": lambda signal: any(receiver.failures for receiver in signal.receivers),
    "async": lambda signal: any(receiver.is_async for receiver in signal.receivers),
    "weak": lambda signal: any(receiver.weak for receiver in signal.receivers),
    "foreign": lambda signal: any(receiver.foreign for receiver in signal.receivers),
}
"""The filters for signals, besides their origin and a search."""

HEADINGS = {AFTER_COMMIT: "After the commit", DURABLE: "Durable, run by a worker"}
"""The headings of the receivers with a delivery of the kit, which follow the immediate ones."""

ORIGINS = ("domain", "bridged", "flask")
"""The origins of signals, in the order in which they are shown."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """Which signals to show; an empty filter matches all."""

    words: str = ""
    """Each of these words must occur in a signal's name, doc, payload, file or receivers."""
    origins: tuple[str, ...] = ()
    """A signal must have one of these origins."""
    traits: tuple[str, ...] = ()
    """A signal must have all of these traits."""

    def matches(self, signal: SignalInfo) -> bool:
        """Tell whether a signal matches."""
        words = self.words.lower().split()
        text = signal.text if words else ""
        return (
            (not self.origins or signal.origin in self.origins)
            and set(self.traits) <= set(signal.traits)
            and all(word in text for word in words)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """A report of one app's signals."""

    app: str
    """The app's name."""
    signals: tuple[SignalInfo, ...]
    """Domain signals first, then bridged ones, then Flask's; by name within each origin."""
    journal: bool
    """Whether calls, failures and durations are counted."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of all signals."""
        return tuple(problem for signal in self.signals for problem in signal.problems)

    @property
    def receivers(self) -> tuple[ReceiverInfo, ...]:
        """The receivers of all signals; one that has several signals occurs several times."""
        return tuple(receiver for signal in self.signals for receiver in signal.receivers)

    @property
    def orphans(self) -> tuple[SignalInfo, ...]:
        """The signals that are declared and have no receivers."""
        return tuple(signal for signal in self.signals if signal.orphan)

    def tally(self) -> Counter[str]:
        """Count the signals of each origin and trait; for ``problems``, count the problems."""
        each = ((signal.origin, *signal.traits) for signal in self.signals)
        counts = Counter(word for words in each for word in words)
        counts["problems"] = len(self.problems)
        return counts

    def find(self, name: str) -> SignalInfo | None:
        """Return the signal of this name, or ``None``."""
        return next((signal for signal in self.signals if signal.name == name), None)

    def select(self, selection: Selection) -> Report:
        """Return the report of the signals that match a selection."""
        return self._only(selection.matches)

    def like(self, pattern: str) -> Report:
        """Return the report of the signals whose name matches a glob or contains a text."""
        if is_glob(pattern):
            return self._only(lambda signal: fnmatchcase(signal.name, pattern))
        return self._only(lambda signal: pattern.lower() in signal.name.lower())

    def without_unused(self) -> Report:
        """Return the report without unused signals of Flask and extensions.

        Unused signals have neither receivers nor problems.
        """
        return self._only(
            lambda signal: signal.origin == "domain" or bool(signal.receivers or signal.problems)
        )

    def _only(self, wanted: Callable[[SignalInfo], bool]) -> Report:
        return replace(self, signals=tuple(filter(wanted, self.signals)))

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        signals = [signal_to_json(signal) for signal in self.signals]
        return {"app": self.app, "journal": self.journal, "signals": signals}


def signal_to_json(signal: SignalInfo) -> dict[str, Any]:
    """Return one signal as JSON types; what no journal counts has no figures."""
    found: dict[str, Any] = {**to_json(signal), "orphan": signal.orphan}
    if signal.sent is None:
        del found["sent"], found["last_sent"]
    for receiver in found["receivers"]:
        if receiver["calls"] is None:
            for name in FIGURES:
                del receiver[name]
    return found


FIGURES = ("calls", "failures", "dropped", "mean", "p95", "last_failure")
"""The fields of a receiver that come from the journal."""

ENOUGH = 20
"""The calls from which on the 95th percentile differs from the slowest call."""

SUGGESTIONS = 20
"""The number of undeclared names that get a suggestion: each is compared with all declared ones."""


def report(app_signals: AppSignals, name: str | None = None) -> Report:
    """Return the report of one app's signals; it keeps nothing alive and changes nothing.

    :param app_signals: the app's signals, ``kit.for_app(app)``.
    :param name: the only signal to describe; all if ``None``.
    """
    known = {
        *app_signals.namespace,
        *app_signals.names.unknown,
        *app_signals.registry.names(),
    }
    names = sorted(
        map(plain, known), key=lambda each: (ORIGINS.index(app_signals.origin(each)), each)
    )
    engines = _late_engines(app_signals, names)
    suggest = _suggester([each for each in names if app_signals.registry.is_declared(each)])
    return Report(
        app=plain(app_signals.app.name),
        signals=tuple(
            _signal(app_signals, each, suggest, engines.get(each, ()))
            for each in names
            if name in (None, each)
        ),
        journal=app_signals.journal is not None,
    )


def _suggester(declared: list[str]) -> Callable[[str], str | None]:
    """Return a function that finds the nearest of these names, for its first few calls only."""
    left = iter(range(SUGGESTIONS))
    return lambda name: None if next(left, None) is None else nearest(name, declared)


def _signal(
    app_signals: AppSignals,
    name: str,
    suggest: Callable[[str], str | None],
    engines: Iterable[Problem],
) -> SignalInfo:
    handle = app_signals.registry.handle(name)
    signal = cast("Signal | None", app_signals.namespace.get(name))
    source = app_signals.registry.source(name)
    live = () if signal is None else signal.live_connections
    connections = [connection.describe(name) for connection in live]
    receivers = [
        _receiver(connection, each.target, position, **_figures(app_signals, signal, each))
        for position, (connection, each) in enumerate(zip(connections, live, strict=True), 1)
    ]
    place = None if handle is None else handle.place
    contract = None if handle is None else handle.contract
    origin = app_signals.origin(name)
    payload = contract.names if contract else BUILTIN_PAYLOADS.get(name)
    foreign = [] if source is None else list(_foreign(app_signals, source))
    return SignalInfo(
        name=name,
        doc=_doc(handle) or (None if source is None else _doc(source)),
        origin=origin,
        declared=app_signals.registry.is_declared(name),
        file=place.file if place else None,
        line=place.line if place else None,
        payload=payload,
        optional=contract.optional if contract else (),
        types=dict(contract.types) if contract else {},
        sender_type=contract.sender_type if contract else "Flask" if origin == "flask" else None,
        open=contract.open if contract else payload is None,
        on_error=app_signals.on_error(name),
        muted=signal is not None and signal.is_muted,
        receivers=_by_delivery([*receivers, *foreign]),
        problems=(
            *_undeclared(app_signals, name, connections, suggest),
            *_dead(app_signals, name),
            *_no_extra(connections),
            *_duplicate(name, signal),
            *engines,
        ),
        **_sent(app_signals, signal),
    )


def _sent(app_signals: AppSignals, signal: Signal | None) -> dict[str, Any]:
    """Return how often and when a signal was sent, by the fields of :class:`SignalInfo`."""
    journal = app_signals.journal
    if journal is None or signal is None:
        return {}
    last = signal.context.last_sent
    return {
        "sent": signal.context.sent,
        "last_sent": None if last is None else journal.epoch(last),
    }


def _doc(thing: Any) -> str | None:
    """Return the doc of this object, not that of its class."""
    doc = vars(thing).get("__doc__") if thing is not None else None
    return " ".join(doc.split()) if isinstance(doc, str) and doc.strip() else None


def _by_delivery(receivers: list[ReceiverInfo]) -> tuple[ReceiverInfo, ...]:
    """Return the receivers that are called during the send, then those of each delivery."""
    deliveries = list(dict.fromkeys([IMMEDIATE, *(receiver.delivery for receiver in receivers)]))
    return tuple(sorted(receivers, key=lambda receiver: deliveries.index(receiver.delivery)))


def _figures(
    app_signals: AppSignals, signal: Signal | None, connection: LiveConnection
) -> dict[str, Any]:
    """Return the counts of a connection, by the fields of :class:`ReceiverInfo`."""
    if signal is None or app_signals.journal is None:
        return {}
    tally = signal.context.tallies.get(connection.order) or Tally()
    figures = {field: getattr(tally, field) for field in FIGURES}
    if tally.calls < ENOUGH:
        figures["p95"] = None
    return figures


def _receiver(
    connection: Connection, target: str | None = None, position: int | None = None, **figures: Any
) -> ReceiverInfo:
    """Return the record of a receiver; without a target and a position, it is foreign."""
    place = connection.receiver
    return ReceiverInfo(
        module=place.module,
        name=place.name,
        file=place.file,
        line=place.line,
        sender=None if connection.sender is None else plain(connection.sender),
        priority=connection.priority,
        position=position,
        delivery=plain(connection.delivery),
        when=connection.when,
        is_async=connection.is_async,
        weak=connection.weak,
        uid=None if connection.uid is None else plain(connection.uid),
        takes_extra=connection.takes_extra,
        on_error=connection.on_error,
        pattern=None if target is None or target == connection.signal else plain(target),
        foreign=position is None,
        **figures,
    )


def _foreign(app_signals: AppSignals, source: blinker.Signal) -> Iterator[ReceiverInfo]:
    """Describe the receivers that other code connected to the signal of Flask or an extension.

    This reads blinker's own maps: ``receivers_for`` would prune them, and other tools replace it.
    """
    if isinstance(source, Signal):
        yield from _foreign_connections(app_signals, source)
        return
    for key, held in source.receivers.copy().items():
        weak = issubclass(type(held), weakref.ref)
        receiver: Any = held() if weak else held
        senders = [
            _foreign_sender(app_signals, source, sender)
            for sender in list(source._by_receiver.get(key, ()))
            if not _is_other_app(app_signals, _known_sender(source, sender))
        ]
        if receiver is None or not senders or _is_own(receiver):
            continue
        connection = Connection(  # of no signal of the kit
            signal="",
            receiver=place_of(receiver),
            sender=None if None in senders else ", ".join(sorted(filter(None, senders))),
            is_async=is_async(receiver),
            weak=weak,
            takes_extra=takes_extra(receiver),
        )
        yield _receiver(connection)


def _foreign_sender(app_signals: AppSignals, source: blinker.Signal, key: Any) -> str | None:
    """Return the label of a sender by its key in blinker; ``None`` stands for any sender."""
    if key == ANY_ID:
        return None
    if key == id(app_signals.app):
        return "this app"
    sender = _known_sender(source, key)
    return "one value" if sender is None else sender_label(sender)


def _known_sender(source: blinker.Signal, key: Any) -> Any:
    """Return the sender of a key in blinker, or ``None`` if blinker does not store it."""
    held = source._weak_senders.get(key)
    return None if held is None else held()


def _foreign_connections(app_signals: AppSignals, source: Signal) -> Iterator[ReceiverInfo]:
    """Describe the receivers that other code connected to a signal of the kit's own class."""
    for connection in source.live_connections:
        receiver, sender = connection.resolve(), connection.resolve_sender()
        if receiver is None or _is_own(receiver) or _is_other_app(app_signals, sender):
            continue
        info = _receiver(connection.describe(source.name))
        yield replace(info, sender="this app") if sender is app_signals.app else info


def _is_other_app(app_signals: AppSignals, sender: Any) -> bool:
    return issubclass(type(sender), Flask) and sender is not app_signals.app


def _is_own(receiver: Any) -> bool:
    """Tell whether a receiver is part of the kit, such as a relay.

    A signal that other code forwards, as in ``source.connect(account_funded.send)``, is not.
    """
    owner = receiver.__self__ if type(receiver) is MethodType else receiver
    kind = type(owner)
    module = place_of(owner if kind is FunctionType else kind).module
    kit = module.partition(".")[0] == __name__.partition(".")[0]
    return kit and not issubclass(kind, (Signal, DomainSignal))


def _how_to_fix(name: str, near: str | None) -> str:
    source, dot, _ = name.rpartition(".")
    if dot and source in CATALOGUE:
        bridge = f"Bridge the signals of that extension with kit.bridge({source!r})."
        return how_to_declare(name, near, bridge)
    return how_to_declare(name, near)


def _undeclared(
    app_signals: AppSignals,
    name: str,
    connections: list[Connection],
    suggest: Callable[[str], str | None],
) -> Iterator[Problem]:
    if app_signals.registry.is_declared(name):
        return
    unknown = app_signals.names.unknown.get(name)
    if connections:
        near = suggest(name)
        yield Problem(
            kind="undeclared",
            signal=name,
            message=f"Signal {name!r} has receivers, but it is not declared.{suggestion(near)}",
            fix=_how_to_fix(name, near),
            place=connections[0].receiver,
        )
    elif unknown is not None:
        place, near = unknown
        yield Problem(
            kind="unknown",
            signal=name,
            message=f"Signal {name!r} was sent, but it is not declared and has no receivers."
            f"{suggestion(near)}",
            fix=_how_to_fix(name, near),
            place=place,
        )


def _dead(app_signals: AppSignals, name: str) -> Iterator[Problem]:
    for collected in list(app_signals.collected):
        if collected.signal == name:
            yield Problem(
                kind="dead",
                signal=name,
                message=f"Receiver {named(collected.receiver)} of signal {name!r} was connected "
                "weakly and has been garbage-collected.",
                fix="Keep a reference to it, or connect it with weak=False.",
                place=collected.receiver,
            )


def _no_extra(connections: list[Connection]) -> Iterator[Problem]:
    for connection in connections:
        if not connection.takes_extra:
            yield Problem(
                kind="no_extra",
                signal=connection.signal,
                message=f"Receiver {named(connection.receiver)} of signal {connection.signal!r} "
                "has no **kwargs: a new payload name would break it.",
                fix="Add **extra to its parameters.",
                place=connection.receiver,
            )


def _duplicate(name: str, signal: Signal | None) -> Iterator[Problem]:
    """Yield functions that are connected twice for one sender, by name or by line."""
    by_name: dict[Any, dict[Any, Place]] = {}
    by_line: dict[Any, dict[str, Place]] = {}
    for connection in () if signal is None else signal.live_connections:
        place, (receiver, sender) = connection.place, connection.key
        is_lambda = "<lambda>" in place.name  # code tells lambdas on one line apart
        what = place.name, locate(connection.resolve())[1] if is_lambda else None, sender
        if connection.options.uid is None:
            by_name.setdefault((place.module, what), {})[receiver] = place
        if place.file is not None:
            by_line.setdefault((place.file, place.line, what), {})[place.module] = place
    for places in by_name.values():
        if len(places) > 1:
            place = next(iter(places.values()))
            yield Problem(
                kind="duplicate",
                signal=name,
                message=f"Receiver {named(place)} is connected {len(places)} times to signal "
                f"{name!r}.",
                fix="In a factory, connect closures with kit.for_app(app).on, or give them a uid.",
                place=place,
            )
    for places in by_line.values():
        if len(places) > 1:
            place, *others = places.values()
            yield Problem(
                kind="duplicate",
                signal=name,
                message=f"Receiver {named(place)} is connected to signal {name!r} as "
                f"{' and as '.join(map(named, others))} as well: the file is imported under "
                f"{len(places)} module names.",
                fix=f"Import the file as {place.module} everywhere, or as {others[-1].module}.",
                place=place,
            )


def _late_engines(app_signals: AppSignals, names: list[str]) -> dict[str, list[Problem]]:
    """Return the problems of SQLite engines, by the first signal whose receiver waits for one."""
    seen: set[Any] = set()
    found: dict[str, list[Problem]] = {}
    for name in names:
        signal = cast("Signal | None", app_signals.namespace.get(name))
        for connection in () if signal is None else signal.live_connections:
            for engine in _engines(app_signals, connection):
                if engine not in seen and begins_late(engine):
                    problem = _late_engine(name, engine, connection)
                    found.setdefault(name, []).append(problem)
                seen.add(engine)
    return found


def _engines(app_signals: AppSignals, connection: LiveConnection) -> list[Any]:
    """Return the engines that a receiver may wait for, and that of its messages, if known."""
    delivery, outbox = connection.options.delivery, app_signals.outbox
    found = app_signals.sessions.engines(delivery)
    if isinstance(delivery, Durable) and outbox is not None and outbox.known_engine is not None:
        found.append(outbox.known_engine)
    return found


def _late_engine(signal: str, engine: Any, connection: LiveConnection) -> Problem:
    receiver = connection.place
    durable = isinstance(connection.options.delivery, Durable)
    how = "stores its messages with" if durable else "waits for commits of"
    return Problem(
        kind="sqlite",
        signal=signal,
        message=f"Receiver {named(receiver)} {how} engine {engine_label(engine)}, "
        "which lets Python's SQLite driver begin transactions late: a savepoint can survive the "
        "rollback of the transaction that encloses it, and updates can be lost.",
        fix="Call kit.begin_immediate(engine) after you create the engine.",
        place=receiver,
    )
