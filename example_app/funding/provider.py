"""A simulated payment provider: two test cards, no network, no money."""

import secrets
from decimal import Decimal

from example_app.money import format_money

TEST_CARDS = {
    "4242": "Visa ending in 4242, always accepted",
    "0002": "Visa ending in 0002, always declined",
}


class CardDeclinedError(Exception):
    """The bank behind a card refused to pay."""


def tokenise(last4: str) -> str:
    """Return the token by which the provider knows a test card."""
    return f"tok_{last4}_{secrets.token_hex(4)}"


def charge(token: str, amount: Decimal) -> str:
    """Charge a card and return the provider's reference.

    :raises CardDeclinedError: the card's bank refused.
    """
    if token.startswith("tok_0002_"):
        raise CardDeclinedError(
            f"The card was declined: its bank refused to pay {format_money(amount)}."
        )
    return f"ch_{secrets.token_hex(6)}"
