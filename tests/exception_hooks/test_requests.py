"""Exception hooks: every exception that leaves the app's code, each once, with its source."""

import asyncio
import contextlib
import gc
import http.client
import io
import json
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
import wsgiref.simple_server
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

import click
import pytest
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    copy_current_request_context,
    current_app,
    redirect,
    request,
    send_file,
    stream_with_context,
)
from flask.sessions import SecureCookieSessionInterface
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.test import create_environ

from flask_signals_kit import DEFAULT_IGNORED, ConfigurationError, ReceiverError, SignalsKit
from flask_signals_kit.records import Source
from tests.support import MERGED_CONTEXTS, raises_in_teardown, serving


@dataclass
class Watch:
    """An app, its kit, and what a hook was told."""

    app: Flask
    kit: SignalsKit
    told: list[tuple[str, str, bool]] = field(default_factory=list)
    """Exception, source, and whether it was handled."""
    details: list[dict[str, Any]] = field(default_factory=list)

    def hook(self, app: Flask, exception: BaseException, /, **details: Any) -> None:
        """Note what is told."""
        assert app is self.app
        words = f"{type(exception).__name__}: {exception}".removesuffix(": ")
        self.told.append((words, details["source"], details["handled"]))
        self.details.append(details)


def watch(**options: Any) -> Watch:
    """Make an app with a hook, and with a view that fails."""
    app = Flask("shop")
    app.logger.disabled = True
    watched = Watch(app, SignalsKit(app))
    watched.kit.on_exception(**options)(watched.hook)
    app.add_url_rule("/fail", "fail", view_func=fail)
    app.add_url_rule("/fine", "fine", view_func=lambda: "fine")
    return watched


def fail(*args: Any, **kwargs: Any) -> Any:
    """Raise, whatever is given: a view, a receiver, a teardown function."""
    raise ValueError("boom")


def miss(*args: Any, **kwargs: Any) -> Any:
    """Raise something else."""
    raise KeyError("key")


BOOM = "ValueError: boom"


@pytest.fixture
def watched() -> Watch:
    """Give an app whose exceptions are watched with the defaults."""
    return watch()


# -- requests -------------------------------------------------------------------------------------


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


# -- what is ignored ------------------------------------------------------------------------------


@pytest.mark.parametrize("handled", [False, True])
def test_http_exceptions_are_ignored_by_default(handled: bool) -> None:
    """`abort`, unknown URLs, redirects and wrong methods end requests on purpose."""
    watched = watch(handled=handled)
    app = watched.app
    app.add_url_rule("/abort", "abort", view_func=lambda: abort(403))
    app.add_url_rule("/five", "five", view_func=lambda: abort(500))
    app.add_url_rule("/raise", "raise", view_func=lambda: (_ for _ in ()).throw(NotFound()))
    app.add_url_rule("/redirect", "redirect", view_func=lambda: abort(redirect("/fine")))
    app.add_url_rule("/slash/", "slash", view_func=lambda: "slash")
    client = app.test_client()
    for path in ("/abort", "/five", "/raise", "/redirect", "/slash", "/nowhere"):
        assert client.get(path).status_code in {302, 303, 308, 403, 404, 500}
    client.post("/fine")
    assert watched.told == []


def test_an_http_exception_raised_by_an_error_handler_is_ignored(watched: Watch) -> None:
    """A handler that turns a failure into `abort(502)` decided so; Flask signals it."""

    def give_up(error: Exception) -> Any:
        abort(502)

    watched.app.register_error_handler(ValueError, give_up)
    watched.app.test_client().get("/fail")
    assert watched.told == []


def test_what_is_ignored_can_be_chosen() -> None:
    """`ignore=()` ignores nothing, and one class may stand for a tuple."""
    watched = watch(ignore=(), handled=True)
    watched.app.add_url_rule("/abort", "abort", view_func=lambda: abort(403))
    watched.app.test_client().get("/abort")
    assert [(source, handled) for _, source, handled in watched.told] == [("request", True)]
    watched = watch(ignore=ValueError)
    watched.app.test_client().get("/fail")
    assert watched.told == []
    watched = watch(ignore=[KeyError, HTTPException])
    watched.app.test_client().get("/fail")
    assert watched.told == [(BOOM, "request", False)]


@pytest.mark.parametrize(
    "ending",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        asyncio.CancelledError(),
        BaseExceptionGroup("two", [KeyboardInterrupt(), ValueError("boom")]),
        type("Stop", (BaseException,), {})("now"),
    ],
    ids=lambda ending: type(ending).__name__,
)
def test_hooks_are_not_called_for_what_is_no_exception(ending: BaseException) -> None:
    """Whatever the hook ignores: these end something on purpose, and they propagate."""
    watched = watch(ignore=(), handled=True)

    def end(*args: Any, **extra: Any) -> Any:
        raise ending

    def body() -> Iterator[str]:
        yield "a line"
        end()

    watched.kit.signal("account_funded", on_error="isolate")
    watched.kit.on("account_funded")(end)
    app = watched.app
    app.add_url_rule("/end", "end", view_func=end)
    app.add_url_rule("/stream", "stream", view_func=lambda: Response(body()))
    app.add_url_rule("/fund", "fund", view_func=lambda: watched.kit.send("account_funded"))
    app.cli.command("end")(end)
    for path in ("/end", "/stream", "/fund"):
        with pytest.raises(type(ending)):
            _ = app.test_client().get(path).data
    with pytest.raises(type(ending)), app.app_context():
        end()
    with suppress(BaseException):
        app.test_cli_runner().invoke(args=["end"])
    app.teardown_request_funcs.setdefault(None, []).append(end)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - Flask 3.2 raises a group
        app.test_client().get("/fine")
    assert watched.told == []


def test_a_cancelled_async_view_is_not_reported(watched: Watch) -> None:
    """A task that is cancelled raises `CancelledError`, which is no failure."""

    @watched.app.get("/cancelled")
    async def view() -> str:
        task = asyncio.ensure_future(asyncio.sleep(10))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task
        return "never"

    with pytest.raises(asyncio.CancelledError):
        watched.app.test_client().get("/cancelled")
    assert watched.told == []


def test_an_async_task_that_times_out_is_reported(watched: Watch) -> None:
    """`TimeoutError` is an `Exception`, unlike the cancellation that it comes from."""

    @watched.app.get("/late")
    async def view() -> str:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(10)
        return "never"

    assert watched.app.test_client().get("/late").status_code == 500
    assert [source for _, source, _ in watched.told] == ["request"]


GEVENT = """
from gevent import monkey
monkey.patch_all()
import gevent
from flask import Flask
from flask_signals_kit import SignalsKit

app = Flask("shop")
app.logger.disabled = True
kit = SignalsKit(app)

@kit.on_exception(ignore=())
def report(app, exception, *, source, **extra):
    print(source, type(exception).__name__, flush=True)

app.add_url_rule("/sleep", "sleep", view_func=lambda: gevent.sleep(10))
app.add_url_rule("/fail", "fail", view_func=lambda: {}["key"])

@app.get("/timeout")
def timeout():
    with gevent.Timeout(0.01):
        gevent.sleep(10)

def job():
    with app.app_context():
        gevent.sleep(10)

def ended(greenlet):
    greenlet.join(10)
    return greenlet.value if greenlet.successful() else greenlet.exception

for target in (lambda: app.test_client().get("/sleep"), job):
    greenlet = gevent.spawn(target)
    gevent.sleep(0.05)
    greenlet.kill()
    print("killed", type(ended(greenlet)).__name__, flush=True)
greenlet = gevent.spawn(lambda: app.test_client().get("/timeout"))
greenlet.join(10)
print("timed out", type(greenlet.exception).__name__, flush=True)
print(gevent.spawn(lambda: app.test_client().get("/fail")).get().status_code)
"""


