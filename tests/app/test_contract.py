"""Declared signals: the handle, and the contract that its stub states."""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blinker import ANY
from flask import Flask, current_app

from flask_signals_kit import (
    AppContextError,
    ContractError,
    DeclarationError,
    DomainSignal,
    Failed,
    Ok,
    ReceiverError,
    SignalsKit,
    SignalsKitError,
)

if TYPE_CHECKING:
    from nowhere import Account  # type: ignore[import-not-found]  # no such module, on purpose


@pytest.fixture
def app() -> Flask:
    """Give an app under test, so that payloads are checked."""
    app = Flask("shop")
    app.testing = True
    return app


@pytest.fixture
def kit(app: Flask) -> SignalsKit:
    """Give the app's kit."""
    return SignalsKit(app)


@pytest.fixture
def context(app: Flask, kit: SignalsKit) -> Iterator[None]:
    """Have the app current."""
    with app.app_context():
        yield


def line_of(function: Any) -> str:
    """Return file and line of a function, as messages show them."""
    return f"{__file__}:{function.__code__.co_firstlineno}"


def test_declare_takes_name_doc_and_payload_from_the_stub(kit: SignalsKit) -> None:
    """One function says it all; its body never runs."""

    @kit.declare
    def account_funded(sender: object, *, amount: int, method: str = "card") -> None:
        """Money arrived in an account."""
        raise AssertionError("a stub's body never runs")

    assert isinstance(account_funded, DomainSignal)
    assert account_funded.name == "account_funded"
    assert account_funded.__doc__ == "Money arrived in an account."
    assert account_funded.contract is not None
    assert account_funded.contract.required == ("amount",)
    assert account_funded.contract.optional == ("method",)
    assert not account_funded.contract.open
    assert account_funded.place is not None
    assert account_funded.place.file == __file__
    assert repr(account_funded) == "<DomainSignal 'account_funded'>"


def test_declare_works_with_options_in_parentheses(kit: SignalsKit) -> None:
    """`@kit.declare(on_error=…)` is a decorator as well."""

    @kit.declare(on_error="isolate")
    def account_funded(sender: object, *, amount: int) -> None:
        """Money arrived."""

    assert account_funded.name == "account_funded"
    assert account_funded.on_error == "isolate"


def test_annotations_that_cannot_be_resolved_do_no_harm(kit: SignalsKit, context: None) -> None:
    """Names imported for type checkers alone are never looked up."""

    @kit.declare
    def account_funded(sender: Account, *, amount: Account) -> Account:
        """Money arrived."""
        raise NotImplementedError

    @kit.on(account_funded)
    def note(account: Account, *, amount: Account, **extra: Account) -> Account:
        return amount

    assert account_funded.send("acme", amount=5) == [(note, 5)]


def test_signal_declares_a_name_with_any_payload(kit: SignalsKit, context: None) -> None:
    """Without a stub everything may be sent; the same name gives the same handle."""
    created = kit.signal("campaign_created", "A campaign exists.")
    assert kit.signal("campaign_created", "Another doc.") is created
    assert created.__doc__ == "A campaign exists."
    assert created.contract is None
    assert created.place is not None
    assert created.place.file == __file__
    created.connect(receive := lambda sender, **payload: payload)
    assert created.send("acme", anything=5) == [(receive, {"anything": 5})]


def test_a_doc_may_come_later(kit: SignalsKit, context: None) -> None:
    """A name that was used before it was described gets the description."""
    created = kit.signal("campaign_created")
    assert [created.__doc__] == [None]
    kit.signal("campaign_created", "A campaign exists.")
    assert created.__doc__ == "A campaign exists."
    assert kit.namespace["campaign_created"].__doc__ == "A campaign exists."


def test_a_stub_may_follow_a_plain_declaration(kit: SignalsKit, context: None) -> None:
    """Handles that were given out before get the contract, too."""
    early = kit.signal("account_funded")

    @kit.declare
    def account_funded(sender: object, *, amount: int) -> None:
        """Money arrived."""

    assert account_funded is early
    with pytest.raises(ContractError):
        early.send("acme")


