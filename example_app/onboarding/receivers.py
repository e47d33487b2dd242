"""Tick off the wizard's steps.

The features in which the steps are done do not import the wizard, and the wizard does not import
them. Signals connect them.
"""

from example_app.accounts.models import Account
from example_app.extensions import kit
from example_app.onboarding.models import Task
from example_app.onboarding.wizard import tick_off
from example_app.signals import (
    account_funded,
    bid_placed,
    campaign_created,
    creative_added,
    identification_submitted,
    payment_method_added,
)


@kit.on(identification_submitted)
def tick_identification(account: Account, **extra: object) -> None:
    """Tick off the identification."""
    tick_off(account, Task.IDENTIFICATION)


@kit.on(payment_method_added)
def tick_payment_method(account: Account, **extra: object) -> None:
    """Tick off the payment method."""
    tick_off(account, Task.PAYMENT_METHOD)


@kit.on(account_funded)
def tick_funds(account: Account, **extra: object) -> None:
    """Tick off the funds, whatever the payment method."""
    tick_off(account, Task.FUNDS)


@kit.on(campaign_created)
def tick_campaign(account: Account, **extra: object) -> None:
    """Tick off the campaign."""
    tick_off(account, Task.CAMPAIGN)


@kit.on(creative_added)
def tick_creative(account: Account, **extra: object) -> None:
    """Tick off the creative."""
    tick_off(account, Task.CREATIVE)


@kit.on(bid_placed)
def tick_bid(account: Account, **extra: object) -> None:
    """Tick off the bid."""
    tick_off(account, Task.BID)
