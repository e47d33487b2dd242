"""The extension: what is declared and connected at import time becomes each app's signals."""

from __future__ import annotations

import importlib
import logging
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import click
from flask import Blueprint, Flask
from flask.cli import AppGroup
from flask.globals import _cv_app
from flask.sansio.app import App as SansioApp  # pyright: ignore[reportMissingTypeStubs]
from flask.signals import appcontext_pushed, request_started
from werkzeug.local import LocalProxy

from .app.api import Api, Target
from .app.app_signals import EXTENSION, AppSignals
from .app.handle import DomainSignal
from .app.registry import Registry
from .bridge import FLASK_SIGNALS, RELAY_CODE, Relays
from .core.introspection import place_of, signature_of, type_name, unwrap
from .core.signal import Namespace, Signal, find_emission
from .core.third_party import disconnect
from .deliveries.transactions import begin_immediate
from .errors import (
    AlreadyInitializedError,
    AppContextError,
    ConfigurationError,
    NotInitializedError,
)
from .exception_hooks import ExceptionHooks
from .records import Emission
from .settings import Settings, read_settings
from .testing import Captured, capture

if TYPE_CHECKING:
    from .debug.page import Page
    from .debug.report import Problem

logger: logging.Logger = logging.getLogger("flask_signals_kit")


_PLAIN_SENDS = (Signal.send.__code__, DomainSignal.send.__code__, RELAY_CODE)


def _current_emission() -> Emission:
    emission = find_emission(_PLAIN_SENDS)
    if emission is None:
        raise RuntimeError(
            "current_emission is only available while a receiver runs; no receiver runs here."
        )
    return emission


current_emission: Emission = LocalProxy(_current_emission)  # type: ignore[assignment]
"""The :class:`Emission` that the running receiver is called for.

Outside of a receiver it is falsy, and using it raises ``RuntimeError``.
"""


