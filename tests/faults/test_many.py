"""A hundred thousand messages that are due at once: the work of a claim does not grow."""

from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from flask_signals_kit.deliveries.durable.table import Statements
from tests.faults.shop import Base
from tests.faults.support import Processes

LIMIT = 100

CLAIMS = 12
"""Enough for psycopg to prepare the statement, and for PostgreSQL to reuse a plan."""


@pytest.fixture
def statements() -> Statements:
    """Give the statements on the table."""
    return Statements(Base.metadata.tables["signals_outbox"])


def fill(shop: Processes, count: int) -> None:
    """Store messages: most are due, one in ten is dead, one in ten is due later."""
    shop.write("DELETE FROM signals_outbox")
    rows = [
        {
            "due": (None, 1e12)[number % 2] if number % 5 == 0 else number / count,
            "text": "." * 500,
        }
        for number in range(count)
    ]
    with shop.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO signals_outbox (receiver, signal, payload, headers, due, attempt) "
                "VALUES ('inside', 'order_placed', :text, '{}', :due, 0)"
            ),
            rows,
        )
    with shop.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))


def claim_and_look(statements: Statements, connection: Connection) -> None:
    """Do what a worker does to find messages."""
    for _ in range(CLAIMS):
        assert len(statements.claim(connection, LIMIT, None, 60)) == LIMIT
        assert statements.seconds_to_next(connection, None) is not None


def sqlite_steps(shop: Processes, statements: Statements) -> int:
    """Return how many hundred instructions of SQLite's machine it takes."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with shop.engine.connect() as connection:
        raw: Any = connection.connection.dbapi_connection
        raw.set_progress_handler(count, 100)
        claim_and_look(statements, connection)
        raw.set_progress_handler(None, 0)
        connection.commit()
    return steps


def postgresql_rows(shop: Processes, statements: Statements) -> int:
    """Return how many rows are read, by the index or without it."""
    query = text(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables "
        "WHERE relid = 'signals_outbox'::regclass"
    )
    with shop.engine.begin() as connection:
        claim_and_look(statements, connection)
        return int(connection.execute(query).scalar_one())


def test_work_of_a_claim_does_not_grow(shop: Processes, statements: Statements) -> None:
    """It is the same with 20,000 messages as with 100,000."""
    measure = sqlite_steps if shop.engine.dialect.name == "sqlite" else postgresql_rows
    fill(shop, 20_000)
    few = measure(shop, statements)
    fill(shop, 100_000)
    many = measure(shop, statements)
    assert 0 < many <= 1.3 * few


def test_claim_uses_the_index(shop: Processes, statements: Statements) -> None:
    """The plan says so, for a claim and for the look at the next message."""
    plans: list[tuple[str, str]] = []
    sqlite = shop.engine.dialect.name == "sqlite"
    explain = "EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN "
    fill(shop, 20_000)

    @event.listens_for(shop.engine, "before_cursor_execute")
    def note(
        connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        cursor.execute(explain + statement, parameters)
        plans.append((statement, "\n".join(str(row) for row in cursor.fetchall())))

    with shop.engine.connect() as connection:
        statements.claim(connection, LIMIT, None, 60)
        statements.seconds_to_next(connection, None)
    assert len(plans) == 2
    # Not only its order: with few due among many that wait, the rest would be read in vain.
    assert ("(due<?)" if sqlite else "Index Cond: (due <=") in plans[0][1]
    for statement, plan in plans:
        assert "ix_signals_outbox_due" in plan, statement
        assert ("SCAN signals_outbox" if sqlite else "Seq Scan on signals_outbox") not in plan
