"""Fixtures: shops with durable receivers."""

from collections.abc import Iterator

import pytest

from tests.deliveries.durable.support import DurableShop


@pytest.fixture
def shop(database: str) -> Iterator[DurableShop]:
    """Give a shop on each database."""
    shop = DurableShop(database)
    yield shop
    shop.close()
