"""Durable delivery: the call of a receiver is a row in the sender's transaction, until it has run.

The row is the only truth. An engine carries ``(id, attempt)`` of a row from the outbox to a worker;
what it loses is due again, and what it carries twice finds another attempt in the row.
"""
