"""What differs between Flask's versions."""

from __future__ import annotations

from flask import Flask

from flask_signals_kit.compat import active_contexts
from tests.support import MERGED_CONTEXTS


def test_active_contexts_is_empty_outside_a_context():
    """Without a context there is nothing to yield."""
    assert list(active_contexts()) == []


def test_active_contexts_yields_each_context_once_innermost_first():
    """A context that is pushed again, around another one, is yielded once."""
    app, other = Flask("app"), Flask("other")
    outer = app.app_context()
    with outer, other.app_context() as middle:
        assert list(active_contexts()) == [middle, outer]
        if not MERGED_CONTEXTS:  # Flask 3.2 does not make a context the current one again
            with outer:
                assert list(active_contexts()) == [outer, middle]


def test_active_contexts_includes_the_context_of_a_request():
    """A request's app context, and that of a command around it, are both active."""
    app = Flask("app")
    seen: list[Flask] = []

    @app.get("/")
    def index():
        with app.app_context():
            seen.extend(context.app for context in active_contexts())
        return ""

    app.test_client().get("/")
    assert seen == [app, app]
