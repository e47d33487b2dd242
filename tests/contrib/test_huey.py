"""The manual's example of an engine of one's own, run by a real Huey consumer."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, text

from tests.contrib.celery_shop import account_funded, create_app, db
from tests.contrib.support import ROOT
from tests.docs.support import text_of
from tests.support import wait_until

pytestmark = pytest.mark.needs("huey")

SHOP = """
from tests.contrib import celery_shop

def create_app():
    app = celery_shop.create_app({database!r}, "memory://", "none")
    app.config["HUEY_FILE"] = {file!r}
    return app
"""


def example() -> str:
    """Return the example, as the manual prints it."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", text_of("docs/durable.md"), re.MULTILINE | re.DOTALL
    )
    [found] = [block for block in blocks if "import SqliteHuey" in block]
    return str(found)


@pytest.fixture
def consumer(database: str, tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Give a function that starts the consumer of the example, and returns its log."""
    shop = SHOP.format(database=database, file=str(tmp_path / "huey.sqlite"))
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "worker.py").write_text(example())
    log = tmp_path / "log"
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}];"
        "sys.argv = ['huey_consumer', 'worker.huey', '-w', '2'];"
        "from huey.bin.huey_consumer import consumer_main; consumer_main()"
    )
    with ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))

        def start() -> Path:
            process = subprocess.Popen(
                [sys.executable, "-c", code], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
            )
            stack.callback(process.wait, 20)
            stack.callback(process.send_signal, signal.SIGINT)
            return log

        yield start


@pytest.fixture
def app(database: str) -> Iterator[Flask]:
    """Give the app that sends, in a context."""
    app = create_app(database, "memory://", "none")
    with app.app_context():
        yield app
        db.engine.dispose()


def test_engine_of_the_manual_delivers_messages(
    app: Flask, consumer: Callable[[], Path], database: str
) -> None:
    """The consumer forwards when it starts, and then once a minute."""
    engine = create_engine(database)

    def rows(statement: str) -> list[tuple[Any, ...]]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    for number in (1, 2):
        account_funded.send(app, number=number, first="")
    assert len(rows("SELECT id FROM signals_outbox")) == 2
    log = consumer()
    wait_until(
        lambda: not rows("SELECT id FROM signals_outbox"), "no message is left", log.read_text
    )
    effects = rows("SELECT number, attempt FROM effect ORDER BY number")
    engine.dispose()
    assert effects == [(1, 1), (2, 1)]
