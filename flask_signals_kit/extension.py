"""The extension: ``SignalsKit`` gives each app its signals."""

from __future__ import annotations

import importlib
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import click
from flask import Blueprint, Flask
from flask.cli import AppGroup
from flask.globals import _cv_app
from flask.sansio.app import App as SansioApp  # pyright: ignore[reportMissingTypeStubs]
from flask.signals import appcontext_pushed, request_started
from werkzeug.local import LocalProxy

from .app.api import Api, Target
from .app.app_signals import AppSignals
from .app.handle import DomainSignal
from .app.registry import Registry
from .bridge import RELAY_CODE
from .core.current import find_emission
from .core.introspection import place_of, signature_of, unwrap
from .core.signal import Namespace, Signal
from .core.third_party import disconnect
from .deliveries.sqlite import begin_immediate
from .errors import (
    AlreadyInitializedError,
    AppContextError,
    ConfigurationError,
    NotInitializedError,
    type_name,
)
from .records import Emission, Receiver
from .settings import EXTENSION, Settings, read_settings

if TYPE_CHECKING:
    from .debug.page import Page
    from .debug.report import Problem
    from .testing import CapturedSignals

R = TypeVar("R")

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


kits: weakref.WeakSet[SignalsKit] = weakref.WeakSet()
"""Every kit of this process, for the pytest plugin: it shows the apps of a test that names none."""


