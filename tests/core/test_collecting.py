"""Garbage collection: weakly held objects are freed and disconnected at any moment."""

import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest
from blinker import ANY

from flask_signals_kit import Connection, Signal
from flask_signals_kit.records import OnError
from tests.support import make_signal


class Account:
    """A sender, and with `receive` a receiver, that can be held weakly."""

    def receive(self, sender: Any, **payload: Any) -> str:
        return "account"


class Cycle:
    """A receiver that only the cyclic garbage collector can free."""

    def __init__(self) -> None:
        self.me = self

    def __call__(self, sender: Any, **payload: Any) -> str:
        return "cycle"


@pytest.fixture
def eager_gc() -> Iterator[None]:
    """Let the cyclic garbage collector run whenever an object is made."""
    before = gc.get_threshold()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*before)


def test_connect_is_weak_by_default(no_gc: None) -> None:
    """Blinker's documented default: a closure is freed with its function's scope."""
    signal = Signal("account_funded")

    def factory() -> None:
        signal.connect(lambda sender: "gone")
        signal.connect(lambda sender: "here", weak=False)

    factory()
    assert [result for _, result in signal.send()] == ["here"]


def test_collected_receiver_is_disconnected(no_gc: None) -> None:
    """`receivers`, `connections` and `has_receivers_for` change at once, without a send."""
    signal = Signal("account_funded")
    account = Account()
    signal.connect(account.receive)
    signal.connect(account.receive, sender="acme")
    assert signal.has_receivers_for("acme")
    del account
    assert not signal.receivers
    assert signal.connections == []
    assert not signal.has_receivers_for("acme")
    assert signal.send("acme") == []


def test_connections_of_a_collected_sender_are_removed(no_gc: None) -> None:
    """A strong receiver limited to one sender is freed with that sender."""
    signal = Signal("account_funded")
    acme = Account()

    def receive(sender: Any) -> None:
        pass

    signal.connect(receive, sender=acme, weak=False)
    freed = weakref.ref(receive)
    del receive
    assert freed() is not None
    del acme
    assert not signal.receivers
    assert freed() is None


def test_other_connections_of_a_receiver_survive_a_collected_sender(no_gc: None) -> None:
    """Only what was limited to it goes."""
    signal = Signal("account_funded")
    acme = Account()
    signal.connect(receive := lambda sender: None, sender=acme)
    signal.connect(receive, sender="globex")
    del acme
    assert [connection.sender for connection in signal.connections] == ["'globex'"]


def test_connection_holds_its_sender_weakly(no_gc: None) -> None:
    """Neither connecting nor sending keeps an account alive."""
    signal = Signal("account_funded")
    acme = Account()
    signal.connect(lambda sender: None, sender=acme, weak=False)
    signal.send(acme)
    freed = weakref.ref(acme)
    del acme
    assert freed() is None


