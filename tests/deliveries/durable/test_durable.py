"""Durable receivers: a message is stored with the sender's commit, and run until it returns."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from flask_signals_kit import (
    Call,
    ConfigurationError,
    Deferred,
    Discard,
    DuplicateReceiverError,
    Durable,
    PayloadError,
    RetryAfter,
    SignalsKit,
    current_emission,
)
from tests.deliveries.durable.support import DurableShop, fund
from tests.deliveries.support import Account
from tests.support import together, write_down


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Give the log, with the lines of level INFO."""
    with caplog.at_level(logging.INFO, "flask_signals_kit"):
        yield caplog


# -- storing --------------------------------------------------------------------------------------


def test_message_is_stored_with_the_commit(any_shop: DurableShop) -> None:
    """The receiver runs once, with the sender and the payload, in a transaction of its own."""

    def pay(account: Account, *, amount: int, **extra: Any) -> None:
        account.balance += amount

    any_shop.on(pay)
    with any_shop.open() as session:
        fund(any_shop, amount=5)
        assert any_shop.messages() == []
        session.commit()
    [message] = any_shop.messages()
    assert (message.receiver, message.signal) == (
        f"{__name__}.{pay.__qualname__}",
        "account_funded",
    )
    assert (message.attempt, message.error, message.queue) == (0, None, None)
    any_shop.work()
    assert any_shop.messages() == []
    with any_shop.open() as session:
        assert session.query(Account).one().balance == 5


def test_message_is_dropped_with_the_rollback(any_shop: DurableShop) -> None:
    """Also with that of a savepoint, and if the session is closed."""
    any_shop.on(lambda account, **extra: None)
    with any_shop.open() as session:
        fund(any_shop)
        session.rollback()
    with any_shop.open() as session:
        session.add(Account(name="outer"))
        session.flush()
        with session.begin_nested() as savepoint:
            fund(any_shop)
            savepoint.rollback()
        with session.begin_nested() as savepoint:
            any_shop.funded.send("acme")  # its message is the first statement in the savepoint
            savepoint.rollback()
        session.commit()
    with any_shop.open() as session:
        fund(any_shop)
        session.close()
    assert any_shop.messages() == []


def test_message_is_stored_at_once_without_a_transaction(any_shop: DurableShop) -> None:
    """There is no commit to wait for."""
    ran: list[Any] = []
    any_shop.on(lambda sender, **extra: ran.append((sender, extra)))
    with any_shop.open():
        any_shop.funded.send("acme", amount=5)
    assert len(any_shop.messages()) == 1
    any_shop.work()
    assert ran == [("acme", {"amount": 5})]


def test_earlier_receiver_may_end_the_transaction(shop: DurableShop) -> None:
    """After its commit, the message is stored at once; after its rollback, not at all."""
    shop.kit.on("account_funded", priority=1)(
        lambda sender, *, end, **extra: getattr(shop.session, end)()
    )
    shop.on(lambda sender, **extra: None)
    for end, count in (("commit", 1), ("rollback", 1)):
        with shop.open() as session:
            session.add(Account(name=end))
            session.flush()
            shop.funded.send("acme", end=end)
            session.close()
        assert len(shop.messages()) == count


def test_app_is_the_sender(shop: DurableShop) -> None:
    """If none is given."""
    ran: list[Any] = []
    shop.on(lambda sender, **extra: ran.append(sender))
    with shop.open():
        shop.kit.send("account_funded")
    shop.work()
    assert ran == [shop.app]


def test_table_that_is_missing_is_an_error_at_the_send(shop: DurableShop) -> None:
    """It names the table, the database and the fix."""
    shop.on(lambda sender, **extra: None)
    with shop.outside.begin() as connection:
        connection.execute(text("DROP TABLE signals_outbox"))
    with shop.open(), pytest.raises(ConfigurationError, match="There is no table 'signals_outbox'"):
        shop.funded.send("acme")


def test_table_that_is_old_is_an_error_at_the_send(shop: DurableShop) -> None:
    """It names the missing column."""
    shop.on(lambda sender, **extra: None)
    with shop.outside.begin() as connection:
        connection.execute(text("ALTER TABLE signals_outbox DROP COLUMN error"))
    with shop.open(), pytest.raises(ConfigurationError, match="no column 'error' in table"):
        shop.funded.send("acme")


# -- running --------------------------------------------------------------------------------------


