"""What a receiver sends while its message is run: it is neither lost nor doubled."""

import threading
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from flask import Flask

from tests.deliveries.durable.support import DurableShop
from tests.deliveries.support import Account


@pytest.fixture
def ran(shop: DurableShop) -> list[Any]:
    """Connect a durable receiver to ``account_opened``; give the senders that it gets."""
    got: list[Any] = []
    shop.on(lambda sender, **extra: got.append(sender), signal="account_opened")
    return got


def send_in_a_context(shop: DurableShop) -> None:
    """Send in an app context of its own."""
    with shop.app.app_context():
        shop.opened.send("nested")


def send_in_a_thread(shop: DurableShop) -> None:
    """Send in a thread that has the context of the receiver."""
    thread = threading.Thread(target=copy_context().run, args=(shop.opened.send, "nested"))
    thread.start()
    thread.join()


def send_after_removing_the_session(shop: DurableShop) -> None:
    """Send in the next session, after the one of the run was used and removed."""
    shop.session.query(Account).count()
    shop._session.remove()  # type: ignore[attr-defined]
    shop.opened.send("nested")


def send_after_removing_the_session_in_a_context(shop: DurableShop) -> None:
    """Do the same, but send in an app context of its own."""
    shop.session.query(Account).count()
    shop._session.remove()  # type: ignore[attr-defined]
    send_in_a_context(shop)


def send_in_another_app(shop: DurableShop) -> None:
    """Send in a context of an app without a kit, around one of this app."""
    with Flask("other").app_context():
        send_in_a_context(shop)


@pytest.mark.parametrize(
    "send",
    [
        send_in_a_context,
        send_in_a_thread,
        send_in_another_app,
        send_after_removing_the_session,
        send_after_removing_the_session_in_a_context,
    ],
)
def test_send_elsewhere_in_a_run_is_not_lost(shop: DurableShop, ran: list[Any], send: Any) -> None:
    """It is stored with the run, or at once."""
    shop.on(lambda sender, **extra: send(shop))
    shop.send()
    shop.work()
    assert ran == ["nested"]


def test_thread_of_a_receiver_does_not_use_its_session(shop: DurableShop, ran: list[Any]) -> None:
    """What the thread sends is stored at once: the receiver may use the session meanwhile."""
    stored: list[int] = []

    def receive(sender: Any, **extra: Any) -> None:
        send_in_a_thread(shop)
        stored.append(len(shop.messages()))

    shop.on(receive)
    shop.send()
    shop.work()
    assert (stored, ran) == ([2], ["nested"])


def test_send_in_another_app_is_stored_in_its_database(shop: DurableShop, tmp_path: Path) -> None:
    """The run of this app's message does not commit it."""
    other, got = DurableShop(f"sqlite:///{tmp_path / 'other.sqlite'}"), list[Any]()
    other.on(lambda sender, **extra: got.append(sender))

    def send(sender: Any, **extra: Any) -> None:
        with other.open():
            other.funded.send("there")

    shop.on(send)
    shop.send()
    shop.run_once()
    there = other.messages()
    other.work()
    other.close()
    assert (len(there), got) == (1, ["there"])


def test_async_receiver_that_fails_sends_nothing(shop: DurableShop, ran: list[Any]) -> None:
    """Its event loop runs in another thread, while that of the run waits."""

    async def send_and_fail(sender: Any, **extra: Any) -> None:
        shop.opened.send("doubled")
        raise LookupError

    shop.on(send_and_fail, max_attempts=3)
    shop.send()
    shop.work()
    assert shop.messages()[0].attempt == 3
    assert ran == []


def test_async_receiver_that_sends_in_sync_code_is_joined(
    shop: DurableShop, ran: list[Any]
) -> None:
    """Such code runs in the thread of the run, not in that of the event loop."""
    attempts: list[int] = []

    async def send_and_fail(sender: Any, **extra: Any) -> None:
        attempts.append(1)
        await sync_to_async(shop.opened.send)("once")
        if len(attempts) < 3:
            raise LookupError

    shop.on(send_and_fail)
    shop.send()
    shop.work()
    assert (len(attempts), ran) == (3, ["once"])


def test_async_receiver_with_a_session_for_each_thread(database: str) -> None:
    """Its thread has another session, which the run does not commit: the message is stored."""
    shop, got = DurableShop(database, "use_session"), list[Any]()

    async def send(sender: Any, **extra: Any) -> None:
        shop.opened.send("kept")

    shop.on(send)
    shop.on(lambda sender, **extra: got.append(sender), signal="account_opened")
    shop.send()
    shop.work()
    shop.close()
    assert got == ["kept"]


def test_app_context_that_removes_the_session_of_the_run(database: str) -> None:
    """In SQLAlchemy's recipe for Flask, each app context removes the session of its thread."""
    shop, got = DurableShop(database, "use_session"), list[Any]()

    def send(sender: Any, **extra: Any) -> None:
        with shop.app.app_context():
            pass
        shop.opened.send("kept")
        shop.session.add(Account(name="written"))

    shop.on(send)
    shop.on(lambda sender, **extra: got.append(sender), signal="account_opened")
    shop.send()
    shop.work()
    rows = shop.rows()
    shop.close()
    assert (got, rows) == (["kept"], ["written"])


def test_send_of_an_exception_hook_is_not_lost(shop: DurableShop, ran: list[Any]) -> None:
    """The transaction of the run has been rolled back by then."""

    @shop.kit.on_exception
    def alert(app: Flask, exception: Exception, **details: Any) -> None:
        shop.opened.send("alert")

    def fail(sender: Any, **extra: Any) -> None:
        raise LookupError

    shop.on(fail, max_attempts=1)
    shop.send()
    shop.work()
    assert ran == ["alert"]


def test_send_of_an_after_commit_receiver_of_a_run_is_not_lost(
    shop: DurableShop, ran: list[Any]
) -> None:
    """Even if that receiver fails afterwards."""

    @shop.kit.on("account_closed", delivery="after_commit")
    def later(sender: Any, **extra: Any) -> None:
        shop.opened.send("later")
        raise LookupError

    def write(sender: Any, **extra: Any) -> None:
        shop.session.add(Account(name="written"))
        shop.session.flush()
        shop.kit.send("account_closed", "acme")

    shop.on(write)
    shop.send()
    shop.work()
    assert ran == ["later"]


def test_send_after_a_run_in_its_context_is_not_lost(shop: DurableShop, ran: list[Any]) -> None:
    """By a task that the receiver has started, and that outlives it."""
    contexts: list[Any] = []
    shop.on(lambda sender, **extra: contexts.append(copy_context()))
    shop.send()
    shop.work()

    def send() -> None:
        with shop.app.app_context():
            shop.opened.send("late")

    contexts[0].run(send)
    shop.work()
    assert ran == ["late"]
