"""The journal: the last emissions and what is counted, in bounded memory, as plain values."""

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import sleep, time
from typing import Any

import pytest
from flask import Flask, render_template_string

from flask_signals_kit import Place, SignalsKit
from flask_signals_kit.journal import Journal, JournalEntry


def make(**config: Any) -> tuple[SignalsKit, Flask]:
    """Make a kit and an app under test, which keeps a journal."""
    app = Flask("shop")
    app.config.update({"TESTING": True, **config})
    return SignalsKit(app), app


def journal_of(kit: SignalsKit, app: Flask) -> Journal:
    """Return the journal of an app."""
    journal = kit.for_app(app).journal
    assert journal is not None
    return journal


def entries(kit: SignalsKit, app: Flask) -> list[JournalEntry]:
    """Return what the journal of an app keeps, newest first."""
    return journal_of(kit, app).entries()


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({"TESTING": False}, False),
        ({"TESTING": True}, True),
        ({"TESTING": False, "DEBUG": True}, True),
        ({"TESTING": False, "SIGNALS_KIT_JOURNAL": True}, True),
        ({"TESTING": True, "SIGNALS_KIT_JOURNAL": False}, False),
    ],
)
def test_a_journal_is_kept_in_debug_and_testing_or_as_the_setting_says(
    config: dict[str, Any], kept: bool
) -> None:
    """Settled when the first context is pushed."""
    kit, app = make(**config)
    with app.app_context():
        kit.send("account_funded")
    assert (kit.for_app(app).journal is not None) == kept


def test_an_entry_tells_what_was_sent_where_and_in_which_request() -> None:
    """Names and numbers; the payload's names, and none of its values."""
    kit, app = make()

    @kit.on("account_funded")
    def receive(sender: Any, **extra: Any) -> None:
        sleep(0.01)

    @app.post("/fund")
    def fund() -> str:
        kit.send("account_funded", app, card_number="4111 1111")
        return "funded"

    before = time()
    app.test_client().post("/fund")
    [entry] = entries(kit, app)
    assert entry.number == 1
    assert entry.signal == "account_funded"
    assert entry.sender == "flask.app.Flask"
    assert entry.payload == ("card_number",)
    assert entry.request == "POST /fund"
    assert entry.thread == threading.get_ident()
    assert isinstance(entry.site, Place)
    assert (entry.site.file, entry.site.name) == (__file__, fund.__qualname__)
    assert before - 1 <= entry.time <= time() + 1
    [step] = entry.steps
    assert step.receiver.name == receive.__qualname__
    assert (step.status, step.error) == ("ok", None)
    assert 0.01 <= step.duration <= entry.duration < 5
    assert "4111" not in repr(entry)


def test_entries_are_newest_first_and_as_many_as_the_setting_says() -> None:
    """Old ones go; the numbers count on."""
    kit, app = make(SIGNALS_KIT_JOURNAL_SIZE=10)
    with app.app_context():
        for number in range(25):
            kit.send("account_funded", amount=number)
    assert [entry.number for entry in entries(kit, app)] == list(range(25, 15, -1))


def test_failures_are_noted_by_their_type_alone() -> None:
    """The exception itself, and its text, are not kept."""
    kit, app = make(SIGNALS_KIT_ON_ERROR="isolate")

    class SecretError(Exception):
        pass

    refs: list[weakref.ref[BaseException]] = []

    @kit.on("account_funded")
    def fail(sender: Any, **extra: Any) -> None:
        error = SecretError("hunter2")
        refs.append(weakref.ref(error))
        raise error

    with app.app_context():
        kit.send("account_funded")
    [entry] = entries(kit, app)
    [step] = entry.steps
    assert step.status in {"failed", "contained"}
    assert step.error is not None
    assert step.error.endswith("SecretError")
    assert "hunter2" not in repr(entry)


