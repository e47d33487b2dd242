"""What `kit.capture` runs when its block ends: after-commit receivers and durable messages."""

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from flask import current_app
from sqlalchemy import inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker

from flask_signals_kit import Discard, RetryAfter, current_emission
from tests.deliveries.durable.support import DurableShop, fund
from tests.deliveries.support import Account, messages


def balance(shop: DurableShop) -> int | None:
    """Return the balance of the account that another connection reads."""
    with shop.outside.connect() as connection:
        return connection.scalar(select(Account.balance))


def pay(account: Account, *, amount: int, **extra: Any) -> None:
    """Be a durable receiver that writes."""
    account.balance += amount


# -- committed messages ---------------------------------------------------------------------------


def test_committed_message_runs_when_the_block_ends(shop: DurableShop) -> None:
    """In an app context and a transaction of its own, as a worker runs it."""
    shop.on(pay)
    with shop.open() as session, shop.kit.capture(run_durable=True) as sent:
        fund(shop, amount=5)
        session.commit()
        session.close()
        assert balance(shop) == 0
    assert balance(shop) == 5
    assert shop.messages() == []
    sent.assert_called(pay)


def test_committed_message_runs_without_a_context_around_the_block(shop: DurableShop) -> None:
    """The app is passed, and only the sender has a context."""
    shop.on(pay)
    with shop.kit.capture(app=shop.app, run_durable=True) as sent:
        with shop.open() as session:
            fund(shop, amount=5)
            session.commit()
        assert balance(shop) == 0
    assert balance(shop) == 5
    sent.assert_called(pay)


def test_committed_message_waits_for_a_worker_by_default(shop: DurableShop) -> None:
    """Recording alone changes nothing."""
    shop.on(pay)
    with shop.open() as session, shop.kit.capture() as sent:
        fund(shop, amount=5)
        session.commit()
    assert len(shop.messages()) == 1
    with shop.open(), pytest.raises(AssertionError, match=r"was not called \(waiting: "):
        sent.assert_called(pay)


def test_only_messages_of_the_block_run(shop: DurableShop) -> None:
    """Those that were stored before it wait for a worker."""
    shop.on(pay)
    with shop.open() as session:
        account = fund(shop, amount=5)
        session.commit()
        with shop.kit.capture(run_durable=True):
            shop.funded.send(account, amount=2)
            session.commit()
            session.close()
    assert balance(shop) == 2
    assert len(shop.messages()) == 1


def test_message_that_was_rolled_back_does_not_run(shop: DurableShop) -> None:
    """It was never stored."""
    shop.on(pay)
    with shop.open() as session, shop.kit.capture(run_durable=True) as sent:
        fund(shop, amount=5)
        session.rollback()
    with shop.open():
        sent.assert_skipped(pay, reason="the transaction was rolled back")


def test_message_that_is_stored_without_a_transaction_runs(shop: DurableShop) -> None:
    """It was committed at once."""
    ran: list[str] = []
    shop.on(lambda sender, **extra: ran.append(sender))
    with shop.open(), shop.kit.capture(run_durable=True):
        shop.funded.send("acme")
        assert ran == []
    assert ran == ["acme"]


def test_messages_of_receivers_that_ran_so_run_too(shop: DurableShop) -> None:
    """Durable receivers of after-commit receivers of durable receivers, and what they send."""
    ran: list[str] = []
    kit = shop.kit

    def first(sender: str, **extra: Any) -> None:
        ran.append("first")
        shop.opened.send(sender)

    def last(sender: str, **extra: Any) -> None:
        ran.append("last")

    shop.on(first)
    shop.on(last, signal="account_opened")
    with shop.open(), kit.capture(run_durable=True) as sent:
        shop.funded.send("acme")
    assert ran == ["first", "last"]
    sent.assert_order("account_funded", "account_opened")


