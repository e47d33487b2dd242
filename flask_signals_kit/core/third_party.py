"""Third-party signals: the plain blinker signals of Flask and of other extensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import blinker
from blinker import ANY

_TRIES = 20
"""How often to try to disconnect while other threads connect; failures are rare."""


def disconnect(signal: blinker.Signal, receiver: Callable[..., Any], sender: Any = ANY) -> bool:
    """Disconnect from a third-party signal while other threads may change it.

    Blinker iterates over the receivers of every sender. Python raises ``RuntimeError`` if another
    thread connects a receiver for a new sender meanwhile. This must not fail the caller's request.

    :param signal: the third-party signal.
    :param receiver: connected weakly, for this sender only.
    :param sender: the sender that it is connected for. If there is one, the receiver is not called
        any more, whatever the result.
    :return: whether blinker has removed the receiver; if not, it does so once it is collected.
    """
    if sender is not ANY:
        signal.disconnect(receiver, sender)
    for _ in range(_TRIES):
        try:
            signal.disconnect(receiver)
        except RuntimeError:
            if sender is ANY:
                signal.connect(receiver)  # otherwise blinker does not search for it again
        else:
            return True
    return False
