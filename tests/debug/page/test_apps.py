"""The page in apps with various setups."""

import re
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import pytest
from flask import Blueprint, Flask, Response, g, jsonify, request, url_for
from flask.cli import routes_command
from flask.json.provider import JSONProvider
from flask_wtf import CSRFProtect
from jinja2 import StrictUndefined
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import BuildError
from werkzeug.test import Client

from flask_signals_kit import SignalsKit
from flask_signals_kit.debug.page import PATHS

VIEWS = (
    "/_signals/signals",
    "/_signals",
    "/_signals/signals/account_funded",
    "/_signals/signals.json",
)


def with_kit(app: Flask) -> Flask:
    """Give an app a kit with one signal and one receiver, and set testing."""
    app.testing = True
    kit = SignalsKit(app)
    kit.signal("account_funded", "Money arrived in an <account>.")
    kit.on("account_funded")(lambda account, **extra: None)
    return app


def assert_works(client: Any, prefix: str = "", **options: Any) -> None:
    """Check that every view is served, escaped, and that its links work."""
    for url in VIEWS:
        response = client.get(prefix + url, **options)
        assert response.status_code == 200
        assert "account_funded" in response.text
    html = client.get(prefix + VIEWS[0], **options).text
    assert "Money arrived in an &lt;account&gt;." in html
    links = re.findall(r'<(?:link|script|a)[^>]* (?:href|src)="(/[^"]*)"', html)
    assert len(links) > 5
    for link in {*links} - {f"{prefix}/"}:
        assert client.get(link, **options).status_code == 200, link


def fail(*args: object, **kwargs: object) -> NoReturn:
    """Fail the test."""
    raise AssertionError("nothing of the app's rendering concerns the page")


def test_page_does_not_use_the_apps_templates_and_jinja_settings(tmp_path: Path) -> None:
    """Templates of the same names, context processors, globals, filters, autoescape."""
    for name in ("base.html", "signals.html", "signal.html", "_macros.html"):
        (tmp_path / name).write_text("of the app")
    app = with_kit(Flask("shop", template_folder=str(tmp_path)))
    app.context_processor(fail)
    app.select_jinja_autoescape = lambda filename: False  # type: ignore[method-assign]
    app.jinja_options = {"variable_start_string": "[[", "undefined": StrictUndefined}
    app.jinja_env.globals["url"] = app.jinja_env.globals["report"] = fail
    app.jinja_env.filters.update(escape=fail, e=fail, urlencode=fail, place=fail)
    assert_works(app.test_client())


def test_page_works_without_a_template_folder() -> None:
    """Neither a loader nor a folder is needed."""
    app = with_kit(Flask("shop", template_folder=None, static_folder=None))
    app.jinja_loader = None
    assert_works(app.test_client())


def test_page_does_not_use_the_apps_json_provider() -> None:
    """A provider of the app's may wrap or refuse what it likes."""

    class Refusing(JSONProvider):
        dumps = loads = fail

    app = with_kit(Flask("shop"))
    app.json = Refusing(app)
    response = app.test_client().get("/_signals/signals.json")
    assert b'"account_funded"' in response.data


def test_links_of_a_mounted_app_include_script_name() -> None:
    """With whatever characters it has."""
    client = with_kit(Flask("shop")).test_client()
    for mount, quoted in (("/shop", "/shop"), ("/läden/a b", "/l%C3%A4den/a%20b")):
        html = client.get("/_signals", base_url=f"http://localhost{mount}/").text
        brand, *links = re.findall(r'<(?:a|form)[^>]* (?:href|action)="(/[^"]*)"', html)
        assert brand == f"{quoted}/"
        assert len(links) > 5
        assert all(link.startswith(f"{quoted}/_signals") for link in links)


def test_application_root_has_no_effect() -> None:
    """It is for cookies and for URLs outside of requests."""
    app = with_kit(Flask("shop"))
    app.config["APPLICATION_ROOT"] = "/shop"
    assert_works(app.test_client(), base_url="http://localhost/")


def test_forwarded_headers_need_proxy_fix() -> None:
    """Without it, any client could set them."""
    app = with_kit(Flask("shop"))
    headers = {"X-Forwarded-Prefix": "/behind", "X-Forwarded-Host": "evil.example"}
    html = app.test_client().get("/_signals", headers=headers).text
    assert 'href="/_signals/static/page.css"' in html
    fixed = Client(ProxyFix(app.wsgi_app, x_prefix=1))
    html = fixed.get("/_signals", headers=headers).text
    assert 'href="/behind/_signals/static/page.css"' in html
    assert "evil.example" not in html


