"""Fixtures for the tests of every room."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support import require_service, serving

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Browser, Page

CHROMIUM_FLAGS = (
    # A container's root has no sandbox.
    "--no-sandbox",
    "--disable-gpu",
    # Nothing but the page under test may reach for the network.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture
def serve() -> "Iterator[Callable[[WSGIApplication], str]]":
    """Give a function that serves a WSGI app until the test ends and returns its URL."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving(app))


# Playwright keeps an event loop running in this thread while it is open, which makes
# `asyncio.run` fail in every test in between. So it is closed with its module.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Give a headless Chromium, the one of the system."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = require_service(
        shutil.which("chromium") or shutil.which("chromium-browser"),
        "Chromium is not installed: apt-get install chromium",
    )
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """Give an empty page with its own cookies; an error in the page's scripts fails the test."""
    errors: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors, f"errors in the page's scripts: {errors}"
