"""An app whose exceptions are recorded, and views that fail."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, stream_with_context

from flask_signals_kit import SignalsKit


@dataclass
class Watch:
    """An app, its kit, and the exceptions that its hook received."""

    app: Flask
    kit: SignalsKit
    reported: list[tuple[str, str, bool]] = field(default_factory=list)
    """Exception, source, and whether it was handled."""
    details: list[dict[str, Any]] = field(default_factory=list)

    def hook(self, app: Flask, exception: BaseException, /, **details: Any) -> None:
        """Record an exception."""
        assert app is self.app
        words = f"{type(exception).__name__}: {exception}".removesuffix(": ")
        self.reported.append((words, details["source"], details["handled"]))
        self.details.append(details)


def watch(**options: Any) -> Watch:
    """Make an app with a hook, and with a view that fails."""
    app = Flask("shop")
    app.logger.disabled = True
    watched = Watch(app, SignalsKit(app))
    watched.kit.on_exception(**options)(watched.hook)
    app.add_url_rule("/fail", "fail", view_func=fail)
    app.add_url_rule("/fine", "fine", view_func=lambda: "fine")
    return watched


def fail(*args: Any, **kwargs: Any) -> Any:
    """Raise, whatever is given: a view, a receiver, a teardown function."""
    raise ValueError("boom")


def miss(*args: Any, **kwargs: Any) -> Any:
    """Raise something else."""
    raise KeyError("key")


BOOM = "ValueError: boom"


def run_script(script: str, *args: str) -> list[str]:
    """Run a script in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def streaming(start: int, *, with_context: bool) -> Callable[[], Response]:
    """Make a view whose body fails after some chunks."""

    def view() -> Response:
        def body() -> Iterator[str]:
            for number in range(start):
                yield str(number)
            fail()
            yield "never"

        return Response(stream_with_context(body()) if with_context else body())

    return view
