"""Signals of Flask and of other extensions, which are plain blinker signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import blinker
from blinker import ANY

_TRIES = 20
"""How often to disconnect while other threads connect; it fails once in a long while."""


def disconnect(signal: blinker.Signal, receiver: Callable[..., Any], sender: Any = ANY) -> bool:
    """Disconnect from a third-party signal, while other threads change it.

    Blinker searches the receivers of every sender, and Python raises ``RuntimeError`` if another
    thread connects one for a new sender meanwhile. That must not fail the caller's request.

    :param signal: the third-party signal.
    :param receiver: connected weakly, for this sender alone.
    :param sender: as it was connected. With one, nothing reaches the receiver any more whatever is
        returned.
    :return: whether the receiver is gone; if not, blinker drops it once it is collected.
    """
    if sender is not ANY:
        signal.disconnect(receiver, sender)
    for _ in range(_TRIES):
        try:
            signal.disconnect(receiver)
        except RuntimeError:
            if sender is ANY:
                signal.connect(receiver)  # else blinker does not look for it again
        else:
            return True
    return False
