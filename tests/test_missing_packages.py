"""What the tests do without a package that some of them need."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

FILES = {
    "test_imports.py": "import missing_package",
    "helper.py": "import missing_package",
    "test_imports_helper.py": "import helper",
    "folder/conftest.py": "import missing_package",
    "folder/test_below_conftest.py": "def test(): pass",
    "test_1.py": "import missing_package\nname = 1",
    "test_2.py": "from test_1 import name",
    "test_marked.py": "import pytest\n@pytest.mark.needs('missing_package')\ndef test(): pass",
}

THE_KIT_IMPORTS = """
import sys
for name in [name for name in sys.modules if name.startswith("flask_signals_kit.core")]:
    del sys.modules[name]
sys.modules["blinker"] = None
import flask_signals_kit.core.signal
"""

RUN = """
import sys, pytest
from tests import missing_packages
sys.exit(pytest.main(sys.argv[1:], plugins=[missing_packages]))
"""


def run(folder: Path, files: dict[str, str], ci: str) -> str:
    """Run pytest on some files with the plugin of these tests; return what it prints."""
    for name, code in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    options = ["-q", "-rs", "-c", os.devnull, "--rootdir", str(folder), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *options, str(folder)],
        cwd=ROOT,
        env=os.environ | {"CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_missing_package_skips_files_folders_and_tests(tmp_path: Path) -> None:
    """The reason names the package."""
    printed = run(tmp_path, FILES, ci="")
    assert "6 skipped" in printed
    assert printed.count("missing_package is not installed") == 6


def test_missing_package_is_an_error_on_ci(tmp_path: Path) -> None:
    """Nothing is skipped there."""
    printed = run(tmp_path, FILES, ci="true")
    assert "skipped" not in printed
    assert "5 errors" in printed


def test_kit_that_needs_an_optional_package_is_an_error(tmp_path: Path) -> None:
    """Otherwise the tests without extras would not notice such an import."""
    assert "1 error" in run(tmp_path, {"test_imports_kit.py": THE_KIT_IMPORTS}, ci="")
