"""``kit.capture()`` for tests: record emissions, and run after-commit receivers at the end."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import attrgetter
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..core.names import is_glob
from ..records import Emission

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..core.delivery import Call
    from ..core.observation import Observation
    from ..deliveries.transactions import Pending


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Captured:
    """One emission that a test captured."""

    signal: str
    """The signal's name."""
    sender: Any
    """The sender."""
    payload: dict[str, Any]
    """The payload, by name."""
    emission: Emission
    """The record of the emission: where it was sent, and in which request."""
    started: float
    """When it began, in seconds, on the clock of ``time.perf_counter``."""


@contextmanager
def capture(
    app_signals: AppSignals, names: Iterable[str], run_after_commit: bool
) -> Generator[list[Captured], None, None]:
    """Record the emissions of an app while a ``with`` block runs.

    :param app_signals: the app's signals.
    :param names: the signals' names and globs; every domain signal if empty.
    :param run_after_commit: when the block ends, run the after-commit receivers that still wait.
    """
    captured: list[Captured] = []
    started = attrgetter("started")
    retained: list[tuple[Pending, Call]] = []

    def record(observation: Observation) -> None:
        found = Captured(
            signal=observation.signal,
            sender=observation.sender,
            payload=dict(observation.payload),
            emission=observation.emission,
            started=observation.started,
        )
        insort(captured, found, key=started)  # an emission sent by a receiver ends first

    undo = _observe(app_signals, list(names), record)
    thread = get_ident()

    def keep(pending: Pending, call: Call) -> None:
        if run_after_commit and get_ident() == thread:  # not the session of another thread
            retained.append((pending, call))

    with app_signals.sessions.observe_kept(keep):
        try:
            yield captured
            while retained:
                # Those that are not run or dropped yet. Take all before one of them commits.
                calls = [call for pending, call in retained if pending.withdraw(call)]
                retained.clear()
                for call in sorted(calls, key=attrgetter("number")):
                    call.run_contained()
        finally:
            for end in undo:
                end()


def _observe(
    app_signals: AppSignals, names: list[str], record: Callable[[Observation], None]
) -> list[Callable[[], None]]:
    exact = {name for name in names if not is_glob(name)}
    globs = [name for name in names if is_glob(name)] if names else ["*"]
    for name in exact:
        app_signals.warn_unknown(name)
    undo = [app_signals.namespace.signal(name).observe(record) for name in exact]
    return [
        *undo,
        app_signals.namespace.observe(_DomainObserver(app_signals, globs, exact, record)),
    ]


class _DomainObserver:
    """Observes every signal, and records emissions of the domain signals that match a glob."""

    passive = True

    def __init__(
        self,
        app_signals: AppSignals,
        globs: list[str],
        exact: set[str],
        record: Callable[[Observation], None],
    ) -> None:
        self._app_signals = app_signals
        self._globs = globs
        self._exact = exact
        self._record = record

    def __call__(self, observation: Observation) -> None:
        matches = any(fnmatchcase(observation.signal, glob) for glob in self._globs)
        if (
            matches
            and observation.signal not in self._exact
            and self._app_signals.origin(observation.signal) == "domain"
        ):
            self._record(observation)
