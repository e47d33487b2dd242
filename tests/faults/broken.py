"""Durable delivery without one of its safeguards, to show that the tests of faults find it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from flask_signals_kit.deliveries.durable.table import Statements


def break_durable(without: str | None) -> None:
    """Remove a safeguard from this process: ``fence``, ``start`` or none.

    ``immediate`` is the app's own affair.
    """
    if without == "fence":
        _ignore_attempt("begin")
        _ignore_attempt("finish")
    elif without == "start":
        _count_at_the_end()


def _ignore_attempt(name: str) -> None:
    """Let a statement apply to the row whatever its attempt is."""
    original = getattr(Statements, name)

    def unfenced(self: Statements, connection: Any, number: int, attempt: int, *rest: Any) -> Any:
        row = self.table.c
        found = connection.execute(select(row.attempt).where(row.id == number)).scalar()
        return original(self, connection, number, attempt if found is None else found, *rest)

    setattr(Statements, name, unfenced)


def _count_at_the_end() -> None:
    """Count an attempt when it fails, and not when it begins."""
    begin, finish, retry, kill = (
        getattr(Statements, name) for name in ("begin", "finish", "retry", "kill")
    )

    def set_attempt(self: Statements, connection: Any, number: int, attempt: int) -> None:
        changed = update(self.table).where(self.table.c.id == number).values(attempt=attempt)
        connection.execute(changed)

    def begin_uncounted(
        self: Statements, connection: Any, number: int, attempt: int, timeout: float
    ) -> Any:
        row = begin(self, connection, number, attempt, timeout)
        if row is not None:
            set_attempt(self, connection, number, attempt)
        return row

    def retry_counted(
        self: Statements, connection: Any, number: int, attempt: int, *rest: Any
    ) -> Any:
        changed = retry(self, connection, number, attempt - 1, *rest)
        if changed:
            set_attempt(self, connection, number, attempt)
        return changed

    def earlier(original: Any) -> Any:
        return lambda self, connection, number, attempt, *rest: original(
            self, connection, number, attempt - 1, *rest
        )

    for name, method in {
        "begin": begin_uncounted,
        "retry": retry_counted,
        "finish": earlier(finish),
        "kill": earlier(kill),
    }.items():
        setattr(Statements, name, method)
