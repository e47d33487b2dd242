"""The journal: recent emissions and figures of receivers, in bounded memory, as plain values."""

import asyncio
import gc
import logging
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

import flask.signals
import pytest
from flask import Flask, current_app
from hypothesis import given
from hypothesis import strategies as st

from flask_signals_kit import (
    Namespace,
    Observation,
    Signal,
    SignalsKit,
    current_emission,
)
from flask_signals_kit.app.app_signals import AppSignals
from flask_signals_kit.core.journal import RECENT, Journal, JournalEntry, RequestRecord, Tally
from flask_signals_kit.core.plan import Roster
from flask_signals_kit.debug.report import ReceiverInfo, report
from flask_signals_kit.records import Connection, Place
from tests.support import JournalEnvironment, Later


class Account:
    """A sender."""


def fine(sender: object, **payload: object) -> None:
    """Return without an error."""


def fail(sender: object, **payload: object) -> None:
    """Raise an exception."""
    raise LookupError("boom")


def interrupt(sender: object, **payload: object) -> None:
    """Raise `KeyboardInterrupt`."""
    raise KeyboardInterrupt


@pytest.fixture
def app() -> Flask:
    """Return an app in testing, so that a journal is kept, with a signal that isolates failures."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    kit.signal("account_funded", on_error="isolate")
    return app


@pytest.fixture
def shop(app: Flask) -> Iterator[AppSignals]:
    """Return the app's signals, with the app's context pushed."""
    with app.app_context():
        yield app.extensions["signals_kit"]


def figures(state: AppSignals, signal: str = "account_funded") -> dict[str, ReceiverInfo]:
    """Return the receivers of a signal with their figures, by name."""
    found = report(state).find(signal)
    assert found is not None
    return {receiver.name: receiver for receiver in found.receivers}


def counts(state: AppSignals, signal: str = "account_funded") -> dict[str, tuple[Any, ...]]:
    """Return calls, failures and the last failure of each receiver of a signal, by name."""
    return {
        name: (
            receiver.calls,
            receiver.failures,
            receiver.last_failure and receiver.last_failure.error,
        )
        for name, receiver in figures(state, signal).items()
    }


def journal_of(state: AppSignals) -> Journal:
    """Return the journal, which must exist."""
    assert state.journal is not None
    return state.journal


def newest(state: AppSignals) -> JournalEntry:
    """Return the newest entry."""
    return journal_of(state).entries()[0]


def test_times_are_those_of_the_clock_when_the_journal_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A test may set the clock for one app and not for the next one."""

    def times() -> list[float | None]:
        app = Flask("shop")
        app.testing = True
        state = SignalsKit(app).for_app(app)
        state.on("account_funded", on_error="isolate")(fail)
        with app.app_context():
            state.send("account_funded", "acme")
        [signal] = [each for each in report(state).signals if each.name == "account_funded"]
        failure = signal.receivers[0].last_failure
        assert failure is not None
        return [newest(state).time, signal.last_sent, failure.time]

    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 1_000_000)
    assert times() == pytest.approx([now - 1_000_000] * 3, abs=1000)
    monkeypatch.undo()
    assert times() == pytest.approx([now] * 3, abs=1000)


# -- counting -------------------------------------------------------------------------------------


def test_calls_and_failures_are_counted_per_connection(shop: AppSignals) -> None:
    """For each receiver of each signal."""
    shop.signal("account_closed", on_error="isolate")
    shop.on("account_funded", "account_closed")(fine)
    shop.on("account_funded")(fail)
    for _ in range(3):
        shop.send("account_funded")
    shop.send("account_closed")
    assert counts(shop) == {"fine": (3, 0, None), "fail": (3, 3, "LookupError")}
    assert counts(shop, "account_closed") == {"fine": (1, 0, None)}


def test_last_failure_is_recorded(shop: AppSignals) -> None:
    """By its type alone; a later success does not clear it."""
    errors: list[type[Exception] | None] = [LookupError, OSError, None]

    @shop.on("account_funded")
    def receiver(sender: object, **payload: object) -> None:
        error = errors.pop(0)
        if error is not None:
            raise error

    for _ in range(3):
        shop.send("account_funded")
    [(_, found)] = counts(shop).items()
    assert found == (3, 2, "OSError")


