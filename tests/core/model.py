"""The model of a signal: a list of connections.

A send sorts the list, skips connections that do not match, and calls each receiver once. The model
imports nothing of the kit: receivers, senders and blocks are names. A name with a dot belongs to
an object (``account3.receive`` is a method of ``account3``) and lives as long as that.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

When = Literal["always", "odd", "broken"]
Way = Literal["immediate", "now", "contained", "later"]
Policy = Literal["raise", "group", "isolate"]
Status = Literal["ok", "failed", "contained", "deferred"]

ANY_SENDER = "ANY"


def owner(name: str) -> str:
    """Return the name of the object that something belongs to."""
    return name.partition(".")[0]


@dataclass(frozen=True)
class Link:
    """One connection."""

    receiver: str
    sender: str
    weak: bool
    order: int
    priority: int
    when: When
    way: Way
    block: int | None  # the `connected_to` block that it belongs to
    uid: str | None
    on_error: Policy | None  # its own policy

    def holds(self, name: str) -> bool:
        """Whether the connection keeps an object alive: a sender only without weak references."""
        return (not self.weak and owner(self.receiver) == name) or (
            owner(self.sender) == name and not takes_weak_references(name)
        )


class Model:
    """The connections of a signal."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self._order = count()

    def connect(
        self,
        receiver: str,
        sender: str,
        weak: bool,
        *,
        priority: int = 0,
        when: When = "always",
        way: Way = "immediate",
        block: int | None = None,
        uid: str | None = None,
        on_error: Policy | None = None,
    ) -> Link | None:
        """Connect, or change a connection: it keeps its position and never becomes weak.

        :return: the connection, or ``None`` if the receiver cannot be held as asked for.
        """
        key = receiver, sender, block
        before = [link for link in self.links if (link.receiver, link.sender, link.block) == key]
        weak = weak and all(link.weak for link in before)
        if weak and not takes_weak_references(receiver):
            return None
        order = before[0].order if before else next(self._order)
        link = Link(receiver, sender, weak, order, priority, when, way, block, uid, on_error)
        self.links = [link for link in self.links if link not in before] + [link]
        return link

    def disconnect(self, receiver: str, sender: str, blocks: AbstractSet[int]) -> None:
        """Disconnect from one sender or from all; other blocks keep their temporary receivers."""
        self.links = [
            link
            for link in self.links
            if link.receiver != receiver
            or sender not in (ANY_SENDER, link.sender)
            or (link.block is not None and link.block not in blocks)
        ]

    def end_block(self, number: int) -> None:
        """End the temporary connections of a block."""
        self.links = [link for link in self.links if link.block != number]

    def in_order(self) -> list[Link]:
        """Return every connection in calling order."""
        return sorted(self.links, key=lambda link: (-link.priority, link.order))

    def reached(self, sender: str, blocks: AbstractSet[int]) -> list[Link]:
        """Return the connections that match a sender, in calling order.

        Of each receiver, only those up to the first without a predicate count.
        """
        settled: set[str] = set()
        reached: list[Link] = []
        for link in self.in_order():
            concerned = link.sender in (ANY_SENDER, sender) and link.block in (None, *blocks)
            if concerned and link.receiver not in settled:
                reached.append(link)
                if link.when == "always":
                    settled.add(link.receiver)
        return reached


@dataclass
class Send:
    """A running send."""

    how: str
    sender: str
    payload: dict[str, Any]
    links: list[Link]  # those connected when it begins that match
    policy: Policy  # the signal's, as it is when it begins
    given_wrapper: bool
    default_wrapper: bool
    elsewhere: bool  # whether it runs in a context of its own
    is_alive: Callable[[str], bool]
    rest: list[Link] = field(default_factory=list)  # who is still to be called
    done: list[tuple[Link, Status, Any]] = field(default_factory=list)
    called: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    @property
    def robust(self) -> bool:
        """Whether failures are returned."""
        return "robust" in self.how

    @property
    def asynchronous(self) -> bool:
        """Whether receivers are awaited."""
        return "async" in self.how

    def next_call(self) -> Link | None:
        """Advance to the next receiver that is called, and record the ones before it."""
        while self.rest:
            link = self.rest.pop(0)
            had_its_turn = link.receiver in {done.receiver for done, _, _ in self.done}
            is_gone = link.weak and not self.is_alive(owner(link.receiver))
            if had_its_turn or is_gone:
                continue
            if link.when == "broken":
                self.fail(link, "ZeroDivisionError", contained=False)
            elif link.when == "odd" and self.payload["number"] % 2 == 0:
                continue
            elif link.way == "later":
                self.done.append((link, "deferred", None))
            elif self._misfits(link):
                self.fail(link, "AsyncReceiverError")
            else:
                return link
        return None

    def _misfits(self, link: Link) -> bool:
        """Return whether a receiver is of the other kind and has no wrapper."""
        if link.way != "immediate":  # the delivery runs it
            return is_async(link.receiver) and not self.default_wrapper
        wrapper = self.default_wrapper or self.given_wrapper
        return is_async(link.receiver) != self.asynchronous and not wrapper

    def fail(self, link: Link, error: Any, contained: bool | None = None) -> None:
        """Record a failure: the exception, or the name of one that the tests did not make."""
        contained = link.way == "contained" if contained is None else contained
        self.done.append((link, "contained" if contained else "failed", error))
        if self.policy_of(link) == "raise" and not contained:
            self.rest = []

    def policy_of(self, link: Link) -> Policy:
        """Return the policy that applies to a receiver."""
        return "isolate" if self.robust else link.on_error or self.policy

    def stop(self, link: Link, error: BaseException) -> None:
        """Record an exception that no policy contains."""
        self.done.append((link, "failed", error))
        self.rest = []


def is_async(receiver: str) -> bool:
    """Return whether a name is that of an async receiver."""
    return receiver.startswith(("coroutine", "ledger"))


def takes_weak_references(name: str) -> bool:
    """Return whether a name is that of an object with weak references."""
    return not name.startswith("slotted")
