"""A signal to which receivers connect, and the plan of a send.

To connect or disconnect only discards the plan. The next send computes it from the signal's own
connections and those of its environment.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import blinker
from blinker import ANY

from ..records import Connection, OnError, Receiver
from ..settings import check_on_error
from .connection import DEFAULTS, Connections, LiveConnection, Options
from .delivery import Delivery
from .environment import Environment, Restriction, SignalContext
from .introspection import receiver_key, sender_key
from .plan import Plan, in_calling_order
from .scopes import EVERYWHERE, scope, scopes

F = TypeVar("F", bound=Callable[..., Any])


class ConnectableSignal(blinker.NamedSignal):
    """A ``blinker.NamedSignal`` that knows its receivers and in which order a send calls them.

    :param name: the signal's name.
    :param doc: one sentence on what it means.
    :param on_error: the failure policy.
    :param environment: the signal's environment; one without an app if omitted.
    """

    def __init__(
        self,
        name: str,
        doc: str | None = None,
        *,
        on_error: OnError = "raise",
        environment: Environment | None = None,
    ) -> None:
        self._on_error: OnError = check_on_error(on_error, f"Signal {name!r}", "'raise'") or "raise"
        self._plan: Plan | None = None
        self._fast: tuple[Receiver, ...] | None = None
        self._observed: Plan | None = None
        self._version = object()
        self._lock = threading.RLock()
        self._mutes: frozenset[object] = frozenset()
        self.context: SignalContext = SignalContext(name, environment or Environment())
        self._own = Connections(self)
        self._excluded: weakref.WeakSet[LiveConnection] | None = None
        super().__init__(name, doc)

    # -- connecting ---------------------------------------------------------------------------

    def connect(
        self,
        receiver: F,
        sender: Any = ANY,
        weak: bool = True,
        *,
        priority: int = 0,
        when: Callable[..., Any] | None = None,
        delivery: Delivery | None = None,
        on_error: OnError | None = None,
        uid: str | None = None,
    ) -> F:
        """Connect a receiver.

        Connecting the same receiver to the same sender again changes its priority and options,
        keeps its place in connection order, and never turns a strong connection into a weak one.

        :param receiver: called as ``receiver(sender, **payload)``; may be async.
        :param sender: only sends by this sender reach the receiver; any if omitted. Strings and
            integers match by value, everything else by identity.
        :param weak: reference the receiver weakly (blinker's default). Use ``False`` for closures.
        :param priority: higher runs first.
        :param when: ``when(sender, **payload)`` decides at each send whether the receiver is
            called.
        :param delivery: how the receiver gets the emission; immediately if omitted.
        :param on_error: the failure policy of this receiver; the signal's if omitted.
        :param uid: stored in :class:`Connection`.
        :return: the receiver, unchanged.
        :raises ReceiverError: if the receiver is not callable or does not support weak references,
            or for an invalid priority, predicate or uid.
        :raises DeclarationError: for an invalid failure policy.
        :raises ConfigurationError: for an invalid delivery.
        :raises Exception: what a receiver of ``receiver_connected`` raised. Then the change is
            undone: a new connection is removed, and a changed one has its old options again.
        """
        options = Options(
            priority=priority, when=when, delivery=delivery, on_error=on_error, uid=uid, weak=weak
        )
        connection = LiveConnection(self.name, receiver, sender, options)
        options.check(receiver)
        for same in self.context.environment.connections(self.name, connection.key[0]):
            if same.key == connection.key:
                connection.order = same.order
        replaced = self._own.add(connection)
        try:
            self._own.notify([connection.target])
            self.notify_connected(receiver, sender, weak)
        except Exception:
            self._own.restore(connection, replaced)
            raise
        return receiver

    def connect_via(self, sender: Any, weak: bool = False) -> Callable[[F], F]:
        """Connect the decorated function for one sender, strongly unless ``weak`` is set.

        :param sender: as in :meth:`connect`.
        :param weak: as in :meth:`connect`.
        """

        def decorator(receiver: F) -> F:
            return self.connect(receiver, sender, weak)

        return decorator

    @contextmanager
    def connected_to(self, receiver: Receiver, sender: Any = ANY) -> Generator[None, None, None]:
        """Connect a receiver while a ``with`` block runs, in the current thread or task only.

        Blocks can be nested. A receiver that was connected before stays connected afterwards.

        :param receiver: as in :meth:`connect`; held strongly.
        :param sender: as in :meth:`connect`.
        """
        with scope() as block:
            connection = LiveConnection(self.name, receiver, sender, DEFAULTS, block)
            try:
                self._own.add(connection)
                self._own.notify([connection.target])
                self.notify_connected(receiver, sender, False)
                yield
            finally:
                self._own.remove(connection)
                self.notify_disconnected(receiver, sender)

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """Call no receivers while a ``with`` block runs, in the current thread or task only.

        Blocks can be nested: receivers are called again after the outermost block. The payload of a
        send is checked nevertheless.
        """
        with scope() as block:
            self._mute(lambda mutes: mutes | {block})
            try:
                yield
            finally:
                self._mute(lambda mutes: mutes - {block})

    def _mute(self, change: Callable[[frozenset[object]], frozenset[object]]) -> None:
        with self._lock:
            self._mutes = change(self._mutes)
            self.invalidate()

    @property
    def is_muted(self) -> bool:
        """Whether no receiver runs here: by :meth:`muted`, by setting this, or by a test's marker.

        Setting it applies to every thread and task.
        """
        limits = self.context.environment.restrictions_of(self.name)
        everywhere = any(each.scope is EVERYWHERE for each in limits)
        return everywhere or not self._mutes.isdisjoint(scopes.get())

    @is_muted.setter
    def is_muted(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        everywhere = {EVERYWHERE}
        self._mute(lambda mutes: mutes | everywhere if value else mutes - everywhere)

    def disconnect(self, receiver: Receiver, sender: Any = ANY) -> None:
        """Disconnect a receiver from this signal.

        A receiver that is connected for every app is disconnected only in this signal's app.

        :param receiver: the receiver; if it is not connected, nothing happens.
        :param sender: disconnect from this sender only; from all senders if omitted.
        """
        active = scopes.get()
        receiver_id = receiver_key(receiver)
        sender_id = None if sender is ANY else sender_key(sender)

        def matches(connection: LiveConnection) -> bool:
            here = connection.scope is None or connection.scope in active
            same_sender = sender is ANY or connection.key[1] == sender_id
            return here and same_sender

        for connection in filter(matches, self._own.of(self.name, receiver_id)):
            self._own.remove(connection)
        environment = self.context.environment
        inherited = [*filter(matches, environment.connections(self.name, receiver_id))]
        if inherited:
            with self._lock:
                self._excluded = self._excluded or weakref.WeakSet()
                self._excluded.update(inherited)
            self.changed()
        self.notify_disconnected(receiver, sender)

    # -- changes ------------------------------------------------------------------------------

    def invalidate(self, wait: bool = True) -> None:
        """Discard the plan; the next send computes a new one.

        :param wait: wait for a thread that computes a plan. If false, as in the garbage collector,
            a send in progress may still finish with the old plan.
        """
        with self._lock if wait else nullcontext():
            self._version = object()
            self._plan = self._fast = self._observed = None

    def changed(self, wait: bool = True) -> None:
        """Discard the plan and notify the environment.

        :param wait: whether this may wait for a lock.
        """
        self.invalidate(wait)
        self.context.environment.changed(self.name, wait)

    def _connections_changed(self, target: str, wait: bool) -> None:
        self.changed(wait)

    def _connection_lost(self, connection: LiveConnection) -> None:
        if connection.resolve() is None:
            self.context.environment.collected(connection.describe(self.name))

    def notify_connected(self, receiver: Receiver, sender: Any, weak: bool) -> None:
        """Send blinker's ``receiver_connected``, if it has receivers."""
        if "receiver_connected" in self.__dict__ and self.receiver_connected.receivers:
            self.receiver_connected.send(self, receiver=receiver, sender=sender, weak=weak)

    def notify_disconnected(self, receiver: Any, sender: Any) -> None:
        """Send blinker's ``receiver_disconnected``, if it has receivers."""
        if "receiver_disconnected" in self.__dict__ and self.receiver_disconnected.receivers:
            self.receiver_disconnected.send(self, receiver=receiver, sender=sender)

    def _snapshot(self) -> Callable[[], None]:
        """Return a function that restores the signal's own connections, and its mute."""
        restore_own = self._own.snapshot()
        excluded, is_muted = [*(self._excluded or ())], EVERYWHERE in self._mutes

        def restore() -> None:
            restore_own()
            with self._lock:
                self._excluded = weakref.WeakSet(excluded) if excluded else None
                self.is_muted = is_muted
            self.changed()

        return restore

    def _clear_state(self) -> None:
        self._own.clear(self.name)

    # -- querying -----------------------------------------------------------------------------

    @property
    def receivers(self) -> dict[Any, Any]:
        """The connected receivers by key; as in blinker, only the truth value is guaranteed."""
        return self._current_plan().receivers

    @receivers.setter
    def receivers(self, value: object) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Ignore the value that blinker's constructor sets."""

    @property
    def has_receivers(self) -> bool:
        """Whether any receiver is connected, for any sender."""
        if self._excluded:
            return bool(self._connected())
        return self._own.has(self.name) or self.context.environment.has_connections(self.name)

    @property
    def in_use(self) -> bool:
        """Whether the signal has receivers, or observers that are not passive."""
        return self.has_receivers or any(
            not getattr(observer, "passive", False) for observer in self.context.observers
        )

    def has_receivers_for(self, sender: Any) -> bool:
        """Tell whether a send by this sender would call a receiver.

        :param sender: the sender, or ``ANY`` for receivers that are connected to any sender.
        """
        return any(connection.resolve() is not None for connection in self._reached(sender))

    def receivers_for(self, sender: Any) -> Generator[Receiver, None, None]:
        """Yield the receivers that a send by this sender would call, in calling order.

        :param sender: the sender, or ``ANY`` for receivers that are connected to any sender.
        """
        yielded: set[Hashable] = set()
        for connection in self._reached(sender):
            receiver = connection.resolve()
            if receiver is not None and connection.key[0] not in yielded:
                yielded.add(connection.key[0])
                yield receiver

    @property
    def live_connections(self) -> tuple[LiveConnection, ...]:
        """Every connection in calling order."""
        return tuple(in_calling_order(self._connected()))

    @property
    def connections(self) -> list[Connection]:
        """The description of every connection, in calling order; it keeps no receiver alive."""
        return [connection.describe(self.name) for connection in self.live_connections]

    def _connected(self) -> list[LiveConnection]:
        """Return every connection: the signal's own, then those of its environment."""
        own = self._own.of(self.name)
        inherited = self.context.environment.connections(self.name)
        keys = {c.key for c in own if c.scope is None}
        excluded = self._excluded or ()
        own += [c for c in inherited if c.key not in keys and c not in excluded]
        return own

    def _reached(self, sender: Any) -> tuple[LiveConnection, ...]:
        """Return the connections that a send by this sender calls here, in calling order."""
        return self._current_plan().reached(sender, scopes.get())

    def _current_plan(self) -> Plan:
        plan = self._plan
        if plan is None or plan.version is not self._version:
            plan = self._make_plan()
        return plan

    def _make_plan(self) -> Plan:
        """Compute the plan for every send until the next change."""
        environment = self.context.environment
        with self._lock:
            while True:
                version = self._version
                plan = Plan(
                    self.name,
                    self._connected(),
                    on_error=environment.on_error(self.name) or self._on_error,
                    check_payload=environment.check_payload(self.name),
                    restrictions=(
                        *(
                            Restriction(scope=block, reason="the signal was muted")
                            for block in self._mutes
                        ),
                        *environment.restrictions_of(self.name),
                    ),
                    is_observed=self.context.is_observed,
                    version=version,
                )
                self._plan = plan
                if plan.is_fast and plan.roster is not None:
                    self._observed = plan
                elif plan.is_fast:
                    self._fast = plan.plain_receivers
                self._prune_tallies(plan)
                if self._version is version:
                    return plan
                self.invalidate(False)  # the garbage collector ended a connection meanwhile

    def _prune_tallies(self, plan: Plan) -> None:
        """Remove the counts of connections that no longer exist."""
        tallies = self.context.tallies
        if tallies:
            kept = {connection.order for connection in plan.connections}
            for order in [order for order in list(tallies) if order not in kept]:
                tallies.pop(order, None)
