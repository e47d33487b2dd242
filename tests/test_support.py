"""Fixtures and helpers of the other tests."""

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from flask import Flask

from tests import support
from tests.support import require_service, serving

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Page

PAGE = """
<!doctype html><title>before</title>
<button onclick="document.title = 'after'">press</button>
"""


def test_served_app_answers_until_the_block_ends() -> None:
    """It is reachable over HTTP for as long as it is served, no longer."""
    app = Flask("served")
    app.add_url_rule("/", view_func=lambda: "here")
    with serving(app) as url, urlopen(url) as response:
        assert response.read() == b"here"
    with pytest.raises(URLError):
        urlopen(url)


def test_page_fixture_is_a_real_browser(
    serve: "Callable[[WSGIApplication], str]", page: "Page"
) -> None:
    """A served page renders in Chromium, and its script reacts to a click."""
    app = Flask("served")
    app.add_url_rule("/", view_func=lambda: PAGE)
    page.goto(serve(app))
    assert page.title() == "before"
    page.get_by_role("button").click()
    assert page.title() == "after"


def test_require_service_returns_what_was_found() -> None:
    """Even a falsy value."""
    assert require_service("/usr/bin/true", "true is missing") == "/usr/bin/true"
    assert require_service(0, "zero is missing") == 0


def test_missing_service_skips_the_test_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a developer's machine."""
    monkeypatch.setattr(support, "ON_CI", False)
    with pytest.raises(pytest.skip.Exception, match="Redis is not installed"):
        require_service(None, "Redis is not installed")


def test_missing_service_fails_the_test_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CI no test is skipped."""
    monkeypatch.setattr(support, "ON_CI", True)
    with pytest.raises(pytest.fail.Exception, match="CI must have it: Redis is not installed"):
        require_service(None, "Redis is not installed")
