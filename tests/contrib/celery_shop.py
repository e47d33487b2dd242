"""An app with durable receivers that Celery runs, in the test's process and in others.

``celery -A tests.contrib.celery_shop`` reads the variables ``SHOP_DATABASE`` and ``SHOP_BROKER``.
"""

import os
import signal
import time
from typing import Any

from celery import Celery, Task
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_signals_kit import Durable, SignalsKit, current_emission

kit = SignalsKit()
db = SQLAlchemy()

TIMEOUT = 4.0
"""The lease of the receivers here, in seconds."""


class Effect(db.Model):  # type: ignore[name-defined,misc]
    """What a receiver has done."""

    id = db.Column(db.Integer, primary_key=True)
    number = db.Column(db.Integer)
    attempt = db.Column(db.Integer)
    key = db.Column(db.String)
    process = db.Column(db.Integer)


@kit.declare
def account_funded(sender: object, *, number: int, first: str) -> None:
    """Money arrived; ``first`` is what happens in the first run of the receiver."""


@kit.declare
def report_asked(sender: object, *, number: int) -> None:
    """Figures are wanted."""


def at_once(attempt: int) -> float:
    """Run it again at once."""
    return 0.0


@kit.on(account_funded, delivery=Durable(timeout=TIMEOUT, backoff=at_once), uid="shop.pay")
def pay(sender: object, *, number: int, first: str) -> None:
    """Store an effect."""
    if current_emission.attempt == 1:
        FIRST[first]()
    store(number)


@kit.on(report_asked, delivery=Durable(timeout=TIMEOUT, queue="reports"), uid="shop.write_report")
def write_report(sender: object, *, number: int) -> None:
    """Store an effect, in a queue of its own."""
    store(number)


def store(number: int) -> None:
    """Store an effect in the running transaction."""
    emission = current_emission
    key = emission.idempotency_key
    db.session.add(Effect(number=number, attempt=emission.attempt, key=key, process=os.getpid()))


def fail() -> None:
    """Raise an error."""
    raise LookupError


def kill() -> None:
    """Kill the worker with all of its processes, which are a group."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def hang() -> None:
    """Do not return."""
    time.sleep(3600)


FIRST: dict[str, Any] = {"": lambda: None, "fail": fail, "kill": kill, "hang": hang}


def celery_init_app(app: Flask) -> Celery:
    """Create the app's Celery app as Flask's documentation does, but not as the default one."""

    class FlaskTask(Task):  # type: ignore[misc]
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    celery_app = Celery(app.name, task_cls=FlaskTask, set_as_current=False)
    celery_app.config_from_object(app.config["CELERY"])
    app.extensions["celery"] = celery_app
    return celery_app


def create_app(database: str, broker: str, engine: str = "celery") -> Flask:
    """Return a shop with its tables."""
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = database
    app.config["SIGNALS_KIT_ENGINE"] = engine
    app.config["CELERY"] = {
        "broker_url": broker,
        "broker_connection_retry_on_startup": True,
        "worker_hijack_root_logger": False,
        "beat_schedule": {
            # As the kit adds it, but lost messages are sent again after two seconds.
            "signals.forward": {
                "task": "signals.forward",
                "schedule": 1.0,
                "kwargs": {"resend": 2.0},
                "options": {"expires": 60},
            }
        },
    }
    db.init_app(app)
    celery_init_app(app)
    kit.init_app(app)
    with app.app_context():
        kit.begin_immediate(db.engine)
        db.create_all()
    return app


if "SHOP_BROKER" in os.environ:
    flask_app = create_app(os.environ["SHOP_DATABASE"], os.environ["SHOP_BROKER"])
    celery_app = flask_app.extensions["celery"]
