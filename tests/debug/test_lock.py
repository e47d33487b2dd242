"""The lock of the wiring: `flask signals list --format lock` and `check --lock`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import flask.signals
import pytest
from click.testing import Result
from flask import Flask

from flask_signals_kit import SignalsKit
from tests.debug.support import run
from tests.support import Later

HEADER = "# Receivers in calling order. Update: flask signals list --format lock > signals.lock"


def is_large(account: object, **payload: object) -> bool:
    """Be a predicate."""
    return True


def dismiss_alert(account: object, **extra: object) -> None:
    """Be a receiver."""


def thank(account: object, **extra: object) -> None:
    """Be another one."""


def call_manager(account: object, **extra: object) -> None:
    """Be a third one."""


def make_app(*receivers: Any, **options: Any) -> Flask:
    """Return an app with these receivers of one signal."""
    app = Flask("shop")
    kit = SignalsKit(app)
    kit.signal("account_funded", "Money arrived in an account.")
    for receiver in receivers:
        kit.on("account_funded", **options)(receiver)
    return app


def locked(app: Flask, *arguments: str) -> list[str]:
    """Return the lines of an app's lock, less the first one."""
    result = run(app, "list", "--format", "lock", *arguments)
    assert result.exit_code == 0
    first, *lines = result.output.splitlines()
    assert first == HEADER
    return lines


def line(receiver: Any, *options: str) -> str:
    """Return the line of a receiver."""
    return " ".join(["account_funded", f"{__name__}:{receiver.__qualname__}", *options])


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Give the lock of an app with two receivers."""
    file = tmp_path / "signals.lock"
    file.write_text(run(make_app(dismiss_alert, thank), "list", "--format", "lock").output)
    return file


def check(app: Flask, lock: Path, *arguments: str) -> Result:
    """Compare an app with a lock."""
    return run(app, "check", "--lock", str(lock), *arguments)


def changed(result: Result) -> list[str]:
    """Return the changed lines of a comparison."""
    assert result.exit_code == 1
    lines = result.output.splitlines()
    return [text for text in lines if text[:1] in {"+", "-"} and text[:3] not in {"+++", "---"}]


# -- list -----------------------------------------------------------------------------------------


def test_lock_has_one_line_for_each_receiver_in_calling_order() -> None:
    """A signal without receivers has none."""
    app = make_app(dismiss_alert)
    kit = app.extensions["signals_kit"]
    kit.signal("campaign_archived", "It has no receivers.")
    kit.on("account_funded", priority=1)(thank)
    kit.on("request_started")(thank)
    assert locked(app) == [
        line(thank, "priority=1"),
        line(dismiss_alert),
        f"request_started {__name__}:thank",
    ]


def test_lock_has_the_options_that_are_not_the_default() -> None:
    """Each in its place, whatever the order in which they are given."""
    options = {
        "delivery": Later(),
        "when": is_large,
        "on_error": "isolate",
        "priority": -3,
        "uid": "mails.thank",
        "weak": True,
        "sender": "acme",
    }
    parts = ["sender='acme'", "priority=-3", f"when={__name__}:is_large", "delivery=later"]
    parts += ["on_error=isolate", "uid=mails.thank", "weak=True"]
    assert locked(make_app(thank, **options)) == [line(thank, *parts)]


def test_policy_is_that_which_applies() -> None:
    """The receiver's own, or the signal's."""
    app = Flask("shop")
    kit = SignalsKit(app)
    kit.signal("account_funded", on_error="group")
    kit.on("account_funded", on_error="raise")(thank)
    kit.on("account_funded")(dismiss_alert)
    assert locked(app) == [line(thank), line(dismiss_alert, "on_error=group")]


def test_receivers_that_run_later_come_last() -> None:
    """In the order in which they run, as in the list."""
    app = make_app(thank, delivery=Later(), priority=5)
    app.extensions["signals_kit"].on("account_funded")(dismiss_alert)
    assert locked(app) == [line(dismiss_alert), line(thank, "priority=5", "delivery=later")]


def test_receivers_of_other_code_are_left_out() -> None:
    """They depend on what else the process has imported."""
    app = make_app(thank)
    flask.signals.request_started.connect(dismiss_alert, app)
    assert locked(app) == [line(thank)]


def test_lock_is_ascii() -> None:
    """A file that a shell writes may have any encoding."""

    def receive(account: object, **extra: object) -> None:
        """Be a receiver whose name is not ASCII."""

    receive.__qualname__ = "größe"
    [found] = locked(make_app(receive, sender="Ärger\n"))
    assert found == rf"account_funded {__name__}:gr\xf6\xdfe sender='\xc4rger\\n'"


def test_lock_takes_a_pattern() -> None:
    """As the list does."""
    app = make_app(thank)
    app.extensions["signals_kit"].on("request_started")(thank)
    assert locked(app, "request_*") == [f"request_started {__name__}:thank"]


def test_format_json_is_json() -> None:
    """``--json`` is short for it."""
    app = make_app(thank)
    printed = run(app, "list", "--format", "json").output
    assert json.loads(printed)["app"] == "shop"
    assert printed == run(app, "list", "--json").output


SHOP = """
from flask import Flask
from flask_signals_kit import SignalsKit

kit = SignalsKit()
names = {"a", "b", "c", "d", "e", "f"}
for name in names:
    kit.signal(f"account_{name}", "Declared in the order of a set.")


