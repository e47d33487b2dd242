"""Requests, emissions and the steps of their receivers as text, for terminals and test reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from .activity import tree
from .labels import brief_moment, duration, label, named, near_file, short_file

if TYPE_CHECKING:
    from ..records import Place
    from .activity import EmissionInfo, RequestInfo, StepInfo

NUMBER = 5
"""The width of the number of a receiver."""

LEVEL = 3
"""How far a row of a tree is indented. A row below a step begins where its outcome does."""

LINES = 200
"""The most lines of a tree that the report of a test shows."""

OUTCOME = 14
"""The width of what happened to a receiver, such as ``other sender``."""


def title_text(request: RequestInfo) -> str:
    """Return a request, such as ``POST /fund 200``."""
    return request.title if request.status is None else f"{request.title} {request.status}"


def sent_text(emission: EmissionInfo) -> str:
    """Return who sent an emission, such as ``sent by Account at shop.py:14``."""
    return f"sent by {emission.sender}{_at(emission.site)}"


def _at(site: Place | None) -> str:
    return "" if site is None else f" at {label(site, near_file) or named(site)}"


def step_text(step: StepInfo) -> str:
    """Return the number of a receiver, what happened to it, its name, and why."""
    took = "" if step.duration is None else f", {duration(step.duration)}"
    reason = f": {step.reason}" if step.reason else ""
    if step.raised is not None:
        reason += f" at {label(step.raised, short_file)}"
    if step.next_attempt is not None:
        reason += f", next at {brief_moment(step.next_attempt)}"
    outcome = f"{step.number:>{NUMBER - 2}}  {step.outcome:{OUTCOME}}"
    return f"{outcome}{named(step.receiver)}{took}{reason}"


def emission_text(signal: str, payload: Iterable[str], sender: str) -> str:
    """Return an emission, such as ``account_funded(amount, method), sent by Account``."""
    return f"{signal}({', '.join(payload)}), sent by {sender}"


def _names_text(emission: EmissionInfo) -> str:
    return emission_text(emission.signal, emission.payload, emission.sender)


def tree_lines(
    emissions: Iterable[EmissionInfo], text_of: Callable[[EmissionInfo], str] = _names_text
) -> Iterator[str]:
    """Yield the lines of emissions and their steps; what a receiver sent stands below its step.

    :param emissions: the emissions.
    :param text_of: returns the :func:`emission_text` of an emission; by default with the names of
        the payload and the type of the sender.
    """
    for row in tree(emissions):
        indent = " " * (LEVEL * row.depth)
        if row.step is not None:
            yield f"{indent[NUMBER - LEVEL :]}{step_text(row.step)}"
            continue
        yield f"{indent}{text_of(row.emission)}{_at(row.emission.site)}"
        if not row.emission.steps:
            yield f"{indent}{'':{2 * LEVEL}}no receivers"


def last_lines(lines: Sequence[str], left_out: bool = False) -> list[str]:
    """Return the last lines of a tree, below a note if there are earlier ones.

    :param lines: the lines.
    :param left_out: whether the caller has left out some already.
    """
    shown = list(lines[-LINES:])
    is_cut = left_out or len(shown) < len(lines)
    return ["(Earlier lines are left out.)", *shown] if is_cut else shown
