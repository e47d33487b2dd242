"""Third-party signals in an app's namespace, relayed while the app's signal has a receiver."""

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import blinker
import flask
import flask.signals
import pytest
from flask import (
    Flask,
    current_app,
    g,
    request,
)
from werkzeug.local import LocalProxy

from flask_signals_kit import (
    DeclarationError,
    Namespace,
    Signal,
    SignalsKit,
    UnknownSignalError,
    current_emission,
)
from tests.bridge.support import fail, ignore, make_site, receiver_count


def test_blinker_signal_is_bridged_under_its_name(kit: SignalsKit, app: Flask) -> None:
    """Dashes become underscores; the name is returned."""
    theirs = blinker.NamedSignal("invoice-paid")
    assert kit.bridge(theirs) == ("invoice_paid",)
    kit.on("invoice_paid")(receive := lambda who, /, **payload: (who, payload))
    with app.app_context():
        [(_, result)] = theirs.send("acme", amount=5, sender="x", self="y")
        assert result == ("acme", {"amount": 5, "sender": "x", "self": "y"})
        assert kit.send("invoice_paid", "acme") == [(receive, ("acme", {}))]


def test_namespace_is_bridged_whole_or_in_part(kit: SignalsKit, app: Flask) -> None:
    """With a prefix, and with names as spelled in the namespace or in Python."""
    theirs = blinker.Namespace()
    for name in ("invoice-paid", "invoice-sent", "invoice-lost"):
        theirs.signal(name)
    assert kit.bridge(theirs, ["invoice-paid", "invoice_sent"], "billing.") == (
        "billing.invoice_paid",
        "billing.invoice_sent",
    )
    assert kit.bridge(theirs, names="invoice_lost") == ("invoice_lost",)
    seen: list[str] = []
    kit.on("billing.invoice_paid")(lambda sender, **extra: seen.append(current_emission.signal))
    with app.app_context():
        theirs["invoice-paid"].send()
        theirs["invoice-sent"].send()
    assert seen == ["billing.invoice_paid"]


def test_names_that_map_to_the_same_identifier_are_refused(kit: SignalsKit) -> None:
    """`invoice-paid` and `invoice_paid` of one namespace cannot both be `invoice_paid`."""
    theirs = blinker.Namespace()
    theirs.signal("invoice-paid")
    theirs.signal("invoice_paid")
    with pytest.raises(DeclarationError, match="invoice_paid"):
        kit.bridge(theirs)


def test_bridge_relays_only_while_the_app_has_receivers(kit: SignalsKit, app: Flask) -> None:
    """Before the first receiver and after the last, the source signal has no relay."""
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)
    assert not theirs.receivers
    with app.app_context(), kit.namespace["invoice_paid"].connected_to(ignore):
        assert len(theirs.receivers) == 1
    assert not theirs.receivers


def test_bridge_can_follow_receivers_and_apps(kit: SignalsKit) -> None:
    """Order of bridging, connecting and initialising does not matter."""
    theirs = blinker.NamedSignal("invoice-paid")
    seen: list[str] = []
    kit.on("invoice_paid")(lambda sender, **extra: seen.append(current_app.name))
    before = make_site(kit, "before")
    kit.bridge(theirs)
    after = make_site(kit, "after")
    for app in (before, after):
        with app.app_context():
            theirs.send()
    assert seen == ["before", "after"]


def test_bridged_signal_is_relayed_to_the_current_app(kit: SignalsKit) -> None:
    """If the sender is not an app, the current app's receivers run; without one, none run."""
    theirs = blinker.NamedSignal("cache-hit")
    kit.bridge(theirs)
    seen: list[tuple[str, Any]] = []
    one, two, bare = make_site(kit, "one"), make_site(kit, "two"), Flask("bare")
    kit.on("cache_hit")(lambda sender, **extra: seen.append((current_app.name, sender)))
    for app in (one, two, bare):
        with app.app_context():
            theirs.send()
            theirs.send(None)
            theirs.send("view")
    theirs.send("no app")
    assert seen == [
        *[("one", None), ("one", None), ("one", "view")],
        *[("two", None), ("two", None), ("two", "view")],
    ]


