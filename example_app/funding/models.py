"""Ways to pay, and what was paid."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from example_app.accounts.models import Account
from example_app.columns import now
from example_app.extensions import Model


class Card(Model):
    """A payment card, known by the provider's token; its number is never stored."""

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), index=True)
    holder: Mapped[str]
    last4: Mapped[str]
    token: Mapped[str]
    added_at: Mapped[datetime] = mapped_column(default=now)


class Payment(Model):
    """Money that arrived in an account."""

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), index=True)
    amount: Mapped[Decimal]
    method: Mapped[str]
    reference: Mapped[str]
    arrived_at: Mapped[datetime] = mapped_column(default=now)
