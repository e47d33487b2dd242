"""For tests: what was sent, and after-commit receivers where nothing is ever committed."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import attrgetter
from threading import get_ident
from typing import TYPE_CHECKING, Any

from .core.names import is_glob
from .records import Emission

if TYPE_CHECKING:
    from .app.app_signals import AppSignals
    from .core.delivery import Call
    from .core.observation import Observation
    from .deliveries.transactions import Pending


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
    :param names: the signals' names and globs; every domain signal, if there are none.
    :param run_after_commit: run the after-commit receivers that still wait when the block ends.
    """
    captured: list[Captured] = []
    started = attrgetter("started")
    kept: list[tuple[Pending, Call]] = []

    def record(seen: Observation) -> None:
        found = Captured(
            signal=seen.signal,
            sender=seen.sender,
            payload=dict(seen.payload),
            emission=seen.emission,
            started=seen.started,
        )
        insort(captured, found, key=started)  # a signal sent by a receiver is over first

    undo = _observe(state, list(names), record)
    thread = get_ident()

    def keep(pending: Pending, call: Call) -> None:
        if run_after_commit and get_ident() == thread:  # another thread's session is not ours
            kept.append((pending, call))

    with state.sessions.watch_kept(keep):
        try:
            yield captured
            while kept:
                # Those that no commit has run and no rollback dropped; all, before one commits.
                calls = [call for pending, call in kept if pending.withdraw(call)]
                kept.clear()
                for call in sorted(calls, key=attrgetter("number")):
                    call.run_contained()
        finally:
            for end in undo:
                end()


def _observe(
    state: AppSignals, names: list[str], record: Callable[[Observation], None]
) -> list[Callable[[], None]]:
    exact = {name for name in names if not is_glob(name)}
    globs = [name for name in names if is_glob(name)] if names else ["*"]
    for name in exact:
        state.warn_unknown(name)
    undo = [state.namespace.signal(name).observe(record) for name in exact]
    return [*undo, state.namespace.observe(_Domain(state, globs, exact, record))]


class _Domain:
    """Looks on at every signal, and records those of the app's own that a glob means."""

    passive = True

    def __init__(
        self,
        state: AppSignals,
        globs: list[str],
        exact: set[str],
        record: Callable[[Observation], None],
    ) -> None:
        self._state = state
        self._globs = globs
        self._exact = exact
        self._record = record

    def __call__(self, seen: Observation) -> None:
        meant = any(fnmatchcase(seen.signal, glob) for glob in self._globs)
        if meant and seen.signal not in self._exact and self._state.origin(seen.signal) == "domain":
            self._record(seen)
