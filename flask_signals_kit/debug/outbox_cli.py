"""``flask signals outbox``: show and change the messages of durable receivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
from flask.cli import AppGroup

from ..errors import did_you_mean
from .labels import brief_moment, duration, label, named, near_file, plain, short_error, to_json
from .outbox import (
    STATUSES,
    MessageInfo,
    OutboxReport,
    find_message,
    known_names,
    messages,
    outbox_report,
)
from .terminal import (
    Cells,
    counted,
    current_outbox,
    echo,
    echo_wrapped,
    errors_shown,
    json_option,
    print_json,
    print_table,
    show_progress,
)

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..app.outbox import Outbox

F = TypeVar("F", bound=Callable[..., Any])

HEADS = ("ID", "Status", "Attempt", "Due", "Receiver", "Signal", "Error")
"""The columns of the list."""

ERROR = 24
"""The width of errors in a list that would not fit the terminal."""

SHOWN = 20
"""The number of messages that a dry run lists."""


@click.group("outbox", cls=AppGroup, invoke_without_command=True)
@json_option
@click.pass_context
def outbox(context: click.Context, as_json: bool) -> None:
    """Show, retry or discard the messages of durable receivers; without a command, count them."""
    if context.invoked_subcommand is None:
        context.invoke(show_status, as_json=as_json)
    elif as_json:  # given before the command
        context.default_map = {context.invoked_subcommand: {"as_json": True}}


def _options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds arguments and options in this order."""

    def add(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return add


def _filters(*statuses: str) -> Callable[[F], F]:
    """Return a decorator that adds the options of a filter."""
    return _options(
        click.option("--status", type=click.Choice(statuses), help="Only those with this status."),
        click.option("--receiver", default="", help="Only those of this receiver."),
        click.option("--signal", default="", help="Only those of this signal."),
    )


def _changing(*statuses: str) -> Callable[[F], F]:
    """Return a decorator that adds the arguments and options of a command that changes messages."""
    return _options(
        click.argument("message", metavar="[ID]", type=int, required=False),
        _filters(*statuses),
        click.option("--dry-run", is_flag=True, help="Only say what would be changed."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        json_option,
    )


# -- showing --------------------------------------------------------------------------------------


@outbox.command("status")
@json_option
@errors_shown()
def show_status(as_json: bool) -> None:
    """Count the messages of each status and receiver."""
    found = outbox_report(*current_outbox())
    print_json(to_json(found)) if as_json else _print_status(found)


@outbox.command("list")
@_filters(*STATUSES)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="How many at most.",
)
@click.option("--before", type=int, help="Only those with lower ids: the next page.")
@json_option
@errors_shown()
def list_messages(
    status: str | None,
    receiver: str,
    signal: str,
    limit: int,
    before: int | None,
    as_json: bool,
) -> None:
    """List messages, the newest first."""
    app_signals, outbox = current_outbox()
    _check_names(app_signals, outbox, receiver, signal)
    found = messages(
        outbox,
        status=status or "",
        receiver=receiver,
        signal=signal,
        limit=limit + 1,
        before=before,
    )
    shown = found[:limit]
    if as_json:
        print_json(
            {"app": plain(app_signals.app.name), "messages": [to_json(each) for each in shown]}
        )
        return
    _print_messages(shown)
    if len(found) > limit:
        echo()
        echo_wrapped(f"There are more: --before {shown[-1].id} lists the next ones.", indent=0)


@outbox.command("show")
@click.argument("message", metavar="ID", type=int)
@json_option
@errors_shown()
def show_message(message: int, as_json: bool) -> None:
    """Show the message ID, without the values of its payload."""
    found = find_message(current_outbox()[1], message)
    if found is None:
        raise _no_message(message)
    print_json(to_json(found)) if as_json else _print_message(found)


def _check_names(app_signals: AppSignals, outbox: Outbox, receiver: str, signal: str) -> None:
    """Refuse names that neither a durable receiver nor a message has; an empty one is no filter.

    :raises ClickException: with the most similar name.
    """
    if not receiver and not signal:
        return
    found = outbox_report(app_signals, outbox)
    receivers, signals = known_names(app_signals, found.receivers)
    signals += app_signals.names.all()
    for what, name, known in (("receiver", receiver, receivers), ("signal", signal, signals)):
        if name and name not in known:
            raise click.ClickException(f"There is no {what} {name!r}.{did_you_mean(name, known)}")


def _no_message(number: int) -> click.ClickException:
    return click.ClickException(
        f"There is no message {number}: it has run, was discarded, or never existed."
    )


# -- changing -------------------------------------------------------------------------------------


@outbox.command("retry")
@_changing("retrying", "dead")
@errors_shown()
def retry_messages(**options: Any) -> None:
    """Make messages due now: the message ID, or all that match the filters.

    Without --status, filters match dead messages only. A dead message gets as many further attempts
    as a new one; those of a retrying message stay as they are.
    """
    _change("retry", "retried", **options)


@outbox.command("discard")
@_changing("due", "retrying", "dead")
@errors_shown()
def discard_messages(**options: Any) -> None:
    """Delete messages: the message ID, or all that match the filters.

    Without --status, filters match dead messages only. Messages that run are not deleted.
    """
    _change("discard", "discarded", **options)


def _change(
    verb: str,
    past: str,
    *,
    message: int | None,
    status: str | None,
    receiver: str,
    signal: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Retry or discard messages, or only count them.

    :param verb: the command.
    :param past: its past participle.
    """
    wanted: dict[str, Any] = {"status": status or "", "receiver": receiver, "signal": signal}
    if message is None and not any(wanted.values()):
        raise click.UsageError("Give the ID of a message, or a filter such as --status dead.")
    if message is not None and any(wanted.values()):
        raise click.UsageError("Give the ID of a message or filters, not both.")
    app_signals, outbox = current_outbox()
    _check_names(app_signals, outbox, receiver, signal)
    if message is None:
        wanted["status"] = status or "dead"
    else:
        _check_number(outbox, verb, message)
    where = outbox.queries.where(number=message, **wanted)
    with outbox.reading() as connection:
        number = outbox.queries.count(connection, where)
    if not dry_run:
        if number > 1 and not yes:
            question = f"{verb.capitalize()} {counted(number, 'message')}?"
            click.confirm(question, abort=True, err=True)
        work = outbox.retry if verb == "retry" else outbox.discard
        number = show_progress(past, work(where), number)
    elif message is None and not as_json:
        _print_matching(messages(outbox, **wanted, limit=SHOWN), number)
    if as_json:
        print_json({"app": app_signals.app.name, "dry_run": dry_run, "messages": number})
    else:
        were = "would be" if dry_run else "was" if number == 1 else "were"
        echo(f"{counted(number, 'message').capitalize()} {were} {past}.")


def _print_matching(listed: list[MessageInfo], total: int) -> None:
    """List what a dry run has found, if anything."""
    if listed:
        _print_messages(listed)
        echo(f"... and {total - len(listed):,} more\n" if total > len(listed) else "")


def _check_number(outbox: Outbox, verb: str, number: int) -> None:
    """Refuse a message that does not exist, or that the command does not change."""
    message = find_message(outbox, number)
    if message is None:
        raise _no_message(number)
    if message.status == "running":
        raise click.ClickException(
            f"Message {number} is running, so it is not changed. Try again when its run has ended."
        )
    if verb == "retry" and message.status == "due":
        raise click.ClickException(
            f"Message {number} is due already, so there is nothing to retry. Does a worker run?"
        )
    if verb == "retry" and message.status == "dead" and message.message_id is None:
        raise click.ClickException(
            f"Message {number} cannot run, because its headers are damaged. To delete it, run "
            f"'flask signals outbox discard {number}'."
        )


# -- printing -------------------------------------------------------------------------------------


def _print_status(found: OutboxReport) -> None:
    echo(f"{', '.join(f'{number:,} {status}' for status, number in found.counts.items())}")
    if found.oldest_age is not None:
        echo(f"The oldest has been due for {duration(found.oldest_age)}")
    echo_wrapped(f"Run by: {found.run_by}", indent=0)
    if not found.receivers:
        return
    echo()
    rows = [
        (
            each.receiver + ("" if each.exists else " (does not exist)"),
            each.signal,
            *(f"{number:,}" for number in each.counts.values()),
        )
        for each in found.receivers
    ]
    print_table(("Receiver", "Signal", *map(str.capitalize, STATUSES)), rows)


def _print_messages(listed: list[MessageInfo]) -> None:
    if not listed:
        echo("No messages.")
        return
    print_table(HEADS, map(_row, listed), (_row(each, brief=True) for each in listed))


def _row(message: MessageInfo, *, brief: bool = False) -> Cells:
    """Return the cells of a message.

    :param brief: leave out the modules of receivers, and the places of errors.
    """
    error = short_error(message.error or "")
    if brief:
        error = error.partition(" at ")[0]
        error = error if len(error) <= ERROR else f"{error[: ERROR - 1]}…"
    return (
        str(message.id),
        message.status,
        _attempt(message),
        "" if message.due is None else brief_moment(message.due),
        message.receiver.rpartition(".")[2] if brief else message.receiver,
        message.signal,
        error,
    )


def _print_message(message: MessageInfo) -> None:
    echo(f"Message {message.id}  {message.status}: it {STATUSES[message.status]}")
    echo()
    for term, fact in _facts(message):
        if fact:
            echo_wrapped(f"{term:13}{fact}", indent=2, hanging=15)
    if message.status == "dead":
        echo()
        number = message.id
        text = (
            f"'flask signals outbox retry {number}' runs it again; 'discard {number}' deletes it."
        )
        echo_wrapped(text, indent=0)


def _facts(message: MessageInfo) -> Iterator[tuple[str, str | None]]:
    gone = " (does not exist)" if message.max_attempts is None else ""
    site = message.site
    yield "Receiver", f"{message.receiver}{gone}"
    yield "Signal", message.signal
    yield "Queue", message.queue
    yield "Attempt", _attempt(message)
    yield "Due", _moment(message.due)
    yield "Error", message.error
    yield "Sent", _moment(message.sent_at)
    yield "Sender", message.sender
    yield "Payload", ", ".join(message.payload) or "none"
    yield "Sent from", None if site is None else label(site, near_file) or named(site)
    yield "Request", message.request
    yield "Message id", message.message_id
    yield "Correlation", message.correlation_id
    yield "Caused by", message.causation_id


def _attempt(message: MessageInfo) -> str:
    most = "" if message.max_attempts is None else f" of {message.max_attempts}"
    return f"{message.attempt}{most}"


def _moment(seconds: float | None) -> str:
    """Return a time since the epoch as local date and time; an empty text for ``None``."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
