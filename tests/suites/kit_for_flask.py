"""A pytest plugin that gives every app of Flask's own tests a kit with receivers on all signals."""

from collections import Counter
from typing import Any

import pytest
from _pytest import monkeypatch
from flask import Flask

from flask_signals_kit import SignalsKit
from flask_signals_kit.bridge import FLASK_SIGNALS

FAILING = {
    "test_bad_environ_raises_bad_request": "fails without the kit, too, since Werkzeug 3.1.9",
}
"""Tests that may fail, and why."""

received: Counter[str] = Counter()
init_flask = Flask.__init__

if not hasattr(monkeypatch, "notset"):  # Flask 3.1's tests use the name that pytest 9.1 changed
    monkeypatch.notset = monkeypatch.NOTSET  # type: ignore[attr-defined]


def connect(kit: SignalsKit, name: str) -> None:
    """Connect a receiver that counts."""

    @kit.on(name)
    def receive(app: Flask, **payload: Any) -> None:
        received[name] += 1


def init_with_kit(app: Flask, *args: Any, **options: Any) -> None:
    """Initialise the app, and a kit with it."""
    init_flask(app, *args, **options)
    kit = SignalsKit(app)
    for name in FLASK_SIGNALS:
        connect(kit, name)


Flask.__init__ = init_with_kit  # type: ignore[assignment,method-assign]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that may fail."""
    for item in items:
        if item.name in FAILING:
            item.add_marker(pytest.mark.xfail(reason=FAILING[item.name], strict=False))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many signals reached a receiver."""
    count = f"{len(received)} of {len(FLASK_SIGNALS)}"
    terminalreporter.write_line(f"{count} signals were received")