def test_bridged_signal_sent_by_an_app_is_relayed_to_that_app(kit: SignalsKit) -> None:
    """Even where another app is current, and through a proxy."""
    theirs = blinker.NamedSignal("user-seen")
    kit.bridge(theirs)
    one, two = make_site(kit, "one"), make_site(kit, "two")
    seen: list[tuple[str, bool]] = []
    for app in (one, two):

        @kit.for_app(app).on("user_seen")
        def receive(sender: Any, name: str = app.name, **extra: Any) -> None:
            seen.append((name, isinstance(sender, LocalProxy)))

    with two.app_context():
        theirs.send(one)
        theirs.send(current_app)
    theirs.send(one)
    assert seen == [("one", False), ("two", False), ("one", False)]


def test_relay_returns_the_first_result(kit: SignalsKit, app: Flask) -> None:
    """The first result that is not `None`: some senders use it, `False` included."""
    theirs = blinker.NamedSignal("oauth-authorized")
    kit.bridge(theirs)
    kit.on("oauth_authorized")(ignore)
    with app.app_context():
        assert [result for _, result in theirs.send()] == [None]
    kit.on("oauth_authorized")(lambda sender, **extra: False)
    kit.on("oauth_authorized")(lambda sender, **extra: True)
    with app.app_context():
        assert [result for _, result in theirs.send()] == [False]


def test_relay_adds_one_call_to_a_single_receiver(kit: SignalsKit, app: Flask) -> None:
    """Between Flask's `send` and the receiver there is the relay and nothing else."""
    calls: list[str] = []

    @kit.on("request_started")
    def receive(sender: Any, **payload: Any) -> None: ...

    def note(frame: FrameType, event: str, arg: Any) -> None:
        module = str(frame.f_globals["__name__"])
        if event == "call" and module.startswith("flask_signals_kit"):
            calls.append(f"{module}.{frame.f_code.co_name}")

    flask.signals.request_started.send(app)  # the first send resolves the receivers
    sys.setprofile(note)
    flask.signals.request_started.send(app, _async_wrapper=app.ensure_sync)
    sys.setprofile(None)
    assert calls == ["flask_signals_kit.bridge.pass_on"]


def test_recursion_through_a_flask_signal_names_the_signal(kit: SignalsKit, app: Flask) -> None:
    """A receiver of `message_flashed` that flashes a message."""

    @kit.on("message_flashed")
    def flash_again(sender: Any, **payload: Any) -> None:
        flask.signals.message_flashed.send(app, message="again", category="message")

    with pytest.raises(RecursionError) as caught:
        flask.signals.message_flashed.send(app, message="once", category="message")
    assert "→ message-flashed →" in "".join(caught.value.__notes__)


def test_policy_applies_to_receivers_of_bridged_signals(kit: SignalsKit) -> None:
    """`raise` propagates to the third-party sender, `isolate` does not."""
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)
    kit.on("invoice_paid")(fail)
    with make_site(kit).app_context(), pytest.raises(IndexError):
        theirs.send()
    kit.signal("invoice_paid", on_error="isolate")
    with make_site(kit).app_context():
        assert [result for _, result in theirs.send()] == [None]


