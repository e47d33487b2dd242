"""``flask signals``: the report in the terminal."""

from __future__ import annotations

from flask.cli import AppGroup

signals = AppGroup("signals", help="Show the app's signals and who listens.")