def test_new_sender_at_a_reused_address_has_no_receivers() -> None:
    """Thousands of short-lived senders reuse addresses; none inherits a receiver."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    addresses = set()
    for _ in range(2000):
        connected = Account()
        signal.connect(receive, sender=connected)
        addresses.add(id(connected))
        del connected
        stranger = Account()
        addresses.add(id(stranger))
        assert signal.send(stranger) == []
    assert len(addresses) < 4000, "no address was used twice: the test shows nothing"


def test_sender_without_weak_references_is_kept_alive() -> None:
    """So that its address is not reused."""

    class Slotted:
        __slots__ = ()

    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    signal.connect(receive, sender=Slotted())
    strangers = [Slotted() for _ in range(1000)]
    assert all(signal.send(stranger) == [] for stranger in strangers)


@contextmanager
def locked_elsewhere(signal: Signal, *, making_plan: bool = True) -> Iterator[None]:
    """Hold a signal's locks in another thread while the block runs; then purge, as changes do.

    :param making_plan: whether that thread makes a plan, so that no other can discard it.
    """
    busy, done = threading.Event(), threading.Event()

    def hold() -> None:
        with signal._lock if making_plan else nullcontext(), signal._own._lock:
            busy.set()
            done.wait(10)
        signal._own.purge()

    holder = threading.Thread(target=hold)
    holder.start()
    assert busy.wait(10)
    try:
        yield
    finally:
        done.set()
        holder.join(10)


def test_sender_collected_while_the_signal_is_locked_is_disconnected() -> None:
    """A new object at its address does not get its receivers.

    The callback of a weak reference cannot wait for the lock, and the address may be used again at
    once: by the next send, at the latest, the connection must be gone.
    """

    def receive(sender: Any) -> None:
        pass

    def collect() -> tuple[Signal, list[Account]]:
        signal = Signal("account_funded")
        acme = Account()
        signal.connect(receive, sender=acme)
        address = id(acme)
        with locked_elsewhere(signal):
            del acme
        strangers = [Account() for _ in range(1000)]
        return signal, [stranger for stranger in strangers if id(stranger) == address]

    signal, same = next((found for _ in range(100) if (found := collect())[1]), (None, []))
    if signal is None:
        pytest.skip("no object gets the address again")
    assert signal.send(*same) == []
    assert not signal.receivers


def test_receiver_disconnected_is_not_sent_for_collected_receivers_or_senders(no_gc: None) -> None:
    """Blinker documents that it is sent only when `disconnect` is called."""
    signal = Signal("account_funded")
    seen: list[Any] = []

    @signal.receiver_disconnected.connect
    def note(who: Signal, **how: Any) -> None:
        seen.append(how)

    account, sender = Account(), Account()
    signal.connect(account.receive)
    signal.connect(receive := lambda sender: None, sender)
    del account, sender
    assert not signal.receivers
    assert seen == []
    signal.disconnect(receive)
    assert seen == [{"receiver": receive, "sender": ANY}]


def test_on_collected_is_called_for_collected_receivers(no_gc: None) -> None:
    """The page shows them as problems; an explicit disconnect is none."""
    gone: list[Connection] = []
    signal = make_signal("account_funded", on_collected=gone.append)
    account, other = Account(), Account()
    signal.connect(account.receive, priority=4)
    signal.connect(other.receive)
    signal.disconnect(other.receive)
    del other
    assert gone == []
    del account
    [connection] = gone
    assert connection.receiver.name == "Account.receive"
    assert connection.priority == 4


def test_failure_in_on_collected_is_logged(no_gc: None, caplog: pytest.LogCaptureFixture) -> None:
    """It can happen during any send or connect; the other callbacks run."""
    notified: list[str] = []
    connected = False

    def fail() -> None:
        if connected:
            raise ZeroDivisionError

    def note(connection: Connection) -> None:
        notified.append(connection.receiver.name)
        raise LookupError

    signal = make_signal("account_funded", on_change=fail, on_collected=note)
    first, second = Account(), Account()
    for account in (first, second):
        signal.connect(account.receive)

    connected = True
    del first, second, account
    assert notified == ["Account.receive"] * 2
    assert not signal.receivers
    kinds = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert kinds == [ZeroDivisionError, LookupError] * 2
    assert {record.message for record in caplog.records} == {
        "A callback failed after a receiver or a sender was garbage-collected"
    }


def test_on_collected_is_not_called_while_the_signal_is_locked(no_gc: None) -> None:
    """The callback may wait for a thread that waits for the signal."""
    free: list[bool] = []

    def look_from_elsewhere() -> None:
        thread = threading.Thread(target=signal.observe, args=(print,), daemon=True)
        thread.start()
        thread.join(5)
        free.append(not thread.is_alive())

    def on_change() -> None:
        if not free and not signal.receivers and threading.current_thread() is main:
            free.append(False)
            look_from_elsewhere()

    main = threading.current_thread()
    signal = make_signal("account_funded", on_change=on_change)
    cycle = Cycle()
    signal.connect(cycle, when=lambda sender, **payload: True)
    with locked_elsewhere(signal, making_plan=False):
        del cycle
        gc.collect()  # the removal is deferred
    signal.send()
    assert free == [False, True]


def test_receiver_at_a_reused_address_is_connected_last(no_gc: None) -> None:
    """It does not take the position of the collected one, even before that is disconnected."""

    class Slot:
        # All instances have the same size; since Python 3.13 the first ones are larger otherwise.
        __slots__ = ("__weakref__",)

        def __call__(self, sender: Any) -> None: ...

    signal = Signal("account_funded")
    collected, other = Slot(), Slot()
    signal.connect(collected, uid="collected")
    signal.connect(other, uid="other")
    address = id(collected)
    with locked_elsewhere(signal):
        del collected
        slots = [Slot()]  # all are kept, so that each has an address of its own
        while id(slot := slots[-1]) != address:
            assert len(slots) < 1_000_000
            slots.append(Slot())
    signal.connect(slot, uid="new")
    assert [connection.uid for connection in signal.connections] == ["other", "new"]


class Interrupted(dict[Any, Any]):
    """A receiver table whose read triggers a collection."""

    def __init__(self, receivers: dict[Any, Any], reads: int, collect: Callable[[], None]) -> None:
        super().__init__(receivers)
        self.reads = reads
        self.collect = collect

    def get(self, key: Any, default: Any = None) -> Any:
        found = super().get(key, default)
        self.reads -= 1
        if self.reads == 0:
            self.collect()
        return found


def test_disconnect_in_a_finalizer_during_disconnect_is_kept() -> None:
    """The collector can run a `__del__` that disconnects, at any point of a `disconnect`."""
    signal = Signal("account_funded")
    signal.connect(receive := lambda sender: None, "acme")
    signal.connect(receive, "globex")
    by_target = signal._own._by_target
    by_target["account_funded"] = Interrupted(
        by_target["account_funded"], 1, lambda: signal.disconnect(receive, "globex")
    )
    signal.disconnect(receive, "acme")
    assert [connection.sender for connection in signal.connections] == []


class Meanwhile(int):
    """A priority that runs a function in another thread while a send resolves the receivers."""

    function: Callable[[], None]

    def __neg__(self) -> int:
        thread = threading.Thread(target=self.function)
        thread.start()
        thread.join(5)
        return -int(self)


def test_receiver_collected_while_another_thread_plans_is_disconnected(
    no_gc: None,
) -> None:
    """The thread with the signal's lock disconnects it when it releases the lock."""
    gone: list[str] = []
    signal = make_signal(
        "account_funded", on_collected=lambda lost: gone.append(lost.receiver.name)
    )
    held = [Account()]
    signal.connect(held[0].receive)
    priority = Meanwhile(1)
    priority.function = held.clear
    signal.connect(receive := lambda sender: None, priority=priority)
    signal.send()
    assert gone == ["Account.receive"]
    assert [connection.receiver.line for connection in signal.connections] == [
        receive.__code__.co_firstlineno
    ]


