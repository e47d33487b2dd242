"""Arguments of after-commit receivers: those of the send, in the state after a commit."""

from typing import Any

import pytest
from sqlalchemy import delete, inspect, update
from sqlalchemy.orm.exc import DetachedInstanceError, ObjectDeletedError

from tests.deliveries.support import Account, Shop, messages


def test_payload_is_what_was_sent(any_shop: Shop) -> None:
    """The objects themselves, in their state at the commit."""
    seen: list[tuple[Any, dict[str, Any]]] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def note(sender: Any, **payload: Any) -> None:
        seen.append((sender, payload))

    sender, lines = object(), ["one"]
    with any_shop.open() as session:
        session.begin()
        amount = 5
        any_shop.kit.send("account_funded", sender, amount=amount, lines=lines)
        amount = 7
        lines.append("two")
        session.commit()
    ((got, payload),) = seen
    assert got is sender
    assert payload == {"amount": 5, "lines": ["one", "two"]}
    assert payload["lines"] is lines


def test_sender_filter_and_predicate_use_the_values_of_the_send(shop: Shop) -> None:
    """They are checked when the signal is sent."""
    account = Account(name="acme", balance=10)
    rich = shop.listen(when=lambda sender, **payload: sender.balance >= 10)
    other = shop.listen(sender=Account(name="globex"))
    with shop.open() as session:
        session.begin()
        shop.funded.send(account)
        account.balance = 0
        session.commit()
    assert rich == [account]
    assert other == []


def test_instances_are_refreshed_on_access(any_shop: Shop) -> None:
    """The commit expires an instance; reading it loads the stored row."""
    seen: list[tuple[bool, str, int]] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def read(account: Account, **extra: Any) -> None:
        expired = bool(inspect(account).expired)
        seen.append((expired, account.name, account.balance))

    with any_shop.open() as session:
        account = Account(name="acme", balance=1)
        session.add(account)
        session.flush()
        any_shop.funded.send(account)
        session.execute(
            update(Account).values(balance=100), execution_options={"synchronize_session": False}
        )
        assert account.balance == 1
        session.commit()
    assert seen == [(True, "acme", 100)]


def test_instance_deleted_in_the_same_transaction(any_shop: Shop) -> None:
    """It keeps its loaded values, but is detached: row and lazy attributes are gone."""
    seen: list[tuple[bool, str]] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def read(account: Account, **extra: Any) -> None:
        seen.append((inspect(account).detached, account.name))
        with pytest.raises(DetachedInstanceError):
            account.balance  # noqa: B018

    with any_shop.open() as session:
        session.add(Account(name="acme"))
        session.commit()
        account = session.query(Account).one()
        any_shop.funded.send(account)
        session.expire(account, ["balance"])
        session.delete(account)
        session.commit()
    assert seen == [(True, "acme")]
    assert any_shop.rows() == []


def test_instance_deleted_by_a_statement(any_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """It is expired as after any commit; reading it says that the row is gone."""
    seen: list[type[Exception]] = []

    @any_shop.kit.on("account_funded", delivery="after_commit", priority=1)
    def read(account: Account, **extra: Any) -> None:
        try:
            account.name  # noqa: B018
        except ObjectDeletedError as error:
            seen.append(type(error))
            raise

    last = any_shop.listen()
    with any_shop.open() as session:
        session.add(Account(name="acme"))
        session.commit()
        account = session.query(Account).one()
        any_shop.funded.send(account)
        session.execute(delete(Account), execution_options={"synchronize_session": False})
        session.commit()
    assert seen == [ObjectDeletedError]
    assert last == [account]
    assert len(messages(caplog)) == 1
    assert any_shop.rows() == []
