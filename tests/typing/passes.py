"""Code that type checkers must accept. It is also run."""

# pyright: reportMissingParameterType=false
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, assert_type

import blinker
from blinker import ANY
from flask import Flask, current_app
from hypothesis.strategies import just

from flask_signals_kit import Captured, CapturedSignals, DomainSignal, Outcome, SignalsKit
from flask_signals_kit.testing import assert_connected, payloads

kit = SignalsKit()


class Account:
    """A sender."""

    name = "acme"


class Agency(Account):
    """A sender that is an account, too."""


account = Account()


# -- declarations ---------------------------------------------------------------------------------


@kit.declare
def account_funded(sender: Account, *, amount: int, method: str) -> None:
    """Declare; the results of receivers do not matter."""


@kit.declare
def price_asked(sender: Account, *, quantity: int) -> int:
    """Declare; receivers return a number."""
    raise NotImplementedError


@kit.declare(on_error="isolate")
def account_closed(sender: Account) -> None:
    """Declare without a payload, and with options."""


@kit.declare(on_error="isolate")
def discount_asked(sender: Account, *, quantity: int = 1) -> int | None:
    """Declare with options and an optional payload."""


@kit.declare
def books_closed(sender: Flask, *, month: int) -> None:
    """Declare a signal of the whole app."""


@kit.declare
def account_imported(sender: Account, *, row: dict[str, Any]) -> None:
    """Declare a payload that contains ``Any``."""


@kit.declare
def campaign_created(sender: Account, /, *, title: str, **extra: object) -> None:
    """Declare undeclared names with ``**extra``."""


undeclared = kit.signal("undeclared", "A signal with any payload.")

assert_type(undeclared, DomainSignal[Any, ..., Any])
assert_type(account_closed, DomainSignal[Account, [], Any])


# -- receivers ------------------------------------------------------------------------------------


@kit.on(account_funded)
def with_every_name(account: Account, *, amount: int, method: str) -> None:
    """Take the stub's parameters exactly."""


@kit.on(account_funded, priority=1, on_error="isolate", uid="with_one_name", weak=False)
def with_one_name(account: Account, *, amount: int, **extra: Any) -> str:
    """Take one name of the payload; return something all the same."""
    return "thanks"


@kit.on(account_funded)
def with_no_name(sender: Account, **extra: object) -> None:
    """Take nothing of the payload."""


@kit.on(account_funded)
def with_wider_types(sender: object, amount: float, method: object = None) -> None:
    """Take more than is sent; take names that could be passed by position, too."""


@kit.on(account_funded)
def with_an_option_of_its_own(sender: Account, *, dry_run: bool = False, **extra: Any) -> None:
    """Take an optional name that is never sent."""


@kit.on(account_funded)
def without_annotations(account, *, amount, **extra):  # type: ignore[no-untyped-def, unused-ignore]
    """Have no annotations."""


@kit.on(account_funded)
async def async_receiver(account: Account, **extra: Any) -> str:
    """Be async."""
    return "notified"


@kit.on(price_asked)
def with_the_result(account: Account, **extra: Any) -> int:
    """Return the declared type."""
    return 3


@kit.on(price_asked)
async def async_with_the_result(account: Account, *, quantity: int) -> int:
    """Return the declared type, when awaited."""
    return quantity


@kit.on(discount_asked)
def with_an_optional_name(account: Account, *, quantity: int = 1) -> None:
    """Return one of the results that the stub allows."""


@kit.on(account_imported)
def with_any_inside(account: Account, *, row: dict[str, Any]) -> None:
    """Take an ``Any`` inside of the payload."""


@kit.on(campaign_created)
def with_open_payload(account: Account, /, *, title: str, **extra: object) -> None:
    """Take the stub's parameters and any others."""


@kit.on(undeclared)
def of_an_undeclared_signal(source: str, anything: int = 0) -> float:
    """Take any parameters."""
    return 0.5


@account_funded.connect
def connected(account: Account, **extra: Any) -> None:
    """Be connected by the handle."""


@account_funded.connect_via(account)
def connected_via(account: Account, **extra: Any) -> None:
    """Be connected by the handle, for one sender."""


@kit.on(account_funded, account_closed, "campaign_*")
def of_many_signals(account: Account, /, **extra: Any) -> None:
    """Accept the first signal; the others are checked when it connects."""


class Ledger:
    """Receivers that are no functions."""

    def write(self, account: Account, *, amount: int, **extra: Any) -> None:
        """Be a method."""

    async def send(self, account: Account, **extra: Any) -> None:
        """Be an async method."""

    def __call__(self, account: Account, *, amount: int, **extra: Any) -> None:
        """Be an object that can be called."""


def write_to(book: str, account: Account, *, amount: int, **extra: Any) -> None:
    """Be partial."""


ledger = Ledger()
kit.on(account_funded)(ledger)
kit.on(account_funded)(ledger.write)
kit.on(account_funded)(ledger.send)
kit.on(account_funded)(partial(write_to, "savings"))
account_funded.connect(
    ledger, account, priority=3, delivery="immediate", on_error="group", uid="ledger"
)

assert_type(kit.on(price_asked)(with_the_result)(account, quantity=1), Any)


# -- when and sender ------------------------------------------------------------------------------


