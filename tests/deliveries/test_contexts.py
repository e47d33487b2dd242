"""The context of after-commit receivers: app, request, threads, event loops."""

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from threading import Barrier, get_ident
from typing import Any

import pytest
from flask import current_app, g, has_app_context, has_request_context, request
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session, sessionmaker

from flask_signals_kit import current_emission
from tests.deliveries.support import Account, Shop, messages


def test_commit_in_a_request_has_the_request(any_shop: Shop) -> None:
    """The receiver has request, app and ``g`` of the request that commits."""
    seen: list[Any] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    def look(sender: str, **extra: Any) -> None:
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        seen.append((app, request.path, g.user, current_emission.request, current_emission.signal))

    @any_shop.app.post("/fund/<name>")
    def fund(name: str) -> str:
        g.user = f"user of {name}"
        any_shop.fund(name)
        any_shop.session.commit()
        return name

    any_shop.app.test_client().post("/fund/acme")
    assert seen == [
        (any_shop.app, "/fund/acme", "user of acme", "POST /fund/acme", "account_funded")
    ]


def test_current_emission_is_that_of_the_send(shop: Shop) -> None:
    """It is the deferred emission, not one that is sent meanwhile."""
    seen: list[tuple[str, str]] = []

    @shop.kit.on("account_*", delivery="after_commit")
    def look(sender: str, **extra: Any) -> None:
        before = current_emission.signal
        if before == "account_funded":
            shop.opened.send(sender)
        seen.append((before, current_emission.signal))
        assert current_emission.site is not None

    with shop.open() as session:
        session.begin()
        shop.funded.send("acme")
        session.commit()
        assert not bool(current_emission)
    assert seen == [("account_funded", "account_funded"), ("account_opened", "account_opened")]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_commit_without_app_context(database: str) -> None:
    """A session that outlives its context commits elsewhere: the receiver has the app."""
    shop = Shop(database, "use_session")
    seen: list[Any] = []

    @shop.kit.on("account_funded", delivery="after_commit")
    def look(sender: str, **extra: Any) -> None:
        seen.append((current_app.name, has_request_context(), get_ident()))
        raise ValueError("no thanks")

    sources: list[str] = []

    @shop.kit.on_exception
    def report(app: Any, error: Exception, *, source: str, **extra: Any) -> None:
        sources.append(f"{source}: {error} in {current_app.name}")

    with Session(shop.engine) as session:
        shop.kit.use_session(lambda: session)
        with shop.app.app_context():
            session.add(Account(name="acme"))
            shop.funded.send("acme")

        def commit() -> int:
            assert not has_app_context()
            session.commit()
            assert not has_app_context()
            return get_ident()

        with ThreadPoolExecutor(1) as pool:
            thread = pool.submit(commit).result()
    assert seen == [("shop", False, thread)]
    assert sources == ["delivery: no thanks in shop"]
    assert shop.rows() == ["acme"]
    shop.close()


def test_sessions_of_threads_are_independent(any_shop: Shop) -> None:
    """Eight threads commit and roll back concurrently."""
    seen = any_shop.listen()
    barrier = Barrier(8)

    def work(number: int) -> None:
        barrier.wait(30)
        for turn in range(4):
            with any_shop.open() as session:
                any_shop.fund(f"{number}-{turn}")
                if (number + turn) % 2:
                    session.commit()
                else:
                    session.rollback()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    expected = {f"{n}-{turn}" for n in range(8) for turn in range(4) if (n + turn) % 2}
    assert len(seen) == len(expected)
    assert set(seen) == set(any_shop.rows()) == expected
    for number in range(8):
        mine = [name for name in seen if name.startswith(f"{number}-")]
        assert mine == sorted(mine)


def test_two_sessions_at_once(shop: Shop) -> None:
    """A call waits for the session that it was sent in, whatever the other one does."""
    seen = shop.listen()
    with shop.open() as first:
        first.begin()
        shop.funded.send("first")
        with shop.open() as second:
            assert second is not first
            second.begin()
            shop.funded.send("second")
            second.rollback()
            second.begin()
            shop.funded.send("second again")
            second.commit()
        assert seen == ["second again"]
        first.commit()
    assert seen == ["second again", "first"]


