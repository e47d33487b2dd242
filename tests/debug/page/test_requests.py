"""The Requests views: requests, their emissions, and why each receiver ran or did not run."""

import asyncio
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_signals_kit import SignalsKit
from tests.debug.page.test_views import words
from tests.deliveries.support import Shop
from tests.support import Later

SECRET = "secret-4111"


def first(sender: object, **extra: object) -> None:
    """Be a receiver."""


def second(sender: object, **extra: object) -> None:
    """Be another receiver."""


async def awaited(sender: object, **extra: object) -> None:
    """Be an async receiver."""


def fail(sender: object, **extra: object) -> None:
    """Raise an exception with a value in its message."""
    raise LookupError(SECRET)


def calls_fail(sender: object, **extra: object) -> None:
    """Call a function that raises."""
    fail(sender)


async def fail_async(sender: object, **extra: object) -> None:
    """Raise an exception in an async receiver."""
    raise LookupError(SECRET)


def never(sender: object, **extra: object) -> bool:
    """Refuse every emission."""
    return False


@pytest.fixture
def app(kit: SignalsKit) -> Flask:
    """Give an app in testing that sends at ``/fund``."""
    return make_app(kit)


def make_app(kit: SignalsKit, **config: Any) -> Flask:
    """Return an app in testing with two signals; ``/fund`` sends one of them."""
    app = Flask("shop")
    app.testing = True
    app.secret_key = "secret"
    app.config.update(config)
    kit.init_app(app)
    kit.signal("account_funded", "Money arrived.")
    kit.signal("alert_dismissed", "An alert is gone.")

    @app.route("/fund", methods=["GET", "POST"])
    def fund() -> str:
        kit.send("account_funded", "secret-sender", amount="secret-4111", method="card")
        return "thanks"

    return app


