"""All code that depends on Flask's version: 3.1, or 3.2 with its merged contexts.

Most private attributes of Flask and Werkzeug are accessed only here, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token, copy_context
from traceback import walk_tb
from types import FrameType
from typing import Any, TypeVar

from flask import Flask
from flask import globals as flask_globals
from flask.globals import _cv_app
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

T = TypeVar("T")


def active_contexts() -> Iterator[Any]:
    """Yield the active app contexts, the current one first.

    Each context stores the token of the context variable that it was pushed with. The token knows
    the context before it. The attribute is private in every version of Flask.

    >>> from flask import Flask
    >>> outer, inner = Flask("outer"), Flask("inner")
    >>> with outer.app_context(), inner.app_context():
    ...     [context.app.name for context in active_contexts()]
    ['inner', 'outer']
    """
    context: Any = _cv_app.get(None)
    seen: set[int] = set()
    while context is not None:
        yield context
        seen.add(id(context))
        tokens = getattr(context, "_cv_tokens", None)  # Flask 3.1: one for each push
        if tokens is None:
            tokens = [context._cv_token]  # Flask 3.2: one for the first push
        earlier = [token.old_value for token in reversed(tokens) if token is not None]
        context = next((c for c in earlier if c is not Token.MISSING and id(c) not in seen), None)


def call_inside(context: Any, function: Callable[[], T]) -> T:
    """Call a function with an active app context as the current one.

    >>> from flask import Flask, current_app
    >>> outer, inner = Flask("outer"), Flask("inner")
    >>> with outer.app_context() as context, inner.app_context():
    ...     call_inside(context, lambda: current_app.name)
    'outer'
    """
    run = copy_context().run
    run(_cv_app.set, context)
    return run(function)


cv_request: ContextVar[Any] = vars(flask_globals).get("_cv_request", _cv_app)
"""The context of the current request; in Flask 3.2, this is the app context."""


def unmarked_session() -> Any:
    """Return the request's session without marking it as accessed."""
    # Up to Flask 3.1.2, the attribute ``session`` does not mark it, and there is no ``_session``.
    context = cv_request.get()
    return getattr(context, "_session" if hasattr(context, "_session") else "session")


def describe_request() -> str | None:
    """Return method and path of the current request, such as ``POST /funding/card``."""
    request = getattr(cv_request.get(None), _REQUEST, None)  # request_in, written out for speed
    return None if request is None else f"{request.method} {request.path}"


_TRACEPARENT = r"[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}"


def trace_of_request() -> str | None:
    """Return the HTTP header ``traceparent`` of the current request, if it is valid."""
    request = getattr(cv_request.get(None), _REQUEST, None)  # as above
    found = None if request is None else request.headers.get("traceparent")
    return found if found is not None and re.fullmatch(_TRACEPARENT, found) else None


# Flask 3.2 has no public way to read a request that may be missing.
_REQUEST = "request" if "_cv_request" in vars(flask_globals) else "_request"


def sending_context(app: Flask | None, signal: str = "", frame: FrameType | None = None) -> Any:
    """Return the context of the request that an app sends a signal in; else its app context.

    Flask sends ``appcontext_pushed`` before the request context exists (Flask 3.1), and
    ``appcontext_popped`` after the contexts have ended. They are then found on the stack.

    :param app: the app; contexts of other apps may be pushed as well.
    :param signal: the signal's name.
    :param frame: the frame of the send.
    :return: ``None`` outside of the app's contexts.
    """
    ended = None
    context = cv_request.get(None)
    if request_in(context) is not None and context.app is app:
        return context
    while frame is not None and signal.startswith("appcontext_"):
        kind, _, method = frame.f_code.co_qualname.rpartition(".")
        if method in {"push", "pop"} and kind in {"RequestContext", "AppContext"}:
            context = frame.f_locals["self"]
            if context.app is app and request_in(context) is not None:
                return context
            ended = ended or context
        frame = frame.f_back
    context = ended or _cv_app.get(None)
    return context if context is not None and context.app is app else None


def request_in(context: Any) -> Any:
    """Return the request of a context, or ``None`` for an app context outside requests."""
    return getattr(context, _REQUEST, None)


def own_app_context(context: Any) -> Any:
    """Return the app context that a request pushed for itself, or ``None``.

    In Flask 3.2, that is the request's context itself.
    """
    tokens = getattr(context, "_cv_tokens", None)
    if tokens is None:
        return context
    return tokens[-1][1] if tokens else _cv_app.get(None)  # without tokens, it is being pushed


def teardown_failures(error: BaseException) -> list[BaseException]:
    """Return the exceptions of the teardown of a context.

    Flask 3.1 raises the first exception. Flask 3.2 runs every teardown function and raises their
    exceptions in nested groups. A group that a teardown function itself raised is not split.
    """
    if not isinstance(error, BaseExceptionGroup) or not _is_collected(error):
        return [error]
    return [failure for inner in error.exceptions for failure in teardown_failures(inner)]


def _is_collected(group: BaseExceptionGroup[Any]) -> bool:
    """Tell whether Flask made this group, from several teardown functions."""
    names = [frame.f_code.co_qualname for frame, _ in walk_tb(group.__traceback__)]
    return names[-1:] == ["_CollectErrors.raise_any"]


# As Werkzeug defines them: a library that observes requests may replace them later.
_close, _get_app_iter, _iter_encoded = Response.close, Response.get_app_iter, Response.iter_encoded


def is_in_memory(body: object) -> bool:
    """Tell whether a body is that of a Werkzeug response with one chunk and no work on close.

    Nothing can fail in it. The response is found by its ``close``, the last of the body's
    callbacks. These are private; without them, no body counts as in memory.
    """
    if type(body) is not ClosingIterator:
        return False
    try:
        close: Any = body._callbacks[-1]
        response = close.__self__
        kind: Any = type(response)
        is_read_plainly = kind.get_app_iter is _get_app_iter and kind.iter_encoded is _iter_encoded
        chunks = response.response
        if close.__func__ is not _close or not is_read_plainly or type(chunks) is not list:
            return False
        [chunk] = chunks
        return type(chunk) is bytes and not response._on_close
    except (AttributeError, IndexError, ValueError):
        return False


def is_current(app: Flask) -> bool:
    """Tell whether an app's context is the current one."""
    context = _cv_app.get(None)
    return context is not None and context.app is app
