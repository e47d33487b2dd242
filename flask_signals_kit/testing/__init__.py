"""What tests of an app need: captured emissions, and payloads of signals."""

from .capture import Captured
from .payloads import payloads

__all__ = ["Captured", "payloads"]
