"""The examples in the package's docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import flask_signals_kit

MODULES = [
    "flask_signals_kit",
    *(
        module.name
        for module in pkgutil.walk_packages(flask_signals_kit.__path__, "flask_signals_kit.")
    ),
]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.needs("celery", "flask_sqlalchemy", "hypothesis", "msgspec")
def test_examples_of_a_module_run(name: str) -> None:
    """Every ``>>>`` in a docstring gives what stands below it."""
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples failed"
