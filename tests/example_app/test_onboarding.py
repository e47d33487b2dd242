"""The wizard, whose steps happen elsewhere."""

from typing import Any

import pytest

from example_app.signals import account_funded, identification_submitted, onboarding_completed
from flask_signals_kit import CapturedSignals
from tests.example_app.support import IDENTIFICATION, Visitor

STEPS = [
    "Submit identification for verification",
    "Add a payment method",
    "Add funds",
    "Create a campaign with creatives and bids",
]


def done(visitor: Visitor) -> list[str]:
    """Return the steps that the wizard shows as done."""
    page = visitor.read("/onboarding/")
    return [step for step in STEPS if f"Done {step}" in page]


@pytest.mark.parametrize(
    ("acts", "expected"),
    [
        ([Visitor.identify], STEPS[:1]),
        ([Visitor.add_card], STEPS[1:2]),
        ([Visitor.wire], STEPS[2:3]),
        ([Visitor.add_card, Visitor.pay_by_card], STEPS[1:3]),
        ([Visitor.run_campaign], STEPS[3:]),
    ],
    ids=["identify", "add_card", "wire", "pay_by_card", "campaign"],
)
def test_what_is_done_elsewhere_ticks_off_its_step(
    newcomer: Visitor, acts: list[Any], expected: list[str]
) -> None:
    """Each step is ticked off by what happens on its own page, and no other step is."""
    assert done(newcomer) == []
    for act in acts:
        act(newcomer)
    assert done(newcomer) == expected


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/accounts/identification", IDENTIFICATION),
        ("/funding/cards/new", {"holder": "Newcomer", "last4": "4242"}),
        ("/funding/wire", {"amount": "50"}),
    ],
)
def test_finishing_a_step_leads_back_to_the_wizard(
    newcomer: Visitor, path: str, fields: dict[str, str]
) -> None:
    """The first time, the form leads to the wizard; done again, to its own page."""
    assert newcomer.submit(path, **fields).request.path == "/onboarding/"
    assert newcomer.submit(path, **fields).request.path != "/onboarding/"


def test_step_of_several_tasks_leads_back_after_the_last(newcomer: Visitor) -> None:
    """A new campaign needs a creative and a bid first."""
    show = newcomer.submit("/campaigns/new", name="Launch").request.path
    assert show.startswith("/campaigns/")
    bid = newcomer.submit(f"{show}/bids", show, placement="search", amount="1")
    assert bid.request.path == show
    creative = newcomer.submit(f"{show}/creatives", show, headline="Look", text="Here we are.")
    assert creative.request.path == "/onboarding/"


def test_campaign_counts_once_it_has_a_creative_and_a_bid(newcomer: Visitor) -> None:
    """The last step is done when all three of its parts are."""
    show = newcomer.submit("/campaigns/new", name="Launch").request.path
    assert "Done Create a campaign Open Add a creative Open Place a bid" in newcomer.read(
        "/onboarding/"
    )
    newcomer.submit(f"{show}/bids", show, placement="search", amount="1")
    assert done(newcomer) == []
    newcomer.submit(f"{show}/creatives", show, headline="Look", text="Here we are.")
    assert done(newcomer) == STEPS[3:]


def test_refused_form_ticks_off_nothing(newcomer: Visitor) -> None:
    """A step is done when it happened, not when it was tried."""
    newcomer.submit("/accounts/identification", legal_name="", country="Atlantis")
    newcomer.submit("/funding/cards/new", holder="Newcomer", last4="1234")
    newcomer.submit("/campaigns/new", name="")
    assert done(newcomer) == []


def test_last_step_completes_the_onboarding_once(newcomer: Visitor, sent: CapturedSignals) -> None:
    """Steps may be done in any order; what follows the last one is announced a single time."""
    newcomer.run_campaign()
    newcomer.wire()
    newcomer.add_card()
    sent.assert_not_sent(onboarding_completed)
    newcomer.identify()
    newcomer.wire()
    sent.assert_sent_once(onboarding_completed)
    sent.assert_sent(onboarding_completed, sender=newcomer.account)
    sent.assert_order(identification_submitted, onboarding_completed, account_funded)
    assert "Onboarding completed" in newcomer.read("/alerts/")


def test_step_done_twice_keeps_its_first_time(newcomer: Visitor) -> None:
    """Submitting identification again replaces it and leaves the wizard alone."""
    newcomer.identify()
    before = newcomer.read("/onboarding/")
    newcomer.identify()
    assert newcomer.read("/onboarding/") == before.replace(
        "Identification submitted. We will verify it. ", ""
    )
