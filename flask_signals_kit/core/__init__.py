"""Signals that need no framework: blinker's, with order, policies, deliveries and observers."""