def test_skipped_receivers_are_not_counted(shop: AppSignals) -> None:
    """Predicate, other sender, muted signal, or an earlier failure."""
    shop.signal("account_closed")
    shop.on("account_funded", when=lambda sender, **payload: False)(fail)
    shop.on("account_funded", sender="acme")(fine)
    shop.on("account_closed")(fail)
    shop.on("account_closed", priority=-1)(fine)
    shop.send("account_funded", "else")
    with shop.namespace.signal("account_funded").muted():
        shop.send("account_funded", "acme")
    with pytest.raises(LookupError):
        shop.send("account_closed")
    assert counts(shop) == {"fail": (0, 0, None), "fine": (0, 0, None)}
    assert counts(shop, "account_closed") == {"fail": (1, 1, "LookupError"), "fine": (0, 0, None)}


@pytest.mark.needs("asgiref")
def test_every_kind_of_send_is_counted(shop: AppSignals) -> None:
    """Plain, robust and async, through names, handles and signals."""

    async def awaited(sender: object, **payload: object) -> None:
        await asyncio.sleep(0)

    handle = shop.signal("account_closed")
    shop.on("account_closed")(fine)
    shop.on("account_closed")(awaited)
    signal = shop.namespace.signal("account_closed")
    for send in (shop.send, shop.send_robust):
        send("account_closed")
    handle.send(None)
    handle.send_robust(None)
    signal.send("acme")
    asyncio.run(signal.send_async("acme"))
    asyncio.run(signal.send_robust_async("acme"))
    found = {
        name.rpartition(".")[2]: figure for name, figure in counts(shop, "account_closed").items()
    }
    assert found == {"fine": (7, 0, None), "awaited": (7, 0, None)}
    assert len(journal_of(shop).entries()) == 7


def test_base_exception_is_counted_as_a_failure(shop: AppSignals) -> None:
    """It propagates in any case, and is in the journal nevertheless."""
    shop.on("account_funded")(interrupt)
    with pytest.raises(KeyboardInterrupt):
        shop.send("account_funded")
    assert counts(shop) == {"interrupt": (1, 1, "KeyboardInterrupt")}
    assert [step.error for step in newest(shop).steps] == ["KeyboardInterrupt"]


def test_deferred_receiver_is_counted_when_it_runs(shop: AppSignals) -> None:
    """Not when it is deferred; and with its outcome."""
    shop.on("account_funded", delivery=(later := Later()))(fail)
    shop.send("account_funded")
    shop.send("account_funded")
    assert counts(shop) == {"fail": (0, 0, None)}
    assert figures(shop)["fail"].mean is None
    with pytest.raises(LookupError):
        later.calls[0].run()
    assert counts(shop) == {"fail": (1, 1, "LookupError")}
    assert [entry.steps[0].status for entry in journal_of(shop).entries()] == ["waiting", "failed"]


def test_times_are_measured_for_each_receiver(shop: AppSignals) -> None:
    """Never less than it took, and their sum is never more than the total."""
    taken: list[float] = []

    @shop.on("account_funded")
    def slow(sender: object, *, seconds: float) -> None:
        began = time.perf_counter()
        time.sleep(seconds)
        taken.append(time.perf_counter() - began)

    shop.on("account_funded")(fine)
    for seconds in [0.001] * 18 + [0.02] * 2:
        shop.send("account_funded", seconds=seconds)
    found = {name.rpartition(".")[2]: receiver for name, receiver in figures(shop).items()}
    mean, p95 = found["slow"].mean, found["slow"].p95
    assert mean is not None
    assert p95 is not None
    assert mean >= sum(taken) / 20
    assert p95 >= sorted(taken)[18] >= 0.02
    assert (found["fine"].mean or 1) < mean
    for entry in journal_of(shop).entries():
        durations = [step.duration or 0 for step in entry.steps]
        assert min(durations) > 0
        assert sum(durations) == pytest.approx(entry.duration)


