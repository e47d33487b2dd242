"""The marker ``no_receivers``: no receiver of these signals is called in a test."""

from textwrap import dedent

import pytest

from tests.pytest_plugin.support import Project, sections

COUNT = """
from flask import request_started as flask_started

called = []
shared = create_app("shared")

@kit.on("*", "request_started")
def count(sender, **extra):
    called.append(1)

def names(app, *signals):
    called.clear()
    found = []
    with app.app_context():
        for name in signals:
            kit.send(name, app)
            if called:
                found.append(name)
            called.clear()
    return found

EVERY = ("account_funded", "mail_sent", "undeclared", "request_started")
"""


@pytest.mark.parametrize(
    ("marker", "running"),
    [
        ("no_receivers", ["request_started"]),
        ("no_receivers()", ["request_started"]),
        ("no_receivers('*')", ["request_started"]),
        ("no_receivers('account_*')", ["mail_sent", "undeclared", "request_started"]),
        ("no_receivers('mail_sent', 'request_started')", ["account_funded", "undeclared"]),
        ("no_receivers(mail_sent, account_funded)", ["undeclared", "request_started"]),
        ("no_receivers('request_started')", ["account_funded", "mail_sent", "undeclared"]),
        ("no_receivers(flask_started)", ["account_funded", "mail_sent", "undeclared"]),
        (
            "no_receivers(kit.for_app(shared).namespace['mail_sent'])",
            ["account_funded", "undeclared", "request_started"],
        ),
    ],
)
def test_marker_mutes_signals_for_the_test(
    project: Project, marker: str, running: list[str]
) -> None:
    """By name, glob, handle or signal; globs match domain signals only, as those of ``kit.on``."""
    result = project.test(
        COUNT
        + dedent(
            f"""
            def test_before():
                assert names(create_app(), *EVERY) == list(EVERY)

            @pytest.mark.{marker}
            def test_muted(app):
                assert names(app, *EVERY) == {running}

            def test_after(app):
                assert names(app, *EVERY) == list(EVERY)
            """
        )
    )
    result.assert_outcomes(passed=3)


def test_markers_of_class_and_function_add_up(project: Project) -> None:
    """The class mutes one signal, the function another."""
    result = project.test(
        COUNT
        + dedent(
            """
            @pytest.mark.no_receivers("account_funded")
            class TestShop:
                @pytest.mark.no_receivers("mail_sent")
                def test_both(self, app):
                    assert names(app, *EVERY) == ["undeclared", "request_started"]

                def test_one(self, app):
                    assert names(app, *EVERY) == ["mail_sent", "undeclared", "request_started"]
            """
        )
    )
    result.assert_outcomes(passed=2)


def test_fixtures_apps_and_threads_of_the_test_are_muted(project: Project) -> None:
    """Also an app that existed before, one that the test makes, and one of a kit of its own."""
    result = project.test(
        """
        from threading import Thread

        called = []
        kit.on(account_funded)(lambda sender, **extra: called.append(sender))
        shared = create_app("shared")

        def send(kit, app, sender):
            with app.app_context():
                kit.send("account_funded", sender)

        @pytest.fixture
        def funds(app):
            send(kit, app, "fixture")
            yield
            send(kit, app, "teardown")

        def test_before():
            send(kit, shared, "before")
            assert called == ["before"]
            called.clear()

        @pytest.mark.no_receivers
        def test_muted(funds):
            send(kit, shared, "shared")
            send(kit, create_app(), "own app")
            own = Flask("own")
            own_kit = SignalsKit(own)
            own_kit.on("account_funded")(lambda sender, **extra: called.append(sender))
            send(own_kit, own, "own kit")
            thread = Thread(target=send, args=(kit, shared, "thread"))
            thread.start()
            thread.join()
            shared.kept = own, own_kit

        def test_after():
            assert called == []
            send(kit, shared, "shared")
            own, own_kit = shared.kept
            send(own_kit, own, "own kit")
            assert called == ["shared", "own kit"]
        """
    )
    result.assert_outcomes(passed=3)


def test_receivers_of_a_block_are_muted_too(project: Project) -> None:
    """As by ``muted()`` of the signal."""
    result = project.test(
        """
        @pytest.mark.no_receivers(mail_sent)
        def test_muted(app):
            called = []
            with app.app_context(), mail_sent.connected_to(lambda sender: called.append(1)):
                mail_sent.send()
                assert mail_sent.send_robust() == []
            assert called == []
        """
    )
    result.assert_outcomes(passed=1)


def test_payload_is_checked_nevertheless(project: Project) -> None:
    """So that a test without receivers finds the same mistakes."""
    result = project.test(
        """
        from flask_signals_kit import ContractError

        @kit.declare
        def campaign_created(sender, *, name): ...

        @pytest.mark.no_receivers
        def test_create(app):
            with app.app_context():
                with pytest.raises(ContractError, match="nmae"):
                    campaign_created.send("acme", nmae="spring")
                assert campaign_created.send("acme", name="spring") == []
        """
    )
    result.assert_outcomes(passed=1)


