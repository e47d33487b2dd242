"""SQLAlchemy sessions, seen from outside: what waits for a commit, and when it may go on.

SQLAlchemy is an optional dependency: whoever hands a session in has it, and nobody else needs it.

Each ``SessionTransaction`` keeps what was sent in it. A savepoint that is released hands its calls
to the transaction around it; a root that has committed marks them ready. Only when a transaction
has ended are they run, or dropped: inside ``after_commit`` no SQL is possible, and it fires for
savepoints as well.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from flask import Flask, g

from .callables import type_name
from .calls import Call
from .errors import ConfigurationError

logger: logging.Logger = logging.getLogger("flask_signals_kit")

Session: TypeAlias = Any
"""A ``sqlalchemy.orm.Session``."""

_WAITING = "signals_kit_waiting"
"""The key in ``Session.info`` of what waits for its transactions."""


class Waiting:
    """The calls that wait for the transactions of one session."""

    def __init__(self) -> None:
        self._calls: WeakKeyDictionary[Any, list[Call]] = WeakKeyDictionary()
        self._committed: WeakSet[Any] = WeakSet()
        self._ended: WeakSet[Any] = WeakSet()
        self._released: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def keep(self, sessions: list[Session], transaction: Any, call: Call) -> bool:
        """Keep a call until this transaction ends; tell whether it has to wait.

        An earlier receiver of the same emission may have ended it: then the call goes where those
        that were kept before have gone. One that has committed or failed, and has not ended yet, is
        still waited for: until then the session takes no statement.
        """
        while transaction in self._released:
            transaction = self._released[transaction]
        if transaction not in self._ended:
            self._calls.setdefault(transaction, []).append(call)
            return True
        if transaction in self._committed:
            run_by_itself(call, lambda: sessions)
        else:
            call.drop()
        return False

    def committed(self, transaction: Any) -> None:
        """Hand a savepoint's calls to the transaction around it; mark a root's ready."""
        if not transaction.nested:
            self._committed.add(transaction)
            return
        self._released[transaction] = transaction.parent
        if transaction in self._calls:
            self._calls.setdefault(transaction.parent, []).extend(self._calls.pop(transaction))

    def ended(self, session: Session, transaction: Any) -> None:
        """Run the calls of a transaction that has committed; drop those of one that has not."""
        self._ended.add(transaction)
        calls = self._calls.pop(transaction, None)
        if calls is None:
            return
        if transaction in self._committed:
            _run(session, calls)
        else:
            for call in calls:
                call.drop()

    def withdraw(self, call: Call) -> bool:
        """Take a call out; tell whether it was still waiting."""
        for calls in self._calls.values():
            if call in calls:
                calls.remove(call)
                return True
        return False


def _run(session: Session, calls: list[Call]) -> None:
    """Run calls whose transaction has committed, in the order in which they were sent.

    Nothing but a ``BaseException`` may reach ``commit()``, which has done its work: not even what
    fails around a receiver, in a teardown function or in a rollback.
    """
    # Until a block "with session.begin():" is left, the session would refuse every statement.
    block, session._trans_context_manager = session._trans_context_manager, None
    left = deque(sorted(calls, key=attrgetter("number")))
    try:
        while left:
            call = left.popleft()
            try:
                run_by_itself(call, lambda: [session])
            except Exception:
                logger.exception("What surrounds after-commit receiver %s failed", call.receiver)
    finally:
        session._trans_context_manager = block
        if left:  # after a KeyboardInterrupt or SystemExit
            logger.warning(
                "Interrupted after a commit, these receivers are not called: %s",
                ", ".join(f"{call.receiver} of signal {call.emission.signal!r}" for call in left),
            )
        for call in left:
            call.drop()


def run_by_itself(call: Call, sessions: Callable[[], list[Session]] = list) -> None:
    """Run a call, contained, in a transaction of its own in each of the sessions that it uses.

    What the receiver has begun is committed when it is done, and rolled back if it has failed, so
    that neither its neighbours nor the sender find anything of it in their session. What was open
    before is left alone.

    :param sessions: returns what it may use besides the app's sessions.
    """

    @contextmanager
    def own_transactions() -> Generator[None]:
        before = [(session, session.get_transaction()) for session in used()]

        def begun() -> list[Session]:
            return [
                session
                for session in used()
                if (transaction := session.get_transaction()) is not None
                and not any(known is session and was is transaction for known, was in before)
            ]

        try:
            yield
            for session in begun():
                session.commit()
        except BaseException:
            for session in begun():
                try:
                    session.rollback()
                except Exception:
                    logger.exception("The rollback after receiver %s failed", call.receiver)
            raise

    def used() -> list[Session]:
        return list({id(session): session for session in [*sessions(), *call.sessions()]}.values())

    call.run_contained(own_transactions)


KeptWatcher: TypeAlias = Callable[[Waiting, Call], None]
"""Told of each call that is kept for a commit."""


class OpenTransaction:
    """The innermost open transaction of a session, as an after-commit delivery waits for it."""

    __slots__ = ("_sessions", "_tell", "_transaction", "_waiting")

    def __init__(
        self,
        waiting: Waiting,
        sessions: list[Session],
        transaction: Any,
        tell: tuple[KeptWatcher, ...],
    ) -> None:
        self._waiting = waiting
        self._sessions = sessions
        self._transaction = transaction
        self._tell = tell

    def keep(self, call: Call) -> None:
        """Keep a call until the transaction has committed with all that is around it."""
        if self._waiting.keep(self._sessions, self._transaction, call):
            for tell in self._tell:
                tell(self._waiting, call)


def open_transaction(
    session: Session | None, tell: tuple[KeptWatcher, ...] = ()
) -> OpenTransaction | None:
    """Return the innermost open transaction of a session, or ``None`` if it has none.

    :param tell: called for each call that is kept for it.
    """
    plain = _plain_session(session)
    if plain is None:
        return None
    transaction = plain.get_nested_transaction() or plain.get_transaction()
    if transaction is None:
        return None
    waiting: Waiting | None = plain.info.get(_WAITING)
    if waiting is None:
        listen()  # if SQLAlchemy was imported after the receivers were connected
        waiting = plain.info[_WAITING] = Waiting()
    sessions = [plain] if plain is _current_of(session) else []  # an async one is its task's
    return OpenTransaction(waiting, sessions, transaction, tell)


def _plain_session(session: Any) -> Any:
    """Return the session behind an ``AsyncSession`` or a ``scoped_session``.

    :raises ConfigurationError: if it is no session.
    """
    session = _current_of(session)
    plain = getattr(session, "sync_session", session)
    if plain is not None and not hasattr(plain, "get_nested_transaction"):
        raise ConfigurationError(
            f"A function given to use_session returned {type_name(plain)}, which is no session; it "
            "must return the current Session, or None."
        )
    return plain


def _current_of(session: Any) -> Any:
    """Return the session that a ``scoped_session`` stands for here, without making one."""
    if _is_scoped(session):
        return session() if session.registry.has() else None
    return session


def _is_scoped(session: Any) -> bool:
    """Tell a ``scoped_session`` from a session; a mapped class has a registry of another kind."""
    return callable(getattr(getattr(session, "registry", None), "has", None))


def waiting_in(session: Session | None) -> Waiting | None:
    """Return what waits for a session's transactions."""
    plain: Any = getattr(session, "sync_session", session)
    waiting: Waiting | None = None if plain is None else plain.info.get(_WAITING)
    return waiting


