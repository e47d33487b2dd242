"""The bridge: relays from Flask's and third-party signals to an app's signals.

A relay is connected to its source only while the app's signal is in use.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any

import blinker
import flask.signals
from blinker import ANY
from flask import Flask

from .compat import is_current
from .core.introspection import explain_recursion, sender_behind
from .core.names import check_name
from .core.third_party import disconnect
from .errors import DeclarationError, UnknownSignalError, did_you_mean, type_name

if TYPE_CHECKING:
    from .core.signal import Signal
    from .records import Receiver

logger: logging.Logger = logging.getLogger("flask_signals_kit")

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
"""Flask's ten signals and their payload names."""

FLASK_SIGNALS: dict[str, blinker.Signal] = {
    name: getattr(flask.signals, name) for name in BUILTIN_PAYLOADS
}
"""Flask's ten signals by their Python names."""


class Relay:
    """Relays one third-party signal to one app's signal.

    Blinker references it weakly. The app's :class:`Relays` own it, so it is freed with the app.

    :param source: the third-party signal.
    :param target: the app's signal.
    :param app: a weak reference to the app.
    """

    def __init__(self, source: blinker.Signal, target: Signal, app: weakref.ref[Flask]) -> None:
        self.source = source
        self._target = target
        self.name: str = target.name
        self._app = app
        self._is_sent_by_app = target.name in FLASK_SIGNALS
        self._pass_on = _pass_on_to(target)
        self._connected = False
        self._closed = False

    @property
    def receiver(self) -> Receiver:
        """The receiver that is connected to the source.

        If the app is the sender, blinker calls it for that app alone, so no check is needed. Then
        it is a plain function: blinker recognises faster that a function is not async.
        """
        return self._pass_on if self._is_sent_by_app else self

    def __call__(self, sender: Any = None, /, **payload: Any) -> Any:
        """Send the app's signal, unless the sender belongs to another app."""
        sender, app = sender_behind(sender), self._app()
        if app is None or self._closed:
            return None
        applies = sender is app if isinstance(sender, Flask) else is_current(app)
        return self._pass_on(sender, **payload) if applies else None

    def close(self) -> None:
        """Disconnect from the source permanently."""
        self._closed = True
        _sync_queue.take(self, wait=True)

    def sync(self) -> None:
        """Connect to the source if the app's signal is in use; disconnect if it is not.

        Only :class:`_SyncQueue` calls this.
        """
        wanted = self._target.in_use and not self._closed
        sender = self._app() if self._is_sent_by_app else ANY
        if wanted is self._connected or sender is None:  # blinker drops a collected sender itself
            return
        if wanted:
            self.source.connect(self.receiver, sender, weak=True)
            self._connected = True
        else:
            self._connected = not disconnect(self.source, self.receiver, sender)


def _pass_on_to(signal: Signal) -> Receiver:
    """Return a receiver that sends a signal and returns the first result that is not ``None``.

    Some senders use what a receiver returns (Flask-Dance stores no token if it is ``False``), and
    for them a relay is one receiver. They cannot await async receivers, so these run even if an
    event loop is running.
    """
    wrapper = signal.context.environment.make_sync_anywhere

    def pass_on(sender: Any = None, /, **payload: Any) -> Any:
        try:
            fast = signal._fast
            if fast is not None:  # as Signal.send, without packing the payload again
                first = None
                for receiver in fast:
                    result = receiver(sender, **payload)
                    first = result if first is None else first
                return first
            payload.setdefault("_async_wrapper", wrapper)
            for _, result in signal.send(sender, **payload):
                if result is not None:
                    return result
        except RecursionError as error:
            explain_recursion(error)
            raise
        return None

    return pass_on


RELAY_CODE: CodeType = next(c for c in _pass_on_to.__code__.co_consts if isinstance(c, CodeType))
"""The code object of every relay's receiver: its frame may be that of a plain send."""


class _SyncQueue:
    """Connects and disconnects relays one at a time.

    A caller normally waits for the lock, and its relay is in sync afterwards. The garbage collector
    must not wait: it may collect a receiver in any thread at any point, and that thread may hold
    another lock that the current owner of this one needs, such as the lock of a signal. So it only
    adds the relay to the queue. The owner of the lock works until the queue is empty.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._due: deque[Relay] = deque()
        self._busy = False

    def take(self, relay: Relay, *, wait: bool) -> None:
        self._due.append(relay)
        while self._lock.acquire(blocking=wait):
            try:
                if self._busy:  # an outer call in this thread continues when this returns
                    return
                self._sync_due(relay)
            finally:
                self._lock.release()
            if not self._due:  # else another thread added a relay just before the release
                return
            wait = False

    def _sync_due(self, own: Relay) -> None:
        """Sync every relay in the queue; raise the error of the caller's own relay, log others."""
        failure: Exception | None = None
        self._busy = True
        try:
            while self._due:
                relay = self._due.popleft()
                try:
                    relay.sync()
                except Exception as error:
                    if relay is own:
                        failure = error
                    else:
                        logger.exception("The relay of signal %r failed", relay.name)
        finally:
            self._busy = False
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # otherwise its traceback would keep this frame and the app alive