@given(st.lists(st.floats(0, 1000), max_size=250))
def test_mean_and_p95_are_of_the_last_hundred_calls(durations: list[float]) -> None:
    """The p95 is the shortest duration that 95 of 100 did not exceed."""
    tally = Tally()
    tally.recent.extend(durations)
    last = durations[-100:]
    assert RECENT == 100
    if not last:
        assert (tally.mean, tally.p95) == (None, None)
        return
    assert tally.mean == pytest.approx(sum(last) / len(last))
    enough = [d for d in last if sum(other <= d for other in last) * 100 >= 95 * len(last)]
    assert tally.p95 == min(enough)


def test_figures_survive_a_reconnection(shop: AppSignals) -> None:
    """Connecting the same receiver again changes its options, not its past."""
    shop.on("account_funded")(fine)
    shop.send("account_funded")
    shop.on("account_funded", priority=10)(fine)
    shop.send("account_funded")
    assert counts(shop) == {"fine": (2, 0, None)}
    assert figures(shop)["fine"].priority == 10


def test_figures_are_removed_with_the_connection(shop: AppSignals) -> None:
    """A receiver that is connected later begins at zero."""
    signal = shop.namespace.signal("account_funded")
    signal.connect(fine)
    shop.send("account_funded")
    signal.disconnect(fine)
    assert counts(shop) == {}
    signal.connect(fine)
    assert counts(shop) == {"fine": (0, 0, None)}


def test_receiver_connected_for_two_senders_has_separate_figures(shop: AppSignals) -> None:
    """They are two connections."""
    for sender in ("acme", "else"):
        shop.on("account_funded", sender=sender)(fine)
    for sender in ("acme", "acme", "else"):
        shop.send("account_funded", sender)
    signal = report(shop).find("account_funded")
    assert signal is not None
    assert [(r.sender, r.calls) for r in signal.receivers] == [("'acme'", 2), ("'else'", 1)]


# -- entries --------------------------------------------------------------------------------------


def test_entry_has_sender_signal_place_and_receivers(app: Flask, shop: AppSignals) -> None:
    """Types, names and places alone."""
    shop.on("account_funded")(fine)
    shop.on("account_funded")(fail)
    shop.on("account_funded", delivery=Later())(interrupt)
    before = time.time()

    @app.get("/fund")
    def fund() -> str:
        shop.send("account_funded", Account(), amount=5, method="card")
        return "thanks"

    app.test_client().get("/fund?card=4111")
    entry = newest(shop)
    assert entry.signal == "account_funded"
    assert entry.sender == f"{__name__}.Account"
    assert entry.payload == ("amount", "method")
    assert (entry.request.kind, entry.request.method, entry.request.path) == (
        "request",
        "GET",
        "/fund",
    )
    assert entry.thread == threading.get_ident()
    assert entry.site is not None
    assert (entry.site.module, entry.site.file) == (__name__, __file__)
    assert (
        entry.site.name
        == f"{test_entry_has_sender_signal_place_and_receivers.__qualname__}.<locals>.fund"
    )
    assert entry.site.line == fund.__code__.co_firstlineno + 2
    assert before - 1 < entry.time < time.time() + 1
    assert entry.started <= time.perf_counter()
    assert [(step.receiver.name, step.status, step.error) for step in entry.steps] == [
        ("fine", "ran", None),
        ("fail", "failed", "LookupError"),
        ("interrupt", "waiting", None),
    ]
    assert entry.steps[0].receiver.line == fine.__code__.co_firstlineno


def test_same_code_in_two_files_has_two_places() -> None:
    """Python finds such code equal."""
    environment = JournalEnvironment()
    signal = Namespace(environment).signal("account_funded")
    for file in ("one.py", "two.py"):
        exec(compile("\nsignal.send('acme')", file, "exec"), {"signal": signal})
    places = [entry.site for entry in environment.journal.entries()]
    assert {(place.file, place.line) for place in places if place} == {("one.py", 2), ("two.py", 2)}


def test_code_without_a_module_can_send() -> None:
    """Such as that of a template, or of an embedded interpreter."""
    environment = JournalEnvironment()
    signal = Namespace(environment).signal("account_funded")
    for name in ({}, {"__name__": None}):
        exec(compile("signal.send('acme')", "one.py", "exec"), {"signal": signal, **name})
    places = [entry.site for entry in environment.journal.entries()]
    assert [place.module for place in places if place] == ["", ""]


