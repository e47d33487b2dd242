"""The signals of one app: its namespace, connections and settings."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from flask import Flask

from ..bridge import BUILTIN_PAYLOADS, Relays
from ..compat import is_current
from ..core.names import is_glob
from ..core.signal import Namespace, Signal
from ..deliveries.durable.delivery import Durable
from ..errors import AppContextError, ConfigurationError
from ..exception_hooks.hooks import ExceptionHooks
from ..records import Connection, OnError, RecordedRequest
from ..settings import Settings
from .api import Api
from .environment import AppEnvironment
from .known_names import KnownNames
from .registry import Registry
from .sessions import Sessions

if TYPE_CHECKING:
    from ..core.connection import LiveConnection
    from ..core.environment import PayloadCheck
    from ..core.journal import Journal
    from .outbox import Outbox
    from .requests import Requests


class _WeakOwner:
    """The owner of handles that are declared for one app; references the app's signals weakly."""

    def __init__(self, app_signals: AppSignals) -> None:
        self._app_signals = weakref.ref(app_signals)

    def __getattr__(self, name: str) -> Any:
        app_signals = self._app_signals()
        if app_signals is None:
            raise AppContextError("The app that this signal was declared for no longer exists.")
        return getattr(app_signals, name)

    def resolve(self, name: str) -> Signal:
        """Return the app's signal of this name."""
        found: Signal = self.__getattr__("find")(name)
        return found


