"""The commands of ``flask signals``: the report in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
from flask.cli import AppGroup, ScriptInfo

from ..errors import ConfigurationError, OutboxError, did_you_mean, suggestion
from . import why
from .activity import StepInfo
from .flow import Flow, flow, grouped
from .flow_svg import to_file
from .flow_text import to_dot, to_mermaid
from .labels import clock, doc_parts, duration, label, near_file, plain, short_file, to_json
from .lock import HEADER, compare_lock, to_lock
from .outbox import in_words
from .outbox_cli import outbox
from .outbox_problems import outbox_problems
from .report import (
    POLICIES,
    Problem,
    ReceiverInfo,
    Report,
    SignalInfo,
    report,
    signal_to_json,
)
from .terminal import (
    Cells,
    Styles,
    counted,
    current_signals,
    dim,
    echo,
    echo_groups,
    echo_wrapped,
    json_option,
    print_json,
    print_table,
    printable,
    wrapped,
)
from .tree_text import NUMBER, OUTCOME, sent_text, step_text, title_text
from .work import work

signals: AppGroup = AppGroup("signals")  # its help is in extension.py, which does not import this
signals.add_command(outbox)
signals.add_command(work)


@signals.command("list")
@click.argument("pattern", required=False)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["table", "json", "lock"]),
    default="table",
    show_default=True,
    help="A table, JSON, or lines for 'flask signals check --lock'.",
)
@json_option
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help="Also list signals of Flask and other extensions that have no receivers.",
)
def list_signals(pattern: str | None, kind: str, as_json: bool, show_all: bool) -> None:
    """List the signals with their receivers in calling order, one receiver per line.

    PATTERN is part of a signal's name, or a glob such as 'account_*'.
    """
    everything = _report()
    matching = everything if pattern is None else everything.like(pattern)
    found = matching if show_all else matching.without_unused()
    hidden = len(matching.signals) - len(found.signals)
    if pattern is not None and not found.signals:
        raise click.ClickException(_nothing_like(pattern, hidden, everything))
    if as_json or kind == "json":
        print_json(found.to_json())
    elif kind == "lock":
        for line in (HEADER, *to_lock(found)):
            click.echo(line)
    else:
        _print_list(found, hidden)


@signals.command("show")
@click.argument("name")
@json_option
def show_signal(name: str, as_json: bool) -> None:
    """Show everything about the signal NAME."""
    signal = _report(name).find(name)
    if signal is None:
        raise _no_signal(name)
    if as_json:
        print_json(signal_to_json(signal))
    else:
        _print_signal(signal)


@signals.command("why")
@click.argument("name", metavar="SIGNAL")
@click.argument("receiver", required=False)
@click.option("--url", help="Also ask the app that runs at this URL what happened.")
@json_option
def explain_signal(name: str, receiver: str | None, url: str | None, as_json: bool) -> None:
    """Say what decides whether the receivers of SIGNAL run.

    RECEIVER is part of the names of the receivers to explain. With --url, the last emissions are
    explained, too: it is the URL of the running app, such as http://127.0.0.1:5000.
    """
    found = _report(name)
    sent = stored = None
    if url is not None:
        page = why.page_of(url, current_signals().settings.page_url)
        sent = why.ask(page, name, receiver)
        stored = why.ask_outbox(page, found.find(name))
    reasons = why.explain(name, found.find(name), receiver, sent, stored)
    if reasons is None:
        raise _no_signal(name)
    if as_json:
        print_json(why.why_to_json(reasons))
    else:
        _print_why(reasons)


@signals.command("check")
@click.option(
    "--lock",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also compare the receivers with this file, which 'list --format lock' has written.",
)
@json_option
@click.pass_context
def check_signals(context: click.Context, lock: Path | None, as_json: bool) -> None:
    """Print the problems; the exit code is 1 if there are any."""
    found = _report()
    changes = [] if lock is None else compare_lock(_read_lock(lock), str(lock), found)
    problems = (*found.problems, *_problems_in_database())
    if as_json:
        compared = {} if lock is None else {"lock": changes}
        print_json({"app": found.app, "problems": to_json(problems), **compared})
    else:
        _print_check(found, problems)
        if lock is not None:
            _print_changes(changes, lock)
    context.exit(1 if problems or changes else 0)


def _read_lock(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:  # Windows PowerShell writes UTF-16
        reason = "it is not UTF-8"
    raise click.ClickException(
        f"{lock} cannot be read: {reason}. Write it with '{_list_command(lock)}'."
    )


def _list_command(lock: Path) -> str:
    """Return the command that writes a lock."""
    script = click.get_current_context().find_object(ScriptInfo)
    name = None if script is None else script.app_import_path
    app = f"--app {name} " if name else ""
    return f"flask {app}signals list --format lock > {lock}"


def _problems_in_database() -> list[Problem]:
    """Return the problems of the outbox; a database that cannot be used is not one of them."""
    try:
        return outbox_problems(current_signals())
    except (ConfigurationError, OutboxError) as error:
        click.echo(f"Not checked: {error}", err=True)
        return []


FORMATS: dict[str, Callable[[Flow], str]] = {
    "mermaid": to_mermaid,
    "dot": to_dot,
    "svg": to_file,
}
"""The formats of ``flask signals graph``."""


@signals.command("graph")
@click.argument("pattern", required=False)
@click.option(
    "--format",
    "kind",
    type=click.Choice([*FORMATS]),
    default="mermaid",
    show_default=True,
    help="Mermaid, Graphviz's DOT, or an SVG file.",
)
def graph_signals(pattern: str | None, kind: str) -> None:
    """Print which modules receive which signals, as a picture.

    PATTERN is part of a signal's name, or a glob such as 'account_*'.
    """
    everything = _report()
    found = grouped(flow(everything if pattern is None else everything.like(pattern)))
    if pattern is not None and not found.signals:
        hidden = len(everything.like(pattern).signals)
        raise click.ClickException(_nothing_like(pattern, hidden, everything))
    echo(FORMATS[kind](found).rstrip("\n"))
    if found.left_out:
        note = f"Not shown: {counted(found.left_out, 'signal')}. A PATTERN selects others."
        click.echo(note, err=True)


def _report(name: str | None = None) -> Report:
    return report(current_signals(), name)


def _no_signal(name: str) -> click.ClickException:
    app_signals = current_signals()
    near = suggestion(app_signals.names.nearest(name))
    return click.ClickException(
        f"App {plain(app_signals.app.name)!r} has no signal {name!r}.{near} "
        "See 'flask signals list --all'."
    )


def _nothing_like(pattern: str, hidden: int, everything: Report) -> str:
    if hidden:
        return (
            f"The signals that match {pattern!r} have no receivers; "
            "'flask signals list --all' lists them."
        )
    declared = [signal.name for signal in everything.signals if signal.declared]
    return f"No signal matches {pattern!r}.{did_you_mean(pattern.strip('*?'), declared)}"


# -- printing -------------------------------------------------------------------------------------


HEADS = ("Signal", "Receivers", "Delivery", "Place")
"""The columns of the list."""

COLOURS: dict[str, str | None] = {
    "ran": "green",
    "failed": "red",
    "dead": "red",
    "waiting": None,
    "done": None,
}
"""The colours of what happened to a receiver; yellow for all else."""

PLACE = 16
"""The width down to which places are cut first: the receivers' names say nearly as much."""


