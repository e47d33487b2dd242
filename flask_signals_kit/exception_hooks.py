"""Exception hooks: every failure that leaves the app's code, each once, labelled with its source.

Flask signals only what fails in a request and is not handled. The rest is seen here: ``handled`` by
the app's own ``handle_user_exception``, what fails while the answer to a failure is finished by
``process_response``, ``teardown`` by wrappers of ``wsgi_app`` and of ``do_teardown_appcontext``,
``stream`` by the response's iterable or the file in it, ``cli`` by the app context that ends
outside of a request, and ``receiver`` and ``delivery`` by the kit itself. Without a hook, nothing
is installed.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import threading
import weakref
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from itertools import count
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, get_args

import click
from flask import Flask
from flask.globals import _cv_app
from flask.signals import got_request_exception
from werkzeug.exceptions import HTTPException

from .compat import is_in_memory, teardown_failures
from .core.introspection import (
    is_async,
    is_reloaded,
    place_of,
    signature_of,
    type_name,
)
from .core.third_party import disconnect
from .errors import ConfigurationError, ReceiverError, did_you_mean
from .records import Emission, Receiver, Source

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


logger: logging.Logger = logging.getLogger("flask_signals_kit")

_REPORTED = "_signals_kit_reported"
"""The key in an exception's ``__dict__`` of who knows it: a string, fit for any error handler."""

_REMEMBERED = 256
"""How many of these an exception carries that is raised again and again."""

_attributes_of: Callable[[BaseException], dict[str, Any]] = vars(BaseException)["__dict__"].__get__
"""Returns the very ``__dict__``, which an exception's class may hide behind a property."""

_numbers = count(1)

_numbering = threading.RLock()  # the garbage collector may ask for a number anywhere

_PYTHON_CLASS = 1 << 9
"""CPython's flag of a type that is allocated on the heap."""


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
        """Tell whether this is the same hook: the very same, or that of a module loaded anew.

        Two hooks of one name in one module, such as ``_``, stand on different lines; so one that
        has moved before its module is loaded anew counts as another.
        """
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
            f"on_exception() takes a hook, and {hook.__name__} is an exception class. The hook is "
            "called for every exception: use sources=, ignore=, or test "
            f"isinstance(exception, {hook.__name__}) in the hook."
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
                f"Exception hook {place_of(hook)} ignores {type_name(kind)}, which is not an "
                "exception class; give ignore=(KeyError, …)."
            )
    return HookRegistration(hook=hook, sources=wanted, ignore=ignored, handled=handled)


def _words(sources: Iterable[str]) -> tuple[str, ...]:
    return (sources,) if isinstance(sources, str) else tuple(sources)


def _classes(ignore: Any) -> tuple[Any, ...]:
    return tuple(ignore) if isinstance(ignore, Iterable) else (ignore,)


class _Unit:
    """A request, a command or an app context: in each a hook is called once for an exception.

    There is one for each request, so what it needs only after a failure is made then.
    """

    __slots__ = ("_number", "over")

    _number: int
    over: bool
    """Whether a request and its body are over; jobs that it began may live longer."""

    @property
    def number(self) -> int:
        """What it is known by."""
        try:
            return self._number
        except AttributeError:
            with _numbering:  # two threads may ask for it at once
                if not hasattr(self, "_number"):
                    self._number = next(_numbers)
            return self._number


_unit: ContextVar[_Unit | None] = ContextVar("signals_kit_unit", default=None)
"""A token of the request that this context was made in."""

_running: ContextVar[frozenset[int]] = ContextVar("signals_kit_running", default=frozenset())
"""The hooks that are being called in this context, by ``id``."""


