"""The tasks of the wizard, and which are done."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from example_app.accounts.models import Account
from example_app.columns import now
from example_app.extensions import Model


class Task(StrEnum):
    """A task of a new advertiser."""

    IDENTIFICATION = "Submit identification"
    PAYMENT_METHOD = "Add a payment method"
    FUNDS = "Add funds"
    CAMPAIGN = "Create a campaign"
    CREATIVE = "Add a creative"
    BID = "Place a bid"


class Tick(Model):
    """A task that an account has done."""

    account_id: Mapped[int] = mapped_column(ForeignKey(Account.id), primary_key=True)
    task: Mapped[Task] = mapped_column(primary_key=True)
    done_at: Mapped[datetime] = mapped_column(default=now)
