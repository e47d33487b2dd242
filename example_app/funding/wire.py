"""Funding by wire transfer."""

import secrets
from decimal import Decimal

from example_app.accounts.models import Account
from example_app.funding.ledger import book
from example_app.funding.models import Payment


def purpose_for(account: Account) -> str:
    """Return the text that identifies an account in a transfer."""
    return f"PLACARD-{account.id:06d}"


def receive_wire(account: Account, amount: Decimal) -> Payment:
    """Book a wire transfer that the bank reports."""
    reference = f"{purpose_for(account)}-{secrets.token_hex(3)}"
    return book(account, amount, method="wire", reference=reference)
