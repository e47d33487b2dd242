"""Failures of receivers: contained ones, and those that propagate out of the app."""

from typing import Any

import pytest

from flask_signals_kit import SignalsKit, current_emission
from tests.exception_hooks.support import BOOM, Watch, fail, miss
from tests.support import Later, make_app


def test_contained_failure_is_reported_as_receiver(watched: Watch) -> None:
    """With signal and receiver; the request goes on."""
    watched.kit.signal("account_funded", on_error="isolate")
    watched.kit.on("account_funded")(fail)
    watched.app.add_url_rule(
        "/fund", "fund", view_func=lambda: str(len(watched.kit.send("account_funded")))
    )
    assert watched.app.test_client().get("/fund").text == "0"
    assert watched.reported == [(BOOM, "receiver", False)]
    assert watched.details[0]["signal"] == "account_funded"
    assert watched.details[0]["receiver"] is fail


def test_failures_of_a_robust_send_are_reported(watched: Watch) -> None:
    """Each one, under every policy, in a request and outside of one."""
    watched.kit.on("account_funded")(fail)
    watched.kit.on("account_funded")(miss)
    with watched.app.app_context():
        watched.kit.send_robust("account_funded")
    watched.kit.for_app(watched.app).send_robust("account_funded")
    assert [reported[1] for reported in watched.reported] == ["receiver"] * 4
    assert {report[0] for report in watched.reported} == {BOOM, "KeyError: 'key'"}


@pytest.mark.parametrize("on_error", ["raise", "group"])
def test_failure_that_propagates_from_a_receiver_is_reported_by_the_request(
    watched: Watch, on_error: Any
) -> None:
    """Once, by the request that it ends."""
    watched.kit.signal("account_funded", on_error=on_error)
    watched.kit.on("account_funded")(fail)
    watched.app.add_url_rule("/fund", "fund", view_func=lambda: watched.kit.send("account_funded"))
    assert watched.app.test_client().get("/fund").status_code == 500
    [(_, source, _)] = watched.reported
    assert source == "request"


def test_failure_caught_by_the_sender_is_not_reported(watched: Watch) -> None:
    """The view handles it."""
    watched.kit.on("account_funded")(fail)

    def fund() -> str:
        try:
            watched.kit.send("account_funded")
        except ValueError:
            return "caught"
        return "not raised"

    watched.app.add_url_rule("/fund", "fund", view_func=fund)
    assert watched.app.test_client().get("/fund").text == "caught"
    assert watched.reported == []


def test_contained_exception_raised_again_is_reported_once(watched: Watch) -> None:
    """The view raises what `send_robust` returned."""
    watched.kit.on("account_funded")(fail)

    def fund() -> Any:
        [failed] = watched.kit.send_robust("account_funded")
        raise failed.exception  # type: ignore[union-attr]

    watched.app.add_url_rule("/fund", "fund", view_func=fund)
    watched.app.test_client().get("/fund")
    assert watched.reported == [(BOOM, "receiver", False)]


def test_current_emission_in_a_hook_is_that_of_the_failed_receiver(kit: SignalsKit) -> None:
    """Its number links to the page, both for an isolated failure and for one in a delivery."""
    app = make_app(kit, SIGNALS_KIT_JOURNAL=True)
    app.logger.disabled = True
    later, seen = Later(), list[tuple[str, str, int | None]]()
    kit.on_exception(
        lambda app, exception, *, source, **extra: seen.append(
            (source, current_emission.signal, current_emission.number)
        )
    )
    kit.signal("account_funded", on_error="isolate")
    kit.on("account_funded")(fail)
    kit.on("account_closed", delivery=later)(fail)
    with app.app_context():
        kit.send("account_closed")
        kit.send("account_funded")
        later.calls[0].run_contained()
    journal = kit.for_app(app).journal
    assert journal is not None
    closed, funded = sorted(entry.number for entry in journal.entries())
    assert seen == [
        ("receiver", "account_funded", funded),
        ("delivery", "account_closed", closed),
    ]
