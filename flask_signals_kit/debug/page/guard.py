"""The access check of the page, and the headers of its responses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from flask import Response, after_this_request, current_app, request
from werkzeug.exceptions import HTTPException

from ...compat import unmarked_session
from ...core.introspection import place_of
from ...errors import type_name

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers

    from ...app.app_signals import AppSignals

logger: logging.Logger = logging.getLogger("flask_signals_kit")

HEADERS = {
    # Without inline code: injected code could not run.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex, nofollow",
}
"""The headers of every response of the page, including errors and static files."""

CROSS_ORIGIN = (
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Credentials",
    "Access-Control-Expose-Headers",
)
"""Headers that are removed: an app may open its routes to other sites, but not the page."""


def may_see(app_signals: AppSignals) -> bool:
    """Tell whether the visitor may see the page.

    If not, mark the session as not accessed.
    """
    page_auth = app_signals.page_auth
    if page_auth is None:
        return True
    session = unmarked_session()
    accessed = getattr(session, "accessed", None)
    allowed = _is_allowed(page_auth)
    if not allowed and getattr(session, "accessed", None) is not accessed:
        # An accessed session adds "Vary: Cookie", by which the response would reveal the page.
        session.accessed = accessed
    return allowed


def respond(view: Callable[..., Response], app_signals: AppSignals, **values: Any) -> Response:
    """Return the response for a visitor who may see the page."""
    after_this_request(set_headers)
    if request.method not in ("GET", "HEAD"):
        return Response("GET only.\n", 405, {"Allow": "GET, HEAD"}, mimetype="text/plain")
    response = view(app_signals, **values)
    # Tools that add markup to pages, such as Flask-DebugToolbar, do not change streams. The content
    # security policy would break their markup.
    response.content_length = len(response.data)
    response.response = iter([response.data])
    return response


def _is_allowed(page_auth: Callable[[], object]) -> bool:
    try:
        answer = current_app.ensure_sync(page_auth)()
    except HTTPException:  # abort(403) refuses, as False does
        return False
    except Exception:
        logger.warning(
            "page_auth %s failed, so the page is not shown",
            place_of(page_auth),
            exc_info=True,
        )
        return False
    if iscoroutine(answer):
        answer.close()
    if answer is not True and _is_truthy(answer):
        logger.warning(
            "page_auth %s returned %s, so the page is not shown: it must return True. "
            "Return bool(…), and make it 'async def' if there is something to await.",
            place_of(page_auth),
            type_name(answer),
        )
    return answer is True


def _is_truthy(answer: object) -> bool:
    try:
        return bool(answer)
    except Exception:  # noqa: BLE001 - it is not True
        return True


def set_headers(response: Response) -> Response:
    """Set the page's headers now, and again when the response is sent.

    ``after_request`` functions of the app run in between. One that is intended for the app's own
    pages may set a looser policy or a longer lifetime.
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
