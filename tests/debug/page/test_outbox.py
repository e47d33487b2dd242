"""The Outbox view: totals, filters, pages, one message, JSON, safety and speed."""

import json
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from flask_signals_kit import SignalsKit, current_emission
from flask_signals_kit.debug.page.outbox import PAGE, OutboxFilter, outbox_page, stored_message
from tests.debug.page.test_views import MARKUP, words
from tests.debug.test_outbox import execute, make_each_status, pay, send
from tests.deliveries.durable.support import DurableShop
from tests.support import make_app

SECRET = "secret-4111"


def ignore(sender: Any, **extra: Any) -> None:
    """Be a receiver."""


def client_of(shop: DurableShop) -> FlaskClient:
    """Return a client of the app."""
    return shop.app.test_client()


def ids(shop: DurableShop, query: str = "") -> list[int]:
    """Return the ids of the listed messages; the page and the JSON must agree."""
    html = client_of(shop).get(f"/_signals/outbox{query}").text
    listed = [int(number) for number in re.findall(r'href="/_signals/outbox/(\d+)"', html)]
    answer = client_of(shop).get(f"/_signals/outbox.json{query}").get_json()
    assert [message["id"] for message in answer["messages"]] == listed
    return listed


# -- what it shows --------------------------------------------------------------------------------


def test_only_an_app_with_durable_receivers_has_the_view(
    durable_shop: DurableShop, kit: SignalsKit
) -> None:
    """Other apps have no tab, and the address says so."""
    client = make_app(kit, TESTING=True).test_client()
    assert ">Outbox</a>" not in client.get("/_signals/signals").text
    response = client.get("/_signals/outbox")
    assert (response.status_code, "has no durable receivers" in response.text) == (404, True)
    assert client.get("/_signals/outbox.json").status_code == 404
    assert client.get("/_signals/outbox/1").status_code == 404
    durable_shop.on(ignore)
    html = client_of(durable_shop).get("/_signals/signals").text
    assert 'href="/_signals/outbox">Outbox</a>' in html


def test_view_shows_totals_receivers_and_messages(durable_shop: DurableShop) -> None:
    """The newest first; each number links to its messages."""
    make_each_status(durable_shop)
    shown = words(client_of(durable_shop).get("/_signals/outbox").text)
    assert "5 stored" in shown
    assert "Due 2 due Running 1 running Retrying 1 retrying Dead 1 dead Oldest due for" in shown
    assert ids(durable_shop) == [5, 4, 3, 2, 1]
    html = client_of(durable_shop).get("/_signals/outbox").text
    assert (
        'href="/_signals/outbox?receiver=ledger&amp;signal=account_funded&amp;status=dead"' in html
    )
    answer = client_of(durable_shop).get("/_signals/outbox.json").get_json()
    assert (answer["app"], answer["total"], answer["before"]) == ("shop", 5, None)
    assert answer["counts"] == {"due": 2, "running": 1, "retrying": 1, "dead": 1}
    assert answer["oldest_age"] >= 0
    [receiver] = answer["receivers"]
    assert (receiver["receiver"], receiver["exists"]) == ("ledger", True)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?status=dead", [4]),
        ("?status=due", [5, 1]),
        ("?status=running", [2]),
        ("?status=retrying", [3]),
        ("?status=none", [5, 4, 3, 2, 1]),
        ("?receiver=ledger&status=dead", [4]),
        ("?receiver=ledge", []),
        ("?signal=account_funded&before=3", [2, 1]),
        ("?signal=account_opened", []),
        ("?before=x", [5, 4, 3, 2, 1]),
        (f"?before={9**40}", [5, 4, 3, 2, 1]),
        ("?before=-7", []),
        ("?receiver=%00", None),
    ],
)
def test_filters_apply_to_html_and_json(
    durable_shop: DurableShop, query: str, found: list[int] | None
) -> None:
    """Unknown statuses and invalid pages are ignored; no value is an internal error."""
    make_each_status(durable_shop)
    if found is None:
        assert client_of(durable_shop).get(f"/_signals/outbox{query}").status_code in {200, 503}
        return
    assert ids(durable_shop, query) == found
    if not found:
        assert "No messages match." in client_of(durable_shop).get(f"/_signals/outbox{query}").text


def test_total_is_that_of_the_filter(durable_shop: DurableShop) -> None:
    """Also on a later page."""
    make_each_status(durable_shop)
    client = client_of(durable_shop)
    assert "2 of 5 stored" in words(client.get("/_signals/outbox?status=due&before=5").text)
    assert client.get("/_signals/outbox.json?status=due&before=5").get_json()["total"] == 2


