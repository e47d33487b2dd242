"""Who is connected to the example's signals: `signals.lock`, and what must stay so."""

import os
import subprocess
import sys
from pathlib import Path

from flask import Flask

import example_app
from example_app.bookkeeping.receivers import post_to_ledger
from example_app.mails.receivers import mail_alert, thank
from example_app.signals import account_funded, alert_raised
from flask_signals_kit.testing import assert_connected


def test_receivers_are_those_of_the_lock(tmp_path: Path) -> None:
    """A failure prints what differs, and the command that updates the lock.

    It is a process of its own: other tests import receivers in another order.
    """
    settings = {
        "FLASK_APP": "example_app",
        "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/placard.sqlite",
        "FLASK_LEDGER": str(tmp_path / "ledger.sqlite"),
        "FLASK_MAIL_OUTBOX": str(tmp_path / "mails"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "flask", "signals", "check", "--lock", "example_app/signals.lock"],
        cwd=Path(example_app.__file__).parents[1],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_nothing_leaves_the_app_before_the_commit(app: Flask) -> None:
    """A payment that is rolled back sends no mail, and is not in the ledger."""
    with app.app_context():
        assert_connected(account_funded, thank, delivery="after_commit")
        assert_connected(alert_raised, mail_alert, delivery="after_commit")
        assert_connected(account_funded, post_to_ledger, delivery="durable")
