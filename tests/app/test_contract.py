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


def test_a_payload_is_checked_while_testing(context: None, kit: SignalsKit) -> None:
    """A missing and an unknown name are both said, with signal, place and what is declared."""

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


def test_a_payload_is_checked_even_if_nobody_listens(context: None, kit: SignalsKit) -> None:
    """The mistake is the sender's."""

    @kit.declare
    def account_funded(sender: object, *, amount: int) -> None:
        """Money arrived."""

    with pytest.raises(ContractError):
        account_funded.send("acme", amout=5)  # type: ignore[call-arg]


def test_an_open_stub_takes_other_names_as_well(context: None, kit: SignalsKit) -> None:
    """`**extra` in the stub means that a send may pass more."""

    @kit.declare
    def account_funded(sender: object, /, *, amount: int, **extra: object) -> None:
        """Money arrived."""

    account_funded.send("acme", amount=5, note="thanks")
    with pytest.raises(ContractError, match="without 'amount'"):
        account_funded.send("acme", note="thanks")  # type: ignore[call-arg]


def test_a_stub_without_payload_says_that_it_is_empty(context: None, kit: SignalsKit) -> None:
    """The message has no hole in it."""

    @kit.declare
    def books_closed(sender: object) -> None:
        """Close the books of the month."""

    books_closed.send("acme")
    with pytest.raises(ContractError, match=r"unknown 'month'.*payload is empty"):
        books_closed.send("acme", month=5)  # type: ignore[call-arg]


def test_a_payload_is_not_checked_in_production() -> None:
    """Nothing is paid there for what tests have found, unless the setting says so."""
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
def test_testing_and_debug_that_are_set_after_init_app_count(switch: str) -> None:
    """What follows them is settled when the first context is pushed."""
    app = Flask("shop")
    kit = SignalsKit(app)
    funded = kit.declare(stub)
    setattr(app, switch, True)
    with app.app_context(), pytest.raises(ContractError):
        funded.send("acme")  # type: ignore[call-arg]


def test_validation_can_be_switched_off_for_tests() -> None:
    """The setting wins over `TESTING`."""
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
def test_a_receiver_that_can_take_the_payload_is_connected(
    context: None, kit: SignalsKit, receiver: Any
) -> None:
    """By name, by position-or-name, by `**`: whatever a call would accept."""
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
    """Call the sender like one of the payload."""


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
def test_a_receiver_that_cannot_take_the_payload_is_refused(
    context: None, kit: SignalsKit, receiver: Any, parameter: str, fix: str
) -> None:
    """Receiver, file and line, the signal, the parameter and the way out are in the message."""
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


def test_a_receiver_must_do_without_what_a_send_may_leave_out(
    context: None, kit: SignalsKit
) -> None:
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


def test_a_receiver_of_an_open_stub_must_take_extra_names(context: None, kit: SignalsKit) -> None:
    """What a send may pass besides would break a receiver without `**extra`."""

    @kit.declare
    def account_funded(sender: object, /, *, amount: int, **extra: object) -> None:
        """Money arrived."""

    with pytest.raises(ContractError, match=r"add \*\*extra"):

        @kit.on(account_funded)  # type: ignore[arg-type]
        def wrong(account: Any, *, amount: int) -> None:
            pass


def test_a_receiver_connected_before_the_declaration_is_checked_with_it() -> None:
    """As soon as both are known, with and without an app, by name and by glob."""
    for target in ("stub", "st*"):
        kit = SignalsKit()
        kit.on(target)(misfit_missing)
        with pytest.raises(ContractError) as caught:
            kit.declare(stub)
        assert line_of(misfit_missing) in str(caught.value)
        assert line_of(stub) in str(caught.value)


def test_a_receiver_of_one_app_is_checked_with_a_later_declaration(
    app: Flask, kit: SignalsKit
) -> None:
    """What was connected with `for_app` is known, too."""
    kit.for_app(app).on("stub")(misfit_missing)
    with pytest.raises(ContractError, match="misfit_missing"):
        kit.declare(stub)


def test_a_predicate_connected_before_the_declaration_is_checked_with_it() -> None:
    """It gets what the receiver gets."""
    for target in ("stub", "st*"):
        kit = SignalsKit()
        kit.on(target, when=misfit_missing)(lambda account, **extra: None)
        with pytest.raises(ContractError, match=r"Predicate .*misfit_missing"):
            kit.declare(stub)


@pytest.mark.parametrize("target", ["stub", "st*"])
def test_an_apps_declaration_and_the_kits_receivers_are_checked_in_either_order(
    app: Flask, kit: SignalsKit, target: str
) -> None:
    """The kit's receivers are connected in the app, so they must fit."""
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


def test_an_app_with_a_stub_of_its_own_needs_not_fit_the_kits(app: Flask, kit: SignalsKit) -> None:
    """Its receivers go by its stub; the kit's, which are connected there as well, by both."""
    half = kit.for_app(app)

    @half.declare
    def account_opened(account: object, *, amount: int) -> None:
        """Say that an account is there, in one app."""

    half.on("account_opened")(lambda account, *, amount: None)

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


def test_a_receiver_of_flasks_signals_is_checked_like_a_contract(kit: SignalsKit) -> None:
    """What Flask passes is known."""
    with pytest.raises(ContractError) as caught:
        kit.on("request_finished")(misfit_missing)
    assert "'request_finished'" in str(caught.value)
    assert "'response'" in str(caught.value)
    kit.on("request_started")(misfit_missing)


def test_methods_are_checked_by_their_own_signature(kit: SignalsKit) -> None:
    """`self` does not count."""
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


def test_a_decorator_may_add_and_take_away_what_a_receiver_gets(
    app: Flask, kit: SignalsKit
) -> None:
    """What is called is what counts, and not what `functools.wraps` says is inside."""
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
def test_a_method_connected_in_the_body_of_its_class_is_refused(
    kit: SignalsKit, declared: bool
) -> None:
    """There is no instance yet, and the sender would become its `self`."""
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
