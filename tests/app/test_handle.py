"""Handles: they send, query and connect in the current app, or in one app."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from blinker import ANY
from flask import Flask, current_app

from flask_signals_kit import (
    AppContextError,
    ContractError,
    DeclarationError,
    Failed,
    Ok,
    ReceiverError,
    SignalsKit,
)
from tests.app.support import account_funded, misfit_missing, stub
from tests.support import make_app


def test_handle_sends_in_the_current_app(context: None, kit: SignalsKit) -> None:
    """By handle and by name: the same signal."""
    funded = kit.signal("account_funded")

    @kit.on("account_funded")
    def receive(sender: Any, **payload: Any) -> Any:
        return sender, payload

    assert funded.send("acme", amount=5) == [(receive, ("acme", {"amount": 5}))]
    assert kit.send("account_funded", "acme", amount=5) == funded.send("acme", amount=5)
    assert kit.send(funded, "acme", amount=5) == funded.send("acme", amount=5)


def test_app_is_the_default_sender(context: None, kit: SignalsKit) -> None:
    """Left out or `None`; `current_app` is unwrapped."""
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    funded = kit.signal("account_funded")
    seen: list[Any] = []
    kit.on(funded, sender=app)(lambda sender, **extra: seen.append(sender))
    funded.send()
    funded.send(None)
    funded.send(current_app)
    kit.send("account_funded")
    kit.send("account_funded", current_app)
    funded.send_robust()
    asyncio.run(funded.send_async())
    asyncio.run(funded.send_robust_async(current_app))
    assert len(seen) == 8
    assert all(sender is app for sender in seen)


@pytest.mark.parametrize("sender", [0, False, "", 0.0, ()])
def test_falsy_sender_is_not_replaced_by_the_app(
    context: None, kit: SignalsKit, sender: Any
) -> None:
    """Only `None` means "the app"."""
    funded = kit.signal("account_funded")
    kit.on(funded)(receive := lambda sender, **extra: sender)
    assert funded.send(sender) == [(receive, sender)]
    assert kit.send("account_funded", sender) == [(receive, sender)]
    assert kit.send_robust("account_funded", sender)[0].value == sender  # type: ignore[union-attr]


def test_second_positional_argument_is_refused(context: None, kit: SignalsKit) -> None:
    """The message says to pass the payload by name."""
    funded = kit.signal("account_funded")
    with pytest.raises(TypeError, match="positional"):
        funded.send("acme", 5)
    with pytest.raises(TypeError, match="positional"):
        funded.send_robust("acme", 5)


def test_every_send_method_refuses_a_second_positional_argument(
    context: None, kit: SignalsKit
) -> None:
    """With the same message."""
    funded = kit.signal("account_funded")
    ways: list[Callable[[], Any]] = [
        lambda: funded.send("acme", 5),
        lambda: funded.send_robust("acme", 5),
        lambda: asyncio.run(funded.send_async("acme", 5)),
        lambda: asyncio.run(funded.send_robust_async("acme", 5)),
    ]
    for send in ways:
        with pytest.raises(ContractError, match="'account_funded' was sent with 2 positional"):
            send()


@pytest.mark.needs("asgiref")
def test_wrapper_arguments_of_blinker_are_not_payload(
    context: None, kit: SignalsKit, app: Flask
) -> None:
    """A send that was written for blinker, such as Flask's own, works unchanged."""
    paid = kit.declare(stub)
    ran: list[str] = []

    @kit.on("stub")
    async def receive(account: Any, **payload: Any) -> Any:
        return payload

    @kit.on("stub")
    def receive_plainly(account: Any, **payload: Any) -> Any:
        return payload

    def run(receiver: Callable[..., Any]) -> Callable[..., Any]:
        ran.append(receiver.__name__)
        return app.async_to_sync(receiver)

    def wait(receiver: Callable[..., Any]) -> Callable[..., Any]:
        ran.append(receiver.__name__)

        async def call(*args: Any, **payload: Any) -> Any:
            return receiver(*args, **payload)

        return call

    how: Any = {"amount": 5, "_async_wrapper": run}
    later: Any = {"amount": 5, "_sync_wrapper": wait}
    for each, name in ((paid, ()), (kit, ("stub",))):
        send: Any = each
        given = [{"amount": 5}] * 2
        assert [payload for _, payload in send.send(*name, "acme", **how)] == given
        assert [ok.value for ok in send.send_robust(*name, "acme", **how)] == given
        sent = asyncio.run(send.send_async(*name, "acme", **later))
        assert [payload for _, payload in sent] == given
        outcomes = asyncio.run(send.send_robust_async(*name, "acme", **later))
        assert [ok.value for ok in outcomes] == given
        assert ran == ["receive", "receive", "receive_plainly", "receive_plainly"]
        ran.clear()


def test_queries_without_a_sender_use_the_app(context: None, kit: SignalsKit) -> None:
    """`send()` has the app for a sender, so queries without one mean the app, too."""
    funded = kit.signal("account_funded")
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    kit.on(funded, sender=app)(receive := lambda sender, **extra: sender)
    assert funded.send() == [(receive, app)]
    for sender in (None, current_app, app):
        assert funded.has_receivers_for(sender)
        assert [*funded.receivers_for(sender)] == [receive]
    assert not funded.has_receivers_for("acme")
    assert not funded.has_receivers_for(ANY)


