"""`AppSignals`: memory that a dropped app leaves, threads, and the growth of costs."""

import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
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


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Keep the cyclic garbage collector from running by itself."""
    gc.disable()
    yield
    gc.enable()


def add_receivers(half: AppSignals) -> None:
    """Connect closures for one app."""
    half.on("account_funded", sender=half.app)(lambda sender, **extra: None)
    half.on("account_*")(lambda sender, **extra: None)


def add_bridges(half: AppSignals) -> None:
    """Listen to Flask in one app."""
    half.on("request_started", "request_finished")(lambda sender, **extra: None)
    half.on("appcontext_popped")(lambda sender, **extra: None)


def add_hooks(half: AppSignals) -> None:
    """Watch one app's exceptions."""
    half.on_exception(lambda app, exception, **extra: None)


def add_handles(half: AppSignals) -> None:
    """Declare for one app alone."""
    half.signal("own").connect(lambda sender, **extra: None)
    half.declare(campaign_created).send(None, campaign=1)


def set_testing(half: AppSignals) -> None:
    """Switch on what follows testing: checks, journal and page."""
    half.app.testing = True


KINDS = {
    "bare": lambda half: None,
    "receivers": add_receivers,
    "bridges": add_bridges,
    "hooks": add_hooks,
    "handles": add_handles,
    "testing": set_testing,
}


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_dropped_apps_are_freed_at_once_and_leave_nothing(
    no_gc: None, kind: str, served: bool
) -> None:
    """200 apps created, served a request and dropped: Flask's signals are as if they never were.

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


def test_apps_whose_requests_fail_leave_nothing_after_a_collection() -> None:
    """Flask's own frames tie a failed request into a cycle; the kit adds none that stays."""
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


def test_a_kit_that_is_dropped_with_its_apps_is_freed() -> None:
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


def test_the_half_of_a_dropped_app_says_so(kit: SignalsKit) -> None:
    """Whoever kept it learns that the app is gone."""
    app = make_app(kit)
    half = kit.for_app(app)
    handle = half.signal("own")
    del app
    gc.collect()
    for use in (lambda: half.app, lambda: half.send("own"), handle.send):
        with pytest.raises(AppContextError, match="no longer exists"):
            use()


def test_eight_first_requests_at_once_are_all_served() -> None:
    """What is settled at the first request is settled once, whichever thread comes first."""
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


def test_requests_in_many_threads_share_the_signals(kit: SignalsKit) -> None:
    """Receivers connected while requests are served are heard, and nothing breaks."""
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


def test_apps_come_and_go_in_threads_while_the_kit_connects() -> None:
    """Every app that is made has every receiver that was connected before it was."""
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
    """Count the functions that are called in doing something."""
    count = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # what it calls belongs to nobody
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def test_connecting_a_name_does_not_look_at_every_other(kit: SignalsKit, app: Flask) -> None:
    """The five hundredth costs what the tenth does, and so does disconnecting it."""
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
    """Be a receiver of which there are many."""

    def __call__(self, sender: Any, **extra: Any) -> None:
        pass


def test_an_app_starts_in_a_time_that_grows_with_its_names() -> None:
    """Ten times as many, and a glob over all of them: ten times the work, not a hundred times."""

    def start(names: int) -> int:
        kit = SignalsKit()
        kit.on("*")(write_down)
        for number in range(names):
            kit.on(f"account_{number}")(Receiver())
        return calls_of(lambda: make_app(kit))

    assert start(200) < 15 * start(20)


def test_a_half_whose_app_is_gone_is_left_out() -> None:
    """A test that kept the half does not break the next one."""
    kit = SignalsKit()
    app = make_app(kit)
    half = kit.for_app(app)
    del app
    gc.collect()
    kit.on("account_funded")(lambda sender, **extra: None)
    assert not half.is_alive


def test_starting_an_app_is_done_once(kit: SignalsKit, app: Flask) -> None:
    """A worker that never serves a request pushes many contexts; plans survive them."""
    kit.on("account_funded")(lambda sender, **extra: "heard")
    assert results(kit, app) == ["heard"]
    signal = kit.for_app(app).namespace.signal("account_funded")
    plan = signal._plan
    assert plan is not None
    with app.app_context():
        assert signal._plan is plan


def test_receivers_connected_while_an_app_starts_are_not_lost() -> None:
    """Each of many threads finds its receiver in the app."""
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
