"""The Requests views in a real browser: live and without scripts, accessible, at any width."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from flask import Flask

from flask_signals_kit import SignalsKit
from tests.integration.test_page_browser import CONTRASTS, LONG
from tests.support import Later, follow

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Browser, ConsoleMessage, Page

    Serve = Callable[[WSGIApplication], str]


class Served(NamedTuple):
    """An app that is served, with requests of every kind."""

    app: Flask
    kit: SignalsKit
    url: str
    later: Later

    def fund(self, path: str = "/fund") -> None:
        """Send a request to the app."""
        self.app.test_client().post(path)


VIEWS = ("/requests", "/requests/{id}", "/emissions/{number}", "/signals/account_funded")


@pytest.fixture
def served(serve: "Serve") -> Served:
    """Serve an app in which each classic cause has happened, three deep."""
    app = Flask("shop")
    app.testing = True
    kit, later = SignalsKit(app), Later()
    for name in ("account_funded", "alert_dismissed", LONG):
        kit.signal(name, "Something happened.")
    connect(kit, later)

    @app.post("/fund")
    @app.post(f"/<any({LONG}):rest>", endpoint=LONG)
    def fund(rest: str = "") -> str:
        kit.send("account_funded", object(), amount=5, method="card", **{LONG: 5})
        return "thanks"

    @app.cli.command("fund")
    def command() -> None:
        kit.send("account_funded")

    app.config["PROPAGATE_EXCEPTIONS"] = False
    served = Served(app, kit, f"{serve(app)}/_signals", later)
    app.test_cli_runner().invoke(args=["fund"])
    served.fund(f"/{LONG}")
    served.fund()
    return served


def connect(kit: SignalsKit, later: Later) -> None:
    """Connect a receiver for each status; the second sends a signal."""

    def dismiss(sender: object, **extra: object) -> None:
        kit.send("alert_dismissed", sender)

    def archive(sender: object, **extra: object) -> None:
        kit.send(LONG, sender)

    def fine(sender: object, **extra: object) -> None: ...
    def raises(sender: object, **extra: object) -> None:
        raise type("A" + "VeryLong" * 9 + "Error", (Exception,), {})

    def of_acme(sender: object, **extra: object) -> None: ...

    kit.on("account_funded", when=lambda sender, **extra: False)(fine)
    kit.on("account_funded")(dismiss)
    kit.on("account_funded", sender="acme")(of_acme)
    kit.on("account_funded", delivery=later, priority=5)(fine_later)
    kit.on("alert_dismissed")(archive)
    kit.on(LONG, on_error="isolate")(raises)
    kit.on(LONG)(raises)
    kit.on(LONG)(fine)


def fine_later(sender: object, **extra: object) -> None:
    """Be a receiver that runs later."""


def paths(served: Served) -> list[str]:
    """Return the path of each view, for the newest request and its first emission."""
    [request, *_] = served.app.test_client().get("/_signals/requests.json").get_json()["requests"]
    number = request["emissions"][0]["number"]
    return [view.format(id=request["id"], number=number) for view in VIEWS]


# -- what it shows --------------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False])
def test_views_lead_from_the_list_to_an_emission_and_back(
    browser: "Browser", served: Served, scripts: bool
) -> None:
    """With links and a form alone."""
    with browser.new_context(java_script_enabled=scripts) as context:
        page = context.new_page()
        page.goto(served.url)
        assert page.get_by_role("heading", level=1).inner_text() == "Requests"
        assert page.get_by_role("status").inner_text() == "3 recorded"
        page.get_by_label("Method, path or command").fill("/fund")
        follow(page.get_by_role("button", name="Filter"))
        assert page.get_by_role("status").inner_text() == "1 of 3 recorded"
        follow(page.get_by_role("link", name="POST /fund"))
        tree = page.locator(".tree li")
        assert tree.count() == 10
        shown = [text.split("\n")[0] for text in page.locator(".tree .outcome").all_inner_texts()]
        assert shown == [
            "skipped",
            "failed",
            "failed",
            "failed",
            "not reached",
            "other sender",
            "waiting",
        ]
        follow(page.locator(".tree .number").nth(1))
        assert page.get_by_role("heading", level=1).inner_text().endswith("of alert_dismissed")
        follow(page.get_by_role("link", name="POST /fund"))
        assert page.get_by_role("heading", level=1).inner_text() == "POST /fund"
        follow(page.locator(".tree a", has_text="account_funded"))
        why = page.get_by_role("region", name="Receivers by emissions")
        assert "other sender" in why.inner_text()
        follow(why.get_by_role("link").first)
        assert "/emissions/" in page.url
        follow(page.get_by_role("link", name="All requests"))
        page.get_by_text("Only with failures").click()
        follow(page.get_by_role("button", name="Filter"))
        assert page.get_by_role("status").inner_text() == "3 recorded"


def test_explanation_has_a_row_for_each_receiver(page: "Page", served: Served) -> None:
    """And a column for each emission, with the reason; wide tables scroll by themselves."""
    for _ in range(8):
        served.fund()
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(f"{served.url}/signals/account_funded")
    why = page.get_by_role("region", name="Receivers by emissions")
    assert why.locator("tbody tr").count() == 4
    assert why.locator("thead th").count() == 1 + 8
    assert why.get_by_text("connected for sender 'acme', sent by object").count() == 8
    assert why.evaluate("table => table.scrollWidth > table.clientWidth")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


# -- refreshing -----------------------------------------------------------------------------------


def test_list_refreshes_when_something_is_sent(page: "Page", served: Served) -> None:
    """By itself, with the filters, and without moving the focus."""
    page.goto(f"{served.url}/requests?q=/fund")
    assert page.get_by_role("status").inner_text() == "1 of 3 recorded"
    assert not page.get_by_role("link", name="Refresh").is_visible()
    link = page.locator("table.requests a").first
    link.focus()
    served.fund()
    page.get_by_text("2 of 4 recorded").wait_for(timeout=5000)
    assert page.evaluate("document.activeElement.getAttribute('href')") == link_of(served, 1)


def link_of(served: Served, index: int) -> str:
    """Return the path of one of the recorded requests."""
    found = served.app.test_client().get("/_signals/requests.json").get_json()["requests"]
    return f"/_signals/requests/{found[index]['id']}"


def test_request_sent_before_the_first_refresh_is_shown(page: "Page", served: Served) -> None:
    """Between the response and the script."""

    def fund_first(route: Any) -> None:
        served.fund()
        route.continue_()

    page.route("**/live.js", fund_first)
    page.goto(f"{served.url}/requests")
    page.get_by_text("4 recorded").wait_for(timeout=5000)


def test_tree_refreshes_when_a_receiver_has_run(page: "Page", served: Served) -> None:
    """A receiver that waited has run; selected text is not replaced."""
    page.goto(served.url + paths(served)[1])
    waiting = page.locator(".outcome.waiting")
    waiting.wait_for()
    waiting.select_text()
    served.later.run()
    page.wait_for_timeout(1500)
    assert waiting.is_visible()
    page.evaluate("getSelection().removeAllRanges()")
    page.locator(".outcome.ran").wait_for(timeout=5000)
    assert "later, " in page.locator(".tree li").last.inner_text()


def test_refreshing_stops_in_the_background(page: "Page", served: Served) -> None:
    """And goes on when the page is visible again."""
    asked: list[str] = []
    page.goto(f"{served.url}/requests")
    page.on("request", lambda request: asked.append(request.url))
    visibility = "Object.defineProperty(document, 'visibilityState', {value: '%s', writable: true})"
    page.evaluate(visibility % "hidden")
    page.wait_for_timeout(1200)  # a request may have begun
    asked.clear()
    served.fund()
    page.wait_for_timeout(2500)
    assert asked == []
    page.evaluate("document.visibilityState = 'visible'")
    page.get_by_text("4 recorded").wait_for(timeout=5000)


def test_refreshing_survives_a_restart_of_the_server(page: "Page", served: Served) -> None:
    """Meanwhile, there is a link; the reloader restarts the server whenever a file is saved."""
    page.goto(f"{served.url}/requests")
    page.route("**/requests", lambda route: route.abort())
    page.get_by_role("link", name="Refresh").wait_for(timeout=5000)
    page.unroute("**/requests")
    served.fund()
    page.get_by_text("4 recorded").wait_for(timeout=5000)
    page.get_by_role("link", name="Refresh").wait_for(state="hidden")


def test_link_refreshes_without_scripts(browser: "Browser", served: Served) -> None:
    """On each view."""
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{served.url}/requests")
        served.fund()
        follow(page.get_by_role("link", name="Refresh"))
        assert page.get_by_role("status").inner_text() == "4 recorded"
        served.later.run()
        follow(page.locator("table.requests a").first)
        follow(page.get_by_role("link", name="Refresh"))
        assert page.locator(".outcome.ran").is_visible()


# -- looks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_views_are_accessible_and_readable(
    page: "Page", served: Served, width: int, scheme: Any
) -> None:
    """Axe finds nothing, nothing is cut off, and the contrast is high enough."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    others = ["/signals", "/flow", "/requests?q=none", "/emissions/0"]
    check_views(page, served.url, [*paths(served), *others], width)