@pytest.mark.needs("asgiref")
def test_send_robust_returns_an_outcome_for_each_receiver(context: None, kit: SignalsKit) -> None:
    """By handle as by name, plain and async."""
    funded = kit.signal("account_funded")

    @kit.on(funded)
    def fail(sender: Any) -> None:
        raise ValueError("boom")

    @kit.on(funded)
    async def fine(sender: Any) -> str:
        return "fine"

    for outcomes in (
        funded.send_robust("acme"),
        kit.send_robust(funded, "acme"),
        asyncio.run(funded.send_robust_async("acme")),
        asyncio.run(kit.send_robust_async("account_funded", "acme")),
    ):
        failed, ok = outcomes
        assert isinstance(failed, Failed)
        assert failed.receiver is fail
        assert isinstance(ok, Ok)
        assert ok.value == "fine"


def test_signal_policy_overrides_app_policy() -> None:
    """The signal's policy comes first, then `SIGNALS_KIT_ON_ERROR`."""
    kit = SignalsKit()
    app = make_app(kit, TESTING=True, SIGNALS_KIT_ON_ERROR="isolate")
    by_app = kit.signal("by_app")
    by_signal = kit.signal("by_signal", on_error="group")

    @kit.on(by_app, by_signal)
    def fail(sender: Any) -> None:
        raise ValueError("boom")

    with app.app_context():
        assert by_app.send() == []
        with pytest.raises(ExceptionGroup):
            by_signal.send()


def test_policy_set_later_applies_in_existing_apps(context: None, kit: SignalsKit) -> None:
    """`kit.signal(name, on_error=…)` configures a signal that is in use."""
    funded = kit.signal("account_funded")

    @kit.on(funded)
    def fail(sender: Any) -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        funded.send()
    kit.signal("account_funded", on_error="isolate")
    assert funded.send() == []


def test_queries_of_a_handle_concern_the_current_app(kit: SignalsKit, app: Flask) -> None:
    """`receivers`, `has_receivers_for` and `receivers_for` query one app only."""
    other = Flask("other")
    kit.init_app(other)
    funded = kit.signal("account_funded")
    kit.for_app(app).on(funded)(receive := lambda sender: None)
    with app.app_context():
        assert funded.receivers
        assert funded.has_receivers_for("acme")
        assert [*funded.receivers_for(ANY)] == [receive]
    with other.app_context():
        assert not funded.receivers
        assert not funded.has_receivers_for("acme")
        assert [*funded.receivers_for("acme")] == []


def test_muted_and_connected_to_concern_the_current_app(kit: SignalsKit, app: Flask) -> None:
    """The other app's receivers run while this one is muted; its temporary receivers do not."""
    other = Flask("other")
    kit.init_app(other)
    funded = kit.signal("account_funded")
    kit.on(funded)(permanent := lambda sender: None)
    temporary = lambda sender: None  # noqa: E731
    with app.app_context():
        with funded.muted():
            assert funded.send() == []
            with other.app_context():
                assert [receiver for receiver, _ in funded.send()] == [permanent]
        with funded.connected_to(temporary, sender="acme"):
            assert [receiver for receiver, _ in funded.send("acme")] == [permanent, temporary]
            assert [receiver for receiver, _ in funded.send("other")] == [permanent]
            with other.app_context():
                assert [receiver for receiver, _ in funded.send("acme")] == [permanent]
        assert [receiver for receiver, _ in funded.send("acme")] == [permanent]


def test_connected_to_checks_the_receiver_against_the_contract(
    context: None, kit: SignalsKit
) -> None:
    """A test's receiver is checked like any other."""
    funded = kit.declare(stub)
    with (
        pytest.raises(ContractError, match="does not take 'amount'"),
        funded.connected_to(lambda account: None),  # type: ignore[arg-type]
    ):
        pytest.fail("the block must not run")
    with pytest.raises(ReceiverError), funded.connected_to("receive"):  # type: ignore[arg-type]
        pytest.fail("the block must not run")


@pytest.mark.parametrize(
    "use",
    [
        lambda funded: funded.send("acme"),
        lambda funded: funded.send(),
        lambda funded: funded.send_robust("acme"),
        lambda funded: asyncio.run(funded.send_async("acme")),
        lambda funded: asyncio.run(funded.send_robust_async("acme")),
        lambda funded: funded.receivers,
        lambda funded: funded.has_receivers_for("acme"),
        lambda funded: funded.receivers_for("acme"),
        lambda funded: funded.muted().__enter__(),
        lambda funded: funded.connected_to(print).__enter__(),
    ],
)
def test_handle_outside_an_app_context_raises(use: Any) -> None:
    """The message names the signal and says to push a context."""
    with pytest.raises(AppContextError) as caught:
        use(SignalsKit().signal("account_funded"))
    message = str(caught.value)
    assert "'account_funded'" in message
    assert "outside an app context" in message
    assert "with app.app_context():" in message


