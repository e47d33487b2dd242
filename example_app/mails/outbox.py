"""The folder that stands in for a mail server: one ``.eml`` file a mail."""

import secrets
import time
from email import message_from_bytes, policy
from email.headerregistry import Address
from email.message import EmailMessage
from itertools import islice
from pathlib import Path

from flask import current_app

from example_app.accounts.models import Account
from example_app.columns import now

SENDER = Address("Placard", "hello", "placard.example")
# Where the standard library folds a long name, it loses the name's quotes. This is SMTP's limit.
UNFOLDED = policy.default.clone(max_line_length=998)


def outbox() -> Path:
    """Return the current app's folder; a relative ``MAIL_OUTBOX`` is one in the instance folder."""
    return Path(current_app.instance_path, current_app.config["MAIL_OUTBOX"])


def address_of(account: Account) -> Address:
    """Return an account's mail address; the demo makes one up."""
    # A line break in a name would end the header.
    return Address(" ".join(account.name.split()), f"account-{account.id}", "placard.example")


def post(account: Account, *, subject: str, text: str) -> None:
    """Write a mail to an account into the outbox.

    A mail cannot be taken back, so call this after the commit.
    """
    mail = EmailMessage()
    mail["From"] = SENDER
    mail["To"] = address_of(account)
    mail["Subject"] = subject
    mail["Date"] = now()
    mail.set_content(text)
    folder = outbox()
    folder.mkdir(parents=True, exist_ok=True)
    # By the time in its name, the newest mail stands last.
    file = folder / f"{time.time_ns()}-{secrets.token_hex(3)}.eml"
    written = file.with_suffix(".part")
    written.write_bytes(mail.as_bytes(policy=UNFOLDED))
    written.rename(file)  # So that the folder contains only complete mails.


def mails_to(account: Account, *, limit: int = 20) -> list[EmailMessage]:
    """Return an account's mails in the outbox, newest first."""
    address = address_of(account).addr_spec
    mails = (
        message_from_bytes(file.read_bytes(), EmailMessage, policy=policy.default)
        for file in sorted(outbox().glob("*.eml"), reverse=True)
    )
    return list(islice((mail for mail in mails if address in _addresses(mail)), limit))


def _addresses(mail: EmailMessage) -> list[str]:
    """Return the addresses that a mail goes to."""
    return [address.addr_spec for address in mail["To"].addresses]
