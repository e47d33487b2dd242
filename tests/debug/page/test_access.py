"""Access to the page: only for permitted visitors, whatever the request and the app's setup."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, g, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from flask.testing import FlaskClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, TestResponse

from flask_signals_kit import Call, SignalsKit

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "FOO")
URLS = (
    "/_signals",
    "/_signals/",
    "/_signals/signals",
    "/_signals/signals.json",
    "/_signals/signals/account_funded",
    "/_signals/requests",
    "/_signals/requests.json",
    "/_signals/static/page.css",
)


def make_app(
    page_auth: Callable[[], object] | None = None, *, testing: bool = False, **config: Any
) -> Flask:
    """Return an app with a kit and one signal."""
    app = Flask("shop")
    app.secret_key = "secret"
    app.testing = testing
    app.config.update(config)
    kit = SignalsKit(app, page_auth=page_auth)
    kit.signal("account_funded", "Money arrived in an account.")
    return app


def client_after_debug(url: str) -> FlaskClient:
    """Return a client of an app that served this URL in debug, and is no longer in debug."""
    app = make_app()
    app.debug = True
    client = app.test_client()
    assert client.get(url).status_code == 200
    app.debug = False
    return client


def routes(app: Flask) -> list[str]:
    """Return the URLs of the page's rules after the app has started."""
    with app.app_context():
        return [rule.rule for rule in app.url_map.iter_rules() if "_signals" in rule.rule]


def visible(response: TestResponse) -> tuple[int, dict[str, str], bytes]:
    """Return everything that a client sees of a response."""
    return response.status_code, dict(response.headers), response.data


# -- when it exists -------------------------------------------------------------------------------


def test_production_has_no_route() -> None:
    """Outside debug and testing, the app has no rule for the page."""
    app = make_app()
    assert routes(app) == []
    assert app.test_client().get("/_signals").status_code == 404


@pytest.mark.parametrize("switch", ["debug", "testing"])
def test_debug_or_testing_is_enough(switch: str) -> None:
    """Either serves every view and file of the page."""
    app = make_app()
    setattr(app, switch, True)
    client = app.test_client()
    assert [client.get(url).status_code for url in URLS] == [200] * len(URLS)


def test_testing_set_after_the_factory_counts() -> None:
    """``config.update`` and ``app.testing = True`` follow ``create_app`` in most suites."""
    app = make_app()
    app.config.update(TESTING=True)
    assert app.test_client().get("/_signals").status_code == 200


def test_debug_set_after_the_first_context_counts() -> None:
    """A factory can push an app context, and ``app.run(debug=True)`` comes later."""
    app = make_app()
    with app.app_context():
        pass
    app.debug = True
    assert app.test_client().get("/_signals").status_code == 200


def test_setting_disables_the_page_in_debug() -> None:
    """``SIGNALS_KIT_PAGE = False`` overrides debug and testing."""
    app = make_app(testing=True, SIGNALS_KIT_PAGE=False)
    app.debug = True
    assert routes(app) == []
    assert app.test_client().get("/_signals").status_code == 404


def test_setting_changes_the_url() -> None:
    """``SIGNALS_KIT_PAGE_URL`` changes routes and links."""
    app = make_app(testing=True, SIGNALS_KIT_PAGE_URL="/admin/who-listens-é/")
    client = app.test_client()
    page = client.get("/admin/who-listens-é")
    assert page.status_code == 200
    assert 'href="/admin/who-listens-%C3%A9/static/page.css"' in page.text
    assert client.get("/admin/who-listens-%C3%A9/static/page.css").status_code == 200
    assert client.get("/_signals").status_code == 404


# -- checked again at each request ----------------------------------------------------------------


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("method", METHODS)
def test_page_is_404_after_debug_is_reset(url: str, method: str) -> None:
    """As if the page had never existed."""
    assert client_after_debug(url).open(url, method=method).status_code == 404


@pytest.mark.parametrize("url", URLS)
def test_page_of_a_detached_app_is_404(url: str) -> None:
    """Without a kit there is nothing to show."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    client = app.test_client()
    assert client.get("/_signals").status_code == 200
    kit.detach(app)
    assert client.get(url).status_code == 404
    assert client.post(url).status_code == 404


def test_page_shows_the_signals_of_the_current_kit() -> None:
    """After ``detach``, the existing routes show the next kit's signals."""
    app = Flask("shop")
    app.testing = True
    first = SignalsKit(app)
    first.signal("first_signal")
    assert "first_signal" in app.test_client().get("/_signals").text
    first.detach(app)
    SignalsKit(app).signal("second_signal")
    text = app.test_client().get("/_signals").text
    assert "second_signal" in text
    assert "first_signal" not in text


