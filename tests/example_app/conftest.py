"""The example app on a database file of its own, and visitors who use its pages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from example_app import create_app
from example_app.extensions import db, kit
from flask_signals_kit import CapturedSignals
from tests.example_app.support import Visitor


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[Callable[..., Flask]]:
    """Give a function that makes the app on the test's own database file."""
    apps = []

    def make(**config: Any) -> Flask:
        defaults = {
            "TESTING": True,
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/placard.sqlite",
            "MAIL_OUTBOX": str(tmp_path / "mails"),
            "LEDGER": str(tmp_path / "ledger.sqlite"),
        }
        apps.append(create_app(defaults | config))
        return apps[-1]

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    """Give the app with its seeded account."""
    return make_app()


@pytest.fixture
def visitor(app: Flask) -> Visitor:
    """Give a visitor who acts for the seeded account."""
    return Visitor(app)


@pytest.fixture
def newcomer(app: Flask) -> Visitor:
    """Give a visitor who has just opened an account and done nothing else."""
    newcomer = Visitor(app)
    newcomer.open_account("Newcomer")
    return newcomer


@pytest.fixture
def sent(app: Flask) -> Iterator[CapturedSignals]:
    """Give what the app sends from now on."""
    with kit.capture(app=app) as sent:
        yield sent
