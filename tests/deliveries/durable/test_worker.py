"""The worker: what it claims and runs, what it does without a database, and how it is stopped."""

import logging
import threading
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, text

from flask_signals_kit import RetryAfter
from flask_signals_kit.app.embedded import Worker
from tests.deliveries.durable.support import DurableShop
from tests.support import wait_until


def raise_once(shop: DurableShop, error: BaseException, **options: Any) -> list[int]:
    """Connect a receiver whose first run raises; give its runs."""
    runs: list[int] = []

    def receive(sender: Any, **extra: Any) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise error

    shop.on(receive, **options)
    return runs


def send_and_run(shop: DurableShop, worker: Worker) -> None:
    """Send a signal, give its message to a worker, and wait for the runs."""
    shop.send()
    assert shop.outbox.forward(worker) == 1
    worker._pool.shutdown()


def test_damaged_headers_are_the_reason_of_a_dead_message(shop: DurableShop) -> None:
    """It is reported once, and not tried for ever; the receiver is not called."""
    reported: list[Any] = []
    shop.kit.on_exception(lambda app, exception, **details: reported.append(details["source"]))
    ran: list[Any] = []
    shop.on(lambda sender, **extra: ran.append(sender))
    shop.send()
    with shop.outside.begin() as connection:
        connection.execute(text("UPDATE signals_outbox SET headers = '{'"))
    shop.work()
    [message] = shop.messages()
    assert (message.due, message.attempt) == (None, 1)
    assert message.error.startswith("The stored headers are damaged")
    assert reported == ["delivery"]
    assert ran == []


def test_look_for_messages_does_not_wait_for_a_writer(shop: DurableShop) -> None:
    """It begins no transaction, which would lock SQLite."""
    shop.on(lambda sender, **extra: None)
    with shop.open() as session:
        shop.funded.send("acme")
        shop.fund("acme")
        session.flush()  # the session holds SQLite's lock
        pause = shop.outbox.seconds_to_next()
        session.rollback()
    assert pause is not None
    assert pause <= 0


