"""For tests: what was sent, and after-commit receivers where nothing is ever committed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from .calls import Call
from .dispatch import Observation
from .records import Emission
from .state import AppSignals
from .transactions import Waiting


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Captured:
    """One emission that a test has captured."""

    signal: str
    """The signal's name."""
    sender: Any
    """Who sent it."""
    payload: dict[str, Any]
    """What was passed, by name."""
    emission: Emission
    """The record of it: where it was sent, and in which request."""
    started: float
    """When it began, on the clock of ``time.perf_counter``, in seconds."""


@contextmanager
def capture(
    state: AppSignals, names: Iterable[str], run_after_commit: bool
) -> Generator[list[Captured], None, None]:
    """Record what an app sends while a ``with`` block runs.

    :param state: the app's half.
    :param names: the signals' names; every domain signal, if there are none.
    :param run_after_commit: run the after-commit receivers that still wait when the block ends.
    """
    captured: list[Captured] = []
    kept: list[tuple[Waiting, Call]] = []

    def record(seen: Observation) -> None:
        captured.append(
            Captured(
                signal=seen.signal,
                sender=seen.sender,
                payload=dict(seen.payload),
                emission=seen.emission,
                started=seen.started,
            )
        )
        captured.sort(key=attrgetter("started"))  # a signal sent by a receiver is over first

    undo = _observe(state, list(names), record)
    with state.watch_kept(lambda waiting, call: kept.append((waiting, call))):
        try:
            yield captured
            while run_after_commit and kept:
                waiting, call = kept.pop(0)
                if waiting.withdraw(call):  # neither run by a commit nor dropped by a rollback
                    call.run_contained()
        finally:
            for end in undo:
                end()


def _observe(
    state: AppSignals, names: list[str], record: Callable[[Observation], None]
) -> list[Callable[[], None]]:
    if names:
        return [state.namespace.signal(name).observe(record) for name in dict.fromkeys(names)]

    class Domain:
        """Looks on at every signal, and records the app's own."""

        passive = True

        def __call__(self, seen: Observation) -> None:
            if state.origin(seen.signal) == "domain":
                record(seen)

    return [state.namespace.observe(Domain())]
