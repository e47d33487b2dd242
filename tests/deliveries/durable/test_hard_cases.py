"""Sends and runs in unusual places: nothing is lost or doubled, no other transaction is ended."""

import gc
import threading
import time
import weakref
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from flask import Flask, g
from sqlalchemy import MetaData, create_engine, event, insert, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from werkzeug.local import LocalProxy

from flask_signals_kit import (
    ConfigurationError,
    ContractError,
    DuplicateReceiverError,
    Durable,
    PayloadError,
    RetryAfter,
    SignalsKit,
)
from flask_signals_kit.app.embedded import Worker
from flask_signals_kit.deliveries.durable.payload import encode
from tests.deliveries.durable.support import DurableShop, now
from tests.deliveries.support import Account, Base
from tests.support import make_app, wait_until


@pytest.fixture
def ran(shop: DurableShop) -> list[Any]:
    """Connect a durable receiver to ``account_opened``; give the senders that it gets."""
    got: list[Any] = []
    shop.on(lambda sender, **extra: got.append(sender), signal="account_opened")
    return got


# -- what a durable receiver sends ----------------------------------------------------------------


def send_in_a_context(shop: DurableShop) -> None:
    """Send in an app context of its own."""
    with shop.app.app_context():
        shop.opened.send("nested")


def send_in_a_thread(shop: DurableShop) -> None:
    """Send in a thread that has the context of the receiver."""
    thread = threading.Thread(target=copy_context().run, args=(shop.opened.send, "nested"))
    thread.start()
    thread.join()


def send_after_removing_the_session(shop: DurableShop) -> None:
    """Send in the next session, after the one of the run was used and removed."""
    shop.session.query(Account).count()
    shop._session.remove()  # type: ignore[attr-defined]
    shop.opened.send("nested")


def send_after_removing_the_session_in_a_context(shop: DurableShop) -> None:
    """Do the same, but send in an app context of its own."""
    shop.session.query(Account).count()
    shop._session.remove()  # type: ignore[attr-defined]
    send_in_a_context(shop)


def send_in_another_app(shop: DurableShop) -> None:
    """Send in a context of an app without a kit, around one of this app."""
    with Flask("other").app_context():
        send_in_a_context(shop)


@pytest.mark.parametrize(
    "send",
    [
        send_in_a_context,
        send_in_a_thread,
        send_in_another_app,
        send_after_removing_the_session,
        send_after_removing_the_session_in_a_context,
    ],
)
def test_send_elsewhere_in_a_run_is_not_lost(shop: DurableShop, ran: list[Any], send: Any) -> None:
    """It is stored with the run, or at once."""
    shop.on(lambda sender, **extra: send(shop))
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    assert ran == ["nested"]


def test_thread_of_a_receiver_does_not_use_its_session(shop: DurableShop, ran: list[Any]) -> None:
    """What the thread sends is stored at once: the receiver may use the session meanwhile."""
    stored: list[int] = []

    def receive(sender: Any, **extra: Any) -> None:
        send_in_a_thread(shop)
        stored.append(len(shop.messages()))

    shop.on(receive)
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    assert (stored, ran) == ([2], ["nested"])


def test_send_in_another_app_is_stored_in_its_database(shop: DurableShop, tmp_path: Path) -> None:
    """The run of this app's message does not commit it."""
    other, got = DurableShop(f"sqlite:///{tmp_path / 'other.sqlite'}"), list[Any]()
    other.on(lambda sender, **extra: got.append(sender))

    def send(sender: Any, **extra: Any) -> None:
        with other.open():
            other.funded.send("there")

    shop.on(send)
    with shop.open():
        shop.funded.send("acme")
    shop.run_once()
    there = other.messages()
    other.work()
    other.close()
    assert (len(there), got) == (1, ["there"])


def test_async_receiver_that_fails_sends_nothing(shop: DurableShop, ran: list[Any]) -> None:
    """Its event loop runs in another thread, while that of the run waits."""

    async def send_and_fail(sender: Any, **extra: Any) -> None:
        shop.opened.send("doubled")
        raise LookupError

    shop.on(send_and_fail, max_attempts=3)
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    assert shop.messages()[0].attempt == 3
    assert ran == []


