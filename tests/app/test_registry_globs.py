"""Glob patterns: which signals they match, and in which order their receivers run."""

from typing import Any

import blinker
import pytest
from flask import Flask

from flask_signals_kit import (
    ContractError,
    DeclarationError,
    SignalsKit,
    current_emission,
)
from tests.support import campaign_created, make_app, results


def test_glob_matches_later_signals(kit: SignalsKit) -> None:
    """Declared or only sent, before or after the glob and the app."""
    kit.signal("account_opened")
    kit.on("account_*")(lambda sender: "glob")
    app = make_app(kit)
    kit.signal("account_closed")
    for name in ("account_opened", "account_closed", "account_funded"):
        assert results(kit, app, name) == ["glob"]
    assert results(kit, app, "campaign_created") == []


def test_glob_matches_domain_signals_only(kit: SignalsKit) -> None:
    """`*` does not match Flask's or bridged signals, and keeps no relay."""
    kit.bridge(blinker.NamedSignal("invoice-paid"))
    seen: list[str] = []
    kit.on("*")(lambda sender, **extra: seen.append(current_emission.signal))
    app = make_app(kit)
    app.add_url_rule("/", view_func=lambda: str(kit.send("account_funded")))
    app.test_client().get("/")
    assert seen == ["account_funded"]


@pytest.mark.parametrize("glob", ["account_?unded", "account_[a-f]unded", "*", "*_funded"])
def test_glob_syntax_is_that_of_fnmatch(kit: SignalsKit, app: Flask, glob: str) -> None:
    """`*`, `?` and `[…]`."""
    kit.on(glob)(lambda sender: "glob")
    assert results(kit, app) == ["glob"]


def test_receiver_of_a_glob_and_a_name_is_called_once(kit: SignalsKit, app: Flask) -> None:
    """Disconnecting it from the name leaves the glob."""

    def receive(sender: Any, **extra: Any) -> str:
        return "once"

    funded = kit.signal("account_funded")
    kit.on("account_*")(receive)
    kit.on(funded)(receive)
    assert results(kit, app) == ["once"]
    funded.disconnect(receive)
    assert results(kit, app) == ["once"]


def test_glob_receivers_run_in_connection_order(kit: SignalsKit) -> None:
    """Also for a signal that is created later."""
    kit.on("account_funded")(lambda sender: 1)
    kit.on("account_*")(lambda sender: 2)
    kit.on("account_funded")(lambda sender: 3)
    kit.on("*", priority=1)(lambda sender: 0)
    app = make_app(kit)
    assert results(kit, app) == [0, 1, 2, 3]


def test_glob_receiver_is_checked_against_every_matching_contract(kit: SignalsKit) -> None:
    """The message names the signal whose payload it does not accept."""
    kit.declare(campaign_created)
    with pytest.raises(ContractError, match="'campaign_created'"):
        kit.on("campaign_*")(lambda sender: None)


def test_sending_a_glob_is_refused(kit: SignalsKit, app: Flask) -> None:
    """One signal is sent at a time; no signal of that name is created."""
    kit.on("*")(lambda sender, **extra: "audit")
    with app.app_context():
        with pytest.raises(DeclarationError, match="is a pattern"):
            kit.send("account_*", "acme")
        assert "account_*" not in kit.namespace


def test_name_overrides_glob_in_either_order(app: Flask, kit: SignalsKit) -> None:
    """The options of the connection by name apply."""

    def early(sender: Any, **extra: Any) -> str:
        return "early"

    def late(sender: Any, **extra: Any) -> str:
        return "late"

    kit.on("account_funded")(lambda sender, **extra: "middle")
    kit.on("account_*")(early)
    kit.on("account_funded", priority=7)(early)
    kit.on("account_funded", priority=-7)(late)
    kit.on("account_*")(late)
    assert results(kit, app) == ["early", "middle", "late"]
