"""Fixtures for the tests of exception hooks."""

import pytest

from tests.exception_hooks.support import Watch, watch


@pytest.fixture
def watched() -> Watch:
    """Give an app whose exceptions are watched with the defaults."""
    return watch()
