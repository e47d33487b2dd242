"""What the error report stores of an exception: text, never the exception itself."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime

from flask import Flask, current_app


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """One exception that the kit reported."""

    at: datetime
    """When it was reported."""
    source: str
    """What was running: a request, a receiver, a command, …"""
    type: str
    """The exception's class."""
    signal: str | None
    """The signal whose receiver failed."""
    receiver: str | None
    """The receiver that failed."""
    where: str
    """The place that raised, as file:line."""
    emission: int | None
    """The number of the emission whose receiver failed."""
    request: int | None
    """The number of the request, if it sent signals before it failed."""


def init_error_report(app: Flask, *, keep: int = 100) -> None:
    """Give an app a list of its last errors.

    It is kept in memory, so that the error report works if the database fails.
    """
    app.extensions["error_report"] = deque[ErrorRecord](maxlen=keep)


def error_records() -> deque[ErrorRecord]:
    """Return the current app's errors, oldest first."""
    records: deque[ErrorRecord] = current_app.extensions["error_report"]
    return records
