"""Exception hooks: they are called once for every failure that leaves the app's code.

Flask sends a signal only for unhandled exceptions in a request. This module finds the others:

- ``handled`` exceptions, and failures while another failure is answered: by wrappers of
  ``handle_user_exception`` and ``process_response``;
- ``teardown``: by wrappers of ``wsgi_app`` and ``do_teardown_appcontext``;
- ``stream``: by a wrapper of the response's iterable, or of the file in it;
- ``cli``: by the app context that ends outside of a request;
- ``receiver`` and ``delivery``: the kit itself reports them.

Nothing is installed in an app without hooks.
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
from operator import attrgetter
from traceback import walk_stack, walk_tb
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, get_args

import click
from flask import Flask
from flask.globals import _cv_app
from flask.signals import got_request_exception
from werkzeug.exceptions import HTTPException

from .compat import is_in_memory, teardown_failures
from .core.introspection import is_async, is_reloaded, place_of, receiver_key, signature_of
from .core.third_party import disconnect
from .errors import ConfigurationError, ReceiverError, did_you_mean, type_name
from .records import Receiver, Source

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


logger: logging.Logger = logging.getLogger("flask_signals_kit")

_MARKS = "_signals_kit_reported"
"""The key of an exception's marks in its ``__dict__``. The value is a string, so that any error
handler can process it."""

_MAX_MARKS = 256
"""The most marks that an exception carries if it is raised repeatedly."""

_attributes_of: Callable[[BaseException], dict[str, Any]] = vars(BaseException)["__dict__"].__get__
"""Returns the real ``__dict__``, which an exception's class may hide behind a property."""

_numbers = count(1)

_numbering = threading.RLock()  # reentrant: the garbage collector may need a number at any point

_PYTHON_CLASS = 1 << 9
"""CPython's flag of a type that is allocated on the heap."""


SOURCES: tuple[Source, ...] = get_args(Source)
"""The sources of exceptions."""


class CeleryControlFlow(Exception, metaclass=ABCMeta):  # noqa: N818 - it is never raised
    """The virtual base class of Celery's ``Retry``, ``Ignore`` and ``Reject``.

    ``isinstance`` recognises them by module and name: the kit does not import Celery, and a program
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
"""The classes that exception hooks ignore by default: exceptions that end something on purpose.

Extend it with ``ignore=(*DEFAULT_IGNORED, KeyError)``.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HookRegistration:
    """One hook, and the exceptions that it is called for."""

    hook: Callable[..., Any]
    """The hook."""
    sources: tuple[str, ...]
    """The sources of the exceptions."""
    ignore: tuple[type[BaseException], ...]
    """The classes that it is not called for."""
    handled: bool
    """Whether it is also called for exceptions that an error handler turned into a response."""
    number: int = field(default_factory=_numbers.__next__)
    """Identifies the hook in this process."""

    def replaces(self, other: HookRegistration) -> bool:
        """Tell whether this is the same hook, perhaps of a reloaded module.

        Two hooks of one module may have the same name, such as ``_``; their lines tell them apart.
        So a hook whose line has changed before a reload counts as another hook.
        """
        same = receiver_key(self.hook) == receiver_key(other.hook)
        return same or is_reloaded(self.hook, other.hook)


_HOOK = "hook(app, exception, *, source, handled, **extra)"