def test_failing_receiver_is_run_again(shop: DurableShop, log: pytest.LogCaptureFixture) -> None:
    """What it has written is rolled back; each attempt is logged."""
    attempts: list[int] = []

    def pay(account: Account, **extra: Any) -> None:
        attempts.append(current_emission.attempt)
        account.balance += 1
        shop.session.flush()
        if len(attempts) < 3:
            raise LookupError("secret-4111")

    shop.on(pay)
    with shop.open() as session:
        fund(shop)
        session.commit()
    shop.work()
    assert attempts == [1, 2, 3]
    with shop.open() as session:
        assert session.query(Account).one().balance == 1
    failures = [record for record in log.records if "failed" in record.message]
    assert ["Attempt 1 of 20" in failures[0].message, len(failures)] == [True, 2]
    assert failures[0].levelno == logging.WARNING


def test_message_is_dead_after_its_attempts(shop: DurableShop) -> None:
    """It stays, with type and place of the error, and is reported once."""
    reported: list[Any] = []

    @shop.kit.on_exception
    def report(app: Any, exception: Exception, **details: Any) -> None:
        reported.append((exception, details["source"], details["signal"], details["receiver"]))
        assert current_emission.attempt == 2

    def fail(sender: Any, **extra: Any) -> None:
        raise LookupError("secret-4111")

    shop.on(fail, max_attempts=2)
    shop.send()
    shop.work()
    [message] = shop.messages()
    assert (message.due, message.attempt) == (None, 2)
    assert message.error.startswith(f"LookupError at {__file__}:")
    assert "secret" not in message.error
    [(error, source, signal, receiver)] = reported
    assert (type(error), source, signal, receiver) == (
        LookupError,
        "delivery",
        "account_funded",
        fail,
    )


def test_receiver_asks_to_be_run_later(shop: DurableShop, log: pytest.LogCaptureFixture) -> None:
    """This counts as an attempt, but not as a failure."""
    attempts: list[int] = []

    def ask(sender: Any, **extra: Any) -> None:
        attempts.append(current_emission.attempt)
        if len(attempts) == 1:
            raise RetryAfter(3600)

    shop.on(ask)
    shop.send()
    shop.work()
    assert attempts == [1]
    assert 3590 < (shop.outbox.seconds_to_next() or 0) < 3610
    assert [r.levelname for r in log.records if "asked to be run again" in r.message] == ["INFO"]
    shop.make_due()
    shop.work()
    assert attempts == [1, 2]
    assert shop.messages() == []


def test_receiver_discards_its_message(shop: DurableShop, log: pytest.LogCaptureFixture) -> None:
    """What it has written is rolled back, and the reason is logged."""

    def give_up(account: Account, **extra: Any) -> None:
        account.balance = 99
        shop.session.flush()
        raise Discard("the account is closed")

    shop.on(give_up)
    with shop.open() as session:
        fund(shop)
        session.commit()
    shop.work()
    assert shop.messages() == []
    assert any("is discarded: the account is closed" in record.message for record in log.records)
    with shop.open() as session:
        assert session.query(Account).one().balance == 0


def test_failing_commit_is_a_failure_of_the_receiver(shop: DurableShop) -> None:
    """The name of the second account is taken."""

    def add(account: Account, **extra: Any) -> None:
        shop.session.add(Account(name=account.name))

    shop.on(add, max_attempts=1)
    with shop.open() as session:
        fund(shop)
        session.commit()
    shop.work()
    [message] = shop.messages()
    assert message.due is None
    assert IntegrityError.__name__ in message.error
    with shop.open() as session:
        assert session.query(Account).count() == 1


def test_async_receiver_is_run(shop: DurableShop) -> None:
    """In an event loop of its own."""
    ran: list[Any] = []

    async def receive(sender: Any, **extra: Any) -> None:
        ran.append((sender, current_emission.attempt))

    shop.on(receive)
    shop.send()
    shop.work()
    assert ran == [("acme", 1)]


def test_message_that_is_carried_twice_is_run_once(shop: DurableShop) -> None:
    """The second worker finds another attempt in the row."""
    ran: list[Any] = []
    carried: list[tuple[int, int]] = []
    shop.on(lambda sender, **extra: ran.append(sender))

    class Twice:
        def submit(self, message: int, attempt: int, queue: str | None, /) -> None:
            carried.append((message, attempt))

    shop.send()
    assert shop.outbox.forward(Twice()) == 1
    assert shop.outbox.forward(Twice()) == 0
    [message] = carried
    result = shop.outbox.run(*message)
    assert result is not None
    assert (result.status, shop.outbox.run(*message)) == ("ran", None)
    assert ran == ["acme"]


