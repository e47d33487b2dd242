"""Fixtures: shops whose durable receivers run on Celery."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contrib.support import CeleryShop
from tests.redis_server import RedisServer


@pytest.fixture
def shop(database: str, tmp_path: Path, redis: RedisServer) -> Iterator[CeleryShop]:
    """Give a shop on each database; no worker runs yet."""
    shop = CeleryShop(database, tmp_path, redis)
    yield shop
    shop.close()
