"""Log what happens to an account."""

from example_app.accounts.models import Account
from example_app.activity.models import Entry
from example_app.extensions import db, kit
from flask_signals_kit import current_emission


# By pattern, so that signals which a later feature declares are logged, too. Not ``ad_*``, because
# there are too many impressions. Before all other receivers, because these may send signals
# themselves, which belong after this one.
@kit.on(
    "account_*",
    "alert_*",
    "bid_*",
    "campaign_*",
    "creative_*",
    "identification_*",
    "onboarding_*",
    "payment_method_*",
    priority=100,
)
def write_log(account: Account, **extra: object) -> None:
    """Add the signal's name to the account's log."""
    db.session.add(Entry(account_id=account.id, signal=current_emission.signal))