def _print_list(found: Report, hidden: int) -> None:
    if found.signals:
        _print_table(found.signals)
        echo()
    notes = [f"{_tally(found)}."]
    if found.problems:
        notes.append("'flask signals check' describes the problems.")
    if hidden:
        notes.append(f"Not shown: {counted(hidden, 'signal')} without receivers; --all lists them.")
    for note in notes:
        echo_wrapped(note, indent=0)


def _print_table(signals: Sequence[SignalInfo]) -> None:
    """Print one line for each receiver; if it does not fit, without the receivers' modules."""
    rows = (row for signal in signals for row in _rows(signal))
    brief = (row for signal in signals for row in _rows(signal, brief=True))
    styles = [_styles(signal) for signal in signals for _ in signal.receivers or [None]]
    print_table(HEADS, rows, brief, last=PLACE, styles=styles)


def _styles(signal: SignalInfo) -> Styles:
    name = {"bold": True, "fg": "red" if signal.problems else None}
    return name, {"fg": "yellow" if signal.orphan else None}, {}, {"dim": True}


def _rows(signal: SignalInfo, *, brief: bool = False) -> list[Cells]:
    """Return the cells of each receiver, or of one row that says that there are none.

    :param brief: leave out the modules of the receivers.
    """
    rows: list[Cells] = [
        (
            signal.name,
            ("" if brief else f"{receiver.module}.")
            + f"{receiver.name}{' (foreign)' if receiver.foreign else ''}",
            receiver.delivery,
            label(receiver, _brief_file),
        )
        for receiver in signal.receivers
    ]
    return rows or [(signal.name, "orphan" if signal.orphan else "none", "", "")]


