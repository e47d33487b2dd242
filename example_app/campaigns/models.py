"""Campaigns with their creatives and bids."""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from example_app.accounts.models import Account
from example_app.columns import now
from example_app.extensions import Model


class Placement(StrEnum):
    """A place on a publisher's pages that is auctioned."""

    FRONT_PAGE = "front page"
    ARTICLE = "article"
    SEARCH = "search"


class Campaign(Model):
    """A set of creatives and bids, with its totals."""

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), index=True)
    name: Mapped[str]
    impressions: Mapped[int] = mapped_column(default=0)
    spent: Mapped[Decimal] = mapped_column(default=Decimal(0))
    created_at: Mapped[datetime] = mapped_column(default=now)

    account: Mapped[Account] = relationship()
    creatives: Mapped[list["Creative"]] = relationship(
        back_populates="campaign", order_by="Creative.id"
    )
    bids: Mapped[list["Bid"]] = relationship(back_populates="campaign", order_by="Bid.placement")


class Creative(Model):
    """An advertisement as readers see it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey(Campaign.id), index=True)
    headline: Mapped[str]
    text: Mapped[str]

    campaign: Mapped[Campaign] = relationship(back_populates="creatives")


class Bid(Model):
    """What a campaign pays each time it is shown in a placement."""

    __table_args__ = (UniqueConstraint("campaign_id", "placement"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey(Campaign.id))
    placement: Mapped[Placement]
    amount: Mapped[Decimal]

    campaign: Mapped[Campaign] = relationship(back_populates="bids")