# -- sending --------------------------------------------------------------------------------------


def test_a_handle_sends_in_the_current_app(context: None, kit: SignalsKit) -> None:
    """By handle and by name: the same signal."""
    funded = kit.signal("account_funded")

    @kit.on("account_funded")
    def receive(sender: Any, **payload: Any) -> Any:
        return sender, payload

    assert funded.send("acme", amount=5) == [(receive, ("acme", {"amount": 5}))]
    assert kit.send("account_funded", "acme", amount=5) == funded.send("acme", amount=5)
    assert kit.send(funded, "acme", amount=5) == funded.send("acme", amount=5)


def test_without_a_sender_the_app_is_the_sender(context: None, kit: SignalsKit) -> None:
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
def test_a_falsy_sender_is_not_replaced_by_the_app(
    context: None, kit: SignalsKit, sender: Any
) -> None:
    """Only `None` means "the app"."""
    funded = kit.signal("account_funded")
    kit.on(funded)(receive := lambda sender, **extra: sender)
    assert funded.send(sender) == [(receive, sender)]
    assert kit.send("account_funded", sender) == [(receive, sender)]
    assert kit.send_robust("account_funded", sender)[0].value == sender  # type: ignore[union-attr]


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


def stub(sender: object, *, amount: int) -> None:
    """Money arrived."""


@pytest.mark.parametrize("switch", ["testing", "debug"])
def test_testing_and_debug_that_are_set_after_init_app_count(switch: str) -> None:
    """What follows them is settled when the first context is pushed."""
    app = Flask("shop")
    kit = SignalsKit(app)
    funded = kit.declare(stub)
    setattr(app, switch, True)
    with app.app_context(), pytest.raises(ContractError):
        funded.send("acme")  # type: ignore[call-arg]


def test_validation_can_be_switched_off_for_tests(app: Flask) -> None:
    """The setting wins over `TESTING`."""
    app.config["SIGNALS_KIT_VALIDATE"] = False
    kit = SignalsKit(app)
    funded = kit.declare(stub)
    with app.app_context():
        assert funded.send("acme") == []  # type: ignore[call-arg]


def test_a_second_positional_argument_is_refused(context: None, kit: SignalsKit) -> None:
    """The payload goes by name, and the message says so."""
    funded = kit.signal("account_funded")
    with pytest.raises(TypeError, match="positional"):
        funded.send("acme", 5)
    with pytest.raises(TypeError, match="positional"):
        funded.send_robust("acme", 5)


def test_every_way_to_send_refuses_it_with_the_same_words(context: None, kit: SignalsKit) -> None:
    """The twins are no less clear."""
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


def test_blinkers_wrappers_are_no_payload(context: None, kit: SignalsKit, app: Flask) -> None:
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


def test_a_question_for_no_sender_is_one_for_the_app(context: None, kit: SignalsKit) -> None:
    """`send()` has the app for a sender, so it is the app that is asked about."""
    funded = kit.signal("account_funded")
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    kit.on(funded, sender=app)(receive := lambda sender, **extra: sender)
    assert funded.send() == [(receive, app)]
    for sender in (None, current_app, app):
        assert funded.has_receivers_for(sender)
        assert [*funded.receivers_for(sender)] == [receive]
    assert not funded.has_receivers_for("acme")
    assert not funded.has_receivers_for(ANY)


def test_send_robust_gives_an_outcome_a_receiver(context: None, kit: SignalsKit) -> None:
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


def test_the_stubs_policy_wins_over_the_apps(app: Flask) -> None:
    """Per signal first, then `SIGNALS_KIT_ON_ERROR`."""
    app.config["SIGNALS_KIT_ON_ERROR"] = "isolate"
    kit = SignalsKit(app)
    by_app = kit.signal("by_app")
    by_signal = kit.signal("by_signal", on_error="group")

    @kit.on(by_app, by_signal)
    def fail(sender: Any) -> None:
        raise ValueError("boom")

    with app.app_context():
        assert by_app.send() == []
        with pytest.raises(ExceptionGroup):
            by_signal.send()


