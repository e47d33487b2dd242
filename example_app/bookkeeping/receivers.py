"""Post payments to the ledger, even if it is down or the app is killed in between."""

from decimal import Decimal

from example_app.accounts.models import Account
from example_app.bookkeeping.ledger import post_entry
from example_app.extensions import kit
from example_app.signals import account_funded
from flask_signals_kit import Durable, current_emission


@kit.on(account_funded, delivery=Durable(max_attempts=8))
def post_to_ledger(account: Account, *, amount: Decimal, method: str, **extra: object) -> None:
    """Post a payment; the key prevents a second entry if the answer of the first is lost."""
    key = current_emission.idempotency_key or ""
    post_entry(key, account=account.id, amount=f"{amount:.2f}", method=method)
