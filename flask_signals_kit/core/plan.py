"""The plan of a signal: which receivers a send calls, in which order."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from blinker import ANY

from .introspection import sender_key

if TYPE_CHECKING:
    from ..records import Connection, OnError, Receiver
    from .connection import LiveConnection
    from .environment import PayloadCheck, Restriction


class Plan:
    """The connections of one signal, resolved for its sends; valid until the next change.

    :param signal: the signal's name.
    :param connections: every connection of the signal, in any order.
    :param on_error: the signal's failure policy.
    :param check_payload: checks the payload of each send, or ``None``.
    :param restrictions: the blocks that limit which of its receivers run.
    :param is_observed: whether there are observers or a journal.
    """

    __slots__ = (
        "_merged",
        "_receivers",
        "any_sender",
        "by_sender",
        "check_payload",
        "connections",
        "has_deliveries",
        "is_fast",
        "is_uniform",
        "needs_dispatch",
        "on_error",
        "plain_receivers",
        "restrictions",
        "roster",
        "scoped",
        "version",
    )

    def __init__(
        self,
        signal: str,
        connections: Iterable[LiveConnection],
        *,
        on_error: OnError,
        check_payload: PayloadCheck | None,
        restrictions: tuple[Restriction, ...] = (),
        is_observed: bool = False,
        version: object = None,
    ) -> None:
        ranked = in_calling_order(connections)
        self.version: object = version
        self.connections: tuple[LiveConnection, ...] = tuple(ranked)
        self.roster: Roster | None = Roster(signal, self.connections) if is_observed else None
        self.on_error: OnError = on_error
        self.check_payload: PayloadCheck | None = check_payload
        self.scoped: bool = any(c.scope is not None for c in ranked)
        self.by_sender: dict[Hashable, list[LiveConnection]] = {}
        for connection in ranked:
            self.by_sender.setdefault(connection.key[1], []).append(connection)
        self.any_sender: tuple[LiveConnection, ...] = _distinct(self.by_sender.pop(None, []))
        self._receivers: dict[Hashable, Any] | None = None
        self._merged: dict[Hashable, tuple[LiveConnection, ...]] = {}
        self.is_uniform: bool = not (self.scoped or self.by_sender)
        """Whether every send reaches the same connections."""
        self.restrictions: tuple[Restriction, ...] = restrictions
        unchecked = not (self.scoped or restrictions) and check_payload is None
        # A plain send only calls the receivers, or their deliveries.
        is_plain = (
            all(c.is_plain or c.options.is_only_delivered for c in ranked)
            and unchecked
            and (on_error == "raise" or not ranked)
        )
        self.has_deliveries: bool = any(c.options.delivery is not None for c in ranked)
        # A fast send also has no sender to match and no weak reference to resolve.
        special = self.has_deliveries or any(c.weak for c in ranked)
        self.is_fast: bool = is_plain and self.is_uniform and not special
        self.needs_dispatch: bool = is_observed or not is_plain
        self.plain_receivers: tuple[Receiver, ...] = ()
        if self.is_fast:
            self.plain_receivers = tuple(c.receiver for c in self.any_sender)

    @property
    def receivers(self) -> dict[Hashable, Any]:
        """The receivers, or weak references to them, by key."""
        if self._receivers is None:
            self._receivers = {c.key[0]: c.receiver for c in self.connections}
        return self._receivers

    def connections_for(self, sender: Hashable) -> tuple[LiveConnection, ...]:
        """Return the connections that a sender with this key reaches, in calling order."""
        if sender not in self.by_sender:
            return self.any_sender
        found = self._merged.get(sender)
        if found is None:
            own = [*self.any_sender, *self.by_sender[sender]]
            found = self._merged[sender] = _distinct(in_calling_order(own))
        return found

    def reached(self, sender: Any, scopes: frozenset[object]) -> tuple[LiveConnection, ...]:
        """Return the connections that a send reaches, in calling order.

        :param sender: the sender, or ``ANY`` to return only connections for any sender.
        :param scopes: the ``with`` blocks that the send is in.
        """
        key = None if sender is ANY else sender_key(sender) if self.by_sender else None
        if self.scoped:
            return _distinct(
                c
                for c in self.connections
                if (c.scope is None or c.scope in scopes) and c.key[1] in (None, key)
            )
        return self.any_sender if key is None else self.connections_for(key)


class Roster:
    """Every connection of a signal, as plain values that keep nothing alive.

    :param signal: the signal's name.
    :param connections: the connections, in calling order.
    """

    __slots__ = ("connections", "receivers", "scoped", "tallies")

    def __init__(self, signal: str, connections: tuple[LiveConnection, ...]) -> None:
        self.connections: dict[int, Connection] = {c.order: c.describe(signal) for c in connections}
        """The descriptions, by the order of the connection."""
        self.receivers: dict[int, Hashable] = {c.order: c.key[0] for c in connections}
        """The keys of the receivers: two receivers can be defined at the same place."""
        self.scoped: frozenset[int] = frozenset(c.order for c in connections if c.scope is not None)
        """The connections of ``with`` blocks, which exist for some threads and tasks only."""
        self.tallies: list[Any] = []
        """The counts of a journal for each connection, in the same order, once it has counted."""


def _distinct(connections: Iterable[LiveConnection]) -> tuple[LiveConnection, ...]:
    """Return the connections of each receiver up to its first one without a predicate."""
    decided: set[Hashable] = set()
    kept: list[LiveConnection] = []
    for connection in connections:
        receiver = connection.key[0]
        if receiver not in decided:
            kept.append(connection)
            if connection.options.when is None:
                decided.add(receiver)
    return tuple(kept)


def in_calling_order(connections: Iterable[LiveConnection]) -> list[LiveConnection]:
    """Return connections in calling order: higher priority first, then as they were connected."""
    return sorted(connections, key=_rank)


def _rank(connection: LiveConnection) -> tuple[int, int]:
    return -connection.options.priority, connection.order
