"""What after-commit receivers cost: in a request, and in bulk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_signals_kit import SignalsKit

from .measure import Case, ratio, request_case, time_rounds

PAIRS = 5
ROWS = 4_000
RECEIVERS = (1, 5)


class Base(DeclarativeBase):
    """The tables."""


class Account(Base):
    """What is sent."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Entry(Base):
    """What receivers write."""

    __tablename__ = "entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


def _app(folder: str, name: str) -> tuple[Flask, SQLAlchemy]:
    app = Flask("bench")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{Path(folder, name)}.sqlite"
    db = SQLAlchemy(model_class=Base)
    db.init_app(app)
    with app.app_context():
        Base.metadata.create_all(db.engine)
    return app, db


def request_overhead() -> dict[int, float]:
    """Return the time of a request with so many after-commit receivers, against bare hooks.

    It reads a row, sends, and commits. A bare hook is a function that listens to SQLAlchemy's own
    ``after_commit``; there are as many, and nothing is sent. The kit's own listeners apply to every
    session of the process, so both sides pay for them.
    """
    return {count: median(_requests(count) for _ in range(PAIRS)) for count in RECEIVERS}


def _requests(count: int) -> float:
    with TemporaryDirectory() as folder:
        return _request_ratio(folder, count)


def _request_ratio(folder: str, count: int) -> float:
    (kit_app, kit_db), (bare_app, bare_db) = (_app(folder, f"{n}{count}") for n in ("kit", "bare"))
    kit = SignalsKit()
    account_funded = kit.signal("account_funded", "Money arrived in an account.")
    kit.init_app(kit_app)
    for _ in range(count):
        kit.on(account_funded, delivery="after_commit")(lambda sender, **extra: None)
        event.listen(bare_db.session, "after_commit", lambda session: None)
    cases = {
        "kit": _request_case(kit_app, kit_db, account_funded.send),
        "bare": _request_case(bare_app, bare_db, lambda sender: None),
    }
    figure = ratio(time_rounds(cases, rounds=81), "kit", "bare")
    for app, db in ((kit_app, kit_db), (bare_app, bare_db)):
        with app.app_context():
            db.engine.dispose()
    return figure


def _request_case(app: Flask, db: SQLAlchemy, send: Callable[[Any], object]) -> Case:
    with app.app_context():
        db.session.add(Account(name="acme"))
        db.session.commit()

    @app.post("/")
    def fund() -> str:
        account = db.session.get_one(Account, 1)
        send(account)
        db.session.commit()
        return "funded"

    return request_case(app, "POST")


def bulk_against_hand(*, writes: bool) -> float:
    """Return the time of many receivers after one commit, against a loop that does the same.

    Each row is added and sent; each receiver reads its row's name and, if it writes, adds an entry.
    By hand, what only reads is one transaction, and each entry has its own.
    """
    with TemporaryDirectory() as folder:
        return _bulk(folder, writes, kit=True) / _bulk(folder, writes, kit=False)


def _bulk(folder: str, writes: bool, *, kit: bool) -> float:
    app, db = _app(folder, f"bulk{kit}")
    signals = SignalsKit()
    account_opened = signals.signal("account_opened", "An account is there.")
    signals.init_app(app)
    read: list[str] = []

    def receive(account: Account, **extra: Any) -> None:
        read.append(account.name)
        if writes:
            db.session.add(Entry(text=account.name))

    if kit:
        signals.on(account_opened, delivery="after_commit")(receive)
    with app.app_context():
        began = process_time()
        accounts = [Account(name=str(number)) for number in range(ROWS)]
        for account in accounts:
            db.session.add(account)
            if kit:
                account_opened.send(account)
        db.session.commit()
        if not kit:
            db.session().expire_on_commit = False
            for account in accounts:
                receive(account)
                if writes:
                    db.session.commit()
            db.session.commit()
        taken = process_time() - began
        db.engine.dispose()
    assert len(read) == ROWS
    return taken
