"""Contracts: the payload of a send, and the signatures of receivers and predicates, are checked."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_signals_kit import (
    ContractError,
    DomainSignal,
    SignalsKit,
)
from tests.app.support import line_of, misfit_missing, misfit_no_sender, misfit_nothing, stub
from tests.support import make_app


def test_payload_is_checked_in_testing(context: None, kit: SignalsKit) -> None:
    """The message has missing and unknown names, the signal, the place and the declared names."""

    @kit.declare
    def account_funded(sender: object, *, amount: int, method: str = "card") -> None:
        """Money arrived."""

    kit.on(account_funded)(lambda account, **extra: None)
    account_funded.send("acme", amount=5)
    account_funded.send("acme", amount=5, method="wire")
    sends: list[Any] = [
        account_funded.send,
        account_funded.send_robust,
        functools.partial(kit.send, "account_funded"),
        lambda *a, **k: asyncio.run(account_funded.send_async(*a, **k)),
        lambda *a, **k: asyncio.run(account_funded.send_robust_async(*a, **k)),
    ]
    for send in sends:
        with pytest.raises(ContractError) as caught:
            send("acme", amout=5)
        message = str(caught.value)
        assert "'account_funded'" in message
        assert "without 'amount'" in message
        assert "unknown 'amout'" in message
        assert "'amount', 'method'" in message
        assert __file__ in message


def test_payload_is_checked_without_receivers(context: None, kit: SignalsKit) -> None:
    """The mistake is the sender's."""

    @kit.declare
    def account_funded(sender: object, *, amount: int) -> None:
        """Money arrived."""

    with pytest.raises(ContractError):
        account_funded.send("acme", amout=5)  # type: ignore[call-arg]


def test_open_stub_accepts_undeclared_names(context: None, kit: SignalsKit) -> None:
    """`**extra` in the stub means that a send may pass more."""

    @kit.declare
    def account_funded(sender: object, /, *, amount: int, **extra: object) -> None:
        """Money arrived."""

    account_funded.send("acme", amount=5, note="thanks")
    with pytest.raises(ContractError, match="without 'amount'"):
        account_funded.send("acme", note="thanks")  # type: ignore[call-arg]


def test_message_for_a_stub_without_payload_says_that_it_is_empty(
    context: None, kit: SignalsKit
) -> None:
    """The message has no hole in it."""

    @kit.declare
    def books_closed(sender: object) -> None:
        """Close the books of the month."""

    books_closed.send("acme")
    with pytest.raises(ContractError, match=r"unknown 'month'.*payload is empty"):
        books_closed.send("acme", month=5)  # type: ignore[call-arg]


def test_payload_is_checked_although_the_signal_is_muted(context: None, kit: SignalsKit) -> None:
    """By a block, or everywhere; as in a capture that runs no receivers."""
    funded = kit.declare(stub)
    kit.on(funded)(lambda account, **extra: None)
    with funded.muted():
        with pytest.raises(ContractError):
            funded.send("acme")  # type: ignore[call-arg]
        with pytest.raises(ContractError):
            funded.send_robust("acme")  # type: ignore[call-arg]
        assert funded.send("acme", amount=5) == []
    kit.namespace.signal(funded.name).is_muted = True
    with pytest.raises(ContractError):
        funded.send("acme")  # type: ignore[call-arg]
    assert funded.send("acme", amount=5) == []


def test_payload_is_not_checked_in_production() -> None:
    """Production does not pay for what tests have found, unless the setting says so."""
    for config, checked in [({}, False), ({"SIGNALS_KIT_VALIDATE": True}, True)]:
        app = Flask("shop")
        app.config.update(config)
        kit = SignalsKit(app)
        funded = kit.declare(stub)
        with app.app_context():
            if checked:
                with pytest.raises(ContractError):
                    funded.send("acme")  # type: ignore[call-arg]
            else:
                assert funded.send("acme") == []  # type: ignore[call-arg]


@pytest.mark.parametrize("switch", ["testing", "debug"])
def test_testing_and_debug_set_after_init_app_enable_the_check(switch: str) -> None:
    """The first pushed context applies them."""
    app = Flask("shop")
    kit = SignalsKit(app)
    funded = kit.declare(stub)
    setattr(app, switch, True)
    with app.app_context(), pytest.raises(ContractError):
        funded.send("acme")  # type: ignore[call-arg]


def test_setting_disables_the_check_in_testing() -> None:
    """`SIGNALS_KIT_VALIDATE` overrides `TESTING`."""
    kit = SignalsKit()
    app = make_app(kit, TESTING=True, SIGNALS_KIT_VALIDATE=False)
    funded = kit.declare(stub)
    with app.app_context():
        assert funded.send("acme") == []  # type: ignore[call-arg]