def test_receiver_collected_while_another_thread_mutes_or_observes_is_disconnected(
    no_gc: None,
) -> None:
    """And during any other method that takes the lock."""

    class Busy(Signal):
        """A signal that loses a receiver in another thread while its lock is held."""

        def invalidate(self, wait: bool = True) -> None:
            super().invalidate(wait)
            if held:
                thread = threading.Thread(target=held.clear)
                thread.start()
                thread.join(5)

    held: list[Account] = []
    signal = Busy("account_funded")

    def is_disconnected_after(change: Callable[[], Any]) -> bool:
        account = Account()
        signal.connect(account.receive)
        held.append(account)
        del account
        change()
        return not signal.connections

    def mute() -> None:
        with signal.muted():
            pass

    assert is_disconnected_after(mute)
    assert is_disconnected_after(lambda: setattr(signal, "is_muted", True))
    assert is_disconnected_after(lambda: signal.observe(print))


def test_collected_sender_is_not_reported_as_a_collected_receiver(no_gc: None) -> None:
    """The receiver still exists; only its sender does not."""
    gone: list[Connection] = []
    signal = make_signal("account_funded", on_collected=gone.append)
    acme = Account()
    signal.connect(receive := lambda sender: None, sender=acme)
    del acme
    assert gone == []
    assert receive is not None


def test_receiver_deleted_during_a_send_is_skipped(no_gc: None) -> None:
    """A weak receiver that is freed before its turn is not called; the others are."""
    signal = Signal("account_funded")
    held = {"account": Account()}
    calls: list[str] = []

    @signal.connect
    def drop(sender: Any) -> None:
        calls.append("drop")
        held.clear()

    signal.connect(held["account"].receive)

    @signal.connect
    def last(sender: Any) -> None:
        calls.append("last")

    assert [receiver for receiver, _ in signal.send()] == [drop, last]
    assert calls == ["drop", "last"]
    assert len(signal.connections) == 2


def test_receiver_that_deletes_itself_finishes_its_call(no_gc: None) -> None:
    """The running send holds the receiver that it calls."""
    signal = Signal("account_funded")
    held: list[Any] = []

    def factory() -> None:
        def receive(sender: Any) -> str:
            held.clear()
            return "finished"

        held.append(receive)
        signal.connect(receive)

    factory()
    assert [result for _, result in signal.send()] == ["finished"]
    assert signal.send() == []


def test_signal_is_freed_without_gc(no_gc: None) -> None:
    """Connections form no cycle with the signal, weak or strong."""
    signal = Signal("account_funded")
    account = Account()

    def receive(sender: Any) -> None:
        pass

    signal.connect(receive, weak=False)
    signal.connect(account.receive, sender=account)
    with signal.muted(), signal.connected_to(lambda sender: None):
        signal.send(account)
    signal.send(account)
    freed = weakref.ref(signal)
    del signal
    assert freed() is None