def test_url_defaults_of_the_app_have_no_effect() -> None:
    """Multilingual apps add a language to each URL and remove it again."""
    app = with_kit(Flask("shop"))

    @app.url_defaults
    def add_language(endpoint: str, values: dict[str, Any]) -> None:
        values["lang"] = g.lang

    @app.url_value_preprocessor
    def pull_language(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.lang = (values or {}).pop("lang", "en")

    assert_works(app.test_client())


def test_page_is_on_every_host_with_host_matching() -> None:
    """Rules of such an app name a host; the page's match any."""
    app = with_kit(Flask("shop", host_matching=True, static_host="static.example"))
    for host in ("a.example", "b.example:8080"):
        assert_works(app.test_client(), base_url=f"http://{host}/")


def test_catch_all_route_of_one_host_does_not_hide_the_page() -> None:
    """It is less specific, on its own host as on others."""
    app = with_kit(Flask("shop", host_matching=True, static_folder=None))
    app.add_url_rule("/<path:path>", "all", lambda path: "own", host="a.example")
    for host in ("a.example", "b.example"):
        assert_works(app.test_client(), base_url=f"http://{host}/")
    assert app.test_client().get("/else", base_url="http://a.example/").text == "own"


def test_page_is_on_the_main_domain_with_subdomain_matching() -> None:
    """Like every route without a subdomain."""
    app = Flask("shop", subdomain_matching=True)
    app.config["SERVER_NAME"] = "shop.example"
    client = with_kit(app).test_client()
    assert_works(client, base_url="http://shop.example/")
    assert client.get("/_signals", base_url="http://acme.shop.example/").status_code == 404
    with pytest.warns(UserWarning, match="doesn't match configured server name"):
        assert client.get("/_signals", base_url="http://evil.example/").status_code == 404


@pytest.mark.parametrize("strict", [True, False])
def test_strict_slashes_has_no_effect(strict: bool) -> None:
    """The page is served with and without a trailing slash."""
    app = Flask("shop")
    app.url_map.strict_slashes = strict
    app.url_map.merge_slashes = strict
    client = with_kit(app).test_client()
    assert_works(client)
    assert client.get("/_signals/").data == client.get("/_signals").data


def test_csrf_protection_allows_the_page() -> None:
    """It changes nothing, so nothing can be forged."""
    app = Flask("shop")
    app.secret_key = "secret"
    CSRFProtect(app)
    assert_works(with_kit(app).test_client())


def test_app_hooks_run_for_the_page() -> None:
    """A login required for the whole app applies to the page, too.

    Before the app's hooks have run, it is unknown whether the visitor may see the page.
    """
    app = with_kit(Flask("shop"))
    seen: list[str | None] = []

    @app.before_request
    def wall() -> Response | None:
        seen.append(request.blueprint)
        return None if "key" in request.args else jsonify(error="closed")

    @app.after_request
    def note(response: Response) -> Response:
        seen.append(request.blueprint)
        return response

    assert app.test_client().get("/_signals").json == {"error": "closed"}
    assert "account_funded" in app.test_client().get("/_signals?key=1").text
    assert seen == [None, None, None, "flask_signals_kit"]


@pytest.mark.parametrize("config", [{"TESTING": True}, {"SIGNALS_KIT_PAGE": True}])
@pytest.mark.parametrize("host_matching", [False, True])
def test_url_for_works_for_the_page(config: dict[str, bool], host_matching: bool) -> None:
    """As to any endpoint of a blueprint."""
    app = Flask("shop", host_matching=host_matching, static_folder=None)
    app.config.update(config)
    SignalsKit(app, page_auth=lambda: True)
    with app.test_request_context(base_url="https://shop.example/mounted"):
        assert url_for("flask_signals_kit.index") == "/mounted/_signals"
        assert url_for("flask_signals_kit.signals") == "/mounted/_signals/signals"
        url = url_for("flask_signals_kit.signal", name="a/b", q="x", _external=True, _anchor="c d")
        assert url == "https://shop.example/mounted/_signals/signals/a/b?q=x#c%20d"
        url = url_for("flask_signals_kit.signals_json", _external=True, _scheme="http")
        assert url == "http://shop.example/mounted/_signals/signals.json"
        for endpoint in ("flask_signals_kit.none_such", "flask_signals_kit", "other.signals"):
            with pytest.raises(BuildError):
                url_for(endpoint)


@pytest.mark.parametrize("host_matching", [False, True])
def test_flask_routes_lists_the_page_with_get_only(host_matching: bool) -> None:
    """If it is visible to every visitor."""
    app = with_kit(Flask("shop", host_matching=host_matching, static_folder=None))
    listed = flask_routes(app)
    lines = [line.split() for line in listed.splitlines() if "_signals" in line]
    assert len(lines) == len(PATHS)
    assert all(line.count("GET") == 1 for line in lines)
    assert {"POST", "PUT", "DELETE"}.isdisjoint(word.strip(",") for line in lines for word in line)
    app.test_client().get("/", base_url="http://shop.example")
    assert flask_routes(app) == listed


def test_page_with_page_auth_is_not_listed() -> None:
    """An app may publish its list of routes, as a site map."""
    app = Flask("shop")
    app.config["SIGNALS_KIT_PAGE"] = True
    SignalsKit(app, page_auth=lambda: True)
    assert app.test_client().get("/_signals").status_code == 200
    listed = flask_routes(app)
    assert "static" in listed
    assert "_signals" not in listed


def flask_routes(app: Flask) -> str:
    """Return the output of ``flask routes``."""
    return app.test_cli_runner().invoke(routes_command).output


@pytest.mark.parametrize("toolbar_first", [True, False])
@pytest.mark.parametrize("context_first", [True, False])
def test_flask_debugtoolbar_is_not_inserted_into_the_page(
    toolbar_first: bool, context_first: bool
) -> None:
    """The page's policy would block the panels; the app's own pages have them."""
    if "ctx" in signature(Flask.dispatch_request).parameters:
        pytest.skip("Flask-DebugToolbar does not work with Flask 3.2 yet")
    from flask_debugtoolbar import DebugToolbarExtension

    app = Flask("shop")
    app.debug = True
    app.secret_key = "secret"
    app.add_url_rule("/", "home", lambda: "<html><body>Home</body></html>")
    toolbar, kit = DebugToolbarExtension(), SignalsKit()
    kit.signal("account_funded", "Money arrived in an <account>.")
    for extension in (toolbar, kit) if toolbar_first else (kit, toolbar):
        extension.init_app(app)
        if context_first:
            with app.app_context():
                pass
    client = app.test_client()
    assert "flDebug" in client.get("/").text
    assert_works(client)
    for url in VIEWS:
        response = client.get(url)
        assert "flDebug" not in response.text
        assert response.content_length == len(response.data)
    assert "flDebug" in client.get("/").text


def test_hooks_and_error_pages_of_blueprints_have_no_effect() -> None:
    """What belongs to a blueprint of the app stays there."""
    shop = Blueprint("shop", __name__)
    shop.before_request(fail)
    shop.errorhandler(404)(fail)
    app = Flask("shop")
    app.register_blueprint(shop)
    assert_works(with_kit(app).test_client())


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", ["signals_kit", "flask_signals_kit"])
def test_blueprint_of_the_app_can_have_the_extensions_name(name: str, late: bool) -> None:
    """Neither hides the other, in either order; its hooks do not run for the page."""
    blueprint = Blueprint(name, __name__, url_prefix="/own")
    blueprint.add_url_rule("/overview", "overview", lambda: "own overview")
    blueprint.before_request(lambda: None)
    blueprint.after_request(fail)
    blueprint.errorhandler(404)(fail)
    app = Flask("shop")
    if not late:
        app.register_blueprint(blueprint)
    with_kit(app)
    with app.app_context():
        pass
    if late:
        app.register_blueprint(blueprint)
    assert_works(app.test_client())
    with app.test_request_context():
        assert url_for(f"{name}.overview") == "/own/overview"
        assert url_for("flask_signals_kit.index") == "/_signals"


def test_page_works_with_app_run(tmp_path: Path) -> None:
    """``app.run(debug=True)`` after the factory, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    script = tmp_path / "serve.py"
    script.write_text(
        "from flask import Flask\n"
        "from flask_signals_kit import SignalsKit\n"
        "app = Flask('shop')\n"
        "SignalsKit(app).signal('account_funded')\n"
        "with app.app_context():\n"
        "    pass\n"
        f"app.run(port={port}, debug=True, use_reloader=False)\n"
    )
    server = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    try:
        assert "account_funded" in fetch(port, "/_signals")
    finally:
        server.terminate()
        server.wait(10)


def fetch(port: int, path: str) -> str:
    """Return a response of a server on the loopback, as soon as it listens."""
    deadline = time.monotonic() + 20
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        finally:
            connection.close()
