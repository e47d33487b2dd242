"""Which request, command or app context an emission belongs to."""

from collections.abc import Iterator
from threading import Event, Thread

import pytest
from flask import Flask, Response, copy_current_request_context, stream_with_context

from flask_signals_kit import SignalsKit
from tests.debug.page.test_requests import fail, first, make_app, requests
from tests.debug.page.test_views import words


@pytest.fixture
def app(kit: SignalsKit) -> Flask:
    """Give an app in testing that sends at ``/fund``."""
    return make_app(kit)


# -- which request it is --------------------------------------------------------------------------


def test_command_is_recorded(kit: SignalsKit, app: Flask) -> None:
    """With its name and how long it took; it has no method and no status."""

    @app.cli.command("fund")
    def fund() -> None:
        kit.send("account_funded")

    result = app.test_cli_runner().invoke(args=["fund"])
    assert result.exit_code == 0
    [request] = requests(app.test_client())
    assert request["kind"] == "command"
    assert request["path"].split()[-1] == "fund"
    assert (request["method"], request["status"], request["endpoint"]) == (None, None, None)
    assert request["duration"] > 0
    html = app.test_client().get("/_signals/requests").text
    assert "fund command" in words(html)


def test_sends_outside_a_request_are_recorded_by_app_context(kit: SignalsKit, app: Flask) -> None:
    """In a script or a worker."""
    for _ in range(2):
        with app.app_context():
            kit.send("account_funded")
            kit.send("alert_dismissed")
    found = requests(app.test_client())
    assert [request["kind"] for request in found] == ["none", "none"]
    assert [request["sent"] for request in found] == [2, 2]
    assert "Outside a request" in app.test_client().get("/_signals/requests").text


def test_teardown_functions_belong_to_the_request(kit: SignalsKit, app: Flask) -> None:
    """Those of the request, and those of its app context, which end after it."""

    @app.teardown_request
    @app.teardown_appcontext
    def dismiss(error: object) -> None:
        kit.send("alert_dismissed")

    client = app.test_client()
    client.post("/fund")
    [request] = requests(client)
    assert [each["signal"] for each in request["emissions"]] == [
        "account_funded",
        "alert_dismissed",
        "alert_dismissed",
    ]
    assert request["status"] == 200


@pytest.mark.parametrize("propagates", [True, False])
def test_failing_view_has_status_500(kit: SignalsKit, app: Flask, propagates: bool) -> None:
    """Also if the exception propagates to the server, as in debug."""
    app.config["PROPAGATE_EXCEPTIONS"] = propagates
    kit.on("account_funded")(fail)
    client = app.test_client()
    if propagates:
        with pytest.raises(LookupError):
            client.post("/fund")
    else:
        client.post("/fund")
    [request] = requests(client, "?status=5&failed=1")
    assert (request["status"], request["failures"]) == (500, 1)


def test_unknown_url_is_recorded_without_an_endpoint(kit: SignalsKit, app: Flask) -> None:
    """A 404 in which a signal was sent."""
    app.before_request(lambda: kit.send("account_funded").clear())
    client = app.test_client()
    client.get("/nowhere?token=secret-4111")
    [request] = requests(client)
    assert (request["path"], request["endpoint"], request["status"]) == ("/nowhere", None, 404)


def test_stream_belongs_to_its_request(kit: SignalsKit, app: Flask) -> None:
    """What is sent while the body is made has the request's record."""

    @app.get("/report")
    def report() -> Response:
        kit.send("account_funded")

        def body() -> Iterator[str]:
            yield "a"
            kit.send("alert_dismissed")
            yield "b"

        return Response(stream_with_context(body()))

    client = app.test_client()
    assert client.get("/report").text == "ab"
    [request] = requests(client)
    assert request["sent"] == 2
    assert (request["path"], request["status"]) == ("/report", 200)


def test_client_inside_an_app_context_has_requests_of_its_own(kit: SignalsKit, app: Flask) -> None:
    """As in many tests; what the test itself sends belongs to no request."""
    with app.app_context():
        kit.send("alert_dismissed")
        client = app.test_client()
        client.post("/fund")
        client.get("/fund")
        kit.send("alert_dismissed")
        found = requests(client)
    assert [(each["kind"], each["method"], each["sent"]) for each in found] == [
        ("request", "GET", 1),
        ("request", "POST", 1),
        ("none", None, 2),
    ]


