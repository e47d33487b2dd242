"""SQLAlchemy's transactions: calls that wait for a commit, and run or are dropped after it.

SQLAlchemy is an optional dependency: only apps that use a session need it.

A call waits for the transaction that its signal was sent in. When a savepoint is released, its
calls move to the enclosing transaction. When a root transaction has committed, its calls are ready.
They are run or dropped only when the transaction has ended: in ``after_commit`` no SQL is possible,
and SQLAlchemy calls it for savepoints as well.
"""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from functools import cache
from heapq import heappop, heappush
from itertools import count
from operator import itemgetter
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

from .sources import Session, is_async, sessions_holding

if TYPE_CHECKING:
    from ..core.delivery import Call

logger: logging.Logger = logging.getLogger("flask_signals_kit")

Sessions: TypeAlias = Callable[[], list[Session]]
"""Returns sessions that a receiver may use in addition to the app's."""

_PENDING = "_signals_kit_pending"
"""The attribute of a ``SessionTransaction`` that stores its :class:`Pending`.

Unlike ``session.info``, apps do not change it. A mapping from sessions to calls would never free a
session that a payload references; here the garbage collector finds the cycle.
"""

_COMMITTED = "_signals_kit_committed"
"""Set on a ``SessionTransaction`` that commits while no call waits: a listener may still send."""


class Pending:
    """The calls that wait for one transaction of a session.

    :param transaction: SQLAlchemy's record of the transaction, which stores this object.
    """

    # The defaults; each is set on the instance when it changes.
    _committed = False
    _ended: Session | None = None  # the session, once the transaction has ended
    _outer: Pending | None = None
    _reason = "the transaction ended without a commit"
    _watched = False  # whether it uses psycopg, which is asked at the commit

    def __init__(self, transaction: Any) -> None:
        self._calls: dict[Call, None] = {}
        self._session: weakref.ref[Session] = weakref.ref(transaction.session)
        setattr(transaction, _PENDING, self)
        if hasattr(transaction, _COMMITTED):
            self.commit(transaction)

    @property
    def session(self) -> Session:
        """The session of the transaction."""
        return self._session()

    @property
    def is_committed(self) -> bool:
        """Whether the root transaction has committed."""
        return self._current()._committed

    @property
    def has_ended(self) -> bool:
        """Whether the transaction has ended, by a commit or not."""
        return self._current()._ended is not None

    def commit(self, transaction: Any) -> None:
        """Move a savepoint's calls to the enclosing transaction; mark a root's calls ready."""
        if transaction.nested:
            self._outer = _pending_of(transaction.parent)
            self._outer._calls.update(self._take())
            self._outer._watched |= self._watched
        elif self._watched and self._calls and any(map(_was_aborted, _connections_of(transaction))):
            reason = "the database rolled back a commit, because an earlier statement had failed"
            _drop(reason, self._take())
        else:
            self._committed = True

    def roll_back(self, transaction: Any) -> None:
        """Note that the transaction is not just closed."""
        kind = "savepoint" if transaction.nested else "transaction"
        self._reason = f"the {kind} was rolled back"

    def _current(self) -> Pending:
        """Return the object that has the calls now: those of released savepoints have moved."""
        pending = self
        while pending._outer is not None:
            pending = pending._outer
        return pending

    def keep(self, call: Call) -> None:
        """Keep a call until the transaction and those that enclose it have committed.

        If an earlier receiver of the same emission has ended the transaction, the call runs or is
        dropped like those that were kept before. If the transaction has committed or failed but not
        ended yet, the call waits for its end: until then the session accepts no statement.
        """
        pending = self if self._outer is None else self._current()
        if pending._ended is None:
            if not pending._calls and ("psycopg" in sys.modules or "psycopg2" in sys.modules):
                session = pending.session  # none if an earlier receiver has given it up
                root = None if session is None else session.get_transaction()
                pending._watch(_connections_of(root))
            pending._calls[call] = None
        elif pending._committed:
            session = pending._ended  # an async session works only in its task
            run_ready(None if is_async(session) else session, [call])
        else:
            call.drop(self._reason)

    def _watch(self, connections: Iterable[Any]) -> None:
        """Let psycopg tell just before a commit whether the database will roll back instead.

        Not earlier: listeners of the session and the flush of the commit may execute statements
        that fail. SQLAlchemy takes longer for each statement of a connection that has listeners.
        """
        for connection in connections:
            if connection.dialect.driver.startswith(_PSYCOPG):
                self._watched = True
                if not hasattr(connection, _ABORTED):
                    from sqlalchemy import event

                    event.listen(connection, "commit", _note_aborted)
                setattr(connection, _ABORTED, False)

    def withdraw(self, call: Call) -> bool:
        """Remove a call; tell whether it was still waiting."""
        calls = self._current()._calls
        waits = call in calls
        calls.pop(call, None)
        return waits

    def _take(self) -> dict[Call, None]:
        calls, self._calls = self._calls, {}
        return calls

    def __del__(self) -> None:
        if self._calls:  # the session was collected without commit, rollback or close
            _drop("a session was discarded without commit, rollback or close", self._calls)


