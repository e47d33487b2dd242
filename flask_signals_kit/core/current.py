"""The emission that a receiver is called for."""

from __future__ import annotations

import sys
import types
from typing import cast

from ..records import Emission
from .delivery import Call
from .dispatch import Dispatch, send_observed
from .introspection import carried_emission, find_caller
from .observation import make_emission


def find_emission(plain_sends: tuple[types.CodeType, ...]) -> Emission | None:
    """Return the emission that the caller runs for, or ``None`` outside of receivers.

    To be fast, a plain send stores no record of itself. So this searches the stack for the
    innermost send. If a delivery runs the receiver later or elsewhere, its call carries the record.
    The call also does so while it reports the receiver's failure to the exception hooks.

    :param plain_sends: the code objects of the methods that call receivers in a plain loop.
    """
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code is Call._run_here.__code__ or code is Call.run_contained.__code__:
            return cast(Emission, frame.f_locals["self"].emission)
        if code is Dispatch.run.__code__:
            return cast(Emission, frame.f_locals["self"].emission_from(frame).emission)
        if code is send_observed.__code__:
            sent = frame.f_locals
            context, number, caller = sent["context"], sent["number"], find_caller(frame)
            return make_emission(context, sent["sender"], sent["payload"], caller, number)
        if code in plain_sends:
            plain = frame.f_locals
            signal = plain["signal"] if "signal" in plain else plain["self"]
            caller = find_caller(frame)
            return make_emission(signal.context, plain["sender"], plain["payload"], caller)
        frame = frame.f_back
    carried = carried_emission.get()
    return None if carried is None else carried.emission
