"""What counts as an attempt, and when the next one is due."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text

from flask_signals_kit import RetryAfter, SignalsKit
from tests.deliveries.durable.support import DurableShop


class Runs:
    """A receiver that fails as long as ``fails`` is true; it counts its runs."""

    def __init__(self) -> None:
        self.number = 0
        self.fails = True

    def __call__(self, sender: Any, **extra: Any) -> None:
        """Count a run."""
        self.number += 1
        if self.fails:
            raise LookupError


@pytest.fixture
def runs() -> Runs:
    """Give a receiver."""
    return Runs()


@contextmanager
def disconnected(shop: DurableShop, receiver: Any, **options: Any) -> Iterator[None]:
    """Disconnect a receiver for the length of a block, as in a process of the last release."""
    shop.kit.disconnect(receiver)
    yield
    shop.on(receiver, **options)


def test_message_of_a_missing_receiver_is_tried_again(shop: DurableShop) -> None:
    """Another process may have the next release already; at last the message is dead."""
    reported: list[str] = []
    shop.kit.on_exception(lambda app, exception, **details: reported.append(str(exception)))

    def gone(sender: Any, **extra: Any) -> None: ...

    shop.on(gone)
    shop.send()
    shop.kit.disconnect(gone)
    for attempt in range(1, 7):
        shop.work()
        [message] = shop.messages()
        assert (message.attempt, message.due is None) == (attempt, attempt == 6)
        assert message.error.startswith("There is no durable receiver")
        shop.make_due()
    assert reported == [shop.messages()[0].error]


def test_receiver_that_comes_back_gets_its_message(shop: DurableShop) -> None:
    """As when a release is replaced by the next one."""
    ran: list[Any] = []

    def back(sender: Any, **extra: Any) -> None:
        ran.append(sender)

    shop.on(back)
    shop.send()
    shop.kit.disconnect(back)
    shop.work()
    shop.on(back)
    shop.make_due()
    shop.work()
    assert ran == ["acme"]


def test_attempt_without_the_receiver_does_not_count(shop: DurableShop, runs: Runs) -> None:
    """The one attempt is left for a process that has the receiver."""
    runs.fails = False
    shop.on(runs, uid="post", max_attempts=1)
    shop.send()
    with disconnected(shop, runs, uid="post", max_attempts=1):
        shop.run_once()
    shop.run_once()
    assert (runs.number, shop.messages()) == (1, [])


def test_message_that_has_failed_often_survives_a_process_without_its_receiver(
    shop: DurableShop, runs: Runs
) -> None:
    """Its attempts there are counted apart."""
    shop.on(runs, uid="post", max_attempts=9)
    shop.send()
    for _ in range(8):
        shop.run_once()
    with disconnected(shop, runs, uid="post", max_attempts=9):
        for _ in range(5):
            shop.run_once()
    assert shop.messages()[0].due is not None
    runs.fails = False
    shop.run_once()
    assert (runs.number, shop.messages()) == (9, [])


def test_tries_without_the_receiver_count_anew_after_each_run(
    shop: DurableShop, runs: Runs
) -> None:
    """As in a message that waits for weeks, while releases come and go."""
    shop.on(runs, uid="post", max_attempts=20)
    shop.send()
    for _ in range(7):
        with disconnected(shop, runs, uid="post", max_attempts=20):
            shop.run_once()
        shop.run_once()
    assert runs.number == 7
    assert shop.messages()[0].due is not None


def test_retry_by_a_command_allows_processes_without_the_receiver_again(
    shop: DurableShop, runs: Runs
) -> None:
    """Else the first one would make the message dead once more."""
    shop.on(runs, uid="post")
    shop.send()
    shop.kit.disconnect(runs)
    for _ in range(6):
        shop.run_once()
    assert shop.messages()[0].due is None
    assert sum(shop.outbox.retry([])) == 1
    shop.run_once()
    assert shop.messages()[0].due is not None


def test_run_that_never_ends_uses_up_its_attempts(shop: DurableShop) -> None:
    """As if the process was killed in each run."""
    reported: list[Exception] = []
    shop.kit.on_exception(lambda app, exception, **details: reported.append(exception))
    shop.on(lambda sender, **extra: None, max_attempts=2)
    shop.send()
    for _ in range(2):
        with shop.outside.begin() as connection:
            connection.execute(text("UPDATE signals_outbox SET attempt = attempt + 1"))
    shop.work()
    [message] = shop.messages()
    assert (message.due, message.attempt) == (None, 2)
    assert "used up its attempts (2). The last one: it did not end within 300 s" in message.error
    assert len(reported) == 1


def test_last_error_stays_if_a_release_allows_fewer_attempts(shop: DurableShop, runs: Runs) -> None:
    """It is the reason why the message is dead."""
    shop.on(runs, uid="post", max_attempts=20)
    shop.send()
    for _ in range(3):
        shop.run_once()
    shop.kit.disconnect(runs)
    shop.on(runs, uid="post", max_attempts=2)
    shop.run_once()
    [message] = shop.messages()
    assert (message.due, runs.number) == (None, 3)
    assert "used up its attempts (3). The last one: LookupError at " in message.error


def test_message_of_a_newer_version_is_left_to_its_release(database: str, runs: Runs) -> None:
    """A process of the last release cannot read its payload."""
    runs.fails = False
    old, new = release(database, 1, runs), release(database, 2, runs)
    with new.open():
        new.kit.send("sale_made", "acme", amount=5)
    old.run_once()
    [message] = old.messages()
    assert message.error == (
        "The message was stored by version 2 of signal 'sale_made'; here it is declared with "
        "version 1."
    )
    new.run_once()
    assert (runs.number, new.messages()) == (1, [])
    old.close()
    new.close()


def release(database: str, version: int, receiver: Any) -> DurableShop:
    """Return a shop with one version of a declaration."""
    shop = DurableShop(database)
    if version == 1:
        declare_cents(shop.kit)
    else:
        declare_amount(shop.kit)
    shop.on(receiver, signal="sale_made", uid="post")
    return shop


def declare_cents(kit: SignalsKit) -> None:
    """Declare the first version."""

    @kit.declare
    def sale_made(sender: str, *, cents: int) -> None:
        """Something was sold."""


def declare_amount(kit: SignalsKit) -> None:
    """Declare the second version."""

    @kit.declare(version=2, upgrade=lambda payload, version: {"amount": payload["cents"] / 100})
    def sale_made(sender: str, *, amount: float) -> None:
        """Something was sold."""


# -- runs that are too slow -----------------------------------------------------------------------


def test_slow_last_run_is_reported_once(shop: DurableShop) -> None:
    """It fails after another worker has found that it did not end, and has made it dead."""
    reported: list[str] = []
    shop.kit.on_exception(lambda app, exception, **details: reported.append(str(exception)))
    statuses: list[Any] = []

    def fail_late(sender: Any, **extra: Any) -> None:
        statuses.append(shop.run_once())
        raise LookupError

    shop.on(fail_late, max_attempts=1)
    shop.send()
    statuses.append(shop.run_once())
    assert statuses == ["dead", "too_slow"]
    [message] = shop.messages()
    assert reported == [message.error]


def test_exit_in_a_receiver_is_a_failed_attempt(shop: DurableShop) -> None:
    """It is tried again after the backoff, with the reason."""

    def leave(sender: Any, **extra: Any) -> None:
        raise SystemExit(1)

    shop.on(leave, backoff=lambda attempt: 3600)
    shop.send()
    shop.work()
    [message] = shop.messages()
    assert message.error.startswith("SystemExit at")
    assert 3500 < (shop.outbox.seconds_to_next() or 0) < 3700


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
def test_endless_delay_is_limited_to_a_year(shop: DurableShop, seconds: float) -> None:
    """Whether a receiver asks for it, or its backoff returns it."""

    def ask(sender: Any, **extra: Any) -> None:
        raise RetryAfter(seconds)

    def fail(sender: Any, **extra: Any) -> None:
        raise LookupError

    shop.on(ask)
    shop.on(fail, backoff=lambda attempt: seconds)
    shop.send()
    shop.work()
    delays = [message.due - time.time() for message in shop.messages()]
    assert len(delays) == 2
    assert all(0 < delay <= 366 * 86400 for delay in delays)
