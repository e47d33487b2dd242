"""`assert_connected()`: whether a receiver is connected, and how."""

from collections.abc import Iterator
from contextvars import Context
from typing import Any

import flask
import pytest
from blinker import ANY
from flask import Flask
from sqlalchemy import MetaData, create_engine

from flask_signals_kit import AppContextError, Call, Durable, NotInitializedError, SignalsKit
from flask_signals_kit.testing import assert_connected


class Later:
    """A delivery with a setting."""

    name = "later"

    def __init__(self, seconds: int = 60) -> None:
        self.seconds = seconds
        self._calls: list[Call] = []

    def deliver(self, call: Call) -> None:
        """Keep the call."""
        self._calls.append(call)


class Account:
    def notify(self, account: object, **extra: object) -> None:
        """Be a method that is a receiver."""


def is_large(account: object, **payload: object) -> bool:
    """Be a predicate."""
    return True


def thank(account: object, **extra: object) -> None:
    """Be a receiver."""


def thanks(account: object, **extra: object) -> None:
    """Be another one."""


@pytest.fixture
def kit() -> SignalsKit:
    """Give a kit with a declared signal."""
    kit = SignalsKit()
    kit.signal("account_funded", "Money arrived in an account.")
    return kit


@pytest.fixture(autouse=True)
def app(kit: SignalsKit) -> Iterator[Flask]:
    """Give an app in its context."""
    app = Flask("shop")
    kit.init_app(app)
    with app.app_context():
        yield app


def failure(signal: Any, receiver: Any, **options: Any) -> str:
    """Return the text of a failing assertion."""
    with pytest.raises(AssertionError) as found:
        assert_connected(signal, receiver, **options)
    return str(found.value)


def where(function: Any) -> str:
    """Return the function as a failure shows it."""
    return f"{__name__}.{function.__qualname__} ({__file__}:{function.__code__.co_firstlineno})"


def test_connected_receiver_passes(kit: SignalsKit, app: Flask) -> None:
    """By name, by handle, by pattern, for this app alone, and on Flask's signal."""
    kit.on("account_funded")(thank)
    kit.for_app(app).on("account_*")(thanks)
    kit.on("request_started")(thank)
    for signal in ("account_funded", kit.signal("account_funded")):
        assert_connected(signal, thank)
        assert_connected(signal, thanks)
    assert_connected("request_started", thank)


def test_pattern_may_match_a_signal_that_was_not_used_yet(kit: SignalsKit, app: Flask) -> None:
    """It is not declared, and was never sent."""
    kit.on("campaign_*", priority=10)(thank)
    kit.for_app(app).on("campaign_*")(thanks)
    assert_connected("campaign_created", thank, priority=10)
    assert "but priority is 10, not 5." in failure("campaign_ended", thank, priority=5)
    lines = failure("campaign_paused", is_large).splitlines()
    assert lines[2:] == [
        f"  campaign_paused {__name__}:thank priority=10",
        f"  campaign_paused {__name__}:thanks",
    ]


def test_pattern_is_not_a_signal(kit: SignalsKit) -> None:
    """Also if the receiver is connected by this pattern."""
    kit.on("account_*")(thank)
    assert failure("account_*", thank) == (
        "assert_connected() checks one signal, and 'account_*' is a pattern: name a signal that "
        "it matches."
    )


def test_bound_method_is_found(kit: SignalsKit) -> None:
    """Each look-up of a method is a new object."""
    account = Account()
    kit.on("account_funded")(account.notify)
    assert_connected("account_funded", account.notify)
    assert "is not connected" in failure("account_funded", Account().notify)


def test_given_options_pass_if_all_are_equal(kit: SignalsKit) -> None:
    """The others may differ."""
    options: dict[str, Any] = {
        "sender": "acme",
        "priority": 5,
        "when": is_large,
        "on_error": "isolate",
        "uid": "thanks",
        "weak": True,
    }
    kit.on("account_funded", delivery=Later(), **options)(thank)
    assert_connected("account_funded", thank, delivery=Later(), **options)
    assert_connected("account_funded", thank, delivery="later")


class Slotted:
    """A delivery without a ``__dict__``."""

    __slots__ = ("name", "queue")

    def __init__(self, queue: str) -> None:
        self.name = "slotted"
        self.queue = queue

    def deliver(self, call: Call) -> None:
        """Do nothing."""


def test_delivery_with_slots_is_compared(kit: SignalsKit) -> None:
    """By their values."""
    kit.on("account_funded", delivery=Slotted("mails"))(thank)
    assert_connected("account_funded", thank, delivery=Slotted("mails"))
    text = failure("account_funded", thank, delivery=Slotted("prints"))
    assert "but queue of its delivery is 'mails', not 'prints'." in text


