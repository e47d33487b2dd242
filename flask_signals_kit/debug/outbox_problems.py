"""What is wrong with the outbox in the database; ``flask signals check`` reports it.

The report itself asks no database: the page and ``kit.check()`` work without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import HOW_TO_CREATE
from .labels import named
from .outbox import ReceiverTotals, durable, outbox_report, stored
from .report import Problem

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..core.connection import LiveConnection


def outbox_problems(app_signals: AppSignals) -> list[Problem]:
    """Compare the outbox with the database: its table, and the receivers of its messages.

    :return: an empty list if the app has no durable receivers.
    :raises OutboxError: if the database cannot be used.
    :raises ConfigurationError: if the database is not known.
    """
    outbox, receiver = app_signals.outbox, next(durable(app_signals), None)
    if outbox is None or receiver is None:
        return []
    missing = outbox.missing()
    if missing is not None:
        return [_incomplete(receiver, missing)]
    found = outbox_report(app_signals, outbox)
    return [_no_receiver(each) for each in found.receivers if not each.exists]


def _incomplete(receiver: LiveConnection, missing: str) -> Problem:
    return Problem(
        kind="outbox",
        signal=receiver.target,
        message=f"Receiver {named(receiver.place)} is durable, but there is no {missing}.",
        fix=HOW_TO_CREATE,
        place=receiver.place,
    )


def _no_receiver(totals: ReceiverTotals) -> Problem:
    name, number = totals.receiver, sum(totals.counts.values())
    return Problem(
        kind="no_receiver",
        signal=totals.signal,
        message=f"{stored(number)} for receiver {name!r} of signal {totals.signal!r}, which does "
        "not exist.",
        fix=f"Import its module, or connect the new receiver with uid={name!r}; then run 'flask "
        f"signals outbox retry --receiver {name}'. To delete the messages, use 'discard'.",
    )
