"""Unusual input: payload names like the kit's own, unusual objects, endless recursion."""

import asyncio
import functools
import gc
import inspect
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock, Mock, create_autospec

import pytest
from blinker import NamedSignal
from flask import Flask
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flask_signals_kit import (
    Call,
    DuplicateReceiverError,
    ReceiverError,
    Signal,
    SignalsKit,
    current_emission,
)
from flask_signals_kit.app import api, app_signals, environment, handle, registry
from flask_signals_kit.core import delivery, dispatch, journal, observation
from flask_signals_kit.core import signal as signal_module
from tests.core.players import Contained, Now, run_alone, to_async
from tests.support import ON_CI, JournalEnvironment, make_signal

# -- payload names -------------------------------------------------------------------------------


def functions_of(thing: Any) -> Iterator[Any]:
    """Yield the functions of a module or a class."""
    for value in vars(thing).values():
        function = value.fget if isinstance(value, property) else inspect.unwrap(value)
        if isinstance(value, type) and value.__module__.startswith("flask_signals_kit"):
            yield from functions_of(value)
        elif inspect.isfunction(function):
            yield function


MODULES = (
    *(api, app_signals, environment, handle, registry),
    *(delivery, dispatch, journal, observation, signal_module),
)


def names_in(*modules: ModuleType) -> list[str]:
    """Return the names of all parameters and variables in these functions."""
    codes = [function.__code__ for module in modules for function in functions_of(module)]
    return sorted({name for code in codes for name in (*code.co_varnames, *code.co_freevars)})


BLINKERS_OWN = {"_async_wrapper", "_sync_wrapper"}
NAMES = [name for name in names_in(*MODULES) if name not in BLINKERS_OWN]


def repeat(who: Any, /, **payload: Any) -> Any:
    """Return what was received, and the current emission's description of it."""
    return who, payload, current_emission.payload


async def repeat_later(who: Any, /, **payload: Any) -> Any:
    """Do the same asynchronously."""
    await asyncio.sleep(0)
    return repeat(who, **payload)


def yes(who: Any, /, **payload: Any) -> bool:
    """Return true."""
    return True


def strongly(signal: Signal) -> None:
    """Connect strongly."""
    signal.connect(repeat, weak=False)


def weakly(signal: Signal) -> None:
    """Connect weakly."""
    signal.connect(repeat)


def watched(signal: Signal) -> None:
    """Connect with a journal."""
    signal.context.environment = JournalEnvironment()
    signal.connect(repeat)


def with_a_predicate(signal: Signal) -> None:
    """Connect with a predicate, which takes the slow loop."""
    signal.connect(repeat, when=yes)


def with_a_delivery(signal: Signal) -> None:
    """Connect with a delivery."""
    signal.connect(repeat, delivery=Now())


def for_a_sender(signal: Signal) -> None:
    """Connect for a sender."""
    signal.connect(repeat, "acme")


WAYS = (strongly, weakly, watched, with_a_predicate, with_a_delivery, for_a_sender)


@pytest.mark.parametrize("way", WAYS)
def test_payload_names_may_equal_names_used_in_the_package(
    way: Callable[[Signal], None],
) -> None:
    """All parameter and variable names at once, in every kind of send."""
    assert {"self", "sender", "signal", "receiver", "payload", "connection", "frame"} <= {*NAMES}
    signal = Signal("account_funded")
    way(signal)
    payload: Any = {name: number for number, name in enumerate(NAMES)}
    expected = ("acme", payload, tuple(payload))
    for _ in range(2):  # the second time by a plan
        assert signal.send("acme", **payload) == [(repeat, expected)]
    assert [outcome.value for outcome in signal.send_robust("acme", **payload)] == [expected]  # type: ignore[union-attr]
    awaited = run_alone(signal.send_async("acme", _sync_wrapper=to_async, **payload))
    assert [(who, sent) for _, (who, sent, _) in awaited] == [("acme", payload)]