def test_limits_of_a_capture_end_before_the_test(project: Project) -> None:
    """The app is that of the test before, which has captured."""
    result = project.test(
        """
        shared = create_app("shared")
        kit.on(mail_sent)(list)

        def test_captured():
            with shared.app_context(), kit.capture(run=False):
                assert mail_sent.send("acme") == []

        @pytest.mark.no_receivers
        def test_muted():
            with shared.app_context(), kit.capture(only=[list]):
                assert mail_sent.send("acme") == []

        def test_after():
            with shared.app_context():
                assert mail_sent.send("acme") == [(list, [*"acme"])]
        """
    )
    result.assert_outcomes(passed=3)


def test_section_says_that_a_signal_was_muted(project: Project) -> None:
    """So that a receiver that is expected is not missed."""
    result = project.test(
        """
        @pytest.mark.no_receivers
        def test_fund(app):
            app.test_client().post("/fund")
            assert False
        """
    )
    [(_, text)] = sections(result)
    assert "1  muted         shop.thank: by the marker no_receivers\n" in text


def test_signal_of_another_extension_is_muted(project: Project) -> None:
    """Under the name that a kit bridges it by, also if a fixture of the test bridges it."""
    result = project.test(
        """
        from blinker import Namespace

        theirs = Namespace()
        paid = theirs.signal("invoice-paid")

        @pytest.fixture(autouse=True)
        def bridge(app):
            kit.bridge(theirs, prefix="billing.")

        @pytest.mark.no_receivers(paid)
        def test_muted(app):
            called = []
            kit.for_app(app).on("billing.invoice_paid")(lambda sender, **extra: called.append(1))
            with app.app_context():
                paid.send(app)
            assert called == []
        """
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("['mail_sent', account_funded]", "list"),
        ("signals='mail_sent'", "the argument signals="),
        ("'mail_sent', thank, other=1", "the argument other=, function"),
    ],
)
def test_invalid_argument_fails_the_test(project: Project, arguments: str, named: str) -> None:
    """Before its fixtures are set up; the next test runs."""
    result = project.test(
        f"""
        @pytest.fixture
        def funds():
            raise RuntimeError("the fixture ran")

        @pytest.mark.no_receivers({arguments})
        def test_fund(funds): ...

        def test_next(app): ...
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        f"The marker no_receivers of test_fund got {named}: give it names, globs, handles or "
        "blinker signals, as in no_receivers('mail_sent', 'account_[*]')."
    )
    assert "the fixture ran" not in result.stdout.str()


@pytest.mark.parametrize(
    ("argument", "name", "meant"),
    [
        ("'acount_funded'", "acount_funded", " Did you mean 'account_funded'?"),
        ("'acount_[*]'", "acount_[*]", " Did you mean 'account_*'?"),
        ("'request_[*]'", "request_[*]", " Did you mean 'request_*'?"),
        ("theirs", "zebra", ""),
    ],
)
def test_name_of_no_signal_is_a_warning(
    project: Project, argument: str, name: str, meant: str
) -> None:
    """With the name that may be meant. A glob matches no signals of Flask."""
    result = project.test(
        f"""
        from blinker import NamedSignal
        theirs = NamedSignal("zebra")

        @pytest.mark.no_receivers({argument.replace("[*]", "*")}, "mail_sent", "mail_*")
        def test_fund(app): ...
        """,
        "-Wdefault",
    )
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(
        f"*The marker no_receivers('{name}') of test_fund names no signal that is declared or has "
        f"receivers.{meant}"
    )


def test_glob_that_a_receiver_is_connected_to_is_no_warning(project: Project) -> None:
    """Its signals may be declared nowhere."""
    result = project.test(
        """
        kit.on("campaign_*")(lambda campaign, **extra: None)

        @pytest.mark.no_receivers("campaign_*")
        def test_fund(app): ...

        @pytest.mark.no_receivers
        def test_all(app): ...
        """,
        "-Wdefault",
    )
    result.assert_outcomes(passed=2, warnings=0)


def test_warning_as_error_fails_the_test_alone(project: Project) -> None:
    """The session goes on."""
    result = project.test(
        """
        @pytest.mark.no_receivers("acount_funded")
        def test_fund(app): ...

        def test_next(): ...
        """,
        "-Werror",
    )
    result.assert_outcomes(passed=1, failed=1)


def test_marker_changes_nothing_afterwards(project: Project) -> None:
    """Also if the test fails: the next one has its receivers."""
    result = project.test(
        """
        called = []
        kit.on(mail_sent)(lambda sender, **extra: called.append(sender))
        shared = create_app("shared")

        @pytest.mark.no_receivers
        def test_muted():
            with shared.app_context():
                mail_sent.send("muted")
            assert False

        def test_after():
            with shared.app_context():
                mail_sent.send("after")
            assert called == ["after"]
        """
    )
    result.assert_outcomes(passed=1, failed=1)
