"""Long lists are paged on the server."""

import re
import sys
from types import FrameType
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_signals_kit import SignalsKit
from flask_signals_kit.debug.page.views import BRIEF, PAGE
from tests.debug.page.test_views import cards, page, twin, words


def make_app(signals: int, receivers: int, *, extra: bool = True) -> Flask:
    """Return an app with so many signals of so many receivers each."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    for number in range(signals):
        name = f"account_{number:05}_funded"
        kit.signal(name, f"Money arrived in account {number}.")
        for position in range(receivers):
            kit.on(name)(make_receiver(f"receiver_{number}_{position}", extra=extra))
    return app


def make_receiver(name: str, *, extra: bool = True) -> Any:
    """Return a receiver of this name, with or without ``**kwargs``."""

    def with_extra(account: object, **extra: object) -> None: ...
    def without(account: object) -> None: ...

    receiver = with_extra if extra else without
    receiver.__name__ = receiver.__qualname__ = name
    return receiver


def receivers(html: str) -> list[str]:
    """Return the names of the receivers in the first table of a view, with their positions."""
    table = html[html.index("<tbody>") : html.index("</tbody>")]
    rows = re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
    return [" ".join(words(row).split()[:4]) for row in rows]


def calls(client: FlaskClient, url: str) -> tuple[int, TestResponse]:
    """Get a URL of the page; return the number of Python function calls, too."""
    counted = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counted
        counted += event == "call"

    sys.setprofile(count)
    try:
        response = client.get(f"/_signals{url}")
    finally:
        sys.setprofile(None)
    return counted, response


# -- cost -----------------------------------------------------------------------------------------

LIST_URLS = (
    "",
    "/signals",
    "/signals.json",
    "/signals?q=account+funded&only=receivers",
    "/signals/account_00001_funded",
    "/signals/account_00001_fundedd",
)


@pytest.mark.parametrize("each", [1, 10])
def test_work_is_linear_in_connections(each: int) -> None:
    """For any query, and with as many problems; the benchmarks measure the time."""
    few, many = (make_app(signals, each).test_client() for signals in (200, 800))
    for url in LIST_URLS:
        calls(few, url), calls(many, url)  # what is cached from now on
        (once, _), (four_times, response) = calls(few, url), calls(many, url)
        assert response.status_code in {200, 404}
        assert four_times < 5 * once, url


def test_page_of_a_long_list_is_short() -> None:
    """With 10,000 signals, or 10,000 receivers of one signal."""
    for app in (make_app(10_000, 1), make_app(1, 10_000)):
        for url in ("", "/signals/account_00000_funded"):
            response = app.test_client().get(f"/_signals{url}")
            assert response.status_code == 200
            assert len(response.data) < 1_500_000


def test_work_is_linear_in_the_receivers_of_one_signal() -> None:
    """In the list, and in the signal's own view."""
    few, many = (make_app(1, receivers).test_client() for receivers in (1000, 4000))
    for url in ("", "/signals/account_00000_funded"):
        calls(few, url), calls(many, url)
        (once, _), (four_times, _) = calls(few, url), calls(many, url)
        assert four_times < 5 * once, url


# -- pages of signals -----------------------------------------------------------------------------


def test_long_list_is_paged() -> None:
    """Each page links to the next; together they have each signal once, in the usual order."""
    app = make_app(2 * PAGE + 5, 1)
    everything = list(twin(app))
    found: list[str] = []
    url = ""
    for number in (1, 2, 3):
        html = page(app, url)
        names = list(cards(html))
        assert len(names) == (PAGE if number < 3 else 15)
        assert f"{len(found) + 1} to {len(found) + len(names)} of 215 signals" in words(html)
        found += names
        following = re.search(r'href="/_signals/signals(\?page=\d)" rel="next"', html)
        assert (following is None) is (number == 3)
        url = following[1] if following else ""
    assert sorted(found) == sorted(everything)
    assert found[: 2 * PAGE + 5] == everything[: 2 * PAGE + 5]


