"""The error report: the exceptions that ``@kit.on_exception`` reported."""
