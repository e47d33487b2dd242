"""The delivery ``durable``, and the exceptions by which a receiver decides on its message."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ...errors import ConfigurationError, type_name
from ...records import DURABLE
from ..sources import SessionSource, source_of

if TYPE_CHECKING:
    from ...core.connection import LiveConnection
    from ...core.delivery import Call

DAY: float = timedelta(days=1).total_seconds()

YEAR: float = timedelta(days=365).total_seconds()

TIMEOUT = 300.0
"""The default of ``timeout``, in seconds."""


def limited(seconds: float) -> float:
    """Return a time until the next attempt: not negative, and a year at most.

    :raises ValueError: if it is not a number.
    """
    seconds = float(seconds)
    if math.isnan(seconds):
        raise ValueError("the time until the next attempt is not a number")
    return min(max(0.0, seconds), YEAR)


class RetryAfter(Exception):  # noqa: N818  not an error: a receiver asks for it
    """Raise this in a durable receiver to run it again after a time of its choice.

    The attempt counts. After the last one, the message is dead.

    :param seconds: the time until the next attempt, in seconds; a year at most.

    >>> RetryAfter(30).seconds
    30.0
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"retry after {seconds} s")
        self.seconds: float = limited(seconds)


class Discard(Exception):  # noqa: N818  as above
    """Raise this in a durable receiver to give up its message: it is not run again.

    What the receiver has written in its transaction is rolled back. The journal and ``kit.capture``
    record the receiver as dropped.

    :param reason: why, for the log and the page.

    >>> Discard("the account is closed").reason
    'the account is closed'
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason: str = str(reason)


def default_backoff(attempt: int) -> float:
    """Return the time until the next attempt: its number to the power of 4, at most a day.

    It varies by a quarter, so that messages that failed together are not tried again together.

    :param attempt: how often the receiver has run.
    :return: the time in seconds: about 1, 16, 81, 256 ... 10,000 after the tenth attempt.
    """
    return min(attempt**4 * random.uniform(0.75, 1.25), DAY)  # noqa: S311


class Durable:
    """Store the call in the database, in the sender's transaction, and run it until it returns.

    The message is stored if and only if the sender's transaction commits. Without an open
    transaction, it is stored immediately. Then a worker runs the receiver, in an app context and a
    transaction of its own, until it returns or its attempts are used up. What the receiver writes
    with the app's session is committed exactly once, together with the end of the message; other
    effects happen at least once.

    ``delivery="durable"`` is the same as ``Durable()``.

    :param max_attempts: how often the receiver is run at most. Then the message is dead: it is
        kept and reported to the exception hooks.
    :param timeout: the time after which a run counts as lost, in seconds. The receiver may then run
        again, even if the first run has not ended.
    :param backoff: returns the time until the next attempt in seconds, for the number of attempts
        so far. By default it is that number to the power of 4, at most a day.
    :param queue: the queue, so that workers can be limited to some messages.
    :param session: as for :class:`AfterCommit`.
    :raises ConfigurationError: for an invalid value.

    >>> Durable(max_attempts=8).name
    'durable'
    """

    name = DURABLE

    def __init__(
        self,
        max_attempts: int = 20,
        timeout: float = TIMEOUT,
        backoff: Callable[[int], float] = default_backoff,
        queue: str | None = None,
        session: Any = None,
    ) -> None:
        if type(max_attempts) is not int or max_attempts < 1:
            raise _invalid("max_attempts", max_attempts, "a whole number from 1")
        if type(timeout) not in {int, float} or not 0 < timeout <= 7 * DAY:
            raise _invalid("timeout", timeout, "a time in seconds, at most a week")
        if not callable(backoff):
            raise _invalid("backoff", backoff, "a function that returns a time in seconds")
        if queue is not None and (type(queue) is not str or not queue):
            raise _invalid("queue", queue, "a name, or None")
        self.max_attempts: int = max_attempts
        self.timeout: float = float(timeout)
        self.backoff: Callable[[int], float] = backoff
        self.queue: str | None = queue
        self.session: SessionSource | None = None if session is None else source_of(session)
        """Returns the session of the sender and the receiver; ``None`` for the app's own."""

    @property
    def needs_session(self) -> bool:
        """Whether the app must have a session of its own."""
        return self.session is None

    def deliver(self, call: Call, /) -> None:
        """Store the call."""
        call.store(self)


def receiver_name(connection: LiveConnection) -> str:
    """Return the name by which messages know a receiver: its ``uid``, else module and name."""
    place = connection.place
    return connection.options.uid or f"{place.module}.{place.name}"


def _invalid(name: str, value: object, expected: str) -> ConfigurationError:
    shown = repr(value) if type(value) in {int, float, str} else type_name(value)
    return ConfigurationError(f"Durable({name}={shown}) is not possible: it must be {expected}.")
