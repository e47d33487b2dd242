"""Domain signals for Flask that you can see, trust and test."""

import typing as _t
from importlib import import_module as _import_module

from .app.app_signals import AppSignals
from .app.handle import DomainSignal
from .core.delivery import Call, Delivery, Transaction
from .core.observation import Observation
from .core.signal import Namespace, Signal
from .deliveries.after_commit import AfterCommit
from .deliveries.durable.delivery import Discard, Durable, RetryAfter
from .errors import (
    AlreadyInitializedError,
    AppContextError,
    AsyncReceiverError,
    ConfigurationError,
    ContractError,
    DeadMessageError,
    DeclarationError,
    DuplicateReceiverError,
    NotInitializedError,
    OutboxError,
    PayloadError,
    ReceiverError,
    SignalsKitError,
    UnknownSignalError,
)
from .exception_hooks.registration import DEFAULT_IGNORED
from .extension import SignalsKit, current_emission
from .records import Connection, Deferred, Emission, Failed, Ok, Outcome, Place, RecordedRequest

if _t.TYPE_CHECKING:
    from .debug.report import Problem
    from .testing import Captured, CapturedSignals

__version__ = "0.1.0.dev0"

__all__ = [  # noqa: RUF022 - sorted as Python sorts, which a test checks
    "AfterCommit",
    "AlreadyInitializedError",
    "AppContextError",
    "AppSignals",
    "AsyncReceiverError",
    "Call",
    "Captured",
    "CapturedSignals",
    "ConfigurationError",
    "Connection",
    "ContractError",
    "DEFAULT_IGNORED",
    "DeadMessageError",
    "DeclarationError",
    "Deferred",
    "Delivery",
    "Discard",
    "DomainSignal",
    "DuplicateReceiverError",
    "Durable",
    "Emission",
    "Failed",
    "Namespace",
    "NotInitializedError",
    "Observation",
    "Ok",
    "OutboxError",
    "Outcome",
    "PayloadError",
    "Place",
    "Problem",
    "ReceiverError",
    "RecordedRequest",
    "RetryAfter",
    "Signal",
    "SignalsKit",
    "SignalsKitError",
    "Transaction",
    "UnknownSignalError",
    "current_emission",
]


_LATE = {"Captured": ".testing", "CapturedSignals": ".testing", "Problem": ".debug.report"}
"""The modules of names that most processes do not need."""


def __getattr__(name: str) -> _t.Any:
    """Import a name on first use, if most processes do not need it."""
    if name in _LATE:
        return getattr(_import_module(_LATE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