def _pending_of(transaction: Any) -> Pending:
    """Return the pending calls of a transaction."""
    return getattr(transaction, _PENDING, None) or Pending(transaction)


def _drop(reason: str, calls: Iterable[Call]) -> None:
    """Drop calls that a user would expect to run, and log a warning that names the receivers."""
    receivers = ", ".join(f"{call.receiver} of signal {call.emission.signal!r}" for call in calls)
    logger.warning("%s; these receivers are not called: %s", reason.capitalize(), receivers)
    for call in calls:
        call.drop(reason)


class _OwnTransaction:
    """A transaction that a receiver has begun, and the instances that it has loaded or changed.

    The end of a transaction expires every instance in the session, one after the other. Instances
    that the receiver has not touched are already expired, since the end of the previous
    transaction. So in a session with many instances, only the touched ones are expired.

    :param session: the session.
    :param transaction: SQLAlchemy's record of the transaction.
    """

    __slots__ = ("_touched", "session", "transaction")

    def __init__(self, session: Session, transaction: Any) -> None:
        self.session = session
        self.transaction = transaction
        self._touched: set[Any] | None = None
        if len(session.identity_map) > FEW:
            self._touched = set()
            _listen_to_instances(session)

    @property
    def is_open(self) -> bool:
        """Whether the transaction has not ended yet."""
        return self.session.get_transaction() is self.transaction

    def touch(self, session_id: int, states: Iterable[Any]) -> None:
        """Record instances that are loaded, refreshed or flushed in a session."""
        if self._touched is not None and session_id == self.session.hash_key:
            self._touched.update(states)

    def end(self, finish: Callable[[], None]) -> None:
        """Call a function that commits the transaction or rolls it back."""
        if self._touched is None:
            finish()
            return
        instances = self.session.identity_map
        self._touched.update(_states(self.session.dirty))
        instances.all_states = lambda: [*filter(instances.contains_state, self._touched or ())]
        try:
            finish()
        finally:
            del instances.all_states


FEW = 50
"""In sessions with at most this many instances, touched instances are not recorded."""


