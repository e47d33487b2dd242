"""``flask signals work``: run the messages of durable receivers in a process of their own."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from flask.cli import with_appcontext

from ..errors import HOW_TO_CREATE, OutboxError
from .terminal import current_outbox, echo, errors_shown, printable

if TYPE_CHECKING:
    from ..app.embedded import Worker
    from ..app.outbox import Outbox
    from ..app.runs import RunResult

FAILED = frozenset({"failed", "dead", "too_slow"})
"""The results of a run that are counted as failures."""

STOPPING = (signal.SIGTERM, signal.SIGINT)
"""The signals of the operating system that stop the command."""

EVERY = 1.0
"""The time between two updates of the progress line, in seconds."""


@click.command("work")
@click.option("--once", is_flag=True, help="Stop as soon as no message is due.")
@click.option(
    "--concurrency",
    type=click.IntRange(1, 100),
    default=4,
    show_default=True,
    help="How many messages are run at the same time.",
)
@click.option("--queue", help="Run only the messages of this queue.")
@with_appcontext
@errors_shown()
def work(once: bool, concurrency: int, queue: str | None) -> None:
    """Run the messages of durable receivers, until it gets SIGTERM or SIGINT (Ctrl-C).

    Then it finishes the messages that run, and takes no others. A second signal ends it at once;
    what has not finished runs again later.
    """
    from ..app.embedded import Worker

    _, outbox = current_outbox()
    missing = outbox.missing()
    if missing:
        raise OutboxError(f"There is no {missing}. {HOW_TO_CREATE}")
    runs = _Runs()
    worker = Worker(outbox, concurrency, queue, runs.ended)
    # What a receiver sends wakes this worker, and does not start the embedded one.
    outbox.close()
    outbox.embedded = worker
    with _stopped_by_signals(worker, runs.line), _progress(runs, outbox, queue):
        worker.work(once=once)


class _Runs:
    """Counts the runs; where the output is not a terminal, it prints a line for each."""

    def __init__(self) -> None:
        self.on_terminal: bool = sys.stdout.isatty()
        self.number: int = 0
        self.failed: int = 0
        self.line: _Line = _Line()
        self._lock = threading.Lock()

    def ended(self, result: RunResult, seconds: float) -> None:
        """Count a run."""
        with self._lock:
            self.number += 1
            self.failed += result.status in FAILED
            if not self.on_terminal:
                now = datetime.now().astimezone().isoformat(sep=" ", timespec="milliseconds")
                echo(
                    f"{now} receiver={printable(result.receiver)} message={result.message} "
                    f"attempt={result.attempt} ms={seconds * 1000:.0f} result={result.status}"
                )


class _Line:
    """The progress line of a terminal."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may log while this thread prints
        self._width = 0

    def show(self, text: str) -> None:
        """Show a text in place of the last one."""
        with self._lock:
            self._print(f"\r{text:{self._width or 1}}")
            self._width = len(text)

    def clear(self) -> None:
        """Make room for another line, until the next text is shown."""
        with self._lock:
            width, self._width = self._width, 0
            if width:
                self._print(f"\r{'':{width}}\r")

    @staticmethod
    def _print(text: str) -> None:
        with suppress(OSError):  # the terminal was closed; receivers go on
            click.echo(text, nl=False)

    @contextmanager
    def cleared_by_logs(self) -> Generator[None, None, None]:
        """Clear the line before a log record is printed, whatever handler prints it."""
        before = logging.getLogRecordFactory()

        def make_record(*args: Any, **extra: Any) -> logging.LogRecord:
            self.clear()
            return before(*args, **extra)

        logging.setLogRecordFactory(make_record)
        try:
            yield
        finally:
            logging.setLogRecordFactory(before)


@contextmanager
def _progress(runs: _Runs, outbox: Outbox, queue: str | None) -> Generator[None, None, None]:
    """On a terminal, print in one line how many messages have run, have failed and are left."""
    if not runs.on_terminal:
        yield
        return
    ended = threading.Event()

    def show() -> None:
        left = _left(outbox, queue)
        runs.line.show(f"{runs.number:,} run, {runs.failed:,} failed, {left}")

    def repeat() -> None:
        while not ended.wait(EVERY):
            show()

    show()
    thread = threading.Thread(target=repeat, name="signals_progress")
    thread.start()
    try:
        with runs.line.cleared_by_logs():
            yield
    finally:
        ended.set()
        thread.join()
        show()
        click.echo()


def _left(outbox: Outbox, queue: str | None) -> str:
    """Return how many messages are due and retrying; ``?`` if the database cannot be used."""
    queries = outbox.queries
    numbers = {"due": "?", "retrying": "?"}
    try:
        with outbox.reading() as connection:
            for status in numbers:
                where = queries.where(status=status, queue=queue or "")
                numbers[status] = f"{queries.count(connection, where):,}"
    except OutboxError:
        pass
    return ", ".join(f"{number} {status}" for status, number in numbers.items())


@contextmanager
def _stopped_by_signals(worker: Worker, line: _Line) -> Generator[None, None, None]:
    """Stop a worker at the first SIGTERM or SIGINT, and end the process at the second.

    :param line: the progress line, which makes room for what this prints.
    """

    def stop(number: int, frame: Any) -> None:
        for each in STOPPING:
            signal.signal(each, signal.SIG_DFL)
        # In a thread: the one that is interrupted here may hold the lock that this waits for.
        threading.Thread(target=finish, name="signals_stop").start()

    def finish() -> None:
        line.clear()
        click.echo("Stopping: what runs is finished; a second signal ends it at once.", err=True)
        worker.stop()

    before = {each: signal.signal(each, stop) for each in STOPPING}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
