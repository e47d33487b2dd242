"""Stubs and receivers for the tests of declarations, and a counter of calls."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def line_of(function: Any) -> str:
    """Return file and line of a function, as error messages show them."""
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


def calls_of(function: Callable[[], object]) -> int:
    """Count the Python calls that a call makes."""
    found = 0

    def count(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal found
        found += event == "call"

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return found
