"""The loop behind every send that is not a plain one: what an emission means, in one place."""

from __future__ import annotations

import logging
import sys
import types
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, NoReturn, TypeAlias, cast

from .callables import call_site, place_of, type_name, unwrap
from .calls import Call, Receiver, carried_emission
from .errors import AsyncReceiverError
from .links import Link
from .records import Deferred, Emission, Failed, Ok, Outcome
from .settings import OnError

logger = logging.getLogger("flask_signals_kit")

Results: TypeAlias = list[tuple[Receiver, Any]]
"""What a send returns: each receiver that ran and returned, with its result, in calling order."""

Wrapper: TypeAlias = Callable[[Receiver], Receiver]
"""Makes an async receiver callable, or a plain one awaitable."""

Status: TypeAlias = Literal["ok", "failed", "deferred", "skipped"]

Step: TypeAlias = tuple[Receiver, Status, Any, float]
"""One receiver's part: itself, what became of it, its result or exception, and its seconds."""


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What a signal's owner lends to its sends."""

    name: str
    """The signal's name."""
    on_error: OnError = "raise"
    """What a failing receiver does."""
    check_payload: Callable[[dict[str, Any]], None] | None = None
    """Raises for a payload that nobody declared."""
    async_wrapper: Wrapper | None = None
    """Used where the caller of ``send`` gives none."""
    sync_wrapper: Wrapper | None = None
    """Used where the caller of ``send_async`` gives none."""
    on_failure: Callable[[Exception, Receiver, Emission], None] | None = None
    """Told of each failure that is contained."""
    request: Callable[[], str | None] | None = None
    """Describes the current request."""
    app: Callable[[], Any] | None = None
    """Returns the app for a :class:`Call`."""


class Sending:
    """One emission on its way.

    :param around: the signal's surroundings.
    :param sender: who sends.
    :param payload: what is passed by name.
    :param on_error: the failure policy of this send.
    :param asynchronous: whether async receivers are awaited.
    :param wrapper: makes the other kind of receiver fit.
    """

    __slots__ = ("_emission", "around", "asynchronous", "on_error", "payload", "sender", "wrapper")

    def __init__(
        self,
        around: Surroundings,
        sender: Any,
        payload: dict[str, Any],
        on_error: OnError,
        asynchronous: bool,
        wrapper: Wrapper | None,
    ) -> None:
        self.around = around
        self.sender = sender
        self.payload = payload
        self.on_error = on_error
        self.asynchronous = asynchronous
        self.wrapper = wrapper
        self._emission: Emission | None = None

    @property
    def emission(self) -> Emission:
        """The record of this emission, made when the loop first needs it."""
        return self.emission_from(sys._getframe())

    def emission_from(self, frame: types.FrameType) -> Emission:
        """Return the record of this emission.

        :param frame: the frame of the send, or of something that it called within the kit.
        """
        if self._emission is None:
            around = self.around
            self._emission = Emission(
                signal=around.name,
                sender=type_name(unwrap(self.sender)),
                payload=tuple(self.payload),
                site=call_site(frame),
                request=None if around.request is None else around.request(),
            )
        return self._emission

    async def run(self, links: Iterable[Link]) -> list[Step]:
        """Call each receiver in turn.

        It is a coroutine so that plain and async sends share it; where nothing is awaited it never
        waits, and :func:`finish` runs it to its end in one step.
        """
        steps: list[Step] = []
        plain = not self.asynchronous
        for link in links:
            receiver = link.receiver() if link.weak else link.receiver
            if receiver is None:
                continue
            status: Status = "ok"
            started = perf_counter()
            try:
                if link.plain and plain:
                    value = receiver(self.sender, **self.payload)
                else:
                    status, value = await self._call_specially(link, receiver)
            except Exception as error:  # noqa: BLE001  the policy decides what becomes of it
                steps.append((receiver, "failed", error, perf_counter() - started))
                if self.on_error == "raise":
                    break
                if self.on_error == "isolate":
                    self._contain(error, receiver)
            else:
                if status != "skipped":
                    steps.append((receiver, status, value, perf_counter() - started))
        return steps

    async def _call_specially(self, link: Link, receiver: Receiver) -> tuple[Status, Any]:
        """Call a receiver that has a predicate or a delivery, or that is of the other kind."""
        sender, payload = self.sender, self.payload
        if link.when is not None and not link.when(sender, **payload):
            return "skipped", None
        if link.delivery is not None:
            call = self._call(link, receiver)
            link.delivery.deliver(call)
            return ("ok", call.value) if call.has_run else ("deferred", link.delivery.name)
        if link.is_async:
            if self.asynchronous:
                return "ok", await receiver(sender, **payload)
            token = carried_emission.set(self.emission)  # the wrapper may well use another thread
            try:
                return "ok", (self.wrapper or _refuse_async)(receiver)(sender, **payload)
            finally:
                carried_emission.reset(token)
        if not self.asynchronous or self.wrapper is run_directly:
            return "ok", receiver(sender, **payload)
        return "ok", await (self.wrapper or _refuse_sync)(receiver)(sender, **payload)

    def _call(self, link: Link, receiver: Receiver) -> Call:
        around = self.around
        return Call(
            receiver=receiver,
            sender=self.sender,
            payload=self.payload,
            emission=self.emission,
            connection=link.describe(around.name),
            app=None if around.app is None else around.app(),
            wrap=(around.async_wrapper or _refuse_async) if link.is_async else None,
        )

    def _contain(self, error: Exception, receiver: Receiver) -> None:
        """Report a failure that goes no further: to the log, and to whoever asked to be told."""
        place, emission = place_of(receiver), self.emission
        logger.error(
            "Receiver %s of signal %r failed; it was sent from %s",
            place,
            emission.signal,
            emission.site,
            exc_info=error,
            extra={
                "signals_kit_signal": emission.signal,
                "signals_kit_receiver": f"{place.module}.{place.name}",
                "signals_kit_site": str(emission.site),
            },
        )
        if self.around.on_failure is not None:
            self.around.on_failure(error, receiver, emission)


def results(steps: list[Step], on_error: OnError, name: str) -> Results:
    """Return what a send returns, or raise what it raises."""
    failures = [value for _, status, value, _ in steps if status == "failed"]
    if failures and on_error == "raise":
        raise failures[0]
    if failures and on_error == "group":
        noun = "receiver" if len(failures) == 1 else "receivers"
        raise ExceptionGroup(f"{len(failures)} {noun} of signal {name!r} failed", failures)
    return [(receiver, value) for receiver, status, value, _ in steps if status == "ok"]


def outcomes(steps: list[Step]) -> list[Outcome[Any]]:
    """Return what a robust send returns."""
    made: list[Outcome[Any]] = []
    for receiver, status, value, seconds in steps:
        if status == "failed":
            made.append(Failed(receiver=receiver, exception=value, duration=seconds))
        elif status == "deferred":
            made.append(Deferred(receiver=receiver, delivery=value))
        else:
            made.append(Ok(receiver=receiver, value=value, duration=seconds))
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
