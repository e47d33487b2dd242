"""Connecting and disconnecting: what counts as the same receiver, and who is told."""

import functools
import types
from dataclasses import asdict
from typing import Any

import pytest
from blinker import ANY

from flask_signals_kit import AfterCommit, ConfigurationError, ReceiverError, Signal


async def is_active_later(sender: Any, **payload: Any) -> bool:
    """Decide too late: a predicate is not awaited."""
    return False


def test_connect_returns_the_receiver_and_works_as_a_decorator() -> None:
    """The decorated function is the very one that was given."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    assert signal.connect(receive) is receive
    assert signal.connect_via("acme")(receive) is receive


def test_connect_via_connects_for_a_sender_and_strongly() -> None:
    """A closure connected with `connect_via` stays, as blinker's default for it says."""
    signal = Signal("account_funded")

    def factory() -> None:
        @signal.connect_via("acme")
        def receive(sender: str) -> str:
            return sender

    factory()
    assert [result for _, result in signal.send("acme")] == ["acme"]
    assert signal.send("other") == []


def test_connect_via_can_be_weak() -> None:
    """With `weak=True` the closure goes when its factory ends."""
    signal = Signal("account_funded")

    def factory() -> None:
        @signal.connect_via("acme", weak=True)
        def receive(sender: str) -> str:
            return sender

    factory()
    assert signal.send("acme") == []


def test_connecting_twice_calls_once() -> None:
    """The same receiver and sender are one connection."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    signal.connect(receive)
    signal.connect(receive)
    assert len(signal.send()) == 1
    signal.disconnect(receive)
    assert signal.send() == []


def test_a_bound_method_is_the_same_receiver_each_time() -> None:
    """Methods are told apart by function and instance, not by the object made at each access."""

    class Ledger:
        def note(self, sender: Any) -> str:
            return "noted"

    ours, theirs = Ledger(), Ledger()
    signal = Signal("account_funded")
    signal.connect(ours.note)
    signal.connect(ours.note)
    signal.connect(theirs.note)
    assert [receiver for receiver, _ in signal.send()] == [ours.note, theirs.note]
    signal.disconnect(ours.note)
    assert [receiver for receiver, _ in signal.send()] == [theirs.note]


def test_a_bound_method_of_a_builtin_is_the_same_receiver_each_time() -> None:
    """`results.append` collects, and can be disconnected again."""
    signal = Signal("account_funded")
    results: list[Any] = []
    others: list[Any] = []
    signal.connect(results.append, weak=False)
    signal.connect(results.append, weak=False)
    signal.connect(others.append, weak=False)
    signal.send("acme")
    assert (results, others) == (["acme"], ["acme"])
    signal.disconnect(results.append)
    signal.send("globex")
    assert (results, others) == (["acme"], ["acme", "globex"])


def test_classmethods_of_two_classes_are_two_receivers() -> None:
    """An inherited classmethod bound to each class is told apart by the class."""

    class Base:
        @classmethod
        def note(cls, sender: Any) -> str:
            return cls.__name__

    class One(Base):
        pass

    class Two(Base):
        pass

    signal = Signal("account_funded")
    signal.connect(One.note)
    signal.connect(Two.note)
    assert [result for _, result in signal.send()] == ["One", "Two"]


def test_partials_classes_and_callable_instances_can_be_receivers() -> None:
    """Whatever can be called with a sender will do."""

    def receive(prefix: str, sender: Any) -> str:
        return f"{prefix} {sender}"

    class Note:
        def __init__(self, sender: Any) -> None:
            self.sender = sender

    class Ledger:
        def __call__(self, sender: Any) -> str:
            return f"ledger {sender}"

    signal = Signal("account_funded")
    partial, ledger = functools.partial(receive, "partial"), Ledger()
    signal.connect(partial)
    signal.connect(ledger)
    signal.connect(Note)
    results = [result for _, result in signal.send("acme")]
    assert results[:2] == ["partial acme", "ledger acme"]
    assert results[2].sender == "acme"


def test_receivers_that_compare_equal_are_still_two() -> None:
    """Identity counts, not `==`, and a receiver need not be hashable."""

    class Same:
        __hash__ = None  # type: ignore[assignment]

        def __init__(self, name: str) -> None:
            self.name = name

        def __eq__(self, other: object) -> bool:
            return True

        def __call__(self, sender: Any) -> str:
            return self.name

    one, two = Same("one"), Same("two")
    signal = Signal("account_funded")
    signal.connect(one)
    signal.connect(two)
    assert [result for _, result in signal.send()] == ["one", "two"]
    signal.disconnect(one)
    assert [result for _, result in signal.send()] == ["two"]


def test_senders_that_compare_equal_are_still_two() -> None:
    """A model with `__eq__` and no hash is matched by identity."""

    class Account:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    acme, other = Account(), Account()
    signal = Signal("account_funded")
    signal.connect(receive := lambda sender: None, sender=acme)
    assert signal.send(acme) == [(receive, None)]
    assert signal.send(other) == []


def test_disconnect_without_a_sender_ends_every_connection_of_a_receiver() -> None:
    """All senders at once, as with blinker."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    for sender in ("acme", "globex", ANY):
        signal.connect(receive, sender)
    signal.disconnect(receive)
    assert not signal.receivers
    assert signal.send("acme") == []