def test_a_policy_that_comes_later_reaches_apps_that_are_there(
    context: None, kit: SignalsKit
) -> None:
    """`kit.signal(name, on_error=…)` configures a signal that is in use."""
    funded = kit.signal("account_funded")

    @kit.on(funded)
    def fail(sender: Any) -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        funded.send()
    kit.signal("account_funded", on_error="isolate")
    assert funded.send() == []


# -- asking and trying ----------------------------------------------------------------------------


def test_a_handle_answers_for_the_current_app(kit: SignalsKit, app: Flask) -> None:
    """`receivers`, `has_receivers_for` and `receivers_for` look at one app only."""
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


def test_a_handles_muted_and_connected_to_concern_the_current_app(
    kit: SignalsKit, app: Flask
) -> None:
    """Another app hears what this one mutes, and not what it borrows."""
    other = Flask("other")
    kit.init_app(other)
    funded = kit.signal("account_funded")
    kit.on(funded)(heard := lambda sender: None)
    guest = lambda sender: None  # noqa: E731
    with app.app_context():
        with funded.muted():
            assert funded.send() == []
            with other.app_context():
                assert [receiver for receiver, _ in funded.send()] == [heard]
        with funded.connected_to(guest, sender="acme"):
            assert [receiver for receiver, _ in funded.send("acme")] == [heard, guest]
            assert [receiver for receiver, _ in funded.send("other")] == [heard]
            with other.app_context():
                assert [receiver for receiver, _ in funded.send("acme")] == [heard]
        assert [receiver for receiver, _ in funded.send("acme")] == [heard]


def test_connected_to_checks_its_receiver(context: None, kit: SignalsKit) -> None:
    """A test's receiver must fit like any other."""
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
def test_outside_an_app_context_a_handle_says_to_push_one(use: Any) -> None:
    """Signals belong to an app: the message names the signal and the way in."""
    with pytest.raises(AppContextError) as caught:
        use(SignalsKit().signal("account_funded"))
    message = str(caught.value)
    assert "'account_funded'" in message
    assert "outside an app context" in message
    assert "with app.app_context():" in message


# -- connecting -----------------------------------------------------------------------------------


def test_connect_on_a_handle_means_every_app_and_holds_strongly(
    kit: SignalsKit, app: Flask
) -> None:
    """As `kit.on` does: a closure stays, in apps before and after."""
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


def test_connect_on_a_handle_can_be_weak(context: None, kit: SignalsKit) -> None:
    """If asked, it does not keep the receiver."""
    funded = kit.signal("account_funded")

    def factory() -> None:
        funded.connect(lambda sender, **extra: "connected", weak=True)
        funded.connect_via("acme", weak=True)(lambda sender: "via")

    factory()
    assert funded.send("acme") == []


def test_connect_on_a_handle_works_as_a_decorator(context: None, kit: SignalsKit) -> None:
    """It returns the receiver unchanged."""
    funded = kit.signal("account_funded")

    def receive(sender: Any, **extra: Any) -> None:
        pass

    assert funded.connect(receive) is receive
    assert funded.connect_via("acme")(receive) is receive


def test_disconnect_on_a_handle_means_every_app(kit: SignalsKit, app: Flask) -> None:
    """For one sender or for all, now and for apps to come."""
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


def misfit_no_sender(*, amount: int) -> None:
    """Take no sender."""


def misfit_nothing() -> None:
    """Take nothing."""


def misfit_missing(account: Any) -> None:
    """Lack the payload."""


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

    with pytest.raises(ContractError, match=r"'method', which a send may leave out.*default"):

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


# -- what cannot be declared ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sender", "_async_wrapper", "_sync_wrapper"])
def test_a_reserved_payload_name_is_refused(kit: SignalsKit, name: str) -> None:
    """The message names stub, parameter, reason and all reserved names."""
    namespace: dict[str, Any] = {}
    exec(f"def account_funded(account, *, {name}): ...", namespace)
    with pytest.raises(DeclarationError) as caught:
        kit.declare(namespace["account_funded"])
    message = str(caught.value)
    assert "account_funded" in message
    assert repr(name) in message
    assert "rename it" in message
    assert "sender, _async_wrapper, _sync_wrapper" in message


