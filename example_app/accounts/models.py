"""Accounts and their identification."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from example_app.columns import now
from example_app.extensions import Model


class Account(Model):
    """An advertiser, with the money that is left to spend."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    balance: Mapped[Decimal] = mapped_column(default=Decimal(0))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Identification(Model):
    """What an account submitted to have its identity verified."""

    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), primary_key=True)
    legal_name: Mapped[str]
    country: Mapped[str]
    document: Mapped[str]
    document_number: Mapped[str]
    submitted_at: Mapped[datetime] = mapped_column(default=now)