def test_long_list_has_pages(durable_shop: DurableShop) -> None:
    """A link leads to older messages, another one back."""
    durable_shop.on(ignore)
    send(durable_shop, PAGE + 5)
    client = client_of(durable_shop)
    html = client.get("/_signals/outbox?signal=account_funded").text
    [older] = re.findall(r'href="([^"]+)" rel="next"', html)
    assert older.replace("&amp;", "&") == "/_signals/outbox?signal=account_funded&before=6"
    assert ids(durable_shop, "?before=6") == [5, 4, 3, 2, 1]
    last = client.get("/_signals/outbox?before=6").text
    assert 'rel="next"' not in last
    assert ">Newest</a>" in last
    assert client.get("/_signals/outbox.json").get_json()["before"] == 6


def test_empty_outbox_says_so(durable_shop: DurableShop) -> None:
    """Nothing is due."""
    durable_shop.on(ignore)
    shown = words(client_of(durable_shop).get("/_signals/outbox").text)
    assert "Nothing is waiting" in shown
    assert "Oldest due for" not in shown


def test_missing_receiver_is_marked(durable_shop: DurableShop) -> None:
    """Its messages would be dead."""
    durable_shop.on(ignore)
    send(durable_shop)
    client = client_of(durable_shop)
    assert "No such receiver" not in client.get("/_signals/outbox").text
    durable_shop.kit.disconnect(ignore)
    assert "No such receiver" in client.get("/_signals/outbox").text
    assert "No such receiver" in client.get("/_signals/outbox/1").text


def test_message_shows_its_facts(durable_shop: DurableShop) -> None:
    """With the request, the place and the names in the payload, and a link to its emission."""
    durable_shop.on(pay, uid="ledger", max_attempts=3, backoff=lambda attempt: 3600)

    def fund() -> str:
        return str(durable_shop.funded.send("acme", amount=5, method="card"))

    durable_shop.app.add_url_rule("/fund", view_func=fund)
    client = client_of(durable_shop)
    client.get("/fund")
    durable_shop.work()
    response = client.get("/_signals/outbox/1")
    shown = words(response.text)
    for expected in (
        "Message 1 retrying",
        "Receiver ledger",
        "Signal account_funded",
        "Attempt 1 of 3",
        "Request GET /fund",
        "Payload amount method",
        "Sender str",
        "Caused by none",
    ):
        assert expected in shown
    assert re.search(r"Last error LookupError at \S*test_outbox\.py:\d+", shown)
    [emission] = re.findall(r'href="(/_signals/emissions/\d+)"', response.text)
    assert 'href="/_signals/outbox/1">message 1</a>' in client.get(emission).text
    [message] = client.get("/_signals/outbox.json?id=1").get_json()["messages"]
    assert (message["id"], message["payload"]) == (1, ["amount", "method"])
    assert message["message_id"] in shown


def test_filters_offer_the_known_names(durable_shop: DurableShop) -> None:
    """Of receivers with and without messages, and of those that are gone."""
    durable_shop.on(ignore, uid="audit")
    durable_shop.on(pay, signal="account_opened", uid="ledger")
    send(durable_shop)
    durable_shop.kit.disconnect(ignore)
    html = client_of(durable_shop).get("/_signals/outbox").text
    for name, offered in (
        ("receivers", ["audit", "ledger"]),
        ("signals", ["account_funded", "account_opened"]),
    ):
        assert f'list="{name}"' in html
        options = html.partition(f'<datalist id="{name}">')[2].partition("</datalist>")[0]
        assert re.findall(r'value="(\w+)"', options) == offered


def test_dead_message_names_the_commands_for_it(durable_shop: DurableShop) -> None:
    """The view itself changes nothing."""
    durable_shop.on(pay, max_attempts=1)
    send(durable_shop)
    client = client_of(durable_shop)
    assert "flask signals" not in words(client.get("/_signals/outbox/1").text)
    durable_shop.work()
    shown = words(client.get("/_signals/outbox/1").text)
    assert "flask signals outbox retry 1 or discard 1" in shown