class ExceptionHooks:
    """The exception hooks of one app.

    :param app: the app; held weakly.
    """

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)
        self._hooks: list[HookRegistration] = []
        self._wsgi: _WatchedApp | None = None
        self._handler: _WatchedHandler | None = None
        self.watches_handlers: bool = False
        self._response: _WatchedResponse | None = None
        self._teardown: _WatchedTeardown | None = None
        self._kept: weakref.WeakSet[Any] = weakref.WeakSet()
        self._contexts: weakref.WeakKeyDictionary[Any, _Unit] = weakref.WeakKeyDictionary()
        self._closed = False
        self._lock = threading.RLock()  # the garbage collector may end an app context anywhere

    def add(self, registration: HookRegistration) -> None:
        """Add a hook; one that is there already only changes what it asks for.

        After :meth:`close` this does nothing.
        """
        with self._lock:
            if self._closed:
                return
            others = [other for other in self._hooks if not registration.replaces(other)]
            self._hooks = [*others, registration]
            self._install()

    def _install(self) -> None:
        app = self._app()
        if app is None or self._wsgi is not None:
            return
        self._wsgi = _WatchedApp(app, self)
        self._teardown = _WatchedTeardown(app, self)
        got_request_exception.connect(self._in_request, app)

    def watch_handlers(self) -> None:
        """Watch how the app handles exceptions; called with its first request.

        By then, every extension has been initialised, and what one of them has put in the place of
        ``handle_user_exception`` is inside the wrapper, whichever came first.
        """
        app = self._app()
        with self._lock:
            if app is not None and not self.watches_handlers and not self._closed:
                self._handler = _WatchedHandler(app, self)
                self.watches_handlers = True

    def _watch_responses(self, app: Flask) -> None:
        """Watch how the app finishes responses; called with its first failure.

        Until then, Flask signals what fails there. While it answers a failure, it only logs that.
        """
        with self._lock:
            if self._response is None and not self._closed:
                self._response = _WatchedResponse(app, self)

    def close(self) -> None:
        """Take everything away that was installed in the app, for good."""
        with self._lock:
            self._closed = True
            app = self._app()
            if app is not None and self._wsgi is not None:
                disconnect(got_request_exception, self._in_request, app)
            for watched in (self._wsgi, self._handler, self._response, self._teardown):
                if app is not None and watched is not None:
                    watched.remove(app)
            self._wsgi = self._handler = self._response = self._teardown = None
            self._hooks = []

    # -- what is seen -------------------------------------------------------------------------

    def _in_request(self, sender: Flask, exception: BaseException, **extra: Any) -> None:
        self._watch_responses(sender)
        self.report(exception, "request")

    def see_teardown(self, exc: BaseException | None) -> None:
        """See what ends an app context that is no request's: a command, or a script's ``with``."""
        if _cv_app.get(None) in self._kept:
            return
        exc = exc or _ends_command()
        if exc is not None:
            self.report(exc, "cli")

    def keep(self, context: object) -> None:
        """Note an app context that outlives its request, in a test client or in the debugger."""
        if context is not None:
            self._kept.add(context)

    # -- telling ------------------------------------------------------------------------------

    def report_contained(
        self,
        exception: Exception,
        receiver: Receiver,
        emission: Emission,
        source: Source = "receiver",
    ) -> None:
        """Tell of a failure that a policy or a delivery contained."""
        self.report(exception, source, signal=emission.signal, receiver=receiver)

    def report(
        self,
        exception: BaseException,
        source: Source,
        *,
        handled: bool = False,
        signal: str | None = None,
        receiver: Receiver | None = None,
        unit: _Unit | None = None,
    ) -> None:
        """Call each hook that asked for it, once in a request; never raise an ``Exception``.

        :param exception: the exception; it is not stored. What is no ``Exception`` ends something
            on purpose (``SystemExit``, ``CancelledError``, gevent's ``GreenletExit``) and is not a
            failure, so no hook is called for it.
        :param source: where it comes from.
        :param handled: whether an error handler turned it into a response.
        :param signal: the signal's name, for a receiver's failure.
        :param receiver: the receiver, for a receiver's failure.
        :param unit: the token of the request, where it cannot be seen from here.
        """
        app = self._app()
        if app is None:
            return
        failures = teardown_failures(exception) if source == "teardown" else [exception]
        unit = unit or self._current_unit()
        for failure in failures:
            if isinstance(failure, Exception):
                self._report(app, failure, source, handled, signal, receiver, unit)

    def _report(
        self,
        app: Flask,
        exception: Exception,
        source: Source,
        handled: bool,
        signal: str | None,
        receiver: Receiver | None,
        unit: _Unit | None,
    ) -> None:
        for registration in self._hooks:
            asked = source in registration.sources and (registration.handled or not handled)
            if not asked or isinstance(exception, registration.ignore):
                continue
            if self._is_news(exception, registration, unit):
                details = {"source": source, "handled": handled, "signal": signal}
                self._call(app, registration.hook, exception, {**details, "receiver": receiver})

    def _current_unit(self) -> _Unit | None:
        """Return a token of the request or, outside of one, of the command or app context.

        A command may push further app contexts, and its exception ends them one after the other.
        """
        unit = _served()
        command = click.get_current_context(silent=True)
        owner = _cv_app.get(None) if command is None else command.find_root()
        if unit is None and owner is not None:
            unit = self._contexts.setdefault(owner, _Unit())
            unit.over = False
        return unit

    def _is_news(
        self, exception: Exception, registration: HookRegistration, unit: _Unit | None
    ) -> bool:
        """Tell whether this hook has not had this exception in this request; note it.

        The note is the exception's, and goes with it: a worker's unit may last for months.
        """
        if unit is None:
            return True
        # With the process: an exception may come pickled from a fork, which counts like this one.
        note = f"{os.getpid()}.{unit.number}.{registration.number}"
        attributes = _attributes_of(exception)
        with self._lock:
            notes = attributes.get(_REPORTED, "").split()
            news = note not in notes
            if news:
                attributes[_REPORTED] = " ".join([*notes, note][-_REMEMBERED:])
        return news

    def _call(
        self,
        app: Flask,
        hook: Callable[..., Any],
        exception: Exception,
        details: dict[str, Any],
    ) -> None:
        running = _running.get()
        if id(hook) in running:
            return  # what fails while a hook runs is logged, and does not call it again
        token = _running.set(running | {id(hook)})
        try:
            _run_hook(app, hook)(app, exception, **details)
        except Exception:
            logger.exception(
                "Exception hook %s failed; the exception that it was called for is not affected",
                place_of(hook),
                extra={"signals_kit_hook": str(place_of(hook))},
            )
        finally:
            _running.reset(token)


