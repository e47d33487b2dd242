"""Keep a record of every exception that the kit reports, and one receiver to try it with."""

import traceback
from collections.abc import Callable
from pathlib import Path

from flask import Flask

from example_app.accounts.models import Account
from example_app.columns import now
from example_app.error_report.records import ErrorRecord
from example_app.extensions import kit
from example_app.signals import breakage_requested
from flask_signals_kit import current_emission


@kit.on_exception
def record(
    app: Flask,
    exception: BaseException,
    *,
    source: str,
    signal: str | None = None,
    receiver: Callable[..., object] | None = None,
    **extra: object,
) -> None:
    """Record what failed and where, without the exception: its frames reference the request."""
    app.extensions["error_report"].append(
        ErrorRecord(
            at=now(),
            source=source,
            type=type(exception).__qualname__,
            signal=signal,
            receiver=_name(receiver),
            where=_place(exception),
            emission=current_emission.number if receiver is not None else None,
            request=_request(app),
        )
    )


def _request(app: Flask) -> int | None:
    """Return the number of the current request on the signals page, if it has sent signals."""
    recorded = kit.for_app(app).recorded_request()
    return recorded.id if recorded and recorded.signals else None


def _name(receiver: Callable[..., object] | None) -> str | None:
    """Return the name of a receiver; of one without a name, such as a partial, its type's."""
    if receiver is None:
        return None
    name: str = getattr(receiver, "__qualname__", type(receiver).__qualname__)
    return name


def _place(exception: BaseException) -> str:
    """Return file:line of the innermost frame, with the file's folder."""
    frames = traceback.extract_tb(exception.__traceback__)
    if not frames:
        return "unknown"
    file = "/".join(Path(frames[-1].filename).parts[-2:])
    return f"{file}:{frames[-1].lineno}"


class DemonstrationError(Exception):
    """Raised on purpose."""


@kit.on(breakage_requested)
def fail_on_purpose(account: Account, **extra: object) -> None:
    """Fail, so that the error report has something to show."""
    raise DemonstrationError("This receiver fails on purpose.")
