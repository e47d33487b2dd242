"""The page in a real browser: with and without scripts, by keyboard, in both colour schemes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flask.signals
import pytest
from flask import Flask

from flask_signals_kit import SignalsKit
from tests.debug.page.test_paging import make_app as make_long_app
from tests.debug.page.test_views import QUERIES, make_app
from tests.support import follow

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Browser, ConsoleMessage, Page

    Serve = Callable[[WSGIApplication], str]

VIEWS = ("", "/account_funded", "/none_such", "?q=none_such", "?only=orphans")

LONG = "a_signal_with_a_name_that_is_longer_than_any_line_of_a_narrow_screen_could_ever_be_" * 2

SHOWN = "cards => cards.filter(card => card.checkVisibility()).map(card => card.id.slice(7))"
"""The names of the signals that can be seen."""


@pytest.fixture
def url(serve: "Serve") -> str:
    """Serve an app with signals, receivers and problems of every kind; return its page's URL."""
    app = make_app()
    kit = app.extensions["signals_kit"]
    kit.signal(LONG, f"Something{'long' * 50} happened.")
    kit.on(LONG)(deeply_nested())
    flask.signals.request_started.connect(foreign, app)
    return f"{serve(app)}/_signals/signals"


def foreign(app: Flask, **extra: object) -> None:
    """Be a third-party receiver of Flask's own signal."""


def deeply_nested() -> Callable[..., None]:
    """Return a receiver with a very long name."""

    def receiver(sender: object, **extra: object) -> None: ...

    receiver.__qualname__ = f"{LONG}.{LONG}"
    return receiver


def shown(page: "Page") -> list[str]:
    """Return the names of the visible signals."""
    names: list[str] = page.eval_on_selector_all("article.signal", SHOWN)
    return names


def focused(page: "Page") -> str:
    """Return the text of the focused element."""
    text: str = page.evaluate("document.activeElement.textContent")
    return text


# -- scripts --------------------------------------------------------------------------------------


def test_page_works_without_scripts(browser: "Browser", url: str) -> None:
    """Search, filters and views are forms and links."""
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(url)
        everything = page.locator("article.signal:visible").count()
        assert everything == 14
        page.get_by_role("searchbox").fill("money")
        follow(page.get_by_role("button", name="Search"))
        assert page.locator("article.signal:visible").count() == 1
        assert page.get_by_role("status").inner_text() == "1 of 14 signals"
        follow(page.get_by_role("link", name="Clear the filters"))
        page.get_by_text("Problems 2", exact=True).click()
        follow(page.get_by_role("button", name="Search"))
        assert page.locator("article.signal:visible").count() == 2
        follow(page.locator("article.signal:visible h3 a").first)
        assert page.get_by_role("heading", level=1).inner_text() == "account_funded"
        follow(page.get_by_role("link", name="All signals"))
        assert page.locator("article.signal:visible").count() == 2
        follow(page.get_by_role("link", name="Clear the filters"))
        assert page.locator("article.signal:visible").count() == everything
        follow(page.get_by_role("link", name="JSON"))
        assert '"account_funded"' in page.content()


def test_typing_filters_immediately(page: "Page", url: str) -> None:
    """Without a request, if all signals are on one page.

    The address and the JSON link follow, and a reload shows the same.
    """
    page.goto(url)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.get_by_role("searchbox").press_sequentially("money")
    assert shown(page) == ["account_funded"]
    assert page.get_by_role("status").inner_text() == "1 of 14 signals"
    page.get_by_text("Domain", exact=False).first.click()
    page.wait_for_url(f"{url}?q=money&origin=domain")
    assert [request for request in requests if not request.endswith("icon.svg")] == []
    twin = page.get_by_role("link", name="JSON")
    assert twin.get_attribute("href") == "/_signals/signals.json?q=money&origin=domain"
    page.reload()
    assert shown(page) == ["account_funded"]
    assert page.get_by_role("searchbox").input_value() == "money"
    assert page.locator("#origin-domain").is_checked()


def test_back_from_a_signal_leads_to_the_same_view(page: "Page", url: str) -> None:
    """By the link and by the browser's button, also for fast typing and clicking."""
    for go_back in (page.go_back, page.get_by_role("link", name="All signals").click):
        page.goto(url)
        page.get_by_role("searchbox").fill("money")
        page.get_by_role("link", name="account_funded").last.click()
        page.wait_for_url("**/signals/account_funded?q=money")
        go_back()
        page.wait_for_url(f"{url}?q=money**")
        assert shown(page) == ["account_funded"]
        assert page.get_by_role("searchbox").input_value() == "money"