def test_disconnect_for_one_sender_leaves_the_others() -> None:
    """Each sender is a connection of its own."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    signal.connect(receive, "acme")
    signal.connect(receive, "globex")
    signal.disconnect(receive, "acme")
    assert signal.send("acme") == []
    assert signal.send("globex")
    signal.disconnect(receive, "globex")
    assert not signal.receivers


def test_disconnect_for_one_sender_leaves_a_connection_for_any() -> None:
    """A receiver of every sender still hears that one."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    signal.connect(receive)
    signal.connect(receive, "acme")
    signal.disconnect(receive, "acme")
    assert len(signal.send("acme")) == 1


def test_disconnecting_somebody_who_is_not_connected_does_nothing() -> None:
    """As with blinker, there is no error."""
    signal = Signal("account_funded")
    signal.disconnect(print)
    signal.disconnect(print, sender="acme")
    signal.disconnect([].append)
    assert not signal.receivers


def test_connecting_a_strong_receiver_weakly_leaves_it_strong() -> None:
    """Somebody counts on it staying; a second connection does not take that away."""
    signal = Signal("account_funded")

    def factory() -> None:
        def receive(sender: Any) -> str:
            return "here"

        signal.connect(receive, weak=False)
        signal.connect(receive, weak=True)

    factory()
    assert [result for _, result in signal.send()] == ["here"]


def test_connecting_a_weak_receiver_strongly_makes_it_strong() -> None:
    """The stronger wish wins, in either order."""
    signal = Signal("account_funded")

    def factory() -> None:
        def receive(sender: Any) -> str:
            return "here"

        signal.connect(receive)
        signal.connect(receive, weak=False)

    factory()
    assert [result for _, result in signal.send()] == ["here"]