def _print_signal(signal: SignalInfo) -> None:
    _print_heading(signal)
    echo()
    facts = {
        "Origin": signal.origin,
        "Declared": label(signal, near_file) or ("nowhere" if signal.origin == "domain" else ""),
        "Sender": signal.sender_type,
        "Payload": _payload(signal),
        "On error": f"{signal.on_error}: {POLICIES[signal.on_error]}",
    }
    for term, fact in facts.items():
        if fact:
            echo_wrapped(f"{term:10}{fact}", indent=2, hanging=12)
    echo()
    echo(counted(len(signal.receivers), "receiver").capitalize())
    phase = None
    for index, receiver in enumerate(signal.receivers, start=1):
        if receiver.phase and receiver.phase != phase:
            phase = receiver.phase
            echo(phase)
        _print_receiver(index, receiver)
    for problem in signal.problems:
        echo()
        _print_problem(problem)


def _print_receiver(index: int, receiver: ReceiverInfo) -> None:
    _print_place(index, receiver)
    echo_wrapped(", ".join(_details(receiver)), indent=5)
    if receiver.calls or receiver.dropped:
        echo_wrapped(", ".join(_figures(receiver)), indent=5)


def _print_place(number: int, receiver: ReceiverInfo) -> None:
    echo(printable(f"{number:>3}  {receiver.module}.{receiver.name}"))
    echo(f"{'':5}{dim(printable(label(receiver, near_file)) or 'no source file')}")


def _print_why(found: why.Why) -> None:
    if found.signal is None:
        echo(f"{click.style(printable(found.name), bold=True)}  known to the running app only")
    else:
        _print_heading(found.signal)
    for note in found.notes:
        echo_wrapped(note, indent=2)
    for decision in found.decisions:
        echo()
        _print_place(decision.number, decision.receiver)
        for term, fact in decision.facts.items():
            heading = term.replace("_", " ").capitalize()
            echo_wrapped(f"{heading:10}{fact}", indent=5, hanging=15)
    for problem in found.problems:
        echo()
        _print_problem(problem)
    if found.stored is not None:
        echo()
        echo(f"Outbox: {in_words(found.stored)}")
    if found.sent is not None:
        echo()
        echo("Last emissions, newest first" if found.sent else "No emissions are recorded.")
        for sent in found.sent:
            echo()
            _print_sent(sent)
            if not sent.emission.steps:
                echo(f"{'':5}{'no receivers' if found.wanted is None else 'not connected'}")


def _print_sent(sent: why.Sent) -> None:
    emission, request = sent.emission, sent.request
    number = click.style(f"#{emission.number}", bold=True)
    title = printable(title_text(request)).split(" ")
    echo_groups([number], [clock(emission.started)], title, hanging=5)
    echo(f"{'':5}{dim(printable(sent.url))}")
    echo_wrapped(sent_text(emission), indent=5)
    for step in emission.steps:
        _print_step(step)


def _print_step(step: StepInfo) -> None:
    end = NUMBER + OUTCOME
    first, *others = wrapped(step_text(step), indent=0, hanging=end)
    colour = COLOURS.get(step.status, "yellow")
    outcome = click.style(first[NUMBER:end], fg=colour)
    echo(f"{first[:NUMBER]}{outcome}{first[end:]}")
    for line in others:
        echo(line)


