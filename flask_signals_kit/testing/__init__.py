"""What tests of an app need."""

from .capture import Captured

__all__ = ["Captured"]