class _Wrapper:
    """Replaces one method of an app, and puts it back.

    A method that only the class has is not held as a bound one: ``app.wsgi_app`` kept on the app
    itself would be a cycle, and Flask takes care that a dropped app is freed at once.
    """

    attribute: str
    __call__: Callable[..., Any]

    def __init__(self, app: Flask, hooks: ExceptionHooks) -> None:
        # They hold this; were it to hold them, they would outlive the app in Flask's signals.
        self._hooks: Callable[[], ExceptionHooks | None] = weakref.ref(hooks)
        self._app = weakref.ref(app)
        self._before = app.__dict__.get(self.attribute)
        self._method: Callable[..., Any] = _unbound(type(app), self.attribute, self._before)
        app.__dict__[self.attribute] = self.__call__  # faster than an object with ``__call__``

    @property
    def hooks(self) -> ExceptionHooks | None:
        """The hooks to call, or ``None`` once the app is rid of them."""
        return self._hooks()

    def inner(self, *args: Any) -> Any:
        """Call what was replaced."""
        return self._method(self._app(), *args)

    def remove(self, app: Flask) -> None:
        """Put the method back; where somebody has wrapped this since, only stop watching."""
        self._hooks = lambda: None
        if getattr(app.__dict__.get(self.attribute), "__self__", None) is self:
            if self._before is None:
                del app.__dict__[self.attribute]
            else:
                app.__dict__[self.attribute] = self._before


def _unbound(kind: type[Flask], attribute: str, before: Any) -> Callable[..., Any]:
    """Return what a method of an app does, as a function whose first argument is the app.

    :param before: what the app itself had in the method's place, or ``None``.
    """
    if before is not None:
        return lambda app, *args: before(*args)
    method: Any = getattr(kind, attribute)
    bind = getattr(type(method), "__get__", None)
    if bind is None:  # a callable object in the class, such as middleware
        return lambda app, *args: method(*args)
    return method if type(method) is FunctionType else lambda app, *args: bind(method, app)(*args)


