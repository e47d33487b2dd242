"""Send mails about what happened, after it is in the database."""

from decimal import Decimal

from example_app.accounts.models import Account
from example_app.extensions import kit
from example_app.mails.outbox import post
from example_app.signals import account_funded, alert_raised


@kit.on(account_funded, delivery="after_commit")
def thank(account: Account, *, amount: Decimal, method: str, **extra: object) -> None:
    """Thank for the money; a payment that is rolled back sends no mail."""
    # The commit has expired the account, so its balance is loaded again, with the money.
    post(
        account,
        subject=f"Thank you for €{amount:,.2f}",
        text=f"€{amount:,.2f} arrived by {method}.\nYour balance is now €{account.balance:,.2f}.\n",
    )


@kit.on(alert_raised, delivery="after_commit")
def mail_alert(account: Account, *, kind: str, message: str, **extra: object) -> None:
    """Send an alert by mail, for accounts that do not have the page open."""
    post(account, subject=f"Placard: {kind}", text=f"{message}\n")
