"""The requests, commands and app contexts of one app, for the journal of its emissions."""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from typing import Any

import click
from flask import Flask, Response
from flask.globals import _cv_app
from flask.signals import (
    appcontext_tearing_down,
    request_finished,
    request_started,
    request_tearing_down,
)

from ..compat import cv_request, own_app_context, request_in, sending_context
from ..core.journal import RequestRecord
from ..core.third_party import disconnect

_numbers = count(1)


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
        self._attribute = f"_signals_kit_record_{next(_numbers)}"
        """The attribute of a context that stores its record; contexts of two apps may nest."""

    def of(self, signal: str) -> RequestRecord:
        """Return the record of the request that a signal is sent in.

        Call this within the send, which is looked for on the stack.

        :param signal: the signal's name.
        """
        context = cv_request.get(None) or _cv_app.get(None)
        record: RequestRecord | None = getattr(context, self._attribute, None)
        # Once a context is popped, the current one is that around it.
        if record is not None and signal != "appcontext_popped":
            return record
        context = sending_context(self._app(), signal, sys._getframe())
        return self._outside if context is None else self._record_of(context)

    def current(self) -> RequestRecord | None:
        """Return the record of the current request, command or app context."""
        context = sending_context(self._app())
        return None if context is None else self._record_of(context)

    def resume(self, record: RequestRecord) -> None:
        """Let what is sent in the current app context count as sent in an earlier request.

        :param record: the record of the request.
        """
        setattr(_cv_app.get(), self._attribute, record)

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
        """Return the record of a context; of a copied one, that of its request."""
        request = request_in(context)
        for holder in (context, request):
            found: RequestRecord | None = getattr(holder, self._attribute, None)
            if found is not None:
                return found
        record = _command_record() if request is None else RequestRecord("request")
        holders = [context]
        if request is not None:
            self._describe(record, request)
            holders += [request, own_app_context(context)]
        for holder in holders:  # the app context for what is sent while it ends, after the request
            if holder is not None:
                setattr(holder, self._attribute, record)
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
        context = sending_context(sender)
        if request_in(context) is not None:  # not if a test sends the signal alone
            self._describe(self._record_of(context), request_in(context))

    def _finished(self, sender: Flask, response: Response | None = None, **extra: Any) -> None:
        record = self._current_record(cv_request)
        if record is not None and response is not None:
            record.status = response.status_code

    def _tearing_down(self, sender: Flask, exc: BaseException | None = None, **extra: Any) -> None:
        record = self._current_record(cv_request)
        if record is None:
            return
        record.duration = time.perf_counter() - record.started
        if record.status is None and isinstance(exc, Exception):
            record.status = 500  # it propagates to the server, as in debug and testing

    def _context_tearing_down(self, sender: Flask, **extra: Any) -> None:
        record = self._current_record(_cv_app)
        if record is not None and record.kind == "command" and record.duration is None:
            record.duration = time.perf_counter() - record.started

    def _current_record(self, contexts: ContextVar[Any]) -> RequestRecord | None:
        """Return the record of the current context; ``None`` for a copied one."""
        record: RequestRecord | None = getattr(contexts.get(None), self._attribute, None)
        return record


def _command_record() -> RequestRecord:
    """Return a record for an app context without a request."""
    command = click.get_current_context(silent=True)
    if command is None:
        return RequestRecord()
    return RequestRecord("command", path=command.command_path)
