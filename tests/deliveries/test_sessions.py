"""The session that an after-commit receiver waits for, and the errors without one."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as Lite
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import (
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_signals_kit import AfterCommit, ConfigurationError, SignalsKit
from tests.deliveries.support import Account, Base, Shop, run_python


def receiver(sender: Any, **extra: Any) -> None:
    """Do nothing."""


def test_kit_imports_no_sqlalchemy() -> None:
    """An app without a database pays nothing for it."""
    run_python("""
import sys

import flask
from flask_signals_kit import SignalsKit

app = flask.Flask("shop")
kit = SignalsKit(app)
kit.use_session(lambda: None)
seen = []


@kit.on("account_funded", delivery="after_commit")
def note(sender, **extra):
    seen.append(sender)


with app.app_context():
    kit.send("account_funded", "acme")
assert seen == ["acme"], seen
assert "sqlalchemy" not in sys.modules
""")


def _expected(place: str, app: str) -> str:
    return (
        rf"Receiver {place} .* of signal 'account_funded' has delivery='after_commit', but app "
        rf"'{app}' has no SQLAlchemy session. Call db.init_app\(app\) before kit.init_app\(app\), "
        r"or set one with kit.use_session\(session\)"
    )


def test_connecting_in_an_app_without_a_session_is_refused() -> None:
    """The message has both fixes; the receiver is not connected."""
    app = Flask("shop")
    kit = SignalsKit(app)
    place = f"{receiver.__module__}.receiver"
    with pytest.raises(ConfigurationError, match=_expected(place, "shop")):
        kit.on("account_funded", delivery="after_commit")(receiver)
    assert list(kit.registry.connections) == []
    assert not kit.for_app(app).namespace.signal("account_funded").receivers
    with pytest.raises(ConfigurationError, match=_expected(place, "shop")):
        kit.for_app(app).on("account_funded", delivery="after_commit")(receiver)


def test_init_app_of_an_app_without_a_session_is_refused() -> None:
    """If the receiver was connected first; the app is unchanged."""
    kit = SignalsKit()
    kit.on("account_funded", delivery="after_commit")(receiver)
    app = Flask("shop")
    with pytest.raises(ConfigurationError, match=_expected(".*", "shop")):
        kit.init_app(app)
    assert "signals_kit" not in app.extensions
    assert "signals" not in app.cli.commands


@pytest.mark.parametrize("extension", [SQLAlchemy, Lite])
@pytest.mark.parametrize("first", ["db", "kit"])
def test_both_orders_of_init_app(extension: Any, first: str) -> None:
    """The database comes first, or the error says so; without receivers in either order."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    app.config["SQLALCHEMY_ENGINES"] = {"default": "sqlite://"}
    kit, db = SignalsKit(), extension()
    late, late_kit = Flask("late"), SignalsKit()
    late.config.update(app.config)
    kit.on("account_funded", delivery="after_commit")(receiver)
    if first == "db":
        db.init_app(app)
        kit.init_app(app)
    else:
        with pytest.raises(ConfigurationError, match="before kit"):
            kit.init_app(app)
    late_kit.init_app(late)
    db.init_app(late)
    late_kit.on("account_funded", delivery="after_commit")(receiver)


def test_glob_needs_a_session_even_before_it_matches() -> None:
    """The error comes at connect, not at the first send."""
    app = Flask("shop")
    kit = SignalsKit(app)
    with pytest.raises(ConfigurationError, match="no SQLAlchemy session"):
        kit.on("account_*", delivery="after_commit")(receiver)


def test_one_app_of_two_without_session(sqlite_shop: Shop) -> None:
    """A kit's receiver concerns every app: it is connected in both or in none."""
    bare = Flask("bare")
    sqlite_shop.kit.init_app(bare)
    with pytest.raises(ConfigurationError, match="app 'bare' has no SQLAlchemy session"):
        sqlite_shop.kit.on("account_funded", delivery="after_commit")(receiver)
    signal = sqlite_shop.kit.for_app(sqlite_shop.app).namespace.signal("account_funded")
    assert not signal.receivers
    sqlite_shop.kit.for_app(sqlite_shop.app).on("account_funded", delivery="after_commit")(receiver)


def test_delivery_with_a_session_needs_none_of_the_app(sqlite: str) -> None:
    """``AfterCommit(session=…)`` has its own."""
    app = Flask("shop")
    kit = SignalsKit(app)
    engine = create_engine(sqlite)
    Base.metadata.create_all(engine)
    session = scoped_session(sessionmaker(engine))
    seen: list[str] = []

    @kit.on("account_funded", delivery=AfterCommit(session=session))
    def note(sender: str, **extra: Any) -> None:
        seen.append(sender)

    with app.app_context():
        kit.send("account_funded", "at once")
        session.add(Account(name="acme"))
        kit.send("account_funded", "acme")
        assert seen == ["at once"]
        session.commit()
    assert seen == ["at once", "acme"]
    session.remove()
    engine.dispose()


