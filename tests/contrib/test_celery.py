"""The Celery engine in one process: its tasks, its beat entry, and what it needs."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from flask import Flask
from kombu.exceptions import OperationalError

from flask_signals_kit import ConfigurationError, SignalsKit
from flask_signals_kit.app.embedded import Worker
from tests.contrib.celery_shop import account_funded, celery_init_app, create_app, kit
from tests.contrib.support import CeleryShop


def bare_app(**config: Any) -> Flask:
    """Return an app with a Celery app, without a kit."""
    app = Flask("shop")
    app.config["SIGNALS_KIT_ENGINE"] = "celery"
    app.config["CELERY"] = {"broker_url": "memory://", **config}
    celery_init_app(app)
    return app


@pytest.fixture
def without_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the import of Celery fail."""
    monkeypatch.setitem(sys.modules, "celery", None)
    monkeypatch.delitem(sys.modules, "flask_signals_kit.contrib.celery", raising=False)


# -- what it needs --------------------------------------------------------------------------------


def test_kit_does_not_import_celery() -> None:
    """An app without the setting does not need it."""
    code = (
        "import sys; from flask import Flask; from flask_signals_kit import SignalsKit;"
        "SignalsKit(Flask('shop')); assert 'celery' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("extension", "found"), [(None, "is missing."), ("celery", "is str, not a Celery app.")]
)
def test_app_without_a_celery_app_is_refused(extension: Any, found: str) -> None:
    """By init_app, with what to call before."""
    app = Flask("shop")
    app.config["SIGNALS_KIT_ENGINE"] = "celery"
    if extension is not None:
        app.extensions["celery"] = extension
    with pytest.raises(ConfigurationError, match=r"before kit\.init_app") as caught:
        SignalsKit(app)
    assert found in str(caught.value)
    assert "signals_kit" not in app.extensions


@pytest.mark.usefixtures("without_celery")
def test_missing_celery_is_an_error_with_the_extra() -> None:
    """By init_app."""
    app = Flask("shop")
    app.config["SIGNALS_KIT_ENGINE"] = "celery"
    with pytest.raises(ConfigurationError, match="'celery', but celery is not installed"):
        SignalsKit(app)


# -- the beat schedule ----------------------------------------------------------------------------


def schedule_of(celery: Celery) -> Any:
    """Return what beat would run."""
    celery.finalize()
    return celery.conf.beat_schedule


def test_beat_runs_the_task_that_forwards() -> None:
    """Each second, beside the app's own tasks; a worker that was stopped ignores old ones."""
    app = bare_app(beat_schedule={"tidy": {"task": "tidy", "schedule": 60.0}})
    SignalsKit(app)
    schedule = schedule_of(app.extensions["celery"])
    assert sorted(schedule) == ["signals.forward", "tidy"]
    assert schedule["signals.forward"] == {
        "task": "signals.forward",
        "schedule": 1.0,
        "options": {"expires": 60.0},
    }


@pytest.mark.parametrize("when", ["before", "after"])
def test_beat_entry_of_the_app_is_kept(when: str) -> None:
    """Whether it is there before the kit or comes later."""
    entry = {"task": "signals.forward", "schedule": 5.0}
    own = {"beat_schedule": {"signals.forward": entry}}
    app = bare_app(**(own if when == "before" else {}))
    SignalsKit(app)
    if when == "after":
        app.extensions["celery"].conf.update(own)
    assert schedule_of(app.extensions["celery"]) == {"signals.forward": entry}


def test_beat_entry_is_added_to_a_celery_app_in_use() -> None:
    """Also if its tasks have been created."""
    app = bare_app()
    app.extensions["celery"].finalize()
    SignalsKit(app)
    assert "signals.forward" in schedule_of(app.extensions["celery"])


def test_beat_schedule_of_another_app_is_not_changed() -> None:
    """Nor does another Celery app get the tasks."""
    other = bare_app()
    app = bare_app()
    SignalsKit(app)
    assert "signals.forward" in schedule_of(app.extensions["celery"])
    assert schedule_of(other.extensions["celery"]) == {}
    assert "signals.forward" not in other.extensions["celery"].tasks


# -- the tasks ------------------------------------------------------------------------------------


def run(app: Flask, task: str, *arguments: Any) -> None:
    """Run a task here; what it raises propagates."""
    app.extensions["celery"].tasks[task].apply(arguments, throw=True)


@pytest.mark.parametrize("prepare", [lambda kit, app: None, SignalsKit.detach])
def test_tasks_do_nothing_without_durable_receivers(
    prepare: Callable[[SignalsKit, Flask], None],
) -> None:
    """Nor after detach; a message of the broker may be older."""
    app = bare_app()
    kit = SignalsKit(app)
    prepare(kit, app)
    run(app, "signals.forward")
    run(app, "signals.deliver", 1, 0)


def test_app_can_be_initialised_again() -> None:
    """Its Celery app has the tasks already."""
    app = bare_app()
    kit = SignalsKit(app)
    app.extensions["celery"].finalize()
    kit.detach(app)
    kit.init_app(app)
    run(app, "signals.forward")


