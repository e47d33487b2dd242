"""Funding: money comes in by card or by wire transfer, and is announced in one way."""