class SessionSource:
    """Where the current session is found, and the engines that it uses.

    :param session: returns the current session or ``None``.
    :param binds: returns what is known of its engines and connections, without opening any.
    :param every: returns every current session, where there may be several.
    """

    __slots__ = ("_binds", "_every", "_session")

    def __init__(
        self,
        session: Callable[[], Session | None],
        binds: Callable[[], Iterable[Any]],
        every: Callable[[], Iterable[Session]] | None = None,
    ) -> None:
        self._session = session
        self._binds = binds
        self._every: Callable[[], Iterable[Session | None]] = every or (lambda: [session()])

    def __call__(self) -> Session | None:
        """Return the current session, or ``None``; of several, one that has a transaction open."""
        return self._session()

    def plain_sessions(self) -> list[Session]:
        """Return the current sessions, but for async ones: these work in a task alone."""
        found = (_current_of(session) for session in self._every())
        return [
            _plain_session(session)
            for session in found
            if session is not None and not hasattr(session, "sync_session")
        ]

    def engines(self) -> list[Any]:
        """Return the engines, as far as they are known before there is a session."""
        return [_plain_engine(bind) for bind in self._binds() if bind is not None]


def _plain_engine(bind: Any) -> Any:
    """Return the engine of an engine or a connection, async or not."""
    bind = getattr(bind, "sync_engine", bind)
    return getattr(bind, "engine", bind)


def source_of(session: Any) -> SessionSource:
    """Return how to get at the current session.

    :param session: a ``scoped_session``, or a function that returns the current one or ``None``.
    :raises ConfigurationError: for anything else; a plain ``sessionmaker`` has no current session.
    """
    if _is_scoped(session):
        return _scoped(session, lambda: _configured_binds(session.session_factory))
    if callable(session) and not hasattr(session, "kw") and not isinstance(session, type):
        return SessionSource(session, lambda: [getattr(session(), "bind", None)])
    raise ConfigurationError(
        f"use_session cannot use {type_name(session)}: give it a scoped_session, or a function "
        "that returns the current Session or None, such as lambda: g.get('session')."
    )


