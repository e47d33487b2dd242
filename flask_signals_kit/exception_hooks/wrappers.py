"""The wrappers of an app's methods, by which failures are found that Flask sends no signal for."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from itertools import count
from traceback import walk_tb
from types import FunctionType
from typing import TYPE_CHECKING, Any

from flask import Flask

from ..compat import is_in_memory

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from .hooks import ExceptionHooks

_numbers = count(1)

_numbering = threading.RLock()  # reentrant: the garbage collector may need a number at any point

_PYTHON_CLASS = 1 << 9
"""CPython's flag of a type that is allocated on the heap."""


class Unit:
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


current_unit: ContextVar[Unit | None] = ContextVar("signals_kit_unit", default=None)
"""The unit of the request that this context was created in."""


class Wrapper:
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


class AppWrapper(Wrapper):
    """Wraps ``wsgi_app`` to report failures in teardown functions and streams."""

    attribute = "wsgi_app"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        hooks = self._hooks()
        if hooks is None:
            return self.inner(environ, start_response)  # type: ignore[no-any-return]
        if HandlerWrapper not in hooks.wrappers:
            # By now, every extension has been initialised. If one of them replaced the method, its
            # version is inside the wrapper, in any order of initialisation.
            hooks.wrap(HandlerWrapper)
        unit = Unit()
        unit.over = False
        preserve = environ.get("werkzeug.debug.preserve_context")
        if preserve is not None:
            environ["werkzeug.debug.preserve_context"] = _both(hooks.retain_context, preserve)
        wrap_file = environ.get("wsgi.file_wrapper")
        if wrap_file is not None:
            environ["wsgi.file_wrapper"] = _wrap_files(wrap_file, hooks, unit)
        token = current_unit.set(unit)
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
            current_unit.reset(token)
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
    wrap_file: Callable[..., Any], hooks: ExceptionHooks, unit: Unit
) -> Callable[..., Any]:
    """Return a function that calls the server's file wrapper with a wrapped file.

    The body still has the server's own class, and a real file keeps its ``fileno``, so the server
    sends it as it would without the kit.
    """

    def wrap(file: Any, *args: Any) -> Any:
        return wrap_file(_FileWrapper(file, hooks, unit), *args)

    return wrap


class HandlerWrapper(Wrapper):
    """Wraps ``handle_user_exception`` to report exceptions that an error handler answers."""

    attribute = "handle_user_exception"

    def __call__(self, *args: Any) -> Any:
        """Call the error handler of an exception."""
        # Unhandled exceptions are raised again, and Flask sends a signal for them.
        response = self.inner(*args)
        hooks = self._hooks()
        if hooks is not None:
            hooks.report(args[-1], "request", handled=True)
        return response


class ResponseWrapper(Wrapper):
    """Wraps ``process_response``: ``after_request`` functions, and the saving of the session."""

    attribute = "process_response"

    def __call__(self, *args: Any) -> Any:
        """Process a response."""
        try:
            return self.inner(*args)
        except Exception as error:
            hooks = self._hooks()
            # Flask then processes another response, where the same failure may occur again.
            if hooks is not None and not _failed_before(error):
                hooks.report(error, "request")
            raise


class TeardownWrapper(Wrapper):
    """Wraps ``do_teardown_appcontext``: exceptions that end a command, and failing teardowns."""

    attribute = "do_teardown_appcontext"

    def __call__(self, *args: Any) -> Any:
        """End an app context."""
        unit = current_unit.get()
        if (unit is None or unit.over) and (hooks := self._hooks()) is not None:
            hooks.report_context_end(args[-1] if args else None)
        try:
            return self._method(self._app(), *args)
        except BaseException as error:
            if (hooks := self._hooks()) is not None:
                hooks.report(error, "teardown")
            raise


class _BodyWrapper:
    """Wraps a response's body to report failures while the server reads it."""

    def __init__(self, body: Iterable[bytes], hooks: ExceptionHooks, unit: Unit) -> None:
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

    def __init__(self, file: Any, hooks: ExceptionHooks, unit: Unit) -> None:
        self._file = file
        self._hooks = hooks
        self._unit = unit

    def read(self, *args: Any) -> Any:
        return _run_step(lambda: self._file.read(*args), self._hooks, self._unit)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _run_step(step: Callable[[], Any], hooks: ExceptionHooks, unit: Unit) -> Any:
    """Run one step of sending a body; report its failure."""
    token = current_unit.set(unit)
    try:
        return step()
    except StopIteration:
        raise
    except Exception as error:
        hooks.report(error, "stream", unit=unit)
        raise
    finally:
        current_unit.reset(token)


def _both(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], None]:
    def call(value: Any) -> None:
        first(value)
        second(value)

    return call


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