def test_payload_names_may_equal_internal_names_in_app_sends() -> None:
    """Through the kit, an app's signals and a handle; awaited, too; with the journal."""
    kit, app = SignalsKit(), Flask("shop")
    app.testing = True
    kit.init_app(app)
    funded = kit.signal("account_funded")
    kit.on(funded)(repeat)
    payload: Any = {name: number for number, name in enumerate(NAMES)}
    expected = [("acme", payload, tuple(payload))]
    with app.app_context():
        for send in (funded.send, lambda *who, **what: kit.send("account_funded", *who, **what)):
            assert [result for _, result in send("acme", **payload)] == expected
        robust = kit.send_robust("account_funded", "acme", **payload)
        assert [outcome.value for outcome in robust] == expected  # type: ignore[union-attr]
        awaited = asyncio.run(funded.send_async("acme", **payload))
        assert [result for _, result in awaited] == expected
    found = kit.for_app(app).send("account_funded", "acme", **payload)
    assert [result for _, result in found] == expected


@pytest.mark.needs("asgiref")
def test_payload_names_may_equal_internal_names_for_async_receivers() -> None:
    """The function that runs the receiver in a loop has parameters of its own, such as `self`."""
    kit, app = SignalsKit(), Flask("shop")
    kit.init_app(app)
    kit.on("account_funded")(repeat_later)
    payload: Any = {name: number for number, name in enumerate(NAMES)}
    [(_, result)] = kit.for_app(app).send("account_funded", "acme", **payload)
    assert result == ("acme", payload, tuple(payload))


@settings(max_examples=50, deadline=None, derandomize=ON_CI)
@given(st.dictionaries(st.text(), st.integers(), max_size=5))
@example({"": 1, "class": 2, "two words": 3, "self": 4, "sender": 5})
def test_payload_name_may_be_any_string(payload: Any) -> None:
    """Identifier or not, as Python allows in `**`."""
    signal = Signal("account_funded")
    signal.connect(repeat)
    signal.connect(also := lambda who, /, **payload: repeat(who, **payload), when=yes)
    for name in BLINKERS_OWN:
        payload.pop(name, None)
    expected = ("acme", payload, tuple(payload))
    assert signal.send("acme", **payload) == [(repeat, expected), (also, expected)]


def test_payload_named_like_the_first_parameter_is_a_failure_of_the_receiver() -> None:
    """Python's own error says so, and the policy applies."""
    signal = Signal("account_funded")

    def first(account: Any, **payload: Any) -> None:
        pytest.fail("must not run")

    signal.connect(first)
    signal.connect(repeat)
    with pytest.raises(TypeError, match="multiple values for argument 'account'"):
        signal.send("acme", account="globex")
    failed, ok = signal.send_robust("acme", account="globex")
    assert (failed.receiver, ok.receiver) == (first, repeat)
    assert isinstance(failed.exception, TypeError)  # type: ignore[union-attr]


# -- senders and receivers -----------------------------------------------------------------------


class Alike:
    """Equal to everything, unhashable, and without weak references."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __bool__(self) -> bool:
        raise AssertionError("asked for its truth")

    def __call__(self, who: Any, /, **payload: Any) -> str:
        return "alike"


class Secret(Alike):
    """An object whose `repr` must not be called."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise AssertionError("printed")


ODD_SENDERS: list[Callable[[], Any]] = [
    Secret,
    list,
    dict,
    set,
    object,
    lambda: [1, 2],
    lambda: {"id": 1},
    lambda: (1, [2]),
    lambda: float("nan"),
    lambda: 1.5 * 2,
    lambda: bytearray(b"acme"),
    lambda: iter([1]),
    lambda: weakref.proxy(repeat),
    lambda: type("Account", (), {}),
]


@pytest.mark.parametrize("make", ODD_SENDERS)
def test_sender_may_be_any_object(make: Callable[[], Any]) -> None:
    """Unhashable, equal to all, without weak references: matched by identity."""
    signal = Signal("account_funded")
    sender, other = make(), make()
    signal.connect(receive := lambda who: "called", sender=sender)
    for _ in range(2):
        assert signal.send(sender) == [(receive, "called")]
        assert signal.has_receivers_for(sender)
        if other is not sender:
            assert signal.send(other) == []
            assert not signal.has_receivers_for(other)
    with signal.connected_to(temporary := lambda who: "temporary", sender):
        assert [*signal.receivers_for(sender)] == [receive, temporary]
    assert len(signal.connections) == 1
    signal.disconnect(receive, sender)
    assert not signal.receivers
    assert signal.send(sender) == []


