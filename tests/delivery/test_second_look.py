"""What a second look at after-commit delivery found: each of these lost work or broke a commit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy_lite import SQLAlchemy as Lite
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_signals_kit import ConfigurationError, SignalsKit

INSERT = text("INSERT INTO account (funds) VALUES (1)")
COUNT = text("SELECT count(*) FROM account")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Return an engine with one table."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.sqlite")
    SignalsKit.begin_immediate(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, funds INTEGER)"))
    yield engine
    engine.dispose()


@pytest.fixture
def scoped(engine: Engine) -> Iterator[Any]:
    """Return a session for each thread, as a plain SQLAlchemy app has it."""
    scoped = scoped_session(sessionmaker(engine))
    yield scoped
    scoped.remove()


def make(kit: SignalsKit, scoped: Any) -> Flask:
    """Return an app whose contexts end with the session, as SQLAlchemy's documentation has it."""
    app = Flask("shop")
    kit.use_session(scoped)
    kit.init_app(app)

    @app.teardown_appcontext
    def end(error: BaseException | None) -> None:
        scoped.remove()

    return app


def test_sending_outside_a_context_leaves_the_transaction_alone(scoped: Any) -> None:
    """Looking for the transaction pushes no context, whose end would roll it back."""
    kit = SignalsKit()
    app = make(kit, scoped)
    ran: list[Any] = []
    half = kit.for_app(app)
    half.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    scoped.execute(INSERT)
    half.send("account_funded", "acme")
    scoped.commit()
    assert ran == ["acme"]
    assert scoped.scalar(COUNT) == 1


@pytest.mark.parametrize("first", [True, False])
def test_a_send_in_somebodys_own_after_commit_listener_is_waited_for(
    scoped: Any, engine: Engine, first: bool
) -> None:
    """Its transaction has committed and not ended: no SQL is possible yet, and nothing is lost."""
    kit = SignalsKit()
    app = make(kit, scoped)
    ran: list[int] = []
    session = scoped()

    def tell(_: Session) -> None:
        kit.send("account_funded", "acme")

    if first:
        event.listen(session, "after_commit", tell)
    kit.on("account_funded", delivery="after_commit")(
        lambda sender, **extra: ran.append(scoped.scalar(COUNT))
    )
    if not first:
        event.listen(session, "after_commit", tell)
    with app.app_context():
        session.execute(INSERT)
        session.commit()
        event.remove(session, "after_commit", tell)
        assert ran == [1]


def test_what_fails_around_a_receiver_does_not_reach_commit(
    scoped: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A teardown function of the context that a receiver ran in is nobody's failure but its own."""
    kit = SignalsKit()
    app = Flask("shop")
    kit.use_session(scoped)
    kit.init_app(app)

    @app.teardown_appcontext
    def fail(error: BaseException | None) -> None:
        raise OSError("teardown")

    ran: list[Any] = []
    half = kit.for_app(app)
    half.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(1))
    half.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(2))
    scoped.execute(INSERT)
    half.send("account_funded", "acme")
    scoped.commit()
    assert ran == [1, 2]
    assert "teardown" in caplog.text


def test_an_odd_exception_is_contained_as_well(scoped: Any) -> None:
    """One whose notes are no list is not noted."""
    kit = SignalsKit()
    app = make(kit, scoped)
    ran: list[Any] = []

    @kit.on("account_funded", delivery="after_commit")
    def fail(sender: Any, **extra: Any) -> None:
        error = ValueError("odd")
        error.__notes__ = 5  # type: ignore[assignment]
        raise error

    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with app.app_context():
        scoped.execute(INSERT)
        kit.send("account_funded", "acme")
        scoped.commit()
    assert ran == ["acme"]


