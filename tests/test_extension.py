"""`SignalsKit`: what is said at import time becomes each app's signals, and goes with the app."""

import asyncio
import gc
import importlib
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import blinker
import click
import flask.signals
import pytest
from flask import Blueprint, Flask, current_app, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_signals_kit import (
    AfterCommit,
    AlreadyInitializedError,
    AppContextError,
    AppSignals,
    AsyncReceiverError,
    Call,
    ConfigurationError,
    ContractError,
    DeclarationError,
    DuplicateReceiverError,
    Emission,
    Namespace,
    NotInitializedError,
    ReceiverError,
    Signal,
    SignalsKit,
    UnknownSignalError,
    current_emission,
)

FLASK_SIGNALS: list[blinker.Signal] = [
    getattr(flask.signals, name)
    for name in (
        "appcontext_popped",
        "appcontext_pushed",
        "appcontext_tearing_down",
        "before_render_template",
        "got_request_exception",
        "message_flashed",
        "request_finished",
        "request_started",
        "request_tearing_down",
        "template_rendered",
    )
]


@pytest.fixture
def kit() -> SignalsKit:
    """Give a kit without apps."""
    return SignalsKit()


@pytest.fixture
def app(kit: SignalsKit) -> Flask:
    """Give an app of the kit."""
    app = Flask("shop")
    kit.init_app(app)
    return app


def make(kit: SignalsKit, name: str = "shop", **config: Any) -> Flask:
    """Make an app of the kit with some settings."""
    app = Flask(name)
    app.config.update(config)
    kit.init_app(app)
    return app


def results(kit: SignalsKit, app: Flask, name: str = "account_funded", sender: Any = "acme") -> Any:
    """Send in an app and return what the receivers returned."""
    with app.app_context():
        return [result for _, result in kit.send(name, sender)]


def left_in_flask() -> dict[str, set[Any]]:
    """Return what Flask's signals hold: receivers, and blinker's books on them."""
    return {
        f"{signal.name}.{book}": {key for key in getattr(signal, book) if key != 0}  # type: ignore[attr-defined]
        for signal in FLASK_SIGNALS
        for book in ("receivers", "_by_receiver", "_weak_senders", "_by_sender")
    }


def listening() -> dict[str, set[Any]]:
    """Return who is connected to Flask's signals, without what earlier tests left."""
    gc.collect()
    return {name: keys for name, keys in left_in_flask().items() if name.endswith(".receivers")}


# -- apps -----------------------------------------------------------------------------------------


def test_an_app_is_initialised_in_the_constructor_or_by_init_app() -> None:
    """Both ways give the app its half."""
    one, two = Flask("one"), Flask("two")
    kit = SignalsKit(one)
    kit.init_app(two)
    for app in (one, two):
        half = kit.for_app(app)
        assert isinstance(half, AppSignals)
        assert app.extensions["signals_kit"] is half
        assert half.app is app
        assert isinstance(half.namespace, Namespace)
        with app.app_context():
            assert kit.namespace is half.namespace
    assert kit.for_app(one).namespace is not kit.for_app(two).namespace


def test_a_second_init_app_is_refused(kit: SignalsKit, app: Flask) -> None:
    """By the same kit or by another; the message names the app and the way out."""
    for other in (kit, SignalsKit()):
        with pytest.raises(AlreadyInitializedError) as caught:
            other.init_app(app)
        message = str(caught.value)
        assert "'shop'" in message
        assert "call init_app once" in message
        assert "detach" in message
    assert kit.for_app(app).app is app


def test_an_app_of_no_kit_or_of_another_is_refused(kit: SignalsKit, app: Flask) -> None:
    """The message tells the two cases apart."""
    other = SignalsKit()
    for use in (other.for_app, other.detach):
        with pytest.raises(NotInitializedError, match=r"'shop' has another SignalsKit.*kit.detach"):
            use(app)
        with pytest.raises(NotInitializedError, match=r"'bare' has no SignalsKit.*init_app"):
            use(Flask("bare"))
    with app.app_context(), pytest.raises(NotInitializedError, match="another SignalsKit"):
        other.send("account_funded")


def make_shop() -> Flask:
    """Make an app, as a factory does."""
    return Flask("shop")


class Wrapper:
    """WSGI middleware that keeps the app inside it."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Pass the request on."""
        return self.app(environ, start_response)


