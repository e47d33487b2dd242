"""Sends: arguments, matching receivers and results. Blinker's promises, kept by `Signal`."""

from contextlib import nullcontext
from typing import Any

import blinker
import pytest
from blinker import ANY
from flask import Flask, current_app
from werkzeug.local import LocalProxy

from flask_signals_kit import Namespace, Signal, current_emission
from flask_signals_kit.core.dispatch import Dispatch


def test_signal_is_a_blinker_signal() -> None:
    """Whatever takes a `blinker.Signal` or a `blinker.NamedSignal` takes one of these."""
    signal = Signal("account_funded")
    assert isinstance(signal, blinker.NamedSignal)
    assert isinstance(signal, blinker.Signal)
    assert Signal.ANY is ANY


def test_signal_has_name_doc_and_repr() -> None:
    """Name and doc are where blinker has them, and the repr ends with the name."""
    signal = Signal("account_funded", "Money arrived.")
    assert signal.name == "account_funded"
    assert signal.__doc__ == "Money arrived."
    assert repr(signal).endswith("; 'account_funded'>")


def test_signal_without_doc_has_the_doc_of_its_class() -> None:
    """As with blinker."""
    assert Signal("account_funded").__doc__ == Signal.__doc__


def test_send_without_receivers_returns_an_empty_list() -> None:
    """As with blinker."""
    assert Signal("account_funded").send("acme", amount=5) == []


def test_send_passes_the_sender_by_position_and_the_payload_by_name() -> None:
    """The first parameter of a receiver can have any name."""
    signal = Signal("account_funded")
    seen = []

    @signal.connect
    def receive(source: str, *, amount: int, **extra: Any) -> None:
        seen.append((source, amount, extra))

    signal.send("acme", amount=5, method="card")
    assert seen == [("acme", 5, {"method": "card"})]


def test_send_without_a_sender_passes_none() -> None:
    """As blinker does."""
    signal = Signal("account_funded")
    signal.connect(receive := lambda sender, **payload: (sender, payload))
    assert signal.send() == [(receive, (None, {}))]


def test_send_returns_receiver_and_result_in_calling_order() -> None:
    """The result is a list of `(receiver, result)`, `None` results included."""
    signal = Signal("account_funded")

    @signal.connect
    def first(sender: Any) -> str:
        return "one"

    @signal.connect
    def second(sender: Any) -> None:
        return None

    assert signal.send("acme") == [(first, "one"), (second, None)]


def test_payload_may_be_named_signal_self_receiver_or_sender() -> None:
    """The signal's own parameters do not conflict with a payload's names."""
    signal = Signal("account_funded")
    signal.connect(receive := lambda who, /, **payload: payload)
    payload: Any = {"self": 1, "signal": 2, "receiver": 3, "sender": 4, "weak": 5, "payload": 6}
    assert signal.send("acme", **payload) == [(receive, payload)]
    with signal.connected_to(also := lambda who, /, **payload: payload):
        assert signal.send("acme", **payload) == [(receive, payload), (also, payload)]


def test_sender_is_positional_only() -> None:
    """`sender=` is payload."""
    signal = Signal("account_funded")
    signal.connect(receive := lambda who, /, **payload: (who, payload))
    assert signal.send(sender="acme") == [(receive, (None, {"sender": "acme"}))]


def test_sender_filter_matches_by_identity() -> None:
    """Receivers of any sender run, too."""

    class Account:
        pass

    acme, other = Account(), Account()
    signal = Signal("account_funded")
    signal.connect(for_all := lambda sender: "all")
    signal.connect(for_acme := lambda sender: "acme", sender=acme)
    assert [result for _, result in signal.send(acme)] == ["all", "acme"]
    assert [result for _, result in signal.send(other)] == ["all"]
    assert [result for _, result in signal.send()] == ["all"]
    assert [*signal.receivers_for(acme)] == [for_all, for_acme]


def test_receiver_of_any_and_of_one_sender_is_called_once() -> None:
    """Two connections, one call for each send."""
    signal = Signal("account_funded")

    @signal.connect
    def receive(sender: Any) -> None:
        pass

    signal.connect(receive, sender="acme")
    assert len(signal.send("acme")) == 1
    assert len(signal.send("other")) == 1


