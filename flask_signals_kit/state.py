"""The app's half: one app's namespace, connections and settings."""

from __future__ import annotations

import _thread
import concurrent.futures
import logging
import sys
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, Protocol, TypeVar

import blinker
from blinker import ANY
from flask import Flask, has_app_context, has_request_context, request
from flask.globals import _cv_app

from .callables import call_site, place_of
from .calls import Delivery, Receiver
from .compat import active_contexts, call_inside, request_of_frames
from .declarations import Contract, DomainSignal, Wiring
from .dispatch import Observation, run_directly
from .errors import (
    AppContextError,
    AsyncReceiverError,
    ConfigurationError,
    UnknownSignalError,
    how_to_declare,
    nearest,
    suggestion,
)
from .journal import Journal
from .records import Connection, Emission, OnError, Place, Source
from .registry import (
    BUILTIN_PAYLOADS,
    GONE,
    HookRegistration,
    Registration,
    Registry,
    builtin_contracts,
    is_glob,
)
from .settings import Settings
from .signals import (
    Namespace,
    Signal,
)
from .transactions import (
    KeptWatcher,
    OpenTransaction,
    SessionSource,
    is_unusable,
    listen,
    open_transaction,
    session_of,
    sessions_holding,
)
from .verbs import App, Verbs

T = TypeVar("T")

_NO_CONTEXT: AbstractContextManager[None] = nullcontext()

EXTENSION = "signals_kit"
"""The key of the app's half in ``app.extensions``."""

logger: logging.Logger = logging.getLogger("flask_signals_kit")


class Hooks(Protocol):
    """What the app's half needs of its exception hooks."""

    def add(self, registration: HookRegistration, /) -> None:
        """Add a hook."""

    def report_contained(
        self, exception: Exception, receiver: Receiver, emission: Emission, source: Source, /
    ) -> None:
        """Tell the hooks of a failure that a policy contained."""

    def close(self) -> None:
        """Undo what was done to the app."""


class Bridge(Protocol):
    """What the app's half needs of its bridge."""

    def add(self, name: str, source: blinker.Signal, signal: Signal, /) -> None:
        """Relay a signal of others to the app's."""

    def sync(self, name: str, /, *, wait: bool = True) -> None:
        """Relay while somebody listens, and not otherwise."""

    def close(self) -> None:
        """Take every relay away."""


