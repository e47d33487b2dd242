"""``flask signals outbox``: messages in the terminal, and what the commands change."""

import json
import os
import pty
import re
from typing import Any

import pytest
from click.testing import Result
from flask import Flask

from flask_signals_kit import SignalsKit
from flask_signals_kit.debug.outbox import find_message
from flask_signals_kit.debug.terminal import show_progress
from tests.debug.support import run as run_signals
from tests.debug.test_outbox import execute, make_each_status, pay, send
from tests.deliveries.durable.support import DurableShop


def run(shop: DurableShop, *arguments: str, **environ: str) -> Result:
    """Run ``flask signals outbox …``."""
    return run_signals(shop.app, "outbox", *arguments, **environ)


def statuses(shop: DurableShop) -> dict[int, str]:
    """Return the status of each message, by its id."""
    listed = json.loads(run(shop, "list", "--json").stdout)
    assert listed["app"] == "shop"
    return {message["id"]: message["status"] for message in reversed(listed["messages"])}


EACH = {1: "due", 2: "running", 3: "retrying", 4: "dead", 5: "due"}


# -- showing --------------------------------------------------------------------------------------


def test_status_counts_the_messages(durable_shop: DurableShop) -> None:
    """It is the command of the group that runs without a name."""
    make_each_status(durable_shop)
    result = run(durable_shop)
    assert result.exit_code == 0
    assert "2 due, 1 running, 1 retrying, 1 dead\nThe oldest has been due for " in result.output
    assert "\nRun by: nothing in this process: start 'flask signals work'\n" in result.output
    table = result.output.partition("\n\n")[2].splitlines()
    assert re.split("  +", table[0]) == [
        "Receiver",
        "Signal",
        "Due",
        "Running",
        "Retrying",
        "Dead",
    ]
    assert re.split("  +", table[2]) == ["ledger", "account_funded", "2", "1", "1", "1"]
    assert run(durable_shop, "status").output.splitlines()[0] == result.output.splitlines()[0]


def test_status_as_json_is_the_report(durable_shop: DurableShop) -> None:
    """With the option before the command and after it."""
    make_each_status(durable_shop)
    for arguments in (["--json"], ["status", "--json"], ["--json", "status"]):
        found = json.loads(run(durable_shop, *arguments).stdout)
        assert found["counts"] == {"due": 2, "running": 1, "retrying": 1, "dead": 1}
        assert found["receivers"][0]["receiver"] == "ledger"


def test_list_has_a_line_for_each_message(durable_shop: DurableShop) -> None:
    """The newest first, with attempts, and the reason of a failure."""
    make_each_status(durable_shop)
    lines = run(durable_shop, "list").output.splitlines()
    cells = [re.split("  +", line) for line in lines]
    assert cells[0] == ["ID", "Status", "Attempt", "Due", "Receiver", "Signal", "Error"]
    assert [line[0] for line in cells[2:]] == ["5", "4", "3", "2", "1"]
    assert cells[3] == ["4", "dead", "2 of 2", "ledger", "account_funded", "E"]


def test_list_fits_a_terminal(durable_shop: DurableShop) -> None:
    """Without the receiver's module and the place of the error; wider, with both."""
    durable_shop.on(pay, max_attempts=1)
    send(durable_shop)
    durable_shop.work()
    send(durable_shop)
    lines = run(durable_shop, "list", COLUMNS="80").output.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.split("  +", lines[3]) == [
        "1",
        "dead",
        "1 of 1",
        "pay",
        "account_funded",
        "LookupError",
    ]
    wide = run(durable_shop, "list", COLUMNS="200").output
    assert "  tests.debug.test_outbox.pay  " in wide
    assert "  LookupError at tests/debug/test_outbox.py:" in wide
    assert re.search(r"^2 +due +0 of 1 +\d\d:\d\d:\d\d +tests", wide, re.MULTILINE)


def test_list_is_filtered_and_paged(durable_shop: DurableShop) -> None:
    """The next page has lower ids; an empty list says so."""
    make_each_status(durable_shop)
    page = run(durable_shop, "list", "--status", "due", "--limit", "1").output
    assert "\n5   due" in page
    assert "There are more: --before 5 lists the next ones." in page
    last = run(durable_shop, "list", "--status", "due", "--before", "5").output
    assert "\n1   due" in last
    assert "more" not in last
    durable_shop.on(pay, signal="account_opened", uid="audit")
    assert run(durable_shop, "list", "--receiver", "audit").output == "No messages.\n"


