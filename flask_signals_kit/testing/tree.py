"""Emissions and what happened to each receiver, as an indented tree of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..debug.activity import EmissionInfo, StepInfo, tree
from ..debug.labels import label, named, short_file
from ..debug.terminal import printable

INDENT = "    "


def render(emissions: Iterable[EmissionInfo], values: Mapping[int, str] | None = None) -> str:
    """Return emissions as a tree: under each its receivers, and under these what they sent.

    :param emissions: the emissions.
    :param values: texts of payload and sender by the number of the emission; without them, the
        tree shows the names of the payload and the type of the sender.
    """
    lines: list[str] = []
    for row in tree(emissions):
        shown = _emission(row.emission, values or {}) if row.step is None else _step(row.step)
        lines.append(f"{INDENT * row.depth}{printable(shown)}")
        if row.step is None and not row.emission.steps:
            lines.append(f"{INDENT * (row.depth + 1)}no receivers")
    return "\n".join(lines)


def _emission(emission: EmissionInfo, values: Mapping[int, str]) -> str:
    names = f"({', '.join(emission.payload)}) from {emission.sender}"
    shown = f"{emission.signal}{values.get(emission.number, names)}"
    place = "" if emission.site is None else label(emission.site, short_file)
    return f"{shown}, sent at {place}" if place else shown


def _step(step: StepInfo) -> str:
    shown = f"- {named(step.receiver)}: {step_in_words(step)}"
    place = "" if step.raised is None else label(step.raised, short_file)
    return f"{shown}, at {place}" if place else shown


def step_in_words(step: StepInfo) -> str:
    """Return what happened to a receiver and why, such as ``muted: the signal was muted``."""
    return step.outcome if step.reason is None else f"{step.outcome}: {step.reason}"
