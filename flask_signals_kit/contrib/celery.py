"""Celery workers run durable receivers: ``SIGNALS_KIT_ENGINE = "celery"``.

Two tasks do it. ``signals.forward`` claims the messages that are due and sends a task for each;
beat runs it every second. ``signals.deliver`` runs one message. A send stores its message in the
database and does not use the broker.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import Celery  # pyright: ignore[reportMissingTypeStubs]
from flask import Flask, current_app
from kombu.exceptions import OperationalError  # pyright: ignore[reportMissingTypeStubs]

from ..deliveries.durable.payload import Headers
from ..errors import ConfigurationError, type_name
from ..settings import EXTENSION

if TYPE_CHECKING:
    from ..app.outbox import Outbox

logger: logging.Logger = logging.getLogger("flask_signals_kit")

FORWARD = "signals.forward"
DELIVER = "signals.deliver"

EVERY = 1.0
"""How often beat sends the task that forwards, in seconds."""

EXPIRES = 60.0
"""The time after which a worker ignores that task, so that few wait for a stopped worker."""

LIMIT = 1000
"""How many messages one run of it sends at most."""

RESEND = 600.0
"""The time after which a message that has not begun is sent again: the broker may have lost it."""


def connect(app: Flask) -> None:
    """Add the tasks to the app's Celery app, and the first one to its beat schedule.

    :param app: the app; Flask's documentation describes how to create its Celery app.
    :raises ConfigurationError: if it has no Celery app.
    """
    celery = app.extensions.get("celery")
    if not isinstance(celery, Celery):
        found = "missing" if celery is None else f"{type_name(celery)}, not a Celery app"
        raise ConfigurationError(
            f"SIGNALS_KIT_ENGINE of app {app.name!r} is 'celery', but app.extensions['celery'] is "
            f"{found}. Call celery_init_app(app) of Flask's documentation before kit.init_app(app)."
        )
    for name, task in ((FORWARD, forward), (DELIVER, deliver)):
        celery.task(
            task,
            name=name,
            bind=True,
            shared=False,  # for this Celery app only
            ignore_result=True,
            acks_late=False,  # what a worker loses is due again
            max_retries=0,  # so are failures
        )
    finalized: Any = celery.on_after_finalize  # Celery's, not blinker's
    if celery.finalized:
        _schedule(celery)
    else:
        finalized.connect(_schedule)


def _schedule(sender: Any, **extra: Any) -> None:
    """Add an entry to the beat schedule, unless it has one of that name."""
    schedule = sender.conf.beat_schedule
    if FORWARD not in schedule:
        entry = {"task": FORWARD, "schedule": EVERY, "options": {"expires": EXPIRES}}
        sender.conf.beat_schedule = {**schedule, FORWARD: entry}


def forward(
    self: Any, limit: int = LIMIT, resend: float = RESEND, queue: str | None = None
) -> None:
    """Send a task for each message that is due.

    :param limit: how many messages at most.
    :param resend: the time after which a message that has not begun is sent again, in seconds.
    :param queue: the only queue, or ``None`` for all.
    """
    outbox = _outbox()
    pause = None if outbox is None else outbox.seconds_to_next(queue)  # a claim would lock SQLite
    if outbox is None or pause is None or pause > 0:
        return
    task = self.app.tasks[DELIVER]
    for message in outbox.claim(limit, queue=queue, resend=resend):
        try:
            _send(task, message, _time_limit(outbox, message))
        except OperationalError:  # of the broker: no other message can be sent, either
            raise
        except Exception:
            logger.exception(
                "Message %d cannot be sent to queue %r; the next attempt is in %.0f s",
                message.id,
                message.queue,
                resend,
            )


def deliver(self: Any, message: int, attempt: int) -> None:
    """Run a message.

    :param message: its id.
    :param attempt: how often it had run when it was claimed.
    """
    outbox = _outbox()
    if outbox is not None:
        outbox.run(message, attempt)


def _outbox() -> Outbox | None:
    """Return the outbox of the current app; ``None`` without a kit or durable receivers."""
    app_signals = current_app.extensions.get(EXTENSION)
    return None if app_signals is None else app_signals.outbox


def _send(task: Any, message: Any, time_limit: float | None) -> None:
    task.apply_async(
        (message.id, message.attempt),
        queue=message.queue,
        shadow=f"{DELIVER}:{message.receiver}",  # the name that logs and Flower show
        argsrepr=f"message {message.id} of {message.signal}, run {message.attempt + 1}",
        retries=message.attempt,
        time_limit=time_limit,
        **_task_ids(message),
    )


def _task_ids(message: Any) -> dict[str, Any]:
    """Return the ids of a message as those of its task: a chain of messages is one of tasks.

    Its trace is a header of the task, where tracing libraries look for it.
    """
    headers = Headers.from_text(message.headers)
    if headers is None:  # the run reports it
        return {}
    return {
        "task_id": headers.id,
        "root_id": headers.correlation,
        "parent_id": headers.causation,
        "headers": {} if headers.traceparent is None else {"traceparent": headers.traceparent},
    }


def _time_limit(outbox: Outbox, message: Any) -> float | None:
    """Return when to kill the receiver: shortly before the message may run again."""
    delivery = outbox.delivery_of(message.signal, message.receiver)
    if delivery is None:
        return None
    return delivery.timeout - min(5.0, delivery.timeout / 10)
