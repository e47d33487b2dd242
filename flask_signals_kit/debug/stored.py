"""What the outbox says about the steps of durable receivers.

The journal knows the runs of its own process. A worker in another process may have run a message,
so the outbox is asked about those that are not over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import DeadMessageError, PayloadError
from ..records import ASKED
from .labels import brief_moment, clock, duration, plain, short_error

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..core.journal import JournalEntry, JournalStep

logger: logging.Logger = logging.getLogger("flask_signals_kit")

Stored: TypeAlias = dict[int, Any]
"""The row of each message that the outbox was asked about; ``None`` if it is gone."""

OWN = frozenset({DeadMessageError.__name__, PayloadError.__name__})
"""Errors of the kit: their texts say more than their types, and contain no values."""


def ask(app_signals: AppSignals, steps: Iterable[JournalStep]) -> Stored:
    """Ask the outbox about the messages of steps that are not over, with one query.

    :return: nothing if the database cannot be read: the journal then stands alone.
    """
    messages = [step.message for step in steps if step.message is not None and not _is_over(step)]
    if not messages or app_signals.outbox is None:
        return {}
    try:
        with app_signals.outbox.reading() as connection:
            rows = app_signals.outbox.queries.states(connection, messages)
    except Exception:  # of the database
        logger.debug("The outbox cannot be read", exc_info=True)
        return {}
    return dict.fromkeys(messages) | {row.id: row for row in rows}


def _is_over(step: JournalStep) -> bool:
    """Tell whether a step has ended, or runs in this process: its row says nothing more."""
    return step.status in {"ran", "dropped"} or step.is_running


def updated(step: JournalStep, stored: Stored) -> JournalStep:
    """Return a step with the status that its message has now.

    :param stored: the answer of :func:`ask`.
    """
    if step.message not in stored or _is_over(step):
        return step
    row = stored[step.message]
    if row is None:  # another process has deleted it, for whatever reason
        return replace(
            step, status="done", started=None, duration=None, error=None, raised=None, dropped=None
        )
    is_dead = row.status == "dead"
    if row.attempt == step.attempt and is_dead == (step.status == "dead"):
        return step  # this process ran it last
    is_again = row.attempt > 1 or (row.attempt == 1 and row.status != "running")
    return replace(
        step,
        status="dead" if is_dead else "retrying" if is_again else "waiting",
        attempt=row.attempt,
        duration=None,
        error=None,
        raised=None,
        dropped=row.error,
        is_running=row.status == "running",
    )


def why_stored(entry: JournalEntry, step: JournalStep, row: Any) -> str:
    """Return why the step of a durable receiver has its status.

    :param row: that of its message in the answer of :func:`ask`, or ``None``.
    """
    if step.status == "done":
        return "in another process: it ran or was discarded"
    if step.status == "ran":
        return _when(entry, step)
    if step.status == "dropped":
        return plain(step.dropped or "discarded")
    if step.is_running:
        return f"{_attempt(step)} is running"
    if step.status == "waiting":
        return _waits(step, row)
    return f"{_attempt(step)}{_ended(step, row)}"


def _attempt(step: JournalStep) -> str:
    if step.attempt <= (step.attempts or 0):  # not if it was retried by hand in another process
        return f"attempt {step.attempt} of {step.attempts}"
    return f"attempt {step.attempt}"


def _waits(step: JournalStep, row: Any) -> str:
    if step.message is None:
        return "waits for the commit"
    if row is not None and row.is_later:
        return f"was claimed by a worker, and is due again at {brief_moment(row.due)}"
    return "waits for a worker"


def _ended(step: JournalStep, row: Any) -> str:
    """Return how the last attempt ended."""
    if step.error is not None and step.error not in OWN:
        return f" raised {step.error}"
    reason = step.dropped if row is None else row.error
    if reason is None:
        return f": {ASKED}" if row is None else " did not end"
    return f": {short_error(plain(reason))}"


def next_attempt(step: JournalStep, row: Any) -> float | None:
    """Return when a step that is retried runs next, in seconds since the epoch, if that is later.

    :param row: as in :func:`why_stored`.
    """
    waits = step.status == "retrying" and not step.is_running
    return row.due if waits and row is not None and row.is_later else None


def _when(entry: JournalEntry, step: JournalStep) -> str:
    """Return when a durable receiver has run, and in which attempt if not the first."""
    after = (step.started or entry.started) - entry.started
    text = f"at {clock(entry.time + after)}, {duration(after)} after the send"
    return f"{text}, in attempt {step.attempt}" if step.attempt > 1 else text
