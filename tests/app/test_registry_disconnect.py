"""Disconnecting from one signal among many, and from one with many receivers."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_signals_kit import SignalsKit
from tests.app.support import calls_of


def make_receiver() -> Callable[..., None]:
    """Make a new receiver."""

    def receiver(sender: Any, **extra: Any) -> None: ...

    return receiver


def connect_many(kit: SignalsKit, names: Callable[[int], str]) -> list[Callable[..., None]]:
    """Connect 500 receivers, each to the name for its number."""
    return [kit.on(names(i))(make_receiver()) for i in range(500)]


def test_kit_disconnect_does_not_look_at_every_receiver_of_the_signal() -> None:
    """To disconnect one of many receivers takes no longer than one of few."""
    kit = SignalsKit(Flask("shop"))
    receivers = connect_many(kit, lambda i: "account_funded")
    assert calls_of(lambda: kit.disconnect(receivers[250], "account_funded")) < 50


def test_kit_disconnect_does_not_look_at_every_signal() -> None:
    """To disconnect a receiver from everything does not search each signal."""
    kit = SignalsKit(Flask("shop"))
    receivers = connect_many(kit, lambda i: f"account_{i}")
    assert calls_of(lambda: kit.disconnect(receivers[250])) < 50


@pytest.mark.parametrize("owner", ["app", "kit"])
def test_signal_disconnect_does_not_look_at_every_receiver(owner: str) -> None:
    """An app's signal finds its own receivers and those of the kit by their key."""
    app = Flask("shop")
    kit = SignalsKit(app)
    signal = kit.for_app(app).namespace.signal("account_funded")
    receivers = connect_many(kit, lambda i: "account_funded")
    if owner == "app":
        receivers = [signal.connect(make_receiver(), weak=False) for _ in range(500)]
    assert calls_of(lambda: signal.disconnect(receivers[250])) < 60
    assert len(signal.receivers) == (999 if owner == "app" else 499)


@pytest.mark.parametrize("weak", [False, True])
def test_uid_is_forgotten_with_its_last_connection(weak: bool) -> None:
    """Receivers that come and go, each with a uid of its own, leave nothing in the kit."""
    kit = SignalsKit(Flask("shop"))

    def connect_and_disconnect(uids: range) -> None:
        for uid in uids:
            receiver = make_receiver()
            kit.on("account_funded", uid=f"client-{uid}", weak=weak)(receiver)
            if not weak:
                kit.disconnect(receiver)

    connect_and_disconnect(range(200))  # the report keeps the last 100 that were collected
    tracemalloc.start()
    try:
        connect_and_disconnect(range(200, 1200))
        assert tracemalloc.get_traced_memory()[0] < 50_000
    finally:
        tracemalloc.stop()
