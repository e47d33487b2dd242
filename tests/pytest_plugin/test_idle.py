"""A project that does not use the kit does not pay for the plugin."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import _flask_signals_kit_pytest
from tests.pytest_plugin.support import OPTIONS, Project

LIMIT = 0.005
"""The most seconds that importing the plugin may take, pytest being imported."""


def test_plugin_is_installed() -> None:
    """Pytest finds it by its entry point."""
    [entry] = entry_points(group="pytest11", name="flask_signals_kit")
    assert entry.load() is _flask_signals_kit_pytest


def test_project_without_flask_imports_neither_flask_nor_the_kit(
    pytester: pytest.Pytester,
) -> None:
    """Tests that pass, fail and have fixtures run without it."""
    pytester.makepyfile(
        """
        import sys
        import pytest

        @pytest.fixture
        def number():
            yield 1

        @pytest.mark.xfail
        def test_fails(number):
            assert number == 2

        def test_imported():
            imported = {name.partition(".")[0] for name in sys.modules}
            assert "_flask_signals_kit_pytest" in imported
            assert not imported & {"blinker", "flask", "flask_signals_kit", "werkzeug"}
        """
    )
    # pytest-flask imports Flask.
    result = pytester.runpytest_subprocess("-pno:flask", "-pno:cacheprovider")
    result.assert_outcomes(passed=1, xfailed=1)


def test_importing_the_plugin_imports_only_the_standard_library() -> None:
    """Besides pytest, which is imported already."""
    code = (
        "import pytest, sys; before = {*sys.modules}; import _flask_signals_kit_pytest;"
        "print(*sys.modules.keys() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added = {name.partition(".")[0] for name in done.stdout.split()}
    assert added - sys.stdlib_module_names == {"_flask_signals_kit_pytest"}


def test_importing_the_plugin_takes_at_most_five_milliseconds() -> None:
    """It takes less than one; the best of several processes counts, as others may be busy."""
    code = (
        "import pytest, time; began = time.perf_counter(); import _flask_signals_kit_pytest;"
        "print(time.perf_counter() - began)"
    )
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(5)
    ]
    assert min(times) < LIMIT


def test_plugin_may_be_imported_before_pytest_starts(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pytest does not warn that it cannot rewrite the plugin's assertions."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile("def test(): ...")
    code = "import sys, pytest, _flask_signals_kit_pytest; sys.exit(pytest.main(sys.argv[1:]))"
    result = pytester.run(sys.executable, "-c", code, "-Werror", *OPTIONS)
    result.assert_outcomes(passed=1)


def test_marker_and_ini_option_are_listed(project: Project) -> None:
    """``pytest --markers`` and ``pytest --help`` explain them."""
    markers = project.test("", "--markers").stdout.str()
    assert "@pytest.mark.no_receivers(*signals): call no receivers" in markers
    shown = project.test("", "--help").stdout.str()
    assert "signals_kit_leaks (bool):" in shown


def test_fixtures_are_listed_with_their_docstrings(project: Project) -> None:
    """``pytest --fixtures`` explains them."""
    shown = project.test("", "--fixtures").stdout.str()
    assert "signals_kit -- " in shown
    assert "captured_signals -- " in shown
    assert "Record what the app sends during the test" in shown
