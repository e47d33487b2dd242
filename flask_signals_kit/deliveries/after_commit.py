"""The delivery ``after_commit``: a receiver runs after the transaction has committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..records import AFTER_COMMIT
from .sources import source_of
from .transactions import holding, run_ready

if TYPE_CHECKING:
    from ..core.delivery import Call


class AfterCommit:
    """Run the receiver after the root transaction of the current session has committed.

    The call is dropped if that transaction, or the savepoint that the signal was sent in, rolls
    back or ends without a commit. Without an open transaction, the receiver runs immediately. If it
    fails, this is logged and reported to the exception hooks; ``commit()`` and the other receivers
    are not affected. The receiver runs at most once. A crash between the commit and the receiver
    loses the call.

    The receiver runs in its own transaction. A transaction that it leaves open is committed after
    it returns, and rolled back if it fails.

    ``delivery="after_commit"`` is the same as ``AfterCommit()``.

    :param session: the session to wait for if the app has several: a ``scoped_session``, or a
        function that returns the current ``Session`` or ``None``. If omitted, it is the session
        that holds the sender or a model instance in the payload; else the first of the app's
        sessions that has an open transaction, including those of enclosing app contexts.

    >>> AfterCommit().name
    'after_commit'
    """

    name = AFTER_COMMIT

    def __init__(self, session: Any = None) -> None:
        source = None if session is None else source_of(session)
        self.session: Callable[[], Any] | None = source
        """Returns the session to wait for; ``None`` for the app's own."""
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
