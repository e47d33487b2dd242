"""Flask's own signals in an app's namespace, for this app only."""

import asyncio
import logging
from typing import Any

import flask
import flask.signals
import pytest
from flask import (
    Flask,
    Response,
    abort,
    current_app,
    flash,
    request,
    stream_template_string,
)

from flask_signals_kit import (
    SignalsKit,
    current_emission,
)
from tests.bridge.support import fail, ignore, make_site, receiver_count

BUILTINS: dict[str, set[str]] = {
    "appcontext_popped": set(),
    "appcontext_pushed": set(),
    "appcontext_tearing_down": {"exc"},
    "before_render_template": {"template", "context"},
    "got_request_exception": {"exception"},
    "message_flashed": {"message", "category"},
    "request_finished": {"response"},
    "request_started": set(),
    "request_tearing_down": {"exc"},
    "template_rendered": {"template", "context"},
}


@pytest.mark.parametrize("name", BUILTINS)
def test_each_flask_signal_is_relayed_with_its_payload(
    kit: SignalsKit, app: Flask, name: str
) -> None:
    """Under its Python name, with the real app as sender and what Flask passes."""
    seen: list[tuple[Any, set[str]]] = []

    @kit.on(name)
    def receive(sender: Any, **payload: Any) -> None:
        assert current_emission.signal == name
        seen.append((sender, {*payload}))

    with app.app_context():
        pass
    client = app.test_client()
    client.get("/")
    client.get("/fail")
    assert seen
    assert all(sender is app and payload == BUILTINS[name] for sender, payload in seen)


@pytest.mark.parametrize("name", BUILTINS)
def test_relay_exists_only_while_the_signal_has_receivers(
    kit: SignalsKit, app: Flask, name: str
) -> None:
    """Connecting adds the relay, disconnecting removes it, and again."""
    before = receiver_count(name, app)
    signal = kit.for_app(app).namespace.signal(name)
    assert receiver_count(name, app) == before

    def also(sender: Any, **extra: Any) -> None:
        pass

    for _ in range(2):
        signal.connect(ignore)
        signal.connect(also)
        assert receiver_count(name, app) == before + 1
        signal.disconnect(ignore)
        assert receiver_count(name, app) == before + 1
        signal.disconnect(also)
        assert receiver_count(name, app) == before
    with signal.connected_to(ignore):
        assert receiver_count(name, app) == before + 1
    assert receiver_count(name, app) == before
    signal.connect(lambda sender, **extra: None)  # weakly, so it is gone at once
    assert receiver_count(name, app) == before


def test_testing_and_the_journal_add_no_relay(kit: SignalsKit) -> None:
    """The journal itself listens to four of Flask's signals, to complete a request's record."""
    app, bare = make_site(kit, TESTING=True), Flask("bare")
    app.test_client().get("/")
    added = {name: receiver_count(name, app) - receiver_count(name, bare) for name in BUILTINS}
    assert {name for name, count in added.items() if count} == {
        "appcontext_tearing_down",
        "request_finished",
        "request_started",
        "request_tearing_down",
    }
    assert max(added.values()) == 1


def test_flask_signal_object_can_be_used_instead_of_its_name(kit: SignalsKit, app: Flask) -> None:
    """`kit.on(flask.request_started)` is `kit.on("request_started")`, for this app only."""
    seen: list[Any] = []
    kit.on(flask.request_started)(lambda sender, **extra: seen.append(sender))
    bare = Flask("bare")
    bare.test_client().get("/")
    app.test_client().get("/")
    assert seen == [app]


def test_relay_ignores_other_apps(kit: SignalsKit) -> None:
    """Two apps of one kit and one without: receivers of each are called for it alone."""
    seen: list[tuple[str, str]] = []
    one, two, bare = make_site(kit, "one"), make_site(kit, "two"), Flask("bare")
    for app in (one, two):

        @kit.for_app(app).on("request_started", "appcontext_pushed")
        def receive(sender: Any, name: str = app.name, **extra: Any) -> None:
            seen.append((name, sender.name))

    for app in (one, two, bare):
        app.test_client().get("/")
    assert seen == [("one", "one")] * 2 + [("two", "two")] * 2


def test_nested_request_of_another_app_is_relayed_to_that_app(kit: SignalsKit) -> None:
    """Nested requests of two apps of one kit arrive where they belong."""
    outer, inner = make_site(kit, "outer"), make_site(kit, "inner")
    seen: list[str] = []
    kit.on("request_started")(lambda app, **extra: seen.append(app.name))
    outer.add_url_rule("/nested", view_func=lambda: inner.test_client().get("/").text)
    assert outer.test_client().get("/nested").text == "good day"
    assert seen == ["outer", "inner"]


