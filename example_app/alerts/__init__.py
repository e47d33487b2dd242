"""Alerts: raised and dismissed by signals, or dismissed by the user."""