@pytest.fixture
def long_url(serve: "Serve") -> str:
    """Serve an app with more signals than one page shows; return its page's URL."""
    return f"{serve(make_long_app(250, 1))}/_signals/signals"


@pytest.mark.parametrize("scripts", [True, False])
def test_search_and_filters_of_a_long_list_apply_to_all_pages(
    browser: "Browser", long_url: str, scripts: bool
) -> None:
    """The server filters, with and without scripts."""
    with browser.new_context(java_script_enabled=scripts) as context:
        page = context.new_page()
        page.goto(long_url)
        assert page.get_by_role("status").inner_text() == "All 260 signals"
        page.get_by_role("link", name="Next").click()
        page.get_by_role("link", name="3", exact=True).click()
        page.wait_for_url(f"{long_url}?page=3")
        assert page.locator("article.signal:visible").count() == 60
        box = page.get_by_role("searchbox")
        box.fill("receiver_7")
        assert page.get_by_role("status").inner_text() == "All 260 signals"
        page.get_by_role("button", name="Search").click()
        page.wait_for_url(f"{long_url}?q=receiver_7")
        assert page.get_by_role("status").inner_text() == "11 of 260 signals"
        page.get_by_text("Orphans 0", exact=True).click()
        if not scripts:
            page.get_by_role("button", name="Search").click()
        page.wait_for_url(f"{long_url}?q=receiver_7&only=orphans")
        assert page.get_by_text("No signals match.").is_visible()
        page.get_by_role("link", name="Clear the filters").click()
        page.wait_for_url(long_url)
        assert page.locator("article.signal:visible").count() == 100


def test_keyboard_navigation_in_a_long_list(page: "Page", long_url: str) -> None:
    """Enter searches, and Escape leaves the search field and keeps its text."""
    page.goto(long_url)
    page.keyboard.press("/")
    page.keyboard.type("receiver_7_")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{long_url}?q=receiver_7_")
    assert shown(page) == ["account_00007_funded"]
    page.keyboard.press("/")
    page.keyboard.press("Escape")
    assert page.get_by_role("searchbox").input_value() == "receiver_7_"
    page.keyboard.press("j")
    assert focused(page) == "account_00007_funded"