# -- page_auth ------------------------------------------------------------------------------------


def test_page_auth_is_called_for_each_request_in_production() -> None:
    """Inside the request."""
    app = make_app(lambda: session.get("role") == "admin", SIGNALS_KIT_PAGE=True)
    client = app.test_client()
    assert client.get("/_signals").status_code == 404
    with client.session_transaction() as login:
        login["role"] = "admin"
    assert client.get("/_signals").status_code == 200
    with client.session_transaction() as logout:
        logout.clear()
    assert client.get("/_signals").status_code == 404


@pytest.mark.parametrize("switch", ["debug", "testing"])
@pytest.mark.parametrize("url", URLS)
def test_page_auth_applies_in_debug_and_testing(url: str, switch: str) -> None:
    """It is called in every mode."""
    app = make_app(lambda: False)
    setattr(app, switch, True)
    assert app.test_client().get(url).status_code == 404


def test_page_auth_runs_after_before_request_functions() -> None:
    """The current user is available."""
    app = make_app(lambda: g.user == "admin", SIGNALS_KIT_PAGE=True)

    @app.before_request
    def load_user() -> None:
        g.user = request.headers.get("X-User")

    client = app.test_client()
    assert client.get("/_signals", headers={"X-User": "admin"}).status_code == 200
    assert client.get("/_signals", headers={"X-User": "temporary"}).status_code == 404


@pytest.mark.needs("asgiref")
def test_page_auth_can_be_async() -> None:
    """It runs as Flask runs async views."""

    async def allow() -> bool:
        return request.args.get("key") == "right"

    client = make_app(allow, SIGNALS_KIT_PAGE=True).test_client()
    assert client.get("/_signals?key=right").status_code == 200
    assert client.get("/_signals").status_code == 404


class Hostile:
    """An object whose `repr` and truth value raise."""

    def __bool__(self) -> bool:
        raise RuntimeError("secret")

    __repr__ = __str__ = lambda self: 1 / 0  # type: ignore[assignment, return-value]


