"""The section of a failed test: what was sent in it, and what each receiver did."""

import pytest

from tests.pytest_plugin.support import Project, sections

FUNDED = """\
  account_funded(amount), sent by str at shop.py:23
     1  ran           shop.thank
        mail_sent(subject), sent by str at shop.py:10
              no receivers
     2  skipped       shop.upgrade: shop.<lambda> (shop.py:12) returned false
"""


def test_failed_test_shows_the_tree_of_what_was_sent(project: Project) -> None:
    """The test asks for nothing."""
    result = project.test(
        """
        def test_fund(app):
            app.test_client().post("/fund")
            assert False
        """
    )
    assert sections(result) == [("Signals", f"POST /fund 200\n{FUNDED}")]


def test_passed_and_skipped_tests_have_no_section(project: Project) -> None:
    """An expected failure is not a failed test."""
    result = project.test(
        """
        def test_passed(app):
            app.test_client().post("/fund")

        def test_skipped(app):
            app.test_client().post("/fund")
            pytest.skip()

        @pytest.mark.xfail
        def test_expected(app):
            app.test_client().post("/fund")
            assert False
        """,
        "-rA",
        "--xfail-tb",
    )
    result.assert_outcomes(passed=1, skipped=1, xfailed=1)
    assert sections(result) == []


def test_nothing_is_shown_if_nothing_was_sent(project: Project) -> None:
    """What earlier tests have sent with the same app is not shown."""
    result = project.test(
        """
        @pytest.fixture(scope="module")
        def shared():
            return create_app()

        def test_first(shared):
            shared.test_client().post("/fund")

        def test_second(shared):
            assert False
        """
    )
    result.assert_outcomes(passed=1, failed=1)
    assert sections(result) == []


def test_strictly_expected_failure_that_passes_has_a_section(project: Project) -> None:
    """It has failed."""
    result = project.test(
        """
        @pytest.mark.xfail(strict=True)
        def test_fund(app):
            app.test_client().post("/fund")
        """
    )
    assert sections(result) == [("Signals", f"POST /fund 200\n{FUNDED}")]


def test_receiver_that_fails_is_shown_with_its_error(project: Project) -> None:
    """The exception that the receiver raised fails the test."""
    result = project.test(
        """
        def test_fund(app):
            kit.for_app(app).on(account_funded, priority=1)(lambda account, amount: 1 / 0)
            app.test_client().post("/fund")
        """
    )
    [(_, text)] = sections(result)
    [failed, *others] = text.splitlines()[2:]
    assert failed.startswith("     1  failed        test_shop.test_fund.<locals>.<lambda>")
    assert failed.endswith("raised ZeroDivisionError at test_shop.py:6")
    assert [line.split()[1:3] for line in others] == [["not", "reached"], ["not", "reached"]]


PHASES = """
import pytest

@pytest.fixture
def funds(app):
    app.test_client().post("/fund")
    yield
    app.test_client().post("/fund")
    if TEARDOWN_FAILS:
        assert False

def test_fund(app, funds):
    app.test_client().post("/fund")
    assert not CALL_FAILS
"""


@pytest.mark.parametrize(
    ("call_fails", "teardown_fails", "shown"),
    [
        (True, False, [("Signals", ["setup", "call"]), ("Signals teardown", ["teardown"])]),
        (False, True, [("Signals", ["setup", "call", "teardown"])]),
        (True, True, [("Signals", ["teardown"]), ("Signals", ["setup", "call"])]),
    ],
)
def test_every_phase_is_shown_once(
    project: Project, call_fails: bool, teardown_fails: bool, shown: list[tuple[str, list[str]]]
) -> None:
    """What the teardown sends stands in the report of the teardown."""
    result = project.test(f"CALL_FAILS, TEARDOWN_FAILS = {call_fails}, {teardown_fails}\n{PHASES}")
    assert sections(result) == [
        (
            title,
            "".join(
                f"POST /fund 200{'' if phase == 'call' else f' ({phase})'}\n{FUNDED}"
                for phase in phases
            ),
        )
        for title, phases in shown
    ]


