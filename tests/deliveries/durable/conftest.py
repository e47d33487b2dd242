"""Fixtures: shops with durable receivers."""

from collections.abc import Iterator

import pytest

from tests.deliveries.durable.support import DurableShop
from tests.deliveries.support import EXTENSIONS


@pytest.fixture
def shop(durable_shop: DurableShop) -> DurableShop:
    """Give a shop on each database."""
    return durable_shop


@pytest.fixture(params=EXTENSIONS)
def any_shop(request: pytest.FixtureRequest, database: str) -> Iterator[DurableShop]:
    """Give a shop on each database, with its session from each extension."""
    shop = DurableShop(database, request.param)
    yield shop
    shop.close()
