"""The Outbox views in a real browser: live and without scripts, accessible, at any width."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from tests.deliveries.durable.support import DurableShop
from tests.integration.test_page_browser import LONG
from tests.integration.test_requests_browser import check_views
from tests.support import follow

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Browser, Page

    Serve = Callable[[WSGIApplication], str]

VIEWS = ("/outbox", "/outbox?status=dead", "/outbox?receiver=none", "/outbox/0", "/requests")


def ignore(sender: Any, **extra: Any) -> None:
    """Be a receiver."""


def fail(sender: Any, **extra: Any) -> None:
    """Be a receiver that raises."""
    raise type("A" + "VeryLong" * 9 + "Error", (Exception,), {})


def fail_too(sender: Any, **extra: Any) -> None:
    """Be a second one."""
    raise LookupError("no ledger")


def later(attempt: int) -> float:
    """Wait for an hour."""
    return 3600


@pytest.fixture
def shop(sqlite: str) -> Iterator[DurableShop]:
    """Give a shop with a message of each status, and receivers with long names."""
    shop = DurableShop(sqlite)
    shop.on(fail, uid=LONG, max_attempts=1)
    shop.on(fail_too, uid="ledger", backoff=later)
    send(shop)
    shop.work()
    shop.on(ignore)
    send(shop, 2)
    change(shop, "UPDATE signals_outbox SET attempt = 1, due = due + 300 WHERE id = 5")
    yield shop
    shop.close()


def send(shop: DurableShop, count: int = 1) -> None:
    """Send in a request."""

    def fund() -> str:
        shop.funded.send("acme", amount=5, method="card", **{LONG: 5})
        return "Thanks."

    if "fund" not in shop.app.view_functions:
        shop.app.add_url_rule("/<path:path>", "fund", lambda path: fund())
    for _ in range(count):
        shop.app.test_client().get(f"/{LONG}")


def change(shop: DurableShop, statement: str) -> None:
    """Change the table."""
    with shop.outside.begin() as connection:
        connection.execute(text(statement))


@pytest.fixture
def url(serve: Serve, shop: DurableShop) -> str:
    """Serve the app; return its page's URL."""
    return f"{serve(shop.app)}/_signals"


@pytest.mark.parametrize("scripts", [True, False])
def test_views_lead_from_an_emission_to_its_message_and_back(
    browser: Browser, url: str, scripts: bool
) -> None:
    """With links and a form alone."""
    with browser.new_context(java_script_enabled=scripts) as context:
        page = context.new_page()
        page.goto(f"{url}/requests")
        follow(page.locator("table.requests a").last)
        assert sorted(page.locator(".tree .outcome").all_inner_texts()) == ["dead", "retrying"]
        follow(page.get_by_role("link", name="message 1"))
        assert page.get_by_role("heading", level=1).inner_text() == "Message 1"
        follow(page.get_by_role("link", name="emission"))
        assert "/emissions/" in page.url
        follow(page.get_by_role("link", name="Outbox"))
        total = page.get_by_role("status").inner_text()
        assert total.endswith(" stored")
        page.get_by_label("Status").select_option("dead")
        follow(page.get_by_role("button", name="Filter"))
        assert page.get_by_role("status").inner_text() == f"1 of {total}"
        follow(page.get_by_role("link", name="Message 1", exact=True))
        follow(page.get_by_role("main").get_by_role("link", name="Outbox"))
        follow(page.get_by_role("link", name="ledger", exact=True))
        assert "receiver=ledger" in page.url


def test_view_refreshes_when_a_message_has_run(page: Page, url: str, shop: DurableShop) -> None:
    """By itself."""
    page.goto(f"{url}/outbox?status=due")
    before = page.get_by_role("status").inner_text()
    shop.work()
    page.get_by_text("No messages match.").wait_for(timeout=5000)
    # Not at once: a refresh while messages run counts them at another time than it lists them.
    page.get_by_role("status").filter(has_not_text=before).wait_for(timeout=5000)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_views_are_accessible_and_readable(
    page: Page, url: str, shop: DurableShop, width: int, scheme: Any
) -> None:
    """Axe finds nothing, nothing is cut off, and the contrast is high enough."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    shop.kit.disconnect(ignore)
    numbers = [message.id for message in shop.messages()]
    check_views(page, url, [*VIEWS, *(f"/outbox/{number}" for number in numbers)], width)
    change(shop, "DROP TABLE signals_outbox")
    check_views(page, url, ["/outbox", "/outbox/1"], width)
