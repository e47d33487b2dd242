"""`AppSignals`: freed with its app, safe in threads, and linear in the number of names."""

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import blinker
import pytest
from flask import Flask, request

from flask_signals_kit import (
    AppContextError,
    AppSignals,
    SignalsKit,
)
from tests.support import campaign_created, left_in_flask, make_app, results, write_down


def add_receivers(app_signals: AppSignals) -> None:
    """Connect closures for one app."""
    app_signals.on("account_funded", sender=app_signals.app)(lambda sender, **extra: None)
    app_signals.on("account_*")(lambda sender, **extra: None)


def add_bridges(app_signals: AppSignals) -> None:
    """Connect to Flask's signals in one app."""
    app_signals.on("request_started", "request_finished")(lambda sender, **extra: None)
    app_signals.on("appcontext_popped")(lambda sender, **extra: None)


def add_hooks(app_signals: AppSignals) -> None:
    """Register an exception hook for one app."""
    app_signals.on_exception(lambda app, exception, **extra: None)


def add_handles(app_signals: AppSignals) -> None:
    """Declare for one app alone."""
    app_signals.signal("own").connect(lambda sender, **extra: None)
    app_signals.declare(campaign_created).send(None, campaign=1)


def set_testing(app_signals: AppSignals) -> None:
    """Set `testing`, which enables payload checks, the journal and the page."""
    app_signals.app.testing = True


KINDS = {
    "bare": lambda app_signals: None,
    "receivers": add_receivers,
    "bridges": add_bridges,
    "hooks": add_hooks,
    "handles": add_handles,
    "testing": set_testing,
}


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_dropped_apps_are_freed_without_gc_and_leave_no_receivers(
    no_gc: None, kind: str, served: bool
) -> None:
    """200 apps are created, serve a request and are dropped; Flask's signals are unchanged.

    Flask takes care that an app is freed without the garbage collector, and so does the kit.
    """
    before = left_in_flask()
    kit = SignalsKit()
    kit.on("account_funded")(lambda sender, **extra: None)
    alive = 0
    for _ in range(200 if served else 20):
        app = Flask("shop")
        kit.init_app(app)
        KINDS[kind](kit.for_app(app))
        app.add_url_rule("/", view_func=lambda: str(len(kit.send("account_funded"))))
        if served:
            with app.test_client() as client:
                assert client.get("/").status_code == 200
            del client
        freed = weakref.ref(app)
        del app
        alive += freed() is not None
    assert alive == 0
    assert left_in_flask() == before
    assert len(kit.registry.apps) == 0


def test_apps_with_failed_requests_are_freed_by_gc() -> None:
    """Flask's own frames form a cycle with a failed request; the kit adds none."""
    gc.collect()
    before = left_in_flask()
    kit = SignalsKit()
    kit.on("request_started", "got_request_exception")(lambda sender, **extra: None)
    kit.on_exception(lambda app, exception, **extra: None)
    apps = []
    for _ in range(20):
        app = make_app(kit)
        app.logger.disabled = True
        app.add_url_rule("/", view_func=lambda: 1 // 0)  # type: ignore[arg-type]
        assert app.test_client().get("/").status_code == 500
        apps.append(weakref.ref(app))
        del app
    gc.collect()
    assert [ref for ref in apps if ref() is not None] == []
    assert left_in_flask() == before


def test_held_signal_and_observer_keep_no_app_alive_before_a_send() -> None:
    """A receiver of the app may reference it. After a send, the signal's plan has the receiver."""
    kit = SignalsKit()

    def create() -> tuple[weakref.ref[Flask], object, object]:
        app = Flask("shop")
        kit.init_app(app)
        kit.for_app(app).on("account_funded")(lambda account, **extra: app.name)
        with app.app_context():
            stop_observing = kit.namespace.observe(lambda observation: None)
            return weakref.ref(app), kit.namespace.signal("account_funded"), stop_observing

    freed, *held = create()
    gc.collect()
    assert freed() is None
    assert all(held)


def test_kit_is_freed_with_its_apps() -> None:
    """Nothing global holds a kit."""
    kit = SignalsKit()
    kit.on("account_funded")(lambda sender: None)
    kit.bridge(blinker.NamedSignal("paid"))
    handle = kit.signal("account_funded")
    app = make_app(kit)
    with app.app_context():
        handle.send()
    freed = weakref.ref(kit)
    del kit, handle, app
    gc.collect()
    assert freed() is None


def test_app_signals_of_a_dropped_app_raise(kit: SignalsKit) -> None:
    """The error says that the app no longer exists."""
    app = make_app(kit)
    app_signals = kit.for_app(app)
    handle = app_signals.signal("own")
    del app
    gc.collect()
    for use in (lambda: app_signals.app, lambda: app_signals.send("own"), handle.send):
        with pytest.raises(AppContextError, match="no longer exists"):
            use()


def test_concurrent_first_requests_are_all_served() -> None:
    """What the first request decides is decided once, whichever thread comes first."""
    for _ in range(15):
        app = make_app(SignalsKit(), TESTING=True)
        app.add_url_rule("/", view_func=lambda: request.path)
        start = threading.Barrier(8)

        def get(app: Flask = app, start: threading.Barrier = start) -> int:
            client = app.test_client()
            start.wait(10)
            return client.get("/").status_code

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as pool:
                statuses = [pool.submit(get) for _ in range(8)]
                assert [status.result(30) for status in statuses] == [200] * 8
        finally:
            sys.setswitchinterval(before)


def test_receivers_can_be_connected_while_requests_are_served(kit: SignalsKit) -> None:
    """They are called, and no request fails."""
    app = make_app(kit)
    kit.on("account_funded")(lambda sender, **extra: "always")

    @app.get("/")
    def fund() -> str:
        return ",".join(result for _, result in kit.send("account_funded"))

    def serve() -> None:
        for _ in range(30):
            assert "always" in app.test_client().get("/").text.split(",")

    def connect() -> None:
        funded = kit.signal("account_funded")
        for number in range(30):
            funded.connect(receive := lambda sender, number=number, **extra: str(number))
            funded.disconnect(receive)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for work in (serve, serve, connect, connect)]:
            done.result(60)
    assert app.test_client().get("/").text == "always"


