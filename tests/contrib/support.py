"""A shop whose durable receivers run in Celery's processes, and how it is watched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import create_engine, text

from tests.contrib.celery_shop import account_funded, create_app, db, report_asked
from tests.redis_server import RedisServer
from tests.support import wait_until

ROOT = Path(__file__).parents[2]


class CeleryShop:
    """The shop in this process, and its workers in others.

    :param database: the database's URL.
    :param folder: for logs and beat's files.
    :param redis: the broker.
    """

    def __init__(self, database: str, folder: Path, redis: RedisServer) -> None:
        self.redis = redis
        self._folder = folder
        self._environment = {**os.environ, "SHOP_DATABASE": database, "SHOP_BROKER": redis.url}
        self._processes: list[subprocess.Popen[bytes]] = []
        self.outside = create_engine(database)
        self.app: Flask = create_app(database, redis.url)
        self.celery: Any = self.app.extensions["celery"]

    # -- processes ----------------------------------------------------------------------------

    def worker(self, pool: str = "prefork", queues: str = "celery", concurrency: int = 2) -> int:
        """Start a worker; return its process id."""
        options = ["--pool", pool, "--concurrency", str(concurrency), "--queues", queues]
        name = f"worker{len(self._processes)}"
        options += ["--hostname", name, "--loglevel", "INFO", "--without-mingle"]
        return self._start(name, "worker", *options, "--without-gossip")

    def beat(self) -> int:
        """Start a beat; return its process id."""
        name = f"beat{len(self._processes)}"
        schedule = str(self._folder / f"{name}.schedule")
        return self._start(name, "beat", "--schedule", schedule, "--pidfile", "")

    def _start(self, name: str, *arguments: str) -> int:
        command = [sys.executable, "-m", "celery", "-A", "tests.contrib.celery_shop", *arguments]
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that a worker and its processes are a group
            )
        self._processes.append(process)
        return process.pid

    def wait_for_end(self, process: int) -> int:
        """Wait until a process ends, and return its exit code."""
        [found] = [each for each in self._processes if each.pid == process]
        return found.wait(60)

    def close(self) -> None:
        """Kill what was started, and close the connections."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        self.outside.dispose()
        with self.app.app_context():
            db.engine.dispose()
        self.celery.close()

    @property
    def log(self) -> str:
        """What the processes have printed."""
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text(errors='replace')}" for log in logs)

    # -- messages -----------------------------------------------------------------------------

    def fund(self, *numbers: int, first: str = "") -> None:
        """Send, and commit."""
        with self.app.app_context():
            for number in numbers:
                account_funded.send(self.app, number=number, first=first)

    def ask_for_report(self, number: int) -> None:
        """Send to the other queue."""
        with self.app.app_context():
            report_asked.send(self.app, number=number)

    def forward(self, **arguments: Any) -> None:
        """Run the task that forwards, in this process."""
        self.celery.tasks["signals.forward"].apply(kwargs=arguments, throw=True)

    def messages(self) -> list[Any]:
        """Return the rows of the outbox."""
        return self._rows("SELECT * FROM signals_outbox ORDER BY id")

    def effects(self) -> list[Any]:
        """Return what the receivers have done."""
        return self._rows("SELECT * FROM effect ORDER BY number, id")

    def _rows(self, statement: str) -> list[Any]:
        with self.outside.connect() as connection:
            return list(connection.execute(text(statement)))

    def wait_for_effects(self, *numbers: int) -> None:
        """Wait until each of these numbers has exactly one effect, and no message is left."""
        wait_until(lambda: not self.messages(), "no message is left", lambda: self.log)
        assert [effect.number for effect in self.effects()] == list(numbers), self.log

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until a condition holds."""
        wait_until(condition, what, lambda: self.log)