class Account:
    pass


account = Account()


@kit.on("account_*", sender=account, when=lambda account, **payload: True)
def receive(account, **extra): ...


def create_app():
    app = Flask("shop")
    kit.init_app(app)
    return app
"""


def test_lock_is_the_same_in_every_place_and_process(tmp_path: Path) -> None:
    """It has no lines, paths, addresses, or orders of sets."""
    printed = set()
    for number in range(3):
        folder = tmp_path / f"machine{number}"
        folder.mkdir()
        (folder / "shop.py").write_text("\n" * number + SHOP)
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "shop", "signals", "list", "--format", "lock"],
            cwd=folder,
            env={"PYTHONHASHSEED": str(number)},
            capture_output=True,
            text=True,
            check=True,
        )
        printed.add(done.stdout)
    [text] = printed
    assert text.count("\n") == 7
    assert "account_a shop:receive sender=shop.Account when=shop:<lambda>\n" in text


# -- check ----------------------------------------------------------------------------------------


def test_unchanged_receivers_pass(lock: Path) -> None:
    """The exit code is 0."""
    result = check(make_app(dismiss_alert, thank), lock)
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == f"The receivers are those in {lock}."


def test_difference_is_printed_as_a_unified_diff(lock: Path) -> None:
    """With what to do if it is intended."""
    result = check(make_app(dismiss_alert, call_manager), lock)
    assert result.exit_code == 1
    assert result.output == (
        "11 signals, 2 receivers, no orphans, no problems.\n"
        "\n"
        f"--- {lock}\n"
        "+++ app shop\n"
        "@@ -1,2 +1,2 @@\n"
        f" {line(dismiss_alert)}\n"
        f"-{line(thank)}\n"
        f"+{line(call_manager)}\n"
        "\n"
        f"The receivers differ from {lock}. If they should, update it:\n"
        f"  flask signals list --format lock > {lock}\n"
    )


@pytest.mark.parametrize(
    ("receivers", "expected"),
    [
        ([dismiss_alert, thank, call_manager], [f"+{line(call_manager)}"]),
        ([thank], [f"-{line(dismiss_alert)}"]),
        ([thank, dismiss_alert], [f"+{line(thank)}", f"-{line(thank)}"]),
        ([], [f"-{line(dismiss_alert)}", f"-{line(thank)}"]),
    ],
    ids=["came", "went", "moved", "all went"],
)
def test_receiver_that_came_went_or_moved_fails(
    lock: Path, receivers: list[Any], expected: list[str]
) -> None:
    """Only its lines differ."""
    assert changed(check(make_app(*receivers), lock)) == expected


def test_changed_option_fails(lock: Path) -> None:
    """Its line is removed and added."""
    app = make_app(dismiss_alert)
    app.extensions["signals_kit"].on("account_funded", when=is_large)(thank)
    assert changed(check(app, lock)) == [
        f"-{line(thank)}",
        f"+{line(thank, f'when={__name__}:is_large')}",
    ]


def test_comments_and_empty_lines_are_ignored(lock: Path) -> None:
    """A user may explain a receiver."""
    lock.write_text(f"# Why it comes first.\r\n\r\n{lock.read_text()}", newline="\r\n")
    assert check(make_app(dismiss_alert, thank), lock).exit_code == 0


def test_byte_order_mark_is_ignored(lock: Path) -> None:
    """Windows PowerShell and some editors write one."""
    lock.write_text("\n".join(locked(make_app(dismiss_alert, thank))), encoding="utf-8-sig")
    assert check(make_app(dismiss_alert, thank), lock).exit_code == 0


def test_problems_fail_although_the_receivers_are_those_of_the_lock(tmp_path: Path) -> None:
    """They are printed first."""
    app = make_app(lambda account: None)
    file = tmp_path / "signals.lock"
    file.write_text("\n".join(locked(app)))
    result = check(app, file)
    assert result.exit_code == 1
    assert result.output.startswith("No **kwargs  account_funded")
    assert result.output.endswith(f"1 problem\nThe receivers are those in {file}.\n")


def test_json_has_the_difference(lock: Path) -> None:
    """As lines; without ``--lock``, nothing is said on it."""
    app = make_app(dismiss_alert)
    result = check(app, lock, "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert found["problems"] == []
    assert found["lock"][-1] == f"-{line(thank)}"
    assert "lock" not in json.loads(run(app, "check", "--json").output)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), ("# Receivers".encode("utf-16"), "it is not UTF-8")],
)
def test_lock_that_cannot_be_read_is_explained(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """The error says how to write it; Windows PowerShell redirects as UTF-16."""
    file = tmp_path / "signals.lock"
    if content is not None:
        file.write_bytes(content)
    result = check(make_app(), file)
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: {file} cannot be read: {reason}. "
        f"Write it with 'flask signals list --format lock > {file}'.\n"
    )


def test_colours_of_the_difference(lock: Path) -> None:
    """Only in a terminal; here they are asked for."""
    runner = make_app(thank, call_manager).test_cli_runner()
    result = runner.invoke(args=["signals", "check", "--lock", str(lock)], color=True)
    assert f"\x1b[31m-{line(dismiss_alert)}\x1b[0m" in result.output
    assert f"\x1b[32m+{line(call_manager)}\x1b[0m" in result.output