def test_receivers_behind_a_keyboard_interrupt_are_said_to_be_dropped(
    scoped: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes up; what is not run any more is logged."""
    kit = SignalsKit()
    app = make(kit, scoped)

    @kit.on("account_funded", delivery="after_commit")
    def interrupt(sender: Any, **extra: Any) -> None:
        raise KeyboardInterrupt

    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: None)
    with app.app_context(), caplog.at_level("DEBUG", "flask_signals_kit"):
        scoped.execute(INSERT)
        kit.send("account_funded", "acme")
        with pytest.raises(KeyboardInterrupt):
            scoped.commit()
    assert "is not called" in caplog.text


def test_begin_immediate_leaves_autocommit_alone(engine: Engine) -> None:
    """`VACUUM` and pragmas need a connection without a transaction."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM"))


def test_begin_immediate_works_beside_a_listener_that_does_not_begin(tmp_path: Path) -> None:
    """A tracer that listens is no remedy."""
    engine = create_engine(f"sqlite:///{tmp_path}/traced.sqlite")
    event.listen(engine, "begin", lambda connection: None)
    SignalsKit.begin_immediate(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, funds INTEGER)"))
    with engine.connect() as connection:
        with connection.begin_nested():
            connection.execute(INSERT)
        connection.rollback()
        assert connection.scalar(COUNT) == 0
    engine.dispose()


def test_a_delivery_with_an_unrelated_session_is_refused_at_once() -> None:
    """A webhook's HTTP session is not for the kit to call."""

    class Webhook:
        name = "webhook"
        session = object()

        def deliver(self, call: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="Webhook has an attribute session"):
        SignalsKit().on("account_funded", delivery=Webhook())(lambda sender, **extra: None)


def test_a_function_may_return_the_scoped_session(scoped: Any) -> None:
    """The likeliest slip means what it says."""
    kit = SignalsKit()
    app = Flask("shop")
    kit.use_session(lambda: scoped)
    kit.init_app(app)
    ran: list[Any] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with app.app_context():
        scoped.execute(INSERT)
        kit.send("account_funded", "acme")
        assert ran == []
        scoped.commit()
    assert ran == ["acme"]


def test_a_function_that_returns_no_session_is_named() -> None:
    """The error says what came and what is wanted."""
    kit = SignalsKit()
    app = Flask("shop")
    kit.use_session(lambda: "postgresql://")
    kit.init_app(app)
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: None)
    with app.app_context(), pytest.raises(ConfigurationError, match="returned str, which is no"):
        kit.send("account_funded", "acme")


def test_a_named_session_of_lite_is_waited_for(tmp_path: Path) -> None:
    """Not only the default one."""
    db, kit, app = Lite(), SignalsKit(), Flask("shop")
    app.config["SQLALCHEMY_ENGINES"] = {"default": f"sqlite:///{tmp_path}/lite.sqlite"}
    db.init_app(app)
    kit.init_app(app)
    ran: list[Any] = []
    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: ran.append(sender))
    with app.app_context():
        other = db.get_session("other")
        other.execute(text("SELECT 1"))
        kit.send("account_funded", "lost")
        other.rollback()
        other.execute(text("SELECT 1"))
        kit.send("account_funded", "kept")
        assert ran == []
        other.commit()
        assert ran == ["kept"]
        db.engine.dispose()


def test_captured_receivers_are_all_taken_out_before_one_of_them_commits(scoped: Any) -> None:
    """As after a real commit, they run one after the other, not one within another."""
    kit = SignalsKit()
    app = make(kit, scoped)
    steps: list[str] = []

    @kit.on("account_funded", delivery="after_commit")
    def one(sender: Any, **extra: Any) -> None:
        steps.append("one starts")
        scoped.execute(INSERT)
        scoped.commit()
        steps.append("one ends")

    kit.on("account_funded", delivery="after_commit")(lambda sender, **extra: steps.append("two"))
    with app.app_context():
        scoped.execute(INSERT)
        with kit.capture(run_after_commit=True):
            kit.send("account_funded", "acme")
    assert steps == ["one starts", "one ends", "two"]
