"""The order in which receivers run: priority, then connection order."""

import random
from typing import Any

import pytest
from blinker import ANY
from hypothesis import given
from hypothesis import strategies as st

from flask_signals_kit import Signal


def named(name: str) -> Any:
    """Make a receiver that returns its name."""

    def receive(sender: Any, **extra: Any) -> str:
        return name

    return receive


def order(signal: Signal, sender: Any = None) -> list[Any]:
    """Send and return what the receivers returned."""
    return [result for _, result in signal.send(sender)]


@pytest.mark.parametrize("weak", [True, False])
def test_receivers_run_in_connection_order(weak: bool) -> None:
    """A hundred receivers run in the order in which they were connected."""
    signal = Signal("account_funded")
    receivers = [named(str(number)) for number in range(100)]
    random.Random(7).shuffle(receivers)
    for receiver in receivers:
        signal.connect(receiver, weak=weak)
    assert [receiver for receiver, _ in signal.send()] == receivers


def test_higher_priority_runs_first() -> None:
    """Priorities may be negative; within one, connection order applies."""
    signal = Signal("account_funded")
    connected = [("a", 0), ("b", -1), ("c", 10), ("d", 0), ("e", 10), ("f", -1)]
    for name, priority in connected:
        signal.connect(named(name), weak=False, priority=priority)
    assert order(signal) == ["c", "e", "a", "d", "b", "f"]


def test_sender_filter_does_not_change_the_order() -> None:
    """Receivers of any sender and of one sender run in one order."""
    signal = Signal("account_funded")
    for name, sender in [("a", "acme"), ("b", ANY), ("c", "acme"), ("d", "other"), ("e", ANY)]:
        signal.connect(named(name), sender, weak=False)
    assert order(signal, "acme") == ["a", "b", "c", "e"]
    assert order(signal, "other") == ["b", "d", "e"]
    assert order(signal) == ["b", "e"]


def test_weakness_does_not_change_the_order() -> None:
    """How a receiver is held says nothing about when it runs."""
    signal = Signal("account_funded")
    receivers = [named(str(number)) for number in range(6)]
    for number, receiver in enumerate(receivers):
        signal.connect(receiver, weak=number % 2 == 0)
    assert [receiver for receiver, _ in signal.send()] == receivers


def test_second_connection_keeps_the_earlier_position() -> None:
    """Connected for all first and for one sender later."""
    signal = Signal("account_funded")
    first, second = named("first"), named("second")
    signal.connect(first)
    signal.connect(second)
    signal.connect(first, sender="acme")
    assert order(signal, "other") == ["first", "second"]
    assert order(signal, "acme") == ["first", "second"]


def test_higher_of_two_priorities_of_a_receiver_counts() -> None:
    """Of its two connections that a send reaches, the one that comes first counts."""
    signal = Signal("account_funded")
    both, middle = named("both"), named("middle")
    signal.connect(both, priority=10)
    signal.connect(middle, priority=5)
    signal.connect(both, sender="acme", priority=0)
    assert order(signal, "acme") == ["both", "middle"]
    signal.connect(both, sender="globex", priority=0)
    signal.connect(both, priority=0)
    signal.connect(both, sender="acme", priority=10)
    assert order(signal, "acme") == ["both", "middle"]
    assert order(signal, "other") == ["middle", "both"]


def test_connected_to_keeps_the_position_of_existing_receivers() -> None:
    """A temporary receiver does not move those that are there."""
    signal = Signal("account_funded")
    first, second = named("first"), named("second")
    signal.connect(first)
    signal.connect(second)
    signal.connect(first, sender="acme")
    with signal.connected_to(named("temporary")):
        assert order(signal, "acme") == ["first", "second", "temporary"]


def test_connecting_again_keeps_the_position() -> None:
    """Unless the priority changes."""
    signal = Signal("account_funded")
    first, second = named("first"), named("second")
    signal.connect(first)
    signal.connect(second)
    signal.connect(first)
    assert order(signal) == ["first", "second"]
    signal.connect(second, priority=1)
    assert order(signal) == ["second", "first"]


def test_disconnecting_and_connecting_again_moves_to_the_end() -> None:
    """A new connection has a new position."""
    signal = Signal("account_funded")
    first, second = named("first"), named("second")
    signal.connect(first)
    signal.connect(second)
    signal.disconnect(first)
    signal.connect(first)
    assert order(signal) == ["second", "first"]


def test_temporary_receiver_runs_last_of_its_priority() -> None:
    """`connected_to` connects now, after the existing receivers."""
    signal = Signal("account_funded")
    signal.connect(high := named("high"), priority=1)
    signal.connect(usual := named("usual"))
    signal.connect(low := named("low"), priority=-1)
    with signal.connected_to(named("temporary")):
        assert order(signal) == ["high", "usual", "temporary", "low"]
    assert [receiver for receiver, _ in signal.send()] == [high, usual, low]


def test_connections_are_listed_in_calling_order() -> None:
    """The page lists them in this order."""
    signal = Signal("account_funded")
    for name, priority in [("a", 0), ("b", 5), ("c", -5)]:
        signal.connect(named(name), name, weak=False, priority=priority)
    assert [connection.sender for connection in signal.connections] == ["'b'", "'a'", "'c'"]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),  # which receiver
            st.sampled_from([ANY, "acme", "globex"]),
            st.integers(-2, 2),
            st.booleans(),  # disconnect from that sender instead
        ),
        max_size=25,
    )
)
def test_order_equals_the_model_for_random_connections(
    history: list[tuple[int, Any, int, bool]],
) -> None:
    """A list sorted by hand: same receivers, same order, for every sender."""
    receivers = [named(str(number)) for number in range(5)]
    signal = Signal("account_funded")
    model: dict[tuple[int, Any], tuple[int, int]] = {}
    for step, (number, sender, priority, leave) in enumerate(history):
        if leave:
            signal.disconnect(receivers[number], sender)
            for key in [*model]:
                if key[0] == number and (sender is ANY or key[1] == sender):
                    del model[key]
        else:
            signal.connect(receivers[number], sender, priority=priority)
            _, place = model.get((number, sender), (0, step))
            model[number, sender] = -priority, place
    for asked in ("acme", "globex", "initech"):
        reached = sorted(
            (rank, number) for (number, s), rank in model.items() if s is ANY or s == asked
        )
        expected = list(dict.fromkeys(receivers[number] for _, number in reached))
        assert [receiver for receiver, _ in signal.send(asked)] == expected
        assert [*signal.receivers_for(asked)] == expected
        assert signal.has_receivers_for(asked) == bool(expected)
