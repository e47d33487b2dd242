"""Log slow requests, with receivers of Flask's own signals."""

import time
from typing import Any

from flask import Flask, g, request

from example_app.extensions import kit


@kit.on("request_started")
def note_start(app: Flask, **extra: Any) -> None:
    """Remember when the request began."""
    g.started = time.perf_counter()


@kit.on("request_finished")
def log_slow_request(app: Flask, **extra: Any) -> None:
    """Log the request if it took longer than ``SLOW_REQUEST_SECONDS``."""
    seconds = time.perf_counter() - g.started
    if seconds > app.config["SLOW_REQUEST_SECONDS"]:
        app.logger.warning("%s %s took %.2f s", request.method, request.path, seconds)
