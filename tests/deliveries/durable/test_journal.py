"""The journal shows what became of a durable receiver, at the emission that it belongs to."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import text

from flask_signals_kit import Discard, RetryAfter, current_emission
from flask_signals_kit.debug import activity
from flask_signals_kit.debug.activity import EmissionInfo, StepInfo
from flask_signals_kit.debug.labels import short_file
from flask_signals_kit.deliveries.durable.queries import Queries
from tests.deliveries.durable.support import DurableShop
from tests.deliveries.support import Account
from tests.support import together

FILE = short_file(__file__)


def ignore(sender: Any, **extra: Any) -> None:
    """Be a receiver."""


def fail(sender: Any, **extra: Any) -> None:
    """Be a receiver that raises."""
    raise LookupError("secret-4111")


def run_one(shop: DurableShop) -> None:
    """Run the message that is due."""

    class Direct:
        def submit(self, message: int, attempt: int, queue: str | None, /) -> None:
            shop.outbox.run(message, attempt)

    assert shop.outbox.forward(Direct()) == 1


def emission(shop: DurableShop, signal: str = "account_funded") -> EmissionInfo:
    """Return the last emission of a signal."""
    return activity.last_emissions(shop.kit.for_app(shop.app), signal)[0]


def step(shop: DurableShop) -> StepInfo:
    """Return the step of the only receiver in the last emission."""
    [found] = emission(shop).steps
    return found


def shown(shop: DurableShop) -> tuple[str, str | None]:
    """Return status and reason of that step."""
    found = step(shop)
    return found.status, found.reason


def request_failures(shop: DurableShop) -> int:
    """Return the failures of the only request."""
    app_signals = shop.kit.for_app(shop.app)
    [request] = activity.describe(app_signals, activity.requests(app_signals))
    return request.failures


def test_step_waits_for_the_commit_and_then_for_a_worker(any_shop: DurableShop) -> None:
    """With each extension: once it is stored, the step has the number of its message."""
    any_shop.on(ignore)
    with any_shop.open() as session:
        session.add(Account(name="acme"))
        any_shop.funded.send("acme")
        session.flush()
        assert shown(any_shop) == ("waiting", "waits for the commit")
        assert step(any_shop).message is None
        session.commit()
    assert shown(any_shop) == ("waiting", "waits for a worker")
    assert step(any_shop).message == any_shop.messages()[0].id


def test_step_has_run(shop: DurableShop) -> None:
    """With the time of the run, and how long it took; it counts as a call."""
    shop.on(ignore)
    shop.send()
    shop.work()
    found = step(shop)
    assert (found.status, found.error, found.message) == ("ran", None, None)
    assert found.reason is not None
    assert found.reason.startswith("at ")
    assert found.reason.endswith(" after the send")
    assert found.duration is not None
    tally = shop.tally()
    assert (tally.calls, tally.failures, tally.dropped) == (1, 0, 0)
    assert list(tally.recent) == [found.duration]


def test_step_is_retried_until_it_has_run(shop: DurableShop) -> None:
    """Each attempt counts as a call, and each failure as one of the receiver only."""

    def fail_once(sender: Any, **extra: Any) -> None:
        if current_emission.attempt == 1:
            raise LookupError("secret-4111")

    shop.on(fail_once, max_attempts=3)
    shop.send()
    run_one(shop)
    found = step(shop)
    assert (found.status, found.reason) == ("retrying", "attempt 1 of 3 raised LookupError")
    assert (found.error, found.raised and found.raised.name) == (
        "LookupError",
        fail_once.__qualname__,
    )
    run_one(shop)
    found = step(shop)
    assert (found.status, found.error, found.raised) == ("ran", None, None)
    assert (found.reason or "").endswith(", in attempt 2")
    tally = shop.tally()
    assert (tally.calls, tally.failures) == (2, 1)
    assert tally.last_failure is not None
    assert tally.last_failure.emission == emission(shop).number
    assert request_failures(shop) == 0


def test_death_is_a_failure_of_the_request(shop: DurableShop) -> None:
    """One for all attempts."""
    shop.on(fail, max_attempts=3)
    shop.send()
    run_one(shop)
    run_one(shop)
    assert request_failures(shop) == 0
    run_one(shop)
    assert (request_failures(shop), shop.tally().failures) == (1, 3)


def test_death_without_a_run_is_a_failure_of_the_request(shop: DurableShop) -> None:
    """The message cannot be read; the receiver has not failed."""
    shop.on(ignore)
    shop.send()
    change(shop, "UPDATE signals_outbox SET payload = '{'")
    shop.work()
    assert shown(shop)[0] == "dead"
    assert (request_failures(shop), shop.tally().failures) == (1, 0)


def test_step_that_asks_to_be_run_again_has_not_failed(shop: DurableShop) -> None:
    """It is a call without a failure."""

    def ask(sender: Any, **extra: Any) -> None:
        raise RetryAfter(3600)

    shop.on(ask)
    shop.send()
    run_one(shop)
    status, reason = shown(shop)
    line = ask.__code__.co_firstlineno + 1
    place = rf"{re.escape(FILE)}:{line}"
    assert status == "retrying"
    assert re.fullmatch(rf"attempt 1 of 20: asked to be run again at {place}", reason or "")
    assert (shop.tally().calls, shop.tally().failures) == (1, 0)


def test_step_says_that_it_is_running(shop: DurableShop) -> None:
    """With the number of the attempt."""
    seen: list[Any] = []

    def look(sender: Any, **extra: Any) -> None:
        seen.append(shown(shop))
        if len(seen) == 1:
            raise LookupError

    shop.on(look, max_attempts=4)
    shop.send()
    shop.work()
    assert seen == [
        ("waiting", "attempt 1 of 4 is running"),
        ("retrying", "attempt 2 of 4 is running"),
    ]


def test_step_is_dead_with_the_reason(shop: DurableShop) -> None:
    """After its last attempt: type and place of the error, never its text."""
    shop.on(fail, max_attempts=1)
    shop.send()
    shop.work()
    found = step(shop)
    assert (found.status, found.reason) == ("dead", "attempt 1 of 1 raised LookupError")
    assert (found.error, found.raised and found.raised.name) == ("LookupError", "fail")
    assert found.message == shop.messages()[0].id


def test_step_of_a_missing_receiver_says_so(shop: DurableShop) -> None:
    """It was disconnected while the message waited."""
    shop.on(ignore)
    shop.send()
    shop.kit.disconnect(ignore)
    shop.work()
    status, reason = shown(shop)
    assert status == "retrying"
    assert (reason or "").startswith("attempt 1 of 6: There is no durable receiver 'tests.")
    assert step(shop).next_attempt == shop.messages()[0].due
    for _ in range(5):
        shop.make_due()
        shop.work()
    status, reason = shown(shop)
    assert status == "dead"
    assert (reason or "").startswith("attempt 6 of 6: There is no durable receiver 'tests.")


def test_step_of_a_missing_receiver_needs_no_database(shop: DurableShop) -> None:
    """The journal has the reason as well."""
    shop.on(ignore)
    shop.send()
    shop.kit.disconnect(ignore)
    shop.work()
    change(shop, "DROP TABLE signals_outbox")
    status, reason = shown(shop)
    assert status == "retrying"
    assert (reason or "").startswith("attempt 1 of 6: There is no durable receiver 'tests.")


def test_step_says_that_a_worker_has_claimed_it(shop: DurableShop) -> None:
    """And when it is due again, if that worker does not begin."""
    shop.on(ignore)
    shop.send()
    assert len(shop.outbox.claim()) == 1
    status, reason = shown(shop)
    assert status == "waiting"
    assert (reason or "").startswith("was claimed by a worker, and is due again at ")


def test_step_whose_run_was_lost_says_so(shop: DurableShop) -> None:
    """Its worker was killed, and its timeout has passed."""
    shop.on(ignore, max_attempts=2)
    shop.send()
    change(shop, "UPDATE signals_outbox SET attempt = 1, due = 0")
    assert shown(shop) == ("retrying", "attempt 1 of 2 did not end")


def test_step_says_when_the_next_attempt_is(shop: DurableShop) -> None:
    """After a failure in this process."""
    shop.on(fail, max_attempts=2, backoff=lambda attempt: 3600)
    shop.send()
    shop.work()
    assert shown(shop) == ("retrying", "attempt 1 of 2 raised LookupError")
    assert step(shop).next_attempt == shop.messages()[0].due
    shop.make_due()
    assert step(shop).next_attempt is None
    html = shop.app.test_client().get(f"/_signals/emissions/{emission(shop).number}").text
    assert ", next at " not in html
    change(shop, "UPDATE signals_outbox SET due = 9e9")
    html = shop.app.test_client().get(f"/_signals/emissions/{emission(shop).number}").text
    assert re.search(r':\d+</code>, next at <time datetime="[^"]+">2255-', html)


def test_step_is_dropped_by_a_rollback(any_shop: DurableShop) -> None:
    """Also by that of a savepoint, and by the end of the session."""
    any_shop.on(ignore)
    with any_shop.open() as session:
        session.add(Account(name="acme"))
        any_shop.funded.send("acme")
        session.rollback()
        assert shown(any_shop) == ("dropped", "the transaction was rolled back")
    with any_shop.open() as session:
        session.add(Account(name="outer"))
        session.flush()
        with session.begin_nested() as savepoint:
            any_shop.funded.send("acme")
            savepoint.rollback()
        session.commit()
    assert shown(any_shop) == ("dropped", "the savepoint was rolled back")
    with any_shop.open() as session:
        session.add(Account(name="other"))
        any_shop.funded.send("acme")
    assert shown(any_shop) == ("dropped", "the transaction ended without a commit")
    assert any_shop.tally().dropped == 3


def test_step_is_discarded_with_the_reason(shop: DurableShop) -> None:
    """It is not a failure."""

    def give_up(sender: Any, **extra: Any) -> None:
        raise Discard("the account is closed")

    shop.on(give_up)
    shop.send()
    shop.work()
    assert shown(shop) == ("dropped", "discarded: the account is closed")
    tally = shop.tally()
    assert (tally.calls, tally.failures, tally.dropped) == (0, 0, 1)


def test_what_a_durable_receiver_sends_stands_under_its_step(shop: DurableShop) -> None:
    """In the request of the first send, although it ran in another thread."""

    def opens(sender: Any, **extra: Any) -> None:
        shop.opened.send(sender)

    shop.on(ignore)
    shop.on(opens)
    shop.on(fail, signal="account_opened", max_attempts=1)
    shop.app.add_url_rule("/fund", view_func=lambda: str(shop.funded.send("acme")))
    shop.app.test_client().get("/fund")
    together(shop.work)
    first, second = emission(shop), emission(shop, "account_opened")
    [tree] = [
        activity.emissions(shop.kit.for_app(shop.app), [request], 100)[request.id]
        for request in activity.describe(
            shop.kit.for_app(shop.app), activity.requests(shop.kit.for_app(shop.app))
        )
        if request.path == "/fund"
    ]
    assert [each.signal for each in tree] == ["account_funded", "account_opened"]
    assert (second.parent, tree[1].parent_step) == (first.number, 2)
    assert [each.status for each in second.steps] == ["dead"]


def test_running_receiver_knows_the_number_of_its_emission(shop: DurableShop) -> None:
    """So that an error report can link to it."""
    numbers: list[int | None] = []
    shop.on(lambda sender, **extra: numbers.append(current_emission.number))
    shop.send()
    shop.work()
    assert numbers == [emission(shop).number]


WORKER = """
    from tests.deliveries.durable import test_journal
    from tests.deliveries.durable.support import DurableShop

    shop = DurableShop({url!r})
    shop.on(test_journal.{receiver}, max_attempts=2)
    test_journal.run_one(shop)
