"""Mails to accounts, written to a folder instead of being sent."""