@pytest.mark.parametrize(
    ("thing", "given", "fix"),
    [
        (Blueprint("billing", "shop"), "the blueprint 'billing'", "registered on"),
        (
            make_shop,
            r"the function tests.test_extension.make_shop \(",
            r"init_app\(make_shop\(\)\)",
        ),
        (
            DispatcherMiddleware(make_shop()),
            "werkzeug.*DispatcherMiddleware",
            "the Flask app inside",
        ),
        (ProxyFix(make_shop().wsgi_app), "werkzeug.*ProxyFix", "the Flask app inside"),
        (Wrapper(make_shop()), "tests.test_extension.Wrapper", "the Flask app inside"),
        (make_shop().wsgi_app, "the app's method wsgi_app", "Give the app itself"),
        (None, "None", "the factory returns the app"),
        ("shop", "'shop'", "an instance of flask.Flask"),
        (Flask, "type flask.app.Flask", "an instance of flask.Flask"),
        (sys, "module", "an instance of flask.Flask"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_init_app_refuses_what_is_not_a_flask_app(
    kit: SignalsKit, thing: Any, given: str, fix: str
) -> None:
    """The error names what was given and what to give instead."""
    with pytest.raises(ConfigurationError, match=rf"init_app\(\) takes .* not {given}.*\. .*{fix}"):
        kit.init_app(thing)
    with pytest.raises(ConfigurationError, match=rf"detach\(\) takes .* not {given}"):
        kit.detach(thing)
    with pytest.raises(ConfigurationError, match=rf"for_app\(\) takes .* not {given}"):
        kit.for_app(thing)


def test_init_app_refuses_a_quart_app(kit: SignalsKit) -> None:
    """Quart shares Flask's base class, and is no Flask app."""
    quart = pytest.importorskip("quart")
    with pytest.raises(ConfigurationError, match=r"not quart\.app\.Quart\. .* with Flask alone"):
        kit.init_app(quart.Quart("shop"))


def test_a_subclass_of_flask_is_a_flask_app(kit: SignalsKit) -> None:
    """Frameworks on Flask give their own class."""

    class Shop(Flask):
        """An app class of its own."""

    app = Shop("shop")
    kit.init_app(app)
    assert kit.for_app(app).app is app


def test_current_app_can_be_given_for_the_app(kit: SignalsKit, app: Flask) -> None:
    """A `LocalProxy` is the app that it stands for."""
    with app.app_context():
        assert kit.for_app(current_app) is kit.for_app(app)
        kit.detach(current_app)
        kit.init_app(current_app)
        assert kit.for_app(app).app is app


def test_nothing_leaks_from_one_app_to_another(kit: SignalsKit) -> None:
    """The kit's receivers are in every app, an app's own in that app alone."""
    one, two = make(kit, "one"), make(kit, "two")
    kit.on("account_funded")(lambda sender: "every")
    kit.for_app(one).on("account_funded")(lambda sender: "one")
    kit.for_app(two).on("account_funded", priority=1)(lambda sender: "two")
    assert results(kit, one) == ["every", "one"]
    assert results(kit, two) == ["two", "every"]
    with one.app_context(), kit.namespace.signal("account_funded").muted():
        assert results(kit, one) == []
        assert results(kit, two) == ["two", "every"]


def test_nested_app_contexts_send_in_the_innermost(kit: SignalsKit) -> None:
    """The current app is the one that counts."""
    one, two = make(kit, "one"), make(kit, "two")
    kit.on("account_funded")(lambda sender: current_app.name)
    with one.app_context():
        with two.app_context():
            assert [result for _, result in kit.send("account_funded")] == ["two"]
        assert [result for _, result in kit.send("account_funded")] == ["one"]


def test_several_kits_live_side_by_side() -> None:
    """Each with its own apps, declarations and receivers."""
    one, two = SignalsKit(), SignalsKit()
    first, second = make(one, "first"), make(two, "second")
    one.on("account_funded")(lambda sender: "one")
    two.on("account_funded")(lambda sender: "two")
    assert results(one, first) == ["one"]
    assert results(two, second) == ["two"]


def test_connections_before_and_after_init_app_are_equal(kit: SignalsKit) -> None:
    """Order is connection order, whenever the app came."""
    kit.on("account_funded")(lambda sender: "before")
    app = make(kit)
    kit.on("account_funded")(lambda sender: "after")
    later = make(kit, "later")
    assert results(kit, app) == results(kit, later) == ["before", "after"]


def test_the_kits_and_an_apps_receivers_run_in_one_order(kit: SignalsKit, app: Flask) -> None:
    """Who connected first runs first, on whichever of the two."""
    kit.for_app(app).on("account_funded")(lambda sender: 1)
    kit.on("account_funded")(lambda sender: 2)
    kit.for_app(app).on("account_funded")(lambda sender: 3)
    assert results(kit, app) == [1, 2, 3]


def test_on_returns_the_function_unchanged(kit: SignalsKit, app: Flask) -> None:
    """It stays a plain function, and may have several decorators."""

    def receive(sender: Any, **extra: Any) -> str:
        return "heard"

    assert kit.on("account_funded", "campaign_created", priority=2)(receive) is receive
    assert results(kit, app) == results(kit, app, "campaign_created") == ["heard"]


def test_the_same_function_connects_once(kit: SignalsKit, app: Flask) -> None:
    """Connecting it again changes its options and nothing else."""

    def receive(sender: Any, **extra: Any) -> str:
        return "receive"

    kit.on("account_funded")(receive)
    kit.on("account_funded")(lambda sender: "other")
    kit.on("account_funded")(receive)
    kit.for_app(app).on("account_funded")(receive)
    assert results(kit, app) == ["receive", "other"]
    kit.for_app(app).on("account_funded", priority=-1)(receive)
    assert results(kit, app) == ["other", "receive"]


def test_a_closure_connected_for_an_app_goes_with_it(kit: SignalsKit) -> None:
    """A factory's closures are strong, for as long as the app is there."""

    def create_app() -> tuple[Flask, weakref.ref[Any]]:
        app = make(kit)

        @kit.for_app(app).on("account_funded")
        def receive(sender: Any) -> str:
            return "closure"

        return app, weakref.ref(receive)

    app, receiver = create_app()
    assert results(kit, app) == ["closure"]
    del app
    gc.collect()
    assert receiver() is None


def test_weak_receivers_go_when_nobody_holds_them(kit: SignalsKit, app: Flask) -> None:
    """With `weak=True` the kit holds them in no app, now or later."""

    def receive(sender: Any) -> str:
        return "weak"

    kit.on("account_funded", weak=True)(receive)
    kit.for_app(app).on("campaign_created", weak=True)(receive)
    assert results(kit, app) == ["weak"]
    del receive
    gc.collect()
    assert results(kit, app) == results(kit, make(kit, "later")) == []
    assert results(kit, app, "campaign_created") == []


class Slotted:
    """A receiver that takes no weak reference."""

    __slots__ = ()

    def __call__(self, *args: Any, **payload: Any) -> None:
        assert args, "called without a sender"

    def receive(self, *args: Any, **payload: Any) -> None:
        """Be a method of one."""
        self(*args)


class Spoken(str):
    """Text that can be called."""

    __slots__ = ()
    __call__ = Slotted.__call__


@pytest.mark.parametrize("receiver", [Slotted(), Slotted().receive, Spoken("hello")])
@pytest.mark.parametrize("early", [True, False])
def test_a_receiver_that_cannot_be_weak_is_refused(
    kit: SignalsKit, receiver: Any, early: bool
) -> None:
    """As by a signal, and before there is an app as well; it is not called to find out."""
    if not early:
        make(kit)
    with pytest.raises(ReceiverError, match=r"'account_funded' weakly: .* weak=False"):
        kit.on("account_funded", weak=True)(receiver)
    kit.declare(account_funded_by_anybody)
    kit.on("account_funded_by_anybody", sender=Slotted())(receiver)
    assert results(kit, make(kit, "later")) == []


def account_funded_by_anybody(sender: object) -> None:
    """Be a declaration."""


def test_a_strong_receiver_connected_weakly_again_stays(kit: SignalsKit, app: Flask) -> None:
    """Somebody counts on it, in the apps that are there and in those to come."""

    def factory() -> None:
        def receive(sender: Any) -> str:
            return "here"

        kit.on("account_funded")(receive)
        kit.on("account_funded", weak=True)(receive)

    factory()
    gc.collect()
    assert results(kit, app) == results(kit, make(kit, "later")) == ["here"]


def test_a_sender_is_held_weakly(kit: SignalsKit, app: Flask) -> None:
    """A receiver limited to an object that is gone is gone as well."""

    class Account:
        pass

    acme = Account()
    kit.on("account_funded", sender=acme)(lambda sender: "acme")
    assert results(kit, app, sender=acme) == ["acme"]
    assert results(kit, app, sender=Account()) == []
    freed = weakref.ref(acme)
    del acme
    gc.collect()
    assert freed() is None
    assert not kit.for_app(make(kit, "later")).namespace.signal("account_funded").receivers


def test_a_sender_given_as_current_app_is_the_app(kit: SignalsKit, app: Flask) -> None:
    """Within a context the proxy is unwrapped; sends of another app do not reach it."""
    other = make(kit, "other")
    with app.app_context():
        kit.on("account_funded", sender=current_app)(lambda sender: "mine")
        assert [result for _, result in kit.send("account_funded")] == ["mine"]
        assert [result for _, result in kit.send("account_funded", current_app)] == ["mine"]
    assert results(kit, other, sender=None) == []


def test_on_for_current_app_outside_a_context_says_what_to_do(kit: SignalsKit) -> None:
    """The message names the receiver, the reason and both ways out."""
    with pytest.raises(AppContextError) as caught:
        kit.on("account_funded", sender=current_app)(results)
    message = str(caught.value)
    assert "results" in message
    assert __file__ in message
    assert "LocalProxy outside an app context" in message
    assert "kit.for_app(app)" in message


def test_a_rejected_connection_leaves_nothing(kit: SignalsKit, app: Flask) -> None:
    """Of several signals one does not fit: none is connected."""
    kit.declare(campaign_created)
    with pytest.raises(ContractError):
        kit.on("account_funded", "campaign_created")(lambda sender: None)
    assert results(kit, app) == []
    assert results(kit, make(kit, "later")) == []


def campaign_created(sender: object, *, campaign: object) -> None:
    """Say that a campaign exists."""


# -- leaving --------------------------------------------------------------------------------------


def test_detach_undoes_what_init_app_did(kit: SignalsKit) -> None:
    """Extension, command, relays, hooks and wrappers go; what others did stays."""
    app = Flask("shop")
    commands, before, heard = {*app.cli.commands}, dict(app.__dict__), listening()
    kit.on("request_started", "appcontext_popped")(lambda sender, **extra: None)
    kit.on_exception(lambda app, exception, **extra: None)
    kit.init_app(app)
    assert app.cli.commands.keys() - commands == {"signals"}
    assert listening() != heard
    kit.detach(app)
    assert "signals_kit" not in app.extensions
    assert {*app.cli.commands} == commands
    assert app.__dict__.keys() == before.keys()
    assert listening() == heard
    with pytest.raises(NotInitializedError):
        kit.for_app(app)
    with app.app_context(), pytest.raises(NotInitializedError):
        kit.send("account_funded")
    kit.init_app(app)
    assert kit.for_app(app).app is app


def test_an_app_that_was_detached_does_nothing_more_on_start(kit: SignalsKit) -> None:
    """Even if somebody still holds its half: no page, no settings taken up."""
    before = listening()
    app = make(kit)
    half = kit.for_app(app)
    kit.detach(app)
    assert listening() == before
    app.testing = True
    with app.app_context():
        pass
    assert app.blueprints == {}
    assert half is not None


def test_detach_leaves_the_kits_other_apps(kit: SignalsKit) -> None:
    """Their receivers and relays go on."""
    seen: list[str] = []
    one, two = make(kit, "one"), make(kit, "two")
    kit.on("appcontext_pushed")(lambda app, **extra: seen.append(app.name))
    kit.detach(one)
    with one.app_context(), two.app_context():
        pass
    assert seen == ["two"]


def test_a_wrapper_that_somebody_put_around_wsgi_app_survives_detach(kit: SignalsKit) -> None:
    """Middleware added later is kept, and the kit's part in between only passes on."""
    app = make(kit)
    app.add_url_rule("/", view_func=lambda: "fine")
    seen: list[Any] = []
    kit.on_exception(lambda app, exception, **extra: seen.append(exception))
    inner = app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Any:
        seen.append("middleware")
        return inner(environ, start_response)

    app.wsgi_app = middleware  # type: ignore[method-assign]
    kit.detach(app)
    assert app.wsgi_app is middleware
    assert app.test_client().get("/").text == "fine"
    assert seen == ["middleware"]


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"SIGNALS_KIT_STRCT": True}, ConfigurationError),
        ({"SIGNALS_KIT_ON_ERROR": "ignore"}, ConfigurationError),
        ({"SIGNALS_KIT_PAGE": True}, ConfigurationError),
        ({"SIGNALS_KIT_IMPORT": ["no_such_module_anywhere"]}, ConfigurationError),
        ({"SIGNALS_KIT_STRICT": True}, UnknownSignalError),
    ],
)
def test_a_failed_init_app_leaves_the_app_as_it_was(
    kit: SignalsKit, config: dict[str, Any], error: type[Exception]
) -> None:
    """Nothing half done, and after mending the config it works."""
    kit.on("undeclared")(lambda sender: None)
    kit.on("request_started")(lambda sender, **extra: None)
    kit.on_exception(lambda app, exception, **extra: None)
    app = Flask("shop")
    app.config.update(config)
    before, commands, heard = dict(app.__dict__), {*app.cli.commands}, listening()
    with pytest.raises(error):
        kit.init_app(app)
    assert app.extensions == {}
    assert app.__dict__.keys() == before.keys()
    assert {*app.cli.commands} == commands
    assert listening() == heard
    for key in config:
        del app.config[key]
    kit.init_app(app)


# -- 200 apps -------------------------------------------------------------------------------------


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Keep the cyclic garbage collector from running by itself."""
    gc.disable()
    yield
    gc.enable()


def add_receivers(half: AppSignals) -> None:
    """Connect closures for one app."""
    half.on("account_funded", sender=half.app)(lambda sender, **extra: None)
    half.on("account_*")(lambda sender, **extra: None)


def add_bridges(half: AppSignals) -> None:
    """Listen to Flask in one app."""
    half.on("request_started", "request_finished")(lambda sender, **extra: None)
    half.on("appcontext_popped")(lambda sender, **extra: None)


def add_hooks(half: AppSignals) -> None:
    """Watch one app's exceptions."""
    half.on_exception(lambda app, exception, **extra: None)


def add_handles(half: AppSignals) -> None:
    """Declare for one app alone."""
    half.signal("own").connect(lambda sender, **extra: None)
    half.declare(campaign_created).send(None, campaign=1)


def set_testing(half: AppSignals) -> None:
    """Switch on what follows testing: checks, journal and page."""
    half.app.testing = True


