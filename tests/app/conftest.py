"""Fixtures for the tests of an app's signals."""

from collections.abc import Iterator

import pytest
from flask import Flask

from flask_signals_kit import SignalsKit
from tests.support import make_app


@pytest.fixture
def app(kit: SignalsKit) -> Flask:
    """Give an app of the kit that is tested, so that payloads are checked."""
    return make_app(kit, TESTING=True)


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    """Push an app context."""
    with app.app_context():
        yield