@pytest.mark.parametrize("sender", [Account(), Account, None, "acme", 3, current_app], ids=type)
def test_sender_label_equals_that_of_the_emission(shop: AppSignals, sender: object) -> None:
    """One sender, one name, however it is looked at."""
    notified: list[tuple[object, ...]] = []

    @shop.on("account_funded")
    def receiver(sender: object, **payload: object) -> None:
        emission = current_emission
        notified.append((emission.sender, emission.payload, emission.site))

    shop.namespace.signal("account_funded").send(sender, amount=5)
    entry = newest(shop)
    assert notified == [(entry.sender, entry.payload, entry.site)]


def test_entries_are_newest_first_and_numbered(shop: AppSignals) -> None:
    """The numbers follow the order in which the emissions began."""
    for name in ("first", "second", "third"):
        shop.signal(name)
        shop.send(name)
    entries = journal_of(shop).entries()
    assert [entry.signal for entry in entries] == ["third", "second", "first"]
    numbers = [entry.number for entry in entries]
    assert numbers == sorted(set(numbers), reverse=True)


def test_entry_outside_a_request_belongs_to_its_app_context(shop: AppSignals) -> None:
    """In a worker, a script, a shell."""
    shop.send("account_funded")
    assert newest(shop).request.kind == "none"


def test_entry_has_its_thread(app: Flask, shop: AppSignals) -> None:
    """To distinguish concurrent emissions."""

    def send() -> None:
        with app.app_context():
            shop.send("account_funded")

    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    assert newest(shop).thread == thread.ident != threading.get_ident()


def test_entries_of_flasks_context_signals_have_their_request(app: Flask, shop: AppSignals) -> None:
    """They are sent before the request's own context and after it."""
    shop.on("appcontext_pushed", "appcontext_popped", "appcontext_tearing_down")(fine)
    fresh = threading.Thread(target=lambda: app.test_client().post("/fund"))  # without our context
    fresh.start()
    fresh.join()
    entries = journal_of(shop).entries()
    found = [(entry.signal, entry.request.method, entry.request.path) for entry in entries]
    assert found == [
        ("appcontext_popped", "POST", "/fund"),
        ("appcontext_tearing_down", "POST", "/fund"),
        ("appcontext_pushed", "POST", "/fund"),
    ]
    assert len({entry.request.id for entry in entries}) == 1


# -- bounded memory -------------------------------------------------------------------------------


def test_journal_size_is_limited() -> None:
    """The newest replace the oldest."""
    environment = JournalEnvironment()
    shop, journal = Namespace(environment), environment.journal
    for number in range(25):
        shop.signal("account_funded").send(payload=number)
    numbers = [entry.number for entry in journal.entries()]
    assert numbers == list(range(numbers[0], numbers[0] - 10, -1))
    assert journal.entries()[0].request.emissions == 25


def test_journal_size_is_a_setting() -> None:
    """``SIGNALS_KIT_JOURNAL_SIZE``."""
    app = Flask("shop")
    app.config.update(TESTING=True, SIGNALS_KIT_JOURNAL_SIZE=3)
    state = SignalsKit(app).for_app(app)
    state.signal("account_funded")
    with app.app_context():
        for _ in range(5):
            state.send("account_funded")
    assert len(journal_of(state).entries()) == 3