def test_handle_connect_is_strong_and_concerns_every_app(kit: SignalsKit, app: Flask) -> None:
    """As with `kit.on`: a closure stays connected, in earlier and later apps."""
    funded = kit.signal("account_funded")

    def factory() -> None:
        funded.connect(lambda sender, **extra: "connected", priority=1)

        @funded.connect_via("acme")
        def receive(sender: Any) -> str:
            return "via"

    factory()
    later = Flask("later")
    kit.init_app(later)
    for each in (app, later):
        with each.app_context():
            assert [result for _, result in funded.send("acme")] == ["connected", "via"]
            assert [result for _, result in funded.send("other")] == ["connected"]


def test_handle_connect_can_be_weak(context: None, kit: SignalsKit) -> None:
    """With `weak=True` it does not keep the receiver alive."""
    funded = kit.signal("account_funded")

    def factory() -> None:
        funded.connect(lambda sender, **extra: "connected", weak=True)
        funded.connect_via("acme", weak=True)(lambda sender: "via")

    factory()
    assert funded.send("acme") == []


def test_handle_connect_works_as_a_decorator(context: None, kit: SignalsKit) -> None:
    """It returns the receiver unchanged."""
    funded = kit.signal("account_funded")

    def receive(sender: Any, **extra: Any) -> None:
        pass

    assert funded.connect(receive) is receive
    assert funded.connect_via("acme")(receive) is receive


def test_handle_disconnect_concerns_every_app(kit: SignalsKit, app: Flask) -> None:
    """For one sender or for all, in existing and later apps."""
    funded = kit.signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    for sender in ("acme", "globex"):
        funded.connect(receive, sender)
    funded.disconnect(receive, "acme")
    later = Flask("later")
    kit.init_app(later)
    for each in (app, later):
        with each.app_context():
            assert funded.send("acme") == []
            assert funded.send("globex") == [(receive, None)]
    funded.disconnect(receive)
    funded.disconnect(print)
    for each in (app, later):
        with each.app_context():
            assert not funded.receivers


def test_app_handle_works_without_an_app_context(app: Flask, kit: SignalsKit) -> None:
    """`kit.for_app(app)` knows its app."""
    app_signals = kit.for_app(app)
    funded = app_signals.signal("account_funded")
    funded.connect(receive := lambda sender, **extra: sender)
    assert funded.send() == [(receive, app)]
    assert funded.send("acme") == [(receive, "acme")]
    assert app_signals.send("account_funded", "acme") == [(receive, "acme")]


def test_app_handle_does_not_affect_other_apps(app: Flask, kit: SignalsKit) -> None:
    """Another app of the kit knows nothing of it."""
    other = Flask("other")
    kit.init_app(other)
    funded = kit.for_app(app).declare(stub)
    funded.connect(lambda sender, **extra: None)
    assert funded.receivers
    with other.app_context():
        assert "stub" not in kit.namespace or not kit.namespace["stub"].receivers
    with pytest.raises(DeclarationError, match="another kit"):
        kit.for_app(other).on(funded)(lambda sender, **extra: None)


def test_app_handle_of_a_declared_name_has_the_kit_contract(
    app: Flask, kit: SignalsKit, context: None
) -> None:
    """`for_app(app).signal(name)` of a declared name does not hide the declaration."""
    funded = kit.declare(stub)
    here = kit.for_app(app).signal("stub")
    with pytest.raises(ContractError):
        funded.send("acme", amout=5)  # type: ignore[call-arg]
    with pytest.raises(ContractError):
        here.send("acme", amout=5)
    with pytest.raises(ContractError):
        kit.for_app(app).on("stub")(misfit_missing)
    kit.for_app(app).on(funded)(receive := lambda account, *, amount: amount)
    sent: list[Any] = [*funded.send("acme", amount=5)]
    assert sent == [(receive, 5)]


def test_app_cannot_change_the_policy_of_a_kit_signal(app: Flask, kit: SignalsKit) -> None:
    """It would have no effect; a stub of the app keeps the kit's policy and doc."""
    kit.signal("stub", "Money arrived.", on_error="group")
    app_signals = kit.for_app(app)
    with pytest.raises(DeclarationError, match="'stub' was declared for every app of the kit, at"):
        app_signals.signal("stub", on_error="isolate")
    assert app_signals.signal("stub", on_error="group").on_error == "group"
    own = app_signals.declare(stub)
    assert (own.on_error, app_signals.on_error("stub")) == ("group", "group")
    assert app_signals.signal("stub", on_error="isolate") is own
    assert app_signals.on_error("stub") == "isolate"


def test_app_cannot_declare_a_second_stub_of_a_kit_name(app: Flask, kit: SignalsKit) -> None:
    """A name has one stub, on the kit or on the app."""
    kit.declare(account_funded)

    def other() -> None:
        def account_funded(sender: object, *, amount: int) -> None:
            """Declare a second stub of the name."""

        kit.for_app(app).declare(account_funded)

    with pytest.raises(DeclarationError, match="declared twice"):
        other()
