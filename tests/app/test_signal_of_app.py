"""An app's signal, and what is connected to it for every app of the kit."""

from typing import Any

from flask import Flask

from flask_signals_kit import SignalsKit


def test_connecting_a_receiver_of_the_kit_to_an_apps_signal_keeps_its_place() -> None:
    """Its options change in this app, its place in connection order does not."""
    app = Flask("shop")
    kit = SignalsKit(app)

    @kit.on("account_funded")
    def first(sender: Any, **extra: Any) -> str:
        return "first"

    @kit.on("account_funded")
    def second(sender: Any, **extra: Any) -> str:
        return "second"

    signal = kit.for_app(app).namespace.signal("account_funded")
    signal.connect(first)
    assert [result for _, result in signal.send("acme")] == ["first", "second"]
    signal.connect(first, priority=-1)
    assert [result for _, result in signal.send("acme")] == ["second", "first"]
