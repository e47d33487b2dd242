"""Each exception is reported once per request or command."""

import contextlib
import logging
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import (
    Flask,
)

from flask_signals_kit import SignalsKit
from tests.exception_hooks.support import BOOM, Watch, fail


def test_preserved_contexts_tell_each_exception_once(watched: Watch) -> None:
    """`with app.test_client()` keeps contexts beyond their request; their end is no new failure."""
    for testing in (False, True):
        watched.app.testing = testing
        with watched.app.test_client() as client:
            for _ in range(2):
                try:
                    client.get("/fail")
                except ValueError:
                    assert testing
            client.get("/fine")
    assert watched.told == [(BOOM, "request", False)] * 4


def test_a_failing_test_around_a_preserved_context_is_not_told(watched: Watch) -> None:
    """The assertion of a test is not the app's failure."""

    def failing_test() -> None:
        with watched.app.test_client() as client:
            assert client.get("/fine").status_code == 404

    with pytest.raises(AssertionError):
        failing_test()
    assert watched.told == []


def test_an_exception_object_that_is_raised_in_each_request_is_told_in_each(
    watched: Watch,
) -> None:
    """Once a request, not once for ever."""
    error = ValueError("always the same")

    @watched.app.get("/same")
    def view() -> Any:
        raise error

    client = watched.app.test_client()
    for _ in range(3):
        client.get("/same")
    assert watched.told == [("ValueError: always the same", "request", False)] * 3


def test_equal_exceptions_are_not_taken_for_one(watched: Watch) -> None:
    """Two receivers raise two exceptions of one type with one text: two."""
    watched.kit.on("account_funded")(lambda sender, **extra: fail())
    watched.kit.on("account_funded")(lambda sender, **extra: fail())
    with watched.app.app_context():
        watched.kit.send_robust("account_funded")
    assert len(watched.told) == 2


def test_a_worker_that_fails_for_ever_takes_no_memory(watched: Watch) -> None:
    """What a hook knows is noted on the exception, and goes with it."""
    watched.kit.signal("account_funded", on_error="isolate")
    watched.kit.on("account_funded")(fail)
    watched.kit.on_exception(lambda app, exception, **extra: None)
    grown: list[int] = []

    @watched.app.cli.command("work")
    def work() -> None:
        for number in range(600):
            if number in {100, 599}:
                grown.append(tracemalloc.get_traced_memory()[0])
            with watched.app.app_context():
                watched.kit.send("account_funded")
            watched.told.clear()
            watched.details.clear()

    kits_log = logging.getLogger("flask_signals_kit")
    kits_log.disabled = True
    tracemalloc.start()
    try:
        watched.app.test_cli_runner().invoke(args=["work"])
    finally:
        tracemalloc.stop()
        kits_log.disabled = False
    assert grown[1] - grown[0] < 20_000


def test_an_exception_object_that_is_raised_for_ever_stays_small(watched: Watch) -> None:
    """It carries the last notes only, and is still told once in each request."""
    error = ValueError("always the same")

    @watched.app.get("/same")
    def view() -> Any:
        raise error.with_traceback(None)

    client = watched.app.test_client()
    for _ in range(300):
        client.get("/same")
    assert len(watched.told) == 300
    assert len(pickle.dumps(error)) < 10_000


FORKS = """
import os, pickle, sys
from flask import Flask
from flask_signals_kit import SignalsKit

app = Flask("shop")
kit = SignalsKit(app)

@kit.on_exception
def report(app, exception, **extra):
    print("told", "child" if child == 0 else "parent", flush=True)

def work(error):
    try:
        with app.app_context():
            raise error
    except ValueError as raised:
        return raised

reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, pickle.dumps(work(ValueError("boom"))))
    os._exit(0)
os.waitpid(child, 0)
work(pickle.loads(os.read(reader, 65536)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_an_exception_that_a_fork_was_told_of_is_news_to_its_parent() -> None:
    """It comes pickled, notes and all, and what is noted is of the other process."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.splitlines() == ["told child", "told parent"]


class HidingError(Exception):
    """An exception without a usable ``__dict__``."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no attributes")


class CopyingError(Exception):
    """An exception whose ``__dict__`` keeps no notes."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return {}


@pytest.mark.parametrize("kind", [HidingError, CopyingError])
def test_an_exception_that_hides_its_attributes_is_told_once(
    watched: Watch, kind: type[Exception]
) -> None:
    """And goes up as it was, not replaced by what its property raises."""

    def hide() -> Any:
        raise kind

    watched.app.testing = True
    watched.app.add_url_rule("/hide", "hide", view_func=hide)
    with pytest.raises(kind):
        watched.app.test_client().get("/hide")
    assert watched.told == [(kind.__name__, "request", False)]


def test_many_requests_at_once_are_told_once_each(watched: Watch) -> None:
    """Eight threads, fifty failures each."""

    def serve() -> None:
        for _ in range(50):
            watched.app.test_client().get("/fail")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(serve) for _ in range(8)]:
            done.result(60)
    assert watched.told == [(BOOM, "request", False)] * 400


def test_one_exception_object_in_many_threads_is_told_once_in_each_request() -> None:
    """A module's only exception object is raised by all of them at once."""
    boom = ValueError("boom")
    kit = SignalsKit()
    told: list[BaseException] = []
    kit.on_exception(lambda app, exception, **extra: told.append(exception))
    app = Flask("shop")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    kit.init_app(app)

    @app.get("/")
    def index() -> str:
        raise boom

    def visit() -> None:
        for _ in range(25):
            with contextlib.suppress(ValueError):
                app.test_client().get("/")

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(told) == 200


def test_what_the_kit_notes_on_an_exception_is_fit_for_json() -> None:
    """An error handler may print the attributes of an exception."""
    kit = SignalsKit()
    kit.on_exception(lambda app, exception, **extra: None)
    app = Flask("shop")
    kit.init_app(app)

    @app.get("/")
    def index() -> str:
        raise ValueError("boom")

    @app.errorhandler(500)
    def explain(error: Any) -> Any:
        return vars(error.original_exception)

    assert app.test_client().get("/").is_json
