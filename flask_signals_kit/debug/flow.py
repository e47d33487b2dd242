"""The flow of signals: in which modules they are sent, and in which modules received.

Plain records, made from the report and the journal; the page, its JSON and ``flask signals graph``
show them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeAlias

from ..core.names import is_glob
from .labels import plain

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from .report import Report, SignalInfo

ROWS = 24
"""The most rows of a column in which modules and signals are not grouped."""

SIGNALS = 40
"""The most signals in one picture."""

STEPS = 50_000
"""The most steps of the journal that are counted."""

DEPTH = 6
"""The most parts of a package's name."""

UNKNOWN = "(unknown)"
"""The name for the module of a send whose place is not known."""

GROUPS = {"bridged": "bridged signals", "flask": "signals of Flask"}
"""The origins whose signals are grouped in a long list, with the names of the groups."""

UNUSED = "signals without receivers"
"""The name of the group of domain signals without receivers in a long list."""


_Counts: TypeAlias = "defaultdict[str, Counter[str]]"
"""Numbers by the signal's name and the module."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What the journal recorded."""

    sent: _Counts = field(default_factory=lambda: defaultdict(Counter))
    """How often a signal was sent in a module."""
    received: _Counts = field(default_factory=lambda: defaultdict(Counter))
    """How often a receiver of a signal ran that is defined in a module."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """A module, a signal, or a group of them."""

    name: str
    """Its name, unique in its column; a package for a group of its modules."""
    members: tuple[str, ...]
    """The modules or signals that it stands for."""
    origin: str | None = None
    """The origin of the signals, or ``None`` for modules."""
    is_unused: bool = False
    """Whether it is a signal without receivers."""
    is_rest: bool = False
    """Whether it stands for the modules that have no row of their own."""

    @property
    def title(self) -> str:
        """The name to show."""
        if len(self.members) == 1:
            return self.name
        if self.is_rest or self.origin is not None:
            return f"{len(self.members):,} {self.name}"
        return f"{self.name}.*"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Edge:
    """A module that sends a signal, or a signal that a module receives."""

    source: Node
    """The module that sends, or the signal."""
    target: Node
    """The signal, or the module that receives."""
    seen: int
    """How often it was recorded: sends, or calls of receivers."""
    connected: bool = True
    """Whether a receiver is connected; always true for a module that sends."""

    @property
    def weight(self) -> int:
        """The width of the line, from 0 to 3: never, once, 10 times, 100 times or more."""
        return min(len(str(self.seen)), 3) if self.seen else 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flow:
    """Which modules send and receive which signals."""

    app: str
    """The app's name."""
    journal: bool
    """Whether emissions are recorded."""
    senders: tuple[Node, ...]
    """The modules in which signals were sent, according to the journal."""
    signals: tuple[Node, ...]
    """The signals, in the order of the report."""
    receivers: tuple[Node, ...]
    """The modules of the receivers."""
    sends: tuple[Edge, ...]
    """From modules to signals."""
    receives: tuple[Edge, ...]
    """From signals to modules."""
    left_out: int = 0
    """The number of signals that are left out."""

    @property
    def is_grouped(self) -> bool:
        """Whether there are groups of modules or signals."""
        nodes = (*self.senders, *self.signals, *self.receivers)
        return any(len(node.members) > 1 for node in nodes)

    def rows(self) -> Iterator[tuple[Node, list[Edge], list[Edge]]]:
        """Yield each signal with the edges that lead to it and from it."""
        sends: dict[Node, list[Edge]] = {signal: [] for signal in self.signals}
        receives: dict[Node, list[Edge]] = {signal: [] for signal in self.signals}
        for edge in self.sends:
            sends[edge.target].append(edge)
        for edge in self.receives:
            receives[edge.source].append(edge)
        return ((node, sends[node], receives[node]) for node in self.signals)

    def to_json(self) -> dict[str, Any]:
        """Return the flow as JSON types; without a journal, edges have no counts."""
        sends = [
            {"module": edge.source.name, "signal": edge.target.name, "seen": edge.seen}
            for edge in self.sends
        ]
        receives = [
            {"signal": edge.source.name, "module": edge.target.name, "connected": edge.connected}
            | ({"seen": edge.seen} if self.journal else {})
            for edge in self.receives
        ]
        return {
            "app": self.app,
            "journal": self.journal,
            "senders": [node.name for node in self.senders],
            "signals": [{"name": node.name, "origin": node.origin} for node in self.signals],
            "receivers": [node.name for node in self.receivers],
            "sends": sends,
            "receives": receives,
        }


