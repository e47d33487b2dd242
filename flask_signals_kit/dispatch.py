"""The loop behind every send that is not a plain one: what an emission means, in one place."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Coroutine, Hashable, Iterable, Iterator
from inspect import isawaitable
from itertools import accumulate, count
from time import perf_counter
from typing import Any, NoReturn, TypeAlias, cast

from .callables import call_site, place_of, sender_behind, type_name
from .calls import (
    Call,
    Receiver,
    Status,
    Surroundings,
    Transaction,
    Wrapper,
    carried_emission,
    contain,
    note,
    note_unusable,
)
from .errors import AsyncReceiverError
from .links import Link
from .records import Connection, Deferred, Emission, Failed, Ok, OnError, Outcome, Place

logger: logging.Logger = logging.getLogger("flask_signals_kit")

Results: TypeAlias = list[tuple[Receiver, Any]]
"""What a send returns: each receiver that ran and returned, with its result, in calling order."""

CHAIN = 8
"""How many signals a note on a recursion names."""


Step: TypeAlias = tuple[Link, Receiver, Status, Any, float]
"""One receiver's part: link, receiver, what became of it, its result or exception, seconds."""


_numbers = count()


class Sending:
    """One emission on its way.

    :param around: the signal's surroundings.
    :param sender: who sends.
    :param payload: what is passed by name.
    :param robust: whether every failure is isolated, whatever the policies are.
    :param asynchronous: whether async receivers are awaited.
    :param wrapper: makes the other kind of receiver fit.
    """

    __slots__ = (
        "_emission",
        "around",
        "asynchronous",
        "fatal",
        "heard",
        "number",
        "on_error",
        "payload",
        "robust",
        "sender",
        "steps",
        "transactions",
        "wrapper",
    )

    def __init__(
        self,
        around: Surroundings,
        sender: Any,
        payload: dict[str, Any],
        robust: bool,
        asynchronous: bool,
        wrapper: Wrapper | None,
    ) -> None:
        self.around: Surroundings = around
        self.sender: Any = sender
        self.payload: dict[str, Any] = payload
        self.on_error: OnError = around.on_error  # as it was when the send began
        self.robust: bool = robust
        self.asynchronous: bool = asynchronous
        self.wrapper: Wrapper | None = wrapper
        self._emission: Emission | None = None
        self.steps: list[Step] = []
        self.transactions: dict[Any, Transaction | None] = {}
        self.number: int = next(_numbers)
        self.fatal: bool = False  # the last failure cannot be contained
        self.heard: set[Hashable] | None = None  # whom a connection with a predicate has reached

    @property
    def emission(self) -> Emission:
        """The record of this emission, made when the loop first needs it."""
        return self.emission_from(sys._getframe())

    def emission_from(self, frame: types.FrameType) -> Emission:
        """Return the record of this emission.

        :param frame: the frame of the send, or of something that it called within the kit.
        """
        if self._emission is None:
            self._emission = make_emission(self.around, self.sender, self.payload, frame)
        return self._emission

    async def run(self, links: Iterable[Link]) -> list[Step]:  # noqa: PLR0912  the one loop
        """Call each receiver in turn.

        It is a coroutine so that plain and async sends share it; where nothing is awaited it never
        waits, and :func:`finish` runs it to its end in one step.
        """
        steps, plain = self.steps, not self.asynchronous
        if self.around.transaction is not None:
            self._find_transactions(links)
        started = perf_counter()
        value: Any = None
        goes_up = False
        outer = self._carry() if self.asynchronous else None
        try:
            for link in links:
                receiver = link.receiver() if link.weak else link.receiver
                if receiver is None or (self.heard and link.receiver_key in self.heard):
                    continue
                status: Status = "ok"
                began = perf_counter()
                try:
                    if link.plain and plain:
                        value = receiver(self.sender, **self.payload)
                    else:
                        done, value = self._call_specially(link, receiver)
                        status, value = ("ok", await value) if done is None else (done, value)
                except BaseException as error:
                    status, value = "failed", error
                    if not isinstance(error, Exception) or isinstance(error, RecursionError):
                        goes_up = True
                        steps.append((link, receiver, status, error, perf_counter() - began))
                        raise
                if status != "skipped":
                    steps.append((link, receiver, status, value, perf_counter() - began))
                if status == "failed" and not self._goes_on_after(value, link, receiver):
                    break
        finally:
            value = None  # as in `results`
            # Whoever steps or closes a coroutine may do it in another context: no token would do.
            if self.asynchronous and carried_emission.get() is self.emission:
                carried_emission.set(outer)
            if self.around.observers:
                self._tell_observers(started)
            if goes_up:
                steps.clear()
        return steps

    def _carry(self) -> Emission | None:
        """Set the emission for the tasks that receivers start; return what was set before."""
        outer = carried_emission.get()
        carried_emission.set(self.emission)
        return outer

    def _find_transactions(self, links: Iterable[Link]) -> None:
        """Look before any receiver runs: one that reads the database begins a transaction."""
        find = self.around.transaction
        for link in links:
            session = getattr(link.delivery, "session", self)
            if find is not None and session is not self and session not in self.transactions:
                self.transactions[session] = find(session, self.sender, self.payload)

    def policy(self, link: Link) -> OnError:
        """Return the failure policy that holds for a receiver in this emission."""
        return "isolate" if self.robust else link.on_error or self.on_error

    def _goes_on_after(self, error: Exception, link: Link, receiver: Receiver) -> bool:
        """Do with a failure what the policy says; tell whether the next receiver is called.

        A ``RecursionError`` does not come here. To go on with the next receiver, which sends again
        as well, would double the work at each level of the recursion.
        """
        policy = self.policy(link)
        if policy == "raise":
            self._report_grouped()
            return False
        note(error, self.emission)
        if self._is_fatal(error, receiver):
            self.fatal = True
            self._report_grouped()
            return False
        if policy == "isolate":
            contain(error, self.around, receiver, self.emission, "receiver")
        return True

    def _is_fatal(self, error: Exception, receiver: Receiver) -> bool:
        """Tell whether a failure cannot be contained; then report it, and say why.

        A sender that went on with an unusable transaction would come to a commit that stores
        nothing. The other receivers could only fail as well.
        """
        unusable = self.around.unusable
        if unusable is None or not unusable(self.sender, self.payload):
            return False
        if note_unusable(error, receiver):  # not yet raised by a send within the receiver
            contain(error, self.around, receiver, self.emission, "receiver")
        return True

    def _report_grouped(self) -> None:
        """Report the failures of a group that is not raised, as another exception is."""
        for link, receiver, status, error, _ in self.steps[:-1]:
            if status == "failed" and self.policy(link) == "group":
                contain(error, self.around, receiver, self.emission, "receiver")

    def _tell_observers(self, started: float) -> None:
        steps = self.steps
        watched = Watched(tuple(link for link, *_ in steps))
        times = list(accumulate((seconds for *_, seconds in steps), initial=started))
        odd: dict[int, tuple[Status, Any]] = {
            i: (s, v) for i, (_, _, s, v, _) in enumerate(steps) if s != "ok"
        }
        frame = sys._getframe(1)
        tell(Observation(self.around, self.sender, self.payload, watched, times, odd, frame))
        odd.clear()  # as in `results`

    def _call_specially(self, link: Link, receiver: Receiver) -> tuple[Status | None, Any]:
        """Call a receiver that has a predicate or a delivery, or that is of the other kind.

        Without a status, the value is still to be awaited; not here, since a coroutine turns a
        receiver's ``StopIteration`` into another error.
        """
        sender, payload = self.sender, self.payload
        if link.when is not None:
            if self.heard is None:
                self.heard = set()
            self.heard.add(link.receiver_key)  # also if the predicate fails: once is enough
            if not link.when(sender, **payload):
                self.heard.discard(link.receiver_key)
                return "skipped", None
        if link.delivery is not None:
            call = self._call(link, receiver)
            link.delivery.deliver(call)
            return call.outcome(link.delivery.name)
        if link.is_async:
            if self.asynchronous:
                return None, receiver(sender, **payload)
            token = carried_emission.set(self.emission)  # the wrapper may well use another thread
            try:
                return "ok", (self.wrapper or _refuse_async)(receiver)(sender, **payload)
            finally:
                carried_emission.reset(token)
        if not self.asynchronous:
            return "ok", receiver(sender, **payload)
        if self.wrapper is run_directly:
            value = receiver(sender, **payload)
            return None if isawaitable(sender_behind(value)) else "ok", value
        return None, (self.wrapper or _refuse_sync)(receiver)(sender, **payload)

    def _call(self, link: Link, receiver: Receiver) -> Call:
        around = self.around
        return Call(
            receiver=receiver,
            sender=self.sender,
            payload=self.payload,
            emission=self.emission,
            link=link,
            around=around,
            transaction=self.transactions.get(getattr(link.delivery, "session", self)),
            number=self.number,
            wrap=(around.late_async_wrapper or _refuse_async) if link.is_async else None,
        )


