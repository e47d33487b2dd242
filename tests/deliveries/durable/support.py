"""A shop with durable receivers, and how its messages are run and read."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from flask_signals_kit import Durable, SignalsKit
from flask_signals_kit.app.embedded import Worker
from flask_signals_kit.app.outbox import Outbox
from flask_signals_kit.records import OnError
from tests.deliveries.support import Account, Base, Shop


def now(attempt: int) -> float:
    """Try again at once."""
    return 0.0


class DurableShop(Shop):
    """A shop whose signal is declared with types; its receivers are tried again at once."""

    kit: SignalsKit

    def on(
        self,
        receiver: Callable[..., Any],
        *,
        signal: str = "account_funded",
        uid: str | None = None,
        when: Callable[..., Any] | None = None,
        priority: int = 0,
        on_error: OnError | None = None,
        **options: Any,
    ) -> None:
        """Connect a durable receiver, and create the table.

        :param options: those of ``Durable``.
        """
        delivery = Durable(**{"backoff": now, **options})
        self.kit.use_outbox(Base.metadata)
        self.kit.on(
            signal, delivery=delivery, uid=uid, when=when, priority=priority, on_error=on_error
        )(receiver)
        Base.metadata.create_all(self.engine)

    @property
    def outbox(self) -> Outbox:
        """The outbox."""
        outbox = self.kit.for_app(self.app).outbox
        assert outbox is not None
        return outbox

    def send(self) -> None:
        """Send outside of a transaction, so that the message is due at once."""
        with self.open():
            self.funded.send("acme")

    def work(self) -> None:
        """Run messages until none is due."""
        Worker(self.outbox, 1).work(once=True)

    def run_once(self) -> str | None:
        """Run the first message once, whenever it is due; return how that ended."""
        [message, *_] = self.messages()
        result = self.outbox.run(message.id, message.attempt)
        return None if result is None else result.status

    def messages(self) -> list[Any]:
        """Return the rows of the outbox."""
        with self.outside.connect() as connection:
            return list(connection.execute(text("SELECT * FROM signals_outbox ORDER BY id")))

    def make_due(self) -> None:
        """Make every message due, as if its time had come."""
        with self.outside.begin() as connection:
            connection.execute(text("UPDATE signals_outbox SET due = 0 WHERE due IS NOT NULL"))


def fund(shop: DurableShop, name: str = "acme", **payload: Any) -> Account:
    """Add an account, and send that it was funded."""
    account = Account(name=name, balance=0)
    shop.session.add(account)
    shop.funded.send(account, **payload)
    return account


def declare(kit: SignalsKit) -> None:
    """Declare a signal with the types of its payload."""

    @kit.declare
    def sale_made(sender: object, *, amount: Decimal, note: str = "") -> None:
        """Something was sold."""