class _WatchedApp(_Wrapper):
    """Watches ``wsgi_app`` for what Flask does not signal: teardown and streams."""

    attribute = "wsgi_app"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        hooks = self._hooks()
        if hooks is None:
            return self.inner(environ, start_response)  # type: ignore[no-any-return]
        if not hooks.watches_handlers:
            hooks.watch_handlers()
        unit = _Unit()
        unit.over = False
        preserve = environ.get("werkzeug.debug.preserve_context")
        if preserve is not None:
            environ["werkzeug.debug.preserve_context"] = _both(hooks.keep, preserve)
        wrap_file = environ.get("wsgi.file_wrapper")
        if wrap_file is not None:
            environ["wsgi.file_wrapper"] = _watch_files(wrap_file, hooks, unit)
        token = _unit.set(unit)
        watches = False
        try:
            body = self._method(self._app(), environ, start_response)
            watches = not is_in_memory(body) and _is_stream(body, wrap_file)
        except BaseException as error:
            if _from_teardown(error):
                hooks.report(error, "teardown")
            # It ends a WebSocket under Gunicorn; a view's own has been signalled.
            elif not isinstance(error, StopIteration):
                hooks.report(error, "request")
            raise
        finally:
            _unit.reset(token)
            unit.over = not watches
            if wrap_file is not None:  # the server looks whether the body is of this class
                environ["wsgi.file_wrapper"] = wrap_file
            if preserve is not None:  # in Flask 3.2, the environ is freed by a collection alone
                environ["werkzeug.debug.preserve_context"] = preserve
        # Whatever the hooks ask for: the body may end an app context, and is no command.
        return _WatchedBody(body, hooks, unit) if watches else body


def _is_stream(body: Iterable[bytes], wrap_file: object) -> bool:
    """Tell whether a body may be wrapped: not a list, and no file that the server sends itself.

    The server knows such a file by the class of its own file wrapper, or by being the very file
    that was wrapped. Werkzeug's and middlewares' bodies are Python classes.
    """
    if isinstance(body, _WatchedFile) or (
        isinstance(wrap_file, type) and isinstance(body, wrap_file)
    ):
        return False
    return inspect.isgenerator(body) or bool(type(body).__flags__ & _PYTHON_CLASS)


def _watch_files(
    wrap_file: Callable[..., Any], hooks: ExceptionHooks, unit: _Unit
) -> Callable[..., Any]:
    """Return the server's file wrapper, which is given watched files instead of plain ones.

    The body stays of the server's own class, and a real file keeps its ``fileno``; so the server
    sends it as it would without the kit.
    """

    def wrap(file: Any, *args: Any) -> Any:
        return wrap_file(_WatchedFile(file, hooks, unit), *args)

    return wrap


class _WatchedHandler(_Wrapper):
    """Watches ``handle_user_exception`` for exceptions that an error handler answers."""

    attribute = "handle_user_exception"

    def __call__(self, *args: Any) -> Any:
        # What is not handled is raised again, and signalled by Flask.
        response = self.inner(*args)
        hooks = self.hooks
        if hooks is not None:
            hooks.report(args[-1], "request", handled=True)
        return response


class _WatchedResponse(_Wrapper):
    """Watches ``process_response``: ``after_request`` functions, and how the session is saved."""

    attribute = "process_response"

    def __call__(self, *args: Any) -> Any:
        try:
            return self.inner(*args)
        except Exception as error:
            # Flask answers that by another response and finishes it: the same failure once more.
            if self.hooks is not None and not _failed_before(error):
                self.hooks.report(error, "request")
            raise