def run_script(script: str, *args: str) -> list[str]:
    """Run a script in a process of its own, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script, *args],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_gevents_own_exceptions_are_not_reported() -> None:
    """A killed greenlet and a `gevent.Timeout` are control flow; a `KeyError` is a failure."""
    pytest.importorskip("gevent")
    assert run_script(GEVENT) == [
        "killed GreenletExit",
        "killed GreenletExit",
        "timed out Timeout",
        "request KeyError",
        "500",
    ]


CELERY = """
import sys
from flask import Flask
from flask_signals_kit import DEFAULT_IGNORED, SignalsKit

kit = SignalsKit()
assert "celery" not in sys.modules
reported = []

@kit.on_exception
def report(app, exception, *, source, **extra):
    reported.append(f"{source} {type(exception).__name__}")

@kit.on_exception(ignore=())
def report_all(app, exception, *, source, **extra):
    reported.append(f"all: {source} {type(exception).__name__}")

@kit.on_exception(ignore=(*DEFAULT_IGNORED, KeyError))
def report_some(app, exception, *, source, **extra):
    reported.append(f"some: {source} {type(exception).__name__}")

app = Flask("shop")
kit.init_app(app)

from celery import Celery, Task
from celery.exceptions import Ignore, Reject, Retry

class ContextTask(Task):
    def __call__(self, *args, **kwargs):
        with app.app_context():
            return self.run(*args, **kwargs)

celery = Celery("shop", task_cls=ContextTask, broker="memory://", backend="cache+memory://")
celery.conf.update(worker_hijack_root_logger=False, task_acks_late=True)

class OwnRetry(Retry):
    pass

