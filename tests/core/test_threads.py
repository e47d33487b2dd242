"""Threads that connect, disconnect, mute and send concurrently."""

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_signals_kit import Namespace, Signal
from tests.support import make_signal, together

THREADS = 8


@pytest.fixture(autouse=True)
def quick_switches() -> Iterator[None]:
    """Make the interpreter switch threads often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def receiver(name: Any) -> Callable[..., Any]:
    """Make a receiver that returns this."""

    def receive(sender: Any, **payload: Any) -> Any:
        return name

    return receive


def test_concurrent_connects_and_disconnects_lose_no_receiver() -> None:
    """Each thread's receivers are connected exactly while it wants them."""
    signal = Signal("account_funded")

    def work() -> None:
        mine = [receiver(number) for number in range(20)]
        for _ in range(10):
            for each in mine:
                signal.connect(each)
            assert {*mine} <= {*signal.receivers_for(None)}
            for each in mine:
                signal.disconnect(each)
            assert not {*mine} & {*signal.receivers_for(None)}

    together(*[work] * THREADS)
    assert not signal.receivers


def test_sends_during_connects_call_all_permanent_receivers() -> None:
    """No "dictionary changed size", no receiver called twice or missed, order kept."""
    signal = Signal("account_funded")
    stay = [receiver(f"stay {number}") for number in range(5)]
    for each in stay:
        signal.connect(each)
    stop = threading.Event()

    def churn() -> None:
        mine = [receiver(number) for number in range(10)]
        for turn in range(60):
            for each in mine:
                signal.connect(each, priority=turn % 3 - 1)
            for each in mine:
                signal.disconnect(each)
        stop.set()

    def send() -> None:
        while not stop.is_set():
            for sender in (None, "acme"):
                called = [each for each, _ in signal.send(sender)]
                assert len({*called}) == len(called)
                assert [each for each in called if each in stay] == stay

    together(churn, churn, send, send)
    assert [each for each, _ in signal.send()] == stay


def test_sender_filters_apply_while_other_threads_connect() -> None:
    """A send by one sender never calls the receiver of another."""
    signal = Signal("account_funded")

    def work(name: str) -> None:
        mine = receiver(name)
        for _ in range(100):
            signal.connect(mine, sender=name)
            assert [result for _, result in signal.send(name)] == [name]
            signal.disconnect(mine, sender=name)
            assert signal.send(name) == []

    together(*[lambda name=f"account {number}": work(name) for number in range(THREADS)])
    assert not signal.receivers


def test_receiver_connected_by_many_threads_is_called_once() -> None:
    """Connecting is idempotent across threads."""
    signal = Signal("account_funded")
    shared = receiver("shared")

    def work() -> None:
        for _ in range(100):
            signal.connect(shared)
            assert len(signal.send()) == 1

    together(*[work] * THREADS)
    assert len(signal.connections) == 1


def test_receivers_collected_in_other_threads_are_disconnected() -> None:
    """Weak receivers and senders are freed while others send."""
    signal = Signal("account_funded")
    keep = receiver("keep")
    signal.connect(keep)

    class Sender:
        pass

    def work() -> None:
        for _ in range(100):
            sender = Sender()
            signal.connect(receiver("gone"), sender=sender)
            signal.connect(keep, sender=sender)
            signal.connect(receiver("gone"))
            assert [result for _, result in signal.send(sender)].count("keep") == 1

    together(*[work] * THREADS)
    gc.collect()
    assert [result for _, result in signal.send()] == ["keep"]
    assert len(signal.connections) == 1


def test_temporary_receivers_and_mutes_do_not_affect_other_threads() -> None:
    """Their sends call the permanent receivers."""
    signal = Signal("account_funded")
    signal.connect(keep := receiver("keep"))
    stop = threading.Event()

    def borrow() -> None:
        for number in range(150):
            with signal.connected_to(receiver(number)):
                assert [result for _, result in signal.send()] == ["keep", number]
            with signal.muted():
                assert signal.send() == []
        stop.set()

    def send() -> None:
        while not stop.is_set():
            assert signal.send() == [(keep, "keep")]

    together(borrow, borrow, send, send)


def test_callbacks_that_connect_to_another_signal_do_not_deadlock() -> None:
    """Two signals, crosswise in two threads."""

    def look() -> None:
        assert not two.is_muted
        assert all(callable(each) for each in two.receivers_for(None))

    one = make_signal("one", on_change=look)
    two = make_signal("two", on_change=lambda: one.disconnect(repr))

    def cross(ours: Signal, theirs: Signal) -> None:
        def within(sender: Any) -> None:
            theirs.connect(mine)
            theirs.disconnect(mine)

        mine = receiver("mine")
        for _ in range(100):
            with ours.connected_to(within):
                ours.send()

    together(lambda: cross(one, two), lambda: cross(two, one))


def test_namespace_creates_each_signal_once_for_all_threads() -> None:
    """Two threads that access a new name at once get the same signal."""
    shop = Namespace()
    found: list[Signal] = []

    def work() -> None:
        found.extend(shop.signal(f"signal_{number}") for number in range(50))

    together(*[work] * THREADS)
    assert len({id(signal) for signal in found}) == 50


def test_send_from_a_finalizer_in_another_thread_does_not_block() -> None:
    """A weak reference's callback never waits for a thread that is connecting."""
    signal = Signal("account_funded")
    stop = threading.Event()

    class Cyclic:
        def __init__(self) -> None:
            self.me = self

        def __call__(self, sender: Any) -> str:
            return "cyclic"

    def drop() -> None:
        for _ in range(50):
            signal.connect(Cyclic())
            gc.collect()
        stop.set()

    def connect() -> None:
        mine = receiver("mine")
        while not stop.is_set():
            signal.connect(mine)
            signal.send()
            signal.disconnect(mine)

    together(drop, connect, connect)
    gc.collect()
    assert not signal.receivers
