"""Flask-Migrate and ``create_all`` create the table, and find nothing more to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from flask_signals_kit.deliveries.durable.table import missing_part, outbox_table
from tests.deliveries.durable.support import DurableShop

APP = """
import os
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from flask_signals_kit import SignalsKit

app = Flask("shop")
app.testing = True
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["SHOP_DATABASE"]
db = SQLAlchemy(app)
migrate = Migrate(app, db)
kit = SignalsKit()
funded = kit.signal("account_funded", "Money arrived.")


class Account(db.Model):
    id = db.Column(db.Integer, primary_key=True)


@kit.on(funded, delivery="durable")
def pay(account, **extra):
    print("paid", account.id)


kit.init_app(app)


@app.cli.command("fund")
def fund():
    account = Account()
    db.session.add(account)
    funded.send(account)
    db.session.commit()


@app.cli.command("create")
def create():
    db.create_all()
"""


RUN = """
import sys
from flask.cli import FlaskGroup

for command in sys.argv[1:]:
    FlaskGroup().main(["--app", "shop", *command.split()], standalone_mode=False)
"""


class App:
    """An app in a folder of its own, with Flask-Migrate."""

    def __init__(self, folder: Path, url: str) -> None:
        (folder / "shop.py").write_text(APP)
        self.folder = folder
        self.url = url

    def flask(self, *commands: str) -> str:
        """Run commands of ``flask`` in one process, and return what they print."""
        done = subprocess.run(
            [sys.executable, "-c", RUN, *commands],
            cwd=self.folder,
            env={**os.environ, "SHOP_DATABASE": self.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def migrations(self) -> list[str]:
        """Return the text of each migration."""
        return [path.read_text() for path in self.folder.glob("migrations/versions/*.py")]

    def assert_complete(self) -> None:
        """Check that messages are stored and run, and that no id is given twice.

        On SQLite, an id of a deleted row would be given again without AUTOINCREMENT.
        """
        engine = create_engine(self.url)
        ids = text("SELECT id FROM signals_outbox")
        for number in (1, 2):
            self.flask("fund")
            with engine.connect() as connection:
                names = [each["name"] for each in inspect(connection).get_indexes("signals_outbox")]
                assert names == ["ix_signals_outbox_due"]
                assert connection.scalars(ids).all() == [number]
            assert f"paid {number}\n" in self.flask("signals work --once")
            with engine.connect() as connection:
                assert connection.scalars(ids).all() == []
        engine.dispose()


@pytest.fixture
def app(tmp_path: Path, database: str) -> App:
    """Give an app on each database."""
    return App(tmp_path, database)


@pytest.mark.needs("flask_migrate")
def test_table_is_in_the_migration(app: App) -> None:
    """A second autogenerate finds no difference."""
    assert "Detected added table 'signals_outbox'" in app.flask("db init", "db migrate")
    [migration] = app.migrations()
    assert "op.create_table('signals_outbox'," in migration
    assert "'ix_signals_outbox_due', ['due']" in migration
    app.flask("db upgrade")
    assert "No changes in schema detected." in app.flask("db migrate")
    assert "No new upgrade operations detected." in app.flask("db check")
    assert len(app.migrations()) == 1
    app.assert_complete()
    app.flask("db downgrade base")


@pytest.mark.needs("flask_migrate")
def test_migration_finds_no_difference_after_create_all(app: App) -> None:
    """An app may begin with one and go on with the other."""
    assert "No changes in schema detected." in app.flask("create", "db init", "db migrate")
    assert app.migrations() == []
    app.assert_complete()


def test_missing_column_is_named(shop: DurableShop) -> None:
    """As after an update of the kit without a migration."""
    shop.on(lambda sender, **extra: None)
    table = outbox_table(shop.outbox.statements.table.metadata)
    with shop.outside.begin() as connection:
        assert missing_part(table, connection) is None
        connection.execute(text("ALTER TABLE signals_outbox DROP COLUMN queue"))
    with shop.outside.connect() as connection:
        assert missing_part(table, connection) == "column 'queue' in table 'signals_outbox'"
