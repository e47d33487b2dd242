"""Reloaded modules: a function replaces its previous version."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_signals_kit import (
    Signal,
    SignalsKit,
)
from tests.support import make_app, results, write_down


@pytest.fixture
def wired(modules: Path) -> Any:
    """Import a module with a kit and an app, which stays while others are reloaded."""
    (modules / "wired.py").write_text(
        "from flask import Flask\n"
        "from flask_signals_kit import SignalsKit\n"
        "kit = SignalsKit()\n"
        "app = Flask('shop')\n"
        "kit.init_app(app)\n"
        "app_signals = kit.for_app(app)\n"
        "turn = 0\n"
    )
    return importlib.import_module("wired")


HOW_CONNECTED = {
    "a name": "@kit.on('account_funded')",
    "a glob": "@kit.on('account_*')",
    "one app": "@app_signals.on('account_funded')",
    "a sender": "@kit.on('account_funded', sender='acme')",
    "a handle": "@kit.signal('account_funded').connect",
    "several": "@kit.on('account_funded', 'account_closed')",
    "weak": "@kit.on('account_funded', weak=True)",
    "stacked": "@kit.on('account_*')\n@kit.on('account_funded')",
}


@pytest.mark.parametrize("how", HOW_CONNECTED)
def test_reloaded_function_replaces_its_previous_version(
    wired: Any, modules: Path, how: str
) -> None:
    """However it is connected, at its position, in existing and later apps."""
    (modules / "wired_receivers.py").write_text(
        "import wired\n"
        "from wired import app_signals, kit\n"
        f"{HOW_CONNECTED[how]}\n"
        "def receive(sender, turn=wired.turn, **extra):\n"
        "    return f'turn {turn}'\n"
    )
    module = importlib.import_module("wired_receivers")
    kit, app = wired.kit, wired.app
    kit.on("account_funded")(lambda sender: "later")
    former = module.receive
    assert results(kit, app) == ["turn 0", "later"]
    wired.turn = 1
    importlib.reload(module)
    assert results(kit, app) == ["turn 1", "later"]
    namespace = kit.for_app(app).namespace
    assert former not in list(namespace.signal("account_funded").receivers_for("acme"))
    assert former not in list(namespace.signal("account_closed").receivers_for("acme"))
    if how != "one app":
        assert results(kit, make_app(kit, "later")) == ["turn 1", "later"]


def test_reloaded_function_has_its_new_options(wired: Any, modules: Path) -> None:
    """Signal, sender, priority, predicate, policy and uid are those of the new source."""
    source = "from wired import kit\n{}\ndef receive(sender, **extra):\n    return 'once'\n"
    file = modules / "wired_receivers.py"
    file.write_text(
        source.format(
            "@kit.on('account_funded', 'account_closed', sender='acme', priority=9, uid='ledger', "
            "when=lambda sender, **extra: False, on_error='isolate')"
        )
    )
    module = importlib.import_module("wired_receivers")
    file.write_text(source.format("@kit.on('account_funded')"))
    importlib.reload(module)
    kit, app = wired.kit, wired.app
    assert results(kit, app, "account_closed") == []
    assert results(kit, app, sender="globex") == ["once"]
    [connection] = kit.for_app(app).namespace.signal("account_funded").connections
    assert (connection.priority, connection.when, connection.uid) == (0, None, None)
    assert connection.on_error is None
    kit.on("account_closed", uid="ledger")(write_down)


def test_reloaded_module_keeps_the_order_of_its_receivers(wired: Any, modules: Path) -> None:
    """Also where one is connected to several signals by several `on` calls."""
    (modules / "wired_receivers.py").write_text(
        "from wired import kit\n"
        "@kit.on('account_funded')\n"
        "@kit.on('account_closed')\n"
        "def first(sender): return 'first'\n"
        "@kit.on('account_funded', 'account_closed')\n"
        "def second(sender): return 'second'\n"
    )
    module = importlib.import_module("wired_receivers")
    for _ in range(3):
        importlib.reload(module)
        for name in ("account_funded", "account_closed"):
            assert results(wired.kit, wired.app, name) == ["first", "second"]


def test_reloaded_closures_methods_partials_and_lambdas_are_replaced(
    wired: Any, modules: Path
) -> None:
    """All receivers of the old module are disconnected; all of the new one are connected."""
    (modules / "wired_receivers.py").write_text(
        "import functools\n"
        "from wired import kit\n"
        "def wrap(function):\n"
        "    @functools.wraps(function)\n"
        "    def call(*args, **extra): return function(*args, **extra)\n"
        "    return call\n"
        "class Ledger:\n"
        "    def add(self, sender): return 'add'\n"
        "    def __call__(self, sender): return 'call'\n"
        "for number in (1, 2):\n"
        "    @kit.on('account_funded')\n"
        "    @wrap\n"
        "    def loop(sender, number=number): return number\n"
        "    kit.on('account_funded')(Ledger().add)\n"
        "    kit.on('account_funded')(Ledger())\n"
        "    kit.on('account_funded')(functools.partial(loop, number=number * 10))\n"
        "on = kit.on('account_funded')\n"
        "on(lambda sender: 'a'), on(lambda sender: 'b')\n"
    )
    module = importlib.import_module("wired_receivers")
    expected = [1, "add", "call", 10, 2, "add", "call", 20, "a", "b"]
    for _ in range(3):
        assert results(wired.kit, wired.app) == expected
        importlib.reload(module)


def test_function_that_moved_to_another_line_is_connected_twice(wired: Any, modules: Path) -> None:
    """Unless it has a uid, it is not recognised after an edit above it."""
    source = (
        "from wired import kit\n{}"
        "@kit.on('account_funded')\n"
        "def receive(sender, **extra): return 'no uid'\n"
        "@kit.on('account_funded', uid='ledger')\n"
        "def named(sender, **extra): return 'uid'\n"
    )
    file = modules / "wired_receivers.py"
    file.write_text(source.format(""))
    module = importlib.import_module("wired_receivers")
    file.write_text(source.format("# moved\n"))
    importlib.reload(module)
    wired.kit.signal("account_funded")
    assert sorted(results(wired.kit, wired.app)) == ["no uid", "no uid", "uid"]
    [problem] = wired.app_signals.check()
    assert problem.kind == "duplicate"
    assert "wired_receivers.receive is connected 2 times" in problem.message


def test_closures_of_one_function_are_all_connected(kit: SignalsKit, app: Flask) -> None:
    """They share a code object, however often the function runs."""

    def factory(number: int) -> None:
        @kit.on("account_funded")
        def receive(sender: Any) -> int:
            return number

    for number in range(3):
        factory(number)
    assert results(kit, app) == [0, 1, 2]


def test_refused_reload_keeps_the_previous_version(wired: Any, modules: Path) -> None:
    """A receiver of `receiver_connected` that raises changes nothing."""
    (modules / "wired_receivers.py").write_text(
        "from wired import kit\n"
        "@kit.on('account_funded', uid='ledger')\n"
        "def receive(sender): return 'called'\n"
    )
    module = importlib.import_module("wired_receivers")
    former = module.receive
    signal = wired.app_signals.namespace.signal("account_funded")

    def refuse(who: Signal, *, receiver: Any, **how: Any) -> None:
        if receiver is not former:
            raise RuntimeError("not you")

    signal.receiver_connected.connect(refuse)
    with pytest.raises(RuntimeError, match="not you"):
        importlib.reload(module)
    assert list(signal.receivers_for("acme")) == [former]
    assert [c.receiver for c in wired.kit.registry.connections] == [former]


def test_reloaded_module_replaces_its_exception_hooks(modules: Path) -> None:
    """As it does its receivers; hooks created by one loop all stay."""
    (modules / "wired.py").write_text(
        "from flask import Flask\n"
        "from flask_signals_kit import SignalsKit\n"
        "kit = SignalsKit(app := Flask('shop'))\n"
        "told = []\n"
    )
    (modules / "wired_hooks.py").write_text(
        "from wired import kit, told\n"
        "@kit.on_exception\n"
        "def report(app, exception, **extra):\n"
        "    told.append('report')\n"
        "def make(name):\n"
        "    @kit.on_exception\n"
        "    def hook(app, exception, **extra):\n"
        "        told.append(name)\n"
        "make('one'), make('two')\n"
    )
    wired = importlib.import_module("wired")
    importlib.reload(importlib.import_module("wired_hooks"))
    for app in (wired.app, make_app(wired.kit, "later")):
        app.add_url_rule("/", view_func=lambda: str(1 / 0))
        wired.told.clear()
        app.test_client().get("/")
        assert sorted(wired.told) == ["one", "report", "two"]
