"""After commit: a receiver runs once what it reacts to is really in the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..records import AFTER_COMMIT
from .transactions import holding, run_ready, source_of

if TYPE_CHECKING:
    from ..core.delivery import Call


class AfterCommit:
    """Run the receiver once the root transaction of the current session has committed.

    It is dropped if that transaction, or the savepoint that the signal was sent in, rolls back or
    ends without a commit. Without an open transaction it runs at once. Its failure is logged and
    told to the exception hooks; it breaks neither ``commit()`` nor the other receivers. It runs at
    most once, and a crash between the commit and the receiver loses it.

    It runs in a transaction of its own: what it has begun and left open is committed when it is
    done, and rolled back if it has failed.

    ``delivery="after_commit"`` stands for ``AfterCommit()``.

    :param session: the session to wait for, where the app has several: a ``scoped_session``, or a
        function that returns the current ``Session`` or ``None``. If left out, it is the one that
        holds the sender or a model instance in the payload; else the first of the app's
        sessions that has a transaction open, those of enclosing app contexts included.

    >>> AfterCommit().name
    'after_commit'
    """

    name = AFTER_COMMIT

    def __init__(self, session: Any = None) -> None:
        source = None if session is None else source_of(session)
        self.session: Callable[[], Any] | None = source
        """How to get at the session to wait for, or ``None`` for the app's own."""
        self._sessions: Callable[[], list[Any]] = list if source is None else source.plain_sessions

    @property
    def needs_session(self) -> bool:
        """Whether the app must have a session of its own."""
        return self.session is None

    def deliver(self, call: Call, /) -> None:
        """Keep the call until the commit, or run it if there is nothing to wait for."""
        if call.transaction is None:
            held = None if self.session else next(iter(holding(call)), None)
            run_ready(held, [call], self._sessions)
        else:
            call.transaction.keep(call)
