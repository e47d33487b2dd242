"""Served advertisements, and accounts that may not bid."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column, relationship

from example_app.accounts.models import Account
from example_app.campaigns.models import Creative, Placement
from example_app.columns import now
from example_app.extensions import Model


class Impression(Model):
    """One advertisement, shown once and paid for."""

    id: Mapped[int] = mapped_column(primary_key=True)
    creative_id: Mapped[int] = mapped_column(ForeignKey(Creative.id), index=True)
    placement: Mapped[Placement]
    price: Mapped[Decimal]
    served_at: Mapped[datetime] = mapped_column(default=now)

    creative: Mapped[Creative] = relationship()


class Pause(Model):
    """An account whose bids are left out of the auctions until money arrives."""

    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), primary_key=True)
    since: Mapped[datetime] = mapped_column(default=now)
