"""The report: plain records of one app's signals, which every face shows and none computes."""

from __future__ import annotations

import os
import re
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import blinker
from blinker.base import ANY_ID
from flask import Flask

from ..app.handle import DomainSignal
from ..catalogue import CATALOGUE
from ..core.connection import sender_label
from ..core.introspection import is_async, look_at, place_of, takes_extra
from ..core.journal import Tally
from ..core.names import is_glob
from ..core.signal import Signal
from ..deliveries.transactions import begins_late, engine_label
from ..errors import did_you_mean, how_to_declare, nearest, suggestion
from ..records import IMMEDIATE, Connection, OnError, Place

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals

ProblemKind = Literal["dead", "undeclared", "unknown", "no_extra", "duplicate", "sqlite"]

TITLES: dict[ProblemKind, str] = {
    "dead": "Receiver collected",
    "undeclared": "Not declared",
    "unknown": "Unknown name",
    "no_extra": "No **kwargs",
    "duplicate": "Connected twice",
    "sqlite": "SQLite begins late",
}
"""What each kind of problem is called in two words."""

POLICIES: dict[OnError, str] = {
    "raise": "the exception propagates to the sender, and later receivers do not run",
    "group": "every receiver runs, then the sender gets one ExceptionGroup",
    "isolate": "the failure is logged and reported, every receiver runs, and the sender continues",
}
"""What happens when a receiver fails, by failure policy."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """Something that will surprise somebody, with the way to mend it."""

    kind: ProblemKind
    """``dead``: a weak receiver was collected. ``undeclared``: connected, but nobody declared the
    name. ``unknown``: sent, but nobody declared it or listens. ``no_extra``: a receiver without
    ``**kwargs``. ``duplicate``: the same function connected twice, by its module and name or by
    its file and line. ``sqlite``: a receiver waits for the commits of an SQLite engine that needs
    ``kit.begin_immediate``."""
    signal: str
    """The signal's name."""
    message: str
    """What is wrong, in one sentence."""
    fix: str
    """What to do about it."""
    place: Place | None = None
    """Where to look."""

    @property
    def title(self) -> str:
        """Its kind in two words."""
        return TITLES[self.kind]

    def __str__(self) -> str:
        where = "" if self.place is None else label(self.place, near_file)
        return f"{self.message} {self.fix}" + (f" ({where})" if where else "")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReceiverInfo:
    """One receiver of one signal, as the page shows it."""

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
    delivery: str
    """How it gets the signal."""
    when: Place | None
    """Where its predicate is, or ``None``."""
    is_async: bool
    """Whether it is a coroutine function."""
    weak: bool
    """Whether it is only weakly referenced."""
    uid: str | None
    """Its ``uid``."""
    takes_extra: bool
    """Whether it has ``**kwargs``."""
    on_error: OnError | None = None
    """Its own failure policy, or ``None`` where the signal's counts."""
    foreign: bool = False
    """Whether somebody else connected it, to the very signal of Flask or of an extension."""
    calls: int | None = None
    """How often it was called; ``None`` where no journal is kept."""
    failures: int | None = None
    """How often it raised."""
    dropped: int | None = None
    """How often it was not called because what its delivery waited for did not happen."""
    mean: float | None = None
    """The mean duration of its last hundred calls, in seconds; ``None`` before the first."""
    p95: float | None = None
    """The 95th percentile of the last hundred durations, in seconds."""
    last_failure: str | None = None
    """The type of the exception that it raised last."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SignalInfo:
    """One signal of one app, as the page shows it."""

    name: str
    """Its name."""
    doc: str | None
    """What it means."""
    origin: str
    """``domain``, ``flask`` or ``bridged``."""
    declared: bool
    """Whether somebody declared it."""
    file: str | None
    """Where it was declared."""
    line: int | None
    """The line there."""
    payload: tuple[str, ...] | None
    """The payload's names, or ``None`` if any will do."""
    optional: tuple[str, ...]
    """Those of them that a send may leave out."""
    open: bool
    """Whether a send may pass other names as well."""
    on_error: OnError
    """Its failure policy."""
    receivers: tuple[ReceiverInfo, ...]
    """In calling order; others' receivers last."""
    problems: tuple[Problem, ...]
    """What is wrong with it."""

    @property
    def orphan(self) -> bool:
        """Whether it was declared and nobody listens."""
        return self.origin == "domain" and self.declared and not self.receivers

    @property
    def traits(self) -> tuple[str, ...]:
        """Which of :data:`TRAITS` it has."""
        return tuple(trait for trait, has in TRAITS.items() if has(self))

    @property
    def text(self) -> str:
        """What a search looks through, in lower case."""
        parts = [self.name, self.doc or "", *(self.payload or ()), label(self, short_file)]
        for receiver in self.receivers:
            parts += [f"{receiver.module}.{receiver.name}", label(receiver, short_file)]
            parts += [receiver.delivery, receiver.sender or "", receiver.uid or ""]
            parts += [] if receiver.when is None else [named(receiver.when)]
            parts += [receiver.last_failure or ""]
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
"""What signals can be filtered by, besides their origin and a search."""

