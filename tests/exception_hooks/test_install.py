"""The wrappers that hooks install in an app, and their cleanup."""

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
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_signals_kit import SignalsKit
from tests.exception_hooks.support import BOOM, Watch, fail, miss, watch
from tests.support import MERGED_CONTEXTS


class PreciousError(Exception):
    """An exception that supports weak references."""


def test_exceptions_are_not_kept_alive() -> None:
    """Its frames hold the request: no hook, record or journal keeps one."""
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


def test_reported_exception_can_be_pickled(watched: Watch) -> None:
    """The kit's notes on it do not get in the way of a task queue."""
    error = ValueError("boom")

    @watched.app.get("/pickled")
    def view() -> Any:
        raise error

    watched.app.test_client().get("/pickled")
    assert watched.reported
    again = pickle.loads(pickle.dumps(error))
    assert again.args == ("boom",)


def test_app_without_hooks_is_not_wrapped() -> None:
    """An app without hooks pays nothing."""
    app = Flask("shop")
    SignalsKit(app)
    assert "wsgi_app" not in app.__dict__
    assert "handle_user_exception" not in app.__dict__


def test_concurrent_first_hooks_wrap_the_app_once() -> None:
    """The first one installs the wrapper, and none is lost."""
    reported: list[int] = []
    ready = threading.Barrier(4)

    def add(kit: SignalsKit, app: Flask, number: int) -> None:
        app_signals = kit.for_app(app)
        ready.wait(10)
        app_signals.on_exception(lambda app, exception, **extra: reported.append(number))

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
            assert sorted(reported) == [0, 1, 2, 3]
            reported.clear()
            kit.detach(app)
            assert "wsgi_app" not in app.__dict__
    finally:
        sys.setswitchinterval(interval)


def test_hook_on_signals_of_a_detached_app_changes_nothing(watched: Watch) -> None:
    """The app's signals are still referenced."""
    app_signals = watched.kit.for_app(watched.app)
    watched.kit.detach(watched.app)
    app_signals.on_exception(watched.hook)
    assert "wsgi_app" not in watched.app.__dict__
    watched.app.test_client().get("/fail")
    assert watched.reported == []


def test_middleware_works_before_and_after_the_kit() -> None:
    """Each middleware gets each request once."""
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


def test_hooks_work_in_apps_that_replace_flasks_handlers() -> None:
    """As Flask-RESTful does: `app.handle_user_exception` is an attribute of the app."""
    app = Flask("shop")
    app.logger.disabled = True
    app.add_url_rule("/fail", "fail", view_func=fail)
    original = app.handle_user_exception

    def answer(*args: Any) -> Any:
        return "answered" if isinstance(args[-1], ValueError) else original(*args)

    app.handle_user_exception = answer  # type: ignore[method-assign, assignment]
    kit = SignalsKit(app)
    reported: list[bool] = []
    kit.on_exception(handled=True)(
        lambda app, exception, handled, **extra: reported.append(handled)
    )
    assert app.test_client().get("/fail").text == "answered"
    assert reported == [True]


@pytest.mark.parametrize("first", ["kit", "restx"])
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("mounted", ["app", "blueprint"])
@pytest.mark.skipif(
    MERGED_CONTEXTS,
    reason="Flask-RESTX 1.3 takes one argument in handle_user_exception, Flask 3.2 gives two",
)
def test_exception_answered_by_flask_restx_is_reported_as_handled(
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
    assert watched.reported == [
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


def test_error_handling_is_wrapped_at_the_first_request(watched: Watch) -> None:
    """An app that is detached before is unchanged, even if the method was replaced."""
    assert "handle_user_exception" not in watched.app.__dict__
    original = watched.app.handle_user_exception
    watched.app.handle_user_exception = replaced = partial(original)  # type: ignore[method-assign]
    watched.kit.detach(watched.app)
    assert watched.app.handle_user_exception is replaced


def test_concurrent_first_requests_wrap_error_handling_once() -> None:
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
        assert watched.reported == [(BOOM, "request", True)] * 4
        watched.kit.detach(watched.app)
        assert "handle_user_exception" not in watched.app.__dict__


@pytest.mark.parametrize("fails_in", ["view", "teardown"])
@pytest.mark.parametrize(
    ("method", "wrap"),
    [
        ("wsgi_app", ProxyFix),
        ("handle_user_exception", partial),
        ("process_response", partial),
        ("do_teardown_appcontext", partial),
    ],
)
def test_hook_is_called_once_after_detaching_and_attaching_again(
    method: str, wrap: Callable[[Any], Any], fails_in: str
) -> None:
    """What has wrapped a method in between keeps the first wrapper, which then does nothing."""
    watched = watch()
    app, kit = watched.app, watched.kit
    app.testing = True
    client = app.test_client()
    with pytest.raises(ValueError, match="boom"):  # so that every method is wrapped
        client.get("/fail")
    watched.reported.clear()
    if fails_in == "teardown":
        app.teardown_appcontext_funcs.append(fail)  # Flask allows no decorator by now
    assert method in vars(app)
    setattr(app, method, wrap(getattr(app, method)))
    kit.detach(app)
    kit.init_app(app)
    with pytest.raises((ValueError, ExceptionGroup)):
        client.get("/fail" if fails_in == "view" else "/fine")
    assert [words for words, *_ in watched.reported] == [BOOM]


def test_wsgi_app_can_be_an_object_on_the_class() -> None:
    """A middleware as a class attribute is not bound like a method."""

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
