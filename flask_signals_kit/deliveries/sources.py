"""Where an app's SQLAlchemy sessions are found."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from flask import Flask, g

from ..errors import ConfigurationError, type_name

Session: TypeAlias = Any
"""A ``sqlalchemy.orm.Session``."""


def sessions_holding(values: Iterable[Any]) -> list[Session]:
    """Return the sessions of the model instances among these values.

    The session of an instance of an ``AsyncSession`` is the plain session inside it.
    """
    found: list[Session] = []
    for value in values:
        try:
            state: Any = getattr(value, "_sa_instance_state", None)
            if state is None:
                continue
            session = state.session
        except Exception:  # noqa: BLE001, S112  for example an unbound proxy
            continue
        # A mock has every attribute, but its type does not.
        if session not in found and hasattr(type(session), "get_nested_transaction"):
            found.append(session)
    return found


def is_async(session: Session) -> bool:
    """Tell whether a plain session belongs to an ``AsyncSession``."""
    asyncio = sys.modules.get("sqlalchemy.ext.asyncio")
    return asyncio is not None and asyncio.async_session(session) is not None


def in_greenlet() -> bool:
    """Tell whether an ``AsyncSession`` can be used here, as in its ``run_sync``."""
    concurrency = sys.modules.get("sqlalchemy.util.concurrency")
    return concurrency is not None and bool(concurrency.in_greenlet())


def current_of(session: Any, *, create: bool = False) -> Session | None:
    """Return the plain session behind a ``scoped_session``, an ``AsyncSession`` or a session.

    :param create: whether a ``scoped_session`` without a current session creates it.
    :return: ``None`` if there is no current one.
    :raises ConfigurationError: if it is not a session.
    """
    registry: Any = getattr(session, "registry", None)
    if callable(getattr(registry, "has", None)):  # a mapped class has a registry of another kind
        session = registry() if create or registry.has() else None
    plain = getattr(session, "sync_session", session)
    if plain is not None and not hasattr(plain, "get_nested_transaction"):
        raise ConfigurationError(
            f"A function given to use_session returned {type_name(plain)}, which is not a session; "
            "it must return the current Session, or None."
        )
    return plain


class SessionSource:
    """Finds the current session, and the engines that it uses.

    :param session: returns the current session, a ``scoped_session`` or ``None``.
    :param binds: returns its known engines and connections, without opening any.
    :param every: returns every current session, if there may be several.
    :param opens: returns the current session, and creates it if need be; else ``session`` does.
    """

    __slots__ = ("_binds", "_every", "_open", "_session")

    def __init__(
        self,
        session: Callable[[], Session | None],
        binds: Callable[[], Iterable[Any]],
        every: Callable[[], Iterable[Session]] | None = None,
        opens: Callable[[], Session | None] | None = None,
    ) -> None:
        self._session = session
        self._binds = binds
        self._open = opens or session
        self._every: Callable[[], Iterable[Session | None]] = every or (lambda: [session()])

    def __call__(self) -> Session | None:
        """Return the current session, a ``scoped_session`` for it, or ``None``.

        If there are several, it is one with an open transaction.
        """
        return self._session()

    def open(self) -> Session | None:
        """Return the current session; create it if the source can do so."""
        return current_of(self._open(), create=True)

    def sessions(self) -> list[Session]:
        """Return the current sessions; of an ``AsyncSession``, the plain session inside it."""
        return [session for session in map(current_of, self._every()) if session is not None]

    def plain_sessions(self) -> list[Session]:
        """Return the current sessions, except async ones, which work only in their task."""
        return [session for session in self.sessions() if not is_async(session)]

    def engines(self) -> list[Any]:
        """Return the engines that are known without a session."""
        return [_plain_engine(bind) for bind in self._binds() if bind is not None]


def _plain_engine(bind: Any) -> Any:
    """Return the engine of an engine or a connection, async or not."""
    bind = getattr(bind, "sync_engine", bind)
    return getattr(bind, "engine", bind)


def source_of(session: Any) -> SessionSource:
    """Return a source that finds the current session.

    :param session: a ``scoped_session``, or a function that returns the current one or ``None``.
    :raises ConfigurationError: for anything else; a plain ``sessionmaker`` has no current session.
    """
    if hasattr(session, "session_factory") and hasattr(session, "registry"):  # a scoped_session
        return SessionSource(lambda: session, lambda: _configured_binds(session.session_factory))
    if callable(session) and not hasattr(session, "kw") and not isinstance(session, type):
        return SessionSource(session, lambda: [getattr(session(), "bind", None)])
    raise ConfigurationError(
        f"use_session cannot use {type_name(session)}: give it a scoped_session, or a function "
        "that returns the current Session or None, such as lambda: g.get('session')."
    )


def _configured_binds(factory: Any) -> list[Any]:
    """Return the engines and connections that a ``sessionmaker`` configures."""
    options = getattr(factory, "kw", {})
    return [options.get("bind"), *(options.get("binds") or {}).values()]


def session_of(app: Flask) -> SessionSource | None:
    """Find the session of Flask-SQLAlchemy or Flask-SQLAlchemy-Lite.

    :return: a source that finds the current session, or ``None`` without such an extension.
    """
    database = app.extensions.get("sqlalchemy")
    if database is None:
        return None
    if hasattr(type(database), "get_session"):  # Lite: one per context, created on first use
        return SessionSource(
            lambda: next((s for s in _lite_sessions() if s.in_transaction()), None),
            lambda: [*database.engines.values(), *database.async_engines.values()],
            _lite_sessions,
            lambda: database.session if database.engines else None,
        )
    # Not its session now: a test may replace it.
    return SessionSource(lambda: database.session, lambda: [*database.engines.values()])


def _lite_sessions() -> list[Session]:
    """Return Flask-SQLAlchemy-Lite's sessions of this context, async ones last.

    They are read from its private attributes, because its methods would create a session.
    """
    return [
        *g.get("_sqlalchemy_sessions", {}).values(),
        *g.get("_sqlalchemy_async_sessions", {}).values(),
    ]
