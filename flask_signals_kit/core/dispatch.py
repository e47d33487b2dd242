"""The one loop of every send that is not plain."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Coroutine, Hashable, Iterable
from inspect import isawaitable
from itertools import accumulate, count
from operator import itemgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from ..records import Deferred, Emission, Failed, Ok, OnError, Outcome, Receiver, Status
from .connection import NO_SESSION
from .delivery import Call, LateResult, add_note, note_unusable, report
from .introspection import (
    LazyEmission,
    Parent,
    carried_emission,
    find_caller,
    parent_emission,
    sender_behind,
)
from .observation import Observation, notify_observers
from .scopes import scopes

if TYPE_CHECKING:
    from .connection import LiveConnection
    from .delivery import Transaction
    from .environment import SignalContext
    from .observation import Details
    from .plan import Plan, Roster

Wrapper: TypeAlias = Any
"""Makes an async receiver callable, or a plain one awaitable: ``wrapper(receiver)``."""

Results: TypeAlias = "list[tuple[Receiver, Any]]"
"""The result of a send: each receiver that ran and returned, with its result, in calling order."""

Step: TypeAlias = "tuple[LiveConnection, Receiver, Status, Any, float]"
"""One receiver's part: connection, receiver, status, result or exception, seconds."""

Transactions: TypeAlias = "dict[Any, Transaction | None]"
"""The open transactions that deliveries may wait for, by the ``session`` of the delivery."""

_numbers = count(1)


def next_number() -> int:
    """Return a number that is higher than those of all emissions so far."""
    return next(_numbers)


_connection_of = itemgetter(0)
_seconds_of = itemgetter(4)

logger: logging.Logger = logging.getLogger("flask_signals_kit")