def check_views(page: "Page", url: str, paths: list[str], width: int) -> None:
    """Check that each view is accessible and readable in a window of this width."""
    for path in paths:
        page.goto(url + path)
        found = violations(page)
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], path
        assert page.evaluate("document.documentElement.scrollWidth") == width, path
        assert [text for text in page.evaluate(CONTRASTS) if text[0] < 4.5] == [], path
        assert page.evaluate(CUT_OFF) == [], path


def violations(page: "Page") -> Any:
    """Return what axe finds."""
    page.evaluate(AXE_SCRIPT)
    return page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]


CUT_OFF = """[...document.querySelectorAll("main *")]
    .filter((e) => e.checkVisibility() && !e.closest(".why") && !e.closest(".sr"))
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.textContent.slice(0, 40))"""


def test_axe_finds_what_is_not_accessible(page: "Page", served: Served) -> None:
    """The check above can fail."""
    page.goto(f"{served.url}/requests")
    page.evaluate("document.querySelector('label[for=path]').remove()")
    page.evaluate("document.querySelector('#path').removeAttribute('placeholder')")
    assert [each["id"] for each in violations(page)] == ["label"]


def test_console_has_no_errors(page: "Page", served: Served) -> None:
    """No policy violation, and no request to another host."""
    messages: list[str] = []
    asked: list[str] = []

    def note(message: "ConsoleMessage") -> None:
        if message.type in {"error", "warning"}:
            messages.append(message.text)

    page.on("console", note)
    page.on("request", lambda request: asked.append(request.url))
    for path in paths(served):
        page.goto(served.url + path)
        page.wait_for_timeout(1200)
    assert messages == []
    assert all(url.startswith(served.url) for url in asked)
    assert len(asked) > 4 * len(VIEWS)
