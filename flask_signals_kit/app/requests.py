"""The requests, commands and app contexts of one app, for the journal of its emissions."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from flask import Flask, Response
from flask.globals import _cv_app
from flask.signals import (
    appcontext_tearing_down,
    request_finished,
    request_started,
    request_tearing_down,
)

from ..compat import (
    cv_request,
    own_app_context,
    request_in,
    sending_context,
)
from ..core.journal import RequestRecord
from ..core.third_party import disconnect

if TYPE_CHECKING:
    from types import FrameType

_RECORD = "_signals_kit_record"
"""The attribute of a context that stores its :class:`RequestRecord`."""


class Requests:
    """Finds the record of the request that a signal is sent in, and completes it.

    Only a journal needs this, so it listens to Flask's signals while there is one.

    :param app: a weak reference to the app.
    :param page_url: the path of the page, whose own requests are excluded.
    """

    def __init__(self, app: weakref.ref[Flask], page_url: str) -> None:
        self._app = app
        self._page_url = page_url
        self._outside = RequestRecord()

    def of(self, signal: str, frame: FrameType) -> RequestRecord:
        """Return the record of the request that a signal is sent in.

        :param signal: the signal's name.
        :param frame: the frame of the send.
        """
        context = cv_request.get(None) or _cv_app.get(None)
        record: RequestRecord | None = getattr(context, _RECORD, None)
        if record is not None and signal != "appcontext_popped":  # almost always
            return record
        context = sending_context(signal, frame)
        return self._outside if context is None else self._record_of(context)

    def current(self) -> RequestRecord | None:
        """Return the record of the current request, command or app context."""
        context = sending_context("", None)
        return None if context is None else self._record_of(context)

    def start(self, app: Flask) -> None:
        """Listen to Flask's signals."""
        for signal, listener in self._listeners():
            signal.connect(listener, app)

    def stop(self, app: Flask) -> None:
        """Undo :meth:`start`."""
        for signal, listener in self._listeners():
            disconnect(signal, listener, app)

    def _listeners(self) -> list[tuple[Any, Callable[..., None]]]:
        return [
            (request_started, self._started),
            (request_finished, self._finished),
            (request_tearing_down, self._tearing_down),
            (appcontext_tearing_down, self._context_tearing_down),
        ]

    def _record_of(self, context: Any) -> RequestRecord:
        found: RequestRecord | None = getattr(context, _RECORD, None)
        if found is not None:
            return found
        request = request_in(context)
        record = _command_record() if request is None else RequestRecord("request")
        setattr(context, _RECORD, record)
        if request is not None:
            self._describe(record, request)
            app_context = own_app_context(context)
            if app_context is not None:  # for what is sent while it ends, after the request
                setattr(app_context, _RECORD, record)
        return record

    def _describe(self, record: RequestRecord, request: Any) -> None:
        """Describe the request, without its query.

        Outside debug and testing, the path may contain a secret, such as a token in a link. Then
        the URL rule stands in its place.
        """
        app, rule = self._app(), request.url_rule
        path: str = request.path
        record.method, record.endpoint = str(request.method), request.endpoint
        record.excluded = path == self._page_url or path.startswith(f"{self._page_url}/")
        record.path = path
        if app is None or not (app.debug or app.testing):
            record.path = None if rule is None else rule.rule

    def _started(self, sender: Flask, **extra: Any) -> None:
        context = _request_context()
        if context is not None:
            self._describe(self._record_of(context), request_in(context))

    def _finished(self, sender: Flask, response: Response | None = None, **extra: Any) -> None:
        context = _request_context()
        if context is not None and response is not None:
            self._record_of(context).status = response.status_code

    def _tearing_down(self, sender: Flask, exc: BaseException | None = None, **extra: Any) -> None:
        context = _request_context()
        if context is None:
            return
        record = self._record_of(context)
        record.duration = time.perf_counter() - record.started
        if record.status is None and isinstance(exc, Exception):
            record.status = 500  # it propagates to the server, as in debug and testing

    def _context_tearing_down(self, sender: Flask, **extra: Any) -> None:
        record: RequestRecord | None = getattr(_cv_app.get(None), _RECORD, None)
        if record is not None and record.kind == "command":
            record.duration = time.perf_counter() - record.started


def _request_context() -> Any:
    """Return the context of the current request; ``None`` if a test sends Flask's signal alone."""
    context = cv_request.get(None)
    return None if request_in(context) is None else context


def _command_record() -> RequestRecord:
    """Return a record for an app context without a request."""
    command = click.get_current_context(silent=True)
    if command is None:
        return RequestRecord()
    return RequestRecord("command", path=command.command_path)
