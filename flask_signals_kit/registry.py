"""What was declared, connected and hooked, before and beside any app."""

from __future__ import annotations

import sys
import threading
import weakref
from abc import ABCMeta
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import count
from types import CodeType, MethodType
from typing import Any, cast, get_args

import blinker
import click
from blinker import ANY
from werkzeug.exceptions import HTTPException

from .callables import (
    is_reloaded,
    look_at,
    place_of,
    receiver_key,
    reload_key,
    sender_key,
    signature_of,
    type_name,
)
from .calls import Delivery, Receiver
from .declarations import Contract, DomainSignal
from .errors import ConfigurationError, DuplicateReceiverError, ReceiverError, did_you_mean
from .links import next_order
from .records import (
    OnError,
    Place,
    Source,
    same_function,
)
from .transactions import SessionSource

BUILTIN_PAYLOADS: dict[str, tuple[str, ...]] = {
    "appcontext_popped": (),
    "appcontext_pushed": (),
    "appcontext_tearing_down": ("exc",),
    "before_render_template": ("template", "context"),
    "got_request_exception": ("exception",),
    "message_flashed": ("message", "category"),
    "request_finished": ("response",),
    "request_started": (),
    "request_tearing_down": ("exc",),
    "template_rendered": ("template", "context"),
}
"""Flask's ten signals and what they pass."""


def builtin_contracts(target: str) -> list[Contract]:
    """Return the contract of one of Flask's own signals."""
    if target not in BUILTIN_PAYLOADS:
        return []
    return [Contract(signal=target, required=BUILTIN_PAYLOADS[target])]


Key = tuple[str, Hashable, Hashable]
"""What a registration is known by: its target, and the keys of its receiver and its sender."""

GONE = object()
"""Stands for a sender that has been collected."""


class Registration:
    """One ``on``: what is to be connected in each app that it concerns."""

    __slots__ = (
        "__weakref__",
        "_receiver",
        "_sender",
        "code",
        "delivery",
        "key",
        "on_error",
        "order",
        "place",
        "priority",
        "target",
        "uid",
        "weak",
        "when",
    )

    def __init__(
        self,
        receiver: Receiver,
        target: str,
        *,
        sender: Any,
        priority: int,
        when: Callable[..., Any] | None,
        delivery: Delivery | None,
        on_error: OnError | None,
        uid: str | None,
        weak: bool,
        forget: Callable[[Registration], None],
    ) -> None:
        self.target: str = target
        limited_to = None if sender is ANY else sender_key(sender)
        self.key: Key = (target, receiver_key(receiver), limited_to)
        place, code = look_at(receiver)
        self.place: Place = place
        self.code: CodeType | None = code
        self.priority: int = priority
        self.when: Callable[..., Any] | None = when
        self.delivery: Delivery | None = delivery
        self.on_error: OnError | None = on_error
        self.uid: str | None = uid
        self.weak: bool = weak
        self.order: int = next_order()
        self._receiver: Any = receiver
        if weak:
            try:
                self._receiver = _weak_ref(receiver, self, forget)
            except TypeError:
                raise ReceiverError(
                    f"Cannot connect {self.place} to signal {target!r} weakly: "
                    f"{type_name(receiver)} takes no weak reference. Connect it with weak=False."
                ) from None
        self._sender = _hold_sender(sender, self, forget)

    @property
    def receiver(self) -> Receiver | None:
        """The receiver, or ``None`` once it has been collected."""
        return cast("Receiver | None", self._receiver() if self.weak else self._receiver)

    def keep(self) -> None:
        """Hold the receiver strongly from now on."""
        self._receiver, self.weak = self.receiver, False

    @property
    def sender(self) -> Any:
        """The sender that it is limited to, ``ANY``, or ``GONE`` once that has been collected."""
        if not issubclass(type(self._sender), weakref.ref):
            return self._sender
        sender = self._sender()
        return GONE if sender is None else sender

    @property
    def reload_key(self) -> Hashable:
        """What it has in common with the receiver's reloaded self; ``None`` without code."""
        return reload_key(self.place, self.code)

    @property
    def seat(self) -> Hashable:
        """What it has in common with a connection of the same function that takes its order."""
        target, _, sender = self.key
        return target, sender, self.place.module, self.place.name

    @property
    def is_glob(self) -> bool:
        """Whether the target is a pattern."""
        return is_glob(self.target)

    def matches(self, name: str) -> bool:
        """Tell whether a glob takes in this name."""
        return fnmatchcase(name, self.target)


def _hold_sender(sender: Any, owner: Registration, forget: Callable[[Registration], None]) -> Any:
    """Hold a sender weakly, or strongly where that is the only way to know that it is the same."""
    if sender is ANY or isinstance(sender, (str, int)):
        return sender
    try:
        return _weak_ref(sender, owner, forget)
    except TypeError:
        return sender


