"""An app that flashes, renders and fails, and what is connected to Flask's signals."""

from typing import Any

import blinker
import flask
import flask.signals
from flask import (
    Flask,
    flash,
    render_template_string,
)

from flask_signals_kit import (
    SignalsKit,
)


def make_site(kit: SignalsKit, name: str = "shop", **config: Any) -> Flask:
    """Make an app that flashes, renders and fails."""
    app = Flask(name)
    app.secret_key = "key"
    app.logger.disabled = True
    app.config.update(config)
    kit.init_app(app)

    @app.get("/")
    def index() -> str:
        flash("hello", "info")
        return render_template_string("{{ greeting }}", greeting="good day")

    @app.get("/fail")
    def fail() -> str:
        raise ValueError("boom")

    return app


def source(name: str) -> blinker.Signal:
    """Return Flask's own signal of this name."""
    signal: blinker.Signal = getattr(flask.signals, name)
    return signal


def receiver_count(name: str, app: Flask) -> int:
    """Count the receivers of one of Flask's signals when this app sends it."""
    return len([*source(name).receivers_for(app)])


def ignore(sender: Any, **extra: Any) -> None:
    """Be a receiver that does nothing."""


def fail(sender: Any, **extra: Any) -> None:
    """Raise."""
    raise IndexError("bad receiver")
