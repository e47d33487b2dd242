"""What tests of apps use: :meth:`.SignalsKit.capture` and what it yields."""

from .captured import Captured, CapturedSignals

__all__ = ["Captured", "CapturedSignals"]
