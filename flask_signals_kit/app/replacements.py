"""Which connections of a registry a new one replaces, and whose order it takes over."""

from __future__ import annotations

import threading
import types
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ..core.introspection import locate, reload_key, reloaded
from ..errors import DuplicateReceiverError
from ..records import same_function

if TYPE_CHECKING:
    from ..core.connection import Connections, LiveConnection


class Replacements:
    """Finds the connections that a new one replaces.

    With a ``uid``, a receiver replaces the function that has this ``uid``. Otherwise it replaces
    the same function of a module that was reloaded. Closures that one loop makes share a code
    object; they do not replace each other.

    :param connections: the connections of the registry.
    :param lock: the lock of the registry; the callers of the methods hold it, but for
        :meth:`forget_uid`.
    """

    def __init__(self, connections: Connections, lock: threading.RLock) -> None:
        self._connections = connections
        self._lock = lock
        self._by_uid: dict[str, weakref.WeakSet[LiveConnection]] = {}
        self._codes: dict[int, Any] = {}  # the last code of each function, by hash
        self._orders: dict[object, list[int]] = {}  # of replaced connections, for the next ones

    def with_uid(self, uid: str) -> list[LiveConnection]:
        """Return the connections that have a ``uid``."""
        stored = list(self._by_uid.get(uid, ()))
        return [c for c in stored if self._connections.find(c) is c and c.is_alive]

    def add(self, connection: LiveConnection) -> list[LiveConnection]:
        """Store a new connection in place of those that it replaces, with the order of one of them.

        :return: the replaced connections.
        """
        receiver, uid = connection.key[0], connection.options.uid
        former = [] if uid is None else [c for c in self.with_uid(uid) if c.key[0] != receiver]
        code, number = _code_of(connection)
        if number is not None and self._codes.setdefault(number, code) is not code:
            self._codes[number] = code
            is_former = reloaded(connection.resolve())
            former += [c for c in self._connections if c not in former and is_former(c.resolve())]
        for other in sorted(former, key=lambda former: former.order):
            self._orders.setdefault(_order_key(other), []).append(other.order)
        if self._orders and (orders := self._orders.get(_order_key(connection))):
            connection.order = orders.pop(0)
        replaced = self._connections.add(connection, former)
        if uid is not None:  # not before it is stored: the garbage collector may forget a uid
            self._by_uid.setdefault(uid, weakref.WeakSet()).add(connection)
        return replaced

    def forget_orders(self, connection: LiveConnection, replaced: Iterable[LiveConnection]) -> None:
        """Let no later connection take over the orders of those that are not replaced after all."""
        for other in replaced:
            orders = self._orders.get(_order_key(other), [])
            if other.order in orders:
                orders.remove(other.order)
        _, number = _code_of(connection)
        if number in self._codes:
            self._codes[number] = None  # look for former connections at the next attempt

    def forget_uid(self, connection: LiveConnection) -> None:
        """Drop the ``uid`` of a connection that ended, if no other connection has it.

        The garbage collector calls this, too, so it does not wait for the lock.
        """
        uid = connection.options.uid
        if uid is not None and self._lock.acquire(blocking=False):
            try:
                if not self.with_uid(uid):
                    self._by_uid.pop(uid, None)
            finally:
                self._lock.release()

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present state, after the connections."""
        codes = self._codes.copy()
        orders = {key: numbers.copy() for key, numbers in self._orders.items()}

        def restore() -> None:
            self._codes, self._orders, self._by_uid = codes, orders, {}
            for connection in self._connections:
                if (uid := connection.options.uid) is not None:
                    self._by_uid.setdefault(uid, weakref.WeakSet()).add(connection)

        return restore


def check_uid(connection: LiveConnection, among: Iterable[Replacements]) -> None:
    """Refuse a ``uid`` that another function has.

    :param among: the replacements of the kit and its apps.
    :raises DuplicateReceiverError: naming both.
    """
    place, uid = connection.place, connection.options.uid
    for other in (found for each in among for found in each.with_uid(uid or "")):
        if not same_function(other.place, place):
            raise DuplicateReceiverError(
                f"Receiver {place} cannot have uid={uid!r} on signal {connection.target!r}: "
                f"{other.place} already has it on {other.target!r}. Give one of them another uid."
            )


def _code_of(connection: LiveConnection) -> tuple[types.CodeType | None, int | None]:
    """Return a receiver's code, and the hash of the key that it shares with its reloaded version.

    The key itself would take as much memory as the connection.
    """
    place, code = locate(connection.resolve())
    key = reload_key(place, code)
    return code, None if key is None else hash(key)


def _order_key(connection: LiveConnection) -> object:
    """Return the key by which the connection of a reloaded function takes over an order."""
    place = connection.place
    return connection.target, connection.key[1], place.module, place.name
