"""Receivers whose truth value, equality or hash is their own."""

from dataclasses import dataclass
from typing import Any

import pytest
from flask import Flask

from flask_signals_kit import SignalsKit


class Recorder(list[Any]):
    """A list that is a receiver; false while it is empty, and without a hash."""

    def __call__(self, sender: Any, **extra: Any) -> None:
        self.append(sender)


class Hostile:
    """A receiver that can be called, and not be compared, hashed or used as a condition."""

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError("no truth value")

    def __eq__(self, other: object) -> bool:
        raise TypeError("no comparison")

    def __call__(self, sender: Any, **extra: Any) -> str:
        return "called"


@pytest.mark.parametrize("receiver", [Recorder(), Hostile()])
def test_receiver_connected_is_sent_for_any_receiver(receiver: Any) -> None:
    """Neither a false receiver nor one without a truth value is left out."""
    app = Flask("shop")
    kit = SignalsKit(app)
    signal = kit.for_app(app).namespace.signal("account_funded")
    connected: list[Any] = []

    def note(signal: Any, *, receiver: Any, **extra: Any) -> None:
        connected.append(receiver)

    signal.receiver_connected.connect(note)
    kit.on("account_funded")(receiver)
    assert len(connected) == 1
    assert connected[0] is receiver
    with app.app_context():
        assert len(kit.send("account_funded", "acme")) == 1
    signal.disconnect(receiver)
    assert not signal.receivers


@dataclass
class Reporter:
    """An exception hook that equals others of the same settings, and has no hash."""

    dsn: str

    def __call__(self, app: Flask, exception: Exception, /, **extra: Any) -> None:
        """Report nothing."""


def test_exception_hooks_are_compared_by_identity() -> None:
    """As for receivers, two equal hooks are two hooks, and one hook is registered once."""
    kit = SignalsKit(Flask("shop"))
    hook = Reporter("https://errors.example")
    kit.on_exception(hook)
    kit.on_exception(Reporter("https://errors.example"))
    kit.on_exception(hook)
    assert len(kit.registry.hooks) == 2
