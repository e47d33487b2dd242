"""Blinker's signals with connection order, priorities, nesting and fast planned dispatch.

:class:`Signal` and :class:`Namespace` extend ``blinker.NamedSignal`` and ``blinker.Namespace``.
They do not need Flask; an app's part is in an :class:`~.environment.Environment`.

How a send works: :mod:`.connectable` computes a plan when something has changed. Every later send
is one loop over the plan. A send that is not plain (with a predicate, an async receiver, a
delivery, a failure policy, …) uses the loop in :mod:`.dispatch` instead.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import blinker

from ..records import Outcome
from .connectable import ConnectableSignal
from .connection import LiveConnection
from .dispatch import Dispatch, Results, Wrapper, finish, send_observed, send_with_deliveries
from .environment import Environment, Restriction
from .introspection import explain_recursion, sender_key
from .observation import Observer, once, without
from .scopes import scope


class Signal(ConnectableSignal):
    """A ``blinker.NamedSignal`` with order, priorities, failure policies and fast dispatch.

    It behaves as blinker documents. In addition, receivers run by priority, then in connection
    order. ``muted()`` and ``connected_to()`` can be nested, and apply to the current thread or task
    only. Nothing remains of a collected receiver or sender. A send calls exactly the receivers that
    were connected when it began.

    :param name: the signal's name.
    :param doc: one sentence on what it means.
    :param on_error: the failure policy: ``"raise"``, ``"group"`` or ``"isolate"``.
    :param environment: the signal's environment; one without an app if omitted.
    :raises DeclarationError: for an unknown ``on_error``.

    >>> funded = Signal("account_funded")
    >>> _ = funded.connect(lambda account, **extra: f"{account} has money", weak=False)
    >>> [value for _, value in funded.send("acme", amount=5)]
    ['acme has money']
    """

    # -- observing ----------------------------------------------------------------------------

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call an observer with each emission, once it is over.

        An observer gets the emission, and the time and result of each receiver. It changes nothing;
        its exceptions are logged. Without observers, a send has no extra cost.

        :param observer: called with each :class:`~flask_signals_kit.Observation`.
        :return: a function that removes the observer.
        """
        with self._lock:
            self.context.observers = (*self.context.observers, observer)
        self.changed()
        return once(partial(self._unobserve, observer))

    def _unobserve(self, observer: Observer) -> None:
        with self._lock:
            self.context.observers = without(observer, self.context.observers)
        self.changed()

    # -- sending ------------------------------------------------------------------------------

    def send(
        self,
        sender: Any = None,
        /,
        *,
        _async_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> Results:
        """Call every receiver that is connected for this sender.

        :param sender: passed to each receiver as its positional argument.
        :param _async_wrapper: makes an async receiver callable.
        :param payload: passed to each receiver by name.
        :return: ``(receiver, result)`` for each receiver that ran and returned, in calling order.
        :raises Exception: what a receiver raised, depending on the signal's ``on_error``.
        :raises AsyncReceiverError: for an async receiver without a wrapper.
        """
        try:
            fast = self._fast
            if fast:
                return [(receiver, receiver(sender, **payload)) for receiver in fast]
            if fast is not None:
                return []
            return self._send(sender, payload, _async_wrapper)
        except RecursionError as error:
            explain_recursion(error)
            raise

    def _send(self, sender: Any, payload: dict[str, Any], wrapper: Wrapper | None) -> Results:
        plan = self._observed
        if plan is not None:
            try:
                frame = sys._getframe(2)  # of the caller, unless that is another send of the kit
            except ValueError:  # a thread or greenlet that runs nothing but this send
                frame = sys._getframe()
            return send_observed(self.context, plan, sender, payload, frame)
        plan = self._plan
        if plan is None or plan.version is not self._version:
            plan = self._make_plan()
        if plan.needs_dispatch:
            dispatch = Dispatch(self.context, plan, sender, payload, False, wrapper)
            del plan  # it references receivers that this send may not reach
            if dispatch.connections or dispatch.roster is not None:
                finish(dispatch.run())
            return dispatch.results()
        connections = plan.any_sender
        if not plan.is_uniform:
            connections = plan.connections_for(sender_key(sender))
        if plan.has_deliveries:
            del plan  # likewise
            return send_with_deliveries(self.context, connections, sender, payload)
        del plan
        return [
            (receiver, receiver(sender, **payload))
            for connection in connections
            if (receiver := connection.receiver() if connection.weak else connection.receiver)
            is not None
        ]

    async def send_async(
        self,
        sender: Any = None,
        /,
        *,
        _sync_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> Results:
        """Call every receiver that is connected for this sender, and await async ones in order.

        :param sender: as in :meth:`send`.
        :param _sync_wrapper: makes a plain receiver awaitable.
        :param payload: as in :meth:`send`.
        :return: as in :meth:`send`.
        :raises AsyncReceiverError: for a plain receiver without a wrapper.
        """
        dispatch = Dispatch(
            self.context, self._current_plan(), sender, payload, True, _sync_wrapper
        )
        await dispatch.run()
        return dispatch.results()

    def send_robust(
        self,
        sender: Any = None,
        /,
        *,
        _async_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> list[Outcome[Any]]:
        """Call every receiver and return an outcome for each; a failure does not stop the others.

        Failures are logged and given to the exception hooks. ``BaseException`` propagates.

        :param sender: as in :meth:`send`.
        :param _async_wrapper: as in :meth:`send`.
        :param payload: as in :meth:`send`.
        :return: an :class:`Ok`, :class:`Failed` or :class:`Deferred` for each receiver.
        """
        dispatch = Dispatch(
            self.context, self._current_plan(), sender, payload, False, _async_wrapper, True
        )
        finish(dispatch.run())
        return dispatch.outcomes()

    async def send_robust_async(
        self,
        sender: Any = None,
        /,
        *,
        _sync_wrapper: Wrapper | None = None,
        **payload: Any,
    ) -> list[Outcome[Any]]:
        """Do the same as :meth:`send_robust`, and await async receivers in order.

        :param sender: as in :meth:`send`.
        :param _sync_wrapper: as in :meth:`send_async`.
        :param payload: as in :meth:`send`.
        """
        dispatch = Dispatch(
            self.context, self._current_plan(), sender, payload, True, _sync_wrapper, True
        )
        await dispatch.run()
        return dispatch.outcomes()


class Namespace(blinker.Namespace):
    """A ``blinker.Namespace`` of :class:`Signal` objects.

    :param environment: the environment of its signals; one without an app if omitted.

    >>> shop = Namespace()
    >>> shop.signal("account_funded") is shop.signal("account_funded")
    True
    """

    def __init__(self, environment: Environment | None = None) -> None:
        super().__init__()
        self._environment = environment or Environment()
        self._observers: tuple[Observer, ...] = ()
        self._lock = threading.RLock()  # not held while a signal changes its observers

    def signal(self, name: str, doc: str | None = None) -> Signal:
        """Return the signal of this name; create it at the first call.

        :param name: the name.
        :param doc: one sentence on what it means; used only at the first call.
        """
        signal = self.get(name)
        if signal is None:
            made = Signal(name, doc, environment=self._environment)
            with self._lock:
                made.context.observers = self._observers  # later observers find the signal
                signal = self.setdefault(name, made)
        return cast(Signal, signal)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call an observer with each emission of every signal, including signals created later.

        :param observer: as for :meth:`Signal.observe`.
        :return: a function that removes the observer.
        """
        with self._lock:
            self._observers = (*self._observers, observer)
            signals = list(self.values())
        for signal in signals:
            cast(Signal, signal).observe(observer)
        return once(partial(self._unobserve, observer))

    def _restrict(
        self, change: Callable[[tuple[Restriction, ...]], tuple[Restriction, ...]]
    ) -> None:
        with self._lock:
            self._environment.restrictions = change(self._environment.restrictions)
            signals = list(self.values())
        for signal in signals:
            cast(Signal, signal).invalidate()

    def _unobserve(self, observer: Observer) -> None:
        with self._lock:
            self._observers = without(observer, self._observers)
            signals = list(self.values())
        for signal in signals:
            cast(Signal, signal)._unobserve(observer)


@contextmanager
def restricted(
    namespace: Namespace,
    applies_to: Callable[[str], bool],
    allows: Callable[[LiveConnection], bool],
    reason: str,
) -> Generator[None, None, None]:
    """Call only some receivers while a ``with`` block runs, in the current thread or task only.

    Blocks can be nested: then a receiver is called if each of them allows it.

    :param namespace: the namespace.
    :param applies_to: tells by the name of a signal whether its receivers are limited.
    :param allows: tells whether a connection is called.
    :param reason: why the others are muted.
    """
    with scope() as block:
        limit = Restriction(scope=block, reason=reason, applies_to=applies_to, allows=allows)
        namespace._restrict(lambda limits: (*limits, limit))
        try:
            yield
        finally:
            namespace._restrict(lambda limits: tuple(each for each in limits if each is not limit))