class Forgotten:
    """An async callable that Flask does not detect, so that it is not awaited."""

    async def __call__(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (lambda: 1, "int"),
        (lambda: "yes", "str"),
        (object, "object"),
        (Forgotten(), "coroutine"),
        (Hostile, "Hostile"),
    ],
)
def test_page_auth_must_return_true(
    answer: Callable[[], object], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Other truthy values are refused, and logged as a mistake."""
    app = make_app(answer, SIGNALS_KIT_PAGE=True)
    assert app.test_client().get("/_signals").status_code == 404
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "page_auth" in record.getMessage()
    assert kind in record.getMessage()
    assert "must return True" in record.getMessage()


@pytest.mark.parametrize("answer", [False, None, 0, ""])
def test_refusal_is_not_logged(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    """Scanners would fill the log."""
    app = make_app(lambda: answer, SIGNALS_KIT_PAGE=True)
    assert app.test_client().get("/_signals").status_code == 404
    assert caplog.records == []


@pytest.mark.parametrize("status", [401, 403, Response("no", 403)])
def test_abort_in_page_auth_is_a_refusal(
    status: int | Response, caplog: pytest.LogCaptureFixture
) -> None:
    """A 404 like any other, without a traceback in the log."""
    app = make_app(lambda: abort(status), SIGNALS_KIT_PAGE=True)
    assert app.test_client().get("/_signals").status_code == 404
    assert caplog.records == []


def test_exception_in_page_auth_is_a_refusal(caplog: pytest.LogCaptureFixture) -> None:
    """The exception is logged."""

    def fail() -> bool:
        raise ValueError("bad")

    app = make_app(fail, SIGNALS_KIT_PAGE=True)
    app.config["PROPAGATE_EXCEPTIONS"] = True
    assert app.test_client().get("/_signals").status_code == 404
    [record] = caplog.records
    assert "page_auth" in record.getMessage()
    assert "fail" in record.getMessage()
    assert record.exc_info is not None


# -- nothing gives it away ------------------------------------------------------------------------


HANDSHAKE = {"Connection": "Upgrade", "Upgrade": "websocket"}


def is_admin() -> bool:
    """Read the session, as in the manual's example."""
    return session.get("role") == "admin"


@pytest.mark.parametrize(
    ("method", "headers"), [*((method, {}) for method in METHODS), ("GET", HANDSHAKE)]
)
@pytest.mark.parametrize("url", [*URLS, "/_signals//", "//_signals", "/_signals//static/page.css"])
def test_refusal_equals_the_404_of_an_unknown_url(
    url: str, method: str, headers: dict[str, str]
) -> None:
    """Status, headers and body, for every method."""
    app = make_app(is_admin, SIGNALS_KIT_PAGE=True)

    @app.errorhandler(404)
    def not_found(error: Exception) -> tuple[str, int, dict[str, str]]:
        return "<h1>The shop has no such page</h1>", 404, {"X-Shop": "yes"}

    client = app.test_client()
    elsewhere = visible(client.open("/nothing-here", method=method, headers=headers))
    assert elsewhere[0] == 404
    assert visible(client.open(url, method=method, headers=headers)) == elsewhere


def test_refusal_resets_session_access_of_page_auth_only() -> None:
    """Session access by the app's own hooks counts, and so does a permitted visit."""
    app = make_app(is_admin, SIGNALS_KIT_PAGE=True)
    client = app.test_client()
    assert "Vary" not in client.get("/_signals").headers
    with client.session_transaction() as login:
        login["role"] = "admin"
    assert client.get("/_signals").headers["Vary"] == "Cookie"
    with client.session_transaction() as logout:
        logout["role"] = "temporary"
    assert "Vary" not in client.get("/_signals").headers

    app = make_app(is_admin, SIGNALS_KIT_PAGE=True)
    app.before_request(lambda: session.get("language") and None)
    assert app.test_client().get("/_signals").headers["Vary"] == "Cookie"


@pytest.mark.parametrize("url", URLS)
def test_websocket_request_after_debug_is_404(url: str) -> None:
    """The rules still exist; one for HTTP alone would make it a 400."""
    assert client_after_debug(url).get(url, headers=HANDSHAKE).status_code == 404


@pytest.mark.parametrize("method", [m for m in METHODS if m not in {"GET", "HEAD"}])
@pytest.mark.parametrize("url", URLS)
def test_only_get_is_allowed(url: str, method: str) -> None:
    """Other methods get 405 with the allowed ones."""
    response = make_app(testing=True).test_client().open(url, method=method)
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD"


def test_head_has_the_headers_of_get() -> None:
    """And no body."""
    client = make_app(testing=True).test_client()
    head, get = client.head("/_signals"), client.get("/_signals")
    assert head.data == b""
    assert dict(head.headers) == dict(get.headers)


@pytest.mark.parametrize("url", ["/_signals", "/_signals/"])
@pytest.mark.parametrize("strict", [True, False])
def test_trailing_slash_is_optional(url: str, strict: bool) -> None:
    """No redirect to a host that the request names, whatever the app's routing."""
    app = make_app(testing=True)
    app.url_map.strict_slashes = strict
    response = app.test_client().get(url, headers={"Host": "evil.example"})
    assert response.status_code == 200


# -- beside the app's own routes ------------------------------------------------------------------


def catch_all(app: Flask) -> None:
    """Add a route that matches every path."""
    app.add_url_rule("/<path:path>", view_func=lambda path: f"own {path}", endpoint="catch_all")


def test_catch_all_route_serves_the_url_in_production() -> None:
    """Without the page, nothing hides it."""
    app = make_app()
    catch_all(app)
    with app.app_context():
        pass
    assert app.test_client().get("/_signals").text == "own _signals"


def test_page_precedes_a_catch_all_route_in_debug() -> None:
    """It is the more specific rule."""
    app = make_app(testing=True)
    catch_all(app)
    client = app.test_client()
    assert "account_funded" in client.get("/_signals").text
    assert client.get("/else").text == "own else"


OWN = (
    "/_signals",
    "/_signals/",
    "/_signals/signals",
    "/_signals/signals.json",
    "/_signals/signals/<path:name>",
    "/_signals/<path:rest>",
)


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("late", [False, True])
def test_app_route_at_the_same_url_overrides_the_page(
    own: str, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also after a factory has pushed a context; a warning says why and what to do."""
    app = make_app(testing=True)
    if late:
        with app.app_context():  # as db.create_all() needs
            pass
    app.add_url_rule(own, "own", lambda **values: "own page")
    client = app.test_client()
    url = own.replace("<path:name>", "account_funded").replace("<path:rest>", "signals.json")
    assert client.get(url, follow_redirects=True).text == "own page"
    assert client.post(url).status_code == 405
    assert [
        client.get(each).text for each in URLS if "account_funded" in client.get(each).text
    ] == []
    [record] = [record for record in caplog.records if record.name == "flask_signals_kit"]
    assert "SIGNALS_KIT_PAGE_URL" in record.getMessage()
    assert "'own'" in record.getMessage()


def test_app_routes_below_the_page_url_are_kept(caplog: pytest.LogCaptureFixture) -> None:
    """They are not in its way."""
    app = make_app(testing=True)
    app.add_url_rule("/_signals/health", "health", lambda: "well")
    app.add_url_rule("/_signals-of-mine/<path:rest>", "mine", lambda rest: "mine")
    app.add_url_rule("/_signals/signals/health", "signals_health", lambda: "well, too")
    client = app.test_client()
    assert client.get("/_signals/health").text == "well"
    assert client.get("/_signals/signals/health").text == "well, too"
    assert client.get("/_signals-of-mine/signals.json").text == "mine"
    assert [client.get(url).status_code for url in URLS] == [200] * len(URLS)
    assert caplog.records == []


def routed(path: str, **options: Any) -> Callable[[Flask], None]:
    """Return functions that give an app a catch-all route."""

    def add(app: Flask) -> None:
        blueprint = Blueprint("rest", __name__)
        blueprint.add_url_rule(path, "all", lambda **values: f"own {values}", **options)
        app.register_blueprint(blueprint)

    return add


CATCH_ALL: dict[str, Callable[[Flask], None]] = {
    "none": lambda app: None,
    "path": routed("/<path:path>"),
    "every method": routed("/<path:path>", methods=METHODS),
    "slash": routed("/<path:path>/"),
    "default": routed("/<path:path>", defaults={"lang": "en"}),
    "two segments": routed("/<first>/<second>"),
    "websocket": routed("/<path:path>", websocket=True),
    "static": lambda app: app.add_url_rule(
        "/<path:filename>", "static_files", app.send_static_file
    ),
    "404 handler": lambda app: app.register_error_handler(404, lambda error: ("the shell", 200)),
}


def watched(add: Callable[[Flask], None], seen: list[Any]) -> Flask:
    """Return an app that records what its hooks see of a request's routing."""
    app = Flask("shop")
    app.secret_key = "secret"
    add(app)

    def note(*args: Any) -> Any:
        failure = request.routing_exception
        seen.append((request.endpoint, request.url_rule and request.url_rule.rule))
        seen.append((request.blueprint, request.blueprints, request.view_args))
        seen.append((type(failure), getattr(failure, "valid_methods", None)))
        seen.append(sorted(rule.rule for rule in app.url_map.iter_rules()))
        return args[0] if args and isinstance(args[0], Response) else None

    app.url_value_preprocessor(note)
    app.before_request(note)
    app.after_request(note)
    app.teardown_request(note)
    return app


@pytest.mark.parametrize("catch_all", CATCH_ALL)
@pytest.mark.parametrize("method", [*METHODS, "handshake"])
def test_refusal_equals_the_answer_of_an_app_without_the_page(method: str, catch_all: str) -> None:
    """Of whatever route or handler; the app's hooks see no difference either."""
    headers = HANDSHAKE if method == "handshake" else {}
    method = "GET" if method == "handshake" else method
    seen: list[Any] = []
    without: list[Any] = []
    bare = watched(CATCH_ALL[catch_all], without).test_client()
    app = watched(CATCH_ALL[catch_all], seen)
    app.config["SIGNALS_KIT_PAGE"] = True
    SignalsKit(app, page_auth=is_admin)
    client = app.test_client()
    for url in (*URLS, "/_signals//", "//_signals"):
        expected = visible(bare.open(url, method=method, headers=headers))
        assert visible(client.open(url, method=method, headers=headers)) == expected, url
        assert seen == without, url


@pytest.mark.parametrize("catch_all", CATCH_ALL)
def test_permitted_visitor_gets_the_page_before_a_catch_all_route(catch_all: str) -> None:
    """With its own endpoint, so that hooks do not take it for the other route."""
    app = make_app(is_admin, SIGNALS_KIT_PAGE=True)
    CATCH_ALL[catch_all](app)
    served: list[Any] = []

    @app.after_request
    def note(response: Response) -> Response:
        served.append((request.blueprint, request.endpoint, request.view_args))
        return response

    client = app.test_client()
    with client.session_transaction() as login:
        login["role"] = "admin"
    assert [client.get(url).status_code for url in URLS] == [200] * len(URLS)
    assert client.post("/_signals").status_code == 405
    assert served[4] == (
        "flask_signals_kit",
        "flask_signals_kit.signal",
        {"name": "account_funded"},
    )


def test_each_app_shows_its_own_signals() -> None:
    """Two apps under one dispatcher: each has its own signals and URL."""
    shop, blog = make_app(testing=True), Flask("blog")
    blog.testing = True
    SignalsKit(blog).signal("post_written")
    client = Client(DispatcherMiddleware(shop, {"/blog": blog}))
    ours, theirs = client.get("/_signals"), client.get("/blog/_signals")
    assert "account_funded" in ours.text
    assert "post_written" not in ours.text
    assert "post_written" in theirs.text
    assert 'href="/blog/_signals/static/page.css"' in theirs.text
    assert client.get("/blog/_signals/static/page.css").status_code == 200


# -- headers --------------------------------------------------------------------------------------

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex, nofollow",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        *(("GET", url, 200) for url in URLS),
        ("HEAD", "/_signals", 200),
        ("POST", "/_signals", 405),
        ("GET", "/_signals/signals/none_such", 404),
        ("GET", "/_signals/static/none_such.js", 404),
        ("GET", "/_signals/static/../templates/base.html", 404),
    ],
)
def test_every_response_has_the_security_headers(method: str, url: str, status: int) -> None:
    """Views, files and errors alike."""
    response = make_app(testing=True).test_client().open(url, method=method)
    assert response.status_code == status
    assert HEADERS.items() <= dict(response.headers).items()


