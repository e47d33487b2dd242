"""``kit.call()``: one receiver, with a sample of the payload that its signal declares."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..app.contract import Contract, check_takes_sender
from ..core.connection import LiveConnection
from ..core.delivery import Call
from ..core.introspection import LazyEmission, find_caller, unwrap
from ..errors import UnknownSignalError, suggestion
from ..records import SENDER, Receiver
from .payloads import check_names, make_values
from .samples import sample

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals

HOW = "kit.call(receiver, signal, {}=...)"
"""The code that passes a value."""


def call(
    app_signals: AppSignals, receiver: Receiver, signal: str, overrides: dict[str, Any]
) -> Any:
    """Call a receiver alone.

    :param app_signals: the app's signals.
    :param receiver: the receiver.
    :param signal: the signal's name.
    :param overrides: the payload, and ``sender``, as far as the test passes them.
    :return: what the receiver returned.
    """
    registry = app_signals.registry
    if not registry.is_declared(signal):
        raise UnknownSignalError(
            f"kit.call() needs a signal that is declared, and {signal!r} is not."
            f"{suggestion(app_signals.names.nearest(signal))}"
        )
    connection = LiveConnection(signal, receiver)
    check_takes_sender(receiver, signal)
    payload = {name: value for name, value in overrides.items() if name != SENDER}
    contract = next(iter(registry.contracts(signal)), None)
    if contract is not None:
        contract.check_receiver(receiver)
        check_names(contract, payload, "kit.call")
        missing = [name for name in contract.required if name not in payload]
        payload = make_values(contract, missing, sample, HOW) | payload
    if SENDER in overrides:
        sender = unwrap(overrides[SENDER])
    else:
        sender = _sample_sender(contract, app_signals.app)
    context = app_signals.namespace.signal(signal).context
    request = context.environment.request()
    emission = LazyEmission(signal, sender, payload, request, find_caller(sys._getframe()))
    return Call(context, connection, receiver, sender, payload, emission, None, 0).run()


def _sample_sender(contract: Contract | None, app: Any) -> Any:
    """Return the app, if it is a possible sender; else a sample of the sender's declared type."""
    if contract is None or contract.sender_type is None:
        return app
    kind = contract.resolve_types().get(SENDER)
    if kind is Any or kind in type(app).__mro__:
        return app
    return make_values(contract, [SENDER], sample, HOW)[SENDER]