class SignalsKit(Api):
    """Domain signals for Flask apps.

    Create one at import time, declare and connect with it, and pass it each app, in the constructor
    or to :meth:`init_app`. Its declarations and connections apply to every app of the kit. Each app
    has its own signals and settings; apps share no state.

    :param app: an app to initialise at once.
    :param page_auth: decides at each request whether the visitor may see the page. It is called
        without arguments inside the request and must return ``True``. It is required to serve the
        page outside debug and testing.
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
        self._page_auth = _check_page_auth(page_auth)
        kits.add(self)
        if app is not None:
            self.init_app(app)

    # -- apps ---------------------------------------------------------------------------------

    def init_app(self, app: Flask, *, page_auth: Callable[[], object] | None = None) -> None:
        """Give an app its signals.

        Read the ``SIGNALS_KIT_*`` settings, apply the kit's declarations and connections, and
        import the modules of ``SIGNALS_KIT_IMPORT``. If this fails, the app is not changed.

        :param app: the app; the kit does not keep a reference to it.
        :param page_auth: as in the constructor, for this app.
        :raises AlreadyInitializedError: if a kit has initialised the app before.
        :raises ConfigurationError: for an object that is not a Flask app, an unknown setting, an
            invalid value, a module that does not exist, a page in production without
            ``page_auth``, or ``SIGNALS_KIT_ENGINE = "celery"`` without a Celery app.
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
        app_signals = AppSignals(app, self.registry, settings, auth, _problems)
        app.extensions[EXTENSION] = app_signals
        try:
            app_signals.startup = _Startup(app_signals)
            app_signals.start()
            _connect_engine(app, settings)
            _add_command(app)
            _import_modules(settings)
            app_signals.check_strictly()
        except BaseException:
            self.detach(app)
            raise

    def detach(self, app: Flask) -> None:
        """Undo :meth:`init_app`.

        Remove the app's receivers, relays, hooks, commands and page.

        :param app: the app.
        :raises NotInitializedError: if this kit has not initialised it.
        """
        app = _flask_app(app, "detach")
        app_signals = self.for_app(app)
        app_signals.close()
        if app_signals.startup is not None:
            app_signals.startup.undo(app)
        del app.extensions[EXTENSION]
        if isinstance(app.cli.commands.get(_COMMAND), _Commands):
            del app.cli.commands[_COMMAND]

    def for_app(self, app: Flask) -> AppSignals:
        """Return one app's signals, which have the same methods for that app alone.

        Use it in a factory to connect closures: they are freed with the app.

        :param app: the app.
        :raises NotInitializedError: if this kit has not initialised it.
        """
        return self._signals_of(_flask_app(app, "for_app"))

    def _signals_of(self, app: Flask) -> AppSignals:
        app_signals: AppSignals | None = app.extensions.get(EXTENSION)
        if app_signals is None or app_signals.kit is not self.registry:
            fix = "call kit.init_app(app) first"
            if app_signals is not None:
                fix = "an app has one kit, so use that one, or kit.detach(app) with it first"
            raise NotInitializedError(
                f"App {app.name!r} has {'no' if app_signals is None else 'another'} SignalsKit; "
                f"{fix}."
            )
        return app_signals

    @property
    def namespace(self) -> Namespace:
        """The current app's signals.

        :raises AppContextError: without a current app.
        """
        return self._current("reach kit.namespace").namespace

    @contextmanager
    def capture(
        self,
        *signals: Target,
        app: Flask | None = None,
        run: bool = True,
        only: Receiver | str | Iterable[Receiver | str] | None = None,
        except_: Receiver | str | Iterable[Receiver | str] = (),
        run_after_commit: bool = False,
        run_durable: bool = False,
        contain: bool = False,
    ) -> Generator[CapturedSignals, None, None]:
        """Record the emissions of an app while a ``with`` block runs. For tests.

        Receivers run as usual, unless ``run``, ``only`` or ``except_`` limit which receivers of the
        captured signals run. As :meth:`DomainSignal.muted` does, these apply to the current thread
        or task only.

        :param signals: names, patterns or handles; each of the app's own signals if omitted. An
            undeclared name is logged, or raises under ``SIGNALS_KIT_STRICT``.
        :param app: the app; the current one if omitted. With it, the block needs no app context,
            whose ``g`` and session all requests of a test client in the block would share.
        :param run: if false, no receiver runs: a send returns ``[]``, and is recorded.
        :param only: the only receiver that runs, or several in a list. A receiver is given as the
            function, or as a string: its ``uid``, or its module and name.
        :param except_: the receiver that does not run, or several in a list.
        :param run_after_commit: when the block ends without an exception, run the after-commit
            receivers that still wait, in the order of a commit, and those that start to wait
            meanwhile. Use it in tests whose outer transaction is always rolled back.
        :param run_durable: when the block ends without an exception, run each message that was
            stored in it, once.
        :param contain: log and report the failures of the receivers that run when the block ends,
            as after a real commit. Otherwise the first failure is raised, and the rest do not run.
        :return: yields a list of :class:`Captured`, which has assertions.
        :raises AppContextError: without an app.
        :raises ReceiverError: for a receiver that is not connected to a captured signal.

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
        from .testing.capture import Runs, capture  # imported in tests only

        runs = Runs(
            run=run,
            only=None if only is None else _receivers(only),
            except_=_receivers(except_),
            after_commit=run_after_commit,
            durable=run_durable,
            contain=contain,
        )
        if app is not None:
            app_signals = self.for_app(app)
        else:
            app_signals = self._current("capture signals", "; or pass kit.capture(app=app)")
        names = [self._target(signal) for signal in signals]
        with capture(app_signals, names, self._target, runs) as captured:
            yield captured

    @overload
    def call(
        self, receiver: Callable[..., Coroutine[Any, Any, R]], signal: Target, /, **overrides: Any
    ) -> R: ...

    @overload
    def call(self, receiver: Callable[..., R], signal: Target, /, **overrides: Any) -> R: ...

    def call(self, receiver: Callable[..., Any], signal: Target, /, **overrides: Any) -> Any:
        """Call one receiver, connected or not, with a sample of a signal's payload. For tests.

        The receiver is checked as if it were connected. No other receiver runs, and the options of
        the connection, such as ``when`` and ``delivery``, have no effect. An async receiver is
        run to its end, as by :meth:`send`, even if an event loop is running in this thread.
        ``current_emission`` is available in the receiver; the journal records nothing.

        :param receiver: the receiver.
        :param signal: a name or a handle.
        :param overrides: values of the payload, by name, and ``sender``. For the others, samples of
            the declared types are used; a payload with a default is left out. The app is the sender
            if the signal does not declare another type.
        :return: what the receiver returned.
        :raises AppContextError: without a current app.
        :raises UnknownSignalError: for a name that is not declared.
        :raises ContractError: for a receiver that cannot take the payload, an override that is not
            in the payload, or a type, such as a model, that there is no sample of.
        :raises Exception: what the receiver raised.

        >>> from flask import Flask
        >>> from flask_signals_kit import SignalsKit
        >>> app = Flask("shop")
        >>> kit = SignalsKit(app)
        >>> @kit.declare
        ... def account_funded(sender: str, *, amount: int, method: str) -> None:
        ...     "Money arrived in an account."
        >>> def thank(account, *, amount, **extra):
        ...     return f"{account}, thanks for {amount}"
        >>> with app.app_context():
        ...     kit.call(thank, account_funded, sender="acme")
        'acme, thanks for 1'
        """
        from .testing.call import call  # not imported in a process that runs no tests

        app_signals = self._current("call a receiver", "")
        return call(app_signals, receiver, self._target(signal), overrides)

    @contextmanager
    def isolated(self) -> Generator[None, None, None]:
        """Undo what a ``with`` block connects, declares and disconnects. For tests.

        When the block ends, receivers, declarations, bridges, exception hooks and sessions of the
        kit and of each of its apps are those that there were when it began. What a module does
        while it is imported in the block for the first time remains. Blocks can be nested, and must
        end in reverse order. This applies to all threads.

        :raises DuplicateReceiverError: if a receiver that remains has the ``uid`` of one that was
            disconnected in the block.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> account_funded = kit.signal("account_funded", "Money arrived in an account.")
        >>> with kit.isolated():
        ...     _ = account_funded.connect(print)
        ...     _ = kit.signal("account_closed")
        >>> kit.registry.is_declared("account_closed")
        False
        """
        from .testing.isolation import isolated  # imported in tests only

        with isolated(self.registry):
            yield

    @staticmethod
    def begin_immediate(engine: Any, mode: str = "IMMEDIATE") -> None:
        """Make an SQLite engine begin transactions explicitly, so that savepoints work.

        By default, Python's SQLite driver begins a transaction late. A savepoint that comes first
        survives the rollback of the outer transaction. If two transactions read and then write, one
        update is lost. Call this once for each engine, after you create it. Engines of other
        databases are not changed.

        :param engine: an SQLAlchemy ``Engine`` or ``AsyncEngine``.
        :param mode: ``"IMMEDIATE"`` takes the write lock at once, so that transactions wait for
            each other instead of failing; ``"DEFERRED"`` takes it at the first write.
        :raises ConfigurationError: for an unknown mode.
        """
        begin_immediate(engine, mode)

    def check(self) -> list[Problem]:
        """Return the problems of the current app's signals.

        These are weak receivers that were collected, undeclared names, receivers without
        ``**kwargs``, functions that are connected twice (by module and name, or by file and line),
        and SQLite engines that need :meth:`begin_immediate` because a receiver waits for their
        commits.

        :raises AppContextError: without a current app.
        """
        return self._current("check its signals").check()

    # -- what the API needs -------------------------------------------------------------------

    def resolve(self, name: str) -> Signal:
        """Return the current app's signal of this name; handles call this at each send."""
        context = _cv_app.get(None)
        if context is not None:
            app_signals: AppSignals | None = context.app.extensions.get(EXTENSION)
            if app_signals is not None and app_signals.kit is self.registry:
                signal = app_signals.namespace.get(name)
                if signal is not None:
                    return signal  # type: ignore[return-value]
        return self._current(f"send or ask {name!r}").find(name)

    def default_sender(self) -> Flask:
        """Return the current app: the sender of a send without one."""
        return self._current("send").app

    def _current(self, doing: str, instead: str = "; or use kit.for_app(app)") -> AppSignals:
        context = _cv_app.get(None)
        if context is None:
            raise AppContextError(
                f"Cannot {doing} outside an app context, because signals belong to an app. Push "
                f"one: 'with app.app_context():'{instead}."
            )
        return self._signals_of(context.app)


