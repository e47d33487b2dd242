"""What can be done with accounts. Nothing here commits: the view does, once, at its end."""

from decimal import Decimal

from flask import g, session
from sqlalchemy import select

from example_app.accounts.models import Account, Identification
from example_app.extensions import db
from example_app.signals import account_opened, identification_submitted

WELCOME_CREDIT = Decimal("25.00")


def current_account() -> Account:
    """Return the account that the visitor acts for: the one chosen, or else the oldest."""
    if "account" not in g:
        chosen = db.session.get(Account, session.get("account_id", 0))
        oldest = select(Account).order_by(Account.id).limit(1)
        g.account = chosen or db.session.scalars(oldest).one()
    account: Account = g.account
    return account


def open_account(name: str) -> Account:
    """Open an account with a welcome credit."""
    account = Account(name=name, balance=WELCOME_CREDIT)
    db.session.add(account)
    db.session.flush()
    account_opened.send(account)
    return account


def submit_identification(
    account: Account, *, legal_name: str, country: str, document: str, document_number: str
) -> Identification:
    """Hand in an account's identification for verification; a later one replaces it."""
    identification = db.session.merge(
        Identification(
            account_id=account.id,
            legal_name=legal_name,
            country=country,
            document=document,
            document_number=document_number,
        )
    )
    db.session.flush()
    # The number stays out of the payload: no receiver needs it.
    identification_submitted.send(account, document=document)
    return identification
