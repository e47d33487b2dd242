"""One account, half-way through onboarding, so that the first page shows something."""

from decimal import Decimal

from sqlalchemy import select

from example_app.accounts.models import Account
from example_app.accounts.services import open_account, submit_identification
from example_app.campaigns.models import Placement
from example_app.campaigns.services import add_creative, create_campaign, place_bid
from example_app.extensions import db
from example_app.serving.auction import run_auction


def seed_if_empty() -> None:
    """Fill an empty database through the same functions that the views call.

    So the wizard's ticks, the counts and the alert come from signals, too.
    """
    if db.session.scalar(select(Account.id).limit(1)) is not None:
        return
    account = open_account("Fern & Oak Bicycles")
    submit_identification(
        account,
        legal_name="Fern & Oak Bicycles GmbH",
        country="Germany",
        document="Company register extract",
        document_number="HRB 20417",
    )

    commuters = create_campaign(account, "Spring commuters")
    add_creative(commuters, headline="Beat the bus", text="City bikes from €590.")
    add_creative(commuters, headline="Your new way to work", text="Try one free for a week.")
    place_bid(commuters, Placement.FRONT_PAGE, Decimal("1.20"))
    place_bid(commuters, Placement.SEARCH, Decimal("0.95"))

    families = create_campaign(account, "Cargo bikes")
    add_creative(families, headline="Two children, one bike", text="Cargo bikes, tested for you.")
    place_bid(families, Placement.ARTICLE, Decimal("0.80"))

    # Ten readers open every page: more than the welcome credit pays for, so it runs out.
    for _ in range(10):
        for placement in Placement:
            run_auction(placement)
    db.session.commit()