def test_send_does_not_use_the_broker(sqlite: str) -> None:
    """There is none at this address."""
    app = create_app(sqlite, "redis+socket:///nowhere/socket")
    with app.app_context():
        account_funded.send(app, number=1, first="")
    outbox = kit.for_app(app).outbox
    assert outbox is not None
    assert outbox.seconds_to_next() is not None
    outbox.engine().dispose()


def test_task_tells_what_it_delivers(shop: CeleryShop) -> None:
    """Its ids are those of the messages; its name has the receiver, for logs and Flower."""
    shop.fund(7)
    shop.ask_for_report(8)
    shop.forward()
    funded, asked = (
        json.loads(shop.redis.tasks(queue)[0])["headers"] for queue in ("celery", "reports")
    )
    [message, _] = shop.messages()
    identity = json.loads(message.headers)["id"]
    assert (funded["task"], funded["shadow"]) == (
        "signals.deliver",
        "signals.deliver:shop.pay",
    )
    assert funded["argsrepr"] == f"message {message.id} of account_funded, run 1"
    assert (funded["id"], funded["root_id"], funded["retries"]) == (identity, identity, 0)
    assert funded["timelimit"] == [pytest.approx(3.6), None]
    assert funded["ignore_result"] is True
    assert funded["expires"] is None
    assert asked["shadow"] == "signals.deliver:shop.write_report"


def test_trace_of_the_request_is_a_header_of_the_task(shop: CeleryShop) -> None:
    """Where tracing libraries look for it."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with shop.app.test_request_context("/", headers={"traceparent": trace}):
        account_funded.send(shop.app, number=1, first="")
    shop.fund(2)
    shop.forward()
    traces = [
        json.loads(task)["headers"].get("traceparent") for task in reversed(shop.redis.tasks())
    ]
    assert traces == [trace, None]


def test_message_is_sent_once_until_it_is_due_again(shop: CeleryShop) -> None:
    """Those that wait in the broker are not sent each second."""
    shop.fund(1)
    for _ in range(3):
        shop.forward()
    assert len(shop.redis.tasks()) == 1


def test_number_of_messages_sent_by_one_run_is_limited(shop: CeleryShop) -> None:
    """The next run sends the others."""
    shop.fund(1, 2, 3)
    shop.forward(limit=2)
    assert len(shop.redis.tasks()) == 2
    shop.forward(limit=2)
    assert len(shop.redis.tasks()) == 3


def test_one_queue_can_be_forwarded_alone(shop: CeleryShop) -> None:
    """By a beat entry with the argument queue."""
    shop.fund(1)
    shop.ask_for_report(2)
    shop.forward(queue="reports")
    assert [len(shop.redis.tasks(queue)) for queue in ("celery", "reports")] == [0, 1]


def test_queue_that_celery_refuses_does_not_stop_other_messages(
    shop: CeleryShop, caplog: pytest.LogCaptureFixture
) -> None:
    """For example an unknown one, if Celery must not create it."""
    shop.celery.conf.task_create_missing_queues = False
    shop.ask_for_report(1)
    shop.fund(2)
    shop.forward()
    assert len(shop.redis.tasks()) == 1
    assert "Message 1 cannot be sent to queue 'reports'; the next attempt" in caplog.text


def test_broker_that_is_down_is_an_error_of_the_task(shop: CeleryShop) -> None:
    """What was claimed is sent again later."""
    shop.fund(1)
    shop.redis.stop()
    with pytest.raises(OperationalError):
        shop.forward(resend=0)
    shop.redis.start()
    shop.forward()
    assert len(shop.redis.tasks()) == 1


def test_unreadable_headers_do_not_stop_other_messages(shop: CeleryShop) -> None:
    """The damaged message gets a task as well, without its ids."""
    shop.fund(1, 2)
    with shop.outside.begin() as connection:
        connection.exec_driver_sql("UPDATE signals_outbox SET headers = '{' WHERE id = 1")
    shop.forward()
    assert len(shop.redis.tasks()) == 2


def test_message_of_an_unknown_receiver_is_tried_again(shop: CeleryShop) -> None:
    """It is sent without a time limit, and its run says why."""
    shop.fund(1)
    with shop.outside.begin() as connection:
        connection.exec_driver_sql("UPDATE signals_outbox SET receiver = 'shop.gone'")
    shop.forward()
    [task] = shop.redis.tasks()
    assert json.loads(task)["headers"]["timelimit"] == [None, None]
    [message] = shop.messages()
    run(shop.app, "signals.deliver", message.id, message.attempt)
    [message] = shop.messages()
    assert (message.due is None, message.attempt) == (False, 1)
    assert "There is no durable receiver 'shop.gone'" in message.error


def test_embedded_engine_may_run_at_the_same_time(shop: CeleryShop) -> None:
    """For example while processes with the new setting replace those with the old one."""
    shop.fund(1, 2)
    shop.forward()
    shop.fund(3)
    outbox = kit.for_app(shop.app).outbox
    assert outbox is not None
    Worker(outbox, 1).work(once=True)
    assert [effect.number for effect in shop.effects()] == [3]
    for message in shop.messages():
        for _ in range(2):
            run(shop.app, "signals.deliver", message.id, message.attempt)
    shop.wait_for_effects(1, 2, 3)
