"""The database, schema and engine that hold the outbox, and sessions of other ones."""

import gc
import weakref
from collections.abc import Iterator
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, g
from flask_sqlalchemy_lite import SQLAlchemy as Lite
from sqlalchemy import Engine, MetaData, create_engine, event, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_signals_kit import ConfigurationError, SignalsKit
from tests.deliveries.durable.support import DurableShop
from tests.deliveries.support import Account, Base
from tests.support import make_app, write_down


def app_with_a_session_in_g(kit: SignalsKit, engine: Engine | None = None, **config: Any) -> Flask:
    """Make an app with a durable receiver, whose session is ``g.session``."""
    kit.use_session(lambda: g.get("session"))
    kit.use_outbox(Base.metadata, engine)
    kit.on("account_funded", delivery="durable")(write_down)
    return make_app(kit, **config)


@pytest.fixture
def two_engines(tmp_path: Path) -> Iterator[list[Engine]]:
    """Give the engines of two databases with all tables."""
    engines = [create_engine(f"sqlite:///{tmp_path / name}.sqlite") for name in ("a", "b")]
    for engine in engines:
        Base.metadata.create_all(engine)
    yield engines
    for engine in engines:
        engine.dispose()


def test_session_of_another_database_is_refused(shop: DurableShop, tmp_path: Path) -> None:
    """The message could not be in the sender's transaction."""
    shop.on(lambda sender, **extra: None)
    engine = create_engine(f"sqlite:///{tmp_path}/other.sqlite")
    with shop.open(), Session(engine) as other:
        other.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, name, balance)"))
        account = Account(name="acme", balance=0)
        other.add(account)
        other.flush()
        with pytest.raises(ConfigurationError, match="both must be one database"):
            shop.funded.send(account)
    engine.dispose()


def test_session_of_another_database_is_refused_whatever_session_comes_next(
    kit: SignalsKit, two_engines: list[Engine]
) -> None:
    """The workers read one table only. A test may change the database, an app in use may not."""
    main, other = two_engines
    app = app_with_a_session_in_g(kit, SIGNALS_KIT_ENGINE="none")

    def send(engine: Any) -> None:
        with app.app_context(), Session(engine) as g.session:
            g.session.execute(text("SELECT 1"))
            kit.send("account_funded", "acme")
            g.session.commit()

    send(main)
    with pytest.raises(ConfigurationError, match="both must be one database"):
        send(other)
    send(main)
    outbox = kit.for_app(app).outbox
    assert outbox is not None
    assert outbox.engine() is main


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """Give an engine, and the same one with a tenant's schema."""
    plain = create_engine(f"sqlite:///{tmp_path / 'main.sqlite'}")
    attach = f"ATTACH DATABASE '{tmp_path / 'tenant.sqlite'}' AS tenant"
    event.listen(plain, "connect", lambda connection, record: connection.execute(attach))
    yield plain, plain.execution_options(schema_translate_map={None: "tenant"})
    plain.dispose()


def test_session_that_translates_the_schema_to_another_one_is_refused(
    kit: SignalsKit, engines: tuple[Engine, Engine]
) -> None:
    """As in an app with a schema for each tenant: the workers would read that of the first."""
    plain, tenant = engines
    app = app_with_a_session_in_g(kit, plain, TESTING=True)
    for engine in (plain, tenant):
        Base.metadata.create_all(engine)
    with app.app_context(), Session(tenant) as g.session:
        g.session.execute(text("SELECT 1"))
        with pytest.raises(ConfigurationError, match="uses schema 'tenant'"):
            kit.send("account_funded", "acme")


