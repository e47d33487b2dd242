"""A plugin of pytest: what needs a package that is not installed is skipped, and fails on CI.

It is no part of a ``conftest.py``: pytest does not call the hooks of one for the folders below it
whose own ``conftest.py`` cannot be imported.
"""

import sys
import traceback
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import flask_signals_kit
from tests.support import ON_CI, require_service

PACKAGE = Path(flask_signals_kit.__file__).parent
OPTIONAL = (PACKAGE / "contrib", PACKAGE / "deliveries" / "durable")
"""The parts of the kit that may import more than Flask and blinker."""


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a file or folder that imports a package which is not installed; on CI it fails."""
    report = yield
    found: pytest.CallInfo[Any] = report.call
    missing = _missing_package(found.excinfo.value) if found.excinfo and not ON_CI else None
    if missing:
        _forget(collector.path)
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {missing} is not installed")
    return report


def _forget(path: Path) -> None:
    """Remove the incomplete module of a file, so that a file which imports it is skipped, too."""
    for name, module in [*sys.modules.items()]:
        if getattr(module, "__file__", None) == str(path):
            del sys.modules[name]


def _missing_package(error: BaseException | None) -> str | None:
    """Return the package that an import did not find, unless it is the kit that needs none."""
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    if error is None:
        return None
    importing = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    if importing.is_relative_to(PACKAGE) and not any(map(importing.is_relative_to, OPTIONAL)):
        return None
    return error.name


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose marker ``needs`` names a package that is not installed."""
    for marker in item.iter_markers("needs"):
        for package in marker.args:
            require_service(find_spec(package), f"{package} is not installed")