FITTING: list[Any] = [
    lambda account, *, amount: None,
    lambda account, amount: None,
    lambda account, **extra: None,
    lambda account, /, **extra: None,
    lambda account, *, amount, method="card": None,
    lambda account, *, amount=None, **extra: None,
    lambda *everything, **extra: None,
    lambda amount, /, **extra: None,
    functools.partial(lambda prefix, account, *, amount: None, "prefix"),
    print,
    dict,
]


@pytest.mark.parametrize("receiver", FITTING)
def test_receiver_that_accepts_the_payload_is_connected(
    context: None, kit: SignalsKit, receiver: Any
) -> None:
    """By keyword, by position or keyword, or by `**`: whatever a call would accept."""
    funded = kit.declare(stub)
    if receiver in (print, dict):  # their signatures cannot be read, or say nothing
        receiver = functools.partial(lambda builtin, *a, **k: builtin, receiver)
    kit.on(funded)(receiver)
    assert len(funded.send("acme", amount=5)) == 1


def misfit_unknown(account: Any, *, amount: int, method: str) -> None:
    """Need more than is sent."""


def misfit_second(account: Any, other: Any, /, **extra: Any) -> None:
    """Need two positional arguments."""


def misfit_name(amount: Any, **extra: Any) -> None:
    """Name the sender like one of the payload."""


def misfit_positional(account: Any, amount: int, /) -> None:
    """Take the payload by position."""


@pytest.mark.parametrize(
    ("receiver", "parameter", "fix"),
    [
        (misfit_no_sender, "sender", "def receiver(sender, **extra)"),
        (misfit_nothing, "sender", "def receiver(sender, **extra)"),
        (misfit_missing, "'amount'", "add **extra"),
        (misfit_unknown, "'method'", "not in the payload"),
        (misfit_second, "'other'", "only the sender is one"),
        (misfit_name, "'amount'", "rename it, or put a '/' after it"),
        (misfit_positional, "'amount'", "add **extra"),
    ],
)
def test_receiver_that_does_not_accept_the_payload_is_refused(
    context: None, kit: SignalsKit, receiver: Any, parameter: str, fix: str
) -> None:
    """The message has receiver, file and line, signal, parameter and fix."""
    funded = kit.declare(stub)
    for connect in (kit.on(funded), kit.on("st*"), funded.connect):
        with pytest.raises(ContractError) as caught:
            connect(receiver)
        message = str(caught.value)
        assert f"{receiver.__name__} ({line_of(receiver)})" in message
        assert "'stub'" in message or "'st*'" in message
        assert line_of(stub) in message or parameter == "sender"
        assert parameter in message
        assert fix in message
    assert not funded.receivers


def test_optional_payload_needs_a_default_in_the_receiver(context: None, kit: SignalsKit) -> None:
    """A payload with a default in the stub needs one in the receiver."""

    @kit.declare
    def account_funded(sender: object, *, amount: int, method: str = "card") -> None:
        """Money arrived."""

    with pytest.raises(ContractError, match=r"'method', which a send may omit.*default"):

        @kit.on(account_funded)  # type: ignore[arg-type]
        def wrong(account: Any, *, amount: int, method: str) -> None:
            pass

    @kit.on(account_funded)
    def right(account: Any, *, amount: int, method: str = "card") -> str:
        return method

    sent: list[Any] = [*account_funded.send("acme", amount=5)]
    assert sent == [(right, "card")]


def test_receiver_of_an_open_stub_needs_extra_keywords(context: None, kit: SignalsKit) -> None:
    """Undeclared names in a send would break a receiver without `**extra`."""

    @kit.declare
    def account_funded(sender: object, /, *, amount: int, **extra: object) -> None:
        """Money arrived."""

    with pytest.raises(ContractError, match=r"add \*\*extra"):

        @kit.on(account_funded)  # type: ignore[arg-type]
        def wrong(account: Any, *, amount: int) -> None:
            pass


def test_declaration_checks_receivers_connected_before() -> None:
    """As soon as both are known, with and without an app, by name and by glob."""
    for target in ("stub", "st*"):
        kit = SignalsKit()
        kit.on(target)(misfit_missing)
        with pytest.raises(ContractError) as caught:
            kit.declare(stub)
        assert line_of(misfit_missing) in str(caught.value)
        assert line_of(stub) in str(caught.value)


def test_declaration_checks_receivers_of_one_app_connected_before(
    app: Flask, kit: SignalsKit
) -> None:
    """Receivers connected with `for_app` are included."""
    kit.for_app(app).on("stub")(misfit_missing)
    with pytest.raises(ContractError, match="misfit_missing"):
        kit.declare(stub)


