"""`kit.on` and `kit.disconnect`: what they accept, and what is connected afterwards."""

import gc
import weakref
from functools import partial
from typing import Any, cast

import blinker
import pytest
from flask import Flask, current_app

from flask_signals_kit import (
    AfterCommit,
    AppContextError,
    ConfigurationError,
    ContractError,
    DeclarationError,
    DuplicateReceiverError,
    Namespace,
    ReceiverError,
    Signal,
    SignalsKit,
    UnknownSignalError,
)
from tests.support import campaign_created, make_app, results, send_mail, write_down


def test_connections_made_before_and_after_init_app_run_in_connection_order(
    kit: SignalsKit,
) -> None:
    """Order is connection order, whenever the app came."""
    kit.on("account_funded")(lambda sender: "before")
    app = make_app(kit)
    kit.on("account_funded")(lambda sender: "after")
    later = make_app(kit, "later")
    assert results(kit, app) == results(kit, later) == ["before", "after"]


def test_kit_and_app_receivers_run_in_connection_order(kit: SignalsKit, app: Flask) -> None:
    """The earlier connection runs first, whether it was made on the kit or on the app."""
    kit.for_app(app).on("account_funded")(lambda sender: 1)
    kit.on("account_funded")(lambda sender: 2)
    kit.for_app(app).on("account_funded")(lambda sender: 3)
    assert results(kit, app) == [1, 2, 3]


def test_on_returns_the_function_unchanged(kit: SignalsKit, app: Flask) -> None:
    """It stays a plain function, and may have several decorators."""

    def receive(sender: Any, **extra: Any) -> str:
        return "called"

    assert kit.on("account_funded", "campaign_created", priority=2)(receive) is receive
    assert results(kit, app) == results(kit, app, "campaign_created") == ["called"]


def test_same_function_connects_once(kit: SignalsKit, app: Flask) -> None:
    """Connecting it again changes its options and nothing else."""

    def receive(sender: Any, **extra: Any) -> str:
        return "receive"

    kit.on("account_funded")(receive)
    kit.on("account_funded")(lambda sender: "other")
    kit.on("account_funded")(receive)
    kit.for_app(app).on("account_funded")(receive)
    assert results(kit, app) == ["receive", "other"]
    kit.for_app(app).on("account_funded", priority=-1)(receive)
    assert results(kit, app) == ["other", "receive"]


def test_closure_connected_for_an_app_is_freed_with_it(kit: SignalsKit) -> None:
    """A factory's closures are held strongly for as long as the app exists."""

    def create_app() -> tuple[Flask, weakref.ref[Any]]:
        app = make_app(kit)

        @kit.for_app(app).on("account_funded")
        def receive(sender: Any) -> str:
            return "closure"

        return app, weakref.ref(receive)

    app, receiver = create_app()
    assert results(kit, app) == ["closure"]
    del app
    gc.collect()
    assert receiver() is None


def test_weak_receiver_is_disconnected_when_collected(kit: SignalsKit, app: Flask) -> None:
    """With `weak=True` the kit holds them in no app, now or later."""

    def receive(sender: Any) -> str:
        return "weak"

    kit.on("account_funded", weak=True)(receive)
    kit.for_app(app).on("campaign_created", weak=True)(receive)
    assert results(kit, app) == ["weak"]
    del receive
    gc.collect()
    assert results(kit, app) == results(kit, make_app(kit, "later")) == []
    assert results(kit, app, "campaign_created") == []


class Slotted:
    """A receiver that takes no weak reference."""

    __slots__ = ()

    def __call__(self, *args: Any, **payload: Any) -> None:
        assert args, "called without a sender"

    def receive(self, *args: Any, **payload: Any) -> None:
        """Be a method of one."""
        self(*args)


class Spoken(str):
    """Text that can be called."""

    __slots__ = ()
    __call__ = Slotted.__call__


@pytest.mark.parametrize("receiver", [Slotted(), Slotted().receive, Spoken("hello")])
@pytest.mark.parametrize("early", [True, False])
def test_receiver_without_weak_reference_support_is_refused(
    kit: SignalsKit, receiver: Any, early: bool
) -> None:
    """As by a signal, and before there is an app as well; it is not called to find out."""
    if not early:
        make_app(kit)
    with pytest.raises(ReceiverError, match=r"'account_funded' weakly: .* weak=False"):
        kit.on("account_funded", weak=True)(receiver)
    kit.declare(account_funded_by_any_sender)
    kit.on("account_funded_by_any_sender", sender=Slotted())(receiver)
    assert results(kit, make_app(kit, "later")) == []