def test_async_receiver_that_sends_in_sync_code_is_joined(
    shop: DurableShop, ran: list[Any]
) -> None:
    """Such code runs in the thread of the run, not in that of the event loop."""
    attempts: list[int] = []

    async def send_and_fail(sender: Any, **extra: Any) -> None:
        attempts.append(1)
        await sync_to_async(shop.opened.send)("once")
        if len(attempts) < 3:
            raise LookupError

    shop.on(send_and_fail)
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    assert (len(attempts), ran) == (3, ["once"])


def test_async_receiver_with_a_session_for_each_thread(database: str) -> None:
    """Its thread has another session, which the run does not commit: the message is stored."""
    shop, got = DurableShop(database, "use_session"), list[Any]()

    async def send(sender: Any, **extra: Any) -> None:
        shop.opened.send("kept")

    shop.on(send)
    shop.on(lambda sender, **extra: got.append(sender), signal="account_opened")
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    shop.close()
    assert got == ["kept"]


def test_app_context_that_removes_the_session_of_the_run(database: str) -> None:
    """In SQLAlchemy's recipe for Flask, each app context removes the session of its thread."""
    shop, got = DurableShop(database, "use_session"), list[Any]()

    def send(sender: Any, **extra: Any) -> None:
        with shop.app.app_context():
            pass
        shop.opened.send("kept")
        shop.session.add(Account(name="written"))

    shop.on(send)
    shop.on(lambda sender, **extra: got.append(sender), signal="account_opened")
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    rows = shop.rows()
    shop.close()
    assert (got, rows) == (["kept"], ["written"])


def test_send_of_an_exception_hook_is_not_lost(shop: DurableShop, ran: list[Any]) -> None:
    """The transaction of the run has been rolled back by then."""

    @shop.kit.on_exception
    def alert(app: Flask, exception: Exception, **details: Any) -> None:
        shop.opened.send("alert")

    def fail(sender: Any, **extra: Any) -> None:
        raise LookupError

    shop.on(fail, max_attempts=1)
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    assert ran == ["alert"]


def test_send_of_an_after_commit_receiver_of_a_run_is_not_lost(
    shop: DurableShop, ran: list[Any]
) -> None:
    """Even if that receiver fails afterwards."""

    @shop.kit.on("account_closed", delivery="after_commit")
    def later(sender: Any, **extra: Any) -> None:
        shop.opened.send("later")
        raise LookupError

    def write(sender: Any, **extra: Any) -> None:
        shop.session.add(Account(name="written"))
        shop.session.flush()
        shop.kit.send("account_closed", "acme")

    shop.on(write)
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    assert ran == ["later"]


def test_send_after_a_run_in_its_context_is_not_lost(shop: DurableShop, ran: list[Any]) -> None:
    """By a task that the receiver has started, and that outlives it."""
    contexts: list[Any] = []
    shop.on(lambda sender, **extra: contexts.append(copy_context()))
    with shop.open():
        shop.funded.send("acme")
    shop.work()

    def send() -> None:
        with shop.app.app_context():
            shop.opened.send("late")

    contexts[0].run(send)
    shop.work()
    assert ran == ["late"]


# -- transactions ---------------------------------------------------------------------------------


def read(session: Session) -> None:
    """Read the database."""
    session.query(Account).count()


def add(session: Session) -> None:
    """Add an instance, which is not flushed yet."""
    session.add(Account(name="booked"))


def insert_by_core(session: Session) -> None:
    """Write by a statement."""
    session.execute(insert(Account).values(name="booked", balance=0))


def insert_in_bulk(session: Session) -> None:
    """Write by a method that flushes nothing."""
    session.bulk_save_objects([Account(name="booked")])


def insert_on_the_connection(session: Session) -> None:
    """Write past the session."""
    session.connection().execute(insert(Account).values(name="booked", balance=0))


def insert_and_read_in_a_savepoint(session: Session) -> None:
    """Write by a statement, and read in a savepoint after it."""
    insert_by_core(session)
    with session.begin_nested():
        read(session)


WRITES = [
    add,
    insert_by_core,
    insert_in_bulk,
    insert_on_the_connection,
    insert_and_read_in_a_savepoint,
]


@pytest.mark.parametrize("book", [read, *WRITES])
def test_earlier_receiver_that_begins_a_transaction(shop: DurableShop, book: Any) -> None:
    """What it has read is ended; what it has written waits for the sender, as the message does."""
    shop.kit.on("account_funded", priority=1)(lambda sender, **extra: book(shop.session))
    shop.on(lambda sender, **extra: None)
    with shop.open() as session:
        shop.funded.send("acme")
        assert len(shop.messages()) == (book is read)
        session.rollback()
    assert len(shop.messages()) == (book is read)
    with shop.open() as session:
        assert session.query(Account).count() == 0
        session.rollback()
        shop.funded.send("acme")
        session.commit()
    assert len(shop.messages()) == 1 + (book is read)


