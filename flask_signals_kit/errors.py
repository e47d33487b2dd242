"""The errors of the kit, one class for each kind of mistake.

Every error derives from :class:`SignalsKitError` and from the matching builtin, so that both
``except SignalsKitError`` and, for example, ``except LookupError`` work. Each message names the
object, the place and the fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from heapq import nlargest
from itertools import pairwise
from typing import Any

HOW_TO_CREATE = "Create it with db.create_all(), or by a migration."
"""What to do if the database lacks the table of the outbox."""


class SignalsKitError(Exception):
    """The root of every error that the kit raises on purpose."""


class ConfigurationError(SignalsKitError, ValueError):
    """An invalid setting, or an invalid argument given to the kit at start-up."""


class AlreadyInitializedError(SignalsKitError, RuntimeError):
    """A call of ``init_app`` with an app that a kit has already initialised."""


class NotInitializedError(SignalsKitError, RuntimeError):
    """An app that this kit has not initialised."""


class AppContextError(SignalsKitError, RuntimeError):
    """An operation that needs a current app, outside an app context."""


class DeclarationError(SignalsKitError, ValueError):
    """A signal that cannot be declared: its name, stub or failure policy is invalid."""


class UnknownSignalError(SignalsKitError, LookupError):
    """An undeclared signal name: under ``SIGNALS_KIT_STRICT``, in a bridge or in ``kit.call``."""


class ReceiverError(SignalsKitError, TypeError):
    """An object that cannot be connected as a receiver or as an exception hook."""


class ContractError(SignalsKitError, TypeError):
    """A receiver or a payload that does not match the declaration, or cannot be made from it."""


class DuplicateReceiverError(SignalsKitError, ValueError):
    """A ``uid`` that another receiver of the kit or the app already has."""


class PayloadError(SignalsKitError, TypeError):
    """A payload that a durable receiver's message cannot store, or that cannot be read again."""


class DeadMessageError(SignalsKitError, RuntimeError):
    """A message that is not run again, for a reason other than an exception of its receiver."""


class OutboxError(SignalsKitError, RuntimeError):
    """An outbox that cannot be read: its database does not answer, or lacks the table."""


class AsyncReceiverError(SignalsKitError, RuntimeError):
    """An async receiver that ``send`` cannot run, or a plain one that ``send_async`` cannot."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``known``, or an empty string.

    >>> did_you_mean("acount_funded", ["account_funded", "campaign_created"])
    " Did you mean 'account_funded'?"
    >>> did_you_mean("zebra", ["account_funded"])
    ''
    """
    return suggestion(nearest(word, known))


def suggestion(near: str | None) -> str:
    """Return ``" Did you mean 'x'?"`` for a similar name, or an empty string."""
    return f" Did you mean {near!r}?" if near else ""


def how_to_declare(name: str, near: str | None, otherwise: str | None = None) -> str:
    """Return the fix for an undeclared name.

    :param near: the declared name that was probably intended; the fix suggests it first.
    :param otherwise: the fix if the name is correct; to declare it if omitted.
    """
    fix = otherwise or f"Declare it with kit.signal({name!r}, doc) or @kit.declare."
    return f"Use {near!r}. If {name!r} is a signal of its own: {fix}" if near else fix


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that is most similar to a word, or ``None``.

    Of thousands of names, only those that share most pairs of letters with the word are compared in
    full, because a full comparison takes a hundred times as long.
    """
    names = sorted(known)
    if len(names) > COMPARED:
        wanted = set(pairwise(word))
        names = nlargest(COMPARED, names, key=lambda name: _likeness(wanted, name))
    return next(iter(difflib.get_close_matches(word, names, n=1)), None)


COMPARED = 50
"""The number of names that are compared with a word in full."""


def _likeness(wanted: set[tuple[str, str]], name: str) -> float:
    """Return the share of pairs of letters that a name has in common with a word (Dice)."""
    return len(wanted.intersection(pairwise(name))) / (len(wanted) + len(name))


def type_name(value: Any) -> str:
    """Return the name of a value's type, such as ``shop.models.Account``; builtins have no module.

    For a class, the result names the class itself; for ``None``, it is ``"None"``.

    >>> type_name(3), type_name(None)
    ('int', 'None')
    """
    if value is None:
        return "None"
    is_class = issubclass(type(value), type)
    return f"type {name_of_type(value)}" if is_class else name_of_type(type(value))


def name_of_type(kind: type) -> str:
    """Return the name of a type, such as ``shop.models.Account``; builtins have no module."""
    module: Any = kind.__module__
    if isinstance(module, str) and module != "builtins":  # a class may set anything
        return f"{module}.{kind.__qualname__}"
    return kind.__qualname__


def sender_label(sender: Any) -> str:
    """Return a label of a sender, without a ``repr()`` of a user's object."""
    if type(sender) in (str, int, bool):
        return repr(sender)
    return type_name(sender)