def _print_heading(signal: SignalInfo) -> None:
    marks = [] if signal.origin == "domain" else [dim(signal.origin)]
    if signal.on_error != "raise":
        marks.append(dim(f"on_error={signal.on_error}"))
    if signal.orphan:
        marks.append(click.style("orphan", fg="yellow"))
    titles = dict.fromkeys(problem.title for problem in signal.problems)
    marks += [click.style(title, fg="red") for title in titles]
    names = ["..."] if signal.payload is None else _payload_names(signal)
    first, *others = map(dim, f"({', '.join(names)})".split(" "))
    heading = click.style(printable(signal.name), bold=True) + first
    echo_groups([heading, *others], *([mark] for mark in marks), hanging=4)
    if signal.doc:
        echo_wrapped("".join(part for part, _ in doc_parts(signal.doc)), indent=2)


def _print_check(found: Report, problems: Sequence[Problem]) -> None:
    for problem in problems:
        _print_problem(problem)
        echo()
    echo(counted(len(problems), "problem") if problems else f"{_tally(found)}.")


COLOURS_OF_CHANGES = {"-": "red", "+": "green", "@": "cyan"}
"""The colours of a diff, by the first character of the line."""


def _print_changes(changes: Sequence[str], lock: Path) -> None:
    if not changes:
        echo(f"The receivers are those in {lock}.")
        return
    echo()
    for line in changes:
        echo(click.style(line, fg=COLOURS_OF_CHANGES.get(line[0])))
    echo()
    echo_wrapped(f"The receivers differ from {lock}. If they should, update it:", indent=0)
    echo(f"  {_list_command(lock)}")


def _print_problem(problem: Problem) -> None:
    place = "" if problem.place is None else label(problem.place, near_file)
    title, name = click.style(problem.title, fg="red"), click.style(problem.signal, bold=True)
    echo_groups([title], [name], [dim(place)] if place else [], hanging=2)
    echo_wrapped(problem.message, indent=2)
    echo_wrapped(f"Fix: {problem.fix}", indent=2)


def _brief_file(file: str) -> str:
    """Return a file relative to the working directory; an installed one, to its import path."""
    near = near_file(file)
    return short_file(file) if near == file or "site-packages" in near else near


def _details(receiver: ReceiverInfo) -> Iterator[str]:
    yield f"priority {receiver.priority}"
    yield "any sender" if receiver.sender is None else f"sender {receiver.sender}"
    if receiver.when is not None:
        yield f"when {receiver.when.module}.{receiver.when.name}"
    yield receiver.delivery
    if receiver.on_error is not None:
        yield f"on_error={receiver.on_error}"
    if receiver.is_async:
        yield "async"
    yield "weak" if receiver.weak else "strong"
    yield "**kwargs" if receiver.takes_extra else "no **kwargs"
    if receiver.uid is not None:
        yield f"uid {receiver.uid}"
    if receiver.pattern is not None:
        yield f"by pattern {receiver.pattern}"
    if receiver.foreign:
        yield "foreign: connected to the original signal, not through the kit"


def _figures(receiver: ReceiverInfo) -> Iterator[str]:
    """Yield the journal's counts of this process."""
    yield counted(receiver.calls or 0, "call")
    if receiver.failures:
        last = receiver.last_failure
        yield f"{receiver.failures} failed" + (f" (last: {last.error})" if last else "")
    if receiver.dropped:
        yield f"{receiver.dropped} dropped"
    if receiver.mean is not None:
        yield f"mean {duration(receiver.mean)}"
    if receiver.p95 is not None:
        yield f"p95 {duration(receiver.p95)}"


def _payload(signal: SignalInfo) -> str:
    if signal.payload is None:
        return "any"
    types = signal.types
    names = [
        f"{name}: {types[name.rstrip('?')]}" if name.rstrip("?") in types else name
        for name in _payload_names(signal)
    ]
    return ", ".join(names) or "none"


def _payload_names(signal: SignalInfo) -> list[str]:
    names = [f"{name}?" if name in signal.optional else name for name in signal.payload or ()]
    return [*names, "**extra"] if signal.open else names


def _tally(found: Report) -> str:
    return ", ".join(
        (
            counted(len(found.signals), "signal").capitalize(),
            counted(len(found.receivers), "receiver"),
            counted(len(found.orphans), "orphan"),
            counted(len(found.problems), "problem"),
        )
    )
