"""The fixtures ``signals_kit`` and ``captured_signals``."""

import pytest

from tests.pytest_plugin.support import OPTIONS, Project


def test_signals_kit_is_the_kit_of_the_app(project: Project) -> None:
    """Of the app that the fixture ``app`` returns."""
    result = project.test(
        """
        def test_kit(signals_kit):
            assert signals_kit is kit
        """
    )
    result.assert_outcomes(passed=1)


def test_app_fixture_may_have_parameters(project: Project) -> None:
    """The test then runs with each app."""
    result = project.test(
        """
        @pytest.fixture(params=["one", "two"])
        def app(request):
            return create_app(request.param)

        def test_kit(signals_kit, captured_signals):
            assert signals_kit is kit
        """
    )
    result.assert_outcomes(passed=2)


def test_app_may_be_a_proxy(project: Project) -> None:
    """As ``current_app`` is."""
    result = project.test(
        """
        from flask import current_app

        @pytest.fixture
        def app(app):
            with app.app_context():
                yield current_app

        def test_kit(signals_kit, captured_signals):
            account_funded.send("acme", amount=1)
            assert len(captured_signals) == 2
        """
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("fixture", ["signals_kit", "captured_signals"])
def test_missing_app_fixture_is_an_error_with_the_fix(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, fixture: str
) -> None:
    """Pytest names the fixture, and shows where it is required."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(f"def test_kit({fixture}): ...")
    result = pytester.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "*# The fixture `app` must return your Flask app. Define it in conftest.py.",
            f"*def {fixture}(app*",
            "E*fixture 'app' not found",
        ]
    )


@pytest.mark.parametrize(
    ("app", "named"),
    [("Flask('bare')", "app 'bare'"), ("None", "None"), ("create_app", "function")],
)
def test_app_without_a_kit_is_an_error_with_the_fix(project: Project, app: str, named: str) -> None:
    """The message is all that is printed."""
    result = project.test(
        f"""
        @pytest.fixture
        def app():
            return {app}

        def test_kit(signals_kit): ...
        """
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        f"The fixture 'app' returned {named}, which has no SignalsKit: call kit.init_app(app) in "
        "its factory."
    )
    result.stdout.no_fnmatch_line("*pytest_plugin.py*")


def test_captured_signals_records_the_whole_test(project: Project) -> None:
    """In requests and in the test itself, for which the app is current."""
    result = project.test(
        """
        def test_fund(app, captured_signals):
            app.test_client().post("/fund")
            mail_sent.send("bank", subject="News")
            assert [each.signal for each in captured_signals] == [
                "account_funded", "mail_sent", "mail_sent"
            ]
            assert captured_signals[0].payload == {"amount": 100}

        def test_other(captured_signals):
            assert captured_signals == []
        """
    )
    result.assert_outcomes(passed=2)


def test_captured_signals_keeps_a_context_of_the_app(project: Project) -> None:
    """A fixture or a plugin that has pushed one decides what ``g`` and the session are."""
    result = project.test(
        """
        from flask import g

        @pytest.fixture
        def app(app):
            with app.app_context():
                g.pushed = True
                yield app

        def test_fund(captured_signals):
            assert g.pushed
        """
    )
    result.assert_outcomes(passed=1)


def test_context_of_captured_signals_ends_with_the_test(project: Project) -> None:
    """The next test has no current app."""
    result = project.test(
        """
        from flask import has_app_context

        def test_fund(captured_signals):
            assert has_app_context()

        def test_next():
            assert not has_app_context()
        """
    )
    result.assert_outcomes(passed=2)


@pytest.mark.needs("pytest_flask")
def test_fixtures_work_with_pytest_flask(project: Project) -> None:
    """It pushes a request context around each test that has an app."""
    project.pytester.makepyfile(
        test_shop="""
        from flask import request
        from shop import kit

        def test_fund(client, captured_signals, signals_kit):
            assert request.path == "/"
            assert signals_kit is kit
            client.post("/fund")
            assert len(captured_signals) == 2
        """
    )
    result = project.pytester.runpytest_subprocess("-pno:asyncio", "-pno:cacheprovider")
    result.assert_outcomes(passed=1)
