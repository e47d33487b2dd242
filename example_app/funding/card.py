"""Funding by card."""

from decimal import Decimal

from example_app.accounts.models import Account
from example_app.extensions import db
from example_app.funding import provider
from example_app.funding.ledger import book
from example_app.funding.models import Card, Payment
from example_app.signals import payment_method_added


def add_card(account: Account, *, last4: str, holder: str) -> Card:
    """Add a test card to an account."""
    card = Card(account_id=account.id, holder=holder, last4=last4, token=provider.tokenise(last4))
    db.session.add(card)
    db.session.flush()
    payment_method_added.send(account, kind="card")
    return card


def pay_by_card(account: Account, card: Card, amount: Decimal) -> Payment:
    """Charge a card and book the amount.

    :raises CardDeclinedError: the bank refused; nothing was booked and nothing was sent.
    """
    reference = provider.charge(card.token, amount)
    return book(account, amount, method="card", reference=reference)
