"""``flask signals check`` compares the outbox with the database."""

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, create_engine

from flask_signals_kit import Durable, SignalsKit
from tests.debug.support import run
from tests.debug.test_outbox import execute, pay, send
from tests.deliveries.durable.support import DurableShop


def problems(shop: DurableShop) -> list[dict[str, Any]]:
    """Return the problems that ``flask signals check --json`` prints."""
    result = run(shop.app, "check", "--json")
    found: list[dict[str, Any]] = json.loads(result.stdout)["problems"]
    assert result.exit_code == bool(found)
    return found


def declared(shop: DurableShop) -> None:
    """Connect a receiver that is no problem by itself."""
    shop.on(pay, uid="ledger")


def test_complete_outbox_is_no_problem(durable_shop: DurableShop) -> None:
    """Messages with a receiver are as it should be."""
    declared(durable_shop)
    send(durable_shop)
    assert problems(durable_shop) == []


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ("DROP TABLE signals_outbox", "there is no table 'signals_outbox' in "),
        ("ALTER TABLE signals_outbox DROP COLUMN error", "there is no column 'error' in table "),
    ],
)
def test_incomplete_table_is_a_problem(
    durable_shop: DurableShop, change: str, missing: str
) -> None:
    """With the place of a receiver that needs it."""
    declared(durable_shop)
    execute(durable_shop, change)
    [problem] = problems(durable_shop)
    assert (problem["kind"], problem["signal"]) == ("outbox", "account_funded")
    assert missing in problem["message"]
    assert "db.create_all()" in problem["fix"]
    assert problem["place"]["name"] == "pay"
    assert "Outbox incomplete  account_funded" in run(durable_shop.app, "check").output


def test_messages_without_a_receiver_are_a_problem(durable_shop: DurableShop) -> None:
    """With their number, and what to do; dead ones count as well."""

    def renamed(sender: Any, **extra: Any) -> None:
        pass

    declared(durable_shop)
    send(durable_shop, 3)
    durable_shop.kit.disconnect(pay)
    durable_shop.on(renamed, uid="books")
    execute(durable_shop, "UPDATE signals_outbox SET due = NULL, error = 'E' WHERE id = 1")
    [problem] = problems(durable_shop)
    assert (problem["kind"], problem["signal"]) == ("no_receiver", "account_funded")
    assert problem["message"].startswith("3 messages are stored for receiver 'ledger' of signal")
    assert "uid='ledger'" in problem["fix"]
    assert "flask signals outbox retry --receiver ledger" in problem["fix"]


def test_page_and_check_in_tests_ask_no_database(durable_shop: DurableShop) -> None:
    """They work while it is down."""
    declared(durable_shop)
    execute(durable_shop, "DROP TABLE signals_outbox")
    with durable_shop.open():
        assert durable_shop.kit.check() == []
    answer = durable_shop.app.test_client().get("/_signals/signals.json")
    assert answer.status_code == 200


def test_database_that_cannot_be_used_is_a_note(durable_shop: DurableShop, tmp_path: Path) -> None:
    """A check of the code alone is possible without a database."""
    declared(durable_shop)
    engine = create_engine(f"sqlite:///{tmp_path}/missing/shop.sqlite")
    durable_shop.kit.begin_immediate(engine)
    durable_shop.outbox._engine = engine
    result = run(durable_shop.app, "check")
    assert result.exit_code == 0
    assert result.stderr.startswith("Not checked: The outbox in sqlite:///")
    engine.dispose()


def shop_on_sqlite(tmp_path: Path, kit: SignalsKit) -> Flask:
    """Return an app whose engine begins late, with a declared signal."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'shop.sqlite'}"
    SQLAlchemy(app)
    kit.signal("account_funded")
    return app


def test_sqlite_engine_of_a_durable_receiver_is_reported(tmp_path: Path, kit: SignalsKit) -> None:
    """It must begin its transactions at the right time."""
    app = shop_on_sqlite(tmp_path, kit)
    kit.on("account_funded", delivery="durable")(pay)
    kit.init_app(app)
    with app.app_context():
        [problem] = kit.check()
        assert problem.kind == "sqlite"
        assert "stores its messages with engine sqlite:///" in problem.message
        kit.begin_immediate(app.extensions["sqlalchemy"].engine)
        assert kit.check() == []


def test_named_sqlite_engine_of_the_outbox_is_reported(tmp_path: Path, kit: SignalsKit) -> None:
    """It need not be that of the app's session."""
    app = shop_on_sqlite(tmp_path, kit)
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.sqlite'}")
    kit.use_outbox(MetaData(), engine)
    kit.on("account_funded", delivery=Durable())(pay)
    kit.init_app(app)
    with app.app_context():
        kit.begin_immediate(app.extensions["sqlalchemy"].engine)
        assert [problem.kind for problem in kit.check()] == ["sqlite"]
        kit.begin_immediate(engine)
        assert kit.check() == []
    engine.dispose()
