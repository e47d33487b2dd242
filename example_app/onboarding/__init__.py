"""Onboarding: a wizard whose steps are done in other features and ticked off by signals."""
