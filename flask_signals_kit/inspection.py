"""The report: plain records of one app's signals, which every face shows and none computes."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import blinker
from blinker.base import ANY_ID

from .callables import is_async, place_of, takes_extra
from .records import (
    Connection,
    Place,
)
from .signals import (
    Signal,
)
from .state import AppSignals

ProblemKind = Literal["dead", "undeclared", "unknown", "no_extra", "duplicate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that will surprise somebody, with the way to mend it."""

    kind: ProblemKind
    """``dead``: a weak receiver was collected. ``undeclared``: connected, but nobody declared the
    name. ``unknown``: sent, but nobody declared it or listens. ``no_extra``: a receiver without
    ``**kwargs``. ``duplicate``: the same module and name connected twice."""
    signal: str
    """The signal's name."""
    message: str
    """What is wrong, in one sentence."""
    fix: str
    """What to do about it."""
    place: Place | None = None
    """Where to look."""

    def __str__(self) -> str:
        return f"{self.message} {self.fix}"


@dataclass(frozen=True, slots=True, kw_only=True)
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
    when: str | None
    """Where its predicate is, or ``None``."""
    is_async: bool
    """Whether it is a coroutine function."""
    weak: bool
    """Whether it is only weakly referenced."""
    uid: str | None
    """Its ``uid``."""
    takes_extra: bool
    """Whether it has ``**kwargs``."""
    foreign: bool = False
    """Whether somebody else connected it, to the very signal of Flask or of an extension."""


@dataclass(frozen=True, slots=True, kw_only=True)
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
    on_error: str
    """Its failure policy."""
    receivers: tuple[ReceiverInfo, ...]
    """In calling order; others' receivers last."""
    problems: tuple[Problem, ...]
    """What is wrong with it."""

    @property
    def orphan(self) -> bool:
        """Whether it was declared and nobody listens."""
        return self.origin == "domain" and not self.receivers


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything about one app's signals."""

    app: str
    """The app's name."""
    signals: tuple[SignalInfo, ...]
    """Domain signals first, then bridged ones, then Flask's; by name within each."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems of all signals."""
        return tuple(problem for signal in self.signals for problem in signal.problems)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {"app": self.app, "signals": [signal_to_json(signal) for signal in self.signals]}


def signal_to_json(signal: SignalInfo) -> dict[str, Any]:
    """Return one signal as JSON types."""
    return {**asdict(signal), "orphan": signal.orphan}


_ORIGINS = ("domain", "bridged", "flask")


def report(state: AppSignals) -> Report:
    """Describe one app's signals; it keeps nothing alive and changes nothing.

    :param state: the app's half, ``kit.for_app(app)``.
    """
    names = {
        *state.namespace,
        *state.unknown,
        *state.kit.declarations,
        *state.registry.declarations,
    }
    signals = [_signal(state, name) for name in names]
    signals.sort(key=lambda signal: (_ORIGINS.index(signal.origin), signal.name))
    return Report(app=state.app.name, signals=tuple(signals))


def _signal(state: AppSignals, name: str) -> SignalInfo:
    handle = state.handle(name)
    signal = state.namespace.get(name)
    source = state.source(name)
    connections = signal.connections if isinstance(signal, Signal) else []
    place = None if handle is None else handle.place
    contract = None if handle is None else handle.contract
    foreign = [] if source is None else list(_foreign(state, source))
    return SignalInfo(
        name=name,
        doc=_doc(handle) or (None if source is None else _doc(source)),
        origin=state.origin(name),
        declared=state.is_declared(name),
        file=place.file if place else None,
        line=place.line if place else None,
        payload=contract.names if contract else state.builtin_payload(name),
        on_error=state.on_error(name),
        receivers=(*map(_receiver, connections), *foreign),
        problems=tuple(_problems(state, name, connections)),
    )


def _doc(thing: Any) -> str | None:
    """Return the doc that was given to this object, not the one of its class."""
    doc = vars(thing).get("__doc__") if thing is not None else None
    return " ".join(doc.split()) if isinstance(doc, str) and doc.strip() else None


