"""Helpers for the tests of several modules."""

import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any, TypeVar

import blinker
import flask.globals
import flask.signals
import pytest
from flask import Flask
from werkzeug.serving import make_server

from flask_signals_kit import Call, Signal, SignalsKit
from flask_signals_kit.core.environment import Environment
from flask_signals_kit.core.journal import Journal, Tally
from flask_signals_kit.records import OnError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Locator

T = TypeVar("T")

MERGED_CONTEXTS = not hasattr(flask.globals, "_cv_request")
"""Whether this is Flask 3.2 or newer, in which the request's context is the app's."""

ON_CI = os.environ.get("CI") == "true"


def require_service(found: T | None, missing: str) -> T:
    """Return what was found; without it skip the test, on CI fail it.

    :param found: what the test needs (a path, a client), or ``None`` if it is not there.
    :param missing: what is missing and how to get it; shown as the reason.
    """
    if found is None:
        if ON_CI:
            pytest.fail(f"CI must have it: {missing}", pytrace=False)
        pytest.skip(missing)
    return found


def raises_in_teardown(kind: type[Exception]) -> pytest.RaisesGroup[Exception]:
    """Expect an exception of a teardown function; Flask 3.2 raises it in groups."""
    return pytest.RaisesGroup(kind, allow_unwrapped=True, flatten_subgroups=True)


def free_port() -> int:
    """Return a port of the loopback that is free."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def follow(link: "Locator") -> None:
    """Click a link or a button, and wait until the page that it leads to is complete."""
    with link.page.expect_navigation():
        link.click()


@contextmanager
def serving(app: "WSGIApplication") -> Iterator[str]:
    """Serve a WSGI app from a thread, on a free port of the loopback; the value is its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever, name="test server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class FunctionsEnvironment(Environment):
    """An environment made of the functions that :func:`make_signal` accepts."""

    def __init__(self, functions: dict[str, Any]) -> None:
        self._functions = functions

    def _call(self, name: str, *args: Any) -> Any:
        function = self._functions.get(name)
        return None if function is None else function(*args)

    def on_error(self, signal: str) -> Any:
        return self._functions.get("on_error")

    def check_payload(self, signal: str) -> Any:
        return self._functions.get("check_payload")

    def changed(self, signal: str, wait: bool) -> None:
        self._call("on_change")

    def collected(self, connection: Any) -> None:
        self._call("on_collected", connection)

    def report(self, *args: Any) -> None:
        self._call("on_failure", *args)

    def make_sync(self, receiver: Any) -> Any:
        wrapper = self._functions.get("async_wrapper")
        return super().make_sync(receiver) if wrapper is None else wrapper(receiver)

    def make_async(self, receiver: Any) -> Any:
        wrapper = self._functions.get("sync_wrapper")
        return super().make_async(receiver) if wrapper is None else wrapper(receiver)

    @property
    def app(self) -> Any:
        return self._call("app")


class JournalEnvironment(Environment):
    """An environment without an app whose signals have a journal."""

    def __init__(self, size: int = 10) -> None:
        self.journal: Journal = Journal(size)


def make_signal(name: str, *, on_error: OnError = "raise", **functions: Any) -> Signal:
    """Make a signal whose environment consists of these functions.

    They are ``check_payload(payload)``, ``on_change()``, ``on_collected(connection)``,
    ``on_failure(exception, receiver, emission, source)``, ``async_wrapper(receiver)``,
    ``sync_wrapper(receiver)`` and ``app()``; ``None`` stands for the default.
    """
    return Signal(name, on_error=on_error, environment=FunctionsEnvironment(functions))


def tally_of(signal: Signal, index: int = 0) -> Tally:
    """Return the counts of one of a signal's connections."""
    order = signal.live_connections[index].order
    return signal.context.tallies.get(order) or Tally()


FLASK_SIGNALS: list[blinker.Signal] = [
    getattr(flask.signals, name)
    for name in (
        "appcontext_popped",
        "appcontext_pushed",
        "appcontext_tearing_down",
        "before_render_template",
        "got_request_exception",
        "message_flashed",
        "request_finished",
        "request_started",
        "request_tearing_down",
        "template_rendered",
    )
]


def make_app(kit: SignalsKit, name: str = "shop", **config: Any) -> Flask:
    """Make an app of the kit with some settings."""
    app = Flask(name)
    app.config.update(config)
    kit.init_app(app)
    return app


def results(kit: SignalsKit, app: Flask, name: str = "account_funded", sender: Any = "acme") -> Any:
    """Send in an app and return what the receivers returned."""
    with app.app_context():
        return [result for _, result in kit.send(name, sender)]


def left_in_flask() -> dict[str, set[Any]]:
    """Return the receivers of Flask's signals, and blinker's indexes of them."""
    return {
        f"{signal.name}.{book}": {key for key in getattr(signal, book) if key != 0}  # type: ignore[attr-defined]
        for signal in FLASK_SIGNALS
        for book in ("receivers", "_by_receiver", "_weak_senders", "_by_sender")
    }


def connected_to_flask() -> dict[str, set[Any]]:
    """Return the receivers of Flask's signals, after a garbage collection."""
    gc.collect()
    return {name: keys for name, keys in left_in_flask().items() if name.endswith(".receivers")}


def write_down(sender: Any, **extra: Any) -> str:
    """Be a receiver."""
    return "written down"


def send_mail(sender: Any, **extra: Any) -> str:
    """Be a second receiver."""
    return "mailed"


def read_back(sender: Any, **extra: Any) -> str:
    """Be a third receiver."""
    return "read"


def campaign_created(sender: object, *, campaign: object) -> None:
    """Be a stub for `declare`."""


class Later:
    """A delivery that keeps its calls, and runs them on request."""

    name = "later"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def deliver(self, call: Call, /) -> None:
        """Keep a call."""
        self.calls.append(call)

    def run(self) -> None:
        """Run the calls kept so far."""
        calls, self.calls = self.calls, []
        for call in calls:
            call.run_contained()


def wait_until(
    condition: Callable[[], Any],
    what: str = "what the test waits for",
    log: Callable[[], str] = str,
) -> None:
    """Return when a condition holds; fail after a minute, with a log."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"Not within a minute: {what}\n{log()}"
        time.sleep(0.02)


def together(*work: Callable[[], Any]) -> list[Any]:
    """Run these concurrently, raise what they raise, with a time limit."""
    start = Barrier(len(work))

    def begin(function: Callable[[], Any]) -> Any:
        start.wait(10)
        return function()

    with ThreadPoolExecutor(len(work)) as pool:
        return [done.result(timeout=60) for done in [pool.submit(begin, each) for each in work]]
