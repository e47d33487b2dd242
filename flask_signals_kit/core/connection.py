"""Connections, their options, and the thread-safe collection that a signal or a registry owns."""

from __future__ import annotations

import logging
import sys
import threading
import types
import weakref
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, TypeAlias, cast

from blinker import ANY

from ..errors import ConfigurationError, ReceiverError, sender_label, type_name
from ..records import IMMEDIATE, Connection, OnError, Place, Receiver
from ..settings import check_on_error
from .introspection import is_async, place_of, receiver_key, sender_key, takes_extra, unwrap

logger: logging.Logger = logging.getLogger("flask_signals_kit")

_orders = count()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """The options of a connection."""

    priority: int = 0
    """Higher runs first; within one priority, connection order."""
    when: Callable[..., Any] | None = None
    """Decides at each send, as ``when(sender, **payload)``, whether the receiver is called."""
    delivery: Any = None
    """A :class:`Delivery`, which decides how the receiver gets an emission; ``None`` to call it
    during the send."""
    on_error: OnError | None = None
    """The failure policy of this receiver; ``None`` for that of the signal."""
    uid: str | None = None
    """A stable name for the receiver."""
    weak: bool = False
    """Whether the receiver is referenced weakly."""

    @property
    def is_only_delivered(self) -> bool:
        """Whether the call is simply given to a delivery."""
        return self.delivery is not None and self.when is None and self.on_error is None

    def check(self, receiver: Receiver) -> None:
        """Refuse invalid options.

        :raises ReceiverError: naming the receiver and the option.
        :raises DeclarationError: for an invalid failure policy.
        :raises ConfigurationError: for an invalid delivery.
        """
        when: Any = self.when
        if when is not None and (not callable(when) or is_async(when)):
            kind = "an async function" if is_async(when) else type_name(when)
            raise ReceiverError(
                f"Receiver {place_of(receiver)} has when={kind}: "
                "it must be a plain function, called as when(sender, **payload)."
            )
        if self.uid is not None and not isinstance(self.uid, str):
            raise ReceiverError(
                f"Receiver {place_of(receiver)} has uid={type_name(self.uid)}: it must be a string."
            )
        if not isinstance(self.priority, int):
            raise ReceiverError(
                f"Receiver {place_of(receiver)} has priority={type_name(self.priority)}: "
                "it must be an integer; higher runs first."
            )
        if self.on_error is not None:
            owner = f"Receiver {place_of(receiver)}"
            check_on_error(self.on_error, owner, "the signal's policy")
        if self.delivery is not None and not is_delivery(self.delivery):
            raise ConfigurationError(
                f"Receiver {place_of(receiver)} has delivery={type_name(self.delivery)}: here it "
                "must be an object with a name and a method deliver(call), such as AfterCommit(). "
                "Only kit.on also takes the name of a delivery."
            )


DEFAULTS: Options = Options()
"""The options of a connection without any."""


NO_SESSION = object()
"""The ``session`` of a connection whose delivery does not wait for one."""


def is_delivery(delivery: object) -> bool:
    """Tell whether an object has the attributes of a :class:`Delivery`."""
    return (
        not isinstance(delivery, type)
        and isinstance(getattr(delivery, "name", None), str)
        and callable(getattr(delivery, "deliver", None))
    )


Key: TypeAlias = tuple[Hashable, Hashable]
"""Identifies a connection within its target: the keys of its receiver and of its sender."""


class _Ref(weakref.ref[Any]):
    """A weak reference that carries the place of its connection."""

    __slots__ = ("place",)
    place: tuple[str, Hashable]


class _MethodRef(weakref.WeakMethod[Any]):
    """A weak reference to a bound method, which is a new object at each look-up."""

    __slots__ = ("place",)
    place: tuple[str, Hashable]


_REFS = (_Ref, _MethodRef)


