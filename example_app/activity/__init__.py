"""Activity: a log of the signals that were sent about an account."""
