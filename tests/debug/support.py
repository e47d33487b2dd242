"""Helpers for the tests of the report."""

from flask_signals_kit import AppSignals
from flask_signals_kit.debug.report import (
    SignalInfo,
    report,
)


class Account:
    """A sender."""


def receive(sender: object, **extra: object) -> None:
    """Listen to anything."""


def receive_amount(sender: object, amount: int) -> None:
    """Listen to an amount and to nothing that may be added later."""


def signal_of(state: AppSignals, name: str) -> SignalInfo:
    """Return what the report has on one signal."""
    signal = report(state).find(name)
    assert signal is not None
    return signal


def kinds(state: AppSignals) -> list[str]:
    """Return the kinds of all problems."""
    return [problem.kind for problem in report(state).problems]


def waits(sender: object, **extra: object) -> None:
    """Wait for a commit."""