def _receiver(connection: Connection) -> ReceiverInfo:
    place = connection.receiver
    return ReceiverInfo(
        module=place.module,
        name=place.name,
        file=place.file,
        line=place.line,
        sender=connection.sender,
        priority=connection.priority,
        delivery=connection.delivery,
        when=None if connection.when is None else str(connection.when),
        is_async=connection.is_async,
        weak=connection.weak,
        uid=connection.uid,
        takes_extra=connection.takes_extra,
    )


def _foreign(state: AppSignals, source: blinker.Signal) -> Iterator[ReceiverInfo]:
    """Describe what others connected to the very signal of Flask or of an extension.

    It reads blinker's own maps: ``receivers_for`` would prune them, and other tools replace it.
    """
    here = {ANY_ID: None, id(state.app): "this app"}
    for key, held in list(source.receivers.items()):
        receiver = held() if isinstance(held, weakref.ref) else held
        senders = [here[s] for s in list(source._by_receiver.get(key, ())) if s in here]
        if receiver is None or not senders or _is_own(receiver):
            continue
        place = place_of(receiver)
        yield ReceiverInfo(
            module=place.module,
            name=place.name,
            file=place.file,
            line=place.line,
            sender=senders[0],
            priority=0,
            delivery="immediate",
            when=None,
            is_async=is_async(receiver),
            weak=isinstance(held, weakref.ref),
            uid=None,
            takes_extra=takes_extra(receiver),
            foreign=True,
        )


def _is_own(receiver: Any) -> bool:
    """Tell the kit's own relays and watchers from others' receivers."""
    owner = getattr(receiver, "__self__", receiver) if not isinstance(receiver, type) else receiver
    return type(owner).__module__.partition(".")[0] == __name__.partition(".")[0]


def _problems(state: AppSignals, name: str, connections: list[Connection]) -> Iterator[Problem]:
    declared = state.is_declared(name)
    unknown = state.unknown.get(name)
    if connections and not declared:
        yield Problem(
            kind="undeclared",
            signal=name,
            message=f"Signal {name!r} has receivers, but nobody declared it.{state.suggest(name)}",
            fix=f"Declare it with kit.signal({name!r}, doc) or @kit.declare.",
            place=connections[0].receiver,
        )
    if unknown is not None and not connections and not declared:
        yield Problem(
            kind="unknown",
            signal=name,
            message=f"Signal {name!r} was sent, but nobody declared it and nobody listens."
            f"{unknown.suggestion}",
            fix="Correct the name, or declare it.",
            place=unknown.site,
        )
    for gone in list(state.collected):
        if gone.signal == name:
            yield Problem(
                kind="dead",
                signal=name,
                message=f"Receiver {gone.receiver} of signal {name!r} was connected weakly "
                "and has been garbage-collected.",
                fix="Keep a reference to it, or connect it with weak=False.",
                place=gone.receiver,
            )
    yield from _receiver_problems(name, connections)


def _receiver_problems(name: str, connections: list[Connection]) -> Iterator[Problem]:
    for connection in connections:
        if not connection.takes_extra:
            yield Problem(
                kind="no_extra",
                signal=name,
                message=f"Receiver {connection.receiver} of signal {name!r} has no **kwargs: "
                "a new payload name would break it.",
                fix="Add **extra to its parameters.",
                place=connection.receiver,
            )
    twice = Counter(
        (c.receiver.module, c.receiver.name, c.sender) for c in connections if c.uid is None
    )
    for (module, qualname, _), times in twice.items():
        if times > 1:
            place = next(
                c.receiver
                for c in connections
                if (c.receiver.module, c.receiver.name) == (module, qualname)
            )
            yield Problem(
                kind="duplicate",
                signal=name,
                message=f"Receiver {place} is connected {times} times to signal {name!r}.",
                fix="In a factory, connect closures with kit.for_app(app).on, or give them a uid.",
                place=place,
            )
