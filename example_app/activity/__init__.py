"""Activity: what was sent about an account, whatever it was."""
