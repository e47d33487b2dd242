"""The SQLAlchemy sessions of one app, for its after-commit receivers."""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from flask import Flask, has_app_context

from ..compat import active_contexts, call_inside, is_current
from ..deliveries.sources import (
    SessionSource,
    current_of,
    session_of,
    sessions_holding,
)
from ..deliveries.transactions import Pending, is_unusable, listen, pending_in
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..core.connection import LiveConnection
    from ..core.delivery import Call, Delivery, Transaction
    from .registry import Registry

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("flask_signals_kit")


KeptObserver: TypeAlias = Callable[["Pending | None", Any], None]
"""Called with each call that starts to wait for a commit, and each durable message: with the calls
of the transaction, or ``None`` for a message that is committed, and with the call."""


class _Observed:
    """A transaction whose calls the observers get."""

    def __init__(self, pending: Pending, kept: KeptObserver) -> None:
        self._pending = pending
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pending, name)

    def keep(self, call: Call) -> None:
        self._pending.keep(call)
        self._kept(self._pending, call)


class Sessions:
    """The sessions of one app: those set with ``use_session``, then that of its extension.

    :param app: a weak reference to the app.
    :param registry: the app's registry.
    """

    def __init__(self, app: weakref.ref[Flask], registry: Registry) -> None:
        self._app = app
        self._registry = registry
        self.kept_observers: tuple[KeptObserver, ...] = ()
        self._lock = Lock()
        self._extension: SessionSource | None = None

    def here(self) -> tuple[SessionSource, ...]:
        """Return the source of each session, in the current context."""
        app = self._app()
        return self._sources(app if app is not None and is_current(app) else None)

    def _sources(self, app: Flask | None) -> tuple[SessionSource, ...]:
        """Return the source of each session.

        :param app: the app, or ``None`` outside of its context: there, the session of an extension
            would be another app's.
        """
        own, kit = self._registry.chain
        named = own.sessions + kit.sessions
        if app is None:
            return named
        if self._extension is None:
            self._extension = session_of(app)
        return named if self._extension is None else (*named, self._extension)

    def current(self) -> list[Any]:
        """Return the current sessions, except async ones."""
        found: list[Any] = []
        self._search(lambda sources: found.extend(plain_sessions(sources)))
        return found

    def has_unusable_transaction(self, sender: Any, payload: dict[str, Any]) -> bool:
        """Tell whether the transaction of a sent instance, or of a current session, is unusable."""
        holding = sessions_holding((sender, *payload.values()))
        return any(map(is_unusable, holding)) or bool(self._search(_has_unusable_session))

    def transaction(
        self, session: Callable[[], Any] | None, sender: Any, payload: dict[str, Any]
    ) -> Transaction | None:
        """Return the open transaction that an after-commit receiver waits for.

        It is the transaction of the given session; else of the session that holds the sender or a
        model instance in the payload; else of the first of the app's sessions that has one.
        """
        pending: Pending | None
        if session is not None:
            pending = _first_open([session])
        elif holding := sessions_holding((sender, *payload.values())):
            pending = next(filter(None, map(pending_in, holding)), None)
        else:
            pending = self._search(_first_open)
        if pending is None or not self.kept_observers:
            return pending
        return _Observed(pending, self.notify_kept)

    def _search(self, find: Callable[[tuple[SessionSource, ...]], T | None]) -> T | None:
        """Return the first true result of a function that gets the sources of a context.

        It is called in each active context of this app, the innermost first; without one, in the
        current context.
        """
        app = self._app()
        is_here = app is not None and is_current(app)
        found = find(self._sources(app)) if is_here else None
        if found:  # the outer contexts are rarely needed
            return found
        outer = [context for context in islice(active_contexts(), 1, None) if context.app is app]
        for context in outer:
            found = call_inside(context, lambda: find(self._sources(app)))
            if found:
                return found
        return None if is_here or outer else find(self._sources(None))

    def engines(self, delivery: Delivery | None) -> list[Any]:
        """Return the engines of the sessions that a delivery may wait for.

        This opens no connection and creates no session. Outside the app's context the engines are
        not known, and the list is empty.
        """
        session, app = getattr(delivery, "session", self), self._app()
        if session is self or app is None or not is_current(app):
            return []
        found: list[Any] = []
        for source in self._sources(app) if session is None else [session]:
            if isinstance(source, SessionSource):
                with suppress(Exception):  # the user's function fails again in a send
                    found += source.engines()
        return found

    @contextmanager
    def observe_kept(self, observer: KeptObserver) -> Generator[None, None, None]:
        """Call a function for each call that starts to wait for a commit, in a ``with`` block."""
        with self._lock:
            self.kept_observers = (*self.kept_observers, observer)
        try:
            yield
        finally:
            with self._lock:
                self.kept_observers = tuple(w for w in self.kept_observers if w is not observer)

    def notify_kept(self, pending: Pending | None, call: Any) -> None:
        """Call the observers with a call that waits for a commit, or with a durable message."""
        for observer in self.kept_observers:
            observer(pending, call)

    def check(self, connection: LiveConnection) -> None:
        """Refuse a receiver that waits for a session if the app has none.

        :raises ConfigurationError: naming the receiver.
        """
        delivery, app = connection.options.delivery, self._app()
        if app is None or not getattr(delivery, "needs_session", False):
            return
        if not (self._sources(None) or session_of(app)):
            raise ConfigurationError(
                f"Receiver {connection.place} of signal {connection.target!r} has "
                f"delivery={delivery.name!r}, but app {app.name!r} has no SQLAlchemy session. "
                "Call db.init_app(app) before kit.init_app(app), "
                "or set one with kit.use_session(session)."
            )

    def prepare(self, connection: LiveConnection) -> None:
        """Listen to the events of SQLAlchemy sessions, if a receiver may wait for one."""
        if "sqlalchemy" in sys.modules and hasattr(connection.options.delivery, "session"):
            listen()


def plain_sessions(sources: Iterable[SessionSource]) -> list[Any]:
    """Return the current sessions, except async ones."""
    return _from_each(sources, SessionSource.plain_sessions)


def _has_unusable_session(sources: Iterable[SessionSource]) -> bool:
    return any(_from_each(sources, lambda source: [*map(is_unusable, source.sessions())]))


def _from_each(
    sources: Iterable[SessionSource], find: Callable[[SessionSource], list[Any]]
) -> list[Any]:
    found: list[Any] = []
    for source in sources:
        try:
            found += find(source)
        except Exception:  # for example a session that exists only in requests
            logger.debug("A session source failed", exc_info=True)
    return found


def _first_open(sources: Iterable[Callable[[], Any]]) -> Pending | None:
    """Return the transaction of the first session that has an open one."""
    for source in sources:
        try:
            session = current_of(source())
        except RuntimeError:  # a session that exists only in app contexts
            if has_app_context():
                raise
            continue
        pending = None if session is None else pending_in(session)
        if pending is not None:
            return pending
    return None