@pytest.mark.parametrize("book", [read, *WRITES])
def test_earlier_receiver_that_commits_and_begins_another_transaction(
    shop: DurableShop, book: Any
) -> None:
    """On SQLite it has the lock, so the message is stored in it."""

    @shop.kit.on("account_funded", priority=1)
    def commit(sender: Any, **extra: Any) -> None:
        shop.session.commit()
        book(shop.session)

    shop.on(lambda sender, **extra: None)
    with shop.open() as session:
        session.add(Account(name="acme"))
        shop.funded.send("acme")
        session.commit()
    assert len(shop.messages()) == 1
    assert shop.rows()[0] == "acme"


def test_listener_of_a_commit_may_send(shop: DurableShop) -> None:
    """The session runs no statement then, so the message has a transaction of its own."""
    shop.on(lambda sender, **extra: None)

    def send(session: Any) -> None:
        shop.funded.send("acme")

    with shop.open() as session:
        session.add(Account(name="acme"))
        event.listen(session, "after_commit", send)
        session.commit()
    assert len(shop.messages()) == 1


def test_predicate_that_reads_does_not_lock_the_message_out(shop: DurableShop) -> None:
    """The account is expired by the commit, so its predicate loads it."""
    shop.kit.use_outbox(Base.metadata)
    shop.kit.on(
        "account_funded", delivery="durable", when=lambda account, **extra: account.balance > 0
    )(_receive)
    Base.metadata.create_all(shop.engine)
    with shop.open() as session:
        account = Account(name="acme", balance=1)
        session.add(account)
        session.commit()
        shop.funded.send(account)
    assert len(shop.messages()) == 1


def _receive(sender: Any, **extra: Any) -> None:
    """Be a receiver."""


def test_session_of_the_delivery_is_rolled_back(shop: DurableShop) -> None:
    """So the next run in this thread does not commit what a failed one has written."""
    own = scoped_session(sessionmaker(shop.engine))

    def bad(sender: Any, **extra: Any) -> None:
        own.add(Account(name="half"))
        own.flush()
        raise LookupError

    shop.on(bad, session=own, max_attempts=1)
    shop.on(_receive, session=own)
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    assert not own().in_transaction()
    own.remove()
    with shop.open() as session:
        assert session.query(Account).count() == 0
    assert [message.due for message in shop.messages()] == [None]


def test_transaction_of_an_enclosing_context_stays_open(shop: DurableShop) -> None:
    """Neither committed nor rolled back by a run."""
    if shop.engine.dialect.name == "sqlite":
        pytest.skip("the open transaction holds the lock")
    shop.on(_receive)
    with shop.open() as session:
        shop.funded.send("acme")
        session.add(Account(name="draft"))
        session.flush()
        assert shop.outbox.run_due() == 1
        session.rollback()
        assert session.query(Account).count() == 0


def test_event_of_a_flush_may_send(shop: DurableShop) -> None:
    """The instance has its key by then."""
    got: list[Any] = []
    shop.on(lambda account, **extra: got.append(account.name))

    def inserted(mapper: Any, connection: Any, target: Any) -> None:
        shop.funded.send(target)

    event.listen(Account, "after_insert", inserted)
    try:
        with shop.open() as session:
            session.add(Account(name="acme"))
            session.commit()
    finally:
        event.remove(Account, "after_insert", inserted)
    shop.work()
    assert got == ["acme"]


@pytest.mark.parametrize("policy", ["isolate", "group"])
def test_message_that_cannot_be_stored_fails_the_send(shop: DurableShop, policy: Any) -> None:
    """Whatever the failure policy is: its receiver would be missing."""
    shop.kit.use_outbox(Base.metadata)
    shop.kit.on("account_funded", delivery=Durable(), on_error=policy)(_receive)
    Base.metadata.create_all(shop.engine)
    with shop.open(), pytest.raises(PayloadError):
        shop.funded.send("acme", amount=object())
    with shop.open(), pytest.raises(PayloadError):
        shop.funded.send_robust("acme", amount=object())