@celery.task(bind=True, max_retries=2)
def retry_twice(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return "done"

@celery.task(bind=True)
def end(self, how):
    raise {"ignore": Ignore, "reject": Reject, "own": OwnRetry}[how]()

@celery.task
def fail(error):
    raise {"KeyError": KeyError, "ValueError": ValueError}[error]("boom")

def show(title, *results):
    print(title, *results, *[";".join(sorted(set(reported))) or "nothing"], flush=True)
    reported.clear()

mode = sys.argv[1]
if mode == "apply":
    call = lambda task, *args: task.apply(args)
    settle = lambda result: result.get(propagate=False)
else:
    import logging
    logging.disable(logging.CRITICAL)
    from celery.contrib.testing.worker import start_worker
    worker = start_worker(celery, pool="solo", perform_ping_check=False, loglevel="CRITICAL")
    worker.__enter__()
    call = lambda task, *args: task.apply_async(args)
    settle = lambda result: result.get(propagate=False, timeout=20)
done = settle(call(retry_twice))
print(done, any(line.startswith("all: cli Retry") for line in reported))
print([line for line in reported if not line.startswith("all:")])
reported.clear()
for how in ("ignore", "reject"):
    result = call(end, how)
    settle(call(fail, "KeyError"))
    print(how, [line for line in reported if not line.startswith("all:")])
    reported.clear()
settle(call(fail, "ValueError"))
print(reported)
if mode == "worker":
    worker.__exit__(None, None, None)
"""


@pytest.mark.parametrize("mode", ["apply", "worker"])
def test_celerys_control_flow_is_not_reported(mode: str) -> None:
    """`self.retry()`, `Ignore` and `Reject` end a task on purpose; Celery comes after the kit."""
    pytest.importorskip("celery")
    assert run_script(CELERY, mode) == [
        "done True",
        "[]",
        "ignore ['cli KeyError']",
        "reject ['cli KeyError']",
        "['cli ValueError', 'all: cli ValueError', 'some: cli ValueError']",
    ]


def test_default_ignored_knows_celerys_classes() -> None:
    """With `isinstance` and with `issubclass`, subclasses included; Celery's errors are others."""
    exceptions = pytest.importorskip("celery.exceptions")
    own = type("OwnRetry", (exceptions.Retry,), {})
    for kind in (exceptions.Retry, exceptions.Ignore, exceptions.Reject, own):
        assert issubclass(kind, DEFAULT_IGNORED)
        assert isinstance(kind(), DEFAULT_IGNORED)
    assert not issubclass(exceptions.MaxRetriesExceededError, DEFAULT_IGNORED)
    assert not issubclass(type("Retry", (Exception,), {}), DEFAULT_IGNORED)


def test_default_ignored_can_be_extended() -> None:
    """`ignore=(*DEFAULT_IGNORED, KeyError)` adds a class to what is ignored by default."""
    watched = watch(ignore=(*DEFAULT_IGNORED, KeyError), handled=True)
    watched.app.add_url_rule("/abort", "abort", view_func=lambda: abort(403))
    watched.app.add_url_rule("/miss", "miss", view_func=miss)
    for path in ("/abort", "/miss", "/fail"):
        watched.app.test_client().get(path)
    assert watched.told == [(BOOM, "request", False)]


# -- receivers ------------------------------------------------------------------------------------


def test_a_contained_failure_is_told_as_a_receivers(watched: Watch) -> None:
    """With signal and receiver; the request goes on."""
    watched.kit.signal("account_funded", on_error="isolate")
    watched.kit.on("account_funded")(fail)
    watched.app.add_url_rule(
        "/fund", "fund", view_func=lambda: str(len(watched.kit.send("account_funded")))
    )
    assert watched.app.test_client().get("/fund").text == "0"
    assert watched.told == [(BOOM, "receiver", False)]
    assert watched.details[0]["signal"] == "account_funded"
    assert watched.details[0]["receiver"] is fail


def test_a_robust_sends_failures_are_told(watched: Watch) -> None:
    """Each receiver's, whatever the policy, in a request and outside of one."""
    watched.kit.on("account_funded")(fail)
    watched.kit.on("account_funded")(miss)
    with watched.app.app_context():
        watched.kit.send_robust("account_funded")
    watched.kit.for_app(watched.app).send_robust("account_funded")
    assert [told[1] for told in watched.told] == ["receiver"] * 4
    assert {told[0] for told in watched.told} == {BOOM, "KeyError: 'key'"}


@pytest.mark.parametrize("on_error", ["raise", "group"])
def test_what_propagates_from_a_receiver_is_told_at_the_boundary(
    watched: Watch, on_error: Any
) -> None:
    """Once, by the request that it ends."""
    watched.kit.signal("account_funded", on_error=on_error)
    watched.kit.on("account_funded")(fail)
    watched.app.add_url_rule("/fund", "fund", view_func=lambda: watched.kit.send("account_funded"))
    assert watched.app.test_client().get("/fund").status_code == 500
    [(_, source, _)] = watched.told
    assert source == "request"


def test_a_propagating_failure_that_somebody_catches_is_nobodys_business(watched: Watch) -> None:
    """The view handles it."""
    watched.kit.on("account_funded")(fail)

    def fund() -> str:
        try:
            watched.kit.send("account_funded")
        except ValueError:
            return "caught"
        return "not raised"

    watched.app.add_url_rule("/fund", "fund", view_func=fund)
    assert watched.app.test_client().get("/fund").text == "caught"
    assert watched.told == []


def test_a_contained_exception_that_is_raised_after_all_is_told_once(watched: Watch) -> None:
    """The view raises what `send_robust` returned."""
    watched.kit.on("account_funded")(fail)

    def fund() -> Any:
        [failed] = watched.kit.send_robust("account_funded")
        raise failed.exception  # type: ignore[union-attr]

    watched.app.add_url_rule("/fund", "fund", view_func=fund)
    watched.app.test_client().get("/fund")
    assert watched.told == [(BOOM, "receiver", False)]


# -- teardown -------------------------------------------------------------------------------------


@pytest.mark.parametrize("register", ["teardown_request", "teardown_appcontext"])
def test_a_failing_teardown_is_told(watched: Watch, register: str) -> None:
    """Flask raises it out of the app without a signal."""
    getattr(watched.app, register)(fail)
    with raises_in_teardown(ValueError):
        watched.app.test_client().get("/fine")
    assert watched.told == [(BOOM, "teardown", False)]


def test_a_failing_view_and_a_failing_teardown_are_two(watched: Watch) -> None:
    """Each with its source."""

    def worse(error: BaseException | None) -> None:
        raise KeyError("worse")

    watched.app.teardown_request(worse)
    with raises_in_teardown(KeyError):
        watched.app.test_client().get("/fail")
    assert watched.told == [(BOOM, "request", False), ("KeyError: 'worse'", "teardown", False)]


def test_a_failing_teardown_of_a_command_is_told(watched: Watch) -> None:
    """A command ends an app context as well, and its teardown functions run."""
    watched.app.teardown_appcontext(fail)
    watched.app.cli.command("fine")(lambda: None)
    result = watched.app.test_cli_runner().invoke(args=["fine"])
    assert isinstance(result.exception, ExceptionGroup if MERGED_CONTEXTS else ValueError)
    assert watched.told == [(BOOM, "teardown", False)]


def test_every_failing_teardown_function_is_reported_once(watched: Watch) -> None:
    """Flask 3.1 stops at the first one; Flask 3.2 runs all and raises a group of groups."""
    watched.app.teardown_request(fail)
    watched.app.teardown_request(lambda error: abort(400))
    watched.app.teardown_appcontext(miss)
    watched.app.teardown_appcontext(fail)
    for _ in range(2):
        with pytest.raises(Exception):  # noqa: B017, PT011
            watched.app.test_client().get("/fine")
    with pytest.raises(Exception), watched.app.app_context():  # noqa: B017, PT011
        pass
    boom, key = (BOOM, "teardown", False), ("KeyError: 'key'", "teardown", False)
    if MERGED_CONTEXTS:
        assert sorted(watched.told) == sorted([boom, boom, key] * 2 + [boom, key])
    else:
        assert watched.told == [boom] * 3  # the request's teardown ends with abort(400)


def test_a_group_that_a_teardown_function_raises_is_left_whole(watched: Watch) -> None:
    """It is that function's own exception, in every version of Flask."""

    @watched.app.teardown_request
    def close_all(error: BaseException | None) -> None:
        raise ExceptionGroup("two", [ValueError("one"), KeyError("two")])

    with pytest.raises(ExceptionGroup):
        watched.app.test_client().get("/fine")
    assert watched.told == [("ExceptionGroup: two (2 sub-exceptions)", "teardown", False)]


# -- streams --------------------------------------------------------------------------------------


def streaming(start: int, *, with_context: bool) -> Callable[[], Response]:
    """Make a view whose body fails after some chunks."""

    def view() -> Response:
        def body() -> Iterator[str]:
            for number in range(start):
                yield str(number)
            fail()
            yield "never"

        return Response(stream_with_context(body()) if with_context else body())

    return view


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_an_exception_in_a_streamed_body_is_told(
    watched: Watch, start: int, with_context: bool
) -> None:
    """Before the first chunk and after, with the request's context and without."""
    watched.app.add_url_rule(
        "/stream", "stream", view_func=streaming(start, with_context=with_context)
    )
    with pytest.raises(ValueError, match="boom"):
        _ = watched.app.test_client().get("/stream").data
    assert watched.told == [(BOOM, "stream", False)]


def test_a_stream_in_a_real_server_is_told_once(watched: Watch) -> None:
    """The server reads the body after the request has ended, and closes it."""
    watched.app.add_url_rule("/stream", "stream", view_func=streaming(2, with_context=True))
    arrived = threading.Event()
    watched.kit.on_exception(lambda app, exception, **extra: arrived.set())
    with serving(watched.app) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
        connection.request("GET", "/stream")
        with suppress(http.client.HTTPException, ConnectionError):  # or a short body
            assert connection.getresponse().read() == b"01"
        connection.close()
        assert arrived.wait(10)
    assert watched.told == [(BOOM, "stream", False)]


def test_an_exception_on_close_is_told(watched: Watch) -> None:
    """`call_on_close` runs when the server is done with the body."""

    @watched.app.get("/close")
    def view() -> Response:
        response = Response("body")
        response.call_on_close(fail)
        return response

    with pytest.raises(ValueError, match="boom"):
        watched.app.test_client().get("/close").close()
    assert watched.told == [(BOOM, "stream", False)]


def test_a_stream_that_the_client_abandons_is_no_exception(watched: Watch) -> None:
    """`GeneratorExit` ends a body that nobody reads on."""
    closed: list[str] = []

    @watched.app.get("/endless")
    def view() -> Response:
        def body() -> Iterator[str]:
            try:
                while True:
                    yield "more"
            finally:
                closed.append("closed")

        return Response(body())

    response = watched.app.test_client().get("/endless", buffered=False)
    assert next(iter(response.response)) in ("more", b"more")
    response.close()
    assert closed == ["closed"]
    assert watched.told == []


@pytest.mark.parametrize("source", get_args(Source))
def test_a_failing_stream_is_a_stream_to_every_hook(source: Any) -> None:
    """Its app context ends with it, and is no command's, even if nobody asks for streams."""
    watched = watch(sources=[source])
    watched.app.add_url_rule("/stream", "stream", view_func=streaming(1, with_context=True))
    with pytest.raises(ValueError, match="boom"):
        _ = watched.app.test_client().get("/stream").data
    assert watched.told == ([(BOOM, "stream", False)] if source == "stream" else [])


@pytest.mark.parametrize("ignore", [None, ()])
def test_a_client_that_hangs_up_is_no_failing_command(ignore: Any) -> None:
    """The generator is closed, and with it the app context that it keeps."""
    watched = watch(sources=["cli"], ignore=ignore)

    @watched.app.get("/endless")
    def view() -> Response:
        def body() -> Iterator[str]:
            while True:
                yield "more"

        return Response(stream_with_context(body()))

    response = watched.app.test_client().get("/endless", buffered=False)
    assert next(response.iter_encoded()) == b"more"
    response.close()
    assert watched.told == []


def test_a_generator_that_is_closed_early_is_not_told(watched: Watch) -> None:
    """`GeneratorExit` ends it on purpose, and the app context in it."""

    def accounts() -> Generator[str, None, None]:
        with watched.app.app_context():
            yield from ("acme", "umbrella")

    found = accounts()
    assert next(found) == "acme"
    found.close()
    assert watched.told == []


def test_the_end_of_a_websocket_under_gunicorn_is_not_told(watched: Watch) -> None:
    """Flask-Sock's response raises `StopIteration`, and Gunicorn closes the connection."""

    class Ended(Response):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            raise StopIteration

    watched.app.add_url_rule("/socket", "socket", view_func=Ended)
    with pytest.raises(StopIteration):
        watched.app.test_client().get("/socket")
    assert watched.told == []


def test_a_teardown_that_calls_next_once_too_often_is_told(watched: Watch) -> None:
    """It is no WebSocket, though Flask has not seen its `StopIteration`."""
    watched.app.teardown_request(lambda error: next(iter(())))
    with raises_in_teardown(StopIteration):
        watched.app.test_client().get("/fine")
    assert watched.told == [("StopIteration", "teardown", False)]


@pytest.mark.parametrize("testing", [False, True])
def test_a_view_that_calls_next_once_too_often_is_told(watched: Watch, testing: bool) -> None:
    """Its `StopIteration` is a mistake."""
    watched.app.testing = testing
    watched.app.add_url_rule("/next", "next", view_func=lambda: next(iter(())))
    with pytest.raises(StopIteration) if testing else contextlib.nullcontext():
        watched.app.test_client().get("/next")
    assert watched.told == [("StopIteration", "request", False)]


def test_bodies_are_what_they_were(watched: Watch, tmp_path: Path) -> None:
    """Watching changes no content, no length and no header, for any kind of response."""
    file = tmp_path / "file.bin"
    file.write_bytes(b"x" * 100_000)
    plain = Flask("plain")
    for app in (watched.app, plain):
        app.add_url_rule("/text", "text", view_func=lambda: "text")
        app.add_url_rule("/list", "list", view_func=lambda: Response(["a", "b"]))
        app.add_url_rule("/file", "file", view_func=lambda: send_file(file))
        app.add_url_rule("/empty", "empty", view_func=lambda: ("", 204))
        app.add_url_rule("/stream", "stream", view_func=lambda: (str(n) for n in range(9)))
    for path in ("/text", "/list", "/file", "/empty", "/stream"):
        for method in ("GET", "HEAD"):
            ours = watched.app.test_client().open(path, method=method)
            theirs = plain.test_client().open(path, method=method)
            assert (ours.status, ours.data) == (theirs.status, theirs.data)
            assert {*ours.headers} - {*theirs.headers} <= {
                header for header in ours.headers if header[0] == "Date"
            }
            ours.close()
            theirs.close()
    assert watched.told == []


class Download:
    """A file of a remote store that breaks after its first kilobyte; it has no `fileno`."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads > 1:
            raise OSError("connection lost")
        return b"x" * 1024


class SeekableDownload(Download):
    """One that tells its size before it is read, as Waitress asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.position = 0

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        self.position = 4096 if whence == 2 else offset
        return self.position


LOST = ("OSError: connection lost", "stream", False)


def downloads() -> Watch:
    """Make an app with downloads that break, and one that does not."""
    watched = watch()
    app = watched.app
    for name, kind in (("broken", Download), ("seekable", SeekableDownload)):
        view = partial(lambda kind: send_file(kind(), mimetype="text/plain"), kind)
        app.add_url_rule(f"/{name}", name, view_func=view)
    app.add_url_rule("/file", "file", view_func=lambda: send_file(__file__))
    return watched


def read_all(connection: http.client.HTTPConnection, path: str) -> bytes:
    """Get a path; a body that breaks is as long as it is."""
    connection.request("GET", path, headers={"Host": "localhost"})
    try:
        return connection.getresponse().read()
    except http.client.IncompleteRead as error:
        return error.partial
    except (http.client.HTTPException, ConnectionError):
        return b""
    finally:
        connection.close()


def test_a_download_that_breaks_is_reported() -> None:
    """Without a server's file wrapper, Werkzeug's own is a stream like any other."""
    watched = downloads()
    with pytest.raises(OSError, match="connection lost"):
        _ = watched.app.test_client().get("/broken").data
    assert watched.told == [LOST]
    with watched.app.test_client().get("/file") as response:
        assert response.data == Path(__file__).read_bytes()


@contextmanager
def on_wsgiref(app: Flask) -> Iterator[int]:
    """Serve with the standard library, whose server has a file wrapper."""

    class Quiet(ServerHandler):
        def log_exception(self, exc_info: Any) -> None:
            pass

    class Handler(WSGIRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    wsgiref.simple_server.ServerHandler, former = Quiet, ServerHandler  # type: ignore[misc]
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        wsgiref.simple_server.ServerHandler = former  # type: ignore[misc]


@contextmanager
def on_waitress(app: Flask) -> Iterator[int]:
    """Serve with Waitress, which sends a seekable file from its own thread."""
    waitress: Any = pytest.importorskip("waitress")
    logging.getLogger("waitress").setLevel(logging.CRITICAL)
    sockets: dict[Any, Any] = {}
    server = waitress.create_server(app, host="127.0.0.1", port=0, map=sockets)
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            waitress.server.wasyncore.loop(timeout=0.05, map=sockets, count=1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield server.effective_port
    finally:
        ended.set()
        thread.join()
        server.task_dispatcher.shutdown()
        waitress.server.wasyncore.close_all(sockets)


@pytest.mark.parametrize("serve", [on_wsgiref, on_waitress])
@pytest.mark.parametrize("path", ["/broken", "/seekable"])
def test_a_download_that_breaks_under_a_file_wrapper_of_the_server_is_reported(
    serve: Callable[[Flask], Any], path: str
) -> None:
    """The server gets its own file wrapper; the file in it is watched."""
    watched = downloads()
    arrived = threading.Event()
    watched.kit.on_exception(lambda app, exception, **extra: arrived.set())
    with serve(watched.app) as port:
        connect = partial(http.client.HTTPConnection, "127.0.0.1", port, timeout=10)
        assert read_all(connect(), path)[:1024] in (b"x" * 1024, b"")
        assert arrived.wait(10)
        assert read_all(connect(), "/file") == Path(__file__).read_bytes()
    assert {*watched.told} == {LOST}  # Waitress may read a second time, which fails anew


ON_GUNICORN = """
import gunicorn.http.wsgi
from tests.exception_hooks.test_requests import downloads

watched = downloads()
app = watched.app
write_file = gunicorn.http.wsgi.Response.sendfile

def sendfile(self, respiter):
    sent = write_file(self, respiter)
    print("sendfile", sent, flush=True)
    return sent

gunicorn.http.wsgi.Response.sendfile = sendfile

@watched.kit.on_exception
def report(app, exception, *, source, **extra):
    print(source, type(exception).__name__, flush=True)
"""


class UnixConnection(http.client.HTTPConnection):
    """A connection to a socket in the file system."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self.host)


def test_gunicorn_sends_files_itself_and_reports_downloads_that_break(tmp_path: Path) -> None:
    """What has a `fileno` goes out by `sendfile`, as without the kit."""
    pytest.importorskip("gunicorn")
    (tmp_path / "serve.py").write_text(ON_GUNICORN)
    address = tmp_path / "socket"
    with subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", f"unix:{address}", "serve:app"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    ) as server:
        try:
            deadline = time.monotonic() + 30
            connect = partial(UnixConnection, str(address))
            while time.monotonic() < deadline:
                with socket.socket(socket.AF_UNIX) as probe:
                    if probe.connect_ex(str(address)) == 0:
                        break
                time.sleep(0.05)
            assert read_all(connect(), "/file") == Path(__file__).read_bytes()
            assert read_all(connect(), "/broken") == b"x" * 1024
        finally:
            server.terminate()
        assert server.stdout is not None
        assert server.stdout.read().splitlines() == [
            "sendfile True",
            "sendfile False",
            "stream OSError",
        ]


class BrokenSessions(SecureCookieSessionInterface):
    """A store of sessions that is full."""

    def save_session(self, *args: Any) -> None:
        raise OSError("disk full")


@pytest.mark.parametrize("how", ["session", "after_request"])
@pytest.mark.parametrize("path", ["/fine", "/fail", "/nowhere"])
def test_a_response_that_cannot_be_finished_is_reported_once(
    watched: Watch, path: str, how: str
) -> None:
    """Be it that of a view or that of a failure, where Flask only logs it."""
    if how == "session":
        watched.app.secret_key = "key"
        watched.app.session_interface = BrokenSessions()
    else:

        def break_down(response: Response) -> Response:
            raise OSError("disk full")

        watched.app.after_request(break_down)
    assert watched.app.test_client().get(path).status_code == 500
    failed = [(BOOM, "request", False)] if path == "/fail" else []
    assert watched.told == [*failed, ("OSError: disk full", "request", False)]
    watched.told.clear()
    watched.app.testing = True
    with pytest.raises((OSError, ValueError)):
        watched.app.test_client().get(path)
    assert watched.told == (failed or [("OSError: disk full", "request", False)])


# -- commands and scripts -------------------------------------------------------------------------


def test_an_exception_in_a_command_is_told(watched: Watch) -> None:
    """Once, as `cli`, and it goes up."""
    watched.app.cli.command("fail")(fail)
    result = watched.app.test_cli_runner().invoke(args=["fail"])
    assert isinstance(result.exception, ValueError)
    assert watched.told == [(BOOM, "cli", False)]


def test_a_command_that_pushes_contexts_of_its_own_tells_once(watched: Watch) -> None:
    """The exception ends each of them, and is one."""

    @watched.app.cli.command("fail")
    def command() -> None:
        with watched.app.app_context(), watched.app.test_request_context():
            fail()

    watched.app.test_cli_runner().invoke(args=["fail"])
    assert watched.told == [(BOOM, "cli", False)]


def test_what_a_command_handles_is_not_told(watched: Watch) -> None:
    """Not even if an app context begins and ends while it is being handled."""

    @watched.app.cli.command("careful")
    def command() -> None:
        try:
            fail()
        except ValueError:
            with watched.app.app_context():
                click.echo("handled")

    result = watched.app.test_cli_runner().invoke(args=["careful"])
    assert (result.exit_code, result.output) == (0, "handled\n")
    assert watched.told == []


ENDINGS: list[tuple[BaseException, int]] = [
    (click.UsageError("wrong"), 2),
    (click.BadParameter("wrong"), 2),
    (click.FileError("file"), 1),
    (click.ClickException("sorry"), 1),
    (click.Abort(), 1),
    (click.exceptions.Exit(4), 4),
    (SystemExit(5), 5),
]


@pytest.mark.parametrize(("ending", "code"), ENDINGS, ids=lambda value: type(value).__name__)
def test_clicks_own_exceptions_are_ignored(
    watched: Watch, ending: BaseException, code: int
) -> None:
    """They end a command on purpose."""

    @watched.app.cli.command("end")
    def command() -> None:
        raise ending

    assert watched.app.test_cli_runner().invoke(args=["end"]).exit_code == code
    assert watched.told == []


def test_a_contained_failure_in_a_command_is_told_once(watched: Watch) -> None:
    """As a receiver's; raised afterwards, it is not told again."""
    watched.kit.on("account_funded")(fail)

    @watched.app.cli.command("fund")
    def command() -> None:
        [failed] = watched.kit.send_robust("account_funded")
        raise failed.exception  # type: ignore[union-attr]

    watched.app.test_cli_runner().invoke(args=["fund"])
    assert watched.told == [(BOOM, "receiver", False)]


def test_a_script_is_told_like_a_command(watched: Watch) -> None:
    """`with app.app_context():` in a script or a worker, ended by an exception."""
    with pytest.raises(ValueError, match="boom"), watched.app.app_context():
        fail()
    assert watched.told == [(BOOM, "cli", False)]


def test_a_context_within_a_request_is_the_requests(watched: Watch) -> None:
    """A view that pushes a context and fails there is told once, as `request`."""

    @watched.app.get("/context")
    def view() -> Any:
        with watched.app.app_context():
            fail()

    watched.app.test_client().get("/context")
    assert watched.told == [(BOOM, "request", False)]


def test_a_thread_with_the_requests_context_is_told(watched: Watch) -> None:
    """`copy_current_request_context` carries failures nobody else would see."""

    @watched.app.get("/thread")
    def view() -> str:
        with ThreadPoolExecutor(1) as pool:
            error = pool.submit(copy_current_request_context(fail)).exception(10)
        return type(error).__name__

    assert watched.app.test_client().get("/thread").text == "ValueError"
    assert [words for words, _, _ in watched.told] == [BOOM]


def test_a_job_that_outlives_the_request_that_began_it_is_told(watched: Watch) -> None:
    """It has the request's context variables, and is no part of the request any more."""
    ended = threading.Event()
    jobs: list[Future[None]] = []

    def job() -> None:
        assert ended.wait(10)
        with watched.app.app_context():
            fail()

    with ThreadPoolExecutor(1) as pool:

        @watched.app.get("/begin")
        def view() -> str:
            jobs.append(pool.submit(copy_context().run, job))
            return "begun"

        watched.app.test_client().get("/begin").close()
        ended.set()
        assert isinstance(jobs[0].exception(10), ValueError)
    assert watched.told == [(BOOM, "cli", False)]


def test_a_request_within_a_command_and_the_command_are_two(watched: Watch) -> None:
    """Each tells of what leaves it."""
    watched.app.testing = True
    watched.app.cli.command("visit")(lambda: watched.app.test_client().get("/fail"))
    watched.app.test_cli_runner().invoke(args=["visit"])
    assert watched.told == [(BOOM, "request", False), (BOOM, "cli", False)]


SHOP = """
import sys
from flask import Flask
from flask_signals_kit import SignalsKit

kit = SignalsKit()

@kit.on_exception
def report(app, exception, *, source, handled, **extra):
    print(f"told {type(exception).__name__} by {source} in {app.name}", file=sys.stderr)

def create_app():
    app = Flask("shop")
    kit.init_app(app)

    @app.cli.command("fail")
    def fail():
        raise ValueError("boom")

    @app.cli.command("fine")
    def fine():
        pass

    @app.cli.command("leave")
    def leave():
        sys.exit(7)

    return app
"""


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["fail"], 1, ["told ValueError by cli in shop"]),
        (["fine"], 0, []),
        (["leave"], 7, []),
        (["fine", "--wrong"], 2, []),
        (["routes"], 0, []),
    ],
)
def test_a_real_flask_command_tells_its_hooks(
    tmp_path: Path, command: list[str], code: int, told: list[str]
) -> None:
    """In a process of its own; exit code and traceback are what they were."""
    (tmp_path / "shop.py").write_text(SHOP)
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shop", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert done.returncode == code, done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("told")] == told
    assert ("ValueError: boom" in done.stderr) == (code == 1)


