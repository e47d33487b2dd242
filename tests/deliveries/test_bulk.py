"""Many after-commit receivers, and long chains of them."""

from contextvars import Context, copy_context
from typing import Any

import pytest
from sqlalchemy import inspect, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.state import InstanceState

from flask_signals_kit import AfterCommit
from flask_signals_kit.deliveries import transactions
from tests.deliveries.support import Account, Shop, messages

CHAIN = 1_000


@pytest.mark.parametrize("what", ["nothing", "read", "write", "commit"])
@pytest.mark.parametrize("start", ["commit", "at once"])
def test_long_chain_of_receivers(
    shop: Shop, what: str, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each receiver sends for the next: it is a loop without recursion."""
    ran: list[int] = []

    @shop.kit.on("account_funded", delivery="after_commit")
    def go_on(sender: object, *, number: int, **extra: Any) -> None:
        ran.append(number)
        session = shop.session
        if what == "read":
            assert session.get(Account, 1)
        elif what != "nothing":
            session.add(Account(name=f"{number}"))
        if number < CHAIN:
            shop.funded.send(sender, number=number + 1)
        if what == "commit":
            session.commit()

    with shop.open() as session:
        acme = Account(name="acme")
        session.add(acme)
        if start == "at once":
            session.commit()
        shop.funded.send(acme, number=1)
        session.commit()
        assert not session.in_transaction()
    assert messages(caplog) == []
    assert ran == [*range(1, CHAIN + 1)]
    assert len(shop.rows()) == (CHAIN + 1 if what in {"write", "commit"} else 1)


def test_receiver_that_commits_another_session_runs_what_waits_for_it(
    sqlite_shop: Shop,
) -> None:
    """That session can be closed when the receiver returns, with its instances."""
    order: list[str] = []
    shop = sqlite_shop
    current: list[Any] = []
    other = AfterCommit(session=lambda: current[-1] if current else None)

    @shop.kit.on("account_opened", delivery=other)
    def note(sender: Account, **extra: Any) -> None:
        order.append(sender.name)

    @shop.kit.on("account_funded", delivery="after_commit")
    def open_another(sender: str, **extra: Any) -> None:
        with shop.app.app_context():
            current.append(shop.session)
            account = Account(name="friend")
            shop.session.add(account)
            shop.opened.send(account)
            shop.session.commit()
            order.append("committed")

    with shop.open() as session:
        shop.fund("acme")
        session.commit()
    assert order == ["friend", "committed"]


MANY = 400


def _expirations(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Count the instances that SQLAlchemy expires."""
    expired: list[object] = []
    expire = InstanceState._expire

    def count(state: Any, *args: Any) -> None:
        expired.append(state)
        expire(state, *args)

    monkeypatch.setattr(InstanceState, "_expire", count)
    return expired


@pytest.mark.parametrize("what", ["read", "write", "query", "fail", "delete"])
@pytest.mark.parametrize("start", ["commit", "at once"])
def test_bulk_work_is_linear(
    shop: Shop, what: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a receiver's transaction expires only what the receiver used."""
    names: list[str] = []

    @shop.kit.on("account_opened", delivery="after_commit")
    def read(sender: Account, **extra: Any) -> None:
        names.append(sender.name)
        if what == "write":
            shop.session.add(Account(name=f"friend of {sender.name}"))
        elif what == "query":
            shop.session.scalars(select(Account).where(Account.name == sender.name)).one()
        elif what == "fail":
            sender.balance = 5
            raise ValueError(sender)
        elif what == "delete":
            shop.session.delete(sender)

    with shop.open() as session:
        accounts = [Account(name=str(number)) for number in range(MANY)]
        session.add_all(accounts)
        if start == "at once":
            session.commit()
        expired = _expirations(monkeypatch)
        for account in accounts:
            shop.opened.send(account)
        session.commit()
        assert names == [str(number) for number in range(MANY)]
        assert len(expired) < 10 * MANY + 60 * 60
        if what != "delete":
            assert all(inspect(account).expired for account in accounts)
            assert {account.balance for account in accounts} == {0}
        else:
            assert all(inspect(account).detached for account in accounts)
        session.rollback()
    assert len(shop.rows()) == {"write": 2 * MANY, "delete": 0}.get(what, MANY)


@pytest.mark.parametrize("how", ["load", "refresh", "change", "add", "attach"])
def test_each_receiver_finds_fresh_rows(shop: Shop, how: str) -> None:
    """The next receiver reloads the rows in a receiver's session, however they were loaded."""
    balances: list[int] = []
    detached: list[Account] = []

    @shop.kit.on("account_funded", delivery="after_commit", priority=1)
    def touch(sender: Account, **extra: Any) -> None:
        session = shop.session
        if how == "load":
            session.scalars(select(Account).where(Account.name == "other")).one()
        elif how == "refresh":
            assert sender.balance == 0
        elif how == "change":
            sender.balance = 3
        elif how == "add":
            session.add(Account(name="added", balance=4))
        else:
            session.add(detached[0])

    @shop.kit.on("account_funded", delivery="after_commit")
    def change_outside(sender: Account, **extra: Any) -> None:
        with shop.outside.begin() as connection:
            connection.execute(update(Account).values(balance=7))

    @shop.kit.on("account_funded", delivery="after_commit", priority=-1)
    def look(sender: Account, **extra: Any) -> None:
        balances.extend(account.balance for account in shop.session.scalars(select(Account)))

    with shop.open() as session:
        session.add_all([Account(name=str(number)) for number in range(MANY)])
        session.add(Account(name="other"))
        session.commit()
        if how == "attach":
            detached.append(session.scalars(select(Account).where(Account.name == "other")).one())
            session.expunge(detached[0])
        kept = session.scalars(select(Account).where(Account.name != "other")).all()
        shop.funded.send(kept[0])
        session.commit()
    assert set(balances) == {7}


def test_session_that_does_not_expire_keeps_what_is_loaded(shop: Shop) -> None:
    """``expire_on_commit=False`` applies to the receivers' transactions, too."""
    with Session(shop.engine, expire_on_commit=False) as own, shop.open():

        @shop.kit.on("account_opened", delivery="after_commit")
        def rename(sender: Account, **extra: Any) -> None:
            sender.balance += 1

        accounts = [Account(name=str(number), balance=0) for number in range(MANY)]
        own.add_all(accounts)
        for account in accounts:
            shop.opened.send(account)
        own.commit()
        assert not any(inspect(account).expired for account in accounts)
        assert {account.balance for account in accounts} == {1}
        assert not own.in_transaction()
    assert len(shop.rows()) == MANY


def test_transactions_of_a_job_that_outlives_its_receiver_are_not_kept(shop: Shop) -> None:
    """The job has inherited the receiver's context."""
    contexts: list[Context] = []
    shop.kit.on(shop.funded, delivery="after_commit")(
        lambda sender, **extra: contexts.append(copy_context())
    )
    with shop.open() as session:
        shop.fund("acme")
        session.commit()
    loop = contexts[0].run(transactions._loop.get)
    assert loop is not None

    def work() -> None:
        with Session(shop.engine) as own:
            own.begin()

    for _ in range(3):
        contexts[0].run(work)
    assert not loop.begun
