"""Blinker's signals with connection order, priorities, nesting and fast planned dispatch.

:class:`Signal` and :class:`Namespace` extend ``blinker.NamedSignal`` and ``blinker.Namespace``.
They do not need Flask; an app's part is in an :class:`~.environment.Environment`.

How a send works: to connect or disconnect only discards the plan. The next send computes it from
the signal's own connections and those of its environment. Every later send is one loop over the
plan. A send that is not plain (with a predicate, an async receiver, a delivery, a failure policy,
…) uses the loop in :mod:`.dispatch` instead.
"""

from __future__ import annotations

import sys
import threading
import types
import weakref
from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar, cast

import blinker
from blinker import ANY

from ..records import Connection, Emission, OnError, Outcome, Receiver
from ..settings import check_on_error
from .connection import DEFAULTS, Connections, LiveConnection, Options
from .delivery import Call, Delivery
from .dispatch import Dispatch, Results, Wrapper, finish, send_observed, send_with_deliveries
from .environment import Environment, Restriction, SignalContext
from .introspection import carried_emission, explain_recursion, receiver_key, sender_key
from .observation import Observer, make_emission
from .plan import Plan

F = TypeVar("F", bound=Callable[..., Any])

_NO_SCOPES: frozenset[object] = frozenset()
_scopes: ContextVar[frozenset[object]] = ContextVar("signals_kit_scopes", default=_NO_SCOPES)
"""The ``muted()`` and ``connected_to()`` blocks that the current thread or task is in."""


@contextmanager
def _scope() -> Generator[object, None, None]:
    """Enter a block of the current thread or task."""
    scope = object()
    _scopes.set(_scopes.get() | {scope})
    try:
        yield scope
    finally:
        _scopes.set(_scopes.get() - {scope})


