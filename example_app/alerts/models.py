"""Alerts."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from example_app.accounts.models import Account
from example_app.columns import now
from example_app.extensions import Model


class Kind(StrEnum):
    """What an alert is about."""

    OUT_OF_FUNDS = "out of funds"
    ONBOARDING_COMPLETED = "onboarding completed"

    @property
    def needs_action(self) -> bool:
        """Whether the account must do something; a congratulation is only to be read."""
        return self is Kind.OUT_OF_FUNDS


class Alert(Model):
    """Something an account should know; open until it is dismissed."""

    # At most one alert of a kind is open for an account at a time.
    __table_args__ = (
        Index(
            "one_open_alert",
            "account_id",
            "kind",
            unique=True,
            sqlite_where=text("dismissed_at IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id))
    kind: Mapped[Kind]
    message: Mapped[str]
    raised_at: Mapped[datetime] = mapped_column(default=now)
    dismissed_at: Mapped[datetime | None]
    dismissed_by: Mapped[str | None]
