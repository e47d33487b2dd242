"""The plain records that every room speaks: places, connections, emissions, outcomes.

They hold strings and numbers (an outcome also what the receiver returned or raised), never an app,
a request or a sender, so that keeping one keeps nothing else alive.

Records that nobody compares have ``eq=False``: each method that a dataclass generates is compiled
at import, and an extension should import fast.
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

IMMEDIATE = "immediate"
"""The name of the delivery that runs a receiver in the sender's own stack."""

OnError: TypeAlias = Literal["raise", "group", "isolate"]
"""What a failing receiver does to its sender and to the other receivers."""

Status: TypeAlias = Literal["ok", "failed", "contained", "deferred", "skipped"]
"""What became of a receiver; ``contained`` is a failure that its delivery has reported."""

Source: TypeAlias = Literal["request", "receiver", "teardown", "stream", "cli", "delivery"]
"""Where an exception hook's exception comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a piece of code is: what an error message or the page needs to lead a reader to it."""

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
    """Tell whether two places are one function, perhaps of a module that was loaded anew.

    Lambdas share a name, so for them the line counts as well.
    """
    lines = one.line == other.line or "<lambda>" not in one.name
    return lines and (one.module, one.name) == (other.module, other.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Connection:
    """One receiver connected to one signal, described without holding either."""

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
    """The ``uid`` that it was connected with."""
    takes_extra: bool = True
    """Whether the receiver has ``**kwargs``, so that a new payload name does not break it."""
    on_error: OnError | None = None
    """Its own failure policy, or ``None`` where the signal's counts."""


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
    """Where it was sent: the nearest caller outside of the kit and of blinker."""
    request: str | None = None
    """Method and path of the request it was sent in, such as ``POST /funding/card``."""
    attempt: int = 1
    """Which attempt this is; above 1 only where a delivery retries."""
    idempotency_key: str | None = None
    """The same string in every attempt of one delivery; ``None`` where nothing retries."""


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
"""What became of one receiver in one emission."""