# -- each once ------------------------------------------------------------------------------------


def test_preserved_contexts_tell_each_exception_once(watched: Watch) -> None:
    """`with app.test_client()` keeps contexts beyond their request; their end is no new failure."""
    for testing in (False, True):
        watched.app.testing = testing
        with watched.app.test_client() as client:
            for _ in range(2):
                try:
                    client.get("/fail")
                except ValueError:
                    assert testing
            client.get("/fine")
    assert watched.told == [(BOOM, "request", False)] * 4


def test_a_failing_test_around_a_preserved_context_is_not_told(watched: Watch) -> None:
    """The assertion of a test is not the app's failure."""

    def failing_test() -> None:
        with watched.app.test_client() as client:
            assert client.get("/fine").status_code == 404

    with pytest.raises(AssertionError):
        failing_test()
    assert watched.told == []


def test_an_exception_object_that_is_raised_in_each_request_is_told_in_each(
    watched: Watch,
) -> None:
    """Once a request, not once for ever."""
    error = ValueError("always the same")

    @watched.app.get("/same")
    def view() -> Any:
        raise error

    client = watched.app.test_client()
    for _ in range(3):
        client.get("/same")
    assert watched.told == [("ValueError: always the same", "request", False)] * 3


def test_equal_exceptions_are_not_taken_for_one(watched: Watch) -> None:
    """Two receivers raise two exceptions of one type with one text: two."""
    watched.kit.on("account_funded")(lambda sender, **extra: fail())
    watched.kit.on("account_funded")(lambda sender, **extra: fail())
    with watched.app.app_context():
        watched.kit.send_robust("account_funded")
    assert len(watched.told) == 2


