"""The wizard, whose steps happen elsewhere."""

from typing import Any

import pytest
from flask import Flask

from example_app.extensions import kit
from tests.example_app.support import Visitor

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


def identify(visitor: Visitor) -> None:
    """Submit identification."""
    visitor.submit(
        "/accounts/identification",
        legal_name="Newcomer Ltd",
        country="Ireland",
        document="Passport",
        document_number="P-1",
    )


def add_card(visitor: Visitor) -> None:
    """Add a card that pays."""
    visitor.submit("/funding/cards/new", holder="Newcomer", last4="4242")


def wire(visitor: Visitor) -> None:
    """Fund by wire transfer."""
    visitor.submit("/funding/wire", amount="50")


def pay_by_card(visitor: Visitor) -> None:
    """Fund by card."""
    add_card(visitor)
    visitor.submit("/funding/card", card="1", amount="50")


def campaign(visitor: Visitor) -> None:
    """Create a campaign with a creative and a bid."""
    visitor.run_campaign(bid="1.00")


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (identify, STEPS[:1]),
        (add_card, STEPS[1:2]),
        (wire, STEPS[2:3]),
        (pay_by_card, STEPS[1:3]),
        (campaign, STEPS[3:]),
    ],
)
def test_what_is_done_elsewhere_ticks_off_its_step(
    newcomer: Visitor, act: Any, expected: list[str]
) -> None:
    """Each step is ticked off by what happens on its own page, and no other step is."""
    assert done(newcomer) == []
    act(newcomer)
    assert done(newcomer) == expected


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (
            "/accounts/identification",
            {
                "legal_name": "Newcomer Ltd",
                "country": "Ireland",
                "document": "Passport",
                "document_number": "P-1",
            },
        ),
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


def test_last_step_completes_the_onboarding_once(app: Flask, newcomer: Visitor) -> None:
    """Steps may be done in any order; what follows the last one is announced a single time."""
    completed = []

    @kit.for_app(app).on("onboarding_completed")
    def note(account: Any, **extra: object) -> None:
        completed.append(account.name)

    for act in (campaign, wire, add_card):
        act(newcomer)
    assert completed == []
    identify(newcomer)
    assert completed == ["Newcomer"]
    assert "Onboarding completed" in newcomer.read("/alerts/")
    wire(newcomer)
    assert completed == ["Newcomer"]


def test_step_done_twice_keeps_its_first_time(newcomer: Visitor) -> None:
    """Submitting identification again replaces it and leaves the wizard alone."""
    identify(newcomer)
    before = newcomer.read("/onboarding/")
    identify(newcomer)
    assert newcomer.read("/onboarding/") == before.replace(
        "Identification submitted. We will verify it. ", ""
    )