def test_short_list_has_no_paging_links() -> None:
    """There is nothing to page."""
    assert "Pages" not in page(make_app(3, 1))


@pytest.mark.parametrize(
    ("asked", "first"), [("0", 0), ("-3", 0), ("x", 0), ("2", 100), ("99", 200), ("9" * 99, 200)]
)
def test_page_number_out_of_range_shows_the_nearest_page(asked: str, first: int) -> None:
    """A bookmark can outlive signals."""
    html = page(make_app(2 * PAGE + 5, 1), f"?page={asked}")
    assert next(iter(cards(html))) == f"account_{first:05}_funded"


def test_search_and_filters_apply_to_all_pages() -> None:
    """The counts are those of all signals, and the pages those of the result."""
    app = make_app(3 * PAGE, 1)
    app.extensions["signals_kit"].signal("zebra_seen", "Stripes.")
    html = page(app, "?q=stripes")
    assert list(cards(html)) == ["zebra_seen"]
    assert "1 of 311 signals" in words(html)
    assert "Pages" not in html
    html = page(app, "?q=receiver_2&page=2")
    assert list(cards(html)) == [f"account_{number:05}_funded" for number in range(289, 300)]
    assert "111 of 311 signals" in words(html)
    assert 'href="/_signals/signals?q=receiver_2&amp;page=1" rel="prev"' in html
    assert re.search(r"Only .* Orphans 1 ", words(html))


def test_back_link_of_a_signal_leads_to_its_page() -> None:
    """A signal's link has the page number."""
    app = make_app(2 * PAGE, 1)
    html = page(app, "?only=receivers&page=2")
    link = "/_signals/signals/account_00150_funded?only=receivers&amp;page=2"
    assert f'href="{link}"' in html
    html = page(app, "/signals/account_00150_funded?only=receivers&page=2")
    back = "/_signals/signals?only=receivers&amp;page=2#signal-account_00150_funded"
    assert f'href="{back}"' in html


def test_json_of_a_long_list_is_complete() -> None:
    """Scripts need not follow pages."""
    app = make_app(2 * PAGE, 1)
    assert len(twin(app, "?page=2")) == 2 * PAGE + 10
    assert 'href="/_signals/signals.json?q=account"' in page(app, "?q=account&page=2")


# -- receivers and problems -----------------------------------------------------------------------


def test_list_shows_the_first_receivers_of_a_signal() -> None:
    """And links to its view for the others."""
    app = make_app(1, BRIEF + 7)
    card = cards(page(app))["account_00000_funded"]
    assert len(receivers(card)) == BRIEF
    assert words(card).endswith("7 more receivers")
    assert "more receivers</a>" in card
    assert "more receivers" not in page(make_app(1, BRIEF))


def test_signal_view_pages_its_receivers() -> None:
    """Positions continue from page to page."""
    app = make_app(1, PAGE + 2)
    html = page(app, "/signals/account_00000_funded?q=money&receivers=2")
    assert [text.split()[:3:2] for text in receivers(html)] == [
        ["101", "receiver_0_100"],
        ["102", "receiver_0_101"],
    ]
    assert "101 to 102 of 102 receivers" in words(html)
    assert "102 receivers, in calling order" in words(html)
    positions = re.findall(r'<td class="order">(\d+)</td>', html)
    assert positions == ["101", "102"]
    back = "/_signals/signals/account_00000_funded?q=money&amp;receivers=1"
    assert f'href="{back}" rel="prev"' in html


def test_view_shows_the_first_problems_and_links_to_the_others() -> None:
    """Ten thousand of them would hide everything else."""
    app = make_app(3, BRIEF, extra=False)
    html = page(app)
    assert html.count("Add **extra to its parameters.") == BRIEF
    assert f"And {2 * BRIEF} more: see the signals that have problems" in words(html)
    assert 'href="/_signals/signals?only=problems"' in html
    html = page(make_app(1, BRIEF + 1, extra=False), "/signals/account_00000_funded")
    assert html.count("Add **extra to its parameters.") == BRIEF
    assert "And 1 more: see the JSON" in words(html)
