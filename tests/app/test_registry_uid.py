"""`uid`: unique in the kit, and among the kit and one app."""

import gc
from typing import Any

import pytest
from flask import Flask

from flask_signals_kit import (
    DuplicateReceiverError,
    SignalsKit,
)
from flask_signals_kit.app import replacements
from tests.support import make_app, read_back, results, send_mail, write_down


def test_uid_replaces_the_receiver_of_the_same_name(kit: SignalsKit, app: Flask) -> None:
    """A factory that runs twice connects its closure once, at the same position."""

    def factory(number: int) -> None:
        @kit.on("account_funded", uid="ledger")
        def receive(sender: Any) -> int:
            return number

    factory(1)
    kit.on("account_funded")(lambda sender: "other")
    factory(2)
    assert results(kit, app) == results(kit, make_app(kit, "later")) == [2, "other"]


def test_uid_of_another_receiver_is_refused(kit: SignalsKit, app: Flask) -> None:
    """The message has both places, the uid, the signal and the fix; nothing changes."""

    @kit.on("account_funded", uid="ledger")
    def first(sender: Any) -> str:
        return "first"

    def second(sender: Any) -> str:
        return "second"

    with pytest.raises(DuplicateReceiverError) as caught:
        kit.on("account_funded", uid="ledger")(second)
    message = str(caught.value)
    assert f"first ({__file__}:{first.__code__.co_firstlineno})" in message
    assert f"second ({__file__}:{second.__code__.co_firstlineno})" in message
    assert "'ledger'" in message
    assert "'account_funded'" in message
    assert "another uid" in message
    assert results(kit, app) == ["first"]


def test_uid_is_unique_across_signals_of_the_kit(kit: SignalsKit, app: Flask) -> None:
    """One function can have it on several signals, no other function on any."""
    kit.on("account_funded", uid="ledger")(write_down)
    kit.on("campaign_*", "request_started", uid="ledger")(write_down)
    for target in ("account_funded", "account_closed", "account_*", "request_finished"):
        with pytest.raises(DuplicateReceiverError, match=r"send_mail.*write_down.*already has it"):
            kit.on(target, uid="ledger")(send_mail)
    for name in ("account_funded", "campaign_created", "request_started"):
        assert results(kit, app, name, app) == ["written down"]
    assert results(kit, app, "account_closed") == []


def test_uid_is_unique_across_kit_and_app(kit: SignalsKit, app: Flask) -> None:
    """The first connection has it; two apps can use it for functions of their own."""
    other_app = make_app(kit, "other")
    app_signals, other = kit.for_app(app), kit.for_app(other_app)
    kit.on("account_funded", uid="ledger")(write_down)
    app_signals.on("account_closed", uid="ledger")(write_down)  # the same function
    app_signals.on("account_funded", uid="mail")(send_mail)
    other.on("account_funded", uid="mail")(read_back)
    for taken, connect, receiver in (
        ("ledger", app_signals.on, send_mail),
        ("mail", kit.on, write_down),
        ("mail", kit.on, send_mail),  # not in the other app
    ):
        with pytest.raises(DuplicateReceiverError, match="already has it"):
            connect("campaign_created", uid=taken)(receiver)
    other.disconnect(read_back)
    kit.on("campaign_created", uid="mail")(send_mail)


def test_uid_is_free_after_its_receiver_is_disconnected(kit: SignalsKit, app: Flask) -> None:
    """Disconnected, connected with another uid, or collected."""
    kit.on("account_funded", "account_closed", uid="ledger")(write_down)
    kit.disconnect(write_down, "account_closed")
    with pytest.raises(DuplicateReceiverError):
        kit.on("account_closed", uid="ledger")(send_mail)
    kit.on("account_funded", uid="other")(write_down)
    kit.on("account_closed", uid="ledger")(send_mail)
    kit.disconnect(send_mail)
    receiver = Receiver()
    kit.on("account_funded", uid="ledger", weak=True)(receiver)
    del receiver
    gc.collect()
    kit.on("account_closed", uid="ledger")(send_mail)
    assert results(kit, app, "account_closed") == ["mailed"]


def test_refused_uid_connects_none_of_the_signals(kit: SignalsKit, app: Flask) -> None:
    """Of several signals in one `on`, none is connected."""
    kit.on("account_funded", uid="ledger")(write_down)
    with pytest.raises(DuplicateReceiverError):
        kit.on("campaign_created", "account_closed", uid="ledger")(send_mail)
    assert len([*kit.registry.connections]) == 1


def test_uid_replaces_a_glob_connection(kit: SignalsKit, app: Flask) -> None:
    """At its position, with the later options alone."""

    def load(number: int, **options: Any) -> None:
        @kit.on("account_*", uid="ledger", **options)
        def receive(sender: Any) -> int:
            return number

    load(1, priority=-1, when=lambda sender: True)
    kit.on("*_funded")(send_mail)
    assert results(kit, app) == ["mailed", 1]
    load(2)
    assert results(kit, app) == [2, "mailed"]
    assert len([*kit.registry.connections]) == 2


def test_uid_can_move_to_another_signal(kit: SignalsKit, app: Flask) -> None:
    """The earlier function is disconnected from all of its signals."""

    def load(*signals: str) -> None:
        @kit.on(*signals, uid="ledger")
        def receive(sender: Any) -> str:
            return signals[0]

    load("account_funded", "account_closed")
    load("campaign_created")
    assert results(kit, app) == results(kit, app, "account_closed") == []
    assert results(kit, app, "campaign_created") == ["campaign_created"]


class Receiver:
    """A callable object, one of many."""

    def __call__(self, sender: Any, **extra: Any) -> None:
        pass


def test_uid_of_a_lambda_on_another_line_is_refused(kit: SignalsKit, app: Flask) -> None:
    """Lambdas share a name, so the line counts as well."""
    kit.on("account_funded", uid="ledger")(lambda sender, **extra: "one")
    with pytest.raises(DuplicateReceiverError):
        kit.on("account_funded", uid="ledger")(lambda sender, **extra: "another")
    assert results(kit, app) == ["one"]


def test_uid_is_kept_although_the_former_receiver_is_collected_meanwhile(
    kit: SignalsKit, no_gc: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector may run at any point while a receiver is connected."""

    def connect() -> Receiver:
        receiver = Receiver()
        vars(receiver)["itself"] = receiver  # only the garbage collector frees it
        return kit.on("account_funded", uid="ledger", weak=True)(receiver)

    connect()
    monkeypatch.setattr(replacements, "_order_key", lambda connection: gc.collect())
    receiver = connect()
    monkeypatch.undo()
    with pytest.raises(DuplicateReceiverError):
        kit.on("account_funded", uid="ledger")(read_back)
    assert [connection.resolve() for connection in kit.registry.connections] == [receiver]
