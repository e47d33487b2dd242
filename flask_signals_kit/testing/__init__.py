"""What tests of an app need: captured emissions, sample payloads, and checks of the wiring."""

from .capture import Captured
from .payloads import payloads
from .wiring import assert_connected

__all__ = ["Captured", "assert_connected", "payloads"]
