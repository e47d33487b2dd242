"""``flask signals``: the report in the terminal, for users, scripts and CI."""

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import flask.signals
import pytest
from click.testing import Result
from flask import Flask
from flask.cli import AppGroup
from flask_sqlalchemy import SQLAlchemy

from flask_signals_kit import SignalsKit
from flask_signals_kit.debug.cli import signals
from tests.debug.support import run
from tests.support import Later


class Account:
    """A sender."""


def is_large(account: object, **payload: object) -> bool:
    """Be a predicate."""
    return True


def dismiss_alert(account: object, **extra: object) -> None:
    """Be a receiver with a predicate."""


async def sync_to_ledger(account: object, **extra: object) -> None:
    """Be an async receiver."""


def thank_by_mail(account: object, *, amount: int, note: str = "") -> None:
    """Be a receiver without ``**extra``."""


def make_app(*, healthy: bool = True) -> Flask:
    """Return an app with some signals; without problems, if healthy."""
    app = Flask("shop")
    kit = SignalsKit(app)

    @kit.declare(on_error="isolate")
    def account_funded(sender: Account, *, amount: int, note: str = "") -> None:
        """Money arrived in an ``Account``."""

    kit.signal("campaign_archived", "It has no receivers yet.")
    kit.on(account_funded, priority=10, when=is_large, uid="alerts")(dismiss_alert)
    kit.on(account_funded, sender="acme", on_error="raise")(sync_to_ledger)  # type: ignore[call-overload]  # no Account
    kit.on("request_started")(dismiss_alert)
    if not healthy:
        kit.on(account_funded)(thank_by_mail)
        kit.on("acount_funded")(dismiss_alert)
    return app


def place(function: Any) -> str:
    """Return where a function of this module is, as the terminal shows it."""
    return f"{Path(__file__).relative_to(Path.cwd())}:{function.__code__.co_firstlineno}"


def rows(result: Result) -> list[list[str]]:
    """Return the cells of the listed receivers."""
    table = result.output.partition("\n\n")[0].splitlines()
    assert re.split("  +", table[0]) == ["Signal", "Receivers", "Delivery", "Place"]
    return [re.split("  +", line) for line in table[2:]]


def names(result: Result) -> list[str]:
    """Return the names of the listed signals."""
    return list(dict.fromkeys(row[0] for row in rows(result)))


# -- list -----------------------------------------------------------------------------------------


def test_list_has_domain_signals_and_signals_with_receivers() -> None:
    """Flask's signals without receivers are only counted."""
    result = run(make_app(), "list")
    assert result.exit_code == 0
    assert names(result) == ["account_funded", "campaign_archived", "request_started"]
    assert "3 signals, 3 receivers, 1 orphan, no problems." in result.output
    assert "Not shown: 9 signals without receivers; --all lists them." in result.output


def test_list_all_has_every_signal() -> None:
    """Nothing is left out."""
    result = run(make_app(), "list", "--all")
    assert len(names(result)) == 12
    assert "--all" not in result.output


def test_list_is_a_table_with_one_line_for_each_receiver() -> None:
    """In calling order; a signal without receivers has a line, too."""
    result = run(make_app(), "list")
    assert rows(result) == [
        ["account_funded", f"{__name__}.dismiss_alert", "immediate", place(dismiss_alert)],
        ["account_funded", f"{__name__}.sync_to_ledger", "immediate", place(sync_to_ledger)],
        ["campaign_archived", "orphan"],
        ["request_started", f"{__name__}.dismiss_alert", "immediate", place(dismiss_alert)],
    ]
    heads, rule, *lines = result.output.partition("\n\n")[0].splitlines()
    starts = [column.start() for column in re.finditer("-+", rule)]
    assert [heads.index(head) for head in ("Signal", "Receivers", "Delivery", "Place")] == starts
    assert [lines[0].index(cell) for cell in rows(result)[0]] == starts


