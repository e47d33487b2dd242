"""Why a receiver runs or does not run: what decides it, and what a running app recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

import click

from ..errors import did_you_mean
from ..records import AFTER_COMMIT, DURABLE, IMMEDIATE, Place
from .activity import EXPLAINED, EmissionInfo, RequestInfo, StepInfo
from .labels import label, named, near_file, to_json
from .report import POLICIES, Problem, ReceiverInfo, SignalInfo

WHOLE = frozenset({"undeclared", "unknown"})
"""The kinds of problems that concern a signal with all of its receivers."""

DELIVERIES = {
    IMMEDIATE: "runs during the send",
    AFTER_COMMIT: "waits for the commit, and is dropped if the transaction does not commit; runs "
    "immediately if no transaction is open",
    DURABLE: "is stored with the commit; then a worker runs it until it returns or its attempts "
    "are used up",
}
"""What each delivery does with a receiver."""

TIMEOUT = 10
"""How long to wait for the running app, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """What decides whether one receiver of a signal runs."""

    number: int
    """Its place in the order of the receivers, from 1."""
    receiver: ReceiverInfo
    """The receiver."""
    facts: dict[str, str]
    """What decides, by a term such as ``sender``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sent:
    """One emission that a running app recorded."""

    emission: EmissionInfo
    """The emission, with the steps of the wanted receivers."""
    request: RequestInfo
    """The request that it was sent in."""
    url: str
    """The URL of its view."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Why:
    """Why the receivers of a signal run or do not run."""

    name: str
    """The signal's name."""
    signal: SignalInfo | None
    """The signal, or ``None`` if only the running app knows it."""
    wanted: str | None
    """A part of the names of the wanted receivers, or ``None`` for all."""
    notes: tuple[str, ...]
    """What applies to all of its receivers."""
    decisions: tuple[Decision, ...]
    """What decides, for each wanted receiver in calling order."""
    problems: tuple[Problem, ...]
    """The problems that concern them."""
    sent: tuple[Sent, ...] | None
    """The last emissions, newest first; ``None`` if no running app was asked."""
    stored: Mapping[str, int] | None
    """The number of its messages of each status; ``None`` if it has no durable receivers, or if no
    running app was asked."""


def explain(
    name: str,
    signal: SignalInfo | None,
    wanted: str | None,
    sent: list[Sent] | None,
    stored: Mapping[str, int] | None = None,
) -> Why | None:
    """Return why receivers run or do not run, or ``None`` if the signal is unknown.

    :param name: the signal's name.
    :param signal: what the report contains about it.
    :param wanted: a part of the names of the receivers; all if ``None``.
    :param sent: the answer of :func:`ask`.
    :param stored: the answer of :func:`ask_outbox`.
    :raises click.ClickException: the signal has no such receiver.
    """
    if signal is None and not sent:
        return None
    found = Why(
        name=name,
        signal=signal,
        wanted=wanted,
        notes=() if signal is None else tuple(_notes(signal)),
        decisions=() if signal is None else tuple(_decisions(signal, wanted)),
        problems=() if signal is None else tuple(_problems(signal, wanted)),
        sent=None if sent is None else tuple(sent),
        stored=stored,
    )
    is_known = found.decisions or any(each.kind not in WHOLE for each in found.problems)
    if wanted is not None and not is_known and not any(each.emission.steps for each in sent or ()):
        raise click.ClickException(_no_receiver(name, signal, wanted))
    return found


def why_to_json(why: Why) -> dict[str, Any]:
    """Return the answer as JSON types; without a running app, it has no emissions."""
    receivers = [
        {
            "number": each.number,
            "module": each.receiver.module,
            "name": each.receiver.name,
            "file": each.receiver.file,
            "line": each.receiver.line,
            "decides": each.facts,
        }
        for each in why.decisions
    ]
    problems = to_json(why.problems)
    answer = {"signal": why.name, "notes": list(why.notes), "receivers": receivers}
    found: dict[str, Any] = {**answer, "problems": problems}
    if why.stored is not None:
        found["stored"] = why.stored
    if why.sent is not None:
        found["emissions"] = [
            {**to_json(sent.emission), "title": sent.request.title, "url": sent.url}
            for sent in why.sent
        ]
    return found