def test_failure_of_a_durable_receiver_is_raised(shop: DurableShop) -> None:
    """A test fails with it; the message is tried again later."""

    def fail(sender: str, **extra: Any) -> None:
        raise ValueError("boom")

    shop.on(fail)
    with shop.open():
        with (
            pytest.raises(ValueError, match="boom") as raised,
            shop.kit.capture(run_durable=True) as sent,
        ):
            shop.funded.send("acme")
        with pytest.raises(AssertionError, match="attempt 1 of 20 raised ValueError"):
            sent.assert_called(fail)
    assert "In a receiver of signal 'account_funded'" in raised.value.__notes__[0]
    assert len(shop.messages()) == 1


def test_failure_of_a_durable_receiver_can_be_contained(shop: DurableShop) -> None:
    """Then the next message runs, and each message runs once."""
    ran: list[str] = []

    def fail(sender: str, **extra: Any) -> None:
        ran.append(sender)
        raise ValueError("boom")

    shop.on(fail)
    with shop.open(), shop.kit.capture(run_durable=True, contain=True):
        shop.funded.send("acme")
        shop.funded.send("initech")
    assert ran == ["acme", "initech"]
    assert [message.attempt for message in shop.messages()] == [1, 1]


@pytest.mark.parametrize("asked", [RetryAfter(60), Discard("closed")], ids=["retry", "discard"])
@pytest.mark.parametrize("commits", [True, False], ids=["committed", "open"])
def test_decision_of_a_durable_receiver_is_no_failure(
    shop: DurableShop, asked: Exception, commits: bool
) -> None:
    """It asks to be run again, or not at all."""

    def decide(sender: str, **extra: Any) -> None:
        raise asked

    shop.on(decide)
    with shop.open() as session:
        session.add(Account(name="acme"))
        with shop.kit.capture(run_durable=True):
            shop.funded.send("acme")
            if commits:
                session.commit()
        session.commit()
    assert len(shop.messages()) == isinstance(asked, RetryAfter)


# -- messages whose transaction is open -----------------------------------------------------------


def test_message_in_an_open_transaction_runs_in_it(shop: DurableShop) -> None:
    """As a suite needs whose tests never commit; the rollback undoes what the receiver wrote."""
    keys: list[Any] = []

    def pay_and_note(account: Account, *, amount: int, **extra: Any) -> None:
        account.balance += amount
        keys.append(current_emission.idempotency_key)

    shop.on(pay_and_note)
    with shop.open() as session:
        with shop.kit.capture(run_durable=True) as sent:
            account = fund(shop, amount=5)
            assert account.balance == 0
        assert account.balance == 5
        sent.assert_called(pay_and_note)
        session.rollback()
    assert keys[0]
    assert balance(shop) is None
    assert shop.messages() == []


def test_messages_of_receivers_in_an_open_transaction_run_too(shop: DurableShop) -> None:
    """They are stored in it as well."""
    ran: list[str] = []

    def first(account: Account, **extra: Any) -> None:
        ran.append("first")
        shop.opened.send(account)

    shop.on(first)
    shop.on(lambda account, **extra: ran.append("last"), signal="account_opened")
    shop.listen("account_opened", uid="mail")
    with shop.open() as session:
        with shop.kit.capture(run_durable=True, run_after_commit=True) as sent:
            fund(shop, amount=5)
        sent.assert_called("mail")
        session.rollback()
    assert ran == ["first", "last"]
    assert shop.messages() == []


def test_message_that_ran_in_an_open_transaction_does_not_run_again(shop: DurableShop) -> None:
    """If the test commits after all."""
    shop.on(pay)
    with shop.open() as session:
        with shop.kit.capture(run_durable=True):
            fund(shop, amount=5)
        session.commit()
    assert balance(shop) == 5
    assert shop.messages() == []


@pytest.mark.parametrize("end", [ValueError("boom"), Discard("enough"), RetryAfter(60)])
def test_receiver_that_does_not_return_leaves_no_writes_in_an_open_transaction(
    shop: DurableShop, end: Exception
) -> None:
    """As after a commit, where its own transaction is rolled back."""

    def pay_and_end(account: Account, *, amount: int, **extra: Any) -> None:
        account.balance += amount
        raise end

    shop.on(pay_and_end)
    with shop.open() as session:
        with shop.kit.capture(run_durable=True, contain=True):
            account = fund(shop, amount=5)
        assert account.balance == 0
        session.rollback()


