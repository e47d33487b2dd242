"""Blinker's signals with connection order, priorities, nesting and fast planned dispatch.

:class:`Signal` and :class:`Namespace` are ``blinker.NamedSignal`` and ``blinker.Namespace``:
    whatever takes one of blinker's takes one of these. They know nothing of Flask; what an app adds
    (a failure report, a check of the payload, a wrapper for async receivers) is passed in.

How a send works: connecting and disconnecting only mark the signal as changed. The next send
resolves the receivers once into a plan, and every later send is one loop over that plan. What is
unusual (a predicate, an async receiver, a delivery, a failure policy, …) takes the one slow loop in
:mod:`flask_signals_kit.dispatch` instead.
"""

from __future__ import annotations

import logging
import sys
import threading
import types
import weakref
from collections.abc import Callable, Generator, Hashable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar, cast

import blinker
from blinker import ANY

from .callables import is_async, place_of, receiver_key, sender_key, type_name, unwrap
from .calls import (
    Call,
    Delivery,
    Observer,
    Receiver,
    Surroundings,
    Transaction,
    Wrapper,
    carried_emission,
)
from .dispatch import (
    Results,
    Sending,
    Watched,
    explain_recursion,
    finish,
    make_emission,
    outcomes,
    results,
    send_watched,
)
from .errors import ReceiverError
from .links import (
    Link,
    MethodRef,
    Plan,
    Reaper,
    Ref,
    check_delivery,
    check_options,
    distinct,
    next_order,
    not_held_by,
    weak_ref,
)
from .records import Connection, Emission, OnError, Outcome, Source
from .settings import check_on_error

F = TypeVar("F", bound=Callable[..., Any])

logger: logging.Logger = logging.getLogger("flask_signals_kit")

_NO_SCOPES: frozenset[object] = frozenset()
_scopes: ContextVar[frozenset[object]] = ContextVar("signals_kit_scopes", default=_NO_SCOPES)
"""The ``muted()`` and ``connected_to()`` blocks that the current thread or task is inside of."""


