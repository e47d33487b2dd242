"""The journal's figures on the page: calls, failures and times, without the page's own."""

import re
from collections.abc import Callable
from typing import Any

import flask.signals
import pytest
from flask import Flask, render_template_string
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from flask_signals_kit import SignalsKit
from flask_signals_kit.bridge import BUILTIN_PAYLOADS
from flask_signals_kit.debug.report import FIGURES
from tests.debug.page.test_views import cards, page, twin, words
from tests.support import Later

NONE = "\N{EN DASH}"
COLUMNS = ("Calls", "Failures", "Mean", "p95")


class ServiceUnavailableError(Exception):
    """An exception that receivers raise."""


def receive(account: object, **extra: object) -> None:
    """Be a receiver."""


def fails_if_asked(account: object, *, fail: bool = False, **extra: object) -> None:
    """Fail if the payload says so."""
    if fail:
        raise ServiceUnavailableError


def make_app(**config: object) -> Flask:
    """Return an app with two receivers, in testing unless the config says otherwise."""
    app = Flask("shop")
    app.config.update({"TESTING": True} | config)
    kit = SignalsKit(app, page_auth=lambda: True)
    kit.signal("account_funded", "Money arrived.", on_error="isolate")
    kit.signal("account_closed")
    kit.on("account_funded")(receive)
    kit.on("account_funded")(fails_if_asked)
    kit.on("account_closed")(receive)
    return app


def fund(app: Flask, *, times: int, failures: int) -> None:
    """Send ``account_funded`` so many times; the last of them fail."""
    with app.app_context():
        for number in range(times):
            app.extensions["signals_kit"].send("account_funded", fail=number >= times - failures)


def row(html: str, name: str) -> str:
    """Return the text of one receiver's row."""
    rows = re.findall(r"<tr>.*?</tr>", html, re.DOTALL)
    [found] = [text for text in map(words, rows) if f". {name} " in text]
    return found


# -- the figures ----------------------------------------------------------------------------------


def test_receiver_has_calls_failures_and_times() -> None:
    """The same as in the JSON, in a readable unit, with exact ones in a tooltip."""
    app = make_app()
    fund(app, times=20, failures=1)
    card = cards(page(app))["account_funded"]
    number = r"[\d,.]+ (µs|ms|s)"
    assert re.search(rf" 20 calls 0 failed {number} {number}$", row(card, "receive"))
    failing = rf" 20 calls 1 failed ServiceUnavailableError {number} {number}$"
    assert re.search(failing, row(card, "fails_if_asked"))
    first, second = twin(app)["account_funded"]["receivers"]
    assert (second["calls"], second["failures"]) == (20, 1)
    assert second["last_failure"]["error"] == "ServiceUnavailableError"
    assert second["last_failure"]["place"]["name"] == "fails_if_asked"
    exact = [
        figure for receiver in (first, second) for figure in (receiver["mean"], receiver["p95"])
    ]
    assert re.findall(r'title="(\d+\.\d+) s"', card) == [f"{seconds:.9f}" for seconds in exact]


def test_percentile_is_known_from_20_calls_on() -> None:
    """The 95th percentile of fewer calls is the slowest one."""
    app = make_app()
    for calls in (19, 20, 21):
        fund(app, times=calls - (0 if calls == 19 else calls - 1), failures=0)
        receiver = twin(app)["account_funded"]["receivers"][0]
        assert (receiver["calls"], receiver["p95"] is None) == (calls, calls < 20)
        assert receiver["mean"] > 0
        shown = row(cards(page(app))["account_funded"], "receive")
        assert shown.endswith(NONE) is (calls < 20)


def test_large_figures_are_grouped() -> None:
    """12,345 is easier to read than 12345."""
    app = make_app()
    fund(app, times=1200, failures=0)
    assert " 1,200 calls " in row(cards(page(app))["account_funded"], "receive")


def test_empty_figures_are_not_highlighted() -> None:
    """A receiver that was never called has no times and no red cell."""
    card = cards(page(make_app()))["account_closed"]
    assert row(card, "receive").endswith(f" 0 calls 0 failed {NONE} {NONE}")
    for column, kind in {
        "calls": "zero",
        "failures": "zero",
        "mean": "absent",
        "p95": "absent",
    }.items():
        assert f'<td class="{column} {kind}"' in card