def test_receiver_can_be_connected_to_several_senders() -> None:
    """Each `connect` adds a sender."""
    signal = Signal("account_funded")

    def receive(sender: Any) -> None:
        pass

    signal.connect(receive, sender="acme")
    signal.connect(receive, sender="globex")
    assert signal.send("acme")
    assert signal.send("globex")
    assert not signal.send("initech")


def test_equal_strings_and_integers_are_the_same_sender() -> None:
    """Strings and integers match by value, whichever object they are."""
    signal = Signal("account_funded")
    signal.connect(receive := lambda sender: sender, sender="acme inc")
    signal.connect(receive, sender=70000)
    assert signal.send("ACME INC".lower())
    assert signal.send(int("70000"))
    assert not signal.send("70000")


@pytest.mark.parametrize("sender", [0, "", False, None, (), 0.0])
def test_falsy_senders_are_valid(sender: Any) -> None:
    """`0`, `""`, `False` and `None` as sender do not mean "any"."""
    signal = Signal("account_funded")
    signal.connect(receive := lambda sender: sender, sender=sender)
    assert signal.send(sender) == [(receive, sender)]
    assert signal.send("acme") == []
    assert signal.has_receivers_for(sender)
    assert not signal.has_receivers_for("acme")


def test_zero_and_false_are_different_senders() -> None:
    """Although they are equal."""
    signal = Signal("account_funded")
    signal.connect(lambda sender: "zero", sender=0, weak=False)
    signal.connect(lambda sender: "false", sender=False, weak=False)
    signal.connect(lambda sender: "one", sender=1, weak=False)
    signal.connect(lambda sender: "true", sender=True, weak=False)
    assert [signal.send(sender)[0][1] for sender in (0, False, 1, True)] == [
        "zero",
        "false",
        "one",
        "true",
    ]
    assert [len(signal.send(sender)) for sender in (0, False, 1, True)] == [1, 1, 1, 1]


def test_integer_sender_is_not_confused_with_an_object_id() -> None:
    """`sender=id(thing)` and `sender=thing` are two senders."""
    thing = object()
    signal = Signal("account_funded")
    signal.connect(lambda sender: "thing", sender=thing, weak=False)
    assert signal.send(id(thing)) == []
    signal.connect(lambda sender: "number", sender=id(thing), weak=False)
    assert [result for _, result in signal.send(thing)] == ["thing"]
    assert [result for _, result in signal.send(id(thing))] == ["number"]


def test_local_proxy_as_sender_is_unwrapped() -> None:
    """`current_app` and the app are one sender, for connecting and for sending."""

    class Account:
        pass

    acme = Account()
    proxy = LocalProxy(lambda: acme)
    signal = Signal("account_funded")
    signal.connect(by_proxy := lambda sender: None, sender=proxy)
    signal.connect(by_thing := lambda sender: None, sender=acme)
    assert [receiver for receiver, _ in signal.send(acme)] == [by_proxy, by_thing]
    assert [receiver for receiver, _ in signal.send(proxy)] == [by_proxy, by_thing]
    assert signal.has_receivers_for(proxy)
    signal.disconnect(by_proxy, sender=acme)
    signal.disconnect(by_thing, sender=proxy)
    assert not signal.receivers


def test_bound_methods_match_as_senders() -> None:
    """A bound method is a new object at each access; it is the same sender."""

    class Account:
        def fund(self) -> None:
            pass

    acme, other = Account(), Account()
    signal = Signal("account_funded")
    signal.connect(receive := lambda sender: None, sender=acme.fund)
    assert signal.send(acme.fund)[0][0] is receive
    assert not signal.send(other.fund)


