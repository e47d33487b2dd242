"""The assertions about what was captured, and the texts of those that fail."""

import operator
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import ANY, Mock

import pytest
from flask import Flask, current_app

from flask_signals_kit import Captured, CapturedSignals, SignalsKit
from flask_signals_kit.core.introspection import receiver_key
from flask_signals_kit.testing import matching


class Account:
    """A sender."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<Account {self.name}>"


def is_active(account: Account, **payload: Any) -> bool:
    """Be a predicate."""
    return account.name == "acme"


def thank(account: Account, **extra: Any) -> None:
    """Be a receiver."""


def sync(account: Account, **extra: Any) -> None:
    """Be another receiver."""


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    """Push a context of the app."""
    with app.app_context():
        yield


@pytest.fixture
def acme() -> Account:
    """Give a sender."""
    return Account("acme")


@pytest.fixture
def sent(kit: SignalsKit, context: None, acme: Account) -> CapturedSignals:
    """Give what was captured: two payments, and a mail for each."""
    kit.signal("mail_sent")
    kit.signal("account_closed")

    @kit.on("account_funded", uid="mails")
    def mail(account: Account, **extra: Any) -> None:
        kit.send("mail_sent", account, to=f"{account.name}@example.com")

    kit.on("account_funded", when=is_active)(thank)
    kit.on("account_funded", sender=acme)(sync)
    with kit.capture() as sent:
        kit.send("account_funded", acme, amount=Decimal("5.50"), method="card")
        kit.send("account_funded", Account("initech"), amount=Decimal(7), method="wire")
    return sent


def error_of(assertion: Callable[[], object]) -> str:
    """Return the text of an assertion that fails."""
    with pytest.raises(AssertionError) as failure:
        assertion()
    return str(failure.value)


TREE = """\
Sent in this block:
  account_funded(amount=Decimal('5.50'), method='card'), sent by {Account} <Account acme> at HERE
     1  ran           {mail}, TIME
        mail_sent(to='acme@example.com'), sent by {Account} <Account acme> at HERE
              no receivers
     2  ran           {module}.thank, TIME
     3  ran           {module}.sync, TIME
  account_funded(amount=Decimal('7'), method='wire'), sent by {Account} <Account initech> at HERE
     1  ran           {mail}, TIME
        mail_sent(to='initech@example.com'), sent by {Account} <Account initech> at HERE
              no receivers
     2  skipped       {module}.thank: {module}.is_active returned false
     3  other sender  {module}.sync: connected for another object of type {Account}"""


def test_capture_yields_a_list(sent: CapturedSignals) -> None:
    """Of the emissions in the order of the sends."""
    assert isinstance(sent, list)
    assert [captured.signal for captured in sent] == ["account_funded", "mail_sent"] * 2


# -- assert_sent ----------------------------------------------------------------------------------


def test_assert_sent_returns_the_first_match(sent: CapturedSignals, acme: Account) -> None:
    """By a part of the payload, and by the sender."""
    assert sent.assert_sent("account_funded") is sent[0]
    assert sent.assert_sent("account_funded", method="wire") is sent[2]
    assert sent.assert_sent("account_funded", sender=acme, amount=Decimal("5.50")) is sent[0]
    assert isinstance(sent[0], Captured)


def test_assert_sent_takes_matchers_and_predicates(sent: CapturedSignals) -> None:
    """Whatever compares equal, and functions that return `True`; also for the sender."""
    sent.assert_sent("account_funded", amount=pytest.approx(Decimal("5.5000001")), method=ANY)
    sent.assert_sent("account_funded", amount=lambda amount: amount > 6)
    sent.assert_sent("account_funded", sender=lambda account: account.name == "initech")
    text = error_of(lambda: sent.assert_sent("account_funded", amount=lambda amount: amount > 8))
    assert "amount is Decimal('5.50'), for which test_assert_sent_takes_matchers" in text
    assert "does not return True" in text


@pytest.mark.parametrize("wrong", [Mock(), bool, Flask("other")], ids=["mock", "class", "app"])
def test_only_a_function_is_a_predicate(sent: CapturedSignals, wrong: Any) -> None:
    """Another object that can be called is a value, whatever it would return."""
    error_of(lambda: sent.assert_sent("account_funded", amount=wrong))
    text = error_of(lambda: sent.assert_sent("account_funded", sender=wrong))
    assert f"sender is <Account acme>, not {wrong!r}"[:60] in text
    sent.assert_not_sent("account_funded", sender=wrong)


def test_partials_and_methods_are_predicates(sent: CapturedSignals) -> None:
    """As functions are."""
    sent.assert_sent("account_funded", method=partial(operator.eq, "wire"))
    sent.assert_sent("account_funded", method=str.islower)
    text = error_of(lambda: sent.assert_sent("account_funded", method=str.isupper))
    assert "'card', for which <method 'isupper' of 'str' objects> does not return True" in text


def test_function_that_was_sent_is_a_value(kit: SignalsKit, context: None) -> None:
    """It equals itself, may be given to a predicate, and is not shown as one."""
    with kit.capture() as sent:
        kit.send("account_funded", callback=print, other=thank)
    sent.assert_sent("account_funded", callback=print, other=thank)
    sent.assert_sent("account_funded", callback=lambda callback: callback is print)
    text = error_of(lambda: sent.assert_sent("account_funded", callback=thank))
    assert "account_funded(callback=<built-in function print>, other=<function thank at" in text
    assert "callback is <built-in function print>, for which thank (tests/testing" in text


def test_predicate_that_raises_differs(kit: SignalsKit, context: None) -> None:
    """An earlier emission may have another value; but it is not known that it does not match."""
    with kit.capture() as sent:
        kit.send("account_funded", amount=None)
        kit.send("account_funded", amount=5)
    assert sent.assert_sent("account_funded", amount=lambda amount: amount > 1) is sent[1]
    text = error_of(lambda: sent.assert_sent("account_funded", amount=lambda amount: amount > 9))
    assert "amount is None, for which test_predicate_that_raises_differs" in text
    assert "raised TypeError: '>' not supported between" in text
    with pytest.raises(TypeError, match="'>' not supported"):
        sent.assert_not_sent("account_funded", amount=lambda amount: amount > 9)


def test_value_whose_comparison_has_no_truth_value_differs(kit: SignalsKit, context: None) -> None:
    """As that of an array; a predicate gets it."""

    class Array:
        def __eq__(self, other: object) -> Any:
            return self

        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    with kit.capture() as sent:
        kit.send("account_funded", rows=Array())
    sent.assert_sent("account_funded", rows=lambda rows: isinstance(rows, Array))
    text = error_of(lambda: sent.assert_sent("account_funded", rows=Array()))
    assert "raised ValueError: ambiguous" in text


def test_assert_sent_accepts_a_proxy_as_sender(kit: SignalsKit, context: None) -> None:
    """The app is the sender of a send without one."""
    with kit.capture() as sent:
        kit.signal("account_funded").send()
    sent.assert_sent("account_funded", sender=current_app)


def test_failure_shows_what_was_sent_instead(sent: CapturedSignals) -> None:
    """As a tree, with the most similar emission and the field that differs."""
    text = error_of(lambda: sent.assert_sent("account_funded", amount=Decimal(7), method="card"))
    first, similar, tree = text.split("\n", 2)
    assert first == (
        "Signal 'account_funded' with amount=Decimal('7'), method='card' was not sent."
    )
    account = f"{__name__}.Account"
    assert similar == (
        "The most similar one, account_funded(amount=Decimal('5.50'), method='card'), sent by "
        f"{account} <Account acme>: amount is Decimal('5.50'), not Decimal('7')."
    )
    mail = f"{__name__}.sent.<locals>.mail"
    tree = re.sub(r"tests/testing/test_captured\.py:\d+", "HERE", tree)
    tree = re.sub(r"[\d.]+ (µs|ms)", "TIME", tree)
    assert tree == TREE.format(Account=account, mail=mail, module=__name__)


def test_failure_names_missing_fields_and_the_sender(sent: CapturedSignals) -> None:
    """All that differs in the most similar emission."""
    text = error_of(lambda: sent.assert_sent("account_funded", sender="acme", currency="EUR"))
    assert "sender is <Account acme>, not 'acme'; currency is missing." in text
    assert "with currency='EUR', sender='acme' was not sent" in text


def test_failure_suggests_the_name_that_was_sent(sent: CapturedSignals) -> None:
    """For a typo in the assertion."""
    text = error_of(lambda: sent.assert_sent("account_fundet"))
    assert text.startswith(
        "Signal 'account_fundet' was not sent, is not declared and has no receivers. Did you mean "
        "'account_funded'?\nSent in this block:"
    )


def test_failure_about_a_known_name_suggests_no_other(sent: CapturedSignals) -> None:
    """It is no typo: the signal or the receiver exists."""
    assert "Did you mean" not in error_of(lambda: sent.assert_sent("account_closed"))
    sent.clear()
    assert "Did you mean" not in error_of(lambda: sent.assert_called("mails"))


def test_failure_about_a_connected_receiver_suggests_no_other(
    kit: SignalsKit, context: None
) -> None:
    """Its signal was not sent."""
    kit.on("account_funded")(thank)
    kit.on("account_closed", uid="thanks")(sync)
    with kit.capture() as sent:
        kit.send("account_funded")
    for receiver in ("thanks", f"{__name__}.sync"):
        text = error_of(lambda: sent.assert_called(receiver))  # noqa: B023
        assert "is not connected to a signal that was sent.\nSent in" in text


def test_failure_of_an_empty_block_says_so(kit: SignalsKit, context: None) -> None:
    """There is no tree."""
    kit.signal("account_funded")
    with kit.capture() as sent:
        pass
    text = error_of(lambda: sent.assert_sent("account_funded"))
    assert text == "Signal 'account_funded' was not sent.\nNothing was sent in this block."


def test_long_and_broken_values_are_shortened(kit: SignalsKit, context: None) -> None:
    """A failure stays readable, and a `repr` that fails does not replace it."""

    class Broken:
        def __repr__(self) -> str:
            raise ValueError("detached")

    kit.signal("account_funded")
    with kit.capture() as sent:
        kit.send("account_funded", Broken(), text="x" * 1000, line="one\ntwo\x1b[31m")
    text = error_of(sent.assert_nothing_sent)
    assert "x" * 100 not in text
    assert "..." in text
    assert "<Broken instance at" in text
    assert r"line='one\ntwo\x1b[31m'" in text


def test_failure_escapes_what_a_terminal_would_obey(kit: SignalsKit, context: None) -> None:
    """Everywhere in the text."""

    class Coloured:
        def __repr__(self) -> str:
            return "\x1b[31mred"

    with kit.capture() as sent:
        kit.send("account_funded", colour=Coloured())
    text = error_of(lambda: sent.assert_sent("account_funded", colour=Coloured(), other="\x1b"))
    assert text.count(r"\x1b[31mred") == 5
    assert "\x1b" not in text


def test_failure_shows_the_last_lines_of_many(kit: SignalsKit, context: None) -> None:
    """As the section of a failed test does."""
    with kit.capture() as sent:
        for number in range(150):
            kit.send("account_funded", number=number)
    lines = error_of(lambda: sent.assert_sent("account_funded", number=-1)).splitlines()
    assert lines[2:4] == ["Sent in this block:", "  (Earlier lines are left out.)"]
    assert len(lines) == 4 + 200
    assert "account_funded(number=149)" in lines[-2]


def test_failure_names_the_first_explanations_of_many(kit: SignalsKit, context: None) -> None:
    """The tree has the others."""

    @kit.on("account_funded", on_error="isolate")
    def fail(sender: Any, number: int) -> None:
        raise type(f"Error{number}", (ValueError,), {})

    with kit.capture() as sent:
        for number in range(7):
            kit.send("account_funded", number=number)
    text = error_of(lambda: sent.assert_called(fail))
    assert "raised Error3; failed: raised Error4; …).\nSent in this block" in text


# -- the other assertions about signals -----------------------------------------------------------


def test_assert_sent_once_counts_matches(sent: CapturedSignals) -> None:
    """Not the emissions with another payload."""
    assert sent.assert_sent_once("account_funded", method="card") is sent[0]
    text = error_of(lambda: sent.assert_sent_once("account_funded"))
    assert text.startswith("Signal 'account_funded' was sent 2 times, not once.\nSent in")
    text = error_of(lambda: sent.assert_sent_once("account_funded", method="cash"))
    assert "was not sent" in text


def test_assert_not_sent_allows_other_payloads(sent: CapturedSignals) -> None:
    """And other signals."""
    sent.assert_not_sent("account_closed")
    sent.assert_not_sent("account_funded", method="cash")
    text = error_of(lambda: sent.assert_not_sent("account_funded", method="card"))
    assert text.startswith("Signal 'account_funded' with method='card' was sent.\nSent in")


def test_assert_nothing_sent(kit: SignalsKit, sent: CapturedSignals) -> None:
    """None of the captured signals."""
    with kit.capture("account_closed") as nothing:
        kit.send("mail_sent")
    nothing.assert_nothing_sent()
    assert error_of(sent.assert_nothing_sent).startswith("4 signals were sent.\nSent in")


def test_assert_order_allows_others_between(sent: CapturedSignals, kit: SignalsKit) -> None:
    """Names and handles; a signal can be named more than once."""
    sent.assert_order("account_funded", "mail_sent", kit.signal("account_funded"))
    sent.assert_order("account_funded", "account_funded")
    text = error_of(lambda: sent.assert_order("account_funded", "mail_sent", "account_closed"))
    assert text.startswith(
        "Signal 'account_closed' was not sent after 'account_funded', 'mail_sent'.\nSent in"
    )
    error_of(lambda: sent.assert_order("mail_sent", "mail_sent", "account_funded"))


def test_assertion_about_a_signal_that_is_not_captured_fails(
    kit: SignalsKit, context: None
) -> None:
    """Otherwise it would be true that it was not sent, whatever happened."""
    kit.signal("account_funded")
    kit.signal("mail_sent")
    with kit.capture("account_*") as sent:
        kit.send("mail_sent")
    text = error_of(lambda: sent.assert_not_sent("mail_sent"))
    assert text == (
        "Signal 'mail_sent' is not captured in this block, which captures account_*: name it in "
        "kit.capture(…)."
    )


def test_assertion_about_an_unknown_signal_fails(kit: SignalsKit, context: None) -> None:
    """Otherwise a typo would never be sent; a signal that was sent needs no declaration."""
    kit.signal("account_funded")
    kit.on("mail_*")(thank)
    with kit.capture() as sent:
        kit.send("account_closed")
    text = error_of(lambda: sent.assert_not_sent("acount_funded"))
    assert "no receivers. Did you mean 'account_funded'?" in text
    error_of(lambda: sent.assert_order("acount_funded"))
    sent.assert_not_sent("account_funded")
    sent.assert_not_sent("mail_sent")
    sent.assert_not_sent("account_closed", amount=5)
    assert "acount_funded" not in kit.namespace


def test_assertion_about_a_pattern_fails(sent: CapturedSignals) -> None:
    """No signal has this name, so it was never sent."""
    text = error_of(lambda: sent.assert_not_sent("account_*"))
    assert text.startswith("'account_*' is a pattern: an assertion takes the name of one signal.")


# -- receivers ------------------------------------------------------------------------------------


def test_assert_called_takes_a_function_its_name_or_its_uid(sent: CapturedSignals) -> None:
    """It returns the first emission that the receiver was called for."""
    assert sent.assert_called(thank) is sent[0]
    assert sent.assert_called(f"{__name__}.thank") is sent[0]
    assert sent.assert_called("mails") is sent[0]


def test_assert_called_tells_closures_apart(kit: SignalsKit, context: None) -> None:
    """They share name and place."""
    made = [lambda sender, number=number, **extra: number for number in range(2)]
    for number, receiver in enumerate(made):
        kit.on("account_funded", when=lambda sender, number=number: number == 1)(receiver)
    with kit.capture() as sent:
        kit.send("account_funded")
    sent.assert_called(made[1])
    sent.assert_skipped(made[0])
    error_of(lambda: sent.assert_called(made[0]))


def test_another_function_at_the_address_of_a_freed_one_was_not_called(
    kit: SignalsKit, context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is used again, so an address does not identify a receiver for ever."""
    kit.on("account_funded")(thank)
    with kit.capture() as sent:
        kit.send("account_funded")
    monkeypatch.setattr(matching, "receiver_key", lambda receiver: receiver_key(thank))
    sent.assert_called(thank)
    error_of(lambda: sent.assert_called(sync))


