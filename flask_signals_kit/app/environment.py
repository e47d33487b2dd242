"""The environment of an app's signals: everything that they need from Flask, as one object."""

from __future__ import annotations

import _thread
import sys
import weakref
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import blinker
from flask import Flask
from flask.globals import _cv_app

from ..compat import describe_request
from ..core.environment import Environment, Restriction
from ..core.introspection import place_of
from ..core.scopes import EVERYWHERE
from ..errors import AppContextError, AsyncReceiverError

if TYPE_CHECKING:
    from ..core.connection import LiveConnection
    from ..core.environment import PayloadCheck
    from ..records import Connection, Emission, OnError, Receiver, Source


class AppEnvironment(Environment):
    """The environment of one app's signals.

    It references the app's signals weakly. They own the namespace, which owns the signals, which
    own this object; a strong reference would close the cycle and keep a dropped app alive until the
    garbage collector runs.

    :param app_signals: the app's signals.
    :param app: a weak reference to the app.
    """

    muted: tuple[str | blinker.Signal, ...] = ()
    """Names, globs and third-party signals that call no receivers, in every app. Only the pytest
    plugin replaces it, for the length of a test."""

    def __init__(self, app_signals: Any, app: weakref.ref[Flask]) -> None:
        self._app_signals: Callable[[], Any] = weakref.ref(app_signals)
        self._app = app

    # -- when a signal computes its plan ------------------------------------------------------

    def connections(self, signal: str, receiver: Hashable = None) -> Iterable[LiveConnection]:
        """Return the connections of the app and its kit to a signal."""
        app_signals = self._app_signals()
        return () if app_signals is None else app_signals.registry.resolve(signal, receiver)

    def has_connections(self, signal: str) -> bool:
        """Tell whether the app or its kit has a connection to a signal."""
        app_signals = self._app_signals()
        return app_signals is not None and app_signals.registry.has_connections(signal)

    def on_error(self, signal: str) -> OnError | None:
        """Return the declared or configured failure policy."""
        app_signals = self._app_signals()
        return None if app_signals is None else app_signals.on_error(signal)

    def check_payload(self, signal: str) -> PayloadCheck | None:
        """Return the check of the signal's contract, if validation is on."""
        app_signals = self._app_signals()
        return None if app_signals is None else app_signals.check_payload(signal)

    def restrictions_of(self, signal: str) -> tuple[Restriction, ...]:
        """Return the blocks that limit which receivers run, or the mute of the pytest plugin."""
        app_signals = self._app_signals() if self.muted else None
        if app_signals is not None and any(
            app_signals.registry.matches(signal, muted) for muted in self.muted
        ):
            return (Restriction(scope=EVERYWHERE, reason="by the marker no_receivers"),)
        return super().restrictions_of(signal)

    # -- when receivers change ----------------------------------------------------------------

    def changed(self, signal: str, wait: bool) -> None:
        """Relay a third-party signal while the app's signal is in use."""
        app_signals = self._app_signals()
        if app_signals is not None:
            app_signals.relays.sync(signal, wait=wait)

    def collected(self, connection: Connection) -> None:
        """Record a collected receiver for the report."""
        app_signals = self._app_signals()
        if app_signals is not None:
            app_signals.collected.append(connection)

    # -- when a signal is sent ----------------------------------------------------------------

    @property
    def app(self) -> Flask | None:
        """The app, or ``None`` if it no longer exists."""
        return self._app()

    request: Callable[[], str | None] = staticmethod(describe_request)

    def report(
        self, exception: Exception, receiver: Receiver, emission: Emission, source: Source
    ) -> None:
        """Call the app's exception hooks."""
        app_signals = self._app_signals()
        if app_signals is not None:
            app_signals.hooks.report(exception, source, signal=emission.signal, receiver=receiver)

    def make_sync(self, receiver: Receiver) -> Receiver:
        """Make an async receiver callable with Flask's ``async_to_sync``."""
        app = self._app()
        if app is None:
            raise AppContextError("The app that this signal belongs to no longer exists.")

        def run(*args: Any, **kwargs: Any) -> Any:
            # asgiref has parameters of its own, and does not recognise `async __call__`.
            async def call() -> Any:
                return await receiver(*args, **kwargs)

            try:
                return app.async_to_sync(call)()
            except RuntimeError as error:
                reason = _why_no_loop(error)
                if reason is None:
                    raise
                raise AsyncReceiverError(
                    f"Receiver {place_of(receiver)} is async, and send() cannot run it here: "
                    f"{reason}."
                ) from error

        return run

    def make_sync_anywhere(self, receiver: Receiver) -> Receiver:
        """Make an async receiver callable; run it in another thread if an event loop is running.

        A commit in an async view is a plain call, so it cannot await its receivers.
        """
        run = self.make_sync(receiver)

        def run_anywhere(*args: Any, **kwargs: Any) -> Any:
            asyncio = sys.modules.get("asyncio")  # not imported for this: it is slow to import
            if asyncio is None or asyncio._get_running_loop() is None:
                return run(*args, **kwargs)
            from concurrent.futures import ThreadPoolExecutor  # asyncio has imported it

            with ThreadPoolExecutor(1) as pool:
                return pool.submit(copy_context().run, run, *args, **kwargs).result()

        return run_anywhere

    def make_async(self, receiver: Receiver) -> Receiver:
        """Return a plain receiver as it is: ``send_async`` calls it directly."""
        return receiver

    def enter(self) -> AbstractContextManager[Any] | None:
        """Return an app context to push; ``None`` if the app is current or no longer exists."""
        app, context = self._app(), _cv_app.get(None)
        if app is None or (context is not None and context.app is app):
            return None
        return app.app_context()

    @property
    def sessions(self) -> Any:
        """The app's SQLAlchemy sessions, or ``None`` if the app no longer exists."""
        app_signals = self._app_signals()
        return None if app_signals is None else app_signals.sessions

    @property
    def outbox(self) -> Any:
        """The app's outbox, or ``None`` without one."""
        app_signals = self._app_signals()
        return None if app_signals is None else app_signals.outbox


def _why_no_loop(error: RuntimeError) -> str | None:
    """Explain an error of Flask's ``async_to_sync``; return ``None`` for errors of the receiver.

    If greenlets replace threads, ``asyncio.run()`` raises as well: the event loop of another
    greenlet counts as running, and two greenlets can pass the first check at the same time.
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
    """Return the library that replaced threads with greenlets, or ``None``."""
    library = str(_thread.start_new_thread.__module__).partition(".")[0]
    return library if library in {"gevent", "eventlet"} else None
