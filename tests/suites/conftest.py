"""Fixtures that fetch the test suites of blinker and Flask and run them."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support import require_service

SUITES = Path(__file__).parents[2] / "build" / "suites"

RunSuite = Callable[..., str]
"""`run_suite(package, plugin, *options)` returns what pytest printed."""


def fetch(package: str) -> tuple[Path | None, str]:
    """Return the unpacked source distribution of the installed version, or why there is none.

    Wheels have no tests, so it is downloaded from the package index once, into `build/suites`.
    """
    name = f"{package}-{version(package)}"
    folder = SUITES / name
    if not folder.exists():
        download = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "download"]
        options = ["--no-deps", "--no-binary", package, "--dest", str(SUITES)]
        failed = _run([*download, *options, f"{package}=={version(package)}"])
        failed = failed or _run(["tar", "-xzf", str(SUITES / f"{name}.tar.gz"), "-C", str(SUITES)])
        if failed:
            return None, f"The source distribution of {name} cannot be had: {failed}"
    return folder, ""


def _run(command: list[str]) -> str:
    """Run a command; return what went wrong, or nothing."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
    return done.stderr.strip() or "it failed" if done.returncode else ""


@pytest.fixture(scope="session")
def run_suite() -> RunSuite:
    """Give a function that runs a package's own test suite with one of the plugins here."""

    def run(package: str, plugin: str, *options: str) -> str:
        if ".dev" in version(package):
            pytest.skip(f"There is no source distribution of {package} {version(package)}")
        folder, why = fetch(package)
        suite = require_service(folder, why)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", plugin, "-q", "-rfEx", *options],
            cwd=suite,
            env=os.environ
            | {
                "PYTEST_ADDOPTS": "",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONPATH": os.pathsep.join(
                    filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])
                ),
            },
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
