"""Failures of receivers: contained ones, and those that propagate out of the app."""

from typing import Any

import pytest

from tests.exception_hooks.support import BOOM, Watch, fail, miss


def test_a_contained_failure_is_told_as_a_receivers(watched: Watch) -> None:
    """With signal and receiver; the request goes on."""
    watched.kit.signal("account_funded", on_error="isolate")
    watched.kit.on("account_funded")(fail)
    watched.app.add_url_rule(
        "/fund", "fund", view_func=lambda: str(len(watched.kit.send("account_funded")))
    )
    assert watched.app.test_client().get("/fund").text == "0"
    assert watched.told == [(BOOM, "receiver", False)]
    assert watched.details[0]["signal"] == "account_funded"
    assert watched.details[0]["receiver"] is fail


def test_a_robust_sends_failures_are_told(watched: Watch) -> None:
    """Each receiver's, whatever the policy, in a request and outside of one."""
    watched.kit.on("account_funded")(fail)
    watched.kit.on("account_funded")(miss)
    with watched.app.app_context():
        watched.kit.send_robust("account_funded")
    watched.kit.for_app(watched.app).send_robust("account_funded")
    assert [told[1] for told in watched.told] == ["receiver"] * 4
    assert {told[0] for told in watched.told} == {BOOM, "KeyError: 'key'"}


@pytest.mark.parametrize("on_error", ["raise", "group"])
def test_what_propagates_from_a_receiver_is_told_at_the_boundary(
    watched: Watch, on_error: Any
) -> None:
    """Once, by the request that it ends."""
    watched.kit.signal("account_funded", on_error=on_error)
    watched.kit.on("account_funded")(fail)
    watched.app.add_url_rule("/fund", "fund", view_func=lambda: watched.kit.send("account_funded"))
    assert watched.app.test_client().get("/fund").status_code == 500
    [(_, source, _)] = watched.told
    assert source == "request"


def test_a_propagating_failure_that_somebody_catches_is_nobodys_business(watched: Watch) -> None:
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
    assert watched.told == []


def test_a_contained_exception_that_is_raised_after_all_is_told_once(watched: Watch) -> None:
    """The view raises what `send_robust` returned."""
    watched.kit.on("account_funded")(fail)

    def fund() -> Any:
        [failed] = watched.kit.send_robust("account_funded")
        raise failed.exception  # type: ignore[union-attr]

    watched.app.add_url_rule("/fund", "fund", view_func=fund)
    watched.app.test_client().get("/fund")
    assert watched.told == [(BOOM, "receiver", False)]