def test_a_worker_that_fails_for_ever_takes_no_memory(watched: Watch) -> None:
    """What a hook knows is noted on the exception, and goes with it."""
    watched.kit.signal("account_funded", on_error="isolate")
    watched.kit.on("account_funded")(fail)
    watched.kit.on_exception(lambda app, exception, **extra: None)
    grown: list[int] = []

    @watched.app.cli.command("work")
    def work() -> None:
        for number in range(600):
            if number in {100, 599}:
                grown.append(tracemalloc.get_traced_memory()[0])
            with watched.app.app_context():
                watched.kit.send("account_funded")
            watched.told.clear()
            watched.details.clear()

    kits_log = logging.getLogger("flask_signals_kit")
    kits_log.disabled = True
    tracemalloc.start()
    try:
        watched.app.test_cli_runner().invoke(args=["work"])
    finally:
        tracemalloc.stop()
        kits_log.disabled = False
    assert grown[1] - grown[0] < 20_000


def test_an_exception_object_that_is_raised_for_ever_stays_small(watched: Watch) -> None:
    """It carries the last notes only, and is still told once in each request."""
    error = ValueError("always the same")

    @watched.app.get("/same")
    def view() -> Any:
        raise error.with_traceback(None)

    client = watched.app.test_client()
    for _ in range(300):
        client.get("/same")
    assert len(watched.told) == 300
    assert len(pickle.dumps(error)) < 10_000


