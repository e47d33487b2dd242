"""The view of the flow: the picture, the list and the JSON."""

import re
from collections.abc import Callable
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

from flask_signals_kit import AppSignals, SignalsKit
from flask_signals_kit.debug.flow import ROWS, SIGNALS
from tests.debug.page.test_paging import calls
from tests.debug.page.test_paging import make_app as make_long_app
from tests.debug.page.test_views import words
from tests.debug.test_flow import HOSTILE, receiver_in, send_from, with_many
from tests.integration.test_page_browser import CONTRASTS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Browser, Page

    Serve = Callable[[WSGIApplication], str]


def make_app(*, sent: bool = True) -> Flask:
    """Return an app whose flow has edges of each kind."""
    app = Flask("shop")
    app.testing = True
    app_signals = SignalsKit(app).for_app(app)
    gone = receiver_in("shop.gone")
    app_signals.signal("account_funded", "Money arrived.")
    app_signals.signal("campaign_archived", "It is over.")
    app_signals.on("account_funded")(receiver_in("shop.mails"))
    app_signals.on("account_funded")(gone)
    if sent:
        send_from("shop.wire", app_signals, "account_funded", 12)
    app_signals.disconnect(gone)
    return app


def signals_of(app: Flask) -> AppSignals:
    """Return the signals of an app."""
    app_signals: AppSignals = app.extensions["signals_kit"]
    return app_signals


def get(app: Flask, query: str = "") -> str:
    """Return the HTML of the view."""
    response = app.test_client().get(f"/_signals/flow{query}")
    assert response.status_code == 200
    return response.text


def picture(html: str) -> str:
    """Return the picture in the view."""
    return html[html.index("<svg xmlns") : html.index("</svg>", html.index("<svg xmlns"))]


def rows(html: str) -> list[str]:
    """Return the rows of the list, as text."""
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    return [words(row) for row in re.findall(r"<tr>.*?</tr>", body, re.DOTALL)]


def hrefs(html: str) -> list[str]:
    """Return where the links in some HTML lead to."""
    return [unescape(found) for found in re.findall(r'<a href="([^"]*)"', html)]


# -- the view -------------------------------------------------------------------------------------


def test_view_has_the_picture_and_the_same_as_a_list() -> None:
    """For screen readers and narrow screens."""
    html = get(make_app())
    assert picture(html).count("<path") == 3
    assert picture(html).count("<rect") == 5
    assert rows(html) == [
        "account_funded shop. wire 12 sends shop. mails 12 calls "
        "shop. gone 12 calls no longer connected".replace(". ", "."),
        "campaign_archived not recorded no receivers",
    ]
    assert "Dashed lines: seen, no longer connected" in html
    assert "Thin lines" not in html
    assert "Thin lines: connected, not seen yet" in get(make_app(sent=False))


def test_navigation_leads_to_the_view() -> None:
    """From each view."""
    app = make_app()
    assert '<a href="/_signals/flow">Flow</a>' in app.test_client().get("/_signals/signals").text
    assert '<a href="/_signals/flow" aria-current="page">Flow</a>' in get(app)


def test_nodes_are_links() -> None:
    """Signals lead to their views, and modules to their part of the flow."""
    html = get(make_app())
    links = [
        "/_signals/flow?q=shop.wire",
        "/_signals/signals/account_funded",
        "/_signals/signals/campaign_archived",
        "/_signals/flow?q=shop.mails",
        "/_signals/flow?q=shop.gone",
    ]
    assert sorted(hrefs(picture(html))) == sorted(links)
    assert {*links} <= {*hrefs(html[html.index("<tbody>") :])}
    for link in links:
        assert make_app().test_client().get(link).status_code == 200


def test_json_is_linked_and_filtered_like_the_view() -> None:
    """It is complete, however long the flow is."""
    app = make_app()
    html = get(app, "?q=campaign_*&connected=")
    assert '<a class="twin" id="twin" href="/_signals/flow.json?q=campaign_%2A">' in html
    assert [row.split()[0] for row in rows(html)] == ["campaign_archived"]
    with_many(signals_of(app))
    client = app.test_client()
    found = client.get("/_signals/flow.json?q=campaign_*").get_json()
    assert [signal["name"] for signal in found["signals"]] == ["campaign_archived"]
    found = client.get("/_signals/flow.json").get_json()
    assert len(found["signals"]) == 102
    assert found["sends"] == [{"module": "shop.wire", "signal": "account_funded", "seen": 12}]


