"""The problems that `kit.check()` and the report find."""

import gc
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy as FlaskSQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as Lite
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from flask_signals_kit import AfterCommit, AppSignals, Call, Problem, SignalsKit
from flask_signals_kit.debug.report import (
    POLICIES,
    SUGGESTIONS,
    TITLES,
    ProblemKind,
    report,
)
from flask_signals_kit.deliveries.sqlite import engine_label
from flask_signals_kit.settings import ON_ERROR
from tests.debug.support import Account, kinds, receive, receive_amount, signal_of, waits


def only_problem(app_signals: AppSignals) -> Problem:
    """Return the only problem."""
    [problem] = report(app_signals).problems
    return problem


def test_collected_receiver_is_a_problem(shop: AppSignals) -> None:
    """Its connection ended without a call of `disconnect`."""
    shop.signal("account_funded")

    def fleeting(sender: object, **extra: object) -> None: ...

    shop.on("account_funded", weak=True)(fleeting)
    assert kinds(shop) == []
    del fleeting
    gc.collect()
    problem = only_problem(shop)
    assert (problem.kind, problem.signal) == ("dead", "account_funded")
    assert "fleeting" in problem.message
    assert "weak=False" in problem.fix
    assert problem.place is not None
    assert problem.place.file == __file__


def test_connected_undeclared_name_is_a_problem(shop: AppSignals) -> None:
    """With the name that was probably meant."""
    shop.signal("account_funded")
    shop.on("acount_funded")(receive)
    problem = only_problem(shop)
    assert (problem.kind, problem.signal) == ("undeclared", "acount_funded")
    assert "Did you mean 'account_funded'?" in problem.message
    assert problem.fix == (
        "Use 'account_funded'. If 'acount_funded' is a signal of its own: "
        "Declare it with kit.signal('acount_funded', doc) or @kit.declare."
    )


def test_fix_for_an_undeclared_name_without_a_similar_one(shop: AppSignals) -> None:
    """Connected or sent, or of an extension: each with the matching fix."""
    shop.signal("account_funded")
    shop.on("zebra_seen", "flask_login.user_logged_in")(receive)
    shop.send("horse_fed")
    assert {problem.signal: problem.fix for problem in shop.check()} == {
        "zebra_seen": "Declare it with kit.signal('zebra_seen', doc) or @kit.declare.",
        "horse_fed": "Declare it with kit.signal('horse_fed', doc) or @kit.declare.",
        "flask_login.user_logged_in": (
            "Bridge the signals of that extension with kit.bridge('flask_login')."
        ),
    }


def test_undeclared_name_that_was_only_accessed_is_no_problem(shop: AppSignals) -> None:
    """It has no sends and no receivers, so nothing goes wrong."""
    shop.namespace.signal("account_funded")
    assert kinds(shop) == []
    assert not signal_of(shop, "account_funded").orphan


def test_report_suggests_names_for_the_first_few_only(shop: AppSignals) -> None:
    """Each is compared with all, so a thousand undeclared names would take too long.

    The report of one signal has its suggestion in any case.
    """
    shop.signal("account_funded")
    misspelt = [f"account_funded_{number:02}" for number in range(SUGGESTIONS + 5)]
    shop.on(*misspelt)(receive)
    problems = report(shop).problems
    assert [problem.signal for problem in problems] == misspelt
    suggested = ["Did you mean" in problem.message for problem in problems]
    assert suggested == [True] * SUGGESTIONS + [False] * 5
    [problem] = report(shop, misspelt[-1]).problems
    assert "Did you mean 'account_funded'?" in problem.message


def test_sent_undeclared_name_is_a_problem(
    shop: AppSignals, caplog: pytest.LogCaptureFixture
) -> None:
    """It has the place of the send, and is no orphan."""
    shop.signal("account_funded")
    shop.send("account_fundd", "acme")
    problem = only_problem(shop)
    assert (problem.kind, problem.signal) == ("unknown", "account_fundd")
    assert problem.fix.startswith("Use 'account_funded'. If 'account_fundd' is a signal of its own")
    assert problem.place is not None
    assert problem.place.file == __file__
    assert [signal.name for signal in report(shop).orphans] == ["account_funded"]


def test_receiver_without_kwargs_is_a_problem(shop: AppSignals) -> None:
    """It fails once a name is added to the payload."""

    @shop.declare
    def account_funded(sender: Account, *, amount: int) -> None: ...

    shop.on(account_funded)(receive_amount)
    problem = only_problem(shop)
    assert problem.kind == "no_extra"
    assert "receive_amount" in problem.message
    assert str(problem).endswith(
        f"(tests/debug/support.py:{receive_amount.__code__.co_firstlineno})"
    )


