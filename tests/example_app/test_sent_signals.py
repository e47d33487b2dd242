"""In debug, the page after an action tells which signals it sent."""

import re
from collections.abc import Callable

import pytest
from flask import Flask

from example_app.error_report.records import error_records
from example_app.extensions import kit
from tests.example_app.support import Visitor, words


@pytest.fixture
def debug_app(make_app: Callable[..., Flask]) -> Flask:
    """Give the example in debug mode."""
    return make_app(DEBUG=True, TESTING=False, SIGNALS_KIT_ENGINE="none")


def linked(page: str, pattern: str) -> str:
    """Return the only link of a page whose URL matches."""
    [url] = re.findall(rf'href="({pattern})"', page)
    return str(url)


def test_page_after_an_action_tells_what_it_sent(debug_app: Flask) -> None:
    """The line names the signals in order, and links to the request with its receivers."""
    visitor = Visitor(debug_app)
    visitor.add_card()
    answer = visitor.wire()
    line = "This sent account_funded , onboarding_completed , alert_raised . See what ran"
    assert line in words(answer), "words() puts a blank after each tag"
    tree = visitor.read(linked(answer.text, r"/_signals/requests/\d+"))
    assert "POST / funding/ wire" in tree
    for receiver in ("tick_funds", "congratulate", "thank", "mail_alert"):
        assert receiver in tree


def test_line_is_shown_once(debug_app: Flask) -> None:
    """Not again on the next page."""
    visitor = Visitor(debug_app)
    assert "This sent" in words(visitor.wire())
    assert "This sent" not in visitor.read("/funding/")


def test_action_that_sends_nothing_shows_no_line(debug_app: Flask) -> None:
    """A refused form, a dismissed alert, and a page that is only read."""
    visitor = Visitor(debug_app)
    assert "This sent" not in words(visitor.wire("-1"))
    assert "This sent" not in words(visitor.dismiss(1))
    assert "This sent" not in visitor.read("/")


@pytest.mark.parametrize(
    "config",
    [
        {"TESTING": False},
        {"TESTING": True},
        {"DEBUG": True, "SIGNALS_KIT_PAGE": False},
        {"DEBUG": True, "SIGNALS_KIT_JOURNAL": False},
    ],
)
def test_nothing_is_shown_without_debug_page_or_journal(
    make_app: Callable[..., Flask], config: dict[str, bool]
) -> None:
    """Neither the line, nor its data in the session, nor a link in the error report."""
    visitor = Visitor(make_app(**config))
    assert "This sent" not in words(visitor.wire())
    with visitor.client.session_transaction() as session:
        assert "sent_signals" not in session
    report = visitor.submit("/errors/break-receiver", "/errors/").text
    assert "breakage_requested" in report
    assert "/_signals/" not in report


def test_failed_receiver_in_the_error_report_links_to_its_emission(debug_app: Flask) -> None:
    """The page shows that receiver, failed."""
    visitor = Visitor(debug_app)
    report = visitor.submit("/errors/break-receiver", "/errors/").text
    emission = visitor.read(linked(report, r"/_signals/emissions/\d+"))
    assert "of breakage_requested" in emission
    assert re.search(r"failed 1 .*fail_on_purpose", emission)


def test_failed_mail_in_the_error_report_links_to_its_emission(debug_app: Flask) -> None:
    """A receiver that fails after the commit leads to the send that it belongs to."""
    visitor = Visitor(debug_app)
    debug_app.config["MAIL_OUTBOX"] = __file__  # not a folder
    visitor.wire()
    emission = visitor.read(linked(visitor.html("/errors/"), r"/_signals/emissions/\d+"))
    assert "of account_funded" in emission
    assert re.search(r"failed 6 .*thank", emission)


def test_failed_request_in_the_error_report_links_to_the_request(
    make_app: Callable[..., Flask],
) -> None:
    """If it sent signals; here, a receiver made the whole request fail."""
    app = make_app(DEBUG=True, TESTING=False, PROPAGATE_EXCEPTIONS=False, SIGNALS_KIT_ENGINE="none")
    visitor = Visitor(app)

    @kit.for_app(app).on("account_funded")
    def refuse(account: object, **extra: object) -> None:
        raise ValueError("no more money")

    visitor.submit("/errors/break-request", "/errors/")
    assert visitor.wire().status_code == 500
    request = visitor.read(linked(visitor.html("/errors/"), r"/_signals/requests/\d+"))
    assert "POST / funding/ wire" in request
    assert re.search(r"failed \d .*refuse", request)
    with app.app_context():
        assert [bool(record.request) for record in error_records()] == [False, True]
