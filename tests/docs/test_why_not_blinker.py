"""The README's table "Why not plain Blinker?" is true for Blinker and the kit, row by row."""

import asyncio
import gc
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import blinker
import pytest
from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_signals_kit import AppSignals, ContractError, SignalsKit, UnknownSignalError
from tests.docs.support import table

Test = TypeVar("Test", bound=Callable[..., object])

proofs: dict[str, Callable[..., object]] = {}


def proves(row: str) -> Callable[[Test], Test]:
    """Name the row of the table that a test covers."""

    def note(test: Test) -> Test:
        proofs[row] = test
        return test

    return note


def test_each_row_has_a_test() -> None:
    """A row that is added to the README needs a test below."""
    assert [row[0] for row in table("README.md", "", "Blinker")] == list(proofs)


@pytest.fixture
def plain() -> blinker.Signal:
    """Give a signal of Blinker's own."""
    return blinker.Namespace().signal("account_funded")


@pytest.fixture
def app() -> Flask:
    """Give an app with a kit, in testing."""
    app = Flask("shop")
    app.testing = True
    SignalsKit(app)
    return app


@pytest.fixture
def kit(app: Flask) -> AppSignals:
    """Give the app's signals of its kit."""
    app_signals: AppSignals = app.extensions["signals_kit"]
    return app_signals


def values(results: list[tuple[Any, Any]]) -> list[Any]:
    """Return what the receivers returned, in calling order."""
    return [value for _, value in results]


@proves("order of receivers")
def test_order(plain: blinker.Signal, kit: AppSignals) -> None:
    """Blinker runs receivers in the order of a set; the kit by priority, then as connected."""
    signal = kit.signal("account_funded")
    numbers = list(range(200))
    for number in numbers:
        plain.connect(lambda sender, number=number: number, weak=False)
        kit.on(signal)(lambda sender, number=number, **extra: number)
    kit.on(signal, priority=1)(lambda sender, **extra: "first")
    assert sorted(values(plain.send())) == numbers
    assert values(plain.send()) != numbers
    assert values(signal.send()) == ["first", *numbers]


@proves("lifetime of a receiver")
def test_lifetime(plain: blinker.Signal, app: Flask, kit: AppSignals) -> None:
    """A closure connected with Blinker is gone; with the kit it stays, or its end is reported."""
    signal = kit.signal("account_funded")

    def connect_closures() -> None:
        plain.connect(lambda sender: "here")
        kit.on(signal)(lambda sender, **extra: "here")
        kit.on(signal, weak=True)(lambda sender, **extra: "gone")

    connect_closures()
    gc.collect()
    assert plain.send() == []
    assert values(signal.send()) == ["here"]
    checked = app.test_cli_runner().invoke(args=["signals", "check"])
    assert "garbage-collected" in checked.output


