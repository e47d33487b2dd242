"""Fixtures: shops on every database and with every extension."""

from collections.abc import Iterator

import pytest

from tests.deliveries.support import EXTENSIONS, Shop


@pytest.fixture(params=EXTENSIONS)
def any_shop(request: pytest.FixtureRequest, database: str) -> Iterator[Shop]:
    """Give a shop on each database, with its session from each extension."""
    shop = Shop(database, request.param)
    yield shop
    shop.close()


@pytest.fixture
def shop(database: str) -> Iterator[Shop]:
    """Give a shop on each database."""
    shop = Shop(database)
    yield shop
    shop.close()


@pytest.fixture
def sqlite_shop(sqlite: str) -> Iterator[Shop]:
    """Give a shop on an SQLite file."""
    shop = Shop(sqlite)
    yield shop
    shop.close()
