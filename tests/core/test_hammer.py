"""Concurrent threads and tasks that connect, disconnect, mute, observe, drop and send.

What each of them does is drawn by a seeded random generator beforehand, so that it can be done
again by itself: what is connected in the end must be the same.
"""

import asyncio
import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count
from typing import Any

import pytest
from blinker import ANY
from flask import Flask
from flask.signals import appcontext_pushed, request_finished, request_started
from werkzeug.routing import Rule

from flask_signals_kit import AppSignals, DomainSignal, Signal, SignalsKit
from tests.support import together

SENDERS = ("acme", "globex", 7)
LIMITS = (ANY, *SENDERS)
PAUSE = 0.0005
"""Seconds that observers sleep, so that the other threads are not slowed down."""
PATIENCE = 8
"""Seconds after which a player stops in the midst of its script: machines differ a lot in this."""
Op = tuple[Any, ...]


@pytest.fixture(autouse=True)
def quick_switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the interpreter switch threads as often as possible.

    But not where Werkzeug compiles a route: CPython 3.11's compiler counts its depth for all
    threads together, and gives up if that is not what it was (python/cpython#106905).
    """
    compile_route, one_by_one = Rule.compile, threading.Lock()

    def compile_alone(rule: Rule) -> None:
        with one_by_one:
            compile_route(rule)

    monkeypatch.setattr(Rule, "compile", compile_alone)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Clock:
    """A logical clock shared by threads."""

    def __init__(self) -> None:
        self._ticks = count(1)

    def now(self) -> int:
        return next(self._ticks)


class Receiver:
    """A receiver that records sends that began after its connections ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.me = self  # for the cyclic garbage collector
        self.ended: dict[Any, int] = dict.fromkeys(LIMITS, 0)  # those that there are not
        self.complaints: list[str] = []

    def __call__(self, sender: Any, /, *, begun: int, **payload: Any) -> str:
        meant = {ANY, sender} if sender in SENDERS else {ANY}
        ended = [self.ended.get(limit, begun) for limit in meant]
        if begun > max(ended):
            self.complaints.append(f"{self.name} called what {sender} sent at {begun}: {ended}")
        return self.name

    def hears(self, sender: Any) -> bool:
        """Return whether it is connected for a sender."""
        return not {ANY, sender} <= {*self.ended}


class Player:
    """A thread with receivers of its own."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self.clock = clock
        self.made = count()
        self.receivers = [self.make() for _ in range(4)]
        self.dropped: list[str] = []  # complaints of those that are gone

    def make(self) -> Receiver:
        return Receiver(f"{self.name}.{next(self.made)}")

    def connect(self, signal: Signal, which: int, sender: Any, weak: bool, priority: int) -> None:
        receiver = self.receivers[which]
        receiver.ended.pop(sender, None)
        signal.connect(
            receiver, sender, weak, priority=priority, uid=f"{receiver.name} for {sender}"
        )

    def disconnect(self, signal: Signal, which: int, sender: Any) -> None:
        receiver = self.receivers[which]
        signal.disconnect(receiver, sender)
        ended = self.clock.now()
        for limit in LIMITS if sender is ANY else (sender,):
            receiver.ended.setdefault(limit, ended)

    def borrow(self, signal: Signal, which: int, sender: Any) -> None:
        """Connect a temporary receiver of this thread."""
        temporary = f"{self.name}'s temporary"
        with signal.connected_to(lambda who, /, **payload: temporary, sender):
            for who in SENDERS:
                called = [result for _, result in signal.send(who, begun=self.clock.now())]
                assert called.count(temporary) == (sender in (ANY, who))
        assert temporary not in [
            result for _, result in signal.send("acme", begun=self.clock.now())
        ]

    def mute(self, signal: Signal, which: int, sender: Any) -> None:
        """Mute the signal temporarily."""
        with signal.muted():
            assert signal.send("acme", begun=self.clock.now()) == []
        signal.send("acme", begun=self.clock.now())

    def observe(self, signal: Signal, which: int, sender: Any) -> None:
        """Observe the signal temporarily, and check the thread's own emissions."""
        seen: list[str] = []
        end = signal.observe(lambda emission: seen.append(emission.payload.get("by", "")))
        signal.send("acme", begun=self.clock.now(), by=self.name)
        end()
        signal.send("acme", begun=self.clock.now(), by=self.name)
        assert seen.count(self.name) == 1

    def drop(self, signal: Signal, which: int, sender: Any) -> None:
        """Drop a reference to a receiver; a strong connection keeps it."""
        self.dropped += self.receivers[which].complaints
        self.receivers[which] = self.make()

    def send(self, signal: Signal, which: int, sender: Any) -> None:
        """Send, and check that the thread's own connected receivers are called once each."""
        who = "acme" if sender is ANY else sender
        called = [result for _, result in signal.send(who, begun=self.clock.now())]
        assert len({*called}) == len(called)
        for receiver in self.receivers:
            assert (receiver.name in called) == receiver.hears(who)

    def complaints(self) -> list[str]:
        """Return the errors that receivers recorded."""
        return [*self.dropped, *(each for r in self.receivers for each in r.complaints)]

    def play(self, signal: Signal, ops: list[Op]) -> int:
        """Do it all, or what there is time for; tell how much that was."""
        end = time.monotonic() + PATIENCE
        for done, (what, *arguments) in enumerate(ops):
            if time.monotonic() > end:
                return done
            getattr(self, what)(signal, *arguments)
        return len(ops)


def draw(seed: int, number: int) -> list[Op]:
    """Draw the actions of a player."""
    rng = random.Random(seed)
    ops: list[Op] = []
    for _ in range(number):
        which, sender = rng.randrange(4), rng.choice([ANY, ANY, *SENDERS])
        what = rng.choices(
            ["connect", "disconnect", "send", "borrow", "mute", "observe", "drop"],
            [8, 5, 5, 1, 1, 1, 1],
        )[0]
        if what == "connect":
            ops.append((what, which, sender, rng.random() < 0.5, rng.randint(-1, 1)))
        else:
            ops.append((what, which, sender))
    return ops


def left(signal: Signal) -> list[tuple[Any, ...]]:
    """Return the connected receivers, in calling order."""
    gc.collect()
    return [(c.uid, c.priority, c.weak, c.sender) for c in signal.connections]


def of_player(connections: list[tuple[Any, ...]], name: str) -> list[tuple[Any, ...]]:
    """Return the connected receivers of a player, in calling order."""
    return [each for each in connections if str(each[0]).startswith(f"{name}.")]


def test_final_connections_are_those_of_each_thread() -> None:
    """None is lost or left over, and no receiver gets a send that began after its connection ended.

    Four threads play with receivers of their own, while others send and collect garbage.
    """
    signal, clock = Signal("account_funded"), Clock()
    names = [f"player{number}" for number in range(4)]
    scripts = {name: draw(number, 100) for number, name in enumerate(names)}
    players = {name: Player(name, clock) for name in names}
    stay = Player("stay", clock)
    for which in range(4):
        stay.connect(signal, which, ANY, True, which % 2)
    expected = ["stay.1", "stay.3", "stay.0", "stay.2"]
    done: dict[str, int] = {}

    def play(name: str) -> None:
        try:
            done[name] = players[name].play(signal, scripts[name])
        finally:
            done.setdefault(name, 0)

    def send() -> None:
        while len(done) < len(names):
            for sender in (*SENDERS, None):
                called = [result for _, result in signal.send(sender, begun=clock.now())]
                assert len({*called}) == len(called)
                assert [name for name in called if name in expected] == expected
            time.sleep(PAUSE)

    def collect() -> None:
        while len(done) < len(names):
            gc.collect()
            assert signal.receivers
            time.sleep(PAUSE)

    together(*[lambda name=name: play(name) for name in names], send, collect)
    connections = left(signal)
    for name in names:
        alone, again = Signal("account_funded"), Player(name, clock)
        again.play(alone, scripts[name][: done[name]])
        assert of_player(connections, name) == left(alone)
        assert players[name].complaints() == again.complaints() == []
    assert len(of_player(connections, "stay")) == 4


def test_strong_connection_overrides_a_concurrent_weak_one() -> None:
    """In either order, the receiver stays."""

    def both() -> bool:
        signal = Signal("account_funded")

        def receive(sender: Any) -> None:
            pass

        together(lambda: signal.connect(receive), lambda: signal.connect(receive, weak=False))
        return signal.connections[0].weak

    assert [both() for _ in range(400)].count(True) == 0


def test_collection_during_planning_removes_connections() -> None:
    """Wherever in a send a sender is collected, its connections are removed.

    The collector is made to run at each of the allocations of a send in turn.
    """

    class Cyclic:
        def __init__(self) -> None:
            self.me = self

    def others(sender: Any) -> None:
        pass

    def kept_after(allocations: int) -> bool:
        """Collect a sender during a send; return whether its receiver is kept."""
        signal = Signal("account_funded")
        freed: list[int] = []

        class Gone:
            def __call__(self, sender: Any) -> None:
                pass

            def __del__(self) -> None:
                freed.append(allocations)

        for sender in SENDERS:
            signal.connect(others, sender)
        gc.collect()
        gc.disable()
        signal.connect(Gone(), Cyclic(), weak=False)
        gc.set_threshold(gc.get_count()[0] + allocations)
        gc.enable()
        signal.send("acme")
        gc.disable()
        return len(signal.connections) == len(SENDERS) and not freed

    before = gc.get_threshold()
    try:
        kept = [allocations for allocations in range(1, 60) if kept_after(allocations)]
    finally:
        gc.set_threshold(*before)
        gc.enable()
    assert kept == []


def test_observer_gets_every_emission_of_every_thread() -> None:
    """However many other observers are added and removed, and however receivers are connected."""
    signal = Signal("account_funded")
    seen: list[str] = []
    signal.observe(lambda emission: seen.append(emission.sender))
    sends = 100

    def work(name: str) -> None:
        def receive(sender: Any) -> str:
            return name

        for number in range(sends):
            end = signal.observe(lambda emission: None)
            if number % 3:
                signal.connect(receive)
            signal.send(name)
            signal.disconnect(receive)
            end()

    names = [f"thread {number}" for number in range(4)]
    together(*[lambda name=name: work(name) for name in names])
    assert {name: seen.count(name) for name in names} == dict.fromkeys(names, sends)
    assert not signal.receivers


def test_tasks_have_separate_temporary_receivers() -> None:
    """Thirty tasks connect temporarily and mute, overlapping at random."""
    signal = Signal("account_funded")
    called = 0

    async def stay(sender: Any) -> str:
        await asyncio.sleep(0)
        return "stay"

    async def listen(expected: list[str], rng: random.Random) -> None:
        nonlocal called
        await asyncio.sleep(0)
        found = [result for _, result in await signal.send_async(rng.choice(SENDERS))]
        assert found == expected
        called += len(found)

    async def play(number: int) -> None:
        rng = random.Random(number)
        open_blocks: list[tuple[str, AbstractContextManager[None]]] = []
        for turn in range(25):
            if open_blocks and rng.random() < 0.45:
                _, block = open_blocks.pop(rng.randrange(len(open_blocks)))
                block.__exit__(None, None, None)
            else:
                name = "" if rng.random() < 0.2 else f"task {number}, turn {turn}"
                block = signal.connected_to(temporary(name)) if name else signal.muted()
                block.__enter__()
                open_blocks.append((name, block))
            names = ["stay", *(name for name, _ in open_blocks)]
            expected = [] if "" in names else names
            await listen(expected, rng)
            if rng.random() < 0.3:
                await asyncio.gather(*[listen(expected, rng) for _ in range(2)])
        for _, block in reversed(open_blocks):
            block.__exit__(None, None, None)
            await asyncio.sleep(0)
        await listen(["stay"], rng)

    async def story() -> None:
        await asyncio.gather(*[asyncio.create_task(play(number)) for number in range(30)])

    def temporary(name: str) -> Callable[..., Any]:
        async def receive(sender: Any) -> str:
            await asyncio.sleep(0)
            return name

        return receive

    signal.connect(stay)
    asyncio.run(story())
    assert called > 1000, "too few calls: the test shows nothing"
    assert [connection.receiver.name for connection in signal.connections] == [stay.__qualname__]
    assert not signal._mutes


def test_async_send_calls_the_receivers_connected_when_it_began() -> None:
    """Tasks that connect and disconnect meanwhile do not change it."""
    signal = Signal("account_funded")
    clock = Clock()

    async def churn(number: int) -> None:
        async def receive(sender: int) -> int:
            await asyncio.sleep(0)
            return number

        for turn in range(30):
            signal.connect(receive, priority=turn % 3)
            connected = clock.now()
            found = [result for _, result in await signal.send_async(connected)]
            assert found.count(number) == 1
            assert len({*found}) == len(found)
            signal.disconnect(receive)
            found = [result for _, result in await signal.send_async(clock.now())]
            assert number not in found

    async def story() -> None:
        await asyncio.gather(*[churn(number) for number in range(20)])

    asyncio.run(story())
    assert not signal.receivers


class Wiring:
    """A kit with two apps, and its connections."""

    def __init__(self) -> None:
        self.kit = SignalsKit()
        self.funded: DomainSignal[Any, ..., Any] = self.kit.signal("account_funded")
        self.apps = [Flask("one"), Flask("two")]
        for app in self.apps:
            self.kit.init_app(app)
        self.receivers: dict[str, Callable[..., Any]] = {}

    def app_signals(self, number: int) -> AppSignals:
        return self.kit.for_app(self.apps[number])

    def receiver(self, name: str) -> Callable[..., Any]:
        """Return the receiver of this name, created at the first call."""

        def receive(sender: Any, **payload: Any) -> str:
            return name

        return self.receivers.setdefault(name, receive)

    def play(self, ops: list[Op]) -> int:
        """Connect and disconnect through the kit and each app's signals; tell how often."""
        end = time.monotonic() + PATIENCE
        for done, (what, name, where, target, priority) in enumerate(ops):
            if time.monotonic() > end:
                return done
            api = self.kit if where == 2 else self.app_signals(where)
            receiver = self.receiver(name)
            if what == "connect":
                api.on(target, priority=priority, uid=f"{name} {target}")(receiver)
            else:
                api.disconnect(receiver, target)
        return len(ops)

    def left(self, number: int, player: str) -> list[tuple[Any, ...]]:
        """Return the connected receivers of a player in an app, in calling order."""
        return [
            (connection.uid, connection.priority)
            for connection in self.app_signals(number)
            .namespace.signal("account_funded")
            .connections
            if str(connection.uid).startswith(player)
        ]


def draw_wiring(seed: int, player: str, number: int) -> list[Op]:
    """Draw the actions of a thread on a kit and its two apps."""
    rng = random.Random(seed)
    return [
        (
            rng.choice(["connect", "connect", "disconnect"]),
            f"{player}.{rng.randrange(4)}",
            rng.randrange(3),
            rng.choice(["account_funded", "account_funded", "account_*"]),
            rng.randint(-1, 1),
        )
        for _ in range(number)
    ]


def test_final_connections_of_two_apps_are_those_of_each_thread() -> None:
    """Through the kit, an app's signals, by name and by glob, while both send."""
    wiring = Wiring()
    players = [f"player{number}" for number in range(3)]
    scripts = {name: draw_wiring(number, name, 50) for number, name in enumerate(players)}
    done: dict[str, int] = {}
    wiring.kit.on("account_funded", uid="stay")(wiring.receiver("stay"))

    def play(name: str) -> None:
        try:
            done[name] = wiring.play(scripts[name])
        finally:
            done.setdefault(name, 0)

    def send(app: Flask) -> None:
        while len(done) < len(players):
            with app.app_context():
                called = [result for _, result in wiring.funded.send("acme")]
                assert called.count("stay") == 1
                assert len({*called}) == len(called)
            time.sleep(PAUSE)

    together(
        *[lambda name=name: play(name) for name in players],
        *[lambda app=app: send(app) for app in wiring.apps],
    )
    for name in players:
        alone = Wiring()
        alone.play(scripts[name][: done[name]])
        for number in (0, 1):
            assert wiring.left(number, name) == alone.left(number, name)


def test_concurrent_connections_and_new_apps() -> None:
    """In either order, an app has the connections of its kit."""
    kit = SignalsKit()
    funded = kit.signal("account_funded")
    apps = [Flask(f"app{number}") for number in range(20)]
    connected = 100

    def connect() -> None:
        for _ in range(connected // 2):
            kit.on("account_funded")(lambda sender, **payload: None)

    def start(some: list[Flask]) -> None:
        for app in some:
            kit.init_app(app)

    together(connect, connect, lambda: start(apps[::2]), lambda: start(apps[1::2]))
    for app in apps:
        with app.app_context():
            assert len(funded.send("acme")) == connected


@pytest.mark.parametrize("turn", range(5))
def test_concurrent_globs_and_declarations(turn: int) -> None:
    """In either order, a signal has the receivers of every matching glob."""
    kit, app = SignalsKit(), Flask("shop")
    kit.init_app(app)
    globs, names = 40, [f"account_{number}" for number in range(150)]

    def connect() -> None:
        for _ in range(globs // 2):
            kit.on("account_*")(lambda sender, **payload: None)

    def declare() -> None:
        for name in names:
            kit.signal(name)

    together(connect, connect, declare)
    with app.app_context():
        assert {len(kit.send(name, "acme")) for name in names} == {globs}


# Blinker iterates over a dictionary in the callback of a weak reference while others connect.
@pytest.mark.filterwarnings("ignore:.*WeakMethod:pytest.PytestUnraisableExceptionWarning")
def test_relays_follow_connections_while_apps_are_created_and_dropped() -> None:
    """Two apps connect to one of Flask's signals and disconnect."""
    kit = SignalsKit()
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        kit.init_app(app)

    def receive(sender: Any, **payload: Any) -> None:
        pass

    def churn(app: Flask) -> None:
        app_signals = kit.for_app(app)
        for _ in range(40):
            app_signals.on("request_finished")(receive)
            app_signals.disconnect(receive, "request_finished")

    def come_and_go() -> None:
        for _ in range(6):
            app = Flask("passing")
            kit.init_app(app)
            kit.for_app(app).on("request_finished")(receive)

    together(*[lambda app=app: churn(app) for app in apps], come_and_go, come_and_go)
    gc.collect()
    for app in apps:
        assert not kit.for_app(app).namespace.signal("request_finished").receivers
        assert not list(flask_receivers(app))


def flask_receivers(app: Flask, signal: Any = request_finished) -> Iterator[Any]:
    """Yield the kit's receivers of one of Flask's signals for this app."""
    for receiver in signal.receivers_for(app):
        owner = getattr(receiver, "__self__", receiver)
        if getattr(owner, "__module__", "").startswith("flask_signals_kit"):
            yield receiver


def test_apps_can_be_created_and_dropped_while_others_serve_first_requests() -> None:
    """One app for each tenant, created when it is first requested: every request is answered.

    All of them meet in Flask's signals, which the kit leaves as the first request begins.
    """
    kit = SignalsKit()
    kit.on_exception(lambda app, exception, **extra: None)
    tenants: list[list[Flask]] = [[], [], [], []]
    for number in range(240):  # not in the threads: Python 3.11 fails to compile their routes there
        app = Flask("tenant")
        app.add_url_rule("/", view_func=lambda: "served")
        tenants[number % 4].append(app)
    end = time.monotonic() + PATIENCE

    def serve(apps: list[Flask]) -> list[Flask]:
        for number, app in enumerate(apps):
            kit.init_app(app)
            if number % 3 == 0:
                kit.for_app(app).on("request_started")(lambda sender, **extra: None)
            assert app.test_client().get("/").text == "served"
            if number % 4 == 0:
                kit.detach(app)
            if time.monotonic() > end:
                break
        return [app for app in apps if "signals_kit" in app.extensions]

    work = [lambda apps=apps: serve(apps) for apps in tenants]
    apps = [app for made in together(*work) for app in made]
    for app in apps:
        assert not list(flask_receivers(app, appcontext_pushed))
        called = len(kit.for_app(app).namespace.signal("request_started").receivers)
        assert len(list(flask_receivers(app, request_started))) == called
