"""Helpers for the tests of the report."""

from flask_signals_kit import AppSignals
from flask_signals_kit.debug.report import (
    SignalInfo,
    report,
)


class Account:
    """A sender."""


def receive(sender: object, **extra: object) -> None:
    """Be a receiver of anything."""


def receive_amount(sender: object, amount: int) -> None:
    """Take an amount and nothing else."""


def signal_of(app_signals: AppSignals, name: str) -> SignalInfo:
    """Return what the report contains about one signal."""
    signal = report(app_signals).find(name)
    assert signal is not None
    return signal


def kinds(app_signals: AppSignals) -> list[str]:
    """Return the kinds of all problems."""
    return [problem.kind for problem in report(app_signals).problems]


def waits(sender: object, **extra: object) -> None:
    """Wait for a commit."""