def _no_receiver(name: str, signal: SignalInfo | None, wanted: str) -> str:
    receivers = () if signal is None else signal.receivers
    known = {receiver.name for receiver in receivers}
    known |= {f"{receiver.module}.{receiver.name}" for receiver in receivers}
    return (
        f"Signal {name!r} has no receiver {wanted!r}.{did_you_mean(wanted, known)} "
        "'flask signals show' lists its receivers."
    )


def _is_wanted(receiver: ReceiverInfo | Place, wanted: str | None) -> bool:
    """Tell whether the name of a receiver contains a text.

    :param wanted: the text, in upper or lower case; ``None`` is contained in every name.
    """
    return wanted is None or wanted.lower() in f"{receiver.module}.{receiver.name}".lower()


# -- what decides ---------------------------------------------------------------------------------


def _decisions(signal: SignalInfo, wanted: str | None) -> list[Decision]:
    return [
        Decision(number=number, receiver=receiver, facts=dict(_facts(signal, number, receiver)))
        for number, receiver in enumerate(signal.receivers, 1)
        if _is_wanted(receiver, wanted)
    ]


def _problems(signal: SignalInfo, wanted: str | None) -> list[Problem]:
    """Return the problems that concern all receivers or a wanted one."""
    return [
        problem
        for problem in signal.problems
        if problem.kind in WHOLE or problem.place is None or _is_wanted(problem.place, wanted)
    ]


def _notes(signal: SignalInfo) -> Iterator[str]:
    if not signal.receivers:
        yield "It has no receivers, so a send calls nothing."
    if signal.muted:
        yield "It is muted, so no receiver runs."


def _facts(signal: SignalInfo, number: int, receiver: ReceiverInfo) -> Iterator[tuple[str, str]]:
    yield "order", _order(number, receiver)
    if receiver.pattern is not None:
        yield "pattern", receiver.pattern
    yield "sender", "any" if receiver.sender is None else f"only {receiver.sender}"
    if receiver.when is not None:
        where = label(receiver.when, near_file)
        yield "when", f"{named(receiver.when)} must return true" + (f" ({where})" if where else "")
    does = DELIVERIES.get(receiver.delivery, "this delivery decides when it runs")
    yield "delivery", f"{receiver.delivery}: {does}"
    if not receiver.foreign:
        before = [
            each
            for each, other in enumerate(signal.receivers, 1)
            if _stops(signal, other, receiver)
        ]
        if before:
            yield "reached", f"not if {_any_of(before)} raises"
        yield "on_error", _on_error(signal, receiver)
    if receiver.weak:
        yield "weak", "it is disconnected when it is garbage-collected"
    if receiver.is_async:
        yield "async", "send waits until it has finished, and needs flask[async]"


def _order(number: int, receiver: ReceiverInfo) -> str:
    if receiver.foreign:
        return "as connected to the original signal, which other code did"
    earlier = f"after {_receivers(range(1, number))}" if number > 1 else "first"
    return f"{earlier}, with priority {receiver.priority}"


def _on_error(signal: SignalInfo, receiver: ReceiverInfo) -> str:
    if receiver.delivery == AFTER_COMMIT:
        return "the failure is logged and reported; the commit and other receivers are not affected"
    if receiver.delivery == DURABLE:
        return "it is run again later; after its last attempt, its message is dead and reported"
    if receiver.delivery != IMMEDIATE:
        return "this delivery decides"
    policy = receiver.on_error or signal.on_error
    after = [
        each for each, other in enumerate(signal.receivers, 1) if _stops(signal, receiver, other)
    ]
    if policy != "raise" or not after:
        return f"{policy}: {POLICIES[policy]}"
    return (
        f"raise: if it raises, {_receivers(after)} {'is' if len(after) == 1 else 'are'} not reached"
    )


def _stops(signal: SignalInfo, first: ReceiverInfo, second: ReceiverInfo) -> bool:
    """Tell whether a send does not come to the second receiver if the first one raises."""
    return (
        first.delivery == IMMEDIATE
        and (first.on_error or signal.on_error) == "raise"
        and first.position is not None
        and second.position is not None
        and first.position < second.position
    )


def _receivers(numbers: Iterable[int]) -> str:
    """Return numbers of receivers in words, such as ``receivers 1 to 3 and 5``."""
    *most, last = _runs(numbers)
    noun = "receivers" if most or " " in last else "receiver"
    return f"{noun} {', '.join(most)} and {last}" if most else f"{noun} {last}"