def test_nothing_that_is_sent_is_kept_alive() -> None:
    """Neither sender nor payload nor a weak receiver nor the app."""
    kit, app = make()

    class Account:
        def receive(self, sender: Any, **extra: Any) -> None:
            pass

    account = Account()
    kit.on("account_funded", weak=True)(account.receive)
    with app.app_context():
        kit.send("account_funded", account, account=account)
    journal = journal_of(kit, app)
    freed, app_freed = weakref.ref(account), weakref.ref(app)
    gc.disable()
    try:
        del account, app
        assert freed() is None
        assert app_freed() is None
    finally:
        gc.enable()
    [entry] = journal.entries()
    assert entry.steps[0].receiver.name.endswith("Account.receive")


def test_sends_outside_a_request_and_in_nested_requests_are_told_apart() -> None:
    """Without a request there is none; within one it is the innermost."""
    kit, app = make()
    app.add_url_rule("/inner", "inner", lambda: str(len(kit.send("inner"))))
    app.add_url_rule("/outer", "outer", lambda: app.test_client().get("/inner").text)
    with app.app_context():
        kit.send("script")
    app.test_client().get("/outer")
    assert [(entry.signal, entry.request) for entry in entries(kit, app)] == [
        ("inner", "GET /inner"),
        ("script", None),
    ]


def test_flasks_signals_are_journalled_where_somebody_listens() -> None:
    """With the request that they belong to, app context signals included."""
    kit, app = make()
    kit.on("appcontext_pushed", "request_started", "appcontext_popped")(lambda app, **extra: None)
    app.add_url_rule("/", "index", lambda: render_template_string("hello"))
    with app.app_context():
        pass  # the first one starts the journal
    journal_of(kit, app)._entries.clear()
    app.test_client().get("/")
    assert [(entry.signal, entry.request) for entry in entries(kit, app)] == [
        ("appcontext_popped", "GET /"),
        ("request_started", "GET /"),
        ("appcontext_pushed", "GET /"),
    ]


def test_the_pages_own_requests_are_left_out() -> None:
    """Looking at the timeline does not fill it."""
    kit, app = make()
    kit.on("request_started")(lambda app, **extra: None)
    app.add_url_rule("/_signals_shop", "shop", lambda: "fine")
    for path in ("/_signals", "/_signals/signals.json", "/_signals_shop"):
        app.test_client().get(path)
    assert [entry.request for entry in entries(kit, app)] == ["GET /_signals_shop"]


def test_many_threads_fill_one_journal() -> None:
    """Each emission has its own number, and nothing is lost or mixed."""
    kit, app = make(SIGNALS_KIT_JOURNAL_SIZE=5000)
    kit.on("account_funded")(lambda sender, **extra: None)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def send(number: int) -> None:
        for turn in range(250):
            with app.app_context():
                payload: dict[str, Any] = {f"thread_{number}": turn}
                kit.send("account_funded", **payload)
                if turn % 50 == 0:
                    entries(kit, app)

    try:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(send, number) for number in range(8)]:
                done.result(60)
    finally:
        sys.setswitchinterval(before)
    kept = entries(kit, app)
    assert sorted(entry.number for entry in kept) == list(range(1, 2001))
    for number in range(8):
        assert sum(entry.payload == (f"thread_{number}",) for entry in kept) == 250
    assert len({entry.thread for entry in kept}) <= 8


@pytest.mark.parametrize(
    "send",
    [
        lambda kit: kit.send("account_funded"),
        lambda kit: kit.send_robust("account_funded"),
        lambda kit: kit.signal("account_funded").send(),
        lambda kit: kit.namespace["account_funded"].send(),
    ],
)
def test_the_site_is_where_the_users_code_sent(send: Callable[[SignalsKit], Any]) -> None:
    """Never a line of the kit."""
    kit, app = make()
    kit.on("account_funded")(lambda sender, **extra: None)
    with app.app_context():
        send(kit)
    [entry] = entries(kit, app)
    assert entry.site is not None
    assert entry.site.file == __file__
    assert entry.site.line == send.__code__.co_firstlineno
