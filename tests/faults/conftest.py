"""Fixtures: a shop in processes of its own, and the table of what was seen."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.support import ROOT, Processes

REPORT = ROOT / "build" / "faults.md"
"""The table of what was seen."""

COLUMNS = ("orders", "effects", "waiting", "dead", "lost", "doubled", "repeated", "wrong")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin the table."""
    if not (hasattr(session.config, "workerinput") or "SHOP_WITHOUT" in os.environ):
        REPORT.unlink(missing_ok=True)


def _note(shop: Processes, test: str) -> None:
    """Add the last counts of a test to the table."""
    if shop.counts is not None and "SHOP_WITHOUT" not in os.environ:
        values = " | ".join(str(getattr(shop.counts, name)) for name in COLUMNS)
        REPORT.parent.mkdir(exist_ok=True)
        with REPORT.open("a") as file:
            if file.tell() == 0:
                file.write(f"| fault | {' | '.join(COLUMNS)} |\n|---{'|---' * len(COLUMNS)}|\n")
            file.write(f"| {test} | {values} |\n")


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """Give the URL of an SQLite file, with a longer wait for its lock."""
    return f"sqlite:///{tmp_path / 'shop.sqlite'}?timeout=20"


@pytest.fixture
def shop(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[Processes]:
    """Give a shop on each database."""
    yield from _shop(request, database, tmp_path)


@pytest.fixture
def sqlite_shop(request: pytest.FixtureRequest, sqlite: str, tmp_path: Path) -> Iterator[Processes]:
    """Give a shop on an SQLite file."""
    yield from _shop(request, sqlite, tmp_path)


def _shop(request: pytest.FixtureRequest, database: str, folder: Path) -> Iterator[Processes]:
    shop = Processes(database, folder)
    yield shop
    _note(shop, request.node.name)
    shop.close()