def test_list_has_delivery_and_third_party_receivers() -> None:
    """The view of the signal has all their options."""
    app = make_app()
    app.extensions["signals_kit"].on("campaign_archived", delivery=Later())(dismiss_alert)
    flask.signals.request_started.connect(thank_by_mail, app)
    output = run(app, "list").output
    assert re.search(r"^campaign_archived +\S+dismiss_alert +later +\S+:\d+$", output, re.MULTILINE)
    assert re.search(r"thank_by_mail \(foreign\) +immediate +\S+:\d+$", output, re.MULTILINE)
    details = run(app, "show", "request_started").output
    assert "weak, no **kwargs, foreign: connected to the original signal" in details


def test_list_ends_with_the_number_of_problems() -> None:
    """And says which command describes them."""
    output = run(make_app(healthy=False), "list").output
    assert "1 orphan, 2 problems.\n'flask signals check' describes the problems.\n" in output


@pytest.mark.parametrize("pattern", ["account_*", "fund", "FUNDED", "*_funded"])
def test_list_accepts_a_pattern(pattern: str) -> None:
    """A glob, or a part of the name."""
    result = run(make_app(), "list", pattern)
    assert result.exit_code == 0
    assert names(result) == ["account_funded"]


def test_pattern_without_a_match_is_an_error_with_a_suggestion() -> None:
    """The exit code is 1, for scripts."""
    result = run(make_app(), "list", "acount_funded*")
    assert result.exit_code == 1
    assert "No signal matches 'acount_funded*'. Did you mean 'account_funded'?" in result.stderr
    assert result.stdout == ""


def test_pattern_that_matches_only_hidden_signals_says_so() -> None:
    """``--all`` shows them."""
    result = run(make_app(), "list", "*tearing_down")
    assert result.exit_code == 1
    assert "--all" in result.stderr
    found = run(make_app(), "list", "*tearing_down", "--all")
    assert rows(found) == [["appcontext_tearing_down", "none"], ["request_tearing_down", "none"]]


def test_list_of_an_app_without_signals_is_no_error() -> None:
    """It says what is hidden."""
    app = Flask("shop")
    SignalsKit(app)
    result = run(app, "list")
    assert result.exit_code == 0
    assert "No signals, no receivers" in result.output
    assert "10 signals without receivers; --all" in result.output


def test_list_json_equals_the_json_of_the_page() -> None:
    """The same report, with the same selection as the text."""
    app = make_app()
    app.testing = True
    listed = json.loads(run(app, "list", "--json", "--all").stdout)
    assert listed == app.test_client().get("/_signals/signals.json").json
    part = json.loads(run(app, "list", "account_*", "--json").stdout)
    assert [signal["name"] for signal in part["signals"]] == ["account_funded"]


# -- show -----------------------------------------------------------------------------------------


def test_show_prints_all_about_one_signal() -> None:
    """Facts first, then each receiver with every one of its properties."""
    result = run(make_app(), "show", "account_funded")
    assert result.exit_code == 0
    assert "  Money arrived in an Account.\n" in result.output
    assert "  Origin    domain\n" in result.output
    assert re.search(r"^  Declared  tests/debug/test_cli\.py:\d+$", result.output, re.MULTILINE)
    assert "  Sender    Account\n" in result.output
    assert "  Payload   amount: int, note?: str\n" in result.output
    assert "  On error  isolate: " in result.output
    assert (
        "2 receivers\n"
        f"  1  {__name__}.dismiss_alert\n"
        f"     {place(dismiss_alert)}\n"
        f"     priority 10, any sender, when {__name__}.is_large, immediate, strong, **kwargs, "
        "uid alerts\n"
        f"  2  {__name__}.sync_to_ledger\n"
        f"     {place(sync_to_ledger)}\n"
        "     priority 0, sender 'acme', immediate, on_error=raise, async, strong, **kwargs\n"
    ) in result.output


