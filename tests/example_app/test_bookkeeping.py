"""The ledger gets each payment once, even if it is down or the app is killed in between."""

import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text

from example_app.bookkeeping.ledger import entries
from example_app.extensions import db, kit
from tests.example_app.support import ROOT, Visitor, environment


def make_due_and_run(app: Flask) -> None:
    """Let the time pass until the next attempt of every message, and run it."""
    with app.app_context():
        db.session.execute(text("UPDATE signals_outbox SET due = 0"))
        db.session.commit()
    outbox = kit.for_app(app).outbox
    assert outbox is not None
    outbox.run_due()


def posted(app: Flask) -> list[tuple[str, str]]:
    """Return amount and method of the seeded account's entries, oldest first."""
    with app.app_context():
        return [(entry["amount"], entry["method"]) for entry in reversed(entries(1))]


def test_payment_is_posted(app: Flask, visitor: Visitor) -> None:
    """After its commit."""
    with kit.capture(app=app, run_durable=True):
        visitor.wire()
        assert posted(app) == []
    assert posted(app) == [("50.00", "wire")]
    shown = visitor.read("/ledger/")
    assert "€50.00 by wire" in shown
    assert re.search(r"posted \d+ \w{3}, \d\d:\d\d UTC", shown)


def test_ledger_that_is_down_gets_the_payment_later(app: Flask, visitor: Visitor) -> None:
    """The payment itself is accepted."""
    visitor.submit("/ledger/down", "/ledger/")
    assert "The ledger is down." in visitor.read("/ledger/")
    with kit.capture(app=app, run_durable=True, contain=True):
        assert visitor.wire().status_code == 200
    assert posted(app) == []
    visitor.submit("/ledger/up", "/ledger/")
    make_due_and_run(app)
    assert posted(app) == [("50.00", "wire")]


def test_second_run_of_a_message_posts_no_second_entry(app: Flask, visitor: Visitor) -> None:
    """The ledger knows its key."""
    with kit.capture(app=app, run_durable=True), app.app_context():
        visitor.wire()
        row = db.session.execute(text("SELECT * FROM signals_outbox")).mappings().one()
        db.session.remove()
    assert len(posted(app)) == 1
    with app.app_context():
        values = ", ".join(f":{name}" for name in row)
        db.session.execute(text(f"INSERT INTO signals_outbox VALUES ({values})"), dict(row))
        db.session.commit()
    make_due_and_run(app)
    assert len(posted(app)) == 1


PAY_AND_DIE = """
import os, signal, sys
from decimal import Decimal
from example_app import create_app
from example_app.accounts.models import Account
from example_app.extensions import db
from example_app.funding.ledger import book
with create_app().app_context():
    book(db.session.get_one(Account, 1), Decimal(50), method="wire", reference="x")
    if sys.argv[1] == "committed":
        db.session.commit()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["before", "committed"])
def test_app_that_is_killed_loses_nothing(app: Flask, tmp_path: Path, when: str) -> None:
    """A payment that was committed is posted by the next process; another never existed."""
    command = [sys.executable, "-c", PAY_AND_DIE, when]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    make_due_and_run(app)  # the process may have claimed it before it was killed
    assert posted(app) == ([("50.00", "wire")] if when == "committed" else [])


def test_ledger_is_a_file_of_its_own(app: Flask, visitor: Visitor, tmp_path: Path) -> None:
    """It stands for another system, which the app's database knows nothing of."""
    with kit.capture(app=app, run_durable=True):
        visitor.wire()
    with app.app_context():
        names = {row[0] for row in db.session.execute(text("SELECT name FROM sqlite_master"))}
    assert "ledger_entry" not in names
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert connection.execute("SELECT count(*) FROM ledger_entry").fetchone() == (1,)
    connection.close()
