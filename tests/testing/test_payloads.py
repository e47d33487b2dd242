"""`payloads()`: Hypothesis strategies for the payloads of a signal."""

import subprocess
import sys
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol

import pytest
from flask import Flask
from hypothesis import find, given, settings
from hypothesis import strategies as st

from flask_signals_kit import ConfigurationError, ContractError, DeclarationError, SignalsKit
from flask_signals_kit.testing import payloads
from tests.testing.models import Campaign

kit = SignalsKit()


class Method(Enum):
    CARD = "card"
    WIRE = "wire"


class Gateway:
    def __init__(self, url) -> None:
        self.url = url


class Ledger(Protocol):
    name: str


@kit.declare
def account_funded(sender: object, *, amount: Decimal, method: Method, note: str = "") -> None:
    """Money arrived in an account."""


@kit.declare
def campaigns_archived(sender: object, /, *, campaigns: list[Campaign], **extra: object) -> None:
    """Let sends pass other names, too."""


@kit.declare
def gateway_chosen(sender: object, *, gateway: Gateway, ledger: Ledger, other: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Declare names that have no strategy."""


@settings(deadline=None)
@given(payload=payloads(account_funded))
def test_payload_has_the_declared_types(payload: dict[str, Any]) -> None:
    """Each is one that a send may pass."""
    assert isinstance(payload["amount"], Decimal)
    assert isinstance(payload["method"], Method)
    assert isinstance(payload.get("note", ""), str)
    assert account_funded.contract is not None
    account_funded.contract.check_payload(payload)


@pytest.mark.parametrize("wanted", [True, False])
def test_optional_name_is_sometimes_missing(wanted: bool) -> None:
    """A send may omit it."""
    assert find(payloads(account_funded), lambda payload: ("note" in payload) is wanted)


def test_payload_can_be_given_to_call() -> None:
    """The receiver runs with everything that Hypothesis thinks of."""
    app = Flask("shop")
    kit.init_app(app)
    seen: list[Any] = []

    @settings(deadline=None)
    @given(payload=payloads(account_funded))
    def run(payload: dict[str, Any]) -> None:
        with app.app_context():
            kit.call(lambda account, **extra: seen.append(extra), account_funded, **payload)
        assert seen[-1] == payload

    run()
    assert len(seen) > 10


def test_strategies_replace_those_of_the_types() -> None:
    """Also for an optional name."""
    strategy = payloads(account_funded, amount=st.just(5), note=st.just("thanks"))
    payload = find(strategy, lambda payload: "note" in payload)
    assert payload == {"amount": 5, "method": Method.CARD, "note": "thanks"}


def test_open_signal_takes_strategies_for_other_names() -> None:
    """Its stub has ``**extra``."""
    archived = [Campaign(name="Launch")]
    strategy = payloads(campaigns_archived, campaigns=st.just(archived), reason=st.just("old"))
    assert find(strategy, lambda payload: True) == {"campaigns": archived, "reason": "old"}


def refusal(signal: Any, **strategies: Any) -> str:
    """Return the text of the error."""
    with pytest.raises(ContractError) as failure:
        payloads(signal, **strategies)
    return str(failure.value)


def test_model_needs_a_strategy() -> None:
    """Hypothesis would make instances without values, also inside of a list."""
    text = refusal(campaigns_archived)
    assert f"Payload 'campaigns' of signal 'campaigns_archived', declared in {__name__}." in text
    assert "Campaign is a model" in text
    assert text.endswith("Write payloads(campaigns_archived, campaigns=strategy).")


@pytest.mark.parametrize("name", ["gateway", "ledger"])
def test_type_that_hypothesis_cannot_make_needs_a_strategy(name: str) -> None:
    """The error has Hypothesis's reason, and comes before a test runs."""
    others = {"gateway", "ledger", "other"} - {name}
    text = refusal(gateway_chosen, **dict.fromkeys(others, st.none()))
    assert f"Payload '{name}'" in text
    assert "Hypothesis cannot make it: " in text
    assert text.endswith(f"Write payloads(gateway_chosen, {name}=strategy).")


def test_type_that_does_not_exist_at_run_time_needs_a_strategy() -> None:
    """It is named as it is written."""
    text = refusal(gateway_chosen, gateway=st.none(), ledger=st.none())
    assert "Payload 'other'" in text
    assert "its type Missing does not exist at run time" in text


def test_strategy_for_an_unknown_name_is_refused() -> None:
    """With the nearest name."""
    text = refusal(account_funded, amuont=st.just(5))
    assert text.startswith("payloads() got 'amuont', but the payload of signal 'account_funded'")
    assert text.endswith("Did you mean 'amount'?")


@pytest.mark.parametrize("signal", ["account_funded", kit.signal("archive_made"), 3])
def test_signal_without_a_declared_payload_is_refused(signal: Any) -> None:
    """A name belongs to an app, and there is none while tests are collected."""
    with pytest.raises(DeclarationError, match=r"declare it by @kit\.declare"):
        payloads(signal)


def test_missing_hypothesis_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ConfigurationError) as failure:
        payloads(account_funded)
    assert str(failure.value) == (
        "payloads() needs Hypothesis: install the kit with its extra, "
        "pip install 'flask-signals-kit[hypothesis]'."
    )


def test_kit_does_not_import_hypothesis() -> None:
    """Only ``payloads`` does, so ``kit.call`` works without it."""
    code = (
        "import sys; import flask_signals_kit.testing.call; assert 'hypothesis' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