_sync_queue = _SyncQueue()
"""One for all apps: their relays connect to the same signals, and may be chained."""


class Relays:
    """The relays of one app."""

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)
        self._relays: dict[str, Relay] = {}

    def add(self, source: blinker.Signal, signal: Signal) -> None:
        """Relay a third-party signal to an app's signal."""
        self._relays[signal.name] = Relay(source, signal, self._app)
        if signal.in_use:
            self.sync(signal.name)

    def sync(self, name: str, *, wait: bool = True) -> None:
        """Connect or disconnect the relay of a signal, depending on whether the signal is in use.

        :param wait: wait for another thread that is changing relays. If false, leave the work to
            that thread.
        """
        relay = self._relays.get(name)
        if relay is not None:
            _sync_queue.take(relay, wait=wait)

    def remove(self, name: str) -> None:
        """Remove the relay of a signal, if there is one."""
        relay = self._relays.pop(name, None)
        if relay is not None:
            relay.close()

    def close(self) -> None:
        """Remove every relay."""
        relays, self._relays = self._relays, {}
        for relay in relays.values():
            relay.close()


def choose(
    source: str | blinker.Signal | Mapping[str, Any],
    names: Iterable[str] | None,
    prefix: str | None,
) -> dict[str, blinker.Signal]:
    """Return the signals to bridge, by their new names.

    :param source: an extension of the catalogue, one signal, or signals by name.
    :param names: which of them; all if ``None``.
    :param prefix: the prefix of each name; if ``None``, that of the extension, if any.
    """
    names = [names] if isinstance(names, str) else names
    if isinstance(source, str):
        from . import catalogue  # only here: it would slow down importing the package

        found = catalogue.load(source)
        return _choose(found, names, f"{source}." if prefix is None else prefix, source)
    return _choose(source, names, prefix or "", type_name(source))


def _choose(
    source: blinker.Signal | Mapping[str, Any],
    names: Iterable[str] | None,
    prefix: str,
    what: str,
) -> dict[str, blinker.Signal]:
    """Return the signals to bridge, by their new names.

    :param source: one signal, or signals by name (a namespace, or a result of the catalogue).
    :param names: which of them, by their own names or as Python identifiers; all if ``None``.
    :param prefix: the prefix of each name.
    :param what: how an error names the source.
    :raises UnknownSignalError: for an unknown name.
    :raises DeclarationError: for a source that is not a signal, or a signal without a valid name.
    """
    if isinstance(source, blinker.Signal):
        name = _name_of_one(source, names, what)
        return {check_name(f"{prefix}{name}"): source}
    if not isinstance(source, Mapping):
        raise DeclarationError(
            f"kit.bridge cannot bridge {type_name(source)}: give it the name of an extension, a "
            "blinker signal or a blinker namespace."
        )
    available: dict[str, blinker.Signal] = {}
    clashing: set[str] = set()
    for name, signal in source.items():
        if isinstance(signal, blinker.Signal):
            known = _python_name(name)
            if available.setdefault(known, signal) is not signal:
                clashing.add(known)
    wanted = available if names is None else [_python_name(name) for name in names]
    for name in wanted:
        if name not in available:
            raise UnknownSignalError(
                f"{what} has no signal {name!r}.{did_you_mean(name, available)} "
                f"It has {', '.join(sorted(available))}."
            )
        if name in clashing:
            raise DeclarationError(
                f"{what} has two signals that would both be called {name!r}. Bridge them one by "
                f"one, as in kit.bridge(signal, names=['{name}_2'])."
            )
    return {check_name(f"{prefix}{name}"): available[name] for name in wanted}


def _name_of_one(source: blinker.Signal, names: Iterable[str] | None, what: str) -> str:
    """Return the new name of a single signal."""
    name = getattr(source, "name", None)
    if names is not None:
        names = list(names)
        if len(names) != 1:
            raise DeclarationError(
                f"kit.bridge({what}, names=…) bridges one signal, so give it one name, "
                f"not {len(names)}."
            )
        name = names[0]
    if not isinstance(name, str):
        raise DeclarationError(
            "The signal given to kit.bridge has no name: use kit.bridge(signal, names=['…'])."
        )
    return _python_name(name)


def _python_name(name: str) -> str:
    return name.replace("-", "_")
