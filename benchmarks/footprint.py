"""Other costs of the kit: a request, an import, memory, and the growth of a send."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, thread_time
from typing import Any

import blinker
from flask import Flask
from flask.signals import request_started
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session, sessionmaker

from flask_signals_kit import Namespace, Signal, SignalsKit

from .measure import Case, ratio, request_case, time_rounds
from .sending import ACCOUNT, make_receivers

CONNECTIONS = 2_000
IMPORTS = 25
PAIRS = 7
PAGES = ("/_signals", "/_signals/signals.json")
REQUESTS_PAGES = ("/_signals/requests", "/_signals/requests.json")
REQUESTS = 100
SENDS = 10


def request_overhead() -> float:
    """Return the time of a request in an app with the kit and no receivers, against without."""
    return _request_ratio(lambda: Flask("bench"), lambda: _app_with(SignalsKit()))


def relay_overhead() -> float:
    """Return the time of a request with a receiver of ``request_started``, against blinker's.

    Blinker's is connected for its app alone, as the kit's is.
    """

    def receive(sender: Flask, **extra: Any) -> None: ...

    def plain() -> Flask:
        app = Flask("bench")
        request_started.connect(receive, app)
        return app

    def with_kit() -> Flask:
        kit = SignalsKit()
        kit.on("request_started")(receive)
        return _app_with(kit)

    return _request_ratio(plain, with_kit)


def hook_overhead() -> float:
    """Return the time of a request with an exception hook, against one without."""

    def with_hook() -> Flask:
        kit = SignalsKit()
        kit.on_exception(lambda app, exception, **extra: None)
        return _app_with(kit)

    return _request_ratio(lambda: _app_with(SignalsKit()), with_hook)


def _app_with(kit: SignalsKit) -> Flask:
    app = Flask("bench")
    kit.signal("account_funded", "Money arrived in an account.")
    kit.init_app(app)
    return app


def _request_ratio(bare: Callable[[], Flask], with_kit: Callable[[], Flask]) -> float:
    """Return the time of a request to an app with the kit, against one to an app without."""
    ratios: list[float] = []
    for _ in range(PAIRS):  # where an app lies in memory matters more than what is measured
        cases = {"bare": _request_case(bare()), "kit": _request_case(with_kit())}
        ratios.append(ratio(time_rounds(cases, rounds=81, clock=thread_time), "kit", "bare"))
    return median(ratios)


def _request_case(app: Flask) -> Case:

    @app.get("/")
    def index() -> str:
        return "hello"

    return request_case(app)


def import_overhead() -> float:
    """Return the time that importing the kit takes on top of Flask, against importing Flask."""
    code = (
        "from time import perf_counter as clock\n"
        "began = clock(); import flask; middle = clock(); import flask_signals_kit\n"
        "print((clock() - middle) / (middle - began))"
    )
    with TemporaryDirectory() as folder:  # with bytecode, as installed packages have it
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        shares = [
            float(
                subprocess.run(  # noqa: S603
                    [sys.executable, "-c", code],
                    capture_output=True,
                    check=True,
                    text=True,
                    env=environment,
                ).stdout
            )
            for _ in range(IMPORTS + 1)
        ]
    return median(shares[1:])


def memory_per_connection() -> tuple[float, float]:
    """Return the bytes of one connection against blinker's: a signal's, and ``kit.on``'s.

    For ``kit.on`` it is what one app and the kit keep together.
    """
    theirs = _bytes_per_connection(blinker.Signal().connect)
    signal = Signal("account_funded")
    kit = SignalsKit(Flask("bench"))
    ours = _bytes_per_connection(signal.connect)
    on = kit.on("account_funded")
    return ours / theirs, _bytes_per_connection(lambda receiver, weak: on(receiver)) / theirs


def _bytes_per_connection(connect: Callable[..., Any]) -> float:
    receivers = make_receivers(CONNECTIONS)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for receiver in receivers:
            connect(receiver, weak=False)
        gc.collect()
        return (tracemalloc.get_traced_memory()[0] - before) / CONNECTIONS
    finally:
        tracemalloc.stop()


def commit_overhead() -> float:
    """Return a commit of one row with an after-commit receiver, against one with a bare hook.

    The bare hook is a function that listens to SQLAlchemy's own ``after_commit``. The kit's time
    has the send in it.
    """
    kit = SignalsKit()
    account_funded = kit.signal("account_funded", "Money arrived in an account.")
    kit_session, bare_session = _session(), _session()
    app = Flask("bench")
    kit.use_session(lambda: kit_session)
    kit.init_app(app)
    account_funded.connect(make_receivers(1)[0], delivery="after_commit")
    event.listen(bare_session, "after_commit", lambda session: None)
    insert = text("INSERT INTO account (funds) VALUES (1)")

    def with_kit() -> None:
        kit_session.execute(insert)
        account_funded.send(ACCOUNT, amount=5, method="card")
        kit_session.commit()

    def bare() -> None:
        bare_session.execute(insert)
        bare_session.commit()

    context = copy_context()
    context.run(app.app_context().push)
    times = time_rounds({"kit": with_kit, "bare": bare}, contexts={"kit": context})
    return ratio(times, "kit", "bare")


def page_seconds() -> dict[str, float]:
    """Return how long the page's list and its JSON take, in an app of 10,000 connections."""
    app = Flask("bench")
    app.testing = True
    kit = SignalsKit(app)
    for number in range(1_000):
        account_funded = kit.signal(f"account_funded_{number}", "Money arrived in an account.")
        for receiver in make_receivers(10):
            account_funded.connect(receiver)
    client = app.test_client()
    client.get("/_signals")
    return {url: _seconds(partial(client.get, url)) for url in PAGES}