@pytest.mark.parametrize("width", [320, 1360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_paged_list_is_readable_at_any_width(
    page: "Page", long_url: str, width: int, scheme: Any
) -> None:
    """In both colour schemes."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{long_url}?page=2")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert [found for found in page.evaluate(CONTRASTS) if found[0] < 4.5] == []


HEADINGS = """() => [...document.querySelectorAll(".group")]
    .filter((group) => group.checkVisibility())
    .map((group) => {
        const seen = (selector) =>
            [...group.querySelectorAll(selector)].some((part) => part.checkVisibility());
        return [
            [seen(".strip"), seen("article tbody tr")],
            [seen(".quiet > h3"), seen(".quiet article")],
        ];
    })"""
"""Of each group: whether there are column heads and rows, and a second heading and its signals."""


@pytest.mark.parametrize("scripts", [True, False])
def test_headings_of_filtered_rows_are_hidden(browser: "Browser", url: str, scripts: bool) -> None:
    """Neither column headings without a row nor "No receivers" without a signal."""
    wide: Any = {"width": 1280, "height": 800}
    seen: set[bool] = set()
    with browser.new_context(java_script_enabled=scripts, viewport=wide) as context:
        page = context.new_page()
        for query in ("", "only=receivers", "only=orphans", "q=request_started", "q=template"):
            page.goto(f"{url}?{query}")
            groups = page.evaluate(HEADINGS)
            assert groups, query
            for heading, below in (pair for group in groups for pair in group):
                assert heading is below, query
                seen.add(heading)
    assert seen == {True, False}


def test_column_headings_are_aligned_with_their_columns(page: "Page", figures_url: str) -> None:
    """To the pixel, although the cells are inside a border."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(figures_url)
    heads, cells = page.evaluate(
        """[".strip tr", "article tbody tr"].map((row) =>
            [...document.querySelector(row).children].map((e) => e.getBoundingClientRect().x))"""
    )
    assert [round(edge, 1) for edge in heads] == [round(edge, 1) for edge in cells]


def test_empty_result_has_a_message(page: "Page", url: str) -> None:
    """And clearing the filters shows everything again."""
    page.goto(url)
    page.get_by_role("searchbox").fill("none such")
    assert shown(page) == []
    assert page.get_by_text("No signals match.").is_visible()
    assert page.locator(".group:visible").count() == 0
    page.get_by_role("link", name="Clear the filters").click()
    assert len(shown(page)) == 14
    assert not page.get_by_text("No signals match.").is_visible()
    page.wait_for_url(url)


def test_scripts_and_server_filter_the_same_signals(
    browser: "Browser", page: "Page", url: str
) -> None:
    """Every query has the same result."""
    with browser.new_context(java_script_enabled=False) as context:
        plain = context.new_page()
        for query in QUERIES:
            plain.goto(f"{url}?{query}")
            by_server = shown(plain)
            page.goto(f"{url}?{query}")
            box = page.get_by_role("searchbox")
            asked = box.input_value()
            box.fill("something else")
            box.fill(asked)
            assert shown(page) == by_server, query


# -- the keyboard ---------------------------------------------------------------------------------


def test_keyboard_navigation(page: "Page", url: str) -> None:
    """``/`` searches; arrows, ``j`` and ``k`` move along the visible signals; Enter opens one."""
    page.goto(url)
    page.keyboard.press("/")
    page.keyboard.type("funded/")
    assert page.get_by_role("searchbox").input_value() == "funded/"
    page.keyboard.press("Backspace")
    assert shown(page) == ["account_funded", "acount_funded"]
    page.keyboard.press("ArrowDown")
    assert focused(page) == "account_funded"
    page.keyboard.press("j")
    assert focused(page) == "acount_funded"
    page.keyboard.press("j")
    assert focused(page) == "acount_funded"
    page.keyboard.press("k")
    assert focused(page) == "account_funded"
    page.keyboard.press("Enter")
    page.wait_for_url("**/signals/account_funded?q=funded")


def test_escape_clears_and_leaves_the_search(page: "Page", url: str) -> None:
    """Then the keys move again."""
    page.goto(url)
    page.keyboard.press("/")
    page.keyboard.type("money")
    page.keyboard.press("Escape")
    assert len(shown(page)) == 14
    page.keyboard.press("j")
    assert focused(page) == shown(page)[0]


def test_keys_with_modifiers_are_ignored(page: "Page", url: str) -> None:
    """Such as Ctrl+K."""
    page.goto(url)
    for keys in ("Control+j", "Alt+k", "Meta+/"):
        page.keyboard.press(keys)
        assert page.evaluate("document.activeElement === document.body")


def test_focus_is_visible(page: "Page", url: str) -> None:
    """Every stop of the Tab key has an outline; the first one skips to the content."""
    page.goto(url)
    for stop in range(16):
        page.keyboard.press("Tab")
        outlined = page.evaluate(
            """() => {
                const focused = document.activeElement;
                const box = focused.matches("fieldset input");
                const seen = box ? focused.nextElementSibling : focused;
                const { outlineStyle, outlineWidth } = getComputedStyle(seen);
                return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
            }"""
        )
        assert outlined, f"stop {stop}: {focused(page)}"
        if stop == 0:
            assert focused(page) == "Skip to the content"
            assert page.get_by_text("Skip to the content").is_visible()


@pytest.mark.parametrize("key", ["Shift+Tab", "k"])
def test_focused_element_is_not_covered_by_column_headings(
    page: "Page", url: str, key: str
) -> None:
    """They stay at the top while the keyboard moves upwards."""
    page.set_viewport_size({"width": 1280, "height": 400})
    page.goto(url)
    page.locator("article.signal h3 a").last.focus()
    for _ in range(12):
        page.keyboard.press(key)
        covered = page.evaluate(
            """() => {
                const { left, top } = document.activeElement.getBoundingClientRect();
                const topmost = document.elementFromPoint(left + 4, top + 4);
                return !document.activeElement.contains(topmost) && topmost.outerHTML;
            }"""
        )
        assert not covered, focused(page)


# -- looks ----------------------------------------------------------------------------------------

CONTRASTS = """() => {
    const channels = (text) => text.match(/[\\d.]+/g).map(Number);
    const luminance = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((c) => c / 255)
            .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const background = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = channels(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const found = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const [a, b] = [channels(getComputedStyle(element).color), background(element)]
            .map(luminance).sort((x, y) => y - x);
        found.push([(a + 0.05) / (b + 0.05), element.textContent.trim().slice(0, 40)]);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrast_in_both_colour_schemes(page: "Page", url: str, scheme: Any) -> None:
    """At least 4.5 to 1, level AA of the accessibility guidelines."""
    page.emulate_media(color_scheme=scheme)
    for view in VIEWS:
        page.goto(url + view)
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 5
        assert [found for found in contrasts if found[0] < 4.5] == [], view


def test_page_follows_the_colour_scheme(page: "Page", url: str) -> None:
    """Dark, light, and always light on paper."""

    def is_dark() -> bool:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour[4:-1].split(","))) < 3 * 128

    page.goto(url)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert is_dark() is (scheme == "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert not is_dark()
    assert not page.get_by_role("searchbox").is_visible()
    assert page.get_by_text("Money arrived in an").is_visible()


@pytest.mark.parametrize("width", [320, 390, 961, 1440])
def test_page_does_not_scroll_sideways_at_any_width(page: "Page", url: str, width: int) -> None:
    """However long the names are."""
    page.set_viewport_size({"width": width, "height": 800})
    for view in (*VIEWS, f"/{LONG}"):
        page.goto(url + view)
        assert page.evaluate("document.documentElement.scrollWidth") == width, view
        cut_off = page.evaluate(
            """[...document.querySelectorAll(".signal code, .signal td, .signal th, .panel p")]
                .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth)
                .map((e) => e.textContent.slice(0, 40))"""
        )
        assert cut_off == [], view


FIGURES = """() => [...document.querySelectorAll("article.signal tbody tr:has(td)")].map((row) => {
    const texts = (selector) => {
        const found = row.querySelector(selector);
        return found && found.checkVisibility() ? found.innerText.replace(/\\s+/g, " ").trim() : "";
    };
    return [".calls", ".failures", ".mean", ".p95"].map(texts);
})"""


@pytest.fixture
def figures_url(serve: "Serve") -> str:
    """Serve an app whose receivers were called, some with failures."""
    app = make_app()
    kit = app.extensions["signals_kit"]
    kit.signal(LONG, on_error="isolate")

    def fails(sender: object, **extra: object) -> None:
        raise type("A" + "VeryLong" * 12 + "Error", (Exception,), {})

    kit.on(LONG)(fails)
    with app.app_context():
        for _ in range(20):
            kit.send("acount_funded")
            kit.send(LONG)
    return f"{serve(app)}/_signals/signals"


def test_figures_are_aligned_in_wide_windows(page: "Page", figures_url: str) -> None:
    """Numbers are right-aligned, whatever their unit; none is cut off."""
    page.set_viewport_size({"width": 1360, "height": 800})
    page.goto(figures_url)
    rows = page.evaluate(FIGURES)
    assert ["0", "0", "\N{EN DASH}", "\N{EN DASH}"] in rows
    assert any(calls == "20" and failures.startswith("20 A") for calls, failures, _, _ in rows)
    assert all(p95 for _, _, _, p95 in rows)
    ends = page.eval_on_selector_all(
        ".mean .unit", "units => units.map((unit) => unit.getBoundingClientRect().left)"
    )
    assert ends
    assert len({round(end) for end in ends}) == 1


@pytest.mark.parametrize("width", [360, 768, 999])
def test_figures_are_shown_in_words_in_narrow_windows(
    page: "Page", figures_url: str, width: int
) -> None:
    """Every figure that exists, zeros too; a foreign receiver has none."""
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(figures_url)
    rows = page.evaluate(FIGURES)
    assert ["0 calls", "0 failed", "", ""] in rows
    assert any(calls == "20 calls" and "20 failed A" in failures for calls, failures, _, _ in rows)
    assert all(mean and p95 for calls, _, mean, p95 in rows if calls == "20 calls")


@pytest.mark.parametrize("width", [320, 390, 1153, 1360])
def test_figures_do_not_overflow(page: "Page", figures_url: str, width: int) -> None:
    """However long the name of an exception is."""
    page.set_viewport_size({"width": width, "height": 800})
    for view in ("", f"/{LONG}"):
        page.goto(figures_url + view)
        assert page.evaluate("document.documentElement.scrollWidth") == width, view
        overlapping = page.evaluate(
            """[...document.querySelectorAll(".receivers td")]
                .filter((cell) => cell.checkVisibility() && cell.scrollWidth > cell.clientWidth + 1)
                .map((cell) => cell.textContent.trim().slice(0, 40))"""
        )
        assert overlapping == [], view


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_contrast_in_both_colour_schemes(
    page: "Page", figures_url: str, scheme: Any
) -> None:
    """Including failures in red."""
    page.emulate_media(color_scheme=scheme)
    for width in (390, 1360):
        page.set_viewport_size({"width": width, "height": 800})
        for view in ("", f"/{LONG}"):
            page.goto(figures_url + view)
            assert [found for found in page.evaluate(CONTRASTS) if found[0] < 4.5] == [], view


def test_scripts_filter_failing_signals(page: "Page", figures_url: str) -> None:
    """As the server does."""
    page.goto(figures_url)
    page.get_by_text("Failing 1", exact=True).click()
    assert shown(page) == [LONG]
    page.wait_for_url(f"{figures_url}?only=failing")


@pytest.mark.parametrize("scripts", [True, False])
def test_brand_leads_back_to_the_app(browser: "Browser", serve: "Serve", scripts: bool) -> None:
    """From every view, by a link with the name of the app."""
    app = make_app()
    app.add_url_rule("/", view_func=lambda: "The shop")
    url = serve(app)
    with browser.new_context(java_script_enabled=scripts) as context:
        page = context.new_page()
        for view in ("", "/signals", "/signals/account_funded"):
            page.goto(f"{url}/_signals{view}")
            page.get_by_role("link", name="shop", exact=True).click()
            page.wait_for_url(f"{url}/")
            assert page.get_by_text("The shop").is_visible()


def test_filter_that_matches_nothing_is_quiet(page: "Page", url: str) -> None:
    """It has no border unless it is selected; it still can be."""
    page.goto(url)
    is_quiet = """label => {
        const { borderTopColor, backgroundColor } = getComputedStyle(label);
        return [borderTopColor, backgroundColor].every((colour) => colour === "rgba(0, 0, 0, 0)");
    }"""
    nothing, orphans = (
        page.locator(f"label[for=only-{trait}]") for trait in ("failing", "orphans")
    )
    assert (nothing.evaluate(is_quiet), orphans.evaluate(is_quiet)) == (True, False)
    nothing.click()
    assert not nothing.evaluate(is_quiet)
    assert page.get_by_text("No signals match.").is_visible()
    page.wait_for_url(f"{url}?only=failing")


def test_filters_of_the_index_lead_to_the_signals(page: "Page", url: str) -> None:
    """The address names the view that the filters belong to."""
    page.goto(url.removesuffix("/signals"))
    page.get_by_role("searchbox").fill("money")
    page.wait_for_url(f"{url}?q=money")
    assert shown(page) == ["account_funded"]


# -- safety ---------------------------------------------------------------------------------------


def test_browser_console_has_no_errors(page: "Page", url: str) -> None:
    """No error, no policy violation, no request to another host."""
    messages: list[str] = []
    requests: list[str] = []

    def note(message: "ConsoleMessage") -> None:
        expected = message.location["url"].endswith("/none_such")  # the 404 itself
        if message.type in {"error", "warning"} and not expected:
            messages.append(message.text)

    page.on("console", note)
    page.on("request", lambda request: requests.append(request.url))
    for view in VIEWS:
        page.goto(url + view, wait_until="networkidle")
    assert messages == []
    assert len(requests) >= 3 * len(VIEWS)
    assert all(request.startswith(url.removesuffix("/signals")) for request in requests)


def test_policy_blocks_inline_code(page: "Page", url: str) -> None:
    """Code that escaped the escaping would not run, and could not send data."""
    page.goto(url)
    stopped = page.evaluate(
        """async () => {
            const stopped = [];
            document.addEventListener("securitypolicyviolation", (event) =>
                stopped.push(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.pwned = true";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<p style='color: red'>");
            await fetch("https://else.example/").catch(() => null);
            const image = new Image();
            image.src = "https://else.example/pixel.png";
            await new Promise((resolve) => setTimeout(resolve, 100));
            return [window.pwned === undefined, ...new Set(stopped)];
        }"""
    )
    assert stopped == [True, "script-src-elem", "style-src-attr", "connect-src", "img-src"]


def test_markup_is_shown_as_text(page: "Page", serve: "Serve") -> None:
    """In the page and in what scripts make of it."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    kit.signal("account_funded", "<img src=x onerror=alert(1)> `<b>bold</b>`")
    page.goto(f"{serve(app)}/_signals/signals?q=%22%3E%3Cimg+src%3Dx%3E")
    assert page.locator("img, b").count() == 0
    page.get_by_role("searchbox").fill("<b>")
    assert shown(page) == ["account_funded"]
    assert page.locator("article.signal code", has_text="<b>bold</b>").is_visible()
