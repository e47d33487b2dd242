"""The embedded engine: threads of this process claim messages and run them."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any

import click
from flask.signals import request_started

from ..core.third_party import disconnect
from ..errors import ConfigurationError
from .outbox import Outbox
from .runs import RunResult

logger: logging.Logger = logging.getLogger("flask_signals_kit")

POLL = 1.0
"""The longest time between two looks at the outbox, in seconds."""

AHEAD = 8
"""How many messages for each thread are claimed, so that no thread waits."""


class Worker:
    """Claims messages that are due and runs them, a few at the same time.

    :param outbox: the outbox; it is referenced weakly.
    :param concurrency: the number of threads.
    :param queue: the only queue, or ``None`` for all.
    :param ended: called after each run, with its result and the seconds it took; in any thread.
    """

    def __init__(
        self,
        outbox: Outbox,
        concurrency: int = 4,
        queue: str | None = None,
        ended: Callable[[RunResult, float], None] | None = None,
    ) -> None:
        self._outbox = weakref.ref(outbox)
        self._ended = ended
        self._queue = queue
        self._concurrency = concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="signals_outbox")
        self._lock = threading.Lock()
        self._claimed: dict[int, tuple[int, float] | None] = {}
        """By message, the attempt that was claimed while its run had not ended, and when."""
        self._woken = threading.Event()
        self._stopped = False
        self._failing = False

    def submit(self, message: int, attempt: int, queue: str | None, /) -> None:
        """Run a message in one of the threads."""
        with self._lock:
            if message in self._claimed:  # its run is ending, or takes too long
                self._claimed[message] = attempt, time.perf_counter()
                return
            self._claimed[message] = None
        self._pool.submit(self._run, message, attempt)

    def _run(self, message: int, attempt: int) -> None:
        """Run a message, and run it again if it was claimed after the end of its run was stored.

        A claim before that, because the run took too long, does not respect what the run has stored
        as the time of the next attempt.
        """
        while True:
            ended = self._run_once(message, attempt)
            with self._lock:
                claimed = self._claimed[message]
                if claimed is None or claimed[1] <= ended:
                    del self._claimed[message]
                    break
                attempt, self._claimed[message] = claimed[0], None
        if len(self._claimed) <= self._concurrency:
            self._woken.set()

    def _run_once(self, message: int, attempt: int) -> float:
        """Run a message.

        :return: when its end was stored: a claim of the message after that counts. Minus infinity,
            so that every claim counts, if it may not have been stored; infinity, so that none does,
            once this worker runs nothing more.
        """
        outbox = self._outbox()
        if outbox is None or self._stopped:
            return inf
        started = time.perf_counter()
        try:
            result = outbox.run(message, attempt)
        except BaseException:
            logger.exception("The run of message %d ended; it is due again later", message)
            return -inf
        if result is None:
            return -inf
        if self._ended is not None:
            try:
                self._ended(result, time.perf_counter() - started)
            except BaseException:  # also SystemExit: else the message stayed in _claimed for ever
                logger.exception("The result of message %d could not be shown", message)
        return -inf if result.status == "too_slow" else result.ended

    def wake(self) -> None:
        """Look at the outbox now: a message was stored."""
        self._woken.set()

    def stop(self) -> None:
        """Begin nothing more; what runs is finished. A signal handler may call this."""
        self._stopped = True  # to wake the worker needs a lock, which a handler may interrupt

    def work(self, *, once: bool = False) -> None:
        """Claim and run messages until :meth:`stop`.

        :param once: return as soon as no message is due and none is running.
        """
        _call_before_exit(weakref.WeakMethod(self.stop))
        try:
            while not self._stopped:
                self._woken.clear()
                busy = bool(self._claimed)  # before the look: what ends meanwhile may be due again
                pause = self._forward()
                if pause is None or (once and pause > 0 and not busy):
                    break
                if pause > 0:
                    self._woken.wait(min(pause, POLL))
        finally:
            self._pool.shutdown()

    def _forward(self) -> float | None:
        """Claim messages; return the time to wait in seconds, or ``None`` if the app is gone."""
        outbox = self._outbox()
        if outbox is None:
            return None
        if len(self._claimed) > self._concurrency:
            return POLL  # it is woken before
        try:
            pause = outbox.seconds_to_next(self._queue)  # a claim would lock SQLite
            self._failing = False
            if pause is None or pause > 0:
                return POLL if pause is None else pause
            room = AHEAD * self._concurrency - len(self._claimed)
            outbox.forward(self, room, queue=self._queue)
        except Exception:
            if not (self._failing or self._stopped):
                logger.exception("The outbox cannot be read; it is tried again every %.0f s", POLL)
            self._failing = True
            return POLL
        return 0.0


def _call_before_exit(function: weakref.WeakMethod[Callable[[], None]]) -> None:
    """Call a function when the process ends, before the threads of executors are joined.

    What their queues hold would be run before. Functions of ``atexit`` are called afterwards.
    """

    def call() -> None:
        found = function()
        if found is not None:
            found()

    getattr(threading, "_register_atexit", atexit.register)(call)


class Embedded:
    """Starts a worker in this process, at the first request or send.

    It does not start in tests, nor in a command other than the one that serves requests.

    :param outbox: the outbox.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox: Callable[[], Outbox | None] = weakref.ref(outbox)
        self._app = weakref.ref(outbox.app)
        self._worker: Worker | None = None
        self._process: int | None = None
        self._lock = threading.Lock()
        request_started.connect(self._request_started, outbox.app)

    def wake(self) -> None:
        """Let the worker look at the outbox; start it if there is none yet."""
        if self._process == os.getpid() and self._worker is not None:
            self._worker.wake()
        elif click.get_current_context(silent=True) is None:
            self._start()

    def stop(self) -> None:
        """Stop the worker, and never start another."""
        app = self._app()
        if app is not None:
            disconnect(request_started, self._request_started, app)
        self._outbox = lambda: None
        if self._worker is not None:
            self._worker.stop()

    def _request_started(self, sender: Any, **extra: Any) -> None:
        if self._process != os.getpid():  # also in the children of a process that has started one
            self._start()

    def _start(self) -> None:
        outbox = self._outbox()
        if outbox is None or outbox.app.testing:
            return
        with self._lock:
            if self._process == os.getpid():
                return
            # In a forked process, the threads of its parent do not exist.
            self._worker, self._process = Worker(outbox), os.getpid()
            thread = threading.Thread(target=self._worker.work, name="signals_outbox", daemon=True)
            thread.start()


def open_outbox(app_signals: Any) -> Outbox:
    """Return a new outbox for an app.

    :raises ConfigurationError: if it is not known which metadata the table belongs to.
    """
    app, registry = app_signals.app, app_signals.registry
    found = next((each.outbox for each in registry.chain if each.outbox is not None), None)
    if found is None:
        database = app.extensions.get("sqlalchemy")
        if not hasattr(database, "metadata"):  # Flask-SQLAlchemy-Lite has none
            raise ConfigurationError(
                f"App {app.name!r} has a durable receiver, but the metadata of its tables is not "
                "known: call kit.use_outbox(Base.metadata) before kit.init_app(app)."
            )
        found = database.metadata, None
    outbox = Outbox(app_signals, *found)
    if app_signals.settings.engine == "embedded":
        outbox.embedded = Embedded(outbox)
    return outbox
