"""The one place where money enters an account, whatever way it came."""

from decimal import Decimal

from example_app.accounts.models import Account
from example_app.extensions import db
from example_app.funding.models import Payment
from example_app.signals import account_funded


def book(account: Account, amount: Decimal, *, method: str, reference: str) -> Payment:
    """Credit an account and say so.

    Who wants to know (the wizard, the alerts, the auction) listens to ``account_funded``; none of
    them is imported here.
    """
    payment = Payment(account_id=account.id, amount=amount, method=method, reference=reference)
    db.session.add(payment)
    # Added up by the database, so that two payments at once are both counted.
    account.balance = Account.balance + amount
    db.session.flush()
    account_funded.send(account, amount=amount, method=method)
    return payment
