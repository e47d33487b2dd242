"""The alert about missing funds: raised by serving, dismissed by money or by hand."""

import pytest
from flask import Flask
from sqlalchemy.exc import IntegrityError

from example_app.alerts.models import Alert, Kind
from example_app.extensions import db
from tests.example_app.support import Visitor, words

ALERT = "Your campaigns are paused until you add funds."


@pytest.fixture
def broke(newcomer: Visitor) -> Visitor:
    """Give a visitor whose account has spent all that it had."""
    newcomer.run_campaign(bid="12.50")
    newcomer.serve(views=2)
    return newcomer


def test_account_with_funds_has_no_alert(newcomer: Visitor) -> None:
    """No alert is raised while a bid can be paid."""
    newcomer.run_campaign(bid="12.50")
    newcomer.serve(views=1)
    assert ALERT not in newcomer.read("/")
    assert "No alert so far." in newcomer.read("/alerts/")


def test_running_out_of_funds_raises_an_alert_on_every_page(broke: Visitor) -> None:
    """The alert names the lowest bid and is shown wherever the account goes."""
    page = broke.read("/")
    assert "Your balance is below your lowest bid of €12.50." in page
    assert ALERT in page
    assert ALERT in broke.read("/campaigns/")


def test_serving_on_without_funds_raises_no_second_alert(broke: Visitor) -> None:
    """One open alert of a kind is enough."""
    broke.serve(views=5)
    assert broke.read("/").count(ALERT) == 1


@pytest.mark.parametrize("method", ["card", "wire"])
def test_payment_dismisses_the_alert(broke: Visitor, method: str) -> None:
    """Money is money, whatever way it comes."""
    broke.add_card()
    broke.submit(f"/funding/{method}", card="1", amount="100")
    assert ALERT not in broke.read("/")
    assert f"funding ({method})" in broke.read("/alerts/")


def test_user_can_dismiss_the_alert(app: Flask, broke: Visitor) -> None:
    """Dismissed by hand, it is gone, though the account is still without funds."""
    broke.dismiss(2)
    assert ALERT not in broke.read("/")
    assert "you" in broke.read("/alerts/").split("By")[1]
    broke.serve(views=3)
    assert ALERT not in broke.read("/"), "a paused account does not run out a second time"


def test_congratulation_contradicts_no_other_alert(broke: Visitor) -> None:
    """The last step may be done while campaigns are paused."""
    broke.add_card()
    broke.wire("5")
    broke.serve()
    page = words(broke.identify())
    assert ALERT in page
    assert "Every step is done. Your account is set up." in page
    assert "can run" not in page


def test_only_an_alert_that_needs_action_is_shown_as_open(broke: Visitor) -> None:
    """A congratulation is there to be read."""
    broke.add_card()
    broke.identify()
    assert "Out of funds" in broke.read("/alerts/")
    assert "Open" in broke.read("/alerts/")
    broke.wire("5")
    page = broke.read("/alerts/")
    assert "Onboarding completed" in page
    assert "Open" not in page


def test_declined_card_leaves_the_alert(broke: Visitor) -> None:
    """A payment that failed dismisses nothing."""
    broke.add_card("0002")
    assert "The card was declined" in broke.pay_by_card("100").text
    assert ALERT in broke.read("/")


def test_running_out_again_raises_a_new_alert(broke: Visitor) -> None:
    """After money has come and gone, the alert is raised again."""
    broke.wire("25")
    broke.serve(views=2)
    assert ALERT in broke.read("/")
    assert broke.read("/alerts/").count("12.50") == 1


def test_funding_does_not_dismiss_the_alert_of_another_account(app: Flask, broke: Visitor) -> None:
    """The seeded account's alert stays when the newcomer pays."""
    broke.wire("100")
    assert ALERT in Visitor(app).read("/")


def test_alert_of_another_account_cannot_be_dismissed_by_hand(app: Flask, broke: Visitor) -> None:
    """To another account, an alert is not found."""
    assert broke.dismiss(1).status_code == 404
    assert ALERT in Visitor(app).read("/")


def test_dismissing_twice_keeps_who_did_it_first(broke: Visitor) -> None:
    """A late click on an alert that money dismissed changes nothing."""
    broke.wire("100")
    broke.dismiss(2)
    assert "funding (wire)" in broke.read("/alerts/")


def test_database_holds_one_open_alert_of_a_kind(app: Flask) -> None:
    """A receiver that forgot to look first cannot raise a second one."""
    with app.app_context():
        db.session.add(Alert(account_id=1, kind=Kind.OUT_OF_FUNDS, message="Again."))
        with pytest.raises(IntegrityError):
            db.session.flush()