# -- runs -----------------------------------------------------------------------------------------


def test_exit_in_a_receiver_is_a_failed_attempt(shop: DurableShop) -> None:
    """It is tried again after the backoff, with the reason."""

    def leave(sender: Any, **extra: Any) -> None:
        raise SystemExit(1)

    shop.on(leave, backoff=lambda attempt: 3600)
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    [message] = shop.messages()
    assert message.error.startswith("SystemExit at")
    assert 3500 < (shop.outbox.seconds_to_next() or 0) < 3700


@pytest.mark.parametrize("seconds", [float("inf"), 1e300])
def test_endless_delay_is_limited_to_a_year(shop: DurableShop, seconds: float) -> None:
    """Whether a receiver asks for it, or its backoff returns it."""

    def ask(sender: Any, **extra: Any) -> None:
        raise RetryAfter(seconds)

    def fail(sender: Any, **extra: Any) -> None:
        raise LookupError

    shop.on(ask)
    shop.on(fail, backoff=lambda attempt: seconds)
    with shop.open():
        shop.funded.send("acme")
    shop.work()
    delays = [message.due - time.time() for message in shop.messages()]
    assert len(delays) == 2
    assert all(0 < delay <= 366 * 86400 for delay in delays)


def test_hung_receiver_takes_one_thread(shop: DurableShop) -> None:
    """Its message is due again, but this process does not begin it once more."""
    began: list[int] = []
    go, others, hangs = threading.Event(), threading.Event(), threading.Event()

    def hang(sender: Any, **extra: Any) -> None:
        began.append(1)
        hangs.set()
        go.wait(30)

    shop.on(hang, timeout=0.05)
    shop.on(lambda sender, **extra: others.set(), signal="account_opened")
    worker = Worker(shop.outbox, 2)
    thread = threading.Thread(target=worker.work)
    thread.start()
    try:
        with shop.open():
            shop.funded.send("acme")
        assert hangs.wait(30)
        wait_until(lambda: (shop.outbox.seconds_to_next() or 0) > 1)  # it was claimed once more
        for _ in range(5):
            others.clear()
            with shop.open():
                shop.opened.send("acme")
            worker.wake()
            assert others.wait(30)
        assert began == [1]
    finally:
        go.set()
        worker.stop()
        thread.join()


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


def test_session_of_another_database_is_refused_whatever_session_comes_next(
    tmp_path: Path,
) -> None:
    """The workers read one table only. A test may change the database, an app in use may not."""
    main, other = (create_engine(f"sqlite:///{tmp_path / name}.sqlite") for name in ("a", "b"))
    kit = SignalsKit()
    kit.use_session(lambda: g.get("session"))
    kit.use_outbox(Base.metadata)
    kit.on("account_funded", delivery="durable")(_receive)
    app = Flask("shop")
    app.config["SIGNALS_KIT_ENGINE"] = "none"
    kit.init_app(app)

    def send(engine: Any) -> None:
        with app.app_context(), Session(engine) as g.session:
            g.session.execute(text("SELECT 1"))
            kit.send("account_funded", "acme")
            g.session.commit()

    for engine in (main, other):
        Base.metadata.create_all(engine)
    send(main)
    with pytest.raises(ConfigurationError, match="both must be one database"):
        send(other)
    send(main)
    outbox = kit.for_app(app).outbox
    assert outbox is not None
    assert outbox.engine() is main
    main.dispose()
    other.dispose()


def test_session_that_translates_the_schema_to_another_one_is_refused(tmp_path: Path) -> None:
    """As in an app with a schema for each tenant: the workers would read that of the first."""
    plain = create_engine(f"sqlite:///{tmp_path / 'main.sqlite'}")
    attach = f"ATTACH DATABASE '{tmp_path / 'tenant.sqlite'}' AS tenant"
    event.listen(plain, "connect", lambda connection, record: connection.execute(attach))
    tenant = plain.execution_options(schema_translate_map={None: "tenant"})
    kit = SignalsKit()
    kit.use_session(lambda: g.get("session"))
    kit.use_outbox(Base.metadata, plain)
    kit.on("account_funded", delivery="durable")(_receive)
    app = make_app(kit, TESTING=True)
    for engine in (plain, tenant):
        Base.metadata.create_all(engine)
    with app.app_context(), Session(tenant) as g.session:
        g.session.execute(text("SELECT 1"))
        with pytest.raises(ConfigurationError, match="uses schema 'tenant'"):
            kit.send("account_funded", "acme")
    plain.dispose()


