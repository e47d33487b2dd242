"""Raise alerts, and dismiss them."""

from decimal import Decimal

from example_app.accounts.models import Account
from example_app.alerts.models import Kind
from example_app.alerts.services import dismiss, open_alerts, raise_alert
from example_app.extensions import kit
from example_app.money import format_money
from example_app.signals import account_funded, account_out_of_funds, onboarding_completed


@kit.on(account_out_of_funds)
def raise_out_of_funds(account: Account, *, needed: Decimal, **extra: object) -> None:
    """Raise an alert that says the bids are paused."""
    raise_alert(
        account,
        Kind.OUT_OF_FUNDS,
        f"Your balance is below your lowest bid of {format_money(needed)}. "
        "Your campaigns are paused until you add funds.",
    )


@kit.on(account_funded)
def dismiss_out_of_funds(account: Account, *, method: str, **extra: object) -> None:
    """Dismiss the alert, whatever the payment method."""
    for alert in open_alerts(account):
        if alert.kind == Kind.OUT_OF_FUNDS:
            dismiss(alert, by=f"funding ({method})")


@kit.on(onboarding_completed)
def congratulate(account: Account, **extra: object) -> None:
    """Raise an alert that says every step is done."""
    raise_alert(account, Kind.ONBOARDING_COMPLETED, "Every step is done. Your account is set up.")
