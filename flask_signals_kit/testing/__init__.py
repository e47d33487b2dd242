"""What tests of an app need: captured emissions, sample payloads, and checks of the wiring."""

from .captured import Captured, CapturedSignals
from .payloads import payloads
from .wiring import assert_connected

__all__ = ["Captured", "CapturedSignals", "assert_connected", "payloads"]
