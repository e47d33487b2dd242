"""What happened, as plain records: how many are put together, and that they keep nothing alive."""

import weakref
from collections.abc import Callable
from contextvars import copy_context
from threading import Event, Thread
from typing import Any

import pytest
from blinker import Signal
from flask import Flask
from flask.testing import FlaskClient

from flask_signals_kit import SignalsKit
from flask_signals_kit.app.requests import Requests
from flask_signals_kit.core import journal as journal_module
from flask_signals_kit.core.journal import JournalEntry, JournalStep
from flask_signals_kit.debug import activity
from flask_signals_kit.debug.activity import EmissionInfo, RequestInfo, StepInfo
from flask_signals_kit.debug.page import views
from tests.support import FLASK_SIGNALS, Later

RECORDS = (JournalStep, EmissionInfo, StepInfo, RequestInfo)


def receive(sender: object, **extra: object) -> None:
    """Be a receiver."""


def make_app(size: int, *, receivers: int = 1) -> Flask:
    """Return an app whose journal has this size, with a signal."""
    app = Flask("shop")
    app.config.update(TESTING=True, SIGNALS_KIT_JOURNAL_SIZE=size)
    kit = SignalsKit(app)
    kit.signal("account_funded", "Money arrived.")
    for _ in range(receivers):
        kit.on("account_funded")(lambda sender, **extra: None)
    return app


def send(app: Flask, times: int) -> None:
    """Send in the current app context, or in a new one."""
    for _ in range(times):
        app.extensions["signals_kit"].send("account_funded", "acme")


def send_in_one_context(app: Flask, times: int) -> None:
    """Send everything in one app context, as a worker does."""
    with app.app_context():
        send(app, times)


def send_in_many_contexts(app: Flask, times: int) -> None:
    """Send each in an app context of its own."""
    for _ in range(times):
        with app.app_context():
            send(app, 1)