def await_plain(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Make a plain receiver awaitable."""

    async def run(*args: Any, **payload: Any) -> Any:
        return receiver(*args, **payload)

    return run


@pytest.mark.parametrize("kind", ["plain", "async"])
@pytest.mark.needs("asgiref")
def test_awaited_source_signal_reaches_plain_and_async_receivers(
    kit: SignalsKit, app: Flask, kind: str
) -> None:
    """Given a `_sync_wrapper`, which blinker requires: a relay is a plain receiver."""
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)

    async def receive(sender: Any, **payload: Any) -> Any:
        return sender, payload, current_app.name

    def plain(sender: Any, **payload: Any) -> Any:
        return sender, payload, current_app.name

    with app.app_context():
        assert asyncio.run(theirs.send_async("acme")) == []
        kit.on("invoice_paid")(receive if kind == "async" else plain)
        sent = theirs.send_async("acme", _sync_wrapper=await_plain, amount=5)
        assert [result for _, result in asyncio.run(sent)] == [("acme", {"amount": 5}, "shop")]
        with pytest.raises(RuntimeError, match="non-coroutine function"):
            asyncio.run(theirs.send_async("acme"))


@pytest.mark.parametrize("testing", [False, True])
def test_unbound_proxy_as_sender_is_relayed(kit: SignalsKit, testing: bool) -> None:
    """`send(request)` outside a request works, with and without a relay."""
    app = make_site(kit, TESTING=testing, SIGNALS_KIT_ON_ERROR="isolate")
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)
    seen: list[Any] = []
    kit.on("invoice_paid")(lambda sender, **extra: seen.append((type(sender), current_emission)))
    kit.on("invoice_paid", sender=app)(lambda sender, **extra: seen.append("the app"))
    kit.on("invoice_paid")(fail)
    with app.app_context():
        theirs.send(request)
    assert [kind for kind, _ in seen] == [LocalProxy]


def test_app_can_bridge_for_itself(kit: SignalsKit) -> None:
    """`for_app(app).bridge` adds no relay in another app."""
    theirs = blinker.NamedSignal("invoice-paid")
    one, two = make_site(kit, "one"), make_site(kit, "two")
    seen: list[str] = []
    assert kit.for_app(one).bridge(theirs) == ("invoice_paid",)
    kit.on("invoice_paid")(lambda sender, **extra: seen.append(current_app.name))
    for app in (one, two):
        with app.app_context():
            theirs.send()
    assert seen == ["one"]


def test_bridging_twice_adds_one_relay(kit: SignalsKit, app: Flask) -> None:
    """The same signal under the same name."""
    theirs = blinker.NamedSignal("invoice-paid")
    seen: list[Any] = []
    kit.on("invoice_paid")(lambda sender, **extra: seen.append(sender))
    assert kit.bridge(theirs) == kit.bridge(theirs) == ("invoice_paid",)
    with app.app_context():
        theirs.send("acme")
    assert seen == ["acme"]
    assert len(theirs.receivers) == 1


@pytest.mark.parametrize("taken_by", ["declaration", "bridge", "flask"])
def test_bridging_under_a_used_name_is_refused(kit: SignalsKit, taken_by: str) -> None:
    """The message has the name and a prefix that avoids it; nothing is bridged."""
    name = "request_started" if taken_by == "flask" else "invoice_paid"
    if taken_by == "declaration":
        kit.signal(name)
    elif taken_by == "bridge":
        kit.bridge(blinker.NamedSignal(name))
    theirs = blinker.Namespace()
    theirs.signal("something-else")
    theirs.signal(name)
    with pytest.raises(DeclarationError) as caught:
        kit.bridge(theirs)
    assert repr(name) in str(caught.value)
    assert "taken" in str(caught.value)
    assert "prefix=" in str(caught.value)
    assert kit.bridge(theirs, prefix="theirs.") == ("theirs.something_else", f"theirs.{name}")
    assert "something_else" not in kit.registry.bridged


def test_relay_is_freed_with_its_app(kit: SignalsKit) -> None:
    """Without the garbage collector."""
    theirs = blinker.NamedSignal("invoice-paid")
    kit.bridge(theirs)
    kit.on("invoice_paid")(ignore)
    gc.disable()
    try:
        app = make_site(kit)
        assert len(theirs.receivers) == 1
        freed = weakref.ref(app)
        del app
        assert freed() is None or gc.collect()  # its views are closures of nothing
        assert not theirs.receivers
    finally:
        gc.enable()


def test_anonymous_signal_needs_a_name(kit: SignalsKit, app: Flask) -> None:
    """The message shows how to name it; then it works."""
    theirs = blinker.Signal("no name")
    for use in (lambda: kit.bridge(theirs), lambda: kit.on(theirs)(ignore)):
        with pytest.raises(DeclarationError, match=r"no name.*names=\['…'\]"):
            use()
    assert kit.bridge(theirs, names=["paid"]) == ("paid",)
    seen: list[str] = []
    kit.on(theirs)(lambda sender, **extra: seen.append(current_emission.signal))
    with app.app_context():
        theirs.send()
    assert seen == ["paid"]


def test_several_names_for_one_signal_are_refused(kit: SignalsKit) -> None:
    """One signal has one name in an app."""
    with pytest.raises(DeclarationError, match="one name, not 2"):
        kit.bridge(blinker.NamedSignal("invoice-paid"), names=["paid", "settled"])


@pytest.mark.parametrize("thing", [3, None, object(), ["flask_login"]])
def test_invalid_bridge_source_is_refused(kit: SignalsKit, thing: Any) -> None:
    """The message has its type and the accepted types."""
    with pytest.raises(DeclarationError) as caught:
        kit.bridge(thing)
    assert type(thing).__name__.removesuffix("Type") in str(caught.value)
    assert "the name of an extension, a blinker signal or a blinker namespace" in str(caught.value)


def test_name_missing_in_the_source_namespace_is_refused(kit: SignalsKit) -> None:
    """The message has the nearest name and all names."""
    theirs = blinker.Namespace()
    theirs.signal("invoice-paid")
    with pytest.raises(UnknownSignalError) as caught:
        kit.bridge(theirs, names=["invoice_payed"])
    message = str(caught.value)
    assert "'invoice_payed'" in message
    assert "Did you mean 'invoice_paid'?" in message
    assert "It has invoice_paid" in message


def test_source_signal_name_must_be_an_identifier(kit: SignalsKit) -> None:
    """The message has a valid name."""
    with pytest.raises(DeclarationError, match="'user_logged_in'"):
        kit.bridge(blinker.NamedSignal("user logged in"))


def test_relays_can_be_added_and_removed_while_requests_are_served(
    kit: SignalsKit, app: Flask
) -> None:
    """Temporary receivers in some threads do not affect requests in others."""
    stop = threading.Event()
    app.test_client().get("/")
    before = receiver_count("request_started", app)

    def borrow() -> None:
        with app.app_context():
            for _ in range(100):
                with kit.namespace["request_started"].connected_to(ignore):
                    pass

    def serve() -> None:
        while not stop.is_set():
            assert app.test_client().get("/").text == "good day"

    with ThreadPoolExecutor(4) as pool:
        serving = [pool.submit(serve) for _ in range(2)]
        for done in [pool.submit(borrow) for _ in range(2)]:
            done.result(60)
        stop.set()
        for done in serving:
            done.result(60)
    assert receiver_count("request_started", app) == before


class Sender:
    """An object that sends."""


def busy_signal(others: list[Sender], how_often: int) -> blinker.NamedSignal:
    """Make a signal that gets connections from elsewhere during each disconnect."""

    class Receivers(set[Any]):
        def discard(self, receiver: Any, /) -> None:
            super().discard(receiver)
            if len(others) < how_often:
                others.append(Sender())
                theirs.connect(ignore, others[-1])

    class Busy(blinker.NamedSignal):
        set_class = Receivers

    theirs = Busy("invoice-paid")
    return theirs


@pytest.mark.parametrize("how_often", [1, 50])
def test_connections_made_while_a_relay_is_removed_are_tolerated(
    kit: SignalsKit, app: Flask, how_often: int
) -> None:
    """Blinker iterates over all senders to disconnect, and fails if another thread adds one."""
    others: list[Sender] = []
    theirs = busy_signal(others, how_often)
    kit.bridge(theirs)
    with app.app_context():
        for _ in range(3):
            with kit.namespace["invoice_paid"].connected_to(lambda sender, **extra: "called"):
                assert "called" in [result for _, result in theirs.send("acme")]
            assert "called" not in [result for _, result in theirs.send("acme")]
    assert len(others) == how_often
    assert [*theirs.receivers_for("acme")] == []


def test_relay_is_removed_if_its_receiver_is_collected_while_connecting(
    kit: SignalsKit, app: Flask
) -> None:
    """The collector can run during the connection; the final state counts."""
    kept: list[Any] = [lambda sender, **extra: None]

    class Collecting(blinker.NamedSignal):
        def connect(self, *args: Any, **how: Any) -> Any:
            kept.clear()
            return super().connect(*args, **how)

    theirs = Collecting("invoice-paid")
    signal = kit.for_app(app).namespace.signal("invoice_paid")
    signal.connect(kept[0])
    kit.bridge(theirs)
    assert not kept
    assert not signal.receivers
    assert not theirs.receivers


def test_collection_of_a_receiver_does_not_wait_for_locks(kit: SignalsKit, app: Flask) -> None:
    """The collector runs in any thread, which may hold the lock that a relay waits for."""
    held, waiting = threading.Event(), threading.Event()

    class Slow(Signal):
        def disconnect(self, *args: Any) -> None:
            waiting.set()
            super().disconnect(*args)

    library = Namespace()
    returned, lent = Slow("book_returned"), Slow("book_lent")
    library.update(book_returned=returned, book_lent=lent)
    kit.bridge(library)
    signals = kit.for_app(app).namespace
    kept: list[Any] = [lambda sender, **extra: None]
    signals["book_lent"].connect(kept[0])
    signals["book_returned"].connect(ignore)

    def leave() -> None:
        held.wait(10)
        signals["book_returned"].disconnect(ignore)

    def collect() -> None:
        with returned._lock:
            held.set()
            waiting.wait(10)
            kept.clear()

    threads = [threading.Thread(target=work, daemon=True) for work in (leave, collect)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert not returned.receivers
    assert not lent.receivers


def test_receivers_of_flask_signals_have_the_request_context(kit: SignalsKit, app: Flask) -> None:
    """`g` of the request is available from `request_started` on, as with Flask's own signals."""
    kit.on("request_started")(lambda app, **extra: setattr(g, "seen", True))
    app.add_url_rule("/seen", view_func=lambda: str(g.seen))
    assert app.test_client().get("/seen").text == "True"


def test_failing_relay_update_does_not_affect_other_relays(
    kit: SignalsKit, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """One thread updates the relays of all; their errors are logged."""
    begun, gone = threading.Event(), threading.Event()

    class Slow(Signal):
        def connect(self, *args: Any, **how: Any) -> Any:
            begun.set()
            gone.wait(10)
            return super().connect(*args, **how)

    class Broken(Signal):
        def disconnect(self, *args: Any) -> None:
            raise OSError("the library is closed")

    slow, broken = Slow("book_lent"), Broken("book_returned")
    for signal in (slow, broken):
        kit.bridge(signal)
    signals = kit.for_app(app).namespace
    kept: list[Any] = [lambda sender, **extra: None]
    signals["book_returned"].connect(kept[0])
    other = threading.Thread(target=signals["book_lent"].connect, args=(ignore,), daemon=True)
    other.start()
    begun.wait(10)
    kept.clear()  # the collector notes the relay for the other thread
    gone.set()
    other.join(10)
    assert not other.is_alive()
    assert "The relay of signal 'book_returned' failed" in caplog.text
    with pytest.raises(OSError, match="closed"):
        signals["book_returned"].disconnect(signals["book_returned"].connect(ignore))