def register_hook(
    hook: Callable[..., Any],
    sources: Iterable[str] | None,
    ignore: Iterable[type[BaseException]] | None,
    handled: bool,
) -> HookRegistration:
    """Check the arguments of ``on_exception``.

    :raises ReceiverError: if the hook is not callable, or not with the arguments of a hook.
    :raises ConfigurationError: for an unknown source, or an ignored object that is not an exception
        class.
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
        pass  # a builtin without a signature cannot be checked
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
    """A request, a command or an app context, in which a hook is called once per exception.

    Each request creates one, so the number, which only a failure needs, is created on first use.
    """

    __slots__ = ("_number", "over")

    _number: int
    over: bool
    """Whether a request and its body are over; jobs that it started may run longer."""

    @property
    def number(self) -> int:
        """Its number, unique in this process."""
        try:
            return self._number
        except AttributeError:
            with _numbering:  # two threads may need it at once
                if not hasattr(self, "_number"):
                    self._number = next(_numbers)
            return self._number


_unit: ContextVar[_Unit | None] = ContextVar("signals_kit_unit", default=None)
"""The unit of the request that this context was created in."""

_running: ContextVar[frozenset[int]] = ContextVar("signals_kit_running", default=frozenset())
"""The hooks that are running in this context, by ``id``."""


class ExceptionHooks:
    """The exception hooks of one app.

    :param app: the app; held weakly.
    """

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)
        self._hooks: list[HookRegistration] = []
        self._wsgi: _AppWrapper | None = None
        self._handler: _HandlerWrapper | None = None
        self._response: _ResponseWrapper | None = None
        self._teardown: _TeardownWrapper | None = None
        self._retained: weakref.WeakSet[Any] = weakref.WeakSet()
        self._contexts: weakref.WeakKeyDictionary[Any, _Unit] = weakref.WeakKeyDictionary()
        self._closed = False
        self._lock = threading.RLock()  # reentrant: the garbage collector may end an app context

    def add(self, registration: HookRegistration) -> None:
        """Add a hook; adding it again only changes its options.

        After :meth:`close` this does nothing.
        """
        with self._lock:
            if self._closed:
                return
            others = [other for other in self._hooks if not registration.replaces(other)]
            self._hooks = [*others, registration]
            self._install()

    def replace(self, registrations: Iterable[HookRegistration]) -> None:
        """Replace all hooks by others, in the order in which they were registered."""
        with self._lock:
            self._hooks = []
            for registration in sorted(registrations, key=attrgetter("number")):
                self.add(registration)

    def _install(self) -> None:
        app = self._app()
        if app is None or self._wsgi is not None:
            return
        self._wsgi = _AppWrapper(app, self)
        self._teardown = _TeardownWrapper(app, self)
        got_request_exception.connect(self._in_request, app)

    def wrap_handlers(self) -> None:
        """Wrap ``handle_user_exception``; called with the app's first request.

        By then, every extension has been initialised. If one of them replaced
        ``handle_user_exception``, its version is inside the wrapper, in any order of
        initialisation.
        """
        app = self._app()
        with self._lock:
            if app is not None and self._handler is None and not self._closed:
                self._handler = _HandlerWrapper(app, self)

    def _wrap_responses(self, app: Flask) -> None:
        """Wrap ``process_response``; called with the app's first failure.

        Normally Flask sends a signal for exceptions there. While it answers a failure, it only logs
        them.
        """
        with self._lock:
            if self._response is None and not self._closed:
                self._response = _ResponseWrapper(app, self)

    def close(self) -> None:
        """Remove everything that was installed in the app, permanently."""
        with self._lock:
            self._closed = True
            app = self._app()
            if app is not None and self._wsgi is not None:
                disconnect(got_request_exception, self._in_request, app)
            for wrapper in (self._wsgi, self._handler, self._response, self._teardown):
                if app is not None and wrapper is not None:
                    wrapper.remove(app)
            self._wsgi = self._handler = self._response = self._teardown = None
            self._hooks = []

    # -- sources ------------------------------------------------------------------------------

    def _in_request(self, sender: Flask, exception: BaseException, **extra: Any) -> None:
        self._wrap_responses(sender)
        self.report(exception, "request")

    def report_context_end(self, exc: BaseException | None) -> None:
        """Report the exception that ends an app context outside requests, as of a command."""
        if _cv_app.get(None) in self._retained:
            return
        exc = exc or _ends_command()
        if exc is not None:
            self.report(exc, "cli")

    def retain_context(self, context: object) -> None:
        """Record an app context that outlives its request, in a test client or in the debugger."""
        if context is not None:
            self._retained.add(context)

    # -- reporting ----------------------------------------------------------------------------

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
        """Call each hook that is registered for an exception, once per request.

        Never raise an ``Exception``.

        :param exception: the exception; it is not stored. A ``BaseException`` that is not an
            ``Exception`` ends something on purpose (``SystemExit``, ``CancelledError``, gevent's
            ``GreenletExit``). It is not a failure, so no hook is called for it.
        :param source: its source.
        :param handled: whether an error handler turned it into a response.
        :param signal: the signal's name, for a receiver's failure.
        :param receiver: the receiver, for a receiver's failure.
        :param unit: the unit of the request, if it is not that of the current context.
        """
        app = self._app()
        if app is None:
            return
        raised = teardown_failures(exception) if source == "teardown" else [exception]
        unit = unit or self._current_unit()
        wanted = [r for r in self._hooks if source in r.sources and (r.handled or not handled)]
        details = {"source": source, "handled": handled, "signal": signal, "receiver": receiver}
        for failure in (each for each in raised if isinstance(each, Exception)):
            for registration in wanted:
                if isinstance(failure, registration.ignore):
                    continue
                if self._is_first_report(failure, registration, unit):
                    self._call(app, registration.hook, failure, details)

    def _current_unit(self) -> _Unit | None:
        """Return the unit of the request, or of the command or app context outside requests.

        A command may push further app contexts, and its exception ends them one after the other.
        """
        unit = _unit.get()
        if unit is not None and not unit.over:  # a job may have inherited one that is over
            return unit
        command = click.get_current_context(silent=True)
        owner = _cv_app.get(None) if command is None else command.find_root()
        return None if owner is None else self._contexts.setdefault(owner, _Unit())

    def _is_first_report(
        self, exception: Exception, registration: HookRegistration, unit: _Unit | None
    ) -> bool:
        """Tell whether this hook is called for this exception for the first time in this unit.

        Mark the exception. The mark is stored on the exception and freed with it: the unit of a
        worker may last for months.
        """
        if unit is None:
            return True
        # With the process id: an exception may come pickled from a fork, with the same numbers.
        mark = f"{os.getpid()}.{unit.number}.{registration.number}"
        attributes = _attributes_of(exception)
        with self._lock:
            marks = attributes.get(_MARKS, "").split()
            is_first = mark not in marks
            if is_first:
                attributes[_MARKS] = " ".join([*marks, mark][-_MAX_MARKS:])
        return is_first

    def _call(
        self,
        app: Flask,
        hook: Callable[..., Any],
        exception: Exception,
        details: dict[str, Any],
    ) -> None:
        running = _running.get()
        if id(hook) in running:
            return  # failures while a hook runs are logged, and do not call it again
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
    """Replaces one method of an app, and restores it.

    A method of the class is not stored as a bound method: ``app.wsgi_app`` stored on the app itself
    would be a reference cycle, and a dropped app could not be freed at once.
    """

    attribute: str
    __call__: Callable[..., Any]

    def __init__(self, app: Flask, hooks: ExceptionHooks) -> None:
        # Weakly: the hooks reference this object, and a cycle would keep them alive.
        self._hooks: Callable[[], ExceptionHooks | None] = weakref.ref(hooks)
        self._app = weakref.ref(app)
        self._before = app.__dict__.get(self.attribute)
        self._method: Callable[..., Any] = _unbound(type(app), self.attribute, self._before)
        app.__dict__[self.attribute] = self.__call__  # faster than an object with ``__call__``

    def inner(self, *args: Any) -> Any:
        """Call the replaced method."""
        return self._method(self._app(), *args)

    def remove(self, app: Flask) -> None:
        """Restore the method. If it has been wrapped again since, only stop calling the hooks."""
        self._hooks = lambda: None
        if getattr(app.__dict__.get(self.attribute), "__self__", None) is self:
            if self._before is None:
                del app.__dict__[self.attribute]
            else:
                app.__dict__[self.attribute] = self._before


def _unbound(kind: type[Flask], attribute: str, before: Any) -> Callable[..., Any]:
    """Return a method of an app as a function whose first argument is the app.

    :param before: the instance attribute that replaces the method, or ``None``.
    """
    if before is not None:
        return lambda app, *args: before(*args)
    method: Any = getattr(kind, attribute)
    bind = getattr(type(method), "__get__", None)
    if bind is None:  # a callable object in the class, such as middleware
        return lambda app, *args: method(*args)
    return method if type(method) is FunctionType else lambda app, *args: bind(method, app)(*args)


class _AppWrapper(_Wrapper):
    """Wraps ``wsgi_app`` to report failures in teardown functions and streams."""

    attribute = "wsgi_app"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        hooks = self._hooks()
        if hooks is None:
            return self.inner(environ, start_response)  # type: ignore[no-any-return]
        if hooks._handler is None:
            hooks.wrap_handlers()
        unit = _Unit()
        unit.over = False
        preserve = environ.get("werkzeug.debug.preserve_context")
        if preserve is not None:
            environ["werkzeug.debug.preserve_context"] = _both(hooks.retain_context, preserve)
        wrap_file = environ.get("wsgi.file_wrapper")
        if wrap_file is not None:
            environ["wsgi.file_wrapper"] = _wrap_files(wrap_file, hooks, unit)
        token = _unit.set(unit)
        is_stream = False
        try:
            body = self._method(self._app(), environ, start_response)
            is_stream = not is_in_memory(body) and _is_stream(body, wrap_file)
        except BaseException as error:
            if _passed(error, "flask.ctx", "pop"):
                hooks.report(error, "teardown")
            # StopIteration ends a WebSocket under Gunicorn; Flask has signalled that of a view.
            elif not isinstance(error, StopIteration):
                hooks.report(error, "request")
            raise
        finally:
            _unit.reset(token)
            unit.over = not is_stream
            if wrap_file is not None:  # the server checks whether the body is of this class
                environ["wsgi.file_wrapper"] = wrap_file
            if preserve is not None:  # in Flask 3.2, only the garbage collector frees the environ
                environ["werkzeug.debug.preserve_context"] = preserve
        # Even if no hook needs it: the body may end an app context, which is not a command's.
        return _BodyWrapper(body, hooks, unit) if is_stream else body


def _is_stream(body: Iterable[bytes], wrap_file: object) -> bool:
    """Tell whether a body may be wrapped: it is not a list, nor a file that the server sends.

    The server recognises such a file by the class of its own file wrapper, or because it is the
    file that was wrapped. The bodies of Werkzeug and of middleware are Python classes.
    """
    if isinstance(body, _FileWrapper) or (
        isinstance(wrap_file, type) and isinstance(body, wrap_file)
    ):
        return False
    return inspect.isgenerator(body) or bool(type(body).__flags__ & _PYTHON_CLASS)


def _wrap_files(
    wrap_file: Callable[..., Any], hooks: ExceptionHooks, unit: _Unit
) -> Callable[..., Any]:
    """Return a function that calls the server's file wrapper with a wrapped file.

    The body still has the server's own class, and a real file keeps its ``fileno``, so the server
    sends it as it would without the kit.
    """

    def wrap(file: Any, *args: Any) -> Any:
        return wrap_file(_FileWrapper(file, hooks, unit), *args)

    return wrap


class _HandlerWrapper(_Wrapper):
    """Wraps ``handle_user_exception`` to report exceptions that an error handler answers."""

    attribute = "handle_user_exception"

    def __call__(self, *args: Any) -> Any:
        # Unhandled exceptions are raised again, and Flask sends a signal for them.
        response = self.inner(*args)
        hooks = self._hooks()
        if hooks is not None:
            hooks.report(args[-1], "request", handled=True)
        return response


class _ResponseWrapper(_Wrapper):
    """Wraps ``process_response``: ``after_request`` functions, and the saving of the session."""

    attribute = "process_response"

    def __call__(self, *args: Any) -> Any:
        try:
            return self.inner(*args)
        except Exception as error:
            hooks = self._hooks()
            # Flask then processes another response, where the same failure may occur again.
            if hooks is not None and not _failed_before(error):
                hooks.report(error, "request")
            raise


class _TeardownWrapper(_Wrapper):
    """Wraps ``do_teardown_appcontext``: exceptions that end a command, and failing teardowns."""

    attribute = "do_teardown_appcontext"

    def __call__(self, *args: Any) -> Any:
        unit, hooks = _unit.get(), self._hooks()
        if (unit is None or unit.over) and hooks is not None:
            hooks.report_context_end(args[-1] if args else None)
        try:
            return self._method(self._app(), *args)
        except BaseException as error:
            if hooks is not None:
                hooks.report(error, "teardown")
            raise


class _BodyWrapper:
    """Wraps a response's body to report failures while the server reads it."""

    def __init__(self, body: Iterable[bytes], hooks: ExceptionHooks, unit: _Unit) -> None:
        self._body = body
        self._chunks: Iterator[bytes] | None = None
        self._hooks = hooks
        self._unit = unit

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._chunks is None:
            self._chunks = self._run(lambda: iter(self._body))
        return self._run(self._chunks.__next__)  # type: ignore[no-any-return]

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        try:
            if close is not None:
                self._run(close)
        finally:
            self._unit.over = True

    def _run(self, step: Callable[[], Any]) -> Any:
        return _run_step(step, self._hooks, self._unit)