"""


def run_elsewhere(shop: DurableShop, receiver: str) -> None:
    """Run the message that is due, in another process."""
    url = shop.outside.url.render_as_string(hide_password=False)
    code = textwrap.dedent(WORKER).format(url=url, receiver=receiver)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_worker_in_another_process_has_run_it(shop: DurableShop) -> None:
    """Its row is gone, so nothing more is known."""
    shop.on(ignore)
    shop.send()
    run_elsewhere(shop, "ignore")
    assert shown(shop) == ("done", "in another process: it ran or was discarded")
    assert (step(shop).duration, step(shop).message) == (None, None)


def test_waiting_message_that_was_discarded_is_not_said_to_have_run(shop: DurableShop) -> None:
    """It may have run, or not: the row that would tell is gone."""
    shop.on(ignore)
    shop.send()
    with shop.app.app_context():
        assert [*shop.outbox.discard(shop.outbox.queries.where(number=1))] == [1]
    assert shown(shop) == ("done", "in another process: it ran or was discarded")


def test_worker_in_another_process_has_failed(shop: DurableShop) -> None:
    """The row has the attempt and the error; after the last attempt it is dead."""
    shop.on(fail, max_attempts=2)
    shop.send()
    run_elsewhere(shop, "fail")
    status, reason = shown(shop)
    assert status == "retrying"
    assert (reason or "").startswith(f"attempt 1 of 2: LookupError at {FILE}:")
    run_elsewhere(shop, "fail")
    status, reason = shown(shop)
    assert status == "dead"
    assert (reason or "").startswith(f"attempt 2 of 2: LookupError at {FILE}:")


def change(shop: DurableShop, statement: str) -> None:
    """Execute a statement, as another process would."""
    with shop.outside.begin() as connection:
        connection.execute(text(statement))


def test_dead_message_is_retried_or_discarded_elsewhere(shop: DurableShop) -> None:
    """Each time that the step is shown, the row decides."""
    shop.on(fail, max_attempts=1)
    shop.send()
    shop.work()
    change(shop, "UPDATE signals_outbox SET due = 0")
    assert shown(shop)[0] == "retrying"
    change(shop, "UPDATE signals_outbox SET due = 9e9, error = NULL, attempt = 2")
    assert shown(shop) == ("retrying", "attempt 2 is running")
    change(shop, "DELETE FROM signals_outbox")
    assert shown(shop)[0] == "done"


def test_database_that_cannot_be_read_leaves_the_step_waiting(shop: DurableShop) -> None:
    """The journal then stands alone."""
    shop.on(ignore)
    shop.send()
    change(shop, "DROP TABLE signals_outbox")
    assert shown(shop) == ("waiting", "waits for a worker")


def test_all_steps_that_wait_are_one_query(
    shop: DurableShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are over are not asked about."""
    asked: list[set[int]] = []

    def note(queries: Queries, connection: Any, numbers: Iterable[int]) -> list[Any]:
        asked.append(set(numbers))
        return []

    monkeypatch.setattr(Queries, "states", note)
    shop.on(ignore)
    shop.send()
    shop.work()
    step(shop)
    assert asked == []
    for _ in range(3):
        shop.send()
    step(shop)
    assert asked == [{row.id for row in shop.messages()}]


