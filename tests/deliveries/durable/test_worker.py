"""The worker: what it does while the database cannot be used, and how it is stopped."""

import logging
import threading
from typing import Any

import pytest
from sqlalchemy import text

from flask_signals_kit.app.embedded import Worker
from tests.deliveries.durable.support import DurableShop


def test_damaged_headers_are_the_reason_of_a_dead_message(shop: DurableShop) -> None:
    """It is reported once, and not tried for ever; the receiver is not called."""
    reported: list[Any] = []
    shop.kit.on_exception(lambda app, exception, **details: reported.append(details["source"]))
    ran: list[Any] = []
    shop.on(lambda sender, **extra: ran.append(sender))
    with shop.open():
        shop.funded.send("acme")
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