def account_funded_by_any_sender(sender: object) -> None:
    """Be a declaration."""


def test_connecting_a_strong_receiver_weakly_keeps_it_strong(kit: SignalsKit, app: Flask) -> None:
    """In existing apps and in later ones."""

    def factory() -> None:
        def receive(sender: Any) -> str:
            return "here"

        kit.on("account_funded")(receive)
        kit.on("account_funded", weak=True)(receive)

    factory()
    gc.collect()
    assert results(kit, app) == results(kit, make_app(kit, "later")) == ["here"]


def test_sender_filter_holds_its_sender_weakly(kit: SignalsKit, app: Flask) -> None:
    """A receiver limited to a collected object is disconnected."""

    class Account:
        pass

    acme = Account()
    kit.on("account_funded", sender=acme)(lambda sender: "acme")
    assert results(kit, app, sender=acme) == ["acme"]
    assert results(kit, app, sender=Account()) == []
    freed = weakref.ref(acme)
    del acme
    gc.collect()
    assert freed() is None
    assert not kit.for_app(make_app(kit, "later")).namespace.signal("account_funded").receivers


def test_current_app_as_sender_filter_is_unwrapped(kit: SignalsKit, app: Flask) -> None:
    """Within a context the proxy is unwrapped; sends of another app do not reach it."""
    other = make_app(kit, "other")
    with app.app_context():
        kit.on("account_funded", sender=current_app)(lambda sender: "mine")
        assert [result for _, result in kit.send("account_funded")] == ["mine"]
        assert [result for _, result in kit.send("account_funded", current_app)] == ["mine"]
    assert results(kit, other, sender=None) == []


def test_on_with_current_app_outside_a_context_is_refused(kit: SignalsKit) -> None:
    """The message names the receiver, the reason and both ways out."""
    with pytest.raises(AppContextError) as caught:
        kit.on("account_funded", sender=current_app)(results)
    message = str(caught.value)
    assert "results" in message
    assert results.__code__.co_filename in message
    assert "LocalProxy outside an app context" in message
    assert "kit.for_app(app)" in message


def test_rejected_connection_connects_none_of_the_signals(kit: SignalsKit, app: Flask) -> None:
    """Of several signals one does not fit: none is connected."""
    kit.declare(campaign_created)
    with pytest.raises(ContractError):
        kit.on("account_funded", "campaign_created")(lambda sender: None)
    assert results(kit, app) == []
    assert results(kit, make_app(kit, "later")) == []


def fail(sender: object, **extra: object) -> None:
    """Raise."""
    raise ValueError("boom")


@pytest.mark.parametrize("when", ["before", "after"])
def test_receiver_policy_applies_in_every_app(when: str) -> None:
    """However it is connected, before and after `init_app`; one without it raises."""
    kit = SignalsKit()
    apps = [make_app(kit)] if when == "after" else []
    account_funded = kit.signal("account_funded")
    kit.on("account_*", on_error="isolate")(fail)
    account_funded.connect(partial(fail), on_error="isolate")
    account_funded.connect(lambda sender: "fine")
    for app in apps or [make_app(kit)]:
        kit.for_app(app).on("account_funded", on_error="isolate")(partial(fail))
        assert results(kit, app) == ["fine"]
        kit.on("account_funded", priority=-1)(fail)  # by its name, it follows the signal
        with pytest.raises(ValueError, match="boom"):
            results(kit, app)


def test_receiver_policy_overrides_signal_and_app_policy() -> None:
    """Per receiver over signal over app."""
    kit = SignalsKit()
    app = make_app(kit, SIGNALS_KIT_ON_ERROR="isolate")
    kit.signal("account_funded", on_error="group")
    kit.on("account_funded")(fail)
    with pytest.raises(ExceptionGroup):
        results(kit, app)
    kit.on("account_funded", on_error="raise")(fail)
    with pytest.raises(ValueError, match="boom"):
        results(kit, app)


def test_failure_isolated_by_receiver_policy_reaches_exception_hooks(
    kit: SignalsKit, app: Flask
) -> None:
    """As one of a signal that isolates does."""
    told: list[Any] = []
    kit.on_exception(
        lambda app, error, *, source, receiver, **extra: told.append((source, receiver))
    )
    kit.on("account_funded", on_error="isolate")(fail)
    assert results(kit, app) == []
    assert told == [("receiver", fail)]