def test_show_has_the_figures_of_the_journal() -> None:
    """A command's process has few; receivers that were not called have none."""
    app = make_app()
    app.testing = True
    state = app.extensions["signals_kit"]

    @state.on("campaign_archived")
    def fails(campaign: object, **extra: object) -> None:
        raise LookupError(campaign)

    @state.on("campaign_archived", priority=-1)
    def never_called(campaign: object, **extra: object) -> None: ...

    with app.app_context():
        assert "call" not in run(app, "show", "campaign_archived").output.replace("never_call", "")
        for _ in range(2):
            with pytest.raises(LookupError):
                state.send("campaign_archived")
    output = run(app, "show", "campaign_archived").output
    number = r"[\d.]+ (µs|ms)"
    figures = rf"^     2 calls, 2 failed \(last: LookupError\), mean {number}$"
    assert len(re.findall(figures, output, re.MULTILINE)) == 1
    assert output.count("2 calls") == 1
    assert "0 calls" not in output
    data = json.loads(run(app, "show", "campaign_archived", "--json").stdout)
    counted = [(receiver["calls"], receiver["failures"]) for receiver in data["receivers"]]
    assert counted == [(2, 2), (0, 0)]
    with app.app_context():
        for _ in range(18):
            with pytest.raises(LookupError):
                state.send("campaign_archived")
    output = run(app, "show", "campaign_archived").output
    assert re.search(rf"^     20 calls, .*, mean {number}, p95 {number}$", output, re.MULTILINE)


def test_show_has_dropped_calls() -> None:
    """Also of a receiver that was never called."""
    later = Later()
    app = make_app()
    app.testing = True
    state = app.extensions["signals_kit"]
    state.on("campaign_archived", delivery=later)(dismiss_alert)
    with app.app_context():
        state.send("campaign_archived")
        later.calls[0].drop()
        assert "     no calls, 1 dropped\n" in run(app, "show", "campaign_archived").output
        state.send("campaign_archived")
        later.calls[1].run()
    output = run(app, "show", "campaign_archived").output
    assert re.search(r"^     1 call, 1 dropped, mean .*$", output, re.MULTILINE)


def test_show_has_the_problems_of_the_signal() -> None:
    """And those of no other signal."""
    output = run(make_app(healthy=False), "show", "account_funded").output
    assert output.endswith("\n  Fix: Add **extra to its parameters.\n")
    assert "is not declared" not in output


def test_show_json_is_one_object() -> None:
    """An object, not a list of one."""
    data = json.loads(run(make_app(), "show", "account_funded", "--json").stdout)
    assert data["name"] == "account_funded"
    assert [receiver["name"] for receiver in data["receivers"]] == [
        "dismiss_alert",
        "sync_to_ledger",
    ]


def test_show_of_an_unknown_name_is_an_error_with_a_suggestion() -> None:
    """The message has object, place and fix, and suggests no other misspelling."""
    app = make_app()
    app.extensions["signals_kit"].on("acount_fundd")(lambda sender, **extra: None)
    result = run(app, "show", "acount_fund")
    assert result.exit_code == 1
    assert "App 'shop' has no signal 'acount_fund'." in result.stderr
    assert "Did you mean 'account_funded'?" in result.stderr
    assert "flask signals list --all" in result.stderr


# -- check ----------------------------------------------------------------------------------------


def test_check_without_problems_exits_with_0() -> None:
    """Exit code 0, for CI."""
    result = run(make_app(), "check")
    assert result.exit_code == 0
    assert result.output == "12 signals, 3 receivers, 1 orphan, no problems.\n"


def test_check_with_problems_prints_them_and_exits_with_1() -> None:
    """Each with place and fix."""
    result = run(make_app(healthy=False), "check")
    assert result.exit_code == 1
    assert (
        f"No **kwargs  account_funded  {place(thank_by_mail)}\n"
        f"  Receiver {__name__}.thank_by_mail of signal 'account_funded' has no **kwargs: a new "
        "payload name would break it.\n"
        "  Fix: Add **extra to its parameters.\n"
    ) in result.output
    assert f"Not declared  acount_funded  {place(dismiss_alert)}\n" in result.output
    assert result.output.endswith("2 problems\n")


