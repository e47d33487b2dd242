"""`kit.send`: its arguments, its context, and async receivers."""

import asyncio
import gc
import subprocess
import sys
import threading
from typing import Any

import blinker
import pytest
from flask import Flask, current_app

from flask_signals_kit import (
    AppContextError,
    AsyncReceiverError,
    ContractError,
    DeclarationError,
    SignalsKit,
    current_emission,
)
from tests.support import (
    results,
    write_down,
)


@pytest.mark.parametrize(
    "use",
    [
        lambda kit: kit.send("account_funded", "acme"),
        lambda kit: kit.send_robust("account_funded", "acme"),
        lambda kit: asyncio.run(kit.send_async("account_funded", "acme")),
        lambda kit: asyncio.run(kit.send_robust_async("account_funded", "acme")),
    ],
)
def test_send_outside_an_app_context_is_refused(kit: SignalsKit, use: Any) -> None:
    """The message names the signal, the reason and both solutions."""
    with pytest.raises(AppContextError) as caught:
        use(kit)
    message = str(caught.value)
    assert "send 'account_funded'" in message
    assert "outside an app context" in message
    assert "with app.app_context():" in message
    assert "kit.for_app(app)" in message
    assert isinstance(caught.value, RuntimeError)


def test_namespace_and_check_outside_an_app_context_are_refused(kit: SignalsKit) -> None:
    """They need a current app, too."""
    for use in (lambda: kit.namespace, kit.check):
        with pytest.raises(AppContextError, match=r"with app\.app_context\(\):"):
            use()


def test_app_signals_send_without_an_app_context(kit: SignalsKit, app: Flask) -> None:
    """The app is the default sender."""
    kit.on("account_funded")(receive := lambda sender, **extra: sender)
    assert kit.for_app(app).send("account_funded") == [(receive, app)]
    assert asyncio.run(kit.for_app(app).send_async("account_funded", "acme")) == [(receive, "acme")]


def test_payload_may_be_named_like_parameters_of_send(kit: SignalsKit, app: Flask) -> None:
    """`signal`, `self` and `name` are not reserved."""
    kit.on("account_funded")(lambda who, /, **payload: payload)
    payload: Any = {"signal": 1, "self": 2, "name": 3, "receiver": 4, "app": 5}
    with app.app_context():
        [(_, got)] = kit.send("account_funded", "acme", **payload)
        [(_, also)] = kit.signal("account_funded").send("acme", **payload)
    assert got == also == payload


@pytest.mark.needs("asgiref")
def test_plain_send_runs_async_receivers(kit: SignalsKit, app: Flask) -> None:
    """Flask's `async_to_sync` is used, with the app context in place."""

    @kit.on("account_funded")
    async def receive(sender: Any, **extra: Any) -> tuple[str, str]:
        await asyncio.sleep(0)
        return current_app.name, current_emission.signal

    assert results(kit, app) == [("shop", "account_funded")]


@pytest.mark.needs("asgiref")
def test_plain_send_to_async_receiver_in_a_running_loop_is_refused(
    kit: SignalsKit, app: Flask
) -> None:
    """The message names receiver, place and fix; no coroutine is left unawaited."""

    @kit.on("account_funded")
    async def receive(sender: Any, **extra: Any) -> None:
        pass

    async def story() -> None:
        with app.app_context(), pytest.raises(AsyncReceiverError) as caught:
            kit.send("account_funded")
        message = str(caught.value)
        assert f"receive ({__file__}:" in message
        assert "event loop is running" in message
        assert "await signal.send_async(...)" in message

    asyncio.run(story())
    gc.collect()


UNDER_GEVENT = """
from gevent import monkey, spawn, joinall
monkey.patch_all()
import asyncio, gevent
from flask import Flask
from flask_signals_kit import AsyncReceiverError, SignalsKit

kit = SignalsKit()
app = Flask("shop")
kit.init_app(app)

@kit.on("account_funded")
async def receive(sender, **extra):
    gevent.sleep(0.05)
    return "ran"

def send(pause):
    gevent.sleep(pause)
    with app.app_context():
        try:
            print(kit.send("account_funded")[0][1])
        except AsyncReceiverError as error:
            print(error)

joinall([spawn(send, pause) for pause in {pauses}])
"""


@pytest.mark.parametrize("pauses", [(0, 0), (0, 0.02)], ids=["at once", "one after the other"])
@pytest.mark.needs("asgiref", "gevent")
def test_async_receiver_error_under_gevent_advises_what_works_there(
    pauses: tuple[float, float],
) -> None:
    """`send_async` fails there as well: all greenlets run in the thread of one event loop."""
    code = UNDER_GEVENT.replace("{pauses}", str(pauses))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    ran, error = sorted(done.stdout.splitlines(), reverse=True)
    assert ran == "ran"
    assert "Receiver __main__.receive" in error
    assert "gevent runs all greenlets in one thread" in error
    assert "make the receiver a plain function" in error
    assert "send_async" not in error


@pytest.mark.needs("asgiref")
def test_runtime_error_of_async_receiver_is_not_replaced(kit: SignalsKit, app: Flask) -> None:
    """Only Flask's own refusal is explained; the receiver's errors propagate."""

    @kit.on("account_funded")
    async def receive(sender: Any, **extra: Any) -> None:
        raise RuntimeError("my own")

    with pytest.raises(RuntimeError, match="my own") as caught:
        results(kit, app)
    assert not isinstance(caught.value, AsyncReceiverError)


def test_send_async_calls_plain_receivers_in_the_same_thread(kit: SignalsKit, app: Flask) -> None:
    """In order with the async ones."""
    threads: list[int] = []
    kit.on("account_funded")(lambda sender, **extra: threads.append(threading.get_ident()))

    @kit.on("account_funded")
    async def receive(sender: Any, **extra: Any) -> None:
        threads.append(threading.get_ident())

    async def story() -> None:
        with app.app_context():
            await kit.send_async("account_funded")

    asyncio.run(story())
    assert threads == [threading.get_ident()] * 2


def test_sender_as_keyword_argument_is_refused(kit: SignalsKit, app: Flask) -> None:
    """It would be taken as payload, and the app as the sender."""
    account_funded = kit.signal("account_funded")
    kit.on("account_funded")(lambda account, **extra: account)
    with app.app_context():
        for send in (kit.send, kit.send_robust):
            with pytest.raises(ContractError, match="by position, as in send"):
                send("account_funded", sender="acme", amount=1)
        for send in (account_funded.send, account_funded.send_robust):
            with pytest.raises(ContractError, match="by position, as in send"):
                send(sender="acme", amount=1)


def test_kit_send_refuses_a_blinker_signal(kit: SignalsKit, app: Flask) -> None:
    """Its own receivers would not be called. It is not bridged, either."""
    theirs = blinker.NamedSignal("invoice-paid")
    theirs.connect(write_down)
    app_signals = kit.for_app(app)
    for send in (app_signals.send, app_signals.send_robust):
        with pytest.raises(DeclarationError, match=r"signal\.send\(\.\.\.\) on the blinker"):
            send(theirs, "acme")  # type: ignore[arg-type]
    assert "invoice_paid" not in app_signals.namespace
    assert kit.bridge(theirs) == ("invoice_paid",)