def closure() -> Callable[..., None]:
    """Return a new function with the same module and name each time."""

    def connected(sender: object, **extra: object) -> None: ...

    return connected


def test_function_connected_twice_by_module_and_name_is_a_problem(shop: AppSignals) -> None:
    """A factory that ran twice connects its closures twice."""
    shop.signal("account_funded")
    for _ in range(3):
        shop.on("account_funded")(closure())
    problem = only_problem(shop)
    assert problem.kind == "duplicate"
    assert "3 times" in problem.message
    assert "uid" in problem.fix


def test_file_imported_under_two_names_is_a_problem(shop: AppSignals, tmp_path: Path) -> None:
    """Each of its receivers is connected twice: by a module of another name, or by `__main__`."""
    file = tmp_path / "shop_models.py"
    file.write_text(
        "def connect(kit):\n"
        "    kit.on('account_funded')(receive)\n"
        "    kit.on('account_funded')(lambda sender, **extra: 1)\n"
        "def receive(sender, **extra): ...\n"
    )
    shop.signal("account_funded")
    for name in ("shop_models", "app.shop_models"):
        runpy.run_path(str(file), run_name=name)["connect"](shop)
    assert kinds(shop) == ["duplicate", "duplicate"]
    first = shop.check()[0]
    assert "shop_models.receive" in first.message
    assert "app.shop_models.receive" in first.message
    assert "imported under 2 module names" in first.message
    assert first.fix == "Import the file as shop_models everywhere, or as app.shop_models."
    assert first.place is not None
    assert (first.place.file, first.place.line) == (str(file), 4)


def test_lambdas_are_not_reported_as_duplicates(shop: AppSignals) -> None:
    """They share a name and perhaps a line, and are different functions."""
    shop.signal("account_funded")
    on = shop.on("account_funded")
    on(lambda sender, **extra: 1)
    on(lambda sender, **extra: 2), on(lambda sender, **extra: 3)
    assert kinds(shop) == []


def test_intended_repetitions_are_not_reported_as_duplicates(shop: AppSignals) -> None:
    """One function for two senders of one type; a closure for each sender; those with a uid."""
    shop.signal("account_funded")
    accounts = [Account(), Account()]
    for account in accounts:
        shop.on("account_funded", sender=account)(receive)
        shop.on("account_funded", sender=account)(closure())
    shop.on("account_funded", uid="one")(closure())
    shop.on("account_funded", uid="two")(closure())
    with shop.namespace.signal("account_funded").connected_to(receive, accounts[0]):
        assert kinds(shop) == []


def with_flask_sqlalchemy(app: Flask, kit: SignalsKit, url: str) -> None:
    """Configure two engines of Flask-SQLAlchemy."""
    app.config.update(SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_BINDS={"archive": url})
    db = FlaskSQLAlchemy()
    db.init_app(app)
    with app.app_context():
        kit.begin_immediate(db.engine)


def with_lite(app: Flask, kit: SignalsKit, url: str) -> None:
    """Configure two engines of Flask-SQLAlchemy-Lite."""
    app.config["SQLALCHEMY_ENGINES"] = {"default": "sqlite://", "archive": url}
    db = Lite()
    db.init_app(app)
    with app.app_context():
        kit.begin_immediate(db.engine)


def with_scoped_session(app: Flask, kit: SignalsKit, url: str) -> None:
    """Configure an unused scoped session."""
    kit.use_session(scoped_session(sessionmaker(create_engine(url))))


def with_binds(app: Flask, kit: SignalsKit, url: str) -> None:
    """Configure a session whose engine depends on the model."""
    kit.use_session(scoped_session(sessionmaker(binds={Account: create_engine(url)})))


def with_function(app: Flask, kit: SignalsKit, url: str) -> None:
    """Configure a function that returns a session."""
    session = Session(create_engine(url))
    kit.use_session(lambda: session)


@pytest.mark.parametrize(
    "give_session",
    [with_flask_sqlalchemy, with_lite, with_scoped_session, with_binds, with_function],
)
def test_sqlite_engine_without_begin_immediate_is_reported_once(
    tmp_path: Path, give_session: Callable[[Flask, SignalsKit, str], None]
) -> None:
    """With the first receiver that waits for its commits; no connection is opened for the check.

    An engine that begins its transactions itself is fine.
    """
    file = tmp_path / "shop.sqlite"
    app, kit = Flask("shop"), SignalsKit()
    give_session(app, kit, f"sqlite:///{file}")
    kit.init_app(app)
    kit.signal("account_funded")
    kit.signal("account_closed")
    kit.on("account_funded", "account_closed", delivery="after_commit")(waits)
    with app.app_context():
        [problem] = kit.check()
        assert (problem.kind, problem.signal) == ("sqlite", "account_closed")
        assert f"waits for commits of engine sqlite:///{file}, which" in problem.message
        assert "kit.begin_immediate(engine)" in problem.fix
        assert problem.place is not None
        assert problem.place.name == "waits"
        assert report(kit.for_app(app)).to_json()["signals"][0]["problems"][0]["kind"] == "sqlite"
        assert report(kit.for_app(app), "account_funded").problems == ()
        assert len(report(kit.for_app(app), "account_closed").problems) == 1
        assert not file.exists()


