"""Registration of hooks: options, order, and hooks that fail."""

import asyncio
import logging
from typing import Any, get_args

import pytest
from flask import (
    Flask,
    current_app,
    request,
)
from werkzeug.exceptions import HTTPException

from flask_signals_kit import ConfigurationError, ReceiverError, SignalsKit
from flask_signals_kit.records import Source
from tests.exception_hooks.support import BOOM, Watch, fail, miss, streaming, watch
from tests.support import raises_in_teardown


def test_hook_registered_twice_is_called_once(watched: Watch) -> None:
    """For the kit and for the app, it is one hook."""
    watched.kit.on_exception(watched.hook)
    watched.kit.for_app(watched.app).on_exception(watched.hook)
    watched.app.test_client().get("/fail")
    assert watched.reported == [(BOOM, "request", False)]


def test_registering_a_hook_again_replaces_its_options(watched: Watch) -> None:
    """The last word counts."""
    watched.kit.on_exception(sources=["cli"])(watched.hook)
    watched.app.test_client().get("/fail")
    assert watched.reported == []


def test_app_hooks_receive_exceptions_of_their_app_only(watched: Watch) -> None:
    """The kit's hooks receive those of every app."""
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
    assert watched.reported == [(BOOM, "request", False)]


def test_hooks_can_be_registered_before_and_after_init_app(watched: Watch) -> None:
    """And after its first request."""
    seen: list[str] = []
    watched.app.test_client().get("/fine")
    watched.kit.on_exception(lambda app, exception, **extra: seen.append("late"))
    watched.app.test_client().get("/fail")
    assert seen == ["late"]


def test_hooks_are_called_in_the_order_of_registration(watched: Watch) -> None:
    """Each after the previous one."""
    seen: list[int] = []
    for number in range(5):
        watched.kit.on_exception(lambda app, exception, n=number, **extra: seen.append(n))
    watched.app.test_client().get("/fail")
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("source", get_args(Source))
def test_sources_limit_the_calls_of_a_hook(source: Any) -> None:
    """It is called for these sources only."""
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
    assert watched.reported == expected


def test_failing_hook_does_not_affect_response_and_other_hooks(
    watched: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    """The response, the log of the original and the other hooks are unchanged."""

    def bad(app: Flask, exception: BaseException, **extra: Any) -> None:
        raise KeyError("bad hook")

    watched.app.logger.disabled = False
    watched.kit.on_exception(bad)
    after: list[str] = []
    watched.kit.on_exception(lambda app, exception, **extra: after.append("after"))
    assert watched.app.test_client().get("/fail").status_code == 500
    assert watched.reported == [(BOOM, "request", False)]
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
def test_failing_hook_does_not_replace_the_exception(watched: Watch, path: str) -> None:
    """Outside of Flask's handling, too, the original propagates."""
    watched.kit.on_exception(miss)
    watched.app.add_url_rule("/stream", "stream", view_func=streaming(1, with_context=False))
    watched.app.add_url_rule("/teardown", "teardown", view_func=lambda: "fine")
    if path == "/teardown":
        watched.app.teardown_request(fail)
    with raises_in_teardown(ValueError):
        _ = watched.app.test_client().get(path).data
    assert len(watched.reported) == 1


def test_hook_is_not_called_for_failures_in_its_own_sends(watched: Watch) -> None:
    """No recursion; other hooks are called."""
    watched.kit.on("reported")(miss)
    calls: list[str] = []

    @watched.kit.on_exception
    def report(app: Flask, exception: BaseException, **extra: Any) -> None:
        calls.append(type(exception).__name__)
        watched.kit.send_robust("reported", app)

    watched.app.test_client().get("/fail")
    assert calls == ["ValueError"]
    assert watched.reported == [
        (BOOM, "request", False),
        ("KeyError: 'key'", "receiver", False),
    ]


def test_hook_that_raises_its_exception_is_a_failing_hook(watched: Watch) -> None:
    """`raise exception` in a hook is handled like any failure of a hook."""

    @watched.kit.on_exception
    def again(app: Flask, exception: BaseException, **extra: Any) -> None:
        raise exception

    assert watched.app.test_client().get("/fail").status_code == 500
    assert watched.reported == [(BOOM, "request", False)]


@pytest.mark.needs("asgiref")
def test_async_hooks_run(watched: Watch) -> None:
    """As Flask runs async code; for plain and for async views."""
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


@pytest.mark.needs("asgiref")
def test_async_hook_runs_inside_a_running_event_loop(watched: Watch) -> None:
    """For a receiver contained by `send_robust_async` in an async view, too."""
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
    assert watched.reported == [(BOOM, "receiver", False)]
    assert seen == ["ValueError in shop"]


@pytest.mark.parametrize("hook", [None, "report", 3])
def test_non_callable_hook_is_refused(hook: Any) -> None:
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
def test_hook_with_a_wrong_signature_is_refused(hook: Any) -> None:
    """When it is registered, not when the first exception comes."""
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
def test_invalid_hook_options_are_refused(options: dict[str, Any], words: list[str]) -> None:
    """The message has the hook, what is wrong, and what is valid."""
    with pytest.raises(ConfigurationError) as caught:
        SignalsKit().on_exception(**options)(fail)
    message = str(caught.value)
    assert f"fail ({fail.__code__.co_filename}:" in message
    for word in words:
        assert word in message


def test_sources_can_be_one_string() -> None:
    """`sources="cli"` is one source."""
    watched = watch(sources="request")
    watched.app.test_client().get("/fail")
    assert watched.reported == [(BOOM, "request", False)]


@pytest.mark.parametrize("kind", [ValueError, HTTPException, KeyboardInterrupt])
def test_exception_class_as_hook_is_refused(kind: Any) -> None:
    """As in `errorhandler(ValueError)`, it would replace the function."""
    with pytest.raises(ReceiverError) as caught:
        SignalsKit().on_exception(kind)
    name = kind.__name__
    assert str(caught.value) == (
        f"on_exception() takes a hook, and {name} is an exception class. The hook is called for "
        f"every exception: use sources=, ignore=, or test isinstance(exception, {name}) in the "
        "hook."
    )


def test_hooks_with_the_same_name_in_one_module_are_both_called() -> None:
    """A function that is only used as a hook need not have a unique name."""
    watched = watch()
    reported: list[str] = []
    make: dict[str, Any] = {"on_exception": watched.kit.on_exception, "reported": reported}
    code = """
@on_exception
def _(app, exception, **extra): reported.append("one")
@on_exception(sources=("cli",))
def _(app, exception, **extra): reported.append("two")
"""
    exec(compile(code, "hooks.py", "exec"), make)
    watched.app.test_client().get("/fail")
    with pytest.raises(ValueError, match="boom"), watched.app.app_context():
        fail()
    assert reported == ["one", "one", "two"]
