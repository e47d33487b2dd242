"""The steps of the wizard, and how far an account has come."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from flask import g
from sqlalchemy import select

from example_app.accounts.models import Account
from example_app.extensions import db
from example_app.onboarding.models import Task, Tick
from example_app.signals import onboarding_completed


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of the wizard; the page that it happens on belongs to another feature."""

    title: str
    text: str
    endpoint: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one account has come."""

    done: Mapping[Task, datetime]

    def done_at(self, step: Step) -> datetime | None:
        """Return when the last task of a step was done, or None while one is open."""
        times = [self.done.get(task) for task in step.tasks]
        return None if None in times else max(time for time in times if time)

    @property
    def steps(self) -> list[tuple[Step, datetime | None]]:
        """The steps in order, each with the time it was completed."""
        return [(step, self.done_at(step)) for step in STEPS]

    @property
    def completed(self) -> int:
        """The number of completed steps."""
        return sum(time is not None for _, time in self.steps)

    @property
    def next_step(self) -> Step | None:
        """The first step that is still open."""
        return next((step for step, time in self.steps if time is None), None)


STEPS = (
    Step(
        title="Submit identification for verification",
        text="Tell us who advertises. We check it against the register.",
        endpoint="accounts.identification",
        tasks=(Task.IDENTIFICATION,),
    ),
    Step(
        title="Add a payment method",
        text="A card, so that you can add funds at once.",
        endpoint="funding.new_card",
        tasks=(Task.PAYMENT_METHOD,),
    ),
    Step(
        title="Add funds",
        text="By card or by wire transfer, from €5.",
        endpoint="funding.index",
        tasks=(Task.FUNDS,),
    ),
    Step(
        title="Create a campaign with creatives and bids",
        text="What readers see, where, and what you pay for it.",
        endpoint="campaigns.index",
        tasks=(Task.CAMPAIGN, Task.CREATIVE, Task.BID),
    ),
)


def progress_of(account: Account) -> Progress:
    """Return how far an account has come."""
    ticks = db.session.scalars(select(Tick).where(Tick.account_id == account.id))
    return Progress(done={tick.task: tick.done_at for tick in ticks})


def tick_off(account: Account, task: Task) -> None:
    """Mark a task as done; send ``onboarding_completed`` after the last one."""
    if db.session.get(Tick, (account.id, task)):
        return
    db.session.add(Tick(account_id=account.id, task=task))
    db.session.flush()
    progress = progress_of(account)
    if any(task in step.tasks and done_at for step, done_at in progress.steps):
        g.finished_step = True
    if progress.next_step is None:
        onboarding_completed.send(account)
