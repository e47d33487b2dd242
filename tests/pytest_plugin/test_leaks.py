"""The check ``signals_kit_leaks``: a test that leaves receivers connected fails."""

import pytest

from tests.pytest_plugin.support import Project

ON = "-osignals_kit_leaks=true"


def test_receiver_that_a_test_leaves_fails_it(project: Project) -> None:
    """The message names the receiver, its place, the signal and the cure."""
    result = project.test(
        """
        def test_leak(app):
            @kit.on(account_funded)
            def left(account, **extra): ...

        def test_next(app): ...
        """,
        ON,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_leak*",
            "test_leak leaves receivers connected, which later tests then call:",
            "  test_shop.test_leak.<locals>.left (test_shop.py:6), connected to 'account_funded'",
            (
                "Connect a receiver for the test alone: with signal.connected_to(receiver), or "
                "with kit.on inside 'with kit.isolated():'."
            ),
        ],
        consecutive=True,
    )


def test_check_is_off_by_default(project: Project) -> None:
    """The ini option switches it on."""
    source = """
        def test_leak(app):
            kit.on(account_funded)(lambda account, **extra: None)
        """
    project.test(source).assert_outcomes(passed=1)
    project.pytester.makeini("[pytest]\nsignals_kit_leaks = true")
    project.test(source).assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize(
    "connect",
    [
        "kit.on('account_*')(lambda account, **extra: None)",
        "account_funded.connect(lambda account, **extra: None)",
        "kit.on(account_funded)(list)",
        "kit.for_app(shared).on(account_funded)(lambda account, **extra: None)",
        "kit.for_app(shared).namespace['account_funded'].connect(print)",
        "kit.on(account_funded, sender='acme')(thank)",
        (
            "[kit.on(account_funded)(lambda account, **extra: n) for n in range(2)]; "
            "kit.disconnect(thank)"
        ),
    ],
)
def test_each_kind_of_connection_is_found(project: Project, connect: str) -> None:
    """Those of the kit, of an app that existed before, and of its signals."""
    result = project.test(
        f"""
        shared = create_app()

        def test_leak():
            {connect}
        """,
        ON,
    )
    result.assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize(
    "connect",
    [
        "kit.for_app(create_app()).on(account_funded)(lambda account, **extra: None)",
        "SignalsKit().on(account_funded.name)(lambda account, **extra: None)",
        "kit.disconnect(kit.on(account_funded)(lambda account, **extra: None))",
        "kit.on(account_funded)(thank)",
        "kit.disconnect(thank); kit.on(account_funded)(thank)",
        "kit.disconnect(thank)",
        "import receivers",
        "weak()",
    ],
)
def test_what_ends_or_existed_before_is_not_found(project: Project, connect: str) -> None:
    """Own apps and kits, reconnected receivers, imported modules, collected receivers."""
    project.pytester.makepyfile(
        receivers="""
        from shop import kit

        @kit.on("account_funded")
        def note(account, **extra): ...
        """
    )
    result = project.test(
        f"""
        shared = create_app()

        def weak():
            def receiver(account, **extra): ...
            receiver.cycle = receiver
            kit.on(account_funded, weak=True)(receiver)

        def test_clean():
            {connect}
        """,
        ON,
    )
    result.assert_outcomes(passed=1)


def test_reloaded_receiver_is_not_found(project: Project) -> None:
    """It replaces the receiver of the earlier version."""
    project.pytester.makepyfile(
        receivers="""
        from shop import kit

        @kit.on("account_funded")
        def note(account, **extra): ...
        """
    )
    result = project.test(
        """
        import importlib, receivers

        def test_reload():
            importlib.reload(receivers)
        """,
        ON,
    )
    result.assert_outcomes(passed=1)


HELPERS = """
def note(account, **extra): ...

class Audit:
    def __call__(self, account, **extra): ...

def make():
    return lambda account, **extra: None
"""

RECEIVERS = """
import helpers
from shop import SignalsKit, kit

for receiver in (helpers.note, helpers.Audit(), helpers.make()):
    kit.on("account_funded")(receiver)
SignalsKit().on("account_funded")(helpers.note)
"""


