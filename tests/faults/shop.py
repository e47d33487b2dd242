"""A shop that is run in processes of its own, and can fail at a named point.

It is configured by environment variables: ``SHOP_URL`` (the database), ``SHOP_FOLDER`` (for what is
written outside of the database), ``SHOP_FAULT`` (see :func:`reach`), ``SHOP_TIMEOUT`` (the lease of
a run in seconds), ``SHOP_BACKOFF`` (the time until the next attempt in seconds), ``SHOP_NOTE`` (the
size of an effect), ``SHOP_PAGES`` (by how many pages an SQLite file may grow) and ``SHOP_WITHOUT``
(see :mod:`tests.faults.broken`).
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_signals_kit import Durable, SignalsKit, current_emission
from tests.faults.broken import break_durable

# A background job of a shell ignores it, and so would the servers that run this module.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Base(DeclarativeBase):
    """The shop's tables."""


db = SQLAlchemy(model_class=Base)
kit = SignalsKit()


class Order(Base):
    """A business row, with a number that the sender chooses."""

    __tablename__ = "shop_order"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Effect(Base):
    """What the receiver writes in the same database; one for each run that has committed."""

    __tablename__ = "effect"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    attempt: Mapped[int]
    process: Mapped[int]
    note: Mapped[str]


class Total(Base):
    """The number of effects, which each receiver reads and writes."""

    __tablename__ = "total"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


_reached: Counter[str] = Counter()
_lock = threading.Lock()


def reach(point: str) -> None:
    """Do what ``SHOP_FAULT`` demands at this point, such as ``after_claim:3:kill``.

    :param point: the name of the point. The number says which time it is reached in this process;
        ``*`` is each, and ``first`` the first time in all processes.
    """
    wanted, number, action = os.environ.get("SHOP_FAULT", "::").split(":")
    if point != wanted:
        return
    with _lock:
        _reached[point] += 1
    if number == "first" and not is_first(folder() / "first"):
        return
    if number not in {"*", "first", str(_reached[point])}:
        return
    (folder() / f"reached-{os.getpid()}").write_text(point)
    if action == "wait":
        wait_for(folder() / "go")
    elif action == "fail":
        raise LookupError(point)
    else:
        # Sent to this thread: a signal to the process may let this thread go on for a while.
        number_of = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
        signal.pthread_kill(threading.get_ident(), number_of[action])


def folder() -> Path:
    """Return the folder for what is written outside of the database."""
    return Path(os.environ["SHOP_FOLDER"])


def is_first(path: Path) -> bool:
    """Create a file; return false if it exists."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def wait_for(path: Path) -> None:
    """Wait until a file exists."""
    for _ in range(6000):
        if path.exists():
            return
        time.sleep(0.01)
    raise TimeoutError(str(path))


def backoff(attempt: int) -> float:
    """Try again at once, or after ``SHOP_BACKOFF`` seconds."""
    return float(os.environ.get("SHOP_BACKOFF", "0"))


LEASE = float(os.environ.get("SHOP_TIMEOUT", "300"))

MAX_ATTEMPTS = 5

DURABLE = Durable(max_attempts=MAX_ATTEMPTS, timeout=LEASE, backoff=backoff)


@kit.declare
def order_placed(sender: str, *, number: int) -> None:
    """Report that an order was stored."""


@kit.on(order_placed, delivery=DURABLE, uid="inside")
def write_effect(sender: str, *, number: int) -> None:
    """Write in the database."""
    reach("in_receiver")
    total = db.session.get(Total, 1, with_for_update=True)
    assert total is not None
    reach("after_read")
    total.amount += 1
    attempt = current_emission.attempt
    assert attempt is not None
    note = " " * int(os.environ.get("SHOP_NOTE", "0"))
    db.session.add(Effect(number=number, attempt=attempt, process=os.getpid(), note=note))
    db.session.flush()
    reach("after_effect")


@kit.on(order_placed, delivery=DURABLE, uid="outside")
def write_outside(sender: str, *, number: int) -> None:
    """Write in a file, as a system without transactions would."""
    reach("in_outside_receiver")
    line = json.dumps({"number": number, "key": current_emission.idempotency_key}) + "\n"
    file = os.open(folder() / "outside.log", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(file, line.encode())
    os.close(file)
    reach("after_outside_effect")


def place_order(number: int) -> None:
    """Store an order and send the signal, with a point before and after each step."""
    db.session.add(Order(number=number))
    reach("before_flush")
    db.session.flush()
    reach("after_flush")
    order_placed.send("shop", number=number)
    reach("after_send")
    db.session.commit()
    reach("after_commit")


def create_app(extension: Callable[[Flask], object] | None = None, **config: Any) -> Flask:
    """Create the shop; the tables must exist.

    :param extension: is called before the kit is initialised.
    """
    app = Flask("shop")
    app.config.update(SQLALCHEMY_DATABASE_URI=os.environ["SHOP_URL"], **config)
    without = os.environ.get("SHOP_WITHOUT")
    break_durable(without)
    db.init_app(app)
    if extension is not None:
        extension(app)
    kit.init_app(app)
    with app.app_context():
        if without != "immediate":
            kit.begin_immediate(db.engine)
        limit_pages(db.engine)

    @app.get("/")
    def threads() -> dict[str, Any]:
        """Return what runs in this process."""
        return {"process": os.getpid(), "threads": [each.name for each in threading.enumerate()]}

    @app.post("/order")
    def order() -> str:
        place_order(int(request.form["number"]))
        return str(os.getpid())

    @app.cli.command("order")
    def command() -> None:
        """Place an order, and print which threads run."""
        place_order(1)
        print([each.name for each in threading.enumerate()])  # noqa: T201

    return app


def limit_pages(engine: Any) -> None:
    """Let an SQLite file grow by a few pages only, if ``SHOP_PAGES`` says so."""
    pages = os.environ.get("SHOP_PAGES")
    if pages is not None:

        @event.listens_for(engine, "connect")
        def limit(connection: Any, record: Any) -> None:
            [size] = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {size + int(pages)}")