# -- what was seen --------------------------------------------------------------------------------


def seen(app_signals: AppSignals, report: Report) -> Seen:
    """Count the last emissions that the journal recorded, with at most :data:`STEPS` steps.

    :param app_signals: the app's signals.
    :param report: the report of all of them, which has the number of their receivers.
    """
    found, left = Seen(), STEPS
    receivers = {signal.name: len(signal.receivers) for signal in report.signals}
    for entry in () if app_signals.journal is None else app_signals.journal.newest():
        left -= 1 + receivers.get(entry.signal, 0)
        if left < 0:
            break
        signal, site = plain(entry.signal), entry.site
        found.sent[signal][UNKNOWN if site is None else plain(site.module)] += 1
        found.received[signal].update(
            plain(step.receiver.module) for step in entry.steps if step.status in {"ran", "failed"}
        )
    return found


# -- the whole flow -------------------------------------------------------------------------------


def flow(
    report: Report, seen: Seen | None = None, *, words: str = "", connected: bool = False
) -> Flow:
    """Return which modules send and receive the signals of a report.

    Unused signals of Flask and extensions are left out.

    :param report: the report of the app's signals.
    :param seen: what the journal recorded; nothing if omitted.
    :param words: a glob for a signal or a module; or words, each of which must occur in what the
        list of signals searches, or in the name of a module.
    :param connected: leave out signals without receivers.
    """
    seen = seen or Seen()
    senders, receivers = _Modules(), _Modules()
    signals: list[Node] = []
    sends: list[Edge] = []
    receives: list[Edge] = []
    for signal in report.without_unused().signals:
        sent = seen.sent.get(signal.name, Counter())
        received = seen.received.get(signal.name, Counter())
        if (connected and not signal.receivers) or not _matches(signal, [*sent, *received], words):
            continue
        node = Node(
            name=signal.name,
            members=(signal.name,),
            origin=signal.origin,
            is_unused=not signal.receivers,
        )
        signals.append(node)
        sends += (
            Edge(source=senders[name], target=node, seen=number) for name, number in sent.items()
        )
        there = dict.fromkeys(plain(receiver.module) for receiver in signal.receivers)
        receives += (
            Edge(source=node, target=receivers[name], seen=received[name], connected=name in there)
            for name in dict.fromkeys([*there, *received])
        )
    return Flow(
        app=report.app,
        journal=report.journal,
        senders=tuple(senders[name] for name in sorted(senders)),
        signals=tuple(signals),
        receivers=tuple(receivers[name] for name in sorted(receivers)),
        sends=tuple(sends),
        receives=tuple(receives),
    )


class _Modules(dict[str, Node]):
    """The nodes of modules, by name."""

    def __missing__(self, name: str) -> Node:
        node = self[name] = Node(name=name, members=(name,))
        return node


def _matches(signal: SignalInfo, seen: list[str], words: str) -> bool:
    """Tell whether a signal, or a module that sent or received it, matches.

    :param seen: the modules that did so according to the journal.
    """
    if not words:
        return True
    if is_glob(words):
        modules = [*seen, *(plain(receiver.module) for receiver in signal.receivers)]
        return any(fnmatchcase(name, words) for name in (signal.name, *modules))
    text = " ".join([signal.text, *seen]).lower()
    return all(word in text for word in words.lower().split())


# -- groups ---------------------------------------------------------------------------------------


