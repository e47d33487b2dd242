"""The error report: what ``@kit.on_exception`` saw."""