class _Loop:
    """Runs calls whose transaction has committed, in the order in which they were sent.

    Calls that become ready while a call runs are queued, so that a chain of receivers that send is
    a loop, without recursion.

    Each call runs in a ``with`` block of the loop, in its own transaction in each session that it
    uses. A transaction that it begins is committed after it returns, and rolled back if it fails,
    so the sender and other receivers find no trace of it in their session. Transactions that were
    open before are not changed.

    :param session: the session that has committed, or ``None`` if there was none to wait for.
    :param calls: the calls.
    :param sessions: returns sessions that their receivers may use, in addition to this one and the
        app's.
    :param outer: the loop that runs the receiver whose transaction has committed, or ``None``.
    """

    __slots__ = ("_item", "_lock", "_queue", "begun", "outer", "session")

    def __init__(
        self,
        session: Session | None,
        calls: Iterable[Call],
        sessions: Sessions,
        outer: _Loop | None,
    ) -> None:
        self.session: Any = session
        self.outer = outer
        queue: list[_Item] = []
        self._queue = queue
        for call in calls:
            heappush(queue, (call.number, next(_order), call, sessions))
        self._item: _Item | None = heappop(queue)  # the current call; none once the loop is over
        self._lock = Lock()  # a receiver's thread may have inherited the context
        self.begun: list[_OwnTransaction] | None = None
        """The transactions that the running receiver has begun."""

    def add(self, calls: Iterable[Call], sessions: Sessions) -> bool:
        """Queue calls; return false if the loop is over."""
        with self._lock:
            if not self.is_over:
                for call in calls:
                    heappush(self._queue, (call.number, next(_order), call, sessions))
            return not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether it runs nothing more."""
        return self._item is None

    def run(self) -> None:
        """Run the queued calls, and those that are added meanwhile.

        No ``Exception`` may propagate to ``commit()``, which has succeeded. This includes failures
        around a receiver, in a teardown function or in a rollback.
        """
        session = self.session
        block = getattr(session, "_trans_context_manager", None)
        if block is not None:  # inside "with session.begin():", the session refuses every statement
            session._trans_context_manager = None
        token = _loop.set(self)
        try:
            item = self._item
            while item is not None:
                call = item[2]
                try:
                    call.run_contained(self)
                except Exception:
                    logger.exception(
                        "The setup or cleanup around after-commit receiver %s failed", call.receiver
                    )
                with self._lock:
                    item = self._item = heappop(self._queue) if self._queue else None
        finally:
            _loop.reset(token)
            if session is not None:
                session._trans_context_manager = block
            if self._item is not None:
                self._drop_rest()

    def _drop_rest(self) -> None:
        """Drop the remaining calls after a ``KeyboardInterrupt`` or ``SystemExit``."""
        with self._lock:
            self._item = None
        if self._queue:
            _drop("interrupted after a commit", [call for _, _, call, _ in sorted(self._queue)])

    def __enter__(self) -> None:
        self.begun = []

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        try:
            if self.begun:
                if kind is None:
                    self._commit()
                else:
                    self._roll_back()
        finally:
            self.begun = None

    def _commit(self) -> None:
        try:
            for own in self._still_open():
                own.end(own.session.commit)
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        for own in self._still_open():
            try:
                own.end(own.session.rollback)
            except Exception:
                receiver = self._item and self._item[2].receiver
                logger.exception("The rollback after receiver %s failed", receiver)

    def _still_open(self) -> list[_OwnTransaction]:
        """Return the transactions that the receiver has begun and not ended.

        Transactions in sessions that the kit does not know are not included.
        """
        session = self.session
        left = [own for own in self.begun or () if own.is_open]
        if self._item is None or all(own.session is session for own in left):
            return left
        _, _, call, sessions = self._item
        used = {id(s) for s in (session, *sessions(), *holding(call), *call.sessions())}
        return [own for own in left if id(own.session) in used]


_Item: TypeAlias = "tuple[int, int, Call, Sessions]"
"""A queued call: the number of its emission, its own, the call, and the sessions it may use."""

_loop: ContextVar[_Loop | None] = ContextVar("signals_kit_after_commit", default=None)
"""The innermost running loop."""

_order = count()
"""Numbers calls in the order in which they are queued, which is that of their receivers."""


def run_ready(session: Session | None, calls: Iterable[Call], sessions: Sessions = list) -> None:
    """Run calls, contained; queue them if the kit is running a receiver of the same session.

    Another session may end with the receiver that uses it, which detaches the sender. So calls that
    waited for another session run immediately.

    :param session: the session that has committed, or that holds the sender or the payload; or
        ``None``.
    :param sessions: returns sessions that receivers may use, in addition to this one and the app's.
    """
    outer = loop = _loop.get()
    while loop is not None:
        if session in (None, loop.session) and loop.add(calls, sessions):
            return
        loop = loop.outer
    _Loop(session, calls, sessions, outer).run()


def pending_in(session: Session) -> Pending | None:
    """Return the calls that wait for the innermost open transaction of a session.

    :param session: the session; not an ``AsyncSession``.
    :return: ``None`` if it has no open transaction.
    """
    transaction = session.get_nested_transaction() or session.get_transaction()
    if transaction is None:
        return None
    listen()  # if SQLAlchemy was imported after the receivers were connected
    return getattr(transaction, _PENDING, None) or Pending(transaction)


_CHANGES = "signals_kit_changes"
"""The key in a connection's ``info``: SQLite's count of changed rows when its transaction began."""

_HAS_WRITTEN = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
"""PostgreSQL gives a transaction an id when it writes."""


def has_changes(session: Session) -> bool:
    """Tell whether the open transaction of a session has written anything, in any way.

    Call :func:`listen_to_begins` before the transaction begins.
    """
    return any(map(_has_written, _connections_of(session.get_transaction())))


def _has_written(connection: Any) -> bool:
    if connection.dialect.name == "sqlite":
        changes = _total_changes(connection)
        return changes is None or bool(changes != connection.info.get(_CHANGES))
    return bool(connection.exec_driver_sql(_HAS_WRITTEN).scalar())


@cache
def listen_to_begins() -> None:
    """Note how many rows SQLite has changed on a connection when a transaction begins."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session as OrmSession

    event.listen(OrmSession, "after_begin", _note_changes)


