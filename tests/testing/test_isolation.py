"""`kit.isolated()`: what a block connects, declares and disconnects is undone."""

import gc
import sys
import threading
import weakref
from importlib import import_module, reload
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import blinker
import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_signals_kit import (
    ConfigurationError,
    DeclarationError,
    DuplicateReceiverError,
    Durable,
    Signal,
    SignalsKit,
)
from tests.deliveries.support import Account, Base
from tests.support import make_app, read_back, results, send_mail, write_down


def test_connections_of_the_block_are_undone(kit: SignalsKit, app: Flask) -> None:
    """Of the kit, of one app, of an app's signal, and of a handle; by name and by glob."""
    account_funded = kit.signal("account_funded")
    kit.on(account_funded)(write_down)
    with kit.isolated():
        kit.on("account_*")(send_mail)
        kit.for_app(app).on(account_funded)(lambda sender, **extra: "by the app")
        kit.for_app(app).namespace.signal("account_funded").connect(read_back)
        account_funded.connect(lambda sender, **extra: "by the handle")
        assert len(results(kit, app)) == 5
    assert results(kit, app) == ["written down"]


def test_disconnected_receivers_are_connected_again(kit: SignalsKit, app: Flask) -> None:
    """In their former order, with their options, however they were disconnected."""
    kit.on("account_*")(write_down)
    kit.on("account_funded", priority=1, uid="mail")(send_mail)
    kit.for_app(app).on("account_funded")(read_back)
    before = results(kit, app)
    with kit.isolated():
        kit.disconnect(write_down)
        kit.for_app(app).namespace.signal("account_funded").disconnect(send_mail)
        kit.for_app(app).disconnect(read_back)
        assert results(kit, app) == []
    assert results(kit, app) == before == ["mailed", "written down", "read"]
    with pytest.raises(DuplicateReceiverError, match="mail"):
        kit.on("account_funded", uid="mail")(write_down)


def test_options_of_a_connection_are_restored(kit: SignalsKit, app: Flask) -> None:
    """Connecting a receiver again changes its options, in the block only."""
    kit.on("account_funded")(write_down)
    kit.on("account_funded")(send_mail)
    with kit.isolated():
        kit.on("account_funded", priority=1)(send_mail)
        assert results(kit, app) == ["mailed", "written down"]
    assert results(kit, app) == ["written down", "mailed"]


def test_blocks_can_be_nested(kit: SignalsKit, app: Flask) -> None:
    """Each restores what there was when it began."""
    kit.on("account_funded")(write_down)
    with kit.isolated():
        kit.on("account_funded")(send_mail)
        with kit.isolated():
            kit.disconnect(write_down)
            kit.on("account_funded")(read_back)
            assert results(kit, app) == ["mailed", "read"]
        assert results(kit, app) == ["written down", "mailed"]
    assert results(kit, app) == ["written down"]


def test_block_that_raises_is_undone(kit: SignalsKit, app: Flask) -> None:
    """As that of a failing test."""

    def fail() -> None:
        kit.on("account_funded")(write_down)
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"), kit.isolated():
        fail()
    assert results(kit, app) == []


def test_declarations_of_the_block_are_undone(kit: SignalsKit, app: Flask) -> None:
    """New ones, and what was added to former ones; the name leaves the app's namespace."""
    account_funded = kit.signal("account_funded", "Money arrived.")
    with kit.isolated():
        kit.signal("account_closed")
        kit.for_app(app).signal("account_opened")

        @kit.declare(on_error="isolate")
        def account_funded(sender: object, *, amount: int) -> None:
            """Something else."""

    handle = kit.registry.handle("account_funded")
    assert handle is not None
    assert (handle.contract, handle.on_error, handle.__doc__) == (None, None, "Money arrived.")
    assert not kit.registry.is_declared("account_closed")
    known = kit.for_app(app).names.all()
    assert "account_funded" in known
    assert not known & {"account_closed", "account_opened"}
    with app.app_context():
        kit.send("account_funded", "acme", any_name=1)


