"""Exceptions in requests: unhandled, handled, and from every part of a request."""

import asyncio
from typing import Any

import pytest
from flask import (
    Flask,
    current_app,
    request,
)

from tests.exception_hooks.support import BOOM, Watch, fail, miss, watch


def test_unhandled_exception_is_reported_once(watched: Watch) -> None:
    """With the real app, and source and details as keyword arguments."""
    assert watched.app.test_client().get("/fail").status_code == 500
    assert watched.reported == [(BOOM, "request", False)]
    assert watched.details == [
        {"source": "request", "handled": False, "signal": None, "receiver": None}
    ]


@pytest.mark.parametrize("config", ["TESTING", "PROPAGATE_EXCEPTIONS", "DEBUG"])
def test_propagated_exception_is_reported_once(watched: Watch, config: str) -> None:
    """Flask sends its signal first and raises then."""
    watched.app.config[config] = True
    with pytest.raises(ValueError, match="boom"):
        watched.app.test_client().get("/fail")
    assert watched.reported == [(BOOM, "request", False)]


def test_hook_has_request_context_and_traceback(watched: Watch) -> None:
    """Request context, app context and `__traceback__` are there."""
    seen: list[Any] = []

    @watched.kit.on_exception
    def report(app: Flask, exception: BaseException, **extra: Any) -> None:
        frame = exception.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        assert frame is not None
        seen.append((request.path, current_app.name, frame.tb_frame.f_code.co_name))

    watched.app.test_client().get("/fail")
    assert seen == [("/fail", "shop", "fail")]


@pytest.mark.parametrize(
    "where",
    [
        "before_request",
        "after_request",
        "error_handler",
        pytest.param("async", marks=pytest.mark.needs("asgiref")),
    ],
)
def test_exceptions_outside_of_views_are_reported_once(watched: Watch, where: str) -> None:
    """In hooks of the request and in error handlers."""
    app, path = watched.app, "/fine"
    if where == "before_request":
        app.before_request(fail)
    elif where == "after_request":
        app.after_request(fail)
    elif where == "error_handler":
        app.register_error_handler(404, fail)
        path = "/nowhere"
    else:

        @app.get("/async")
        async def view() -> Any:
            await asyncio.sleep(0)
            fail()

        path = "/async"
    assert app.test_client().get(path).status_code == 500
    assert watched.reported == [(BOOM, "request", False)]


def test_exception_with_a_500_handler_is_unhandled(watched: Watch) -> None:
    """The error page is for the user; the exception was not handled."""
    watched.app.register_error_handler(500, lambda error: ("sorry", 500))
    response = watched.app.test_client().get("/fail")
    assert (response.status_code, response.text) == (500, "sorry")
    assert watched.reported == [(BOOM, "request", False)]


def test_failure_of_a_500_handler_is_reported_too(watched: Watch) -> None:
    """Two exceptions, each once."""

    def worse(error: Exception) -> str:
        raise KeyError("worse")

    watched.app.register_error_handler(500, worse)
    with pytest.raises(KeyError):
        watched.app.test_client().get("/fail")
    assert watched.reported == [(BOOM, "request", False), ("KeyError: 'worse'", "request", False)]


@pytest.mark.parametrize("handled_by", [Exception, ValueError])
@pytest.mark.parametrize("asked", [False, True])
def test_handled_exceptions_are_reported_to_hooks_with_handled_true(
    handled_by: type[Exception], asked: bool
) -> None:
    """The error handler's response is sent."""
    watched = watch(handled=asked)
    watched.app.register_error_handler(handled_by, lambda error: "handled")
    assert watched.app.test_client().get("/fail").text == "handled"
    assert watched.reported == ([(BOOM, "request", True)] if asked else [])


@pytest.mark.parametrize("asked", [False, True])
def test_exception_reraised_by_its_handler_is_unhandled(asked: bool) -> None:
    """It is reported once."""
    watched = watch(handled=asked)

    def again(error: Exception) -> str:
        raise error

    watched.app.register_error_handler(ValueError, again)
    assert watched.app.test_client().get("/fail").status_code == 500
    assert watched.reported == [(BOOM, "request", False)]


def test_exception_raised_by_an_error_handler_replaces_the_first(watched: Watch) -> None:
    """The first one is its `__context__`."""

    def other(error: Exception) -> str:
        raise KeyError("other")

    watched.app.register_error_handler(ValueError, other)
    watched.app.test_client().get("/fail")
    assert watched.reported == [("KeyError: 'other'", "request", False)]


def test_hooks_with_and_without_handled_can_be_combined(watched: Watch) -> None:
    """Each gets what it asked for."""
    both: list[bool] = []

    @watched.kit.on_exception(handled=True)
    def report(app: Flask, exception: BaseException, *, handled: bool, **extra: Any) -> None:
        both.append(handled)

    watched.app.register_error_handler(KeyError, lambda error: "handled")
    watched.app.add_url_rule("/handled", "handled", view_func=miss)
    client = watched.app.test_client()
    client.get("/handled")
    client.get("/fail")
    assert both == [True, False]
    assert watched.reported == [(BOOM, "request", False)]
