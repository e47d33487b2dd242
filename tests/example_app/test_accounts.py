"""The current account, and access to no other account."""

from flask import Flask

from tests.example_app.support import SEEDED, Visitor


def test_oldest_account_is_current_by_default(visitor: Visitor) -> None:
    """Without a choice, the seeded account is the current one."""
    assert f"Your account: {SEEDED}" in visitor.read("/")


def test_opened_account_becomes_the_current_one(visitor: Visitor) -> None:
    """A new account starts with a welcome credit and no step done."""
    visitor.open_account("Newcomer")
    page = visitor.read("/")
    assert "Your account: Newcomer €25.00" in page
    assert "0 of 4 steps done" in page


def test_visitor_can_switch_accounts(newcomer: Visitor) -> None:
    """The choice lasts until the next one."""
    newcomer.submit("/accounts/1/choose", "/accounts/")
    assert f"Your account: {SEEDED}" in newcomer.read("/")


def test_unknown_account_cannot_be_chosen(newcomer: Visitor) -> None:
    """The current account stays."""
    assert newcomer.submit("/accounts/99/choose", "/accounts/").status_code == 404
    assert "Your account: Newcomer" in newcomer.read("/")


def test_account_needs_a_name(visitor: Visitor) -> None:
    """White space is no name."""
    assert "This field is required." in visitor.submit("/accounts/", name="  ").text
    assert visitor.read("/accounts/").count("since") == 1


def test_visitors_have_separate_accounts(app: Flask) -> None:
    """The actions of one account do not show in the other account's pages."""
    first, second = Visitor(app), Visitor(app)
    first.open_account("First")
    second.open_account("Second")
    first.wire()
    first.run_campaign(bid="1.00")
    assert "First €75.00" in first.read("/")
    assert "Second €25.00" in second.read("/")
    assert "0 of 4 steps done" in second.read("/onboarding/")
    assert "Launch" not in second.read("/campaigns/")
    assert "Account funded" not in second.read("/")


def test_another_accounts_campaign_cannot_be_seen_or_changed(newcomer: Visitor) -> None:
    """The campaign of another account is not found, by any method."""
    assert newcomer.client.get("/campaigns/1").status_code == 404
    bid = newcomer.submit("/campaigns/1/bids", "/accounts/", placement="search", amount="0.01")
    assert bid.status_code == 404
    creative = newcomer.submit("/campaigns/1/creatives", "/accounts/", headline="x", text="y")
    assert creative.status_code == 404


def test_another_accounts_card_cannot_be_charged(app: Flask, newcomer: Visitor) -> None:
    """A card's number in a form is not enough to use it."""
    visitor = Visitor(app)
    visitor.add_card()
    newcomer.add_card()
    assert "Not a valid choice." in newcomer.pay_by_card("50").text
    assert "Newcomer €25.00" in newcomer.read("/")
