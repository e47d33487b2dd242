"""In debug, tell on the next page which signals an action sent, with a link to its request."""

from typing import Any

from flask import Flask, Response, current_app, request, session, url_for

from example_app.extensions import kit

SENT = "sent_signals"
"""The key in the session: it carries the line over the redirect that ends an action."""


def init_sent_signals(app: Flask) -> None:
    """Remember what each action sends, and let templates show it."""
    app.after_request(remember)
    app.add_template_global(sent_signals)
    app.add_template_global(signals_url)


def is_shown() -> bool:
    """Tell whether the app may link to the page of its signals."""
    return current_app.debug and kit.for_app(current_app).page_enabled


def remember(response: Response) -> Response:
    """Store the signals of an action, a POST that redirects, for the page that it leads to."""
    if request.method == "POST" and response.location and is_shown():
        recorded = kit.for_app(current_app).recorded_request()
        if recorded and recorded.signals:
            session[SENT] = {"request": recorded.id, "signals": recorded.signals}
    return response


def sent_signals() -> dict[str, Any] | None:
    """Return what the last action sent, once."""
    if not is_shown() or SENT not in session:  # to pop it would send the cookie again
        return None
    sent: dict[str, Any] = session.pop(SENT)
    return sent


def signals_url(view: str, number: int | None) -> str | None:
    """Return the URL of a request or an emission on the page, or ``None`` without the page."""
    if number is None or not is_shown():
        return None
    return url_for(f"flask_signals_kit.{view}", number=number)