def test_a_thousand_string_senders_leave_nothing_behind() -> None:
    """Neither connecting and disconnecting nor sending by them grows anything."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    for number in range(1000):
        signal.connect(receive, f"account {number}")
    assert len(signal.connections) == 1000
    for number in range(1000):
        signal.send(f"account {number}")
        signal.send(f"unknown {number}")
        signal.disconnect(receive, f"account {number}")
    assert not signal.receivers
    assert not signal._by_sender
    assert not signal._by_receiver
    assert signal._plan is None or not signal._plan.by_sender


def test_receiver_connected_is_sent_with_the_arguments_of_connect() -> None:
    """The sender is the signal; receiver, sender and weak are passed on."""
    signal = Signal("account_funded")
    seen: list[Any] = []

    @signal.receiver_connected.connect
    def note(who: Signal, **how: Any) -> None:
        seen.append((who, how))

    signal.connect(receive := lambda sender: None, "acme", weak=False)
    signal.connect(receive)
    assert seen == [
        (signal, {"receiver": receive, "sender": "acme", "weak": False}),
        (signal, {"receiver": receive, "sender": ANY, "weak": True}),
    ]


def test_receiver_disconnected_is_sent_with_the_arguments_of_disconnect() -> None:
    """The sender is the signal; receiver and sender are passed on."""
    signal = Signal("account_funded")
    seen: list[Any] = []

    @signal.receiver_disconnected.connect
    def note(who: Signal, **how: Any) -> None:
        seen.append((who, how))

    signal.connect(receive := lambda sender: None, "acme")
    signal.disconnect(receive, "acme")
    signal.disconnect(receive)
    assert seen == [
        (signal, {"receiver": receive, "sender": "acme"}),
        (signal, {"receiver": receive, "sender": ANY}),
    ]


def test_connected_to_tells_of_both_ends() -> None:
    """A temporary connection is announced like any other."""
    signal = Signal("account_funded")
    seen: list[str] = []
    signal.receiver_connected.connect(lambda who, **how: seen.append("came"), weak=False)
    signal.receiver_disconnected.connect(lambda who, **how: seen.append("went"), weak=False)
    with signal.connected_to(lambda sender: None):
        assert seen == ["came"]
    assert seen == ["came", "went"]


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_a_failing_receiver_connected_undoes_the_connection(error: type[Exception]) -> None:
    """Whoever watches connections may refuse one by raising."""
    signal = Signal("account_funded")

    @signal.receiver_connected.connect
    def refuse(who: Signal, **how: Any) -> None:
        raise error("not you")

    with pytest.raises(error, match="not you"):
        signal.connect(lambda sender: None, weak=False)
    assert not signal.receivers
    with pytest.raises(error, match="not you"), signal.connected_to(lambda sender: None):
        pytest.fail("the block must not run")
    assert not signal.receivers
    signal.receiver_connected.disconnect(refuse)
    signal.connect(lambda sender: "you", weak=False)
    assert [result for _, result in signal.send()] == ["you"]


def test_a_refused_change_of_a_connection_leaves_it_as_it_was() -> None:
    """Priority, predicate and weakness are those of before."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> str:
        return "received"

    def first(sender: Any) -> str:
        return "first"

    signal.connect(receive, uid="one")
    signal.connect(first, priority=1)
    before = [asdict(connection) for connection in signal.connections]

    @signal.receiver_connected.connect
    def refuse(who: Signal, **how: Any) -> None:
        raise RuntimeError("not you")

    with pytest.raises(RuntimeError, match="not you"):
        signal.connect(receive, weak=False, priority=2, uid="two", when=lambda sender: False)
    assert [asdict(connection) for connection in signal.connections] == before
    assert [result for _, result in signal.send()] == ["first", "received"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"priority": "10"}, ReceiverError, "has priority=str: it must be an integer"),
        ({"priority": None}, ReceiverError, "has priority=None: it must be an integer"),
        ({"when": "today"}, ReceiverError, "has when=str: it must be a plain function"),
        ({"when": is_active_later}, ReceiverError, "has when=an async function"),
        ({"uid": 3}, ReceiverError, "has uid=int: it must be a string"),
        ({"delivery": "after_commit"}, ConfigurationError, "has delivery=str: here it must be an"),
        ({"delivery": AfterCommit}, ConfigurationError, "has delivery=type .*AfterCommit: here"),
        ({"delivery": object()}, ConfigurationError, r"with a name and a method deliver\(call\)"),
    ],
)
def test_what_a_send_would_stumble_over_is_refused_when_it_is_connected(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The message names the receiver, the option and what it must be."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    with pytest.raises(error, match=f"^Receiver .*receive.* {message}"):
        signal.connect(receive, **options)
    assert not signal.receivers
    assert signal.send() == []


@pytest.mark.parametrize(
    ("thing", "called"), [(None, "None"), ("receive", "str"), (3, "int"), (["receive"], "list")]
)
def test_what_cannot_be_called_cannot_be_connected(thing: Any, called: str) -> None:
    """The message names the thing by its type, the signal and the fix."""
    signal = Signal("account_funded")
    with pytest.raises(ReceiverError) as caught:
        signal.connect(thing)
    message = str(caught.value)
    assert f"Cannot connect {called} " in message
    assert "'account_funded'" in message
    assert "not callable" in message
    assert "Connect a function" in message
    assert not signal.receivers
    with pytest.raises(ReceiverError, match="not callable"), signal.connected_to(thing):
        pytest.fail("the block must not run")


def test_what_cannot_be_held_weakly_says_so() -> None:
    """An instance without weak references needs `weak=False`, and the message says that."""

    class Ledger:
        __slots__ = ()

        def __call__(self, sender: Any) -> str:
            return "noted"

    signal = Signal("account_funded")
    ledger = Ledger()
    with pytest.raises(ReceiverError) as caught:
        signal.connect(ledger)
    message = str(caught.value)
    assert "Ledger" in message
    assert "'account_funded'" in message
    assert "weak=False" in message
    assert not signal.receivers
    signal.connect(ledger, weak=False)
    assert signal.send() == [(ledger, "noted")]


def test_a_receiver_is_never_printed() -> None:
    """Connecting, describing and failing take no `repr()` of anybody's object."""

    class Ledger:
        def __repr__(self) -> str:
            raise AssertionError("printed")

        __str__ = __repr__

        def __call__(self, sender: Any) -> None:
            raise ValueError("spent")

    ledger = Ledger()
    signal = Signal("account_funded", on_error="isolate")
    signal.connect(ledger, sender=ledger)
    [connection] = signal.connections
    assert connection.receiver.name.endswith("Ledger")
    assert connection.sender is not None
    assert connection.sender.endswith("Ledger")
    assert signal.send(ledger) == []


def test_connections_describe_everything_that_was_said() -> None:
    """A `Connection` repeats what `connect` was given, and where the receiver is."""
    signal = Signal("account_funded")

    def active(sender: Any, **payload: Any) -> bool:
        return True

    async def receive(sender: Any, *, amount: int) -> None:
        pass

    signal.connect(receive, "acme", priority=3, when=active, uid="ledger")
    [connection] = signal.connections
    assert connection.signal == "account_funded"
    assert connection.receiver.module == __name__
    assert connection.receiver.name == receive.__qualname__
    assert connection.receiver.file == __file__
    assert connection.receiver.line == receive.__code__.co_firstlineno
    assert connection.sender == "'acme'"
    assert connection.priority == 3
    assert connection.when is not None
    assert connection.when.name == active.__qualname__
    assert connection.is_async
    assert connection.weak
    assert connection.uid == "ledger"
    assert connection.delivery == "immediate"
    assert not connection.takes_extra


def test_what_is_wrapped_is_described_by_what_is_inside() -> None:
    """A static method, a partial and a decorated function show where they are written."""

    def receive(sender: Any) -> None:
        pass

    @functools.wraps(receive)
    def wrapped(*args: Any) -> None:
        receive(*args)

    signal = Signal("account_funded")
    for receiver in (staticmethod(receive), functools.partial(receive), wrapped):
        signal.connect(receiver, weak=False)
    for connection in signal.connections:
        assert receive.__qualname__ in connection.receiver.name
        assert connection.receiver.line == receive.__code__.co_firstlineno


def test_clear_state_disconnects_everybody() -> None:
    """Blinker's own helper for tests works here, too."""
    signal = Signal("account_funded")
    signal.connect(lambda sender: None, weak=False)
    signal.connect(lambda sender: None, "acme", weak=False)
    signal._clear_state()
    assert not signal.receivers
    assert signal.send("acme") == []


def test_a_builtin_function_can_be_a_receiver() -> None:
    """One without a signature is trusted."""
    signal = Signal("account_funded")
    signal.connect(types.SimpleNamespace, weak=False)
    signal.connect(print, weak=False)
    assert [*signal.receivers_for(None)] == [types.SimpleNamespace, print]
    assert all(connection.receiver.file is None for connection in signal.connections)
