"""The cost of a send: the kit, blinker, a plain loop, and other libraries that call receivers."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any

import blinker
import pluggy
from django.dispatch import Signal as DjangoSignal
from flask import Flask
from psygnal import Signal as PsygnalSignal
from pydispatch import dispatcher
from pyee.base import EventEmitter

from flask_signals_kit import Signal, SignalsKit
from flask_signals_kit.records import OnError

from .measure import Case, ratio, time_rounds

Receiver = Callable[..., Any]


class Account:
    """A sender, and with ``receive`` a receiver."""

    def receive(self, sender: Any, *, amount: int, method: str, **extra: Any) -> int:
        """Do nothing."""
        return amount


ACCOUNT, OTHER = Account(), Account()


def make_receivers(count: int) -> list[Receiver]:
    """Return receivers that do nothing, each a function of its own."""

    def make() -> Receiver:
        def receive(sender: Any, *, amount: int, method: str, **extra: Any) -> int:
            return amount

        return receive

    return [make() for _ in range(count)]


def kit_case(receivers: list[Receiver], *, weak: bool = False) -> Case:
    """Send a ``Signal`` of the kit."""
    signal = Signal("account_funded")
    for receiver in receivers:
        signal.connect(receiver, weak=weak)
    send = signal.send
    return lambda: send(ACCOUNT, amount=5, method="card")


def blinker_case(receivers: list[Receiver]) -> Case:
    """Send a blinker signal whose receivers are held strongly."""
    signal = blinker.Signal()
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    send = signal.send
    return lambda: send(ACCOUNT, amount=5, method="card")


def loop_case(receivers: list[Receiver]) -> Case:
    """Call the receivers in a plain loop."""

    def send(sender: Any, **payload: Any) -> list[tuple[Receiver, Any]]:
        return [(receiver, receiver(sender, **payload)) for receiver in receivers]

    return lambda: send(ACCOUNT, amount=5, method="card")


def django_case(receivers: list[Receiver]) -> Case:
    """Send a Django signal that caches its receivers."""
    signal = DjangoSignal(use_caching=True)
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    send = signal.send
    return lambda: send(sender=ACCOUNT, amount=5, method="card")


def pluggy_case(receivers: list[Receiver]) -> Case:
    """Call a pluggy hook."""
    manager = pluggy.PluginManager("bench")
    spec, impl = pluggy.HookspecMarker("bench"), pluggy.HookimplMarker("bench")

    class Specification:
        @spec
        def account_funded(self, sender: Any, amount: int, method: str) -> None: ...

    manager.add_hookspecs(Specification)
    for _ in receivers:

        class Plugin:
            @impl
            def account_funded(self, sender: Any, amount: int, method: str) -> int:
                return amount

        manager.register(Plugin())
    hook = manager.hook.account_funded
    return lambda: hook(sender=ACCOUNT, amount=5, method="card")


def pydispatcher_case(receivers: list[Receiver]) -> Case:
    """Send through PyDispatcher."""
    signal = object()
    for receiver in receivers:
        dispatcher.connect(receiver, signal=signal, weak=False)
    return lambda: dispatcher.send(signal=signal, sender=ACCOUNT, amount=5, method="card")


def pyee_case(receivers: list[Receiver]) -> Case:
    """Emit through pyee, which keeps no results."""
    emitter = EventEmitter()
    for receiver in receivers:
        emitter.add_listener("account_funded", receiver)
    emit = emitter.emit
    return lambda: emit("account_funded", ACCOUNT, amount=5, method="card")


def psygnal_case(receivers: list[Receiver]) -> Case:
    """Emit a psygnal signal, which passes positional arguments only and keeps no results."""

    class Emitter:
        account_funded = PsygnalSignal(object, int, str)

    emitter = Emitter()

    def make() -> Receiver:
        def receive(sender: Any, amount: int, method: str) -> int:
            return amount

        return receive

    kept = [make() for _ in receivers]
    for receiver in kept:
        emitter.account_funded.connect(receiver)
    emit = emitter.account_funded.emit
    return lambda: (emit(ACCOUNT, 5, "card"), emitter, kept)


PEERS: dict[str, Callable[[list[Receiver]], Case]] = {
    "blinker": blinker_case,
    "plain loop": loop_case,
    "Django (cached)": django_case,
    "pluggy": pluggy_case,
    "PyDispatcher": pydispatcher_case,
    "pyee": pyee_case,
    "psygnal": psygnal_case,
}


def against_peers(count: int) -> dict[str, float]:
    """Return the ratio of the kit's time for a send to that of each peer."""
    receivers = make_receivers(count)
    cases: dict[str, Case] = {"kit": kit_case(receivers)}
    cases |= {name: make(receivers) for name, make in PEERS.items()}
    times = time_rounds(cases)
    return {name: ratio(times, "kit", name) for name in PEERS}


