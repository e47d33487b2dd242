"""Who may see the page, and what every answer to them says to the browser."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, ClassVar

from flask import Response, abort, after_this_request, current_app, request
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException

from ..callables import place_of, type_name
from ..state import EXTENSION, AppSignals

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers

logger: logging.Logger = logging.getLogger("flask_signals_kit")

HEADERS = {
    # Without inline code: whatever slipped through the escaping could not run.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
"""What every answer to somebody who may see the page carries, errors and static files too."""

CROSS_ORIGIN = (
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
)
"""What no answer carries: an app that opens its routes to other sites does not mean this one."""


class EveryMethod(set[str]):
    """The methods of a route that takes every method, of which it lists the usual ones.

    A route for some methods would answer all others with 405, and so give itself away.
    """

    USUAL: ClassVar[tuple[str, ...]] = (
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "TRACE",
        "CONNECT",
    )

    def __contains__(self, method: object) -> bool:
        return True


class EveryScheme:
    """The ``websocket`` of a route that takes WebSocket handshakes as well as plain requests.

    A route for plain requests alone would answer a handshake with 400, and so give itself away.
    """

    def __eq__(self, websocket: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return False

    def __hash__(self) -> int:
        return hash(EveryScheme)


def guarded(view: Callable[..., Response]) -> Callable[..., Response]:
    """Give a view to those who may see the page alone; it gets the app's half as first argument.

    To everybody else the URL does not exist: they get the app's own 404, whatever the method, with
    nothing added that would tell it from others.
    """

    @wraps(view)
    def wrapper(*, host: str | None = None, **values: Any) -> Response:
        state = _admit()
        after_this_request(seal)
        if request.method not in ("GET", "HEAD"):
            return Response("GET only.\n", 405, {"Allow": "GET, HEAD"}, mimetype="text/plain")
        return view(state, **values)

    return wrapper


def _admit() -> AppSignals:
    """Return the app's half if whoever asks may see the page, as things stand now."""
    state = current_app.extensions.get(EXTENSION)
    if not isinstance(state, AppSignals) or not state.page_enabled or not _is_allowed(state):
        abort(404)
    return state


def _is_allowed(state: AppSignals) -> bool:
    page_auth = state.page_auth
    if page_auth is None:
        return True
    session = _session()
    accessed = getattr(session, "accessed", None)
    allowed = _says_yes(page_auth)
    if not allowed and getattr(session, "accessed", None) is not accessed:
        # Looking into the session adds "Vary: Cookie", which other URLs' 404 does not have.
        session.accessed = accessed
    return allowed


def _session() -> Any:
    """Return the request's session without marking it as accessed."""
    # Up to Flask 3.1.2, the context's ``session`` does not mark it; there is no other name for it.
    return getattr(request_ctx, "_session" if hasattr(request_ctx, "_session") else "session")


def _says_yes(page_auth: Callable[[], object]) -> bool:
    try:
        answer = current_app.ensure_sync(page_auth)()
    except HTTPException:  # abort(403): as plain a no as False
        return False
    except Exception:
        logger.warning(
            "page_auth %s failed, so the page answers 404",
            place_of(page_auth),
            exc_info=True,
        )
        return False
    if iscoroutine(answer):
        answer.close()
    if answer is not True and _is_truthy(answer):
        logger.warning(
            "page_auth %s returned %s, so the page answers 404: only True lets anybody in. "
            "Return bool(…), and make it 'async def' if there is something to await.",
            place_of(page_auth),
            type_name(answer),
        )
    return answer is True


def _is_truthy(answer: object) -> bool:
    try:
        return bool(answer)
    except Exception:  # noqa: BLE001 - whatever it is, it is not True
        return True


def seal(response: Response) -> Response:
    """Set the page's headers now, and once more when the response leaves.

    Hooks of the app run in between, and one that means all its other pages may set a looser policy
    or a longer life here.
    """
    response.headers.update(HEADERS)
    plain = response.get_wsgi_headers

    def get_wsgi_headers(environ: WSGIEnvironment) -> Headers:
        headers = plain(environ)
        headers.update(HEADERS)
        for name in CROSS_ORIGIN:
            headers.remove(name)
        return headers

    response.get_wsgi_headers = get_wsgi_headers  # type: ignore[method-assign]
    return response
