"""Blocks of the current thread or task: ``muted()``, ``connected_to()``, and tests' limits."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

EVERYWHERE: object = object()
"""The block that every thread and task is in."""

scopes: ContextVar[frozenset[object]] = ContextVar(
    "signals_kit_scopes", default=frozenset({EVERYWHERE})
)
"""The blocks that the current thread or task is in."""


@contextmanager
def scope() -> Generator[object, None, None]:
    """Enter a block of the current thread or task."""
    entered = object()
    scopes.set(scopes.get() | {entered})
    try:
        yield entered
    finally:
        scopes.set(scopes.get() - {entered})