def _weak_ref(thing: Any, owner: Registration, forget: Callable[[Registration], None]) -> Any:
    """Refer weakly to a receiver or a sender; when it is collected, its registration is forgotten.

    :raises TypeError: if it takes no weak reference.
    """
    owner_ref = weakref.ref(owner)

    def gone(_: object) -> None:
        registration = owner_ref()
        if registration is not None and not sys.is_finalizing():
            forget(registration)

    if type(thing) is MethodType:
        return weakref.WeakMethod(thing, gone)
    return weakref.ref(thing, gone)


def is_glob(name: str) -> bool:
    """Tell a pattern from a name."""
    return any(char in name for char in "*?[")


SOURCES: tuple[Source, ...] = get_args(Source)
"""Where exceptions come from."""


class CeleryControlFlow(Exception, metaclass=ABCMeta):  # noqa: N818 - it is never raised
    """The base of Celery's ``Retry``, ``Ignore`` and ``Reject``, as far as ``isinstance`` goes.

    They are recognised by module and name, because the kit does not import Celery, and a program
    may import it at any time after the kit.
    """

    @classmethod
    def __subclasshook__(cls, kind: type, /) -> bool:
        names = [(base.__module__, base.__name__) for base in kind.__mro__]
        return cls in kind.__mro__ or ("celery.exceptions", "TaskPredicate") in names


DEFAULT_IGNORED: tuple[type[Exception], ...] = (
    HTTPException,
    click.ClickException,
    click.exceptions.Exit,
    click.Abort,
    CeleryControlFlow,
)
"""What exception hooks are not called for by default: exceptions that end something on purpose.

Extend it with ``ignore=(*DEFAULT_IGNORED, KeyError)``.
"""


_hook_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HookRegistration:
    """One ``on_exception``: which exceptions a hook wants to see."""

    hook: Callable[..., Any]
    """The hook."""
    sources: tuple[str, ...]
    """Where the exceptions come from."""
    ignore: tuple[type[BaseException], ...]
    """Classes that it is not called for."""
    handled: bool
    """Whether it is told of what an error handler turned into a response, too."""
    number: int = field(default_factory=_hook_numbers.__next__)
    """Which hook of the process it is."""

    def replaces(self, other: HookRegistration) -> bool:
        """Tell whether this is the same hook, perhaps of a module that was reloaded."""
        return bool(self.hook == other.hook) or is_reloaded(self.hook, other.hook)


_HOOK = "hook(app, exception, *, source, handled, **extra)"


def register_hook(
    hook: Callable[..., Any],
    sources: Iterable[str] | None,
    ignore: Iterable[type[BaseException]] | None,
    handled: bool,
) -> HookRegistration:
    """Check what was given to ``on_exception``.

    :raises ReceiverError: if the hook is not callable, or not with what it will be given.
    :raises ConfigurationError: for a source that does not exist, or an ignored thing that is no
        exception class.
    """
    if not callable(hook):
        raise ReceiverError(
            f"on_exception cannot call {type_name(hook)}; give it a function {_HOOK}."
        )
    if isinstance(hook, type) and issubclass(hook, BaseException):
        raise ReceiverError(
            f"on_exception() hears of every exception; {hook.__name__} is a class, not a hook. Use "
            f"sources=, ignore=, or test isinstance(exception, {hook.__name__}) in the hook."
        )
    try:
        details = {"source": "", "handled": False, "signal": None, "receiver": None}
        signature_of(hook).bind(None, None, **details)
    except TypeError as error:
        raise ReceiverError(
            f"Exception hook {place_of(hook)} cannot be called: {error}. It must be {_HOOK}."
        ) from None
    except ValueError:
        pass  # a builtin without a signature: only a call can tell
    wanted = SOURCES if sources is None else _words(sources)
    for source in wanted:
        if source not in SOURCES:
            raise ConfigurationError(
                f"Exception hook {place_of(hook)} asks for source {source!r}."
                f"{did_you_mean(str(source), SOURCES)} Sources are {', '.join(SOURCES)}."
            )
    ignored = DEFAULT_IGNORED if ignore is None else _classes(ignore)
    for kind in ignored:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigurationError(
                f"Exception hook {place_of(hook)} ignores {type_name(kind)}, which is no exception "
                "class; give ignore=(KeyError, …)."
            )
    return HookRegistration(hook=hook, sources=wanted, ignore=ignored, handled=handled)


def _words(sources: Iterable[str]) -> tuple[str, ...]:
    return (sources,) if isinstance(sources, str) else tuple(sources)


def _classes(ignore: Any) -> tuple[Any, ...]:
    return tuple(ignore) if isinstance(ignore, Iterable) else (ignore,)


def _in_order(registrations: Iterable[Registration]) -> list[Registration]:
    return sorted(registrations, key=lambda registration: registration.order)


