"""Mails: written for what is in the database, and for nothing else."""

from collections.abc import Callable
from decimal import Decimal
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from example_app.accounts.models import Account
from example_app.alerts.models import Alert, Kind
from example_app.extensions import db, kit
from example_app.funding.ledger import book
from tests.example_app.support import SEEDED, Visitor

Mails: TypeAlias = Callable[[], list[EmailMessage]]


@pytest.fixture
def mails(app: Flask, tmp_path: Path) -> Mails:
    """Give a function that reads the mails written since the app was made, oldest first."""
    folder = tmp_path / "mails"
    seeded = set(folder.iterdir())

    def read() -> list[EmailMessage]:
        files = sorted(set(folder.iterdir()) - seeded)
        return [
            message_from_bytes(file.read_bytes(), EmailMessage, policy=policy.default)
            for file in files
        ]

    return read


@pytest.mark.parametrize("method", ["card", "wire"])
def test_payment_sends_a_mail(newcomer: Visitor, mails: Mails, method: str) -> None:
    """One mail for a payment, whatever way it came, with the balance that includes it."""
    newcomer.add_card()
    newcomer.submit(f"/funding/{method}", card="1", amount="12.34")
    [mail] = mails()
    assert mail["Subject"] == "Thank you for €12.34"
    assert mail["To"] == "Newcomer <account-2@placard.example>"
    assert mail["From"] == "Placard <hello@placard.example>"
    assert mail.get_content() == f"€12.34 arrived by {method}.\nYour balance is now €37.34.\n"


def test_payment_with_a_failing_commit_sends_no_mail(
    app: Flask, newcomer: Visitor, mails: Mails
) -> None:
    """The view comes as far as `commit()`, and the database refuses."""

    @kit.for_app(app).on("account_funded", priority=-1)
    def add_what_the_database_refuses(account: Any, **extra: object) -> None:
        for _ in range(2):
            db.session.add(
                Alert(account_id=account.id, kind=Kind.OUT_OF_FUNDS, message="Twice the same.")
            )

    with pytest.raises(IntegrityError):
        newcomer.wire()
    assert mails() == []
    assert "Newcomer €25.00" in newcomer.read("/funding/")


def test_payment_rolled_back_to_a_savepoint_sends_no_mail(app: Flask, mails: Mails) -> None:
    """What is around it commits, and only that is told."""
    with app.app_context():
        account = db.session.get_one(Account, 1)
        book(account, Decimal(3), method="wire", reference="kept")
        savepoint = db.session.begin_nested()
        book(account, Decimal(4), method="wire", reference="taken back")
        savepoint.rollback()
        db.session.commit()
    assert [mail["Subject"] for mail in mails()] == ["Thank you for €3.00"]


def test_alert_comes_by_mail_once(newcomer: Visitor, mails: Mails) -> None:
    """The mail says what the alert says."""
    newcomer.run_campaign(bid="12.50")
    newcomer.serve(views=5)
    [mail] = mails()
    assert mail["Subject"] == "Placard: out of funds"
    assert "Your campaigns are paused until you add funds." in mail.get_content()


def test_failing_mail_does_not_roll_back_the_payment(
    app: Flask, newcomer: Visitor, tmp_path: Path
) -> None:
    """The money is there; the failure is logged and in the error report."""
    app.config["MAIL_OUTBOX"] = str(tmp_path / "placard.sqlite" / "no folder")
    answer = newcomer.wire()
    assert answer.status_code == 200
    assert "Newcomer €75.00" in newcomer.read("/funding/")
    report = newcomer.read("/errors/")
    assert "NotADirectoryError delivery account_funded thank" in report


def test_page_shows_an_account_its_own_mails(visitor: Visitor, newcomer: Visitor) -> None:
    """The newest mail is first, and other accounts' mails are not shown."""
    assert "No mail so far." in newcomer.read("/mails/")
    newcomer.wire()
    newcomer.wire("60")
    page = newcomer.read("/mails/")
    assert page.index("Thank you for €60.00") < page.index("Thank you for €50.00")
    assert SEEDED not in page
    seeded = visitor.read("/mails/")
    assert "Placard: out of funds" in seeded
    assert f"{SEEDED} <account-1@placard.example>" in seeded
    assert "Thank you" not in seeded


LONG_NAMES = [
    f"{'W' * 60}<script>alert(1)</script>"[:80],
    "International Bicycle Manufacturing Company, Subsidiary of Fern & Oak Holding",
    "Gesellschaft_mit_beschränkter_Haftung,_Niederlassung_Süd_und_West_(Bayern)",
]


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "Zoë & Søn, “Räder”", "a\r\nBcc: b", *LONG_NAMES]
)
def test_recipient_name_is_escaped(newcomer: Visitor, mails: Mails, name: str) -> None:
    """It is text on the page, and adds no header to the mail."""
    newcomer.open_account(name)
    newcomer.wire()
    [mail] = mails()
    [address] = mail["To"].addresses
    assert address.display_name == " ".join(name.split())
    assert mail["Bcc"] is None
    assert " ".join(name.split()) in newcomer.read("/mails/")
    assert "<script>" not in newcomer.html("/mails/")


def test_outbox_is_in_the_instance_folder(app: Flask, tmp_path: Path) -> None:
    """Where a relative name is meant."""
    app.instance_path = str(tmp_path / "instance")
    app.config["MAIL_OUTBOX"] = "sent"
    Visitor(app).wire()
    assert [file.suffix for file in (tmp_path / "instance" / "sent").iterdir()] == [".eml"]


def test_database_begins_transactions_before_savepoints(app: Flask) -> None:
    """A savepoint that comes first does not outlive the rollback around it."""
    with app.app_context():
        with db.session.begin_nested():
            db.session.execute(text("UPDATE account SET name = 'Another name' WHERE id = 1"))
        db.session.rollback()
        assert db.session.get_one(Account, 1).name == SEEDED
        assert kit.check() == []