def test_translated_schema_is_that_of_the_table(engines: tuple[Engine, Engine]) -> None:
    """As in an app that keeps each tenant's tables in a schema of its own."""
    plain, engine = engines
    metadata, kit, got = MetaData(), SignalsKit(), list[Any]()
    kit.use_session(scoped_session(sessionmaker(engine)))
    kit.use_outbox(metadata, engine)
    kit.on("sale_made", delivery="durable")(lambda sender, **extra: got.append(sender))
    app = make_app(kit, TESTING=True)
    metadata.create_all(engine)
    with plain.connect() as connection:
        tables = connection.execute(text("SELECT name FROM tenant.sqlite_master")).scalars()
        assert "signals_outbox" in tables.all()
    with app.app_context():
        kit.send("sale_made", "acme")
        outbox = kit.for_app(app).outbox
        assert outbox is not None
        outbox.run_due()
    assert got == ["acme"]


def test_schema_of_the_metadata_is_that_of_the_table(postgresql: str) -> None:
    """Also for a second app."""
    engine = create_engine(postgresql)
    schema = engine.url.query["options"].split("search_path=")[1].split()[0]  # type: ignore[union-attr]
    metadata = MetaData(schema=schema)
    kit, got = SignalsKit(), []
    kit.use_session(scoped_session(sessionmaker(engine)))
    kit.use_outbox(metadata, engine)
    kit.on("sale_made", delivery="durable")(lambda sender, **extra: got.append(sender))
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        app.testing = True
        kit.init_app(app)
    metadata.create_all(engine)
    with apps[0].app_context():
        kit.send("sale_made", "acme")
        outbox = kit.for_app(apps[0]).outbox
        assert outbox is not None
        outbox.run_due()
    assert got == ["acme"]
    engine.dispose()


def test_engine_of_an_app_can_be_swapped(kit: SignalsKit, tmp_path: Path) -> None:
    """The outbox is where the session is now."""
    session = scoped_session(sessionmaker())
    kit.use_session(session)
    kit.use_outbox(Base.metadata)
    app = make_app(kit, TESTING=True)
    ran: list[Any] = []
    kit.on("account_funded", delivery="durable")(lambda sender, **extra: ran.append(sender))
    for number in range(2):
        engine = create_engine(f"sqlite:///{tmp_path / str(number)}")
        kit.begin_immediate(engine)
        Base.metadata.create_all(engine)
        session.remove()
        session.configure(bind=engine)
        with app.app_context(), kit.capture(run_durable=True):
            session.add(Account(name="acme"))
            kit.send("account_funded", number)
            session.commit()
            session.remove()
        engine.dispose()
    assert ran == [0, 1]


def test_statements_keep_no_dialect(shop: DurableShop) -> None:
    """An app may make an engine for each test, or for each tenant."""
    shop.on(write_down)
    engine = create_engine(shop.engine.url)
    with engine.connect() as connection:
        shop.outbox.statements.seconds_to_next(connection, None)
    dialect = weakref.ref(engine.dialect)
    engine.dispose()
    del engine, connection
    gc.collect()
    assert dialect() is None


def test_session_that_is_kept_in_a_context_variable(database: str) -> None:
    """It is created on first use: once in a run."""
    engine, made = create_engine(database), list[Session]()
    variable: ContextVar[Session | None] = ContextVar("session", default=None)

    def current() -> Session:
        session = variable.get()
        if session is None:
            made.append(session := Session(engine))
            variable.set(session)
        return session

    kit, same = SignalsKit(), list[bool]()
    kit.begin_immediate(engine)
    kit.use_session(current)
    kit.use_outbox(Base.metadata, engine)
    kit.on("account_funded", delivery="durable")(
        lambda account, **extra: same.append(current() is Session.object_session(account))
    )
    app = make_app(kit, TESTING=True)
    Base.metadata.create_all(engine)
    with app.app_context():
        current().add(account := Account(name="acme"))
        kit.send("account_funded", account)
        current().commit()
    variable.set(None)
    outbox = kit.for_app(app).outbox
    assert outbox is not None
    copy_context().run(outbox.run_due)
    for session in made:
        session.close()
    engine.dispose()
    assert (same, len(made)) == ([True], 2)