def fail_to_flush(account: Account, **extra: Any) -> None:
    """Write a name that is taken."""
    session: Any = inspect(account).session
    session.add(Account(name="acme"))
    session.flush()


def fail_at_the_end(account: Account, **extra: Any) -> None:
    """Leave it to the end of the run to write a name that is taken."""
    session: Any = inspect(account).session
    session.add(Account(name="acme"))


def discard_a_duplicate(account: Account, **extra: Any) -> None:
    """Give up because a name is taken."""
    try:
        fail_to_flush(account)
    except IntegrityError:
        raise Discard("a duplicate") from None


@pytest.mark.parametrize("receiver", [fail_to_flush, fail_at_the_end, discard_a_duplicate])
def test_failed_flush_in_an_open_transaction_is_rolled_back(
    shop: DurableShop, receiver: Any
) -> None:
    """The rows of the test stay, and the next receiver runs."""
    shop.on(receiver)
    shop.on(pay, uid="pay")
    with shop.open() as session:
        with shop.kit.capture(run_durable=True, contain=True) as sent:
            account = fund(shop, amount=5)
        sent.assert_called(pay)
        assert account.balance == 5
        assert session.query(Account).count() == 1
        session.rollback()


def test_receiver_that_removes_the_session_drops_the_other_messages(shop: DurableShop) -> None:
    """The transaction of the test has stored them, and is gone."""

    def remove(account: Account, **extra: Any) -> None:
        shop._session.remove()  # type: ignore[attr-defined]

    shop.on(remove)
    shop.on(pay, uid="pay")
    with shop.open():
        with shop.kit.capture(run_durable=True) as sent:
            fund(shop, amount=5)
        sent.assert_skipped(pay, reason="an earlier receiver ended the transaction")
        assert shop.session.query(Account).count() == 0
    assert shop.messages() == []


def test_receiver_that_removes_the_session_may_write_in_the_next_one(shop: DurableShop) -> None:
    """On SQLite, that one has the lock."""

    def remove_and_write(account: Account, **extra: Any) -> None:
        shop._session.remove()  # type: ignore[attr-defined]
        shop.session.add(Account(name="next"))
        shop.session.flush()

    shop.on(remove_and_write)
    with shop.open():
        with shop.kit.capture(run_durable=True):
            fund(shop, amount=5)
        assert [account.name for account in shop.session.query(Account)] == ["next"]


def test_open_transaction_outlives_the_context(database: str) -> None:
    """As that of a session for each thread; the receiver gets a context."""
    shop, ran = DurableShop(database, "use_session"), list[Any]()
    shop.on(lambda sender, **extra: ran.append(current_app.name))
    session = sessionmaker(shop.engine)()
    shop.kit.use_session(lambda: session)
    with shop.kit.capture(app=shop.app, run_durable=True), shop.app.app_context():
        session.add(Account(name="acme"))
        shop.funded.send("acme")
    session.close()
    shop.close()
    assert ran == [shop.app.name]


def test_receiver_may_end_an_open_transaction(shop: DurableShop) -> None:
    """It should not, but the failure would not say so."""

    def pay_and_commit(account: Account, *, amount: int, **extra: Any) -> None:
        account.balance += amount
        shop.session.commit()

    shop.on(pay_and_commit)
    with shop.open(), shop.kit.capture(run_durable=True):
        fund(shop, amount=5)
    assert balance(shop) == 5


def test_failure_in_an_open_transaction_is_raised(shop: DurableShop) -> None:
    """With the traceback of the receiver."""

    def fail(account: Account, **extra: Any) -> None:
        raise ValueError("boom")

    shop.on(fail)
    with shop.open() as session:
        with (
            pytest.raises(ValueError, match="boom") as raised,
            shop.kit.capture(run_durable=True) as sent,
        ):
            fund(shop, amount=5)
        assert raised.traceback[-1].name == "fail"
        with pytest.raises(AssertionError, match="raised ValueError"):
            sent.assert_called(fail)
        session.rollback()