def test_failure_is_highlighted() -> None:
    """Its cell is not among those that say nothing new."""
    app = make_app()
    fund(app, times=1, failures=1)
    card = cards(page(app))["account_funded"]
    assert card.count('<td class="failures">') == card.count('<td class="failures zero">') == 1


def test_dropped_calls_are_shown() -> None:
    """They are one reason why a receiver did not run."""
    later = Later()
    app = make_app()
    app.extensions["signals_kit"].on("account_closed", delivery=later)(fails_if_asked)
    with app.app_context():
        for _ in range(3):
            app.extensions["signals_kit"].send("account_closed")
    for call in later.calls:
        call.drop()
    for url in ("", "/signals/account_closed"):
        text = words(page(app, url))
        assert text.count("later 3 dropped") == 1


def test_third_party_receivers_have_no_figures() -> None:
    """Blinker calls them, not the kit; a zero would be wrong."""
    app = make_app()
    app.extensions["signals_kit"].on("request_started")(receive)
    flask.signals.request_started.connect(fails_if_asked, app)
    app.test_client().get("/")
    card = cards(page(app))["request_started"]
    assert " 1 call 0 failed " in row(card, "receive")
    assert row(card, "fails_if_asked").endswith(f" {NONE} calls {NONE} failed {NONE} {NONE}")
    ours, theirs = twin(app)["request_started"]["receivers"]
    assert ours.keys() - theirs.keys() == {*FIGURES}


def test_signal_view_has_the_figures_in_its_only_table() -> None:
    """A second table explains the last emissions."""
    app = make_app()
    fund(app, times=3, failures=2)
    html = page(app, "/signals/account_funded")
    html, _, explained = html.partition('id="why"')
    assert html.count("<table") == explained.count("<table") == 1
    assert " 3 calls 2 failed ServiceUnavailableError " in row(html, "fails_if_asked")
    assert " 3 calls 0 failed " in row(html, "receive")
    assert "Counted in this process, since it started." in words(html)


def test_view_of_a_signal_with_only_third_party_receivers_says_why_there_are_no_figures() -> None:
    """Dashes alone would raise questions."""
    app = make_app()
    flask.signals.request_started.connect(receive, app)
    html = page(app, "/signals/request_started")
    assert "Only what the kit calls is counted." in html


def test_exception_name_is_escaped() -> None:
    """A class can have any name."""
    app = make_app()
    odd = type("<script>alert(1)</script>", (Exception,), {})

    @app.extensions["signals_kit"].on("account_funded")
    def fails(account: object, **extra: object) -> None:
        raise odd

    fund(app, times=1, failures=0)
    for url in ("", "/signals/account_funded"):
        html = page(app, url)
        assert "&lt;script&gt;alert(1)" in html
        assert "<script>alert" not in html


# -- filters --------------------------------------------------------------------------------------


def test_failing_signals_can_be_filtered() -> None:
    """On the page and in the JSON; the filter has their number."""
    app = make_app()
    assert set(cards(page(app, "?only=failing"))) == set()
    fund(app, times=2, failures=1)
    html = page(app, "?only=failing")
    assert set(cards(html)) == set(twin(app, "?only=failing")) == {"account_funded"}
    assert "Failing 1" in words(html)
    assert set(cards(page(app, "?q=serviceunavailable"))) == {"account_funded"}


# -- without a journal ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {"SIGNALS_KIT_JOURNAL": False},
        {"TESTING": False, "SIGNALS_KIT_PAGE": True},  # in production it is off by default
    ],
)
def test_page_without_a_journal_has_a_note_instead_of_figures(
    config: dict[str, object],
) -> None:
    """Columns of dashes would be useless."""
    app = make_app(**config)
    fund(app, times=2, failures=1)
    for url in ("", "/signals/account_funded"):
        html = page(app, url)
        heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', html)
        assert "Receiver" in heads
        assert not {*map(words, heads)} & {*COLUMNS}
        assert words(html).count("not counted: SIGNALS_KIT_JOURNAL is off.") == 1
        assert "failed" not in words(html).replace("Failing", "")
    receiver = twin(app)["account_funded"]["receivers"][0]
    assert receiver.keys().isdisjoint(FIGURES)
    assert app.test_client().get("/_signals/signals.json").json["journal"] is False  # type: ignore[index]