def test_filter_keeps_its_words_and_can_be_cleared() -> None:
    """The form is a plain one."""
    html = get(make_app(), "?q=shop.mails&connected=1")
    assert 'name="q" value="shop.mails"' in html
    assert 'value="1" checked' in html
    assert '<a href="/_signals/flow">Clear the filters</a>' in html
    assert "1 signal" in words(html)
    assert "No signals match." in get(make_app(), "?q=none_such")


def test_view_without_journal_shows_what_is_connected() -> None:
    """And says why there are no senders."""
    app = Flask("shop")
    app.testing = True
    app.config["SIGNALS_KIT_JOURNAL"] = False
    kit = SignalsKit(app)
    kit.on("account_funded")(receiver_in("shop.mails"))
    html = get(app)
    assert picture(html).count("<path") == 1
    assert "SIGNALS_KIT_JOURNAL</code> is off" in html
    assert "not recorded as sent" not in html


def test_view_before_the_first_send_has_no_senders() -> None:
    """The list says so, too."""
    html = get(make_app(sent=False))
    assert "None of these signals is recorded as sent yet." in html
    assert rows(html)[0] == "account_funded not recorded shop.mails"


def test_long_flow_says_what_is_left_out() -> None:
    """And where to find it."""
    app = make_app()
    with_many(signals_of(app))
    signals_of(app).signal("campaign_paused", "It is on hold.")
    html = get(app)
    assert len(rows(html)) == SIGNALS
    assert f"Left out: {103 - SIGNALS - 1} signals that are used less." in words(html)
    assert "/_signals/signals" in hrefs(html)
    assert "/_signals/signals?only=orphans" in hrefs(picture(html))
    assert get(app, "?q=event_0000*").count("<rect") < 40


def test_text_for_other_tools_is_in_the_view() -> None:
    """To copy."""
    text = unescape(get(make_app()))
    assert "<code>flowchart LR\n" in text
    assert "from1 ==>|12| signal1" in text
    assert "<code>digraph signals {\n" in text


def test_markup_in_names_is_escaped() -> None:
    """In modules, which may be called anything, and in the search."""
    app = make_app()
    signals_of(app).on("account_funded")(receiver_in(HOSTILE))
    send_from(HOSTILE, signals_of(app), "account_funded")
    for html in (get(app), get(app, "?q=<script>alert(1)</script>")):
        assert "<script>alert" not in html
        assert "\x1b" not in picture(html)
        assert len(rows(html)) in {1, 2}
    assert "&lt;script&gt;alert(1)" in picture(get(app))


def test_surrogates_in_names_do_not_break_the_view() -> None:
    """A module may be named after a file whose name is not valid UTF-8."""
    app = make_app()
    send_from("shop.\udcff", signals_of(app), "account_funded")
    assert "\ufffd" in picture(get(app))
    assert app.test_client().get("/_signals/flow.json").status_code == 200


def test_view_shows_no_payload_and_no_sender() -> None:
    """Only names of signals and modules."""
    app = make_app()
    with app.app_context():
        signals_of(app).send("account_funded", "secret sender", card="4111")
    html = get(app)
    assert "secret" not in html
    assert "4111" not in html


# -- cost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["/flow", "/flow?q=receiver", "/flow.json"])
def test_work_is_linear_in_connections(url: str) -> None:
    """Four times as many connections need at most five times as many calls."""
    few, many = (make_long_app(signals, 10).test_client() for signals in (200, 800))
    calls(few, url), calls(many, url)
    (once, _), (four_times, response) = calls(few, url), calls(many, url)
    assert response.status_code == 200
    assert four_times < 5 * once


def test_flow_of_many_connections_is_short() -> None:
    """With 10,000 signals, or 10,000 receivers in as many modules."""
    wide = make_app()
    for number in range(10_000):
        signals_of(wide).on("account_funded")(receiver_in(f"shop.part_{number}.module"))
    send_from("shop.wire", signals_of(wide), "account_funded")
    for app in (make_long_app(10_000, 1), wide):
        html = get(app)
        assert html.count("<rect") <= SIGNALS + 2 * ROWS
        assert len(html) < 200_000