def test_run_that_was_too_slow_stores_nothing(
    shop: DurableShop, log: pytest.LogCaptureFixture
) -> None:
    """Another worker has begun the message meanwhile, and owns it."""
    runs: list[int] = []

    def pay(name: str, **extra: Any) -> None:
        runs.append(current_emission.attempt)
        if len(runs) == 1:
            together(shop.run_once)  # the other worker
        shop.session.query(Account).one().balance += 1

    shop.on(pay)
    with shop.open() as session:
        session.add(Account(name="acme"))
        session.commit()
        shop.funded.send("acme")
    assert shop.run_once() == "too_slow"  # not by a worker, which could claim the message as well
    assert runs == [1, 2]
    with shop.open() as session:
        assert session.query(Account).one().balance == 1
    assert any("took too long" in record.message for record in log.records)


def test_look_at_the_outbox_waits_for_no_writer(shop: DurableShop) -> None:
    """On SQLite, another transaction may hold the lock for longer than a worker would wait."""
    shop.on(lambda sender, **extra: None)
    with shop.open() as session:
        session.add(Account(name="acme"))
        session.flush()
        assert shop.outbox.seconds_to_next() is None


def test_what_a_receiver_sends_is_stored_with_its_commit(shop: DurableShop) -> None:
    """With the same correlation, and the message that caused it."""
    seen: list[Any] = []

    def opens(sender: Any, **extra: Any) -> None:
        shop.opened.send(sender)
        seen.append((current_emission.correlation_id, current_emission.causation_id))
        if len(seen) == 1:
            raise LookupError

    def last(sender: Any, **extra: Any) -> None:
        emission = current_emission
        assert emission.idempotency_key == emission.message_id
        seen.append((emission.correlation_id, emission.causation_id))

    shop.on(opens)
    shop.on(last, signal="account_opened")
    shop.send()
    shop.work()
    [first, again, third] = seen
    assert first == again
    assert first[1] is None
    assert third == (first[0], first[0])


def test_receivers_of_one_emission_share_its_correlation(shop: DurableShop) -> None:
    """Each has a message and a key of its own."""
    seen: list[Any] = []

    def note(sender: Any, **extra: Any) -> None:
        seen.append((current_emission.correlation_id, current_emission.idempotency_key))

    def note_too(sender: Any, **extra: Any) -> None:
        note(sender)

    shop.on(note)
    shop.on(note_too)
    shop.send()
    shop.work()
    (correlation, key), (other_correlation, other_key) = seen
    assert correlation == other_correlation
    assert key != other_key


def test_emission_is_that_of_the_send(shop: DurableShop) -> None:
    """Its site and request are stored."""
    seen: list[Any] = []
    shop.on(lambda sender, **extra: seen.append(current_emission._get_current_object()))  # type: ignore[attr-defined]
    shop.app.add_url_rule("/fund", view_func=lambda: str(shop.funded.send("acme", amount=1)))
    shop.app.test_client().get("/fund")
    shop.work()
    [emission] = seen
    assert (emission.request, emission.payload) == ("GET /fund", ("amount",))
    assert emission.site.file == __file__


def test_forked_process_has_connections_of_its_own(shop: DurableShop) -> None:
    """It does not use those that its parent has opened, which both would write to."""
    shop.on(lambda sender, **extra: None)
    with shop.open() as session:
        before = session.connection().connection.dbapi_connection
    with warnings.catch_warnings(action="ignore"):  # of threads of the test run
        child = os.fork()
    if child == 0:
        status = 1
        try:
            with shop.outbox.engine().connect() as connection:
                status = 2 if connection.connection.dbapi_connection is before else 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("header", "expected"),
    [(TRACE, TRACE), (None, None), (f"{TRACE}<b>", None), ("x" * 9999, None)],
)
def test_trace_of_the_request_is_kept(
    shop: DurableShop, header: str | None, expected: str | None
) -> None:
    """Also in what a durable receiver sends; an invalid header is ignored."""
    seen: list[Any] = []

    def opens(sender: Any, **extra: Any) -> None:
        seen.append(current_emission.traceparent)
        shop.opened.send(sender)

    shop.on(opens)
    shop.on(
        lambda sender, **extra: seen.append(current_emission.traceparent), signal="account_opened"
    )
    shop.app.add_url_rule("/fund", view_func=lambda: str(shop.funded.send("acme")))
    shop.app.test_client().get("/fund", headers={"traceparent": header} if header else {})
    shop.work()
    assert seen == [expected, expected]


# -- receivers that are no longer there -----------------------------------------------------------


