"""The report of the outbox: its messages as plain records."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from flask_signals_kit import AppSignals, RetryAfter
from flask_signals_kit.debug.labels import to_json
from flask_signals_kit.debug.outbox import (
    STATUSES,
    OutboxReport,
    find_message,
    messages,
    outbox_report,
)
from flask_signals_kit.errors import OutboxError
from tests.deliveries.durable.support import DurableShop


def later(attempt: int) -> float:
    """Wait for an hour."""
    return 3600


def pay(sender: Any, **extra: Any) -> None:
    """Be a receiver that fails."""
    raise LookupError("secret-4111")


def signals_of(shop: DurableShop) -> AppSignals:
    """Return the app's signals."""
    return shop.kit.for_app(shop.app)


def report_of(shop: DurableShop) -> OutboxReport:
    """Return the report of the app's outbox."""
    return outbox_report(signals_of(shop), shop.outbox)


def send(shop: DurableShop, count: int = 1, **payload: Any) -> None:
    """Send that an account was funded."""
    with shop.open():
        for _ in range(count):
            shop.funded.send("acme", **payload)


def execute(shop: DurableShop, statement: str) -> None:
    """Change the table."""
    with shop.outside.begin() as connection:
        connection.execute(text(statement))


def make_each_status(shop: DurableShop) -> None:
    """Store five messages of one receiver: 1 and 5 due, 2 running, 3 retrying, 4 dead."""
    shop.on(pay, uid="ledger", max_attempts=2)
    send(shop, 5)
    execute(shop, "UPDATE signals_outbox SET attempt = 1, due = due + 300 WHERE id = 2")
    execute(shop, "UPDATE signals_outbox SET attempt = 1, error = 'E', due = due + 9 WHERE id = 3")
    execute(shop, "UPDATE signals_outbox SET attempt = 2, error = 'E', due = NULL WHERE id = 4")
    execute(shop, "UPDATE signals_outbox SET due = due + 60 WHERE id = 5")  # as a claim does


def test_report_counts_the_messages_of_each_status(durable_shop: DurableShop) -> None:
    """In all, and for each receiver of each signal."""
    make_each_status(durable_shop)
    found = report_of(durable_shop)
    assert found.counts == {"due": 2, "running": 1, "retrying": 1, "dead": 1}
    assert (found.app, found.total) == ("shop", 5)
    [receiver] = found.receivers
    assert (receiver.receiver, receiver.signal, receiver.exists) == (
        "ledger",
        "account_funded",
        True,
    )
    assert receiver.counts == found.counts
    assert 0 <= (found.oldest_age or -1) < 60
    assert json.loads(json.dumps(to_json(found)))["counts"] == found.counts


def test_report_of_an_empty_outbox_has_zeros(durable_shop: DurableShop) -> None:
    """Nothing is due, so there is no oldest message."""
    durable_shop.on(pay)
    found = report_of(durable_shop)
    assert found.counts == dict.fromkeys(STATUSES, 0)
    assert (found.oldest_age, found.receivers) == (None, ())


def test_oldest_age_grows_although_workers_claim_again_and_again(
    durable_shop: DurableShop,
) -> None:
    """A claim makes a message due later; its first run is late since the send."""
    durable_shop.on(pay)
    send(durable_shop, 2)
    [row, _] = durable_shop.messages()
    headers = {**json.loads(row.headers), "sent_at": time.time() - 500}
    with durable_shop.outside.begin() as connection:
        statement = text("UPDATE signals_outbox SET headers = :headers WHERE id = 1")
        connection.execute(statement, {"headers": json.dumps(headers)})
    assert len(durable_shop.outbox.claim()) == 2
    found = report_of(durable_shop)
    assert (found.oldest_age or 0) > 499
    execute(durable_shop, "UPDATE signals_outbox SET headers = '{'")
    found = report_of(durable_shop)
    assert found.oldest_age is None


def test_oldest_age_is_that_of_a_late_retry_as_well(durable_shop: DurableShop) -> None:
    """Or of a run that was lost: the higher age counts."""
    durable_shop.on(pay)
    send(durable_shop, 2)
    change = "UPDATE signals_outbox SET attempt = 1, error = 'E', due = due - 900 WHERE id = 2"
    execute(durable_shop, change)
    found = report_of(durable_shop)
    assert (found.oldest_age or 0) >= 900


def test_oldest_age_leaves_out_what_is_not_due(durable_shop: DurableShop) -> None:
    """A message that waits for its next attempt is not late."""
    durable_shop.on(pay, backoff=later)
    send(durable_shop)
    durable_shop.work()
    found = report_of(durable_shop)
    assert (found.counts["retrying"], found.oldest_age) == (1, None)


@pytest.mark.parametrize(
    ("engine", "run_by"),
    [
        ("embedded", "threads of each process that serves requests"),
        ("celery", "Celery workers"),
        ("none", "nothing in this process: start 'flask signals work'"),
    ],
)
def test_report_says_what_runs_the_messages(
    durable_shop: DurableShop, engine: str, run_by: str
) -> None:
    """As the setting decides."""
    durable_shop.on(pay)
    app_signals = signals_of(durable_shop)
    app_signals.settings = replace(app_signals.settings, engine=engine)
    durable_shop.app.testing = False
    assert report_of(durable_shop).run_by == run_by


