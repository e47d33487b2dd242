"""The ledger gets each payment once, even if it is down or the app is killed in between."""

import os
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
from flask_signals_kit.app.embedded import Worker
from tests.example_app.support import Visitor

ROOT = Path(__file__).parents[2]


def work(app: Flask) -> None:
    """Run what is due, as the threads of a server do."""
    outbox = kit.for_app(app).outbox
    assert outbox is not None
    Worker(outbox, 1).work(once=True)


def make_due(app: Flask) -> None:
    """Let the time pass until the next attempt of every message."""
    with app.app_context():
        db.session.execute(text("UPDATE signals_outbox SET due = 0"))
        db.session.commit()


def posted(app: Flask) -> list[tuple[str, str]]:
    """Return amount and method of the seeded account's entries, oldest first."""
    with app.app_context():
        return [(entry["amount"], entry["method"]) for entry in reversed(entries(1))]


def test_payment_is_posted(app: Flask, visitor: Visitor) -> None:
    """After its commit, whatever way it came."""
    work(app)
    before = posted(app)
    visitor.submit("/funding/wire", amount="50")
    assert posted(app) == before
    work(app)
    assert posted(app) == [*before, ("50.00", "wire")]
    shown = visitor.read("/ledger/")
    assert "€50.00 by wire" in shown
    assert re.search(r"posted \d+ \w{3}, \d\d:\d\d UTC", shown)


def test_ledger_that_is_down_gets_the_payment_later(app: Flask, visitor: Visitor) -> None:
    """The payment itself is accepted."""
    work(app)
    before = posted(app)
    visitor.submit("/ledger/down", "/ledger/")
    assert "The ledger is down." in visitor.read("/ledger/")
    answer = visitor.submit("/funding/wire", amount="50")
    assert answer.status_code == 200
    work(app)
    assert posted(app) == before
    visitor.submit("/ledger/up", "/ledger/")
    make_due(app)
    work(app)
    assert posted(app) == [*before, ("50.00", "wire")]


def test_second_run_of_a_message_posts_no_second_entry(app: Flask, visitor: Visitor) -> None:
    """The ledger knows its key."""
    work(app)
    visitor.submit("/funding/wire", amount="50")
    with app.app_context():
        row = db.session.execute(text("SELECT * FROM signals_outbox")).one()
    work(app)
    once = posted(app)
    with app.app_context():
        columns = ", ".join(row._fields)
        values = ", ".join(f":{name}" for name in row._fields)
        db.session.execute(
            text(f"INSERT INTO signals_outbox ({columns}) VALUES ({values})"), row._asdict()
        )
        db.session.commit()
    work(app)
    assert posted(app) == once


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
    work(app)
    before = posted(app)
    done = subprocess.run(
        [sys.executable, "-c", PAY_AND_DIE, when],
        cwd=ROOT,
        env={
            **os.environ,
            "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/placard.sqlite",
            "FLASK_MAIL_OUTBOX": str(tmp_path / "mails"),
            "FLASK_LEDGER": str(tmp_path / "ledger.sqlite"),
        },
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    make_due(app)  # the process may have claimed it before it was killed
    work(app)
    assert posted(app) == [*before, *([("50.00", "wire")] if when == "committed" else [])]


def test_ledger_is_a_file_of_its_own(app: Flask, visitor: Visitor, tmp_path: Path) -> None:
    """It stands for another system, which the app's database knows nothing of."""
    visitor.submit("/funding/wire", amount="50")
    work(app)
    with app.app_context():
        names = {row[0] for row in db.session.execute(text("SELECT name FROM sqlite_master"))}
    assert "ledger_entry" not in names
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    assert connection.execute("SELECT count(*) FROM ledger_entry").fetchone() == (1,)
    connection.close()
