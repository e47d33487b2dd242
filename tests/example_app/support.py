"""A visitor who uses the example's pages."""

import re
from html import unescape
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

SEEDED = "Fern & Oak Bicycles"


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

    def open_account(self, name: str) -> None:
        self.submit("/accounts/", name=name)

    def run_campaign(self, *, bid: str, placement: str = "front page") -> None:
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
