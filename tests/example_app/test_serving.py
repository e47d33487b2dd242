"""The auction: who is shown, and who pays."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from flask import Flask

from example_app.campaigns.models import Placement
from example_app.extensions import db, kit
from example_app.serving.auction import run_auction
from example_app.signals import account_out_of_funds
from flask_signals_kit import CapturedSignals
from tests.example_app.support import SEEDED, Visitor


@pytest.fixture
def rival(app: Flask) -> Visitor:
    """Give a visitor who has opened one more account."""
    rival = Visitor(app)
    rival.open_account("Rival")
    return rival


def test_highest_bid_is_shown_and_paid(newcomer: Visitor, rival: Visitor) -> None:
    """The winner pays its bid, the others pay nothing."""
    newcomer.run_campaign(bid="1.00")
    rival.run_campaign(bid="1.01")
    assert "Rival paid €1.01" in newcomer.serve()
    assert "Rival €23.99" in rival.read("/")
    assert "Newcomer €25.00" in newcomer.read("/")


def test_earlier_of_two_equal_bids_wins(newcomer: Visitor, rival: Visitor) -> None:
    """A tie is decided in the same way each time."""
    newcomer.run_campaign(bid="1.00")
    rival.run_campaign(bid="1.00")
    assert "Newcomer paid €1.00" in rival.serve()


def test_bid_that_cannot_be_paid_is_passed_over(newcomer: Visitor, rival: Visitor) -> None:
    """The next highest bid wins instead, and the account that could not pay is told."""
    newcomer.run_campaign(bid="1.00")
    rival.run_campaign(bid="25.01")
    assert "Newcomer paid €1.00" in newcomer.serve()
    assert "Rival €25.00" in rival.read("/")
    assert "Your balance is below your lowest bid of €25.01." in rival.read("/")


def test_account_bids_on_while_a_lower_bid_can_be_paid(newcomer: Visitor) -> None:
    """Out of funds means that not even the lowest bid can be paid."""
    newcomer.run_campaign(bid="20.00", placement="front page")
    newcomer.run_campaign(bid="5.00", placement="article")
    newcomer.serve(placement="front page", views=2)
    assert "Out of funds" not in newcomer.read("/")
    assert "Newcomer paid €5.00" in newcomer.serve(placement="article")
    assert "Your balance is below your lowest bid of €5.00." in newcomer.read("/")


def test_nothing_is_shown_if_no_bid_can_be_paid(visitor: Visitor) -> None:
    """The seeded account has run out of funds, so the space stays free."""
    page = visitor.serve()
    assert "No bid could be paid" in page
    assert "This space is free." in page


def test_funded_account_bids_again(visitor: Visitor) -> None:
    """Funding ends the pause that running out of funds began."""
    visitor.wire()
    assert f"{SEEDED} paid €1.20" in visitor.serve()


def test_running_out_is_announced_once(newcomer: Visitor, sent: CapturedSignals) -> None:
    """A paused account takes part in no auction and is not told again and again."""
    newcomer.run_campaign(bid="10.00")
    assert "2 of 10 page views showed an advertisement." in newcomer.serve(views=10)
    newcomer.serve(views=10)
    sent.assert_sent_once(account_out_of_funds)
    sent.assert_sent(account_out_of_funds, sender=newcomer.account, needed=Decimal(10))


def test_campaign_without_creatives_takes_no_part(newcomer: Visitor) -> None:
    """There is nothing to show, so there is nothing to pay."""
    show = newcomer.submit("/campaigns/new", name="Launch").request.path
    newcomer.submit(f"{show}/bids", show, placement="search", amount="1")
    assert "No bid could be paid" in newcomer.serve(placement="search")
    assert "Newcomer €25.00" in newcomer.read("/")


def test_new_bid_replaces_the_earlier_one(newcomer: Visitor) -> None:
    """A campaign has one bid for a placement, the last one."""
    newcomer.run_campaign(bid="1.00")
    newcomer.submit("/campaigns/3/bids", "/campaigns/3", placement="front page", amount="2.50")
    assert "Newcomer paid €2.50" in newcomer.serve()
    assert newcomer.read("/campaigns/3").count("€1.00") == 0


def test_creatives_take_turns(newcomer: Visitor) -> None:
    """A campaign shows each of its creatives equally often."""
    newcomer.run_campaign(bid="1.00")
    newcomer.submit("/campaigns/3/creatives", "/campaigns/3", headline="Listen", text="We sing.")
    assert ["Listen" in newcomer.serve() for _ in range(4)] == [False, True, False, True]


def test_campaign_counts_its_impressions_and_what_they_cost(newcomer: Visitor) -> None:
    """The totals come from the signal that each served advertisement sends."""
    newcomer.run_campaign(bid="0.35")
    newcomer.serve(views=7)
    assert "Impressions 7 Spent €2.45" in newcomer.read("/campaigns/3")


def test_auctions_at_once_never_spend_more_than_there_is(
    make_app: Callable[..., Flask], newcomer: Visitor
) -> None:
    """Six readers at a time cannot make an account pay with the same money twice."""
    newcomer.run_campaign(bid="2.50")
    app = make_app()

    def read(_: int) -> bool:
        with app.app_context():
            served = run_auction(Placement.FRONT_PAGE) is not None
            db.session.commit()
            return served

    with ThreadPoolExecutor(6) as readers, kit.capture(app=app) as sent:
        served = list(readers.map(read, range(30)))
    assert served.count(True) == 10
    sent.assert_sent_once(account_out_of_funds)
    sent.assert_sent(account_out_of_funds, sender=newcomer.account)
    assert newcomer.account.balance == 0
