"""Accounts: who am I, and the identification that an advertiser submits."""