class Startup(Protocol):
    """What the app's half needs of whatever waits for the app's first request."""

    def undo(self, app: Flask, /) -> None:
        """Wait no longer, and take the page away."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnknownName:
    """A name that was sent although nobody declared it or listens to it."""

    name: str
    """The name."""
    site: Place | None
    """Where it was first sent."""
    near: str | None
    """The nearest known name, or ``None``."""


class AppSignals(Verbs):
    """One app's half of a kit: its namespace, connections and settings.

    What is connected or declared here concerns this app alone and goes with it. Get it with
    ``kit.for_app(app)`` or from ``app.extensions["signals_kit"]``. It never holds the app strongly.

    :param app: the app.
    :param kit: what was declared and connected for every app.
    :param settings: the app's settings.
    :param page_auth: decides who may see the page.
    :param hooks: the app's exception hooks.
    :param relays: the app's relays of others' signals.
    :param choose: finds the signals that ``bridge`` means.
    :param problems: finds what is wrong.
    """

    def __init__(
        self,
        app: Flask,
        kit: Registry,
        settings: Settings,
        page_auth: Callable[[], object] | None = None,
        *,
        hooks: Hooks,
        relays: Bridge,
        choose: Callable[..., dict[str, blinker.Signal]],
        problems: Callable[[AppSignals], list[Any]],
    ) -> None:
        self.registry: Registry = Registry()
        self.kit = kit
        self.settings = settings
        self.page_auth = page_auth
        self.validating: bool = bool(settings.validate)
        self._settled: tuple[bool, bool] | None = None
        self.journal: Journal | None = None
        self._kept_watchers: tuple[KeptWatcher, ...] = ()
        self._watchers_lock = Lock()
        self.collected: deque[Connection] = deque(maxlen=100)
        self.unknown: dict[str, UnknownName] = {}
        self.hooks = hooks
        self.relays = relays
        self._choose_signals = choose
        self._problems = problems
        self.startup: Startup | None = None
        self._app = weakref.ref(app)
        maker = _SignalMaker(self)
        self.namespace: Namespace = Namespace(maker, maker.made)

    # -- the app ------------------------------------------------------------------------------

    @property
    def is_alive(self) -> bool:
        """Whether the app is still there."""
        return self._app() is not None

    @property
    def app(self) -> Flask:
        """The app.

        :raises AppContextError: once it is gone.
        """
        app = self._app()
        if app is None:
            raise AppContextError(
                "The app of this half is gone; keep the app as long as its half is used."
            )
        return app

    def settle(self) -> None:
        """Take up what follows debug or testing; called as the app starts, perhaps often."""
        app = self.app
        if self._settled == (app.debug, app.testing):
            return
        self._settled = (app.debug, app.testing)
        self.validating = (
            app.debug or app.testing if self.settings.validate is None else self.settings.validate
        )
        for name in list(self.namespace):
            self.configure(name)
        self._keep_journal()

    def _keep_journal(self) -> None:
        """Start or stop the journal, as debug or testing says."""
        app, wanted = self.app, self.settings.journal
        wanted = app.debug or app.testing if wanted is None else wanted
        if wanted and self.journal is None:
            self.journal = Journal(
                self.settings.journal_size,
                request=describe_request_of,
                leave_out=partial(_is_page, self.settings.page_url),
            )
            self._stop_journal = self.namespace.observe(self.journal)
        elif not wanted and self.journal is not None:
            self._stop_journal()
            self.journal = None

    @property
    def page_enabled(self) -> bool:
        """Whether the page may be served, as things stand now."""
        app = self.app
        if self.settings.page is None:
            return app.debug or app.testing
        return self.settings.page and (app.debug or app.testing or self.page_auth is not None)

    # -- signals ------------------------------------------------------------------------------

    def handle(self, name: str) -> DomainSignal[Any, ..., Any] | None:
        """Return the declaration of a name that holds here, the app's own before the kit's."""
        return self.registry.declarations.get(name) or self.kit.declarations.get(name)

    def source(self, name: str) -> blinker.Signal | None:
        """Return the signal of others that a name is bridged from."""
        return self.registry.bridged.get(name) or self.kit.bridged.get(name)

    def origin(self, name: str) -> str:
        """Return ``"flask"``, ``"bridged"`` or ``"domain"``."""
        if name in BUILTIN_PAYLOADS:
            return "flask"
        return "domain" if self.source(name) is None else "bridged"

    def is_declared(self, name: str) -> bool:
        """Tell whether somebody declared or bridged a name."""
        return self.origin(name) != "domain" or self.handle(name) is not None

    def known_names(self) -> set[str]:
        """Return every name that was declared, bridged or connected."""
        connected = {name for name, signal in self.namespace.copy().items() if signal.receivers}
        return {
            *BUILTIN_PAYLOADS,
            *self.registry.declarations,
            *self.kit.declarations,
            *self.registry.bridged,
            *self.kit.bridged,
            *connected,
        }

    def check(self) -> list[Any]:
        """Return each :class:`Problem` of the app's signals, as the kit's ``check`` does."""
        return self._problems(self)

    def nearest(self, name: str) -> str | None:
        """Return the declared name that is most like this one, or ``None``."""
        return nearest(name, filter(self.is_declared, self.known_names() - {name}))

    def on_error(self, name: str) -> OnError:
        """Return the failure policy of a signal."""
        handle = self.handle(name)
        if handle is None or handle.on_error is None:
            return self.settings.on_error
        return handle.on_error

    def builtin_payload(self, name: str) -> tuple[str, ...] | None:
        """Return what one of Flask's signals passes, or ``None`` for other signals."""
        return BUILTIN_PAYLOADS.get(name)

    def find(self, name: str) -> Signal:
        """Return the app's signal of this name; complain about one that nobody knows.

        :raises UnknownSignalError: under ``SIGNALS_KIT_STRICT``.
        """
        signal = self.namespace.get(name)
        if signal is None and not self.is_declared(name):
            self.refuse_unknown(name, call_site(sys._getframe()))
            signal = self.namespace.signal(name)  # with what globs connect to it
        if signal is None or not (signal.receivers or self.is_declared(name)):
            self._complain(name)
            signal = self.namespace.signal(name)
        elif self.settings.strict:
            self.refuse_unknown(name, call_site(sys._getframe()))
        return signal  # type: ignore[return-value]

    resolve = find

    def find_own(self, name: str) -> blinker.NamedSignal | None:
        """Return what the namespace has under this name, without making it."""
        return self.namespace.get(name)

    def refuse_unknown(self, name: str, place: Place | None) -> None:
        """Under ``SIGNALS_KIT_STRICT``, refuse a name that nobody declared.

        :raises UnknownSignalError: with the place and the nearest name.
        """
        if self.settings.strict and not is_glob(name) and not self.is_declared(name):
            near = self.nearest(name)
            raise UnknownSignalError(
                f"Nobody declared signal {name!r}, used by {place}, and SIGNALS_KIT_STRICT is on."
                f"{suggestion(near)} {how_to_declare(name, near)}"
            )

    def warn_unknown(self, name: str) -> None:
        """Warn of a name that a test wants to see, and that nobody declared or listens to.

        :raises UnknownSignalError: under ``SIGNALS_KIT_STRICT``.
        """
        place = call_site(sys._getframe())
        self.refuse_unknown(name, place)
        signal = self.namespace.get(name)
        if not self.is_declared(name) and not (signal is not None and signal.receivers):
            logger.warning(
                "Signal %r is captured by %s, but nobody declared it and nobody listens.%s",
                name,
                place,
                suggestion(self.nearest(name)),
                extra={"signals_kit_signal": name, "signals_kit_site": str(place)},
            )

    def _complain(self, name: str) -> None:
        place = call_site(sys._getframe())
        self.refuse_unknown(name, place)
        if name in self.unknown:
            return
        near = nearest(name, self.known_names() - {name})
        self.unknown[name] = UnknownName(name=name, site=place, near=near)
        logger.warning(
            "Signal %r was sent from %s, but nobody declared it and nobody listens.%s",
            name,
            place,
            suggestion(near),
            extra={"signals_kit_signal": name, "signals_kit_site": str(place)},
        )

    def configure(self, name: str) -> None:
        """Bring the app's signal in line with its declaration and the settings."""
        handle = self.handle(name)
        signal = self.namespace.signal(name)
        contract = None if handle is None else handle.contract
        check = contract.check_payload if contract is not None and self.validating else None
        signal.configure(
            doc=None if handle is None else handle.__doc__,
            on_error=self.on_error(name),
            check_payload=check,
        )

    # -- connections --------------------------------------------------------------------------

    def session_sources(self) -> list[SessionSource]:
        """Return how to get at each of the app's sessions: those that were named, then its own.

        What an extension has is found in the app's context alone: elsewhere it would be another's.
        """
        named = [*self.registry.sessions, *self.kit.sessions]
        found = session_of(self.app) if is_current(self.app) else None
        return named if found is None else [*named, found]

    def sessions(self) -> list[Any]:
        """Return the app's sessions, as far as there are any here."""
        found: list[Any] = []
        for sessions in self._in_contexts(self._current_sessions):
            found += sessions
        return found

    def _current_sessions(
        self, find: Callable[[SessionSource], list[Any]] = SessionSource.plain_sessions
    ) -> list[Any]:
        found: list[Any] = []
        for source in self.session_sources():
            try:
                found += find(source)
            except Exception:  # a session that there is in requests alone, say
                logger.debug("A source of sessions of app %r failed", self.app.name, exc_info=True)
        return found

    def has_unusable_transaction(self, sender: Any, payload: dict[str, Any]) -> bool:
        """Tell whether the transaction of what was sent, or of one of the app's sessions, is."""
        sessions = sessions_holding((sender, *payload.values()))
        for found in self._in_contexts(lambda: self._current_sessions(SessionSource.sessions)):
            sessions += found
        return any(map(is_unusable, sessions))

    def transaction(
        self, session: Callable[[], Any] | None, sender: Any, payload: dict[str, Any]
    ) -> OpenTransaction | None:
        """Return the open transaction that an after-commit receiver waits for.

        It is that of the session given, or else of the session that holds what was sent, or else of
        the first of the app's sessions that has one.
        """
        if session is not None:
            return self._first_open([_current(session)])
        holding = sessions_holding((sender, *payload.values()))
        if holding:
            return self._first_open(holding)
        found = self._in_contexts(lambda: self._first_open(map(_current, self.session_sources())))
        return next((transaction for transaction in found if transaction is not None), None)

    def _first_open(self, sessions: Iterable[Any]) -> OpenTransaction | None:
        for session in sessions:
            transaction = open_transaction(session, self._kept_watchers)
            if transaction is not None:
                return transaction
        return None

    def _in_contexts(self, find: Callable[[], T]) -> Generator[T, None, None]:
        """Call a function in each context of this app that is pushed here, the innermost first.

        Where there is none, it is called as things are.
        """
        active = list(active_contexts())
        own = [context for context in active if context.app is self.app]
        if not own:
            yield find()
        for context in own:
            yield find() if context is active[0] else call_inside(context, find)

    def engines(self, delivery: Delivery | None) -> list[Any]:
        """Return the engines behind the sessions that a delivery may wait for.

        It opens no connection and makes no session of an extension's. Outside of the app's context
        nobody can tell: there are none.
        """
        session = getattr(delivery, "session", self)
        if session is self or not is_current(self.app):
            return []
        found: list[Any] = []
        for source in self.session_sources() if session is None else [session]:
            if isinstance(source, SessionSource):
                with suppress(Exception):  # the user's function; a send will meet it, not a look
                    found += source.engines()
        return found

    @contextmanager
    def watch_kept(self, watcher: KeptWatcher) -> Generator[None, None, None]:
        """Be told of each call that is kept for a commit while a ``with`` block runs."""
        with self._watchers_lock:
            self._kept_watchers = (*self._kept_watchers, watcher)
        try:
            yield
        finally:
            with self._watchers_lock:
                self._kept_watchers = tuple(w for w in self._kept_watchers if w is not watcher)

    def _check_session(self, registration: Registration) -> None:
        """Refuse a receiver that would wait for a session which the app does not have."""
        needs_session = getattr(registration.delivery, "needs_session", False)
        if needs_session and not (self.session_sources() or session_of(self.app)):
            raise ConfigurationError(
                f"Receiver {registration.place} of signal {registration.target!r} has "
                f"delivery='after_commit', but app {self.app.name!r} has no SQLAlchemy session. "
                "Call db.init_app(app) before kit.init_app(app), "
                "or name one with kit.use_session(session)."
            )

    def attach_registration(self, registration: Registration) -> None:
        """Connect in this app what was registered for it or for every app."""
        self._check_session(registration)
        if hasattr(registration.delivery, "session") and "sqlalchemy" in sys.modules:
            listen()
        if not registration.is_glob:
            self._connect(registration, self.namespace.signal(registration.target))
            return
        for name in list(self.namespace):
            if self._concerns(registration, name):
                self._connect_glob(registration, self.namespace.signal(name))

    def _connect_glob(self, registration: Registration, signal: Signal) -> None:
        """Connect what a glob means, unless the receiver is connected by the very name as well."""
        if not self._by_name(registration, signal):
            self._connect(registration, signal)

    def _by_name(self, registration: Registration, signal: Signal) -> list[Registration]:
        """Return what connects the same receiver for the same sender by the signal's very name."""
        exact = (signal.name, *registration.key[1:])
        found = [registry.find(exact) for registry in (self.kit, self.registry)]
        return [same for same in found if same is not None]

    def _connect(self, registration: Registration, signal: Signal) -> None:
        receiver, sender = registration.receiver, registration.sender
        if receiver is None or sender is GONE:
            return
        signal.connect(
            receiver,
            sender,
            registration.weak,
            priority=registration.priority,
            when=registration.when,
            delivery=registration.delivery,
            on_error=registration.on_error,
            uid=registration.uid,
            order=registration.order,
        )

    def check_registration(self, registration: Registration) -> None:
        """Refuse what could not be connected here, before anything is."""
        self.refuse_unknown(registration.target, registration.place)
        self._check_session(registration)

    def _names_of(self, registration: Registration) -> list[str]:
        """Return the names in the namespace that a registration means, or has once meant."""
        if registration.is_glob:
            return [name for name in list(self.namespace) if registration.matches(name)]
        return [registration.target] if registration.target in self.namespace else []

    def _concerns(self, registration: Registration, name: str) -> bool:
        """Tell whether a registration connects to the signal of this name."""
        if not registration.is_glob:
            return registration.target == name
        return self._is_domain(name) and registration.matches(name)

    def _is_domain(self, name: str) -> bool:
        return self.origin(name) == "domain"

    def detach_registration(self, registration: Registration) -> None:
        """Undo :meth:`attach_registration`."""
        receiver, sender = registration.receiver, registration.sender
        if receiver is None or sender is GONE:
            return
        for name in self._names_of(registration):
            signal = self.namespace.signal(name)
            signal.disconnect_from(receiver, sender)
            self._reconnect(registration, signal)

    def _reconnect(self, gone: Registration, signal: Signal) -> None:
        """Connect what connects the same receiver to the signal in another way.

        A name and a glob, the kit and the app may have connected it; they share one connection.
        """
        for same in self._by_name(gone, signal):
            self._connect(same, signal)
        for other in self._globs_of(signal.name):
            if other.key[1:] == gone.key[1:]:
                self._connect_glob(other, signal)

    def _globs_of(self, name: str) -> list[Registration]:
        """Return what was registered for globs that mean this name, in connection order."""
        if not self._is_domain(name):
            return []
        both = [*self.kit.globs_of(name), *self.registry.globs_of(name)]
        return sorted(both, key=lambda registration: registration.order)

    def attach_globs(self, signal: Signal) -> None:
        """Connect to a new signal what was registered for its like."""
        for registration in self._globs_of(signal.name):
            self._connect_glob(registration, signal)

    def relay(self, name: str) -> None:
        """Relay the signal of others that was bridged under this name."""
        source = self.source(name)
        if source is not None:
            self.relays.add(name, source, self.namespace.signal(name))

    def add_hook(self, registration: HookRegistration) -> None:
        """Add an exception hook."""
        self.hooks.add(registration)

    def start(self) -> None:
        """Bring in everything that was declared, bridged, connected and hooked before."""
        for name in (*self.kit.declarations, *self.kit.bridged):
            self.configure(name)
        for name in self.kit.bridged:
            self.relay(name)
        for registration in self.kit.registrations:
            self.attach_registration(registration)
        for hook in list(self.kit.hooks):
            self.add_hook(hook)

    def check_strictly(self) -> None:
        """Under ``SIGNALS_KIT_STRICT``, refuse what is connected and was not declared."""
        for registration in self.kit.registrations:
            self.refuse_unknown(registration.target, registration.place)

    def close(self) -> None:
        """Undo what was done to the app."""
        self.relays.close()
        self.hooks.close()

    # -- verbs --------------------------------------------------------------------------------

    def _states(self) -> list[App]:
        return [self]

    def _current(self, doing: str) -> App:
        return self

    def _wiring(self) -> Wiring:
        return _AppWiring(self)

    def _owns(self, handle: DomainSignal[Any, ..., Any]) -> bool:
        return self.handle(handle.name) is handle

    def _choose(
        self,
        source: str | blinker.Signal | Mapping[str, Any],
        names: Iterable[str] | None,
        prefix: str | None,
    ) -> dict[str, blinker.Signal]:
        return self._choose_signals(source, names, prefix)

    def _known_contracts(self, target: str) -> Iterable[Contract]:
        contracts = {c.signal: c for c in self.kit.contracts_of(target)}
        contracts |= {c.signal: c for c in self.registry.contracts_of(target)}
        return [*contracts.values(), *builtin_contracts(target)]


