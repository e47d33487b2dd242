"""Links to the page: the numbers of the current request and of the current emission."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, url_for

from flask_signals_kit import RecordedRequest, SignalsKit, current_emission
from flask_signals_kit.core.journal import Journal
from tests.support import Later, make_app

SENDS: dict[str, Callable[[SignalsKit], Any]] = {
    "plain": lambda kit: kit.send("account_funded", "acme"),
    "robust": lambda kit: kit.send_robust("account_funded", "acme"),
    "async": lambda kit: asyncio.run(kit.send_async("account_funded", "acme")),
}


def ignore(sender: object, **extra: object) -> None:
    """Be a receiver."""


def journal_of(kit: SignalsKit, app: Flask) -> Journal:
    """Return the journal of an app."""
    journal = kit.for_app(app).journal
    assert journal is not None
    return journal


@pytest.fixture
def app(kit: SignalsKit) -> Flask:
    """Give an app with a journal."""
    return make_app(kit, SIGNALS_KIT_JOURNAL=True, TESTING=True)


@pytest.mark.parametrize("options", [{}, {"priority": 1, "when": lambda *sent, **payload: True}])
@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS.keys())
def test_current_emission_has_the_number_of_the_journal(
    kit: SignalsKit, app: Flask, send: Callable[[SignalsKit], Any], options: dict[str, Any]
) -> None:
    """Whichever way the signal is sent, and whether the receiver is plain or not."""
    numbers: list[int | None] = []
    kit.on("account_funded", **options)(
        lambda sender, **extra: numbers.append(current_emission.number)
    )
    with app.app_context():
        send(kit)
        send(kit)
    entries = journal_of(kit, app).entries()
    assert numbers == [entry.number for entry in reversed(entries)]
    assert len({*numbers}) == 2


def test_current_emission_of_a_late_receiver_has_the_number_of_its_send(
    kit: SignalsKit, app: Flask
) -> None:
    """A delivery that runs the receiver later does not change it."""
    later, numbers = Later(), list[int | None]()
    kit.on("account_funded", delivery=later)(
        lambda sender, **extra: numbers.append(current_emission.number)
    )
    with app.app_context():
        kit.send("account_funded", "acme")
        kit.send("account_funded", "acme")
        for call in later.calls:
            call.run()
    assert numbers == [entry.number for entry in reversed(journal_of(kit, app).entries())]


def test_observed_emission_has_the_number_of_the_journal(kit: SignalsKit, app: Flask) -> None:
    """So a monitoring tool can link to the page."""
    numbers: list[int | None] = []
    kit.on("account_funded")(ignore)
    with app.app_context():
        signal = kit.namespace.signal("account_funded")
        signal.observe(lambda observation: numbers.append(observation.emission.number))
        kit.send("account_funded", "acme")
    assert numbers == [entry.number for entry in journal_of(kit, app).entries()]


@pytest.mark.parametrize("options", [{}, {"when": lambda *sent, **payload: True}])
def test_emission_has_no_number_without_a_journal(kit: SignalsKit, options: dict[str, Any]) -> None:
    """There is nothing to link to; an observer does not change that."""
    app = make_app(kit)
    numbers: list[int | None] = []
    kit.on("account_funded", **options)(
        lambda sender, **extra: numbers.append(current_emission.number)
    )
    with app.app_context():
        kit.send("account_funded", "acme")
        signal = kit.namespace.signal("account_funded")
        signal.observe(lambda observation: numbers.append(observation.emission.number))
        kit.send("account_funded", "acme")
    assert numbers == [None] * 3


def test_recorded_request_has_domain_signals_in_the_order_of_the_sends(
    kit: SignalsKit, app: Flask
) -> None:
    """Each is named once; what a receiver sends follows; the link leads to the request."""
    kit.on("request_started", "step_completed")(ignore)
    kit.on("account_funded")(lambda sender, **extra: kit.send("step_completed", "acme"))
    seen: list[RecordedRequest | None] = []

    @app.post("/fund")
    def fund() -> str:
        seen.append(kit.for_app(app).recorded_request())
        kit.send("account_funded", "acme")
        kit.send("account_funded", "acme")
        seen.append(kit.for_app(app).recorded_request())
        assert seen[1]
        return url_for("flask_signals_kit.request", number=seen[1].id)

    client = app.test_client()
    link = client.post("/fund").text
    assert client.get(link).text.count("POST /<wbr>fund") == 1
    before, after = seen
    assert before is not None
    assert after is not None
    assert before.signals == ()
    assert after.signals == ("account_funded", "step_completed")
    assert before.id == after.id


def test_recorded_request_is_that_of_the_current_context(kit: SignalsKit, app: Flask) -> None:
    """What another request sent is not in it."""
    app_signals = kit.for_app(app)
    kit.on("account_funded")(ignore)
    with app.test_request_context("/one"):
        kit.send("account_funded", "acme")
        one = app_signals.recorded_request()
    with app.test_request_context("/two"):
        two = app_signals.recorded_request()
    assert one is not None
    assert two is not None
    assert one.id != two.id
    assert (one.signals, two.signals) == (("account_funded",), ())


def test_there_is_no_recorded_request_without_context_journal_or_of_the_page(
    kit: SignalsKit, app: Flask
) -> None:
    """Nor in the context of another app."""
    other = make_app(kit, "other")
    app_signals = kit.for_app(app)
    assert app_signals.recorded_request() is None
    with other.app_context():
        assert app_signals.recorded_request() is None
        assert kit.for_app(other).recorded_request() is None
    found: list[RecordedRequest | None] = []

    @app.after_request
    def note(response: Any) -> Any:
        found.append(app_signals.recorded_request())
        return response

    app.test_client().get("/_signals")
    assert found == [None]
