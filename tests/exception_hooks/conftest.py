"""Fixtures for the tests of exception hooks."""

import pytest

from tests.exception_hooks.support import Watch, watch


@pytest.fixture
def watched() -> Watch:
    """Return an app with a hook that has the default options."""
    return watch()