def _note_changes(session: Session, transaction: Any, connection: Any) -> None:
    if connection.dialect.name == "sqlite" and not transaction.nested:
        connection.info[_CHANGES] = _total_changes(connection)


def _total_changes(connection: Any) -> Any:
    return getattr(connection.connection.driver_connection, "total_changes", None)


def is_unusable(session: Session) -> bool:
    """Tell whether the open transaction of a session can no longer store anything."""
    connections = _connections_of(session.get_transaction())
    disconnected = any(connection.invalidated for connection in connections)
    return not session.is_active or disconnected or any(map(_is_aborted, connections))


def _connections_of(transaction: Any) -> set[Any]:
    """Return the connections that a transaction uses; the attribute is private in SQLAlchemy."""
    found = getattr(transaction, "_connections", None)
    return set(map(itemgetter(0), [*found.values()])) if isinstance(found, dict) else set()


def connection_in(session: Session, engine: Any) -> Any:
    """Return the connection of a session's transaction to an engine; faster than the session does.

    :return: ``None`` if the session itself must be asked: it has not used the engine yet, it can
        only roll back, or it is in a savepoint, which begins on a connection at its first use.
    """
    transaction = session.get_transaction()
    if session.get_nested_transaction() is not None or not getattr(transaction, "is_active", False):
        return None
    connections = getattr(transaction, "_connections", {})  # private in SQLAlchemy
    return connections.get(engine, (None,))[0]


_PSYCOPG = "psycopg"
"""With it begin the names of the drivers psycopg and psycopg2."""

_IN_ERROR = 3
"""The status of a transaction in which a statement has failed, in psycopg and psycopg2."""


def _is_aborted(connection: Any) -> bool:
    """Tell whether the database has aborted a transaction, so that it can only roll back.

    SQLite continues after a failed statement. Drivers that do not report the status are assumed to
    do the same.
    """
    if not connection.dialect.driver.startswith(_PSYCOPG):
        return False
    with suppress(Exception):  # such as a connection that is closed
        info = connection.connection.driver_connection.info
        return bool(info.transaction_status == _IN_ERROR)
    return False


_ABORTED = "_signals_kit_aborted"
"""Set on a connection whose commits are watched: whether the last one was a rollback."""


def _note_aborted(connection: Any) -> None:
    """Ask psycopg; SQLAlchemy calls this just before the commit."""
    setattr(connection, _ABORTED, _is_aborted(connection))


