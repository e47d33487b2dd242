"""Plain records of the outbox and its messages; the page, its JSON and the commands show them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.names import is_glob
from ..deliveries.durable.delivery import Durable, receiver_name
from ..errors import ConfigurationError, OutboxError
from ..records import Place
from .labels import plain

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..app.outbox import Outbox
    from ..core.connection import LiveConnection
    from ..deliveries.durable.queries import Queries

STATUSES: dict[str, str] = {
    "due": "is due, or about to run",
    "running": "runs",
    "retrying": "waits for its next attempt",
    "dead": "is not run again",
}
"""What each status of a message means."""

HIGHEST = 2**63 - 1
"""The highest id that the databases can store."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MessageInfo:
    """One message: the call of one durable receiver that is still to be done."""

    id: int
    """The number of its row."""
    receiver: str
    """The name of the receiver: its ``uid``, else module and name."""
    signal: str
    """The signal's name."""
    status: str
    """One of :data:`STATUSES`."""
    attempt: int
    """How often a run has begun."""
    max_attempts: int | None
    """The attempt after which it is dead: higher than that of the delivery if the message was
    retried by a command; ``None`` if the receiver no longer exists."""
    due: float | None
    """When it runs next, or when its run counts as lost, in seconds since the epoch; ``None`` if
    it is dead."""
    sent_at: float | None
    """When the signal was sent, in seconds since the epoch; ``None`` if the row is damaged."""
    queue: str | None
    """Its queue."""
    error: str | None
    """Why the last run failed, or where it asked to be run again."""
    message_id: str | None
    """The id of the message, which is also the idempotency key."""
    correlation_id: str | None
    """The id of the first message of the chain."""
    causation_id: str | None
    """The id of the message whose receiver sent this one."""
    request: str | None
    """The method and path of the request that it was sent in."""
    site: Place | None
    """The place of the send."""
    sender: str | None
    """The sender's type."""
    payload: tuple[str, ...]
    """The payload's names."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReceiverTotals:
    """The messages of one receiver of one signal."""

    receiver: str
    """The name of the receiver."""
    signal: str
    """The signal's name."""
    exists: bool
    """Whether the receiver still exists."""
    counts: Mapping[str, int]
    """The number of messages of each status."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutboxReport:
    """The messages of one app."""

    app: str
    """The app's name."""
    counts: Mapping[str, int]
    """The number of messages of each status."""
    oldest_age: float | None
    """For how long the oldest message has been due, in seconds; ``None`` if none is. That of a
    message that has not begun counts from its send, whatever has claimed it since."""
    run_by: str
    """What runs the messages, in words."""
    receivers: tuple[ReceiverTotals, ...]
    """The receivers that have messages, by name."""

    @property
    def total(self) -> int:
        """The number of messages."""
        return sum(self.counts.values())


def outbox_report(app_signals: AppSignals, outbox: Outbox) -> OutboxReport:
    """Count the messages of one app; this reads no payload.

    :raises OutboxError: if the database cannot be used, or lacks a part of the table.
    :raises ConfigurationError: if the database is not known.
    """
    with outbox.reading() as connection:
        rows = outbox.queries.totals(connection)
        age = _oldest_age(outbox.queries, connection)
    counts = dict.fromkeys(STATUSES, 0)
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        counts[row.status] += row.number
        found.setdefault((row.receiver, row.signal), dict.fromkeys(STATUSES, 0))
        found[row.receiver, row.signal][row.status] = row.number
    return OutboxReport(
        app=plain(app_signals.app.name),
        counts=counts,
        oldest_age=age,
        run_by=_run_by(app_signals),
        receivers=tuple(
            ReceiverTotals(
                receiver=receiver,
                signal=signal,
                exists=outbox.delivery_of(signal, receiver) is not None,
                counts=totals,
            )
            for (receiver, signal), totals in found.items()
        ),
    )


def _oldest_age(queries: Queries, connection: Any) -> float | None:
    """Return for how long the oldest message has been due, or has waited for its first run."""
    # Imported here, because it needs the extra "durable".
    from ..deliveries.durable.payload import Headers

    ages = [queries.oldest_age(connection)]
    first = queries.first_not_begun(connection)
    if first is not None:
        headers = Headers.from_text(first.headers)
        if headers is not None:
            ages.append(max(0.0, first.now - headers.sent_at))
    return max((age for age in ages if age is not None), default=None)


