"""What other task queues cost beside durable receivers: a send, and a job that stores a row."""

from __future__ import annotations

import asyncio
import random
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from sqlalchemy import URL

from flask_signals_kit.app.embedded import Worker

from .durable import Sale, Shop
from .measure import Case, ratio, time_rounds

JOBS = 200
"""How many jobs one timing of a delivery runs."""

ROUNDS = 3
"""How often a delivery is timed."""

PATIENCE = 60.0
"""How long all jobs of one timing may take, in seconds."""


class Ledger(Shop):
    """A shop whose receiver stores a row, which is the job of the other queues, too."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.all_started = Event()

    def receive(self, sender: Any, **extra: Any) -> None:
        """Store a row; the worker commits it."""
        super().receive(sender)
        self.db.session.add(Sale(name="booked"))
        if len(self.started) == JOBS:
            self.all_started.set()

    def run_job(self, amount: int, method: str) -> None:
        """Do in a job of another queue what the receiver does."""
        with self.app.app_context():
            self.receive("acme", amount=amount, method=method)
            self.db.session.commit()

    def seconds_to_run(self, fill: Case, work: Case) -> float:
        """Return the time from the start of the first job to the start of the last.

        Starting and stopping the worker are left out.
        """
        fill()
        self.started.clear()
        self.all_started.clear()
        work()
        assert len(self.started) == JOBS, f"{len(self.started)} of {JOBS} jobs were run"
        return self.started[-1] - self.started[0]

    def work(self) -> None:
        """Run all messages of the outbox."""
        Worker(self.outbox, 1).work(once=True)

    def wait_for_jobs(self) -> None:
        """Wait until the last job has started."""
        assert self.all_started.wait(PATIENCE), f"{len(self.started)} of {JOBS} jobs were started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A task queue whose job is :meth:`Ledger.run_job`."""

    worker: str
    """What runs its jobs."""
    sends: Mapping[str, Case]
    """Functions that commit a row and enqueue a job, by what enqueues it."""
    fill: Case
    """Enqueue as many jobs as one timing runs."""
    work: Case
    """Run these jobs, with one thread."""


@contextmanager
def _huey(shop: Ledger) -> Iterator[Peer]:
    """Give Huey, with a file of its own and its default settings."""
    from huey import SqliteHuey

    def send() -> None:
        shop.sell(send=False)
        job(5, "card")

    def work() -> None:
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        handlers = {each: signal.getsignal(each) for each in signals}
        consumer = huey.create_consumer(workers=1, periodic=False)
        consumer.start()  # it sets signal handlers
        try:
            shop.wait_for_jobs()
        finally:
            consumer.stop(graceful=True)
            for each, handler in handlers.items():
                signal.signal(each, handler)

    with tempfile.TemporaryDirectory() as folder:
        huey = SqliteHuey(filename=str(Path(folder, "huey.sqlite")))
        job: Any = huey.task()(shop.run_job)
        yield Peer(
            worker="Huey's consumer",
            sends={"Huey's enqueue after the commit": send},
            fill=lambda: [job(5, "card") for _ in range(JOBS)],
            work=work,
        )
        huey.storage.close()


@contextmanager
def _procrastinate(shop: Ledger) -> Iterator[Peer]:
    """Give Procrastinate, with its tables in the shop's PostgreSQL."""
    from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

    url = shop.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    app = App(connector=SyncPsycopgConnector(conninfo=url))
    job = app.task(name="job")(shop.run_job)
    arguments: Any = {"amount": 5, "method": "card"}

    def send_afterwards() -> None:
        shop.sell(send=False)
        job.defer(**arguments)

    def send_in_transaction() -> None:
        shop.db.session.add(Sale(name="ad"))
        connection = shop.db.session.connection().connection.driver_connection
        job.configure(connection=connection).defer(**arguments)
        shop.db.session.commit()

    async def work() -> None:
        with app.replace_connector(PsycopgConnector(conninfo=url)):
            async with app.open_async():
                await app.run_worker_async(
                    wait=False, concurrency=1, listen_notify=False, install_signal_handlers=False
                )

    with app.open():
        app.schema_manager.apply_schema()
        yield Peer(
            worker="Procrastinate's worker",
            sends={
                "Procrastinate's `defer` after the commit": send_afterwards,
                "Procrastinate's `defer` in the transaction": send_in_transaction,
            },
            fill=lambda: job.batch_defer(*[arguments] * JOBS),
            work=lambda: asyncio.run(work()),
        )


