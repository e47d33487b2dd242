"""Fixtures: shops with durable receivers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.deliveries.durable.support import DurableShop


# pytest reads this file before all others, as its folder's name begins with "test".
@pytest.fixture
def shop(database: str) -> "Iterator[DurableShop]":
    """Give a shop on each database that can have durable receivers."""
    from tests.deliveries.durable.support import DurableShop

    shop = DurableShop(database)
    yield shop
    shop.close()
