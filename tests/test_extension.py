"""`SignalsKit`: what `init_app` accepts, does, undoes and imports."""

import importlib
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Blueprint, Flask, current_app
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_signals_kit import (
    AlreadyInitializedError,
    AppSignals,
    ConfigurationError,
    Namespace,
    NotInitializedError,
    SignalsKit,
    UnknownSignalError,
)
from tests.support import connected_to_flask, make_app, results


def test_constructor_and_init_app_initialise_the_app() -> None:
    """Both give the app its signals."""
    one, two = Flask("one"), Flask("two")
    kit = SignalsKit(one)
    kit.init_app(two)
    for app in (one, two):
        app_signals = kit.for_app(app)
        assert isinstance(app_signals, AppSignals)
        assert app.extensions["signals_kit"] is app_signals
        assert app_signals.app is app
        assert isinstance(app_signals.namespace, Namespace)
        with app.app_context():
            assert kit.namespace is app_signals.namespace
    assert kit.for_app(one).namespace is not kit.for_app(two).namespace


def test_second_init_app_is_refused(kit: SignalsKit, app: Flask) -> None:
    """By the same kit or by another; the message has the app and the solution."""
    for other in (kit, SignalsKit()):
        with pytest.raises(AlreadyInitializedError) as caught:
            other.init_app(app)
        message = str(caught.value)
        assert "'shop'" in message
        assert "call init_app once" in message
        assert "detach" in message
    assert kit.for_app(app).app is app


def test_for_app_refuses_an_app_of_no_kit_or_of_another(kit: SignalsKit, app: Flask) -> None:
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


def test_init_app_accepts_a_subclass_of_flask(kit: SignalsKit) -> None:
    """Frameworks on Flask give their own class."""

    class Shop(Flask):
        """An app class of its own."""

    app = Shop("shop")
    kit.init_app(app)
    assert kit.for_app(app).app is app


def test_current_app_can_be_passed_as_the_app(kit: SignalsKit, app: Flask) -> None:
    """A `LocalProxy` is the app that it stands for."""
    with app.app_context():
        assert kit.for_app(current_app) is kit.for_app(app)
        kit.detach(current_app)
        kit.init_app(current_app)
        assert kit.for_app(app).app is app


def test_apps_do_not_share_their_own_receivers(kit: SignalsKit) -> None:
    """The kit's receivers are in every app, an app's own in that app alone."""
    one, two = make_app(kit, "one"), make_app(kit, "two")
    kit.on("account_funded")(lambda sender: "every")
    kit.for_app(one).on("account_funded")(lambda sender: "one")
    kit.for_app(two).on("account_funded", priority=1)(lambda sender: "two")
    assert results(kit, one) == ["every", "one"]
    assert results(kit, two) == ["two", "every"]
    with one.app_context(), kit.namespace.signal("account_funded").muted():
        assert results(kit, one) == []
        assert results(kit, two) == ["two", "every"]


def test_send_uses_the_innermost_app_context(kit: SignalsKit) -> None:
    """The current app is the one that counts."""
    one, two = make_app(kit, "one"), make_app(kit, "two")
    kit.on("account_funded")(lambda sender: current_app.name)
    with one.app_context():
        with two.app_context():
            assert [result for _, result in kit.send("account_funded")] == ["two"]
        assert [result for _, result in kit.send("account_funded")] == ["one"]


def test_several_kits_are_independent() -> None:
    """Each with its own apps, declarations and receivers."""
    one, two = SignalsKit(), SignalsKit()
    first, second = make_app(one, "first"), make_app(two, "second")
    one.on("account_funded")(lambda sender: "one")
    two.on("account_funded")(lambda sender: "two")
    assert results(one, first) == ["one"]
    assert results(two, second) == ["two"]


def test_detach_undoes_init_app(kit: SignalsKit) -> None:
    """It removes extension, command, relays, hooks and wrappers, and nothing else."""
    app = Flask("shop")
    commands, before, heard = {*app.cli.commands}, dict(app.__dict__), connected_to_flask()
    kit.on("request_started", "appcontext_popped")(lambda sender, **extra: None)
    kit.on_exception(lambda app, exception, **extra: None)
    kit.init_app(app)
    assert app.cli.commands.keys() - commands == {"signals"}
    assert connected_to_flask() != heard
    kit.detach(app)
    assert "signals_kit" not in app.extensions
    assert {*app.cli.commands} == commands
    assert app.__dict__.keys() == before.keys()
    assert connected_to_flask() == heard
    with pytest.raises(NotInitializedError):
        kit.for_app(app)
    with app.app_context(), pytest.raises(NotInitializedError):
        kit.send("account_funded")
    kit.init_app(app)
    assert kit.for_app(app).app is app


def test_detached_app_does_nothing_on_start(kit: SignalsKit) -> None:
    """Even if its signals are still referenced: no page, no settings applied."""
    before = connected_to_flask()
    app = make_app(kit)
    app_signals = kit.for_app(app)
    kit.detach(app)
    assert connected_to_flask() == before
    app.testing = True
    with app.app_context():
        pass
    assert app.blueprints == {}
    assert app_signals is not None


