"""The example's story in a real browser, from a new account to the page of its signals."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from sqlalchemy import select

from example_app import create_app
from example_app.accounts.models import Account
from example_app.campaigns.models import Campaign
from example_app.extensions import db
from example_app.funding.card import add_card
from example_app.funding.wire import receive_wire
from tests.support import follow

if TYPE_CHECKING:
    from playwright.sync_api import Page

ALERT = "Alert: out of funds"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    """Give the example as `flask run --debug` serves it."""
    app = create_app(
        {
            "DEBUG": True,
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/placard.sqlite",
            "MAIL_OUTBOX": str(tmp_path / "mails"),
            "LEDGER": str(tmp_path / "ledger.sqlite"),
            "SIGNALS_KIT_ENGINE": "none",
        }
    )
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def url(app: Flask, serve: Callable[[Flask], str]) -> str:
    """Give the address at which the example is served."""
    return serve(app)


def go(page: "Page", link: str) -> None:
    """Follow a link of the main navigation, and wait until the page is complete."""
    follow(page.get_by_role("navigation", name="Main").get_by_role("link", name=link))


def fill(page: "Page", submit: str, **fields: str) -> None:
    """Fill the labelled fields of a form, send it, and wait until the answer is complete."""
    for name, value in fields.items():
        field = page.get_by_label(name.replace("_", " ").capitalize(), exact=True)
        if field.evaluate("field => field.tagName") == "SELECT":
            field.select_option(label=value)
        else:
            field.fill(value)
    follow(page.get_by_role("button", name=submit, exact=True))


def steps_done(page: "Page") -> int:
    """Return how many steps the wizard shows as done."""
    go(page, "Onboarding")
    return page.get_by_role("main").locator("ol > li > .tick.done").count()


def test_whole_story(url: str, page: "Page") -> None:
    """Set up an account, run out of funds, wire money, see an error, and ask what happened."""
    # A newcomer opens an account and follows the wizard, whose steps lead all over the app.
    page.goto(url)
    page.get_by_role("link", name="Your account").click()
    fill(page, "Open account", company_name="Newcomer")
    assert steps_done(page) == 0

    page.get_by_role("link", name="Go to: Submit identification").click()
    fill(
        page,
        "Submit identification",
        legal_name="Newcomer Ltd",
        country="Ireland",
        document="Passport",
        document_number="P-1",
    )
    assert page.url == f"{url}/onboarding/", "a finished step leads back"
    assert steps_done(page) == 1

    page.get_by_role("link", name="Go to: Add a payment method").click()
    fill(
        page,
        "Add card",
        name_on_the_card="Newcomer",
        test_card="Visa ending in 4242, always accepted",
    )
    assert steps_done(page) == 2

    page.get_by_role("link", name="Go to: Add funds").click()
    page.get_by_role("link", name="Pay by card").click()
    fill(page, "Pay", amount_in_euros="10")
    assert steps_done(page) == 3

    page.get_by_role("link", name="Go to: Create a campaign").click()
    page.get_by_role("link", name="New campaign").click()
    fill(page, "Create campaign", campaign_name="Launch")
    fill(page, "Add creative", headline="Hello", text="We are new here.")
    assert steps_done(page) == 3, "without a bid, the campaign does not count yet"
    go(page, "Campaigns")
    page.get_by_role("link", name="Launch").click()
    fill(page, "Place bid", placement="Article", euros_per_impression="17.50")
    assert steps_done(page) == 4
    page.get_by_role("button", name="Dismiss the alert: onboarding completed").click()

    # Serving spends the 35 euros, and the last one raises the alert.
    go(page, "Publisher")
    fill(page, "Open the page", placement="Article", page_views="3")
    page.get_by_text("2 of 3 page views showed an advertisement.").wait_for()
    assert page.get_by_text("Newcomer paid €17.50").is_visible()
    assert page.get_by_role("region", name=ALERT).is_visible()

    # A wire transfer, of which the alerts know nothing, dismisses it.
    page.get_by_role("link", name="Add funds").click()
    page.get_by_role("link", name="Send a wire transfer").click()
    fill(page, "Report transfer", amount_in_euros="100")
    assert page.get_by_role("region", name=ALERT).count() == 0
    go(page, "Alerts")
    assert page.get_by_role("row", name="Out of funds").get_by_text("funding (wire)").is_visible()

    # Thanks for both payments came by mail, and the alerts did, too; newest first.
    go(page, "Mails")
    assert page.get_by_role("article").get_by_role("heading").all_inner_texts() == [
        "Thank you for €100.00",
        "Placard: out of funds",
        "Placard: onboarding completed",
        "Thank you for €10.00",
    ]
    assert page.get_by_text("Your balance is now €100.00.").is_visible()

    # A receiver fails, and its sender goes on.
    go(page, "Errors")
    fill(page, "Break a receiver")
    assert page.get_by_text("this request continued.").is_visible()
    error = page.get_by_role("row", name="DemonstrationError")
    assert error.get_by_text("breakage_requested").is_visible()
    assert error.get_by_text("fail_on_purpose").is_visible()

    # What just happened?
    follow(page.get_by_role("link", name="What just happened?"))
    assert re.search(r"/_signals/?$", page.url)
    page.get_by_role("link", name="Signals", exact=True).click()
    told = page.get_by_role("main").inner_text()
    for name in ("account_funded", "tick_funds", "dismiss_out_of_funds", "resume_bidding", "thank"):
        assert name in told


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_every_page_fits_the_screen(
    app: Flask, url: str, page: "Page", width: int, scheme: str
) -> None:
    """No page scrolls sideways, and its text has enough contrast.

    Names are as long as the forms let them be, and have no blank.
    """
    with app.app_context():
        account = db.session.get_one(Account, 1)
        account.name = "W" * 80
        for campaign in db.session.scalars(select(Campaign)):
            campaign.name = "W" * 80
            for creative in campaign.creatives:
                creative.headline, creative.text = "W" * 50, "W" * 120
        add_card(account, last4="4242", holder="W" * 80)
        receive_wire(account, Decimal(10_000))
        db.session.commit()
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 844})
    for path in (
        "/",
        "/onboarding/",
        "/campaigns/",
        "/campaigns/1",
        "/funding/",
        "/publisher/?shown=1",
        "/alerts/",
        "/mails/",
        "/errors/",
        "/accounts/",
        "/accounts/identification",
        "/nowhere",
    ):
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert page.evaluate(FAINT_TEXT) == [], path


# WCAG's contrast of each text with the nearest opaque background behind it, where it is too low.
FAINT_TEXT = """() => {
  const rgba = colour => {
    const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
    return {r, g, b, a};
  };
  const luminance = ({r, g, b}) => [r, g, b]
    .map(part => part / 255)
    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = rgba(getComputedStyle(element).backgroundColor);
      if (colour.a === 1) return colour;
    }
    return {r: 255, g: 255, b: 255};
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest('.sr')) continue;
    const pair = [rgba(getComputedStyle(element).color), behind(element)].map(luminance);
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < 4.5) faint.push([texts.currentNode.data.trim(), ratio]);
  }
  return faint;
}"""


def test_narrow_table_has_even_rows(url: str, page: "Page") -> None:
    """On a narrow screen all its rows are equally tight, and no gap is above the first one."""
    page.set_viewport_size({"width": 375, "height": 844})
    page.goto(f"{url}/campaigns/")
    cells, rows = (
        page.locator(each).evaluate_all("all => all.map(it => getComputedStyle(it).padding)")
        for each in (".stack tbody > tr > *", ".stack tbody > tr")
    )
    assert len(set(cells)) == 1
    assert len(rows) == 2
    assert rows[0].startswith("0px")


def test_pages_can_be_used_by_keyboard(url: str, page: "Page") -> None:
    """The first stop skips the navigation, and each stop is visible."""
    page.goto(url)
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.inner_text() == "Skip to the content"
    assert focused.evaluate("it => it.getBoundingClientRect().top >= 0")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert focused.inner_text() == "Overview"
    assert focused.evaluate("it => getComputedStyle(it).outlineStyle") == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/onboarding/")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_line_after_an_action_leads_to_the_tree_of_its_request(
    app: Flask, url: str, page: "Page", width: int, scheme: str
) -> None:
    """The line is the last of the content, and readable; its link shows what receivers sent."""
    with app.app_context():
        add_card(db.session.get_one(Account, 1), last4="4242", holder="Fern")
        db.session.commit()
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 844})
    page.goto(f"{url}/funding/wire")
    fill(page, "Report transfer", amount_in_euros="250")
    line = page.locator("main > :last-child")
    told = "This sent account_funded, onboarding_completed, alert_raised. See what ran"
    assert line.inner_text() == told
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(FAINT_TEXT) == []

    follow(line.get_by_role("link", name="See what ran"))
    assert page.get_by_role("heading", name="POST /funding/wire").is_visible()
    for signal, depth in {
        "account_funded": 0,
        "onboarding_completed": 2,
        "alert_raised": 4,
    }.items():
        emission = page.locator(f".tree > .emission.depth-{depth}").filter(has_text=signal)
        assert emission.is_visible()
    mail = page.locator(".tree > .step").filter(has_text="mail_alert")
    assert mail.get_by_text("ran", exact=True).is_visible()
    assert mail.get_by_text("after the commit").is_visible()