ORIGINS = ("domain", "bridged", "flask")
"""Where signals come from, in the order in which they are shown."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Selection:
    """Which signals to show; what is empty leaves none out."""

    words: str = ""
    """Each of these words must occur in a signal's name, doc, payload, file or receivers."""
    origins: tuple[str, ...] = ()
    """The origins of which a signal must have one."""
    traits: tuple[str, ...] = ()
    """The traits of which a signal must have all."""

    def takes(self, signal: SignalInfo) -> bool:
        """Tell whether a signal is meant."""
        words = self.words.lower().split()
        text = signal.text if words else ""
        return (
            (not self.origins or signal.origin in self.origins)
            and set(self.traits) <= set(signal.traits)
            and all(word in text for word in words)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """Everything about one app's signals."""

    app: str
    """The app's name."""
    signals: tuple[SignalInfo, ...]
    """Domain signals first, then bridged ones, then Flask's; by name within each."""
    journal: bool
    """Whether calls, failures and durations are counted."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of all signals."""
        return tuple(problem for signal in self.signals for problem in signal.problems)

    @property
    def receivers(self) -> tuple[ReceiverInfo, ...]:
        """The receivers of all signals; one that listens to several is there several times."""
        return tuple(receiver for signal in self.signals for receiver in signal.receivers)

    @property
    def orphans(self) -> tuple[SignalInfo, ...]:
        """The signals that were declared and that nobody listens to."""
        return tuple(signal for signal in self.signals if signal.orphan)

    def tally(self) -> Counter[str]:
        """Count the signals of each origin and trait."""
        each = ((signal.origin, *signal.traits) for signal in self.signals)
        return Counter(word for words in each for word in words)

    def find(self, name: str) -> SignalInfo | None:
        """Return the signal of this name, or ``None``."""
        return next((signal for signal in self.signals if signal.name == name), None)

    def suggest(self, name: str) -> str:
        """Return the nearest declared name as a question, or an empty string."""
        return did_you_mean(name, self._declared())

    def nearest(self, name: str) -> str | None:
        """Return the declared name that is most like this one, or ``None`` if none is."""
        return nearest(name, self._declared())

    def _declared(self) -> list[str]:
        return [signal.name for signal in self.signals if signal.declared]

    def select(self, selection: Selection) -> Report:
        """Return the report of the signals that are meant alone."""
        return self._only(selection.takes)

    def like(self, pattern: str) -> Report:
        """Return the report of the signals alone whose name a glob fits or contains this text."""
        if is_glob(pattern):
            return self._only(lambda signal: fnmatchcase(signal.name, pattern))
        return self._only(lambda signal: pattern.lower() in signal.name.lower())

    def without_silent(self) -> Report:
        """Return the report without those of Flask's and others' signals that nobody listens to."""
        return self._only(lambda signal: signal.origin == "domain" or bool(signal.receivers))

    def _only(self, wanted: Callable[[SignalInfo], bool]) -> Report:
        return replace(self, signals=tuple(filter(wanted, self.signals)))

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        signals = [signal_to_json(signal) for signal in self.signals]
        return {"app": self.app, "journal": self.journal, "signals": signals}

    def problems_to_json(self) -> dict[str, Any]:
        """Return the problems alone as JSON types."""
        return {"app": self.app, "problems": _to_json(self.problems)}


def signal_to_json(signal: SignalInfo) -> dict[str, Any]:
    """Return one signal as JSON types."""
    return {**_to_json(signal), "orphan": signal.orphan}


_FIELDS: dict[type, tuple[str, ...]] = {
    record: tuple(field.name for field in fields(record))
    for record in (SignalInfo, ReceiverInfo, Problem, Place)
}


def _to_json(value: Any) -> Any:
    """Return a record of the report as JSON types; several times as fast as ``asdict``."""
    kind = type(value)
    if kind is tuple:
        return [_to_json(each) for each in value]
    names = _FIELDS.get(kind)
    if names is None:
        return value
    return {name: _to_json(getattr(value, name)) for name in names}


def near_file(file: str) -> str:
    """Return a source file as a terminal opens it: relative, if the working directory holds it."""
    return _without_root(file, (_working_directory(),))


def short_file(file: str) -> str:
    """Return a source file as a person names it: relative to the folder it is imported from."""
    return _without_root(file, (_working_directory(), *sys.path))


@lru_cache(maxsize=1024)  # one file has many receivers
def _without_root(file: str, roots: tuple[str, ...]) -> str:
    folders = [root.rstrip(os.sep) + os.sep for root in roots if root]
    return file.removeprefix(max(filter(file.startswith, folders), key=len, default=""))


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  asked for each receiver; a Path takes ten times as long
    except OSError:  # it has been removed
        return ""


class Located(Protocol):
    """What has a place in the source."""

    @property
    def file(self) -> str | None:
        """The file, or ``None`` for code without one."""

    @property
    def line(self) -> int | None:
        """The line in it."""


def label(thing: Located, shorten: Callable[[str], str]) -> str:
    """Return ``file:line``, or an empty string for code without a file."""
    if thing.file is None:
        return ""
    return shorten(thing.file) if thing.line is None else f"{shorten(thing.file)}:{thing.line}"


def named(place: Place) -> str:
    """Return the importable name of a place, without its file."""
    return f"{place.module}.{place.name}"


_CODE = re.compile(r"``(.+?)``|(?::[\w:+-]+:)?(?<!`)`([^`]+)`(?!`)")


def doc_parts(doc: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a docstring, and of each whether it is code: what backticks enclose.

    >>> list(doc_parts("See :func:`send`."))
    [('See ', False), ('send', True), ('.', False)]
    """
    end = 0
    for found in _CODE.finditer(doc):
        yield doc[end : found.start()], False
        yield found[1] or found[2], True
        end = found.end()
    yield doc[end:], False


def duration(seconds: float) -> str:
    """Return a duration in the unit in which a person reads it best, such as ``"1.2 ms"``."""
    value, unit = seconds, "s"
    for factor, smaller in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 999.5:  # noqa: PLR2004  what would be rounded to 1,000 of them
            value, unit = seconds * factor, smaller
            break
    return f"{value:,.{1 if value < 9.95 else 0}f} {unit}"  # noqa: PLR2004  the same for 10


SUGGESTIONS = 20
"""How many undeclared names a report has a suggestion for: each is compared with all declared."""


def report(state: AppSignals, name: str | None = None) -> Report:
    """Describe one app's signals; it keeps nothing alive and changes nothing.

    :param state: the app's half, ``kit.for_app(app)``.
    :param name: the one signal to describe, if there is one of this name; all, if ``None``.
    """
    known = {
        *state.namespace,
        *state.unknown,
        *state.registry.names(),
    }
    names = sorted(map(_plain, known), key=lambda each: (ORIGINS.index(state.origin(each)), each))
    engines = _late_engines(state, names)
    suggest = _suggester([each for each in names if state.is_declared(each)])
    return Report(
        app=state.app.name,
        signals=tuple(
            _signal(state, each, suggest, engines.get(each, ()))
            for each in names
            if name in (None, each)
        ),
        journal=state.journal is not None,
    )


def _suggester(declared: list[str]) -> Callable[[str], str | None]:
    """Return a function that finds the nearest of these names, for its first few calls alone."""
    left = iter(range(SUGGESTIONS))
    return lambda name: None if next(left, None) is None else nearest(name, declared)


def _plain(text: str) -> str:
    """Return a string of a class of its own as a plain one: a template would not escape Markup."""
    return str.__str__(text)


def _signal(
    state: AppSignals, name: str, suggest: Callable[[str], str | None], engines: Iterable[Problem]
) -> SignalInfo:
    handle = state.handle(name)
    signal = cast("Signal | None", state.namespace.get(name))
    source = state.source(name)
    live = () if signal is None else signal.live_connections
    connections = [connection.describe(name) for connection in live]
    tallies: list[Tally | None] = [None for _ in live]
    if signal is not None and state.journal is not None:
        tallies = [signal.context.tallies.get(each.order) or Tally() for each in live]
    place = None if handle is None else handle.place
    contract = None if handle is None else handle.contract
    payload = contract.names if contract else state.builtin_payload(name)
    foreign = [] if source is None else list(_foreign(state, source))
    return SignalInfo(
        name=name,
        doc=_doc(handle) or (None if source is None else _doc(source)),
        origin=state.origin(name),
        declared=state.is_declared(name),
        file=place.file if place else None,
        line=place.line if place else None,
        payload=payload,
        optional=contract.optional if contract else (),
        open=contract.open if contract else payload is None,
        on_error=state.on_error(name),
        receivers=(*map(_receiver, connections, tallies), *foreign),
        problems=(
            *_undeclared(state, name, connections, suggest),
            *_dead(state, name),
            *_no_extra(connections),
            *_duplicate(name, signal),
            *engines,
        ),
    )


def _doc(thing: Any) -> str | None:
    """Return the doc that was given to this object, not the one of its class."""
    doc = vars(thing).get("__doc__") if thing is not None else None
    return " ".join(doc.split()) if isinstance(doc, str) and doc.strip() else None


def _receiver(connection: Connection, tally: Tally | None) -> ReceiverInfo:
    place = connection.receiver
    return ReceiverInfo(
        module=place.module,
        name=place.name,
        file=place.file,
        line=place.line,
        sender=connection.sender,
        priority=connection.priority,
        delivery=_plain(connection.delivery),
        when=connection.when,
        is_async=connection.is_async,
        weak=connection.weak,
        uid=None if connection.uid is None else _plain(connection.uid),
        takes_extra=connection.takes_extra,
        on_error=connection.on_error,
        **_counted(tally),
    )


def _counted(tally: Tally | None) -> dict[str, Any]:
    """Return what the journal has counted, by the fields of :class:`ReceiverInfo`."""
    if tally is None:
        return {}
    fields = ("calls", "dropped", "failures", "mean", "p95", "last_failure")
    return {field: getattr(tally, field) for field in fields}


def _foreign(state: AppSignals, source: blinker.Signal) -> Iterator[ReceiverInfo]:
    """Describe what others connected to the very signal of Flask or of an extension.

    It reads blinker's own maps: ``receivers_for`` would prune them, and other tools replace it.
    """
    if isinstance(source, Signal):
        yield from _foreign_connections(state, source)
        return
    for key, held in source.receivers.copy().items():
        weak = issubclass(type(held), weakref.ref)
        receiver: Any = held() if weak else held
        senders = [
            _foreign_sender(state, source, sender)
            for sender in list(source._by_receiver.get(key, ()))
            if not _is_other_app(state, _known_sender(source, sender))
        ]
        if receiver is None or not senders or _is_own(receiver):
            continue
        place = place_of(receiver)
        yield ReceiverInfo(
            module=place.module,
            name=place.name,
            file=place.file,
            line=place.line,
            sender=None if None in senders else ", ".join(sorted(filter(None, senders))),
            priority=0,
            delivery=IMMEDIATE,
            when=None,
            is_async=is_async(receiver),
            weak=weak,
            uid=None,
            takes_extra=takes_extra(receiver),
            foreign=True,
        )


def _foreign_sender(state: AppSignals, source: blinker.Signal, key: Any) -> str | None:
    """Name a sender that blinker knows by a number: ``None`` stands for any."""
    if key == ANY_ID:
        return None
    if key == id(state.app):
        return "this app"
    sender = _known_sender(source, key)
    return "one value" if sender is None else sender_label(sender)


def _known_sender(source: blinker.Signal, key: Any) -> Any:
    """Return the sender that blinker knows by a number, or ``None`` for one that it does not."""
    held = source._weak_senders.get(key)
    return None if held is None else held()


def _foreign_connections(state: AppSignals, source: Signal) -> Iterator[ReceiverInfo]:
    """Describe what others connected to a signal of the kit's class, which has maps of its own."""
    for connection in source.live_connections:
        receiver, sender = connection.resolve(), connection.resolve_sender()
        if receiver is None or _is_own(receiver) or _is_other_app(state, sender):
            continue
        info = _receiver(connection.describe(source.name), None)
        sender_name = "this app" if sender is state.app else info.sender
        yield replace(info, foreign=True, sender=sender_name)


def _is_other_app(state: AppSignals, sender: Any) -> bool:
    return issubclass(type(sender), Flask) and sender is not state.app


def _is_own(receiver: Any) -> bool:
    """Tell the kit's own relays and watchers from others' receivers.

    A signal that somebody passes on by hand, as in ``theirs.connect(ours.send)``, is theirs.
    """
    owner = receiver.__self__ if type(receiver) is MethodType else receiver
    kind = type(owner)
    module = place_of(owner if kind is FunctionType else kind).module
    kit = module.partition(".")[0] == __name__.partition(".")[0]
    return kit and not issubclass(kind, (Signal, DomainSignal))


def _how_to_fix(name: str, near: str | None) -> str:
    source, dot, _ = name.rpartition(".")
    if dot and source in CATALOGUE:
        bridge = f"Bring that extension's signals in with kit.bridge({source!r})."
        return how_to_declare(name, near, bridge)
    return how_to_declare(name, near)


def _undeclared(
    state: AppSignals,
    name: str,
    connections: list[Connection],
    suggest: Callable[[str], str | None],
) -> Iterator[Problem]:
    if state.is_declared(name):
        return
    unknown = state.unknown.get(name)
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
        yield Problem(
            kind="unknown",
            signal=name,
            message=f"Signal {name!r} was sent, but it is not declared and has no receivers."
            f"{suggestion(unknown.near)}",
            fix=_how_to_fix(name, unknown.near),
            place=unknown.site,
        )


def _dead(state: AppSignals, name: str) -> Iterator[Problem]:
    for gone in list(state.collected):
        if gone.signal == name:
            yield Problem(
                kind="dead",
                signal=name,
                message=f"Receiver {named(gone.receiver)} of signal {name!r} was connected weakly "
                "and has been garbage-collected.",
                fix="Keep a reference to it, or connect it with weak=False.",
                place=gone.receiver,
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
    """Report a function that is connected twice for one sender: by its name, and by its line."""
    by_name: dict[Any, dict[Any, Place]] = {}
    by_line: dict[Any, dict[str, Place]] = {}
    for connection in () if signal is None else signal.live_connections:
        place, (receiver, sender) = connection.place, connection.key
        is_lambda = "<lambda>" in place.name  # on one line, code tells which is which
        what = place.name, look_at(connection.resolve())[1] if is_lambda else None, sender
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


def _late_engines(state: AppSignals, names: list[str]) -> dict[str, list[Problem]]:
    """Return the engines' problems, each by the first signal with a receiver that waits for it."""
    seen: set[Any] = set()
    found: dict[str, list[Problem]] = {}
    for name in names:
        signal = cast("Signal | None", state.namespace.get(name))
        for connection in () if signal is None else signal.live_connections:
            for engine in state.sessions.engines(connection.options.delivery):
                if engine not in seen and begins_late(engine):
                    problem = _late_engine(name, engine, connection.place)
                    found.setdefault(name, []).append(problem)
                seen.add(engine)
    return found


def _late_engine(signal: str, engine: Any, receiver: Place) -> Problem:
    return Problem(
        kind="sqlite",
        signal=signal,
        message=f"Receiver {named(receiver)} waits for commits of engine {engine_label(engine)}, "
        "which lets Python's SQLite driver begin transactions late: a savepoint can survive the "
        "rollback of the transaction that encloses it, and updates can be lost.",
        fix="Call kit.begin_immediate(engine) after you create the engine.",
        place=receiver,
    )
