"""Failures of teardown functions."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import (
    abort,
)

from tests.exception_hooks.support import BOOM, Watch, fail, miss
from tests.support import MERGED_CONTEXTS, raises_in_teardown


@pytest.mark.parametrize("register", ["teardown_request", "teardown_appcontext"])
def test_failing_teardown_is_reported(watched: Watch, register: str) -> None:
    """Flask raises it out of the app without a signal."""
    getattr(watched.app, register)(fail)
    with raises_in_teardown(ValueError):
        watched.app.test_client().get("/fine")
    assert watched.reported == [(BOOM, "teardown", False)]


def test_failing_view_and_failing_teardown_are_reported_separately(watched: Watch) -> None:
    """Each with its source."""

    def worse(error: BaseException | None) -> None:
        raise KeyError("worse")

    watched.app.teardown_request(worse)
    with raises_in_teardown(KeyError):
        watched.app.test_client().get("/fail")
    assert watched.reported == [(BOOM, "request", False), ("KeyError: 'worse'", "teardown", False)]


def test_failing_teardown_of_a_command_is_reported(watched: Watch) -> None:
    """A command ends an app context as well, and its teardown functions run.

    Click then leaves the command's context pushed in the thread, so it has one of its own.
    """
    watched.app.teardown_appcontext(fail)
    watched.app.cli.command("fine")(lambda: None)
    with ThreadPoolExecutor() as pool:
        result = pool.submit(watched.app.test_cli_runner().invoke, args=["fine"]).result()
    assert isinstance(result.exception, ExceptionGroup if MERGED_CONTEXTS else ValueError)
    assert watched.reported == [(BOOM, "teardown", False)]


def test_every_failing_teardown_function_is_reported_once(watched: Watch) -> None:
    """Flask 3.1 stops at the first one; Flask 3.2 runs all and raises a group of groups."""
    watched.app.teardown_request(fail)
    watched.app.teardown_request(lambda error: abort(400))
    watched.app.teardown_appcontext(miss)
    watched.app.teardown_appcontext(fail)
    for _ in range(2):
        with pytest.raises(Exception):  # noqa: B017, PT011
            watched.app.test_client().get("/fine")
    with pytest.raises(Exception), watched.app.app_context():  # noqa: B017, PT011
        pass
    boom, key = (BOOM, "teardown", False), ("KeyError: 'key'", "teardown", False)
    if MERGED_CONTEXTS:
        assert sorted(watched.reported) == sorted([boom, boom, key] * 2 + [boom, key])
    else:
        assert watched.reported == [boom] * 3  # the request's teardown ends with abort(400)


def test_exception_group_raised_by_a_teardown_function_is_reported_whole(watched: Watch) -> None:
    """It is that function's own exception, in every version of Flask."""

    @watched.app.teardown_request
    def close_all(error: BaseException | None) -> None:
        raise ExceptionGroup("two", [ValueError("one"), KeyError("two")])

    with pytest.raises(ExceptionGroup):
        watched.app.test_client().get("/fine")
    assert watched.reported == [("ExceptionGroup: two (2 sub-exceptions)", "teardown", False)]