def _run_by(app_signals: AppSignals) -> str:
    engine = app_signals.settings.engine
    if engine == "celery":
        return "Celery workers"
    if engine == "none" or app_signals.app.testing:
        return "nothing in this process: start 'flask signals work'"
    return "threads of each process that serves requests"


def in_words(counts: Mapping[str, int]) -> str:
    """Return the number of messages of each status as a sentence without its full stop.

    >>> in_words({"due": 0, "retrying": 2})
    '2 messages are stored: 2 retrying'
    """
    number = sum(counts.values())
    if not number:
        return "no messages are stored"
    each = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    return f"{stored(number)}: {each}"


def stored(number: int) -> str:
    """Return a number of stored messages as the beginning of a sentence."""
    return "1 message is stored" if number == 1 else f"{number:,} messages are stored"


def counts_of_signal(app_signals: AppSignals, signal: str) -> dict[str, int] | None:
    """Return the number of a signal's messages of each status.

    :return: ``None`` if the app has no durable receivers, or if the database cannot be read.
    """
    if app_signals.outbox is None:
        return None
    try:
        found = outbox_report(app_signals, app_signals.outbox)
    except (ConfigurationError, OutboxError):
        return None
    own = [each.counts for each in found.receivers if each.signal == signal]
    return {status: sum(each[status] for each in own) for status in STATUSES}


def messages(
    outbox: Outbox,
    *,
    status: str = "",
    receiver: str = "",
    signal: str = "",
    limit: int,
    before: int | None = None,
) -> list[MessageInfo]:
    """Return messages of one app, the newest first; an empty filter matches all.

    :param status: one of :data:`STATUSES`.
    :param receiver: the name of the receiver.
    :param signal: the name of the signal.
    :param limit: how many at most.
    :param before: only messages with lower ids, such as that of the last one on a page.
    :raises OutboxError: as :func:`outbox_report`.
    :raises ConfigurationError: as :func:`outbox_report`.
    """
    queries = outbox.queries
    where = queries.where(status=status, receiver=receiver, signal=signal)
    before = None if before is None else max(0, min(before, HIGHEST))
    with outbox.reading() as connection:
        rows = queries.newest(connection, where, limit, before)
    return [_message(outbox, row) for row in rows]


def find_message(outbox: Outbox, number: int) -> MessageInfo | None:
    """Return the message of this id, or ``None`` if there is none.

    :raises OutboxError: as :func:`outbox_report`.
    :raises ConfigurationError: as :func:`outbox_report`.
    """
    if not 0 < number <= HIGHEST:
        return None
    with outbox.reading() as connection:
        row = outbox.queries.find(connection, number)
    return None if row is None else _message(outbox, row)


def durable(app_signals: AppSignals) -> Iterator[LiveConnection]:
    """Yield the connections of durable receivers."""
    for registry in app_signals.registry.chain:
        for connection in registry.connections:
            if isinstance(connection.options.delivery, Durable):
                yield connection


def known_names(
    app_signals: AppSignals, receivers: Iterable[ReceiverTotals]
) -> tuple[list[str], list[str]]:
    """Return the names of durable receivers and of their signals; patterns are left out.

    :param receivers: the receivers that have messages.
    """
    connections, stored = list(durable(app_signals)), list(receivers)
    names = {receiver_name(each) for each in connections} | {each.receiver for each in stored}
    signals = {each.target for each in connections if not is_glob(each.target)}
    signals |= {each.signal for each in stored}
    return sorted(map(plain, names)), sorted(map(plain, signals))


def _message(outbox: Outbox, row: Any) -> MessageInfo:
    # Imported here, because it needs the extra "durable".
    from ..deliveries.durable.payload import Headers, names_in, site_of

    headers: Any = Headers.from_text(row.headers)
    delivery, spent = outbox.delivery_of(row.signal, row.receiver), headers.spent if headers else 0
    return MessageInfo(
        id=row.id,
        receiver=row.receiver,
        signal=row.signal,
        status=row.status,
        attempt=row.attempt,
        max_attempts=None if delivery is None else spent + delivery.max_attempts,
        due=row.due,
        sent_at=headers and headers.sent_at,
        queue=row.queue,
        error=row.error,
        message_id=headers and headers.id,
        correlation_id=headers and headers.correlation,
        causation_id=headers and headers.causation,
        request=headers and headers.request,
        site=None if headers is None else site_of(headers),
        sender=headers and headers.sender,
        payload=names_in(row.payload),
    )