def test_receiver_may_outlive_its_signal(no_gc: None) -> None:
    """Collecting it later has no effect."""
    signal = Signal("account_funded")
    account = Account()
    signal.connect(account.receive)
    del signal
    del account


def test_propagated_exception_is_freed_with_its_last_reference(
    no_gc: None,
) -> None:
    """Its traceback holds the receiver's frames; the kit's frames form no cycle."""

    def fail(sender: Any, **payload: Any) -> None:
        raise ValueError("boom")

    plain, watched, grouped = (
        Signal("plain"),
        Signal("watched"),
        Signal("grouped", on_error="group"),
    )
    plain.connect(fail)
    watched.connect(fail, when=lambda sender, **payload: True)
    grouped.connect(fail)
    kept = []
    for signal in (plain, watched, grouped):
        account = Account()
        freed = weakref.ref(account)
        with suppress(ValueError, ExceptionGroup):
            signal.send(account)
        del account
        if freed() is not None:
            kept.append(signal.name)
    assert kept == []


def test_failures_are_freed_with_their_outcomes(
    no_gc: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A `Failed` without references does not keep the sender."""

    def fail(sender: Any, **payload: Any) -> None:
        raise ValueError("boom")

    signal = Signal("account_funded")
    signal.connect(fail)
    account = Account()
    freed = weakref.ref(account)
    with caplog.at_level(logging.CRITICAL, "flask_signals_kit"):  # a log record holds it, too
        outcomes = signal.send_robust(account)
    del account
    assert freed() is not None, "the traceback should show the receiver's frame"
    del outcomes
    assert freed() is None


def test_collections_during_connect_lose_no_connection(eager_gc: None) -> None:
    """With a collection at every allocation, cycles are freed and all others stay connected."""
    signal = Signal("account_funded")
    stay = [Account() for _ in range(20)]
    for account in stay:
        signal.connect(account.receive)
        signal.connect(Cycle())
        signal.connect(account.receive, sender=Cycle())
        signal.send()
        cycle = Cycle()
        signal.connect(cycle, sender=account)
        del cycle
        signal.disconnect(Cycle())
    gc.collect()
    assert [receiver for receiver, _ in signal.send()] == [account.receive for account in stay]
    assert len(signal.connections) == len(stay)


def test_senders_and_receivers_can_be_collected_together(eager_gc: None) -> None:
    """One strong receiver with many cyclic senders, all gone in one collection."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    for _ in range(50):
        senders = [Cycle() for _ in range(5)]
        for sender in senders:
            signal.connect(receive, sender=sender, weak=False)
            signal.connect(sender, sender=sender)
        del senders, sender
        gc.collect()
        assert not signal.receivers


def test_finalizer_can_disconnect_and_send(eager_gc: None) -> None:
    """`__del__` runs wherever the collector runs, inside the signal's own methods, too."""
    signal = Signal("account_funded")
    calls: list[str] = []

    class Noisy:
        def __init__(self) -> None:
            self.me = self

        def __call__(self, sender: Any) -> None:
            calls.append("called")

        def __del__(self) -> None:
            signal.disconnect(keep, sender="other")
            signal.send("finaliser")
            calls.append("deleted")

    def keep(sender: Any) -> None:
        calls.append(f"keep {sender}")

    signal.connect(keep)
    for _ in range(20):
        signal.connect(Noisy())
        signal.send("main")
    gc.collect()
    assert calls.count("deleted") == 20
    assert calls.count("keep main") == 20
    assert len(signal.connections) == 1


@pytest.mark.parametrize("on_error", ["raise", "isolate"])
def test_send_keeps_no_receiver_that_it_does_not_reach(on_error: OnError) -> None:
    """The receiver is also connected strongly, until the first receiver disconnects it."""
    signal = Signal("account_funded", on_error=on_error)
    called: list[str] = []
    kept: dict[str, Any] = {"last": lambda sender: called.append("last")}
    last = weakref.ref(kept["last"])

    def drop(sender: object) -> None:
        signal.disconnect(kept.pop("last"), "acme")
        called.append("first" if last() is None else "kept")

    signal.connect(drop)
    signal.connect(kept["last"])
    signal.connect(kept["last"], "acme", weak=False)
    signal.send("acme")
    assert called == ["first"]