def test_messages_are_listed_newest_first_and_in_pages(durable_shop: DurableShop) -> None:
    """The next page begins before the last message of the one before."""
    durable_shop.on(pay)
    send(durable_shop, 5)
    outbox = durable_shop.outbox
    first = messages(outbox, limit=3)
    assert [message.id for message in first] == [5, 4, 3]
    assert [message.id for message in messages(outbox, limit=3, before=3)] == [2, 1]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"status": "due"}, [5, 1]),
        ({"status": "running"}, [2]),
        ({"status": "retrying"}, [3]),
        ({"status": "dead"}, [4]),
        ({"receiver": "ledger", "signal": "account_funded"}, [5, 4, 3, 2, 1]),
        ({"receiver": "ledge"}, []),
        ({"signal": "account_opened"}, []),
    ],
)
def test_messages_are_filtered(
    durable_shop: DurableShop, wanted: dict[str, Any], ids: list[int]
) -> None:
    """By status, receiver and signal; the status in the records is the same."""
    make_each_status(durable_shop)
    found = messages(durable_shop.outbox, limit=10, **wanted)
    assert [message.id for message in found] == ids
    if "status" in wanted:
        assert {message.status for message in found} == {wanted["status"]}


def test_message_has_what_its_row_tells_but_no_values(durable_shop: DurableShop) -> None:
    """The names of the payload, the type of the sender, and the place of the send."""
    durable_shop.on(pay, uid="ledger", max_attempts=3, backoff=later, queue="slow")
    with durable_shop.app.test_request_context("/fund", method="POST"):
        durable_shop.funded.send("secret", amount="secret")
    durable_shop.work()
    message = find_message(durable_shop.outbox, 1)
    assert message is not None
    assert (message.receiver, message.signal, message.queue) == ("ledger", "account_funded", "slow")
    assert (message.status, message.attempt, message.max_attempts) == ("retrying", 1, 3)
    assert (message.payload, message.sender) == (("amount",), "str")
    assert message.request == "POST /fund"
    assert message.site is not None
    assert message.site.file == __file__
    assert message.error is not None
    assert message.error.startswith("LookupError at ")
    assert (message.message_id, message.causation_id) == (message.correlation_id, None)
    assert (message.due or 0) > (message.sent_at or 0) + 3000
    assert "secret" not in json.dumps(to_json(message))


def test_message_that_asks_to_be_run_later_is_retrying(durable_shop: DurableShop) -> None:
    """It waits for its next attempt; what is stored says that it asked, and where."""

    def ask(sender: Any, **extra: Any) -> None:
        raise RetryAfter(3600)

    durable_shop.on(ask)
    send(durable_shop)
    durable_shop.work()
    [message] = messages(durable_shop.outbox, limit=5)
    assert (message.status, message.attempt) == ("retrying", 1)
    line = ask.__code__.co_firstlineno + 1
    assert message.error == f"asked to be run again at {__file__}:{line}"


def test_message_without_a_receiver_says_so(durable_shop: DurableShop) -> None:
    """It has no number of attempts, and the report marks the receiver."""
    durable_shop.on(pay, uid="ledger")
    send(durable_shop)
    durable_shop.kit.disconnect(pay)
    found = report_of(durable_shop)
    assert [receiver.exists for receiver in found.receivers] == [False]
    [message] = messages(durable_shop.outbox, limit=5)
    assert message.max_attempts is None


def test_damaged_row_is_shown(durable_shop: DurableShop) -> None:
    """With what can be read."""
    durable_shop.on(pay, uid="ledger")
    send(durable_shop)
    execute(durable_shop, "UPDATE signals_outbox SET headers = '{', payload = '{'")
    [message] = messages(durable_shop.outbox, limit=5)
    assert (message.receiver, message.status, message.payload) == ("ledger", "due", ())
    assert (message.message_id, message.site, message.sent_at) == (None, None, None)


def test_reading_waits_for_no_writer(durable_shop: DurableShop) -> None:
    """On SQLite, another connection holds the lock all the time."""
    durable_shop.on(pay)
    send(durable_shop)
    with durable_shop.open() as session:
        session.execute(text("UPDATE account SET balance = 0"))
        found = report_of(durable_shop)
    assert found.total == 1


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ("DROP TABLE signals_outbox", "There is no table 'signals_outbox'"),
        ("ALTER TABLE signals_outbox DROP COLUMN error", "There is no column 'error'"),
    ],
)
def test_incomplete_table_is_named(durable_shop: DurableShop, change: str, missing: str) -> None:
    """With the database and the fix."""
    durable_shop.on(pay)
    execute(durable_shop, change)
    with pytest.raises(OutboxError, match=missing) as caught:
        report_of(durable_shop)
    assert "db.create_all()" in str(caught.value)


def test_database_that_does_not_answer_is_named(durable_shop: DurableShop, tmp_path: Any) -> None:
    """With the reason of its driver, and without the statement's parameters."""
    from sqlalchemy import create_engine

    durable_shop.on(pay)
    engine = create_engine(f"sqlite:///{tmp_path}/missing/shop.sqlite")
    durable_shop.outbox._engine = engine
    with pytest.raises(OutboxError, match=r"cannot be used: sqlite3\.OperationalError: unable to"):
        messages(durable_shop.outbox, signal="secret-4111", limit=5)
    engine.dispose()