def test_nothing_is_kept_for_messages_that_the_journal_forgot(shop: DurableShop) -> None:
    """Nor a sender or a payload while a message waits."""
    shop.on(ignore)
    with shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        shop.funded.send(account)
        session.commit()
    gone = weakref.ref(account)
    del account, session
    gc.collect()
    assert gone() is None
    assert len(shop.outbox.results) == 1
    journal = shop.kit.for_app(shop.app).journal
    assert journal is not None
    journal._entries.clear()
    gc.collect()
    assert len(shop.outbox.results) == 0
    shop.work()
    assert shop.messages() == []


def test_message_that_is_run_while_its_row_is_read_has_run(
    shop: DurableShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is gone, as that of a message that another process has run."""
    shop.on(ignore)
    shop.send()
    read = Queries.states

    def run_and_read(queries: Queries, connection: Any, numbers: Any) -> Any:
        monkeypatch.undo()
        shop.work()
        return read(queries, connection, numbers)

    monkeypatch.setattr(Queries, "states", run_and_read)
    assert shown(shop)[0] == "ran"


def test_message_of_an_earlier_process_starts_no_tree(shop: DurableShop) -> None:
    """What its receiver sends has no parent."""

    def opens(sender: Any, **extra: Any) -> None:
        shop.opened.send(sender)

    shop.on(opens)
    shop.send()
    shop.outbox.results.clear()
    shop.work()
    assert emission(shop, "account_opened").parent is None
