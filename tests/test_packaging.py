"""The contents of the wheel and its dependencies."""

import sysconfig
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import _flask_signals_kit_pytest
import flask_signals_kit
from flask_signals_kit.debug.page.views import STATIC
from tests.support import ON_CI

built_wheel = pytest.mark.skipif(not ON_CI, reason="only on CI is the built wheel installed")


def test_core_dependencies_are_flask_and_blinker_alone() -> None:
    """Installing the kit adds nothing to what Flask installs."""
    wanted = [Requirement(text) for text in requires("flask-signals-kit") or []]
    assert sorted(str(each) for each in wanted if each.marker is None) == [
        "blinker>=1.9",
        "flask>=3.1",
    ]


@built_wheel
def test_tests_import_the_installed_wheel() -> None:
    """On CI the package comes from site-packages, not from the source tree."""
    installed = Path(sysconfig.get_path("purelib"))
    assert Path(flask_signals_kit.__file__) == installed / "flask_signals_kit" / "__init__.py"
    assert Path(_flask_signals_kit_pytest.__file__) == installed / "_flask_signals_kit_pytest.py"


@built_wheel
def test_wheel_contains_only_the_package_and_the_pytest_plugin() -> None:
    """No test, example or document is installed into site-packages."""
    top_level = {file.parts[0] for file in distribution("flask-signals-kit").files or []}
    by_pip = {name for name in top_level if name.endswith((".dist-info", "__pycache__"))}
    assert top_level - by_pip == {"_flask_signals_kit_pytest.py", "flask_signals_kit"}


@built_wheel
def test_wheel_is_marked_as_typed() -> None:
    """Type checkers read the annotations of the installed package."""
    files = {file.as_posix() for file in distribution("flask-signals-kit").files or []}
    assert "flask_signals_kit/py.typed" in files


@built_wheel
def test_wheel_has_the_pages_templates_and_static_files() -> None:
    """Without them the page would fail at the user's."""
    page = "flask_signals_kit/debug/page"
    files = {file.as_posix() for file in distribution("flask-signals-kit").files or []}
    static = {name for name in files if name.startswith(f"{page}/static/")}
    assert static == {f"{page}/static/{name}" for name in STATIC}
    assert {
        f"{page}/templates/{name}"
        for name in ("_macros.html", "base.html", "missing.html", "signal.html", "signals.html")
    } <= files
