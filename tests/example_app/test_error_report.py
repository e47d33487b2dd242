"""The error report, and Sentry."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from flask import Flask
from werkzeug import Request, Response
from werkzeug.serving import make_server

from example_app.error_report.receivers import DemonstrationError
from example_app.error_report.records import error_records
from tests.example_app.support import ROOT, Visitor, environment


def test_failing_receiver_is_reported_and_its_sender_goes_on(
    app: Flask, visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    """The signal isolates the failure, the hook notes signal, receiver and place."""
    answer = visitor.submit("/errors/break-receiver", "/errors/")
    assert "this request continued." in answer.text
    with app.app_context():
        [record] = error_records()
    assert record.source == "receiver"
    assert record.type == "DemonstrationError"
    assert record.signal == "breakage_requested"
    assert record.receiver is not None
    assert "fail_on_purpose" in record.receiver
    assert record.where.startswith("error_report/receivers.py:")
    assert "DemonstrationError" in caplog.text, "contained is not silent"


def test_failing_request_is_reported_once(make_app: Callable[..., Flask]) -> None:
    """In production the visitor gets an error page, and the report one more line."""
    app = make_app(PROPAGATE_EXCEPTIONS=False)
    visitor = Visitor(app)
    answer = visitor.submit("/errors/break-request", "/errors/")
    assert answer.status_code == 500
    assert "Internal Server Error" in answer.text
    with app.app_context():
        [record] = error_records()
    assert (record.source, record.signal, record.receiver) == ("request", None, None)
    assert record.where.startswith("error_report/views.py:")


def test_propagated_exception_is_reported_once(app: Flask, visitor: Visitor) -> None:
    """While testing, Flask lets the exception through; the report has it all the same."""
    with pytest.raises(DemonstrationError):
        visitor.submit("/errors/break-request", "/errors/")
    with app.app_context():
        assert [record.source for record in error_records()] == ["request"]


def test_page_shows_the_newest_error_first(visitor: Visitor) -> None:
    """Each line has the exception, its source, signal, receiver, place and time."""
    assert "Nothing has failed since the app was started." in visitor.read("/errors/")
    with pytest.raises(DemonstrationError):
        visitor.submit("/errors/break-request", "/errors/")
    visitor.submit("/errors/break-receiver", "/errors/")
    page = visitor.read("/errors/").split("When", 1)[1]
    assert page.index("breakage_requested") < page.index("views.py:")
    assert "on purpose" not in page, "the message of an exception may contain personal data"


def test_what_is_no_error_is_not_reported(app: Flask, visitor: Visitor) -> None:
    """A page that does not exist and a declined card are answers, not failures."""
    visitor.client.get("/nowhere")
    visitor.client.post("/errors/break-receiver")
    visitor.add_card("0002")
    visitor.pay_by_card()
    with app.app_context():
        assert list(error_records()) == []


def test_report_forgets_the_oldest_errors(app: Flask, visitor: Visitor) -> None:
    """Its memory is bounded."""
    for _ in range(103):
        visitor.submit("/errors/break-receiver", "/errors/")
    with app.app_context():
        assert len(error_records()) == 100


def test_each_app_has_a_report_of_its_own(
    app: Flask, visitor: Visitor, make_app: Callable[..., Flask]
) -> None:
    """What fails in one app is not shown in another."""
    other = make_app()
    visitor.submit("/errors/break-receiver", "/errors/")
    with app.app_context():
        assert len(error_records()) == 1
    with other.app_context():
        assert len(error_records()) == 0


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """Give the DSN of a server that keeps the exceptions it is sent."""
    events: list[dict[str, object]] = []

    @Request.application
    def receive(request: Request) -> Response:
        body = request.get_data()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for line in body.splitlines():
            item = json.loads(line)
            if "exception" in item:
                events.append(item)
        return Response("{}", content_type="application/json")

    server = make_server("127.0.0.1", 0, receive, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://key@127.0.0.1:{server.server_port}/1", events
    server.shutdown()
    thread.join()
    server.server_close()


SCRIPT = """
import sentry_sdk
from example_app import create_app
from tests.example_app.support import Visitor

visitor = Visitor(create_app())
visitor.submit("/errors/break-receiver", "/errors/")
visitor.submit("/errors/break-request", "/errors/")
sentry_sdk.flush()
"""


def test_sentry_gets_each_exception_once(
    tmp_path: Path, sentry: tuple[str, list[dict[str, object]]]
) -> None:
    """With `SENTRY_DSN`, the contained exception of a receiver arrives there, too."""
    dsn, events = sentry
    # In a process of its own, because the SDK patches Flask for good.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment(tmp_path, SENTRY_DSN=dsn),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = sorted(event["exception"]["values"][-1]["value"] for event in events)  # type: ignore[index]
    assert len(said) == 2
    assert said[0].startswith("This receiver fails on purpose.")
    assert "In a receiver of signal 'breakage_requested', sent from example_app." in said[0]
    assert said[1] == "This view fails on purpose."


def test_without_a_dsn_sentry_is_not_even_imported(tmp_path: Path) -> None:
    """The SDK is an optional dependency."""
    script = "import sys; from example_app import create_app; create_app()"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; assert 'sentry_sdk' not in sys.modules"],
        cwd=ROOT,
        env=environment(tmp_path, SENTRY_DSN=""),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