def test_unknown_receiver_policy_is_refused(kit: SignalsKit, app: Flask) -> None:
    """By the kit as by a signal, and nothing is connected."""
    for connect in (kit.on, kit.for_app(app).on):
        with pytest.raises(DeclarationError, match=r"fail \(.*on_error='ignore'; use one of"):
            connect("account_funded", on_error="ignore")(fail)  # type: ignore[call-overload]
    assert results(kit, app) == []


def test_disconnect_accepts_what_on_accepts(kit: SignalsKit, app: Flask) -> None:
    """What was connected by name, glob, handle or blinker signal, ends by the same."""
    account_closed = kit.signal("account_closed")
    theirs = blinker.NamedSignal("invoice-paid")
    app_signals = kit.for_app(app)
    for api in (kit, app_signals):
        api.on("campaign_*", "request_started", theirs, account_closed)(write_down)
        ends: list[tuple[Any, str]] = [
            ("campaign_*", "campaign_created"),
            ("request_started", "request_started"),
            (theirs, "invoice_paid"),
            (account_closed if api is kit else "account_closed", "account_closed"),
        ]
        for target, name in ends:
            assert results(kit, app, name, app) == ["written down"]
            api.disconnect(write_down, target)
            assert results(kit, app, name, app) == []


def test_disconnect_can_be_limited_to_a_signal_and_a_sender(kit: SignalsKit, app: Flask) -> None:
    """Without a signal, all connections of the receiver end; other receivers stay."""
    kit.on("account_*", "campaign_created")(write_down)
    kit.on("account_*")(send_mail)
    kit.on("price_changed", sender="EUR")(write_down)
    kit.on("price_changed", sender="USD")(write_down)
    kit.disconnect(write_down, sender="EUR")
    assert results(kit, app, "price_changed", "EUR") == []
    assert results(kit, app, "price_changed", "USD") == ["written down"]
    kit.disconnect(write_down, "account_funded")
    assert results(kit, app) == ["written down", "mailed"]
    kit.disconnect(write_down)
    assert results(kit, app) == ["mailed"]
    assert results(kit, app, "campaign_created") == []
    assert results(kit, app, "price_changed", "USD") == []
    assert results(kit, make_app(kit, "later")) == ["mailed"]


def test_disconnect_ignores_what_is_not_connected(kit: SignalsKit, app: Flask) -> None:
    """A third-party signal is not bridged for it."""
    kit.disconnect(write_down)
    kit.disconnect(write_down, "account_funded", "*", blinker.NamedSignal("invoice-lost"))
    assert "invoice_lost" not in kit.for_app(app).namespace
    with pytest.raises(DeclarationError, match="not a valid signal name"):
        kit.disconnect(write_down, "account-funded")


def test_on_without_a_signal_is_refused(kit: SignalsKit) -> None:
    """`@kit.on` and `@kit.on()` lack the signal; the message shows the right form."""
    for use in (lambda: kit.on(results), kit.on):  # type: ignore[call-overload]
        with pytest.raises(ReceiverError, match=r"@kit\.on\('account_funded'\)"):
            use()  # type: ignore[call-overload]


@pytest.mark.parametrize("thing", [3, None, ["account_funded"], blinker.Namespace()])
def test_on_refuses_non_signals(kit: SignalsKit, thing: Any) -> None:
    """The message names the object by its type, and the accepted types."""
    with pytest.raises(DeclarationError, match="name, a glob, a handle or a blinker signal"):
        kit.on(thing)(results)


