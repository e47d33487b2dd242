# ruff: noqa: D401 - these say what happened, not what to do.
"""What happens in this app, declared in one place at the top of the import graph.

A feature sends these signals and does not know their receivers; ``/_signals`` shows them. Each stub
is the signal's contract: its first parameter is the sender, its keyword-only ones are the payload.
"""

from decimal import Decimal
from typing import TYPE_CHECKING

from example_app.extensions import kit

if TYPE_CHECKING:
    from example_app.accounts.models import Account
    from example_app.campaigns.models import Bid, Campaign, Creative


@kit.declare
def account_opened(sender: "Account") -> None:
    """A new account exists."""


@kit.declare
def identification_submitted(sender: "Account", *, document: str) -> None:
    """An account submitted its identification for verification."""


@kit.declare
def payment_method_added(sender: "Account", *, kind: str) -> None:
    """An account can now be charged in one more way."""


@kit.declare
def account_funded(sender: "Account", *, amount: Decimal, method: str) -> None:
    """Money arrived in an account."""


@kit.declare
def campaign_created(sender: "Account", *, campaign: "Campaign") -> None:
    """An account has a new campaign, still without creatives and bids."""


@kit.declare
def creative_added(sender: "Account", *, creative: "Creative") -> None:
    """A campaign has one more advertisement to show."""


@kit.declare
def bid_placed(sender: "Account", *, bid: "Bid") -> None:
    """A campaign offers a price for a placement."""


@kit.declare
def ad_served(sender: "Account", *, campaign: "Campaign", price: Decimal) -> None:
    """A campaign won an auction and its account paid for it."""


@kit.declare
def account_out_of_funds(sender: "Account", *, needed: Decimal) -> None:
    """An account cannot pay even its lowest bid, which is ``needed``."""


@kit.declare
def onboarding_completed(sender: "Account") -> None:
    """An account finished every step of the onboarding wizard."""


@kit.declare
def alert_raised(sender: "Account", *, kind: str, message: str) -> None:
    """An account has a new alert."""


@kit.declare(on_error="isolate")
def breakage_requested(sender: "Account") -> None:
    """The button for a failing receiver on the error report was pressed.

    Isolated: the failure is logged and reported, and the sender continues.
    """