@pytest.mark.parametrize("on_error", ["raise", "isolate"])
def test_journal_memory_is_bounded(on_error: Any) -> None:
    """Ten thousand emissions take no more than the first thousand."""
    environment = JournalEnvironment(500)
    journal = environment.journal
    signal = Signal("account_funded", "Money.", on_error=on_error, environment=environment)
    signal.connect(fine)
    signal.connect(fine_with_payload)

    def send(times: int) -> None:
        for number in range(times):
            signal.send(Account(), amount=number, text="x" * 1000)

    tracemalloc.start()
    try:
        send(1000)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        send(10_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(journal.entries()) == 500
    assert before < 500 * 1000  # bytes: less than the texts alone would take
    assert after - before < 50_000


def fine_with_payload(sender: object, *, amount: int, text: str) -> None:
    """Return without an error, with a payload."""


class TrackedError(Exception):
    """An exception that supports weak references."""


@pytest.mark.parametrize("on_error", ["raise", "group", "isolate"])
@pytest.mark.usefixtures("no_gc")
def test_journal_keeps_no_object_alive(monkeypatch: pytest.MonkeyPatch, on_error: Any) -> None:
    """No sender, payload value, exception or receiver."""
    # Handlers of tests keep what was logged, and with it the exception.
    monkeypatch.setattr(logging.getLogger("flask_signals_kit"), "disabled", True)
    environment = JournalEnvironment()
    journal = environment.journal
    signal = Signal("account_funded", on_error=on_error, environment=environment)
    gone: list[weakref.ref[Any]] = []

    def tracked() -> TrackedError:
        error = TrackedError()
        gone.append(weakref.ref(error))
        return error

    def send() -> None:
        sender, value = Account(), tracked()

        def receiver(sender: object, **payload: object) -> None:
            raise tracked()

        gone.extend(weakref.ref(thing) for thing in (sender, receiver))
        signal.connect(receiver)
        try:
            signal.send(sender, value=value)
        except (TrackedError, ExceptionGroup):
            assert on_error != "isolate"
        signal.disconnect(receiver)

    send()
    assert len(gone) == 4
    assert [ref() for ref in gone] == [None] * 4
    [entry] = journal.entries()
    assert [step.error for step in entry.steps] == ["TrackedError"]


def test_journal_keeps_no_app_alive() -> None:
    """Not even if the journal is still referenced."""

    def run() -> tuple[weakref.ref[Flask], Journal]:
        app = Flask("shop")
        app.testing = True
        state = SignalsKit(app).for_app(app)
        state.signal("account_funded")
        state.on("request_started")(fine)
        app.add_url_rule("/", view_func=lambda: str(state.send("account_funded")))
        client = app.test_client()
        assert client.get("/").status_code == 200
        return weakref.ref(app), journal_of(state)

    gone, journal = run()
    gc.collect()
    assert gone() is None
    assert [entry.signal for entry in journal.entries()] == ["account_funded", "request_started"]


def test_journal_contains_plain_values_only() -> None:
    """Texts, numbers and records of them, whatever is sent; and the code of the send."""
    environment = JournalEnvironment()
    shop, journal = Namespace(environment), environment.journal
    signal = shop.signal("account_funded")
    signal.connect(fine)
    signal.connect(fail)
    with pytest.raises(LookupError):
        signal.send(Account(), amount=Account())
    allowed = {str, int, float, bool, type(None), tuple, list, dict, frozenset}
    todo: list[Any] = list(journal._entries)
    found: set[type] = set()
    while todo:
        value = todo.pop()
        found.add(type(value))
        if isinstance(value, dict):
            todo += [*value, *value.values()]
        elif isinstance(value, (RequestRecord, Roster, Connection)):
            todo += [getattr(value, slot) for slot in value.__slots__]
        elif isinstance(value, (tuple, list)):
            todo += value
    assert found - allowed == {CodeType, Place, Connection, RequestRecord, Roster, Tally}


# -- on and off -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "debug", "kept"),
    [
        ({}, False, False),
        ({}, True, True),
        ({"TESTING": True}, False, True),
        ({"SIGNALS_KIT_JOURNAL": True}, False, True),
        ({"SIGNALS_KIT_JOURNAL": False}, True, False),
        ({"SIGNALS_KIT_JOURNAL": False, "TESTING": True}, False, False),
        ({"SIGNALS_KIT_JOURNAL": None}, False, False),
    ],
)
def test_journal_is_kept_in_debug_and_testing_or_by_setting(
    config: dict[str, object], debug: bool, kept: bool
) -> None:
    """Without one, sends take the fast path."""
    app = Flask("shop")
    app.config.update(config)
    app.debug = debug
    state = SignalsKit(app).for_app(app)
    handle = state.signal("account_funded")
    state.on("account_funded")(fine)
    state.on("account_funded")(fine_with_extra)
    with app.app_context():
        handle.send(None)
    assert (state.journal is not None) is kept
    signal: Any = state.namespace.signal("account_funded")
    assert (signal._fast is None) is kept
    receiver = figures(state)["fine"]
    assert receiver.calls == (1 if kept else None)