def grouped(flow: Flow) -> Flow:
    """Return a flow that fits into a picture.

    In a column of more than :data:`ROWS` rows, modules are grouped by package, the signals of
    Flask and of extensions by origin, and other signals if they have no receivers. Of more than
    :data:`SIGNALS` signals and groups, the most used remain.

    :param flow: what :func:`flow` returned.
    """
    signals = _group_signals(flow.signals)
    shown = _most_used(flow, signals)
    sends = [edge for edge in flow.sends if signals[edge.target] in shown]
    receives = [edge for edge in flow.receives if signals[edge.source] in shown]
    senders = _by_package(Counter(edge.source for edge in sends))
    receivers = _by_package(Counter(edge.target for edge in receives))
    return replace(
        flow,
        senders=_unique(senders),
        signals=tuple(shown),
        receivers=_unique(receivers),
        sends=_merge(sends, senders, signals),
        receives=_merge(receives, signals, receivers),
        left_out=len(flow.signals) - sum(len(node.members) for node in shown),
    )


def _group_signals(signals: Sequence[Node]) -> dict[Node, Node]:
    """Return the node of each signal: in a short list, its own."""
    if len(signals) <= ROWS:
        return {node: node for node in signals}
    names = {node: UNUSED if node.is_unused else node.name for node in signals}
    return _group({node: GROUPS.get(node.origin or "", name) for node, name in names.items()})


def _most_used(flow: Flow, signals: Mapping[Node, Node]) -> dict[Node, None]:
    """Return what to show: groups first, then by the number of sends, then of receivers."""
    nodes = _unique(signals)
    sent, connected = Counter[Node](), Counter[Node]()
    for edge in flow.sends:
        sent[signals[edge.target]] += edge.seen
    for edge in flow.receives:
        connected[signals[edge.source]] += 1

    def use(node: Node) -> tuple[bool, int, int]:
        return len(node.members) > 1, sent[node], connected[node]

    chosen = {*sorted(nodes, key=use, reverse=True)[:SIGNALS]}
    return {node: None for node in nodes if node in chosen}


def _by_package(modules: Counter[Node]) -> dict[Node, Node]:
    """Return the node of each module: its own, or that of a package or of the other modules.

    :param modules: the modules, with their numbers of edges.
    """
    groups = {node: node for node in modules}
    for depth in range(DEPTH, 1, -1):  # with one part, the app itself would be a group
        if len({*groups.values()}) <= ROWS:
            break
        groups = _group({node: ".".join(node.name.split(".")[:depth]) for node in modules})
    used = Counter[Node]()
    for node, group in groups.items():
        used[group] += modules[node]
    if len(used) <= ROWS:
        return groups
    largest = {group for group, _ in used.most_common(ROWS - 1)}
    members = tuple(node.name for node, group in groups.items() if group not in largest)
    rest = Node(name="other modules", members=members, is_rest=True)
    return {node: group if group in largest else rest for node, group in groups.items()}


def _group(names: Mapping[Node, str]) -> dict[Node, Node]:
    """Return the node of each group, by its members; one that is alone remains as it is.

    :param names: the name of each node's group.
    """
    groups: dict[str, list[Node]] = {}
    for node, name in names.items():
        groups.setdefault(name, []).append(node)
    found: dict[Node, Node] = {}
    for name, nodes in groups.items():
        members = tuple(node.name for node in nodes)
        unused = all(node.is_unused for node in nodes)
        group = Node(name=name, members=members, origin=nodes[0].origin, is_unused=unused)
        found.update(dict.fromkeys(nodes, nodes[0] if len(nodes) == 1 else group))
    return found


def _unique(groups: Mapping[Node, Node]) -> tuple[Node, ...]:
    return tuple(dict.fromkeys(groups.values()))


def _merge(
    edges: Iterable[Edge], sources: Mapping[Node, Node], targets: Mapping[Node, Node]
) -> tuple[Edge, ...]:
    """Return one edge for all edges between the same groups."""
    found: dict[tuple[Node, Node], Edge] = {}
    for edge in edges:
        key = source, target = sources[edge.source], targets[edge.target]
        other = found.get(key)
        found[key] = Edge(
            source=source,
            target=target,
            seen=edge.seen + (0 if other is None else other.seen),
            connected=edge.connected or (other is not None and other.connected),
        )
    return tuple(found.values())