def test_app_hooks_cannot_change_the_security_headers() -> None:
    """A hook that opens all pages of the app to other sites and caches does not affect the page."""
    app = make_app(testing=True)

    @app.after_request
    def open_up(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = "default-src *"
        response.headers["Cache-Control"] = "public, max-age=3600"
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Access-Control-Allow-Credentials"] = "true"
        del response.headers["X-Frame-Options"]
        response.headers["X-Shop"] = "yes"
        return response

    headers = dict(app.test_client().get("/_signals/signals.json").headers)
    assert HEADERS.items() <= headers.items()
    assert headers["X-Shop"] == "yes"
    assert not [name for name in headers if name.startswith("Access-Control")]


def test_app_hooks_see_the_security_headers() -> None:
    """A hook that adds missing headers changes nothing."""
    app = make_app(testing=True)
    seen: list[str | None] = []

    @app.after_request
    def look(response: Response) -> Response:
        seen.append(response.headers.get("Content-Security-Policy"))
        return response

    app.test_client().get("/_signals")
    assert seen == [HEADERS["Content-Security-Policy"]]


def test_security_headers_with_a_response_class_of_the_app() -> None:
    """Flask converts every response to the app's class."""

    class ShopResponse(Response):
        default_mimetype = "application/json"

    app = make_app(testing=True)
    app.response_class = ShopResponse
    response = app.test_client().get("/_signals")
    assert response.mimetype == "text/html"
    assert HEADERS.items() <= dict(response.headers).items()


def test_error_page_has_the_security_headers() -> None:
    """The app's own error page, too."""

    class Nameless:
        name = "post"

        def deliver(self, call: Call, /) -> None: ...

    app = make_app(testing=True, PROPAGATE_EXCEPTIONS=False)
    app.extensions["signals_kit"].on("account_funded", delivery=Nameless())(lambda sender: None)
    del Nameless.name
    response = app.test_client().get("/_signals")
    assert response.status_code == 500
    assert HEADERS.items() <= dict(response.headers).items()


def test_refusal_with_a_custom_session_equals_an_unknown_url() -> None:
    """A session without the attribute `accessed`."""

    class Plain(dict[str, object]):
        modified = new = False

    class Interface(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: object) -> Any:
            return Plain()

        def save_session(self, *args: object) -> None: ...

    app = make_app(lambda: False, SIGNALS_KIT_PAGE=True)
    app.session_interface = Interface()
    client = app.test_client()
    assert [client.get(url).status_code for url in ("/_signals", "/nowhere")] == [404, 404]


def test_refusal_with_a_session_that_is_always_accessed_equals_an_unknown_url() -> None:
    """There is nothing to reset."""

    class Always(SecureCookieSession):
        accessed = property(lambda self: True)

    class Interface(SecureCookieSessionInterface):
        session_class = Always

        def open_session(self, app: Flask, request: object) -> Any:
            return Always()

    app = make_app(lambda: False, SIGNALS_KIT_PAGE=True)
    app.session_interface = Interface()
    client = app.test_client()
    assert [client.get(url).status_code for url in ("/_signals", "/nowhere")] == [404, 404]
