"""Failures of streamed bodies and downloads, under several servers."""

import contextlib
import gc
import http.client
import io
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
import wsgiref.simple_server
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any, get_args
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler

import pytest
from flask import (
    Flask,
    Response,
    send_file,
    stream_with_context,
)
from flask.sessions import SecureCookieSessionInterface
from werkzeug.test import create_environ
from werkzeug.wsgi import ClosingIterator

from flask_signals_kit import SignalsKit
from flask_signals_kit.records import Source
from tests.exception_hooks.support import BOOM, Watch, fail, streaming, watch
from tests.support import raises_in_teardown, serving


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_exception_in_a_streamed_body_is_reported(
    watched: Watch, start: int, with_context: bool
) -> None:
    """Before the first chunk and after, with the request's context and without."""
    watched.app.add_url_rule(
        "/stream", "stream", view_func=streaming(start, with_context=with_context)
    )
    with pytest.raises(ValueError, match="boom"):
        _ = watched.app.test_client().get("/stream").data
    assert watched.reported == [(BOOM, "stream", False)]


def test_exception_in_a_stream_is_reported_once_on_a_real_server(watched: Watch) -> None:
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
    assert watched.reported == [(BOOM, "stream", False)]


@pytest.mark.parametrize("method", ["iter_encoded", "get_app_iter"])
def test_exception_in_the_body_of_a_response_of_another_kind_is_reported(
    watched: Watch, method: str
) -> None:
    """Its class changes how the one chunk is read."""

    def failing(self: Response, *args: Any) -> Any:
        yield from map(fail, "x")

    kind: Any = type("FailingResponse", (Response,), {method: failing})
    if method == "get_app_iter":
        kind.get_app_iter = lambda self, environ: ClosingIterator(failing(self), self.close)
    watched.app.add_url_rule("/failing", "failing", lambda: kind("body"))
    with pytest.raises(ValueError, match="boom"):
        _ = watched.app.test_client().get("/failing").data
    assert watched.reported == [(BOOM, "stream", False)]


def test_exception_on_close_is_reported(watched: Watch) -> None:
    """`call_on_close` runs when the server is done with the body."""

    @watched.app.get("/close")
    def view() -> Response:
        response = Response("body")
        response.call_on_close(fail)
        return response

    with pytest.raises(ValueError, match="boom"):
        watched.app.test_client().get("/close").close()
    assert watched.reported == [(BOOM, "stream", False)]


