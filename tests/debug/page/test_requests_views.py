"""The Requests views: filters, pages, refreshing, and safety."""

import asyncio
import json
import re

import pytest
from flask import Flask, g

from flask_signals_kit import SignalsKit
from tests.debug.page.test_requests import emissions, fail, first, make_app, requests, second, tree
from tests.debug.page.test_views import MARKUP, Account, Untouchable, words
from tests.support import Later


@pytest.fixture
def app(kit: SignalsKit) -> Flask:
    """Give an app in testing that sends at ``/fund``."""
    return make_app(kit)


# -- filters and pages ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("", ["/nowhere", "/fail", "/fund"]),
        ("?q=fu", ["/fund"]),
        ("?q=post", ["/fund"]),
        ("?q=GET+/f", ["/fail"]),
        ("?signal=account_funded", ["/fail", "/fund"]),
        ("?signal=alert_dismissed", ["/nowhere"]),
        ("?status=2", ["/fund"]),
        ("?status=404", ["/nowhere"]),
        ("?status=5", ["/fail"]),
        ("?failed=1", ["/fail"]),
        ("?domain=1", ["/nowhere", "/fail", "/fund"]),
        ("?q=fund&failed=1", []),
        ("?signal=none", []),
        ("?page=99&unknown=1", ["/nowhere", "/fail", "/fund"]),
    ],
)
def test_filters_apply_to_html_and_json(
    kit: SignalsKit, app: Flask, query: str, paths: list[str]
) -> None:
    """Path, signal, status and failures."""
    app.config["PROPAGATE_EXCEPTIONS"] = False
    kit.on("account_funded", when=lambda sender, *, amount=0, **extra: amount == 0)(fail)
    app.add_url_rule("/fail", view_func=lambda: str(kit.send("account_funded")), endpoint="fail")
    app.register_error_handler(404, lambda error: (str(kit.send("alert_dismissed")), 404))
    client = app.test_client()
    for method, path in (("POST", "/fund"), ("GET", "/fail"), ("GET", "/nowhere")):
        client.open(path, method=method)
    assert [request["path"] for request in requests(client, query)] == paths
    html = client.get(f"/_signals/requests{query}").text
    assert re.findall(r'<th scope="row"><a href[^>]*><code>\w+ /<wbr>(\w+)', html) == [
        path[1:] for path in paths
    ]
    assert ("No requests match." in html) is not bool(paths)


def test_requests_are_paged_with_their_filters(app: Flask) -> None:
    """A hundred on each page, also in the JSON."""
    client = app.test_client()
    for _ in range(105):
        client.post("/fund")
    html = client.get("/_signals/requests?q=fund&page=2").text
    assert html.count('<th scope="row">') == 5
    assert "101 to 105 of 105 requests" in words(html)
    assert 'href="/_signals/requests?q=fund&amp;page=1" rel="prev"' in html
    answer = client.get("/_signals/requests.json?page=2").get_json()
    assert len(answer["requests"]) == 5
    assert (answer["total"], answer["page"], answer["pages"]) == (105, 2, 2)
    ids = [each["id"] for page in (1, 2) for each in requests(client, f"?page={page}")]
    assert ids == sorted(ids, reverse=True)
    assert len(ids) == 105


def test_json_of_one_request(app: Flask) -> None:
    """By its id."""
    client = app.test_client()
    client.post("/fund")
    client.get("/fund")
    _, oldest = requests(client)
    assert requests(client, f"?id={oldest['id']}") == [oldest]
    assert requests(client, "?id=0") == []
    assert requests(client, "?id=first") == []


def test_json_of_one_signal(kit: SignalsKit, app: Flask) -> None:
    """The requests stay; the emissions of other signals are left out."""
    kit.on("account_funded")(lambda sender, **extra: kit.send("alert_dismissed"))
    client = app.test_client()
    client.post("/fund")
    [request] = requests(client, "?only=alert_dismissed")
    assert [each["signal"] for each in request["emissions"]] == ["alert_dismissed"]
    assert "account_funded" in request["signals"]
    [request] = requests(client, "?only=none")
    assert request["emissions"] == []


