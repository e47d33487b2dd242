"""What the commands of ``flask signals`` print with."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click
from flask import current_app

from ..errors import ConfigurationError, OutboxError
from ..settings import EXTENSION

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..app.outbox import Outbox

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Add the option ``--json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def current_signals() -> AppSignals:
    """Return the signals of the current app.

    :raises ClickException: if the app has none.
    """
    app_signals: AppSignals | None = current_app.extensions.get(EXTENSION)
    if app_signals is None:
        raise click.ClickException(
            f"App {current_app.name!r} has no SignalsKit: call kit.init_app(app) in its factory."
        )
    return app_signals


@contextmanager
def errors_shown() -> Generator[None, None, None]:
    """Show the error of a database that cannot be used without a traceback."""
    try:
        yield
    except (ConfigurationError, OutboxError) as error:
        raise click.ClickException(str(error)) from error


def current_outbox() -> tuple[AppSignals, Outbox]:
    """Return the signals of the current app, and its outbox.

    :raises ClickException: if it has no durable receivers.
    """
    app_signals = current_signals()
    if app_signals.outbox is None:
        raise click.ClickException(
            f"App {current_app.name!r} has no durable receivers, so there are no messages: connect "
            "one with delivery='durable', or import the module that does."
        )
    return app_signals, app_signals.outbox


def print_json(data: Any) -> None:
    """Print JSON types as JSON."""
    click.echo(json.dumps(data, indent=2))  # in ASCII: a file or a pipe may have any encoding


GAP = "  "
"""The space between the columns of a table."""

Cells: TypeAlias = tuple[str, ...]
"""The cells of a row of a table."""

Styles: TypeAlias = Sequence[dict[str, Any]]
"""The arguments of :func:`click.style` for each cell of a row; none if empty."""


def print_table(
    heads: Cells,
    rows: Iterable[Cells],
    brief: Iterable[Cells] = (),
    *,
    last: int = sys.maxsize,
    styles: Sequence[Styles] = (),
) -> None:
    """Print rows below their heads; where they do not fit, the widest columns are cut.

    :param brief: the rows with shorter cells, for a terminal that the rows do not fit.
    :param last: the width down to which the last column is cut before others are.
    :param styles: those of each row.
    """
    room = (terminal_width() or sys.maxsize) - len(GAP) * (len(heads) - 1)
    shown, widths = _measured(heads, rows)
    if sum(widths) > room:
        shown, widths = _measured(heads, list(brief) or shown)
    while sum(widths) > room:
        widths[-1 if widths[-1] > last else widths.index(max(widths))] -= 1
    _print_row(heads, widths)
    _print_row(tuple("-" * width for width in widths), widths)
    for row, each in zip(shown, styles or [()] * len(shown), strict=True):
        _print_row(row, widths, each)


def _measured(heads: Cells, rows: Iterable[Cells]) -> tuple[list[Cells], list[int]]:
    """Return rows with control characters escaped, and the width of each column."""
    shown = [tuple(map(printable, row)) for row in rows]
    return shown, [max(map(len, column)) for column in zip(heads, *shown, strict=True)]


def _print_row(row: Cells, widths: list[int], styles: Styles = ()) -> None:
    """Print a row of a table; of a text that is too long, its end is shown."""
    cells: list[str] = []
    for text, width, style in zip(row, widths, styles or [{}] * len(row), strict=True):
        short = text if len(text) <= width else f"…{text[len(text) - width + 1 :]}"
        cells.append((click.style(short, **style) if short else "") + " " * (width - len(short)))
    echo(GAP.join(cells).rstrip())


def show_progress(past: str, batches: Iterable[int], total: int) -> int:
    """Do all of the work; on a terminal, print how much is done.

    :param past: what is done with each message, such as ``retried``.
    :param batches: yields the number of messages in each batch.
    :param total: the number of messages.
    :return: the number of the messages that are done.
    """
    done, shown = 0, sys.stderr.isatty() and total > 1
    for number in batches:
        done += number
        if shown:
            click.echo(f"\r{done:,} of {total:,} {past}", nl=False, err=True)
    if shown:
        click.echo(err=True)
    return done


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, such as ``3 signals`` or ``no signals``."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that control a terminal or change the direction of text."""


def printable(text: str) -> str:
    """Escape the control characters of a name."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def dim(text: str) -> str:
    """Return a text in a weaker colour."""
    return click.style(text, dim=True) if text else ""


def terminal_width() -> int | None:
    """Return the terminal's width, or ``None`` if the output is a file or a pipe."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return max(shutil.get_terminal_size().columns, 40)
    return None


def echo_wrapped(text: str, *, indent: int, hanging: int | None = None) -> None:
    """Print a text, in lines that fit the terminal."""
    for line in wrapped(text, indent=indent, hanging=hanging):
        echo(line)


def wrapped(text: str, *, indent: int, hanging: int | None = None) -> list[str]:
    """Return a text in lines that fit the terminal."""
    width = terminal_width()
    return textwrap.wrap(
        printable(text),
        width=width or sys.maxsize,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent if hanging is None else hanging),
        break_long_words=False,
        break_on_hyphens=False,
    )


def echo_groups(*groups: list[str], hanging: int) -> None:
    """Print groups of styled words with two spaces between them, and break long lines."""
    width = terminal_width() or sys.maxsize
    line = ""
    for group in groups:
        gap = "  "
        for word in group:
            if line and len(click.unstyle(line + gap + word)) > width:
                echo(line)
                line = " " * hanging + word
            else:
                line += gap + word if line else word
            gap = " "
    if line:
        echo(line)


def echo(line: str = "") -> None:
    """Print a line."""
    # https://no-color.org: if it is set and not empty, print no colour.
    color = False if os.environ.get("NO_COLOR") else None
    try:
        click.echo(line, color=color)
    except UnicodeEncodeError:  # the output is not UTF-8; escape as standard error does
        encoding = sys.stdout.encoding
        click.echo(line.encode(encoding, "backslashreplace").decode(encoding), color=color)