@pytest.mark.parametrize("command", ["list", "retry", "discard"])
def test_filter_by_an_unknown_name_is_an_error(durable_shop: DurableShop, command: str) -> None:
    """With the most similar name; that of a receiver that is gone is known by its messages."""
    durable_shop.on(pay, uid="ledger")
    send(durable_shop)
    durable_shop.kit.disconnect(pay)
    for option, name, near in (
        ("--receiver", "leger", "ledger"),
        ("--signal", "acount_funded", "account_funded"),
    ):
        result = run(durable_shop, command, option, name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"There is no {option[2:]} {name!r}. Did you mean {near!r}?" in result.stderr
        assert run(durable_shop, command, option, near).exit_code == 0


def test_show_has_everything_but_values(durable_shop: DurableShop) -> None:
    """Also of a message that failed."""
    durable_shop.on(pay, uid="ledger", max_attempts=1)
    send(durable_shop, amount="secret")
    durable_shop.work()
    result = run(durable_shop, "show", "1")
    assert result.output.startswith("Message 1  dead: it is not run again\n")
    assert re.search(r"^  Attempt +1 of 1$", result.output, re.MULTILINE)
    assert re.search(r"^  Error +LookupError at ", result.output, re.MULTILINE)
    commands = "'flask signals outbox retry 1' runs it again; 'discard 1' deletes it."
    assert result.output.endswith(f"\n\n{commands}\n")
    assert re.search(r"^  Payload +amount$", result.output, re.MULTILINE)
    assert re.search(r"^  Sent from +tests/debug/test_outbox\.py:\d+$", result.output, re.MULTILINE)
    as_json = run(durable_shop, "show", "1", "--json").output
    assert json.loads(as_json)["payload"] == ["amount"]
    assert "secret" not in result.output + as_json


@pytest.mark.parametrize("number", ["7", "0", str(10**20)])
def test_unknown_message_is_an_error(durable_shop: DurableShop, number: str) -> None:
    """The exit code is 1, also for a number that the database cannot store."""
    durable_shop.on(pay)
    for command in ("show", "retry", "discard"):
        result = run(durable_shop, command, number)
        assert result.exit_code == 1
        assert f"There is no message {number}:" in result.stderr


def test_list_before_any_number(durable_shop: DurableShop) -> None:
    """One that the database cannot store is as good as the highest, or the lowest."""
    durable_shop.on(pay)
    send(durable_shop)
    assert "pay" in run(durable_shop, "list", "--before", str(10**20)).output
    assert "No messages." in run(durable_shop, "list", "--before", str(-(10**20))).output


def test_app_without_durable_receivers_is_an_error() -> None:
    """It says what to do."""
    app = Flask("shop")
    SignalsKit(app)
    for command in ("status", "list", "retry"):
        result = run_signals(app, "outbox", command, *["1"] * (command == "retry"))
        assert result.exit_code == 1
        assert "App 'shop' has no durable receivers" in result.stderr


def test_missing_table_is_an_error(durable_shop: DurableShop) -> None:
    """Without a traceback."""
    durable_shop.on(pay)
    execute(durable_shop, "DROP TABLE signals_outbox")
    for arguments in (["status"], ["list"], ["show", "1"], ["retry", "1"]):
        result = run(durable_shop, *arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: There is no table 'signals_outbox' in ")


# -- retrying -------------------------------------------------------------------------------------


def test_retry_gives_a_dead_message_new_attempts(durable_shop: DurableShop) -> None:
    """Its number goes on, because it tells the runs apart; the backoff starts again."""
    waited: list[int] = []

    def backoff(attempt: int) -> float:
        waited.append(attempt)
        return 0.0

    durable_shop.on(pay, max_attempts=2, backoff=backoff)
    send(durable_shop)
    durable_shop.work()
    assert statuses(durable_shop) == {1: "dead"}
    result = run(durable_shop, "retry", "1")
    assert result.output == "1 message was retried.\n"
    message = find_message(durable_shop.outbox, 1)
    assert message is not None
    assert (message.status, message.attempt, message.max_attempts) == ("due", 2, 4)
    durable_shop.work()
    message = find_message(durable_shop.outbox, 1)
    assert message is not None
    assert (message.status, message.attempt, waited) == ("dead", 4, [1, 1])


def test_retried_message_runs(durable_shop: DurableShop) -> None:
    """If the receiver returns this time, the message is done."""
    broken = [True]

    def receive(sender: Any, **extra: Any) -> None:
        if broken:
            raise LookupError

    durable_shop.on(receive, max_attempts=1)
    send(durable_shop)
    durable_shop.work()
    broken.clear()
    run(durable_shop, "retry", "1")
    durable_shop.work()
    assert durable_shop.messages() == []


def test_retry_makes_a_message_due_that_waits_for_its_next_attempt(
    durable_shop: DurableShop,
) -> None:
    """By id, or by its status; its attempts stay as they are."""
    make_each_status(durable_shop)
    assert run(durable_shop, "retry", "3").output == "1 message was retried.\n"
    assert statuses(durable_shop) == {**EACH, 3: "due"}
    message = find_message(durable_shop.outbox, 3)
    assert message is not None
    assert (message.attempt, message.max_attempts) == (1, 2)
    execute(durable_shop, "UPDATE signals_outbox SET due = due + 900 WHERE id = 3")
    run(durable_shop, "retry", "--status", "retrying")
    assert statuses(durable_shop) == {**EACH, 3: "due"}


def test_retry_leaves_alone_what_is_due_or_running(durable_shop: DurableShop) -> None:
    """By id this is an error; a filter matches dead messages only."""
    make_each_status(durable_shop)
    for number, reason in ((1, "is due already"), (2, "is running, so")):
        result = run(durable_shop, "retry", str(number))
        assert result.exit_code == 1
        assert reason in result.stderr
    result = run(durable_shop, "retry", "--receiver", "ledger", "--signal", "account_funded")
    assert result.output == "1 message was retried.\n"
    assert statuses(durable_shop) == {**EACH, 4: "due"}


def test_retry_of_many_asks_first(durable_shop: DurableShop) -> None:
    """Without an answer, nothing is changed."""
    durable_shop.on(pay, max_attempts=1)
    send(durable_shop, 3)
    durable_shop.work()
    refused = run(durable_shop, "retry", "--status", "dead")
    assert refused.exit_code == 1
    assert "Retry 3 messages?" in refused.stderr
    assert {*statuses(durable_shop).values()} == {"dead"}
    result = run(durable_shop, "retry", "--status", "dead", "--yes")
    assert result.output == "3 messages were retried.\n"
    assert {*statuses(durable_shop).values()} == {"due"}


def test_retry_works_in_batches(durable_shop: DurableShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a transaction of its own."""
    monkeypatch.setattr("flask_signals_kit.app.outbox.BATCH", 2)
    durable_shop.on(pay, max_attempts=1)
    send(durable_shop, 5)
    durable_shop.work()
    outbox = durable_shop.outbox
    with durable_shop.app.app_context():
        assert [*outbox.retry(outbox.queries.where(receiver="?"))] == []
        assert [*outbox.retry(outbox.queries.where())] == [2, 2, 1]


def test_retry_leaves_alone_what_changes_meanwhile(durable_shop: DurableShop) -> None:
    """Another operator has retried the message, and it runs already."""
    durable_shop.on(pay, max_attempts=1)
    send(durable_shop)
    durable_shop.work()
    outbox = durable_shop.outbox
    [row] = durable_shop.messages()
    execute(durable_shop, "UPDATE signals_outbox SET attempt = 2, due = 9e9, error = NULL")
    with durable_shop.outside.begin() as connection:
        assert not outbox.queries.revive(connection, row.id, 1, row.headers)
        assert not outbox.queries.revive(connection, row.id, 2, row.headers)
        assert not outbox.queries.discard(connection, [row.id], [outbox.queries.not_running])
    assert statuses(durable_shop) == {1: "running"}


def test_retry_leaves_a_damaged_message_alone(durable_shop: DurableShop) -> None:
    """It cannot run."""
    durable_shop.on(pay, max_attempts=1)
    send(durable_shop)
    durable_shop.work()
    execute(durable_shop, "UPDATE signals_outbox SET headers = '{'")
    result = run(durable_shop, "retry", "1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Message 1 cannot run, because its headers are damaged." in result.stderr
    assert "'flask signals outbox discard 1'" in result.stderr
    result = run(durable_shop, "retry", "--status", "dead")
    assert result.output == "No messages were retried.\n"


# -- discarding -----------------------------------------------------------------------------------


def test_discard_deletes_one_message(durable_shop: DurableShop) -> None:
    """A dead one, or one that waits."""
    make_each_status(durable_shop)
    for number in (1, 3, 4, 5):
        result = run(durable_shop, "discard", str(number))
        assert result.output == "1 message was discarded.\n"
    assert statuses(durable_shop) == {2: "running"}


def test_discard_leaves_alone_what_runs(durable_shop: DurableShop) -> None:
    """By id, and by a filter that would match it."""
    make_each_status(durable_shop)
    result = run(durable_shop, "discard", "2")
    assert result.exit_code == 1
    assert "Message 2 is running, so it is not changed." in result.stderr
    outbox = durable_shop.outbox
    with durable_shop.app.app_context():
        assert [*outbox.discard(outbox.queries.where(receiver="ledger"))] == [4]
    assert statuses(durable_shop) == {2: "running"}


def test_discard_by_a_filter_takes_dead_messages(durable_shop: DurableShop) -> None:
    """Those that wait must be asked for."""
    make_each_status(durable_shop)
    run(durable_shop, "discard", "--signal", "account_funded")
    assert [*statuses(durable_shop)] == [1, 2, 3, 5]
    run(durable_shop, "discard", "--status", "due", "--yes")
    assert [*statuses(durable_shop)] == [2, 3]
    assert run(durable_shop, "discard", "--status", "running").exit_code == 2


def test_dry_run_changes_nothing(durable_shop: DurableShop) -> None:
    """It lists the messages."""
    make_each_status(durable_shop)
    before = durable_shop.messages()
    result = run(durable_shop, "discard", "--status", "due", "--dry-run")
    assert "\n5   due" in result.output
    assert result.output.endswith("\n\n2 messages would be discarded.\n")
    execute(durable_shop, "UPDATE signals_outbox SET due = 0 WHERE id = 4")
    result = run(durable_shop, "discard", "--status", "dead", "--dry-run")
    assert result.output == "No messages would be discarded.\n"
    execute(durable_shop, "UPDATE signals_outbox SET due = NULL WHERE id = 4")
    result = run(durable_shop, "retry", "4", "--dry-run")
    assert result.output == "1 message would be retried.\n"
    assert durable_shop.messages() == before


def test_changes_can_be_json(durable_shop: DurableShop) -> None:
    """The number of the messages, and whether it was a dry run."""
    make_each_status(durable_shop)
    for arguments, dry in ((["retry", "4", "--dry-run"], True), (["discard", "4"], False)):
        found = json.loads(run(durable_shop, *arguments, "--json").stdout)
        assert found == {"app": "shop", "dry_run": dry, "messages": 1}


@pytest.mark.parametrize("command", ["retry", "discard"])
def test_change_needs_an_id_or_a_filter(durable_shop: DurableShop, command: str) -> None:
    """Nothing is changed by chance."""
    durable_shop.on(pay)
    result = run(durable_shop, command)
    assert result.exit_code == 2
    assert "Give the ID of a message, or a filter such as --status dead." in result.stderr
    result = run(durable_shop, command, "1", "--status", "dead")
    assert result.exit_code == 2
    assert "not both" in result.stderr


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many messages of how many are done."""
    main, terminal = pty.openpty()
    with os.fdopen(terminal, "w") as stderr, os.fdopen(main, "rb") as screen:
        monkeypatch.setattr("sys.stderr", stderr)
        assert show_progress("retried", iter([2, 1]), 3) == 3
        stderr.flush()
        shown = screen.readline()
    assert shown == b"\r2 of 3 retried\r3 of 3 retried\r\n"