def test_sender_without_weak_references_is_freed_with_its_connection() -> None:
    """A connection keeps such a sender; nothing does afterwards."""
    gone: list[str] = []

    class Slotted:
        __slots__ = ()

        def __del__(self) -> None:
            gone.append("gone")

    signal = Signal("account_funded")
    signal.connect(repeat, sender=Slotted())
    signal.send("acme")
    assert gone == []
    signal.disconnect(repeat)
    signal.send("acme")
    assert gone == ["gone"]


def test_receiver_may_be_unhashable_and_without_weak_references() -> None:
    """Two of them are two; connecting weakly is refused, and changes nothing."""
    one, two = Alike(), Alike()
    signal = Signal("account_funded", on_error="isolate")
    for receiver in (one, two):
        with pytest.raises(ReceiverError, match="weak=False"):
            signal.connect(receiver)
        assert not any(each is receiver for each in signal.receivers_for("acme"))
        signal.connect(receiver, weak=False)
        signal.connect(receiver, "acme", weak=False, delivery=Contained())
        signal.connect(receiver)  # it is held already
    assert [result for _, result in signal.send("acme")] == ["alike", "alike"]
    assert len(signal.connections) == 4
    signal.disconnect(one)
    [(left, _)] = signal.send("acme")
    assert left is two


class Decorated:
    """The result of a decorator that is a class."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)

    def __call__(self, who: Any, /, **payload: Any) -> Any:
        return self.__wrapped__(who, **payload)  # type: ignore[attr-defined]


class Wrapped:
    """The same, with `__wrapped__` only."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__wrapped__ = function

    def __call__(self, who: Any, /, **payload: Any) -> Any:
        return self.__wrapped__(who, **payload)


@pytest.mark.parametrize("decorate", [Decorated, Wrapped, functools.lru_cache(maxsize=None)])
def test_decorator_object_is_described_by_its_function(decorate: Any) -> None:
    """Not by the decorator's class, which several receivers can share."""
    kit = SignalsKit()

    @kit.on("account_funded", uid="ledger")
    @decorate
    def first(who: Any, **payload: Any) -> str:
        return "first"

    @kit.on("account_funded")
    @decorate
    def second(who: Any, **payload: Any) -> str:
        return "second"

    with pytest.raises(DuplicateReceiverError, match=r"second \(.*first \("):
        kit.on("account_funded", uid="ledger")(second)
    kit.signal("account_funded")
    app = Flask("shop")
    kit.init_app(app)
    places = [
        each.receiver for each in kit.for_app(app).namespace.signal("account_funded").connections
    ]
    assert [place.name.rpartition(".")[2] for place in places] == ["first", "second"]
    for place, function in zip(places, (first, second), strict=True):
        code = function.__wrapped__.__code__
        assert (place.module, place.file) == (__name__, __file__)
        assert place.line == code.co_firstlineno
    assert kit.for_app(app).check() == []


class Raising:
    """An object whose attributes all raise."""

    def __call__(self, who: Any, /, **payload: Any) -> str:
        return "raising"

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    @property
    def __signature__(self) -> Any:
        raise RuntimeError("signature")


class Greedy(type):
    """A metaclass that has any attribute, as those of query builders do."""

    def __getattr__(cls, name: str) -> str:
        return name


class Homeless(metaclass=Greedy):
    """A callable whose module does not exist."""

    __module__ = None  # type: ignore[assignment]

    def __call__(self, who: Any, /, **payload: Any) -> str:
        return "homeless"


def endless(who: Any, /, **payload: Any) -> str:
    """Make a function that is its own `__wrapped__`."""
    return "endless"


endless.__wrapped__ = endless  # type: ignore[attr-defined]

from_an_odd_file: dict[str, Any] = {}
exec(compile("def f(who, **payload): ...", "/srv/caf\udce9/f.py", "exec"), from_an_odd_file)


