"""Let an account bid again as soon as money arrives."""

from sqlalchemy import delete

from example_app.accounts.models import Account
from example_app.extensions import db, kit
from example_app.serving.models import Pause
from example_app.signals import account_funded


@kit.on(account_funded)
def resume_bidding(account: Account, **extra: object) -> None:
    """End the account's pause, if there is one."""
    db.session.execute(delete(Pause).where(Pause.account_id == account.id))
