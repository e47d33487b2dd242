"""Fixtures for the tests of the report."""

import pytest
from flask import Flask

from flask_signals_kit import AppSignals, SignalsKit


@pytest.fixture
def shop() -> AppSignals:
    """Give the half of an app; the fixture keeps the app."""
    app = Flask("shop")
    state = SignalsKit(app).for_app(app)
    state.keep = app  # type: ignore[attr-defined]
    return state
