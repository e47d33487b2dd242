"""The plugin together with other plugins, other kinds of tests, and an older pytest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pytest_plugin.support import OPTIONS, Project, sections
from tests.support import require_service

OLDEST = "8.0.0"
"""The oldest pytest that the plugin works with."""


def test_section_comes_from_a_worker_of_xdist(project: Project) -> None:
    """The report is made in the worker and printed by the controller."""
    result = project.test_in_subprocess(
        """
        @pytest.mark.parametrize("number", range(4))
        def test_fund(app, number):
            app.test_client().post("/fund")
            assert number != 2

        @pytest.mark.no_receivers
        def test_muted(captured_signals):
            account_funded.send()
            assert len(captured_signals) == 1

        def test_leak():
            kit.on(account_funded)(lambda account, **extra: None)
        """,
        "-n2",
        "-osignals_kit_leaks=true",
        "-pno:asyncio",
    )
    result.assert_outcomes(passed=5, failed=1, errors=1)
    [(_, text)] = sections(result)
    assert text.startswith("POST /fund 200\n  account_funded(amount)")
    result.stdout.fnmatch_lines("*test_leak leaves receivers connected*")


ASYNC = """
import asyncio

@kit.on(mail_sent)
async def deliver(account, **extra):
    await asyncio.sleep(0)

@pytest.fixture
async def number():
    await asyncio.sleep(0)
    yield 1

{mark}
async def test_sent(captured_signals):
    await mail_sent.send_async("acme", subject="News")
    assert [each.signal for each in captured_signals] == ["mail_sent"]
    assert False

{mark}
@pytest.mark.no_receivers
async def test_muted(app, number):
    async with asyncio.timeout(10):
        with app.app_context():
            assert await mail_sent.send_async("acme") == []
            assert False
"""

SENT = """\
Outside a request
  mail_sent(subject), sent by str at test_shop.py:18
     1  ran           test_shop.deliver
"""

MUTED = """\
Outside a request
  mail_sent(), sent by str at test_shop.py:27
     1  muted         test_shop.deliver: by the marker no_receivers
"""


@pytest.mark.needs("pytest_asyncio")
def test_plugin_works_with_pytest_asyncio(project: Project) -> None:
    """In an async test, which runs in a task."""
    result = project.test_in_subprocess(
        ASYNC.format(mark=""),
        "-pno:anyio",
        "-oasyncio_mode=auto",
        "-oasyncio_default_fixture_loop_scope=function",
    )
    result.assert_outcomes(failed=2)
    assert [text for _, text in sections(result)] == [SENT, MUTED]


@pytest.mark.needs("anyio")
def test_plugin_works_with_anyio(project: Project) -> None:
    """Its plugin runs tests and fixtures in one task."""
    source = ASYNC.format(mark="@pytest.mark.anyio")
    backend = "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    result = project.test_in_subprocess(source + backend, "-pno:asyncio")
    result.assert_outcomes(failed=2)
    assert [text for _, text in sections(result)] == [SENT, MUTED]


def test_plugin_works_with_unittest(project: Project) -> None:
    """There, all is sent during the call."""
    result = project.test(
        """
        from unittest import TestCase

        class ShopTest(TestCase):
            def setUp(self):
                self.app = create_app()
                self.post()

            def tearDown(self):
                self.post()

            def post(self):
                self.app.test_client().post("/fund")

            def test_fund(self):
                self.fail()

            @pytest.mark.no_receivers
            def test_muted(self):
                self.fail()

            def test_leak(self):
                kit.on(account_funded)(lambda account, **extra: None)
        """,
        "-osignals_kit_leaks=true",
    )
    result.assert_outcomes(passed=1, failed=2, errors=1)
    texts = {text.count("\n     1  ran "): text for _, text in sections(result)}
    assert texts[2].count("POST /fund 200\n") == 2
    assert texts[0].count("1  muted") == 2
    result.stdout.fnmatch_lines("*ERROR at teardown of ShopTest.test_leak*")


def test_plugin_works_with_async_tests_of_unittest(project: Project) -> None:
    """The event loop is unittest's."""
    result = project.test(
        """
        from unittest import IsolatedAsyncioTestCase

        class ShopTest(IsolatedAsyncioTestCase):
            async def test_sent(self):
                app = create_app()
                with app.app_context():
                    await mail_sent.send_async("acme", subject="News")
                self.fail()
        """
    )
    [(_, text)] = sections(result)
    assert text.startswith("Outside a request\n  mail_sent(subject), sent by str")


@pytest.mark.skipif(not hasattr(pytest, "Subtests"), reason="pytest 9 has subtests")
def test_each_subtest_shows_what_was_sent_since_the_last_failure(project: Project) -> None:
    """A subtest belongs to the call."""
    result = project.test(
        """
        def test_fund(app, subtests):
            for number in range(4):
                with subtests.test(), app.app_context():
                    mail_sent.send(**{f"number_{number}": 1})
                    assert number % 2 == 0
        """
    )
    texts = [text for _, text in sections(result)]
    assert [text.count("mail_sent(number_") for text in texts] == [2, 2]
    assert all(text.startswith("Outside a request\n") for text in texts)
    assert not any("teardown" in text for text in texts)


def test_emissions_of_other_threads_are_shown(project: Project) -> None:
    """Such as those of an app that a thread serves."""
    result = project.test(
        """
        from threading import Thread

        def test_fund(app):
            thread = Thread(target=app.test_client().post, args=("/fund",))
            thread.start()
            thread.join()
            assert False
        """
    )
    [(_, text)] = sections(result)
    assert text.startswith("POST /fund 200\n  account_funded(amount)")


@pytest.fixture(scope="session")
def oldest_pytest() -> Path:
    """Give a folder with the oldest supported pytest."""
    folder = Path(__file__).parents[2] / "build" / f"pytest-{OLDEST}"
    if not folder.exists():
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install"]
        command = [*pip, "--target", str(folder), f"pytest=={OLDEST}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        missing = f"pytest {OLDEST} cannot be installed: {done.stderr.strip()}"
        return require_service(None if done.returncode else folder, missing)
    return folder


def test_plugin_works_with_the_oldest_pytest(
    project: Project, oldest_pytest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The section, the fixtures, the marker and the check."""
    path = filter(None, [str(oldest_pytest), os.environ.get("PYTHONPATH")])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they may need a newer pytest
    result = project.test_in_subprocess(
        """
        def test_version():
            assert pytest.__version__ == "8.0.0"

        def test_fund(app):
            app.test_client().post("/fund")
            assert False

        def test_captured(signals_kit, captured_signals):
            assert signals_kit is kit
            account_funded.send("acme")
            assert len(captured_signals) == 2

        @pytest.mark.no_receivers
        def test_muted(captured_signals):
            account_funded.send("acme")
            assert len(captured_signals) == 1

        def test_leak():
            kit.on(account_funded)(lambda account, **extra: None)
        """,
        *OPTIONS,
        "-osignals_kit_leaks=true",
    )
    result.assert_outcomes(passed=4, failed=1, errors=1)
    [(_, text)] = sections(result)
    assert text.startswith("POST /fund 200\n  account_funded(amount)")
    result.stdout.fnmatch_lines("*test_leak leaves receivers connected*")