class _WatchedTeardown(_Wrapper):
    """Watches ``do_teardown_appcontext``: what ends a command's context, and what fails then."""

    attribute = "do_teardown_appcontext"

    def __call__(self, *args: Any) -> Any:
        unit = _unit.get()
        if (unit is None or unit.over) and self.hooks is not None:
            self.hooks.see_teardown(args[-1] if args else None)
        try:
            return self._method(self._app(), *args)
        except BaseException as error:
            if self.hooks is not None:
                self.hooks.report(error, "teardown")
            raise


class _WatchedBody:
    """Watches a response's body while the server reads it."""

    def __init__(self, body: Iterable[bytes], hooks: ExceptionHooks, unit: _Unit) -> None:
        self._body = body
        self._chunks: Iterator[bytes] | None = None
        self._hooks = hooks
        self._unit = unit

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._chunks is None:
            self._chunks = self._watch(lambda: iter(self._body))
        return self._watch(self._chunks.__next__)  # type: ignore[no-any-return]

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                self._watch(close)
        finally:
            self._unit.over = True

    def _watch(self, step: Callable[[], Any]) -> Any:
        return _watch_step(step, self._hooks, self._unit)


class _WatchedFile:
    """Watches a file while the server reads it through a file wrapper of its own."""

    def __init__(self, file: Any, hooks: ExceptionHooks, unit: _Unit) -> None:
        self._file = file
        self._hooks = hooks
        self._unit = unit

    def read(self, *args: Any) -> Any:
        return _watch_step(lambda: self._file.read(*args), self._hooks, self._unit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _watch_step(step: Callable[[], Any], hooks: ExceptionHooks, unit: _Unit) -> Any:
    """Take one step in sending a body; report what fails."""
    token = _unit.set(unit)
    try:
        return step()
    except StopIteration:
        raise
    except Exception as error:
        hooks.report(error, "stream", unit=unit)
        raise
    finally:
        _unit.reset(token)


def _served() -> _Unit | None:
    """Return a token of the request being served; a job may have inherited one that is over."""
    unit = _unit.get()
    return None if unit is None or unit.over else unit


def _both(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], None]:
    def call(value: Any) -> None:
        first(value)
        second(value)

    return call


def _run_hook(app: Flask, hook: Callable[..., Any]) -> Callable[..., Any]:
    """Make a hook callable from here, be it async or not."""
    if not is_async(hook):
        return hook
    # Whoever has async hooks has asyncio already; nobody else is to wait for its import.
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    async def call(*args: Any, **details: Any) -> None:
        await hook(*args, **details)

    run: Callable[..., Any] = app.async_to_sync(call)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run

    def run_aside(*args: Any, **details: Any) -> None:
        """Use a thread, for a loop cannot run inside of another."""
        with ThreadPoolExecutor(1) as pool:
            pool.submit(copy_context().run, run, *args, **details).result()

    return run_aside


def _ends_command() -> BaseException | None:
    """Return the exception that ends a command of click < 8.5, which closes its context without it.

    The command may itself run inside somebody's ``except`` block: what that handles has not come
    through click's frames.
    """
    error = sys.exc_info()[1]
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "click.core":
        frame = frame.f_back
    if error is None or frame is None or frame.f_code.co_name != "close":
        return None
    passed: set[FrameType] = set()
    traceback = error.__traceback__
    while traceback is not None:
        passed.add(traceback.tb_frame)
        traceback = traceback.tb_next
    while frame is not None:
        if frame in passed and frame.f_globals.get("__name__") == "click.core":
            return error
        frame = frame.f_back
    return None


def _from_teardown(error: BaseException) -> bool:
    """Tell whether an exception was raised while Flask ended a context."""
    return _passed(error, "flask.ctx", "pop")


def _failed_before(error: BaseException) -> bool:
    """Tell whether an exception in ``process_response`` comes from answering another one there."""
    earlier = error.__context__
    while earlier is not None:
        if _passed(earlier, "flask.app", "process_response"):
            return True
        earlier = earlier.__context__
    return False


def _passed(error: BaseException, module: str, function: str) -> bool:
    """Tell whether an exception has passed through a function."""
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_name == function and frame.f_globals.get("__name__") == module:
            return True
        traceback = traceback.tb_next
    return False
