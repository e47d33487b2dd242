"""The lock: the receivers of every signal as lines of text that can be compared later."""

from __future__ import annotations

from difflib import unified_diff

from ..records import IMMEDIATE
from .report import ReceiverInfo, Report, SignalInfo

HEADER = "# Receivers in calling order. Update: flask signals list --format lock > signals.lock"
"""The first line of a lock. A comparison leaves out lines that begin with ``#``."""


def to_lock(found: Report) -> list[str]:
    """Return one line for each receiver of a report, in calling order.

    The lines are the same on every machine and in every process: they have neither files nor line
    numbers, and only ASCII. Receivers that other code connected to the signals of Flask and of
    extensions are left out: they may depend on what else the process has imported.
    """
    return [
        lock_line(signal, receiver)
        for signal in found.signals
        for receiver in signal.receivers
        if not receiver.foreign
    ]


def lock_line(signal: SignalInfo, receiver: ReceiverInfo) -> str:
    """Return the signal, the receiver, and the options that are not the default."""
    policy = receiver.on_error or signal.on_error
    options = {
        "sender": receiver.sender,
        "priority": receiver.priority or None,
        "when": None if receiver.when is None else f"{receiver.when.module}:{receiver.when.name}",
        "delivery": None if receiver.delivery == IMMEDIATE else receiver.delivery,
        "on_error": None if policy == "raise" else policy,
        "uid": receiver.uid,
        "weak": receiver.weak or None,
    }
    shown = [f"{name}={value}" for name, value in options.items() if value is not None]
    line = " ".join([signal.name, f"{receiver.module}:{receiver.name}", *shown])
    return line.encode("unicode_escape").decode("ascii")


def compare_lock(stored: str, file: str, found: Report) -> list[str]:
    """Return the unified diff from a lock to the receivers of a report; empty if they are the same.

    :param stored: the text of the lock.
    :param file: its name, for the heading.
    """
    before = [line for line in stored.splitlines() if line and not line.startswith("#")]
    after = to_lock(found)
    return [*unified_diff(before, after, file, f"app {found.app}", lineterm="")]