def test_check_json_has_the_same_exit_codes() -> None:
    """An empty list without problems."""
    good, bad = (run(make_app(healthy=healthy), "check", "--json") for healthy in (True, False))
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert json.loads(good.stdout) == {"app": "shop", "problems": []}
    found = json.loads(bad.stdout)["problems"]
    assert [problem["kind"] for problem in found] == ["no_extra", "undeclared"]
    assert found[0]["place"]["line"] == thank_by_mail.__code__.co_firstlineno


def test_check_finds_an_sqlite_engine_without_begin_immediate(tmp_path: Path) -> None:
    """Without a session and a connection: the file is not even created."""
    app, db, kit = Flask("shop"), SQLAlchemy(), SignalsKit()
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/shop.sqlite"
    db.init_app(app)
    kit.init_app(app)
    kit.signal("account_funded", "Money arrived.")
    kit.on("account_funded", delivery="after_commit")(dismiss_alert)
    found = run(app, "check")
    assert found.exit_code == 1
    assert found.output.startswith(f"SQLite begins late  account_funded  {place(dismiss_alert)}\n")
    assert f"commits of engine sqlite:///{tmp_path}/shop.sqlite, which" in found.output
    assert "  Fix: Call kit.begin_immediate(engine) after you create the engine.\n" in found.output
    with app.app_context():
        kit.begin_immediate(db.engine)
    assert run(app, "check").exit_code == 0
    assert list(tmp_path.iterdir()) == []


# -- without a kit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["list"], ["show", "account_funded"], ["why", "account_funded"], ["check"]]
)
def test_command_in_an_app_without_a_kit_says_what_is_missing(command: list[str]) -> None:
    """The group can be added by hand, or the kit detached."""
    app = Flask("shop")
    assert isinstance(signals, AppGroup)
    app.cli.add_command(signals)
    result = run(app, *command)
    assert result.exit_code == 1
    assert "App 'shop' has no SignalsKit: call kit.init_app(app)" in result.stderr


def test_init_app_adds_and_detach_removes_the_command() -> None:
    """The group exists only while the app has a kit."""
    app = Flask("shop")
    kit = SignalsKit(app)
    assert run(app, "list").exit_code == 0
    kit.detach(app)
    assert "No such command" in run(app, "list").stderr


# -- the terminal ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("command", ["list", "show account_funded", "why account_funded", "check"])
def test_lines_are_no_wider_than_the_terminal(width: int, command: str) -> None:
    """Unless one word is longer than a line."""
    output = run(make_app(healthy=False), *command.split(), COLUMNS=str(width)).output
    assert output
    for line in output.splitlines():
        assert len(line) <= width or " " not in line.strip(), line
        assert line == line.rstrip()


def test_long_heading_is_wrapped() -> None:
    """A payload may have many names, and a problem's file a long path."""
    app = make_app()
    kit = app.extensions["signals_kit"]

    @kit.declare(on_error="isolate")
    def report_asked(
        sender: Account, *, title: str, first_day: str, last_day: str = "", **extra: object
    ) -> None: ...

    kit.on("something_with_a_long_name_happened")(dismiss_alert)
    head = "report_asked(title, first_day, last_day?,\n    **extra)  on_error=isolate  orphan\n"
    assert head in run(app, "show", "report_asked", COLUMNS="49").output
    assert run(app, "check", COLUMNS="49").output.startswith(
        f"Not declared  something_with_a_long_name_happened\n  {place(dismiss_alert)}\n"
    )


def test_list_is_fitted_to_the_terminal() -> None:
    """First without the modules of the receivers, then with the ends of places and names."""
    app = make_app()
    where = place(dismiss_alert)
    full = ["account_funded", f"{__name__}.dismiss_alert", "immediate", where]
    assert rows(run(app, "list", COLUMNS="120"))[0] == full
    brief = ["account_funded", "dismiss_alert", "immediate", where]
    assert rows(run(app, "list", COLUMNS="80"))[0] == brief
    cut = ["account_funded", "dismiss_alert", "immediate", f"…{where[-15:]}"]
    assert rows(run(app, "list", COLUMNS="62"))[0] == cut
    narrow = rows(run(app, "list", COLUMNS="44"))[0]
    assert [cell[-4:] for cell in narrow] == ["nded", "lert", "iate", where[-4:]]


