"""The tests of faults themselves: without a safeguard of durable delivery, they fail."""

import os
import subprocess
import sys

import pytest

from tests.faults.support import ROOT

FOUND_BY = {
    "fence": [
        "test_runs.py::test_run_that_outlives_its_lease_stores_nothing[sqlite]",
        "test_runs.py::test_run_that_outlives_its_lease_does_not_revive_a_dead_message[sqlite]",
        "test_runs.py::test_message_that_is_carried_three_times_is_run_once[sqlite]",
    ],
    "immediate": ["test_messages.py::test_every_rollback_drops_the_messages[sqlite]"],
    "start": ["test_kills.py::test_receiver_that_kills_its_process_ends_dead[sqlite]"],
}
"""The tests that must fail without each safeguard."""


@pytest.mark.long
@pytest.mark.parametrize("safeguard", FOUND_BY)
def test_missing_safeguard_is_found(safeguard: str) -> None:
    """Each of the named tests fails, by an assertion."""
    tests = [f"tests/faults/{name}" for name in FOUND_BY[safeguard]]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=os.environ | {"SHOP_WITHOUT": safeguard},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert f"{len(tests)} failed in" in done.stdout, done.stdout
    assert done.stdout.count("AssertionError") >= len(tests)