def test_uid_is_the_name_of_a_receiver(shop: DurableShop) -> None:
    """So it can be renamed while messages wait."""
    ran: list[str] = []

    def before(sender: Any, **extra: Any) -> None:
        ran.append("before")

    def after(sender: Any, **extra: Any) -> None:
        ran.append("after")

    shop.on(before, uid="ledger")
    shop.send()
    shop.kit.disconnect(before)
    shop.on(after, uid="ledger")
    shop.work()
    assert ran == ["after"]


@pytest.mark.parametrize("signal", ["account_funded", "account_*"])
def test_two_receivers_of_one_name_are_refused(shop: DurableShop, signal: str) -> None:
    """A message could not tell which one it is for."""
    shop.on(lambda sender, **extra: None, signal=signal)
    with pytest.raises(DuplicateReceiverError, match="Two durable receivers have the name"):
        shop.on(lambda sender, **extra: None)


def test_weak_receiver_is_refused(shop: DurableShop) -> None:
    """It would be missing when its message runs."""
    with pytest.raises(ConfigurationError, match="durable and weak"):
        shop.kit.on("account_funded", delivery="durable", weak=True)(write_down)


def test_result_of_a_run_tells_how_it_ended(shop: DurableShop) -> None:
    """A message that has begun since it was claimed has none."""

    def receive(sender: str, **extra: Any) -> None:
        if sender == "give up":
            raise Discard("no account")
        if sender == "fail":
            raise LookupError

    shop.on(receive, uid="ledger", max_attempts=2)
    with shop.open():
        for sender in ("pay", "give up", "fail"):
            shop.funded.send(sender)
    runs = [(1, 0), (1, 0), (2, 0), (3, 0), (3, 1)]
    results = [shop.outbox.run(*run) for run in runs]
    assert [result and (result.message, result.attempt, result.status) for result in results] == [
        (1, 1, "ran"),
        None,
        (2, 1, "discarded"),
        (3, 1, "failed"),
        (3, 2, "dead"),
    ]
    assert {(result.receiver, result.signal) for result in results if result} == {
        ("ledger", "account_funded")
    }


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "Durable(max_attempts=0) is not possible"),
        ({"max_attempts": True}, "Durable(max_attempts=bool)"),
        ({"timeout": 0}, "Durable(timeout=0)"),
        ({"timeout": 8 * 86400}, "at most a week"),
        ({"timeout": "300"}, "Durable(timeout='300')"),
        ({"backoff": 3}, "Durable(backoff=3)"),
        ({"queue": ""}, "Durable(queue='')"),
        ({"queue": object()}, "Durable(queue=object)"),
    ],
)
def test_invalid_option_is_refused(options: dict[str, Any], message: str) -> None:
    """With its name, its value and what it must be."""
    with pytest.raises(ConfigurationError) as caught:
        Durable(**options)
    assert message in str(caught.value)


def test_value_that_cannot_be_stored_is_refused_at_the_send(shop: DurableShop) -> None:
    """Nothing is stored, and the sender can go on."""
    shop.on(lambda sender, **extra: None)
    with shop.open() as session:
        session.add(Account(name="acme"))
        with pytest.raises(PayloadError, match="Payload 'amount' of signal 'account_funded' is"):
            shop.funded.send("acme", amount=object())
        session.commit()
    assert shop.messages() == []


@pytest.mark.parametrize("policy", ["isolate", "group"])
def test_message_that_cannot_be_stored_fails_the_send(shop: DurableShop, policy: Any) -> None:
    """Whatever the failure policy is: its receiver would be missing."""
    shop.on(write_down, on_error=policy)
    with shop.open(), pytest.raises(PayloadError):
        shop.funded.send("acme", amount=object())
    with shop.open(), pytest.raises(PayloadError):
        shop.funded.send_robust("acme", amount=object())


def test_delivery_may_go_on_without_a_message_that_cannot_be_stored(shop: DurableShop) -> None:
    """Then the receiver counts as deferred, as it has not run."""

    class Tolerant(Durable):
        def deliver(self, call: Call, /) -> None:
            with suppress(PayloadError):
                super().deliver(call)

    shop.on(write_down, signal="account_opened")
    shop.kit.on("account_funded", delivery=Tolerant(), on_error="isolate")(write_down)
    with shop.open():
        assert shop.funded.send("acme", amount=object()) == []
        [outcome] = shop.funded.send_robust("acme", amount=object())
    assert isinstance(outcome, Deferred)
    assert shop.messages() == []


def test_app_without_a_database_is_refused(kit: SignalsKit) -> None:
    """When the receiver connects."""
    from flask import Flask

    kit.on("account_funded", delivery="durable")(lambda sender, **extra: None)
    with pytest.raises(ConfigurationError, match="delivery='durable', but app 'bare' has no"):
        kit.init_app(Flask("bare"))