def test_has_receivers_for_is_true_if_a_send_would_call_a_receiver() -> None:
    """It considers senders and collected receivers, unlike blinker's."""
    signal = Signal("account_funded")
    assert not signal.has_receivers_for(ANY)
    assert not signal.has_receivers_for("acme")
    signal.connect(for_acme := lambda sender: None, sender="acme")
    assert signal.has_receivers_for("acme")
    assert not signal.has_receivers_for("other")
    assert not signal.has_receivers_for(ANY)
    signal.connect(for_all := lambda sender: None)
    assert signal.has_receivers_for(ANY)
    assert signal.has_receivers_for("other")
    signal.disconnect(for_acme)
    signal.disconnect(for_all)
    assert not signal.has_receivers_for("acme")


def test_receivers_for_any_yields_the_receivers_of_any_sender() -> None:
    """`ANY` selects those without a sender filter."""
    signal = Signal("account_funded")
    signal.connect(for_all := lambda sender: None)
    signal.connect(for_acme := lambda sender: None, sender="acme")
    assert [*signal.receivers_for(ANY)] == [for_all]
    assert [*signal.receivers_for("acme")] == [for_all, for_acme]


def test_receivers_is_true_while_a_receiver_is_connected() -> None:
    """`if signal.receivers:` is blinker's documented shortcut; collected receivers do not count."""
    signal = Signal("account_funded")
    assert not signal.receivers
    signal.connect(receive := lambda sender: None, sender="acme")
    assert signal.receivers
    signal.disconnect(receive, sender="other")
    assert signal.receivers
    signal.disconnect(receive, sender="acme")
    assert not signal.receivers


def test_each_receiver_gets_its_own_payload_dict() -> None:
    """The values are shared."""
    signal = Signal("account_funded")
    seen: list[dict[str, Any]] = []

    @signal.connect
    def grab(sender: Any, **payload: Any) -> None:
        payload.clear()

    @signal.connect
    def look(sender: Any, **payload: Any) -> None:
        seen.append(payload)

    signal.send("acme", amount=5)
    assert seen == [{"amount": 5}]


def test_nested_send_runs_immediately_and_completely() -> None:
    """Sends nest like calls."""
    signal = Signal("account_funded")
    other = Signal("alert_dismissed")
    story: list[str] = []

    @signal.connect
    def dismiss(sender: Any) -> None:
        story.append("before")
        other.send(sender)
        story.append("after")

    @signal.connect
    def last(sender: Any) -> None:
        story.append("last")

    @other.connect
    def note(sender: Any) -> None:
        story.append("within")

    signal.send("acme")
    assert story == ["before", "within", "after", "last"]