def is_large(account: Account, *, amount: int, **payload: Any) -> bool:
    """Be a predicate of the payload."""
    return amount > 1


def by_glob(sender: object, **payload: object) -> None:
    """Accept the payload of every match."""


kit.on(account_funded, when=is_large)(ledger.write)
kit.on(account_funded, sender=account, when=lambda account, **payload: account.name)(ledger.write)
kit.on(account_funded, sender=Agency(), when=lambda _, amount, method: amount > 1)(ledger.write)
kit.on(undeclared, sender="acme", when=lambda sender, anything=0: anything > 1)(by_glob)
kit.on("account_*", sender=3, when=lambda sender, **payload: True)(by_glob)
account_funded.connect(ledger.write, when=is_large)
account_funded.connect(lambda account, **extra: account.name, account)
undeclared.connect(lambda sender, anything=0: anything, "acme")
kit.disconnect(by_glob, "account_*", account_funded, blinker.signal("invoice-paid"), sender=3)
kit.disconnect(connected)


# -- connected without a handle: the very type stays ----------------------------------------------


@kit.on("account_funded", "account_*", "undeclared")
def by_name(account: Account, /, amount: int = 0, **extra: object) -> bytes:
    """Keep its own type."""
    return b"by name"


assert_type(by_name(account), bytes)


@kit.on(blinker.signal("invoice-paid"), account_funded)
def by_blinker_signal(account: Account, **extra: object) -> list[int]:
    """Keep its own type, too."""
    return []


assert_type(by_blinker_signal(account, anything=1), list[int])


@kit.on_exception
def hook(app: Flask, exception: Exception, **extra: Any) -> int:
    """Keep its own type, being a hook."""
    return 1


assert_type(hook(Flask("shop"), ValueError(), source="cli"), int)


@kit.on_exception(sources=["request"], handled=True)
def hook_with_options(
    app: Flask, exception: BaseException, *, source: str, handled: bool = False, **extra: object
) -> str:
    """Keep its own type, being a hook with options."""
    return source


assert_type(hook_with_options(Flask("shop"), ValueError(), source="cli"), str)

kit.on_exception(lambda app, exception, **extra: None)


# -- sending --------------------------------------------------------------------------------------


def send() -> None:
    """Send in every way; called inside an app context."""
    assert_type(
        account_funded.send(account, amount=1, method="card"), list[tuple[Callable[..., Any], Any]]
    )
    assert_type(price_asked.send(account, quantity=1), list[tuple[Callable[..., Any], int]])
    assert_type(price_asked.send_robust(account, quantity=1), list[Outcome[int]])
    account_funded.send(Agency(), method="card", amount=True)
    account_closed.send(account)
    discount_asked.send(account)
    discount_asked.send(account, quantity=3)
    campaign_created.send(account, title="Spring", budget=100)
    books_closed.send(month=1)
    books_closed.send_robust(month=1)
    books_closed.send(current_app, month=1)
    books_closed.send(Flask("other"), month=1)
    undeclared.send()
    undeclared.send("acme")
    undeclared.send_robust(anything=1)
    kit.send(account_funded, account, amount=1, method="card")
    kit.send("undeclared", "acme", anything=1)


async def send_async() -> None:
    """Send in every async way; called inside an app context."""
    assert_type(
        await price_asked.send_async(account, quantity=1), list[tuple[Callable[..., Any], int]]
    )
    assert_type(await price_asked.send_robust_async(account, quantity=1), list[Outcome[int]])
    await books_closed.send_async(month=1)
    await books_closed.send_robust_async(month=1)
    await undeclared.send_async()
    await undeclared.send_robust_async("acme")


def connect_for_a_while() -> None:
    """Connect while a block runs; called inside an app context."""
    with account_funded.connected_to(ledger.write), account_funded.connected_to(ledger, account):
        pass
    with undeclared.connected_to(lambda sender: None), account_funded.muted():
        pass


# -- in tests -------------------------------------------------------------------------------------


def ask(account: Account, *, quantity: int) -> int:
    """Be a receiver that no decorator has changed."""
    return quantity


async def ask_later(account: Account, *, quantity: int) -> int:
    """Be an async one."""
    return quantity


def check_receivers() -> None:
    """Call receivers alone, and check their connections; called inside an app context."""
    assert_type(kit.call(ask, price_asked, sender=account), int)
    assert_type(kit.call(ask_later, "price_asked", sender=account), int)
    assert_connected(price_asked, with_the_result, sender=ANY, priority=0, delivery="immediate")
    payloads(price_asked, quantity=just(5))


def capture() -> None:
    """Capture, and assert; called inside an app context."""
    with kit.capture(account_funded, "account_*", only=["ledger"], except_=[ledger.send]) as sent:
        account_funded.send(account, amount=1, method="card")
    assert_type(sent, CapturedSignals)
    assert_type(sent[0], Captured)
    assert_type(sent.assert_sent(account_funded, sender=account, amount=lambda n: n > 0), Captured)
    sent.assert_order(account_funded)
    sent.assert_called(ledger)


def main() -> None:
    """Run it all."""
    app = Flask("shop")
    app.testing = True
    kit.init_app(app)
    with app.app_context():
        send()
        asyncio.run(send_async())
        connect_for_a_while()
        check_receivers()
        capture()