KINDS = {
    "bare": lambda half: None,
    "receivers": add_receivers,
    "bridges": add_bridges,
    "hooks": add_hooks,
    "handles": add_handles,
    "testing": set_testing,
}


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_dropped_apps_are_freed_at_once_and_leave_nothing(
    no_gc: None, kind: str, served: bool
) -> None:
    """200 apps created, served a request and dropped: Flask's signals are as if they never were.

    Flask takes care that an app is freed without the garbage collector, and so does the kit.
    """
    before = left_in_flask()
    kit = SignalsKit()
    kit.on("account_funded")(lambda sender, **extra: None)
    alive = 0
    for _ in range(200 if served else 20):
        app = Flask("shop")
        kit.init_app(app)
        KINDS[kind](kit.for_app(app))
        app.add_url_rule("/", view_func=lambda: str(len(kit.send("account_funded"))))
        if served:
            with app.test_client() as client:
                assert client.get("/").status_code == 200
            del client
        freed = weakref.ref(app)
        del app
        alive += freed() is not None
    assert alive == 0
    assert left_in_flask() == before
    assert len(kit.registry.apps) == 0


def test_apps_whose_requests_fail_leave_nothing_after_a_collection() -> None:
    """Flask's own frames tie a failed request into a cycle; the kit adds none that stays."""
    gc.collect()
    before = left_in_flask()
    kit = SignalsKit()
    kit.on("request_started", "got_request_exception")(lambda sender, **extra: None)
    kit.on_exception(lambda app, exception, **extra: None)
    apps = []
    for _ in range(20):
        app = make(kit)
        app.logger.disabled = True
        app.add_url_rule("/", view_func=lambda: 1 // 0)  # type: ignore[arg-type]
        assert app.test_client().get("/").status_code == 500
        apps.append(weakref.ref(app))
        del app
    gc.collect()
    assert [ref for ref in apps if ref() is not None] == []
    assert left_in_flask() == before


def test_a_kit_that_is_dropped_with_its_apps_is_freed() -> None:
    """Nothing global holds a kit."""
    kit = SignalsKit()
    kit.on("account_funded")(lambda sender: None)
    kit.bridge(blinker.NamedSignal("paid"))
    handle = kit.signal("account_funded")
    app = make(kit)
    with app.app_context():
        handle.send()
    freed = weakref.ref(kit)
    del kit, handle, app
    gc.collect()
    assert freed() is None


def test_the_half_of_a_dropped_app_says_so(kit: SignalsKit) -> None:
    """Whoever kept it learns that the app is gone."""
    app = make(kit)
    half = kit.for_app(app)
    handle = half.signal("own")
    del app
    gc.collect()
    for use in (lambda: half.app, lambda: half.send("own"), handle.send):
        with pytest.raises(AppContextError, match="no longer exists"):
            use()


# -- on_error -------------------------------------------------------------------------------------


def fail(sender: object, **extra: object) -> None:
    """Raise."""
    raise ValueError("boom")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_receivers_policy_holds_in_each_app(when: str) -> None:
    """However it is connected, before and after `init_app`; one without it raises."""
    kit = SignalsKit()
    apps = [make(kit)] if when == "after" else []
    account_funded = kit.signal("account_funded")
    kit.on("account_*", on_error="isolate")(fail)
    account_funded.connect(partial(fail), on_error="isolate")
    account_funded.connect(lambda sender: "fine")
    for app in apps or [make(kit)]:
        kit.for_app(app).on("account_funded", on_error="isolate")(partial(fail))
        assert results(kit, app) == ["fine"]
        kit.on("account_funded", priority=-1)(fail)  # by its name, it follows the signal
        with pytest.raises(ValueError, match="boom"):
            results(kit, app)


def test_a_receivers_policy_counts_for_more_than_the_signals_and_the_apps() -> None:
    """Per receiver over signal over app."""
    kit = SignalsKit()
    app = make(kit, SIGNALS_KIT_ON_ERROR="isolate")
    kit.signal("account_funded", on_error="group")
    kit.on("account_funded")(fail)
    with pytest.raises(ExceptionGroup):
        results(kit, app)
    kit.on("account_funded", on_error="raise")(fail)
    with pytest.raises(ValueError, match="boom"):
        results(kit, app)


def test_a_receivers_isolated_failure_reaches_the_exception_hooks(
    kit: SignalsKit, app: Flask
) -> None:
    """As one of a signal that isolates does."""
    told: list[Any] = []
    kit.on_exception(
        lambda app, error, *, source, receiver, **extra: told.append((source, receiver))
    )
    kit.on("account_funded", on_error="isolate")(fail)
    assert results(kit, app) == []
    assert told == [("receiver", fail)]


def test_a_receivers_policy_that_does_not_exist_is_refused(kit: SignalsKit, app: Flask) -> None:
    """By the kit as by a signal, and nothing is connected."""
    for connect in (kit.on, kit.for_app(app).on):
        with pytest.raises(DeclarationError, match=r"fail \(.*on_error='ignore'; use one of"):
            connect("account_funded", on_error="ignore")(fail)  # type: ignore[call-overload]
    assert results(kit, app) == []


# -- uid ------------------------------------------------------------------------------------------


def test_a_uid_replaces_the_receiver_of_the_same_name(kit: SignalsKit, app: Flask) -> None:
    """A factory that runs twice connects its closure once, at the same place."""

    def factory(number: int) -> None:
        @kit.on("account_funded", uid="ledger")
        def receive(sender: Any) -> int:
            return number

    factory(1)
    kit.on("account_funded")(lambda sender: "other")
    factory(2)
    assert results(kit, app) == results(kit, make(kit, "later")) == [2, "other"]


def test_a_uid_taken_by_another_receiver_is_refused(kit: SignalsKit, app: Flask) -> None:
    """Both places, the uid, the signal and the fix are in the message; nothing changes."""

    @kit.on("account_funded", uid="ledger")
    def first(sender: Any) -> str:
        return "first"

    def second(sender: Any) -> str:
        return "second"

    with pytest.raises(DuplicateReceiverError) as caught:
        kit.on("account_funded", uid="ledger")(second)
    message = str(caught.value)
    assert f"first ({__file__}:{first.__code__.co_firstlineno})" in message
    assert f"second ({__file__}:{second.__code__.co_firstlineno})" in message
    assert "'ledger'" in message
    assert "'account_funded'" in message
    assert "another uid" in message
    assert results(kit, app) == ["first"]


def test_a_uid_is_unique_in_the_kit_whatever_the_signal(kit: SignalsKit, app: Flask) -> None:
    """One function may be connected to several signals with it, and no other function to any."""
    kit.on("account_funded", uid="ledger")(write_down)
    kit.on("campaign_*", "request_started", uid="ledger")(write_down)
    for target in ("account_funded", "account_closed", "account_*", "request_finished"):
        with pytest.raises(DuplicateReceiverError, match=r"send_mail.*write_down.*already has it"):
            kit.on(target, uid="ledger")(send_mail)
    for name in ("account_funded", "campaign_created", "request_started"):
        assert results(kit, app, name, app) == ["written down"]
    assert results(kit, app, "account_closed") == []


def test_a_uid_is_unique_among_the_kit_and_one_app(kit: SignalsKit, app: Flask) -> None:
    """Whichever has it first; two apps may give it to functions of their own."""
    other_app = make(kit, "other")
    half, other = kit.for_app(app), kit.for_app(other_app)
    kit.on("account_funded", uid="ledger")(write_down)
    half.on("account_closed", uid="ledger")(write_down)  # the same function
    half.on("account_funded", uid="mail")(send_mail)
    other.on("account_funded", uid="mail")(read_back)
    for taken, connect, receiver in (
        ("ledger", half.on, send_mail),
        ("mail", kit.on, write_down),
        ("mail", kit.on, send_mail),  # not in the other app
    ):
        with pytest.raises(DuplicateReceiverError, match="already has it"):
            connect("campaign_created", uid=taken)(receiver)
    other.disconnect(read_back)
    kit.on("campaign_created", uid="mail")(send_mail)


def test_a_uid_is_free_again_once_its_receiver_is_gone(kit: SignalsKit, app: Flask) -> None:
    """Disconnected, given another uid, or collected."""
    kit.on("account_funded", "account_closed", uid="ledger")(write_down)
    kit.disconnect(write_down, "account_closed")
    with pytest.raises(DuplicateReceiverError):
        kit.on("account_closed", uid="ledger")(send_mail)
    kit.on("account_funded", uid="other")(write_down)
    kit.on("account_closed", uid="ledger")(send_mail)
    kit.disconnect(send_mail)
    receiver = Receiver()
    kit.on("account_funded", uid="ledger", weak=True)(receiver)
    del receiver
    gc.collect()
    kit.on("account_closed", uid="ledger")(send_mail)
    assert results(kit, app, "account_closed") == ["mailed"]


def test_a_taken_uid_is_refused_before_anything_is_connected(kit: SignalsKit, app: Flask) -> None:
    """Of several signals in one `on`, none is connected."""
    kit.on("account_funded", uid="ledger")(write_down)
    with pytest.raises(DuplicateReceiverError):
        kit.on("campaign_created", "account_closed", uid="ledger")(send_mail)
    assert len([*kit.registry.connections]) == 1


def write_down(sender: Any, **extra: Any) -> str:
    """Be a receiver."""
    return "written down"


def send_mail(sender: Any, **extra: Any) -> str:
    """Be another."""
    return "mailed"


def read_back(sender: Any, **extra: Any) -> str:
    """Be a third."""
    return "read"


def test_a_glob_with_a_uid_is_replaced_as_a_name_is(kit: SignalsKit, app: Flask) -> None:
    """At its place, with the later options alone."""

    def load(number: int, **options: Any) -> None:
        @kit.on("account_*", uid="ledger", **options)
        def receive(sender: Any) -> int:
            return number

    load(1, priority=-1, when=lambda sender: True)
    kit.on("*_funded")(send_mail)
    assert results(kit, app) == ["mailed", 1]
    load(2)
    assert results(kit, app) == [2, "mailed"]
    assert len([*kit.registry.connections]) == 2


def test_a_uid_may_move_to_another_signal(kit: SignalsKit, app: Flask) -> None:
    """The earlier function goes from all of its signals: it is another one that has the name."""

    def load(*signals: str) -> None:
        @kit.on(*signals, uid="ledger")
        def receive(sender: Any) -> str:
            return signals[0]

    load("account_funded", "account_closed")
    load("campaign_created")
    assert results(kit, app) == results(kit, app, "account_closed") == []
    assert results(kit, app, "campaign_created") == ["campaign_created"]


# -- reloaded modules -----------------------------------------------------------------------------


@pytest.fixture
def wired(modules: Path) -> Any:
    """Give a module with a kit and an app, which stays while others are reloaded."""
    (modules / "wired.py").write_text(
        "from flask import Flask\n"
        "from flask_signals_kit import SignalsKit\n"
        "kit = SignalsKit()\n"
        "app = Flask('shop')\n"
        "kit.init_app(app)\n"
        "half = kit.for_app(app)\n"
        "turn = 0\n"
    )
    return importlib.import_module("wired")


HOW_CONNECTED = {
    "a name": "@kit.on('account_funded')",
    "a glob": "@kit.on('account_*')",
    "one app": "@half.on('account_funded')",
    "a sender": "@kit.on('account_funded', sender='acme')",
    "a handle": "@kit.signal('account_funded').connect",
    "several": "@kit.on('account_funded', 'account_closed')",
    "weak": "@kit.on('account_funded', weak=True)",
    "stacked": "@kit.on('account_*')\n@kit.on('account_funded')",
}


@pytest.mark.parametrize("how", HOW_CONNECTED)
def test_a_reloaded_function_replaces_its_former_self(wired: Any, modules: Path, how: str) -> None:
    """However it is connected, at its place, in the apps that are there and in later ones."""
    (modules / "wired_receivers.py").write_text(
        "import wired\n"
        "from wired import half, kit\n"
        f"{HOW_CONNECTED[how]}\n"
        "def receive(sender, turn=wired.turn, **extra):\n"
        "    return f'turn {turn}'\n"
    )
    module = importlib.import_module("wired_receivers")
    kit, app = wired.kit, wired.app
    kit.on("account_funded")(lambda sender: "later")
    former = module.receive
    assert results(kit, app) == ["turn 0", "later"]
    wired.turn = 1
    importlib.reload(module)
    assert results(kit, app) == ["turn 1", "later"]
    namespace = kit.for_app(app).namespace
    assert former not in list(namespace.signal("account_funded").receivers_for("acme"))
    assert former not in list(namespace.signal("account_closed").receivers_for("acme"))
    if how != "one app":
        assert results(kit, make(kit, "later")) == ["turn 1", "later"]


def test_a_reloaded_function_keeps_none_of_its_former_options(wired: Any, modules: Path) -> None:
    """Signal, sender, priority, predicate, policy and uid are those of the new source."""
    source = "from wired import kit\n{}\ndef receive(sender, **extra):\n    return 'once'\n"
    file = modules / "wired_receivers.py"
    file.write_text(
        source.format(
            "@kit.on('account_funded', 'account_closed', sender='acme', priority=9, uid='ledger', "
            "when=lambda sender, **extra: False, on_error='isolate')"
        )
    )
    module = importlib.import_module("wired_receivers")
    file.write_text(source.format("@kit.on('account_funded')"))
    importlib.reload(module)
    kit, app = wired.kit, wired.app
    assert results(kit, app, "account_closed") == []
    assert results(kit, app, sender="globex") == ["once"]
    [connection] = kit.for_app(app).namespace.signal("account_funded").connections
    assert (connection.priority, connection.when, connection.uid) == (0, None, None)
    assert connection.on_error is None
    kit.on("account_closed", uid="ledger")(write_down)


def test_a_reloaded_module_keeps_its_receivers_in_order(wired: Any, modules: Path) -> None:
    """Also where one is connected to several signals, in more than one `on`."""
    (modules / "wired_receivers.py").write_text(
        "from wired import kit\n"
        "@kit.on('account_funded')\n"
        "@kit.on('account_closed')\n"
        "def first(sender): return 'first'\n"
        "@kit.on('account_funded', 'account_closed')\n"
        "def second(sender): return 'second'\n"
    )
    module = importlib.import_module("wired_receivers")
    for _ in range(3):
        importlib.reload(module)
        for name in ("account_funded", "account_closed"):
            assert results(wired.kit, wired.app, name) == ["first", "second"]


def test_reloaded_closures_methods_partials_and_lambdas_are_replaced(
    wired: Any, modules: Path
) -> None:
    """All that the former module connected goes; all that the new one connects stays."""
    (modules / "wired_receivers.py").write_text(
        "import functools\n"
        "from wired import kit\n"
        "def wrap(function):\n"
        "    @functools.wraps(function)\n"
        "    def call(*args, **extra): return function(*args, **extra)\n"
        "    return call\n"
        "class Ledger:\n"
        "    def add(self, sender): return 'add'\n"
        "    def __call__(self, sender): return 'call'\n"
        "for number in (1, 2):\n"
        "    @kit.on('account_funded')\n"
        "    @wrap\n"
        "    def loop(sender, number=number): return number\n"
        "    kit.on('account_funded')(Ledger().add)\n"
        "    kit.on('account_funded')(Ledger())\n"
        "    kit.on('account_funded')(functools.partial(loop, number=number * 10))\n"
        "on = kit.on('account_funded')\n"
        "on(lambda sender: 'a'), on(lambda sender: 'b')\n"
    )
    module = importlib.import_module("wired_receivers")
    expected = [1, "add", "call", 10, 2, "add", "call", 20, "a", "b"]
    for _ in range(3):
        assert results(wired.kit, wired.app) == expected
        importlib.reload(module)


def test_a_function_on_another_line_is_another_one(wired: Any, modules: Path) -> None:
    """A reloaded module that was edited above it connects it twice, unless it has a uid."""
    source = (
        "from wired import kit\n{}"
        "@kit.on('account_funded')\n"
        "def receive(sender, **extra): return 'no uid'\n"
        "@kit.on('account_funded', uid='ledger')\n"
        "def named(sender, **extra): return 'uid'\n"
    )
    file = modules / "wired_receivers.py"
    file.write_text(source.format(""))
    module = importlib.import_module("wired_receivers")
    file.write_text(source.format("# moved\n"))
    importlib.reload(module)
    wired.kit.signal("account_funded")
    assert sorted(results(wired.kit, wired.app)) == ["no uid", "no uid", "uid"]
    [problem] = wired.half.check()
    assert problem.kind == "duplicate"
    assert "wired_receivers.receive is connected 2 times" in problem.message


def test_closures_of_one_function_all_stay(kit: SignalsKit, app: Flask) -> None:
    """They share a code object, however often the function runs."""

    def factory(number: int) -> None:
        @kit.on("account_funded")
        def receive(sender: Any) -> int:
            return number

    for number in range(3):
        factory(number)
    assert results(kit, app) == [0, 1, 2]


def test_a_failed_reload_leaves_the_former_function(wired: Any, modules: Path) -> None:
    """What refuses the new one, such as a receiver of `receiver_connected`, changes nothing."""
    (modules / "wired_receivers.py").write_text(
        "from wired import kit\n"
        "@kit.on('account_funded', uid='ledger')\n"
        "def receive(sender): return 'heard'\n"
    )
    module = importlib.import_module("wired_receivers")
    former = module.receive
    signal = wired.half.namespace.signal("account_funded")

    def refuse(who: Signal, *, receiver: Any, **how: Any) -> None:
        if receiver is not former:
            raise RuntimeError("not you")

    signal.receiver_connected.connect(refuse)
    with pytest.raises(RuntimeError, match="not you"):
        importlib.reload(module)
    assert list(signal.receivers_for("acme")) == [former]
    assert [c.receiver for c in wired.kit.registry.connections] == [former]


# -- disconnecting --------------------------------------------------------------------------------


def test_disconnect_undoes_on(kit: SignalsKit, app: Flask) -> None:
    """What was connected by name, glob, handle or blinker signal, ends by the same."""
    account_closed = kit.signal("account_closed")
    theirs = blinker.NamedSignal("invoice-paid")
    half = kit.for_app(app)
    for verbs in (kit, half):
        verbs.on("campaign_*", "request_started", theirs, account_closed)(write_down)
        ends: list[tuple[Any, str]] = [
            ("campaign_*", "campaign_created"),
            ("request_started", "request_started"),
            (theirs, "invoice_paid"),
            (account_closed if verbs is kit else "account_closed", "account_closed"),
        ]
        for target, name in ends:
            assert results(kit, app, name, app) == ["written down"]
            verbs.disconnect(write_down, target)
            assert results(kit, app, name, app) == []


def test_disconnect_ends_everything_or_what_is_named(kit: SignalsKit, app: Flask) -> None:
    """Without a signal all of the receiver's go; a sender limits it; others' stay."""
    kit.on("account_*", "campaign_created")(write_down)
    kit.on("account_*")(send_mail)
    kit.on("price_changed", sender="EUR")(write_down)
    kit.on("price_changed", sender="USD")(write_down)
    kit.disconnect(write_down, sender="EUR")
    assert results(kit, app, "price_changed", "EUR") == []
    assert results(kit, app, "price_changed", "USD") == ["written down"]
    kit.disconnect(write_down, "account_funded")
    assert results(kit, app) == ["written down", "mailed"]
    kit.disconnect(write_down)
    assert results(kit, app) == ["mailed"]
    assert results(kit, app, "campaign_created") == []
    assert results(kit, app, "price_changed", "USD") == []
    assert results(kit, make(kit, "later")) == ["mailed"]


def test_disconnect_passes_over_what_is_not_connected(kit: SignalsKit, app: Flask) -> None:
    """A signal of others is not brought in for it."""
    kit.disconnect(write_down)
    kit.disconnect(write_down, "account_funded", "*", blinker.NamedSignal("invoice-lost"))
    assert "invoice_lost" not in kit.for_app(app).namespace
    with pytest.raises(DeclarationError, match="not a valid signal name"):
        kit.disconnect(write_down, "account-funded")


# -- globs ----------------------------------------------------------------------------------------


def test_a_glob_takes_in_later_signals(kit: SignalsKit) -> None:
    """Declared or merely sent, before or after the glob and the app."""
    kit.signal("account_opened")
    kit.on("account_*")(lambda sender: "glob")
    app = make(kit)
    kit.signal("account_closed")
    for name in ("account_opened", "account_closed", "account_funded"):
        assert results(kit, app, name) == ["glob"]
    assert results(kit, app, "campaign_created") == []


def test_a_glob_matches_domain_signals_only(kit: SignalsKit) -> None:
    """`*` is not woken by Flask's or anybody's signals, and keeps no relay."""
    kit.bridge(blinker.NamedSignal("invoice-paid"))
    seen: list[str] = []
    kit.on("*")(lambda sender, **extra: seen.append(current_emission.signal))
    app = make(kit)
    app.add_url_rule("/", view_func=lambda: str(kit.send("account_funded")))
    app.test_client().get("/")
    assert seen == ["account_funded"]


@pytest.mark.parametrize("glob", ["account_?unded", "account_[a-f]unded", "*", "*_funded"])
def test_globs_are_those_of_the_shell(kit: SignalsKit, app: Flask, glob: str) -> None:
    """`*`, `?` and `[…]`."""
    kit.on(glob)(lambda sender: "glob")
    assert results(kit, app) == ["glob"]


def test_a_glob_and_a_name_call_a_receiver_once(kit: SignalsKit, app: Flask) -> None:
    """Disconnecting from the name leaves the glob."""

    def receive(sender: Any, **extra: Any) -> str:
        return "once"

    funded = kit.signal("account_funded")
    kit.on("account_*")(receive)
    kit.on(funded)(receive)
    assert results(kit, app) == ["once"]
    funded.disconnect(receive)
    assert results(kit, app) == ["once"]


def test_a_glob_runs_in_connection_order(kit: SignalsKit) -> None:
    """A signal that comes later calls in the order in which `on` was called."""
    kit.on("account_funded")(lambda sender: 1)
    kit.on("account_*")(lambda sender: 2)
    kit.on("account_funded")(lambda sender: 3)
    kit.on("*", priority=1)(lambda sender: 0)
    app = make(kit)
    assert results(kit, app) == [0, 1, 2, 3]


def test_a_globs_receiver_is_checked_with_every_contract_that_it_matches(kit: SignalsKit) -> None:
    """The message names the signal that it does not fit."""
    kit.declare(campaign_created)
    with pytest.raises(ContractError, match="'campaign_created'"):
        kit.on("campaign_*")(lambda sender: None)


# -- names that nobody declared -------------------------------------------------------------------


def test_strict_refuses_to_send_an_unknown_name(kit: SignalsKit) -> None:
    """Name, place, near miss and fix are in the message."""
    app = make(kit, SIGNALS_KIT_STRICT=True)
    kit.signal("account_funded")
    with app.app_context(), pytest.raises(UnknownSignalError) as caught:
        kit.send("acount_funded")
    message = str(caught.value)
    assert "'acount_funded'" in message
    assert __file__ in message
    assert "SIGNALS_KIT_STRICT" in message
    assert "Did you mean 'account_funded'?" in message
    fix = message.partition("? ")[2]
    assert fix.startswith("Use 'account_funded'. If 'acount_funded' is a signal of its own: ")
    assert fix.endswith("Declare it with kit.signal('acount_funded', doc) or @kit.declare.")
    with app.app_context(), pytest.raises(UnknownSignalError, match=r"on\. Declare it with"):
        kit.send("zebra_seen")
    assert isinstance(caught.value, LookupError)


def test_strict_refuses_to_connect_to_an_unknown_name(kit: SignalsKit) -> None:
    """After `init_app` at once, and nothing stays connected."""
    kit.signal("account_funded")
    app = make(kit, SIGNALS_KIT_STRICT=True)
    for on in (kit.on, kit.for_app(app).on):
        with pytest.raises(UnknownSignalError) as caught:
            on("acount_funded")(results)
        message = str(caught.value)
        assert "results" in message
        assert __file__ in message
        assert "Did you mean 'account_funded'?" in message
    make(kit, "later", SIGNALS_KIT_STRICT=True)


def test_strict_checks_at_init_app_what_was_connected_before(kit: SignalsKit) -> None:
    """Declarations may come in any order until then."""
    kit.on("account_funded")(results)
    with pytest.raises(UnknownSignalError, match=r"results.*Declare it"):
        make(kit, SIGNALS_KIT_STRICT=True)
    kit.signal("account_funded")
    make(kit, SIGNALS_KIT_STRICT=True)


def test_strict_allows_flasks_bridged_and_matched_names(kit: SignalsKit) -> None:
    """Whatever somebody declared or bridged, and globs."""
    kit.on("request_started", "account_*")(lambda sender, **extra: "heard")
    kit.bridge(blinker.NamedSignal("invoice-paid"))
    kit.on("invoice_paid")(lambda sender, **extra: None)
    kit.signal("account_funded")
    app = make(kit, SIGNALS_KIT_STRICT=True)
    assert results(kit, app) == ["heard"]
    kit.for_app(app).signal("own")
    assert results(kit, app, "own") == []


def test_an_undeclared_name_is_allowed_but_one_without_listeners_is_reported(
    kit: SignalsKit, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning with place and near miss, once, and a problem in `check()`."""
    kit.signal("account_funded")
    with app.app_context():
        for _ in range(3):
            assert kit.send("acount_funded") == []
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        message = record.getMessage()
        assert "'acount_funded'" in message
        assert __file__ in message
        assert "Did you mean 'account_funded'?" in message
        [problem] = [each for each in kit.check() if each.kind == "unknown"]
        assert problem.signal == "acount_funded"
        assert "Did you mean 'account_funded'?" in str(problem)
        assert problem.place is not None
        assert problem.place.file == __file__


def test_an_undeclared_name_that_somebody_hears_works(
    kit: SignalsKit, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """Declaring is a help and no duty; `check()` mentions it."""
    kit.on("account_funded")(lambda sender, **extra: "heard")
    assert results(kit, app) == ["heard"]
    assert caplog.records == []
    with app.app_context():
        assert [each.kind for each in kit.check()] == ["undeclared"]


def test_check_tells_what_is_wrong(kit: SignalsKit) -> None:
    """Dead weak receivers, receivers without `**`, and closures that pile up."""
    kit.signal("account_funded", "Money arrived.")
    app = make(kit)

    def factory() -> None:
        @kit.on("account_funded")
        def receive(sender: Any) -> None:
            pass

    factory()
    factory()
    kit.on("account_funded", weak=True)(lambda sender, **extra: None)
    gc.collect()
    with app.app_context():
        problems = kit.check()
    assert sorted(problem.kind for problem in problems) == [
        "dead",
        "duplicate",
        "no_extra",
        "no_extra",
    ]
    for problem in problems:
        assert problem.signal == "account_funded"
        assert problem.place is not None
        assert problem.place.file == __file__
        assert problem.fix


# -- modules to import ----------------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder to write modules into, which are forgotten afterwards."""
    before = {*sys.modules}
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in {*sys.modules} - before:
        if name.startswith("wired"):
            del sys.modules[name]


def test_modules_of_the_setting_are_imported_at_init_app(modules: Path) -> None:
    """Receivers in modules that nobody imports are connected."""
    package = modules / "wired"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from flask_signals_kit import SignalsKit\nkit = SignalsKit()\n"
    )
    (package / "onboarding.py").write_text(
        "from wired import kit\n"
        "@kit.on('account_funded')\n"
        "def tick_off(sender, **extra):\n"
        "    return 'ticked off'\n"
    )
    kit = importlib.import_module("wired").kit
    app = make(kit, SIGNALS_KIT_IMPORT=["wired.onboarding"])
    assert results(kit, app) == ["ticked off"]
    later = make(kit, "later", SIGNALS_KIT_IMPORT=["wired.onboarding"])
    assert results(kit, later) == ["ticked off"]


@pytest.mark.parametrize("name", ["wired_nowhere", "wired_nowhere.receivers"])
def test_a_module_that_does_not_exist_is_refused(kit: SignalsKit, name: str) -> None:
    """The message names the setting, the module and what is missing."""
    with pytest.raises(ConfigurationError) as caught:
        make(kit, SIGNALS_KIT_IMPORT=[name])
    message = str(caught.value)
    assert "SIGNALS_KIT_IMPORT" in message
    assert repr(name) in message
    assert "no module 'wired_nowhere'" in message
    assert "correct the name" in message


def test_a_module_that_imports_what_is_missing_fails_as_it_does(
    kit: SignalsKit, modules: Path
) -> None:
    """Its own `ModuleNotFoundError` is not mistaken for a wrong setting."""
    (modules / "wired_broken.py").write_text("import wired_missing_dependency\n")
    with pytest.raises(ModuleNotFoundError) as caught:
        make(kit, SIGNALS_KIT_IMPORT=["wired_broken"])
    assert caught.value.name == "wired_missing_dependency"


def test_a_module_that_fails_otherwise_fails_as_it_does(kit: SignalsKit, modules: Path) -> None:
    """No error of a module is swallowed."""
    (modules / "wired_failing.py").write_text("raise RuntimeError('broken')\n")
    with pytest.raises(RuntimeError, match="broken"):
        make(kit, SIGNALS_KIT_IMPORT=["wired_failing"])


def test_a_module_may_use_the_app_that_is_being_initialised(modules: Path) -> None:
    """When the modules are imported the app is the kit's already."""
    (modules / "wired_kit.py").write_text(
        "from flask_signals_kit import SignalsKit\nkit = SignalsKit()\napp = None\n"
    )
    (modules / "wired_receivers.py").write_text(
        "import wired_kit\n"
        "@wired_kit.kit.for_app(wired_kit.app).on('account_funded')\n"
        "def receive(sender, **extra): return 'own'\n"
    )
    module: Any = importlib.import_module("wired_kit")
    app = module.app = Flask("shop")
    app.config["SIGNALS_KIT_IMPORT"] = ["wired_receivers"]
    module.kit.init_app(app)
    assert results(module.kit, app) == ["own"]


# -- what `on` refuses ----------------------------------------------------------------------------


def test_on_without_parentheses_says_how_to_write_it(kit: SignalsKit) -> None:
    """`@kit.on` and `@kit.on()` lack the signal."""
    for use in (lambda: kit.on(results), kit.on):  # type: ignore[call-overload]
        with pytest.raises(ReceiverError, match=r"@kit\.on\('account_funded'\)"):
            use()  # type: ignore[call-overload]


@pytest.mark.parametrize("thing", [3, None, ["account_funded"], blinker.Namespace()])
def test_on_refuses_what_is_no_signal(kit: SignalsKit, thing: Any) -> None:
    """The message names the thing by its type, and what would do."""
    with pytest.raises(DeclarationError, match="name, a glob, a handle or a blinker signal"):
        kit.on(thing)(results)


def test_on_refuses_what_cannot_be_called(kit: SignalsKit) -> None:
    """The message names type, signal and fix."""
    with pytest.raises(ReceiverError) as caught:
        kit.on("account_funded")("receive")  # type: ignore[type-var]
    assert "str" in str(caught.value)
    assert "'account_funded'" in str(caught.value)
    assert "not callable" in str(caught.value)


@pytest.mark.parametrize(
    ("option", "error", "words"),
    [
        ({"when": True}, ReceiverError, ["when=bool", "when(sender, **payload)"]),
        ({"priority": "high"}, ReceiverError, ["priority=str", "integer"]),
        ({"priority": 1.5}, ReceiverError, ["priority=float", "integer"]),
        ({"delivery": "imediate"}, ConfigurationError, ["'imediate'", "'immediate'"]),
        ({"delivery": object()}, ConfigurationError, ["object", "deliver(call)"]),
    ],
)
def test_on_refuses_bad_options(
    kit: SignalsKit, option: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    """At once, with what was given and what is expected."""
    with pytest.raises(error) as caught:
        kit.on("account_funded", **option)(results)
    for word in words:
        assert word in str(caught.value)


def test_on_refuses_an_async_when(kit: SignalsKit) -> None:
    """Its coroutine would always count as yes, and would never be awaited."""

    async def active(sender: Any, **payload: Any) -> bool:
        return False

    with pytest.raises(ReceiverError, match="async"):
        kit.on("account_funded", when=active)(results)


def test_on_takes_any_blinker_signal(kit: SignalsKit, app: Flask) -> None:
    """One of blinker's is bridged under its name; the receiver hears what is sent there."""
    paid = blinker.NamedSignal("invoice-paid")
    kit.on(paid)(receive := lambda sender, **extra: f"paid by {sender}")
    with app.app_context():
        assert [result for _, result in paid.send("acme")] == ["paid by acme"]
        assert kit.send("invoice_paid", "acme") == [(receive, "paid by acme")]


def test_on_takes_a_signal_of_a_free_namespace(kit: SignalsKit, app: Flask) -> None:
    """The kit's own `Signal` used without an app is a blinker signal like any other."""
    paid = Namespace().signal("invoice_paid")
    seen: list[Any] = []
    kit.on(paid)(lambda sender, **extra: seen.append(sender))
    with app.app_context():
        paid.send("acme")
    assert seen == ["acme"]


def test_on_takes_a_signal_of_the_apps_namespace(kit: SignalsKit, app: Flask) -> None:
    """It stands for its name."""
    funded = kit.for_app(app).namespace.signal("account_funded")
    assert isinstance(funded, Signal)
    kit.on(funded)(lambda sender: "heard")
    assert results(kit, app) == ["heard"]


# -- sending --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda kit: kit.send("account_funded", "acme"),
        lambda kit: kit.send_robust("account_funded", "acme"),
        lambda kit: asyncio.run(kit.send_async("account_funded", "acme")),
        lambda kit: asyncio.run(kit.send_robust_async("account_funded", "acme")),
    ],
)
def test_sending_outside_an_app_context_says_to_push_one(kit: SignalsKit, use: Any) -> None:
    """Thing, reason and both ways out."""
    with pytest.raises(AppContextError) as caught:
        use(kit)
    message = str(caught.value)
    assert "send 'account_funded'" in message
    assert "outside an app context" in message
    assert "with app.app_context():" in message
    assert "kit.for_app(app)" in message
    assert isinstance(caught.value, RuntimeError)