class Signal(blinker.NamedSignal):
    """A ``blinker.NamedSignal`` with order, priorities, failure policies and fast dispatch.

    It behaves as blinker documents. In addition, receivers run by priority, then in connection
    order. ``muted()`` and ``connected_to()`` can be nested, and apply to the current thread or task
    only. Nothing remains of a collected receiver or sender. A send calls exactly the receivers that
    were connected when it began.

    :param name: the signal's name.
    :param doc: one sentence on what it means.
    :param on_error: the failure policy: ``"raise"``, ``"group"`` or ``"isolate"``.
    :param environment: the signal's environment; one without an app if omitted.
    :raises DeclarationError: for an unknown ``on_error``.

    >>> funded = Signal("account_funded")
    >>> _ = funded.connect(lambda account, **extra: f"{account} has money", weak=False)
    >>> [value for _, value in funded.send("acme", amount=5)]
    ['acme has money']
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
        self._mutes = _NO_SCOPES
        self._muted_everywhere = False
        self.context: SignalContext = SignalContext(name, environment or Environment())
        signal_ref = weakref.ref(self)
        self._own = Connections(partial(_changed, signal_ref), partial(_lost, signal_ref))
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
            self._own.notify([connection])
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
        with _scope() as scope:
            connection = LiveConnection(self.name, receiver, sender, DEFAULTS, scope)
            try:
                self._own.add(connection)
                self._own.notify([connection])
                self.notify_connected(receiver, sender, False)
                yield
            finally:
                self._own.remove(connection)
                self.notify_disconnected(receiver, sender)

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """Call no receivers while a ``with`` block runs, in the current thread or task only.

        Blocks can be nested: receivers are called again after the outermost block.
        """
        with _scope() as scope:
            self._mute(lambda mutes: mutes | {scope})
            try:
                yield
            finally:
                self._mute(lambda mutes: mutes - {scope})

    def _mute(self, change: Callable[[frozenset[object]], frozenset[object]]) -> None:
        with self._lock:
            self._mutes = change(self._mutes)
            self.invalidate()

    @property
    def is_muted(self) -> bool:
        """Whether the signal is muted here. Setting it applies to every thread and task."""
        here = not self._mutes.isdisjoint(_scopes.get())
        return here or self._muted_everywhere or self.context.environment.is_muted(self.name)

    @is_muted.setter
    def is_muted(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if self._muted_everywhere is not bool(value):  # blinker's constructor sets it, too
            with self._lock:
                self._muted_everywhere = bool(value)
                self.invalidate()

    def disconnect(self, receiver: Receiver, sender: Any = ANY) -> None:
        """Disconnect a receiver from this signal.

        A receiver that is connected for every app is disconnected only in this signal's app.

        :param receiver: the receiver; if it is not connected, nothing happens.
        :param sender: disconnect from this sender only; from all senders if omitted.
        """
        active = _scopes.get()
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

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call an observer with each emission, once it is over.

        An observer gets the emission, and the time and result of each receiver. It changes nothing;
        its exceptions are logged. Without observers, a send has no extra cost.

        :param observer: called with each :class:`~flask_signals_kit.Observation`.
        :return: a function that removes the observer.
        """
        with self._lock:
            self.context.observers = (*self.context.observers, observer)
        self.changed()
        return _once(partial(self._unobserve, observer))

    def _unobserve(self, observer: Observer) -> None:
        with self._lock:
            self.context.observers = _without(observer, self.context.observers)
        self.changed()

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
        excluded, is_muted = [*(self._excluded or ())], self._muted_everywhere

        def restore() -> None:
            restore_own()
            with self._lock:
                self._excluded = weakref.WeakSet(excluded) if excluded else None
                self._muted_everywhere = is_muted
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
        return tuple(sorted(self._connected(), key=LiveConnection.rank))

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
        return self._current_plan().reached(sender, _scopes.get())

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
                    muted=bool(self._mutes) or self.is_muted,
                    restrictions=tuple(
                        limit for limit in environment.restrictions if limit.applies_to(self.name)
                    ),
                    is_observed=bool(self.context.observers) or environment.journal is not None,
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

    # -- sending ------------------------------------------------------------------------------

    def send(
        self,
        sender: Any = None,
        /,
        *,
        _async_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> Results:
        """Call every receiver that is connected for this sender.

        :param sender: passed to each receiver as its positional argument.
        :param _async_wrapper: makes an async receiver callable.
        :param payload: passed to each receiver by name.
        :return: ``(receiver, result)`` for each receiver that ran and returned, in calling order.
        :raises Exception: what a receiver raised, depending on the signal's ``on_error``.
        :raises AsyncReceiverError: for an async receiver without a wrapper.
        """
        try:
            fast = self._fast
            if fast:
                return [(receiver, receiver(sender, **payload)) for receiver in fast]
            if fast is not None:
                return []
            return self._send(sender, payload, _async_wrapper)
        except RecursionError as error:
            explain_recursion(error)
            raise

    def _send(self, sender: Any, payload: dict[str, Any], wrapper: Wrapper | None) -> Results:
        plan = self._observed
        if plan is not None:
            try:
                frame = sys._getframe(2)  # of the caller, unless that is another send of the kit
            except ValueError:  # a thread or greenlet that runs nothing but this send
                frame = sys._getframe()
            return send_observed(self.context, plan, sender, payload, frame)
        plan = self._plan
        if plan is None or plan.version is not self._version:
            plan = self._make_plan()
        if not plan.is_plain or plan.roster is not None:
            reached, muted = self._checked(plan, sender, payload)
            if not reached and plan.roster is None:
                return []
            on_error, roster = plan.on_error, plan.roster
            del plan  # it references receivers that this send may not reach
            dispatch = Dispatch(
                self.context, on_error, roster, reached, muted, sender, payload, False, wrapper
            )
            finish(dispatch.run())
            return dispatch.results()
        connections, has_deliveries = plan.any_sender, plan.has_deliveries
        if plan.by_sender:
            connections = plan.connections_for(sender_key(sender))
        del plan  # likewise
        if has_deliveries:
            return send_with_deliveries(self.context, connections, sender, payload)
        return [
            (receiver, receiver(sender, **payload))
            for connection in connections
            if (receiver := connection.receiver() if connection.weak else connection.receiver)
            is not None
        ]

    def _checked(
        self, plan: Plan, sender: Any, payload: dict[str, Any]
    ) -> tuple[tuple[LiveConnection, ...], tuple[LiveConnection, ...]]:
        """Check a send before any receiver runs.

        :return: the connections that it calls, and those that it does not because they are muted.
        """
        if plan.muted and self.is_muted:
            return (), plan.connections
        if plan.check_payload is not None:
            plan.check_payload(payload)
        scopes = _scopes.get()
        reached = plan.reached(sender, scopes)
        if not plan.restrictions:
            return reached, ()
        limits = [limit.allows for limit in plan.restrictions if limit.scope in scopes]
        muted = tuple(c for c in reached if not all(allows(c) for allows in limits))
        return tuple(c for c in reached if c not in muted), muted

    def _dispatch(
        self,
        sender: Any,
        payload: dict[str, Any],
        asynchronous: bool,
        wrapper: Wrapper | None,
        robust: bool,
    ) -> Dispatch:
        """Check a send that is async or robust, and return its dispatch."""
        plan = self._current_plan()
        connections, muted = self._checked(plan, sender, payload)
        return Dispatch(
            self.context,
            plan.on_error,
            plan.roster,
            connections,
            muted,
            sender,
            payload,
            asynchronous,
            wrapper,
            robust,
        )

    async def send_async(
        self,
        sender: Any = None,
        /,
        *,
        _sync_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> Results:
        """Call every receiver that is connected for this sender, and await async ones in order.

        :param sender: as in :meth:`send`.
        :param _sync_wrapper: makes a plain receiver awaitable.
        :param payload: as in :meth:`send`.
        :return: as in :meth:`send`.
        :raises AsyncReceiverError: for a plain receiver without a wrapper.
        """
        dispatch = self._dispatch(sender, payload, True, _sync_wrapper, False)
        await dispatch.run()
        return dispatch.results()

    def send_robust(
        self,
        sender: Any = None,
        /,
        *,
        _async_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> list[Outcome[Any]]:
        """Call every receiver and return an outcome for each; a failure does not stop the others.

        Failures are logged and given to the exception hooks. ``BaseException`` propagates.

        :param sender: as in :meth:`send`.
        :param _async_wrapper: as in :meth:`send`.
        :param payload: as in :meth:`send`.
        :return: an :class:`Ok`, :class:`Failed` or :class:`Deferred` for each receiver.
        """
        dispatch = self._dispatch(sender, payload, False, _async_wrapper, True)
        finish(dispatch.run())
        return dispatch.outcomes()

    async def send_robust_async(
        self,
        sender: Any = None,
        /,
        *,
        _sync_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> list[Outcome[Any]]:
        """Do the same as :meth:`send_robust`, and await async receivers in order.

        :param sender: as in :meth:`send`.
        :param _sync_wrapper: as in :meth:`send_async`.
        :param payload: as in :meth:`send`.
        """
        dispatch = self._dispatch(sender, payload, True, _sync_wrapper, True)
        await dispatch.run()
        return dispatch.outcomes()


def _changed(signal_ref: weakref.ref[Any], target: str, wait: bool) -> None:
    signal = signal_ref()
    if signal is not None:
        signal.changed(wait)


def _lost(signal_ref: weakref.ref[Any], connection: LiveConnection) -> None:
    signal = signal_ref()
    if signal is not None and connection.resolve() is None:
        signal.context.environment.collected(connection.describe(signal.name))


class Namespace(blinker.Namespace):
    """A ``blinker.Namespace`` of :class:`Signal` objects.

    :param environment: the environment of its signals; one without an app if omitted.

    >>> shop = Namespace()
    >>> shop.signal("account_funded") is shop.signal("account_funded")
    True
    """

    def __init__(self, environment: Environment | None = None) -> None:
        super().__init__()
        self._environment = environment or Environment()
        self._observers: tuple[Observer, ...] = ()
        self._lock = threading.RLock()  # not held while a signal changes its observers

    def signal(self, name: str, doc: str | None = None) -> Signal:
        """Return the signal of this name; create it at the first call.

        :param name: the name.
        :param doc: one sentence on what it means; used only at the first call.
        """
        signal = self.get(name)
        if signal is None:
            made = Signal(name, doc, environment=self._environment)
            with self._lock:
                made.context.observers = self._observers  # later observers find the signal
                signal = self.setdefault(name, made)
        return cast(Signal, signal)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call an observer with each emission of every signal, including signals created later.

        :param observer: as for :meth:`Signal.observe`.
        :return: a function that removes the observer.
        """
        with self._lock:
            self._observers = (*self._observers, observer)
            signals = list(self.values())
        for signal in signals:
            cast(Signal, signal).observe(observer)
        return _once(partial(self._unobserve, observer))

    def _restrict(
        self, change: Callable[[tuple[Restriction, ...]], tuple[Restriction, ...]]
    ) -> None:
        with self._lock:
            self._environment.restrictions = change(self._environment.restrictions)
            signals = list(self.values())
        for signal in signals:
            cast(Signal, signal).invalidate()

    def _unobserve(self, observer: Observer) -> None:
        with self._lock:
            self._observers = _without(observer, self._observers)
            signals = list(self.values())
        for signal in signals:
            cast(Signal, signal)._unobserve(observer)


@contextmanager
def restricted(
    namespace: Namespace,
    applies_to: Callable[[str], bool],
    allows: Callable[[LiveConnection], bool],
) -> Generator[None, None, None]:
    """Call only some receivers while a ``with`` block runs, in the current thread or task only.

    Blocks can be nested: then a receiver is called if each of them allows it.

    :param namespace: the namespace.
    :param applies_to: tells by the name of a signal whether its receivers are limited.
    :param allows: tells whether a connection is called.
    """
    with _scope() as scope:
        limit = Restriction(scope=scope, applies_to=applies_to, allows=allows)
        namespace._restrict(lambda limits: (*limits, limit))
        try:
            yield
        finally:
            namespace._restrict(lambda limits: tuple(each for each in limits if each is not limit))


def _without(observer: Observer, observers: tuple[Observer, ...]) -> tuple[Observer, ...]:
    """Remove an observer once, even if it was added twice."""
    left = list(observers)
    if observer in left:
        left.remove(observer)
    return tuple(left)


def _once(undo: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls another one at its first call only."""
    left = iter((undo,))

    def undo_once() -> None:
        for end in left:
            end()

    return undo_once


def find_emission(plain_sends: tuple[types.CodeType, ...]) -> Emission | None:
    """Return the emission that the caller runs for, or ``None`` outside of receivers.

    To be fast, a plain send stores no record of itself. So this searches the stack for the
    innermost send. If a delivery runs the receiver later or elsewhere, its call carries the record.
    The call also does so while it reports the receiver's failure to the exception hooks.

    :param plain_sends: the code objects of the methods that call receivers in a plain loop.
    """
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code is Call._run_here.__code__ or code is Call.run_contained.__code__:
            return cast(Emission, frame.f_locals["self"].emission)
        if code is Dispatch.run.__code__:
            return cast(Emission, frame.f_locals["self"].emission_from(frame).emission)
        if code is send_observed.__code__:
            sent = frame.f_locals
            context, number = sent["context"], sent["number"]
            return make_emission(context, sent["sender"], sent["payload"], frame, number)
        if code in plain_sends:
            plain = frame.f_locals
            signal = plain["signal"] if "signal" in plain else plain["self"]
            return make_emission(signal.context, plain["sender"], plain["payload"], frame)
        frame = frame.f_back
    carried = carried_emission.get()
    return None if carried is None else carried.emission
