"""Who is connected: links, the plan that a send runs by, and how to leave a signal of others."""

from __future__ import annotations

import sys
import types
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from itertools import count
from math import ceil
from typing import Any, Protocol, cast

import blinker
from blinker import ANY

from .callables import is_async, place_of, takes_extra, type_name
from .calls import Delivery, Receiver
from .errors import ConfigurationError, ReceiverError
from .records import IMMEDIATE, Connection, OnError, Place
from .settings import check_on_error

_order = count()


def next_order() -> int:
    """Take the next place in connection order; one sequence for all signals."""
    return next(_order)


class Ref(weakref.ref[Any]):
    """A weak reference that knows whose link it belongs to."""

    __slots__ = ("receiver_key",)
    receiver_key: Hashable


class MethodRef(weakref.WeakMethod[Any]):
    """The same for a bound method, which is a new object each time it is asked for."""

    __slots__ = ("receiver_key",)
    receiver_key: Hashable


RECENT = 100
"""How many durations of a connection are kept."""


class Tally:
    """What is counted of one connection; it hangs on the connection and goes with it."""

    __slots__ = ("calls", "dropped", "failures", "last_failure", "recent")

    def __init__(self) -> None:
        self.calls: int = 0
        self.failures: int = 0
        self.dropped: int = 0
        self.last_failure: str | None = None
        self.recent: deque[float] = deque(maxlen=RECENT)

    def add(self, seconds: float, failure: str | None) -> None:
        """Count one call, with the type of the exception that it ended in."""
        self.calls += 1
        self.recent.append(seconds)
        if failure is not None:
            self.failures += 1
            self.last_failure = failure

    @property
    def mean(self) -> float | None:
        """The mean duration of the last hundred calls, in seconds; ``None`` before the first."""
        recent = tuple(self.recent)
        return sum(recent) / len(recent) if recent else None

    @property
    def p95(self) -> float | None:
        """The 95th percentile of the last hundred calls, in seconds; ``None`` before the first."""
        durations = sorted(self.recent)
        return durations[ceil(0.95 * len(durations)) - 1] if durations else None


class Link:
    """One receiver connected to one signal: what :class:`Connection` describes."""

    __slots__ = (
        "delivery",
        "is_async",
        "on_error",
        "order",
        "place",
        "plain",
        "priority",
        "receiver",
        "receiver_key",
        "scope",
        "sender",
        "sender_key",
        "tally",
        "uid",
        "weak",
        "when",
    )

    receiver: Any  # the receiver itself, or a weak reference to it
    receiver_key: Hashable
    sender: Any  # a weak reference, the sender itself where there is none, or ANY
    sender_key: Hashable  # None for ANY
    place: Place | None  # looked up at once for a weak receiver, which may be gone later
    priority: int
    order: int
    weak: bool
    is_async: bool
    plain: bool  # whether a plain call is all there is to do
    when: Callable[..., Any] | None
    delivery: Delivery | None
    on_error: OnError | None  # its own failure policy, or None where the signal's counts
    uid: str | None
    scope: object | None
    tally: Tally | None  # what the journal counts of it

    def where(self) -> Place:
        """Return where the receiver is, looked up once."""
        if self.place is None:
            self.place = place_of(self.receiver)
        return self.place

    def resolve(self) -> Receiver | None:
        """Return the receiver, or ``None`` once it has been collected."""
        return cast("Receiver | None", self.receiver() if self.weak else self.receiver)

    def describe(self, signal: str) -> Connection:
        """Describe the link as a record that holds nothing."""
        receiver = self.resolve()
        return Connection(
            signal=signal,
            receiver=self.where(),
            sender=None if self.sender_key is None else sender_label(self.held_sender()),
            priority=self.priority,
            order=self.order,
            delivery=IMMEDIATE if self.delivery is None else self.delivery.name,
            when=None if self.when is None else place_of(self.when),
            is_async=self.is_async,
            weak=self.weak,
            uid=self.uid,
            takes_extra=receiver is None or takes_extra(receiver),
            on_error=self.on_error,
        )

    def held_by(self, ref: Ref | MethodRef) -> bool:
        """Tell whether this reference is how the link holds its receiver or its sender."""
        return self.receiver is ref or self.sender is ref

    def held_sender(self) -> Any:
        """Return the sender, or ``None`` once it has been collected."""
        return self.sender() if type(self.sender) in (Ref, MethodRef) else self.sender

    def rank(self) -> tuple[int, int]:
        """Sort key: higher priority first, then connection order."""
        return -self.priority, self.order


