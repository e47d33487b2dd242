"""What tests of several rooms share and what is no fixture."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

import flask.globals
import pytest
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

T = TypeVar("T")

MERGED_CONTEXTS = not hasattr(flask.globals, "_cv_request")
"""Whether this is Flask 3.2 or newer, in which the request's context is the app's."""

ON_CI = os.environ.get("CI") == "true"


def require_service(found: T | None, missing: str) -> T:
    """Return what was found; without it skip the test, on CI fail it.

    :param found: what the test needs (a path, a client), or ``None`` if it is not there.
    :param missing: what is missing and how to get it; shown as the reason.
    """
    if found is None:
        if ON_CI:
            pytest.fail(f"CI must have it: {missing}", pytrace=False)
        pytest.skip(missing)
    return found


def raises_in_teardown(kind: type[Exception]) -> pytest.RaisesGroup[Exception]:
    """Expect what a teardown function raises; from Flask 3.2 on it comes in groups."""
    return pytest.RaisesGroup(kind, allow_unwrapped=True, flatten_subgroups=True)


@contextmanager
def serving(app: "WSGIApplication") -> Iterator[str]:
    """Serve a WSGI app from a thread, on a free port of the loopback; the value is its URL."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = Thread(target=server.serve_forever, name="test server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