def test_failed_receiver_counts_as_not_called(kit: SignalsKit, context: None) -> None:
    """An isolated failure must not pass unseen."""

    @kit.on("account_funded", on_error="isolate")
    def fail(sender: Any, **extra: Any) -> None:
        raise ValueError("boom")

    with kit.capture() as sent:
        kit.send("account_funded")
    text = error_of(lambda: sent.assert_called(fail))
    assert "was not called (failed: raised ValueError).\n" in text
    assert ": raised ValueError at tests/testing/test_captured.py:" in text


def test_assert_called_says_what_happened_instead(sent: CapturedSignals, kit: SignalsKit) -> None:
    """Or that the receiver is not connected to what was sent."""
    with kit.capture() as quiet:
        kit.send("account_funded", Account("initech"))
    text = error_of(lambda: quiet.assert_called(thank))
    assert f"was not called (skipped: {__name__}.is_active returned false).\nSent in" in text
    text = error_of(lambda: sent.assert_called(Account))
    assert "was not called: it is not connected to a signal that was sent.\nSent in" in text
    text = error_of(lambda: sent.assert_called(f"{__name__}.tank"))
    assert f"Did you mean '{__name__}.thank'?" in text


def test_assert_skipped_finds_the_reason(sent: CapturedSignals) -> None:
    """A part of what the tree says; it returns the emission."""
    assert sent.assert_skipped(thank) is sent[2]
    assert sent.assert_skipped(thank, reason="is_active returned false") is sent[2]
    assert sent.assert_skipped(sync, reason="other sender") is sent[2]
    text = error_of(lambda: sent.assert_skipped(thank, reason="muted"))
    assert f"was not skipped because of 'muted' (ran; skipped: {__name__}.is_active" in text
    text = error_of(lambda: sent.assert_skipped("mails"))
    assert text.startswith("Receiver 'mails' was not skipped (ran).\nSent in")