def requests(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    """Return the requests in the JSON."""
    response = client.get(f"/_signals/requests.json{query}")
    assert response.status_code == 200
    found: list[dict[str, Any]] = response.get_json()["requests"]
    return found


def emissions(client: FlaskClient) -> list[dict[str, Any]]:
    """Return the emissions of the newest request."""
    found: list[dict[str, Any]] = requests(client)[0]["emissions"]
    return found


def statuses(emission: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """Return receiver, status and reason of each step of an emission."""
    return [
        (step["receiver"]["name"], step["status"], step["reason"]) for step in emission["steps"]
    ]


def tree(client: FlaskClient, url: str | None = None) -> list[tuple[int, str]]:
    """Return depth and text of each row of a tree; by default, that of the newest request."""
    html = client.get(url or f"/_signals/requests/{requests(client)[0]['id']}").text
    rows = re.findall(r'<li class="(?:step|emission) depth-(\d+)"[^>]*>(.*?)</li>', html, re.DOTALL)
    return [(int(depth), words(row)) for depth, row in rows]


# -- the JSON -------------------------------------------------------------------------------------


def test_json_has_the_documented_names(kit: SignalsKit, app: Flask) -> None:
    """Of a request, an emission and a step."""
    kit.on("account_funded")(first)
    client = app.test_client()
    client.post("/fund?card=secret-4111")
    [request] = requests(client)
    [emission] = request["emissions"]
    [step] = emission["steps"]
    assert {
        "kind": "request",
        "method": "POST",
        "path": "/fund",
        "endpoint": "fund",
        "status": 200,
    }.items() <= request.items()
    assert type(request["id"]) is int
    assert request["duration"] > 0
    assert emission["number"] > 0
    assert emission["parent"] is None
    assert (emission["signal"], emission["sender"]) == ("account_funded", "str")
    assert emission["payload"] == ["amount", "method"]
    assert emission["site"]["file"] == __file__
    assert emission["site"]["name"].endswith("make_app.<locals>.fund")
    assert request["started"] <= emission["started"] <= request["started"] + request["duration"]
    assert emission["duration"] > 0
    assert step["receiver"] == {
        "module": __name__,
        "name": "first",
        "file": __file__,
        "line": first.__code__.co_firstlineno,
    }
    assert (step["status"], step["reason"], step["error"]) == ("ran", None, None)
    assert step["duration"] > 0


def test_emission_without_receivers_has_no_steps(app: Flask) -> None:
    """And says so on the page."""
    client = app.test_client()
    client.post("/fund")
    assert [emission["steps"] for emission in emissions(client)] == [[]]
    [(_, row)] = tree(client)
    assert "no receivers" in row


# -- the classic causes ---------------------------------------------------------------------------

Connect = Callable[[SignalsKit], object]

CAUSES: dict[str, tuple[Connect, str, str | None]] = {
    "ran": (lambda kit: kit.on("account_funded")(first), "ran", None),
    "async": (lambda kit: kit.on("account_funded")(awaited), "ran", None),
    "when": (
        lambda kit: kit.on("account_funded", when=never)(first),
        "skipped",
        f"{__name__}.never returned false",
    ),
    "sender": (
        lambda kit: kit.on("account_funded", sender="acme")(first),
        "other_sender",
        "connected for sender 'acme', sent by str",
    ),
    "fails": (lambda kit: kit.on("account_funded")(fail), "failed", "raised LookupError"),
    "fails async": (
        lambda kit: kit.on("account_funded")(fail_async),
        "failed",
        "raised LookupError",
    ),
    "earlier": (
        lambda kit: (
            kit.on("account_funded")(fail),
            kit.on("account_funded", priority=-1)(first),
        ),
        "not_reached",
        f"receiver 1, {__name__}.fail, raised LookupError",
    ),
    "waiting": (
        lambda kit: kit.on("account_funded", delivery=Later())(first),
        "waiting",
        "waits for later",
    ),
}


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_in_the_json_and_on_the_pages(
    kit: SignalsKit, app: Flask, cause: str, asynchronous: bool
) -> None:
    """In the tree, and in the table that explains the signal."""
    connect, status, reason = CAUSES[cause]
    connect(kit)
    signal = kit.signal("account_funded")

    @app.post("/send")
    def send() -> str:
        if asynchronous:
            asyncio.run(signal.send_async("secret-sender"))
        else:
            signal.send("secret-sender")
        return "thanks"

    app.config["PROPAGATE_EXCEPTIONS"] = False
    client = app.test_client()
    client.post("/send")
    [emission] = emissions(client)
    assert statuses(emission)[-1][1:] == (status, reason)
    shown = f"{status.replace('_', ' ')} {emission['steps'][-1]['number']} "
    assert tree(client)[-1][1].startswith(shown)
    explained = words(client.get("/_signals/signals/account_funded").text)
    assert "Why did a receiver not run?" in explained
    for text in (tree(client)[-1][1], explained):
        assert status.replace("_", " ") in text
        assert reason is None or reason in text.replace(". ", ".")


@pytest.mark.parametrize("delivery", ["immediate", "later"])
def test_failed_step_says_where_the_exception_was_raised(
    kit: SignalsKit, app: Flask, delivery: str
) -> None:
    """It may be far from the receiver; the place is a link like any other."""
    later = Later()
    kit.on("account_funded", delivery=later if delivery == "later" else "immediate")(calls_fail)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    client = app.test_client()
    client.post("/fund")
    later.run()
    [step] = emissions(client)[0]["steps"]
    line = fail.__code__.co_firstlineno + 2
    assert (step["receiver"]["name"], step["error"]) == ("calls_fail", "LookupError")
    assert step["raised"] == {"module": __name__, "name": "fail", "file": __file__, "line": line}
    place = f" at tests/debug/page/test_requests.py:{line}"
    assert place in tree(client)[-1][1].replace("/ ", "/")
    signal = client.get("/_signals/signals/account_funded").text
    assert place in words(signal).replace("/ ", "/")


def test_muted_signal_is_explained(kit: SignalsKit, app: Flask) -> None:
    """Each receiver is muted."""
    kit.on("account_funded")(first)
    client = app.test_client()
    with app.app_context(), kit.signal("account_funded").muted():
        kit.send("account_funded")
    assert statuses(emissions(client)[0]) == [("first", "muted", "the signal was muted")]
    assert "muted 1" in tree(client)[1][1]
    assert "the signal was muted" in words(client.get("/_signals/signals/account_funded").text)


@pytest.mark.parametrize("limits", [{"run": False}, {"except_": [first]}, {"only": []}])
def test_receiver_that_a_capture_does_not_run_is_explained(
    kit: SignalsKit, app: Flask, limits: Any
) -> None:
    """Also if it is the only one."""
    kit.on("account_funded")(first)
    with app.app_context(), kit.capture(**limits):
        kit.send("account_funded")
    assert statuses(emissions(app.test_client())[0]) == [("first", "muted", "by kit.capture")]


def test_explanation_has_a_column_for_each_of_the_last_emissions(
    kit: SignalsKit, app: Flask
) -> None:
    """The newest first; a receiver that was connected later was not connected before."""
    kit.on("account_funded")(first)
    client = app.test_client()
    for _ in range(10):
        client.post("/fund")
    kit.on("account_funded")(second)
    client.post("/fund")
    html = client.get("/_signals/signals/account_funded").text
    table = html[html.index('id="why"') : html.index("</table>", html.index('id="why"'))]
    numbers = [int(number) for number in re.findall(r">#(\d+)</a>", table)]
    assert len(numbers) == 8
    assert numbers == sorted(numbers, reverse=True)
    assert words(table).count("not connected") == 7


# -- after the commit -----------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Shop]:
    """Give a shop on SQLite, through Flask-SQLAlchemy."""
    shop = Shop(f"sqlite:///{tmp_path / 'shop.sqlite'}")
    yield shop
    shop.close()


def commits(shop: Shop) -> None:
    """End the transaction with a commit."""
    shop.session.commit()


def rolls_back(shop: Shop) -> None:
    """End the transaction with a rollback."""
    shop.session.rollback()


def rolls_back_a_savepoint(shop: Shop) -> None:
    """Send once more, in a savepoint that is rolled back."""
    with shop.session.begin_nested() as savepoint:
        shop.fund("inside")
        savepoint.rollback()
    shop.session.commit()


def closes(shop: Shop) -> None:
    """Close the session."""
    shop.session.close()


@pytest.mark.parametrize("receiver", [first, awaited])
@pytest.mark.parametrize(
    ("ends", "status", "reason"),
    [
        (commits, "ran", r"after the commit, .+ after the send"),
        (rolls_back, "dropped", "the transaction was rolled back"),
        (rolls_back_a_savepoint, "dropped", "the savepoint was rolled back"),
        (closes, "dropped", "the transaction ended without a commit"),
        (lambda shop: None, "dropped", "the transaction ended without a commit"),
    ],
)
def test_after_commit_receiver_waits_and_then_ran_or_was_dropped(
    database: Shop, ends: Callable[[Shop], None], status: str, reason: str, receiver: Any
) -> None:
    """By a commit, a rollback, a closed session, or the end of the app context."""
    database.kit.on("account_funded", delivery="after_commit", priority=9)(receiver)
    database.kit.on("account_funded")(second)
    client = database.app.test_client()
    seen: list[Any] = []

    @database.app.post("/fund")
    def fund() -> str:
        database.fund("acme")
        seen.append(list_statuses(database))
        ends(database)
        return "thanks"

    client.post("/fund")
    assert seen == [
        [("second", "ran", None), (receiver.__name__, "waiting", "waits for the commit")]
    ]
    [immediate, (_, found, why)] = statuses(emissions(client)[-1])
    assert immediate == ("second", "ran", None)
    assert found == status
    assert re.fullmatch(reason, why or "")
    assert (why or "").replace(" ms", "").split(",")[0] in tree(client)[-1][1]


def list_statuses(shop: Shop) -> list[tuple[str, str, str | None]]:
    """Return the steps of the last emission while it is recorded."""
    from flask_signals_kit.debug.activity import last_emissions

    found = last_emissions(shop.kit.for_app(shop.app), "account_funded")
    return [(step.receiver.name, step.status, step.reason) for step in found[0].steps]


def test_after_commit_receiver_that_fails_late(database: Shop) -> None:
    """With its error, and counted as a failure of the request."""
    database.kit.on("account_funded", delivery="after_commit")(fail)
    client = database.app.test_client()
    with database.open() as session:
        database.fund("acme")
        session.commit()
    [request] = requests(client)
    [(_, status, reason)] = statuses(request["emissions"][0])
    assert (status, request["failures"]) == ("failed", 1)
    assert re.fullmatch(r"raised LookupError, after the commit, .+ after the send", reason or "")


def test_emission_of_an_after_commit_receiver_is_under_its_step(database: Shop) -> None:
    """In the request of the sender."""

    def opens(sender: object, **extra: object) -> None:
        database.opened.send(sender)

    database.kit.on("account_funded")(first)
    database.kit.on("account_funded", delivery="after_commit", priority=5)(opens)
    database.kit.on("account_opened")(second)
    client = database.app.test_client()

    @database.app.post("/fund")
    def fund() -> str:
        database.fund("acme")
        database.session.commit()
        return "thanks"

    client.post("/fund")
    funded, opened = emissions(client)
    assert (opened["parent"], opened["parent_step"]) == (funded["number"], 2)
    rows = [(depth, row.split()[0]) for depth, row in tree(client)]
    assert rows[1:3] == [(1, "ran"), (1, "ran")]
    assert rows[3:] == [(2, f"#{opened['number']}"), (3, "ran")]


# -- the tree -------------------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_nested_emissions_are_under_the_step_that_sent_them(
    kit: SignalsKit, app: Flask, plain: bool
) -> None:
    """Three deep; a permalink of one shows what is below it."""
    names = ["account_funded", "alert_dismissed", "bidding_resumed"]
    kit.signal(names[2])
    if not plain:
        kit.on(names[0], when=never, priority=9)(lambda sender, **extra: None)
    for name, following in pairwise(names):

        def sends(sender: object, *, following: str = following, **extra: object) -> None:
            kit.send(following, sender)

        kit.on(name)(first)
        kit.on(name)(sends)
        kit.on(name)(second)
    kit.on(names[2])(first)
    client = app.test_client()
    client.post("/fund")
    rows = [(depth, row.split()[1 if row[0] == "#" else 3]) for depth, row in tree(client)]
    rows = rows if plain else [rows[0], *rows[2:]]
    assert [depth for depth, _ in rows] == [0, 1, 1, 2, 3, 3, 4, 5, 3, 1]
    assert [name for _, name in rows if name in names] == names
    _, dismissed, resumed = emissions(client)
    assert dismissed["parent_step"] == (2 if plain else 3)
    assert resumed["parent_step"] == 2
    below = tree(client, f"/_signals/emissions/{dismissed['number']}")
    assert [depth for depth, _ in below] == [0, 1, 1, 2, 3, 1]


def test_emission_links_to_its_request_and_signal(kit: SignalsKit, app: Flask) -> None:
    """And its steps have their places."""
    kit.on("account_funded")(first)
    client = app.test_client()
    client.post("/fund")
    [request] = requests(client)
    number = request["emissions"][0]["number"]
    html = client.get(f"/_signals/emissions/{number}").text
    assert f'href="/_signals/requests/{request["id"]}#emission-{number}"' in html
    assert 'href="/_signals/signals/account_funded"' in html
    assert f'href="/_signals/requests.json?id={request["id"]}"' in html
    assert f"test_requests.py:{first.__code__.co_firstlineno}" in words(html).replace("/ ", "/")
    assert "POST /fund" in words(html)


@pytest.mark.parametrize("url", ["/requests/0", "/emissions/0", "/requests/99999999999999999999"])
@pytest.mark.parametrize("journal", [True, False])
def test_missing_record_is_a_404_that_says_why(kit: SignalsKit, url: str, journal: bool) -> None:
    """It may have been dropped, or never recorded."""
    client = make_app(kit, SIGNALS_KIT_JOURNAL=journal).test_client()
    response = client.get(f"/_signals{url}")
    assert response.status_code == 404
    assert "is not recorded" in response.text
    why = "SIGNALS_KIT_JOURNAL_SIZE" if journal else "SIGNALS_KIT_JOURNAL is off"
    assert why in words(response.text)


def test_number_that_is_too_long_is_a_404(kit: SignalsKit) -> None:
    """Python does not convert a text of so many digits; Werkzeug 3.1.0 lets the error through."""
    client = make_app(kit).test_client()
    assert client.get(f"/_signals/requests/{'9' * 5000}").status_code == 404
    assert client.get(f"/_signals/requests.json?id={'9' * 5000}").get_json()["requests"] == []
