"""Flask's and others' signals in an app's namespace: while somebody listens, and this app's."""

import asyncio
import gc
import logging
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import blinker
import flask
import flask.signals
import flask_login  # type: ignore[import-untyped]
import pytest
from flask import (
    Flask,
    Response,
    abort,
    current_app,
    flash,
    g,
    render_template_string,
    request,
    stream_template_string,
)
from werkzeug.local import LocalProxy

from flask_signals_kit import (
    ConfigurationError,
    DeclarationError,
    Namespace,
    Signal,
    SignalsKit,
    UnknownSignalError,
    current_emission,
)

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


@pytest.fixture
def kit() -> SignalsKit:
    """Give a kit without apps."""
    return SignalsKit()


def make(kit: SignalsKit, name: str = "shop", **config: Any) -> Flask:
    """Make an app that flashes, renders and fails."""
    app = Flask(name)
    app.secret_key = "key"
    app.logger.disabled = True
    app.config.update(config)
    kit.init_app(app)

    @app.get("/")
    def index() -> str:
        flash("hello", "info")
        return render_template_string("{{ greeting }}", greeting="good day")

    @app.get("/fail")
    def fail() -> str:
        raise ValueError("boom")

    return app


@pytest.fixture
def app(kit: SignalsKit) -> Flask:
    """Give an app of the kit."""
    return make(kit)


def source(name: str) -> blinker.Signal:
    """Return Flask's own signal of this name."""
    signal: blinker.Signal = getattr(flask.signals, name)
    return signal


def listeners(name: str, app: Flask) -> int:
    """Count who hears one of Flask's signals when this app sends it."""
    return len([*source(name).receivers_for(app)])


def heard(sender: Any, **extra: Any) -> None:
    """Listen and do nothing."""


def fail(sender: Any, **extra: Any) -> None:
    """Raise."""
    raise IndexError("bad receiver")


