"""Who may see the page, and what every answer to them says to the browser."""

from __future__ import annotations

import logging
from collections.abc import Callable
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from flask import Response, after_this_request, current_app, request
from werkzeug.exceptions import HTTPException

from ...compat import request_context
from ...core.introspection import place_of, type_name

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from werkzeug.datastructures import Headers

    from ...app.app_signals import AppSignals

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


def may_see(state: AppSignals) -> bool:
    """Tell whether the visitor may see the page, as things stand now.

    For one who may not, the session is as if it had not been read.
    """
    page_auth = state.page_auth
    if page_auth is None:
        return True
    session = _session()
    accessed = getattr(session, "accessed", None)
    allowed = _says_yes(page_auth)
    if not allowed and getattr(session, "accessed", None) is not accessed:
        # Reading the session adds "Vary: Cookie", which the app's answer may not have.
        session.accessed = accessed
    return allowed


def respond(view: Callable[..., Response], state: AppSignals, **values: Any) -> Response:
    """Answer a visitor who may see the page."""
    after_this_request(seal)
    if request.method not in ("GET", "HEAD"):
        return Response("GET only.\n", 405, {"Allow": "GET, HEAD"}, mimetype="text/plain")
    response = view(state, **values)
    # Tools that add markup to pages, such as Flask-DebugToolbar, leave streams alone. The policy
    # would break what they add.
    response.content_length = len(response.data)
    response.response = iter([response.data])
    return response


def _session() -> Any:
    """Return the request's session without marking it as accessed."""
    # Up to Flask 3.1.2, the context's ``session`` does not mark it; there is no other name for it.
    context = request_context()
    return getattr(context, "_session" if hasattr(context, "_session") else "session")


def _says_yes(page_auth: Callable[[], object]) -> bool:
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
