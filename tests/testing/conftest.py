"""Fixtures: shops with durable receivers."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.deliveries.durable.support import DurableShop


@pytest.fixture
def shop(durable_shop: "DurableShop") -> "DurableShop":
    """Give a shop on each database."""
    return durable_shop