# -- Flask's ten ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILTINS)
def test_each_of_flasks_signals_arrives_with_its_payload(
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
def test_a_relay_is_there_only_while_somebody_listens(
    kit: SignalsKit, app: Flask, name: str
) -> None:
    """An unused built-in costs nothing: connecting relays, disconnecting ends it, and again."""
    before = listeners(name, app)
    signal = kit.for_app(app).namespace.signal(name)
    assert listeners(name, app) == before

    def also(sender: Any, **extra: Any) -> None:
        pass

    for _ in range(2):
        signal.connect(heard)
        signal.connect(also)
        assert listeners(name, app) == before + 1
        signal.disconnect(heard)
        assert listeners(name, app) == before + 1
        signal.disconnect(also)
        assert listeners(name, app) == before
    with signal.connected_to(heard):
        assert listeners(name, app) == before + 1
    assert listeners(name, app) == before
    signal.connect(lambda sender, **extra: None)  # weakly, so it is gone at once
    assert listeners(name, app) == before


def test_testing_and_the_journal_wake_no_relay(kit: SignalsKit) -> None:
    """Looking at the signals of an app is no reason to listen to all of Flask's."""
    app, bare = make(kit, TESTING=True), Flask("bare")
    app.test_client().get("/")
    assert [listeners(name, app) for name in BUILTINS] == [
        listeners(name, bare) for name in BUILTINS
    ]


def test_flasks_own_signal_may_be_given_instead_of_the_name(kit: SignalsKit, app: Flask) -> None:
    """`kit.on(flask.request_started)` is `kit.on("request_started")`: this app's only."""
    seen: list[Any] = []
    kit.on(flask.request_started)(lambda sender, **extra: seen.append(sender))
    bare = Flask("bare")
    bare.test_client().get("/")
    app.test_client().get("/")
    assert seen == [app]


def test_other_apps_are_not_heard(kit: SignalsKit) -> None:
    """Two apps of one kit and one without: each hears itself."""
    seen: list[tuple[str, str]] = []
    one, two, bare = make(kit, "one"), make(kit, "two"), Flask("bare")
    for app in (one, two):

        @kit.for_app(app).on("request_started", "appcontext_pushed")
        def receive(sender: Any, name: str = app.name, **extra: Any) -> None:
            seen.append((name, sender.name))

    for app in (one, two, bare):
        app.test_client().get("/")
    assert seen == [("one", "one")] * 2 + [("two", "two")] * 2


def test_an_app_inside_another_apps_request_is_told_apart(kit: SignalsKit) -> None:
    """Nested requests of two apps of one kit arrive where they belong."""
    outer, inner = make(kit, "outer"), make(kit, "inner")
    seen: list[str] = []
    kit.on("request_started")(lambda app, **extra: seen.append(app.name))
    outer.add_url_rule("/nested", view_func=lambda: inner.test_client().get("/").text)
    assert outer.test_client().get("/nested").text == "good day"
    assert seen == ["outer", "inner"]


def test_a_receiver_may_change_what_a_template_gets(kit: SignalsKit, app: Flask) -> None:
    """The very context is passed on, not a copy."""

    @kit.on("before_render_template")
    def greet(app: Flask, *, template: Any, context: dict[str, Any], **extra: Any) -> None:
        context["greeting"] = "good night"

    assert app.test_client().get("/").text == "good night"


def test_a_receiver_of_request_started_may_abort(kit: SignalsKit, app: Flask) -> None:
    """As with Flask's own, `abort()` takes effect."""

    @kit.on("request_started")
    def close(app: Flask, **extra: Any) -> None:
        abort(503)

    assert app.test_client().get("/").status_code == 503


def test_a_streamed_template_is_signalled(kit: SignalsKit, app: Flask) -> None:
    """`template_rendered` comes while the body streams."""
    seen: list[int] = []
    kit.on("template_rendered")(lambda app, **extra: seen.append(extra["context"]["x"]))
    app.add_url_rule("/stream", view_func=lambda: Response(stream_template_string("{{ x }}", x=5)))
    assert app.test_client().get("/stream").text == "5"
    assert seen == [5]


def test_a_sender_filter_and_a_predicate_work_on_flasks_signals(
    kit: SignalsKit, app: Flask
) -> None:
    """`sender=` is the app, `when` sees what Flask passes."""
    other = make(kit, "other")
    seen: list[str] = []
    kit.on("request_started", sender=app)(lambda app, **extra: seen.append(app.name))
    kit.on("request_finished", when=lambda app, response, **extra: response.status_code == 404)(
        lambda app, **extra: seen.append("not found")
    )
    for each in (app, other):
        each.test_client().get("/")
    app.test_client().get("/nowhere")
    assert seen == ["shop", "shop", "not found"]


def test_async_receivers_hear_flasks_signals(kit: SignalsKit, app: Flask) -> None:
    """They run the way Flask runs async views."""
    seen: list[str] = []

    @kit.on("request_started", "request_finished")
    async def receive(sender: Any, **extra: Any) -> None:
        seen.append(current_app.name)

    app.test_client().get("/")
    assert seen == ["shop", "shop"]


def test_async_receivers_hear_what_is_sent_while_a_loop_is_running(
    kit: SignalsKit, app: Flask
) -> None:
    """Flask sends without a way to await anybody, from async views as well."""
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
def test_under_isolate_no_receiver_of_flasks_signals_hurts_a_request(
    kit: SignalsKit, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure is logged, the response is what it was, and no context is left."""
    app = make(kit, SIGNALS_KIT_ON_ERROR="isolate")

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


def test_under_raise_a_failing_receiver_does_what_flask_does(kit: SignalsKit, app: Flask) -> None:
    """The user's choice is obeyed: a 500, and the receiver's own exception."""
    kit.on("request_started")(fail)
    assert app.test_client().get("/").status_code == 500
    app.testing = True
    with pytest.raises(IndexError):
        app.test_client().get("/")


def test_a_policy_may_be_chosen_for_one_of_flasks_signals(kit: SignalsKit, app: Flask) -> None:
    """`kit.signal("request_finished", on_error=…)` declares nothing new."""
    kit.signal("request_finished", on_error="isolate")
    kit.on("request_finished")(fail)
    kit.on("request_started")(lambda app, **extra: None)
    assert app.test_client().get("/").text == "good day"


# -- others' signals ------------------------------------------------------------------------------


def test_a_blinker_signal_is_bridged_under_its_name(kit: SignalsKit, app: Flask) -> None:
    """Dashes become underscores; the name is returned."""
    theirs = blinker.NamedSignal("invoice-paid")
    assert kit.bridge(theirs) == ("invoice_paid",)
    kit.on("invoice_paid")(receive := lambda who, /, **payload: (who, payload))
    with app.app_context():
        [(_, result)] = theirs.send("acme", amount=5, sender="x", self="y")
        assert result == ("acme", {"amount": 5, "sender": "x", "self": "y"})
        assert kit.send("invoice_paid", "acme") == [(receive, ("acme", {}))]


def test_a_namespace_is_bridged_whole_or_in_part(kit: SignalsKit, app: Flask) -> None:
    """With a prefix, and names in their way of writing or in Python's."""
    theirs = blinker.Namespace()
    for name in ("invoice-paid", "invoice-sent", "invoice-lost"):
        theirs.signal(name)
    assert kit.bridge(theirs, ["invoice-paid", "invoice_sent"], "billing.") == (
        "billing.invoice_paid",
        "billing.invoice_sent",
    )
    assert kit.bridge(theirs, names="invoice_lost") == ("invoice_lost",)
    seen: list[str] = []
    kit.on("billing.invoice_paid")(lambda sender, **extra: seen.append(current_emission.signal))
    with app.app_context():
        theirs["invoice-paid"].send()
        theirs["invoice-sent"].send()
    assert seen == ["billing.invoice_paid"]


def test_names_that_become_the_same_are_refused(kit: SignalsKit) -> None:
    """`invoice-paid` and `invoice_paid` of one namespace cannot both be `invoice_paid`."""
    theirs = blinker.Namespace()
    theirs.signal("invoice-paid")
    theirs.signal("invoice_paid")
    with pytest.raises(DeclarationError, match="invoice_paid"):
        kit.bridge(theirs)


def test_a_bridge_relays_only_while_somebody_in_the_app_listens(
    kit: SignalsKit, app: Flask
) -> None:
    """Before a receiver comes and after it went, their signal has nobody."""
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)
    assert not theirs.receivers
    with app.app_context(), kit.namespace["invoice_paid"].connected_to(heard):
        assert len(theirs.receivers) == 1
    assert not theirs.receivers


def test_a_bridge_may_come_after_its_receivers_and_after_the_apps(kit: SignalsKit) -> None:
    """Order of bridging, connecting and initialising does not matter."""
    theirs = blinker.NamedSignal("invoice-paid")
    seen: list[str] = []
    kit.on("invoice_paid")(lambda sender, **extra: seen.append(current_app.name))
    before = make(kit, "before")
    kit.bridge(theirs)
    after = make(kit, "after")
    for app in (before, after):
        with app.app_context():
            theirs.send()
    assert seen == ["before", "after"]


def test_a_bridged_signal_is_passed_on_only_while_the_app_is_current(kit: SignalsKit) -> None:
    """Where the sender is not an app, the current one counts; without one nobody hears."""
    theirs = blinker.NamedSignal("cache-hit")
    kit.bridge(theirs)
    seen: list[tuple[str, Any]] = []
    one, two, bare = make(kit, "one"), make(kit, "two"), Flask("bare")
    kit.on("cache_hit")(lambda sender, **extra: seen.append((current_app.name, sender)))
    for app in (one, two, bare):
        with app.app_context():
            theirs.send()
            theirs.send(None)
            theirs.send("view")
    theirs.send("nobody")
    assert seen == [
        *[("one", None), ("one", None), ("one", "view")],
        *[("two", None), ("two", None), ("two", "view")],
    ]


def test_a_bridged_signal_whose_sender_is_an_app_goes_to_that_app(kit: SignalsKit) -> None:
    """Even where another app is current, and through a proxy."""
    theirs = blinker.NamedSignal("user-seen")
    kit.bridge(theirs)
    one, two = make(kit, "one"), make(kit, "two")
    seen: list[tuple[str, bool]] = []
    for app in (one, two):

        @kit.for_app(app).on("user_seen")
        def receive(sender: Any, name: str = app.name, **extra: Any) -> None:
            seen.append((name, isinstance(sender, LocalProxy)))

    with two.app_context():
        theirs.send(one)
        theirs.send(current_app)
    theirs.send(one)
    assert seen == [("one", False), ("two", False), ("one", False)]


def test_a_relay_returns_what_receivers_return(kit: SignalsKit, app: Flask) -> None:
    """The first result that is not `None`: some senders act on it, `False` included."""
    theirs = blinker.NamedSignal("oauth-authorized")
    kit.bridge(theirs)
    kit.on("oauth_authorized")(heard)
    with app.app_context():
        assert [result for _, result in theirs.send()] == [None]
    kit.on("oauth_authorized")(lambda sender, **extra: False)
    kit.on("oauth_authorized")(lambda sender, **extra: True)
    with app.app_context():
        assert [result for _, result in theirs.send()] == [False]


def test_a_single_receiver_of_a_flask_signal_costs_one_more_call_than_with_blinker(
    kit: SignalsKit, app: Flask
) -> None:
    """Between Flask's `send` and the receiver there is the relay and nothing else."""
    calls: list[str] = []

    @kit.on("request_started")
    def receive(sender: Any, **payload: Any) -> None: ...

    def note(frame: FrameType, event: str, arg: Any) -> None:
        module = str(frame.f_globals["__name__"])
        if event == "call" and module.startswith("flask_signals_kit"):
            calls.append(f"{module}.{frame.f_code.co_name}")

    flask.signals.request_started.send(app)  # the first send resolves the receivers
    sys.setprofile(note)
    flask.signals.request_started.send(app, _async_wrapper=app.ensure_sync)
    sys.setprofile(None)
    assert calls == ["flask_signals_kit.bridge.pass_on"]


def test_a_recursion_through_a_flask_signal_names_it(kit: SignalsKit, app: Flask) -> None:
    """A receiver of `message_flashed` that flashes a message."""

    @kit.on("message_flashed")
    def flash_again(sender: Any, **payload: Any) -> None:
        flask.signals.message_flashed.send(app, message="again", category="message")

    with pytest.raises(RecursionError) as caught:
        flask.signals.message_flashed.send(app, message="once", category="message")
    assert "→ message-flashed →" in "".join(caught.value.__notes__)


def test_a_failing_receiver_of_a_bridged_signal_obeys_the_policy(kit: SignalsKit) -> None:
    """`raise` reaches their sender, `isolate` does not."""
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)
    kit.on("invoice_paid")(fail)
    with make(kit).app_context(), pytest.raises(IndexError):
        theirs.send()
    kit.signal("invoice_paid", on_error="isolate")
    with make(kit).app_context():
        assert [result for _, result in theirs.send()] == [None]


