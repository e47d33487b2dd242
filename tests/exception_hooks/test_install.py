"""What the hooks install in an app, and what they leave behind."""

import gc
import logging
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from flask import (
    Blueprint,
    Flask,
)

from flask_signals_kit import SignalsKit
from tests.exception_hooks.support import BOOM, Watch, fail, miss, watch
from tests.support import MERGED_CONTEXTS


class PreciousError(Exception):
    """An exception that can be watched going."""


def test_exceptions_are_not_kept_alive() -> None:
    """Its frames hold the request: no hook, dedup or journal keeps one."""
    refs: list[weakref.ref[BaseException]] = []
    app = Flask("shop")
    app.logger.disabled = True
    app.config["TESTING"] = True
    app.config["PROPAGATE_EXCEPTIONS"] = False
    kit = SignalsKit(app)
    kit.on_exception(lambda app, exception, **extra: refs.append(weakref.ref(exception)))
    kit.signal("account_funded", on_error="isolate")

    @kit.on("account_funded")
    def precious(sender: Any = None, **extra: Any) -> Any:
        raise PreciousError

    app.add_url_rule("/fail", "fail", view_func=precious)
    app.add_url_rule("/fund", "fund", view_func=lambda: str(len(kit.send("account_funded"))))
    logging.getLogger("flask_signals_kit").disabled = True
    try:
        app.test_client().get("/fail")
        app.test_client().get("/fund")
    finally:
        logging.getLogger("flask_signals_kit").disabled = False
    gc.collect()
    assert len(refs) == 2
    assert [ref() for ref in refs] == [None, None]


def test_an_exception_that_was_told_can_still_be_pickled(watched: Watch) -> None:
    """What the kit notes on it does not get in the way of a task queue."""
    error = ValueError("boom")

    @watched.app.get("/pickled")
    def view() -> Any:
        raise error

    watched.app.test_client().get("/pickled")
    assert watched.told
    again = pickle.loads(pickle.dumps(error))
    assert again.args == ("boom",)


def test_without_hooks_nothing_is_installed() -> None:
    """An app that asks for nothing pays nothing."""
    app = Flask("shop")
    SignalsKit(app)
    assert "wsgi_app" not in app.__dict__
    assert "handle_user_exception" not in app.__dict__


def test_first_hooks_from_many_threads_wrap_the_app_once() -> None:
    """Whoever comes first installs; the others find it done, and none is lost."""
    told: list[int] = []
    ready = threading.Barrier(4)

    def add(kit: SignalsKit, app: Flask, number: int) -> None:
        half = kit.for_app(app)
        ready.wait(10)
        half.on_exception(lambda app, exception, **extra: told.append(number))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(40):
            app = Flask("shop")
            app.logger.disabled = True
            app.add_url_rule("/fail", "fail", view_func=fail)
            kit = SignalsKit(app)
            with ThreadPoolExecutor(4) as pool:
                for done in [pool.submit(add, kit, app, number) for number in range(4)]:
                    done.result(10)
            app.test_client().get("/fail")
            assert sorted(told) == [0, 1, 2, 3]
            told.clear()
            kit.detach(app)
            assert "wsgi_app" not in app.__dict__
    finally:
        sys.setswitchinterval(interval)


def test_a_hook_for_an_app_without_the_kit_touches_nothing(watched: Watch) -> None:
    """Somebody has kept the half of an app that was detached."""
    half = watched.kit.for_app(watched.app)
    watched.kit.detach(watched.app)
    half.on_exception(watched.hook)
    assert "wsgi_app" not in watched.app.__dict__
    watched.app.test_client().get("/fail")
    assert watched.told == []


def test_middleware_keeps_working_whoever_comes_first() -> None:
    """Wrapped before and after the kit; each sees each request once."""
    seen: list[str] = []

    def wrap(inner: Any, name: str) -> Any:
        def middleware(environ: Any, start_response: Any) -> Any:
            seen.append(name)
            return inner(environ, start_response)

        return middleware

    app = Flask("shop")
    app.logger.disabled = True
    app.add_url_rule("/fail", "fail", view_func=fail)
    app.wsgi_app = wrap(app.wsgi_app, "inner")  # type: ignore[method-assign]
    kit = SignalsKit(app)
    kit.on_exception(lambda app, exception, source, **extra: seen.append(source))
    app.wsgi_app = wrap(app.wsgi_app, "outer")  # type: ignore[method-assign]
    assert app.test_client().get("/fail").status_code == 500
    assert seen == ["outer", "inner", "request"]


