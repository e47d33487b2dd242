"""What can be done with campaigns. Nothing here commits."""

from decimal import Decimal

from sqlalchemy import select

from example_app.accounts.models import Account
from example_app.campaigns.models import Bid, Campaign, Creative, Placement
from example_app.extensions import db
from example_app.signals import bid_placed, campaign_created, creative_added


def create_campaign(account: Account, name: str) -> Campaign:
    """Create a campaign, still without creatives and bids."""
    campaign = Campaign(account=account, name=name)
    db.session.add(campaign)
    db.session.flush()
    campaign_created.send(account, campaign=campaign)
    return campaign


def add_creative(campaign: Campaign, *, headline: str, text: str) -> Creative:
    """Give a campaign one more advertisement to show."""
    creative = Creative(campaign=campaign, headline=headline, text=text)
    db.session.add(creative)
    db.session.flush()
    creative_added.send(campaign.account, creative=creative)
    return creative


def place_bid(campaign: Campaign, placement: Placement, amount: Decimal) -> Bid:
    """Offer an amount per impression in a placement, instead of any earlier offer there."""
    bid = db.session.scalar(
        select(Bid).where(Bid.campaign_id == campaign.id, Bid.placement == placement)
    )
    if bid is None:
        bid = Bid(campaign=campaign, placement=placement)
        db.session.add(bid)
    bid.amount = amount
    db.session.flush()
    bid_placed.send(campaign.account, bid=bid)
    return bid
