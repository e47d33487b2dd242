"""The exception hooks of one app: each is called once for a failure that leaves the app's code.

Flask sends a signal only for unhandled exceptions in a request. The others are found in this way:

- ``handled`` exceptions, and failures while another failure is answered: by wrappers of
  ``handle_user_exception`` and ``process_response``;
- ``teardown``: by wrappers of ``wsgi_app`` and ``do_teardown_appcontext``;
- ``stream``: by a wrapper of the response's iterable, or of the file in it;
- ``cli``: by the app context that ends outside of a request;
- ``receiver`` and ``delivery``: the kit itself reports them.

Nothing is installed in an app without hooks.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from contextvars import ContextVar, copy_context
from operator import attrgetter
from traceback import walk_stack, walk_tb
from types import FrameType
from typing import Any

import click
from flask import Flask
from flask.globals import _cv_app
from flask.signals import got_request_exception

from ..compat import teardown_failures
from ..core.introspection import is_async, place_of
from ..core.third_party import disconnect
from ..records import Receiver, Source
from .registration import HookRegistration
from .wrappers import (
    AppWrapper,
    ResponseWrapper,
    TeardownWrapper,
    Unit,
    Wrapper,
    current_unit,
)

logger: logging.Logger = logging.getLogger("flask_signals_kit")

_MARKS = "_signals_kit_reported"
"""The key of an exception's marks in its ``__dict__``. The value is a string, so that any error
handler can process it."""

_MAX_MARKS = 256
"""The most marks that an exception carries if it is raised repeatedly."""

_attributes_of: Callable[[BaseException], dict[str, Any]] = vars(BaseException)["__dict__"].__get__
"""Returns the real ``__dict__``, which an exception's class may hide behind a property."""

_running: ContextVar[frozenset[int]] = ContextVar("signals_kit_running", default=frozenset())
"""The hooks that are running in this context, by ``id``."""


class ExceptionHooks:
    """The exception hooks of one app.

    :param app: the app; held weakly.
    """

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)
        self._hooks: list[HookRegistration] = []
        self.wrappers: dict[type[Wrapper], Wrapper] = {}
        """The wrappers of the app's methods, by their class."""
        self._retained: weakref.WeakSet[Any] = weakref.WeakSet()
        self._contexts: weakref.WeakKeyDictionary[Any, Unit] = weakref.WeakKeyDictionary()
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
            app = self._app()
            if app is not None and not self.wrappers:
                self.wrap(AppWrapper)
                self.wrap(TeardownWrapper)
                got_request_exception.connect(self._in_request, app)

    def replace(self, registrations: Iterable[HookRegistration]) -> None:
        """Have exactly these hooks, in the order in which they were registered."""
        with self._lock:
            self._hooks = []
            for registration in sorted(registrations, key=attrgetter("number")):
                self.add(registration)

    def wrap(self, kind: type[Wrapper]) -> None:
        """Replace a method of the app, unless that has been done or the hooks are closed."""
        app = self._app()
        with self._lock:
            if app is not None and kind not in self.wrappers and not self._closed:
                self.wrappers[kind] = kind(app, self)

    def close(self) -> None:
        """Remove everything that was installed in the app, permanently."""
        with self._lock:
            self._closed = True
            app = self._app()
            if app is not None and self.wrappers:
                disconnect(got_request_exception, self._in_request, app)
                for wrapper in self.wrappers.values():
                    wrapper.remove(app)
            self.wrappers = {}
            self._hooks = []

    # -- sources ------------------------------------------------------------------------------

    def _in_request(self, sender: Flask, exception: BaseException, **extra: Any) -> None:
        # Normally Flask sends a signal for exceptions in `process_response`. While it answers a
        # failure, it only logs them.
        self.wrap(ResponseWrapper)
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
        unit: Unit | None = None,
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

    def _current_unit(self) -> Unit | None:
        """Return the unit of the request, or of the command or app context outside requests.

        A command may push further app contexts, and its exception ends them one after the other.
        """
        unit = current_unit.get()
        if unit is not None and not unit.over:  # a job may have inherited one that is over
            return unit
        command = click.get_current_context(silent=True)
        owner = _cv_app.get(None) if command is None else command.find_root()
        return None if owner is None else self._contexts.setdefault(owner, Unit())

    def _is_first_report(
        self, exception: Exception, registration: HookRegistration, unit: Unit | None
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
