"""Onboarding: a wizard whose steps live elsewhere and are ticked off by signals alone."""