def _scoped(session: Any, binds: Callable[[], Iterable[Any]]) -> SessionSource:
    """Return how to get at the session of a ``scoped_session``, without making one."""
    return SessionSource(lambda: _current_of(session), binds)


def _configured_binds(factory: Any) -> list[Any]:
    """Return what a ``sessionmaker`` gives its sessions to work with."""
    options = getattr(factory, "kw", {})
    return [options.get("bind"), *(options.get("binds") or {}).values()]


def session_of(app: Flask) -> SessionSource | None:
    """Find the session of Flask-SQLAlchemy or Flask-SQLAlchemy-Lite.

    :return: how to get at the current session, or ``None`` if the app has no such extension.
    """
    database = app.extensions.get("sqlalchemy")
    if database is None:
        return None
    if hasattr(type(database), "get_session"):  # Lite: one a context, made when first asked for
        return SessionSource(
            lambda: next((s for s in _lite_sessions() if s.in_transaction()), None),
            lambda: [*database.engines.values(), *database.async_engines.values()],
            _lite_sessions,
        )
    return _scoped(database.session, lambda: [*database.engines.values()])


def _lite_sessions() -> list[Session]:
    """Return Flask-SQLAlchemy-Lite's sessions of this context, async ones last.

    They are looked at where it keeps them: asking it for one would make it.
    """
    return [
        *g.get("_sqlalchemy_sessions", {}).values(),
        *g.get("_sqlalchemy_async_sessions", {}).values(),
    ]


def listen() -> None:
    """Listen to every session; called as an after-commit receiver connects.

    A send may come while a session is telling its listeners, and should not add to them. The kit is
    told of a commit before other listeners are: one that raises keeps it from those behind it.
    """
    from sqlalchemy import event
    from sqlalchemy.orm import Session as OrmSession

    if not event.contains(OrmSession, "after_commit", _after_commit):
        event.listen(OrmSession, "after_commit", _after_commit, insert=True)
        event.listen(OrmSession, "after_transaction_end", _after_transaction_end)


def _after_commit(session: Session) -> None:
    waiting: Waiting | None = session.info.get(_WAITING)
    if waiting is None:  # another listener may yet send, in the transaction that has committed
        waiting = session.info[_WAITING] = Waiting()
    waiting.committed(session.get_nested_transaction() or session.get_transaction())


def _after_transaction_end(session: Session, transaction: Any) -> None:
    waiting = waiting_in(session)
    if waiting is not None:
        waiting.ended(session, transaction)


def begin_immediate(engine: Any, mode: str = "IMMEDIATE") -> None:
    """Have an SQLite engine begin its transactions itself; pysqlite's own way breaks savepoints.

    :param engine: an ``Engine`` or ``AsyncEngine``; one that is not SQLite's is left alone.
    :param mode: ``"IMMEDIATE"``, ``"DEFERRED"`` or ``"EXCLUSIVE"``.
    :raises ConfigurationError: for another mode.
    """
    from sqlalchemy import event

    if mode not in {"IMMEDIATE", "DEFERRED", "EXCLUSIVE"}:
        raise ConfigurationError(
            f"SQLite has no transactions of mode {mode!r}; "
            "use 'IMMEDIATE', 'DEFERRED' or 'EXCLUSIVE'."
        )
    engine = getattr(engine, "sync_engine", engine)
    own = any(isinstance(listener, _Begin) for listener in engine.dispatch.begin)
    if engine.dialect.name == "sqlite" and not own:
        event.listen(engine, "begin", _Begin(mode))


class _Begin:
    """Begins the transactions of an SQLite engine, unless somebody else has."""

    def __init__(self, mode: str) -> None:
        self._mode = mode

    def __call__(self, connection: Any) -> None:
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            return
        if not connection.connection.driver_connection.in_transaction:
            connection.connection.dbapi_connection.isolation_level = None  # pysqlite begins nothing
            connection.exec_driver_sql(f"BEGIN {self._mode}")


def begins_itself(engine: Any) -> bool:
    """Tell whether somebody listens to the beginning of an engine's transactions."""
    return bool(getattr(engine, "sync_engine", engine).dispatch.begin)


def begins_late(engine: Any) -> bool:
    """Tell whether an engine leaves the beginning of its transactions to Python's SQLite driver."""
    return engine.dialect.name == "sqlite" and not begins_itself(engine)


def engine_label(engine: Any) -> str:
    """Name an engine by its URL, without what may be secret in it."""
    label: str = engine.url.set(query={}).render_as_string(hide_password=True)
    return label