@pytest.mark.parametrize(
    "receiver",
    [
        Mock(spec=print, return_value=1),
        Mock(spec=repeat),
        MagicMock(),
        create_autospec(repeat),
        Raising(),
        Homeless(),
        endless,
        functools.partial(endless),
        from_an_odd_file["f"],
    ],
    ids=lambda receiver: type(receiver).__name__,
)
def test_any_receiver_can_be_described(receiver: Any) -> None:
    """Whatever its attributes are: it is connected and called, and the report is complete."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    kit.on("account_funded", uid="ledger")(receiver)
    with app.app_context():
        assert len(kit.send("account_funded", "acme", amount=5)) == 1
        kit.check()
        [connection] = kit.namespace.signal("account_funded").connections
        kit.bridge(theirs := NamedSignal("invoice-paid"))
        theirs.connect(receiver, weak=False)
        kit.check()
    place = connection.receiver
    assert {type(part) for part in (place.module, place.name)} == {str}
    answer = app.test_client().get("/_signals/signals.json?name=account_funded")
    assert answer.json["signals"][0]["receivers"][0]["name"] == place.name  # type: ignore[index]
    assert app.test_client().get("/_signals?q=f").status_code == 200
    kit.disconnect(receiver)


def test_unbound_proxy_as_receiver_can_be_described() -> None:
    """It was connected strongly; only a send finds that it is not bound."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    there = Raising()
    proxy = weakref.proxy(there)
    kit.on("account_funded")(proxy)
    kit.on("campaign_created", sender=proxy)(repeat)
    kit.bridge(theirs := NamedSignal("invoice-paid"))
    theirs.connect(proxy, weak=False)
    del there
    gc.collect()
    with app.app_context():
        kit.check()
        with pytest.raises(ReferenceError):
            kit.send("account_funded", "acme")
        assert kit.send("campaign_created", proxy) == [(repeat, (proxy, {}, ()))]
    assert app.test_client().get("/_signals").status_code == 200
    kit.disconnect(proxy)
    with pytest.raises(ReceiverError, match="does not support weak references"):
        Signal("account_funded").connect(proxy)


def test_sender_whose_class_has_every_attribute_is_not_unwrapped() -> None:
    """Only an object with a real `_get_current_object` is a proxy."""
    signal = Signal("account_funded")
    sender = Homeless()
    signal.connect(repeat, sender=sender)
    assert signal.send(sender) == [(repeat, (sender, {}, ()))]
    kit = SignalsKit(app := Flask("shop"))
    funded = kit.signal("account_funded")
    kit.on(funded, sender=sender)(repeat)
    with app.app_context():
        assert funded.send(sender) == kit.send(funded, sender) == [(repeat, (sender, {}, ()))]
        assert funded.has_receivers_for(sender)


def test_refused_connection_notifies_the_environment() -> None:
    """`on_change` follows the last change, so that no relay stays for a removed receiver."""
    in_use: list[bool] = []
    signal: Signal = make_signal("account_funded", on_change=lambda: in_use.append(signal.in_use))

    @signal.receiver_connected.connect
    def refuse(who: Signal, **how: Any) -> None:
        raise RuntimeError("not you")

    with pytest.raises(RuntimeError, match="not you"):
        signal.connect(repeat)
    assert not signal.in_use
    assert in_use[-1:] == [False]