class AppSignals(Api):
    """One app's signals: its namespace, connections and settings.

    Connections and declarations made here apply to this app only, and are freed with it. Get this
    object with ``kit.for_app(app)`` or from ``app.extensions["signals_kit"]``. It references the
    app weakly.

    :param app: the app.
    :param kit: the kit's registry, which applies to every app.
    :param settings: the app's settings.
    :param page_auth: decides whether a visitor may see the page.
    :param problems: finds the problems of the app's signals.
    """

    def __init__(
        self,
        app: Flask,
        kit: Registry,
        settings: Settings,
        page_auth: Callable[[], object] | None,
        problems: Callable[[AppSignals], list[Any]],
    ) -> None:
        self._app = weakref.ref(app)
        self.registry: Registry = Registry(_WeakOwner(self), kit)
        self.registry.add_app(self)
        self.kit = kit
        self.settings = settings
        self.page_auth = page_auth
        self.validating: bool = bool(settings.validate)
        self._applied_mode: tuple[bool, bool] | None = None
        self.journal: Journal | None = None
        self.requests: Requests | None = None
        self.sessions: Sessions = Sessions(self._app, self.registry)
        self.outbox: Outbox | None = None
        """The messages of durable receivers; ``None`` without any."""
        self.collected: deque[Connection] = deque(maxlen=100)
        self.hooks: ExceptionHooks = ExceptionHooks(app)
        self.relays: Relays = Relays(app)
        self._problems = problems
        self.startup: Any = None
        self._environment = AppEnvironment(self, self._app)
        self.namespace: Namespace = Namespace(self._environment)
        self.names: KnownNames = KnownNames(self.registry, self.namespace, settings.strict)

    # -- the app ------------------------------------------------------------------------------

    @property
    def app(self) -> Flask:
        """The app.

        :raises AppContextError: if it no longer exists.
        """
        app = self._app()
        if app is None:
            raise AppContextError(
                "The app of these signals no longer exists; keep a reference to the app while you "
                "use its signals."
            )
        return app

    def _current(self, doing: str) -> AppSignals:
        """Return this object: its app is always the current one."""
        return self

    def default_sender(self) -> Flask:
        """Return the app: the sender of a send without one."""
        return self.app

    def start(self) -> None:
        """Apply the declarations, bridges, connections and hooks that the kit already has."""
        self.kit.add_app(self)
        for connection in self.kit.connections:
            self._check_delivery(connection)
            self.sessions.prepare(connection)
        for name in sorted(self.registry.names()):
            handle = self.kit.declarations.get(name)
            self.namespace.signal(name, None if handle is None else handle.__doc__)
        self.bridged(self.kit.bridged.copy())
        self._sync_hooks()

    def close(self) -> None:
        """Undo the changes made to the app."""
        self.kit.remove_app(self)
        if self.requests is not None:
            self.requests.stop(self.app)
        if self.outbox is not None:
            self.outbox.close()
        self.relays.close()
        self.hooks.close()

    def apply_debug_mode(self) -> None:
        """Apply the settings that depend on debug or testing; called repeatedly at start-up."""
        app = self.app
        if self._applied_mode == (app.debug, app.testing):
            return
        self._applied_mode = (app.debug, app.testing)
        self.validating = self._is_on(self.settings.validate)
        self._start_or_stop_journal()
        for signal in self._signals().values():
            signal.invalidate()

    def _start_or_stop_journal(self) -> None:
        """Start or stop the journal, depending on debug or testing."""
        app, wanted = self.app, self._is_on(self.settings.journal)
        if wanted and self.journal is None:
            # Imported here, because most processes have no journal.
            from ..core.journal import Journal
            from .requests import Requests

            self.requests = Requests(self._app, self.settings.page_url)
            self.requests.start(app)
            self.journal = Journal(self.settings.journal_size, request_of=self.requests.of)
        elif not wanted and self.requests is not None:
            self.requests.stop(app)
            self.journal = self.requests = None
        self._environment.journal = self.journal

    @property
    def page_enabled(self) -> bool:
        """Whether the page may be served now."""
        app = self.app
        is_allowed = app.debug or app.testing or self.page_auth is not None
        return self._is_on(self.settings.page) and is_allowed

    def _is_on(self, setting: bool | None) -> bool:
        """Tell whether a setting is on; ``None`` stands for "in debug and testing"."""
        return self.app.debug or self.app.testing if setting is None else setting

    def recorded_request(self) -> RecordedRequest | None:
        """Return what the journal has recorded of the current request or command so far.

        :return: ``None`` without a journal, or outside of this app's contexts.

        >>> from flask import Flask
        >>> from flask_signals_kit import SignalsKit
        >>> app = Flask("shop")
        >>> app.testing = True
        >>> kit = SignalsKit(app)
        >>> with app.test_request_context("/fund"):
        ...     _ = kit.signal("account_funded").send("acme")
        ...     kit.for_app(app).recorded_request().signals
        ('account_funded',)
        """
        if self.journal is None or self.requests is None or not is_current(self.app):
            return None
        record = self.requests.current()
        if record is None or record.excluded:
            return None
        sent = filter(self.registry.is_domain, self.journal.signals_of(record))
        return RecordedRequest(id=record.id, signals=tuple(sent))

    # -- signals ------------------------------------------------------------------------------

    def origin(self, name: str) -> str:
        """Return ``"flask"``, ``"bridged"`` or ``"domain"``."""
        if name in BUILTIN_PAYLOADS:
            return "flask"
        return "domain" if self.registry.source(name) is None else "bridged"

    def check(self) -> list[Any]:
        """Return each :class:`Problem` of the app's signals, as the kit's ``check`` does."""
        return self._problems(self)

    def on_error(self, name: str) -> OnError:
        """Return the failure policy of a signal."""
        handle = self.registry.handle(name)
        own = None if handle is None else handle.on_error
        return own or self.settings.on_error

    def check_payload(self, name: str) -> PayloadCheck | None:
        """Return the function that checks the payload of each send, or ``None``."""
        handle = self.registry.handle(name) if self.validating else None
        if handle is None or handle.contract is None:
            return None
        return handle.contract.check_payload

    def find(self, name: str) -> Signal:
        """Return the app's signal of this name; warn about an unknown name.

        :raises UnknownSignalError: under ``SIGNALS_KIT_STRICT``.
        """
        if self.registry.is_declared(name):
            return self.namespace.signal(name)
        self.names.refuse(name)
        signal = self.namespace.signal(name)
        if not signal.has_receivers:
            self.names.warn_of_send(name)
        return signal

    # -- changes ------------------------------------------------------------------------------

    def declared(self, name: str) -> None:
        """Apply a new declaration to the app's signal."""
        handle = self.registry.handle(name)
        signal = self.namespace.signal(name)
        if handle is not None and handle.__doc__:
            signal.__doc__ = handle.__doc__
        signal.invalidate()

    def bridged(self, sources: Iterable[str]) -> None:
        """Relay third-party signals to the app's signals of these names."""
        for name in sources:
            source, signal = self.registry.source(name), self.namespace.signal(name)
            if source is not None:
                self.relays.add(source, signal)
            signal.invalidate()  # globs no longer match it

    def _signals(self) -> dict[str, Signal]:
        return self.namespace.copy()  # type: ignore[return-value]

    def _matching(self, target: str) -> list[Any]:
        """Return the signals in the namespace that a target matches."""
        if not is_glob(target):
            signal = self.namespace.get(target)
            return [] if signal is None else [signal]
        return [
            signal
            for name, signal in self._signals().items()
            if fnmatchcase(name, target) and self.registry.is_domain(name)
        ]

    def connections_changed(self, target: str, wait: bool) -> None:
        """Discard the plans of the signals that a target matches."""
        for signal in self._matching(target):
            signal.changed(wait)

    def connection_lost(self, connection: LiveConnection) -> None:
        """Record a weak receiver that was garbage-collected, for the report."""
        if connection.resolve() is None and self._app() is not None:
            for signal in self._matching(connection.target):
                self.collected.append(connection.describe(signal.name))

    def connected(self, connection: LiveConnection) -> None:
        """Send ``receiver_connected`` of the signals that a new connection applies to."""
        if connection.options.delivery is not None:
            self.sessions.prepare(connection)
        signals = self._matching(connection.target)
        if not signals and not is_glob(connection.target):
            signals = [self.namespace.signal(connection.target)]
        for signal in signals:
            if "receiver_connected" in vars(signal) and (
                (receiver := connection.resolve()) is not None
            ):
                signal.notify_connected(receiver, connection.resolve_sender(), connection.weak)

    def disconnected(self, connection: LiveConnection) -> None:
        """Send ``receiver_disconnected`` of the signals that a connection applied to."""
        receiver, sender = connection.resolve(), connection.resolve_sender()
        for signal in self._matching(connection.target) if receiver is not None else ():
            signal.notify_disconnected(receiver, sender)

    def _snapshot(self) -> Callable[[], None]:
        """Return a function that restores what belongs to this app alone."""
        restore_registry = self.registry.snapshot()
        signals = {name: signal._snapshot() for name, signal in self._signals().items()}
        unknown, had_outbox = self.names.unknown.copy(), self.outbox is not None

        def restore() -> None:
            restore_registry()
            for name in self._signals():
                if self.registry.source(name) is None:
                    self.relays.remove(name)
                if name not in signals:
                    del self.namespace[name]
            for restore_signal in signals.values():
                restore_signal()
            self.names.unknown = unknown
            if self.outbox is not None and not had_outbox:
                self.outbox.close()
                self.outbox = None

        return restore

    def _sync_hooks(self) -> None:
        """Have exactly the exception hooks of the app and its kit."""
        self.hooks.replace([*self.kit.hooks, *self.registry.hooks])

    def check_connection(self, connection: LiveConnection) -> None:
        """Refuse a connection that is not possible in this app."""
        if self.settings.strict:
            self.names.refuse(connection.target, connection.place)
        if connection.options.delivery is not None:
            self._check_delivery(connection)

    def _check_delivery(self, connection: LiveConnection) -> None:
        """Refuse a delivery that this app has no session or no outbox for."""
        self.sessions.check(connection)
        if isinstance(connection.options.delivery, Durable):
            if self.outbox is None:
                self.outbox = self._open_outbox()
            self.outbox.check(connection)

    def _open_outbox(self) -> Outbox:
        try:
            from .embedded import open_outbox  # imported only for durable receivers
        except ImportError as error:
            raise ConfigurationError(
                f"Durable receivers need {error.name}: install the kit with its extra, "
                "pip install 'flask-signals-kit[durable]'."
            ) from error
        return open_outbox(self)

    def check_strictly(self) -> None:
        """Under ``SIGNALS_KIT_STRICT``, refuse connections to undeclared names."""
        for connection in self.kit.connections:
            self.names.refuse(connection.target, connection.place)
