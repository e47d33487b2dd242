"""Connecting and disconnecting: the identity of receivers and senders, and notifications."""

import functools
import types
from dataclasses import asdict
from typing import Any

import pytest
from blinker import ANY

from flask_signals_kit import AfterCommit, ConfigurationError, ReceiverError, Signal


async def is_active_later(sender: Any, **payload: Any) -> bool:
    """Be an async predicate, which is never awaited."""
    return False


def test_connect_returns_the_receiver_and_works_as_a_decorator() -> None:
    """The decorated function is returned unchanged."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    assert signal.connect(receive) is receive
    assert signal.connect_via("acme")(receive) is receive


def test_connect_via_connects_for_a_sender_and_strongly() -> None:
    """Strong is blinker's default for it."""
    signal = Signal("account_funded")

    def factory() -> None:
        @signal.connect_via("acme")
        def receive(sender: str) -> str:
            return sender

    factory()
    assert [result for _, result in signal.send("acme")] == ["acme"]
    assert signal.send("other") == []


def test_connect_via_can_be_weak() -> None:
    """With `weak=True` the closure is freed with its factory's scope."""
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


def test_bound_method_is_identified_by_function_and_instance() -> None:
    """Not by the object created at each access."""

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


def test_builtin_bound_method_can_be_disconnected() -> None:
    """Such as `results.append`."""
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
    """An inherited classmethod is identified by its class, too."""

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
    """Anything callable with a sender is valid."""

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


def test_equal_receivers_are_two_receivers() -> None:
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


def test_equal_senders_are_two_senders() -> None:
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
    """As with blinker."""
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


def test_disconnect_for_one_sender_keeps_a_connection_for_any_sender() -> None:
    """The receiver is still called for that sender."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    signal.connect(receive)
    signal.connect(receive, "acme")
    signal.disconnect(receive, "acme")
    assert len(signal.send("acme")) == 1


def test_disconnecting_an_unconnected_receiver_does_nothing() -> None:
    """As with blinker, there is no error."""
    signal = Signal("account_funded")
    signal.disconnect(print)
    signal.disconnect(print, sender="acme")
    signal.disconnect([].append)
    assert not signal.receivers


def test_connecting_a_strong_receiver_weakly_keeps_it_strong() -> None:
    """A second connection does not weaken the first."""
    signal = Signal("account_funded")

    def factory() -> None:
        def receive(sender: Any) -> str:
            return "here"

        signal.connect(receive, weak=False)
        signal.connect(receive, weak=True)

    factory()
    assert [result for _, result in signal.send()] == ["here"]


def test_connecting_a_weak_receiver_strongly_makes_it_strong() -> None:
    """Strong overrides weak, in either order."""
    signal = Signal("account_funded")

    def factory() -> None:
        def receive(sender: Any) -> str:
            return "here"

        signal.connect(receive)
        signal.connect(receive, weak=False)

    factory()
    assert [result for _, result in signal.send()] == ["here"]


def test_string_senders_do_not_grow_memory() -> None:
    """Neither connecting and disconnecting nor sending with them."""
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


def test_connected_to_sends_receiver_connected_and_disconnected() -> None:
    """As for any other connection."""
    signal = Signal("account_funded")
    seen: list[str] = []
    signal.receiver_connected.connect(lambda who, **how: seen.append("came"), weak=False)
    signal.receiver_disconnected.connect(lambda who, **how: seen.append("went"), weak=False)
    with signal.connected_to(lambda sender: None):
        assert seen == ["came"]
    assert seen == ["came", "went"]


@pytest.mark.parametrize("error", [TypeError, RuntimeError])
def test_failing_receiver_of_receiver_connected_undoes_the_connection(
    error: type[Exception],
) -> None:
    """It can refuse a connection by raising."""
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


def test_refused_change_of_a_connection_restores_it() -> None:
    """Priority, predicate and weakness are the previous ones."""
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
def test_invalid_options_are_refused_by_connect(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """The message has the receiver, the option and the valid values."""
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
def test_non_callable_receiver_is_refused(thing: Any, called: str) -> None:
    """The message has its type, the signal and the fix."""
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


def test_weak_receiver_without_weak_reference_support_is_refused() -> None:
    """The message says to pass `weak=False`."""

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


def test_repr_of_receivers_is_never_called() -> None:
    """Not for connecting, describing and failing."""

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


def test_connection_records_have_all_options() -> None:
    """And the place of the receiver."""
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


def test_wrapped_receivers_are_described_by_the_wrapped_function() -> None:
    """Static methods, partials and decorated functions have the place of their source."""

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


def test_clear_state_disconnects_every_receiver() -> None:
    """Blinker's own helper for tests."""
    signal = Signal("account_funded")
    signal.connect(lambda sender: None, weak=False)
    signal.connect(lambda sender: None, "acme", weak=False)
    signal._clear_state()
    assert not signal.receivers
    assert signal.send("acme") == []


def test_builtin_function_can_be_a_receiver() -> None:
    """Without a signature it is not checked."""
    signal = Signal("account_funded")
    signal.connect(types.SimpleNamespace, weak=False)
    signal.connect(print, weak=False)
    assert [*signal.receivers_for(None)] == [types.SimpleNamespace, print]
    assert all(connection.receiver.file is None for connection in signal.connections)
