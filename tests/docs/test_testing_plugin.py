"""The page on the pytest plugin shows what pytest prints, and documents all of the plugin."""

import re

import pytest

from tests.docs.support import blocks, code_in, table, text_of

PAGE = "docs/testing-plugin.md"


def comparable(text: str) -> str:
    """Return what pytest prints without durations, in lines of any width."""
    text = re.sub(r", [\d.]+ (µs|ms)", ", DURATION", text)
    return re.sub(r" ?([-_])\1{2,} ?", "", text)


def test_page_shows_what_pytest_prints(pytester: pytest.Pytester) -> None:
    """Its Python blocks are one test module, its configuration is used."""
    pytester.makepyfile(test_shop="\n\n".join(blocks(PAGE, "python")))
    [ini] = blocks(PAGE, "ini")
    pytester.makeini(ini)
    result = pytester.runpytest_subprocess("-pno:flask", "-pno:asyncio", "--strict-markers")
    result.assert_outcomes(passed=3, failed=1, errors=1)
    printed = comparable(result.stdout.str())
    for text in blocks(PAGE, "text"):
        assert comparable(text) in printed
    assert len(blocks(PAGE, "text")) == 2


def test_page_documents_all_of_the_plugin() -> None:
    """Its fixtures, its marker and its option."""
    assert [code_in(row[0]) for row in table(PAGE, "fixture", "value")] == [
        ["signals_kit"],
        ["captured_signals"],
    ]
    page = text_of(PAGE)
    assert "@pytest.mark.no_receivers" in page
    assert "signals_kit_leaks = true" in page