def await_plain(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Make a plain receiver awaitable."""

    async def run(*args: Any, **payload: Any) -> Any:
        return receiver(*args, **payload)

    return run


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_signal_that_is_awaited_reaches_receivers_of_any_kind(
    kit: SignalsKit, app: Flask, kind: str
) -> None:
    """Given a `_sync_wrapper`, which blinker asks for: a bridge is a plain receiver."""
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)

    async def receive(sender: Any, **payload: Any) -> Any:
        return sender, payload, current_app.name

    def plain(sender: Any, **payload: Any) -> Any:
        return sender, payload, current_app.name

    with app.app_context():
        assert asyncio.run(theirs.send_async("acme")) == []
        kit.on("invoice_paid")(receive if kind == "async" else plain)
        sent = theirs.send_async("acme", _sync_wrapper=await_plain, amount=5)
        assert [result for _, result in asyncio.run(sent)] == [("acme", {"amount": 5}, "shop")]
        with pytest.raises(RuntimeError, match="non-coroutine function"):
            asyncio.run(theirs.send_async("acme"))


@pytest.mark.parametrize("testing", [False, True])
def test_a_sender_that_is_a_proxy_for_nothing_is_passed_on(kit: SignalsKit, testing: bool) -> None:
    """Their `send(request)` outside of a request worked before somebody listened here."""
    app = make(kit, TESTING=testing, SIGNALS_KIT_ON_ERROR="isolate")
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)
    seen: list[Any] = []
    kit.on("invoice_paid")(lambda sender, **extra: seen.append((type(sender), current_emission)))
    kit.on("invoice_paid", sender=app)(lambda sender, **extra: seen.append("the app"))
    kit.on("invoice_paid")(fail)
    with app.app_context():
        theirs.send(request)
    assert [kind for kind, _ in seen] == [LocalProxy]


def test_one_app_may_bridge_for_itself(kit: SignalsKit) -> None:
    """`for_app(app).bridge` wakes no other app."""
    theirs = blinker.NamedSignal("invoice-paid")
    one, two = make(kit, "one"), make(kit, "two")
    seen: list[str] = []
    assert kit.for_app(one).bridge(theirs) == ("invoice_paid",)
    kit.on("invoice_paid")(lambda sender, **extra: seen.append(current_app.name))
    for app in (one, two):
        with app.app_context():
            theirs.send()
    assert seen == ["one"]


def test_bridging_twice_is_bridging_once(kit: SignalsKit, app: Flask) -> None:
    """The same signal under the same name: one relay."""
    theirs = blinker.NamedSignal("invoice-paid")
    seen: list[Any] = []
    kit.on("invoice_paid")(lambda sender, **extra: seen.append(sender))
    assert kit.bridge(theirs) == kit.bridge(theirs) == ("invoice_paid",)
    with app.app_context():
        theirs.send("acme")
    assert seen == ["acme"]
    assert len(theirs.receivers) == 1


@pytest.mark.parametrize("taken_by", ["declaration", "bridge", "flask"])
def test_a_name_that_is_taken_is_refused(kit: SignalsKit, taken_by: str) -> None:
    """The message names it, and the prefix that helps; nothing is bridged."""
    name = "request_started" if taken_by == "flask" else "invoice_paid"
    if taken_by == "declaration":
        kit.signal(name)
    elif taken_by == "bridge":
        kit.bridge(blinker.NamedSignal(name))
    theirs = blinker.Namespace()
    theirs.signal("something-else")
    theirs.signal(name)
    with pytest.raises(DeclarationError) as caught:
        kit.bridge(theirs)
    assert repr(name) in str(caught.value)
    assert "taken" in str(caught.value)
    assert "prefix=" in str(caught.value)
    assert kit.bridge(theirs, prefix="theirs.") == ("theirs.something_else", f"theirs.{name}")
    assert "something_else" not in kit.registry.bridged


def test_a_dropped_app_leaves_nothing_in_a_bridged_signal(kit: SignalsKit) -> None:
    """The relay goes with the app, without the garbage collector."""
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)
    kit.on("invoice_paid")(heard)
    gc.disable()
    try:
        app = make(kit)
        assert len(theirs.receivers) == 1
        freed = weakref.ref(app)
        del app
        assert freed() is None or gc.collect()  # its views are closures of nothing
        assert not theirs.receivers
    finally:
        gc.enable()


def test_anonymous_signals_need_a_name(kit: SignalsKit, app: Flask) -> None:
    """The message shows how to give one; then it works."""
    theirs = blinker.Signal("no name")
    for use in (lambda: kit.bridge(theirs), lambda: kit.on(theirs)(heard)):
        with pytest.raises(DeclarationError, match=r"no name.*names=\['…'\]"):
            use()
    assert kit.bridge(theirs, names=["paid"]) == ("paid",)
    seen: list[str] = []
    kit.on(theirs)(lambda sender, **extra: seen.append(current_emission.signal))
    with app.app_context():
        theirs.send()
    assert seen == ["paid"]


def test_several_names_for_one_signal_are_refused(kit: SignalsKit) -> None:
    """One signal has one name here."""
    with pytest.raises(DeclarationError, match="one name, not 2"):
        kit.bridge(blinker.NamedSignal("invoice-paid"), names=["paid", "settled"])


@pytest.mark.parametrize("thing", [3, None, object(), ["flask_login"]])
def test_what_is_no_source_is_refused(kit: SignalsKit, thing: Any) -> None:
    """The message names the type and what would do."""
    with pytest.raises(DeclarationError) as caught:
        kit.bridge(thing)
    assert type(thing).__name__.removesuffix("Type") in str(caught.value)
    assert "the name of an extension, a blinker signal or a blinker namespace" in str(caught.value)


def test_a_name_that_their_namespace_lacks_is_refused(kit: SignalsKit) -> None:
    """With the nearest and all that it has."""
    theirs = blinker.Namespace()
    theirs.signal("invoice-paid")
    with pytest.raises(UnknownSignalError) as caught:
        kit.bridge(theirs, names=["invoice_payed"])
    message = str(caught.value)
    assert "'invoice_payed'" in message
    assert "Did you mean 'invoice_paid'?" in message
    assert "It has invoice_paid" in message


def test_a_signal_whose_name_is_no_identifier_is_refused(kit: SignalsKit) -> None:
    """With a name that would do."""
    with pytest.raises(DeclarationError, match="'user_logged_in'"):
        kit.bridge(blinker.NamedSignal("user logged in"))


# -- the catalogue --------------------------------------------------------------------------------


def test_flask_login_is_bridged_by_its_name(kit: SignalsKit) -> None:
    """A real login and logout arrive, with the user, for this app alone."""
    app, other = make(kit), make(kit, "other")
    names = kit.bridge("flask_login")
    assert "flask_login.user_logged_in" in names
    assert "flask_login.session_protected" in names
    assert all(name.startswith("flask_login.") for name in names)

    class User(flask_login.UserMixin):  # type: ignore[misc]  # it has no types
        id = "mary"

    for each in (app, other):
        manager = flask_login.LoginManager(each)
        manager.user_loader(lambda name: User())
        each.add_url_rule("/login", "login", lambda: str(flask_login.login_user(User())))
        each.add_url_rule("/logout", "logout", lambda: str(flask_login.logout_user()))
    seen: list[Any] = []

    @kit.for_app(app).on("flask_login.user_logged_in", "flask_login.user_logged_out")
    def note(sender: Any, *, user: Any, **extra: Any) -> None:
        seen.append((current_emission.signal, sender is app, user.id))

    for each in (app, other):
        client = each.test_client()
        client.get("/login")
        client.get("/logout")
    assert seen == [
        ("flask_login.user_logged_in", True, "mary"),
        ("flask_login.user_logged_out", True, "mary"),
    ]


def test_of_an_extension_some_names_and_another_prefix_may_be_chosen(kit: SignalsKit) -> None:
    """An empty prefix is a prefix, too."""
    assert kit.bridge("flask_login", names=["user_logged_in"], prefix="") == ("user_logged_in",)
    assert kit.bridge("flask_login", names="user_logged_out", prefix="auth.") == (
        "auth.user_logged_out",
    )


def test_a_wrong_name_of_an_extensions_signal_is_refused(kit: SignalsKit) -> None:
    """With the nearest and all that it has."""
    with pytest.raises(UnknownSignalError) as caught:
        kit.bridge("flask_login", names=["user_loged_in"])
    assert "flask_login has no signal 'user_loged_in'" in str(caught.value)
    assert "Did you mean 'user_logged_in'?" in str(caught.value)


def test_an_unknown_extension_is_refused(kit: SignalsKit) -> None:
    """With the nearest, the catalogue, and the way without it."""
    with pytest.raises(UnknownSignalError) as caught:
        kit.bridge("flask_logn")
    message = str(caught.value)
    assert "'flask_logn'" in message
    assert "Did you mean 'flask_login'?" in message
    assert "flask_dance" in message
    assert "kit.bridge(namespace)" in message


def test_an_extension_that_is_not_installed_is_refused(kit: SignalsKit) -> None:
    """With what to install."""
    with pytest.raises(ConfigurationError) as caught:
        kit.bridge("flask_appbuilder")
    message = str(caught.value)
    assert "flask_appbuilder" in message
    assert "pip install Flask-AppBuilder" in message


def test_flask_sqlalchemy_is_in_the_catalogue_as_installed(kit: SignalsKit) -> None:
    """What the catalogue says of an installed extension is there."""
    assert kit.bridge("flask_sqlalchemy") == (
        "flask_sqlalchemy.models_committed",
        "flask_sqlalchemy.before_models_committed",
    )


# -- threads --------------------------------------------------------------------------------------


def test_relays_come_and_go_while_requests_are_served(kit: SignalsKit, app: Flask) -> None:
    """Temporary receivers of Flask's signals in some threads disturb no request in others."""
    stop = threading.Event()
    app.test_client().get("/")
    before = listeners("request_started", app)

    def borrow() -> None:
        with app.app_context():
            for _ in range(100):
                with kit.namespace["request_started"].connected_to(heard):
                    pass

    def serve() -> None:
        while not stop.is_set():
            assert app.test_client().get("/").text == "good day"

    with ThreadPoolExecutor(4) as pool:
        serving = [pool.submit(serve) for _ in range(2)]
        for done in [pool.submit(borrow) for _ in range(2)]:
            done.result(60)
        stop.set()
        for done in serving:
            done.result(60)
    assert listeners("request_started", app) == before


class Sender:
    """Somebody who sends."""


def busy_signal(others: list[Sender], how_often: int) -> blinker.NamedSignal:
    """Make a signal that others connect to each time that somebody is being disconnected."""

    class Receivers(set[Any]):
        def discard(self, receiver: Any, /) -> None:
            super().discard(receiver)
            if len(others) < how_often:
                others.append(Sender())
                theirs.connect(heard, others[-1])

    class Busy(blinker.NamedSignal):
        set_class = Receivers

    theirs = Busy("invoice-paid")
    return theirs


@pytest.mark.parametrize("how_often", [1, 50])
def test_others_who_connect_while_a_relay_leaves_do_it_no_harm(
    kit: SignalsKit, app: Flask, how_often: int
) -> None:
    """Blinker goes through all senders to disconnect, and fails if another thread adds one."""
    others: list[Sender] = []
    theirs = busy_signal(others, how_often)
    kit.bridge(theirs)
    with app.app_context():
        for _ in range(3):
            with kit.namespace["invoice_paid"].connected_to(lambda sender, **extra: "heard"):
                assert "heard" in [result for _, result in theirs.send("acme")]
            assert "heard" not in [result for _, result in theirs.send("acme")]
    assert len(others) == how_often
    assert [*theirs.receivers_for("acme")] == []


def test_a_relay_whose_last_receiver_is_collected_as_it_connects_is_not_left_behind(
    kit: SignalsKit, app: Flask
) -> None:
    """The collector may run in the midst of it; what holds at the end counts."""
    kept: list[Any] = [lambda sender, **extra: None]

    class Collecting(blinker.NamedSignal):
        def connect(self, *args: Any, **how: Any) -> Any:
            kept.clear()
            return super().connect(*args, **how)

    theirs = Collecting("invoice-paid")
    signal = kit.for_app(app).namespace.signal("invoice_paid")
    signal.connect(kept[0])
    kit.bridge(theirs)
    assert not kept
    assert not signal.receivers
    assert not theirs.receivers


def test_a_receiver_that_is_collected_waits_for_no_other_thread(
    kit: SignalsKit, app: Flask
) -> None:
    """The collector runs in any thread, which may hold the lock that a relay waits for."""
    held, waiting = threading.Event(), threading.Event()

    class Slow(Signal):
        def disconnect(self, *args: Any) -> None:
            waiting.set()
            super().disconnect(*args)

    library = Namespace()
    returned, lent = Slow("book_returned"), Slow("book_lent")
    library.update(book_returned=returned, book_lent=lent)
    kit.bridge(library)
    signals = kit.for_app(app).namespace
    kept: list[Any] = [lambda sender, **extra: None]
    signals["book_lent"].connect(kept[0])
    signals["book_returned"].connect(heard)

    def leave() -> None:
        held.wait(10)
        signals["book_returned"].disconnect(heard)

    def collect() -> None:
        with returned._lock:
            held.set()
            waiting.wait(10)
            kept.clear()

    threads = [threading.Thread(target=work, daemon=True) for work in (leave, collect)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert not returned.receivers
    assert not lent.receivers


def test_receivers_see_the_request_that_they_are_in(kit: SignalsKit, app: Flask) -> None:
    """`g` of the request is there from `request_started` on, as with Flask's own signals."""
    kit.on("request_started")(lambda app, **extra: setattr(g, "seen", True))
    app.add_url_rule("/seen", view_func=lambda: str(g.seen))
    assert app.test_client().get("/seen").text == "True"


def test_what_fails_in_one_relay_is_nobody_elses_failure(
    kit: SignalsKit, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has the turn looks after the others' relays; their errors are logged."""
    begun, gone = threading.Event(), threading.Event()

    class Slow(Signal):
        def connect(self, *args: Any, **how: Any) -> Any:
            begun.set()
            gone.wait(10)
            return super().connect(*args, **how)

    class Broken(Signal):
        def disconnect(self, *args: Any) -> None:
            raise OSError("the library is closed")

    slow, broken = Slow("book_lent"), Broken("book_returned")
    for signal in (slow, broken):
        kit.bridge(signal)
    signals = kit.for_app(app).namespace
    kept: list[Any] = [lambda sender, **extra: None]
    signals["book_returned"].connect(kept[0])
    other = threading.Thread(target=signals["book_lent"].connect, args=(heard,), daemon=True)
    other.start()
    begun.wait(10)
    kept.clear()  # the collector notes the relay for the other thread
    gone.set()
    other.join(10)
    assert not other.is_alive()
    assert "The relay of signal 'book_returned' failed" in caplog.text
    with pytest.raises(OSError, match="closed"):
        signals["book_returned"].disconnect(signals["book_returned"].connect(heard))
