"""Names without a declaration: the warning, the errors of strict mode, and `check`."""

import gc
import logging
from typing import Any

import blinker
import pytest
from flask import Flask

from flask_signals_kit import (
    SignalsKit,
    UnknownSignalError,
)
from tests.support import make_app, results, write_down


def test_strict_refuses_to_send_an_unknown_name(kit: SignalsKit) -> None:
    """The message has name, place, suggestion and fix."""
    app = make_app(kit, SIGNALS_KIT_STRICT=True)
    kit.signal("account_funded")
    with app.app_context(), pytest.raises(UnknownSignalError) as caught:
        kit.send("acount_funded")
    message = str(caught.value)
    assert "'acount_funded'" in message
    assert __file__ in message
    assert "SIGNALS_KIT_STRICT" in message
    assert "Did you mean 'account_funded'?" in message
    fix = message.partition("? ")[2]
    assert fix.startswith("Use 'account_funded'. If 'acount_funded' is a signal of its own: ")
    assert fix.endswith("Declare it with kit.signal('acount_funded', doc) or @kit.declare.")
    with app.app_context(), pytest.raises(UnknownSignalError, match=r"on\. Declare it with"):
        kit.send("zebra_seen")
    assert isinstance(caught.value, LookupError)


def test_strict_refuses_to_connect_to_an_unknown_name(kit: SignalsKit) -> None:
    """At once after `init_app`; nothing stays connected."""
    kit.signal("account_funded")
    app = make_app(kit, SIGNALS_KIT_STRICT=True)
    for on in (kit.on, kit.for_app(app).on):
        with pytest.raises(UnknownSignalError) as caught:
            on("acount_funded")(results)
        message = str(caught.value)
        assert "results" in message
        assert results.__code__.co_filename in message
        assert "Did you mean 'account_funded'?" in message
    make_app(kit, "later", SIGNALS_KIT_STRICT=True)


def test_strict_checks_earlier_connections_at_init_app(kit: SignalsKit) -> None:
    """Until then, declarations may come in any order."""
    kit.on("account_funded")(results)
    with pytest.raises(UnknownSignalError, match=r"results.*Declare it"):
        make_app(kit, SIGNALS_KIT_STRICT=True)
    kit.signal("account_funded")
    make_app(kit, SIGNALS_KIT_STRICT=True)


def test_strict_allows_flask_signals_bridged_signals_and_globs(kit: SignalsKit) -> None:
    """And every declared name."""
    kit.on("request_started", "account_*")(lambda sender, **extra: "called")
    kit.bridge(blinker.NamedSignal("invoice-paid"))
    kit.on("invoice_paid")(lambda sender, **extra: None)
    kit.signal("account_funded")
    app = make_app(kit, SIGNALS_KIT_STRICT=True)
    assert results(kit, app) == ["called"]
    kit.for_app(app).signal("own")
    assert results(kit, app, "own") == []


def test_undeclared_name_without_receivers_is_reported(
    kit: SignalsKit, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning with place and suggestion, and a problem in `check()`."""
    kit.signal("account_funded")
    with app.app_context():
        for _ in range(3):
            assert kit.send("acount_funded") == []
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        message = record.getMessage()
        assert "'acount_funded'" in message
        assert __file__ in message
        assert "Did you mean 'account_funded'?" in message
        [problem] = [each for each in kit.check() if each.kind == "unknown"]
        assert problem.signal == "acount_funded"
        assert "Did you mean 'account_funded'?" in str(problem)
        assert problem.place is not None
        assert problem.place.file == __file__


def test_undeclared_name_with_a_receiver_works(
    kit: SignalsKit, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """Declarations are optional; `check()` mentions the name."""
    kit.on("account_funded")(lambda sender, **extra: "called")
    assert results(kit, app) == ["called"]
    assert caplog.records == []
    with app.app_context():
        assert [each.kind for each in kit.check()] == ["undeclared"]


def test_check_lists_problems(kit: SignalsKit) -> None:
    """Collected receivers, receivers without `**`, and closures connected repeatedly."""
    kit.signal("account_funded", "Money arrived.")
    app = make_app(kit)

    def factory() -> None:
        @kit.on("account_funded")
        def receive(sender: Any) -> None:
            pass

    factory()
    factory()
    kit.on("account_funded", weak=True)(lambda sender, **extra: None)
    gc.collect()
    with app.app_context():
        problems = kit.check()
    assert sorted(problem.kind for problem in problems) == [
        "dead",
        "duplicate",
        "no_extra",
        "no_extra",
    ]
    for problem in problems:
        assert problem.signal == "account_funded"
        assert problem.place is not None
        assert problem.place.file == __file__
        assert problem.fix


def test_app_signals_check_lists_problems_of_the_app(kit: SignalsKit, app: Flask) -> None:
    """Without an app context."""
    app_signals = kit.for_app(app)
    app_signals.on("account_funded")(write_down)
    with app.app_context():
        [problem] = kit.check()
    [same] = app_signals.check()
    assert problem.kind == same.kind == "undeclared"
    assert kit.for_app(make_app(kit, "other")).check() == []


def test_glob_receiver_suppresses_unknown_name_warning(
    kit: SignalsKit, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning is for names without receivers."""
    kit.on("*")(lambda sender, **extra: "audit")
    assert results(kit, app, "undeclared_thing") == ["audit"]
    assert caplog.messages == []
