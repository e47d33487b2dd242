"""The forms of the funding pages."""

from decimal import Decimal

from wtforms import SelectChoice, SelectField

from example_app.forms import Form, amount_field, text_field
from example_app.funding.provider import TEST_CARDS

LOWEST, HIGHEST = Decimal(5), Decimal(10_000)


class CardForm(Form):
    """Add a card."""

    holder = text_field("Name on the card", autocomplete="cc-name")
    last4 = SelectField(
        "Test card",
        choices=[SelectChoice(last4, label) for last4, label in TEST_CARDS.items()],
        description="A demo takes no real card numbers.",
    )


class CardPaymentForm(Form):
    """Pay by one of the account's cards."""

    card = SelectField("Card", coerce=int)
    amount = amount_field("Amount in euros", lowest=LOWEST, highest=HIGHEST)


class WireForm(Form):
    """Report a transfer, in place of the bank."""

    amount = amount_field("Amount in euros", lowest=LOWEST, highest=HIGHEST)
