"""Fixtures for the tests of every module."""

import gc
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click import get_current_context
from click.globals import pop_context
from flask import Flask

from flask_signals_kit import SignalsKit
from tests import missing_packages
from tests.redis_server import RedisServer
from tests.support import make_app, require_service, serving

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from playwright.sync_api import Browser, Page
    from sqlalchemy import Engine

    from tests.deliveries.durable.support import DurableShop

CHROMIUM_FLAGS = (
    # A container's root has no sandbox.
    "--no-sandbox",
    "--disable-gpu",
    # Nothing but the page under test may reach for the network.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def pytest_configure(config: pytest.Config) -> None:
    """Skip what needs a package that is not installed."""
    config.pluginmanager.register(missing_packages)


@pytest.fixture(scope="module", autouse=True)
def short_collections() -> None:
    """Make garbage collections faster: exempt what exists before the tests of a module."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_command() -> Iterator[None]:
    """Fail a test that leaves the context of a command: what is sent later would belong to it."""
    yield
    left = get_current_context(silent=True)
    while get_current_context(silent=True) is not None:
        pop_context()
    assert left is None, f"The test leaves the context of the command {left.command_path!r}."


@pytest.fixture(autouse=True)
def enabled_loggers() -> Iterator[None]:
    """Enable the loggers that a test has disabled: apps of the same name share their logger."""
    yield
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture
def serve() -> "Iterator[Callable[[WSGIApplication], str]]":
    """Give a function that serves a WSGI app until the test ends and returns its URL."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving(app))


def find_chromium() -> str | None:
    """Return the path of a Chromium; the headless shell takes a third of the time for a page."""
    names = ("chromium-headless-shell", "chromium", "chromium-browser")
    return next(filter(None, map(shutil.which, names)), None)


# Playwright keeps an event loop running in this thread while it is open, which makes
# `asyncio.run` fail in every test in between. So it is closed with its module.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Give a headless Chromium, the one of the system."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = require_service(
        find_chromium(), "Chromium is not installed: apt-get install chromium-headless-shell"
    )
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: "Browser") -> "Iterator[Page]":
    """Give an empty page with its own cookies; an error in the page's scripts fails the test."""
    errors: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert not errors, f"errors in the page's scripts: {errors}"


@pytest.fixture(scope="session")
def postgresql_server() -> "Iterator[Engine]":
    """Give an engine on a PostgreSQL server of the tests' own, which goes when they are over."""
    from sqlalchemy import create_engine

    from tests.postgresql_server import PostgreSQLServer

    server = PostgreSQLServer()
    server.start()
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
    try:
        yield engine
    finally:
        engine.dispose()
        server.close()


_schemas = count(1)


@pytest.fixture
def postgresql(postgresql_server: "Engine") -> str:
    """Give the SQLAlchemy URL of an empty schema on a real PostgreSQL, for this test alone."""
    from sqlalchemy import text

    schema = f"test_{next(_schemas)}"
    with postgresql_server.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    options = f"-csearch_path={schema} -csynchronous_commit=off"
    url = postgresql_server.url.update_query_dict({"options": options})
    return url.render_as_string(hide_password=False)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """Give a Redis that runs."""
    server = RedisServer()
    server.start()
    yield server
    server.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """Give the URL of an SQLite file."""
    return f"sqlite:///{tmp_path / 'shop.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def durable_shop(database: str) -> "Iterator[DurableShop]":
    """Give a shop on each database that can have durable receivers."""
    from tests.deliveries.durable.support import DurableShop

    shop = DurableShop(database)
    yield shop
    shop.close()


@pytest.fixture
def kit() -> SignalsKit:
    """Give a kit without apps."""
    return SignalsKit()


@pytest.fixture
def app(kit: SignalsKit) -> Flask:
    """Give an app of the kit."""
    return make_app(kit)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder to write modules into, which are forgotten afterwards."""
    before = {*sys.modules}
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in {*sys.modules} - before:
        if name.startswith("wired"):
            del sys.modules[name]


@pytest.fixture
def no_gc() -> Iterator[None]:
    """Disable the cyclic garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
