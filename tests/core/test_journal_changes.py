"""The journal while connections end."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from flask_signals_kit import Namespace
from tests.support import JournalEnvironment

on_look: list[Callable[[], object]] = []


class Interrupting(type):
    """Makes classes that interrupt the journal when it looks at a sender's class."""

    def __getattribute__(cls, name: str) -> Any:
        if name == "__module__":
            for interrupt in on_look:
                interrupt()
        return super().__getattribute__(name)


class Account(metaclass=Interrupting):
    """A sender."""


def test_failure_is_journalled_although_its_receiver_was_disconnected_meanwhile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another thread may disconnect a receiver, and send, before its failure is counted."""
    environment = JournalEnvironment()
    journal = environment.journal
    signal = Namespace(environment).signal("account_funded")

    def fail(sender: Any, **extra: Any) -> None:
        raise LookupError("no account")

    signal.connect(fail)
    on_look[:] = [lambda: signal.disconnect(fail), lambda: signal.has_receivers_for("acme")]
    try:
        with caplog.at_level(logging.ERROR), pytest.raises(LookupError):
            signal.send(Account())
    finally:
        on_look.clear()
    assert not caplog.records
    assert [step.error for entry in journal.entries() for step in entry.steps] == ["LookupError"]