class LiveConnection:
    """One receiver connected to one target; :class:`Connection` is its public description.

    :param target: the name or glob that it is connected to.
    :param receiver: the receiver.
    :param sender: the only sender whose emissions it gets, or ``ANY``.
    :param options: how it is connected.
    :param scope: identifies the ``with`` block that it belongs to, or ``None``.
    :raises ReceiverError: if the receiver cannot be called.
    """

    __slots__ = (
        "__weakref__",
        "_place",
        "is_async",
        "is_plain",
        "key",
        "options",
        "order",
        "receiver",
        "scope",
        "sender",
        "session",
        "target",
        "weak",
    )

    def __init__(
        self,
        target: str,
        receiver: Receiver,
        sender: Any = ANY,
        options: Options = DEFAULTS,
        scope: object | None = None,
    ) -> None:
        if not callable(receiver):
            raise ReceiverError(
                f"Cannot connect {type_name(receiver)} to signal {target!r}: it is not callable. "
                "Connect a function, a method or an object with __call__."
            )
        self.target: str = target
        self.options: Options = options
        self.scope: object | None = scope
        self.order: int = next(_orders)
        self.key: Key = (receiver_key(receiver), None if sender is ANY else sender_key(sender))
        self.is_async: bool = is_async(receiver)
        self.is_plain: bool = (
            not self.is_async
            and options.delivery is None
            and options.when is None
            and options.on_error is None
        )
        self.session: Any = getattr(options.delivery, "session", NO_SESSION)
        self.weak: bool = options.weak
        self.receiver: Any = receiver  # the receiver, or a weak reference once it is stored
        self.sender: Any = sender if sender is ANY else unwrap(sender)  # likewise
        # A weak receiver may be collected before its place is needed.
        self._place: Place | None = place_of(receiver) if self.weak else None

    def copy(self) -> LiveConnection:
        """Return an equal connection, which is not stored yet."""
        receiver: Any = self.resolve()
        copy = LiveConnection(self.target, receiver, self.resolve_sender(), self.options)
        copy.order = self.order
        return copy

    def check_weak(self) -> None:
        """Refuse a weak connection of a receiver that does not support weak references.

        :raises ReceiverError: naming the receiver.
        """
        try:
            _weak_ref(self.receiver, None, (self.target, None))
        except TypeError:
            raise ReceiverError(
                f"Cannot connect {self.place} to signal {self.target!r} weakly: "
                f"{type_name(self.receiver)} does not support weak references. "
                "Connect it with weak=False."
            ) from None

    def hold_weakly(self, collected: Callable[[Any], None]) -> None:
        """Replace a weak receiver, and the sender, by weak references.

        A sender that does not support weak references is held strongly: it is matched by its
        address, and a new object could get the same address. Strings and integers match by value.

        :param collected: called with the reference once its object is collected.
        :raises ReceiverError: if the receiver does not support weak references.
        """
        place = (self.target, self.key[0])
        if self.weak:
            self.check_weak()
            self.receiver = _weak_ref(self.receiver, collected, place)
        if self.sender is not ANY and not isinstance(self.sender, (str, int)):
            with suppress(TypeError):
                self.sender = _weak_ref(self.sender, collected, place)

    @property
    def place(self) -> Place:
        """Where the receiver is defined."""
        if self._place is None:
            self._place = place_of(self.receiver)
        return self._place

    def resolve(self) -> Receiver | None:
        """Return the receiver, or ``None`` once it has been collected."""
        held = self.receiver
        return cast("Receiver | None", held() if type(held) in _REFS else held)

    def resolve_sender(self) -> Any:
        """Return the sender, ``ANY``, or ``None`` once it has been collected."""
        return self.sender() if type(self.sender) in _REFS else self.sender

    @property
    def is_alive(self) -> bool:
        """Whether neither the receiver nor the sender has been collected."""
        if self.resolve() is None:
            return False
        return type(self.sender) not in _REFS or self.sender() is not None

    def uses(self, ref: Any) -> bool:
        """Tell whether this is the weak reference to the receiver or the sender."""
        return self.receiver is ref or self.sender is ref

    def describe(self, signal: str) -> Connection:
        """Return the public record, which references neither the receiver nor the sender."""
        receiver, options = self.resolve(), self.options
        return Connection(
            signal=signal,
            receiver=self.place,
            sender=None if self.sender is ANY else sender_label(self.resolve_sender()),
            priority=options.priority,
            order=self.order,
            delivery=IMMEDIATE if options.delivery is None else options.delivery.name,
            when=None if options.when is None else place_of(options.when),
            on_error=options.on_error,
            is_async=self.is_async,
            weak=self.weak,
            uid=options.uid,
            takes_extra=receiver is None or takes_extra(receiver),
        )