class Registry:
    """What was declared and connected: in a kit for every app, in an app's half for it alone."""

    def __init__(self) -> None:
        self.declarations: dict[str, DomainSignal[Any, ..., Any]] = {}
        self._names: dict[str, dict[Key, Registration]] = {}
        self._globs: dict[str, dict[Key, Registration]] = {}
        self._uids: dict[str, dict[Key, Registration]] = {}
        self._codes: dict[Hashable, CodeType | None] = {}  # the last code of each reload key
        self._orders: dict[Hashable, list[int]] = {}  # of former connections, by their seat
        self.bridged: dict[str, blinker.Signal] = {}
        self.hooks: list[HookRegistration] = []
        self.sessions: list[SessionSource] = []
        self.lock: threading.RLock = threading.RLock()

    def _targets(self, target: str) -> dict[str, dict[Key, Registration]]:
        return self._globs if is_glob(target) else self._names

    @property
    def registrations(self) -> list[Registration]:
        """Everything that is connected, in connection order."""
        return _in_order(self._every())

    def _every(self) -> list[Registration]:
        targets = [*self._names.copy().values(), *self._globs.copy().values()]
        return [registration for same in targets for registration in list(same.values())]

    def add(self, registration: Registration) -> None:
        """Keep a registration, in the place of one with the same key."""
        target = registration.target
        same = self._targets(target).setdefault(target, {})
        before = same.get(registration.key)
        if before is not None:
            self.forget(before)
        same[registration.key] = registration
        if registration.uid is not None:
            self._uids.setdefault(registration.uid, {})[registration.key] = registration
        if registration.code is not None:
            self._codes[registration.reload_key] = registration.code

    def replace_former(self, registration: Registration) -> list[Registration]:
        """Forget and return the connections of the function whose place a new one's takes.

        That is the one that has the ``uid``, or the one that a reloaded module had before. Where it
        was connected to the same target and sender, the new one gets its order.

        :raises DuplicateReceiverError: if another function has the ``uid``.
        """
        former = self._with_uid(registration)
        key, code = registration.reload_key, registration.code
        if self._codes.get(key, code) is not code:
            same = (other for other in self._every() if other.reload_key == key)
            former += [o for o in same if o.code is not code and o not in former]
        orders: dict[Hashable, list[int]] = {}
        for other in _in_order(former):
            self.forget(other)
            orders.setdefault(other.seat, []).append(other.order)
        self._orders |= orders
        if self._orders and (free := self._orders.get(registration.seat)):
            registration.order = free.pop(0)
        return former

    def refuse_taken_uid(self, registration: Registration) -> None:
        """Refuse a ``uid`` that another function has, whatever it is connected to.

        :raises DuplicateReceiverError: naming both.
        """
        self._with_uid(registration)

    def _with_uid(self, registration: Registration) -> list[Registration]:
        """Return the connections of an earlier self of the function that has the ``uid``."""
        if registration.uid is None:
            return []
        key = registration.key[1]
        same_uid = self._uids.get(registration.uid, {}).copy().values()
        former = [other for other in same_uid if other.key[1] != key]
        for other in former:
            if not same_function(registration.place, other.place):
                raise DuplicateReceiverError(
                    f"Receiver {registration.place} cannot have uid={registration.uid!r} on signal "
                    f"{registration.target!r}: {other.place} already has it on {other.target!r}. "
                    "Give one of them another uid."
                )
        return former

    def forget(self, registration: Registration) -> None:
        """Drop a registration, if it is still there; the garbage collector may call this."""
        key = registration.key
        same_uid = {} if registration.uid is None else self._uids.get(registration.uid, {})
        for same in (self.of(registration.target), same_uid):
            if same.get(key) is registration:
                same.pop(key, None)

    def find(self, key: Key) -> Registration | None:
        """Return what is connected under this key."""
        return self.of(key[0]).get(key)

    def of(self, target: str) -> dict[Key, Registration]:
        """Return what is connected to this very name or glob."""
        return self._targets(target).get(target, {})

    def globs_of(self, name: str) -> list[Registration]:
        """Return what is connected to globs that this name fits, in connection order."""
        fitting = [same for glob, same in self._globs.copy().items() if fnmatchcase(name, glob)]
        return _in_order(registration for same in fitting for registration in list(same.values()))

    def meant_by(self, name: str) -> list[Registration]:
        """Return what is connected to a name, be it by a glob, in connection order."""
        return _in_order([*self.of(name).copy().values(), *self.globs_of(name)])

    def contracts_of(self, target: str) -> Iterable[Contract]:
        """Return the contracts that a receiver of this name or glob must fit."""
        if not is_glob(target):
            handle = self.declarations.get(target)
            return [handle.contract] if handle is not None and handle.contract is not None else []
        handles = [h for name, h in self.declarations.copy().items() if fnmatchcase(name, target)]
        return [h.contract for h in handles if h.contract is not None]
