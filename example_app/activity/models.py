"""The log of an account."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from example_app.accounts.models import Account
from example_app.columns import now
from example_app.extensions import Model


class Entry(Model):
    """A signal that was sent about an account."""

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), index=True)
    signal: Mapped[str]
    sent_at: Mapped[datetime] = mapped_column(default=now)