def test_after_commit_and_durable_receivers_run_in_the_order_of_the_sends(
    shop: DurableShop,
) -> None:
    """In one transaction that stays open."""
    ran: list[str] = []
    shop.on(lambda sender, **extra: ran.append(f"durable {sender}"))
    shop.kit.on("account_funded", delivery="after_commit")(
        lambda sender, **extra: ran.append(f"after commit {sender}")
    )
    with shop.open() as session:
        session.add(Account(name="acme"))
        with shop.kit.capture(run_after_commit=True, run_durable=True):
            shop.funded.send("acme")
            shop.funded.send("initech")
        session.rollback()
    assert ran == [
        "durable acme",
        "after commit acme",
        "durable initech",
        "after commit initech",
    ]


def test_order_of_the_sends_is_not_that_in_which_the_calls_begin_to_wait(
    shop: DurableShop,
) -> None:
    """An earlier receiver of the first signal sends the second one."""
    ran: list[str] = []
    shop.kit.on("account_funded", priority=1)(lambda sender, **extra: shop.opened.send(sender))
    for signal in ("account_funded", "account_opened"):
        shop.kit.on(signal, delivery="after_commit", uid=signal)(
            lambda sender, *, signal=signal, **extra: ran.append(signal)
        )
    with shop.open() as session:
        session.add(Account(name="acme"))
        with shop.kit.capture(run_after_commit=True):
            shop.funded.send("acme")
        session.rollback()
    assert ran == ["account_funded", "account_opened"]


def test_calls_of_other_threads_wait(shop: DurableShop) -> None:
    """Their session is in use there."""
    ran = shop.listen()
    shop.on(lambda sender, **extra: ran.append("durable"))
    sent, over = Event(), Event()

    def fund_elsewhere() -> None:
        with shop.open() as session:
            session.add(Account(name="acme"))
            shop.funded.send("acme")
            sent.set()
            over.wait(10)
            session.rollback()

    with ThreadPoolExecutor(1) as pool, shop.app.app_context():
        with shop.kit.capture(run_after_commit=True, run_durable=True) as captured:
            elsewhere = pool.submit(fund_elsewhere)
            assert sent.wait(10)
        over.set()
        elsewhere.result()
    captured.assert_sent("account_funded")
    assert ran == []


# -- failures of after-commit receivers -----------------------------------------------------------


def test_failure_of_an_after_commit_receiver_is_raised(shop: DurableShop) -> None:
    """The rest does not run."""
    ran = shop.listen(priority=-1, uid="rest")

    @shop.kit.on("account_funded", delivery="after_commit")
    def fail(sender: str, **extra: Any) -> None:
        raise ValueError("boom")

    with shop.open() as session:
        session.add(Account(name="acme"))
        with (
            pytest.raises(ValueError, match="boom") as raised,
            shop.kit.capture(run_after_commit=True) as sent,
        ):
            shop.funded.send("acme")
        sent.assert_skipped("rest", reason="an earlier receiver raised")
        session.commit()
    assert "In a receiver of signal 'account_funded'" in raised.value.__notes__[0]
    assert ran == []


def test_failure_of_an_after_commit_receiver_can_be_contained(
    shop: DurableShop, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a real commit: it is logged and reported, and the rest runs."""
    ran = shop.listen(priority=-1)
    reported: list[str] = []

    @shop.kit.on_exception
    def report(app: Any, exception: Exception, *, source: str, **extra: Any) -> None:
        reported.append(source)

    @shop.kit.on("account_funded", delivery="after_commit")
    def fail(sender: str, **extra: Any) -> None:
        raise ValueError("boom")

    with shop.open() as session:
        session.add(Account(name="acme"))
        with shop.kit.capture(run_after_commit=True, contain=True):
            shop.funded.send("acme")
        session.rollback()
    assert ran == ["acme"]
    assert reported == ["delivery"]
    [logged] = messages(caplog, logging.ERROR)
    assert "of signal 'account_funded' failed" in logged