def test_long_names_are_cut_in_a_terminal_and_nowhere_else() -> None:
    """A pipe gets all that scripts may search for."""
    app = make_app()

    def receiver(sender: object, **extra: object) -> None: ...

    receiver.__qualname__ = "a_long_name" * 20
    app.extensions["signals_kit"].on("campaign_archived" * 9)(receiver)
    long = [line for line in run(app, "list").output.splitlines() if "a_long" in line]
    assert re.split("  +", long[0]) == [
        "campaign_archived" * 9,
        f"{__name__}.{receiver.__qualname__}",
        "immediate",
        place(receiver),
    ]
    fitted = rows(run(app, "list", COLUMNS="160"))
    assert fitted[0] == [
        "account_funded",
        "dismiss_alert",
        "immediate",
        f"…{place(dismiss_alert)[-15:]}",
    ]


APP = """
from flask import Flask
from flask_signals_kit import SignalsKit
app = Flask("shop")
kit = SignalsKit(app)
kit.signal("account_funded", "Money arrived.")
"""


def in_terminal(directory: Path, **environ: str) -> str:
    """Run ``flask signals list`` in a real terminal and return its output."""
    (directory / "shop.py").write_text(APP)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "flask", "--app", "shop", "signals", "list"]
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        command, cwd=directory, stdout=theirs, stderr=theirs, env=plain | environ
    ) as process:
        os.close(theirs)
        written = b""
        while select.select([ours], [], [], 30)[0]:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # how Linux says that the other side is closed
                break
            if not chunk:
                break
            written += chunk
    os.close(ours)
    assert process.returncode == 0, written
    return written.decode()


def test_terminal_output_has_colours(tmp_path: Path) -> None:
    """The name in bold, an orphan in yellow."""
    written = in_terminal(tmp_path, TERM="xterm")
    assert "\x1b[1maccount_funded\x1b[0m" in written
    assert "\x1b[33morphan\x1b[0m" in written


def test_no_color_disables_colours(tmp_path: Path) -> None:
    """See https://no-color.org."""
    written = in_terminal(tmp_path, TERM="xterm", NO_COLOR="1")
    assert "account_funded  orphan" in written
    assert "\x1b[" not in written


def test_pipe_output_has_no_colours_and_no_wrapping() -> None:
    """For grep and files."""
    for command in (["list"], ["show", "account_funded"]):
        output = run(make_app(), *command).output
        assert "\x1b[" not in output
        assert max(map(len, output.splitlines())) > 80


def test_names_in_the_list_do_not_control_the_terminal() -> None:
    """A name or a file may contain anything; its escapes are printed as text."""

    def receive(sender: object, **extra: object) -> None: ...

    receive.__qualname__ = "lost\x1bc"
    app = make_app()
    app.extensions["signals_kit"].on("account_funded")(receive)
    output = app.test_cli_runner().invoke(args=["signals", "list"]).output
    assert "lost\\x1bc" in output
    assert "\x1b" not in output


def test_output_works_in_any_encoding() -> None:
    """Characters that a pipe or file cannot encode are escaped; JSON is ASCII."""
    app = Flask("shop")
    SignalsKit(app).signal("account_funded", "Grüße: \N{CJK UNIFIED IDEOGRAPH-652F}.")
    runner = app.test_cli_runner(charset="cp1252")
    result = runner.invoke(args=["signals", "show", "account_funded"])
    assert result.exit_code == 0
    assert result.stdout_bytes.count("  Grüße: \\u652f.\n".encode("cp1252")) == 1
    result = runner.invoke(args=["signals", "list", "--json"])
    assert result.exit_code == 0
    [signal] = json.loads(result.stdout_bytes.decode("ascii"))["signals"]
    assert signal["doc"] == "Grüße: \N{CJK UNIFIED IDEOGRAPH-652F}."
