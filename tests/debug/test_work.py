"""``flask signals work``: a worker in a process of its own."""

import contextlib
import gc
import logging
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from flask_signals_kit import SignalsKit
from flask_signals_kit.app.embedded import Worker
from flask_signals_kit.debug.work import _Line
from tests.debug.support import run
from tests.debug.test_outbox import execute, pay, send
from tests.deliveries.durable.support import DurableShop
from tests.support import wait_until

APP = """
import os, time
from pathlib import Path
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from flask_signals_kit import Durable, SignalsKit

app = Flask("shop")
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["SHOP_DATABASE"]
app.config["SIGNALS_KIT_ENGINE"] = os.environ["SHOP_ENGINE"]
db = SQLAlchemy(app)
kit = SignalsKit()
funded = kit.signal("account_funded", "Money arrived.")
with app.app_context():
    kit.begin_immediate(db.engine)


@kit.on(funded, delivery=Durable(max_attempts=1), uid="ledger")
def pay(sender, **extra):
    Path(f"started-{sender}").touch()
    if sender == "slow":
        while not Path("go").exists():
            time.sleep(0.01)
    if sender == "wrong":
        raise LookupError("secret-4111")
    if sender == "chain":
        funded.send("chained")
    Path(f"ended-{sender}").touch()


@kit.on(funded, delivery=Durable(queue="mails"), uid="mail", when=lambda s, **e: s == "mail")
def mail(sender, **extra):
    Path("mailed").touch()


kit.init_app(app)
"""


class Process:
    """An app in a folder of its own, and the command ``flask signals work`` for it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.engine: Engine = create_engine(url)
        self.environ = {
            **os.environ,
            "SHOP_DATABASE": url,
            "SHOP_ENGINE": "embedded",
            "COLUMNS": "",
        }
        self.started: list[subprocess.Popen[str]] = []
        (folder / "shop.py").write_text(APP)

    def python(
        self, *arguments: str, environ: dict[str, str] | None = None, **options: Any
    ) -> "subprocess.Popen[str]":
        """Start Python in the app's folder."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environ, "FLASK_APP": "shop", **(environ or {})},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},
        )
        self.started.append(process)
        return process

    def work(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Start ``flask signals work``."""
        return self.python("-m", "flask", "signals", "work", *arguments, **options)

    def send(self, *senders: str) -> None:
        """Create the tables, and send from another process."""
        sends = "".join(f"\n    funded.send({sender!r})" for sender in senders)
        code = f"from shop import *\nwith app.app_context():\n    db.create_all(){sends}"
        only_store = {"SHOP_ENGINE": "none"}
        output, _ = self.python("-c", code, environ=only_store).communicate(timeout=60)
        assert output == ""

    def rows(self) -> list[tuple[str, int, Any]]:
        """Return receiver, attempt and due of each message."""
        statement = text("SELECT receiver, attempt, due FROM signals_outbox ORDER BY id")
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(statement)]

    def until(self, name: str) -> None:
        """Wait until a receiver has made a file."""
        wait_until((self.folder / name).exists)

    def close(self) -> None:
        """End what still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        self.engine.dispose()


@pytest.fixture
def shop(tmp_path: Path, database: str) -> Iterator[Process]:
    """Give an app on each database."""
    process = Process(tmp_path, database)
    yield process
    process.close()


def lines(output: str) -> list[tuple[str, ...]]:
    """Return receiver, message, attempt and result of each line, in the order of the messages."""
    pattern = r"^\S+ \S+ receiver=(\S+) message=(\d+) attempt=(\d+) ms=\d+ result=(\w+)$"
    return sorted(re.findall(pattern, output, re.MULTILINE), key=lambda found: int(found[1]))


def test_once_runs_what_is_due_and_logs_each_message(shop: Process) -> None:
    """One line for each, without a value; the dead message is logged with its error as well."""
    shop.send("acme", "wrong")
    worker = shop.work("--once", stderr=subprocess.PIPE)
    output, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert lines(output) == [("ledger", "1", "1", "ran"), ("ledger", "2", "1", "dead")]
    assert len(output.splitlines()) == 2
    assert "secret" not in output
    assert "Message 2 of signal 'account_funded' is dead" in errors
    assert shop.rows() == [("ledger", 1, None)]


def test_once_without_messages_ends(shop: Process) -> None:
    """It prints nothing."""
    shop.send()
    worker = shop.work("--once")
    assert worker.communicate(timeout=60)[0] == ""
    assert worker.returncode == 0


def test_queue_limits_what_is_run(shop: Process) -> None:
    """Messages of other queues, and of none, wait for other workers."""
    shop.send("mail")
    output, _ = shop.work("--once", "--queue", "mails").communicate(timeout=60)
    assert [line[0] for line in lines(output)] == ["mail"]
    assert [(receiver, attempt) for receiver, attempt, _ in shop.rows()] == [("ledger", 0)]


def test_what_a_receiver_sends_is_run_by_the_same_worker(shop: Process) -> None:
    """And not by an embedded one, which would know nothing of ``--queue``."""
    shop.send("chain")
    output, _ = shop.work("--once").communicate(timeout=60)
    assert [line[1:] for line in lines(output)] == [("1", "1", "ran"), ("2", "1", "ran")]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_it_finish_what_runs(shop: Process, stop: signal.Signals) -> None:
    """It takes nothing new: the second message waits."""
    shop.send("slow", "acme")
    worker = shop.work("--concurrency", "1", stderr=subprocess.PIPE)
    shop.until("started-slow")
    worker.send_signal(stop)
    assert worker.stderr is not None
    assert worker.stderr.readline().startswith("Stopping: what runs is finished")
    (shop.folder / "go").touch()
    output, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert lines(output) == [("ledger", "1", "1", "ran")]
    assert (shop.folder / "ended-slow").exists()
    assert not (shop.folder / "started-acme").exists()
    assert [(receiver, attempt) for receiver, attempt, _ in shop.rows()] == [("ledger", 0)]


def test_signal_ends_an_idle_worker(shop: Process) -> None:
    """It waits for messages until then, and runs one that comes later."""
    shop.send()
    worker = shop.work()
    shop.send("acme")
    shop.until("ended-acme")
    wait_until(lambda: shop.rows() == [])
    worker.send_signal(signal.SIGTERM)
    output, _ = worker.communicate(timeout=60)
    assert (worker.returncode, len(lines(output))) == (0, 1)


def test_second_signal_ends_it_at_once(shop: Process) -> None:
    """The message is not lost: its run has begun, and it is due again after its timeout."""
    shop.send("slow")
    worker = shop.work(stderr=subprocess.PIPE)
    shop.until("started-slow")
    worker.send_signal(signal.SIGTERM)
    assert worker.stderr is not None
    assert worker.stderr.readline().startswith("Stopping")
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=60)
    assert worker.returncode == -signal.SIGTERM
    [(receiver, attempt, due)] = shop.rows()
    assert (receiver, attempt) == ("ledger", 1)
    assert due is not None