def _any_of(numbers: list[int]) -> str:
    """Return alternatives in words: ``receiver 1 or 2``, or ``one of receivers 1 to 3``."""
    *most, last = _runs(numbers)
    if not most or any(" " in run for run in (*most, last)):
        return f"one of {_receivers(numbers)}" if len(numbers) > 1 else f"receiver {last}"
    return f"receiver {', '.join(most)} or {last}"


def _runs(numbers: Iterable[int]) -> list[str]:
    """Return numbers as texts; three or more in a row are one, such as ``1 to 3``."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    found: list[str] = []
    for first, last in runs:
        found += [f"{first} to {last}"] if last > first + 1 else map(str, range(first, last + 1))
    return found


# -- what a running app recorded ------------------------------------------------------------------


def ask(page: str, name: str, wanted: str | None) -> list[Sent]:
    """Return the last emissions of a signal that a running app recorded, newest first.

    :param page: the URL of its page.
    :param name: the signal's name.
    :param wanted: a part of the names of the receivers; all if ``None``.
    :raises click.ClickException: no app with a journal answers there.
    """
    query = urlencode({"signal": name, "only": name}, errors="replace")
    answer = _fetch(f"{page}/requests.json?{query}")
    try:
        recorded, app = answer["journal"], answer["app"]
        found = [sent for request in answer["requests"] for sent in _sent(request, page, wanted)]
    except (AttributeError, KeyError, TypeError):
        message = f"{page} is not the page of this version of flask_signals_kit."
        raise click.ClickException(message) from None
    if not recorded:
        raise click.ClickException(
            f"App {app!r} at {page} keeps no journal. Set SIGNALS_KIT_JOURNAL to True."
        )
    # The page strips the name, and shows all signals for an empty one.
    found = [sent for sent in found if sent.emission.signal == name]
    found.sort(key=lambda sent: sent.emission.number, reverse=True)
    return found[:EXPLAINED]


def ask_outbox(page: str, signal: SignalInfo | None) -> dict[str, int] | None:
    """Return how many messages of a signal a running app has stored, by status.

    :param page: as in :func:`ask`.
    :param signal: the signal.
    :return: ``None`` if it has no durable receivers, or if its outbox cannot be read.
    """
    if signal is None or all(receiver.delivery != DURABLE for receiver in signal.receivers):
        return None
    try:
        answer = _fetch(f"{page}/outbox.json")
        own = [each["counts"] for each in answer["receivers"] if each["signal"] == signal.name]
        return {status: sum(each[status] for each in own) for status in answer["counts"]}
    except (click.ClickException, KeyError, TypeError):
        return None


def page_of(url: str, page_url: str) -> str:
    """Return the URL of the page of a running app.

    :param url: the URL of the app's root or of its page.
    :param page_url: the path of the page in the app.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.username is not None:
        raise click.ClickException("The URL of --url must not have a user name and a password.")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise click.ClickException(f"{url!r} is not a URL such as 'http://127.0.0.1:5000'.")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path.removesuffix(page_url)}{page_url}"


def _fetch(url: str) -> Any:
    """Return the JSON at a URL."""
    try:
        with urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310  http or https
            body = response.read()
    except HTTPError as error:
        error.close()
        raise click.ClickException(
            f"{url} answered {error.code}. The page is served in debug and testing; elsewhere "
            "page_auth decides who may see it. Check the URL."
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(f"Cannot reach {url}: {reason}. Is the app running?") from None
    try:
        return json.loads(body)
    except ValueError:
        raise click.ClickException(
            f"{url} did not answer with JSON. Check that it is the URL of the app or of its page."
        ) from None


def _sent(request: dict[str, Any], page: str, wanted: str | None) -> Iterator[Sent]:
    """Yield the emissions of a request in the JSON of the page, with the steps that are wanted."""
    emissions = request.pop("emissions")
    info = RequestInfo(**request)
    for each in emissions:
        steps = tuple(
            step for step in map(_step, each["steps"]) if _is_wanted(step.receiver, wanted)
        )
        emission = EmissionInfo(**each | {"steps": steps, "site": _place(each["site"])})
        yield Sent(emission=emission, request=info, url=f"{page}/emissions/{emission.number}")


def _step(data: dict[str, Any]) -> StepInfo:
    return StepInfo(
        **data | {"receiver": _place(data["receiver"]), "raised": _place(data["raised"])}
    )


def _place(data: dict[str, Any] | None) -> Any:
    """Return a place, or ``None``."""
    return data and Place(**data)