def _was_aborted(connection: Any) -> bool:
    """Tell of a connection that has committed whether that was a rollback.

    If its transaction is still open, it was begun outside of the session.
    """
    return getattr(connection, _ABORTED, False) or _is_aborted(connection)


def holding(call: Call) -> list[Session]:
    """Return the sessions of the sender and the payload, except async ones."""
    sessions = sessions_holding((call._sender, *call._payload.values()))
    return [session for session in sessions if not is_async(session)]


@cache
def listen() -> None:
    """Listen to the events of every session; called when an after-commit receiver connects.

    Not when a signal is sent: a session may be calling its listeners then. The kit's listener for
    ``after_commit`` is called first, because a listener that raises prevents the calls of later
    listeners.
    """
    from sqlalchemy import event
    from sqlalchemy.orm import Mapper
    from sqlalchemy.orm import Session as OrmSession

    event.listen(OrmSession, "after_begin", _after_begin)
    event.listen(OrmSession, "after_commit", _after_commit, insert=True)
    event.listen(OrmSession, "after_rollback", _after_rollback)
    event.listen(OrmSession, "after_transaction_create", _after_transaction_create)
    event.listen(OrmSession, "after_transaction_end", _after_transaction_end)
    event.listen(Mapper, "refresh", _refresh, raw=True)


def _after_begin(session: Session, transaction: Any, connection: Any) -> None:
    """Watch a connection that a transaction begins to use while calls wait for it."""
    pending: Pending | None = getattr(transaction, _PENDING, None)
    if pending is not None and pending._calls:
        pending._watch([connection])


def _after_commit(session: Session) -> None:
    transaction: Any = session.get_nested_transaction() or session.get_transaction()
    pending: Pending | None = getattr(transaction, _PENDING, None)
    if pending is None:
        setattr(transaction, _COMMITTED, True)
    else:
        pending.commit(transaction)


def _after_rollback(session: Session) -> None:
    transaction: Any = session.get_nested_transaction() or session.get_transaction()
    pending: Pending | None = getattr(transaction, _PENDING, None)
    if pending is not None:
        pending.roll_back(transaction)


def _after_transaction_create(session: Session, transaction: Any) -> None:
    loop = _loop.get()
    # A task or thread of a receiver has inherited the loop, and may outlive the receiver.
    begun = None if loop is None else loop.begun
    if begun is not None and transaction.parent is None:
        begun.append(_OwnTransaction(session, transaction))


def _after_transaction_end(session: Session, transaction: Any) -> None:
    """Run the calls if the transaction has committed; drop them if not."""
    pending: Pending | None = getattr(transaction, _PENDING, None)
    if pending is None:
        return
    pending._ended = session
    calls, pending._calls = pending._calls, {}
    if pending._committed and calls:
        run_ready(session, calls)
    else:
        for call in calls:
            call.drop(pending._reason)


def _listen_to_instances(session: Session) -> None:
    """Listen to the instances that a session loads and flushes; most sessions do not need it."""
    from sqlalchemy import event

    if _LISTENS not in vars(session):
        setattr(session, _LISTENS, True)
        event.listen(session, "loaded_as_persistent", _load, raw=True)
        event.listen(session, "detached_to_persistent", _load, raw=True)
        event.listen(session, "after_flush", _after_flush)


_LISTENS = "_signals_kit_listens"
"""Marks a session with listeners; ``event.contains`` may be true for a new session at the address
of a collected one."""


def _load(session: Session, state: Any) -> None:
    _touch(session.hash_key, [state])


def _refresh(state: Any, *details: Any) -> None:
    _touch(state.session_id, [state])


def _after_flush(session: Session, context: Any) -> None:
    _touch(session.hash_key, _states([*session.new, *session.dirty]))


def _states(instances: Iterable[Any]) -> list[Any]:
    return [instance._sa_instance_state for instance in instances]


def _touch(session_id: int, states: list[Any]) -> None:
    """Record instances that a receiver uses, in each of the enclosing transactions."""
    loop = _loop.get()
    while loop is not None:
        for own in loop.begun or ():
            own.touch(session_id, states)
        loop = loop.outer
