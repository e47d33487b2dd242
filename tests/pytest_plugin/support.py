"""A project whose tests pytest runs with the plugin."""

import re
from dataclasses import dataclass
from textwrap import dedent

import pytest

# A run in this process forgets the modules that it has imported. Those of the kit, which it imports
# when they are used, must not exist twice.
import flask_signals_kit.app.requests
import flask_signals_kit.core.journal
import flask_signals_kit.debug.page
import flask_signals_kit.debug.tree_text
import flask_signals_kit.pytest_plugin  # noqa: F401

SHOP = """
from flask import Flask
from flask_signals_kit import SignalsKit

kit = SignalsKit()
account_funded = kit.signal("account_funded")
mail_sent = kit.signal("mail_sent")

@kit.on(account_funded)
def thank(account, **extra):
    mail_sent.send(account, subject="Thank you")

@kit.on(account_funded, when=lambda account, **extra: account == "vip")
def upgrade(account, **extra):
    ...

def create_app(name="shop"):
    app = Flask(name)
    app.testing = True
    kit.init_app(app)

    @app.post("/fund")
    def fund():
        account_funded.send("acme", amount=100)
        return "ok"

    return app
"""

CONFTEST = """
import pytest
from shop import create_app

@pytest.fixture
def app():
    return create_app()
"""

OPTIONS = ("--strict-markers", "-pno:cacheprovider", "-p_flask_signals_kit_pytest")
"""The options of a run in this process, in which pytest loads no other plugins by itself."""


@dataclass(frozen=True)
class Project:
    """A folder with a shop, whose tests are written and run."""

    pytester: pytest.Pytester

    def test(self, source: str, *options: str) -> pytest.RunResult:
        """Run a test module in this process."""
        self._write(source)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
            return self.pytester.runpytest_inprocess(*OPTIONS, *options)

    def test_in_subprocess(self, source: str, *options: str) -> pytest.RunResult:
        """Run a test module in a process of its own, which may use other plugins."""
        self._write(source)
        return self.pytester.runpytest_subprocess("--strict-markers", "-pno:flask", *options)

    def _write(self, source: str) -> None:
        text = f"import pytest\nfrom shop import *\n\n{dedent(source)}"
        self.pytester.makepyfile(test_shop=text)


_SECTION = re.compile(r"^-+ (Signals[a-z ]*) -+\n(.*?)(?=^[-_=]{3}|\Z)", re.MULTILINE | re.DOTALL)


def sections(result: pytest.RunResult) -> list[tuple[str, str]]:
    """Return the title and text of each section of the plugin, without durations."""
    return [
        (title, re.sub(r", [\d.,]+ (µs|ms|s)", "", text))
        for title, text in _SECTION.findall(result.stdout.str())
    ]