class Plan:
    """The links of one signal as a send wants them, valid until the next change."""

    __slots__ = ("any_sender", "by_sender", "merged", "plain", "scoped", "simple")

    def __init__(self, links: list[Link]) -> None:
        links.sort(key=Link.rank)
        self.scoped: bool = any(link.scope is not None for link in links)
        self.simple: bool = all(link.plain for link in links)
        self.plain: bool = False  # whether a send has nothing to do but to call the receivers
        self.by_sender: dict[Hashable, list[Link]] = {}
        for link in links:
            self.by_sender.setdefault(link.sender_key, []).append(link)
        self.any_sender: tuple[Link, ...] = distinct(self.by_sender.pop(None, []))
        self.merged: dict[Hashable, tuple[Link, ...]] = {}

    def links_for(self, key: Hashable) -> tuple[Link, ...]:
        """Return the links that a sender with this key reaches, in calling order."""
        if key not in self.by_sender:
            return self.any_sender
        links = self.merged.get(key)
        if links is None:
            own = [*self.any_sender, *self.by_sender[key]]
            links = self.merged[key] = distinct(sorted(own, key=Link.rank))
        return links


def check_options(
    receiver: Receiver, priority: object, when: object, on_error: object, uid: object
) -> None:
    """Refuse what a receiver cannot be connected with, before a send would stumble over it.

    :raises ReceiverError: naming the receiver and the option.
    :raises DeclarationError: for a failure policy that does not exist.
    """
    if on_error is not None:
        check_on_error(on_error, f"Receiver {place_of(receiver)}", "the signal's policy")
    if when is not None and (not callable(when) or is_async(when)):
        kind = "an async function" if is_async(when) else type_name(when)
        raise ReceiverError(
            f"Receiver {place_of(receiver)} has when={kind}: "
            "it must be a plain function, called as when(sender, **payload)."
        )
    if uid is not None and not isinstance(uid, str):
        raise ReceiverError(
            f"Receiver {place_of(receiver)} has uid={type_name(uid)}: it must be a string."
        )
    if not isinstance(priority, int):
        raise ReceiverError(
            f"Receiver {place_of(receiver)} has priority={type_name(priority)}: "
            "it must be an integer; higher runs first."
        )


def check_delivery(receiver: Receiver, delivery: object) -> None:
    """Refuse a delivery that is none.

    :raises ConfigurationError: naming the receiver.
    """
    is_object = not isinstance(delivery, type) and isinstance(getattr(delivery, "name", None), str)
    if delivery is not None and not (is_object and callable(getattr(delivery, "deliver", None))):
        raise ConfigurationError(
            f"Receiver {place_of(receiver)} has delivery={type_name(delivery)}: here it must be an "
            "object with a name and a method deliver(call), such as AfterCommit(). "
            "kit.on takes names, too."
        )


def sender_label(sender: Any) -> str:
    """Name a sender filter without a ``repr()`` of anybody's object."""
    if type(sender) in (str, int, bool):
        return repr(sender)
    return type_name(sender)


def distinct(links: Iterable[Link]) -> tuple[Link, ...]:
    """Keep, of each receiver, its links up to the first that has no predicate."""
    settled: set[Hashable] = set()
    kept: list[Link] = []
    for link in links:
        if link.receiver_key not in settled:
            kept.append(link)
            if link.when is None:
                settled.add(link.receiver_key)
    return tuple(kept)


class Mourner(Protocol):
    """What is told when a receiver or a sender has been collected: a signal."""

    def collected(self, ref: Any) -> None:
        """Note that what this reference stood for is gone."""


class Reaper:
    """The callback of a signal's weak references; it does not keep the signal alive."""

    __slots__ = ("_signal",)

    def __init__(self, signal: Mourner) -> None:
        self._signal = weakref.ref(signal)

    def __call__(self, ref: Any) -> None:
        """Tell the signal, unless it or the interpreter is going away as well."""
        signal = self._signal()
        if signal is not None and not sys.is_finalizing():
            signal.collected(ref)


def weak_ref(target: Any, receiver: Hashable, reaper: Reaper) -> Ref | MethodRef:
    """Hold a receiver or a sender weakly for the link of this receiver.

    :raises TypeError: if it takes no weak reference.
    """
    is_method = type(target) is types.MethodType
    ref: Ref | MethodRef = MethodRef(target, reaper) if is_method else Ref(target, reaper)
    ref.receiver_key = receiver
    return ref


def not_held_by(ref: Ref | MethodRef, links: tuple[Link, ...]) -> tuple[Link, ...]:
    """Return the links that do not hang on this reference."""
    return tuple(link for link in links if not link.held_by(ref))


_TRIES = 20
"""How often to disconnect while other threads connect; it fails once in a long while."""


def leave(signal: blinker.Signal, receiver: Callable[..., Any], sender: Any = ANY) -> bool:
    """Disconnect from a signal of others, whatever other threads do to it meanwhile.

    Blinker looks for the receiver with every sender that the signal knows, and Python refuses to go
    on if another thread connects for a new one. That must not reach whoever is being served here.

    :param signal: the signal of others.
    :param receiver: connected weakly, for this sender alone.
    :param sender: as it was connected. With one, nothing reaches the receiver any more whatever is
        returned.
    :return: whether the receiver is gone; if not, blinker drops it once it is collected.
    """
    if sender is not ANY:
        signal.disconnect(receiver, sender)
    for _ in range(_TRIES):
        try:
            signal.disconnect(receiver)
        except RuntimeError:
            if sender is ANY:
                signal.connect(receiver)  # else blinker does not look for it again
        else:
            return True
    return False