def test_receiver_can_change_the_template_context(kit: SignalsKit, app: Flask) -> None:
    """The context object itself is passed on, not a copy."""

    @kit.on("before_render_template")
    def greet(app: Flask, *, template: Any, context: dict[str, Any], **extra: Any) -> None:
        context["greeting"] = "good night"

    assert app.test_client().get("/").text == "good night"


def test_receiver_of_request_started_can_abort(kit: SignalsKit, app: Flask) -> None:
    """As with Flask's own, `abort()` takes effect."""

    @kit.on("request_started")
    def close(app: Flask, **extra: Any) -> None:
        abort(503)

    assert app.test_client().get("/").status_code == 503


def test_streamed_template_sends_template_rendered(kit: SignalsKit, app: Flask) -> None:
    """It is sent while the body streams."""
    seen: list[int] = []
    kit.on("template_rendered")(lambda app, **extra: seen.append(extra["context"]["x"]))
    app.add_url_rule("/stream", view_func=lambda: Response(stream_template_string("{{ x }}", x=5)))
    assert app.test_client().get("/stream").text == "5"
    assert seen == [5]


def test_sender_filter_and_predicate_work_for_flask_signals(kit: SignalsKit, app: Flask) -> None:
    """`sender=` is the app, `when` gets Flask's payload."""
    other = make_site(kit, "other")
    seen: list[str] = []
    kit.on("request_started", sender=app)(lambda app, **extra: seen.append(app.name))
    kit.on("request_finished", when=lambda app, response, **extra: response.status_code == 404)(
        lambda app, **extra: seen.append("not found")
    )
    for each in (app, other):
        each.test_client().get("/")
    app.test_client().get("/nowhere")
    assert seen == ["shop", "shop", "not found"]


@pytest.mark.needs("asgiref")
def test_async_receivers_of_flask_signals_run(kit: SignalsKit, app: Flask) -> None:
    """As Flask runs async views."""
    seen: list[str] = []

    @kit.on("request_started", "request_finished")
    async def receive(sender: Any, **extra: Any) -> None:
        seen.append(current_app.name)

    app.test_client().get("/")
    assert seen == ["shop", "shop"]


@pytest.mark.needs("asgiref")
def test_async_receivers_of_flask_signals_run_inside_a_running_loop(
    kit: SignalsKit, app: Flask
) -> None:
    """Flask sends without awaiting, from async views as well."""
    seen: list[str] = []

    @kit.on("message_flashed")
    async def receive(sender: Any, *, message: str, **extra: Any) -> None:
        await asyncio.sleep(0)
        seen.append(f"{message} in {request.path}")

    @app.get("/async")
    async def flashing() -> str:
        flash("hello")
        return "flashed"

    assert app.test_client().get("/async").text == "flashed"
    assert seen == ["hello in /async"]


@pytest.mark.parametrize("name", BUILTINS)
def test_isolate_keeps_the_response_when_a_receiver_fails(
    kit: SignalsKit, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is logged, and no context is left."""
    app = make_site(kit, SIGNALS_KIT_ON_ERROR="isolate")

    @kit.on(name)
    def fail(sender: Any, **extra: Any) -> None:
        raise RuntimeError("bad receiver")

    client = app.test_client()
    assert client.get("/").text == "good day"
    assert client.get("/fail").status_code == 500
    assert not flask.has_app_context()
    assert any(
        record.levelno == logging.ERROR and "bad receiver" in str(record.exc_info)
        for record in caplog.records
    )


def test_raise_lets_a_receiver_failure_end_the_request(kit: SignalsKit, app: Flask) -> None:
    """As with Flask's own signals: a 500, and the receiver's own exception."""
    kit.on("request_started")(fail)
    assert app.test_client().get("/").status_code == 500
    app.testing = True
    with pytest.raises(IndexError):
        app.test_client().get("/")


def test_policy_can_be_set_for_a_flask_signal(kit: SignalsKit, app: Flask) -> None:
    """`kit.signal("request_finished", on_error=…)` declares nothing new."""
    kit.signal("request_finished", on_error="isolate")
    kit.on("request_finished")(fail)
    kit.on("request_started")(lambda app, **extra: None)
    assert app.test_client().get("/").text == "good day"