def test_signal_can_be_sent_from_its_own_receiver() -> None:
    """Recursion ends where the receiver ends it."""
    signal = Signal("account_funded")
    seen: list[int] = []

    @signal.connect
    def halve(sender: int) -> None:
        seen.append(sender)
        if sender > 1:
            signal.send(sender // 2)

    signal.send(10)
    assert seen == [10, 5, 2, 1]


def test_send_calls_the_receivers_connected_when_it_began() -> None:
    """Later changes count from the next send on."""
    signal = Signal("account_funded")
    calls: list[str] = []

    def late(sender: Any) -> None:
        calls.append("late")

    def swap(sender: Any) -> None:
        calls.append("swap")
        signal.connect(late)
        signal.disconnect(leaving)

    def leaving(sender: Any) -> None:
        calls.append("leaving")

    signal.connect(swap)
    signal.connect(leaving)
    signal.send("acme")
    assert calls == ["swap", "leaving"]
    calls.clear()
    signal.send("acme")
    assert calls == ["swap", "late"]


def test_receiver_can_disconnect_itself() -> None:
    """A one-shot receiver does not affect the others."""
    signal = Signal("account_funded")
    calls: list[str] = []

    @signal.connect
    def once(sender: Any) -> None:
        calls.append("once")
        signal.disconnect(once)

    @signal.connect
    def always(sender: Any) -> None:
        calls.append("always")

    signal.send("acme")
    signal.send("acme")
    assert calls == ["once", "always", "always"]


def test_receiver_connected_for_a_sender_during_a_send_counts_from_the_next() -> None:
    """The rule holds for sends with sender filters, too."""
    signal = Signal("account_funded")
    calls: list[str] = []

    def late(sender: Any) -> None:
        calls.append("late")

    @signal.connect_via("acme")
    def add(sender: Any) -> None:
        calls.append("add")
        signal.connect(late, sender="acme")

    signal.send("acme")
    assert calls == ["add"]
    signal.send("acme")
    assert calls == ["add", "add", "late"]


class Account:
    """A sender, and with `receive` a receiver."""

    def receive(self, sender: Any, **payload: Any) -> str:
        return f"method {current_emission.sender}"


def receive(sender: Any, **payload: Any) -> str:
    """Be a receiver."""
    return f"function {current_emission.sender}"


@pytest.mark.parametrize("on_error", ["raise", "group", "isolate"])
@pytest.mark.parametrize("how", ["empty", "muted", "not for this sender"])
def test_send_without_matching_receivers_enters_no_slow_loop(
    monkeypatch: pytest.MonkeyPatch, on_error: Any, how: str
) -> None:
    """This holds under every policy."""
    signal = Signal("account_funded", on_error=on_error)
    if how != "empty":
        signal.connect(receive, sender="acme" if how == "muted" else "else")
    monkeypatch.setattr(Dispatch, "run", pytest.fail)
    with signal.muted() if how == "muted" else nullcontext():
        for _ in range(2):
            assert signal.send("acme", amount=5) == []


@pytest.mark.parametrize(
    "sender", ["acme", 5, Account(), current_app], ids=["string", "integer", "object", "proxy"]
)
def test_sends_to_sender_filters_and_methods_take_the_fast_path(
    monkeypatch: pytest.MonkeyPatch, sender: Any
) -> None:
    """Once the signal has a plan, a send is one loop over the matching receivers."""
    with Flask("shop").app_context():
        account = Account()
        signals_of = {
            "sender": Signal("account_funded"),
            "method": Signal("account_funded"),
            "mixture": Signal("account_funded"),
        }
        signals_of["sender"].connect(account.receive, sender=sender)
        signals_of["sender"].connect(receive, sender="else")
        signals_of["method"].connect(account.receive)
        signals_of["mixture"].connect(receive, weak=False)
        signals_of["mixture"].connect(account.receive)
        first = {how: signal.send(sender) for how, signal in signals_of.items()}
        monkeypatch.setattr(Dispatch, "__init__", pytest.fail)
        then = {how: signal.send(sender) for how, signal in signals_of.items()}
        assert then == first
        assert [len(results) for results in then.values()] == [1, 1, 2]
        assert signals_of["sender"].send("other") == []


def test_connecting_for_a_sender_invalidates_the_plan() -> None:
    """And so does disconnecting."""
    signal = Signal("account_funded")
    account, other = Account(), Account()
    signal.connect(receive, sender=other)
    counts = [len(signal.send(account))]
    signal.connect(account.receive, sender=account)
    counts.append(len(signal.send(account)))
    signal.connect(receive)
    counts.append(len(signal.send(account)))
    signal.disconnect(account.receive)
    counts.append(len(signal.send(account)))
    assert counts == [0, 1, 2, 1]


def test_namespace_is_a_mapping_that_creates_each_signal_once() -> None:
    """As with blinker."""
    shop = Namespace()
    funded = shop.signal("account_funded", "Money arrived.")
    assert isinstance(shop, blinker.Namespace)
    assert type(funded) is Signal
    assert shop.signal("account_funded", "Something else.") is funded
    assert funded.__doc__ == "Money arrived."
    assert list(shop) == ["account_funded"]
    assert shop["account_funded"] is funded
    assert Namespace().signal("account_funded") is not funded


def test_receiver_written_for_blinker_works_unchanged() -> None:
    """The same receiver, connected to a blinker signal and to one of these."""
    ours, theirs = Signal("account_funded"), blinker.NamedSignal("account_funded")

    def receive(sender: Any, **extra: Any) -> tuple[Any, dict[str, Any]]:
        return sender, extra

    for signal in (ours, theirs):
        signal.connect(receive)
        assert signal.send("acme", amount=5) == [(receive, ("acme", {"amount": 5}))]
