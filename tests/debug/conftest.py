"""Fixtures for the tests of the report."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from flask import Flask

from flask_signals_kit import AppSignals, SignalsKit

if TYPE_CHECKING:
    from tests.deliveries.durable.support import DurableShop


@pytest.fixture
def shop() -> AppSignals:
    """Return an app's signals; the fixture keeps the app alive."""
    app = Flask("shop")
    app_signals = SignalsKit(app).for_app(app)
    app_signals.keep = app  # type: ignore[attr-defined]
    return app_signals


@pytest.fixture
def durable_shop(database: str) -> "Iterator[DurableShop]":
    """Give a shop on each database that can have durable receivers."""
    from tests.deliveries.durable.support import DurableShop

    shop = DurableShop(database)
    yield shop
    shop.close()
