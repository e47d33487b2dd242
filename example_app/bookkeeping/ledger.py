"""The ledger: a second SQLite file stands for a foreign system, which may be down."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import current_app

TABLE = """
CREATE TABLE IF NOT EXISTS ledger_entry (
    key TEXT PRIMARY KEY, account INTEGER, amount TEXT, method TEXT, posted_at TEXT
)
"""


class LedgerDownError(Exception):
    """The ledger does not answer."""


def post_entry(key: str, *, account: int, amount: str, method: str) -> None:
    """Post an entry; a second one with the same key changes nothing.

    :param key: the idempotency key.
    :raises LedgerDownError: the ledger does not answer.
    """
    if is_down():
        raise LedgerDownError("the ledger does not answer")
    with _connect() as connection:
        connection.execute(
            "INSERT OR IGNORE INTO ledger_entry VALUES (?, ?, ?, ?, datetime('now'))",
            (key, account, amount, method),
        )


def entries(account: int, *, limit: int = 20) -> list[dict[str, Any]]:
    """Return the last entries of an account, newest first; their times are aware."""
    with _connect() as connection:
        query = "SELECT * FROM ledger_entry WHERE account = ? ORDER BY rowid DESC LIMIT ?"
        rows = connection.execute(query, (account, limit)).fetchall()
    return [{**row, "posted_at": _utc(row["posted_at"])} for row in rows]


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def is_down() -> bool:
    """Tell whether the ledger is down."""
    return _switch().exists()


def switch(*, down: bool) -> None:
    """Take the ledger down, or let it answer again."""
    if down:
        _switch().touch()
    else:
        _switch().unlink(missing_ok=True)


def _file() -> Path:
    file = Path(current_app.instance_path, current_app.config["LEDGER"])
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _switch() -> Path:
    return _file().with_suffix(".down")


@contextmanager
def _connect() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(_file(), timeout=10)) as connection, connection:
        connection.row_factory = sqlite3.Row
        connection.execute(TABLE)
        yield connection