def test_message_names_what_caused_it(durable_shop: DurableShop) -> None:
    """By the id of the message whose receiver sent it."""
    sent: list[str | None] = []

    def opens(sender: Any, **extra: Any) -> None:
        sent.append(current_emission.message_id)
        durable_shop.opened.send(sender)

    durable_shop.on(opens)
    durable_shop.on(pay, signal="account_opened", backoff=lambda attempt: 3600)
    send(durable_shop)
    durable_shop.work()
    [number] = ids(durable_shop)
    shown = words(client_of(durable_shop).get(f"/_signals/outbox/{number}").text)
    assert f"Caused by {sent[0]}" in shown
    assert f"Correlation {sent[0]}" in shown


@pytest.mark.parametrize("number", [0, 2, 9**40])
def test_message_that_is_not_stored_is_404(durable_shop: DurableShop, number: int) -> None:
    """It may have run."""
    durable_shop.on(ignore)
    send(durable_shop)
    client = client_of(durable_shop)
    response = client.get(f"/_signals/outbox/{number}")
    assert (response.status_code, "it never existed" in response.text) == (404, True)
    assert client.get(f"/_signals/outbox.json?id={number}").get_json()["messages"] == []


def test_json_of_an_id_that_is_no_number_is_empty(durable_shop: DurableShop) -> None:
    """It matches no message."""
    durable_shop.on(ignore)
    send(durable_shop)
    answer = client_of(durable_shop).get("/_signals/outbox.json?id=x").get_json()
    assert (answer["messages"], answer["total"]) == ([], 0)


def test_signal_view_links_to_the_stored_messages(durable_shop: DurableShop) -> None:
    """After a restart the journal is empty, but messages wait."""
    make_each_status(durable_shop)
    durable_shop.on(ignore, signal="account_opened")
    durable_shop.kit.on("account_closed")(ignore)
    journal = durable_shop.kit.for_app(durable_shop.app).journal
    assert journal is not None
    journal._entries.clear()
    client = client_of(durable_shop)
    html = client.get("/_signals/signals/account_funded").text
    link = '<a href="/_signals/outbox?signal=account_funded">'
    assert f"{link}5 messages are stored: 2 due, 1 running, 1 retrying, 1 dead</a>" in html
    assert "no messages are stored" in client.get("/_signals/signals/account_opened").text
    assert "/outbox?signal" not in client.get("/_signals/signals/account_closed").text


def test_signal_view_works_without_the_table(durable_shop: DurableShop) -> None:
    """The Outbox view says what is wrong."""
    durable_shop.on(ignore)
    execute(durable_shop, "DROP TABLE signals_outbox")
    response = client_of(durable_shop).get("/_signals/signals/account_funded")
    assert (response.status_code, "/outbox?signal" in response.text) == (200, False)


def test_view_says_what_runs_the_messages(durable_shop: DurableShop) -> None:
    """In testing, no worker runs in this process."""
    durable_shop.on(ignore)
    shown = words(client_of(durable_shop).get("/_signals/outbox").text)
    assert "Run by: nothing in this process: start 'flask signals work'" in shown
    answer = client_of(durable_shop).get("/_signals/outbox.json").get_json()
    assert answer["run_by"] == "nothing in this process: start 'flask signals work'"


# -- refreshing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/outbox", "/outbox/1"])
def test_view_that_has_not_changed_is_304(durable_shop: DurableShop, path: str) -> None:
    """As the requests are; a change of the row is one of the view."""
    durable_shop.on(ignore)
    send(durable_shop)
    execute(durable_shop, "UPDATE signals_outbox SET due = NULL, error = 'E'")
    client = client_of(durable_shop)
    first = client.get(f"/_signals{path}")
    assert (first.status_code, 'id="live" data-live' in first.text) == (200, True)
    headers = {"If-None-Match": first.headers["ETag"]}
    assert client.get(f"/_signals{path}", headers=headers).status_code == 304
    execute(durable_shop, "UPDATE signals_outbox SET error = 'F'")
    assert client.get(f"/_signals{path}", headers=headers).status_code == 200


# -- a database that cannot be read ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["/outbox", "/outbox/1"])
def test_missing_table_is_a_note_in_the_view(durable_shop: DurableShop, path: str) -> None:
    """It says what is missing and how to create it."""
    durable_shop.on(ignore)
    send(durable_shop)
    execute(durable_shop, "DROP TABLE signals_outbox")
    client = client_of(durable_shop)
    response = client.get(f"/_signals{path}")
    shown = words(response.text)
    assert response.status_code == 503
    assert "The outbox cannot be read" in shown
    assert "There is no table 'signals_outbox'" in shown
    answer = client.get("/_signals/outbox.json")
    assert answer.status_code == 503
    assert "There is no table 'signals_outbox'" in answer.get_json()["error"]