@pytest.mark.needs("msgspec")
def test_session_of_a_delivery_is_not_compared(kit: SignalsKit) -> None:
    """``kit.on`` and the test each make an object that finds it."""

    def session() -> Any:
        return None

    kit.use_outbox(MetaData(), create_engine("sqlite://"))
    kit.on("account_funded", delivery=Durable(max_attempts=8, session=session))(thank)
    assert_connected("account_funded", thank, delivery=Durable(max_attempts=8, session=session))
    text = failure("account_funded", thank, delivery=Durable(session=session))
    assert "but max_attempts of its delivery is 8, not 20." in text


def test_defaults_can_be_compared(kit: SignalsKit) -> None:
    """They are those of ``kit.on``."""
    kit.on("account_funded")(thank)
    assert_connected(
        "account_funded",
        thank,
        sender=ANY,
        priority=0,
        when=None,
        delivery="immediate",
        on_error=None,
        uid=None,
        weak=False,
    )


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("sender", "acme", "sender is any, not 'acme'"),
        ("priority", 10, "priority is 5, not 10"),
        ("when", None, f"when is {where(is_large)}, not None"),
        ("delivery", "after_commit", "delivery is 'later', not 'after_commit'"),
        ("delivery", Later(90), "seconds of its delivery is 60, not 90"),
        ("delivery", thank, "delivery is 'later', not function"),
        ("on_error", "raise", "on_error is None, not 'raise'"),
        ("uid", "thanks", "uid is None, not 'thanks'"),
        ("weak", True, "weak is False, not True"),
    ],
)
def test_option_that_differs_is_named(
    kit: SignalsKit, option: str, value: object, text: str
) -> None:
    """With its value, and the receivers of the signal."""
    kit.on("account_funded", priority=5, when=is_large, delivery=Later())(thank)
    assert failure("account_funded", thank, **{option: value}) == (
        f"{where(thank)} is connected to signal 'account_funded', but {text}.\n"
        "Connected, in calling order:\n"
        f"  account_funded {__name__}:thank priority=5 when={__name__}:is_large delivery=later"
    )


def test_any_of_several_connections_may_match(kit: SignalsKit) -> None:
    """If none does, the differences of the most similar one are named."""
    kit.on("account_funded", sender="acme", priority=9)(thank)
    kit.on("account_funded", sender="initech", priority=2)(thank)
    assert_connected("account_funded", thank, sender="initech", priority=2)
    assert ", but priority is 2, not 3.\n" in failure(
        "account_funded", thank, sender="initech", priority=3
    )


def test_failure_lists_who_is_connected(kit: SignalsKit) -> None:
    """In calling order, with a receiver of a similar name."""
    kit.on("account_funded")(thanks)
    kit.on("account_funded", priority=1, sender="acme")(Account().notify)
    assert failure("account_funded", thank) == (
        f"{where(thank)} is not connected to signal 'account_funded'. "
        f"Did you mean '{__name__}.thanks'?\n"
        "Connected, in calling order:\n"
        f"  account_funded {__name__}:Account.notify sender='acme' priority=1\n"
        f"  account_funded {__name__}:thanks"
    )


def test_receiver_of_another_signal_is_named(kit: SignalsKit) -> None:
    """It is the near miss after a wrong name."""
    kit.on("campaign_created", "account_closed")(thank)
    assert failure("account_funded", thank) == (
        f"{where(thank)} is not connected to signal 'account_funded'. "
        "It is connected to 'account_closed', 'campaign_created'.\n"
        "The signal has no receivers."
    )


def test_typo_in_the_signal_is_named() -> None:
    """If the receiver is not connected at all."""
    text = failure("acount_funded", thank)
    assert "signal 'acount_funded'. Did you mean 'account_funded'?" in text


def test_other_object_of_the_same_name_is_named(kit: SignalsKit) -> None:
    """Such as another closure of a factory."""

    def make() -> Any:
        def receive(account: object, **extra: object) -> None:
            """Be a closure."""

        return receive

    kit.on("account_funded")(make())
    assert "Another function of this name is connected" in failure("account_funded", make())


def test_unknown_option_is_refused() -> None:
    """It would never differ."""
    with pytest.raises(TypeError, match=r"no option 'prority'; it has sender, priority, when"):
        assert_connected("account_funded", thank, prority=5)  # type: ignore[call-arg]


def test_asking_for_an_unknown_signal_changes_nothing(kit: SignalsKit, app: Flask) -> None:
    """The app has no signal of that name afterwards."""
    failure("acount_funded", thank)
    assert "acount_funded" not in kit.for_app(app).namespace


def test_receiver_on_flasks_own_signal_is_not_connected(kit: SignalsKit, app: Flask) -> None:
    """The kit did not connect it, so it has no place in the order."""
    flask.request_started.connect(thank, app)
    assert "The signal has no receivers." in failure("request_started", thank)


def test_app_context_is_needed() -> None:
    """Connections belong to an app."""
    fresh = Context()
    with pytest.raises(AppContextError, match="needs an app context"):
        fresh.run(assert_connected, "account_funded", thank)


def test_app_needs_a_kit() -> None:
    """The error says what to call."""
    with Flask("other").app_context(), pytest.raises(NotInitializedError, match=r"kit\.init_app"):
        assert_connected("account_funded", thank)