def test_a_stub_without_a_sender_is_refused(kit: SignalsKit) -> None:
    """The message shows how it should look."""
    for wrong in (misfit_no_sender, misfit_nothing):
        with pytest.raises(DeclarationError) as caught:
            kit.declare(wrong)  # type: ignore[arg-type]
        assert line_of(wrong) in str(caught.value)
        assert f"def {wrong.__name__}(sender, *, amount)" in str(caught.value)


def test_a_positional_payload_is_refused(kit: SignalsKit) -> None:
    """The message names the parameter and where the star goes."""
    with pytest.raises(DeclarationError) as caught:

        @kit.declare
        def account_funded(sender: object, amount: int) -> None:
            """Money arrived."""

    assert "'amount'" in str(caught.value)
    assert "keyword-only" in str(caught.value)
    assert __file__ in str(caught.value)
    with pytest.raises(DeclarationError, match="'rest'"):

        @kit.declare
        def campaign_created(sender: object, *rest: int) -> None:
            """Create a campaign."""


@pytest.mark.parametrize("thing", ["account_funded", 3, functools.partial(stub)])
def test_what_is_no_function_is_no_stub(kit: SignalsKit, thing: Any) -> None:
    """The message says what to use instead."""
    with pytest.raises(DeclarationError) as caught:
        kit.declare(thing)
    assert type(thing).__name__ in str(caught.value)
    assert "signal(name, doc)" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "suggested"),
    [
        ("account-funded", "account_funded"),
        ("Account funded!", "account_funded"),
        ("", "account_funded"),
        ("3_accounts", "account_funded"),
        ("shop.", "shop"),
        (".shop", "shop"),
        (None, "account_funded"),
        (3, "account_funded"),
    ],
)
def test_a_name_that_is_no_identifier_is_refused(
    kit: SignalsKit, name: Any, suggested: str
) -> None:
    """The message shows the name, the rule, and a name that would do."""
    for use in (kit.signal, kit.send, lambda name: kit.on(name)(print)):
        with pytest.raises(SignalsKitError) as caught:
            use(name)
        message = str(caught.value)
        assert (repr(name) if isinstance(name, str) else type(name).__name__.lower()) in (
            message if isinstance(name, str) else message.lower() + " nonetype"
        )
        if use == kit.signal:
            assert isinstance(caught.value, DeclarationError)
            assert "identifier" in message
            assert repr(suggested) in message


def test_dotted_names_group_signals(context: None, kit: SignalsKit) -> None:
    """`billing.invoice_paid` is a name."""
    paid = kit.signal("billing.invoice_paid")
    paid.connect(receive := lambda sender: "paid")
    assert paid.send() == [(receive, "paid")]


def test_a_policy_that_does_not_exist_is_refused(kit: SignalsKit) -> None:
    """The message names signal, value, those that exist and the setting."""
    for declare in (
        lambda: kit.signal("account_funded", on_error="ignore"),  # type: ignore[arg-type]
        lambda: kit.declare(on_error="ignore")(account_funded),  # type: ignore[call-overload]
    ):
        with pytest.raises(DeclarationError) as caught:
            declare()
        message = str(caught.value)
        assert "'account_funded'" in message
        assert "'ignore'" in message
        assert "'raise', 'group', 'isolate'" in message
        assert "SIGNALS_KIT_ON_ERROR" in message


def account_funded(sender: object) -> None:
    """Money arrived."""


def test_a_name_has_one_stub(kit: SignalsKit) -> None:
    """A second one from elsewhere is refused with both places."""
    kit.declare(account_funded)

    def other() -> None:
        def account_funded(sender: object, *, amount: int) -> None:
            """Money arrived, said somebody else."""

        kit.declare(account_funded)

    with pytest.raises(DeclarationError) as caught:
        other()
    message = str(caught.value)
    assert "'account_funded'" in message
    assert "declared twice" in message
    assert line_of(account_funded) in message
    assert message.count(__file__) == 2


