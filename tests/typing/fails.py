"""Code that type checkers must refuse: each marked line, with these rules, and no other line.

``# E: mypy's rules | Pyright's rules``. Nothing here is run.
"""

# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false

from typing import Any

import blinker
from flask import Flask

from flask_signals_kit import SignalsKit
from flask_signals_kit.testing import assert_connected, payloads

kit = SignalsKit()


class Account:
    """A sender."""

    name = "acme"


account = Account()


@kit.declare
def funded(sender: Account, *, amount: int, method: str) -> None:
    """Declare; the results of receivers do not matter."""


@kit.declare(on_error="isolate")
def asked(sender: Account, *, quantity: int) -> int:
    """Declare; receivers return a number."""
    raise NotImplementedError


@kit.declare
def closed(sender: Flask) -> None:
    """Declare a signal of the whole app."""


@kit.declare
def imported(sender: Account, *, row: dict[str, Any]) -> None:
    """Declare a payload that contains ``Any``."""


@kit.declare
def created(sender: Account, /, *, title: str = "", **extra: object) -> None:
    """Declare an optional name, and undeclared names."""


undeclared = kit.signal("undeclared")


# -- declaring ------------------------------------------------------------------------------------

kit.signal("name", on_error="ignore")  # E: arg-type | reportArgumentType
kit.declare(3)  # E: call-overload | reportCallIssue reportArgumentType


@kit.declare()  # E: arg-type | reportArgumentType reportCallIssue reportUntypedFunctionDecorator
def without_a_sender(*, amount: int) -> None:
    """Declare a signal that has no sender."""


# -- sending: the payload -------------------------------------------------------------------------

funded.send(account, amount="1", method="card")  # E: arg-type | reportArgumentType
funded.send(account, amount=1)  # E: call-arg | reportCallIssue
funded.send(account, amount=1, method="card", note="")  # E: call-arg | reportCallIssue
funded.send(account, amout=1, method="card")  # E: call-arg | reportCallIssue
funded.send(account, 1, "card")  # E: call-arg | reportCallIssue
asked.send(account, quantity=None)  # E: arg-type | reportArgumentType
asked.send_robust(account)  # E: call-arg | reportCallIssue
asked.send_robust(account, 1)  # E: call-arg | reportCallIssue
closed.send(quantity=1)  # E: call-overload | reportCallIssue
imported.send(account, row=[])  # E: arg-type | reportArgumentType
imported.send(account, rows={})  # E: call-arg | reportCallIssue
created.send(account, title=1, budget=1)  # E: arg-type | reportArgumentType


# -- sending: the sender --------------------------------------------------------------------------

funded.send("acme", amount=1, method="card")  # E: arg-type | reportArgumentType
funded.send(None, amount=1, method="card")  # E: arg-type | reportArgumentType
funded.send(amount=1, method="card")  # E: call-arg | reportCallIssue
funded.send(sender=account, amount=1, method="card")  # E: call-arg | reportCallIssue
asked.send_robust(quantity=1)  # E: call-arg | reportCallIssue
closed.send(account)  # E: call-overload | reportArgumentType


# -- sending: the signal --------------------------------------------------------------------------

theirs = blinker.signal("invoice-paid")
kit.send(theirs, account)  # E: arg-type | reportArgumentType
kit.send_robust(theirs, account)  # E: arg-type | reportArgumentType


# -- sending: the result --------------------------------------------------------------------------

result: str = asked.send(account, quantity=1)[0][1]  # E: assignment | reportAssignmentType


async def send_async() -> None:
    """Make the same mistakes with the async ways of sending."""
    await asked.send_async(account, quantity="1")  # E: arg-type | reportArgumentType
    await asked.send_async(account)  # E: call-arg | reportCallIssue
    await asked.send_async(account, quantity=1, note="")  # E: call-arg | reportCallIssue
    await asked.send_async(account, 1)  # E: call-arg | reportCallIssue
    await asked.send_async("acme", quantity=1)  # E: arg-type | reportArgumentType
    await asked.send_async(quantity=1)  # E: call-arg | reportCallIssue
    await asked.send_robust_async(account, quantity="1")  # E: arg-type | reportArgumentType
    await asked.send_robust_async(account)  # E: call-arg | reportCallIssue
    await asked.send_robust_async(account, quantity=1, note="")  # E: call-arg | reportCallIssue
    await asked.send_robust_async(account, 1)  # E: call-arg | reportCallIssue
    await asked.send_robust_async("acme", quantity=1)  # E: arg-type | reportArgumentType
    await asked.send_robust_async(quantity=1)  # E: call-arg | reportCallIssue


# -- receivers ------------------------------------------------------------------------------------


@kit.on(funded)  # E: arg-type | reportArgumentType
def lacks_a_name(account: Account, *, amount: int) -> None:
    """Do not take what is sent."""


@kit.on(funded, priority=1)  # E: arg-type | reportArgumentType
def lacks_a_name_too(account: Account, *, amount: int) -> None:
    """Make the same mistake with options."""


@kit.on(funded)  # E: arg-type | reportArgumentType
def needs_another_name(account: Account, *, note: str, **extra: Any) -> None:
    """Take a name that is never sent."""


@kit.on(funded)  # E: arg-type | reportArgumentType
def has_another_type(account: Account, *, amount: str, **extra: Any) -> None:
    """Take another type than is sent."""


