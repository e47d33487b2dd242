"""Names of signals, and globs that match them."""

from __future__ import annotations

from ..errors import DeclarationError, type_name


def is_glob(name: str) -> bool:
    """Tell whether a name is a pattern."""
    return not _GLOB_CHARACTERS.isdisjoint(name)


_GLOB_CHARACTERS = frozenset("*?[")


def check_name(name: object) -> str:
    """Return a signal's name; refuse it if it is not valid.

    Dotted names are for bridged signals (``flask_login.user_logged_in``) and for grouping.

    :raises DeclarationError: for a name that is not an identifier, suggesting a valid one.
    """
    if isinstance(name, str) and name and all(part.isidentifier() for part in name.split(".")):
        return name
    shown = repr(name) if isinstance(name, str) else type_name(name)
    raise DeclarationError(
        f"{shown} is not a valid signal name: use an identifier in lower_snake, past tense, such "
        f"as {_suggest(name)!r}."
    )


def _suggest(name: object) -> str:
    words = (
        "".join(c if c.isalnum() else "_" for c in name).strip("_") if isinstance(name, str) else ""
    )
    return words.lower() if words.isidentifier() else "account_funded"