def test_namespace_and_check_outside_an_app_context_say_to_push_one(kit: SignalsKit) -> None:
    """They belong to an app as well."""
    for use in (lambda: kit.namespace, kit.check):
        with pytest.raises(AppContextError, match=r"with app\.app_context\(\):"):
            use()


def test_an_apps_half_sends_without_a_context(kit: SignalsKit, app: Flask) -> None:
    """It knows its app, which is the sender where none is given."""
    kit.on("account_funded")(receive := lambda sender, **extra: sender)
    assert kit.for_app(app).send("account_funded") == [(receive, app)]
    assert asyncio.run(kit.for_app(app).send_async("account_funded", "acme")) == [(receive, "acme")]


def test_any_payload_name_may_be_sent(kit: SignalsKit, app: Flask) -> None:
    """`signal`, `self` and `name` are not the verbs' own."""
    kit.on("account_funded")(lambda who, /, **payload: payload)
    payload: Any = {"signal": 1, "self": 2, "name": 3, "receiver": 4, "app": 5}
    with app.app_context():
        [(_, got)] = kit.send("account_funded", "acme", **payload)
        [(_, also)] = kit.signal("account_funded").send("acme", **payload)
    assert got == also == payload


def test_async_receivers_run_under_a_plain_send(kit: SignalsKit, app: Flask) -> None:
    """Flask's own way of running async code is used, with the app context in place."""

    @kit.on("account_funded")
    async def receive(sender: Any, **extra: Any) -> tuple[str, str]:
        await asyncio.sleep(0)
        return current_app.name, current_emission.signal

    assert results(kit, app) == [("shop", "account_funded")]


