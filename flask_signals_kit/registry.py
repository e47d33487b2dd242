"""What was declared, connected and hooked, before and beside any app."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast, get_args

import blinker
import click
from blinker import ANY
from werkzeug.exceptions import HTTPException

from .callables import place_of, receiver_key, sender_key, signature_of, type_name
from .calls import Delivery, Receiver
from .declarations import Contract, DomainSignal
from .errors import ConfigurationError, ReceiverError, did_you_mean
from .links import next_order
from .records import (
    Place,
    Source,
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


GONE = object()
"""Stands for a sender that has been collected."""


class Registration:
    """One ``on``: what is to be connected in each app that it concerns."""

    __slots__ = (
        "__weakref__",
        "_receiver",
        "_sender",
        "delivery",
        "key",
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
        uid: str | None,
        weak: bool,
        forget: Callable[[Registration], None],
    ) -> None:
        self.target: str = target
        limited_to = None if sender is ANY else sender_key(sender)
        self.key: tuple[str, Hashable, Hashable] = (target, receiver_key(receiver), limited_to)
        self.place: Place = place_of(receiver)
        self.priority: int = priority
        self.when: Callable[..., Any] | None = when
        self.delivery: Delivery | None = delivery
        self.uid: str | None = uid
        self.weak: bool = weak
        self.order: int = next_order()
        self._receiver: Any = _weakly(receiver, self, forget) if weak else receiver
        self._sender = _weakly(sender, self, forget)

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
        if not isinstance(self._sender, weakref.ref):
            return self._sender
        sender = self._sender()
        return GONE if sender is None else sender

    @property
    def is_glob(self) -> bool:
        """Whether the target is a pattern."""
        return is_glob(self.target)

    def matches(self, name: str) -> bool:
        """Tell whether a glob takes in this name."""
        return fnmatchcase(name, self.target)


def _weakly(thing: Any, owner: Registration, forget: Callable[[Registration], None]) -> Any:
    """Hold a receiver or a sender weakly where that is possible; ``forget`` ends with it."""
    if thing is ANY or isinstance(thing, (str, int)):
        return thing
    owner_ref = weakref.ref(owner)

    def gone(_: object) -> None:
        registration = owner_ref()
        if registration is not None and not sys.is_finalizing():
            forget(registration)

    try:
        if hasattr(thing, "__func__") and hasattr(thing, "__self__"):
            return weakref.WeakMethod(thing, gone)
        return weakref.ref(thing, gone)
    except TypeError:
        return thing


def is_glob(name: str) -> bool:
    """Tell a pattern from a name."""
    return any(char in name for char in "*?[")


SOURCES: tuple[Source, ...] = get_args(Source)
"""Where exceptions come from."""

IGNORED: tuple[type[BaseException], ...] = (
    HTTPException,
    click.ClickException,
    click.exceptions.Exit,
    click.Abort,
    SystemExit,
    GeneratorExit,
)
"""What hooks are not told of, unless they say what to ignore: these end something on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HookRegistration:
    """One ``on_exception``: which exceptions a hook wants to see."""

    hook: Callable[..., Any]
    """The hook."""
    sources: tuple[str, ...]
    """Where the exceptions come from."""
    ignore: tuple[type[BaseException], ...]
    """Classes that it is not told of."""
    handled: bool
    """Whether it is told of what an error handler turned into a response, too."""


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
    ignored = IGNORED if ignore is None else _classes(ignore)
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


class Registry:
    """What was declared and connected: in a kit for every app, in an app's half for it alone."""

    def __init__(self) -> None:
        self.declarations: dict[str, DomainSignal[Any, ..., Any]] = {}
        self.registrations: dict[tuple[Any, ...], Registration] = {}
        self.bridged: dict[str, blinker.Signal] = {}
        self.hooks: list[HookRegistration] = []
        self.sessions: list[SessionSource] = []
        self.lock: threading.RLock = threading.RLock()

    def forget(self, registration: Registration) -> None:
        """Drop a registration, if it is still there."""
        if self.registrations.get(registration.key) is registration:
            self.registrations.pop(registration.key, None)

    def contracts_of(self, target: str) -> Iterable[Contract]:
        """Return the contracts that a receiver of this name or glob must fit."""
        if not is_glob(target):
            handle = self.declarations.get(target)
            return [handle.contract] if handle is not None and handle.contract is not None else []
        handles = [h for name, h in self.declarations.copy().items() if fnmatchcase(name, target)]
        return [h.contract for h in handles if h.contract is not None]
