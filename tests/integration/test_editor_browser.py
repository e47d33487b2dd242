"""Links to an editor and the code of receivers in a real browser."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.debug.page.test_editor import RECEIVER, connected, write
from tests.integration.test_page_browser import CONTRASTS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Page

    Serve = Callable[[WSGIApplication], str]

SCROLLED = """async () => {
    while (!document.querySelector(".source pre").scrollLeft)
        await new Promise(requestAnimationFrame);
}"""
"""Wait until the code has scrolled sideways."""


@pytest.fixture
def url(serve: "Serve", tmp_path: Path) -> str:
    """Serve an app whose receiver has a long line and many lines; return the URL of its signal."""
    text = RECEIVER.replace("...", f"\n    {'long_' * 60}\n" + "    1\n" * 100)
    app = connected(text, write(tmp_path, text).file, SIGNALS_KIT_EDITOR="vscode")
    return f"{serve(app)}/_signals/signals/account_funded"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_code_is_readable_at_any_width(page: "Page", url: str, width: int, scheme: Any) -> None:
    """A long line scrolls in its box, also by keyboard; the page does not."""
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme=scheme)
    page.goto(url)
    code = page.locator(".source pre")
    assert not code.is_visible()
    page.get_by_text("Source of receive").click()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = code.bounding_box()
    assert box is not None
    assert box["width"] > 0.7 * width
    code.focus()
    page.keyboard.press("ArrowRight")
    page.evaluate(SCROLLED)
    contrasts = page.evaluate(CONTRASTS)
    assert [found for found in contrasts if found[0] < 4.5] == []


def test_links_to_an_editor_are_plain_links(page: "Page", url: str) -> None:
    """The content security policy does not block them, and they load nothing."""
    messages: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(url, wait_until="networkidle")
    page.on("request", lambda request: requests.append(request.url))
    link = page.locator(".receivers .place a")
    assert str(link.get_attribute("href")).endswith("/shop.py:1")
    link.click()
    assert page.url == url
    assert page.locator(".receivers .place a").is_visible()
    assert not any("Content Security Policy" in message for message in messages)
    assert [request for request in requests if request.startswith("http")] == []