FORKS = """
import os, pickle, sys
from flask import Flask
from flask_signals_kit import SignalsKit

app = Flask("shop")
kit = SignalsKit(app)

@kit.on_exception
def report(app, exception, **extra):
    print("told", "child" if child == 0 else "parent", flush=True)

def work(error):
    try:
        with app.app_context():
            raise error
    except ValueError as raised:
        return raised

reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, pickle.dumps(work(ValueError("boom"))))
    os._exit(0)
os.waitpid(child, 0)
work(pickle.loads(os.read(reader, 65536)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_an_exception_that_a_fork_was_told_of_is_news_to_its_parent() -> None:
    """It comes pickled, notes and all, and what is noted is of the other process."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.splitlines() == ["told child", "told parent"]


class HidingError(Exception):
    """An exception without a usable ``__dict__``."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no attributes")


class CopyingError(Exception):
    """An exception whose ``__dict__`` keeps no notes."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        return {}


@pytest.mark.parametrize("kind", [HidingError, CopyingError])
def test_an_exception_that_hides_its_attributes_is_told_once(
    watched: Watch, kind: type[Exception]
) -> None:
    """And goes up as it was, not replaced by what its property raises."""

    def hide() -> Any:
        raise kind

    watched.app.testing = True
    watched.app.add_url_rule("/hide", "hide", view_func=hide)
    with pytest.raises(kind):
        watched.app.test_client().get("/hide")
    assert watched.told == [(kind.__name__, "request", False)]


def test_the_same_hook_is_called_once(watched: Watch) -> None:
    """Registered twice, for the kit and for the app, it is one hook."""
    watched.kit.on_exception(watched.hook)
    watched.kit.for_app(watched.app).on_exception(watched.hook)
    watched.app.test_client().get("/fail")
    assert watched.told == [(BOOM, "request", False)]


def test_registering_a_hook_again_changes_what_it_asks_for(watched: Watch) -> None:
    """The last word counts."""
    watched.kit.on_exception(sources=["cli"])(watched.hook)
    watched.app.test_client().get("/fail")
    assert watched.told == []


def test_hooks_of_two_apps_are_told_of_their_own(watched: Watch) -> None:
    """The kit's hooks of each app's, an app's own of that app's."""
    seen: list[str] = []
    other = Flask("other")
    other.logger.disabled = True
    other.add_url_rule("/fail", "fail", view_func=fail)
    kit = SignalsKit()
    kit.on_exception(lambda app, exception, **extra: seen.append(f"kit {app.name}"))
    kit.init_app(other)
    kit.for_app(other).on_exception(lambda app, e, **extra: seen.append(f"app {app.name}"))
    for app in (watched.app, other):
        app.test_client().get("/fail")
    assert seen == ["kit other", "app other"]
    assert watched.told == [(BOOM, "request", False)]


def test_hooks_may_come_before_and_after_the_app(watched: Watch) -> None:
    """And after its first request."""
    seen: list[str] = []
    watched.app.test_client().get("/fine")
    watched.kit.on_exception(lambda app, exception, **extra: seen.append("late"))
    watched.app.test_client().get("/fail")
    assert seen == ["late"]


def test_hooks_are_called_in_the_order_of_registration(watched: Watch) -> None:
    """One after the other."""
    seen: list[int] = []
    for number in range(5):
        watched.kit.on_exception(lambda app, exception, n=number, **extra: seen.append(n))
    watched.app.test_client().get("/fail")
    assert seen == [0, 1, 2, 3, 4]


def test_many_requests_at_once_are_told_once_each(watched: Watch) -> None:
    """Eight threads, fifty failures each."""

    def serve() -> None:
        for _ in range(50):
            watched.app.test_client().get("/fail")

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(serve) for _ in range(8)]:
            done.result(60)
    assert watched.told == [(BOOM, "request", False)] * 400


@pytest.mark.parametrize("source", get_args(Source))
def test_sources_can_be_chosen(source: Any) -> None:
    """A hook is told of what it asked for and of nothing else."""
    watched = watch(sources=[source])
    app, kit = watched.app, watched.kit
    kit.on("account_funded")(fail)
    app.add_url_rule("/stream", "stream", view_func=streaming(1, with_context=False))
    app.add_url_rule("/fund", "fund", view_func=lambda: str(len(kit.send_robust("account_funded"))))
    app.cli.command("fail")(fail)
    client = app.test_client()
    client.get("/fail")
    client.get("/fund")
    with pytest.raises(ValueError, match="boom"):
        _ = client.get("/stream").data
    app.test_cli_runner().invoke(args=["fail"])
    app.teardown_request_funcs.setdefault(None, []).append(fail)
    with raises_in_teardown(ValueError):
        client.get("/fine")
    expected = [] if source == "delivery" else [(BOOM, source, False)]
    assert watched.told == expected


# -- hooks that misbehave -------------------------------------------------------------------------


