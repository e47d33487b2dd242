"""Which locks are held while a signal is asked to change."""

from functools import partial
from threading import Thread
from typing import Any

from flask import Flask

from flask_signals_kit import Namespace, Signal, SignalsKit


def run_while_busy(busy: Signal, waiting: Thread, other: Thread) -> None:
    """Check that one thread waits for a signal's lock, and that the other one does not."""
    with busy._lock:
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        other.start()
        other.join(5)
        assert not other.is_alive()
    waiting.join(5)


def test_connecting_to_a_busy_signal_does_not_block_connecting_to_another() -> None:
    """A connection waits for a signal that makes its plan, but holds no lock of the kit meanwhile.

    The garbage collector may run while a plan is made, and a finaliser may connect.
    """
    app = Flask("shop")
    kit = SignalsKit(app)
    busy = kit.for_app(app).namespace.signal("account_funded")

    def receiver(sender: Any, **extra: Any) -> None: ...

    waiting = Thread(target=lambda: kit.on("account_funded")(receiver), daemon=True)
    other = Thread(target=lambda: kit.on("account_closed")(receiver), daemon=True)
    run_while_busy(busy, waiting, other)
    assert not waiting.is_alive()
    assert busy.receivers


def test_observing_a_busy_signal_does_not_block_making_another() -> None:
    """A namespace that waits for a signal to be observed still makes signals."""
    namespace = Namespace()
    busy = namespace.signal("account_funded")
    seen: list[str] = []
    observe = partial(namespace.observe, lambda observation: seen.append(observation.signal))
    waiting = Thread(target=observe, daemon=True)
    other = Thread(target=namespace.signal, args=["account_closed"], daemon=True)
    run_while_busy(busy, waiting, other)
    for name in ("account_funded", "account_closed", "account_opened"):
        namespace.signal(name).send("acme")
    assert seen == ["account_funded", "account_closed", "account_opened"]