@pytest.mark.parametrize("url", ["/_signals", "/admin/who-listens-é"])
def test_requests_of_the_page_are_left_out(kit: SignalsKit, url: str) -> None:
    """Whatever they send, also at another URL; those of a longer name are the app's."""
    app = make_app(kit, SIGNALS_KIT_PAGE_URL=url)
    kit.on("request_started", "request_finished", "appcontext_pushed")(first)
    app.add_url_rule(f"{url}-else", view_func=lambda: "of the app", endpoint="else")
    client = app.test_client()
    for view in ("", "/requests", "/requests.json", "/signals/account_funded", "/static/live.js"):
        assert client.get(url + view).status_code == 200
    assert client.get(f"{url}/requests.json").get_json()["requests"] == []
    client.get(f"{url}-else")
    [request] = client.get(f"{url}/requests.json").get_json()["requests"]
    assert request["path"] == f"{url}-else"


def test_index_shows_requests_once_something_was_sent(app: Flask) -> None:
    """Before, it shows the signals."""
    client = app.test_client()
    assert "<h1>Signals</h1>" in client.get("/_signals").text
    client.post("/fund")
    assert "<h1>Requests</h1>" in client.get("/_signals").text


def test_journal_off_is_said(kit: SignalsKit) -> None:
    """On the page and in the JSON."""
    app = make_app(kit, SIGNALS_KIT_JOURNAL=False)
    client = app.test_client()
    client.post("/fund")
    assert "SIGNALS_KIT_JOURNAL is off" in words(client.get("/_signals/requests").text)
    answer = client.get("/_signals/requests.json").get_json()
    assert (answer["journal"], answer["requests"], answer["total"]) == (False, [], 0)
    assert "<h1>Signals</h1>" in client.get("/_signals").text


def test_copied_request_context_belongs_to_the_request(kit: SignalsKit, app: Flask) -> None:
    """A thread that outlives the request does not change its duration."""
    threads: list[Thread] = []
    begin = Event()

    @app.get("/copy")
    def copy() -> str:
        kit.send("account_funded")

        @copy_current_request_context
        def work() -> None:
            begin.wait(10)
            kit.send("alert_dismissed")

        threads.append(Thread(target=work))
        threads[0].start()
        return "copied"

    client = app.test_client()
    client.get("/copy")
    [before] = requests(client)
    begin.set()
    threads[0].join()
    [request] = requests(client)
    assert (request["sent"], before["sent"]) == (2, 1)
    assert request["duration"] == before["duration"]


def test_context_of_another_app_has_its_own_record(kit: SignalsKit, app: Flask) -> None:
    """Within a request, also one for the outer app's page."""
    inner_kit = SignalsKit()
    inner = make_app(inner_kit)

    @app.get("/outer")
    @app.get("/_signals/more")
    def outer() -> str:
        kit.send("account_funded")
        with inner.app_context():
            inner_kit.send("account_funded")
        return "sent"

    client = app.test_client()
    for path in ("/outer", "/_signals/more"):
        assert client.get(path).text == "sent"
    [request] = requests(client)
    assert (request["path"], request["sent"]) == ("/outer", 1)
    found = requests(inner.test_client())
    assert [(each["kind"], each["path"], each["sent"]) for each in found] == [("none", None, 1)] * 2


def test_signals_of_an_app_context_belong_to_it(kit: SignalsKit, app: Flask) -> None:
    """Flask sends the last one when the context is no longer the current one."""
    kit.on("appcontext_pushed", "appcontext_popped")(first)
    with app.app_context():
        pass  # begins the journal, before or after this signal: Blinker has no order
    with app.app_context(), app.app_context():
        pass
    found = requests(app.test_client(), "?signal=appcontext_pushed")
    signals = [each["signals"] for each in found]
    assert signals[:2] == [["appcontext_popped", "appcontext_pushed"]] * 2
