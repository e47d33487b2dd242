"""The Python blocks of the manual and the README run as they are printed."""

import logging
from contextvars import copy_context
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/**/*.md")])

# An expected error is printed for reading: in short lines, without this machine's paths.
FLAGS = ELLIPSIS | NORMALIZE_WHITESPACE

blocks = Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=FLAGS)], path=str(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_python_blocks_of_a_page_run(page: Path) -> None:
    """All blocks of one page run in order, in one namespace of their own."""
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


def test_a_wrong_block_fails_with_its_line(tmp_path: Path) -> None:
    """A block that raises is reported, with the line of the page in the traceback."""
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\nassert 1 + 1 == 3\n```\n")
    [block] = blocks.parse(page)
    with pytest.raises(AssertionError) as failure:
        block.evaluate()
    assert failure.traceback[-1].path == page
    assert failure.traceback[-1].lineno + 1 == 4