@pytest.mark.parametrize(
    ("reason", "options"),
    [("not reached: receiver 1", {}), ("muted: the signal was muted", {"muted": True})],
)
def test_assert_skipped_knows_other_reasons(
    kit: SignalsKit, context: None, reason: str, options: dict[str, bool]
) -> None:
    """An earlier receiver raised, or the signal was muted."""
    account_funded = kit.signal("account_funded")

    @kit.on(account_funded)
    def fail(sender: Any, **extra: Any) -> None:
        raise ValueError("boom")

    kit.on(account_funded)(thank)
    with kit.capture() as sent:
        if options:
            with account_funded.muted():
                account_funded.send()
        else:
            with pytest.raises(ValueError, match="boom"):
                account_funded.send()
    sent.assert_skipped(thank, reason=reason)


def test_failing_assertion_ends_its_traceback_in_the_test(sent: CapturedSignals) -> None:
    """Pytest hides the frames of the kit."""
    for assertion in (
        lambda: sent.assert_sent("account_closed"),
        lambda: sent.assert_sent_once("account_closed"),
        lambda: sent.assert_not_sent("mail_sent"),
        sent.assert_nothing_sent,
        lambda: sent.assert_order("account_closed"),
        lambda: sent.assert_called(Account),
        lambda: sent.assert_skipped(Account),
    ):
        with pytest.raises(AssertionError) as failure:
            assertion()
        shown = [entry for entry in failure.traceback if not entry.ishidden(failure)]
        assert Path(shown[-1].path).name == "test_captured.py"


def test_emissions_that_the_test_removed_from_the_list_are_not_found(
    sent: CapturedSignals,
) -> None:
    """It is the test's own list."""
    del sent[1:]
    sent.assert_called(thank)
    error_of(lambda: sent.assert_skipped(thank))
    assert "initech" not in error_of(lambda: sent.assert_sent("mail_sent"))
    sent.clear()
    sent.assert_not_sent("account_funded")
    sent.assert_not_sent("mail_sent")
    text = error_of(lambda: sent.assert_called(thank))
    assert text.endswith("Nothing was sent in this block.")
