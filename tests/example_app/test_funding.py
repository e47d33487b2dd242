"""Money in: by card, by wire transfer, or not at all."""

import re
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask

from example_app.extensions import kit
from tests.example_app.support import Visitor, words


@pytest.fixture
def sent(app: Flask) -> list[tuple[str, Any, str]]:
    """Give the list of what `account_funded` says from now on."""
    sent: list[tuple[str, Any, str]] = []

    @kit.for_app(app).on("account_funded")
    def note(account: Any, *, amount: Decimal, method: str, **extra: object) -> None:
        sent.append((account.name, amount, method))

    return sent


def test_both_ways_of_funding_send_the_same_signal(
    newcomer: Visitor, sent: list[tuple[str, Any, str]]
) -> None:
    """A receiver of `account_funded` does not depend on the payment method."""
    newcomer.submit("/funding/cards/new", holder="Newcomer", last4="4242")
    newcomer.submit("/funding/card", card="1", amount="12.34")
    newcomer.submit("/funding/wire", amount="1000")
    assert sent == [
        ("Newcomer", Decimal("12.34"), "card"),
        ("Newcomer", Decimal("1000.00"), "wire"),
    ]
    assert "Newcomer €1,037.34" in newcomer.read("/funding/")


def test_declined_card_sends_no_signal_and_books_nothing(
    newcomer: Visitor, sent: list[tuple[str, Any, str]]
) -> None:
    """A payment that failed did not happen."""
    newcomer.submit("/funding/cards/new", holder="Newcomer", last4="0002")
    newcomer.submit("/funding/card", card="1", amount="100")
    assert sent == []
    page = newcomer.read("/funding/")
    assert "Newcomer €25.00" in page
    assert "None so far" in page


def test_declined_card_keeps_card_and_amount_in_the_form(newcomer: Visitor) -> None:
    """The visitor can change one of them and try again."""
    newcomer.submit("/funding/cards/new", holder="Newcomer", last4="4242")
    newcomer.submit("/funding/cards/new", holder="Newcomer", last4="0002")
    page = newcomer.submit("/funding/card", card="2", amount="99.90").text
    assert 'id="card-error">The card was declined' in page
    assert re.search(r'<option selected value="2">', page)
    assert re.search(r'name="amount"[^>]* value="99.90"', page)


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        ("", "This field is required."),
        ("ten", "Not a valid decimal value."),
        ("0", "Enter an amount from 5 to 10000."),
        ("-50", "Enter an amount from 5 to 10000."),
        ("4.99", "Enter an amount from 5 to 10000."),
        ("10000.01", "Enter an amount from 5 to 10000."),
        ("1e999", "Enter an amount from 5 to 10000."),
        ("NaN", "Enter an amount from 5 to 10000."),
        ("Infinity", "Enter an amount from 5 to 10000."),
        ("5.001", "Enter at most two digits after the point."),
    ],
)
def test_amount_that_cannot_be_booked_is_refused(
    newcomer: Visitor, sent: list[tuple[str, Any, str]], amount: str, error: str
) -> None:
    """The form says what is wrong, and nothing is sent."""
    answer = newcomer.submit("/funding/wire", amount=amount)
    assert error in answer.text
    assert sent == []
    assert "Newcomer €25.00" in newcomer.read("/funding/")


@pytest.mark.parametrize(("last4", "said"), [("4242", "arrived by card"), ("0002", "pay")])
def test_amounts_have_one_format(newcomer: Visitor, last4: str, said: str) -> None:
    """What a message says of an amount is what the pages show."""
    newcomer.submit("/funding/cards/new", holder="Newcomer", last4=last4)
    answer = words(newcomer.submit("/funding/card", card="1", amount="1234.5"))
    assert "€1,234.50" in answer
    assert said in answer
    assert "1234.5" not in answer
    assert "euros arrived" not in answer


def test_smallest_and_the_largest_amount_are_accepted(newcomer: Visitor) -> None:
    """Both bounds belong to what is allowed."""
    newcomer.submit("/funding/wire", amount="5")
    newcomer.submit("/funding/wire", amount="10000.00")
    assert "Newcomer €10,030.00" in newcomer.read("/funding/")


def test_paying_by_card_without_one_leads_to_adding_one(newcomer: Visitor) -> None:
    """The page for a first card explains itself."""
    page = newcomer.read("/funding/card")
    assert "Add a card first." in page
    assert "Name on the card" in page


def test_failing_receiver_rolls_back_the_payment(app: Flask, newcomer: Visitor) -> None:
    """Receivers run in the payment's transaction: all of it is booked, or nothing."""

    @kit.for_app(app).on("account_funded")
    def fail(account: Any, **extra: object) -> None:
        raise LookupError("no ledger")

    with pytest.raises(LookupError):
        newcomer.submit("/funding/wire", amount="50")
    assert "Newcomer €25.00" in newcomer.read("/funding/")
    assert "0 of 4 steps done" in newcomer.read("/onboarding/")
