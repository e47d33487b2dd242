"""Mails: what accounts are told, written to a folder instead of being sent."""