def test_figures_can_be_enabled_in_production() -> None:
    """With ``SIGNALS_KIT_JOURNAL = True``."""
    app = make_app(TESTING=False, SIGNALS_KIT_PAGE=True, SIGNALS_KIT_JOURNAL=True)
    fund(app, times=2, failures=1)
    html = page(app)
    heads = {words(head) for head in re.findall(r'<th scope="col"[^>]*>(.*?)</th>', html)}
    assert heads >= {*COLUMNS}
    assert "SIGNALS_KIT_JOURNAL" not in html
    assert " 2 calls 1 failed " in row(cards(html)["account_funded"], "fails_if_asked")


# -- the page's own requests ----------------------------------------------------------------------

OURS = ("", "/", "/signals/request_started", "/signals.json", "/static/page.css", "/none-such")


def app_with_flask_receivers(**config: object) -> Flask:
    """Return an app that is connected to all of Flask's signals and has a route that sends most."""
    app = make_app(**config)
    app.extensions["signals_kit"].on(*BUILTIN_PAYLOADS)(receive)
    app.add_url_rule("/", view_func=lambda: render_template_string("Hello"), endpoint="home")
    return app


def figures(app: Flask) -> dict[str, Any]:
    """Return all figures and entries of the journal."""
    state = app.extensions["signals_kit"]
    counted = {
        name: [(tally.calls, *tally.recent) for tally in signal.context.tallies.values()]
        for name, signal in state.namespace.items()
    }
    return counted | {"entries": [entry.number for entry in state.journal.entries()]}


def test_page_requests_are_not_counted() -> None:
    """Not even by Flask's signals of contexts, which come before and after the request."""
    app = app_with_flask_receivers()
    client = app.test_client()
    client.get("/")  # the journal begins as the app starts, in the middle of its first request
    client.get("/")
    before = figures(app)
    sent = {entry.signal for entry in app.extensions["signals_kit"].journal.entries()}
    assert sent >= {
        "appcontext_pushed",
        "request_started",
        "template_rendered",
        "request_finished",
        "appcontext_tearing_down",
        "appcontext_popped",
    }
    for _ in range(10):
        for url in OURS:
            client.get(f"/_signals{url}")
        client.post("/_signals")
    assert figures(app) == before
    client.get("/")
    assert len(figures(app)["entries"]) > len(before["entries"])
    assert all(figures(app)[name] != before[name] for name in sent)


def test_page_requests_are_not_counted_at_another_url() -> None:
    """Under another URL, and below a mount point."""
    app = app_with_flask_receivers(SIGNALS_KIT_PAGE_URL="/internals/signals")
    below = Client(DispatcherMiddleware(Flask("outer"), {"/shop": app}))
    below.get("/shop/")
    before = figures(app)
    for url in OURS:
        assert below.get(f"/shop/internals/signals{url}").status_code in {200, 404}
    assert below.get("/shop/internals/signals").status_code == 200
    assert figures(app) == before


@pytest.mark.parametrize("url", ["/_signals-of-mine", "/shop/_signals", "/_signal"])
def test_requests_to_similar_urls_are_counted(url: str) -> None:
    """The page's URL is compared as a path, not as a prefix of text."""
    app = app_with_flask_receivers()
    app.test_client().get("/")
    before = len(figures(app)["entries"])
    app.test_client().get(url)
    assert len(figures(app)["entries"]) > before


def test_sends_of_page_auth_are_not_counted() -> None:
    """It runs in the page's own request."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit()

    def may_see() -> bool:
        kit.send("user_looked_up")
        return True

    kit.signal("user_looked_up")
    kit.on("user_looked_up")(receive)
    kit.init_app(app, page_auth=may_see)
    card = cards(page(app))["user_looked_up"]
    assert " 0 calls " in row(card, "receive")


def test_counting_continues_during_page_requests() -> None:
    """Later page requests show the app's other sends."""
    app = make_app()
    look: Callable[[], str] = lambda: row(cards(page(app))["account_funded"], "receive")  # noqa: E731
    for calls in ("0 calls", "2 calls", "4 calls"):
        assert f" {calls} " in look()
        fund(app, times=2, failures=0)