def test_one_of_two_sessions(sqlite_shop: Shop, postgresql: str) -> None:
    """A call waits for the named session, or the app's first with an open transaction."""
    engine = create_engine(postgresql)
    Base.metadata.create_all(engine)
    reports = scoped_session(sessionmaker(engine))
    own = sqlite_shop.listen()
    named = sqlite_shop.listen(delivery=AfterCommit(session=reports))
    with sqlite_shop.open() as session:
        session.add(Account(name="own"))
        reports.add(Account(name="report"))
        sqlite_shop.funded.send("both")
        session.commit()
        assert (own, named) == (["both"], [])
        reports.commit()
        assert (own, named) == (["both"], ["both"])

        reports.add(Account(name="another"))
        sqlite_shop.funded.send("reports alone")
        assert (own, named) == (["both", "reports alone"], ["both"])
        reports.rollback()
    assert named == ["both"]
    reports.remove()
    engine.dispose()


def test_first_session_with_an_open_transaction_counts(sqlite_shop: Shop, postgresql: str) -> None:
    """Of a named session and the app's own; if both have one, the named."""
    engine = create_engine(postgresql)
    Base.metadata.create_all(engine)
    other = scoped_session(sessionmaker(engine))
    sqlite_shop.kit.use_session(other)
    seen = sqlite_shop.listen()
    with sqlite_shop.open() as session:
        session.begin()
        sqlite_shop.funded.send("own")
        other.begin()
        sqlite_shop.funded.send("named")
        session.commit()
        assert seen == ["own"]
        other.commit()
        assert seen == ["own", "named"]
        sqlite_shop.funded.send("at once")
    assert seen == ["own", "named", "at once"]
    other.remove()
    engine.dispose()


def test_function_as_session(database: str) -> None:
    """A function that returns the current session or ``None``."""
    shop = Shop(database, "use_session")
    kit = SignalsKit()
    kit.use_session(lambda: g.get("session"))
    app = Flask("plain")
    kit.init_app(app)
    seen: list[str] = []

    @kit.on("account_funded", delivery="after_commit")
    def note(sender: str, **extra: Any) -> None:
        seen.append(sender)

    with app.app_context():
        kit.send("account_funded", "none there")
        with Session(shop.engine) as g.session:
            kit.send("account_funded", "none open")
            g.session.add(Account(name="acme"))
            kit.send("account_funded", "acme")
            assert seen == ["none there", "none open"]
            g.session.commit()
    assert seen == ["none there", "none open", "acme"]
    assert shop.rows() == ["acme"]
    shop.close()


@pytest.mark.parametrize("make", [Session, sessionmaker(), None, "db.session", 5, Session()])
def test_invalid_sessions_are_refused(make: Any) -> None:
    """The message says what to pass instead."""
    with pytest.raises(ConfigurationError, match="give it a scoped_session, or a function"):
        SignalsKit().use_session(make)
    if make is not None:
        with pytest.raises(ConfigurationError, match="give it a scoped_session, or a function"):
            AfterCommit(session=make)


def test_object_that_returns_the_session_is_a_source(sqlite_shop: Shop) -> None:
    """It may have a factory of sessions, as a scoped session has."""

    class Database:
        session_factory = sessionmaker(sqlite_shop.engine)

        def __call__(self) -> Session:
            return sqlite_shop.session

    sqlite_shop.kit.use_session(Database())
    seen = sqlite_shop.listen()
    with sqlite_shop.open() as session:
        session.execute(text("SELECT 1"))
        sqlite_shop.funded.send("acme")
        assert seen == []
        session.commit()
    assert seen == ["acme"]


def test_extension_object_as_session_is_refused(sqlite_shop: Shop) -> None:
    """And an engine, too."""
    for thing in (SQLAlchemy(), Lite(), sqlite_shop.engine):
        with pytest.raises(ConfigurationError, match="give it a scoped_session, or a function"):
            sqlite_shop.kit.use_session(thing)


def test_looking_up_the_session_creates_none(sqlite: str) -> None:
    """A send in a context that has not used the database creates no session."""
    shop = Shop(sqlite, "use_session")
    seen = shop.listen()
    scoped: Any = shop._session
    with shop.app.app_context():
        shop.funded.send("acme")
        assert not scoped.registry.has()
    assert seen == ["acme"]
    shop.close()