def test_failing_fixture_shows_what_it_sent(project: Project) -> None:
    """The error of a setup has the section, too."""
    result = project.test(
        """
        @pytest.fixture
        def broken(app):
            app.test_client().post("/fund")
            assert False

        def test_fund(broken):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    assert sections(result) == [("Signals", f"POST /fund 200 (setup)\n{FUNDED}")]


def test_each_app_has_a_part_of_its_own(project: Project) -> None:
    """In the order in which they sent something; an app that sent nothing is left out."""
    result = project.test(
        """
        def test_fund(app):
            unused, other = create_app("unused"), create_app("other")
            signals_of_no_app = kit.for_app(create_app("gone"))
            other.test_client().post("/fund")
            app.test_client().post("/fund")
            assert False
        """
    )
    [(_, text)] = sections(result)
    posted = f"POST /fund 200\n{FUNDED}"
    assert text == f"App 'other'\n\n{posted}\nApp 'shop'\n\n{posted}"


def test_apps_of_several_kits_are_shown(project: Project) -> None:
    """Also of a kit that the test makes."""
    result = project.test(
        """
        def test_fund(app):
            own = Flask("own")
            own.testing = True
            own_kit = SignalsKit(own)
            with own.app_context():
                own_kit.send("own_sent")
            app.test_client().post("/fund")
            assert False
        """
    )
    [(_, text)] = sections(result)
    assert text.startswith("App 'own'\n\nOutside a request\n  own_sent()")
    assert "\nApp 'shop'\n\nPOST /fund 200\n" in text


def test_emissions_outside_of_requests_have_one_heading(project: Project) -> None:
    """Each app context would otherwise have its own."""
    result = project.test(
        """
        def test_fund(app):
            for _ in range(3):
                with app.app_context():
                    mail_sent.send()
            assert False
        """
    )
    [(_, text)] = sections(result)
    assert text.count("Outside a request") == 1
    assert text.count("mail_sent()") == 3


def test_requests_that_overlap_are_shown_one_after_the_other(project: Project) -> None:
    """The emissions of each request stand together."""
    result = project.test(
        """
        def test_fund(app):
            first = app.test_request_context("/first")
            second = app.test_request_context("/second")
            for _ in range(2):
                for context in (first, second):
                    with context:
                        mail_sent.send()
            assert False
        """
    )
    [(_, text)] = sections(result)
    headings = [line for line in text.splitlines() if not line.startswith(" ")]
    assert headings == ["GET /first", "GET /second"]


def test_no_payload_value_is_shown(project: Project) -> None:
    """The section contains names and types, because a report may be stored for long."""
    result = project.test(
        """
        def test_fund(app):
            with app.app_context():
                mail_sent.send("acme", password="hun" + "ter2")
            assert False
        """
    )
    [(_, text)] = sections(result)
    assert "mail_sent(password), sent by str" in text
    assert "hunter2" not in text
    assert "acme" not in text


def test_section_is_limited_to_the_last_lines(project: Project) -> None:
    """Those before the failure say most."""
    result = project.test(
        """
        def test_fund(app):
            with app.app_context():
                for number in range(300):
                    mail_sent.send(**{f"number_{number}": 1})
            assert False
        """
    )
    [(_, text)] = sections(result)
    first, *lines = text.splitlines()
    assert first == "(Earlier lines are left out.)"
    assert len(lines) == 200
    assert "number_299" in lines[-2]


@pytest.mark.parametrize(("sends", "shown"), [(1, 20), (0, 101)])
def test_long_setup_is_cut_if_the_test_sent_something(
    project: Project, sends: int, shown: int
) -> None:
    """A factory may fill a database; all of it is shown if the test sent nothing."""
    result = project.test(
        f"""
        @pytest.fixture
        def seeded(app):
            with app.app_context():
                for number in range(50):
                    mail_sent.send("seed")
                yield app

        def test_fund(seeded):
            for number in range({sends}):
                seeded.test_client().post("/fund")
            assert False
        """
    )
    [(_, text)] = sections(result)
    setup, _, _ = text.partition("POST /fund 200\n")
    lines = setup.removeprefix("(Earlier lines are left out.)\n").splitlines()
    assert len(lines) == shown
    assert lines[0] == "Outside a request (setup)"
    assert text.endswith(FUNDED if sends else "no receivers\n")


def test_app_without_a_journal_has_no_section(project: Project) -> None:
    """The journal records nothing outside debug and testing."""
    result = project.test(
        """
        def test_fund(app):
            app.testing = False
            app.test_client().post("/fund")
            assert False
        """
    )
    assert sections(result) == []


def test_kit_that_a_test_imports_is_shown(pytester: pytest.Pytester) -> None:
    """The kit is not imported when the test begins."""
    pytester.makepyfile(
        """
        def test_fund():
            from flask import Flask
            from flask_signals_kit import SignalsKit
            app = Flask("late")
            app.testing = True
            kit = SignalsKit(app)
            with app.app_context():
                kit.send("mail_sent")
            assert False
        """
    )
    result = pytester.runpytest_subprocess("-pno:flask")
    [(title, text)] = sections(result)
    assert title == "Signals"
    assert text.startswith("Outside a request\n  mail_sent(), sent by flask.app.Flask")


def test_names_with_control_characters_are_escaped(project: Project) -> None:
    """A test report is printed on a terminal."""
    result = project.test(
        """
        def test_fund(app):
            with app.app_context():
                mail_sent.send(**{"\\x1b[31m": 1})
            assert False
        """
    )
    [(_, text)] = sections(result)
    assert "mail_sent(\\x1b[31m)" in text


def test_plugin_keeps_no_app_alive(project: Project) -> None:
    """Neither the app of a passed test nor that of a failed one."""
    result = project.test_in_subprocess(
        """
        import gc, sys, weakref
        apps = []

        def test_passed():
            app = create_app()
            apps.append(weakref.ref(app))
            app.test_client().post("/fund")

        def test_failed():
            app = create_app()
            apps.append(weakref.ref(app))
            app.test_client().post("/fund")
            assert False

        def test_collected():
            gc.collect()
            assert [app() for app in apps] == [None, None]
        """
    )
    result.assert_outcomes(passed=2, failed=1)
    assert len(sections(result)) == 1