def test_an_async_receiver_under_a_plain_send_in_a_running_loop_says_what_to_do(
    kit: SignalsKit, app: Flask
) -> None:
    """Receiver, place and fix; no coroutine is left unawaited."""

    @kit.on("account_funded")
    async def receive(sender: Any, **extra: Any) -> None:
        pass

    async def story() -> None:
        with app.app_context(), pytest.raises(AsyncReceiverError) as caught:
            kit.send("account_funded")
        message = str(caught.value)
        assert f"receive ({__file__}:" in message
        assert "event loop is running" in message
        assert "await signal.send_async(...)" in message

    asyncio.run(story())
    gc.collect()


UNDER_GEVENT = """
from gevent import monkey, spawn, joinall
monkey.patch_all()
import asyncio, gevent
from flask import Flask
from flask_signals_kit import AsyncReceiverError, SignalsKit

kit = SignalsKit()
app = Flask("shop")
kit.init_app(app)

@kit.on("account_funded")
async def receive(sender, **extra):
    gevent.sleep(0.05)
    return "ran"

def send(pause):
    gevent.sleep(pause)
    with app.app_context():
        try:
            print(kit.send("account_funded")[0][1])
        except AsyncReceiverError as error:
            print(error)

joinall([spawn(send, pause) for pause in {pauses}])
"""


