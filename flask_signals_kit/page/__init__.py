"""The page at ``/_signals``: the report in the browser, for those who may see it."""

from __future__ import annotations

import logging

from flask import Blueprint
from flask.blueprints import BlueprintSetupState

from .guard import EveryMethod, EveryScheme, guarded
from .views import Views

__all__ = ["NAME", "make_blueprint"]

NAME = "flask_signals_kit"
"""The blueprint's name: what ``request.blueprint`` is while the page is served."""

logger: logging.Logger = logging.getLogger("flask_signals_kit")


def make_blueprint() -> Blueprint:
    """Return the page's blueprint, for one app; it is registered under the page's URL.

    It brings no templates and no static folder into the app: the page renders with an environment
    of its own, so that no template, filter or context processor of the app can change or break it.
    """
    blueprint = Blueprint(NAME, __name__)
    blueprint.record(_add_rules)
    return blueprint


def _add_rules(setup: BlueprintSetupState) -> None:
    app, prefix = setup.app, setup.url_prefix or ""
    taken = next((r for r in app.url_map.iter_rules() if r.rule.rstrip("/") == prefix), None)
    if taken is not None:
        logger.warning(
            "The page of app %r is not served: the app has a route of its own at %s (endpoint %r). "
            "Set SIGNALS_KIT_PAGE_URL to another path.",
            app.name,
            taken.rule,
            taken.endpoint,
        )
        return
    views = Views(prefix)
    for path, view in (
        ("", views.signals),
        ("/signals.json", views.signals_json),
        ("/signals/<path:name>", views.signal),
        ("/static/<path:filename>", views.static),
    ):
        endpoint = f"{setup.name}.{view.__name__}"
        app.add_url_rule(
            prefix + path,
            endpoint,
            guarded(view),
            methods=EveryMethod.USUAL,
            provide_automatic_options=False,
            # A redirect would tell everybody that something is here, and lead to whatever host the
            # request names.
            strict_slashes=False,
            merge_slashes=False,
            host="<host>" if app.url_map.host_matching else None,
        )
        for rule in app.url_map.iter_rules(endpoint):
            rule.methods = EveryMethod(rule.methods or ())
            rule.websocket = EveryScheme()  # type: ignore[assignment]