class _AppWiring:
    """Lets a handle that one app's half declared reach it without keeping it alive."""

    def __init__(self, state: AppSignals) -> None:
        self._state = weakref.ref(state)

    def _get(self) -> AppSignals:
        state = self._state()
        if state is None:
            raise AppContextError("The app that this signal was declared for is gone.")
        return state

    def resolve(self, name: str) -> Signal:
        return self._get().find(name)

    def default_sender(self) -> Any:
        return self._get().app

    def connect_receiver(self, receiver: Receiver, signals: tuple[Any, ...], **how: Any) -> None:
        self._get().connect_receiver(receiver, signals, **how)

    def disconnect_receiver(self, receiver: Receiver, signal: str, sender: Any = ANY) -> None:
        self._get().disconnect_receiver(receiver, signal, sender)


class _SignalMaker:
    """Makes the signals of one app's namespace; reaches the app's half without keeping it alive.

    The half owns the namespace, which owns the signals: were these to hold the half, an app that is
    dropped would wait for the cyclic garbage collector, and its relays would go on until then.
    """

    def __init__(self, state: AppSignals) -> None:
        self._state = weakref.ref(state)
        self._app = state._app

    def __call__(self, name: str, doc: str | None) -> Signal:
        state = self._state()
        if state is None:
            raise AppContextError(f"The app that signal {name!r} belongs to is gone.")
        handle = state.handle(name)
        contract = None if handle is None else handle.contract
        signal = Signal(
            name,
            doc or (None if handle is None else handle.__doc__),
            on_error=state.on_error(name),
            check_payload=contract.check_payload if contract and state.validating else None,
            async_wrapper=self._run_async,
            sync_wrapper=run_directly,
            late_async_wrapper=self._run_async_anywhere,
            enter=self._enter,
            transaction=self._transaction,
            sessions=self._sessions,
            unusable=self._is_unusable,
            on_failure=self._report,
            on_change=partial(self._relay, name),
            on_gone=partial(self._relay, name, wait=False),
            on_collected=self._note_collected,
            request=describe_request,
            app=self._app,
        )
        state.attach_globs(signal)
        return signal

    def made(self, signal: Signal) -> None:
        """Connect what a glob has been registered for while the signal was being made."""
        state = self._state()
        if state is not None:
            state.attach_globs(signal)

    def _run_async(self, receiver: Receiver) -> Receiver:
        app = self._app()
        if app is None:
            raise AppContextError("The app that this signal belongs to is gone.")

        def run(*args: Any, **kwargs: Any) -> Any:
            try:
                return app.async_to_sync(_coroutine_function(receiver, args, kwargs))()
            except RuntimeError as error:
                reason = _why_no_loop(error)
                if reason is None:
                    raise
                raise AsyncReceiverError(
                    f"Receiver {place_of(receiver)} is async, and send() cannot run it here: "
                    f"{reason}."
                ) from error

        return run

    def _run_async_anywhere(self, receiver: Receiver) -> Receiver:
        """Run an async receiver even where an event loop is running: then in another thread.

        A commit in an async view is a plain call, and has no way to await its receivers.
        """
        run = self._run_async(receiver)

        def run_anywhere(*args: Any, **kwargs: Any) -> Any:
            asyncio = sys.modules.get("asyncio")  # not imported for this: it is slow to import
            if asyncio is None or asyncio._get_running_loop() is None:
                return run(*args, **kwargs)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                return pool.submit(copy_context().run, run, *args, **kwargs).result()

        return run_anywhere

    def _enter(self) -> AbstractContextManager[Any]:
        """Make the app current, where it is not."""
        app = self._app()
        if app is None or is_current(app):
            return _NO_CONTEXT
        return app.app_context()

    def _transaction(
        self, session: Callable[[], Any] | None, sender: Any, payload: dict[str, Any]
    ) -> OpenTransaction | None:
        state = self._state()
        return None if state is None else state.transaction(session, sender, payload)

    def _is_unusable(self, sender: Any, payload: dict[str, Any]) -> bool:
        state = self._state()
        return state is not None and state.has_unusable_transaction(sender, payload)

    def _sessions(self) -> list[Any]:
        state = self._state()
        return [] if state is None else state.sessions()

    def _report(
        self, exception: Exception, receiver: Receiver, emission: Emission, source: Source
    ) -> None:
        state = self._state()
        if state is not None:
            state.hooks.report_contained(exception, receiver, emission, source)

    def _relay(self, name: str, *, wait: bool = True) -> None:
        state = self._state()
        if state is not None:
            state.relays.sync(name, wait=wait)

    def _note_collected(self, connection: Connection) -> None:
        state = self._state()
        if state is not None:
            state.collected.append(connection)


