"""Helpers for the tests of the report, the page and the commands."""

import inspect

from click.testing import CliRunner, Result
from flask import Flask

from flask_signals_kit import AppSignals
from flask_signals_kit.debug.report import (
    SignalInfo,
    report,
)


def run(app: Flask, *arguments: str, **environ: str) -> Result:
    """Run ``flask signals …`` for an app: into a pipe, unless ``COLUMNS`` gives a width."""
    environ = {"COLUMNS": "", **environ}
    # Before click 8.2, standard error was mixed into the output unless one asked.
    mixes = "mix_stderr" in inspect.signature(CliRunner).parameters
    runner = app.test_cli_runner(**({"mix_stderr": False} if mixes else {}))
    return runner.invoke(args=["signals", *arguments], env=environ)


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
