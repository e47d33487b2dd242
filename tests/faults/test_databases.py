"""Databases that are full, locked, or gone for a while."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.support import Processes, begin_immediate, read_until
from tests.postgresql_server import PostgreSQLServer
from tests.support import wait_until


def test_full_disk_stores_all_or_nothing(sqlite_shop: Processes) -> None:
    """A sender's commit fails with the messages; once there is room again, all is run."""
    shop = sqlite_shop
    printed = shop.send(1, 300, pages=3)
    assert "failed database or disk is full" in printed
    counts = shop.count()
    shop.check(orders=300 - printed.count("failed"), waiting=2 * counts.orders)
    output = shop.run("work", 2, "once", pages=0, note=1_000_000, backoff=3600)
    assert "database or disk is full" in output
    shop.check(waiting=shop.count().waiting)
    shop.drain()
    shop.check(orders=counts.orders, effects=counts.orders)


def test_other_writer_on_sqlite_delays_messages(sqlite_shop: Processes) -> None:
    """It holds the lock for longer than the others wait."""
    shop = sqlite_shop
    shop.send(1, 3)
    begin_immediate(shop.engine)
    url = shop.url.replace("timeout=20", "timeout=0.2")
    lock = ExitStack()
    lock.enter_context(shop.engine.begin())  # before the worker starts, which may be fast
    with shop.working(url=url) as worker:
        with lock:
            read_until(worker, "database is locked")
            printed = shop.send(4, 2, url=url)
        assert printed.count("failed database is locked") == 2
        shop.make_due()  # what was claimed before the lock
        wait_until(lambda: len(shop.read("SELECT id FROM effect")) == 3)
    shop.drain()
    shop.check(orders=3, effects=3)


@pytest.fixture
def server() -> Iterator[PostgreSQLServer]:
    """Give a PostgreSQL server that may be stopped."""
    server = PostgreSQLServer()
    server.start()
    yield server
    server.close()


@pytest.mark.long
def test_postgresql_is_stopped_and_started_under_load(
    server: PostgreSQLServer, tmp_path: Path
) -> None:
    """Senders see errors meanwhile; workers go on afterwards by themselves."""
    shop = Processes(server.url.render_as_string(hide_password=False), tmp_path)
    try:
        with shop.working(2):
            sender = shop.start("send", 1, 1000)
            shop.wait_for_effects(20)
            server.stop()
            read_until(sender, "failed")
            server.start()
            shop.engine.dispose()
            sender.communicate()
            shop.send(5001, 10)
            wait_until(lambda: shop.read("SELECT id FROM effect WHERE number = 5010"))
        shop.drain()
        counts = shop.check()
        assert counts.orders == counts.effects >= 30
    finally:
        shop.close()