class Dispatch:
    """The dispatch of one emission.

    :param context: the signal's context.
    :param plan: the signal's plan; not kept: it references receivers that this send may not reach.
    :param sender: the sender.
    :param payload: the payload, by name.
    :param asynchronous: whether async receivers are awaited.
    :param wrapper: the wrapper that the caller passed, or ``None``.
    :param robust: whether every failure is isolated, regardless of the policies.
    """

    __slots__ = (
        "_called",
        "_emission",
        "_is_refused",
        "_robust",
        "_transactions",
        "asynchronous",
        "connections",
        "context",
        "fatal",
        "muted",
        "number",
        "on_error",
        "payload",
        "roster",
        "sender",
        "steps",
        "wrapper",
    )

    def __init__(
        self,
        context: SignalContext,
        plan: Plan,
        sender: Any,
        payload: dict[str, Any],
        asynchronous: bool,
        wrapper: Wrapper | None,
        robust: bool = False,
    ) -> None:
        if plan.check_payload is not None:
            plan.check_payload(payload)
        blocks = scopes.get()
        reached = plan.any_sender if plan.is_uniform else plan.reached(sender, blocks)
        self.muted: dict[int, str] | None = None
        """Why it does not call some connections that it reaches, by the order of each."""
        if plan.restrictions:
            limits = [limit for limit in plan.restrictions if limit.scope in blocks]
            muted = {c.order: r.reason for c in reached for r in limits if not r.allows(c)}
            reached, self.muted = tuple(c for c in reached if c.order not in muted), muted
        self.connections: tuple[LiveConnection, ...] = reached
        """The connections that it calls, in calling order."""
        self.context: SignalContext = context
        self.on_error: OnError = plan.on_error
        self.roster: Roster | None = plan.roster
        """Every connection of the signal, or ``None`` without observers and journal."""
        self.sender: Any = sender
        self.payload: dict[str, Any] = payload
        self.asynchronous: bool = asynchronous
        self.wrapper: Wrapper | None = wrapper
        self.steps: list[Step] = []
        self.number: int = next(_numbers)
        self.fatal: bool = False  # the last failure cannot be contained
        self._robust = robust
        self._emission: LazyEmission | None = None
        self._transactions: Transactions = {}
        self._is_refused = False  # the last message could not be stored
        self._called: set[Hashable] | None = None  # receivers that have passed a predicate

    @property
    def emission(self) -> Emission:
        """The record of this emission, created on first use."""
        return self.emission_from(sys._getframe()).emission

    def emission_from(self, frame: types.FrameType) -> LazyEmission:
        """Return the lazy record of this emission; create it at the first call.

        :param frame: the frame of the send, or of a function of the kit that it called.
        """
        if self._emission is None:
            name, environment = self.context.name, self.context.environment
            number = None if environment.journal is None else self.number
            self._emission = LazyEmission(
                name, self.sender, self.payload, environment.request(), find_caller(frame), number
            )
        return self._emission

    async def run(self) -> list[Step]:
        """Call the receivers one after the other.

        This is a coroutine so that plain and async sends can share it. If nothing is awaited, it
        never suspends, and :func:`finish` runs it in one step.
        """
        steps, plain = self.steps, not self.asynchronous
        self._transactions = _find_transactions(
            self.context, self.connections, self.sender, self.payload
        )
        started = perf_counter()
        value: Any = None
        propagates = False
        outer = self._carry() if self.asynchronous else None
        parent = parent_emission.get()
        left = iter(self.connections)
        try:
            for connection in left:
                receiver = connection.receiver() if connection.weak else connection.receiver
                if receiver is None or (self._called and connection.key[0] in self._called):
                    continue
                status: Status = "ok"
                parent_emission.set((self.number, connection.order))
                began = perf_counter()
                try:
                    if plain and connection.is_plain:
                        value = receiver(self.sender, **self.payload)
                    else:
                        done, value = self._call_specially(connection, receiver)
                        status, value = ("ok", await value) if done is None else (done, value)
                except BaseException as error:
                    status, value = "failed", error
                    if not isinstance(error, Exception) or isinstance(error, RecursionError):
                        propagates = True
                        steps.append((connection, receiver, status, error, perf_counter() - began))
                        self._report_grouped()
                        raise
                steps.append((connection, receiver, status, value, perf_counter() - began))
                if status == "failed" and not self._continues_after(value, connection, receiver):
                    break
        finally:
            value = None  # as in `results`
            # A coroutine may be closed in another context, where a token would be invalid.
            if self.asynchronous and carried_emission.get() is self._emission:
                carried_emission.set(outer)
            current = parent_emission.get()
            if current is not None and current[0] == self.number:  # as above
                parent_emission.set(parent)
            if self.roster is not None:
                self._notify_observers(started, parent, left)
            if propagates:
                steps.clear()
        return steps

    def _carry(self) -> LazyEmission | None:
        """Set the emission for the tasks that receivers start; return the previous value."""
        outer = carried_emission.get()
        carried_emission.set(self.emission_from(sys._getframe()))
        return outer

    def _continues_after(
        self, error: Exception, connection: LiveConnection, receiver: Receiver
    ) -> bool:
        """Apply the failure policy; tell whether the next receiver is called.

        This is not called for a ``RecursionError``: to continue with the next receiver, which sends
        again as well, would double the work at each level of the recursion.
        """
        policy = self._policy(connection)
        if policy == "raise":
            self._report_grouped()
            return False
        add_note(error, self.emission)
        if self._is_fatal(error, receiver):
            self.fatal = True
            self._report_grouped()
            return False
        if policy == "isolate":
            report(error, self.context, receiver, self.emission, "receiver")
        return True

    def _is_fatal(self, error: Exception, receiver: Receiver) -> bool:
        """Tell whether a failure cannot be contained; if so, report it and add a note.

        Without its message, a durable receiver would not run although the sender commits. If the
        sender continued with an unusable transaction, its commit would store nothing. The
        other receivers could only fail as well.
        """
        if self._is_refused:
            report(error, self.context, receiver, self.emission, "receiver")
            return True
        sessions = self.context.environment.sessions
        if sessions is None or not sessions.has_unusable_transaction(self.sender, self.payload):
            return False
        if note_unusable(error, receiver):  # not yet reported by a nested send
            report(error, self.context, receiver, self.emission, "receiver")
        return True

    def _report_grouped(self) -> None:
        """Report the failures of a group that is not raised because another exception is raised."""
        for connection, receiver, status, error, _ in self.steps[:-1]:
            if status == "failed" and self._policy(connection) == "group":
                report(error, self.context, receiver, self.emission, "receiver")

    def _policy(self, connection: LiveConnection) -> OnError:
        return "isolate" if self._robust else connection.options.on_error or self.on_error

    def _notify_observers(
        self, started: float, parent: Parent | None, not_reached: Iterable[LiveConnection]
    ) -> None:
        steps = self.steps
        connections = (*map(_connection_of, steps), *not_reached)
        times = list(accumulate(map(_seconds_of, steps), initial=started))
        exceptional: dict[int, tuple[Status, Any]] = {
            i: (s, v) for i, (_, _, s, v, _) in enumerate(steps) if s != "ok"
        }
        emission = self._emission
        caller = find_caller(sys._getframe(1)) if emission is None else emission.caller
        details = (
            self.sender,
            self.payload,
            connections,
            times,
            exceptional,
            caller,
            self.number,
            parent,
            self.muted,
        )
        _notify(self.context, self.roster, details)
        exceptional.clear()  # as in `results`

    def _call_specially(
        self, connection: LiveConnection, receiver: Receiver
    ) -> tuple[Status | None, Any]:
        """Call a receiver that has a predicate or a delivery, or needs a wrapper.

        If the returned status is ``None``, the caller must await the value. It is not awaited here,
        because a coroutine turns a receiver's ``StopIteration`` into another error.
        """
        sender, payload, options = self.sender, self.payload, connection.options
        if options.when is not None:
            if self._called is None:
                self._called = set()
            self._called.add(connection.key[0])  # also if the predicate raises
            if not options.when(sender, **payload):
                self._called.discard(connection.key[0])
                return "skipped", None
        if options.delivery is not None:
            emission = self._emission or self.emission_from(sys._getframe(2))
            transaction = self._transactions.get(connection.session)
            call = Call(
                self.context,
                connection,
                receiver,
                sender,
                payload,
                emission,
                transaction,
                self.number,
                None if self.roster is None else LateResult(),
                retains_failure=True,
            )
            try:
                options.delivery.deliver(call)
            except BaseException:
                self._is_refused = call.is_refused
                raise
            return call.outcome()
        environment = self.context.environment
        if connection.is_async:
            if self.asynchronous:
                return None, receiver(sender, **payload)
            token = carried_emission.set(
                self.emission_from(sys._getframe())
            )  # the wrapper may use another thread
            try:
                return "ok", (self.wrapper or environment.make_sync)(receiver)(sender, **payload)
            finally:
                carried_emission.reset(token)
        if not self.asynchronous:
            return "ok", receiver(sender, **payload)
        wrapped = (self.wrapper or environment.make_async)(receiver)
        value = wrapped(sender, **payload)
        if wrapped is receiver:
            return None if isawaitable(sender_behind(value)) else "ok", value
        return None, value

    def results(self) -> Results:
        """Return the result of the send, or raise its exception.

        The steps are cleared: if a frame in the traceback of an exception referenced the exception,
        only the garbage collector could free it, and the request with it.
        """
        steps = self.steps
        sent: Results = []
        failed: list[tuple[OnError, Any]] = []
        for connection, receiver, status, value, _ in steps:
            if status == "ok":
                sent.append((receiver, value))
            elif status == "failed":
                failed.append((self._policy(connection), value))
        steps.clear()
        if not failed:
            return sent
        value = None
        grouped = [error for policy, error in failed if policy == "group"]
        try:
            if self.fatal or (failed[-1][0] == "raise"):  # no receiver runs after it
                raise failed[-1][1]
            if grouped:
                noun = "receiver" if len(grouped) == 1 else "receivers"
                name = self.context.name
                raise ExceptionGroup(f"{len(grouped)} {noun} of signal {name!r} failed", grouped)
        finally:
            del failed, grouped
        return sent

    def outcomes(self) -> list[Outcome[Any]]:
        """Return the result of a robust send, or raise a failure that it cannot contain."""
        if self.fatal:
            self.results()
        made: list[Outcome[Any]] = []
        for connection, receiver, status, value, seconds in self.steps:
            if status in {"failed", "contained"}:
                made.append(Failed(receiver=receiver, exception=value, duration=seconds))
            elif status == "deferred":
                delivery = connection.options.delivery.name
                made.append(Deferred(receiver=receiver, delivery=delivery))
            elif status == "ok":
                made.append(Ok(receiver=receiver, value=value, duration=seconds))
        self.steps.clear()  # as in `results`
        return made