def test_a_reloaded_module_may_declare_its_stubs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same module and name is the same stub; handles given out before stay good."""
    module = tmp_path / "declarations_test_signals.py"
    module.write_text("from declarations_test_kit import kit\n\n@kit.declare\ndef paid(s): ...\n")
    (tmp_path / "declarations_test_kit.py").write_text(
        "from flask_signals_kit import SignalsKit\nkit = SignalsKit()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    signals = importlib.import_module("declarations_test_signals")
    before = signals.paid
    module.write_text(
        "from declarations_test_kit import kit\n\n@kit.declare\ndef paid(s, *, amount): ...\n"
    )
    importlib.invalidate_caches()
    assert importlib.reload(signals).paid is before
    assert before.contract.required == ("amount",)


def test_a_refused_declaration_leaves_everything_as_it_was(context: None, kit: SignalsKit) -> None:
    """Neither name nor contract stays behind."""
    kit.on("stub")(receive := lambda account: None)
    with pytest.raises(ContractError):
        kit.declare(stub)
    assert kit.send("stub", "acme") == [(receive, None)]


@pytest.mark.parametrize("name", ["request_started", "template_rendered"])
def test_a_stub_cannot_have_the_name_of_one_of_flasks_signals(kit: SignalsKit, name: str) -> None:
    """The message names both, and says to rename."""
    namespace: dict[str, Any] = {}
    exec(f"def {name}(sender): ...", namespace)
    with pytest.raises(DeclarationError) as caught:
        kit.declare(namespace[name])
    assert f"Flask's own signal {name!r}" in str(caught.value)
    assert "rename" in str(caught.value)


def test_a_handle_of_another_kit_is_refused(kit: SignalsKit) -> None:
    """Connecting or sending with the wrong kit would be silent otherwise."""
    foreign = SignalsKit().signal("account_funded")
    with pytest.raises(DeclarationError, match="'account_funded' was declared by another kit"):
        kit.on(foreign)(print)


# -- one app's own declarations -------------------------------------------------------------------


def test_a_handle_of_one_app_works_without_an_app_context(app: Flask, kit: SignalsKit) -> None:
    """`kit.for_app(app)` knows its app."""
    half = kit.for_app(app)
    funded = half.signal("account_funded")
    funded.connect(receive := lambda sender, **extra: sender)
    assert funded.send() == [(receive, app)]
    assert funded.send("acme") == [(receive, "acme")]
    assert half.send("account_funded", "acme") == [(receive, "acme")]


def test_a_handle_of_one_app_is_that_apps_alone(app: Flask, kit: SignalsKit) -> None:
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


def test_one_app_asking_for_a_declared_name_gets_the_kits_contract(
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


def test_one_app_cannot_give_the_kits_signal_another_policy(app: Flask, kit: SignalsKit) -> None:
    """It would be ignored in silence; a stub of the app's own keeps the kit's policy and doc."""
    kit.signal("stub", "Money arrived.", on_error="group")
    half = kit.for_app(app)
    with pytest.raises(DeclarationError, match="'stub' was declared for every app of the kit, at"):
        half.signal("stub", on_error="isolate")
    assert half.signal("stub", on_error="group").on_error == "group"
    own = half.declare(stub)
    assert (own.on_error, half.on_error("stub")) == ("group", "group")
    assert half.signal("stub", on_error="isolate") is own
    assert half.on_error("stub") == "isolate"


def test_one_app_cannot_declare_a_second_stub_of_the_kits_name(app: Flask, kit: SignalsKit) -> None:
    """A name has one stub, whoever declares it."""
    kit.declare(account_funded)

    def other() -> None:
        def account_funded(sender: object, *, amount: int) -> None:
            """Money arrived, said somebody else."""

        kit.for_app(app).declare(account_funded)

    with pytest.raises(DeclarationError, match="declared twice"):
        other()
