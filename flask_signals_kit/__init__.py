"""Domain signals for Flask that you can see, trust and test."""

from .calls import Transaction
from .declarations import DomainSignal
from .delivery import AfterCommit, Call, Delivery
from .dispatch import Observation
from .errors import (
    AlreadyInitializedError,
    AppContextError,
    AsyncReceiverError,
    ConfigurationError,
    ContractError,
    DeclarationError,
    DuplicateReceiverError,
    NotInitializedError,
    ReceiverError,
    SignalsKitError,
    UnknownSignalError,
)
from .extension import SignalsKit, current_emission
from .inspection import Problem
from .records import Connection, Deferred, Emission, Failed, Ok, Outcome, Place
from .signals import Namespace, Signal
from .state import AppSignals
from .testing import Captured

__version__ = "0.1.0.dev0"

__all__ = [
    "AfterCommit",
    "AlreadyInitializedError",
    "AppContextError",
    "AppSignals",
    "AsyncReceiverError",
    "Call",
    "Captured",
    "ConfigurationError",
    "Connection",
    "ContractError",
    "DeclarationError",
    "Deferred",
    "Delivery",
    "DomainSignal",
    "DuplicateReceiverError",
    "Emission",
    "Failed",
    "Namespace",
    "NotInitializedError",
    "Observation",
    "Ok",
    "Outcome",
    "Place",
    "Problem",
    "ReceiverError",
    "Signal",
    "SignalsKit",
    "SignalsKitError",
    "Transaction",
    "UnknownSignalError",
    "current_emission",
]