@proves("failures")
def test_failures(plain: blinker.Signal, kit: AppSignals, caplog: pytest.LogCaptureFixture) -> None:
    """With Blinker the first exception stops everybody; with the kit that is one of three ways."""
    ran: list[str] = []

    def read(sender: object, **extra: object) -> None:
        ran.append("read")
        raise OSError("disk broken")

    def write(sender: object, **extra: object) -> None:
        ran.append("write")
        raise OSError("disk full")

    for receiver in (read, write):
        plain.connect(receiver)
        kit.on("raised", "grouped", "isolated")(receiver)
    with pytest.raises(OSError, match="disk"):
        plain.send()
    assert len(ran) == 1

    ran.clear()
    kit.signal("raised", on_error="raise")
    with pytest.raises(OSError, match="disk broken"):
        kit.send("raised")
    assert ran == ["read"]

    ran.clear()
    kit.signal("grouped", on_error="group")
    with pytest.raises(ExceptionGroup, match="2 receivers of signal 'grouped' failed"):
        kit.send("grouped")
    assert ran == ["read", "write"]

    ran.clear()
    kit.signal("isolated", on_error="isolate")
    assert kit.send("isolated") == []
    assert ran == ["read", "write"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


@proves("a misspelt signal")
def test_misspelt_signal(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """A typo makes a new signal in Blinker; the kit warns, or raises if it is strict."""
    theirs = blinker.Namespace()
    theirs.signal("account_funded").connect(print)
    assert theirs.signal("acount_funded").send("acme") == []

    kit: AppSignals = app.extensions["signals_kit"]
    kit.signal("account_funded")
    kit.send("acount_funded", "acme")
    assert "Did you mean 'account_funded'?" in caplog.text

    strict = Flask("strict")
    strict.config["SIGNALS_KIT_STRICT"] = True
    strict_kit = SignalsKit(strict)
    with strict.app_context(), pytest.raises(UnknownSignalError, match="acount_funded"):
        strict_kit.send("acount_funded", "acme")


@proves("a wrong payload")
def test_wrong_payload(plain: blinker.Signal, app: Flask, kit: AppSignals) -> None:
    """Blinker passes any name on; the kit refuses what the stub does not have."""

    @kit.declare
    def account_funded(sender: object, *, amount: int) -> None:
        """Money arrived."""

    heard: list[dict[str, object]] = []

    def listen(sender: object, **payload: object) -> None:
        heard.append(payload)

    plain.connect(listen)
    plain.send("acme", amuont=5)
    assert heard == [{"amuont": 5}]
    kit.on(account_funded)(listen)
    with app.app_context(), pytest.raises(ContractError, match="amuont"):
        account_funded.send("acme", amuont=5)  # type: ignore[call-arg]
    assert len(heard) == 1


@proves("a receiver that cannot take the payload")
def test_receiver_that_cannot_take_the_payload(plain: blinker.Signal, kit: AppSignals) -> None:
    """Blinker connects it and fails at each send; the kit refuses it, and says where it is."""

    @kit.declare
    def account_funded(sender: object, *, amount: int) -> None:
        """Money arrived."""

    def narrow(sender: object, *, total: int) -> None: ...

    plain.connect(narrow)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        plain.send("acme", amount=5)
    with pytest.raises(ContractError, match=rf"narrow \({__file__}:\d+\)"):
        kit.on(account_funded)(narrow)  # type: ignore[arg-type]


@proves("a rollback after the send")
def test_rollback(plain: blinker.Signal) -> None:
    """Blinker's receivers have run by then; the kit's can wait for the commit."""
    app, db = Flask("shop"), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db.init_app(app)
    kit = SignalsKit(app)
    heard: list[str] = []

    def mail(sender: str, **extra: object) -> None:
        heard.append(sender)

    plain.connect(mail)
    kit.on("account_funded", delivery="after_commit")(mail)
    with app.app_context():
        for end in (db.session.rollback, db.session.commit):
            db.session.execute(text("SELECT 1"))
            plain.send("blinker")
            kit.send("account_funded", "kit")
            end()
        db.engine.dispose()
    assert heard == ["blinker", "blinker", "kit"]


CRASH = """
import os, sys
from flask import Flask
from flask_signals_kit import SignalsKit
from flask_sqlalchemy import SQLAlchemy

app, db, kit = Flask("shop"), SQLAlchemy(), SignalsKit()
app.config.update(SQLALCHEMY_DATABASE_URI=sys.argv[1], SIGNALS_KIT_ENGINE="none")

@kit.on("account_funded", delivery="durable")
def mail(sender, **extra):
    print(sender)

db.init_app(app)
kit.init_app(app)
with app.app_context():
    db.create_all()
    if sys.argv[2] == "send":
        kit.send("account_funded", "acme")
        os._exit(1)
    kit.for_app(app).outbox.run_due()
"""


@proves("a crash after the commit")
@pytest.mark.needs("msgspec")
def test_crash(tmp_path: Path) -> None:
    """The next process runs what the first one has stored."""
    database = f"sqlite:///{tmp_path}/shop.sqlite"
    results = [
        subprocess.run(
            [sys.executable, "-c", CRASH, database, do], capture_output=True, text=True, check=False
        )
        for do in ("send", "run")
    ]
    assert [(done.returncode, done.stdout) for done in results] == [(1, ""), (0, "acme\n")]


@proves("async")
def test_async(plain: blinker.Signal, kit: AppSignals) -> None:
    """Blinker's ways of sending each refuse one kind of receiver; the kit's take both."""

    async def wait(sender: object, **extra: object) -> str:
        await asyncio.sleep(0)
        return "async"

    def run(sender: object, **extra: object) -> str:
        return "plain"

    plain.connect(wait)
    with pytest.raises(RuntimeError, match="coroutine function"):
        plain.send()
    plain.disconnect(wait)
    plain.connect(run)
    with pytest.raises(RuntimeError, match="non-coroutine function"):
        asyncio.run(plain.send_async())

    kit.on("account_funded")(wait)
    kit.on("account_funded")(run)
    assert values(kit.send("account_funded")) == ["async", "plain"]
    assert values(asyncio.run(kit.send_async("account_funded"))) == ["async", "plain"]


@proves("`send(current_app)`")
def test_current_app_as_the_sender(plain: blinker.Signal, app: Flask, kit: AppSignals) -> None:
    """Blinker takes the proxy for a sender of its own; the kit for the app."""

    def listen(sender: object, **extra: object) -> str:
        return "called"

    plain.connect(listen, sender=app)
    kit.on("account_funded", sender=app)(listen)
    with app.app_context():
        assert plain.send(current_app) == []
        assert values(kit.send("account_funded", current_app)) == ["called"]


@proves("`muted()`")
def test_muted(plain: blinker.Signal, app: Flask, kit: AppSignals) -> None:
    """With Blinker an inner block ends the outer one; with the kit it does not."""
    signal = kit.signal("account_funded")

    def listen(sender: object, **extra: object) -> str:
        return "called"

    plain.connect(listen)
    kit.on(signal)(listen)
    with app.app_context(), plain.muted(), signal.muted():
        with plain.muted(), signal.muted():
            pass
        assert values(plain.send()) == ["called"]
        assert signal.send() == []

    async def elsewhere() -> tuple[object, object]:
        with app.app_context():
            return values(plain.send()), values(signal.send())

    async def both() -> tuple[object, object]:
        with app.app_context():
            other = asyncio.create_task(elsewhere())
            with plain.muted(), signal.muted():
                return await other

    assert asyncio.run(both()) == ([], ["called"])


@proves("`connected_to(f, sender=b)`")
def test_connected_to(plain: blinker.Signal, app: Flask, kit: AppSignals) -> None:
    """At its end Blinker disconnects the receiver from everybody; the kit ends the block's part."""
    signal = kit.signal("account_funded")

    def listen(sender: object, **extra: object) -> str:
        return "called"

    plain.connect(listen, sender="a")
    kit.on(signal, sender="a")(listen)
    with app.app_context():
        with plain.connected_to(listen, sender="b"), signal.connected_to(listen, sender="b"):
            assert values(signal.send("b")) == ["called"]
        assert plain.send("a") == []
        assert values(signal.send("a")) == ["called"]
        assert signal.send("b") == []


@proves("two apps in one process")
def test_two_apps(plain: blinker.Signal) -> None:
    """What one app connects, another's send reaches with Blinker and not with the kit."""
    kit = SignalsKit()
    one, two = Flask("one"), Flask("two")
    for app in (one, two):
        kit.init_app(app)

    def listen(sender: object, **extra: object) -> str:
        return "called"

    kit.for_app(one).on("account_funded")(listen)
    plain.connect(listen)  # by the first app …
    assert values(plain.send()) == ["called"]  # … and the second one sends
    with two.app_context():
        assert kit.send("account_funded") == []
    with one.app_context():
        assert values(kit.send("account_funded")) == ["called"]


@proves("which receivers are connected?")
def test_who_is_connected(plain: blinker.Signal, app: Flask, kit: AppSignals) -> None:
    """Blinker has the receivers of one signal and sender; the kit shows all, with their places."""

    def listen(sender: object) -> None: ...

    plain.connect(listen)
    kit.on("account_funded")(listen)
    assert list(plain.receivers_for("acme")) == [listen]

    shown = app.test_client().get("/_signals/signals.json").get_json()
    [signal] = [signal for signal in shown["signals"] if signal["name"] == "account_funded"]
    assert [receiver["file"] for receiver in signal["receivers"]] == [__file__]
    listed = app.test_cli_runner().invoke(args=["signals", "list"])
    assert "account_funded" in listed.output
    checked = app.test_cli_runner().invoke(args=["signals", "check"])
    assert checked.exit_code == 1
    assert "**kwargs" in checked.output