def fine_with_extra(sender: object, **extra: object) -> None:
    """Return without an error, with any payload."""


def test_debug_and_testing_set_after_init_app_count() -> None:
    """``app.run(debug=True)``, or a test that sets ``testing`` on a factory's app."""
    app = Flask("shop")
    state = SignalsKit(app).for_app(app)
    assert state.journal is None
    app.testing = True
    with app.app_context():
        assert state.journal is not None


def test_journal_ends_if_testing_is_reset_before_the_first_request() -> None:
    """A factory can use the app in testing before it is configured."""
    app = Flask("shop")
    app.testing = True
    state = SignalsKit(app).for_app(app)
    state.signal("account_funded")
    state.on("account_funded")(fine)
    state.on("account_funded")(fine_with_extra)
    kept: list[bool] = []
    for app.testing in (True, False):
        with app.app_context():
            state.send("account_funded")
            kept.append(state.journal is not None)
    assert kept == [True, False]
    signal: Any = state.namespace.signal("account_funded")
    assert signal._fast == (fine, fine_with_extra)
    assert figures(state)["fine"].calls is None


def test_apps_have_separate_journals() -> None:
    """What is counted in one is nothing to the other."""
    kit = SignalsKit()
    kit.signal("account_funded")
    kit.on("account_funded")(fine)
    apps = [Flask("one"), Flask("two"), Flask("quiet")]
    for app in apps:
        app.testing = app.name != "quiet"
        kit.init_app(app)
        with app.app_context():
            pass
    for app, times in zip(apps, (2, 1, 3), strict=True):
        with app.app_context():
            for _ in range(times):
                kit.send("account_funded")
    states = [kit.for_app(app) for app in apps]
    assert [figures(state)["fine"].calls for state in states] == [2, 1, None]
    assert [len(journal_of(state).entries()) for state in states[:2]] == [2, 1]


# -- Flask's signals ------------------------------------------------------------------------------


def hears_flask(app: Flask) -> bool:
    """Return whether the kit is connected to Flask's own signal for this app."""
    found = flask.signals.request_finished.receivers_for(app)
    return any(receiver.__module__ == "flask_signals_kit.bridge" for receiver in found)


def test_journal_alone_adds_no_relay(app: Flask, shop: AppSignals) -> None:
    """A signal without receivers costs nothing, unless an observer asks for it."""
    assert shop.journal is not None
    assert not hears_flask(app)
    seen: list[str] = []

    def observer(observation: Observation) -> None:
        seen.append(observation.signal)

    undo: Callable[[], None] = shop.namespace.observe(observer)
    assert hears_flask(app)
    app.test_client().get("/")
    assert "request_finished" in seen
    undo()
    assert not hears_flask(app)
    shop.on("request_finished")(fine)
    assert hears_flask(app)
    app.test_client().get("/")
    assert counts(shop, "request_finished") == {"fine": (1, 0, None)}


def test_receiver_that_disconnects_another_and_sends_again_is_recorded(shop: AppSignals) -> None:
    """The nested send removes the counts of the connection that the outer send has called."""
    signal = shop.namespace.signal("account_funded")

    def again(sender: object, *, go: bool = False) -> None:
        if go:
            signal.disconnect(fine)
            signal.send("acme")

    signal.connect(fine, when=lambda sender, **payload: False)
    signal.connect(again)
    for go in (False, True):
        signal.send("acme", go=go)
    assert len(journal_of(shop).entries()) == 3


@pytest.mark.usefixtures("shop")
def test_flasks_signals_can_be_sent_without_a_request(app: Flask) -> None:
    """A test of a receiver does so; the journal listens to them, too."""
    flask.signals.request_started.send(app)
    flask.signals.request_finished.send(app, response=None)
    flask.signals.request_tearing_down.send(app, exc=None)