def test_apps_can_be_created_and_detached_while_the_kit_connects() -> None:
    """Every new app has every receiver that was connected before it."""
    kit = SignalsKit()
    kit.on("account_*")(lambda sender, **extra: "glob")
    kit.on("account_funded")(lambda sender, **extra: "name")

    def create() -> None:
        for number in range(25):
            app = make_app(kit, f"shop {number}")
            assert results(kit, app)[:2] == ["glob", "name"]
            if number % 2:
                kit.detach(app)

    def connect() -> None:
        for number in range(50):
            receive = kit.on("account_funded")(lambda sender, number=number, **extra: number)
            kit.signal(f"account_{number}")
            kit.disconnect(receive, "account_funded")

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for work in (create, create, connect, connect)]:
            done.result(60)
    assert results(kit, make_app(kit)) == ["glob", "name"]


def calls_of(work: Callable[[], Any]) -> int:
    """Count the function calls of a callable."""
    count = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # finalizers are not counted
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def test_connecting_takes_constant_time(kit: SignalsKit, app: Flask) -> None:
    """The five hundredth connection costs what the tenth does, and so does disconnecting it."""
    kit.on("*")(write_down)
    costs: list[tuple[int, int]] = []
    for number in range(500):
        name = f"account_{number}"
        receiver = Receiver()
        connecting = calls_of(partial(kit.on(name, uid="ledger"), receiver))
        disconnecting = calls_of(partial(kit.disconnect, receiver, name))
        costs.append((connecting, disconnecting))
        kit.on(name)(receiver)
    assert costs[9] == costs[499]


class Receiver:
    """A callable object, one of many."""

    def __call__(self, sender: Any, **extra: Any) -> None:
        pass


def test_init_app_takes_linear_time() -> None:
    """Ten times as many names, and a glob that matches all, take ten times the work."""

    def start(names: int) -> int:
        kit = SignalsKit()
        kit.on("*")(write_down)
        for number in range(names):
            kit.on(f"account_{number}")(Receiver())
        return calls_of(lambda: make_app(kit))

    assert start(200) < 15 * start(20)


def test_connecting_ignores_app_signals_of_a_dropped_app() -> None:
    """A reference to them from an earlier test does no harm."""
    kit = SignalsKit()
    app = make_app(kit)
    app_signals = kit.for_app(app)
    del app
    gc.collect()
    kit.on("account_funded")(lambda sender, **extra: None)
    assert app_signals._app() is None


def test_pushing_a_context_keeps_plans(kit: SignalsKit, app: Flask) -> None:
    """A worker that never serves a request pushes many contexts."""
    kit.on("account_funded")(lambda sender, **extra: "called")
    assert results(kit, app) == ["called"]
    signal = kit.for_app(app).namespace.signal("account_funded")
    plan = signal._plan
    assert plan is not None
    with app.app_context():
        assert signal._plan is plan


def test_receivers_connected_during_init_app_are_called() -> None:
    """Many threads connect while one creates apps."""
    kit = SignalsKit()
    apps: list[Flask] = []

    def connect(number: int) -> None:
        kit.on("account_funded")(lambda sender, **extra: number)

    def start() -> None:
        apps.extend(make_app(kit) for _ in range(20))

    threads = [threading.Thread(target=connect, args=(n,)) for n in range(20)]
    threads.insert(10, threading.Thread(target=start))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for app in apps:
        assert sorted(results(kit, app)) == list(range(20))
