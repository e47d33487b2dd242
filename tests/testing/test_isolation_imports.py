"""`kit.isolated()`: what a module does while it is first imported in a block remains."""

import gc
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from flask_signals_kit import DuplicateReceiverError, SignalsKit
from tests.deliveries.support import Base
from tests.support import make_app, results, send_mail, write_down

HANDLERS = """
import functools

def notify(sender, **extra): return "function"

class Handler:
    def __call__(self, sender, **extra): return "instance"
    def handle(self, sender, **extra): return "method"

def make():
    def made(sender, **extra): return "closure"
    return made

part = functools.partial(lambda text, sender, **extra: text, "partial")

def report(app, exception, **extra): ...
"""


@pytest.fixture
def write(
    kit: SignalsKit, app: Flask, modules: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Give a function that writes the module `wired_lazy`, which has the kit and the app's API."""
    names = SimpleNamespace(kit=kit, app_api=kit.for_app(app))
    monkeypatch.setitem(sys.modules, "wired_kit", names)
    (modules / "wired_handlers.py").write_text(HANDLERS)

    def write(source: str) -> None:
        text = f"from wired_kit import kit, app_api\n{dedent(source)}"
        (modules / "wired_lazy.py").write_text(text)

    return write


def test_receiver_is_disconnected_although_its_module_is_new(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """The block connected it, not the module."""
    with kit.isolated():
        handlers = import_module("wired_handlers")
        kit.on("account_funded")(handlers.notify)
        kit.on("account_funded")(handlers.Handler())
        kit.on_exception(handlers.report)
        assert results(kit, app) == ["function", "instance"]
    assert results(kit, app) == []
    assert kit.registry.hooks == ()


def test_module_of_the_block_may_connect_what_another_module_defines(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """Functions, instances, methods, partials and closures; with the kit and with one app."""
    write(
        """
        import wired_handlers as h
        for receiver in (h.notify, h.Handler(), h.Handler().handle, h.part, h.make()):
            kit.on("account_funded")(receiver)
        app_api.on("account_funded")(h.make())
        kit.on_exception(h.report)
        app_api.on_exception(h.report)
        """
    )
    import_module("wired_handlers")
    with kit.isolated(), kit.isolated():
        import_module("wired_lazy")
        before = results(kit, app)
    assert results(kit, app) == before
    assert sorted(before) == ["closure", "closure", "function", "instance", "method", "partial"]
    assert len(kit.registry.hooks) == len(kit.for_app(app).registry.hooks) == 1


def test_module_of_the_block_keeps_its_bridges_and_sessions(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """Also if it connects no receivers."""
    write(
        """
        import blinker
        paid = blinker.Namespace().signal("invoice-paid")
        kit.bridge(paid)
        kit.use_session(lambda: None)
        """
    )
    with kit.isolated():
        lazy = import_module("wired_lazy")
    kit.on("invoice_paid")(write_down)
    kit.on("invoice_paid", delivery="after_commit")(send_mail)
    assert len(lazy.paid.send(app)) == 1


def test_module_of_the_block_keeps_the_session_that_the_block_gave_an_app(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """Its after-commit receivers would be refused without it."""
    write("kit.on('account_funded', delivery='after_commit')(lambda sender, **extra: None)")
    with kit.isolated():
        kit.for_app(app).use_session(lambda: None)
        import_module("wired_lazy")
    assert kit.registry.has_connections("account_funded")
    kit.for_app(app).on("account_funded", delivery="after_commit")(write_down)


def test_what_a_module_of_the_block_does_with_another_kit_is_not_repeated(
    kit: SignalsKit, write: Callable[[str], None]
) -> None:
    """The block does not apply to it."""
    write(
        """
        from flask_signals_kit import SignalsKit
        other = SignalsKit()
        receiver = other.on("account_funded")(lambda sender, **extra: None)
        """
    )
    with kit.isolated():
        lazy = import_module("wired_lazy")
        lazy.other.disconnect(lazy.receiver)
    assert not lazy.other.registry.has_connections("account_funded")


def test_declaration_of_the_kit_through_one_app_stays_the_kits(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """The module that uses its handle could not use it otherwise."""
    write("opened = app_api.signal('account_opened')")
    with kit.isolated():
        opened = kit.signal("account_opened")
        import_module("wired_lazy")
    kit.on(opened)(write_down)
    assert results(kit, make_app(kit, "other"), "account_opened") == ["written down"]


def test_block_undoes_what_it_changes_of_a_module_that_it_imports(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """A disconnected receiver is connected again, and another one has its old options."""
    write(
        """
        @kit.on("account_funded")
        def thank(sender, **extra): return "thanks"
        @kit.on("account_funded")
        def note(sender, **extra): return "noted"
        """
    )
    with kit.isolated():
        lazy = import_module("wired_lazy")
        kit.disconnect(lazy.thank)
        kit.on("account_funded", when=lambda sender: False)(lazy.note)
        assert results(kit, app) == []
    assert results(kit, app) == ["thanks", "noted"]


def test_module_of_the_block_may_disconnect_a_receiver(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """As a module that replaces a receiver of another one."""
    write(
        """
        import wired_handlers
        kit.disconnect(wired_handlers.notify)
        kit.on("account_funded")(wired_handlers.part)
        """
    )
    kit.on("account_funded")(import_module("wired_handlers").notify)
    with kit.isolated():
        import_module("wired_lazy")
    assert results(kit, app) == ["partial"]


def test_conflict_at_the_end_of_the_block_drops_no_other_receiver(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """The others of the module stay connected, and the first error is raised."""
    write(
        """
        def connect(uid):
            def receiver(sender, **extra): return uid
            kit.on("account_funded", uid=uid)(receiver)
        for uid in ("first", "second", "third"):
            connect(uid)
        """
    )
    kit.on("account_funded", uid="first")(write_down)
    kit.on("account_funded", uid="second")(send_mail)

    def replace_both() -> None:
        kit.disconnect(write_down)
        kit.disconnect(send_mail)
        import_module("wired_lazy")

    with pytest.raises(DuplicateReceiverError, match="'first'"), kit.isolated():
        replace_both()
    assert results(kit, app) == ["written down", "mailed", "third"]


def test_module_whose_import_failed_is_undone(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """The next import runs it again."""
    write(
        """
        import wired_handlers
        kit.on("account_funded")(wired_handlers.notify)
        import wired_missing
        """
    )
    with kit.isolated():
        with pytest.raises(ImportError, match="wired_missing"):
            import_module("wired_lazy")
        assert results(kit, app) == ["function"]
    assert results(kit, app) == []


def test_module_of_the_block_may_be_loaded_from_its_file(
    kit: SignalsKit, app: Flask, modules: Path, write: Callable[[str], None]
) -> None:
    """As the manual of importlib shows it."""
    write("kit.on('account_funded')(lambda sender, **extra: 'plugin')")
    spec: Any = spec_from_file_location("wired_plugin", modules / "wired_lazy.py")
    with kit.isolated():
        sys.modules["wired_plugin"] = plugin = module_from_spec(spec)
        spec.loader.exec_module(plugin)
    assert results(kit, app) == ["plugin"]


@pytest.mark.needs("msgspec")
def test_durable_receivers_of_a_module_stay_if_an_app_was_dropped_in_the_block(
    kit: SignalsKit, app: Flask, write: Callable[[str], None]
) -> None:
    """That app cannot open an outbox for them."""
    kit.use_outbox(Base.metadata)
    kit.use_session(lambda: None)
    write("kit.on('account_funded', delivery='durable')(lambda sender, **extra: None)")
    other = make_app(kit, "other")
    with kit.isolated():
        import_module("wired_lazy")
        del other
        gc.collect()
    assert kit.for_app(app).outbox is not None
