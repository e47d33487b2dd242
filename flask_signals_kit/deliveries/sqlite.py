"""SQLite's transactions: begin them explicitly, and find engines that begin them late."""

from __future__ import annotations

from typing import Any

from ..errors import ConfigurationError


def begin_immediate(engine: Any, mode: str = "IMMEDIATE") -> None:
    """Make an SQLite engine begin transactions explicitly, so that savepoints work.

    :param engine: an ``Engine`` or ``AsyncEngine``; engines of other databases are not changed.
    :param mode: ``"IMMEDIATE"``, ``"DEFERRED"`` or ``"EXCLUSIVE"``.
    :raises ConfigurationError: for an unknown mode.
    """
    from sqlalchemy import event

    if mode not in {"IMMEDIATE", "DEFERRED", "EXCLUSIVE"}:
        raise ConfigurationError(
            f"SQLite has no transactions of mode {mode!r}; "
            "use 'IMMEDIATE', 'DEFERRED' or 'EXCLUSIVE'."
        )
    engine = getattr(engine, "sync_engine", engine)
    own = any(isinstance(listener, _Begin) for listener in engine.dispatch.begin)
    if engine.dialect.name == "sqlite" and not own:
        event.listen(engine, "begin", _Begin(mode))


class _Begin:
    """Begins the transactions of an SQLite engine, unless another listener has begun one."""

    def __init__(self, mode: str) -> None:
        self._mode = mode

    def __call__(self, connection: Any) -> None:
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            return
        if not connection.connection.driver_connection.in_transaction:
            connection.connection.dbapi_connection.isolation_level = None  # pysqlite begins nothing
            connection.exec_driver_sql(f"BEGIN {self._mode}")


def begins_late(engine: Any) -> bool:
    """Tell whether Python's SQLite driver begins an engine's transactions, which it does late."""
    listeners = getattr(engine, "sync_engine", engine).dispatch.begin
    return engine.dialect.name == "sqlite" and not listeners


def engine_label(engine: Any) -> str:
    """Return an engine's URL without its password and query."""
    label: str = engine.url.set(query={}).render_as_string(hide_password=True)
    return label
