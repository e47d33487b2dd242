"""Exceptions that hooks ignore: HTTP errors, and what ends a request or task on purpose."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from flask import (
    Response,
    abort,
    redirect,
)
from werkzeug.exceptions import HTTPException, NotFound

from flask_signals_kit import DEFAULT_IGNORED
from tests.exception_hooks.support import BOOM, Watch, miss, run_script, watch


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
    assert watched.reported == []


def test_http_exception_raised_by_an_error_handler_is_ignored(watched: Watch) -> None:
    """A handler that turns a failure into `abort(502)` decided so; Flask sends a signal."""

    def give_up(error: Exception) -> Any:
        abort(502)

    watched.app.register_error_handler(ValueError, give_up)
    watched.app.test_client().get("/fail")
    assert watched.reported == []


def test_ignore_replaces_the_default() -> None:
    """`ignore=()` ignores nothing, and one class may be passed without a tuple."""
    watched = watch(ignore=(), handled=True)
    watched.app.add_url_rule("/abort", "abort", view_func=lambda: abort(403))
    watched.app.test_client().get("/abort")
    assert [(source, handled) for _, source, handled in watched.reported] == [("request", True)]
    watched = watch(ignore=ValueError)
    watched.app.test_client().get("/fail")
    assert watched.reported == []
    watched = watch(ignore=[KeyError, HTTPException])
    watched.app.test_client().get("/fail")
    assert watched.reported == [(BOOM, "request", False)]


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
def test_base_exceptions_never_reach_hooks(ending: BaseException) -> None:
    """Whatever the hook ignores: they end something on purpose, and propagate."""
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
    assert watched.reported == []


@pytest.mark.needs("asgiref")
def test_cancelled_async_view_is_not_reported(watched: Watch) -> None:
    """A task that is cancelled raises `CancelledError`, which is no failure."""

    @watched.app.get("/cancelled")
    async def view() -> str:
        task = asyncio.ensure_future(asyncio.sleep(10))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task
        return "never"

    with pytest.raises(asyncio.CancelledError):
        watched.app.test_client().get("/cancelled")
    assert watched.reported == []


def test_timeout_of_an_async_task_is_reported(watched: Watch) -> None:
    """`TimeoutError` is an `Exception`, unlike the cancellation that it comes from."""

    @watched.app.get("/late")
    async def view() -> str:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(10)
        return "never"

    assert watched.app.test_client().get("/late").status_code == 500
    assert [source for _, source, _ in watched.reported] == ["request"]


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


def test_gevent_exceptions_are_not_reported() -> None:
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
def test_celery_control_flow_is_not_reported(mode: str) -> None:
    """`self.retry()`, `Ignore` and `Reject` end a task; Celery is imported after the kit."""
    pytest.importorskip("celery")
    assert run_script(CELERY, mode) == [
        "done True",
        "[]",
        "ignore ['cli KeyError']",
        "reject ['cli KeyError']",
        "['cli ValueError', 'all: cli ValueError', 'some: cli ValueError']",
    ]


def test_default_ignored_matches_celery_classes() -> None:
    """With `isinstance` and `issubclass`, subclasses included; Celery's errors do not match."""
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
    assert watched.reported == [(BOOM, "request", False)]