def requests_seconds() -> dict[str, float]:
    """Return how long the requests and their JSON take with a full journal of 1,000 emissions.

    Each of 100 requests, as many as the page shows, sends ten times to ten receivers.
    """
    app = Flask("bench")
    app.testing = True
    app.config["SIGNALS_KIT_JOURNAL_SIZE"] = REQUESTS * SENDS
    account_funded = SignalsKit(app).signal("account_funded", "Money arrived in an account.")
    for receiver in make_receivers(10):
        account_funded.connect(receiver)

    @app.get("/fund")
    def fund() -> str:
        for amount in range(SENDS):
            account_funded.send(ACCOUNT, amount=amount, method="card")
        return "funded"

    client = app.test_client()
    for _ in range(REQUESTS):
        client.get("/fund")
    answer = client.get(REQUESTS_PAGES[-1]).get_json()
    assert sum(len(each["emissions"]) for each in answer["requests"]) == REQUESTS * SENDS
    return {url: _seconds(partial(client.get, url)) for url in REQUESTS_PAGES}


def _seconds(case: Case) -> float:
    times: list[float] = []
    for _ in range(PAIRS):
        began = perf_counter()
        case()
        times.append(perf_counter() - began)
    return median(times)


def _session() -> Session:
    session = sessionmaker(create_engine("sqlite://"))()
    session.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, funds INTEGER)"))
    session.commit()
    return session


def growth_by_receivers() -> dict[int, float]:
    """Return the ratio of the time per receiver to that with ten receivers."""
    counts = (1, 10, 100, 1000)
    cases: dict[str, Case] = {}
    for count in counts:
        signal = Signal("account_funded")
        for receiver in make_receivers(count):
            signal.connect(receiver, weak=False)
        cases[str(count)] = _send_case(signal)
    times = time_rounds(cases)
    return {count: ratio(times, str(count), "10") * 10 / count for count in counts}


def growth_by_signals() -> dict[int, float]:
    """Return the ratio of a send's time in a namespace of many signals to a namespace of one."""
    counts = (1, 100, 10_000)
    cases: dict[str, Case] = {}
    for count in counts:
        namespace = Namespace()
        for number in range(count):
            signal = namespace.signal(f"signal_{number}")
            signal.connect(make_receivers(1)[0], weak=False)
        cases[str(count)] = _send_case(namespace.signal(f"signal_{count // 2}"))
    times = time_rounds(cases)
    return {count: ratio(times, str(count), "1") for count in counts}


def _send_case(signal: Signal) -> Case:
    send = signal.send
    return lambda: send(ACCOUNT, amount=5, method="card")
