"""The only place that depends on Flask's version: 3.1, and 3.2 with its merged contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Token, copy_context
from typing import Any, TypeVar

from flask import globals as flask_globals
from flask.globals import _cv_app

T = TypeVar("T")


def active_contexts() -> Iterator[Any]:
    """Yield the app contexts that are pushed here, the current one first.

    Each context keeps the token of the context variable that it was pushed with, which knows the
    context before it. The attribute is private in every version of Flask.

    >>> from flask import Flask
    >>> outer, inner = Flask("outer"), Flask("inner")
    >>> with outer.app_context(), inner.app_context():
    ...     [context.app.name for context in active_contexts()]
    ['inner', 'outer']
    """
    context: Any = _cv_app.get(None)
    met: set[int] = set()
    while context is not None:
        yield context
        met.add(id(context))
        tokens = getattr(context, "_cv_tokens", None)  # Flask 3.1: one for each push
        if tokens is None:
            tokens = [context._cv_token]  # Flask 3.2: one for the first push
        earlier = [token.old_value for token in reversed(tokens) if token is not None]
        context = next((c for c in earlier if c is not Token.MISSING and id(c) not in met), None)


def call_inside(context: Any, function: Callable[[], T]) -> T:
    """Call a function as if an app context that is pushed here were the current one.

    >>> from flask import Flask, current_app
    >>> outer, inner = Flask("outer"), Flask("inner")
    >>> with outer.app_context() as context, inner.app_context():
    ...     call_inside(context, lambda: current_app.name)
    'outer'
    """
    run = copy_context().run
    run(_cv_app.set, context)
    return run(function)


def request_context() -> Any:
    """Return the context of the current request: in Flask 3.2, it is the app context."""
    variable = vars(flask_globals).get("_cv_request", _cv_app)
    return variable.get()