@pytest.mark.parametrize("pauses", [(0, 0), (0, 0.02)], ids=["at once", "one after the other"])
def test_async_receiver_error_under_gevent_advises_what_works_there(
    pauses: tuple[float, float],
) -> None:
    """`send_async` fails there as well: all greenlets run in the thread of one event loop."""
    code = UNDER_GEVENT.replace("{pauses}", str(pauses))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    ran, error = sorted(done.stdout.splitlines(), reverse=True)
    assert ran == "ran"
    assert "Receiver __main__.receive" in error
    assert "gevent runs all greenlets in one thread" in error
    assert "make the receiver a plain function" in error
    assert "send_async" not in error


def test_a_runtime_error_of_an_async_receiver_is_its_own(kit: SignalsKit, app: Flask) -> None:
    """Only Flask's refusal is explained; the receiver's errors pass."""

    @kit.on("account_funded")
    async def receive(sender: Any, **extra: Any) -> None:
        raise RuntimeError("my own")

    with pytest.raises(RuntimeError, match="my own") as caught:
        results(kit, app)
    assert not isinstance(caught.value, AsyncReceiverError)


def test_plain_receivers_run_directly_under_send_async(kit: SignalsKit, app: Flask) -> None:
    """In the same thread, in order with the async ones."""
    threads: list[int] = []
    kit.on("account_funded")(lambda sender, **extra: threads.append(threading.get_ident()))

    @kit.on("account_funded")
    async def receive(sender: Any, **extra: Any) -> None:
        threads.append(threading.get_ident())

    async def story() -> None:
        with app.app_context():
            await kit.send_async("account_funded")

    asyncio.run(story())
    assert threads == [threading.get_ident()] * 2