def test_apps_that_replace_flasks_handlers_are_watched_all_the_same() -> None:
    """As Flask-RESTful does: `app.handle_user_exception` is an attribute of the app."""
    app = Flask("shop")
    app.logger.disabled = True
    app.add_url_rule("/fail", "fail", view_func=fail)
    original = app.handle_user_exception

    def answer(*args: Any) -> Any:
        return "answered" if isinstance(args[-1], ValueError) else original(*args)

    app.handle_user_exception = answer  # type: ignore[method-assign, assignment]
    kit = SignalsKit(app)
    told: list[bool] = []
    kit.on_exception(handled=True)(lambda app, exception, handled, **extra: told.append(handled))
    assert app.test_client().get("/fail").text == "answered"
    assert told == [True]


@pytest.mark.parametrize("first", ["kit", "restx"])
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("mounted", ["app", "blueprint"])
@pytest.mark.skipif(
    MERGED_CONTEXTS,
    reason="Flask-RESTX 1.3 takes one argument in handle_user_exception, Flask 3.2 gives two",
)
def test_what_flask_restx_answers_is_reported_as_handled(
    first: str, asked: bool, mounted: str
) -> None:
    """It replaces `app.handle_user_exception`, before the kit or after it."""
    restx: Any = pytest.importorskip("flask_restx")
    app = Flask("shop")
    app.logger.disabled = True
    kit = SignalsKit()
    kit.on_exception(handled=asked)((watched := Watch(app, kit)).hook)
    api = restx.Api()

    @api.errorhandler(KeyError)
    def answer(error: Exception) -> Any:
        return {"message": "answered"}, 409

    @api.route("/<kind>")
    class Account(restx.Resource):  # type: ignore[misc]
        def get(self, kind: str) -> Any:
            miss() if kind == "answered" else fail()

    def init_restx(app: Flask) -> None:
        if mounted == "app":
            api.init_app(app)
        else:
            blueprint = Blueprint("api", __name__)
            api.init_app(blueprint)
            app.register_blueprint(blueprint)

    extensions: list[Callable[[Flask], None]] = [kit.init_app, init_restx]
    for init_app in extensions if first == "kit" else reversed(extensions):
        init_app(app)
    app.add_url_rule("/plain", "plain", view_func=fail)
    with app.app_context():
        pass  # as a factory does that creates its tables
    client = app.test_client()
    assert client.get("/answered").status_code == 409
    assert client.get("/unexpected").status_code == 500
    assert client.get("/plain").status_code == 500
    assert client.get("/").status_code == 200
    assert watched.told == [
        *([("KeyError: 'key'", "request", True)] if asked else []),
        (BOOM, "request", False),
        (BOOM, "request", False),
    ]
    replaced = [watched.app.__dict__.get(name) for name in ("handle_user_exception", "wsgi_app")]
    assert None not in replaced
    kit.detach(app)
    assert {"wsgi_app", "do_teardown_appcontext"}.isdisjoint(app.__dict__)
    assert isinstance(app.__dict__["handle_user_exception"], partial)
    assert "flask_signals_kit" not in repr(app.__dict__["handle_user_exception"])


def test_error_handling_is_left_alone_until_the_first_request(watched: Watch) -> None:
    """An app that is detached before it serves is as it was, whatever replaced the method."""
    assert "handle_user_exception" not in watched.app.__dict__
    original = watched.app.handle_user_exception
    watched.app.handle_user_exception = replaced = partial(original)  # type: ignore[method-assign]
    watched.kit.detach(watched.app)
    assert watched.app.handle_user_exception is replaced


def test_first_requests_from_many_threads_watch_error_handling_once() -> None:
    """The wrapper is installed by one of them."""
    for _ in range(20):
        watched = watch(handled=True)
        watched.app.register_error_handler(ValueError, lambda error: "handled")
        ready = threading.Barrier(4)

        def visit(watched: Watch = watched, ready: threading.Barrier = ready) -> None:
            ready.wait(10)
            watched.app.test_client().get("/fail")

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(visit) for _ in range(4)]:
                done.result(10)
        assert watched.told == [(BOOM, "request", True)] * 4
        watched.kit.detach(watched.app)
        assert "handle_user_exception" not in watched.app.__dict__


def test_an_app_class_whose_wsgi_app_is_an_object_can_be_watched() -> None:
    """A middleware as a class attribute is no method, and needs no binding."""

    class Middleware:
        def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
            start_response("200 OK", [])
            return [b"middle"]

    class Shop(Flask):
        wsgi_app: Any = Middleware()

    kit = SignalsKit()
    kit.on_exception(lambda app, exception, **extra: None)
    app = Shop("shop")
    kit.init_app(app)
    assert app.test_client().get("/").data == b"middle"