def send_with_deliveries(
    context: SignalContext,
    connections: Iterable[LiveConnection],
    sender: Any,
    payload: dict[str, Any],
) -> Results:
    """Call plain receivers, and give the calls of the others to their deliveries.

    This does the same as a :class:`Dispatch` without predicates, policies and observers, in less
    time. After-commit receivers are the most frequent reason for a send that is not plain.
    """
    try:
        frame = sys._getframe(3)
    except ValueError:  # a thread or greenlet that runs nothing but this send
        frame = None
    request = context.environment.request()
    emission = LazyEmission(context.name, sender, payload, request, find_caller(frame))
    transactions = _find_transactions(context, connections, sender, payload)
    number = next(_numbers)
    sent: Results = []
    for connection in connections:
        receiver = connection.receiver() if connection.weak else connection.receiver
        delivery = connection.options.delivery
        if receiver is None:
            continue
        if delivery is None:
            sent.append((receiver, receiver(sender, **payload)))
            continue
        transaction = transactions.get(connection.session)
        call = Call(context, connection, receiver, sender, payload, emission, transaction, number)
        delivery.deliver(call)
        if call._status == "ok":
            sent.append((receiver, call.value))
    return sent


def _find_transactions(
    context: SignalContext,
    connections: Iterable[LiveConnection],
    sender: Any,
    payload: dict[str, Any],
) -> Transactions:
    """Find the open transactions of the deliveries.

    Call this before any receiver runs: a receiver that reads the database begins a transaction.
    """
    found: Transactions = {}
    sessions = context.environment.sessions
    if sessions is None:
        return found
    for connection in connections:
        session = connection.session
        if session is not NO_SESSION and session not in found:
            found[session] = sessions.transaction(session, sender, payload)
    return found


