"""Failures of commands, scripts and threads."""

import os
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import click
import pytest
from flask import (
    copy_current_request_context,
)

from tests.exception_hooks.support import BOOM, Watch, fail


def test_exception_in_a_command_is_reported(watched: Watch) -> None:
    """Once, as `cli`, and it propagates."""
    watched.app.cli.command("fail")(fail)
    result = watched.app.test_cli_runner().invoke(args=["fail"])
    assert isinstance(result.exception, ValueError)
    assert watched.reported == [(BOOM, "cli", False)]


def test_exception_that_ends_several_contexts_of_a_command_is_reported_once(watched: Watch) -> None:
    """One exception ends them all."""

    @watched.app.cli.command("fail")
    def command() -> None:
        with watched.app.app_context(), watched.app.test_request_context():
            fail()

    watched.app.test_cli_runner().invoke(args=["fail"])
    assert watched.reported == [(BOOM, "cli", False)]


def test_exception_handled_by_a_command_is_not_reported(watched: Watch) -> None:
    """Not even if an app context begins and ends while it is being handled."""

    @watched.app.cli.command("careful")
    def command() -> None:
        try:
            fail()
        except ValueError:
            with watched.app.app_context():
                click.echo("handled")

    result = watched.app.test_cli_runner().invoke(args=["careful"])
    assert (result.exit_code, result.output) == (0, "handled\n")
    assert watched.reported == []


ENDINGS: list[tuple[BaseException, int]] = [
    (click.UsageError("wrong"), 2),
    (click.BadParameter("wrong"), 2),
    (click.FileError("file"), 1),
    (click.ClickException("sorry"), 1),
    (click.Abort(), 1),
    (click.exceptions.Exit(4), 4),
    (SystemExit(5), 5),
]


@pytest.mark.parametrize(("ending", "code"), ENDINGS, ids=lambda value: type(value).__name__)
def test_click_exceptions_are_ignored(watched: Watch, ending: BaseException, code: int) -> None:
    """They end a command on purpose."""

    @watched.app.cli.command("end")
    def command() -> None:
        raise ending

    assert watched.app.test_cli_runner().invoke(args=["end"]).exit_code == code
    assert watched.reported == []


def test_contained_failure_in_a_command_is_reported_once(watched: Watch) -> None:
    """With source `receiver`; if raised afterwards, it is not reported again."""
    watched.kit.on("account_funded")(fail)

    @watched.app.cli.command("fund")
    def command() -> None:
        [failed] = watched.kit.send_robust("account_funded")
        raise failed.exception  # type: ignore[union-attr]

    watched.app.test_cli_runner().invoke(args=["fund"])
    assert watched.reported == [(BOOM, "receiver", False)]


def test_exception_in_a_script_is_reported_as_cli(watched: Watch) -> None:
    """`with app.app_context():` in a script or a worker, ended by an exception."""
    with pytest.raises(ValueError, match="boom"), watched.app.app_context():
        fail()
    assert watched.reported == [(BOOM, "cli", False)]


def test_exception_in_an_app_context_inside_a_request_is_reported_as_request(
    watched: Watch,
) -> None:
    """Once, if a view pushes a context and fails in it."""

    @watched.app.get("/context")
    def view() -> Any:
        with watched.app.app_context():
            fail()

    watched.app.test_client().get("/context")
    assert watched.reported == [(BOOM, "request", False)]


def test_exception_in_a_thread_with_the_request_context_is_reported(watched: Watch) -> None:
    """`copy_current_request_context`: Flask itself does not report it."""

    @watched.app.get("/thread")
    def view() -> str:
        with ThreadPoolExecutor(1) as pool:
            error = pool.submit(copy_current_request_context(fail)).exception(10)
        return type(error).__name__

    assert watched.app.test_client().get("/thread").text == "ValueError"
    assert [words for words, _, _ in watched.reported] == [BOOM]


def test_exception_in_a_job_that_outlives_its_request_is_reported(watched: Watch) -> None:
    """It has the request's context variables, but the request is over."""
    ended = threading.Event()
    jobs: list[Future[None]] = []

    def job() -> None:
        assert ended.wait(10)
        with watched.app.app_context():
            fail()

    with ThreadPoolExecutor(1) as pool:

        @watched.app.get("/begin")
        def view() -> str:
            jobs.append(pool.submit(copy_context().run, job))
            return "begun"

        watched.app.test_client().get("/begin").close()
        ended.set()
        assert isinstance(jobs[0].exception(10), ValueError)
    assert watched.reported == [(BOOM, "cli", False)]


def test_request_inside_a_command_and_the_command_report_separately(watched: Watch) -> None:
    """Each reports what leaves it."""
    watched.app.testing = True
    watched.app.cli.command("visit")(lambda: watched.app.test_client().get("/fail"))
    watched.app.test_cli_runner().invoke(args=["visit"])
    assert watched.reported == [(BOOM, "request", False), (BOOM, "cli", False)]


SHOP = """
import sys
from flask import Flask
from flask_signals_kit import SignalsKit

kit = SignalsKit()

@kit.on_exception
def report(app, exception, *, source, handled, **extra):
    print(f"reported {type(exception).__name__} by {source} in {app.name}", file=sys.stderr)

def create_app():
    app = Flask("shop")
    kit.init_app(app)

    @app.cli.command("fail")
    def fail():
        raise ValueError("boom")

    @app.cli.command("fine")
    def fine():
        pass

    @app.cli.command("leave")
    def leave():
        sys.exit(7)

    return app
"""


@pytest.mark.parametrize(
    ("command", "code", "reported"),
    [
        (["fail"], 1, ["reported ValueError by cli in shop"]),
        (["fine"], 0, []),
        (["leave"], 7, []),
        (["fine", "--wrong"], 2, []),
        (["routes"], 0, []),
    ],
)
def test_hooks_are_called_for_a_real_flask_command(
    tmp_path: Path, command: list[str], code: int, reported: list[str]
) -> None:
    """In a process of its own; exit code and traceback are unchanged."""
    (tmp_path / "shop.py").write_text(SHOP)
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shop", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert done.returncode == code, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("reported")] == reported
    assert ("ValueError: boom" in done.stderr) == (code == 1)