@pytest.mark.parametrize("receiver", ["note", "Audit()", "make()"])
def test_receiver_is_found_although_its_module_is_new(project: Project, receiver: str) -> None:
    """The test connected it, not the module."""
    project.pytester.makepyfile(helpers=HELPERS)
    result = project.test(
        f"""
        def test_leak():
            import helpers
            kit.on(account_funded)(helpers.{receiver})
        """,
        ON,
    )
    result.assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize(
    "imports", ["import receivers", "with kit.isolated(): import receivers", "load()"]
)
def test_module_that_a_test_imports_may_connect_what_another_defines(
    project: Project, imports: str
) -> None:
    """Also in a block that connects it again at its end, and in a function."""
    project.pytester.makepyfile(helpers=HELPERS, receivers=RECEIVERS)
    result = project.test(
        f"""
        import helpers

        def load():
            import receivers

        def test_clean():
            {imports}
        """,
        ON,
    )
    result.assert_outcomes(passed=1)


def test_module_that_a_test_imports_may_connect_to_a_signal_itself(project: Project) -> None:
    """As with Blinker's own signals."""
    project.pytester.makepyfile(
        receivers="""
        from test_shop import app, kit

        def note(sender, **extra): ...

        kit.for_app(app).namespace.signal("account_funded").connect(note)
        """
    )
    result = project.test(
        """
        app = create_app()

        def test_clean():
            import receivers
        """,
        ON,
    )
    result.assert_outcomes(passed=1)


def test_import_in_a_fixture_for_several_tests_permits_nothing_else(project: Project) -> None:
    """A second receiver of the same place is found, also if one fixture uses another."""
    project.pytester.makepyfile(helpers=HELPERS, receivers=RECEIVERS)
    result = project.test(
        """
        import helpers

        @pytest.fixture(scope="module")
        def wired():
            import receivers

        @pytest.fixture(scope="module")
        def ready(request):
            request.getfixturevalue("wired")

        def test_leak(ready):
            kit.on(account_funded)(helpers.make())

        def test_clean(ready): ...
        """,
        ON,
    )
    result.assert_outcomes(passed=2, errors=1)


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_fixture_for_several_tests_may_connect(project: Project, scope: str) -> None:
    """What a test leaves besides is found."""
    result = project.test(
        f"""
        @pytest.fixture(scope="{scope}")
        def listening():
            receiver = kit.on(account_funded)(lambda account, **extra: None)
            yield
            kit.disconnect(receiver)

        class TestShop:
            def test_clean(self, listening): ...

            def test_leak(self, listening):
                kit.on(account_funded)(lambda account, **extra: None)

            def test_clean_again(self, listening): ...
        """,
        ON,
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of TestShop.test_leak*"])


def test_first_test_of_an_app_for_several_tests_is_checked(project: Project) -> None:
    """The app did not exist when the test began; what its fixture connects may stay."""
    result = project.test(
        """
        @pytest.fixture(scope="session")
        def shared():
            app = create_app("shared")
            kit.for_app(app).on(account_funded)(print)
            return app

        def test_leak(shared):
            kit.for_app(shared).on("mail_sent")(print)

        def test_next(shared): ...
        """,
        ON,
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["  builtins.print, connected to 'mail_sent' of app 'shared'"])


def test_fixture_of_a_test_must_disconnect(project: Project) -> None:
    """One that does is fine."""
    result = project.test(
        """
        @pytest.fixture
        def clean():
            receiver = kit.on(account_funded)(lambda account, **extra: None)
            yield
            kit.disconnect(receiver)

        @pytest.fixture
        def leak():
            kit.on(account_funded)(lambda account, **extra: None)

        def test_clean(clean): ...

        def test_leak(leak): ...
        """,
        ON,
    )
    result.assert_outcomes(passed=2, errors=1)


def test_weak_receiver_of_a_failed_test_is_not_found(project: Project) -> None:
    """The traceback keeps it alive until the next test."""
    result = project.test(
        """
        def test_fund():
            def receiver(account, **extra): ...
            kit.on(account_funded, weak=True)(receiver)
            assert False
        """,
        ON,
    )
    result.assert_outcomes(failed=1)


def test_app_of_a_connection_is_named(project: Project) -> None:
    """A kit can have several apps."""
    result = project.test(
        """
        shared = create_app("shared")

        def test_leak():
            kit.for_app(shared).on("mail_sent")(print)
        """,
        ON,
    )
    result.stdout.fnmatch_lines(["  builtins.print, connected to 'mail_sent' of app 'shared'"])


def test_error_of_a_teardown_is_not_replaced(project: Project) -> None:
    """It may be the reason."""
    result = project.test(
        """
        @pytest.fixture
        def broken():
            kit.on(account_funded)(lambda account, **extra: None)
            yield
            raise LookupError("first")

        def test_leak(broken): ...
        """,
        ON,
    )
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*LookupError: first"])