@contextmanager
def _dbos(shop: Ledger) -> Iterator[Peer]:
    """Give DBOS, with its tables in the shop's database: a workflow of one step."""
    from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions

    url = shop.engine.url.render_as_string(hide_password=False)
    # A queue with a concurrency of 1 would begin one workflow for each look at the database.
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": url,
        "max_executor_threads": 1,
        "log_level": "ERROR",
    }
    options: EnqueueOptions = {"workflow_name": "job", "queue_name": "jobs"}

    @DBOS.step()
    def step(amount: int, method: str) -> None:
        shop.run_job(amount, method)

    @DBOS.workflow(name="job")
    def job(amount: int, method: str) -> None:
        step(amount, method)

    @contextmanager
    def launched() -> Iterator[None]:
        DBOS(config=config)
        DBOS.launch()
        DBOS.register_queue("jobs", polling_interval_sec=0.05)
        yield
        DBOS.destroy(workflow_completion_timeout_sec=5)

    def work() -> None:
        with launched():
            shop.wait_for_jobs()

    def enqueue(connection: Any) -> None:
        client.enqueue_in_transaction(connection, options, 5, "card")

    def fill() -> None:
        with shop.engine.begin() as connection:
            for _ in range(JOBS):
                enqueue(connection)

    def send() -> None:
        shop.db.session.add(Sale(name="ad"))
        enqueue(shop.db.session())
        shop.db.session.commit()

    with launched():
        pass  # makes its tables
    client = DBOSClient(system_database_url=url)
    yield Peer(
        worker="DBOS",
        sends={"DBOS's `enqueue_in_transaction`": send},
        fill=fill,
        work=work,
    )
    client.destroy()
    DBOS.destroy(destroy_registry=True)


PEERS: dict[str, dict[str, Callable[[Ledger], AbstractContextManager[Peer]]]] = {
    "SQLite": {"huey": _huey, "dbos": _dbos},
    "PostgreSQL": {"procrastinate": _procrastinate, "dbos": _dbos},
}
"""The peers on each database, by the package that each needs."""


def against_peers(url: URL, packages: list[str]) -> Iterator[tuple[str, float]]:
    """Yield what is measured and the kit's time against that of a peer.

    :param url: the database of the business rows.
    :param packages: the packages of the peers to compare with.
    """
    shop = Ledger(url.render_as_string(hide_password=False))
    database = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}[url.get_backend_name()]
    with ExitStack() as stack:
        stack.callback(shop.engine.dispose)
        peers = [stack.enter_context(PEERS[database][package](shop)) for package in packages]
        # The sends come last, because they leave jobs behind.
        for worker, figure in _deliveries(shop, peers).items():
            yield f"{JOBS} messages whose receiver stores a row on {database}, {worker}", figure
        for send, figure in _sends(shop, peers).items():
            yield f"a commit of a row and a durable message on {database}, {send}", figure


def _deliveries(shop: Ledger, peers: list[Peer]) -> dict[str, float]:
    """Compare the times of one worker with one thread, by what the kit is compared with."""
    times: dict[str, list[float]] = {"kit": [], **{peer.worker: [] for peer in peers}}
    runs: list[tuple[str, Case, Case]] = [("kit", lambda: shop.fill(JOBS), shop.work)]
    runs += [(peer.worker, peer.fill, peer.work) for peer in peers]
    shuffle = random.Random(0).shuffle
    for _ in range(ROUNDS):
        shuffle(runs)
        for name, fill, work in runs:
            times[name].append(shop.seconds_to_run(fill, work))
    return {f"against {peer.worker}": ratio(times, "kit", peer.worker) for peer in peers}


def _sends(shop: Ledger, peers: list[Peer]) -> dict[str, float]:
    """Compare the times of a send, by what the kit is compared with."""
    others = {what: send for peer in peers for what, send in peer.sends.items()}
    with shop.app.app_context():
        times = time_rounds({"kit": lambda: shop.sell(send=True), **others})
    return {f"against the row and {what}": ratio(times, "kit", what) for what in others}
