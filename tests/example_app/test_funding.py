"""Money in: by card, by wire transfer, or not at all."""

import re
from decimal import Decimal
from typing import Any

import pytest
from flask import Flask

from example_app.extensions import kit
from example_app.signals import account_funded
from flask_signals_kit import CapturedSignals
from tests.example_app.support import Visitor, words


@pytest.mark.parametrize("method", ["card", "wire"])
def test_both_ways_of_funding_send_the_same_signal(
    newcomer: Visitor, sent: CapturedSignals, method: str
) -> None:
    """A receiver of `account_funded` does not depend on the payment method."""
    newcomer.add_card()
    newcomer.submit(f"/funding/{method}", card="1", amount="12.34")
    sent.assert_sent_once(account_funded)
    amount = Decimal("12.34")
    sent.assert_sent(account_funded, sender=newcomer.account, amount=amount, method=method)
    assert "Newcomer €37.34" in newcomer.read("/funding/")


def test_declined_card_sends_no_signal_and_books_nothing(app: Flask, newcomer: Visitor) -> None:
    """A payment that failed did not happen: no receiver runs, so no mail thanks for it."""
    newcomer.add_card("0002")
    with kit.capture(app=app) as sent:
        assert "The card was declined" in newcomer.pay_by_card("100").text
    sent.assert_nothing_sent()
    page = newcomer.read("/funding/")
    assert "Newcomer €25.00" in page
    assert "None so far" in page


def test_declined_card_keeps_card_and_amount_in_the_form(newcomer: Visitor) -> None:
    """The visitor can change one of them and try again."""
    newcomer.add_card()
    newcomer.add_card("0002")
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
    newcomer: Visitor, sent: CapturedSignals, amount: str, error: str
) -> None:
    """The form says what is wrong, and nothing is sent."""
    assert error in newcomer.wire(amount).text
    sent.assert_nothing_sent()
    assert "Newcomer €25.00" in newcomer.read("/funding/")


@pytest.mark.parametrize(("last4", "said"), [("4242", "arrived by card"), ("0002", "pay")])
def test_amounts_have_one_format(newcomer: Visitor, last4: str, said: str) -> None:
    """What a message says of an amount is what the pages show."""
    newcomer.add_card(last4)
    answer = words(newcomer.pay_by_card("1234.5"))
    assert "€1,234.50" in answer
    assert said in answer
    assert "1234.5" not in answer
    assert "euros arrived" not in answer


def test_smallest_and_the_largest_amount_are_accepted(newcomer: Visitor) -> None:
    """Both bounds belong to what is allowed."""
    newcomer.wire("5")
    newcomer.wire("10000.00")
    assert "Newcomer €10,030.00" in newcomer.read("/funding/")


def test_paying_by_card_without_one_leads_to_adding_one(newcomer: Visitor) -> None:
    """The page for a first card explains itself."""
    page = newcomer.read("/funding/card")
    assert "Add a card first." in page
    assert "Name on the card" in page


def test_failing_receiver_rolls_back_the_payment(
    app: Flask, newcomer: Visitor, sent: CapturedSignals
) -> None:
    """Receivers run in the payment's transaction: all of it is booked and mailed, or nothing."""

    @kit.for_app(app).on(account_funded, priority=-1)
    def fail(account: Any, **extra: object) -> None:
        raise LookupError("no ledger")

    with pytest.raises(LookupError):
        newcomer.wire()
    sent.assert_skipped("example_app.mails.receivers.thank", reason="without a commit")
    assert "Newcomer €25.00" in newcomer.read("/funding/")
    assert "0 of 4 steps done" in newcomer.read("/onboarding/")