def test_declaration_checks_predicates_connected_before() -> None:
    """A predicate is called with the same arguments as its receiver."""
    for target in ("stub", "st*"):
        kit = SignalsKit()
        kit.on(target, when=misfit_missing)(lambda account, **extra: None)
        with pytest.raises(ContractError, match=r"Predicate .*misfit_missing"):
            kit.declare(stub)


@pytest.mark.parametrize("target", ["stub", "st*"])
def test_app_declaration_and_kit_receivers_are_checked_in_either_order(
    app: Flask, kit: SignalsKit, target: str
) -> None:
    """The kit's receivers are connected in the app, so they must accept its payload."""
    other = Flask("other")
    kit.init_app(other)
    kit.on(target)(misfit_missing)
    with pytest.raises(ContractError, match="misfit_missing"):
        kit.for_app(app).declare(stub)
    kit.disconnect(misfit_missing)
    kit.for_app(app).declare(stub)
    with pytest.raises(ContractError, match="misfit_missing"):
        kit.on(target)(misfit_missing)
    with pytest.raises(ContractError, match=r"Predicate .*misfit_missing"):
        kit.on(target, when=misfit_missing)(lambda account, **extra: None)
    kit.for_app(other).on(target)(misfit_missing)


def test_app_receivers_are_checked_against_the_app_stub_alone(app: Flask, kit: SignalsKit) -> None:
    """The kit's receivers are checked against both stubs."""
    app_signals = kit.for_app(app)

    @app_signals.declare
    def account_opened(account: object, *, amount: int) -> None:
        """Say that an account is there, in one app."""

    app_signals.on("account_opened")(lambda account, *, amount: None)

    def say_otherwise() -> DomainSignal[object, ..., Any]:
        def account_opened(account: object, *, owner: str) -> None:
            """Say that an account is there, in every app."""

        return kit.declare(account_opened)

    say_otherwise()
    with pytest.raises(ContractError, match="'amount'"):
        kit.on("account_opened")(lambda account, *, owner: None)
    with pytest.raises(ContractError, match="'owner'"):
        kit.on("account_opened")(lambda account, *, amount: None)
    kit.on("account_opened")(lambda account, **payload: None)


def test_receivers_of_flask_signals_are_checked(kit: SignalsKit) -> None:
    """The payloads of Flask's signals are known."""
    with pytest.raises(ContractError) as caught:
        kit.on("request_finished")(misfit_missing)
    assert "'request_finished'" in str(caught.value)
    assert "'response'" in str(caught.value)
    kit.on("request_started")(misfit_missing)


def test_methods_are_checked_without_self(kit: SignalsKit) -> None:
    """`self` is not a parameter of the contract."""
    funded = kit.declare(stub)

    class Ledger:
        def note(self, account: Any, *, amount: int) -> None:
            pass

        def wrong(self, account: Any) -> None:
            pass

        def __call__(self, account: Any, *, amount: int) -> None:
            pass

    ledger = Ledger()
    kit.on(funded)(ledger.note)
    kit.on(funded)(ledger)
    with pytest.raises(ContractError, match=r"Ledger\.wrong"):
        kit.on(funded)(ledger.wrong)  # type: ignore[arg-type]


def test_decorated_receiver_is_checked_by_the_decorators_signature(
    app: Flask, kit: SignalsKit
) -> None:
    """The called object is checked, not the one in `__wrapped__`."""
    funded = kit.declare(stub)

    def inject(receiver: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(receiver)
        def call(sender: Any, **payload: Any) -> str:
            return receiver(sender, mailer="the mailer")

        return call

    def unwilling(receiver: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(receiver)
        def call(sender: Any) -> str:
            return receiver(sender, amount=1)

        return call

    @kit.on(funded)
    @inject
    def by_mail(account: Any, *, mailer: str) -> str:
        return mailer

    with app.app_context():
        assert funded.send("acme", amount=1) == [(by_mail, "the mailer")]

    def fitting(account: Any, *, amount: int) -> str:
        return "fine inside"

    with pytest.raises(ContractError, match=r"fitting .*does not take 'amount'"):
        kit.on(funded)(unwilling(fitting))


@pytest.mark.parametrize("declared", [True, False])
def test_method_connected_in_its_class_body_is_refused(kit: SignalsKit, declared: bool) -> None:
    """There is no instance yet; the sender would be passed as `self`."""
    if declared:
        kit.declare(stub)

    with pytest.raises(ContractError) as caught:

        class Ledger:
            @kit.on("stub")
            def note(self, account: Any, **extra: Any) -> None:
                pass

    assert "Ledger.note" in str(caught.value)
    assert "the sender would become its self" in str(caught.value)
    assert "kit.on(...)(instance.method)" in str(caught.value)
