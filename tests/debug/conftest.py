"""Fixtures for the tests of the report."""

import pytest
from flask import Flask

from flask_signals_kit import AppSignals, SignalsKit


@pytest.fixture
def shop() -> AppSignals:
    """Return an app's signals; the fixture keeps the app alive."""
    app = Flask("shop")
    app_signals = SignalsKit(app).for_app(app)
    app_signals.keep = app  # type: ignore[attr-defined]
    return app_signals
