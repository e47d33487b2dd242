"""Campaigns with their creatives and bids."""
