"""The page at ``/_signals``: its routing within the app."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, TypeVar
from urllib.parse import quote

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.routing import BuildError, Map, RequestRedirect, Rule, WebsocketMismatch

from ...app.app_signals import AppSignals
from ...compat import cv_request
from ...settings import EXTENSION
from .guard import may_see, respond
from .views import Views

__all__ = ["NAME", "Page"]

NAME = "flask_signals_kit"
"""The value of ``request.blueprint`` while the page is served, and the prefix of its endpoints."""

PATHS = {
    "index": "",
    "signals": "/signals",
    "signals_json": "/signals.json",
    "signal": "/signals/<path:name>",
    "requests": "/requests",
    "requests_json": "/requests.json",
    "request": "/requests/<int:number>",
    "emission": "/emissions/<int:number>",
    "outbox": "/outbox",
    "outbox_json": "/outbox.json",
    "message": "/outbox/<int:number>",
    "flow": "/flow",
    "flow_json": "/flow.json",
    "static": "/static/<path:filename>",
}
"""The paths of the views below the page's URL."""

UNROUTED = (NotFound, MethodNotAllowed, RequestRedirect, WebsocketMismatch)
"""Routing errors of the app in spite of which the page is served.

Other errors, such as an untrusted host, apply to the page as well.
"""

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("flask_signals_kit")


class Page:
    """The page of one app.

    Its routes are not part of the app's URL map. It is the last of the app's ``before_request``
    functions and answers visitors who may see it. All other requests continue as the app routed
    them, as if there were no page.

    :param prefix: the page's URL within the app.
    :param editor: the URL that opens a place in an editor, or ``None``.
    """

    def __init__(self, prefix: str, editor: str | None = None) -> None:
        self._prefix = prefix
        self._views = Views(prefix, editor)
        # Without redirects: they would lead to the host that the request names.
        self._routes = Map(self._rules(), strict_slashes=False, merge_slashes=False)
        self._is_reported = False

    def _rules(self, **options: Any) -> list[Rule]:
        return [
            Rule(self._prefix + path, endpoint=f"{NAME}.{view}", **options)
            for view, path in PATHS.items()
        ]

    def install(self, app: Flask, *, listed: bool) -> None:
        """Answer the app's requests, after its current ``before_request`` functions.

        :param listed: let ``app.url_map`` list the page, as for ``flask routes``.
        """
        functions = app.before_request_funcs.get(None, [])
        if functions[-1:] != [self.answer]:
            # A new list: a request in another thread may be iterating over the old one.
            app.before_request_funcs[None] = [*_without(functions, self.answer), self.answer]
        if self.build_url not in app.url_build_error_handlers:
            app.url_build_error_handlers.append(self.build_url)
        if (
            listed
            and NAME not in app.blueprints
            and not any(map(_is_listed, app.url_map.iter_rules()))
        ):
            host = "<host>" if app.url_map.host_matching else None
            for rule in self._rules(methods=["GET"], build_only=True, host=host):
                app.url_map.add(rule)

    def remove(self, app: Flask) -> None:
        """Undo :meth:`install`, except for the listed rules: a URL map cannot remove a rule."""
        functions = app.before_request_funcs.get(None, [])
        app.before_request_funcs[None] = _without(functions, self.answer)
        app.url_build_error_handlers[:] = _without(app.url_build_error_handlers, self.build_url)

    def answer(self) -> Response | None:
        """Answer a request for the page; return ``None`` to leave it to the app."""
        app_signals = current_app.extensions.get(EXTENSION)
        if not isinstance(app_signals, AppSignals) or not app_signals.page_enabled:
            return None
        found = self._match()
        if found is None or self._is_taken() or not may_see(app_signals):
            return None
        rule, values = found
        view = getattr(self._views, rule.endpoint.rpartition(".")[2])
        # If the app has a blueprint of this name, its hooks do not apply to the page.
        request.url_rule = None if NAME in current_app.blueprints else rule
        request.view_args = values
        request.routing_exception = None
        return respond(view, app_signals, **values)

    def _match(self) -> tuple[Rule, dict[str, Any]] | None:
        """Return the page's rule that the request matches, and its values."""
        if not request.path.startswith(self._prefix):
            return None
        failure = request.routing_exception
        if failure is not None and not isinstance(failure, UNROUTED):
            return None
        adapter = cv_request.get().url_adapter
        if adapter is None or adapter.subdomain not in {None, adapter.map.default_subdomain}:
            return None
        try:
            rule, values = self._routes.bind("").match(request.path, return_rule=True)
        except (HTTPException, ValueError):  # Werkzeug 3.1.0 fails for a number of 5,000 digits
            return None
        return rule, dict(values)

    def _is_taken(self) -> bool:
        """Tell whether the app has a route of its own at one of the page's URLs."""
        matched = request.url_rule
        if matched is None or "<" in matched.rule:
            matched = next(filter(self._covers, _rules_of(current_app)), None)
        if matched is not None and self._covers(matched) and not self._is_reported:
            self._is_reported = True
            logger.warning(
                "The page of app %r is not served: the app has a route of its own at %s (endpoint "
                "%r). Set SIGNALS_KIT_PAGE_URL to another path.",
                current_app.name,
                matched.rule,
                matched.endpoint,
            )
        return matched is not None

    def _covers(self, rule: Rule) -> bool:
        """Tell whether a rule of the app matches the page's URL, or any URL below it."""
        path = rule.rule.rstrip("/")
        any_below = path.startswith(f"{self._prefix}/") and "<" in path
        return any_below or path in {self._prefix + each for each in PATHS.values()}

    def build_url(self, error: Exception, endpoint: str, values: dict[str, Any]) -> str:
        """Build the page's URLs for ``url_for``; Flask calls this for unknown endpoints."""
        name, _, view = endpoint.partition(".")
        adapter = error.adapter if isinstance(error, BuildError) else None
        if name != NAME or view not in PATHS or adapter is None:
            raise error
        arguments = {key: value for key, value in values.items() if not key.startswith("_")}
        host, root = adapter.server_name, adapter.script_name
        url = self._routes.bind(host, root, url_scheme=adapter.url_scheme).build(
            endpoint,
            arguments,
            force_external=bool(values.get("_external")),
            url_scheme=values.get("_scheme"),
        )
        return f"{url}#{quote(values['_anchor'])}" if values.get("_anchor") else url


def _rules_of(app: Flask) -> Iterator[Rule]:
    """Yield the rules that the app itself has."""
    return (rule for rule in app.url_map.iter_rules() if not _is_listed(rule))


def _is_listed(rule: Rule) -> bool:
    return rule.build_only and rule.endpoint.startswith(f"{NAME}.")


def _without(functions: list[T], left_out: object) -> list[T]:
    return [function for function in functions if function != left_out]