class Watched:
    """The links that observers see called, resolved once for every send until the next change."""

    __slots__ = ("links", "places", "receivers")

    def __init__(self, links: tuple[Link, ...]) -> None:
        self.links: tuple[Link, ...] = links
        self.receivers: tuple[Receiver, ...] = tuple(link.receiver for link in links)
        self.places: tuple[Place, ...] = tuple(link.where() for link in links)


NOBODY: Watched = Watched(())
"""What an observation has left of receivers when it is over."""


class Observation:
    """One emission that is over, as an observer sees it while it is called.

    Afterwards :attr:`emission` and :meth:`steps` raise ``RuntimeError``: take from them what is
    to be kept. What they are read from, receivers, exceptions and frames, is not kept here.

    :param around: the signal's surroundings.
    :param sender: who sent it.
    :param payload: what was passed.
    :param watched: whom it could reach, in order.
    :param times: when it began, and when each that was called was done, on ``time.perf_counter``.
    :param odd: for the index of each that did not simply return: what became of it, and why.
    :param frame: the frame of the send, or one that it called.
    """

    __slots__ = ("around", "frame", "odd", "payload", "sender", "times", "watched")

    def __init__(
        self,
        around: Surroundings,
        sender: Any,
        payload: dict[str, Any],
        watched: Watched,
        times: list[float],
        odd: dict[int, tuple[Status, Any]] | None,
        frame: types.FrameType,
    ) -> None:
        self.around: Surroundings = around
        self.sender: Any = sender
        self.payload: dict[str, Any] = payload
        self.watched: Watched = watched
        self.times: list[float] = times
        self.odd: dict[int, tuple[Status, Any]] | None = odd
        self.frame: types.FrameType | None = frame

    @property
    def signal(self) -> str:
        """The signal's name."""
        return self.around.name

    @property
    def emission(self) -> Emission:
        """The record of the emission."""
        return make_emission(self.around, self.sender, self.payload, self._send())

    @property
    def started(self) -> float:
        """When it began, on the clock of ``time.perf_counter``, in seconds."""
        return self.times[0]

    @property
    def duration(self) -> float:
        """How long all of it took, in seconds."""
        return self.times[-1] - self.times[0]

    def steps(self) -> Iterator[tuple[Connection, Status, float, Exception | None]]:
        """Yield each receiver's connection, what became of it, its seconds and its exception."""
        self._send()
        for index, link in enumerate(self.watched.links[: len(self.times) - 1]):
            self._send()
            status, value = (self.odd or {}).get(index, ("ok", None))
            error = value if status in {"failed", "contained"} else None
            seconds = self.times[index + 1] - self.times[index]
            yield link.describe(self.around.name), status, seconds, error

    def _send(self) -> types.FrameType:
        """Return the frame of the send, as long as there is one to look at."""
        if self.frame is None:
            raise RuntimeError(
                f"The observation of signal {self.around.name!r} is read after its observer has "
                "returned. Take what is to be kept while the observer runs, such as "
                "seen.emission or list(seen.steps())."
            )
        return self.frame