def test_a_failing_hook_harms_nobody(watched: Watch, caplog: pytest.LogCaptureFixture) -> None:
    """The response, the log of the original and the other hooks are what they were."""

    def bad(app: Flask, exception: BaseException, **extra: Any) -> None:
        raise KeyError("bad hook")

    watched.app.logger.disabled = False
    watched.kit.on_exception(bad)
    after: list[str] = []
    watched.kit.on_exception(lambda app, exception, **extra: after.append("after"))
    assert watched.app.test_client().get("/fail").status_code == 500
    assert watched.told == [(BOOM, "request", False)]
    assert after == ["after"]
    ours, flasks = caplog.records
    assert (ours.name, ours.levelno) == ("flask_signals_kit", logging.ERROR)
    assert f"bad ({__file__}:{bad.__code__.co_firstlineno})" in ours.getMessage()
    assert ours.exc_info is not None
    assert isinstance(ours.exc_info[1], KeyError)
    assert flasks.name == "shop"
    assert flasks.exc_info is not None
    assert isinstance(flasks.exc_info[1], ValueError)


@pytest.mark.parametrize("path", ["/stream", "/teardown"])
def test_a_failing_hook_replaces_no_exception(watched: Watch, path: str) -> None:
    """Outside of Flask's handling, too, the original goes up."""
    watched.kit.on_exception(miss)
    watched.app.add_url_rule("/stream", "stream", view_func=streaming(1, with_context=False))
    watched.app.add_url_rule("/teardown", "teardown", view_func=lambda: "fine")
    if path == "/teardown":
        watched.app.teardown_request(fail)
    with raises_in_teardown(ValueError):
        _ = watched.app.test_client().get(path).data
    assert len(watched.told) == 1


def test_a_hook_that_sends_a_failing_signal_is_not_called_for_it(watched: Watch) -> None:
    """No recursion; other hooks are told."""
    watched.kit.on("reported")(miss)
    calls: list[str] = []

    @watched.kit.on_exception
    def report(app: Flask, exception: BaseException, **extra: Any) -> None:
        calls.append(type(exception).__name__)
        watched.kit.send_robust("reported", app)

    watched.app.test_client().get("/fail")
    assert calls == ["ValueError"]
    assert watched.told == [
        (BOOM, "request", False),
        ("KeyError: 'key'", "receiver", False),
    ]


def test_a_hook_that_raises_what_it_was_told_of_does_no_harm(watched: Watch) -> None:
    """`raise exception` in a hook is one more failing hook."""

    @watched.kit.on_exception
    def again(app: Flask, exception: BaseException, **extra: Any) -> None:
        raise exception

    assert watched.app.test_client().get("/fail").status_code == 500
    assert watched.told == [(BOOM, "request", False)]


def test_async_hooks_are_awaited(watched: Watch) -> None:
    """Flask's own way of running async code; for plain and for async views."""
    seen: list[str] = []

    @watched.kit.on_exception
    async def report(app: Flask, exception: BaseException, **extra: Any) -> None:
        await asyncio.sleep(0)
        seen.append(request.path)

    @watched.app.get("/async")
    async def view() -> Any:
        await asyncio.sleep(0)
        fail()

    client = watched.app.test_client()
    client.get("/fail")
    client.get("/async")
    assert seen == ["/fail", "/async"]


def test_an_async_hook_is_told_of_a_failure_within_an_event_loop(watched: Watch) -> None:
    """A receiver contained by `send_robust_async` in an async view, too."""
    seen: list[str] = []

    @watched.kit.on_exception
    async def report(app: Flask, exception: BaseException, **extra: Any) -> None:
        await asyncio.sleep(0)
        seen.append(f"{type(exception).__name__} in {current_app.name}")

    @watched.kit.on("account_funded")
    async def receive(sender: Any, **extra: Any) -> None:
        fail()

    @watched.app.get("/fund")
    async def view() -> str:
        return str(len(await watched.kit.send_robust_async("account_funded")))

    assert watched.app.test_client().get("/fund").text == "1"
    assert watched.told == [(BOOM, "receiver", False)]
    assert seen == ["ValueError in shop"]


@pytest.mark.parametrize("hook", [None, "report", 3])
def test_a_hook_that_cannot_be_called_is_refused(hook: Any) -> None:
    """The message names its type and shows the signature."""
    kit = SignalsKit()
    with pytest.raises(ReceiverError) as caught:
        kit.on_exception()(hook)
    message = str(caught.value)
    assert "on_exception" in message
    assert type(hook).__name__.removesuffix("Type") in message
    assert "hook(app, exception, *, source, handled, **extra)" in message


def hook_without_arguments() -> None:
    """Take nothing."""


def hook_with_the_exception_alone(exception: BaseException) -> None:
    """Take one argument."""


def hook_without_details(app: Flask, exception: BaseException) -> None:
    """Take no source."""


def hook_without_extra(app: Flask, exception: BaseException, *, source: str) -> None:
    """Take source and nothing else."""


@pytest.mark.parametrize(
    "hook",
    [
        hook_without_arguments,
        hook_with_the_exception_alone,
        hook_without_details,
        hook_without_extra,
    ],
)
def test_a_hook_that_could_not_be_called_with_the_details_is_refused(hook: Any) -> None:
    """When it is registered, not in the night when the first exception comes."""
    with pytest.raises(ReceiverError) as caught:
        SignalsKit().on_exception(hook)
    message = str(caught.value)
    assert f"{hook.__name__} ({__file__}:{hook.__code__.co_firstlineno})" in message
    assert "hook(app, exception, *, source, handled, **extra)" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sources": ["requests"]}, ["'requests'", "Did you mean 'request'?", "teardown"]),
        ({"sources": "web"}, ["'web'", "cli"]),
        ({"ignore": [3]}, ["int", "exception class"]),
        ({"ignore": "KeyError"}, ["str", "exception class"]),
        ({"ignore": [dict]}, ["dict", "exception class"]),
    ],
)
def test_bad_options_of_a_hook_are_refused(options: dict[str, Any], words: list[str]) -> None:
    """The message names the hook, what is wrong, and what would do."""
    with pytest.raises(ConfigurationError) as caught:
        SignalsKit().on_exception(**options)(fail)
    message = str(caught.value)
    assert f"fail ({__file__}:" in message
    for word in words:
        assert word in message


def test_one_source_may_be_given_as_a_string() -> None:
    """`sources="cli"` is what it looks like."""
    watched = watch(sources="request")
    watched.app.test_client().get("/fail")
    assert watched.told == [(BOOM, "request", False)]


# -- leaving no trace -----------------------------------------------------------------------------


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


# -- beside Sentry --------------------------------------------------------------------------------

SENTRY = """
import json, logging, sys
import sentry_sdk
from flask import Flask, Response
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.transport import Transport
from flask_signals_kit import SignalsKit

class Collect(Transport):
    events = []
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)

sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1", transport=Collect, integrations=[FlaskIntegration()]
)

def create_app(hook):
    app = Flask("shop")
    kit = SignalsKit(app)
    told = []

    @kit.on_exception
    def report(app, exception, *, source, **extra):
        told.append(source)
        if hook:
            sentry_sdk.capture_exception(exception)

    kit.signal("account_funded", on_error="isolate")

    @kit.on("account_funded")
    def fail(sender=None, **extra):
        raise ValueError("boom")

    def body():
        yield "a"
        fail()

    app.add_url_rule("/request", "request", view_func=lambda: fail())
    app.add_url_rule("/receiver", "receiver", lambda: str(len(kit.send("account_funded"))))
    app.add_url_rule("/stream", "stream", view_func=lambda: Response(body()))
    app.add_url_rule("/teardown", "teardown", view_func=lambda: "fine")

    @app.teardown_request
    def teardown(error):
        from flask import request
        if request.path == "/teardown":
            fail()

    return app, told

found = {}
for hook in (False, True):
    for path in ("/request", "/receiver", "/stream", "/teardown"):
        app, told = create_app(hook)
        Collect.events.clear()
        try:
            app.test_client().get(path).data
        except (ValueError, ExceptionGroup):
            pass
        sentry_sdk.flush()
        events = [
            (event["exception"]["values"][-1]["type"], event.get("request", {}).get("url"))
            for event in Collect.events
        ]
        found[f"{path} {hook}"] = {"told": told, "events": events}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def beside_sentry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run the real SDK with its Flask integration in a process of its own, and collect."""
    pytest.importorskip("sentry_sdk")
    script = tmp_path_factory.mktemp("sentry") / "script.py"
    script.write_text(SENTRY)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("hook", [False, True])
