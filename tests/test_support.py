"""The fixtures and helpers that the other tests lean on."""

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


def test_a_served_app_answers_on_the_loopback_and_then_stops() -> None:
    """A served app is reachable over HTTP for as long as it is served, no longer."""
    app = Flask("served")
    app.add_url_rule("/", view_func=lambda: "here")
    with serving(app) as url, urlopen(url) as response:
        assert response.read() == b"here"
    with pytest.raises(URLError):
        urlopen(url)


def test_a_page_runs_in_a_real_browser(
    serve: "Callable[[WSGIApplication], str]", page: "Page"
) -> None:
    """A served page renders in Chromium, and its script reacts to a click."""
    app = Flask("served")
    app.add_url_rule("/", view_func=lambda: PAGE)
    page.goto(serve(app))
    assert page.title() == "before"
    page.get_by_role("button").click()
    assert page.title() == "after"


def test_what_a_test_needs_is_handed_through_when_it_is_there() -> None:
    """A service that was found is returned as it is, even a falsy one."""
    assert require_service("/usr/bin/true", "true is missing") == "/usr/bin/true"
    assert require_service(0, "zero is missing") == 0


def test_a_missing_service_skips_a_test_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a developer's machine a test that lacks its service is skipped and says why."""
    monkeypatch.setattr(support, "ON_CI", False)
    with pytest.raises(pytest.skip.Exception, match="Redis is not installed"):
        require_service(None, "Redis is not installed")


def test_a_missing_service_fails_a_test_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CI nothing is skipped in silence."""
    monkeypatch.setattr(support, "ON_CI", True)
    with pytest.raises(pytest.fail.Exception, match="CI must have it: Redis is not installed"):
        require_service(None, "Redis is not installed")