@kit.on(funded)  # E: arg-type | reportArgumentType
def has_another_sender(account: Flask, **extra: Any) -> None:
    """Take another type of sender."""


@kit.on(funded)  # E: arg-type | reportArgumentType
def has_no_sender(*, amount: int, **extra: Any) -> None:
    """Take no sender."""


@kit.on(funded)  # E: arg-type | reportArgumentType
def has_two_senders(account: Account, other: Account, /, **extra: Any) -> None:
    """Take two by position."""


@kit.on(funded)  # E: arg-type | reportArgumentType
async def is_async_and_lacks_a_name(account: Account) -> None:
    """Make the same mistake when awaited."""


@kit.on(asked)  # E: arg-type | reportArgumentType
def returns_something_else(account: Account, **extra: Any) -> str:
    """Return another type than declared."""
    return ""


@kit.on(asked)  # E: arg-type | reportArgumentType
async def returns_something_else_when_awaited(account: Account, **extra: Any) -> str:
    """Return another type than declared, when awaited."""
    return ""


@kit.on(imported)  # E: arg-type | reportArgumentType
def has_another_type_than_any(account: Account, *, row: list[Any]) -> None:
    """Take another type than one with an ``Any`` inside."""


@kit.on(created)  # E: arg-type | reportArgumentType
def needs_an_optional_name(account: Account, /, *, title: str, **extra: object) -> None:
    """Require a name that a send can omit."""


@kit.on(created)  # E: arg-type | reportArgumentType
def lacks_extra(account: Account, /, *, title: str = "") -> None:
    """Do not take undeclared names."""


@kit.on(funded, funded, "campaign_*")  # E: arg-type | reportArgumentType
def fits_none_of_many(account: Account) -> None:
    """Do not take the payload of the first of several signals."""


@funded.connect  # E: arg-type | reportArgumentType
def lacks_names_by_the_handle(account: Account) -> None:
    """Make the same mistake with the handle."""


@funded.connect_via(account)  # E: arg-type | reportArgumentType
def lacks_names_by_the_handle_for_one(account: Account) -> None:
    """Make the same mistake for one sender."""


class Ledger:
    """Receivers that are no functions."""

    def write(self, account: Account, *, amount: str, **extra: Any) -> None:
        """Be a method with another type."""

    def __call__(self, account: Account) -> None:
        """Be an object without the names."""


def accept_both(account: Account, **extra: Any) -> int:
    """Accept both payloads."""
    return 1


ledger = Ledger()
kit.on(funded)(ledger)  # E: arg-type | reportArgumentType
kit.on(funded)(ledger.write)  # E: arg-type | reportArgumentType
kit.on(funded)(Ledger)  # E: arg-type | reportArgumentType
kit.on(funded)("accept_both")  # E: arg-type | reportArgumentType
kit.on(undeclared)(3)  # E: arg-type | reportArgumentType
kit.on("name")(3)  # E: type-var | reportArgumentType
kit.on()  # E: call-overload | reportCallIssue
kit.on(accept_both)  # E: call-overload | reportArgumentType reportCallIssue
funded.connected_to(ledger)  # E: arg-type | reportArgumentType

# Once it is connected by a handle, a receiver has the handle's signature.
kit.on(funded)(accept_both)(account, amount=1)  # E: call-arg | reportCallIssue


# -- when and sender ------------------------------------------------------------------------------


def decides_for_another_sender(sender: Flask, **payload: Any) -> bool:
    """Be a predicate for another type of sender."""
    return sender.debug


def decides_by_another_name(sender: Account, *, note: str, **payload: Any) -> bool:
    """Be a predicate of a name that is never sent."""
    return bool(note)


kit.on(funded, when=decides_for_another_sender)  # E: arg-type | reportArgumentType reportCallIssue
kit.on(funded, when=True)  # E: call-overload | reportArgumentType reportCallIssue
funded.connect(accept_both, when=decides_for_another_sender)  # E: arg-type | reportArgumentType
funded.connect(accept_both, when=decides_by_another_name)  # E: arg-type | reportArgumentType
kit.on(funded, sender="acme")  # E: misc | reportArgumentType reportCallIssue
funded.connect(accept_both, "acme")  # E: arg-type | reportArgumentType
funded.connect_via("acme")  # E: arg-type | reportArgumentType
funded.connected_to(accept_both, "acme")  # E: arg-type | reportArgumentType


# -- exception hooks ------------------------------------------------------------------------------


@kit.on_exception  # E: call-overload | reportArgumentType reportUntypedFunctionDecorator
def lacks_the_details(app: Flask, exception: Exception) -> None:
    """Do not take the details of a hook."""


@kit.on_exception(handled=True)  # E: type-var | reportArgumentType reportUntypedFunctionDecorator
def has_another_exception(app: Flask, exception: str, **extra: Any) -> None:
    """Take no exception."""


kit.on_exception(accept_both)  # E: call-overload | reportArgumentType
kit.on_exception(sources=["requests"])  # E: list-item | reportArgumentType


# -- in tests -------------------------------------------------------------------------------------

kit.call(3, funded)  # E: call-overload | reportArgumentType reportCallIssue
assert_connected(funded, accept_both, prority=5)  # E: call-arg | reportCallIssue
assert_connected(funded, accept_both, priority="5")  # E: arg-type | reportArgumentType
payloads("funded")  # E: arg-type | reportArgumentType
payloads(funded, amount=5)  # E: arg-type | reportArgumentType