@pytest.mark.parametrize("when", [None, yes])
@pytest.mark.parametrize("how", ["send", "send_robust", "send_async"])
@pytest.mark.parametrize("kind", [ValueError, SystemExit, asyncio.CancelledError])
def test_propagated_exception_does_not_keep_the_sender_alive(
    kind: type[BaseException],
    how: str,
    when: Callable[..., bool] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is freed with the last reference, without the garbage collector.

    A cancelled task is an everyday thing, and what it held may be a request.
    """

    class Account:
        pass

    def fail(sender: Any) -> None:
        raise kind

    async def fail_later(sender: Any) -> None:
        raise kind

    signal = Signal("account_funded")
    signal.connect(fail_later if how == "send_async" else fail, when=when)
    gc.collect()
    gc.disable()
    try:
        # A record of a contained failure would keep it, too.
        with caplog.at_level(logging.CRITICAL, "flask_signals_kit"):
            for _ in range(2):
                account = Account()
                freed = weakref.ref(account)
                with suppress(kind):
                    result = getattr(signal, how)(account)
                    if how == "send_async":
                        run_alone(result)
                result = None
                del account
                assert freed() is None
    finally:
        gc.enable()


# -- no end --------------------------------------------------------------------------------------

MANY = 5_000
"""More calls than a recursion has that ends with Python's stack."""


class Endless(BaseException):
    """Limits an endless recursion, so that the test fails and does not hang."""


class Again:
    """A receiver that sends a signal again, endlessly."""

    def __init__(self, send: Callable[[Any], Any]) -> None:
        self.send = send
        self.calls = 0

    def __call__(self, sender: Any, **payload: Any) -> None:
        self.calls += 1
        if self.calls > MANY:
            raise Endless
        self.send(sender)


def leaves(error: BaseException | None) -> list[BaseException]:
    """Return the exceptions in an exception group."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [] if error is None else [error]


def outcome_of(send: Callable[[Any], Any]) -> tuple[list[Any], BaseException | None]:
    """Send; return the outcomes, or the exception."""
    try:
        return send("acme"), None
    except Exception as error:  # noqa: BLE001  it is looked at
        return [], error


@pytest.mark.parametrize("way", [strongly, weakly, watched, with_a_predicate, for_a_sender])
@pytest.mark.parametrize("how", ["send", "send_robust"])
@pytest.mark.parametrize("on_error", ["raise", "group", "isolate"])
def test_endless_recursion_ends_in_recursion_error(
    on_error: Any, how: str, way: Callable[[Signal], None], caplog: pytest.LogCaptureFixture
) -> None:
    """In every kind of send: a `RecursionError` is handled like any other failure."""
    signal = Signal("account_funded", on_error=on_error)
    way(signal)
    again = Again(getattr(signal, how))
    signal.connect(again)
    _, error = outcome_of(again.send)
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    found = [*leaves(error), *(leaf for each in logged for leaf in leaves(each))]
    assert [type(each) for each in found if not isinstance(each, RecursionError)] == []
    assert found, "no failure was reported"
    assert 10 < again.calls < MANY
    again.send = lambda sender: None
    assert len(signal.send("acme")) == 2, "the signal works as before"


@pytest.mark.parametrize("how", ["send", "send_robust"])
@pytest.mark.parametrize("on_error", ["raise", "group", "isolate"])
def test_endless_recursion_in_two_receivers_does_not_take_exponential_time(
    on_error: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Containing the failure and calling the next receiver would double the work at each level.

    That ends after two to the power of a few hundred calls: never.
    """
    signal = Signal("account_funded", on_error=on_error)
    one, two = Again(getattr(signal, how)), Again(getattr(signal, how))
    signal.connect(one)
    signal.connect(two)
    with caplog.at_level(logging.CRITICAL, "flask_signals_kit"):
        try:
            outcome_of(one.send)
        except Endless:
            pytest.fail("there was no end to it", pytrace=False)
    assert one.calls + two.calls < MANY


def test_recursion_through_two_signals_names_both() -> None:
    """A note lists the signals of the cycle."""
    funded, spent = Signal("account_funded"), Signal("account_spent")
    funded.connect(first := Again(spent.send))
    spent.connect(second := Again(funded.send))
    with pytest.raises(RecursionError) as caught:
        funded.send("acme")
    assert min(first.calls, second.calls) > 10
    [note] = [note for note in caught.value.__notes__ if "→" in note]
    assert "account_funded → account_spent → account_funded" in note


def test_endless_async_recursion_ends_in_recursion_error() -> None:
    """`send_async` within an async receiver."""
    signal = Signal("account_funded")
    calls = 0

    @signal.connect
    async def again(sender: Any) -> None:
        nonlocal calls
        calls += 1
        await signal.send_async(sender)

    with pytest.raises(RecursionError):
        asyncio.run(signal.send_async("acme"))
    assert 10 < calls < MANY


def test_endless_recursion_in_predicates_and_deliveries_ends_in_recursion_error() -> None:
    """They run inside the send as a receiver does."""

    class Resend:
        name = "resend"

        def deliver(self, call: Call, /) -> None:
            signal.send("acme")

    signal = Signal("account_funded")
    ways: list[dict[str, Any]] = [{"when": signal.send}, {"delivery": Resend()}]
    for way in ways:
        signal.connect(repeat, **way)
        with pytest.raises(RecursionError):
            signal.send("acme")