def test_outbox_is_readable_where_there_is_no_session(kit: SignalsKit, sqlite: str) -> None:
    """A session may exist only in requests; the engine is known from one."""
    engine = create_engine(sqlite)
    kit.begin_immediate(engine)
    kit.use_outbox(Base.metadata)
    kit.use_session(lambda: g.session)
    kit.on("account_funded", delivery="durable")(write_down)
    app = make_app(kit)
    Base.metadata.create_all(engine)
    outbox: Any = kit.for_app(app).outbox
    with app.app_context(), Session(engine) as g.session:
        assert outbox.missing() is None
    with app.app_context():
        assert outbox.missing() is None
    engine.dispose()


def test_message_is_deleted_in_its_own_database_whatever_session_a_receiver_uses(
    kit: SignalsKit, two_engines: list[Engine]
) -> None:
    """The first session is that of the outbox, and the receiver does not use it."""
    sessions = [scoped_session(sessionmaker(engine)) for engine in two_engines]
    kit.use_outbox(Base.metadata)
    for session in sessions:
        kit.use_session(session)
    app = Flask("shop")
    app.config["SIGNALS_KIT_ENGINE"] = "none"
    for session in sessions:
        app.teardown_appcontext(lambda error, remove=session.remove: remove())

    @kit.on("account_funded", delivery="durable")
    def note(sender: str, **extra: Any) -> None:
        sessions[1].add(Account(name=sender))

    kit.init_app(app)
    with app.app_context():
        kit.send("account_funded", "acme")
    outbox = kit.for_app(app).outbox
    assert outbox is not None
    assert outbox.run_due() == 1
    main, other = two_engines
    with main.connect() as read, other.connect() as written:
        assert read.execute(text("SELECT count(*) FROM signals_outbox")).scalar() == 0
        assert written.execute(text("SELECT name FROM account")).scalar() == "acme"


def test_named_session_of_lite_that_only_reads_does_not_end_the_message(tmp_path: Path) -> None:
    """The message ends with what was written in the extension's own session."""
    db, kit = Lite(), SignalsKit()
    kit.use_outbox(Base.metadata)
    app = Flask("shop")
    app.config["SIGNALS_KIT_ENGINE"] = "none"
    app.config["SQLALCHEMY_ENGINES"] = {"default": f"sqlite:///{tmp_path / 'shop'}.sqlite"}
    db.init_app(app)

    @kit.on("account_funded", delivery="durable")
    def pay(sender: str, **extra: Any) -> None:
        with db.engine.begin() as connection:  # as another worker that begins the message
            connection.execute(text("UPDATE signals_outbox SET attempt = attempt + 1"))
        db.get_session("report").execute(text("SELECT 1"))
        db.session.add(Account(name=sender))

    kit.init_app(app)
    with app.app_context():
        Base.metadata.create_all(db.engine)
        kit.send("account_funded", "acme")
    outbox = kit.for_app(app).outbox
    assert outbox is not None
    [claimed] = outbox.claim()
    result = outbox.run(claimed.id, claimed.attempt)
    assert result is not None
    assert result.status == "too_slow"
    with app.app_context():
        assert db.session.query(Account).count() == 0
        db.engine.dispose()


def test_test_may_bind_the_table_to_another_engine(
    kit: SignalsKit, two_engines: list[Engine]
) -> None:
    """Although its session uses the engine of an earlier test, too."""
    first, second = two_engines
    app = app_with_a_session_in_g(kit, TESTING=True)
    table = Base.metadata.tables["signals_outbox"]
    with app.app_context(), Session(first) as g.session:
        g.session.add(Account(name="acme"))
        kit.send("account_funded", "acme")
        g.session.rollback()
    with app.app_context(), Session(binds={table: second, Account: first}) as g.session:
        g.session.add(Account(name="acme"))
        kit.send("account_funded", "acme")
        g.session.commit()
    for engine, count in ((first, 0), (second, 1)):
        with engine.connect() as connection:
            stored = connection.execute(text("SELECT count(*) FROM signals_outbox")).scalar()
        assert stored == count
