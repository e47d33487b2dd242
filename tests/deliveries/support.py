"""An app with a database, configured in each supported way, and records of its receivers."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy_lite import SQLAlchemy as Lite
from sqlalchemy import Engine, ForeignKey, create_engine, event, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from flask_signals_kit import SignalsKit
from flask_signals_kit.core.journal import Tally
from tests.support import tally_of

EXTENSIONS = ("flask_sqlalchemy", "flask_sqlalchemy_lite", "use_session")
"""The ways in which an app has a session."""


class Base(DeclarativeBase):
    """The tables of the tests."""


class Account(Base):
    """A customer who can be funded."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    balance: Mapped[int] = mapped_column(default=0)


class Invoice(Base):
    """A row that needs an account, checked at the commit only."""

    __tablename__ = "invoice"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(
        ForeignKey("account.id", deferrable=True, initially="DEFERRED")
    )


def _flask_sqlalchemy(app: Flask, kit: SignalsKit, url: str) -> tuple[Engine, Callable[[], Any]]:
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db = SQLAlchemy()
    db.init_app(app)
    with app.app_context():
        return db.engine, db.session


def _flask_sqlalchemy_lite(
    app: Flask, kit: SignalsKit, url: str
) -> tuple[Engine, Callable[[], Any]]:
    app.config["SQLALCHEMY_ENGINES"] = {"default": url}
    db = Lite()
    db.init_app(app)
    with app.app_context():
        return db.engine, lambda: db.session


def _use_session(app: Flask, kit: SignalsKit, url: str) -> tuple[Engine, Callable[[], Any]]:
    engine = create_engine(url)
    session = scoped_session(sessionmaker(engine))
    kit.use_session(session)

    @app.teardown_appcontext
    def remove(error: BaseException | None) -> None:
        session.remove()

    return engine, session


_MAKERS = {
    "flask_sqlalchemy": _flask_sqlalchemy,
    "flask_sqlalchemy_lite": _flask_sqlalchemy_lite,
    "use_session": _use_session,
}


class Shop:
    """An app with a kit and a database.

    :param url: the database's URL.
    :param extension: one of ``EXTENSIONS``.
    """

    def __init__(self, url: str, extension: str = "flask_sqlalchemy") -> None:
        self.app = Flask("shop")
        self.app.testing = True
        self.kit = SignalsKit()
        self.funded = self.kit.signal("account_funded", "Money arrived.")
        self.opened = self.kit.signal("account_opened", "An account is there.")
        self.engine, self._session = _MAKERS[extension](self.app, self.kit, url)
        self.outside = create_engine(url)
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _check_foreign_keys)
        self.kit.begin_immediate(self.engine)
        self.kit.init_app(self.app)
        Base.metadata.create_all(self.engine)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self.outside.dispose()

    @property
    def session(self) -> Session:
        """The current session."""
        session: Session = self._session()
        return session

    @contextmanager
    def open(self) -> Iterator[Session]:
        """Push an app context and give its session."""
        with self.app.app_context():
            yield self.session

    def listen(self, signal: str = "account_funded", **how: Any) -> list[Any]:
        """Connect an after-commit receiver; return the list of the senders that it received."""
        seen: list[Any] = []
        how.setdefault("delivery", "after_commit")

        def receiver(sender: Any, **extra: Any) -> None:
            seen.append(sender)

        self.kit.on(signal, **how)(receiver)
        return seen

    def fund(self, name: str) -> Account:
        """Add an account to the session, and send that it was funded."""
        account = Account(name=name)
        self.session.add(account)
        self.funded.send(name)
        return account

    def rows(self) -> list[str]:
        """Return the names of the accounts that another connection reads."""
        with self.outside.connect() as connection:
            return list(connection.scalars(select(Account.name).order_by(Account.id)))

    def tally(self, signal: str = "account_funded", index: int = 0) -> Tally:
        """Return the counts of a receiver."""
        namespace = self.kit.for_app(self.app).namespace
        return tally_of(namespace.signal(signal), index)


def _check_foreign_keys(connection: Any, record: Any) -> None:
    connection.execute("PRAGMA foreign_keys = ON")


def messages(caplog: Any, level: int = logging.ERROR) -> list[str]:
    """Return what the kit has logged at a level."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "flask_signals_kit" and record.levelno == level
    ]


def run_python(code: str, *arguments: str) -> None:
    """Run code in a new Python process."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