def test_failure_to_read_is_logged_once(
    shop: DurableShop, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the outbox can be read again."""
    shop.on(lambda sender, **extra: None)
    worker = Worker(shop.outbox, 1)

    def look(times: int) -> list[str]:
        caplog.clear()
        for _ in range(times):
            worker._forward()
        return [record.message for record in caplog.records if record.levelno == logging.ERROR]

    with monkeypatch.context() as patch:
        patch.setattr(shop.outbox, "seconds_to_next", None)
        assert len(look(3)) == 1
    assert look(1) == []
    monkeypatch.setattr(shop.outbox, "seconds_to_next", None)
    assert len(look(2)) == 1


def test_signal_handler_can_stop_a_worker(shop: DurableShop) -> None:
    """Also while the interrupted thread holds the lock of the event that it waits for."""
    shop.on(lambda sender, **extra: None)
    worker = Worker(shop.outbox, 1)
    handler = threading.Thread(target=worker.stop, daemon=True)
    with worker._woken._cond:  # type: ignore[attr-defined]
        handler.start()
        handler.join(10)
        assert not handler.is_alive()
    worker.work()


def test_message_that_is_claimed_while_its_run_ends_is_run_again(shop: DurableShop) -> None:
    """It is due at once, and the end of the app context takes a while."""
    attempts = raise_once(shop, RetryAfter(0))
    worker = Worker(shop.outbox, 1)

    @shop.app.teardown_appcontext
    def claim(error: BaseException | None) -> None:
        if len(attempts) == 1:
            assert shop.outbox.forward(worker) == 1

    send_and_run(shop, worker)
    assert len(attempts) == 2
    assert shop.messages() == []


def test_message_that_is_claimed_as_soon_as_its_retry_is_stored_is_run_again(
    shop: DurableShop,
) -> None:
    """The thread that has stored it has not gone on yet."""
    attempts = raise_once(shop, RetryAfter(0))
    worker = Worker(shop.outbox, 1)
    claims: list[int] = []
    is_claiming = threading.Lock()

    @event.listens_for(shop.engine, "checkin")
    def claim(connection: Any, record: Any) -> None:
        if attempts and not any(claims) and is_claiming.acquire(blocking=False):
            claims.append(shop.outbox.forward(worker))  # this uses connections, too
            is_claiming.release()

    send_and_run(shop, worker)
    assert sum(claims) == 1
    assert len(attempts) == 2
    assert shop.messages() == []


@pytest.mark.parametrize("does_exit", [True, False])
def test_message_that_is_claimed_while_its_run_raises_is_run_again(
    shop: DurableShop, does_exit: bool
) -> None:
    """The receiver exits, or the end of the app context fails, after the retry was stored."""
    attempts = raise_once(shop, SystemExit() if does_exit else LookupError())
    worker = Worker(shop.outbox, 1)

    @shop.app.teardown_appcontext
    def claim(error: BaseException | None) -> None:
        if len(attempts) == 1:
            assert shop.outbox.forward(worker) == 1
            if not does_exit:
                raise LookupError

    send_and_run(shop, worker)
    assert len(attempts) == 2
    assert shop.messages() == []


def test_dead_message_that_is_retried_while_its_death_is_reported_is_run_again(
    shop: DurableShop,
) -> None:
    """An exception hook takes a while, such as a request to another system."""
    attempts = raise_once(shop, LookupError(), max_attempts=1)
    worker = Worker(shop.outbox, 1)

    @shop.kit.on_exception
    def retry(app: Flask, exception: Exception, **details: Any) -> None:
        assert sum(shop.outbox.retry([])) == 1
        assert shop.outbox.forward(worker) == 1

    send_and_run(shop, worker)
    assert len(attempts) == 2
    assert shop.messages() == []


@pytest.mark.parametrize("does_fail", [True, False])
def test_message_that_is_claimed_while_a_run_that_was_too_slow_ends_is_run_again(
    shop: DurableShop, does_fail: bool
) -> None:
    """Another process has begun it meanwhile, and made it due at once."""
    attempts: list[int] = []

    def receive(sender: Any, **extra: Any) -> None:
        attempts.append(1)
        if len(attempts) == 2:
            raise RetryAfter(0)
        if len(attempts) == 1:
            wait_until(claim)
            assert shop.outbox.run(found[0].id, found[0].attempt)
            assert shop.outbox.forward(worker) == 1
            if does_fail:
                raise LookupError

    found: list[Any] = []

    def claim() -> bool:
        found.extend(shop.outbox.claim())
        return bool(found)

    shop.on(receive, timeout=0.05)
    worker = Worker(shop.outbox, 1)
    send_and_run(shop, worker)
    assert len(attempts) == 3
    assert shop.messages() == []


def test_result_that_cannot_be_shown_is_logged(
    shop: DurableShop, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker goes on."""
    ran: list[Any] = []
    shop.on(lambda sender, **extra: ran.append(sender))

    def show(result: Any, seconds: float) -> None:
        raise BrokenPipeError

    with shop.open():
        shop.funded.send("acme")
        shop.funded.send("initech")
    Worker(shop.outbox, 1, ended=show).work(once=True)
    assert len(ran) == 2
    logged = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert logged == [f"The result of message {n} could not be shown" for n in (1, 2)]


def test_run_that_takes_too_long_is_not_begun_before_its_next_attempt(shop: DurableShop) -> None:
    """This worker claims the message when its lease ends, before the run asks for a later one."""
    began: list[int] = []

    def ask(sender: Any, **extra: Any) -> None:
        began.append(1)
        wait_until(lambda: shop.outbox.forward(worker) == 1)
        raise RetryAfter(3600)

    shop.on(ask, timeout=0.05)
    worker = Worker(shop.outbox, 2)
    send_and_run(shop, worker)
    assert began == [1]
    assert shop.outbox.seconds_to_next() == pytest.approx(3600, abs=100)


def test_claim_counts_although_an_older_one_was_outrun(shop: DurableShop) -> None:
    """Another process has run what this one had claimed; then this one claims the next attempt."""
    ran = raise_once(shop, LookupError())
    hold = threading.Event()
    shop.on(lambda sender, **extra: hold.wait(30), signal="account_opened")
    with shop.open():
        shop.opened.send("acme")
        shop.funded.send("acme")
    worker = Worker(shop.outbox, 1)  # its one thread is held by the first message
    assert shop.outbox.forward(worker) == 2
    shop.outbox.run(shop.messages()[1].id, 0)
    assert shop.outbox.forward(worker) == 1
    hold.set()
    worker._pool.shutdown()
    assert len(ran) == 2
    assert shop.messages() == []


def test_interrupted_display_of_a_result_does_not_hold_the_message(shop: DurableShop) -> None:
    """Else this worker would never run it again."""
    ran = raise_once(shop, RetryAfter(0))

    def show(result: Any, seconds: float) -> None:
        raise SystemExit

    shop.send()
    Worker(shop.outbox, 1, ended=show).work(once=True)
    assert len(ran) == 2


def test_hung_receiver_takes_one_thread(shop: DurableShop) -> None:
    """Its message is due again, but this process does not begin it once more."""
    began: list[int] = []
    go, others, hangs = threading.Event(), threading.Event(), threading.Event()

    def hang(sender: Any, **extra: Any) -> None:
        began.append(1)
        hangs.set()
        go.wait(30)

    shop.on(hang, timeout=0.05)
    shop.on(lambda sender, **extra: others.set(), signal="account_opened")
    worker = Worker(shop.outbox, 2)
    thread = threading.Thread(target=worker.work)
    thread.start()
    try:
        shop.send()
        assert hangs.wait(30)
        wait_until(lambda: (shop.outbox.seconds_to_next() or 0) > 1)  # it was claimed once more
        for _ in range(5):
            others.clear()
            with shop.open():
                shop.opened.send("acme")
            worker.wake()
            assert others.wait(30)
        assert began == [1]
    finally:
        go.set()
        worker.stop()
        thread.join()