def test_detach_does_not_affect_other_apps_of_the_kit(kit: SignalsKit) -> None:
    """Their receivers and relays stay."""
    seen: list[str] = []
    one, two = make_app(kit, "one"), make_app(kit, "two")
    kit.on("appcontext_pushed")(lambda app, **extra: seen.append(app.name))
    kit.detach(one)
    with one.app_context(), two.app_context():
        pass
    assert seen == ["two"]


def test_detach_keeps_middleware_added_after_the_kit(kit: SignalsKit) -> None:
    """The kit's wrapper below it only forwards."""
    app = make_app(kit)
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
def test_failed_init_app_changes_nothing(
    kit: SignalsKit, config: dict[str, Any], error: type[Exception]
) -> None:
    """It works once the config is fixed."""
    kit.on("undeclared")(lambda sender: None)
    kit.on("request_started")(lambda sender, **extra: None)
    kit.on_exception(lambda app, exception, **extra: None)
    app = Flask("shop")
    app.config.update(config)
    before, commands, heard = dict(app.__dict__), {*app.cli.commands}, connected_to_flask()
    with pytest.raises(error):
        kit.init_app(app)
    assert app.extensions == {}
    assert app.__dict__.keys() == before.keys()
    assert {*app.cli.commands} == commands
    assert connected_to_flask() == heard
    for key in config:
        del app.config[key]
    kit.init_app(app)


def test_init_app_imports_the_modules_of_the_setting(modules: Path) -> None:
    """Receivers in modules without any other import are connected."""
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
    app = make_app(kit, SIGNALS_KIT_IMPORT=["wired.onboarding"])
    assert results(kit, app) == ["ticked off"]
    later = make_app(kit, "later", SIGNALS_KIT_IMPORT=["wired.onboarding"])
    assert results(kit, later) == ["ticked off"]


@pytest.mark.parametrize("name", ["wired_nowhere", "wired_nowhere.receivers"])
def test_missing_module_in_the_setting_is_refused(kit: SignalsKit, name: str) -> None:
    """The message has the setting, the module and what is missing."""
    with pytest.raises(ConfigurationError) as caught:
        make_app(kit, SIGNALS_KIT_IMPORT=[name])
    message = str(caught.value)
    assert "SIGNALS_KIT_IMPORT" in message
    assert repr(name) in message
    assert "no module 'wired_nowhere'" in message
    assert "correct the name" in message


def test_import_error_inside_a_module_propagates(kit: SignalsKit, modules: Path) -> None:
    """Its own `ModuleNotFoundError` is not mistaken for a wrong setting."""
    (modules / "wired_broken.py").write_text("import wired_missing_dependency\n")
    with pytest.raises(ModuleNotFoundError) as caught:
        make_app(kit, SIGNALS_KIT_IMPORT=["wired_broken"])
    assert caught.value.name == "wired_missing_dependency"


def test_other_error_inside_a_module_propagates(kit: SignalsKit, modules: Path) -> None:
    """No error of a module is swallowed."""
    (modules / "wired_failing.py").write_text("raise RuntimeError('broken')\n")
    with pytest.raises(RuntimeError, match="broken"):
        make_app(kit, SIGNALS_KIT_IMPORT=["wired_failing"])


def test_imported_module_can_use_the_app_being_initialised(modules: Path) -> None:
    """When the modules are imported, `for_app(app)` works already."""
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


@pytest.mark.parametrize("url", ["/_signals", "/admin/signals"])
def test_page_in_production_needs_page_auth(kit: SignalsKit, url: str) -> None:
    """The message has setting, app, reason and fix; with `page_auth` it is accepted."""
    config: dict[str, Any] = {"SIGNALS_KIT_PAGE": True, "SIGNALS_KIT_PAGE_URL": url}
    with pytest.raises(ConfigurationError) as caught:
        make_app(kit, **config)
    message = str(caught.value)
    assert "app.config['SIGNALS_KIT_PAGE']" in message
    assert "'shop'" in message
    assert "outside debug and testing" in message
    assert "page_auth=" in message
    make_app(SignalsKit(page_auth=lambda: True), **config)
    app = Flask("shop")
    app.config.update(config)
    kit.init_app(app, page_auth=lambda: True)
    make_app(kit, "testing", TESTING=True, **config)


@pytest.mark.parametrize("page_auth", [True, "admin", lambda user: True])
def test_non_callable_page_auth_is_refused(page_auth: Any) -> None:
    """In the constructor and in `init_app`, with what it should be."""
    with pytest.raises(ConfigurationError, match="page_auth"):
        SignalsKit(page_auth=page_auth)
    with pytest.raises(ConfigurationError, match="page_auth"):
        SignalsKit().init_app(Flask("shop"), page_auth=page_auth)


def test_existing_signals_command_of_the_app_is_kept(kit: SignalsKit) -> None:
    """The kit does not replace it."""
    app = Flask("shop")

    @app.cli.command("signals")
    def mine() -> None:
        click.echo("my own")

    kit.init_app(app)
    assert app.test_cli_runner().invoke(args=["signals"]).output == "my own\n"
    kit.detach(app)
    assert app.test_cli_runner().invoke(args=["signals"]).output == "my own\n"