def _current(source: Callable[[], Any]) -> Any:
    """Return the current session, or ``None`` for one that there is in app contexts alone."""
    try:
        return source()
    except RuntimeError:
        if has_app_context():
            raise
        return None


def is_current(app: Flask) -> bool:
    """Tell whether an app's context is the innermost here."""
    context = _cv_app.get(None)
    return context is not None and context.app is app


def _coroutine_function(
    receiver: Receiver, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[], Any]:
    """Wrap a call: asgiref has parameters of its own, and does not see ``async __call__``."""

    async def call() -> Any:
        return await receiver(*args, **kwargs)

    return call


def _why_no_loop(error: RuntimeError) -> str | None:
    """Explain a refusal of Flask's ``async_to_sync``; return ``None`` for the receiver's errors.

    With greenlets for threads, ``asyncio.run()`` refuses as well: the event loop of another
    greenlet counts as running, and two can pass the first check at the same time.
    """
    text = str(error)
    if "Install Flask with the 'async' extra" in text:
        return "install Flask with its async extra, pip install 'flask[async]', or use send_async"
    in_this_thread = "AsyncToSync in the same thread as an async event loop" in text
    greenlets = _greenlet_library()
    if greenlets and (in_this_thread or "from a running event loop" in text):
        return (
            f"{greenlets} runs all greenlets in one thread, where another one is running an event "
            "loop; make the receiver a plain function, or serve the app with threads"
        )
    if in_this_thread:
        return "an event loop is running in this thread, so use 'await signal.send_async(...)'"
    return None


def _greenlet_library() -> str | None:
    """Return the library that has replaced threads by greenlets, or ``None``."""
    library = str(_thread.start_new_thread.__module__).partition(".")[0]
    return library if library in {"gevent", "eventlet"} else None


def describe_request_of(seen: Observation) -> str | None:
    """Return the request that an emission belongs to, for Flask's app context signals as well.

    These come before the request's own context and after it; but the request that pushes or pops is
    on the stack.
    """
    if has_request_context():
        return describe_request()
    if seen.around.name.startswith("appcontext_"):
        pushed = request_of_frames(seen.frame)
        return None if pushed is None else f"{pushed.method} {pushed.path}"
    return None


def _is_page(url: str, request: str) -> bool:
    path = request.partition(" ")[2]
    return path == url or path.startswith(f"{url}/")


def describe_request() -> str | None:
    """Return method and path of the current request, such as ``POST /funding/card``."""
    if not has_request_context():
        return None
    current = request._get_current_object()  # type: ignore[attr-defined]
    return f"{current.method} {current.path}"
