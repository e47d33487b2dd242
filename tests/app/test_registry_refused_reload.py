"""Functions of a module that is loaded again: they replace their former selves."""

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_signals_kit import SignalsKit
from tests.app.support import calls_of


def load(result: str) -> Callable[..., str]:
    """Return the function of a module that is loaded again."""
    namespace: dict[str, Any] = {"__name__": "shop.mails", "RESULT": result}
    source = "def thank(sender, **extra):\n    return RESULT\n"
    exec(compile(source, "shop/mails.py", "exec"), namespace)
    return namespace["thank"]  # type: ignore[no-any-return]


def results(kit: SignalsKit, app: Flask, signal: str) -> list[Any]:
    """Send a signal; return what the receivers returned."""
    with app.app_context():
        return [result for _, result in kit.send(signal, "acme")]


def refuse(signal: Any, **details: Any) -> None:
    """Refuse every connection."""
    raise PermissionError("not now")


def test_reloaded_function_that_is_refused_replaces_its_former_self_at_the_second_try() -> None:
    """After a failed attempt the former function is there, and a retry replaces it."""
    app = Flask("shop")
    kit = SignalsKit(app)
    kit.signal("account_funded")
    kit.on("account_funded", "account_closed")(load("old"))
    closed = kit.for_app(app).namespace.signal("account_closed")
    new = load("new")
    closed.receiver_connected.connect(refuse)
    with pytest.raises(PermissionError):
        kit.on("account_funded", "account_closed")(new)
    closed.receiver_connected.disconnect(refuse)
    assert results(kit, app, "account_funded") == results(kit, app, "account_closed") == ["old"]
    kit.on("account_funded", "account_closed")(new)
    assert results(kit, app, "account_funded") == results(kit, app, "account_closed") == ["new"]


def test_refused_reload_leaves_no_place_in_connection_order_behind() -> None:
    """A failed attempt does not give its place in connection order to a later connection."""
    app = Flask("shop")
    kit = SignalsKit(app)
    kit.on("account_funded", "account_closed")(load("old"))
    signals = kit.for_app(app).namespace
    signals.signal("account_funded").receiver_connected.connect(refuse)
    with pytest.raises(PermissionError):
        kit.on("account_funded", "account_closed")(load("refused"))
    signals.signal("account_funded").receiver_connected.disconnect(refuse)

    new = load("new")
    kit.on("account_funded", "account_closed")(new)
    kit.on("account_closed")(lambda sender, **extra: "other")
    kit.disconnect(new, "account_closed")
    kit.on("account_closed")(new)
    assert results(kit, app, "account_closed") == ["other", "new"]


def test_reload_looks_at_other_functions_only_briefly() -> None:
    """To load a module with many receivers again takes a call or two for each of the others."""
    kit = SignalsKit()
    lines = [
        f"def note_{i}(sender, **extra): ...\nkit.on('account_{i}')(note_{i})" for i in range(50)
    ]
    source = "\n".join(lines)

    def load_module() -> None:
        exec(compile(source, "shop/notes.py", "exec"), {"__name__": "shop.notes", "kit": kit})

    first = calls_of(load_module)
    assert calls_of(load_module) - first < 50 * 50 * 8
    assert len(list(kit.registry.connections)) == 50
