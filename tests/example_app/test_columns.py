"""What the database keeps of money and time."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from flask import Flask
from sqlalchemy import func, select, text
from sqlalchemy.exc import StatementError

from example_app.accounts.models import Account
from example_app.extensions import db


def test_money_is_kept_in_whole_cents(app: Flask) -> None:
    """The file holds an integer, Python gets an exact decimal with two places."""
    with app.app_context():
        db.session.add(Account(name="Exact", balance=Decimal("0.10")))
        db.session.flush()
        stored = db.session.scalar(text("SELECT balance FROM account WHERE name = 'Exact'"))
        assert stored == 10
        db.session.expire_all()
        account = db.session.scalars(select(Account).where(Account.name == "Exact")).one()
        assert str(account.balance) == "0.10"


def test_money_is_added_up_exactly(app: Flask) -> None:
    """A hundred times ten cents is ten euros, in SQL, too."""
    with app.app_context():
        for _ in range(100):
            db.session.add(Account(name="Exact", balance=Decimal("0.10")))
        total = select(func.sum(Account.balance)).where(Account.name == "Exact")
        assert db.session.scalar(total) == Decimal(10)


def test_fraction_of_a_cent_is_refused(app: Flask) -> None:
    """Rounding is a decision, so the column does not make it."""
    with app.app_context():
        db.session.add(Account(name="Exact", balance=Decimal("0.001")))
        with pytest.raises(StatementError, match="not a whole number of cents; round it"):
            db.session.flush()


def test_times_are_kept_as_utc(app: Flask) -> None:
    """Whatever zone a time comes from, the same moment comes back."""
    there = datetime(2026, 5, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    with app.app_context():
        db.session.add(Account(name="Exact", created_at=there))
        db.session.flush()
        db.session.expire_all()
        account = db.session.scalars(select(Account).where(Account.name == "Exact")).one()
        assert account.created_at == there
        assert account.created_at.tzinfo is UTC