def _weak_ref(
    target: Any, collected: Callable[[Any], None] | None, place: tuple[str, Hashable]
) -> Any:
    """Return a weak reference that carries a place.

    :raises TypeError: if the target does not support weak references.
    """
    is_method = type(target) is types.MethodType
    ref: Any = (_MethodRef if is_method else _Ref)(target, collected)
    ref.place = place
    return ref


class Connections:
    """The connections of a signal, or of a registry: by target, then by receiver.

    Threads may change them at the same time. The garbage collector may end a connection at any
    point of any thread. Reading needs no lock.

    :param owner: the signal or registry; held weakly. ``_connections_changed(target, wait)`` is
        called after each change, without the lock; ``wait`` is false if the garbage collector
        caused it, because then it must not wait for another lock. ``_connection_lost(connection)``
        is called with each connection that ended because its receiver or sender was collected.
    """

    __slots__ = (
        "__weakref__",
        "_by_target",
        "_callback",
        "_dead",
        "_lock",
        "_owner",
        "_version",
    )

    def __init__(self, owner: Any) -> None:
        self._by_target: dict[str, dict[Hashable, tuple[LiveConnection, ...]]] = {}
        self._owner: Callable[[], Any] = weakref.ref(owner)
        self._lock = threading.RLock()
        self._dead: list[Any] = []
        self._version = 0
        self._callback = partial(_purge_collected, weakref.ref(self))  # of weak references

    # -- reading ------------------------------------------------------------------------------

    def of(self, target: str, receiver: Hashable = None) -> list[LiveConnection]:
        """Return the live connections of one target, in no particular order.

        :param receiver: the key of a receiver, to return only its connections.
        """
        by_receiver = self._by_target.get(target)
        if not by_receiver:
            return []
        found = list(by_receiver.values()) if receiver is None else [by_receiver.get(receiver, ())]
        return [c for some in found for c in some if c.is_alive]

    def targets_of(self, receiver: Hashable) -> list[str]:
        """Return every target that a receiver with this key is connected to."""
        return [target for target, some in self._by_target.copy().items() if receiver in some]

    def has(self, target: str) -> bool:
        """Tell whether a target has a connection."""
        by_receiver = self._by_target.get(target)
        if not by_receiver:
            return False
        return not self._dead or bool(self.of(target))

    @property
    def targets(self) -> list[str]:
        """Every target that has a connection."""
        return [target for target, some in self._by_target.copy().items() if some]

    def __iter__(self) -> Any:
        """Iterate over every live connection, in connection order."""
        receivers = [some for some in self._by_target.copy().values() if some]
        every = [c for by in receivers for some in list(by.values()) for c in some if c.is_alive]
        return iter(sorted(every, key=lambda connection: connection.order))

    def find(self, connection: LiveConnection) -> LiveConnection | None:
        """Return the connection of the same target, receiver, sender and scope."""
        same = self._by_target.get(connection.target, {}).get(connection.key[0], ())
        for other in same:
            same_scope = other.scope is connection.scope
            if other.key == connection.key and same_scope and other.is_alive:
                return other
        return None

    # -- changing -----------------------------------------------------------------------------

    def add(
        self, connection: LiveConnection, former: Iterable[LiveConnection] = ()
    ) -> list[LiveConnection]:
        """Store a connection; replace one of the same receiver, sender and scope.

        The new connection takes over the place in connection order, and a strong connection stays
        strong. The caller must call :meth:`notify` afterwards, without a lock of its own.

        :param former: other connections to remove in the same step.
        :return: the replaced connections, for :meth:`restore`.
        :raises ReceiverError: if the receiver does not support weak references.
        """
        with self._lock:
            before = self.find(connection)
            if before is not None:
                connection.order = before.order
                connection.weak = connection.weak and before.weak
            if connection.weak or connection.sender is not ANY:
                connection.hold_weakly(self._callback)
            for other in former:
                self._swap(other, None)
            self._swap(before or connection, connection)
        return [*former] if before is None else [*former, before]

    def restore(self, connection: LiveConnection, replaced: Iterable[LiveConnection]) -> None:
        """Undo :meth:`add`."""
        with self._lock:
            self._swap(connection, None)
            for other in replaced:
                self._swap(other, other)
        self.notify(each.target for each in (connection, *replaced))

    def remove(self, connection: LiveConnection) -> None:
        """Remove a connection, if it is stored."""
        with self._lock:
            self._swap(connection, None)
        self.notify([connection.target])

    def clear(self, target: str) -> None:
        """Remove every connection of a target."""
        with self._lock:
            self._by_target.pop(target, None)
        self.notify([target])

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present connections, in their order."""
        with self._lock:
            saved = {target: by_receiver.copy() for target, by_receiver in self._by_target.items()}

        def restore() -> None:
            with self._lock:
                present, self._by_target = self._by_target, saved
                self._version += 1
                every = [c for by in saved.values() for some in [*by.values()] for c in some]
                for connection in every:
                    if not connection.is_alive:  # it was collected meanwhile
                        self._swap(connection, None)
            targets = {**present, **saved}
            self.notify(name for name in targets if present.get(name) != saved.get(name))

        return restore

    def notify(self, targets: Iterable[str]) -> None:
        """Report that the connections of some targets have changed."""
        owner = self._owner()
        for target in dict.fromkeys(targets):
            if owner is not None:
                owner._connections_changed(target, True)
            if self._dead:
                self.purge()

    def _swap(self, old: LiveConnection, new: LiveConnection | None) -> None:
        """Replace a connection by another, or remove it. The caller holds the lock.

        The garbage collector may run in this thread between reading and writing, and change the
        same tuple; then read again. It may run whenever a call returns, so there is no call between
        the last check of the version and the writing.
        """
        by_receiver = self._by_target.setdefault(old.target, {})
        key = old.key[0]
        while True:
            version = self._version
            before = by_receiver.get(key, ())
            after = tuple(c for c in before if c is not old) + (() if new is None else (new,))
            if self._version == version:
                break
        if after:
            by_receiver[key] = after
        else:
            by_receiver.pop(key, None)
        self._version += 1

    # -- the garbage collector ----------------------------------------------------------------

    def collected(self, ref: Any) -> None:
        """Remove the connection of a collected receiver or sender.

        The garbage collector calls this, so it must not wait for the lock: the thread that holds it
        may be waiting for this thread. That thread purges when it is done. Until then, no plan may
        use the connection.
        """
        self._dead.append(ref)
        self.purge()
        owner = self._owner()
        if self._dead and owner is not None:
            _call(owner._connections_changed, ref.place[0], False)

    def purge(self) -> None:
        """Remove the connections of collected objects, unless another thread holds the lock.

        The callbacks run without the lock.
        """
        lost: list[LiveConnection] = []
        while self._dead and self._lock.acquire(blocking=False):
            try:
                while self._dead:
                    ref = self._dead.pop()
                    target, receiver = ref.place
                    for connection in self._by_target.get(target, {}).get(receiver, ()):
                        if connection.uses(ref):
                            self._swap(connection, None)
                            lost.append(connection)
            finally:
                self._lock.release()
        owner: Any = self._owner() if lost else None
        if owner is not None:
            for connection in lost:
                _call(owner._connections_changed, connection.target, False)
                _call(owner._connection_lost, connection)


def _call(callback: Callable[..., None], *args: Any) -> None:
    """Call a callback and log its errors: in the garbage collector, no caller handles them."""
    try:
        callback(*args)
    except Exception:
        logger.exception("A callback failed after a receiver or a sender was garbage-collected")


def _purge_collected(connections_ref: weakref.ref[Connections], ref: Any) -> None:
    """Handle a weak reference whose object was collected."""
    connections = connections_ref()
    if connections is not None and not sys.is_finalizing():
        connections.collected(ref)