class Signal(blinker.NamedSignal):
    """A ``blinker.NamedSignal`` with order, priorities, failure policies and fast dispatch.

    Everything that blinker documents holds. Beyond it: receivers run by priority, then in
    connection order; ``muted()`` and ``connected_to()`` nest and concern the current thread or task
    alone; a receiver or sender that is collected leaves nothing behind; a send calls exactly the
    receivers that were connected when it began.

    :param name: the signal's name.
    :param doc: one sentence on what it means.
    :param on_error: what a failing receiver does: ``"raise"``, ``"group"`` or ``"isolate"``.
    :param check_payload: called with the payload before each send; raises to refuse it.
    :param async_wrapper: makes an async receiver callable from :meth:`send`, where the caller of
        ``send`` gives no ``_async_wrapper``.
    :param sync_wrapper: makes a plain receiver awaitable for :meth:`send_async`, where its caller
        gives no ``_sync_wrapper``.
    :param on_failure: told of each failure that the signal contains:
        ``on_failure(exception, receiver, emission, source)``.
    :param on_change: called after receivers came or went.
    :param on_gone: called instead of ``on_change`` after the garbage collector took somebody, in
        whatever thread that was; it must not wait for anything.
    :param on_collected: told of each weak receiver that the garbage collector took.
    :param request: describes the current request for :class:`Emission`, or returns ``None``.
    :param app: returns what a :class:`Call` carries as ``app``.
    :param late_async_wrapper: makes an async receiver callable wherever a delivery runs it.
    :param enter: makes the app current for a delivery.
    :param transaction: finds the open transaction that a delivery may wait for.
    :param sessions: returns the sessions that a delivery may have to tidy up.
    :param unusable: tells whether a failure has left a database transaction unusable.

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
        check_payload: Callable[[dict[str, Any]], None] | None = None,
        async_wrapper: Wrapper | None = None,
        sync_wrapper: Wrapper | None = None,
        on_failure: Callable[[Exception, Receiver, Emission, Source], None] | None = None,
        on_change: Callable[[], None] | None = None,
        on_gone: Callable[[], None] | None = None,
        on_collected: Callable[[Connection], None] | None = None,
        request: Callable[[], str | None] | None = None,
        app: Callable[[], Any] | None = None,
        late_async_wrapper: Wrapper | None = None,
        enter: Callable[[], AbstractContextManager[Any]] = nullcontext,
        transaction: Callable[[Any, Any, dict[str, Any]], Transaction | None] | None = None,
        sessions: Callable[[], list[Any]] = list,
        unusable: Callable[[Any, dict[str, Any]], bool] | None = None,
    ) -> None:
        self._plan: Plan | None = None
        self._version = 0
        self._only: Receiver | None = None
        self._strong: tuple[Receiver, ...] | None = None
        self._weak: tuple[weakref.ref[Receiver], ...] | None = None
        self._watched: Watched | None = None
        self._lock = threading.RLock()
        self._graves: list[Ref | MethodRef] = []
        self._mutes: frozenset[object] = _NO_SCOPES
        self._muted_everywhere = False
        self._reap = Reaper(self)
        self._on_change = on_change
        self._on_gone = on_gone or on_change
        self._on_collected = on_collected
        self._around = Surroundings(
            name=name,
            on_error=check_on_error(on_error, f"Signal {name!r}", "'raise'") or "raise",
            check_payload=check_payload,
            async_wrapper=async_wrapper,
            sync_wrapper=sync_wrapper,
            on_failure=on_failure,
            request=request,
            app=app,
            late_async_wrapper=late_async_wrapper or async_wrapper,
            enter=enter,
            transaction=transaction,
            sessions=sessions,
            unusable=unusable,
        )
        super().__init__(name, doc)
        # Blinker promises only the truth value of this mapping. Here: receiver's key -> its links.
        self.receivers: dict[Any, tuple[Link, ...]] = {}  # type: ignore[assignment]

    def configure(
        self,
        *,
        doc: str | None,
        on_error: OnError,
        check_payload: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        """Set anew what a later declaration, or the app's start, decides.

        :param doc: as in the constructor; ``None`` leaves it.
        :param on_error: as in the constructor.
        :param check_payload: as in the constructor.
        """
        with self._locked():
            self.__doc__ = doc or self.__doc__
            self._around.on_error = on_error
            self._around.check_payload = check_payload
            self._forget_plan()

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
        order: int | None = None,
    ) -> F:
        """Connect a receiver.

        Connecting the same receiver to the same sender again changes its priority and options,
        keeps its place in connection order, and never turns a strong connection into a weak one.

        :param receiver: called as ``receiver(sender, **payload)``; may be async.
        :param sender: only sends by this sender reach the receiver; any, if left out. Strings and
            integers match by value, everything else by identity.
        :param weak: hold the receiver weakly (blinker's default). Use ``False`` for closures.
        :param priority: higher runs first.
        :param when: ``when(sender, **payload)`` decides at each send whether the receiver is
            called.
        :param delivery: how the receiver gets it; at once, if left out.
        :param on_error: its own failure policy; the signal's, if left out.
        :param uid: kept for :class:`Connection`.
        :param order: a place in connection order other than the last.
        :return: the receiver, unchanged.
        :raises ReceiverError: if the receiver is not callable or cannot be held weakly, or for a
            priority, a predicate or a uid that is none.
        :raises DeclarationError: for a failure policy that does not exist.
        :raises ConfigurationError: for a delivery that is none.
        :raises Exception: what a receiver of ``receiver_connected`` raised. Then everything is as
            it was before: a new connection is gone, and a changed one has its old options.
        """
        self._check_callable(receiver)
        check_options(receiver, priority, when, on_error, uid)
        check_delivery(receiver, delivery)
        link, before = self._make_link(receiver, sender, weak, None)
        if before is not None:
            order = None
        self._set_options(link, priority, when, delivery, on_error, uid, order)
        self._put(link)
        try:
            self._changed()
            self._tell_connected(receiver, sender, weak)
        except Exception:
            self._take_back(link, before)
            self._changed()
            raise
        return receiver

    def _check_callable(self, receiver: object) -> None:
        if not callable(receiver):
            raise ReceiverError(
                f"Cannot connect {type_name(receiver)} to signal {self.name!r}: "
                "it is not callable. Connect a function, a method or an object with __call__."
            )

    def _set_options(
        self,
        link: Link,
        priority: int,
        when: Callable[..., Any] | None,
        delivery: Delivery | None,
        on_error: OnError | None,
        uid: str | None,
        order: int | None,
    ) -> None:
        link.priority = priority
        link.when = when
        link.delivery = delivery
        link.on_error = on_error
        link.uid = uid
        link.plain = not link.is_async and all(o is None for o in (when, delivery, on_error))
        if order is not None:
            link.order = order

    def _make_link(
        self, receiver: Receiver, sender: Any, weak: bool, scope: object | None
    ) -> tuple[Link, Link | None]:
        """Return a new link, and the one of the same receiver and sender that it replaces."""
        link = Link()
        link.receiver_key = receiver_key(receiver)
        link.sender_key = None if sender is ANY else sender_key(sender)
        link.scope = scope
        if self._graves:  # else a link of a collected receiver at the same address might be found
            self._bury(wait=True)
        before = self._find(link.receiver_key, link.sender_key, scope)
        link.order = next_order() if before is None else before.order
        link.priority = 0
        link.when = link.delivery = link.on_error = link.uid = None
        link.tally = None if before is None else before.tally
        link.is_async = is_async(receiver)
        link.plain = not link.is_async
        link.weak = weak and not (before is not None and not before.weak)
        link.place = None
        if link.weak:
            link.place = place_of(receiver)
            link.receiver = self._weak_receiver(receiver, link.receiver_key)
        else:
            link.receiver = receiver
        link.sender = sender if sender is ANY else self._hold_sender(sender, link.receiver_key)
        return link, before

    def _weak_receiver(self, receiver: Receiver, key: Hashable) -> Ref | MethodRef:
        try:
            return weak_ref(receiver, key, self._reap)
        except TypeError:
            raise ReceiverError(
                f"Cannot connect {place_of(receiver)} to signal {self.name!r} weakly: "
                f"{type_name(receiver)} takes no weak reference. Connect it with weak=False."
            ) from None

    def _hold_sender(self, sender: Any, key: Hashable) -> Any:
        """Hold a sender weakly, or strongly where that is the only way to know that it is the same.

        An object without weak references is known by its address alone, and a new object may get
        the same address, so the connection keeps it.
        """
        sender = unwrap(sender)
        if isinstance(sender, (str, int)):
            return sender
        try:
            return weak_ref(sender, key, self._reap)
        except TypeError:
            return sender

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
        """Connect a receiver while a ``with`` block runs, for the current thread or task alone.

        Blocks nest, and a receiver that was connected before stays so afterwards.

        :param receiver: as in :meth:`connect`; held strongly.
        :param sender: as in :meth:`connect`.
        """
        self._check_callable(receiver)
        scope = object()
        link, _ = self._make_link(receiver, sender, False, scope)
        outer = _scopes.get()
        _scopes.set(outer | {scope})
        try:
            self._put(link)
            self._changed()
            self._tell_connected(receiver, sender, False)
            yield
        finally:
            _scopes.set(_scopes.get() - {scope})
            self._discard(lambda other: other is link, link.receiver_key)
            self._changed()
            self._tell_disconnected(receiver, sender)

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """Call no receivers while a ``with`` block runs, for the current thread or task alone.

        Blocks nest: the signal speaks again when the outermost ends.
        """
        scope = object()
        _scopes.set(_scopes.get() | {scope})
        with self._locked():
            self._mutes |= {scope}
            self._forget_plan()
        try:
            yield
        finally:
            _scopes.set(_scopes.get() - {scope})
            with self._locked():
                self._mutes -= {scope}
                self._forget_plan()

    @property
    def _hushed(self) -> bool:
        """Whether the signal is muted for anybody at all."""
        return self._muted_everywhere or bool(self._mutes)

    @property
    def is_muted(self) -> bool:
        """Whether a send would reach nobody here. Setting it mutes every thread and task."""
        return self._muted_everywhere or not self._mutes.isdisjoint(_scopes.get())

    @is_muted.setter
    def is_muted(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        with self._locked():
            self._muted_everywhere = bool(value)
            self._forget_plan()

    def disconnect(self, receiver: Receiver, sender: Any = ANY) -> None:
        """Disconnect a receiver.

        :param receiver: the receiver; one that is not connected is passed over.
        :param sender: from this sender only; from all, if left out.
        """
        key = None if sender is ANY else sender_key(sender)
        active = _scopes.get()

        def meant(link: Link) -> bool:
            here = link.scope is None or link.scope in active
            return here and (sender is ANY or link.sender_key == key)

        self._discard(meant, receiver_key(receiver))
        self._changed()
        self._tell_disconnected(receiver, sender)

    def disconnect_from(self, receiver: Receiver, sender: Any) -> None:
        """End one connection: with ``ANY``, the one for any sender and no other.

        :param receiver: the receiver.
        :param sender: the very sender that it was connected for, or ``ANY``.
        """
        key = None if sender is ANY else sender_key(sender)
        self._discard(
            lambda link: link.scope is None and link.sender_key == key, receiver_key(receiver)
        )
        self._changed()
        self._tell_disconnected(receiver, sender)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have somebody look on at each emission, once it is over.

        An observer sees the emission, and each receiver's time and outcome. It changes nothing;
        what it raises is logged. Without observers a send costs what it costs.

        :param observer: called with each :class:`~flask_signals_kit.Observation`.
        :return: a function that ends it.
        """
        with self._locked():
            self._around.observers = (*self._around.observers, observer)
            self._forget_plan()
        self._changed()
        return _once(partial(self._unobserve, observer))

    def _unobserve(self, observer: Observer) -> None:
        with self._locked():
            self._around.observers = _without(observer, self._around.observers)
            self._forget_plan()
        self._changed()

    @property
    def in_use(self) -> bool:
        """Whether anybody listens, or looks on who wants to see what nobody listens to as well."""
        return bool(self.receivers) or any(
            not getattr(observer, "passive", False) for observer in self._around.observers
        )

    # -- bookkeeping --------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Generator[None, None, None]:
        """Hold the lock, and then look after what was collected in other threads meanwhile."""
        try:
            with self._lock:
                yield
        finally:
            self._bury()

    def _find(self, receiver: Hashable, sender: Hashable, scope: object | None) -> Link | None:
        for link in self.receivers.get(receiver, ()):
            if link.sender_key == sender and link.scope is scope:
                return link
        return None

    def _put(self, link: Link) -> None:
        """Add a link in the place of one with the same receiver, sender and scope."""

        def added(links: tuple[Link, ...]) -> tuple[Link, ...]:
            same = (link.sender_key, link.scope)
            for other in links:  # another thread may have connected it strongly meanwhile
                if link.weak and not other.weak and (other.sender_key, other.scope) == same:
                    link.receiver, link.weak = other.receiver, False
            return (*(o for o in links if (o.sender_key, o.scope) != same), link)

        self._swap(link.receiver_key, added)

    def _take_back(self, link: Link, before: Link | None) -> None:
        """Undo :meth:`_put`."""

        def restored(links: tuple[Link, ...]) -> tuple[Link, ...]:
            old = (before if other is link else other for other in links)
            return tuple(other for other in old if other is not None)

        self._swap(link.receiver_key, restored)

    def _discard(self, meant: Callable[[Link], bool], key: Hashable) -> None:
        self._swap(key, lambda links: tuple(link for link in links if not meant(link)))

    def _swap(self, key: Hashable, change: Callable[[tuple[Link, ...]], tuple[Link, ...]]) -> None:
        """Replace one receiver's links.

        The lock keeps other threads out. The garbage collector may still run in this very thread
        between the reading and the writing, and there end links of the same receiver: then read
        again.
        """
        with self._locked():
            self._replace(key, change)

    def _replace(
        self, key: Hashable, change: Callable[[tuple[Link, ...]], tuple[Link, ...]]
    ) -> tuple[Link, ...]:
        """Do what :meth:`_swap` says, with the lock held; return the links as they were.

        The collector may run as soon as a call returns. So between the last look at the version
        and the writing there is no call.
        """
        receivers = self.receivers
        while True:
            version = self._version
            old = receivers.get(key, ())
            new = change(old)
            if self._version == version:
                break
        if new:
            receivers[key] = new
        else:
            receivers.pop(key, None)
        self._forget_plan()
        return old

    def collected(self, ref: Ref | MethodRef) -> None:
        """Note that a receiver or a sender is gone; called by the garbage collector at any point.

        It must not wait for the lock: the thread that holds it may itself be waiting here. Whoever
        holds it looks after the graves when done. The same goes for whoever is told: this thread
        may hold any lock, and there is nobody to raise to.
        """
        self._graves.append(ref)
        self._bury()

    def _bury(self, *, wait: bool = False) -> None:
        """End the links of whatever was collected; then, without the lock, tell of them.

        :param wait: wait for a thread that is busy with the signal, instead of leaving it to that.
        """
        gone: list[Link] = []
        while self._graves and self._lock.acquire(blocking=wait):
            try:
                self._forget_plan()  # before a grave is gone: a send may look at that alone
                while self._graves:
                    ref = self._graves.pop()
                    before = self._replace(ref.receiver_key, partial(not_held_by, ref))
                    gone += [link for link in before if link.held_by(ref)]
            finally:
                self._lock.release()
        if gone:
            tells = [] if self._on_gone is None else [self._on_gone]
            for tell in tells + [partial(self._mourn, link) for link in gone]:
                try:
                    tell()
                except Exception:
                    logger.exception("Signal %r failed to tell who was collected", self.name)

    def _mourn(self, link: Link) -> None:
        """Report a collected receiver; like blinker, without sending `receiver_disconnected`."""
        if self._on_collected is not None and link.resolve() is None:
            self._on_collected(link.describe(self.name))

    def _forget_plan(self) -> None:
        self._version += 1
        self._only = self._strong = self._weak = self._watched = self._plan = None

    def _changed(self) -> None:
        if self._on_change is not None:
            self._on_change()

    def _tell_connected(self, receiver: Receiver, sender: Any, weak: bool) -> None:
        if "receiver_connected" in self.__dict__ and self.receiver_connected.receivers:
            self.receiver_connected.send(self, receiver=receiver, sender=sender, weak=weak)

    def _tell_disconnected(self, receiver: Receiver, sender: Any) -> None:
        if "receiver_disconnected" in self.__dict__ and self.receiver_disconnected.receivers:
            self.receiver_disconnected.send(self, receiver=receiver, sender=sender)

    def _clear_state(self) -> None:
        with self._locked():
            self.receivers.clear()
            self._forget_plan()
        self._changed()

    # -- asking -------------------------------------------------------------------------------

    def has_receivers_for(self, sender: Any) -> bool:
        """Tell whether a send by this sender would find a receiver that is still alive.

        :param sender: the sender, or ``ANY`` for receivers of any sender alone.
        """
        return any(link.resolve() is not None for link in self._reached(sender))

    def receivers_for(self, sender: Any) -> Generator[Receiver, None, None]:
        """Yield the receivers that a send by this sender would call, in calling order.

        :param sender: the sender, or ``ANY`` for receivers of any sender alone.
        """
        met: set[Hashable] = set()
        for link in self._reached(sender):
            receiver = link.resolve()
            if receiver is not None and link.receiver_key not in met:
                met.add(link.receiver_key)
                yield receiver

    @property
    def links(self) -> list[Link]:
        """Every link in calling order."""
        links = [link for links in list(self.receivers.values()) for link in links]
        return sorted(links, key=Link.rank)

    @property
    def connections(self) -> list[Connection]:
        """Every connection in calling order, described; it keeps no receiver alive."""
        return [link.describe(self.name) for link in self.links]

    def _reached(self, sender: Any) -> tuple[Link, ...]:
        """Return the links that a send by this sender reaches here and now, in calling order."""
        if self._graves:  # left open by a thread that was busy when somebody was collected
            self._bury(wait=True)
        plan = self._plan or self._make_plan()
        key = None if sender is ANY else sender_key(sender) if plan.by_sender else None
        if not plan.scoped:
            return plan.any_sender if key is None else plan.links_for(key)
        active = _scopes.get()
        every = (link for links in list(self.receivers.values()) for link in links)
        return distinct(
            sorted(
                (
                    link
                    for link in every
                    if (link.scope is None or link.scope in active)
                    and (link.sender_key is None or (sender is not ANY and link.sender_key == key))
                ),
                key=Link.rank,
            )
        )

    def _make_plan(self) -> Plan:
        """Resolve the receivers once, for every send until the next change."""
        with self._locked():
            while True:
                version = self._version
                self._plan = plan = Plan(
                    [k for links in list(self.receivers.values()) for k in links]
                )
                links = plan.any_sender
                usual = (
                    plan.simple
                    and not plan.scoped
                    and not self._hushed
                    and self._around.check_payload is None
                    and (self._around.on_error == "raise" or not (links or plan.by_sender))
                )
                strong = not plan.by_sender and not any(link.weak for link in links)
                if not usual:
                    pass
                elif self._around.observers:
                    self._watched = Watched(links) if strong else None
                elif strong:
                    self._strong = tuple(link.receiver for link in links)
                    self._only = self._strong[0] if len(links) == 1 else None
                elif not plan.by_sender and all(link.weak for link in links):
                    self._weak = tuple(link.receiver for link in links)
                else:
                    plan.plain = True
                if self._version == version:  # else somebody was collected meanwhile
                    return plan
                self._forget_plan()

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
        :raises Exception: what a receiver raised, as the signal's ``on_error`` says.
        :raises AsyncReceiverError: for an async receiver without a wrapper.
        """
        try:
            only = self._only
            if only is not None:
                return [(only, only(sender, **payload))]
            strong = self._strong
            if strong:
                return [(receiver, receiver(sender, **payload)) for receiver in strong]
            if strong is not None:
                return []
            weak = self._weak
            if weak is not None:
                return [(r, r(sender, **payload)) for ref in weak if (r := ref()) is not None]
            return self._send(sender, payload, _async_wrapper)
        except RecursionError as error:
            explain_recursion(error)
            raise

    def _send(self, sender: Any, payload: dict[str, Any], wrapper: Wrapper | None) -> Results:
        around = self._around
        watched = self._watched
        if watched is not None:
            try:
                frame = sys._getframe(2)  # of the caller, unless that is another send of the kit
            except ValueError:  # nobody's: a thread or greenlet that runs nothing but this send
                frame = sys._getframe()
            return send_watched(around, sender, payload, watched, frame)
        # First the graves: whoever buries forgets the plan, and then takes the grave out.
        plan = None if self._graves else self._plan
        if plan is not None and plan.plain:
            links = plan.any_sender
            if plan.by_sender:  # an address is nobody else's key, so it is tried without a look
                links = plan.merged.get(id(sender)) or plan.links_for(sender_key(sender))
                if not links:
                    return []
            return [
                (receiver, receiver(sender, **payload))
                for link in links
                if (receiver := link.receiver() if link.weak else link.receiver) is not None
            ]
        links = self._links(sender, payload)
        if not links and not around.observers:
            return []
        wrapper = wrapper or around.async_wrapper
        sending = Sending(around, sender, payload, False, False, wrapper)
        finish(sending.run(links))
        return results(sending)

    def _links(self, sender: Any, payload: dict[str, Any]) -> tuple[Link, ...]:
        """Return the links that a send reaches, after the checks that come before any receiver."""
        if self._hushed and self.is_muted:
            return ()
        if self._around.check_payload is not None:
            self._around.check_payload(payload)
        return self._reached(sender)

    async def send_async(
        self,
        sender: Any = None,
        /,
        *,
        _sync_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> Results:
        """Await every receiver that is connected for this sender, one after the other.

        :param sender: as in :meth:`send`.
        :param _sync_wrapper: makes a plain receiver awaitable.
        :param payload: as in :meth:`send`.
        :return: as in :meth:`send`.
        :raises AsyncReceiverError: for a plain receiver without a wrapper.
        """
        around = self._around
        wrapper = _sync_wrapper or around.sync_wrapper
        sending = Sending(around, sender, payload, False, True, wrapper)
        await sending.run(self._links(sender, payload))
        return results(sending)

    def send_robust(
        self,
        sender: Any = None,
        /,
        *,
        _async_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> list[Outcome[Any]]:
        """Call every receiver and say what became of each; a failure stops nobody.

        Failures are logged and given to the exception hooks. ``BaseException`` goes up.

        :param sender: as in :meth:`send`.
        :param _async_wrapper: as in :meth:`send`.
        :param payload: as in :meth:`send`.
        :return: an :class:`Ok`, :class:`Failed` or :class:`Deferred` for each receiver.
        """
        around = self._around
        wrapper = _async_wrapper or around.async_wrapper
        sending = Sending(around, sender, payload, True, False, wrapper)
        finish(sending.run(self._links(sender, payload)))
        return outcomes(sending)

    async def send_robust_async(
        self,
        sender: Any = None,
        /,
        *,
        _sync_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> list[Outcome[Any]]:
        """Await every receiver and say what became of each; the async :meth:`send_robust`.

        :param sender: as in :meth:`send`.
        :param _sync_wrapper: as in :meth:`send_async`.
        :param payload: as in :meth:`send`.
        """
        around = self._around
        wrapper = _sync_wrapper or around.sync_wrapper
        sending = Sending(around, sender, payload, True, True, wrapper)
        await sending.run(self._links(sender, payload))
        return outcomes(sending)


class Namespace(blinker.Namespace):
    """A ``blinker.Namespace`` whose signals are :class:`Signal`.

    :param make: makes a signal from a name and a doc; :class:`Signal` itself, if left out.
    :param made: called with each new signal once it is in the namespace.

    >>> shop = Namespace()
    >>> shop.signal("account_funded") is shop.signal("account_funded")
    True
    """

    def __init__(
        self,
        make: Callable[[str, str | None], Signal] | None = None,
        made: Callable[[Signal], None] | None = None,
    ) -> None:
        super().__init__()
        self._made = made
        self._make = make or Signal
        self._observers: tuple[Observer, ...] = ()
        self._lock = threading.RLock()  # attaching an observer may make a signal

    def signal(self, name: str, doc: str | None = None) -> Signal:
        """Return the signal of this name, making it at the first call.

        :param name: the name.
        :param doc: one sentence on what it means; the first call's counts.
        """
        signal = self.get(name)
        if signal is None:
            made = self._make(name, doc)
            with self._lock:
                signal = self.setdefault(name, made)
                for observer in self._observers if signal is made else ():
                    made.observe(observer)  # before the lock is free: later ones find the signal
            if signal is made and self._made is not None:
                self._made(made)
        return cast(Signal, signal)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Have somebody look on at every signal of the namespace, those made later included.

        :param observer: as for :meth:`Signal.observe`.
        :return: a function that ends it.
        """
        with self._lock:
            self._observers = (*self._observers, observer)
            for signal in list(self.values()):
                cast(Signal, signal).observe(observer)
        return _once(partial(self._unobserve, observer))

    def _unobserve(self, observer: Observer) -> None:
        with self._lock:
            self._observers = _without(observer, self._observers)
            for signal in list(self.values()):
                cast(Signal, signal)._unobserve(observer)


def _without(observer: Observer, observers: tuple[Observer, ...]) -> tuple[Observer, ...]:
    """Take one observer out once, even if it looks on twice."""
    left = list(observers)
    if observer in left:
        left.remove(observer)
    return tuple(left)


def _once(undo: Callable[[], None]) -> Callable[[], None]:
    """Let the first call alone undo something: the next would undo what somebody else did."""
    left = iter((undo,))

    def undo_once() -> None:
        for end in left:
            end()

    return undo_once


def find_emission(plain_sends: tuple[types.CodeType, ...]) -> Emission | None:
    """Find the emission that the caller is being called for, or ``None`` outside of receivers.

    :param plain_sends: the code of the methods that call receivers in a plain loop.

    A plain send keeps no record of itself, which is what makes it fast. So this looks up the stack
    for the innermost send; where a delivery left the sender's stack, the record it carries is used.
    """
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code is Call.run.__code__:
            return cast(Emission, frame.f_locals["self"].emission)
        if code is Sending.run.__code__:
            return cast(Emission, frame.f_locals["self"].emission_from(frame))
        if code in plain_sends:
            plain = frame.f_locals
            signal = plain["signal"] if "signal" in plain else plain["self"]
            return make_emission(signal._around, plain["sender"], plain["payload"], frame)
        frame = frame.f_back
    return carried_emission.get()
