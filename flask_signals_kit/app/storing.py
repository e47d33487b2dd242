"""How a send stores a call of a durable receiver: as a message, in the sender's transaction."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..compat import trace_of_request
from ..core.delivery import Call
from ..deliveries.durable.delivery import Durable, receiver_name
from ..deliveries.durable.payload import Headers, encode
from ..deliveries.sources import in_greenlet, is_async
from ..deliveries.transactions import has_changes, pending_in
from ..errors import ConfigurationError
from .runs import current_run

if TYPE_CHECKING:
    from .outbox import Outbox


class StoredCall:
    """Stands for a stored message among the calls that wait for a commit.

    :param call: the call of the durable receiver.
    :param message: the id of the message, or ``None`` if it is not needed.
    :param outbox: where it is stored.
    """

    def __init__(self, call: Call, message: int | None, outbox: Outbox) -> None:
        self._call = call
        self._outbox = outbox
        self.message: int | None = message
        self.is_committed: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    def run_contained(self, within: AbstractContextManager[Any] | None = None) -> None:
        """Note that the transaction has committed: the message is due."""
        self.is_committed = True
        if self._call._late is not None:
            self._call._late.message = self.message
        self._outbox.wake()


def store(outbox: Outbox, call: Call, delivery: Durable) -> None:
    """Store a call, in the transaction that was open when the signal was sent.

    :raises PayloadError: for a sender or a payload that cannot be stored.
    :raises ConfigurationError: if the session uses another database, or one without the table.
    """
    pending: Any = call.transaction
    if pending is not None and pending.has_ended and not pending.is_committed:
        pending.keep(call)  # an earlier receiver of the same emission has rolled it back
        return
    session, begun = _session_for(outbox, call, delivery)
    has_committed = True
    if session is None:
        with outbox.engine().begin() as connection:
            message = _insert(outbox, connection, call, delivery)
    else:
        has_committed, message = _store_in(outbox, session, call, delivery, begun)
    if message is None and outbox.embedded is None:
        return  # nothing happens at the commit
    stored = StoredCall(call, message, outbox)
    waiting: Any = None if has_committed else pending_in(session)
    if waiting is None:
        stored.run_contained()
    else:
        waiting.keep(stored)
    outbox.sessions.notify_kept(waiting, stored)


def _session_for(outbox: Outbox, call: Call, delivery: Durable) -> tuple[Any, bool]:
    """Return the session to store a call in, and whether it has begun during this send.

    ``None`` stands for a transaction of its own.
    """
    pending: Any = call.transaction
    if pending is None:
        running = current_run.get()
        session = None if running is None else running.joined_session(outbox)
        if session is not None:
            return session, False  # it commits with the end of the running message
    elif not pending.is_committed:
        return pending.session, False
    elif not pending.has_ended:
        return None, False  # a listener of the commit sends: its session runs no statement
    begun: Any = outbox.sessions.transaction(delivery.session, call._sender, call._payload)
    return (None, False) if begun is None else (begun.session, True)


def _store_in(
    outbox: Outbox, session: Any, call: Call, delivery: Durable, begun: bool
) -> tuple[bool, int | None]:
    """Store a call in the open transaction of a session.

    :param begun: whether an earlier receiver, or a predicate, has begun it during this send. If
        it has only read the database, it is committed: on SQLite it may hold the lock.
    :return: whether it has committed the session's transaction; and as :meth:`_insert`.
    """
    if is_async(session) and not in_greenlet():
        raise ConfigurationError(
            "A durable receiver's message cannot be stored in an AsyncSession here: send the "
            "signal in a function that is given to 'await session.run_sync(...)'."
        )
    if not session._flushing:  # as in SQLAlchemy's own events
        session.flush()  # so that new instances have their primary key
    has_only_read = begun and not has_changes(session)
    message = _insert(outbox, outbox.connection_of(session), call, delivery)
    if has_only_read:
        session.commit()
    return has_only_read, message


def _insert(outbox: Outbox, connection: Any, call: Call, delivery: Durable) -> int | None:
    """Store a call on a connection.

    :return: the id of the message; ``None`` if neither the journal nor a test needs it.
    """
    is_followed = call._late is not None or bool(outbox.sessions.kept_observers)
    values = _values(outbox, call, delivery)
    check = outbox.check_database
    return outbox.statements.insert(connection, values, returns_id=is_followed, check=check)


def _values(outbox: Outbox, call: Call, delivery: Durable) -> dict[str, Any]:
    """Return what a message stores.

    :raises PayloadError: for a sender or a payload that cannot be stored.
    """
    name, lazy, running = call._context.name, call._emission, current_run.get()
    contract = outbox.contract_of(name)
    if contract is not None:
        contract.check_required(call._payload)
    message = os.urandom(16).hex()
    if call._late is not None:
        _remember(outbox, message, call, delivery)
    if lazy.correlation_id is None:
        lazy.correlation_id = message if running is None else running.headers.correlation
    site = lazy.site
    headers = Headers(
        id=message,
        correlation=lazy.correlation_id,
        causation=None if running is None else running.headers.id,
        sent_at=time.time(),
        sender=lazy.sender,
        request=lazy.request,
        site=None if site is None else (site.module, site.name, site.file, site.line),
        version=1 if contract is None else contract.version,
        traceparent=trace_of_request() if running is None else running.headers.traceparent,
    )
    hints = {} if contract is None else contract.hints
    return {
        "receiver": receiver_name(call._connection),
        "signal": name,
        "payload": encode(name, call.app, call._sender, call._payload, hints),
        "headers": headers.to_text(),
        "queue": delivery.queue,
    }


def _remember(outbox: Outbox, message: str, call: Call, delivery: Durable) -> None:
    """Store the result of a call by the id of its message, as long as the journal keeps it."""
    late: Any = call._late
    late.number, late.attempts = call.number, delivery.max_attempts
    if outbox.signals.requests is not None:
        late.request = outbox.signals.requests.of(call._context.name)
    outbox.results[message] = late
