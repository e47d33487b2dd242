"""The Python blocks of the pages on testing are test modules, which pytest runs."""

import pytest

from tests.docs.support import blocks

OPTIONS = (
    "-pno:flask",
    "-oasyncio_mode=auto",
    "-oasyncio_default_fixture_loop_scope=function",
    "--strict-markers",
    "-Werror",
    # Since Python 3.13.
    "-Wignore:unclosed database in <sqlite3.Connection:ResourceWarning",
)


@pytest.mark.needs("asgiref", "flask_sqlalchemy", "hypothesis", "msgspec", "pytest_asyncio")
@pytest.mark.parametrize("page", ["docs/testing.md", "docs/testing-receivers.md"])
def test_tests_of_a_page_pass(page: str, pytester: pytest.Pytester) -> None:
    """All of them, in the module ``shop``."""
    module = "\n\n".join(blocks(page, "python"))
    pytester.makepyfile(shop=module)
    result = pytester.runpytest_subprocess(*OPTIONS, "shop.py")
    result.assert_outcomes(passed=module.count("def test_"))