def send_watched(
    around: Surroundings,
    sender: Any,
    payload: dict[str, Any],
    watched: Watched,
    frame: types.FrameType,
) -> Results:
    """Call receivers that need nothing but a call, with observers looking on."""
    sent: Results = []
    times = [perf_counter()]
    odd: dict[int, tuple[Status, Any]] | None = None
    try:
        for receiver in watched.receivers:
            sent.append((receiver, receiver(sender, **payload)))
            times.append(perf_counter())
    except BaseException as error:
        times.append(perf_counter())
        odd = {len(sent): ("failed", error)}
        raise
    finally:
        tell(Observation(around, sender, payload, watched, times, odd, frame))
        odd = None  # as in `results`
    return sent


def tell(seen: Observation) -> None:
    """Tell the observers of a signal; they cannot hurt the sender."""
    try:
        for observer in seen.around.observers:
            try:
                observer(seen)
            except Exception:
                logger.exception("Observer %s of signal %r failed", place_of(observer), seen.signal)
    finally:  # an observer that keeps it keeps nothing of the send
        seen.frame = seen.odd = None
        seen.watched = NOBODY


def make_emission(
    around: Surroundings, sender: Any, payload: Iterable[str], frame: types.FrameType
) -> Emission:
    """Describe an emission.

    :param frame: the frame of the send, or of something that it called within the kit.
    """
    return Emission(
        signal=around.name,
        sender=type_name(sender_behind(sender)),
        payload=tuple(payload),
        site=call_site(frame),
        request=None if around.request is None else around.request(),
    )


