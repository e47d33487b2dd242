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


def test_an_unhandled_exception_is_told_once(watched: Watch) -> None:
    """With the real app, and source and details by name."""
    assert watched.app.test_client().get("/fail").status_code == 500
    assert watched.told == [(BOOM, "request", False)]
    assert watched.details == [
        {"source": "request", "handled": False, "signal": None, "receiver": None}
    ]


@pytest.mark.parametrize("config", ["TESTING", "PROPAGATE_EXCEPTIONS", "DEBUG"])
def test_a_propagated_exception_is_told_once(watched: Watch, config: str) -> None:
    """Signalled first and raised then: still one."""
    watched.app.config[config] = True
    with pytest.raises(ValueError, match="boom"):
        watched.app.test_client().get("/fail")
    assert watched.told == [(BOOM, "request", False)]


def test_the_hook_sees_the_request_and_the_traceback(watched: Watch) -> None:
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


@pytest.mark.parametrize("where", ["before_request", "after_request", "error_handler", "async"])
def test_exceptions_from_everywhere_in_a_request_are_told_once(watched: Watch, where: str) -> None:
    """Not in views alone."""
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
    assert watched.told == [(BOOM, "request", False)]


def test_a_500_handler_changes_nothing(watched: Watch) -> None:
    """The nice error page is for the user; the exception was not handled."""
    watched.app.register_error_handler(500, lambda error: ("sorry", 500))
    response = watched.app.test_client().get("/fail")
    assert (response.status_code, response.text) == (500, "sorry")
    assert watched.told == [(BOOM, "request", False)]


def test_a_500_handler_that_fails_is_told_besides(watched: Watch) -> None:
    """Two exceptions, each once."""

    def worse(error: Exception) -> str:
        raise KeyError("worse")

    watched.app.register_error_handler(500, worse)
    with pytest.raises(KeyError):
        watched.app.test_client().get("/fail")
    assert watched.told == [(BOOM, "request", False), ("KeyError: 'worse'", "request", False)]


@pytest.mark.parametrize("handled_by", [Exception, ValueError])
@pytest.mark.parametrize("asked", [False, True])
def test_handled_exceptions_are_told_to_those_who_ask(
    handled_by: type[Exception], asked: bool
) -> None:
    """An error handler's answer stands; `handled=True` sees it all the same."""
    watched = watch(handled=asked)
    watched.app.register_error_handler(handled_by, lambda error: "handled")
    assert watched.app.test_client().get("/fail").text == "handled"
    assert watched.told == ([(BOOM, "request", True)] if asked else [])


@pytest.mark.parametrize("asked", [False, True])
def test_an_exception_that_its_handler_raises_again_was_not_handled(asked: bool) -> None:
    """It is told once, as unhandled."""
    watched = watch(handled=asked)

    def again(error: Exception) -> str:
        raise error

    watched.app.register_error_handler(ValueError, again)
    assert watched.app.test_client().get("/fail").status_code == 500
    assert watched.told == [(BOOM, "request", False)]


def test_an_exception_that_its_handler_replaces_is_the_new_one(watched: Watch) -> None:
    """The old one is its `__context__`."""

    def other(error: Exception) -> str:
        raise KeyError("other")

    watched.app.register_error_handler(ValueError, other)
    watched.app.test_client().get("/fail")
    assert watched.told == [("KeyError: 'other'", "request", False)]


def test_handled_and_unhandled_hooks_live_side_by_side(watched: Watch) -> None:
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
    assert watched.told == [(BOOM, "request", False)]
