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


def test_preserved_contexts_report_each_exception_once(watched: Watch) -> None:
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
    assert watched.reported == [(BOOM, "request", False)] * 4


def test_failing_assertion_around_a_preserved_context_is_not_reported(watched: Watch) -> None:
    """It is not the app's failure."""

    def failing_test() -> None:
        with watched.app.test_client() as client:
            assert client.get("/fine").status_code == 404

    with pytest.raises(AssertionError):
        failing_test()
    assert watched.reported == []


def test_exception_object_raised_in_every_request_is_reported_in_each(
    watched: Watch,
) -> None:
    """Once for each request, not once for ever."""
    error = ValueError("always the same")

    @watched.app.get("/same")
    def view() -> Any:
        raise error

    client = watched.app.test_client()
    for _ in range(3):
        client.get("/same")
    assert watched.reported == [("ValueError: always the same", "request", False)] * 3


def test_equal_exceptions_are_reported_separately(watched: Watch) -> None:
    """Two receivers raise two exceptions of one type with one text: two."""
    watched.kit.on("account_funded")(lambda sender, **extra: fail())
    watched.kit.on("account_funded")(lambda sender, **extra: fail())
    with watched.app.app_context():
        watched.kit.send_robust("account_funded")
    assert len(watched.reported) == 2


def test_repeated_failures_do_not_grow_memory(watched: Watch) -> None:
    """The record is stored on the exception, and freed with it."""
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
            watched.reported.clear()
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


def test_exception_object_raised_repeatedly_keeps_few_notes(watched: Watch) -> None:
    """It has the last notes only, and is still reported once in each request."""
    error = ValueError("always the same")

    @watched.app.get("/same")
    def view() -> Any:
        raise error.with_traceback(None)

    client = watched.app.test_client()
    for _ in range(300):
        client.get("/same")
    assert len(watched.reported) == 300
    assert len(pickle.dumps(error)) < 10_000


FORKS = """
import os, pickle, sys
from flask import Flask
from flask_signals_kit import SignalsKit

app = Flask("shop")
kit = SignalsKit(app)

@kit.on_exception
def report(app, exception, **extra):
    print("reported", "child" if child == 0 else "parent", flush=True)

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
def test_exception_reported_in_a_fork_is_reported_in_its_parent() -> None:
    """It arrives pickled, with its notes, which belong to the other process."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.splitlines() == ["reported child", "reported parent"]


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
def test_exception_without_usable_attributes_is_reported_once(
    watched: Watch, kind: type[Exception]
) -> None:
    """It propagates unchanged, not replaced by what its property raises."""

    def hide() -> Any:
        raise kind

    watched.app.testing = True
    watched.app.add_url_rule("/hide", "hide", view_func=hide)
    with pytest.raises(kind):
        watched.app.test_client().get("/hide")
    assert watched.reported == [(kind.__name__, "request", False)]


def test_concurrent_failures_are_reported_once_each(watched: Watch) -> None:
    """Eight threads, fifty failures each."""

    def serve() -> None:
        for _ in range(50):
            watched.app.test_client().get("/fail")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(serve) for _ in range(8)]:
            done.result(60)
    assert watched.reported == [(BOOM, "request", False)] * 400


def test_exception_object_shared_by_threads_is_reported_once_per_request() -> None:
    """A module's only exception object is raised by all of them at once."""
    boom = ValueError("boom")
    kit = SignalsKit()
    reported: list[BaseException] = []
    kit.on_exception(lambda app, exception, **extra: reported.append(exception))
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
    assert len(reported) == 200


def test_notes_on_an_exception_are_json_serialisable() -> None:
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