def explain_recursion(error: RecursionError) -> None:
    """Add to Python's own error the chain of signals that led to it, innermost last.

    It may run out of stack itself; then the next send further up has another try.
    """
    if getattr(error, "__notes__", None):
        return
    chain: list[str] = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and len(chain) < CHAIN:
        if frame.f_code.co_name == "send":
            name = getattr(frame.f_locals.get("self"), "name", None)
            chain += [name] if isinstance(name, str) else []
        frame = frame.f_back
    error.add_note(f"Signals sent one within another: … → {' → '.join(reversed(chain))}.")


def results(sending: Sending) -> Results:
    """Return what a send returns, or raise what it raises.

    The frames that an exception has gone through must not hold it, or it, and the request with it,
    would wait for the garbage collector: so the steps are cleared.
    """
    steps = sending.steps
    failures = [
        (sending.policy(k), error) for k, _, status, error, _ in steps if status == "failed"
    ]
    grouped = [error for policy, error in failures if policy == "group"]
    sent = [(receiver, value) for _, receiver, status, value, _ in steps if status == "ok"]
    steps.clear()
    try:
        # No receiver runs after it.
        if failures and (sending.fatal or failures[-1][0] == "raise"):
            raise failures[-1][1]
        if grouped:
            noun = "receiver" if len(grouped) == 1 else "receivers"
            name = sending.around.name
            raise ExceptionGroup(f"{len(grouped)} {noun} of signal {name!r} failed", grouped)
    finally:
        del failures, grouped
    return sent


def outcomes(sending: Sending) -> list[Outcome[Any]]:
    """Return what a robust send returns, or raise what not even that contains."""
    if sending.fatal:
        results(sending)
    made: list[Outcome[Any]] = []
    steps = sending.steps
    for _, receiver, status, value, seconds in steps:
        if status in {"failed", "contained"}:
            made.append(Failed(receiver=receiver, exception=value, duration=seconds))
        elif status == "deferred":
            made.append(Deferred(receiver=receiver, delivery=value))
        else:
            made.append(Ok(receiver=receiver, value=value, duration=seconds))
    steps.clear()  # as in `results`
    return made


def finish(run: Coroutine[Any, Any, list[Step]]) -> list[Step]:
    """Run a coroutine that never waits to its end."""
    try:
        run.send(None)
    except StopIteration as stop:
        return cast("list[Step]", stop.value)
    run.close()
    raise AssertionError("a plain send waited")


def run_directly(receiver: Receiver) -> Receiver:
    """Stand for "no wrapper needed": ``send_async`` calls plain receivers as they are."""
    return receiver


def _refuse_async(receiver: Receiver) -> NoReturn:
    raise AsyncReceiverError(
        f"Receiver {place_of(receiver)} is async, and send() has no way to run it. "
        "Use 'await signal.send_async(...)', or pass send() an _async_wrapper."
    )


def _refuse_sync(receiver: Receiver) -> NoReturn:
    raise AsyncReceiverError(
        f"Receiver {place_of(receiver)} is not async, and send_async() has no way to await it. "
        "Pass send_async() a _sync_wrapper, or connect an async function."
    )
