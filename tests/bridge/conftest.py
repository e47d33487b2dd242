"""Fixtures for the tests of bridged signals."""

import pytest
from flask import Flask

from flask_signals_kit import SignalsKit
from tests.bridge.support import make_site


@pytest.fixture
def app(kit: SignalsKit) -> Flask:
    """Give an app of the kit that flashes, renders and fails."""
    return make_site(kit)