def screen(shop: Process, *arguments: str) -> list[str]:
    """Run the command on a terminal until it ends; return what it printed, line by line."""
    main, terminal = pty.openpty()
    worker = shop.work(*arguments, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(main, 1000)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert worker.wait(60) == 0
    return shown.decode().split("\r\n")


def test_progress_is_shown_on_a_terminal(shop: Process) -> None:
    """One line instead of one for each message, from the start on."""
    shop.send("acme", "beta")
    shown = screen(shop, "--once")
    assert shown[0].startswith("\r0 run, 0 failed, 2 due, 0 retrying\r")
    assert shown[0].endswith("\r2 run, 0 failed, 0 due, 0 retrying")
    assert shown[1:] == [""]


def test_progress_makes_room_for_log_lines(shop: Process) -> None:
    """They are written to standard error, which is the same terminal."""
    shop.send("wrong")
    shown = screen(shop, "--once")
    visible = [line.rpartition("\r")[2] for line in shown]
    assert visible[0].startswith("Message 1 of signal 'account_funded' is dead, for receiver")
    blank = " " * len("0 run, 0 failed, 1 due, 0 retrying")
    assert f"\r{blank}\r" in shown[0]
    assert visible[-2:] == ["1 run, 1 failed, 0 due, 0 retrying", ""]


def test_app_without_durable_receivers_is_an_error() -> None:
    """There is nothing to run."""
    app = Flask("shop")
    SignalsKit(app)
    result = run(app, "work")
    assert result.exit_code == 1
    assert "App 'shop' has no durable receivers" in result.stderr


def test_missing_table_is_an_error(durable_shop: DurableShop) -> None:
    """It is not reported each second for ever."""
    durable_shop.on(pay)
    execute(durable_shop, "DROP TABLE signals_outbox")
    result = run(durable_shop.app, "work")
    assert result.exit_code == 1
    assert re.match(r"Error: There is no table 'signals_outbox' in \S+\. Create", result.stderr)


def test_database_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    """With the driver's reason."""
    (tmp_path / "file").touch()
    shop = DurableShop(f"sqlite:///{tmp_path / 'shop.sqlite'}")
    shop.on(pay)
    engine = create_engine(f"sqlite:///{tmp_path / 'file' / 'shop.sqlite'}")
    with pytest.raises(OperationalError):
        engine.connect()
    shop.outbox._engine = engine
    result = run(shop.app, "work")
    assert result.exit_code == 1
    assert "cannot be used: sqlite3.OperationalError: unable to open" in result.stderr
    engine.dispose()
    shop.close()


def test_command_replaces_the_embedded_worker(durable_shop: DurableShop) -> None:
    """What a receiver sends wakes the command's own worker."""
    durable_shop.on(lambda sender, **extra: None)
    send(durable_shop, 2)
    result = run(durable_shop.app, "work", "--once")
    assert (result.exit_code, len(lines(result.output))) == (0, 2)
    assert isinstance(durable_shop.outbox.embedded, Worker)


# -- the progress line ----------------------------------------------------------------------------


class LogsWhenCollected:
    """A cycle that the garbage collector ends; it logs then, as a transaction of the kit may."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        logging.getLogger("shop").warning("collected")


def test_progress_line_may_be_interrupted_by_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """The garbage collector runs anywhere, also while the line is printed."""
    line = _Line()

    def show() -> None:
        with line.cleared_by_logs():
            for number in range(100):
                LogsWhenCollected()
                line.show(f"{number} run")

    thread = threading.Thread(target=show, daemon=True)
    before = gc.get_threshold()
    gc.set_threshold(5)
    try:
        thread.start()
        thread.join(20)
    finally:
        gc.set_threshold(*before)
    assert not thread.is_alive()
    assert "collected" in caplog.messages


def test_closed_terminal_does_not_fail_a_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The receiver that logs goes on."""
    screen, side = pty.openpty()
    line = _Line()
    with os.fdopen(side, "w", buffering=1) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with line.cleared_by_logs():
            line.show("3 run, 0 failed")
            os.close(screen)
            logging.getLogger("shop").warning("a receiver logs")
            line.show("4 run, 0 failed")
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            terminal.close()
    assert caplog.messages == ["a receiver logs"]
