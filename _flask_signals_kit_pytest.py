"""The pytest plugin of flask_signals_kit: its hooks and fixtures.

pytest imports this module in every environment that has the kit. So it does not import the kit,
which imports Flask. The hooks use ``flask_signals_kit.pytest_plugin`` once the project itself has
imported the kit, or where it asks for a fixture, the marker or the check for leaks.

It has no assertions, so pytest need not warn if it was imported before: PYTEST_DONT_REWRITE.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flask_signals_kit import CapturedSignals, SignalsKit

_MARKER = (
    "no_receivers(*signals): call no receivers of these signals in this test. Give names, "
    "patterns, handles or Blinker signals; without any, it applies to all of the app's own signals."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option."""
    parser.addini(
        "signals_kit_leaks",
        "Fail a test that leaves receivers connected to the signals of flask_signals_kit.",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the check for leaks if it is on."""
    config.addinivalue_line("markers", _MARKER)
    if config.getini("signals_kit_leaks"):
        from flask_signals_kit.pytest_plugin import Leaks

        config.pluginmanager.register(Leaks(), "flask_signals_kit_leaks")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Mute the signals of the marker ``no_receivers`` for the whole test."""
    if item.get_closest_marker("no_receivers") is None:
        return (yield)
    from flask_signals_kit.pytest_plugin import muted

    with muted(item):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note what was sent before the test, and refuse a marker with invalid arguments."""
    if "flask_signals_kit" in sys.modules:
        from flask_signals_kit.pytest_plugin import begin, refuse_invalid

        begin(item)
        refuse_invalid(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Warn about a marker that names an unknown signal, once the fixtures have made the apps."""
    if item.get_closest_marker("no_receivers") is not None:
        from flask_signals_kit.pytest_plugin import warn_unknown

        warn_unknown(item)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the signals that were sent to the report of a test that failed."""
    report = yield
    if "flask_signals_kit" in sys.modules:
        from flask_signals_kit.pytest_plugin import end_phase

        end_phase(item, report)
    return report


# Without a fixture `app`, pytest prints the lines of the fixture that needs it, from its decorator
# on. So the advice stands below the decorator.


@pytest.fixture
# The fixture `app` must return your Flask app. Define it in conftest.py.
def signals_kit(app: Any) -> SignalsKit:
    """Return the kit of the app that the fixture ``app`` returns; an app has one kit."""
    from flask_signals_kit.pytest_plugin import kit_of

    return kit_of(app)


@pytest.fixture
# The fixture `app` must return your Flask app. Define it in conftest.py.
def captured_signals(app: Any, signals_kit: SignalsKit) -> Generator[CapturedSignals, None, None]:
    """Record what the app sends during the test, in a context of the app: ``kit.capture()``."""
    from flask_signals_kit.pytest_plugin import capturing

    with capturing(app, signals_kit) as captured:
        yield captured
