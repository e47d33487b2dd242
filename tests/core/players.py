"""Senders and receivers of every kind, each with a name, for tests that compare names."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

from blinker import ANY
from werkzeug.local import LocalProxy

from flask_signals_kit import Call
from tests.core.model import ANY_SENDER

OnCall = Callable[[str, Any, dict[str, Any]], Any]
"""Called by each receiver with its name, the sender and the payload; returns its result."""


class Account:
    """A sender whose methods are receivers, and senders, as well."""

    def __init__(self, name: str, on_call: OnCall) -> None:
        self.name = name
        self.on_call = on_call

    def receive(self, who: Any, /, **payload: Any) -> Any:
        return self.on_call(f"{self.name}.receive", who, payload)

    def fund(self) -> None:
        pass


class Cyclic(Account):
    """A receiver that only the cyclic garbage collector can free."""

    def __init__(self, name: str, on_call: OnCall) -> None:
        super().__init__(name, on_call)
        self.me = self

    def __call__(self, who: Any, /, **payload: Any) -> Any:
        return self.on_call(self.name, who, payload)


class Same(Account):
    """A sender that equals everything and cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __call__(self, who: Any, /, **payload: Any) -> Any:
        return self.on_call(self.name, who, payload)


class Slotted:
    """A sender without weak references."""

    __slots__ = ("name", "on_call")

    def __init__(self, name: str, on_call: OnCall) -> None:
        self.name = name
        self.on_call = on_call

    def __call__(self, who: Any, /, **payload: Any) -> Any:
        return self.on_call(self.name, who, payload)


class Ledger(Account):
    """A receiver with an async `__call__`."""

    async def __call__(self, who: Any, /, **payload: Any) -> Any:
        await asyncio.sleep(0)
        return self.on_call(self.name, who, payload)


def make_function(name: str, on_call: OnCall) -> Any:
    """Make a plain function."""

    def receive(who: Any, /, **payload: Any) -> Any:
        return on_call(name, who, payload)

    return _named(receive, name)


def make_coroutine(name: str, on_call: OnCall) -> Any:
    """Make a coroutine function."""

    async def receive(who: Any, /, **payload: Any) -> Any:
        await asyncio.sleep(0)
        return on_call(name, who, payload)

    return _named(receive, name)


def make_partial(name: str, on_call: OnCall) -> Any:
    """Make a partial."""

    def receive(on_call: OnCall, who: Any, /, **payload: Any) -> Any:
        return on_call(name, who, payload)

    return _named(functools.partial(receive, on_call), name)


def _named(receiver: Any, name: str) -> Any:
    receiver.name = name
    return receiver


MAKERS: dict[str, Callable[[str, OnCall], Any]] = {
    "account": Account,
    "other": Account,
    "cyclic": Cyclic,
    "same": Same,
    "slotted": Slotted,
    "function": make_function,
    "closure": make_function,
    "partial": make_partial,
    "coroutine": make_coroutine,
    "ledger": Ledger,
}
"""What can be made and dropped, by its kind."""

RECEIVERS = (
    "function",
    "closure",
    "partial",
    "account.receive",
    "other.receive",
    "cyclic",
    "same",
    "slotted",
    "coroutine",
    "ledger",
)

VALUES: dict[str, Callable[[], Any]] = {
    "'acme'": lambda: "acme inc"[:4],
    "''": str,
    "0": int,
    "1": lambda: 1,
    "70000": lambda: int("70000"),
    "False": lambda: False,
    "True": lambda: True,
    "None": lambda: None,
}
"""Senders that match by value, and some that must not be mistaken for them, made anew each time."""

SENDERS = (
    *VALUES,
    "account",
    "account.proxy",
    "account.fund",
    "other",
    "cyclic",
    "same",
    "slotted",
    "function",
)


def find(which: str, things: dict[str, Any]) -> Any:
    """Return the sender or receiver of this description.

    :param things: the things that there are, by kind.
    """
    if which == ANY_SENDER:
        return ANY
    if which in VALUES:
        return VALUES[which]()
    kind, _, what = which.partition(".")
    thing = things[kind]
    if what == "proxy":
        return LocalProxy(lambda: thing)
    if not what:
        return thing
    # A bound method is a new object each time. With a second one, it is at another address, too.
    found, _ = getattr(thing, what), getattr(thing, what)
    return found


def name_of(thing: Any) -> str:
    """Return the name of a sender or a receiver."""
    if thing is ANY:
        return ANY_SENDER
    if thing is None or isinstance(thing, (str, int)):
        return repr(thing)
    if hasattr(thing, "__func__"):
        return f"{thing.__self__.name}.{thing.__func__.__name__}"
    return str(thing.name)


def label_of(name: str) -> str:
    """Return the label of a sender of this name in places that show only its type."""
    if name in VALUES:
        return name
    kind, _, what = name.partition(".")
    maker = MAKERS[kind.rstrip("0123456789")]
    if not isinstance(maker, type):
        return "function"
    return "method" if what else f"{maker.__module__}.{maker.__qualname__}"


class Now:
    """A delivery that runs each call immediately."""

    name = "now"

    def deliver(self, call: Call, /) -> None:
        call.run()


class Contained:
    """A delivery that runs each call immediately, and contains failures."""

    name = "contained"

    def deliver(self, call: Call, /) -> None:
        call.run_contained()


class Never:
    """A delivery that runs no call, and keeps none."""

    name = "later"

    def deliver(self, call: Call, /) -> None:
        pass


def run_alone(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that only waits for its turn, to its end, without an event loop."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value


def to_sync(receiver: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Make an async receiver callable."""
    return lambda *args, **payload: run_alone(receiver(*args, **payload))


def to_async(receiver: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Make a plain receiver awaitable."""

    async def call(*args: Any, **payload: Any) -> Any:
        await asyncio.sleep(0)
        return receiver(*args, **payload)

    return call
