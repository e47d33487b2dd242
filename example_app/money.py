"""How amounts are shown: the same on pages, in messages and in mails."""

from decimal import Decimal


def format_money(amount: Decimal) -> str:
    """Return an amount in euros, with two places."""
    return f"€{amount:,.2f}"