class _FileWrapper:
    """Wraps a file that the server reads through its own file wrapper."""

    def __init__(self, file: Any, hooks: ExceptionHooks, unit: _Unit) -> None:
        self._file = file
        self._hooks = hooks
        self._unit = unit

    def read(self, *args: Any) -> Any:
        return _run_step(lambda: self._file.read(*args), self._hooks, self._unit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _run_step(step: Callable[[], Any], hooks: ExceptionHooks, unit: _Unit) -> Any:
    """Run one step of sending a body; report its failure."""
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


def _both(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], None]:
    def call(value: Any) -> None:
        first(value)
        second(value)

    return call


def _run_hook(app: Flask, hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a plain function that calls a hook, which may be async."""
    if not is_async(hook):
        return hook
    # Imported here: it is slow to import, and an app with async hooks has imported it already.
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    async def call(*args: Any, **details: Any) -> None:
        await hook(*args, **details)

    run: Callable[..., Any] = app.async_to_sync(call)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run

    def run_in_thread(*args: Any, **details: Any) -> None:
        """Use a thread, because an event loop cannot run inside another one."""
        with ThreadPoolExecutor(1) as pool:
            pool.submit(copy_context().run, run, *args, **details).result()

    return run_in_thread


def _ends_command() -> BaseException | None:
    """Return the exception that ends a command.

    click before 8.5 closes its context without passing the exception. The command may run inside an
    ``except`` block of its caller; the exception handled there has not passed through click's
    frames.
    """
    error = sys.exc_info()[1]
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") != "click.core":
        frame = frame.f_back
    if error is None or frame is None or frame.f_code.co_name != "close":
        return None
    passed = {frame for frame, _ in walk_tb(error.__traceback__)}
    in_click = (f for f, _ in walk_stack(frame) if f.f_globals.get("__name__") == "click.core")
    return None if passed.isdisjoint(in_click) else error


def _failed_before(error: BaseException) -> bool:
    """Tell whether ``process_response`` had already failed before this exception."""
    earlier = error.__context__
    while earlier is not None:
        if _passed(earlier, "flask.app", "process_response"):
            return True
        earlier = earlier.__context__
    return False


def _passed(error: BaseException, module: str, function: str) -> bool:
    """Tell whether an exception has passed through a function."""
    return any(
        frame.f_code.co_name == function and frame.f_globals.get("__name__") == module
        for frame, _ in walk_tb(error.__traceback__)
    )
