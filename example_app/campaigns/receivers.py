"""Count the impressions of a campaign and what they cost."""

from decimal import Decimal

from example_app.accounts.models import Account
from example_app.campaigns.models import Campaign
from example_app.extensions import kit
from example_app.signals import ad_served


@kit.on(ad_served)
def count_impression(
    account: Account, *, campaign: Campaign, price: Decimal, **extra: object
) -> None:
    """Add one impression and its price to the campaign's totals."""
    campaign.impressions = Campaign.impressions + 1
    campaign.spent = Campaign.spent + price
