"""The auction for one place on a page that a reader is about to see."""

from collections.abc import Sequence
from decimal import Decimal

from sqlalchemy import func, select, update

from example_app.accounts.models import Account
from example_app.campaigns.models import Bid, Campaign, Placement
from example_app.extensions import db
from example_app.serving.models import Impression, Pause
from example_app.signals import account_out_of_funds, ad_served


def run_auction(placement: Placement) -> Impression | None:
    """Serve the highest bid that its account can pay, or nothing.

    An account that after this cannot pay even the lowest of its bids has run out of funds: its bids
    are paused, and ``account_out_of_funds`` is sent, once.
    """
    impression = None
    asked: dict[Account, None] = {}  # In the order of their bids, each once.
    for bid in _bids(placement):
        asked[bid.campaign.account] = None
        if _charge(bid.campaign.account, bid.amount):
            impression = _serve(bid)
            break
    for account in asked:
        needed = _lowest_bid(account)
        if account.balance < needed:
            db.session.add(Pause(account_id=account.id))
            db.session.flush()
            account_out_of_funds.send(account, needed=needed)
    return impression


def _bids(placement: Placement) -> Sequence[Bid]:
    """Return the bids that take part, highest first; among equals, the earliest."""
    return db.session.scalars(
        select(Bid)
        .join(Bid.campaign)
        .where(
            Bid.placement == placement,
            Campaign.creatives.any(),
            Campaign.account_id.not_in(select(Pause.account_id)),
        )
        .order_by(Bid.amount.desc(), Bid.id)
    ).all()


def _charge(account: Account, price: Decimal) -> bool:
    """Take the price from the account's balance, unless it holds less."""
    # The database compares and subtracts in one statement, so that two auctions at once cannot
    # spend the same money.
    paid = db.session.scalar(
        update(Account)
        .where(Account.id == account.id, Account.balance >= price)
        .values(balance=Account.balance - price)
        .returning(Account.id)
    )
    db.session.refresh(account)
    return paid is not None


def _serve(bid: Bid) -> Impression:
    """Record that the campaign's next creative was shown."""
    campaign = bid.campaign
    creative = campaign.creatives[campaign.impressions % len(campaign.creatives)]
    impression = Impression(creative=creative, placement=bid.placement, price=bid.amount)
    db.session.add(impression)
    db.session.flush()
    ad_served.send(campaign.account, campaign=campaign, price=bid.amount)
    return impression


def _lowest_bid(account: Account) -> Decimal:
    """Return the lowest of the bids with which an account takes part anywhere."""
    return db.session.scalars(
        select(func.min(Bid.amount))
        .join(Bid.campaign)
        .where(Campaign.account_id == account.id, Campaign.creatives.any())
    ).one()
