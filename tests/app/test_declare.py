"""`kit.declare` and `kit.signal`: what they take from a stub, and what they refuse."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flask_signals_kit import (
    ContractError,
    DeclarationError,
    DomainSignal,
    SignalsKit,
    SignalsKitError,
)
from tests.app.support import account_funded, line_of, misfit_no_sender, misfit_nothing, stub

if TYPE_CHECKING:
    from nowhere import Account  # type: ignore[import-not-found]  # no such module, on purpose


def test_declare_takes_name_doc_and_payload_from_the_stub(kit: SignalsKit) -> None:
    """The body of the stub never runs."""

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


def test_unresolvable_annotations_are_ignored(kit: SignalsKit, context: None) -> None:
    """Names imported for type checkers alone are never evaluated."""

    @kit.declare
    def account_funded(sender: Account, *, amount: Account) -> Account:
        """Money arrived."""
        raise NotImplementedError

    @kit.on(account_funded)
    def note(account: Account, *, amount: Account, **extra: Account) -> Account:
        return amount

    assert account_funded.send("acme", amount=5) == [(note, 5)]


def test_signal_declares_a_name_with_any_payload(kit: SignalsKit, context: None) -> None:
    """Without a stub, any payload is valid; the same name gives the same handle."""
    created = kit.signal("campaign_created", "A campaign exists.")
    assert kit.signal("campaign_created", "Another doc.") is created
    assert created.__doc__ == "A campaign exists."
    assert created.contract is None
    assert created.place is not None
    assert created.place.file == __file__
    created.connect(receive := lambda sender, **payload: payload)
    assert created.send("acme", anything=5) == [(receive, {"anything": 5})]


def test_doc_can_be_added_later(kit: SignalsKit, context: None) -> None:
    """A name that was used before it was described gets the description."""
    created = kit.signal("campaign_created")
    assert [created.__doc__] == [None]
    kit.signal("campaign_created", "A campaign exists.")
    assert created.__doc__ == "A campaign exists."
    assert kit.namespace["campaign_created"].__doc__ == "A campaign exists."


def test_stub_can_follow_a_plain_declaration(kit: SignalsKit, context: None) -> None:
    """Existing handles get the contract, too."""
    early = kit.signal("account_funded")

    @kit.declare
    def account_funded(sender: object, *, amount: int) -> None:
        """Money arrived."""

    assert account_funded is early
    with pytest.raises(ContractError):
        early.send("acme")


@pytest.mark.parametrize("name", ["sender", "_async_wrapper", "_sync_wrapper"])
def test_reserved_payload_name_is_refused(kit: SignalsKit, name: str) -> None:
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


def test_stub_without_a_sender_is_refused(kit: SignalsKit) -> None:
    """The message shows a valid stub."""
    for wrong in (misfit_no_sender, misfit_nothing):
        with pytest.raises(DeclarationError) as caught:
            kit.declare(wrong)  # type: ignore[arg-type]
        assert line_of(wrong) in str(caught.value)
        assert f"def {wrong.__name__}(sender, *, amount)" in str(caught.value)


def test_positional_payload_is_refused(kit: SignalsKit) -> None:
    """The message names the parameter and where to write the star."""
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
def test_stub_must_be_a_function(kit: SignalsKit, thing: Any) -> None:
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
def test_name_must_be_an_identifier(kit: SignalsKit, name: Any, suggested: str) -> None:
    """The message has the name, the rule, and a valid name."""
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


def test_dotted_names_are_accepted(context: None, kit: SignalsKit) -> None:
    """`billing.invoice_paid` is a valid name."""
    paid = kit.signal("billing.invoice_paid")
    paid.connect(receive := lambda sender: "paid")
    assert paid.send() == [(receive, "paid")]


def test_unknown_policy_is_refused(kit: SignalsKit) -> None:
    """The message has the signal, the value, the valid ones and the setting."""
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


def test_second_stub_of_a_name_is_refused(kit: SignalsKit) -> None:
    """The message has both places."""
    kit.declare(account_funded)

    def other() -> None:
        def account_funded(sender: object, *, amount: int) -> None:
            """Money arrived, in another stub."""

        kit.declare(account_funded)

    with pytest.raises(DeclarationError) as caught:
        other()
    message = str(caught.value)
    assert "'account_funded'" in message
    assert "declared twice" in message
    assert line_of(account_funded) in message
    assert message.count(account_funded.__code__.co_filename) == 1
    assert message.count(__file__) == 1


def test_reloaded_module_can_declare_its_stubs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same module and name is the same stub; existing handles stay valid."""
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


def test_refused_declaration_changes_nothing(context: None, kit: SignalsKit) -> None:
    """Neither name nor contract is stored."""
    kit.on("stub")(receive := lambda account: None)
    with pytest.raises(ContractError):
        kit.declare(stub)
    assert kit.send("stub", "acme") == [(receive, None)]


@pytest.mark.parametrize("name", ["request_started", "template_rendered"])
def test_stub_named_like_a_flask_signal_is_refused(kit: SignalsKit, name: str) -> None:
    """The message names both, and says to rename."""
    namespace: dict[str, Any] = {}
    exec(f"def {name}(sender): ...", namespace)
    with pytest.raises(DeclarationError) as caught:
        kit.declare(namespace[name])
    assert f"Flask's own signal {name!r}" in str(caught.value)
    assert "rename" in str(caught.value)


def test_handle_of_another_kit_is_refused(kit: SignalsKit) -> None:
    """Connecting or sending with the wrong kit would have no effect otherwise."""
    foreign = SignalsKit().signal("account_funded")
    with pytest.raises(DeclarationError, match="'account_funded' was declared by another kit"):
        kit.on(foreign)(print)
