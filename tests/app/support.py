"""Stubs and receivers for the tests of declarations."""

from typing import Any


def line_of(function: Any) -> str:
    """Return file and line of a function, as messages show them."""
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


def stub(sender: object, *, amount: int) -> None:
    """Money arrived."""


def account_funded(sender: object) -> None:
    """Money arrived."""


def misfit_no_sender(*, amount: int) -> None:
    """Take no sender."""


def misfit_nothing() -> None:
    """Take nothing."""


def misfit_missing(account: Any) -> None:
    """Lack the payload."""