def test_on_refuses_non_callables(kit: SignalsKit) -> None:
    """The message names type, signal and fix."""
    with pytest.raises(ReceiverError) as caught:
        kit.on("account_funded")("receive")  # type: ignore[type-var]
    assert "str" in str(caught.value)
    assert "'account_funded'" in str(caught.value)
    assert "not callable" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "error", "words"),
    [
        ({"when": True}, ReceiverError, ["when=bool", "when(sender, **payload)"]),
        ({"priority": "high"}, ReceiverError, ["priority=str", "integer"]),
        ({"priority": 1.5}, ReceiverError, ["priority=float", "integer"]),
        ({"delivery": "imediate"}, ConfigurationError, ["'imediate'", "'immediate'"]),
        ({"delivery": object()}, ConfigurationError, ["object", "deliver(call)"]),
    ],
)
def test_on_refuses_bad_options(
    kit: SignalsKit, option: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    """At once, with what was given and what is expected."""
    with pytest.raises(error) as caught:
        kit.on("account_funded", **option)(results)
    for word in words:
        assert word in str(caught.value)


def test_on_refuses_async_predicate(kit: SignalsKit) -> None:
    """Its coroutine would always be truthy, and would never be awaited."""

    async def active(sender: Any, **payload: Any) -> bool:
        return False

    with pytest.raises(ReceiverError, match="async"):
        kit.on("account_funded", when=active)(results)


def test_on_bridges_a_blinker_signal(kit: SignalsKit, app: Flask) -> None:
    """It is bridged under its name, and the receiver gets what is sent there."""
    paid = blinker.NamedSignal("invoice-paid")
    kit.on(paid)(receive := lambda sender, **extra: f"paid by {sender}")
    with app.app_context():
        assert [result for _, result in paid.send("acme")] == ["paid by acme"]
        assert kit.send("invoice_paid", "acme") == [(receive, "paid by acme")]


def test_on_bridges_a_kit_signal_outside_an_app(kit: SignalsKit, app: Flask) -> None:
    """The kit's own `Signal` used without an app is a blinker signal like any other."""
    paid = Namespace().signal("invoice_paid")
    seen: list[Any] = []
    kit.on(paid)(lambda sender, **extra: seen.append(sender))
    with app.app_context():
        paid.send("acme")
    assert seen == ["acme"]


def test_on_accepts_a_signal_of_the_app_namespace(kit: SignalsKit, app: Flask) -> None:
    """It stands for its name."""
    funded = kit.for_app(app).namespace.signal("account_funded")
    assert isinstance(funded, Signal)
    kit.on(funded)(lambda sender: "called")
    assert results(kit, app) == ["called"]


def test_kit_and_app_connections_of_a_receiver_are_disconnected_separately(
    kit: SignalsKit, app: Flask
) -> None:
    """Disconnecting one leaves the other."""

    def receive(sender: Any, **extra: Any) -> str:
        return "called"

    app_signals = kit.for_app(app)
    kit.on("account_funded")(receive)
    app_signals.on("account_funded")(receive)
    app_signals.disconnect(receive, "account_funded")
    assert results(kit, app) == ["called"]
    app_signals.on("account_funded")(receive)
    kit.disconnect(receive, "account_funded")
    assert results(kit, app) == ["called"]
    app_signals.disconnect(receive, "account_funded")
    assert results(kit, app) == []


def test_refused_on_leaves_existing_connections(kit: SignalsKit, app: Flask) -> None:
    """What it would have replaced is still connected, with its options."""

    def first(sender: Any, **extra: Any) -> str:
        return "first"

    def second(sender: Any, **extra: Any) -> str:
        return "second"

    kit.on("account_funded")(first)
    kit.for_app(app).on("account_funded", uid="ledger")(second)
    with pytest.raises(DuplicateReceiverError):
        kit.on("account_funded", uid="ledger", priority=3)(first)
    assert results(kit, app) == ["first", "second"]


def test_on_with_several_signals_connects_all_or_none() -> None:
    """In strict mode, one misspelt name prevents all connections."""
    kit = SignalsKit()
    kit.signal("account_funded")
    app = make_app(kit, SIGNALS_KIT_STRICT=True)
    with pytest.raises(UnknownSignalError):
        kit.on("account_funded", "acount_opened")(lambda sender, **extra: "called")
    assert results(kit, app) == []


def test_delivery_class_instead_of_instance_is_refused(kit: SignalsKit) -> None:
    """The message shows the missing parentheses."""
    with pytest.raises(ConfigurationError, match=r"write delivery=AfterCommit\(\)"):
        kit.on("account_funded", delivery=cast(Any, AfterCommit))(results)


def test_predicate_is_checked_against_the_contract(kit: SignalsKit) -> None:
    """It is called with the same arguments as the receiver."""

    @kit.declare
    def account_funded(sender: object, *, amount: int) -> None: ...

    with pytest.raises(ContractError, match=r"Predicate .* does not take 'amount'"):
        kit.on("account_funded", when=lambda account: True)(lambda account, **extra: None)
