"""Interleaved timing: what is compared runs in turns, so that a noisy machine slows all of it."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from statistics import median
from time import perf_counter
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder

ROUNDS = 41
"""How often each case is timed; an odd number has a middle."""

SLICE = 0.004
"""How long one timing takes, in seconds."""

WARM_UP = 20
"""How often each case is called before it is timed: the first request to an app is slow."""

Case = Callable[[], object]


def time_rounds(
    cases: Mapping[str, Case],
    *,
    rounds: int = ROUNDS,
    contexts: Mapping[str, Context] | None = None,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, list[float]]:
    """Time each case once a round, in an order that changes.

    :param contexts: the context to time a case in, such as one with an app context pushed.
    :param clock: ``time.thread_time`` leaves out the time of other processes; use it for small
        differences, where nothing waits for a disk.
    :return: for each case, the seconds of one call in each round.
    """
    runs = {name: (contexts or {}).get(name, copy_context()).run for name in cases}
    loops = {name: runs[name](_loops_for, case, clock) for name, case in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    order = list(cases)
    shuffle = random.Random(0).shuffle
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            shuffle(order)
            for name in order:
                times[name].append(runs[name](_time, cases[name], loops[name], clock))
    finally:
        gc.enable()
    return times


def _time(case: Case, loops: int, clock: Callable[[], float]) -> float:
    """Return the seconds that one call of a case takes on average."""
    repeat = range(loops)
    began = clock()
    for _ in repeat:
        case()
    return (clock() - began) / loops


def _loops_for(case: Case, clock: Callable[[], float]) -> int:
    """Return how many calls of a case take about one slice."""
    _time(case, WARM_UP, clock)
    loops = 1
    while (taken := _time(case, loops, clock) * loops) < SLICE / 4:
        loops *= 4
    return max(1, round(loops * SLICE / taken))


def ratio(times: Mapping[str, list[float]], name: str, against: str) -> float:
    """Return the median over the rounds of one case's time against another's of the same round."""
    return median(a / b for a, b in zip(times[name], times[against], strict=True))


def request_case(app: Flask, method: str = "GET") -> Case:
    """Return a case that sends a request for ``/`` to an app and reads the whole response."""
    environ = EnvironBuilder("/", method=method).get_environ()

    def start_response(*_: Any) -> Callable[[bytes], object]:
        return lambda _: None

    def case() -> object:
        body = app(dict(environ), start_response)
        received = b"".join(body)
        body.close()  # type: ignore[attr-defined]
        return received

    return case
