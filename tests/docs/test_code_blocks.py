"""The Python blocks of the manual and the README run as they are printed."""

import logging
import re
import subprocess
import sys
from contextvars import copy_context
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
ALL_PAGES = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/**/*.md")])

# A block of Python, and the file that the last line of the text before it names, if it does.
BLOCK = re.compile(
    r"^(?:[^\n]*`(?P<file>[\w/]+\.py)`[^`\n]*:\n\n)?```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


def files_of(page: Path) -> dict[str | None, str]:
    """Return the files that a page says to save, with their text; under `None`, other blocks."""
    files: dict[str | None, str] = {}
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        files[block["file"]] = files.get(block["file"], "") + block["code"] + "\n\n"
    return files


PRINTED = re.compile(r"^The server prints\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)

WHOLE_FILES = [page for page in ALL_PAGES if files_of(page).keys() - {None}]
"""Pages that have the reader save files."""

PAGES = [page for page in ALL_PAGES if files_of(page).keys() <= {None} or None in files_of(page)]
"""Pages with other blocks, which run one after the other."""

# An expected error is printed for reading: in short lines, without this machine's paths.
FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE

blocks = Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=FLAGS)], path=str(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_blocks_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of one page run in order, in one namespace of their own."""
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))  # some pages fill it
    # A page that fails half-way may leave an app context pushed; no other test should see it.
    copy_context().run(run_blocks, page)


def run_blocks(page: Path) -> None:
    """Run the Python blocks of a page, which leave the kit's logger as it was."""
    before = logger_state()
    for block in blocks.parse(page):
        block.evaluate()
    assert logger_state() == before


def logger_state() -> tuple[object, ...]:
    """Return what a page could change of the kit's logger, for the tests that come later."""
    logger = logging.getLogger("flask_signals_kit")
    return logger.level, logger.propagate, logger.disabled, [*logger.handlers], [*logger.filters]


@pytest.mark.parametrize("page", WHOLE_FILES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_of_a_page_run(page: Path, tmp_path: Path) -> None:
    """Saved as the page says, their tests pass and print the page's output."""
    files = {name: text for name, text in files_of(page).items() if name}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert "test_shop.py" in files
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-sq", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = PRINTED.findall(page.read_text(encoding="utf-8"))
    assert all(text in done.stdout for text in printed)


def test_every_block_of_the_readme_names_its_file() -> None:
    """A reader who copies a block knows where it goes."""
    assert set(files_of(ROOT / "README.md")) == {"shop.py", "test_shop.py"}


def test_failing_block_is_reported_with_its_line(tmp_path: Path) -> None:
    """A block that raises is reported, with the line of the page in the traceback."""
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nassert 1 + 1 == 3\n```\n")
    [block] = blocks.parse(page)
    with pytest.raises(AssertionError) as failure:
        block.evaluate()
    assert failure.traceback[-1].path == page
    assert failure.traceback[-1].lineno + 1 == 4