# -- safety ---------------------------------------------------------------------------------------


def every_view(client: FlaskClient) -> str:
    """Return the text of each view of the outbox, and of the emissions."""
    [message] = client.get("/_signals/outbox.json").get_json()["messages"]
    number = message["id"]
    paths = [
        "outbox",
        f"outbox/{number}",
        "outbox.json",
        f"outbox.json?id={number}",
        "requests.json",
    ]
    return "".join(client.get(f"/_signals/{path}").text for path in paths)


def test_no_view_shows_a_value(durable_shop: DurableShop) -> None:
    """Of the sender, the payload or the error, nor the query of the request."""
    durable_shop.on(pay, max_attempts=1)

    def fund() -> str:
        return str(durable_shop.funded.send(SECRET, card=SECRET, more={SECRET: [SECRET]}))

    durable_shop.app.add_url_rule("/fund", view_func=fund)
    client = client_of(durable_shop)
    client.get(f"/fund?token={SECRET}")
    durable_shop.work()
    assert SECRET in str(durable_shop.messages())
    assert SECRET not in every_view(client)


def test_path_of_the_request_is_hidden_in_production(durable_shop: DurableShop) -> None:
    """It may contain a token; the method stays."""
    durable_shop.on(ignore)
    durable_shop.app.add_url_rule(
        "/reset/<token>", view_func=lambda token: str(durable_shop.funded.send("acme"))
    )
    client = client_of(durable_shop)
    client.get(f"/reset/{SECRET}")
    assert SECRET in client.get("/_signals/outbox/1").text
    durable_shop.app.testing = False
    app_signals = durable_shop.kit.for_app(durable_shop.app)
    page = outbox_page(app_signals, OutboxFilter())
    assert page is not None
    assert [message.request for message in page.messages] == ["GET"]
    alone = stored_message(app_signals, 1)
    assert alone is not None
    assert alone.request == "GET"


def test_hostile_names_are_escaped(durable_shop: DurableShop) -> None:
    """Of receiver, signal, queue, error and every header of a row, and in the filters."""
    durable_shop.on(ignore)
    send(durable_shop)
    headers = dict.fromkeys(("id", "correlation", "causation", "request", "sender"), MARKUP) | {
        "sent_at": 0,
        "site": [MARKUP, MARKUP, MARKUP, 1],
    }
    values = {
        "receiver": MARKUP,
        "signal": MARKUP,
        "queue": MARKUP,
        "error": MARKUP,
        "headers": json.dumps(headers),
        "payload": json.dumps({"values": {MARKUP: 1}}),
    }
    changes = ", ".join(f"{name} = :{name}" for name in values)
    with durable_shop.outside.begin() as connection:
        connection.execute(text(f"UPDATE signals_outbox SET {changes}"), values)
    client = client_of(durable_shop)
    for path in ("/outbox", "/outbox/1"):
        response = client.get(f"/_signals{path}", query_string={"signal": MARKUP})
        assert response.status_code == 200
        assert MARKUP not in response.text
        assert "<script>" not in response.text


@pytest.mark.parametrize(
    ("column", "value"), [("headers", "{"), ("headers", "[]"), ("payload", "\x1b]0;x")]
)
def test_damaged_row_is_shown(durable_shop: DurableShop, column: str, value: str) -> None:
    """Without what cannot be read."""
    durable_shop.on(ignore)
    send(durable_shop)
    with durable_shop.outside.begin() as connection:
        connection.execute(text(f"UPDATE signals_outbox SET {column} = :value"), {"value": value})
    client = client_of(durable_shop)
    assert ids(durable_shop) == [1]
    assert client.get("/_signals/outbox/1").status_code == 200


def test_view_exists_only_where_the_page_does(durable_shop: DurableShop) -> None:
    """A visitor without permission gets what the app answers without it; only GET is allowed."""
    durable_shop.on(ignore)
    send(durable_shop)
    client = client_of(durable_shop)
    paths = ("/_signals/outbox", "/_signals/outbox.json", "/_signals/outbox/1")
    for path in paths:
        assert client.post(path).status_code == 405
        headers = client.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert "script-src 'self'" in headers["Content-Security-Policy"]
    app_signals = durable_shop.kit.for_app(durable_shop.app)
    app_signals.page_auth = lambda: False
    for path in paths:
        refused, unknown = client.get(path), client.get("/nowhere")
        assert (refused.status_code, refused.data) == (unknown.status_code, unknown.data)
    assert len(durable_shop.messages()) == 1