# -- in the browser -------------------------------------------------------------------------------


@pytest.fixture
def url(serve: "Serve") -> str:
    """Serve an app with a long flow; return the URL of the view."""
    app = make_app()
    with_many(signals_of(app))
    signals_of(app).on("account_funded")(receiver_in("a_long_package_name." * 9 + "module"))
    return f"{serve(app)}/_signals/flow"


VIEWS = ("", "?q=account_*", "?q=none_such")


@pytest.mark.parametrize(
    ("width", "is_wide"), [(320, False), (360, False), (961, True), (1440, True)]
)
def test_picture_is_shown_in_wide_windows_and_the_list_in_all(
    page: "Page", url: str, width: int, is_wide: bool
) -> None:
    """Neither makes the page scroll sideways."""
    page.set_viewport_size({"width": width, "height": 800})
    for view in VIEWS:
        page.goto(url + view)
        assert page.evaluate("document.documentElement.scrollWidth") == width, view
    page.goto(f"{url}?q=account_*")
    assert page.locator(".picture").is_visible() is is_wide
    assert page.locator(".flows").is_visible()
    outside = page.evaluate(
        """() => [...document.querySelectorAll(".flow text, .flows code, .flows td")]
            .filter((e) => e.checkVisibility())
            .filter((e) => e.getBoundingClientRect().right > innerWidth)
            .map((e) => e.textContent)"""
    )
    assert outside == []


def test_texts_fit_into_their_boxes(page: "Page", url: str) -> None:
    """Of a long name, the end is shown."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(url)
    too_wide = page.evaluate(
        """() => [...document.querySelectorAll(".flow .box")]
            .filter((box) => box.querySelector("text").getBoundingClientRect().right
                > box.querySelector("rect").getBoundingClientRect().right)
            .map((box) => box.textContent)"""
    )
    assert page.locator(".flow .box").count() > SIGNALS
    assert too_wide == []


def test_links_of_the_picture_work_without_scripts(browser: "Browser", url: str) -> None:
    """From a module to its part of the flow, and from there to a signal."""
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(url)
        page.locator(".flow a", has_text="shop.wire").click()
        page.wait_for_url("**?q=shop.wire")
        assert page.locator(".flows tbody tr").count() == 1
        page.locator(".flow a", has_text="account_funded").click()
        page.wait_for_url("**/signals/account_funded")
        assert page.get_by_role("heading", level=1).inner_text() == "account_funded"
        page.go_back()
        page.get_by_role("link", name="Clear the filters").click()
        page.get_by_text("Mermaid").click()
        assert page.get_by_text("flowchart LR").is_visible()
        page.get_by_text("Only signals with receivers").click()
        page.get_by_role("button", name="Filter").click()
        page.wait_for_url("**connected=1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_lines_have_contrast(page: "Page", url: str, scheme: Any) -> None:
    """At least 4.5 to 1 for texts in the page and in boxes, level AA, and 3 to 1 for lines."""
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{url}?q=_")
    assert [found for found in page.evaluate(CONTRASTS) if found[0] < 4.5] == []
    found = page.evaluate(
        """() => {
            const luminance = (text) => {
                const [r, g, b] = text.match(/[\\d.]+/g).map((c) => c / 255)
                    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
            };
            const contrast = (a, b) => {
                const [x, y] = [a, b].map(luminance).sort((x, y) => y - x);
                return x / y;
            };
            const style = (element, name) => getComputedStyle(element)[name];
            const svg = document.querySelector("svg.flow");
            const each = (selector) => [...svg.querySelectorAll(selector)];
            return [
                ...each(".box").map((box) => contrast(
                    style(box.querySelector("text"), "fill"),
                    style(box.querySelector("rect"), "fill")) / 4.5),
                ...each(".line").map((line) =>
                    contrast(style(line, "stroke"), style(svg, "backgroundColor")) / 3),
            ];
        }"""
    )
    assert len(found) > 50
    assert min(found) >= 1