def test_sqlite_engine_of_a_delivery_session_is_reported() -> None:
    """It need not be a session of the app."""
    app, engine = Flask("shop"), create_engine("sqlite://")
    kit = SignalsKit(app)
    archive = scoped_session(sessionmaker(engine))
    kit.signal("account_closed")
    kit.on("account_closed", delivery=AfterCommit(session=archive))(waits)
    with app.app_context():
        assert [problem.kind for problem in kit.check()] == ["sqlite"]
        kit.begin_immediate(engine)
        assert kit.check() == []
        assert not archive.registry.has()


def test_begin_listener_of_the_app_is_accepted() -> None:
    """An app that handles the `begin` event is assumed to begin transactions itself."""
    app, engine = Flask("shop"), create_engine("sqlite://")
    kit = SignalsKit(app)
    kit.use_session(scoped_session(sessionmaker(engine)))
    kit.signal("account_closed")
    kit.on("account_closed", delivery="after_commit")(waits)
    event.listen(engine, "begin", lambda connection: None)
    with app.app_context():
        assert kit.check() == []


def test_other_engines_and_deliveries_are_no_problem() -> None:
    """Other databases, immediate receivers, other deliveries."""
    app = Flask("shop")
    kit = SignalsKit(app)
    kit.signal("account_closed")
    kit.use_session(lambda: Session(create_engine("postgresql+psycopg://localhost/shop")))
    kit.on("account_closed", delivery="after_commit")(waits)
    kit.on("account_closed", delivery=Elsewhere())(receive)
    with app.app_context():
        assert kit.check() == []

    kit.registry.sessions = ()
    kit.use_session(scoped_session(sessionmaker(create_engine("sqlite://"))))
    kit.for_app(app).namespace.signal("account_closed").disconnect(waits)
    with app.app_context():
        assert kit.check() == []


class Elsewhere:
    """A delivery without a session."""

    name = "elsewhere"

    def deliver(self, call: Call, /) -> None:
        """Do nothing."""


def no_session() -> None:
    """Return no session, as outside of a unit of work."""


def broken_session() -> None:
    """Raise, as ``g.session`` does while it is not set."""
    raise AttributeError("session")


@pytest.mark.parametrize("session", [no_session, broken_session])
def test_missing_session_is_tolerated(session: Callable[[], None]) -> None:
    """Its engine is unknown then."""
    app = Flask("shop")
    kit = SignalsKit(app)
    kit.signal("account_closed")
    kit.use_session(session)
    kit.on("account_closed", delivery="after_commit")(waits)
    with app.app_context():
        assert kit.check() == []


def test_engines_are_unknown_outside_the_app_context() -> None:
    """The report pushes no context, because Flask would send signals for it."""
    app = Flask("shop")
    kit = SignalsKit()
    with_flask_sqlalchemy(app, kit, "sqlite://")
    kit.init_app(app)
    kit.signal("account_closed")
    kit.on("account_closed", delivery="after_commit")(waits)
    app_signals = kit.for_app(app)
    assert kinds(app_signals) == []
    with Flask("other").app_context():
        assert kinds(app_signals) == []
    with app.app_context():
        assert kinds(app_signals) == ["sqlite"]


def test_engine_url_has_no_password() -> None:
    """Visitors of the page need not know the password."""
    app = Flask("shop")
    kit = SignalsKit(app)
    engine = create_engine("sqlite:///file:shop.sqlite?key=secret&uri=true")
    kit.use_session(scoped_session(sessionmaker(engine)))
    kit.signal("account_closed")
    kit.on("account_closed", delivery="after_commit")(waits)
    with app.app_context():
        [problem] = kit.check()
    # SQLAlchemy 2.0 leaves the colon as it is.
    assert re.search(r"engine sqlite:///file(%3A|:)shop\.sqlite, which", problem.message)
    assert "secret" not in str(problem)
    engine = create_engine("postgresql+psycopg://me:secret@localhost/shop")
    assert engine_label(engine) == "postgresql+psycopg://me:***@localhost/shop"


def test_every_problem_kind_and_policy_has_a_text() -> None:
    """A new one without a text fails here, and not on the page."""
    assert set(POLICIES) == set(ON_ERROR)
    assert set(TITLES) == set(get_args(ProblemKind))
