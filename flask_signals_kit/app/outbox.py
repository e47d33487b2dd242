"""One app's outbox: durable messages are given to an engine, run, retried and discarded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from ..deliveries.durable.payload import Headers
from ..deliveries.durable.queries import writing
from ..deliveries.durable.table import RESEND
from .message_store import MessageStore
from .runs import RunResult, run

BATCH = 500
"""The number of messages that a command changes in one transaction."""


class Engine(Protocol):
    """Carries messages to workers; :meth:`Outbox.forward` gets one.

    >>> class Direct:
    ...     def __init__(self, outbox):
    ...         self.outbox = outbox
    ...     def submit(self, message, attempt, queue):
    ...         self.outbox.run(message, attempt)
    """

    def submit(self, message: int, attempt: int, queue: str | None, /) -> None:
        """Let a worker call ``outbox.run(message, attempt)``, at any time.

        The message may be carried twice or lost: it is due again until it has run.

        :param message: the id of the message.
        :param attempt: how often it had run when it was claimed.
        :param queue: its queue.
        """


class Outbox(MessageStore):
    """The durable messages of one app: a send stores them, and workers claim and run them."""

    def forward(
        self,
        engine: Engine,
        limit: int = 100,
        *,
        queue: str | None = None,
        resend: float = RESEND,
    ) -> int:
        """Give messages that are due to an engine.

        Call this again and again, in one process or in many.

        :param engine: its ``submit(message, attempt, queue)`` is called for each message.
        :param limit: how many messages at most.
        :param queue: the only queue, or ``None`` for all.
        :param resend: the time after which a message that has not begun is due again, in seconds.
        :return: the number of messages.
        """
        claimed = self.claim(limit, queue=queue, resend=resend)
        for message in claimed:
            engine.submit(message.id, message.attempt, message.queue)
        return len(claimed)

    def run_due(self) -> int:
        """Run the messages that are due here, one after the other, until none is due.

        For tests and scripts. Receivers run in app contexts of their own. If a session does not
        belong to the app context, but to the thread, end its transaction before: the runs commit
        it, or roll it back.

        :return: how many runs there were, including those that failed.
        """
        count = 0
        while claimed := self.claim():
            for message in claimed:
                self.run(message.id, message.attempt)
            count += len(claimed)
        return count

    def run(self, message: int, attempt: int) -> RunResult | None:
        """Run a message, if it has not begun since it was claimed.

        :param message: the id of the message.
        :param attempt: how often it had run when it was claimed.
        :return: how the run ended; ``None`` if the message has begun since it was claimed.
        """
        with self.app.app_context():
            return run(self, message, attempt)

    # -- changing by a command ----------------------------------------------------------------

    def retry(self, where: list[Any]) -> Iterator[int]:
        """Make messages due that are dead or wait for their next attempt, in batches.

        A dead one gets as many attempts as a new one. Other messages are not changed, nor dead ones
        whose headers are damaged.

        :param where: the conditions of :meth:`.Queries.where`.
        :return: yields the number of the messages in each batch.
        :raises OutboxError: if the database cannot be used.
        """
        queries = self.queries
        for rows in self._batches([*where, queries.retryable]):
            done = 0
            with writing(self.engine(), self.statements.table) as connection:
                for row in rows:
                    headers = row.headers if row.due is not None else _renewed(row)
                    if headers is not None:
                        done += queries.revive(connection, row.id, row.attempt, headers)
            yield done

    def discard(self, where: list[Any]) -> Iterator[int]:
        """Delete messages, in batches; those that run are not changed.

        :param where: the conditions of :meth:`.Queries.where`.
        :return: yields the number of the messages in each batch.
        :raises OutboxError: if the database cannot be used.
        """
        queries = self.queries
        where = [*where, queries.not_running]
        for rows in self._batches(where):
            with writing(self.engine(), self.statements.table) as connection:
                done = queries.discard(connection, [row.id for row in rows], where)
            yield done

    def _batches(self, where: list[Any]) -> Iterator[Any]:
        after = 0
        while True:
            with self.reading() as connection:
                rows = self.queries.batch(connection, where, after, BATCH)
            if not rows:
                return
            yield rows
            after = rows[-1].id


def _renewed(row: Any) -> str | None:
    """Return the headers of a dead message with new attempts; ``None`` if they are damaged."""
    headers = Headers.from_text(row.headers)
    return None if headers is None else headers.renewed(row.attempt).to_text()