def send_observed(
    context: SignalContext,
    plan: Plan,
    sender: Any,
    payload: dict[str, Any],
    frame: types.FrameType,
) -> Results:
    """Call plain receivers, and notify the observers."""
    sent: Results = []
    connections = plan.any_sender
    number, parent = next(_numbers), parent_emission.get()
    token = parent_emission.set((number, None))
    exceptional: dict[int, tuple[Status, Any]] | None = None
    times = [perf_counter()]
    try:
        for receiver in plan.plain_receivers:
            sent.append((receiver, receiver(sender, **payload)))
            times.append(perf_counter())
    except BaseException as error:
        times.append(perf_counter())
        exceptional = {len(sent): ("failed", error)}
        raise
    finally:
        parent_emission.reset(token)
        caller = find_caller(frame)
        _notify(
            context,
            plan.roster,
            (sender, payload, connections, times, exceptional, caller, number, parent, None),
        )
        exceptional = None  # as in `results`
    return sent


def _notify(context: SignalContext, roster: Roster | None, details: Details) -> None:
    """Record an emission that is over in the journal, and call the signal's observers."""
    journal = context.environment.journal
    if roster is None:
        return
    if journal is not None:
        try:
            journal.record(context, roster, details)
        except Exception:
            logger.exception("The journal cannot record an emission of signal %r", context.name)
    if context.observers:
        notify_observers(Observation(context, roster, details))


def finish(run: Coroutine[Any, Any, list[Step]]) -> None:
    """Run a coroutine that never suspends."""
    try:
        run.send(None)
    except StopIteration:
        return
    run.close()
    raise AssertionError("a plain send waited")
