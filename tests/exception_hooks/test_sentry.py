"""Hooks beside the real Sentry: each exception is one event."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support import MERGED_CONTEXTS

SENTRY = """
import json, logging, sys
import sentry_sdk
from flask import Flask, Response
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.transport import Transport
from flask_signals_kit import SignalsKit

class Collect(Transport):
    events = []
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)

sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1", transport=Collect, integrations=[FlaskIntegration()]
)

def create_app(hook):
    app = Flask("shop")
    kit = SignalsKit(app)
    reported = []

    @kit.on_exception
    def report(app, exception, *, source, **extra):
        reported.append(source)
        if hook:
            sentry_sdk.capture_exception(exception)

    kit.signal("account_funded", on_error="isolate")

    @kit.on("account_funded")
    def fail(sender=None, **extra):
        raise ValueError("boom")

    def body():
        yield "a"
        fail()

    app.add_url_rule("/request", "request", view_func=lambda: fail())
    app.add_url_rule("/receiver", "receiver", lambda: str(len(kit.send("account_funded"))))
    app.add_url_rule("/stream", "stream", view_func=lambda: Response(body()))
    app.add_url_rule("/teardown", "teardown", view_func=lambda: "fine")

    @app.teardown_request
    def teardown(error):
        from flask import request
        if request.path == "/teardown":
            fail()

    return app, reported

found = {}
for hook in (False, True):
    for path in ("/request", "/receiver", "/stream", "/teardown"):
        app, reported = create_app(hook)
        Collect.events.clear()
        try:
            app.test_client().get(path).data
        except (ValueError, ExceptionGroup):
            pass
        sentry_sdk.flush()
        events = [
            (event["exception"]["values"][-1]["type"], event.get("request", {}).get("url"))
            for event in Collect.events
        ]
        found[f"{path} {hook}"] = {"reported": reported, "events": events}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def beside_sentry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run the real SDK with its Flask integration in a new process, and return its events."""
    pytest.importorskip("sentry_sdk")
    script = tmp_path_factory.mktemp("sentry") / "script.py"
    script.write_text(SENTRY)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("hook", [False, True])
@pytest.mark.parametrize("source", ["request", "receiver", "stream", "teardown"])
def test_each_exception_is_one_sentry_event(
    beside_sentry: dict[str, dict[str, Any]], source: str, hook: bool
) -> None:
    """Whether the hook captures it or not: the hook is called once, Sentry has one event."""
    found = beside_sentry[f"/{source} {hook}"]
    assert found["reported"] == [source]
    kinds = ["ValueError"]
    if MERGED_CONTEXTS and source == "teardown":
        # Sentry sees the group that Flask raises; the hook gets the exception in it.
        kinds = ["ValueError", "ExceptionGroup"] if hook else ["ExceptionGroup"]
    assert [kind for kind, _ in found["events"]] == kinds
    assert found["events"][0][1] == f"http://localhost/{source}"