# -- current_emission -----------------------------------------------------------------------------


def test_current_emission_is_falsy_outside_a_receiver() -> None:
    """And using it says why there is none."""
    assert not bool(current_emission)
    with pytest.raises(RuntimeError, match="only available while a receiver runs"):
        current_emission.signal  # noqa: B018


def test_current_emission_tells_what_a_receiver_is_called_for(kit: SignalsKit) -> None:
    """Signal, sender's type, payload names, site and request."""
    app = make(kit)
    seen: list[Emission] = []

    @kit.on("account_funded")
    def receive(sender: Any, **extra: Any) -> None:
        assert bool(current_emission)
        seen.append(current_emission._get_current_object())  # type: ignore[attr-defined]

    @app.post("/fund")
    def fund() -> str:
        kit.send("account_funded", app, amount=5, method="card")
        return "funded"

    app.test_client().post("/fund")
    [emission] = seen
    assert isinstance(emission, Emission)
    assert emission.signal == "account_funded"
    assert emission.sender == "flask.app.Flask"
    assert emission.payload == ("amount", "method")
    assert emission.request == "POST /fund"
    assert emission.site is not None
    assert emission.site.file == __file__
    assert emission.site.name.endswith("fund")
    assert emission.attempt == 1
    assert emission.idempotency_key is None


SENDS: dict[str, Callable[[SignalsKit, str], Any]] = {
    "kit": lambda kit, name: kit.send(name, "acme", **{name: 1}),
    "handle": lambda kit, name: kit.signal(name).send("acme", **{name: 1}),
    "signal": lambda kit, name: kit.namespace.signal(name).send("acme", **cast(Any, {name: 1})),
    "robust": lambda kit, name: kit.send_robust(name, "acme", **{name: 1}),
    "async": lambda kit, name: asyncio.run(kit.send_async(name, "acme", **{name: 1})),
    "robust async": lambda kit, name: asyncio.run(kit.send_robust_async(name, "acme", **{name: 1})),
}


@pytest.mark.parametrize("testing", [False, True])
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("outer", SENDS)
@pytest.mark.parametrize("inner", ["kit", "handle", "signal", "robust"])
def test_current_emission_is_right_in_nested_sends(
    kit: SignalsKit, outer: str, inner: str, special: bool, testing: bool
) -> None:
    """Before, within and after an inner send, however each is sent, journal on or off."""
    app = make(kit, TESTING=testing)
    story: list[tuple[str, str, tuple[str, ...]]] = []

    def note(where: str) -> None:
        story.append((where, current_emission.signal, current_emission.payload))

    how: dict[str, Any] = {"when": lambda sender, **payload: True} if special else {}

    @kit.on("outer", **how)
    def receive_outer(sender: Any, **extra: Any) -> None:
        note("before")
        SENDS[inner](kit, "inner")
        note("after")

    @kit.on("inner", **how)
    def receive_inner(sender: Any, **extra: Any) -> None:
        note("within")

    with app.app_context():
        SENDS[outer](kit, "outer")
    assert not bool(current_emission)
    assert story == [
        ("before", "outer", ("outer",)),
        ("within", "inner", ("inner",)),
        ("after", "outer", ("outer",)),
    ]


def test_current_emission_is_right_in_async_receivers_side_by_side(
    kit: SignalsKit, app: Flask
) -> None:
    """Tasks that wait for each other keep their own."""
    seen: list[tuple[str, tuple[str, ...]]] = []

    @kit.on("account_*")
    async def receive(sender: Any, **payload: Any) -> None:
        await asyncio.sleep(0.001)
        seen.append((current_emission.signal, current_emission.payload))

    async def story() -> None:
        with app.app_context():
            await asyncio.gather(
                kit.send_async("account_funded", "acme", amount=5),
                kit.send_async("account_closed", "acme", reason="bored"),
            )

    asyncio.run(story())
    assert sorted(seen) == [("account_closed", ("reason",)), ("account_funded", ("amount",))]


def test_current_emission_is_there_for_a_task_that_a_receiver_starts(
    kit: SignalsKit, app: Flask
) -> None:
    """What an async receiver gathers belongs to the emission as well."""
    seen: list[str] = []

    @kit.on("account_funded")
    async def receive(sender: Any, **payload: Any) -> None:
        async def part() -> None:
            await asyncio.sleep(0)
            seen.append(current_emission.signal)

        await asyncio.gather(part(), part())

    async def story() -> None:
        with app.app_context():
            await kit.send_async("account_funded", "acme")

    asyncio.run(story())
    assert seen == ["account_funded", "account_funded"]


def test_current_emission_is_the_threads_own(kit: SignalsKit, app: Flask) -> None:
    """A thread started by a receiver is no receiver; another thread's send is not mixed in."""
    seen: list[Any] = []

    @kit.on("account_funded")
    def receive(sender: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(bool, current_emission).result(10))
        seen.append(current_emission.signal)

    results(kit, app)
    assert seen == [False, "account_funded"]


def test_current_emission_is_there_for_a_predicate_and_for_a_late_delivery(
    kit: SignalsKit, app: Flask
) -> None:
    """`when` decides about an emission, and a delivery carries it into another thread."""
    calls: list[Call] = []
    seen: list[str] = []

    class Later:
        name = "later"

        def deliver(self, call: Call, /) -> None:
            calls.append(call)

    def when(sender: Any, **payload: Any) -> bool:
        seen.append(f"when {current_emission.signal}")
        return True

    @kit.on(
        "account_funded",
        delivery=Later(),
        when=when,
    )
    def receive(sender: Any, **extra: Any) -> None:
        seen.append(f"receive {current_emission.signal}")

    assert results(kit, app) == []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(calls[0].run).result(10)
    assert seen == ["when account_funded", "receive account_funded"]
    assert not bool(current_emission)


# -- starting -------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["/_signals", "/admin/signals"])
def test_a_page_in_production_needs_page_auth(kit: SignalsKit, url: str) -> None:
    """Setting, app, reason and fix are in the message; with `page_auth` it is fine."""
    config: dict[str, Any] = {"SIGNALS_KIT_PAGE": True, "SIGNALS_KIT_PAGE_URL": url}
    with pytest.raises(ConfigurationError) as caught:
        make(kit, **config)
    message = str(caught.value)
    assert "app.config['SIGNALS_KIT_PAGE']" in message
    assert "'shop'" in message
    assert "outside debug and testing" in message
    assert "page_auth=" in message
    make(SignalsKit(page_auth=lambda: True), **config)
    app = Flask("shop")
    app.config.update(config)
    kit.init_app(app, page_auth=lambda: True)
    make(kit, "testing", TESTING=True, **config)


@pytest.mark.parametrize("page_auth", [True, "admin", lambda user: True])
def test_a_page_auth_that_cannot_be_called_is_refused(page_auth: Any) -> None:
    """In the constructor and in `init_app`, with what it should be."""
    with pytest.raises(ConfigurationError, match="page_auth"):
        SignalsKit(page_auth=page_auth)
    with pytest.raises(ConfigurationError, match="page_auth"):
        SignalsKit().init_app(Flask("shop"), page_auth=page_auth)


def test_eight_first_requests_at_once_are_all_served() -> None:
    """What is settled at the first request is settled once, whichever thread comes first."""
    for _ in range(15):
        app = make(SignalsKit(), TESTING=True)
        app.add_url_rule("/", view_func=lambda: request.path)
        start = threading.Barrier(8)

        def get(app: Flask = app, start: threading.Barrier = start) -> int:
            client = app.test_client()
            start.wait(10)
            return client.get("/").status_code

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as pool:
                statuses = [pool.submit(get) for _ in range(8)]
                assert [status.result(30) for status in statuses] == [200] * 8
        finally:
            sys.setswitchinterval(before)


def test_requests_in_many_threads_share_the_signals(kit: SignalsKit) -> None:
    """Receivers connected while requests are served are heard, and nothing breaks."""
    app = make(kit)
    kit.on("account_funded")(lambda sender, **extra: "always")

    @app.get("/")
    def fund() -> str:
        return ",".join(result for _, result in kit.send("account_funded"))

    def serve() -> None:
        for _ in range(30):
            assert "always" in app.test_client().get("/").text.split(",")

    def connect() -> None:
        funded = kit.signal("account_funded")
        for number in range(30):
            funded.connect(receive := lambda sender, number=number, **extra: str(number))
            funded.disconnect(receive)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for work in (serve, serve, connect, connect)]:
            done.result(60)
    assert app.test_client().get("/").text == "always"


def test_an_app_with_a_command_named_signals_keeps_it(kit: SignalsKit) -> None:
    """The kit does not take a name that the app has."""
    app = Flask("shop")

    @app.cli.command("signals")
    def mine() -> None:
        click.echo("my own")

    kit.init_app(app)
    assert app.test_cli_runner().invoke(args=["signals"]).output == "my own\n"
    kit.detach(app)
    assert app.test_cli_runner().invoke(args=["signals"]).output == "my own\n"


def test_the_kits_and_an_apps_connection_of_a_receiver_end_each_by_itself(
    kit: SignalsKit, app: Flask
) -> None:
    """Connected on both, and disconnected on one: the other stays."""

    def receive(sender: Any, **extra: Any) -> str:
        return "heard"

    half = kit.for_app(app)
    kit.on("account_funded")(receive)
    half.on("account_funded")(receive)
    half.disconnect(receive, "account_funded")
    assert results(kit, app) == ["heard"]
    half.on("account_funded")(receive)
    kit.disconnect(receive, "account_funded")
    assert results(kit, app) == ["heard"]
    half.disconnect(receive, "account_funded")
    assert results(kit, app) == []


