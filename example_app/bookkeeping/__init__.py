"""Bookkeeping: every payment is posted to the ledger, a system of its own."""