# -- refreshing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["requests", "requests/{id}", "emissions/{number}", "signals"])
def test_views_answer_304_until_something_changes(kit: SignalsKit, app: Flask, view: str) -> None:
    """By their ETag, with the page's own headers."""
    kit.on("account_funded", delivery=(later := Later()))(first)
    client = app.test_client()
    client.post("/fund")
    [request] = requests(client)
    url = "/_signals/" + view.format(id=request["id"], number=request["emissions"][0]["number"])
    response = client.get(url)
    etag = response.headers["ETag"]
    again = client.get(url, headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Cache-Control"] == "no-store"
    assert "Content-Security-Policy" in again.headers
    if view == "requests":
        client.post("/fund")
    else:
        later.run()
    changed = client.get(url, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.headers["ETag"] == etag) == (200, False)


# -- safety ---------------------------------------------------------------------------------------


def test_path_is_replaced_by_its_rule_outside_debug_and_testing(kit: SignalsKit) -> None:
    """It may contain a secret; the query is never shown."""
    app = Flask("shop")
    app.config.update(SIGNALS_KIT_JOURNAL=True, SIGNALS_KIT_PAGE=True)
    kit.init_app(app, page_auth=lambda: True)
    kit.signal("account_funded")
    kit.on("request_started", "request_finished", "appcontext_pushed")(first)

    @app.get("/reset/<token>")
    def reset(token: str) -> str:
        kit.send("account_funded")
        return "reset"

    client = app.test_client()
    client.get("/reset/secret-4111?card=secret-4111")
    client.get("/nowhere/secret-4111")
    missing, found = requests(client)
    assert (found["path"], found["endpoint"]) == ("/reset/<token>", "reset")
    assert (missing["path"], missing["endpoint"]) == (None, None)
    for url in (
        "requests",
        "requests.json",
        f"requests/{found['id']}",
        f"requests/{missing['id']}",
    ):
        assert "secret-4111" not in client.get(f"/_signals/{url}").text
    html = client.get("/_signals/requests").text
    assert "GET /<wbr>reset/<wbr>&lt;token&gt;" in html
    assert "GET (no route)" in html


def test_no_payload_value_and_no_repr_is_shown(kit: SignalsKit, app: Flask) -> None:
    """Neither those of the sender, nor those of an exception or a path's query."""
    account = Untouchable()
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.add_url_rule(
        "/untouchable",
        view_func=lambda: str(kit.send("account_funded", account, amount=account)),
    )
    kit.on("account_funded", sender=account, delivery=Later())(Untouchable())
    kit.on("account_funded", when=Untouchable())(fail)
    client = app.test_client()
    client.post("/fund?card=secret-4111")
    client.get("/untouchable")
    for each in requests(client):
        for url in ("requests", "requests.json", f"requests/{each['id']}", "signals.json"):
            text = client.get(f"/_signals/{url}").text
            assert "secret" not in text
        for emission in each["emissions"]:
            text = client.get(f"/_signals/emissions/{emission['number']}").text
            assert "secret" not in text
            assert "Untouchable" in text
    assert "secret" not in client.get("/_signals/signals/account_funded").text


def test_module_of_a_class_may_be_any_object(kit: SignalsKit, app: Flask) -> None:
    """It is not asked for its text."""

    class OddError(Exception):
        __module__ = Untouchable()  # type: ignore[assignment]

    def raises(sender: object, **extra: object) -> None:
        raise OddError

    kit.on("account_funded", on_error="isolate")(raises)
    kit.on("account_funded", sender=OddError)(first)
    app.add_url_rule("/odd", view_func=lambda: str(kit.send("account_funded", OddError())))
    client = app.test_client()
    client.get("/odd")
    assert emissions(client)[0]["sender"].endswith("<locals>.OddError")
    for url in ("requests", "signals/account_funded", "signals.json", "flow"):
        assert client.get(f"/_signals/{url}").status_code == 200


def test_reason_of_a_dropped_call_is_a_text(kit: SignalsKit, app: Flask) -> None:
    """A delivery of the app may pass anything; only a text is shown, escaped."""
    kit.on("account_funded", delivery=(given := Later()))(first)
    kit.on("account_funded", delivery=(hostile := Later()))(second)
    client = app.test_client()
    client.post("/fund")
    given.calls.pop().drop(Untouchable())  # type: ignore[arg-type]
    hostile.calls.pop().drop(MARKUP)
    steps = emissions(client)[0]["steps"]
    assert [(step["status"], step["reason"]) for step in steps] == [
        ("dropped", "later dropped the call"),
        ("dropped", MARKUP),
    ]
    html = client.get(f"/_signals/requests/{requests(client)[0]['id']}").text
    assert "&lt;script&gt;" in html
    assert "<script>alert" not in html


def test_hostile_names_are_escaped(kit: SignalsKit, app: Flask) -> None:
    """Methods, paths, signals, receivers, predicates, errors, tasks and payloads."""
    app.config["PROPAGATE_EXCEPTIONS"] = False

    class Sneaky(Later):
        name = MARKUP

    def receiver(sender: object, **extra: object) -> None: ...
    def raises(sender: object, **extra: object) -> None:
        raise type(MARKUP, (Exception,), {})

    receiver.__qualname__ = receiver.__module__ = MARKUP
    signal = kit.for_app(app).namespace.signal(MARKUP)
    signal.connect(receiver, when=receiver)
    signal.connect(first, delivery=Sneaky())
    signal.connect(second, sender=MARKUP)
    signal.connect(raises)
    app.add_url_rule("/<path:rest>", endpoint=MARKUP, methods=["GET", MARKUP.upper()])

    @app.endpoint(MARKUP)
    def view(rest: str) -> str:
        async def send() -> None:
            sender = type(MARKUP, (), {})()
            await signal.send_async(sender, **{MARKUP: 1})

        async def main() -> None:
            await asyncio.create_task(send(), name=MARKUP)

        asyncio.run(main())
        return rest

    client = app.test_client()
    client.open(f"/{MARKUP}", method=MARKUP.upper())
    [request] = requests(client)
    number = request["emissions"][0]["number"]
    for url in (
        "requests",
        f"requests?q={MARKUP}&signal={MARKUP}&status={MARKUP}",
        f"requests/{request['id']}",
        f"emissions/{number}",
        f"signals/{MARKUP}",
    ):
        html = client.get(f"/_signals/{url}").text
        assert "&lt;script&gt;" in html.lower()
        assert "<script>alert" not in html.lower()
        assert not re.search(r"=\"[^\"]*<script", html.lower())


@pytest.mark.parametrize("url", ["/requests", "/requests.json", "/requests/1", "/emissions/1"])
def test_visitor_without_permission_gets_what_the_app_answers(kit: SignalsKit, url: str) -> None:
    """As if there were no such route; and there is only GET."""
    app = Flask("shop")
    app.config.update(SIGNALS_KIT_JOURNAL=True, SIGNALS_KIT_PAGE=True)
    kit.init_app(app, page_auth=lambda: False)
    client = app.test_client()
    refused, unknown = client.get(f"/_signals{url}"), client.get("/nowhere")
    assert (refused.status_code, refused.data) == (404, unknown.data)
    allowed = make_app(SignalsKit()).test_client()
    assert allowed.post(f"/_signals{url}").status_code == 405


def test_views_send_nothing(kit: SignalsKit, app: Flask) -> None:
    """What was recorded stays as it is."""
    kit.on("account_funded")(first)
    client = app.test_client()
    client.post("/fund")
    before = json.dumps(requests(client))
    for url in ("", "/requests", f"/requests/{requests(client)[0]['id']}"):
        client.get(f"/_signals{url}")
    assert json.dumps(requests(client)) == before


def test_sender_is_named_by_its_type(kit: SignalsKit, app: Flask) -> None:
    """With its module, on the page as well."""

    @app.post("/account")
    def account() -> str:
        g.account = Account()
        kit.send("account_funded", g.account)
        return "thanks"

    client = app.test_client()
    client.post("/account")
    name = f"{Account.__module__}.Account"
    assert emissions(client)[0]["sender"] == name
    assert f"from {name}" in tree(client)[0][1].replace(". ", ".")
