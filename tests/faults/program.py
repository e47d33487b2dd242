"""What a process of the shop does: ``python -m tests.faults.program send 1 10``."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy.exc import OperationalError

from flask_signals_kit.app.embedded import Worker
from flask_signals_kit.core.delivery import Call
from flask_signals_kit.deliveries.durable.table import Statements
from tests.faults.shop import create_app, db, kit, place_order, reach


def say(text: object) -> None:
    """Print a line for the test."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def add_points(owner: Any, name: str) -> None:
    """Reach a point before and after each call of a method."""
    original = getattr(owner, name)

    def method(self: Any, *args: Any, **options: Any) -> Any:
        reach(f"before_{name}")
        result = original(self, *args, **options)
        reach(f"after_{name}")
        return result

    setattr(owner, name, method)


def add_all_points() -> None:
    """Reach a point before and after each step of a worker."""
    for owner, name in (
        (Statements, "claim"),
        (Statements, "begin"),
        (Statements, "finish"),
        (Worker, "submit"),
        (Call, "run"),
    ):
        add_points(owner, name)


def lose_answer(dialect: Any) -> None:
    """Let commits reach the point ``answer``: the connection may break before it arrives."""

    def commit(connection: Any) -> None:
        connection.commit()
        try:
            reach("answer")
        except LookupError as error:
            connection.driver_connection.close()
            raise dialect.loaded_dbapi.OperationalError("the answer is lost") from error

    dialect.do_commit = commit


def send(app: Any, first: str, count: str) -> None:
    """Place orders, each in a transaction of its own; print the numbers of those that committed."""
    for number in range(int(first), int(first) + int(count)):
        with app.app_context():
            try:
                place_order(number)
            except OperationalError as error:
                db.session.rollback()
                say(f"failed {error.orig}")
            else:
                say(number)


def work(app: Any, concurrency: str = "2", mode: str = "") -> None:
    """Run messages until SIGTERM; with ``once``, until none is due."""
    outbox = kit.for_app(app).outbox
    assert outbox is not None
    worker = Worker(outbox, int(concurrency))
    if mode == "tripled":
        run = worker._run_once

        def run_thrice(message: int, attempt: int) -> float:
            with ThreadPoolExecutor(3) as pool:
                return max(pool.map(run, [message] * 3, [attempt] * 3))

        worker._run_once = run_thrice  # type: ignore[method-assign]
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    say("ready")
    worker.work(once=mode != "")
    say("stopped")


def roll_back(app: Any) -> None:
    """Place orders whose transactions end in every way but a commit, and two that are kept."""
    for number, end in enumerate(ENDS, 100):
        with app.app_context():
            try:
                end(number)
            except Exception as error:  # noqa: BLE001  each of them may fail
                say(f"{number} {type(error).__name__}")
                db.session.rollback()


def _place(number: int) -> None:
    """Place an order without a commit."""
    from tests.faults.shop import Order, order_placed

    db.session.add(Order(number=number))
    db.session.flush()
    order_placed.send("shop", number=number)


def _roll_back(number: int) -> None:
    _place(number)
    db.session.rollback()


def _close(number: int) -> None:
    _place(number)
    db.session.close()


def _leave(number: int) -> None:
    """Let the end of the app context end the transaction."""
    _place(number)


def _fail(number: int) -> None:
    _place(number)
    raise LookupError


def _fail_in_flush(number: int) -> None:
    from tests.faults.shop import Order

    _place(number)
    db.session.add(Order(number=number))
    db.session.commit()


def _roll_back_savepoint(number: int) -> None:
    db.session.begin()
    with db.session.begin_nested() as savepoint:
        _place(number)
        savepoint.rollback()
    db.session.commit()


def _release_savepoint_and_roll_back(number: int) -> None:
    db.session.begin()
    with db.session.begin_nested():
        _place(number)
    db.session.rollback()


def _invalidate(number: int) -> None:
    _place(number)
    db.session.connection().invalidate()
    db.session.rollback()


def _fail_in_statement(number: int) -> None:
    """Catch the error: PostgreSQL turns the commit into a rollback."""
    from sqlalchemy import text

    _place(number)
    try:
        db.session.execute(text("SELECT * FROM missing"))
    except Exception:
        if db.engine.dialect.name == "sqlite":
            raise
    db.session.commit()


def _release_savepoint_and_commit(number: int) -> None:
    db.session.begin()
    with db.session.begin_nested():
        _place(number)
    db.session.commit()


ENDS: list[Callable[[int], None]] = [
    _release_savepoint_and_commit,
    place_order,
    _roll_back,
    _close,
    _leave,
    _fail,
    _fail_in_flush,
    _roll_back_savepoint,
    _release_savepoint_and_roll_back,
    _invalidate,
    _fail_in_statement,
]
"""How the transactions end; the first two commit."""


def main(role: str, *args: str) -> None:
    """Run a role in an app with the points of the worker."""
    shift = float(os.environ.get("SHOP_CLOCK", "0"))
    real = time.time
    time.time = lambda: real() + shift
    add_all_points()
    app = create_app(SIGNALS_KIT_ENGINE="none")
    with app.app_context():
        lose_answer(db.engine.dialect)
    roles: dict[str, Callable[..., None]] = {"send": send, "work": work, "rollback": roll_back}
    roles[role](app, *args)


if __name__ == "__main__":
    main(*sys.argv[1:])
