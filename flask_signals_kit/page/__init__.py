"""The page at ``/_signals``."""

from __future__ import annotations

from flask import Blueprint

NAME = "signals_kit"


def make_blueprint() -> Blueprint:
    """Return the page's blueprint."""
    return Blueprint(NAME, __name__)
