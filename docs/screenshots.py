"""Take new screenshots of the page: ``.venv/bin/python -m docs.screenshots``.

They show the example app after some requests: a request, the signals, their flow and the outbox, in
light and dark. Needs Chromium.
"""
# ruff: noqa: INP001 - Sphinx's folder is no package; this is run from the project's root.

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from playwright.sync_api import Page, sync_playwright

from example_app import create_app
from tests.conftest import CHROMIUM_FLAGS, find_chromium
from tests.integration.test_story import fill, go
from tests.support import serving

FOLDER = Path(__file__).parent / "_static"
SCHEMES: dict[Literal["light", "dark"], str] = {"light": "", "dark": "-dark"}
PICTURES = {"request-page": "See what ran", "signals-page": "Signals", "flow-page": "Flow"}
"""The name of each picture, and the link that leads to it."""


def _use(page: Page, url: str) -> None:
    """Use the example, so that there is something to see; end with a payment."""
    page.goto(url)
    for amount in ("250", "80", "120"):
        go(page, "Funding")
        page.get_by_role("link", name="Send a wire transfer").click()
        fill(page, "Report transfer", amount_in_euros=amount)
    go(page, "Publisher")
    fill(page, "Open the page", placement="Article", page_views="20")
    go(page, "Errors")
    page.get_by_role("button", name="Break a receiver").click()
    go(page, "Funding")
    page.get_by_role("link", name="Send a wire transfer").click()
    fill(page, "Report transfer", amount_in_euros="90")


def main() -> None:
    """Write the pictures."""
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        app = create_app(
            {
                "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/placard.sqlite",
                "MAIL_OUTBOX": folder,
                "LEDGER": f"{folder}/ledger.sqlite",
            }
        )
        app.debug = True
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        with serving(app) as url:
            page = browser.new_page(
                viewport={"width": 1280, "height": 760}, device_scale_factor=1.5
            )
            _use(page, url)
            for name, link in PICTURES.items():
                page.get_by_role("link", name=link, exact=True).click()
                _take(page, name)
            _fail_to_post(page, url)
            page.goto(f"{url}/_signals/outbox")
            _take(page, "outbox-page")
        browser.close()


def _take(page: Page, name: str) -> None:
    for scheme, suffix in SCHEMES.items():
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=FOLDER / f"{name}{suffix}.png")


def _fail_to_post(page: Page, url: str) -> None:
    """Pay while the ledger is down."""
    page.goto(f"{url}/ledger/")
    page.get_by_role("button", name="Take it down").click()
    for amount in ("60", "75"):
        page.goto(f"{url}/funding/wire")
        fill(page, "Report transfer", amount_in_euros=amount)
    page.wait_for_timeout(2500)  # until both have failed


if __name__ == "__main__":
    main()