def test_apps_come_and_go_in_threads_while_the_kit_connects() -> None:
    """Every app that is made has every receiver that was connected before it was."""
    kit = SignalsKit()
    kit.on("account_*")(lambda sender, **extra: "glob")
    kit.on("account_funded")(lambda sender, **extra: "name")

    def create() -> None:
        for number in range(25):
            app = make(kit, f"shop {number}")
            assert results(kit, app)[:2] == ["glob", "name"]
            if number % 2:
                kit.detach(app)

    def connect() -> None:
        for number in range(50):
            receive = kit.on("account_funded")(lambda sender, number=number, **extra: number)
            kit.signal(f"account_{number}")
            kit.disconnect(receive, "account_funded")

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for work in (create, create, connect, connect)]:
            done.result(60)
    assert results(kit, make(kit)) == ["glob", "name"]


# -- how it grows ---------------------------------------------------------------------------------


def calls_of(work: Callable[[], Any]) -> int:
    """Count the functions that are called in doing something."""
    count = 0

    def note(frame: Any, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # what it calls belongs to nobody
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def test_connecting_a_name_does_not_look_at_every_other(kit: SignalsKit, app: Flask) -> None:
    """The five hundredth costs what the tenth does, and so does disconnecting it."""
    kit.on("*")(write_down)
    costs: list[tuple[int, int]] = []
    for number in range(500):
        name = f"account_{number}"
        receiver = Receiver()
        connecting = calls_of(partial(kit.on(name, uid="ledger"), receiver))
        disconnecting = calls_of(partial(kit.disconnect, receiver, name))
        costs.append((connecting, disconnecting))
        kit.on(name)(receiver)
    assert costs[9] == costs[499]


class Receiver:
    """Be a receiver of which there are many."""

    def __call__(self, sender: Any, **extra: Any) -> None:
        pass


def test_an_app_starts_in_a_time_that_grows_with_its_names() -> None:
    """Ten times as many, and a glob over all of them: ten times the work, not a hundred times."""

    def start(names: int) -> int:
        kit = SignalsKit()
        kit.on("*")(write_down)
        for number in range(names):
            kit.on(f"account_{number}")(Receiver())
        return calls_of(lambda: make(kit))

    assert start(200) < 15 * start(20)


# -- traps ----------------------------------------------------------------------------------------


def test_a_sender_given_by_name_is_refused(kit: SignalsKit, app: Flask) -> None:
    """It would be payload, and the app would be the sender, in silence."""
    account_funded = kit.signal("account_funded")
    kit.on("account_funded")(lambda account, **extra: account)
    with app.app_context():
        for send in (kit.send, kit.send_robust):
            with pytest.raises(ContractError, match="by position, as in send"):
                send("account_funded", sender="acme", amount=1)
        for send in (account_funded.send, account_funded.send_robust):
            with pytest.raises(ContractError, match="by position, as in send"):
                send(sender="acme", amount=1)


def test_a_blinker_signal_is_sent_by_itself(kit: SignalsKit, app: Flask) -> None:
    """Through the kit it would reach none of its own receivers. It is not brought in, either."""
    theirs = blinker.NamedSignal("invoice-paid")
    theirs.connect(write_down)
    half = kit.for_app(app)
    for send in (half.send, half.send_robust):
        with pytest.raises(DeclarationError, match=r"signal\.send\(\.\.\.\) on the blinker"):
            send(theirs, "acme")  # type: ignore[arg-type]
    assert "invoice_paid" not in half.namespace
    assert kit.bridge(theirs) == ("invoice_paid",)


def test_a_half_tells_what_is_wrong_with_its_app(kit: SignalsKit, app: Flask) -> None:
    """`check` is there as on the kit, without a context."""
    half = kit.for_app(app)
    half.on("account_funded")(write_down)
    with app.app_context():
        [problem] = kit.check()
    [same] = half.check()
    assert problem.kind == same.kind == "undeclared"
    assert kit.for_app(make(kit, "other")).check() == []


def test_a_reloaded_module_replaces_its_exception_hooks(modules: Path) -> None:
    """As it does its receivers; those of one loop stay."""
    (modules / "wired.py").write_text(
        "from flask import Flask\n"
        "from flask_signals_kit import SignalsKit\n"
        "kit = SignalsKit(app := Flask('shop'))\n"
        "told = []\n"
    )
    (modules / "wired_hooks.py").write_text(
        "from wired import kit, told\n"
        "@kit.on_exception\n"
        "def report(app, exception, **extra):\n"
        "    told.append('report')\n"
        "def make(name):\n"
        "    @kit.on_exception\n"
        "    def hook(app, exception, **extra):\n"
        "        told.append(name)\n"
        "make('one'), make('two')\n"
    )
    wired = importlib.import_module("wired")
    importlib.reload(importlib.import_module("wired_hooks"))
    for app in (wired.app, make(wired.kit, "later")):
        app.add_url_rule("/", view_func=lambda: str(1 / 0))
        wired.told.clear()
        app.test_client().get("/")
        assert sorted(wired.told) == ["one", "report", "two"]


def test_a_pattern_cannot_be_sent(kit: SignalsKit, app: Flask) -> None:
    """One signal is sent at a time, and nothing of that name appears."""
    kit.on("*")(lambda sender, **extra: "audit")
    with app.app_context():
        with pytest.raises(DeclarationError, match="is a pattern"):
            kit.send("account_*", "acme")
        assert "account_*" not in kit.namespace


def test_a_name_that_only_a_glob_hears_is_not_said_to_be_unheard(
    kit: SignalsKit, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning is for names that nobody listens to."""
    kit.on("*")(lambda sender, **extra: "audit")
    assert results(kit, app, "undeclared_thing") == ["audit"]
    assert caplog.messages == []


def test_a_refused_on_changes_nothing(kit: SignalsKit, app: Flask) -> None:
    """Whatever it would have replaced is still connected, with its options."""

    def first(sender: Any, **extra: Any) -> str:
        return "first"

    def second(sender: Any, **extra: Any) -> str:
        return "second"

    kit.on("account_funded")(first)
    kit.for_app(app).on("account_funded", uid="ledger")(second)
    with pytest.raises(DuplicateReceiverError):
        kit.on("account_funded", uid="ledger", priority=3)(first)
    assert results(kit, app) == ["first", "second"]


def test_on_with_several_signals_connects_all_or_none() -> None:
    """Under strict, one misspelt name leaves the others alone."""
    kit = SignalsKit()
    kit.signal("account_funded")
    app = make(kit, SIGNALS_KIT_STRICT=True)
    with pytest.raises(UnknownSignalError):
        kit.on("account_funded", "acount_opened")(lambda sender, **extra: "heard")
    assert results(kit, app) == []


def test_an_exact_name_beats_a_glob_in_either_order(app: Flask, kit: SignalsKit) -> None:
    """The options of the connection that names the signal count."""

    def early(sender: Any, **extra: Any) -> str:
        return "early"

    def late(sender: Any, **extra: Any) -> str:
        return "late"

    kit.on("account_funded")(lambda sender, **extra: "middle")
    kit.on("account_*")(early)
    kit.on("account_funded", priority=7)(early)
    kit.on("account_funded", priority=-7)(late)
    kit.on("account_*")(late)
    assert results(kit, app) == ["early", "middle", "late"]


def test_a_class_is_no_delivery(kit: SignalsKit) -> None:
    """The parentheses are easily forgotten."""
    with pytest.raises(ConfigurationError, match=r"write delivery=AfterCommit\(\)"):
        kit.on("account_funded", delivery=cast(Any, AfterCommit))(results)


def test_a_predicate_must_fit_the_contract(kit: SignalsKit) -> None:
    """It gets what the receiver gets."""

    @kit.declare
    def account_funded(sender: object, *, amount: int) -> None: ...

    with pytest.raises(ContractError, match=r"Predicate .* does not take 'amount'"):
        kit.on("account_funded", when=lambda account: True)(lambda account, **extra: None)


def test_two_lambdas_do_not_take_each_others_uid(kit: SignalsKit, app: Flask) -> None:
    """They share a name, so the line counts as well."""
    kit.on("account_funded", uid="ledger")(lambda sender, **extra: "one")
    with pytest.raises(DuplicateReceiverError):
        kit.on("account_funded", uid="ledger")(lambda sender, **extra: "another")
    assert results(kit, app) == ["one"]


def test_a_half_whose_app_is_gone_is_left_out() -> None:
    """A test that kept the half does not break the next one."""
    kit = SignalsKit()
    app = make(kit)
    half = kit.for_app(app)
    del app
    gc.collect()
    kit.on("account_funded")(lambda sender, **extra: None)
    assert not half.is_alive


def test_starting_an_app_is_done_once(kit: SignalsKit, app: Flask) -> None:
    """A worker that never serves a request pushes many contexts; plans survive them."""
    kit.on("account_funded")(lambda sender, **extra: "heard")
    assert results(kit, app) == ["heard"]
    signal = kit.for_app(app).namespace.signal("account_funded")
    plan = signal._plan
    assert plan is not None
    with app.app_context():
        assert signal._plan is plan


def test_receivers_connected_while_an_app_starts_are_not_lost() -> None:
    """Each of many threads finds its receiver in the app."""
    kit = SignalsKit()
    apps: list[Flask] = []

    def connect(number: int) -> None:
        kit.on("account_funded")(lambda sender, **extra: number)

    def start() -> None:
        apps.extend(make(kit) for _ in range(20))

    threads = [threading.Thread(target=connect, args=(n,)) for n in range(20)]
    threads.insert(10, threading.Thread(target=start))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for app in apps:
        assert sorted(results(kit, app)) == list(range(20))