@pytest.mark.parametrize("source", ["request", "receiver", "stream", "teardown"])
def test_beside_the_real_sentry_each_exception_is_one_event(
    beside_sentry: dict[str, dict[str, Any]], source: str, hook: bool
) -> None:
    """Whether a hook captures as well or not: the hook is told once, Sentry has one event."""
    found = beside_sentry[f"/{source} {hook}"]
    assert found["told"] == [source]
    kinds = ["ValueError"]
    if MERGED_CONTEXTS and source == "teardown":
        # Sentry sees the group that Flask raises; the hook gets the exception in it.
        kinds = ["ValueError", "ExceptionGroup"] if hook else ["ExceptionGroup"]
    assert [kind for kind, _ in found["events"]] == kinds
    assert found["events"][0][1] == f"http://localhost/{source}"


# -- traps ----------------------------------------------------------------------------------------


def test_one_exception_object_in_many_threads_is_told_once_in_each_request() -> None:
    """A module's only exception object is raised by all of them at once."""
    boom = ValueError("boom")
    kit = SignalsKit()
    told: list[BaseException] = []
    kit.on_exception(lambda app, exception, **extra: told.append(exception))
    app = Flask("shop")
    app.config["PROPAGATE_EXCEPTIONS"] = True
    kit.init_app(app)

    @app.get("/")
    def index() -> str:
        raise boom

    def visit() -> None:
        for _ in range(25):
            with contextlib.suppress(ValueError):
                app.test_client().get("/")

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(told) == 200


def test_what_the_kit_notes_on_an_exception_is_fit_for_json() -> None:
    """An error handler may print the attributes of an exception."""
    kit = SignalsKit()
    kit.on_exception(lambda app, exception, **extra: None)
    app = Flask("shop")
    kit.init_app(app)

    @app.get("/")
    def index() -> str:
        raise ValueError("boom")

    @app.errorhandler(500)
    def explain(error: Any) -> Any:
        return vars(error.original_exception)

    assert app.test_client().get("/").is_json


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


def test_a_stream_of_a_middlewares_own_class_is_watched() -> None:
    """What a middleware wraps around the body is a stream like any other."""

    class Body:
        def __init__(self, body: Any) -> None:
            self.body = iter(body)

        def __iter__(self) -> "Body":
            return self

        def __next__(self) -> Any:
            return next(self.body)

    kit = SignalsKit()
    told: list[str] = []
    app = Flask("shop")

    @app.get("/")
    def index() -> Any:
        def lines() -> Any:
            yield "one"
            raise ValueError("boom")

        return app.response_class(lines())

    inner = app.wsgi_app

    def middleware(environ: Any, start: Any) -> Any:
        return Body(inner(environ, start))

    vars(app)["wsgi_app"] = middleware
    kit.on_exception(lambda app, exception, *, source, **extra: told.append(source))
    kit.init_app(app)
    with pytest.raises(ValueError, match="boom"):
        _ = app.test_client().get("/").data
    assert told == ["stream"]


@pytest.mark.parametrize("kind", [ValueError, HTTPException, KeyboardInterrupt])
def test_an_exception_class_is_no_hook(kind: Any) -> None:
    """By analogy with `errorhandler(ValueError)` it is tried, and the function would be lost."""
    with pytest.raises(ReceiverError) as caught:
        SignalsKit().on_exception(kind)
    name = kind.__name__
    assert str(caught.value) == (
        f"on_exception() takes a hook, and {name} is an exception class. The hook is called for "
        f"every exception: use sources=, ignore=, or test isinstance(exception, {name}) in the "
        "hook."
    )


def test_two_hooks_of_one_name_in_one_module_are_two_hooks() -> None:
    """Not each function that nobody calls by its name gets one of its own."""
    watched = watch()
    told: list[str] = []
    make: dict[str, Any] = {"on_exception": watched.kit.on_exception, "told": told}
    code = """
@on_exception
def _(app, exception, **extra): told.append("one")
@on_exception(sources=("cli",))
def _(app, exception, **extra): told.append("two")
"""
    exec(compile(code, "hooks.py", "exec"), make)
    watched.app.test_client().get("/fail")
    with pytest.raises(ValueError, match="boom"), watched.app.app_context():
        fail()
    assert told == ["one", "one", "two"]


def test_a_file_that_the_server_sends_itself_is_left_to_it() -> None:
    """UWSGI hands the file on and knows it again, whatever the hooks ask for."""
    watched = watch(sources=("cli",))
    watched.app.add_url_rule("/file", view_func=lambda: send_file(__file__))
    handed: list[Any] = []

    def wrap(file: Any, size: int) -> Any:
        handed.append(file)
        return file

    environ = create_environ("/file")
    environ["wsgi.file_wrapper"] = wrap
    body = watched.app.wsgi_app(environ, lambda *response: lambda data: None)
    assert [body] == handed
    handed[0].close()


def test_a_body_that_cannot_be_begun_is_told_and_closed() -> None:
    """The server gets a body in any case, and closes it."""
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            raise ValueError("boom")

        def close(self) -> None:
            closed.append(True)

    app = Flask("shop")
    app.wsgi_app = lambda environ, start: Body()  # type: ignore[method-assign, assignment]
    watched = Watch(app, SignalsKit(app))
    watched.kit.on_exception(watched.hook)
    body: Any = watched.app.wsgi_app(create_environ("/"), lambda *response: lambda data: None)
    with pytest.raises(ValueError, match="boom"):
        next(body)
    body.close()
    assert (watched.told, closed) == ([(BOOM, "stream", False)], [True])


def test_a_stream_that_is_a_file_to_python_alone_is_watched() -> None:
    """A server without a file wrapper of its own reads it like any other body."""

    class Download(io.RawIOBase):
        def __next__(self) -> bytes:
            raise ValueError("boom")

    watched = watch()
    watched.app.add_url_rule(
        "/file", view_func=lambda: Response(Download(), direct_passthrough=True)
    )
    body: Any = watched.app.wsgi_app(create_environ("/file"), lambda *response: lambda data: None)
    with pytest.raises(ValueError, match="boom"):
        next(body)
    body.close()
    assert watched.told == [(BOOM, "stream", False)]


def test_a_body_of_the_old_sequence_kind_is_served() -> None:
    """Python takes anything with `__getitem__` for an iterable."""

    class Body:
        def __getitem__(self, index: int) -> bytes:
            return (b"a", b"b")[index]

    app = Flask("shop")
    serve: Any = lambda environ, start: Body()  # noqa: E731
    app.wsgi_app = serve  # type: ignore[method-assign]
    watched = Watch(app, SignalsKit(app))
    watched.kit.on_exception(watched.hook)
    body: Any = watched.app.wsgi_app(create_environ("/"), lambda *response: lambda data: None)
    assert [*body] == [b"a", b"b"]