_COMMAND = "signals"


class _Commands(AppGroup):
    """``flask signals``, whose commands are imported when they are used.

    Most processes only serve requests. To import the report and the commands takes as long as to
    import the rest of the kit.
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
    """Applies debug or testing each time a context is pushed, until the first request.

    ``app.run(debug=True)`` and ``app.testing = True`` come after the factory, and the factory may
    have pushed a context. The page is installed in time to answer the first request.
    """

    def __init__(self, app_signals: AppSignals) -> None:
        self._app_signals = weakref.ref(app_signals)
        self._page: Page | None = None
        self._lock = threading.RLock()
        self._closed = False
        app = app_signals.app
        appcontext_pushed.connect(self.apply_debug_mode, app)
        request_started.connect(self.close, app)

    def apply_debug_mode(self, app: Flask, **extra: Any) -> None:
        with self._lock:  # a second first request must not be served before the page is there
            app_signals = None if self._closed else self._app_signals()
            if app_signals is None:
                return
            app_signals.apply_debug_mode()
            if not app_signals.page_enabled:
                return
            if self._page is None:
                from .debug import page  # not imported in a process that serves no page

                settings = app_signals.settings
                self._page = page.Page(settings.page_url, settings.editor)
            self._page.install(app, listed=app_signals.page_auth is None)

    def close(self, app: Flask, /, **extra: Any) -> None:
        """Stop waiting for contexts and requests."""
        self._closed = True
        disconnect(appcontext_pushed, self.apply_debug_mode, app)
        disconnect(request_started, self.close, app)

    def undo(self, app: Flask) -> None:
        """Remove the page as well."""
        self.close(app)
        if self._page is not None:
            self._page.remove(app)


def _receivers(given: Receiver | str | Iterable[Receiver | str]) -> tuple[Receiver | str, ...]:
    """Return the receivers of an argument: one, or several."""
    return (given,) if isinstance(given, str) or callable(given) else tuple(given)


def _flask_app(app: object, method: str) -> Flask:
    """Return the app, unwrapped from a proxy; refuse any object that is not a Flask app."""
    app = unwrap(app)
    if isinstance(app, Flask):
        return app
    raise ConfigurationError(f"{method}() takes a Flask app, not {_what_is_given(app, method)}.")


def _what_is_given(thing: Any, method: str) -> str:
    """Describe an object that was given instead of an app, and how to fix it."""
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
            "returns True for visitors who may see the page."
        )
    try:
        signature_of(page_auth).bind()
    except TypeError:
        raise ConfigurationError(
            f"page_auth {place_of(page_auth)} is called without arguments inside the request, "
            "but it requires some; use flask.request, flask.session or the current user in it."
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


def _connect_engine(app: Flask, settings: Settings) -> None:
    """Connect the engine in ``contrib`` that the settings name."""
    if settings.engine != "celery":
        return
    try:
        engine = importlib.import_module(f"{__package__}.contrib.celery")  # of a higher layer
    except ImportError as error:
        raise ConfigurationError(
            f"SIGNALS_KIT_ENGINE of app {app.name!r} is 'celery', but {error.name} is not "
            "installed: install the kit with its extra, pip install 'flask-signals-kit[celery]'."
        ) from error
    engine.connect(app)


def _problems(app_signals: AppSignals) -> list[Problem]:
    from .debug.report import report  # imported when it is used

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
                raise  # the module exists, but something that it imports does not
            raise ConfigurationError(
                f"app.config['SIGNALS_KIT_IMPORT'] names {name!r}, but there is no module "
                f"{error.name!r}; correct the name or remove it."
            ) from error
