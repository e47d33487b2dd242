"""What `make` prints while it works."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Stands in for Python: makes an environment whose commands do nothing, in no time.
PYTHON = """#!/bin/sh
case "$*" in
--version) echo "Python 3.11.0" ;;
"-m venv"*)
    for last in "$@"; do :; done
    mkdir -p "$last/bin"
    for name in python flask sphinx-build; do
        printf '#!/bin/sh\\n' > "$last/bin/$name"
        chmod +x "$last/bin/$name"
    done ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Give a folder with the Makefile and a Python that installs nothing."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return tmp_path


def make(project: Path, target: str) -> list[str]:
    """Run a target and return the lines that it prints."""
    # Called by `make test`, it would say which folder it enters, and obey the options given there.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", target, f"PYTHON={project}/python", "CI="],
        cwd=project,
        env=inherited,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if line.strip()]


@pytest.mark.parametrize(
    ("target", "installs"), [("demo", "what the example needs"), ("setup", "the development tools")]
)
def test_installation_prints_one_line_for_each_step(
    project: Path, target: str, installs: str
) -> None:
    """The first run takes a while, and says what it is doing."""
    steps = make(project, target)[:3]
    assert steps[0] == "Creating .venv with Python 3.11.0"
    assert steps[1] == "Upgrading pip in .venv"
    assert steps[2].startswith(f"Installing the kit and {installs}")
    assert make(project, target)[:1] != steps[:1], "a second run has nothing to install"


def test_make_docs_says_where_the_manual_is(project: Path) -> None:
    """The last line names the page to open."""
    assert make(project, "docs")[-1] == "The manual is in build/docs/index.html"
