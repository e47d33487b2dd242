"""Processes of the shop, and what must hold once they have ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text

from flask_signals_kit.deliveries.durable.table import outbox_table
from tests.faults.shop import MAX_ATTEMPTS, Base
from tests.support import require_service, wait_until

ROOT = Path(__file__).parents[2]

LIMIT = 60
"""The longest time that a process of the shop may take, in seconds."""

KILLED = -signal.SIGKILL
"""The return code of a process that was killed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Counts:
    """What is stored at the end."""

    orders: int
    """The business rows."""
    waiting: int
    """The messages that are due, or will be."""
    dead: int
    """The messages that are not run again."""
    effects: int
    """The effects in the same database."""
    lost: int
    """The messages that an order should have, and that are neither stored nor have an effect."""
    doubled: int
    """The effects in the same database that happened again."""
    repeated: int
    """The effects outside of the database that happened again."""
    wrong: int
    """All that contradicts an invariant in another way."""


class Processes:
    """A shop whose processes work on one database.

    :param url: the database.
    :param folder: for what is written outside of it.
    """

    def __init__(self, url: str, folder: Path) -> None:
        require_service(find_spec("msgspec"), "msgspec is not installed")
        self.url = url
        self.folder = folder
        self.engine: Engine = create_engine(url)
        self.counts: Counts | None = None
        self._started: list[subprocess.Popen[str]] = []
        self._prepare()

    def _prepare(self) -> None:
        """Create the tables, in WAL mode on SQLite."""
        if self.engine.dialect.name == "sqlite":
            with self.engine.connect() as connection:
                connection.execute(text("PRAGMA journal_mode = WAL"))
        outbox_table(Base.metadata)
        Base.metadata.create_all(self.engine)
        self.write("INSERT INTO total (id, amount) VALUES (1, 0)")

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        self.engine.dispose()

    # -- processes ----------------------------------------------------------------------------

    def start(self, role: str, *args: Any, **settings: Any) -> subprocess.Popen[str]:
        """Start a process.

        :param role: ``send FIRST COUNT``, ``work [CONCURRENCY [once]]`` or ``rollback``.
        :param settings: environment variables of the shop, in lower case and without ``SHOP_``.
        """
        command = [sys.executable, "-m", "tests.faults.program", role, *map(str, args)]
        return self.start_command(command, **settings)

    def start_command(self, command: list[str], **settings: Any) -> subprocess.Popen[str]:
        """Start a command that imports the shop; see :meth:`start`."""
        settings = {"url": self.url, "folder": self.folder, **settings}
        environment = {f"SHOP_{name.upper()}": str(value) for name, value in settings.items()}
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pipesize=1 << 20,  # it is read at the end only, and an outage is logged at length
            start_new_session=True,  # so that it and its children are a group
        )
        self._started.append(process)
        return process

    def run(self, role: str, *args: Any, code: int = 0, **settings: Any) -> str:
        """Run a process to its end and return its output.

        :param code: the expected return code.
        """
        process = self.start(role, *args, **settings)
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == code, output
        return output

    def send(self, first: int = 1, count: int = 1, **settings: Any) -> str:
        """Place orders in a process of their own."""
        return self.run("send", first, count, **settings)

    def drain(self, **settings: Any) -> None:
        """Run messages until none is left but dead ones, as if the time of each had come."""
        for _ in range(MAX_ATTEMPTS + 1):
            self.make_due()
            self.run("work", 2, "once", **settings)
            if not self.read("SELECT id FROM signals_outbox WHERE due IS NOT NULL"):
                return
        raise AssertionError(f"messages are left: {self.messages()}")

    @contextmanager
    def working(self, concurrency: int = 2, **settings: Any) -> Iterator[subprocess.Popen[str]]:
        """Run a worker, which gets SIGTERM at the end and must end properly."""
        process = self.start("work", concurrency, **settings)
        read_until(process, "ready")
        yield process
        process.terminate()
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, output
        assert "stopped" in output

    # -- the database -------------------------------------------------------------------------

    def read(self, statement: str, **values: Any) -> list[Any]:
        """Return the rows of a query."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(statement), values))

    def write(self, statement: str, **values: Any) -> None:
        """Execute a statement and commit."""
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def messages(self) -> list[Any]:
        """Return the rows of the outbox."""
        return self.read("SELECT * FROM signals_outbox ORDER BY id")

    def make_due(self) -> None:
        """Make every message due, as if its time had come."""
        self.write("UPDATE signals_outbox SET due = 0 WHERE due IS NOT NULL")

    def outside(self) -> list[dict[str, Any]]:
        """Return the effects outside of the database."""
        file = self.folder / "outside.log"
        return [*map(json.loads, file.read_text().splitlines())] if file.exists() else []

    def wait_for_effects(self, count: int) -> None:
        """Wait until so many messages have ended."""
        wait_until(lambda: len(self.read("SELECT id FROM effect")) >= count)

    def wait_until_reached(self, process: subprocess.Popen[str]) -> None:
        """Wait until a process has reached its fault."""
        file = self.folder / f"reached-{process.pid}"
        wait_until(lambda: file.exists() or process.poll() is not None)
        assert file.exists(), process.communicate()

    def count(self) -> Counts:
        """Count what is stored, and check every invariant that needs no knowledge of the test."""
        orders = {row.number for row in self.read("SELECT number FROM shop_order")}
        effects = [row.number for row in self.read("SELECT number FROM effect")]
        outside, messages = self.outside(), self.messages()
        stored = Counter((row.receiver, _number(row)) for row in messages)
        inside_names = {number for receiver, number in stored if receiver == "inside"}
        outside_names = {number for receiver, number in stored if receiver == "outside"}
        done_outside = {line["number"] for line in outside}
        keys = {(line["number"], line["key"]) for line in outside}
        [[total]] = self.read("SELECT amount FROM total")
        self.counts = Counts(
            orders=len(orders),
            waiting=sum(row.due is not None for row in messages),
            dead=sum(row.due is None for row in messages),
            effects=len(effects),
            lost=len(orders - {*effects} - inside_names)
            + len(orders - done_outside - outside_names),
            doubled=len(effects) - len({*effects}),
            repeated=len(outside) - len(done_outside),
            wrong=len(({*effects} | inside_names | done_outside | outside_names) - orders)
            + len({*effects} & inside_names)
            + sum(count - 1 for count in stored.values())
            + abs(total - len(effects))
            + len(keys)
            - len(done_outside)
            + sum(row.attempt > MAX_ATTEMPTS for row in messages),
        )
        return self.counts

    def check(self, **expected: int) -> Counts:
        """Check the invariants: none lost, none doubled in the database, none wrong.

        :param expected: further fields of the counts; ``waiting`` and ``dead`` are 0 by default.
        """
        counts = asdict(self.count())
        wanted = {"lost": 0, "doubled": 0, "wrong": 0, "waiting": 0, "dead": 0, **expected}
        assert {name: counts[name] for name in wanted} == wanted, counts
        assert self.counts is not None
        return self.counts


def some_long(values: Iterable[Any], *quick: Any) -> list[Any]:
    """Return the values for ``parametrize``; mark all but the quick ones as long."""
    return [
        value if value in quick else pytest.param(value, marks=pytest.mark.long) for value in values
    ]


def _number(row: Any) -> int:
    number: int = json.loads(row.payload)["values"]["number"]
    return number


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """Read lines of a process until one contains these words."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip())
        if words in line:
            return lines
    raise AssertionError(f"{words!r} is missing in {lines}")


def begin_immediate(engine: Engine) -> None:
    """Let the test's own transactions on SQLite lock the file."""

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.connection.dbapi_connection.isolation_level = None
        connection.exec_driver_sql("BEGIN IMMEDIATE")
