"""Starting the example: its database, its seeded account, its command line."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

from flask import Flask

from tests.example_app.support import ROOT, SEEDED, Visitor, environment


def test_first_page_shows_an_account_half_way_through(visitor: Visitor) -> None:
    """A fresh database holds one account with two steps done, campaigns and a recent alert."""
    page = visitor.read("/")
    assert SEEDED in page
    assert "2 of 4 steps done" in page
    assert "Spring commuters" in page
    assert "Out of funds" in page
    assert "Account out of funds" in page, "the log shows what was sent"


def test_second_start_keeps_what_is_there(make_app: Callable[..., Flask]) -> None:
    """The account is seeded once, not at each start."""
    visitor = Visitor(make_app())
    visitor.open_account("Newcomer")
    accounts = Visitor(make_app()).read("/accounts/")
    assert accounts.count("since") == 2
    assert "Newcomer" in accounts


def test_flask_run_needs_no_preparation(tmp_path: Path) -> None:
    """One command makes the database file and serves the seeded account and the signals' page."""
    command = [sys.executable, "-m", "flask", "--app", "example_app", "run"]
    with subprocess.Popen(
        [*command, "--debug", "--no-reload", "--port", "0"],
        cwd=ROOT,
        env=environment(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            said = ""
            while not (address := re.search(r"http://127\.0\.0\.1:\d+", said)):
                line = server.stderr.readline()
                assert line, f"the server stopped: {said}"
                said += line
            with urlopen(f"{address[0]}/") as page:
                assert SEEDED.replace("&", "&amp;") in page.read().decode()
            with urlopen(f"{address[0]}/_signals/signals") as page:
                assert "account_funded" in page.read().decode()
        finally:
            server.terminate()
    assert (tmp_path / "placard.sqlite").exists()
