"""Faults of Celery's workers and of their broker, while beat goes on."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from subprocess import Popen
from typing import Any

import pytest

from tests.faults.support import LIMIT, Processes, read_until, some_long
from tests.rabbitmq_server import RabbitServer
from tests.redis_server import RedisServer
from tests.support import wait_until

pytestmark = pytest.mark.needs("celery")

LEASE = 4.0
"""The time until the message of a killed process is due again, in seconds."""


def celery(shop: Processes, broker: str, *options: str, **settings: Any) -> "Popen[str]":
    """Start a worker or beat.

    :param broker: its URL.
    :param options: those of the command ``celery``; the first is ``worker`` or ``beat``.
    """
    number = len([*shop.folder.glob("celery-*")])
    command = [sys.executable, "-m", "celery", "-A", "tests.faults.celery_program", *options]
    command += ["--logfile", f"{shop.folder}/celery-{number}", "--loglevel", "INFO"]
    command += ["--schedule", f"{shop.folder}/schedule-{number}"]
    if options[0] == "worker":
        command += ["--hostname", f"worker{number}", "--without-mingle", "--without-gossip"]
    else:
        command += ["--pidfile", ""]
    return shop.start_command(command, celery=broker, **settings)


def kill_group(process: "Popen[str]") -> None:
    """Kill a worker and its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for_the_end(shop: Processes, meanwhile: Callable[[], object] = bool) -> None:
    """Wait until no message is left but dead ones."""

    def has_ended() -> bool:
        meanwhile()
        return not shop.read("SELECT id FROM signals_outbox WHERE due IS NOT NULL")

    wait_until(has_ended)


CHILD_POINTS = (
    "after_claim",  # not committed yet
    "after_begin",  # not committed yet
    "in_receiver",
    "after_effect",
    "after_outside_effect",
    "after_finish",  # not committed yet
    "after_run",
)


@pytest.mark.parametrize("point", some_long(CHILD_POINTS, "after_effect"))
def test_child_of_a_worker_is_killed(shop: Processes, redis: RedisServer, point: str) -> None:
    """The worker replaces it, and the message is run again when its lease is over."""
    shop.send(1, 3)
    options = ("worker", "--beat", "--concurrency", "1")
    worker = celery(shop, redis.url, *options, timeout=LEASE, fault=f"{point}:first:kill")
    wait_for_the_end(shop)
    assert (shop.folder / "first").exists()
    assert worker.poll() is None
    counts = shop.check(orders=3, effects=3)
    assert counts.repeated <= (point in {"after_outside_effect", "after_finish"})


@pytest.mark.long
def test_celery_run_that_outlives_its_lease_stores_nothing(
    shop: Processes, redis: RedisServer
) -> None:
    """A pool without a time limit was stopped, and another worker has begun the message."""
    options = ("worker", "--beat", "--pool", "solo")
    shop.send()
    first = celery(shop, redis.url, *options, fault="in_receiver:1:stop", timeout=0.5)
    shop.wait_until_reached(first)
    second = celery(shop, redis.url, *options, fault="in_receiver:1:wait")
    shop.wait_until_reached(second)
    first.send_signal(signal.SIGCONT)
    first.terminate()
    assert first.wait(LIMIT) == 0
    assert "took too long" in (shop.folder / "celery-0").read_text()
    assert shop.read("SELECT id FROM effect") == []
    (shop.folder / "go").touch()
    wait_for_the_end(shop)
    shop.check(orders=1, effects=1)
    assert shop.read("SELECT attempt FROM effect") == [(2,)]


@pytest.mark.long
def test_redis_is_killed_and_started_under_load(shop: Processes, redis: RedisServer) -> None:
    """Senders do not need it; the worker and beat connect again by themselves.

    Celery 5.7 rarely ends with an error when a connection breaks: a supervisor starts it again.
    """
    workers: list[Popen[str]] = []

    def supervise() -> None:
        if not workers or workers[-1].poll() is not None:
            workers.append(celery(shop, redis.url, "worker", "--beat", "--concurrency", "2"))

    supervise()
    shop.send(1, 100)
    shop.wait_for_effects(10)
    redis.stop()
    shop.send(101, 100)
    assert len(shop.messages()) >= 200
    redis.start()
    wait_for_the_end(shop, supervise)
    shop.check(orders=200, effects=200, repeated=0)


@pytest.fixture
def rabbit() -> Iterator[RabbitServer]:
    """Give a RabbitMQ that runs."""
    server = RabbitServer()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.mark.long
def test_rabbitmq_is_killed_and_started(sqlite_shop: Processes, rabbit: RabbitServer) -> None:
    """It delivers messages before, and those that were sent meanwhile."""
    shop = sqlite_shop
    celery(shop, rabbit.url, "worker", "--beat", "--concurrency", "1")
    shop.send(1, 10)
    wait_for_the_end(shop)
    shop.check(orders=10, effects=10, repeated=0)
    rabbit.stop()
    shop.send(11, 10)
    rabbit.start()
    wait_for_the_end(shop)
    shop.check(orders=20, effects=20, repeated=0)


@pytest.mark.long
def test_both_engines_run_each_message_once(shop: Processes, redis: RedisServer) -> None:
    """While Celery's worker replaces that of a process."""
    ready = shop.folder / "celery-0"
    own = "SELECT id FROM effect WHERE process = :process"
    with shop.working(2) as embedded:
        shop.send(1, 20)
        wait_until(lambda: shop.read(own, process=embedded.pid))
        worker = celery(shop, redis.url, "worker", "--beat", "--concurrency", "2")
        wait_until(lambda: ready.exists() and " ready." in ready.read_text())
        sender = shop.start("send", 21, 180)
        other = "SELECT id FROM effect WHERE process <> :process"
        wait_until(lambda: shop.read(other, process=embedded.pid))
    sender.communicate()
    shop.send(201, 20)
    # What the stopped worker had claimed is due again after a minute.
    shop.write("UPDATE signals_outbox SET due = 0 WHERE attempt = 0")
    wait_for_the_end(shop)
    assert worker.poll() is None
    shop.check(orders=220, effects=220, repeated=0)
    assert all(attempt == 1 for [attempt] in shop.read("SELECT attempt FROM effect"))


@pytest.mark.long
@pytest.mark.timeout(280)
def test_forty_kills_on_celery_and_a_flushed_redis_under_load(
    shop: Processes, redis: RedisServer
) -> None:
    """Twenty of senders and twenty of workers, at any time; nothing is made due by the test."""
    options = ("worker", "--concurrency", "2")
    beat = celery(shop, redis.url, "beat")
    for number in range(20):
        first = 1 + 1000 * number
        sender = shop.start("send", first, 1000)
        worker = celery(shop, redis.url, *options, timeout=LEASE)
        before = len(shop.read("SELECT id FROM effect"))
        read_until(sender, str(first + 20 + 7 * (number % 5)))
        sender.kill()
        shop.wait_for_effects(before + 1)
        if number % 5 == 4:
            with redis.client() as client:
                client.flushall()
        shop.wait_for_effects(before + 2 + 3 * (number % 4))
        kill_group(worker)
    celery(shop, redis.url, *options, timeout=LEASE)
    wait_for_the_end(shop)
    assert beat.poll() is None
    counts = shop.check()
    assert counts.orders == counts.effects >= 400
    assert counts.repeated <= 40
