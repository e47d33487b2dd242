"""Flask's own test suite, with a kit in every app and receivers on all of Flask's signals."""

import re

import pytest

from tests.suites.conftest import RunSuite


@pytest.mark.needs("asgiref")
def test_flask_suite_passes_with_receivers_on_all_signals(
    run_suite: RunSuite,
) -> None:
    """The kit changes nothing that Flask's tests check, and each signal reaches its receivers."""
    printed = run_suite("flask", "kit_for_flask")
    assert re.search(r"^4\d\d passed", printed, re.MULTILINE), printed
    assert "10 of 10 signals were received" in printed
