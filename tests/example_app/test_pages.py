"""What holds for every page."""

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from flask import Flask

from tests.example_app.support import Visitor

PAGES = [
    "/",
    "/onboarding/",
    "/accounts/",
    "/accounts/identification",
    "/campaigns/",
    "/campaigns/new",
    "/campaigns/1",
    "/funding/",
    "/funding/cards/new",
    "/funding/wire",
    "/publisher/",
    "/alerts/",
    "/mails/",
    "/ledger/",
    "/errors/",
]


class Outline(HTMLParser):
    """Collect what the tests ask about a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def test_no_view_is_left_out_here(app: Flask) -> None:
    """Each view that answers GET with a page is in the list above."""
    views = {
        rule.rule.replace("<int:campaign_id>", "1")
        for rule in app.url_map.iter_rules()
        if "GET" in (rule.methods or ()) and app.blueprints.keys() & {rule.endpoint.split(".")[0]}
        if not rule.rule.startswith("/_signals")
    }
    assert views - {"/funding/card"} == set(PAGES), "/funding/card redirects without a card"


@pytest.mark.parametrize("path", PAGES)
def test_page_is_whole(visitor: Visitor, path: str) -> None:
    """It needs no script, is labelled for everyone, and leads to the signals' page."""
    page = Outline(visitor.html(path))
    assert page.all("script") == []
    assert all("style" not in attributes for _, attributes in page.tags), "inline styles"
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    labelled = {label["for"] for label in page.all("label")}
    shown = [field for field in page.all("input", "select") if field.get("type") != "hidden"]
    assert {field["id"] for field in shown} == labelled
    assert {"href": "/_signals"} in page.all("a")
    ids = [
        attributes["id"]
        for _, attributes in page.tags
        if attributes.get("id") != "csrf_token" and "id" in attributes
    ]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "path", ["/nowhere", "/campaigns/99", f"/campaigns/{10**30}", "/static/nothing.css"]
)
def test_what_does_not_exist_is_answered_with_a_page(visitor: Visitor, path: str) -> None:
    """The answer is 404, with a way back."""
    answer = visitor.client.get(path)
    assert answer.status_code == 404
    assert 'href="/"' in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/",
        "/accounts/identification",
        "/campaigns/new",
        "/campaigns/1/creatives",
        "/campaigns/1/bids",
        "/funding/cards/new",
        "/funding/wire",
        "/publisher/",
    ],
)
def test_refused_form_is_shown_again(visitor: Visitor, path: str) -> None:
    """Every form answers in the same way: its page, with what is wrong beside the fields."""
    answer = visitor.submit(path, "/accounts/", legal_name="")
    assert answer.status_code == 200
    assert 'class="field-error"' in answer.text


@pytest.mark.parametrize(
    ("path", "back"),
    [("/campaigns/new", "/campaigns/"), ("/campaigns/1", "/campaigns/")]
    + [(f"/funding/{page}", "/funding/") for page in ("cards/new", "wire")],
)
def test_page_below_another_leads_back_to_it(visitor: Visitor, path: str, back: str) -> None:
    """The way back stands above the heading."""
    _, _, main = visitor.html(path).partition("<main")
    assert f'<p class="eyebrow"><a href="{back}">' in main.partition("<h1>")[0]


@pytest.mark.parametrize(("threshold", "logged"), [(0, True), (60, False)])
def test_slow_request_is_logged(
    make_app: Callable[..., Flask],
    caplog: pytest.LogCaptureFixture,
    threshold: float,
    logged: bool,
) -> None:
    """A request that takes longer than the threshold leaves a line in the log."""
    Visitor(make_app(SLOW_REQUEST_SECONDS=threshold)).read("/funding/")
    assert ("GET /funding/ took" in caplog.text) is logged


def test_what_users_type_is_shown_as_text(newcomer: Visitor) -> None:
    """Markup in a name, a headline or a text stays text everywhere it is shown."""
    evil = "<script>alert(1)</script>"
    newcomer.open_account(evil)
    show = newcomer.submit("/campaigns/new", name=evil).request.path
    newcomer.submit(f"{show}/creatives", show, headline=evil, text=evil)
    newcomer.submit(f"{show}/bids", show, placement="search", amount="1")
    newcomer.serve(placement="search")
    for path in ("/", "/accounts/", "/campaigns/", show, "/publisher/?shown=26", "/onboarding/"):
        page = newcomer.html(path)
        assert "<script>" not in page, path
        assert "&lt;script&gt;" in page, path


def test_every_form_refuses_to_be_sent_from_elsewhere(app: Flask, visitor: Visitor) -> None:
    """Without the session's token each changing route answers 400 and changes nothing."""
    rules = [rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    assert len(rules) >= 11
    before = [visitor.read(path) for path in PAGES]
    for rule in rules:
        path = re.sub(r"<[^>]+>", "1", rule.rule)
        for data in ({}, {"csrf_token": "made up"}):
            answer = visitor.client.post(path, data={"name": "x", "amount": "50", **data})
            assert answer.status_code == 400, path
            assert "CSRF" in answer.text
    assert [visitor.read(path) for path in PAGES] == before
