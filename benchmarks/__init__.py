"""Measurements of the kit against its peers, as ratios taken in one run: ``make bench``."""
