"""The one place where money is added to an account, whatever the payment method."""

from decimal import Decimal

from example_app.accounts.models import Account
from example_app.extensions import db
from example_app.funding.models import Payment
from example_app.signals import account_funded


def book(account: Account, amount: Decimal, *, method: str, reference: str) -> Payment:
    """Credit an account and send ``account_funded``.

    The wizard, the alerts and the auction receive this signal; none of them is imported here.
    """
    payment = Payment(account_id=account.id, amount=amount, method=method, reference=reference)
    db.session.add(payment)
    # Added by the database, so that two payments at the same time are both counted.
    account.balance = Account.balance + amount
    db.session.flush()
    account_funded.send(account, amount=amount, method=method)
    return payment
