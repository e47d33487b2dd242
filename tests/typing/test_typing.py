"""Type checkers accept what is right, refuse what is wrong, and find every public type."""

import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.support import require_service

HERE = Path(__file__).parent
MANUAL = HERE.parents[1] / "docs" / "typing.md"
BIN = Path(sys.executable).parent

Found = dict[int, set[str]]
"""The rules that each line breaks."""

_MARK = re.compile(r"# E: ([\w -]+) \| ([\w ]+)$")
"""At a line's end: mypy's rules and Pyright's."""


def run(command: str, *arguments: str, cwd: Path) -> str:
    """Run one of the environment's commands in an empty place, and return what it prints.

    There it can find ``flask_signals_kit`` only where a user's checker does: where it is installed.
    """
    path = require_service(
        shutil.which(command, path=str(BIN)), f"{command} is not installed: make setup"
    )
    # Pyright asks the first Python of the path where packages are, whatever it is told.
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [path, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the project of a user who has written both files, and what the manual shows."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("passes.py", "fails.py"):
        shutil.copy(HERE / name, folder)
    (folder / "manual.py").write_text(code_of(MANUAL.read_text(encoding="utf-8")))
    return folder


def code_of(page: str) -> str:
    """Return the Python of a page of the manual, the hidden blocks and the examples included."""
    hidden = re.compile(r"^% invisible-code-block: python\n%\n((?:%.*\n)+)", re.MULTILINE)
    shown = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
    blocks: dict[int, str] = {}
    for block in hidden.finditer(page):
        blocks[block.start()] = re.sub("^% ?", "", block[1], flags=re.MULTILINE)
    for block in shown.finditer(page):
        is_example = block[1].startswith(">>>")
        blocks[block.start()] = doctest.script_from_examples(block[1]) if is_example else block[1]
    return "\n".join(code for _, code in sorted(blocks.items()))


@pytest.fixture(scope="module")
def mypy(project: Path, pytestconfig: pytest.Config) -> dict[str, Found]:
    """Give what ``mypy --strict`` finds in each file."""
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("mypy")
    output = run(
        "mypy",
        "--strict",
        "--config-file=",
        f"--cache-dir={cache}",
        f"--python-executable={sys.executable}",
        "--output=json",
        "passes.py",
        "fails.py",
        "manual.py",
        cwd=project,
    )
    found: dict[str, Found] = defaultdict(lambda: defaultdict(set))
    for line in output.splitlines():
        message = json.loads(line)
        if message["severity"] == "error":
            found[message["file"]][message["line"]].add(message["code"])
    return found


@pytest.fixture(scope="module")
def pyright(project: Path) -> dict[str, Found]:
    """Give what Pyright finds in each file, where it is strict."""
    (project / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    report = json.loads(run("pyright", "--outputjson", cwd=project))
    assert report["summary"]["filesAnalyzed"] == 3
    found: dict[str, Found] = defaultdict(lambda: defaultdict(set))
    for message in report["generalDiagnostics"]:
        line = message["range"]["start"]["line"] + 1
        found[Path(message["file"]).name][line].add(message.get("rule", "syntax"))
    return found


def marked(checker: int) -> Found:
    """Return the lines of ``fails.py`` that one checker must refuse, and why."""
    lines = (HERE / "fails.py").read_text(encoding="utf-8").splitlines()
    marks = {number: _MARK.search(line) for number, line in enumerate(lines, 1)}
    return {number: set(mark[checker].split()) for number, mark in marks.items() if mark}


def test_each_mark_is_read() -> None:
    """A mark with a slip in it is not passed over."""
    text = (HERE / "fails.py").read_text(encoding="utf-8")
    assert len(marked(1)) == text.count("# E:") - 1  # the first explains them
    assert len(marked(1)) > 70


def test_all_code_of_the_manual_is_found() -> None:
    """Hidden blocks, shown ones and examples are all given to the type checkers."""
    code = code_of(MANUAL.read_text(encoding="utf-8")).splitlines()
    assert {"kit = SignalsKit()", "@kit.declare", "    books_closed.send(month=5)"} <= set(code)


def test_mypy_accepts_what_is_right(mypy: dict[str, Found]) -> None:
    """No valid use is refused, and nothing that the manual shows."""
    assert mypy["passes.py"] == mypy["manual.py"] == {}


def test_mypy_refuses_what_is_wrong(mypy: dict[str, Found]) -> None:
    """Each marked line is refused, for the reason that it bears, and no other."""
    assert mypy["fails.py"] == marked(1)


def test_pyright_accepts_what_is_right(pyright: dict[str, Found]) -> None:
    """No valid use is refused, and nothing that the manual shows."""
    assert pyright["passes.py"] == pyright["manual.py"] == {}


def test_pyright_refuses_what_is_wrong(pyright: dict[str, Found]) -> None:
    """Each marked line is refused, for the reason that it bears, and no other."""
    assert pyright["fails.py"] == marked(2)


@pytest.mark.needs("asgiref", "hypothesis")
def test_what_is_right_runs(caplog: pytest.LogCaptureFixture) -> None:
    """What type checkers accept is connected and sent without an error or a warning, too."""
    namespace: dict[str, Any] = {"__name__": "passes"}
    file = HERE / "passes.py"
    exec(compile(file.read_text(encoding="utf-8"), file, "exec"), namespace)
    namespace["main"]()
    assert caplog.messages == []


def test_every_public_type_is_known(tmp_path: Path) -> None:
    """Pyright can tell the type of each name that the package shows, without inferring any."""
    output = run(
        "pyright",
        "--verifytypes",
        "flask_signals_kit",
        "--ignoreexternal",
        "--outputjson",
        cwd=tmp_path,
    )
    found = json.loads(output)["typeCompleteness"]
    incomplete = {
        symbol["name"]: [problem["message"] for problem in symbol["diagnostics"]]
        for symbol in found["symbols"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
    }
    assert incomplete == {}
    assert found["completenessScore"] == 1
    assert found["exportedSymbolCounts"]["withKnownType"] > 500