def test_handle_that_was_declared_in_the_block_is_refused_after_it(
    kit: SignalsKit, app: Flask
) -> None:
    """The message says why, also if the name was declared again."""
    with kit.isolated():
        account_closed = kit.signal("account_closed")
        opened = kit.for_app(app).signal("account_opened")
    for api, handle in (
        (kit, account_closed),
        (kit.for_app(app), account_closed),
        (kit.for_app(app), opened),
    ):
        with pytest.raises(
            DeclarationError, match=r"in a block of kit\.isolated\(\) that has ended"
        ):
            api.on(handle)(write_down)
    kit.signal("account_closed")
    with pytest.raises(DeclarationError, match="has ended"):
        kit.on(account_closed)(write_down)
    with pytest.raises(DeclarationError, match="by another kit"):
        kit.on(SignalsKit().signal("account_closed"))(write_down)


def test_contract_of_the_block_does_not_refuse_later_receivers(kit: SignalsKit) -> None:
    """The name is free again."""
    with kit.isolated():

        @kit.declare
        def account_funded(sender: object, *, amount: int) -> None: ...

    kit.on("account_funded")(lambda sender, method: None)


def test_exception_hooks_of_the_block_are_undone(kit: SignalsKit, app: Flask) -> None:
    """Those of the kit and of the app; a hook that was there stays, with its options."""
    seen: list[str] = []

    @app.get("/")
    def fail() -> str:
        raise ValueError("boom")

    @kit.on_exception
    def report(app: Flask, exception: Exception, **extra: Any) -> None:
        seen.append("report")

    with kit.isolated():
        kit.on_exception(sources=["cli"])(report)
        kit.on_exception(lambda *args, **extra: seen.append("kit"))
        kit.for_app(app).on_exception(lambda *args, **extra: seen.append("app"))
        app.test_client().get("/")
    assert seen == ["kit", "app"]
    app.test_client().get("/")
    assert seen == ["kit", "app", "report"]


def test_bridges_of_the_block_are_undone(kit: SignalsKit, app: Flask) -> None:
    """Their relays are disconnected, and their names are free."""
    theirs = blinker.Namespace()
    paid = theirs.signal("invoice-paid")
    with kit.isolated():
        kit.bridge(theirs)
        kit.on("invoice_paid")(write_down)
        assert paid.receivers
    assert not paid.receivers
    kit.signal("invoice_paid")


def test_name_that_was_bridged_in_the_block_is_a_name_as_before(
    kit: SignalsKit, app: Flask
) -> None:
    """The third-party signal no longer reaches its receivers."""
    theirs = blinker.Namespace()
    results(kit, app, "invoice_paid")
    with kit.isolated():
        kit.bridge(theirs.signal("invoice_paid"))
    seen: list[Any] = []
    kit.on("invoice_paid")(lambda sender, **extra: seen.append(sender))
    with app.app_context():
        theirs.signal("invoice_paid").send("theirs")
    assert seen == []


def test_receiver_of_a_module_that_was_reloaded_in_the_block_is_restored(
    kit: SignalsKit, app: Flask, modules: Path
) -> None:
    """The reloaded one replaces it again in a later block."""
    (modules / "wired_mails.py").write_text("def thank(sender, **extra):\n    return 'thanks'\n")
    import wired_mails  # type: ignore[import-not-found]

    first = kit.on("account_funded")(wired_mails.thank)
    reload(wired_mails)
    for _ in range(2):
        with kit.isolated():
            kit.on("account_funded")(wired_mails.thank)
            with app.app_context():
                [(receiver, _)] = kit.send("account_funded")
            assert receiver is wired_mails.thank
        with app.app_context():
            assert kit.send("account_funded") == [(first, "thanks")]


LAZY = """
from wired_kit import kit
opened = kit.signal("account_opened", "An account exists.")
@kit.on(opened, "account_funded")
def thank(sender, **extra):
    return "thanks"
@kit.on_exception
def report(app, exception, **extra):
    reported.append(str(exception))
reported = []
def connect():
    kit.on("account_funded")(lambda sender, **extra: "closure")
"""