class SignalsKit(Api):
    """Domain signals for Flask apps.

    Make one at import time, declare and connect on it, and give it each app, in the constructor or
    by :meth:`init_app`. What is declared and connected here holds for every app of the kit; each
    app has its own signals, receivers and settings, and nothing leaks from one to another.

    :param app: an app to initialise at once.
    :param page_auth: decides for each request whether the page may be seen: called without
        arguments inside the request, it must return ``True``. Needed to serve the page outside of
        debug and testing.
    :raises ConfigurationError: as :meth:`init_app` does.

    >>> from flask import Flask
    >>> from flask_signals_kit import SignalsKit
    >>> app = Flask("shop")
    >>> kit = SignalsKit(app)
    >>> @kit.on("account_funded")
    ... def dismiss_alerts(account, **extra):
    ...     return f"no alerts for {account}"
    >>> with app.app_context():
    ...     kit.send("account_funded", "acme", amount=100)[0][1]
    'no alerts for acme'
    """

    def __init__(
        self, app: Flask | None = None, *, page_auth: Callable[[], object] | None = None
    ) -> None:
        self.registry: Registry = Registry(self)
        self.registry.bridged.update(FLASK_SIGNALS)
        self._page_auth = _check_page_auth(page_auth)
        if app is not None:
            self.init_app(app)

    # -- apps ---------------------------------------------------------------------------------

    def init_app(self, app: Flask, *, page_auth: Callable[[], object] | None = None) -> None:
        """Give an app its signals.

        Reads the ``SIGNALS_KIT_*`` settings, connects what was connected before, and imports the
        modules of ``SIGNALS_KIT_IMPORT``. If it fails, the app is left as it was.

        :param app: the app; it is not held.
        :param page_auth: as in the constructor, for this app.
        :raises AlreadyInitializedError: if a kit has initialised the app before.
        :raises ConfigurationError: for an object that is not a Flask app, an unknown setting, a
            value that cannot be used, a module that does not exist, or a page in production without
            ``page_auth``.
        :raises UnknownSignalError: for a receiver of an undeclared name, under
            ``SIGNALS_KIT_STRICT``.
        """
        app = _flask_app(app, "init_app")
        if EXTENSION in app.extensions:
            raise AlreadyInitializedError(
                f"App {app.name!r} already has a SignalsKit. An app has one kit: call init_app "
                "once, and share the kit by importing it. To start over, kit.detach(app) first."
            )
        settings = read_settings(app.config)
        auth = _check_page_auth(page_auth) or self._page_auth
        _check_page(app, settings, auth)
        state = AppSignals(
            app,
            self.registry,
            settings,
            auth,
            hooks=ExceptionHooks(app),
            relays=Relays(app),
            problems=_problems,
        )
        app.extensions[EXTENSION] = state
        try:
            state.startup = _Startup(state)
            state.start()
            _add_command(app)
            _import_modules(settings)
            state.check_strictly()
        except BaseException:
            self.detach(app)
            raise

    def detach(self, app: Flask) -> None:
        """Undo what :meth:`init_app` did to an app.

        Its receivers, relays, hooks, commands and page go.

        :param app: the app.
        :raises NotInitializedError: if this kit has not initialised it.
        """
        app = _flask_app(app, "detach")
        state = self.for_app(app)
        state.close()
        if state.startup is not None:
            state.startup.undo(app)
        del app.extensions[EXTENSION]
        if isinstance(app.cli.commands.get(_COMMAND), _Commands):
            del app.cli.commands[_COMMAND]

    def for_app(self, app: Flask) -> AppSignals:
        """Return one app's half, which has the same verbs for that app alone.

        What a factory connects inside itself belongs here, so that it goes with the app.

        :param app: the app.
        :raises NotInitializedError: if this kit has not initialised it.
        """
        return self._signals_of(_flask_app(app, "for_app"))

    def _signals_of(self, app: Flask) -> AppSignals:
        state: AppSignals | None = app.extensions.get(EXTENSION)
        if state is None or state.kit is not self.registry:
            fix = "call kit.init_app(app) first"
            if state is not None:
                fix = "an app has one kit, so use that one, or kit.detach(app) with it first"
            raise NotInitializedError(
                f"App {app.name!r} has {'no' if state is None else 'another'} SignalsKit; {fix}."
            )
        return state

    @property
    def namespace(self) -> Namespace:
        """The current app's signals.

        :raises AppContextError: without a current app.
        """
        return self._current("reach kit.namespace").namespace

    @contextmanager
    def capture(
        self, *signals: Target, run_after_commit: bool = False
    ) -> Generator[list[Captured], None, None]:
        """Record what the current app sends while a ``with`` block runs. For tests.

        Receivers run as ever. Emissions are listed in the order in which they were sent.

        :param signals: names, globs or handles; every domain signal of the app, if left out. Under
            ``SIGNALS_KIT_STRICT`` a name that nobody declared raises; without, it is logged.
        :param run_after_commit: when the block ends without an exception, run the after-commit
            receivers that still wait, in the order of a commit, and those that they let wait. Use
            it where a test's outer transaction is always rolled back.
        :return: yields a list of :class:`Captured`.
        :raises AppContextError: without a current app.

        >>> from flask import Flask
        >>> from flask_signals_kit import SignalsKit
        >>> app = Flask("shop")
        >>> kit = SignalsKit(app)
        >>> account_funded = kit.signal("account_funded", "Money arrived in an account.")
        >>> with app.app_context(), kit.capture(account_funded) as sent:
        ...     _ = account_funded.send("acme", amount=5)
        >>> [(captured.sender, captured.payload) for captured in sent]
        [('acme', {'amount': 5})]
        """
        state = self._current("capture signals")
        names = [self._target(signal) for signal in signals]
        with capture(state, names, run_after_commit) as captured:
            yield captured

    @staticmethod
    def begin_immediate(engine: Any, mode: str = "IMMEDIATE") -> None:
        """Have an SQLite engine begin its transactions itself, which makes savepoints hold.

        Left to itself, Python's SQLite driver begins a transaction late: a savepoint that comes
        first survives the rollback around it, and two that read and then write lose one of the
        updates. Call it once for each engine, after it was made. Engines of other databases are
        left alone.

        :param engine: an SQLAlchemy ``Engine`` or ``AsyncEngine``.
        :param mode: ``"IMMEDIATE"`` takes the write lock at once, so that transactions wait for
            each other instead of failing; ``"DEFERRED"`` takes it at the first write.
        :raises ConfigurationError: for another mode.
        """
        begin_immediate(engine, mode)

    def check(self) -> list[Problem]:
        """Return what is wrong with the current app's signals.

        Weak receivers that were collected, names that nobody declared, receivers without
        ``**kwargs``, the same function connected twice (by its module and name, or by its file and
        line), and SQLite engines that need :meth:`begin_immediate` because a receiver waits for
        their commits.

        :raises AppContextError: without a current app.
        """
        return self._current("check its signals").check()

    # -- what the verbs need ------------------------------------------------------------------

    def resolve(self, name: str) -> Signal:
        """Return the current app's signal of this name; what handles call at each send."""
        context = _cv_app.get(None)
        if context is not None:
            state: AppSignals | None = context.app.extensions.get(EXTENSION)
            if state is not None and state.kit is self.registry:
                signal = state.namespace.get(name)
                if signal is not None:
                    return signal  # type: ignore[return-value]
        return self._current(f"send or ask {name!r}").find(name)

    def default_sender(self) -> Flask:
        """Return who sends where no sender is given."""
        return self._current("send").app

    def _current(self, doing: str) -> AppSignals:
        context = _cv_app.get(None)
        if context is None:
            raise AppContextError(
                f"Cannot {doing} outside an app context, because signals belong to an app. Push "
                "one: 'with app.app_context():'; or use kit.for_app(app)."
            )
        return self._signals_of(context.app)


_COMMAND = "signals"


