"""Fixtures for the tests of the pytest plugin: a project whose tests pytest runs."""

import pytest

from tests.pytest_plugin.support import CONFTEST, SHOP, Project


@pytest.fixture
def project(pytester: pytest.Pytester) -> Project:
    """Give a project with a shop and the fixture `app`."""
    pytester.makepyfile(shop=SHOP)
    pytester.makeconftest(CONFTEST)
    return Project(pytester)