def test_module_that_is_first_imported_in_the_block_stays_connected(
    kit: SignalsKit, app: Flask, modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another import does not run it again, so a later test would lack its receivers."""
    monkeypatch.setitem(sys.modules, "wired_kit", SimpleNamespace(kit=kit))
    (modules / "wired_lazy.py").write_text(LAZY)
    kit.on("account_funded")(write_down)

    @app.get("/")
    def fail() -> str:
        raise ValueError("boom")

    for _ in range(2):
        with kit.isolated(), kit.isolated():
            import_module("wired_lazy").connect()
            kit.on("account_funded")(send_mail)
            assert results(kit, app) == ["written down", "thanks", "closure", "mailed"]
        assert results(kit, app) == ["written down", "thanks"]
    lazy = sys.modules["wired_lazy"]
    with app.app_context():
        assert len(lazy.opened.send("acme")) == 1
        assert lazy.opened.__doc__ == "An account exists."
    app.test_client().get("/")
    assert lazy.reported == ["boom"]


@pytest.mark.needs("msgspec")
def test_module_of_the_block_keeps_what_its_receivers_need(
    kit: SignalsKit, app: Flask, modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bridges, the session and the outbox; weak receivers stay weak."""
    monkeypatch.setitem(sys.modules, "wired_kit", SimpleNamespace(kit=kit, metadata=Base.metadata))
    invoices = blinker.Namespace().signal("invoice-paid")
    (modules / "wired_needs.py").write_text(
        "from wired_kit import kit, metadata\n"
        "kit.use_session(lambda: None)\n"
        "kit.use_outbox(metadata)\n"
        "class Ledger:\n"
        "    def write(self, sender, **extra): return 'written'\n"
        "ledger = Ledger()\n"
        "kit.on('invoice_paid', 'account_funded', weak=True)(ledger.write)\n"
        "@kit.on('account_closed', delivery='durable')\n"
        "def delete(sender, **extra): ...\n"
    )
    with kit.isolated():
        kit.bridge(invoices)
        import wired_needs  # type: ignore[import-not-found]
    assert kit.for_app(app).outbox is not None
    with app.app_context():
        assert len(invoices.send(app)) == 1
    assert results(kit, app) == ["written"]
    del wired_needs.ledger
    gc.collect()
    assert results(kit, app) == []


@pytest.mark.needs("msgspec")
def test_every_app_is_restored_if_one_was_dropped_in_the_block(kit: SignalsKit, app: Flask) -> None:
    """Its outbox cannot be closed, and need not be."""
    kit.use_outbox(Base.metadata)
    kit.use_session(lambda: None)
    other = make_app(kit, "other")
    kit.for_app(app).on("account_funded")(write_down)
    with kit.isolated():
        kit.for_app(other).on("account_funded", delivery="durable")(send_mail)
        kit.for_app(app).disconnect(write_down)
        ref = weakref.ref(other)
        del other
        gc.collect()
        assert ref() is None
    assert results(kit, app) == ["written down"]


def test_sessions_of_the_block_are_forgotten(kit: SignalsKit, app: Flask) -> None:
    """After-commit receivers are refused without one, as before."""
    with kit.isolated():
        kit.use_session(lambda: None)
        kit.on("account_funded", delivery="after_commit")(write_down)
    with pytest.raises(ConfigurationError, match="has no SQLAlchemy session"):
        kit.on("account_funded", delivery="after_commit")(write_down)


@pytest.mark.needs("msgspec")
def test_outbox_of_the_block_is_closed(kit: SignalsKit, app: Flask) -> None:
    """An app without durable receivers has none."""
    with kit.isolated():
        kit.use_outbox(Base.metadata)
        kit.use_session(lambda: None)
        kit.on("account_funded", delivery="durable")(write_down)
        assert kit.for_app(app).outbox is not None
    assert kit.for_app(app).outbox is None


def test_relay_of_a_flask_signal_follows(kit: SignalsKit, app: Flask) -> None:
    """It is connected again if its only receiver was disconnected in the block."""
    started: list[str] = []

    def note(sender: Flask, **extra: Any) -> None:
        started.append("note")

    kit.on("request_started")(note)
    with kit.isolated():
        kit.disconnect(note)
        app.test_client().get("/")
    assert started == []
    app.test_client().get("/")
    assert started == ["note"]


def test_unknown_names_of_the_block_are_forgotten(kit: SignalsKit, app: Flask) -> None:
    """So `kit.check()` reports nothing of another test."""
    with app.app_context():
        before = kit.check()
        with kit.isolated():
            kit.send("acount_funded")
            assert len(kit.check()) > len(before)
        assert kit.check() == before == []


def test_receiver_that_was_collected_meanwhile_is_not_restored(kit: SignalsKit, app: Flask) -> None:
    """A weak reference to it is dead; a restored connection of it would never run."""

    class Ledger:
        def write(self, sender: Any, **extra: Any) -> str:
            return "written"

    ledger = Ledger()
    kit.on("account_funded", weak=True)(ledger.write)
    with kit.isolated():
        del ledger
        gc.collect()
        kit.on("account_funded")(write_down)
    assert results(kit, app) == []
    assert not kit.for_app(app).namespace.signal("account_funded").has_receivers


def test_kit_keeps_no_receiver_of_a_block_alive(kit: SignalsKit, app: Flask) -> None:
    """Nor an app that was made in it."""

    class Receiver:
        def __call__(self, sender: Any, **extra: Any) -> None: ...

    receiver, other = Receiver(), make_app(kit, "other")
    with kit.isolated():
        kit.on("account_funded")(receiver)
        results(kit, other)
    refs = weakref.ref(receiver), weakref.ref(other)
    del receiver, other
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


def test_sends_of_other_threads_see_either_state(kit: SignalsKit, app: Flask) -> None:
    """A block applies to every thread, and a send never sees half of it."""
    kit.on("account_funded")(write_down)
    kit.on("account_funded")(send_mail)
    seen: set[tuple[str, ...]] = set()
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            seen.add(tuple(results(kit, app)))

    thread = threading.Thread(target=send)
    thread.start()
    for _ in range(100):
        with kit.isolated():
            kit.on("account_funded")(read_back)
    over.set()
    thread.join()
    first = ("written down", "mailed")
    assert seen
    assert seen <= {first, (*first, "read")}
    assert tuple(results(kit, app)) == first


def test_plan_is_fast_again_after_the_block(kit: SignalsKit, app: Flask) -> None:
    """A send costs what it cost before."""
    kit.on("account_funded")(write_down)
    results(kit, app)
    signal: Signal = kit.for_app(app).namespace.signal("account_funded")
    with kit.isolated():
        kit.on("account_funded", when=lambda sender: True)(send_mail)
        results(kit, app)
        assert signal._fast is None
    results(kit, app)
    assert signal._fast == (write_down,)


# -- many apps ------------------------------------------------------------------------------------


@pytest.mark.needs("msgspec")
def test_each_test_of_a_session_has_an_app_of_its_own(kit: SignalsKit, tmp_path: Path) -> None:
    """With a database of its own; what one test connects does not reach the next app."""
    db = SQLAlchemy()
    kit.use_outbox(Base.metadata)
    funded = kit.signal("account_funded")
    ran: list[str] = []

    def add_up(account: Account, *, amount: int, **extra: Any) -> None:
        account.balance += amount
        ran.append(str(db.engine.url.database))

    kit.on(funded, delivery=Durable())(add_up)
    paths = [str(tmp_path / f"{number}.sqlite") for number in range(3)]
    for number, path in enumerate(paths):
        with kit.isolated():
            app = Flask("shop")
            app.testing = True
            app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{path}"
            db.init_app(app)
            kit.init_app(app)
            extra: list[int] = []
            kit.on(funded)(lambda account, **payload: extra.append(number))  # noqa: B023
            with app.app_context():
                kit.begin_immediate(db.engine)
                Base.metadata.create_all(db.engine)
                with kit.capture(run_durable=True):
                    account = Account(name="acme", balance=0)
                    db.session.add(account)
                    funded.send(account, amount=5)
                    db.session.commit()
                    db.session.remove()
                assert db.session.query(Account).one().balance == 5
                db.session.remove()
                db.engine.dispose()
            assert extra == [number]
    assert ran == paths