class _Commands(AppGroup):
    """``flask signals``, whose commands are imported when somebody asks for them.

    Most processes serve requests. Importing the report and its faces would take them as long as the
    rest of the kit.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return self._commands().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command."""
        return self._commands().get_command(ctx, cmd_name)

    def _commands(self) -> click.Group:
        from .debug import cli

        return cli.signals


class _Startup:
    """Applies debug or testing each time a context is pushed until the first request.

    ``app.run(debug=True)`` and ``app.testing = True`` come after the factory, which may itself have
    pushed a context. The page is installed in time to answer the first request.
    """

    def __init__(self, state: AppSignals) -> None:
        self._state = weakref.ref(state)
        self._page: Page | None = None
        self._lock = threading.RLock()
        self._closed = False
        app = state.app
        appcontext_pushed.connect(self.settle, app)
        request_started.connect(self.close, app)

    def settle(self, app: Flask, **extra: Any) -> None:
        with self._lock:  # a second first request must not be served before the page is there
            if not self._closed:
                self._settle(app)

    def _settle(self, app: Flask) -> None:
        state = self._state()
        if state is None:
            return
        state.settle()
        if not state.page_enabled:
            return
        if self._page is None:
            from .debug import page  # a process that serves no page does without

            self._page = page.Page(state.settings.page_url)
        self._page.install(app, listed=state.page_auth is None)

    def close(self, app: Flask, /, **extra: Any) -> None:
        """Wait no longer."""
        self._closed = True
        disconnect(appcontext_pushed, self.settle, app)
        disconnect(request_started, self.close, app)

    def undo(self, app: Flask) -> None:
        """Take the page away as well."""
        self.close(app)
        if self._page is not None:
            self._page.remove(app)


def _flask_app(app: object, method: str) -> Flask:
    """Return the app, without a proxy around it; refuse anything that is not a Flask app."""
    app = unwrap(app)
    if isinstance(app, Flask):
        return app
    raise ConfigurationError(f"{method}() takes a Flask app, not {_what_is_given(app, method)}.")


def _what_is_given(thing: Any, method: str) -> str:
    """Describe what was given in place of an app, and what to give instead."""
    if isinstance(thing, SansioApp):
        return f"{type_name(thing)}. The kit works with Flask alone"
    if isinstance(thing, Blueprint):
        return f"the blueprint {thing.name!r}. Give the app that the blueprint is registered on"
    if thing is None:
        return "None. Check that the factory returns the app"
    if isinstance(thing, MethodType) and isinstance(thing.__self__, Flask):
        return f"the app's method {thing.__name__}. Give the app itself"
    if isinstance(thing, FunctionType):
        return (
            f"the function {place_of(thing)}. If it makes the app, call it: "
            f"{method}({thing.__name__}())"
        )
    if callable(thing) and not isinstance(thing, type):
        return f"{type_name(thing)}. If it is a WSGI wrapper, give the Flask app inside it"
    shown = repr(thing) if isinstance(thing, str) else type_name(thing)
    return f"{shown}. Give the app itself, an instance of flask.Flask"


def _check_page_auth(page_auth: object) -> Callable[[], object] | None:
    if page_auth is None:
        return None
    if not callable(page_auth):
        raise ConfigurationError(
            f"page_auth is {type_name(page_auth)}, which is not callable; give a function that "
            "returns True for those who may see the page."
        )
    try:
        signature_of(page_auth).bind()
    except TypeError:
        raise ConfigurationError(
            f"page_auth {place_of(page_auth)} is called without arguments inside the request, "
            "but it needs some; use flask.request, flask.session or the current user in it."
        ) from None
    except ValueError:
        pass  # a builtin without a signature
    return page_auth


def _check_page(app: Flask, settings: Settings, page_auth: object) -> None:
    if settings.page and page_auth is None and not (app.debug or app.testing):
        raise ConfigurationError(
            f"app.config['SIGNALS_KIT_PAGE'] is True for app {app.name!r} outside debug and "
            "testing, but there is no page_auth to decide who may see the page. Pass one, as in "
            "SignalsKit(app, page_auth=lambda: current_user.is_admin), or remove the setting."
        )


def _problems(app_signals: AppSignals) -> list[Problem]:
    from .debug.report import report  # imported when it is shown

    return list(report(app_signals).problems)


def _add_command(app: Flask) -> None:
    """Add ``flask signals``, unless the app has a command of that name."""
    command = _Commands(
        _COMMAND, help="Show the app's signals, their receivers and their problems."
    )
    if app.cli.commands.setdefault(_COMMAND, command) is not command:
        logger.warning(
            "App %r has a command 'signals' of its own, so the kit does not add its own.", app.name
        )


def _import_modules(settings: Settings) -> None:
    for name in settings.imports:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # the module is there; something that it imports is not
            raise ConfigurationError(
                f"app.config['SIGNALS_KIT_IMPORT'] names {name!r}, but there is no module "
                f"{error.name!r}; correct the name or remove it."
            ) from error
