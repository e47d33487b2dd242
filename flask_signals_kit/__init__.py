"""Domain signals for Flask that you can see, trust and test."""

from .declarations import DomainSignal
from .delivery import AfterCommit, Call, Delivery
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

__version__ = "0.1.0.dev0"

__all__ = [
    "AfterCommit",
    "AlreadyInitializedError",
    "AppContextError",
    "AppSignals",
    "AsyncReceiverError",
    "Call",
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
    "Ok",
    "Outcome",
    "Place",
    "Problem",
    "ReceiverError",
    "Signal",
    "SignalsKit",
    "SignalsKitError",
    "UnknownSignalError",
    "current_emission",
]
