"""What the Outbox view shows: totals, and one page of the messages that match its filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from werkzeug.datastructures import MultiDict

from ..labels import to_json
from ..outbox import (
    STATUSES,
    MessageInfo,
    OutboxReport,
    find_message,
    known_names,
    messages,
    outbox_report,
)

if TYPE_CHECKING:
    from ...app.app_signals import AppSignals

PAGE = 100
"""The number of messages on one page of the list, and the most receivers in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxFilter:
    """Which messages to list; an empty filter matches all."""

    id: int | None = None
    """The only message."""
    status: str = ""
    """The status."""
    receiver: str = ""
    """The whole name of the receiver."""
    signal: str = ""
    """The name of the signal."""
    before: int | None = None
    """Only messages with lower ids, for the next page."""

    @property
    def query(self) -> dict[str, str]:
        """The filters as a query, without empty values and without the page."""
        found = {"status": self.status, "receiver": self.receiver, "signal": self.signal}
        return {name: value for name, value in found.items() if value}

    def count(self, report: OutboxReport) -> int:
        """Return how many of the counted messages match, on all pages."""
        statuses = [self.status] if self.status else list(STATUSES)
        return sum(
            each.counts[status]
            for each in report.receivers
            if self.receiver in ("", each.receiver) and self.signal in ("", each.signal)
            for status in statuses
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutboxPage:
    """The content of the Outbox view."""

    report: OutboxReport
    """The totals."""
    messages: Sequence[MessageInfo]
    """The messages on this page, the newest first."""
    total: int
    """How many messages match, on all pages."""
    older: int | None
    """``before`` of the next page, or ``None`` on the last one."""
    receivers: Sequence[str]
    """The known receivers, to choose one; a hundred at most."""
    signals: Sequence[str]
    """Their signals, to choose one; a hundred at most."""

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON types."""
        listed = [to_json(message) for message in self.messages]
        rest = {"messages": listed, "total": self.total, "before": self.older}
        return {**to_json(self.report), **rest}


def read_outbox_filter(arguments: MultiDict[str, str]) -> OutboxFilter:
    """Read the filters from a query; ignore invalid ones."""
    status = arguments.get("status", "")
    return OutboxFilter(
        id=read_id(arguments),
        status=status if status in STATUSES else "",
        receiver=arguments.get("receiver", "").strip(),
        signal=arguments.get("signal", "").strip(),
        before=arguments.get("before", type=int),
    )


def read_id(arguments: MultiDict[str, str]) -> int | None:
    """Read an id from a query; one that is not a number matches nothing."""
    return arguments.get("id", -1 if "id" in arguments else None, int)


def stored_message(app_signals: AppSignals, number: int) -> MessageInfo | None:
    """Return the message of this id, or ``None`` if there is none.

    :raises SignalsKitError: as :func:`outbox_page`.
    """
    outbox = app_signals.outbox
    found = None if outbox is None else find_message(outbox, number)
    return None if found is None else _safe(app_signals, found)


def _safe(app_signals: AppSignals, message: MessageInfo) -> MessageInfo:
    """Leave out the path of the request outside debug and testing: it may contain a secret."""
    app = app_signals.app
    if app.debug or app.testing or message.request is None:
        return message
    return replace(message, request=message.request.partition(" ")[0])


def outbox_page(app_signals: AppSignals, wanted: OutboxFilter) -> OutboxPage | None:
    """Return the content of the view; ``None`` if the app has no durable receivers.

    :param wanted: which messages to list.
    :raises SignalsKitError: if the database cannot be read.
    """
    outbox = app_signals.outbox
    if outbox is None:
        return None
    report = outbox_report(app_signals, outbox)
    receivers, signals = known_names(app_signals, report.receivers)
    page = partial(OutboxPage, report=report, receivers=receivers[:PAGE], signals=signals[:PAGE])
    if wanted.id is not None:
        only = stored_message(app_signals, wanted.id)
        found = [] if only is None else [only]
        return page(messages=found, total=len(found), older=None)
    listed = messages(outbox, **wanted.query, limit=PAGE + 1, before=wanted.before)
    shown = [_safe(app_signals, message) for message in listed[:PAGE]]
    older = shown[-1].id if len(listed) > PAGE else None
    return page(messages=shown, total=wanted.count(report), older=older)