def send_in_a_chain(app: Flask, times: int) -> None:
    """Let receivers send again and again, after the first has returned."""
    kit = app.extensions["signals_kit"]
    later = Later()
    kit.on("account_funded", delivery=later)(lambda sender, **extra: send(app, 1))
    with app.app_context():
        send(app, 1)
        for _ in range(times - 1):
            later.run()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Give a list of the records that are put together from now on, by their type."""
    found: list[type] = []

    def count(record: Any) -> None:
        original = record.__init__

        def counted(self: Any, **fields: Any) -> None:
            found.append(record)
            original(self, **fields)

        monkeypatch.setattr(record, "__init__", counted)

    for record in RECORDS:
        count(record)

    class CountedEntry(JournalEntry):
        @classmethod
        def _make(cls, iterable: Any) -> Any:  # type: ignore[override]
            found.append(JournalEntry)
            return super()._make(iterable)

    monkeypatch.setattr(journal_module, "JournalEntry", CountedEntry)
    return found


def newest(client: FlaskClient) -> tuple[int, int, int]:
    """Return the id of the newest request, and the numbers of its first and last emission."""
    [request, *_] = client.get("/_signals/requests.json").get_json()["requests"]
    numbers = [emission["number"] for emission in request["emissions"]]
    return request["id"], min(numbers), max(numbers)


@pytest.mark.parametrize("size", [1000, 100_000])
@pytest.mark.parametrize("fill", [send_in_one_context, send_in_many_contexts])
def test_number_of_records_is_bounded(made: list[type], size: int, fill: Any) -> None:
    """Whatever the size of the journal."""
    app = make_app(size)
    fill(app, size)
    client = app.test_client()
    request, first, last = newest(client)
    assert 0 < made.count(JournalEntry) <= activity.JSON_ROWS
    for url in (
        "/requests",
        "/requests?q=outside",
        f"/requests/{request}",
        f"/emissions/{first}",
        f"/emissions/{last}",
        "/signals/account_funded",
    ):
        made.clear()
        assert client.get(f"/_signals{url}").status_code == 200
        assert len(made) <= 3 * views.ROWS, url
        assert made.count(RequestInfo) <= views.PAGE, url


def test_records_of_many_receivers_are_bounded(made: list[type]) -> None:
    """A few emissions may have as many steps as many emissions."""
    app = make_app(1000, receivers=1500)
    send_in_one_context(app, 50)
    client = app.test_client()
    request, _, last = newest(client)
    for url in (f"/requests/{request}", f"/emissions/{last}"):
        made.clear()
        html = client.get(f"/_signals{url}").text
        assert len(made) <= 3 * (views.ROWS + 1500)
        assert html.count('<li class="') <= views.ROWS
        assert ("Only the last emissions are shown" in html) is ("requests" in url)


def test_last_emissions_of_a_long_request_are_shown(made: list[type]) -> None:
    """The page and the JSON say how many there were."""
    app = make_app(100_000)
    send_in_one_context(app, 15_000)
    client = app.test_client()
    request, first, last = newest(client)
    answer = client.get(f"/_signals/requests.json?id={request}").get_json()["requests"][0]
    assert answer["sent"] == 15_000
    assert len(answer["emissions"]) == activity.JSON_ROWS // 2 + 1
    assert last - first == activity.JSON_ROWS // 2
    html = client.get(f"/_signals/requests/{request}").text
    assert "15,000 emissions" in html
    assert f'id="emission-{last - 500}"' in html
    assert f'id="emission-{first}"' not in html


def test_sending_step_is_found_in_one_search() -> None:
    """An emission with many receivers may have many emissions under it."""
    app = make_app(10_000, receivers=100)
    kit = app.extensions["signals_kit"]
    steps: list[JournalStep] = []
    original = activity.in_order

    def in_order(entry: JournalEntry) -> list[JournalStep]:
        found = original(entry)
        if entry.signal == "campaign_created":
            steps.extend(found)
        return found

    for _ in range(50):
        kit.on("campaign_created")(lambda sender, **extra: kit.send("alert_dismissed"))
    with app.app_context():
        kit.send("campaign_created", "acme")
        kit.send("campaign_created", "acme")  # as a plain send, which stores no step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activity, "in_order", in_order)
        [request] = activity.describe(kit, activity.requests(kit))
        sent = activity.emissions(kit, [request], 1000)[request.id]
    children = [each for each in sent if each.signal == "alert_dismissed"]
    assert [each.parent_step for each in children] == [*range(1, 51)] * 2
    assert len(steps) <= 2 * 2 * 50


def test_chain_of_sends_is_nested_without_recursion() -> None:
    """Deeper than Python's stack."""
    app = make_app(5000)
    send_in_a_chain(app, 1500)
    client = app.test_client()
    request, first, _ = newest(client)
    for url in (f"/requests/{request}", f"/emissions/{first}"):
        html = client.get(f"/_signals{url}").text
        assert html.count('class="emission depth-12"') > 500
    [found] = client.get(f"/_signals/requests.json?id={request}").get_json()["requests"]
    by_number = {emission["number"]: emission for emission in found["emissions"]}
    parents = [emission["parent"] for emission in found["emissions"]]
    assert parents == [None, *list(by_number)[:-1]]


def test_order_of_steps_is_that_in_which_they_run() -> None:
    """Those of a delivery follow the immediate ones, whatever their priority."""
    app = make_app(10)
    kit = app.extensions["signals_kit"]
    kit.on("account_funded", priority=9, delivery=Later())(receive)
    send_in_one_context(app, 1)
    [found] = activity.last_emissions(kit, "account_funded")
    assert [(step.number, step.status) for step in found.steps] == [(1, "ran"), (2, "waiting")]


def test_reason_of_what_was_not_reached_names_the_last_failure() -> None:
    """An isolated failure before it is not the reason."""
    app = make_app(10, receivers=0)
    kit = app.extensions["signals_kit"]

    def isolated(sender: object, **extra: object) -> None:
        raise OSError

    def raises(sender: object, **extra: object) -> None:
        raise LookupError

    kit.on("account_funded", on_error="isolate")(isolated)
    kit.on("account_funded")(raises)
    kit.on("account_funded")(receive)
    with app.app_context(), pytest.raises(LookupError):
        send(app, 1)
    [found] = activity.last_emissions(kit, "account_funded")
    name = f"{__name__}.{raises.__qualname__}"
    assert [step.reason for step in found.steps] == [
        "raised OSError",
        "raised LookupError",
        f"receiver 2, {name}, raised LookupError",
    ]


