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
    assert f"fail ({fail.__code__.co_filename}:" in message
    for word in words:
        assert word in message


def test_one_source_may_be_given_as_a_string() -> None:
    """`sources="cli"` is what it looks like."""
    watched = watch(sources="request")
    watched.app.test_client().get("/fail")
    assert watched.told == [(BOOM, "request", False)]


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