def test_several_binds(sqlite: str, tmp_path: Path) -> None:
    """A session with two databases commits both, and then runs the receivers once."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite
    app.config["SQLALCHEMY_BINDS"] = {"reports": f"sqlite:///{tmp_path / 'reports.sqlite'}"}
    db = SQLAlchemy()

    class Here(db.Model):  # type: ignore[name-defined, misc]
        id = db.Column(db.Integer, primary_key=True)

    class There(db.Model):  # type: ignore[name-defined, misc]
        __bind_key__ = "reports"
        id = db.Column(db.Integer, primary_key=True)

    db.init_app(app)
    kit = SignalsKit(app)
    counts: list[tuple[int, int]] = []

    @kit.on("account_funded", delivery="after_commit")
    def count(sender: str, **extra: Any) -> None:
        with db.engine.connect() as here, db.engines["reports"].connect() as there:
            counts.append(
                (
                    len(here.execute(db.select(Here.id)).all()),
                    len(there.execute(db.select(There.id)).all()),
                )
            )

    with app.app_context():
        for engine in db.engines.values():
            kit.begin_immediate(engine)
        db.create_all()
        db.session.add_all([Here(), There(), There()])
        kit.send("account_funded", "acme")
        db.session.commit()
        db.session.add_all([Here(), There()])
        kit.send("account_funded", "globex")
        db.session.rollback()
        for engine in db.engines.values():
            engine.dispose()
    assert counts == [(1, 2)]


def test_many_session_factories_after_each_other() -> None:
    """A factory at the address of a freed one is handled like any other.

    SQLAlchemy's ``event.contains`` takes the one for the other.
    """
    run_python("""
import gc

from flask import Flask
from flask_signals_kit import SignalsKit
from sqlalchemy.orm import sessionmaker

app, kit, current, seen, classes = Flask("shop"), SignalsKit(), [], [], set()
kit.use_session(lambda: current[-1])
kit.init_app(app)


@kit.on("account_funded", delivery="after_commit")
def note(sender, **extra):
    seen.append(sender)


with app.app_context():
    for number in range(50):
        with sessionmaker()() as session:
            classes.add(id(type(session)))
            current[:] = [session]
            session.begin()
            kit.send("account_funded", number)
            session.commit()
        del session
        current.clear()
        gc.collect()
assert len(classes) < 50, "no factory had the memory of another"
assert seen == list(range(50)), seen
""")


def test_session_class_and_its_subclass_can_both_be_used(sqlite_shop: Shop) -> None:
    """Events on both, in any order; receivers run once."""

    class Own(Session):
        pass

    sqlite_shop.kit.use_session(lambda: g.get("other"))
    seen = sqlite_shop.listen()
    with sqlite_shop.open():
        for kind in (Own, Session, Own, Session):
            with kind(sqlite_shop.engine) as g.other:
                g.other.begin()
                sqlite_shop.funded.send(kind.__name__)
                with g.other.begin_nested():
                    sqlite_shop.funded.send("nested")
                g.other.commit()
    assert seen == ["Own", "nested", "Session", "nested"] * 2


def test_two_apps_of_one_kit(tmp_path: Path) -> None:
    """Each app waits for its own session, also in nested contexts."""
    kit, db = SignalsKit(), SQLAlchemy(model_class=Base)
    seen: list[tuple[str, str]] = []

    apps = [Flask("first"), Flask("second")]
    for app in apps:
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / app.name}.sqlite"
        db.init_app(app)
        kit.init_app(app)

    @kit.on("account_funded", delivery="after_commit")
    def note(sender: str, **extra: Any) -> None:
        seen.append((sender, Path(db.engine.url.database or "").stem))  # of the current app

    first, second = apps
    with first.app_context():
        db.session.begin()
        kit.send("account_funded", "to first")
        with second.app_context():
            db.session.begin()
            kit.send("account_funded", "to second")
            kit.send("account_funded", "also to second")
            assert seen == []
            db.session.commit()
            assert seen == [("to second", "second"), ("also to second", "second")]
            db.engine.dispose()
        db.session.commit()
        db.engine.dispose()
    assert seen[2:] == [("to first", "first")]


@pytest.mark.needs("aiosqlite")
def test_async_session(database: str) -> None:
    """An ``async_scoped_session`` is accepted; the call waits for its sync session."""
    url = database.replace("sqlite:", "sqlite+aiosqlite:")

    async def main() -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        session = async_scoped_session(async_sessionmaker(engine), asyncio.current_task)
        app = Flask("shop")
        kit = SignalsKit(app)
        kit.begin_immediate(engine)
        kit.use_session(session)
        plain: list[str] = []
        awaited: list[str] = []

        @kit.on("account_funded", delivery="after_commit")
        def note(sender: str, **extra: Any) -> None:
            plain.append(sender)

        @kit.on("account_funded", delivery="after_commit")
        async def note_async(sender: str, **extra: Any) -> None:
            await asyncio.sleep(0)
            awaited.append(sender)

        with app.app_context():
            kit.send("account_funded", "at once")
            session.add(Account(name="acme"))
            async with session.begin_nested():
                await kit.send_async("account_funded", "waits")
            assert plain == awaited == ["at once"]
            await session.commit()
            assert plain == awaited == ["at once", "waits"]
            session.add(Account(name="globex"))
            kit.send("account_funded", "dropped")
            await session.rollback()
        await session.remove()
        await engine.dispose()
        assert plain == awaited == ["at once", "waits"]

    asyncio.run(main())