def test_explanation_follows_each_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row for each, and for each of several with the same place; limited in number."""
    app = make_app(10, receivers=3)
    kit = app.extensions["signals_kit"]
    send_in_one_context(app, 2)
    explained = activity.receivers_by_emission(activity.last_emissions(kit, "account_funded"))
    assert len(explained) == 3
    assert all(len(steps) == 2 for _, steps in explained)
    monkeypatch.setattr(activity, "RECEIVERS", 2)
    limited = activity.receivers_by_emission(activity.last_emissions(kit, "account_funded"))
    assert len(limited) == 2


def test_emission_that_is_no_longer_recorded_is_not_found() -> None:
    """The emissions that its receiver sent are still recorded."""
    app = Flask("shop")
    app.testing = True
    app.config["SIGNALS_KIT_JOURNAL_SIZE"] = 2
    kit, later = SignalsKit(app), Later()
    kit.on("account_funded", delivery=later)(
        lambda account, **extra: [kit.send("alert_dismissed", account) for _ in range(2)]
    )
    with app.app_context():
        kit.send("account_funded", "acme")
        later.run()
    journal = kit.for_app(app).journal
    assert journal is not None
    [last, other] = journal.entries()
    client = app.test_client()
    for number, status in ((last.parent, 404), (other.number, 200), (last.number, 200)):
        assert client.get(f"/_signals/emissions/{number}").status_code == status


def test_without_a_journal_there_is_nothing() -> None:
    """Not an error."""
    app = Flask("shop")
    kit = SignalsKit(app).for_app(app)
    assert activity.requests(kit) == []
    assert activity.describe(kit, []) == []
    assert activity.request(kit, 1) is None
    assert activity.within(kit, 1, 100) == []
    assert activity.last_emissions(kit, "account_funded") == []


# -- on and off -----------------------------------------------------------------------------------


def switch_off(app: Flask, kit: SignalsKit) -> None:
    """Leave testing."""
    app.testing = False
    with app.app_context():
        pass


def detach(app: Flask, kit: SignalsKit) -> None:
    """Detach the kit from the app."""
    kit.detach(app)


@pytest.mark.parametrize("end", [switch_off, detach])
def test_end_of_the_journal_removes_what_it_installed(
    end: Callable[[Flask, SignalsKit], None],
) -> None:
    """From Flask's own signals."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    with app.app_context():
        pass
    assert [listeners(signal, app) for signal in FLASK_SIGNALS].count(1) == 4
    end(app, kit)
    assert [listeners(signal, app) for signal in FLASK_SIGNALS].count(0) == 10


def listeners(signal: Signal, app: Flask) -> int:
    """Count the receivers that the journal has connected to one of Flask's signals."""
    modules = [receiver.__module__ for receiver in signal.receivers_for(app)]
    return modules.count(Requests.__module__)


@pytest.mark.usefixtures("no_gc")
@pytest.mark.parametrize("later", [True, False])
def test_app_with_records_is_freed_without_the_garbage_collector(later: bool) -> None:
    """Also if receivers still wait, and after its pages were shown."""
    waiting = Later()

    def run() -> weakref.ref[Flask]:
        app = make_app(10)
        kit = app.extensions["signals_kit"]
        kit.on("account_funded", delivery=waiting)(receive)
        kit.on("request_started")(receive)
        send_in_one_context(app, 2)
        client = app.test_client()
        request = newest(client)[0]
        for url in ("/requests", f"/requests/{request}", "/signals/account_funded"):
            assert client.get(f"/_signals{url}").status_code == 200
        if not later:
            waiting.calls.clear()
        return weakref.ref(app)

    gone = run()
    assert gone() is None


@pytest.mark.parametrize("warm", [False, True])
def test_send_of_a_thread_is_not_given_to_the_receiver_that_happens_to_run(warm: bool) -> None:
    """The first receiver started it; with a plan, a plain send does not know which one did."""
    app = make_app(10)
    kit = app.extensions["signals_kit"]
    started, sent = Event(), Event()
    threads: list[Thread] = []

    def send() -> None:
        started.wait(10)
        kit.send("alert_dismissed", "acme")
        sent.set()

    def begin(sender: object, *, go: bool = False) -> None:
        if go:
            threads.append(Thread(target=copy_context().run, args=(send,)))
            threads[0].start()

    def wait(sender: object, *, go: bool = False) -> None:
        if go:
            started.set()
            sent.wait(10)

    kit.on("campaign_created")(begin)
    kit.on("campaign_created")(wait)
    with app.app_context():
        if warm:
            kit.send("campaign_created")
        kit.send("campaign_created", go=True)
        threads[0].join()
    [request] = activity.describe(kit, activity.requests(kit))
    *_, parent, found = activity.emissions(kit, [request], 10)[request.id]
    assert (found.signal, found.parent) == ("alert_dismissed", parent.number)
    assert found.parent_step == (None if warm else 1)