_user: ContextVar[str] = ContextVar("user")


def test_async_receiver(any_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """It is complete before ``commit()`` returns; it can use the session."""
    seen: list[tuple[str, int]] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    async def count(sender: str, **extra: Any) -> None:
        await asyncio.sleep(0)
        seen.append((sender, any_shop.session.scalar(select(func.count(Account.id))) or 0))
        any_shop.session.commit()

    @any_shop.app.post("/")
    def fund() -> str:
        any_shop.fund("acme")
        any_shop.session.commit()
        return str(len(seen))

    assert any_shop.app.test_client().post("/").text == "1"
    assert seen == [("acme", 1)]
    assert messages(caplog) == []


@pytest.mark.timeout(30)
def test_commit_in_an_async_view(any_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Async receivers run although the view's event loop runs; the request is available."""
    seen: list[Any] = []

    @any_shop.kit.on("account_funded", delivery="after_commit")
    async def look(sender: str, **extra: Any) -> None:
        await asyncio.sleep(0)
        seen.append((sender, request.path, _user.get(), any_shop.rows()))

    plain = any_shop.listen()

    @any_shop.app.post("/async")
    async def fund() -> str:
        _user.set("ada")
        any_shop.fund("acme")
        await asyncio.sleep(0)
        any_shop.session.commit()
        return str(len(seen))

    assert any_shop.app.test_client().post("/async").text == "1"
    assert messages(caplog) == []
    assert seen == [("acme", "/async", "ada", ["acme"])]
    assert plain == ["acme"]


@pytest.mark.timeout(30)
def test_commit_in_a_running_loop(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Outside Flask's own loop, as in a script with ``asyncio.run``, async receivers run."""
    seen: list[str] = []

    @shop.kit.on("account_funded", delivery="after_commit")
    async def note(sender: str, **extra: Any) -> None:
        await asyncio.sleep(0)
        seen.append(f"{sender} in {current_app.name}")

    async def main() -> None:
        with shop.open() as session:
            shop.fund("acme")
            session.commit()
            shop.fund("globex")
            await shop.opened.send_async("globex")
            session.rollback()
            assert await shop.funded.send_async("hooli") == [(note, None)]

    asyncio.run(main())
    assert messages(caplog) == []
    assert seen == ["acme in shop", "hooli in shop"]


@pytest.mark.timeout(30)
def test_failing_async_receiver(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Its failure is contained like any other, in a loop or not."""

    @shop.kit.on("account_funded", delivery="after_commit")
    async def fail(sender: str, **extra: Any) -> None:
        await asyncio.sleep(0)
        raise ValueError("no thanks")

    async def main() -> None:
        with shop.open() as session:
            shop.fund("globex")
            session.commit()

    with shop.open() as session:
        shop.fund("acme")
        session.commit()
    asyncio.run(main())
    assert len(messages(caplog)) == 2
    assert shop.rows() == ["acme", "globex"]


def test_app_dropped_while_calls_wait(sqlite: str) -> None:
    """A waiting call keeps no app alive, and still runs when its session commits."""
    shop = Shop(sqlite, "use_session")
    seen = shop.listen()
    engine = create_engine(sqlite)
    session = sessionmaker(engine)()
    shop.kit.use_session(lambda: session)
    with shop.app.app_context():
        session.add(Account(name="acme"))
        shop.funded.send("acme")
    shop.close()
    app = weakref.ref(shop.app)
    del shop
    gc.collect()
    assert app() is None
    session.commit()
    assert seen == ["acme"]
    session.close()
    engine.dispose()


def test_session_dropped_while_calls_wait(sqlite: str) -> None:
    """A session that is never closed is freed with its calls."""

    class Sender:
        pass

    shop = Shop(sqlite, "use_session")
    shop.kit.use_session(lambda: session)
    seen = shop.listen()
    session: Any = Session(shop.engine)
    sender: Any = Sender()
    with shop.open():
        session.begin()
        shop.funded.send(sender)
    gone = weakref.ref(sender)
    del sender
    session = None
    gc.collect()
    assert gone() is None
    assert seen == []
    shop.close()
