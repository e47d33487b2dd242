"""The plain records that all modules share: places, connections, emissions, outcomes.

They hold strings and numbers, and an outcome also what the receiver returned or raised. They never
hold an app, a request or a sender, so a stored record keeps nothing else alive.

Records that are never compared have ``eq=False``: Python compiles each generated method of a
dataclass at import, and an extension should import fast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeAlias, TypeVar

R = TypeVar("R")

Receiver: TypeAlias = Callable[..., Any]
"""What can be connected: called as ``receiver(sender, **payload)``."""

AFTER_COMMIT = "after_commit"
"""The name of the delivery that waits for a commit."""

DURABLE = "durable"
"""The name of the delivery that stores the call in the database until the receiver has run."""

ASKED = "asked to be run again"
"""What is stored, with the place, of a durable receiver that raised ``RetryAfter``."""

SENDER = "sender"
"""The name of the sender among a signal's types and a message's values; no payload has it."""

IMMEDIATE = "immediate"
"""The name of the delivery that runs a receiver during the send."""

OnError: TypeAlias = Literal["raise", "group", "isolate"]
"""A failure policy: what happens to the sender and the other receivers if a receiver fails."""

Status: TypeAlias = Literal["ok", "failed", "contained", "deferred", "skipped"]
"""The result of a receiver's part; ``contained`` is a failure that its delivery reported."""

Source: TypeAlias = Literal["request", "receiver", "teardown", "stream", "cli", "delivery"]
"""Where an exception hook's exception comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The place of a piece of code, as error messages and the page show it."""

    module: str
    """The importable module, such as ``shop.onboarding``."""
    name: str
    """The qualified name within the module, such as ``Wizard.complete``."""
    file: str | None = None
    """The source file, or ``None`` for code without one (builtins)."""
    line: int | None = None
    """The line in that file, counted from 1."""

    def __str__(self) -> str:
        where = f" ({self.file}:{self.line})" if self.file else ""
        return f"{self.module}.{self.name}{where}"


def same_function(one: Place, other: Place) -> bool:
    """Tell whether two places are the same function, perhaps of a reloaded module.

    Lambdas share a name, so for them the line must be the same as well.
    """
    lines = one.line == other.line or "<lambda>" not in one.name
    return lines and (one.module, one.name) == (other.module, other.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Connection:
    """The description of one receiver connected to one signal; it references neither."""

    signal: str
    """The signal's name."""
    receiver: Place
    """Where the receiver is defined."""
    sender: str | None = None
    """The sender it is limited to, as a type or a place, or ``None`` for any sender."""
    priority: int = 0
    """Higher runs first."""
    order: int = 0
    """The place in connection order among receivers of one priority."""
    delivery: str = IMMEDIATE
    """The name of the delivery."""
    when: Place | None = None
    """Where its ``when`` predicate is defined, or ``None`` without one."""
    is_async: bool = False
    """Whether the receiver is a coroutine function."""
    weak: bool = False
    """Whether the receiver is only weakly referenced."""
    uid: str | None = None
    """Its ``uid``, or ``None``."""
    takes_extra: bool = True
    """Whether the receiver has ``**kwargs``, so that a new payload name does not break it."""
    on_error: OnError | None = None
    """Its own failure policy, or ``None`` for the signal's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """One send of one signal."""

    signal: str
    """The signal's name."""
    sender: str
    """The type of the sender, such as ``shop.models.Account``."""
    payload: tuple[str, ...]
    """The *names* of the payload; its values are never recorded."""
    site: Place | None = None
    """The place of the send: the nearest caller outside the kit and blinker."""
    request: str | None = None
    """The method and path of the request it was sent in, such as ``POST /funding/card``."""
    attempt: int = 1
    """The number of the attempt; above 1 only if a delivery retries."""
    idempotency_key: str | None = None
    """The same string in every attempt of one delivery; ``None`` without retries."""
    message_id: str | None = None
    """The id of the durable receiver's message; ``None`` for other receivers."""
    correlation_id: str | None = None
    """The same string in every message that followed from one send; ``None`` as above."""
    causation_id: str | None = None
    """The id of the message whose receiver sent the signal, or ``None``."""
    traceparent: str | None = None
    """The trace of the request that a durable receiver's message was sent in, if its HTTP header
    of this name had one."""
    number: int | None = None
    """Its number in this process, as in its link on the page; ``None`` without a journal."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RecordedRequest:
    """What the journal has recorded of the current request."""

    id: int
    """Its number in this process, as in its link on the page."""
    signals: tuple[str, ...]
    """The app's own signals that it has sent so far, each once, in the order of the sends."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ok(Generic[R]):
    """A receiver ran and returned."""

    receiver: Callable[..., Any]
    """The receiver."""
    value: R
    """What it returned."""
    duration: float
    """How long it ran, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Failed:
    """A receiver ran and raised."""

    receiver: Callable[..., Any]
    """The receiver."""
    exception: Exception
    """What it raised."""
    duration: float
    """How long it ran until it raised, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Deferred:
    """A receiver was handed to a later delivery and has not run yet."""

    receiver: Callable[..., Any]
    """The receiver."""
    delivery: str
    """The name of the delivery."""


Outcome: TypeAlias = Ok[R] | Failed | Deferred
"""The result of one receiver in one emission."""