def weak_against_blinker(count: int) -> float:
    """Return the ratio of the kit's time with weak receivers to blinker's."""
    receivers = make_receivers(count)
    signal = blinker.Signal()
    for receiver in receivers:
        signal.connect(receiver)
    cases = {
        "kit": kit_case(receivers, weak=True),
        "blinker": lambda: signal.send(ACCOUNT, amount=5, method="card"),
    }
    return ratio(time_rounds(cases), "kit", "blinker")


def unusual_against_blinker() -> dict[str, float]:
    """Return the ratios of the kit's time to blinker's for other kinds of connections."""
    [receiver] = make_receivers(1)

    def nobody(signal: blinker.Signal) -> None: ...

    def this_sender(signal: blinker.Signal) -> None:
        signal.connect(receiver, ACCOUNT, weak=False)

    def other_sender(signal: blinker.Signal) -> None:
        signal.connect(receiver, OTHER, weak=False)

    def method(signal: blinker.Signal) -> None:
        signal.connect(ACCOUNT.receive)

    return {
        '`on_error="isolate"`, 0 receivers': _unusual(nobody, on_error="isolate"),
        "1 receiver of this sender": _unusual(this_sender),
        "1 receiver of another sender": _unusual(other_sender),
        "1 method, held weakly": _unusual(method),
    }


def _unusual(connect: Callable[[blinker.Signal], None], on_error: OnError = "raise") -> float:
    ours, theirs = Signal("account_funded", on_error=on_error), blinker.Signal()
    connect(ours)
    connect(theirs)
    cases: dict[str, Case] = {
        "kit": lambda: ours.send(ACCOUNT, amount=5, method="card"),
        "blinker": lambda: theirs.send(ACCOUNT, amount=5, method="card"),
    }
    return ratio(time_rounds(cases), "kit", "blinker")


def handle_against_blinker() -> tuple[float, float]:
    """Return the time of a handle's send in an app context, without and with the journal."""
    receivers = make_receivers(3)
    kit = SignalsKit()
    account_funded = kit.signal("account_funded", "Money arrived in an account.")
    for receiver in receivers:
        account_funded.connect(receiver)
    send = account_funded.send

    def case() -> object:
        return send(ACCOUNT, amount=5, method="card")

    times = time_rounds(
        {"quiet": case, "journalled": case, "blinker": blinker_case(receivers)},
        contexts={
            "quiet": _inside(_app(kit, journal=False)),
            "journalled": _inside(_app(kit, journal=True)),
        },
    )
    return ratio(times, "quiet", "blinker"), ratio(times, "journalled", "blinker")


def _app(kit: SignalsKit, *, journal: bool) -> Flask:
    app = Flask("bench")
    app.config["SIGNALS_KIT_JOURNAL"] = journal
    kit.init_app(app)
    return app


def _inside(app: Flask) -> Context:
    """Return a context in which the app is current."""
    context = copy_context()
    context.run(app.app_context().push)
    return context
