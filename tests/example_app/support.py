"""A visitor who uses the example's pages."""

import os
import re
from html import unescape
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

from example_app.accounts.models import Account
from example_app.extensions import db

ROOT = Path(__file__).parents[2]
SEEDED = "Fern & Oak Bicycles"
IDENTIFICATION = {
    "legal_name": "Newcomer Ltd",
    "country": "Ireland",
    "document": "Passport",
    "document_number": "P-1",
}


def environment(folder: Path, **extra: str) -> dict[str, str]:
    """Return the variables with which another process has its files in a folder."""
    return {
        **os.environ,
        "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder}/placard.sqlite",
        "FLASK_MAIL_OUTBOX": str(folder / "mails"),
        "FLASK_LEDGER": str(folder / "ledger.sqlite"),
        **extra,
    }


class Visitor:
    """A browser without scripts: it keeps cookies and sends the forms that it was shown."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()

    def read(self, path: str) -> str:
        """Open a page and return its words, one space between them."""
        response = self.client.get(path, follow_redirects=True)
        assert response.status_code == 200, f"{path} answered {response.status}"
        return words(response)

    def submit(self, path: str, page: str | None = None, **fields: Any) -> TestResponse:
        """Open the page that holds a form, and send the form with these fields."""
        token = re.search(r'name="csrf_token"[^>]* value="([^"]+)"', self.html(page or path))
        assert token, f"{page or path} holds no form"
        return self.client.post(
            path, data={"csrf_token": token[1], **fields}, follow_redirects=True
        )

    def html(self, path: str) -> str:
        return self.client.get(path).text

    @property
    def account(self) -> Account:
        """The account that the visitor acts for, as it is in the database now."""
        with self.client.session_transaction() as session, self.client.application.app_context():
            return db.session.get_one(Account, session["account_id"])

    def open_account(self, name: str) -> None:
        self.submit("/accounts/", name=name)

    def identify(self) -> TestResponse:
        return self.submit("/accounts/identification", **IDENTIFICATION)

    def add_card(self, last4: str = "4242") -> TestResponse:
        return self.submit("/funding/cards/new", holder="Newcomer", last4=last4)

    def pay_by_card(self, amount: str = "50") -> TestResponse:
        return self.submit("/funding/card", card="1", amount=amount)

    def wire(self, amount: str = "50") -> TestResponse:
        return self.submit("/funding/wire", amount=amount)

    def run_campaign(self, *, bid: str = "1.00", placement: str = "front page") -> None:
        """Create a campaign with one creative and one bid."""
        show = self.submit("/campaigns/new", name="Launch").request.path
        self.submit(f"{show}/creatives", show, headline="Look", text="Here we are.")
        self.submit(f"{show}/bids", show, placement=placement, amount=bid)

    def serve(self, views: int = 1, placement: str = "front page") -> str:
        """Let readers open the publisher's page and return what the last one sees."""
        return words(self.submit("/publisher/", placement=placement, views=views))

    def dismiss(self, alert_id: int) -> TestResponse:
        return self.submit(f"/alerts/{alert_id}/dismiss", "/accounts/")


def words(response: TestResponse) -> str:
    """Return the text of a page as a reader sees it."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.text)).split())
