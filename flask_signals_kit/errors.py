"""What can go wrong, one class a kind of mistake.

Every error of the kit derives from :class:`SignalsKitError` and from the builtin that fits it, so
that both ``except SignalsKitError`` and, say, ``except LookupError`` do what a reader expects. Each
message names the thing, the place and the fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from heapq import nlargest
from itertools import pairwise


class SignalsKitError(Exception):
    """The root of every error that the kit raises on purpose."""


class ConfigurationError(SignalsKitError, ValueError):
    """A setting, or an argument given to the kit at start-up, that cannot be used."""


class AlreadyInitializedError(SignalsKitError, RuntimeError):
    """``init_app`` on an app that a kit has already initialised."""


class NotInitializedError(SignalsKitError, RuntimeError):
    """An app that this kit has not initialised."""


class AppContextError(SignalsKitError, RuntimeError):
    """Something that belongs to one app was asked for while no app was current."""


class DeclarationError(SignalsKitError, ValueError):
    """A signal that cannot be declared: its name, its stub or its policy is not usable."""


class UnknownSignalError(SignalsKitError, LookupError):
    """A signal name that nobody declared, under ``SIGNALS_KIT_STRICT`` or in a bridge."""


class ReceiverError(SignalsKitError, TypeError):
    """An object that cannot be connected as a receiver or as an exception hook."""


class ContractError(SignalsKitError, TypeError):
    """A receiver or a payload that does not fit what the signal's declaration promises."""


class DuplicateReceiverError(SignalsKitError, ValueError):
    """A ``uid`` that another receiver of the same signal already has."""


class AsyncReceiverError(SignalsKitError, RuntimeError):
    """An async receiver that a plain ``send`` cannot run, or the other way round."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``known``, or an empty string.

    >>> did_you_mean("acount_funded", ["account_funded", "campaign_created"])
    " Did you mean 'account_funded'?"
    >>> did_you_mean("zebra", ["account_funded"])
    ''
    """
    return suggestion(nearest(word, known))


def suggestion(near: str | None) -> str:
    """Return ``" Did you mean 'x'?"`` for a name that is near, or an empty string."""
    return f" Did you mean {near!r}?" if near else ""


def how_to_declare(name: str, near: str | None, otherwise: str | None = None) -> str:
    """Return what to do about a name that is not declared.

    :param near: the declared name that was probably meant; to use it comes first.
    :param otherwise: what to do if the name is right; to declare it, if left out.
    """
    fix = otherwise or f"Declare it with kit.signal({name!r}, doc) or @kit.declare."
    return f"Use {near!r}. If {name!r} is a signal of its own: {fix}" if near else fix


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of ``known`` that is most like a word, or ``None`` if none is.

    Among thousands of names, only those that share most pairs of letters with the word are compared
    in full: that takes a hundred times as long.
    """
    names = sorted(known)
    if len(names) > COMPARED:
        wanted = set(pairwise(word))
        names = nlargest(COMPARED, names, key=lambda name: _likeness(wanted, name))
    return next(iter(difflib.get_close_matches(word, names, n=1)), None)


COMPARED = 50
"""How many names are compared with a word letter by letter."""


def _likeness(wanted: set[tuple[str, str]], name: str) -> float:
    """Return the share of pairs of letters that a name has in common with a word (Dice)."""
    return len(wanted.intersection(pairwise(name))) / (len(wanted) + len(name))