def test_statements_keep_no_dialect(shop: DurableShop) -> None:
    """An app may make an engine for each test, or for each tenant."""
    shop.on(_receive)
    engine = create_engine(shop.engine.url)
    with engine.connect() as connection:
        shop.outbox.statements.seconds_to_next(connection, None)
    dialect = weakref.ref(engine.dialect)
    engine.dispose()
    del engine, connection
    gc.collect()
    assert dialect() is None


# -- connecting and values ------------------------------------------------------------------------


def test_name_is_unique_among_patterns_and_names(shop: DurableShop) -> None:
    """Or one function would get the messages of the other."""
    shop.kit.use_outbox(Base.metadata)
    shop.kit.on("account_*", delivery=Durable(backoff=now))(lambda sender, **extra: None)
    with pytest.raises(DuplicateReceiverError, match="have the name"):
        shop.kit.on("account_funded", delivery="durable")(lambda sender, **extra: None)


def test_weak_receiver_is_refused(shop: DurableShop) -> None:
    """It would be missing when its message runs."""
    shop.kit.use_outbox(Base.metadata)
    with pytest.raises(ConfigurationError, match="durable and weak"):
        shop.kit.on("account_funded", delivery="durable", weak=True)(_receive)


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


def test_translated_schema_is_that_of_the_table(tmp_path: Path) -> None:
    """As in an app that keeps each tenant's tables in a schema of its own."""
    plain = create_engine(f"sqlite:///{tmp_path / 'main.sqlite'}")
    attach = f"ATTACH DATABASE '{tmp_path / 'tenant.sqlite'}' AS tenant"
    event.listen(plain, "connect", lambda connection, record: connection.execute(attach))
    engine = plain.execution_options(schema_translate_map={None: "tenant"})
    metadata, kit, got = MetaData(), SignalsKit(), list[Any]()
    kit.use_session(scoped_session(sessionmaker(engine)))
    kit.use_outbox(metadata, engine)
    kit.on("sale_made", delivery="durable")(lambda sender, **extra: got.append(sender))
    app = Flask("shop")
    app.testing = True
    kit.init_app(app)
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
    plain.dispose()


def test_proxy_is_stored_as_what_it_stands_for(shop: DurableShop) -> None:
    """As Flask-Login's ``current_user``."""
    got: list[Any] = []
    shop.on(lambda sender, *, user, **extra: got.append(user.name))
    with shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        shop.funded.send("x", user=LocalProxy(lambda: account))
        session.commit()
    shop.work()
    assert got == ["acme"]


def test_payload_with_the_name_of_the_sender_is_refused() -> None:
    """A message stores both side by side."""
    with pytest.raises(PayloadError, match="a payload named 'sender'"):
        encode("account_funded", None, "acme", {"sender": "bob"}, {})


def test_missing_name_is_refused_even_if_payloads_are_not_checked(database: str) -> None:
    """The receiver could never run."""
    shop = DurableShop(database)
    shop.app.config["SIGNALS_KIT_VALIDATE"] = False
    shop.kit.for_app(shop.app).validating = False

    @shop.kit.declare
    def sale_made(sender: str, *, amount: int) -> None: ...

    shop.on(_receive, signal="sale_made")
    with shop.open(), pytest.raises(ContractError, match="without 'amount'"):
        shop.kit.send("sale_made", "acme")
    shop.close()


def test_failed_insert_shows_no_payload(sqlite: str, caplog: pytest.LogCaptureFixture) -> None:
    """SQLAlchemy's errors contain the parameters of a statement."""
    shop = DurableShop(sqlite)
    shop.on(_receive)
    with shop.outside.begin() as connection:
        connection.execute(text("DROP TABLE signals_outbox"))
        connection.execute(
            text(
                "CREATE TABLE signals_outbox (id INTEGER PRIMARY KEY, receiver TEXT, signal TEXT,"
                " payload TEXT, headers TEXT, queue TEXT, due REAL, attempt INTEGER,"
                " error TEXT, other TEXT NOT NULL)"
            )
        )
    with shop.open(), pytest.raises(Exception, match="NOT NULL") as caught:
        shop.funded.send("acme", password="secret-4111")
    assert "secret" not in str(caught.value)
    assert "secret" not in caplog.text
    shop.close()
