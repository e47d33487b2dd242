"""Bad input: each message names the thing, the place and the fix."""

import asyncio
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from flask import Flask, current_app

from flask_signals_kit import Namespace, Signal, SignalsKit, SignalsKitError
from flask_signals_kit.errors import did_you_mean, nearest
from tests.support import require_service


def receive(account: Any, **extra: Any) -> None:
    """Take anything."""


def receive_too(account: Any, **extra: Any) -> None:
    """Take anything as well."""


def receive_nothing(account: Any) -> None:
    """Take no payload."""


async def receive_async(account: Any, **extra: Any) -> None:
    """Wait for a loop."""


def account_funded(sender: object, *, amount: int) -> None:
    """Fund an account."""


def reserved(account: object, *, sender: object) -> None:
    """Declare what cannot be sent."""


def place(function: Any) -> str:
    """Return how messages show where a function is."""
    return f"{function.__name__} ({__file__}:{function.__code__.co_firstlineno})"


def make(**config: Any) -> tuple[SignalsKit, Flask]:
    """Make a kit that declares `account_funded`, and an app."""
    kit = SignalsKit()
    kit.declare(account_funded)
    app = Flask("shop")
    app.config.update(config)
    kit.init_app(app)
    return kit, app


def unknown_under_strict() -> None:
    """Send an undeclared name."""
    kit, app = make(SIGNALS_KIT_STRICT=True)
    with app.app_context():
        kit.send("campaign_created")


def near_miss_under_strict() -> None:
    """Connect to an undeclared name."""
    kit, _ = make(SIGNALS_KIT_STRICT=True)
    kit.on("acount_funded")(receive)


def near_miss_before_the_app() -> None:
    """Connect first, so that the error comes at `init_app`."""
    kit = SignalsKit()
    kit.declare(account_funded)
    kit.on("acount_funded")(receive)
    app = Flask("shop")
    app.config["SIGNALS_KIT_STRICT"] = True
    kit.init_app(app)


def uid_taken() -> None:
    """Give two receivers one uid."""
    kit, _ = make()
    kit.on("account_funded", uid="ledger")(receive)
    kit.on("account_funded", uid="ledger")(receive_too)


def receiver_without_payload() -> None:
    """Connect a receiver that does not take the payload."""
    make()[0].on("account_funded")(receive_nothing)


def reserved_name() -> None:
    """Declare a payload name that `send` reserves."""
    SignalsKit().declare(reserved)


def outside_of_a_context() -> None:
    """Send without an app context."""
    make()[0].send("account_funded", "acme", amount=5)


def proxy_outside_of_a_context() -> None:
    """Connect for an unbound proxy."""
    make()[0].on("account_funded", sender=current_app)(receive)


def coroutine_without_a_wrapper() -> None:
    """Send to an async receiver with a plain send, without Flask."""
    signal = Signal("account_funded")
    signal.connect(receive_async)
    signal.send("acme")


def coroutine_in_a_running_loop() -> None:
    """Send to an async receiver with a plain send, inside a running loop."""
    require_service(find_spec("asgiref"), "asgiref is not installed")
    kit, app = make()
    kit.on("account_funded")(receive_async)

    async def story() -> None:
        with app.app_context():
            kit.send("account_funded", "acme", amount=5)

    asyncio.run(story())


def not_callable() -> None:
    """Connect a string."""
    make()[0].on("account_funded")("receive")  # type: ignore[arg-type, type-var, unused-ignore]


def not_callable_in_a_free_signal() -> None:
    """Connect a number, without Flask."""
    Namespace().signal("account_funded").connect(3)  # type: ignore[type-var]


def no_identifier() -> None:
    """Declare a name that cannot be an attribute."""
    SignalsKit().signal("account-funded")


def page_in_production() -> None:
    """Serve the page to every visitor."""
    make(SIGNALS_KIT_PAGE=True)


Case = tuple[Callable[[], None], str, str, str]
CASES: list[Case] = [
    (unknown_under_strict, "'campaign_created'", __file__, "kit.signal('campaign_created', doc)"),
    (near_miss_under_strict, "'acount_funded'", place(receive), "Did you mean 'account_funded'?"),
    (near_miss_before_the_app, "'acount_funded'", place(receive), "mean 'account_funded'?"),
    (uid_taken, "uid='ledger'", place(receive), "Give one of them another uid"),
    (uid_taken, "'account_funded'", place(receive_too), "another uid"),
    (receiver_without_payload, "'amount'", place(receive_nothing), "add **extra"),
    (receiver_without_payload, "'account_funded'", place(account_funded), "by name"),
    (reserved_name, "'sender'", place(reserved), "rename it"),
    (outside_of_a_context, "'account_funded'", "outside an app context", "app.app_context():"),
    (proxy_outside_of_a_context, "LocalProxy", place(receive), "pass the app itself"),
    (coroutine_without_a_wrapper, "is async", place(receive_async), "signal.send_async("),
    (coroutine_in_a_running_loop, "is async", place(receive_async), "signal.send_async("),
    (not_callable, "str", "'account_funded'", "Connect a function"),
    (not_callable_in_a_free_signal, "int", "'account_funded'", "Connect a function"),
    (no_identifier, "'account-funded'", "not a valid signal name", "'account_funded'"),
    (page_in_production, "SIGNALS_KIT_PAGE", "app 'shop'", "page_auth="),
]


@pytest.mark.parametrize(
    ("wrong", "thing", "where", "fix"), CASES, ids=[case[0].__name__ for case in CASES]
)
def test_message_names_object_place_and_fix(
    wrong: Callable[[], None], thing: str, where: str, fix: str
) -> None:
    """And the error is a `SignalsKitError`."""
    with pytest.raises(SignalsKitError) as caught:
        wrong()
    message = str(caught.value)
    assert thing in message
    assert where in message
    assert fix in message


@pytest.mark.parametrize(
    "wrong", [*dict.fromkeys(case[0] for case in CASES)], ids=lambda wrong: wrong.__name__
)
def test_message_is_one_paragraph(wrong: Callable[[], None]) -> None:
    """No line break, no address, no `<class …>`, and it ends with a full stop."""
    with pytest.raises(SignalsKitError) as caught:
        wrong()
    message = str(caught.value)
    assert "\n" not in message
    assert " at 0x" not in message
    assert "<class" not in message
    assert "  " not in message
    assert message.rstrip("'\"").endswith((".", ")", "?"))
    assert len(message) < 600


def test_async_receiver_without_asgiref_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without asgiref, a plain send cannot run it."""
    monkeypatch.setitem(sys.modules, "asgiref.sync", None)
    kit, app = make()
    kit.on("account_funded")(receive_async)
    with app.app_context(), pytest.raises(SignalsKitError) as caught:
        kit.send("account_funded", "acme", amount=5)
    message = str(caught.value)
    assert place(receive_async) in message
    assert "pip install 'flask[async]'" in message
    assert "send_async" in message


def test_suggestion_is_made_only_for_a_similar_name() -> None:
    """The nearest name, as a question, or none."""
    known = {"account_funded", "account_closed", "campaign_created"}
    assert did_you_mean("acount_funded", known) == " Did you mean 'account_funded'?"
    assert did_you_mean("campain_created", known) == " Did you mean 'campaign_created'?"
    assert did_you_mean("zebra", known) == ""
    assert did_you_mean("zebra", ()) == ""
    assert nearest("acount_funded", known) == "account_funded"
    assert nearest("zebra", known) is None