@pytest.mark.parametrize("what", ["response", "class"])
def test_exception_in_a_replaced_close_is_reported(
    watched: Watch, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """By the app for one response, or by a library for the class, after a first request."""

    class Own(Response):
        pass

    def close(response: Response) -> None:
        raise ValueError("boom")

    def replace(response: Response) -> Response:
        if what == "response":
            response.close = MethodType(close, response)  # type: ignore[method-assign]
        return response

    watched.app.add_url_rule("/plain", "plain", view_func=lambda: Own("plain"))
    watched.app.after_request(replace)
    client = watched.app.test_client()
    if what == "class":
        assert client.get("/plain").data == b"plain"
        monkeypatch.setattr(Own, "close", close)
    with pytest.raises(ValueError, match="boom"):
        client.get("/plain").close()
    assert watched.reported == [(BOOM, "stream", False)]


def test_app_with_a_response_class_of_its_own_is_freed() -> None:
    """Also after it has served a request with an exception hook."""

    def serve() -> "weakref.ref[Flask]":
        app = Flask("shop")
        kit = SignalsKit(app)
        kit.on_exception(lambda app, exception, **extra: None)

        class Own(Response):
            def owner(self) -> Flask:
                return app

        app.response_class = Own
        app.add_url_rule("/", "home", view_func=lambda: "home")
        assert app.test_client().get("/").data == b"home"
        return weakref.ref(app)

    served = serve()
    gc.collect()
    assert served() is None


def test_stream_abandoned_by_the_client_is_not_reported(watched: Watch) -> None:
    """`GeneratorExit` ends a body that is not read to its end."""
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
    assert watched.reported == []


@pytest.mark.parametrize("source", get_args(Source))
def test_failing_stream_is_never_reported_as_cli(source: Any) -> None:
    """Its app context ends with it; hooks for other sources are not called."""
    watched = watch(sources=[source])
    watched.app.add_url_rule("/stream", "stream", view_func=streaming(1, with_context=True))
    with pytest.raises(ValueError, match="boom"):
        _ = watched.app.test_client().get("/stream").data
    assert watched.reported == ([(BOOM, "stream", False)] if source == "stream" else [])


@pytest.mark.parametrize("ignore", [None, ()])
def test_client_disconnect_is_not_reported_as_cli(ignore: Any) -> None:
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
    assert watched.reported == []


def test_generator_closed_early_is_not_reported(watched: Watch) -> None:
    """`GeneratorExit` ends it on purpose, and the app context in it."""

    def accounts() -> Generator[str, None, None]:
        with watched.app.app_context():
            yield from ("acme", "umbrella")

    found = accounts()
    assert next(found) == "acme"
    found.close()
    assert watched.reported == []


def test_end_of_a_websocket_under_gunicorn_is_not_reported(watched: Watch) -> None:
    """Flask-Sock's response raises `StopIteration`, and Gunicorn closes the connection."""

    class Ended(Response):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            raise StopIteration

    watched.app.add_url_rule("/socket", "socket", view_func=Ended)
    with pytest.raises(StopIteration):
        watched.app.test_client().get("/socket")
    assert watched.reported == []


def test_stop_iteration_in_a_teardown_is_reported(watched: Watch) -> None:
    """It is no WebSocket, although Flask does not handle its `StopIteration`."""
    watched.app.teardown_request(lambda error: next(iter(())))
    with raises_in_teardown(StopIteration):
        watched.app.test_client().get("/fine")
    assert watched.reported == [("StopIteration", "teardown", False)]


@pytest.mark.parametrize("testing", [False, True])
def test_stop_iteration_in_a_view_is_reported(watched: Watch, testing: bool) -> None:
    """It is a mistake of the view."""
    watched.app.testing = testing
    watched.app.add_url_rule("/next", "next", view_func=lambda: next(iter(())))
    with pytest.raises(StopIteration) if testing else contextlib.nullcontext():
        watched.app.test_client().get("/next")
    assert watched.reported == [("StopIteration", "request", False)]


def test_hooks_do_not_change_responses(watched: Watch, tmp_path: Path) -> None:
    """Content, length and headers are the same, for any kind of response."""
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
    assert watched.reported == []


class Download:
    """A file in a remote store that fails after its first kilobyte; it has no `fileno`."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads > 1:
            raise OSError("connection lost")
        return b"x" * 1024


class SeekableDownload(Download):
    """A download with a size that is known before it is read, as Waitress requires."""

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
    """Make an app with downloads that fail, and one that succeeds."""
    watched = watch()
    app = watched.app
    for name, kind in (("broken", Download), ("seekable", SeekableDownload)):
        view = partial(lambda kind: send_file(kind(), mimetype="text/plain"), kind)
        app.add_url_rule(f"/{name}", name, view_func=view)
    app.add_url_rule("/file", "file", view_func=lambda: send_file(__file__))
    return watched


def read_all(connection: http.client.HTTPConnection, path: str) -> bytes:
    """Get a path; return the body, complete or not."""
    connection.request("GET", path, headers={"Host": "localhost"})
    try:
        return connection.getresponse().read()
    except http.client.IncompleteRead as error:
        return error.partial
    except (http.client.HTTPException, ConnectionError):
        return b""
    finally:
        connection.close()


def test_failing_download_is_reported() -> None:
    """Without a server's file wrapper, Werkzeug's own is a stream like any other."""
    watched = downloads()
    with pytest.raises(OSError, match="connection lost"):
        _ = watched.app.test_client().get("/broken").data
    assert watched.reported == [LOST]
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
def test_failing_download_under_the_servers_file_wrapper_is_reported(
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
    assert {*watched.reported} == {LOST}  # Waitress may read a second time, which fails anew


ON_GUNICORN = """
import gunicorn.http.wsgi
from tests.exception_hooks.test_streams import downloads

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


def test_gunicorn_uses_sendfile_and_failing_downloads_are_reported(tmp_path: Path) -> None:
    """Files with a `fileno` are sent by `sendfile`, as without the kit."""
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
    """A session store that fails to save."""

    def save_session(self, *args: Any) -> None:
        raise OSError("disk full")


@pytest.mark.parametrize("how", ["session", "after_request"])
@pytest.mark.parametrize("path", ["/fine", "/fail", "/nowhere"])
def test_failure_while_finishing_a_response_is_reported_once(
    watched: Watch, path: str, how: str
) -> None:
    """Of a view's response and of an error response, for which Flask only logs it."""
    if how == "session":
        watched.app.secret_key = "key"
        watched.app.session_interface = BrokenSessions()
    else:

        def break_down(response: Response) -> Response:
            raise OSError("disk full")

        watched.app.after_request(break_down)
    assert watched.app.test_client().get(path).status_code == 500
    failed = [(BOOM, "request", False)] if path == "/fail" else []
    assert watched.reported == [*failed, ("OSError: disk full", "request", False)]
    watched.reported.clear()
    watched.app.testing = True
    with pytest.raises((OSError, ValueError)):
        watched.app.test_client().get(path)
    assert watched.reported == (failed or [("OSError: disk full", "request", False)])


def test_stream_wrapped_by_middleware_is_watched() -> None:
    """What a middleware wraps around the body is a stream like any other."""

    class Body:
        def __init__(self, body: Any) -> None:
            self.body = iter(body)

        def __iter__(self) -> "Body":
            return self

        def __next__(self) -> Any:
            return next(self.body)

    kit = SignalsKit()
    reported: list[str] = []
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
    kit.on_exception(lambda app, exception, *, source, **extra: reported.append(source))
    kit.init_app(app)
    with pytest.raises(ValueError, match="boom"):
        _ = app.test_client().get("/").data
    assert reported == ["stream"]


def test_file_wrapper_of_the_server_is_passed_through() -> None:
    """UWSGI recognises its own wrapper, whatever the options of the hooks."""
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


def test_body_that_fails_in_iter_is_reported_and_closed() -> None:
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
    assert (watched.reported, closed) == ([(BOOM, "stream", False)], [True])


def test_file_like_stream_without_a_server_wrapper_is_watched() -> None:
    """A server without a file wrapper reads it like any other body."""

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
    assert watched.reported == [(BOOM, "stream", False)]


def test_body_with_getitem_only_is_served() -> None:
    """Python accepts anything with `__getitem__` as an iterable."""

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
