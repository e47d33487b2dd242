"""`kit.call()`: one receiver, with a sample of the payload."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pytest
from flask import Flask, current_app

from flask_signals_kit import (
    AppContextError,
    ContractError,
    ReceiverError,
    SignalsKit,
    UnknownSignalError,
    current_emission,
)
from tests.testing.models import Campaign

if TYPE_CHECKING:
    from shop.models import Missing  # type: ignore[import-not-found]

kit = SignalsKit()


@dataclass
class Account:
    name: str


@dataclass
class Tree:
    parent: Tree


@kit.declare
def account_funded(
    sender: Account, *, amount: Decimal, method: Literal["card", "wire"], note: str = ""
) -> None:
    """Money arrived in an account."""


@kit.declare
def campaign_created(sender: Any, /, *, campaign: Campaign, **extra: object) -> None:
    """Let sends pass other names, too."""


@kit.declare
def invoice_paid(sender: Missing, *, invoice: Missing, total, tree: Tree) -> None:
    """Declare names that have no sample."""


@kit.declare
def books_closed(sender: Flask) -> None:
    """Declare the app as the sender."""


archive_made = kit.signal("archive_made", "It has no declared payload.")


def take(sender: Any, **payload: Any) -> tuple[Any, dict[str, Any]]:
    """Return what it gets."""
    return sender, payload


@pytest.fixture
def app() -> Iterator[Flask]:
    """Give an app in its context."""
    app = Flask("shop")
    app.testing = True
    kit.init_app(app)
    with app.app_context():
        yield app


def refusal(receiver: Any, signal: Any, **overrides: Any) -> str:
    """Return the text of the error of a call."""
    with pytest.raises(ContractError) as failure:
        kit.call(receiver, signal, **overrides)
    return str(failure.value)


# -- payload and sender ---------------------------------------------------------------------------


@pytest.mark.parametrize("signal", [account_funded, "account_funded"])
def test_payload_and_sender_are_made_from_the_declared_types(app: Flask, signal: Any) -> None:
    """What a send may omit is left out."""
    sender, payload = kit.call(take, signal)
    assert sender == Account("text")
    assert payload == {"amount": Decimal(1), "method": "card"}


def test_overrides_replace_samples(app: Flask) -> None:
    """The sender, a required and an optional name."""
    sender, payload = kit.call(take, account_funded, sender="acme", method="wire", note="thanks")
    assert sender == "acme"
    assert payload == {"amount": Decimal(1), "method": "wire", "note": "thanks"}


def test_override_of_the_sender_is_unwrapped(app: Flask) -> None:
    """As in a send: receivers get the app, and not ``current_app``."""
    sender, _ = kit.call(take, books_closed, sender=current_app)
    assert sender is app


@pytest.mark.parametrize("signal", [books_closed, archive_made, "request_started"])
def test_app_is_the_sender_unless_another_type_is_declared(app: Flask, signal: Any) -> None:
    """As in a send without a sender."""
    assert kit.call(take, signal) == (app, {})


def test_signal_with_any_payload_takes_every_override(app: Flask) -> None:
    """There is nothing to compare with."""
    assert kit.call(take, archive_made, size=3)[1] == {"size": 3}


def test_open_signal_takes_other_names(app: Flask) -> None:
    """Its stub has ``**extra``."""
    campaign = Campaign(name="Launch")
    sender, payload = kit.call(take, campaign_created, campaign=campaign, reason="new")
    assert sender is app
    assert payload == {"campaign": campaign, "reason": "new"}


def test_payload_of_flasks_signal_is_passed(app: Flask) -> None:
    """Its types are not declared, its names are."""
    assert kit.call(take, "request_finished", response="r")[1] == {"response": "r"}
    assert "Payload 'response' of signal 'request_finished' must be passed" in (
        refusal(take, "request_finished")
    )


# -- what is refused ------------------------------------------------------------------------------


def test_receiver_that_cannot_take_the_payload_is_refused(app: Flask) -> None:
    """With the error that connecting it would raise."""
    text = refusal(lambda account, amount: None, account_funded)
    assert "cannot receive signal 'account_funded'" in text
    assert "it does not take 'method', 'note'; add **extra" in text


def test_receiver_without_a_sender_is_refused(app: Flask) -> None:
    """Also for a signal with any payload."""
    assert "no positional parameter for the sender" in refusal(lambda: None, archive_made)


def test_object_that_cannot_be_called_is_refused(app: Flask) -> None:
    """It is named."""
    with pytest.raises(ReceiverError, match="int"):
        kit.call(3, account_funded)  # type: ignore[call-overload]


def test_unknown_overrides_are_refused_by_name(app: Flask) -> None:
    """With the payload, where it is declared, and the nearest name."""
    text = refusal(take, account_funded, amuont=5, colour="red")
    assert text.startswith("kit.call() got 'amuont', 'colour', but the payload of signal ")
    assert f"{__name__}.account_funded ({__file__}:" in text
    assert text.endswith("is amount, method, note. Did you mean 'amount'?")


@pytest.mark.parametrize(
    ("signal", "given", "name", "reason"),
    [
        (campaign_created, [], "campaign", "Campaign is a model"),
        (invoice_paid, ["total", "tree"], "invoice", "its type Missing does not exist at run time"),
        (invoice_paid, ["invoice", "tree"], "total", "its type is not declared"),
        (invoice_paid, ["invoice", "total"], "tree", "Tree contains itself"),
    ],
)
def test_payload_without_a_sample_is_named(
    app: Flask, signal: Any, given: list[str], name: str, reason: str
) -> None:
    """The error has the signal, the name, its type, and what to pass."""
    text = refusal(take, signal, sender="acme", **dict.fromkeys(given))
    assert text.startswith(f"Payload '{name}' of signal '{signal.name}', declared in {__name__}.")
    assert reason in text
    assert text.endswith(f"Write kit.call(receiver, signal, {name}=...).")


def test_sender_without_a_sample_is_named(app: Flask) -> None:
    """The error says what to pass."""
    text = refusal(take, invoice_paid, invoice=1, total=1, tree=1)
    assert text.startswith("The sender of signal 'invoice_paid', declared in ")
    assert text.endswith("Write kit.call(receiver, signal, sender=...).")


@pytest.mark.parametrize("name", ["acount_funded", "account_fund*"])
def test_undeclared_name_is_refused(app: Flask, name: str) -> None:
    """It has no payload to make a sample of; a receiver of that name changes nothing."""
    kit.for_app(app).on("acount_funded")(take)
    with pytest.raises(UnknownSignalError, match=r"Did you mean 'account_funded'\?"):
        kit.call(take, name)


def test_call_needs_an_app_context() -> None:
    """Signals belong to an app; `kit.for_app(app)` cannot call a receiver."""
    message = r"Cannot call a receiver outside .* Push one: 'with app\.app_context\(\):'\.$"
    with pytest.raises(AppContextError, match=message):
        kit.call(take, archive_made)


# -- running it -----------------------------------------------------------------------------------


def test_only_the_receiver_runs(app: Flask) -> None:
    """Others that are connected do not, and its own options have no effect."""
    ran: list[str] = []
    own = kit.for_app(app)
    own.on(books_closed)(lambda app, **extra: ran.append("other"))

    @own.on(books_closed, when=lambda app, **extra: False, on_error="isolate")
    def close(app: Flask, **extra: object) -> str:
        ran.append("close")
        raise LookupError

    with pytest.raises(LookupError):
        kit.call(close, books_closed)
    assert ran == ["close"]


def test_current_emission_tells_of_the_call(app: Flask) -> None:
    """Its site is the test."""

    def note(sender: Account, **payload: object) -> Any:
        return current_emission._get_current_object()  # type: ignore[attr-defined]

    with app.test_request_context("/fund", method="POST"):
        emission = kit.call(note, account_funded)
    assert emission.signal == "account_funded"
    assert emission.sender == f"{__name__}.Account"
    assert emission.payload == ("amount", "method")
    assert emission.request == "POST /fund"
    assert emission.site.name == "test_current_emission_tells_of_the_call"


async def double(sender: Any, *, amount: Any, **payload: object) -> Any:
    """Be an async receiver."""
    await asyncio.sleep(0)
    assert current_emission.signal == "account_funded"
    return amount * 2


def test_async_receiver_is_run_to_its_end(app: Flask) -> None:
    """The call returns what it returns."""
    assert kit.call(double, account_funded, amount=21) == 42


def test_async_receiver_runs_in_a_running_event_loop(app: Flask) -> None:
    """As in an async test."""

    async def test() -> Any:
        return kit.call(double, account_funded, amount=21)

    assert asyncio.run(test()) == 42


def test_call_is_no_emission(app: Flask) -> None:
    """What the receiver sends is one, and has no parent."""

    def forward(app: Flask, **extra: object) -> None:
        archive_made.send(app, size=1)

    with kit.capture() as sent:
        kit.call(forward, books_closed)
    assert [captured.signal for captured in sent] == ["archive_made"]
    journal = kit.for_app(app).journal
    assert journal is not None
    assert [(entry.signal, entry.parent) for entry in journal.entries()] == [("archive_made", None)]


def test_type_that_is_defined_later_is_found(kit: SignalsKit) -> None:
    """Each call resolves the declared types."""
    app = Flask("shop")
    kit.init_app(app)
    later: dict[str, Any] = {"kit": kit}
    exec("@kit.declare\ndef sale_made(sender: str, *, method: 'Method') -> None: ...", later)

    def pay(sender: str, *, method: object, **extra: object) -> object:
        return method

    with app.app_context():
        with pytest.raises(ContractError, match="its type 'Method'"):
            kit.call(pay, later["sale_made"])
        exec("import enum\nclass Method(enum.Enum): CARD = 1", later)
        assert kit.call(pay, later["sale_made"]) is later["Method"].CARD
