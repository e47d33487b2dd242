"""The emissions that a test captured, and its assertions about them."""

from __future__ import annotations

import textwrap
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from blinker import ANY

from ..app.api import Named
from ..core.journal import RequestRecord, entry_of
from ..debug.activity import EmissionInfo, StepInfo, describe_entries, in_order
from ..debug.labels import named
from ..debug.terminal import printable
from ..debug.tree_text import emission_text, last_lines, tree_lines
from ..errors import nearest, suggestion
from ..records import Emission, Receiver
from .matching import (
    differences,
    is_receiver,
    matches,
    receiver_label,
    shown_expected,
    shown_payload,
    shown_sender,
)

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..core.journal import JournalEntry
    from ..core.observation import Observation

EXPLANATIONS = 5
"""The most explanations of a receiver that are named before the tree."""

SKIPPED = frozenset({"skipped", "other_sender", "not_reached", "muted", "dropped"})
"""The statuses of a receiver that was not called, and will not be."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Captured:
    """One emission that a test captured."""

    signal: str
    """The signal's name."""
    sender: Any
    """The sender."""
    payload: dict[str, Any]
    """The payload, by name."""
    emission: Emission
    """The record of the emission: where it was sent, and in which request."""
    started: float
    """When it began, in seconds, on the clock of ``time.perf_counter``."""


_Recorded: TypeAlias = "tuple[Captured, JournalEntry]"
"""A captured emission, as the test gets it and as a journal records it."""

_Part: TypeAlias = tuple[Captured, StepInfo]
"""An emission, and what happened to one receiver."""


class CapturedSignals(list[Captured]):
    """The emissions that :meth:`SignalsKit.capture` has recorded, in the order of the sends.

    It is a list with assertions. If one fails, its ``AssertionError`` shows what was sent instead,
    what happened to each receiver, and what differs in the most similar emission.

    :param app_signals: the signals of the app.
    :param name_of: returns the name of a signal, and refuses one that is not captured.

    >>> from flask import Flask
    >>> from flask_signals_kit import SignalsKit
    >>> app = Flask("shop")
    >>> kit = SignalsKit(app)
    >>> account_funded = kit.signal("account_funded", "Money arrived in an account.")
    >>> with app.app_context(), kit.capture() as sent:
    ...     _ = account_funded.send("acme", amount=5, method="card")
    >>> sent.assert_sent(account_funded, sender="acme", amount=lambda amount: amount > 0).payload
    {'amount': 5, 'method': 'card'}
    """

    def __init__(self, app_signals: AppSignals, name_of: Callable[[Any], str]) -> None:
        super().__init__()
        self._app_signals = app_signals
        self._name_of = name_of
        self._recorded: dict[int, _Recorded] = {}  # by the number of the emission
        self._request = RequestRecord()

    def _record(self, observation: Observation) -> None:
        """Record an emission that is over."""
        captured = Captured(
            signal=observation.signal,
            sender=observation.sender,
            payload=dict(observation.payload),
            emission=observation.emission,
            started=observation.started,
        )
        entry = entry_of(observation, captured.emission.sender, self._request)
        self._recorded[entry.number] = captured, entry
        insort(self, captured, key=attrgetter("started"))  # one sent by a receiver ends first

    # -- signals ------------------------------------------------------------------------------

    def assert_sent(self, signal: Named, /, *, sender: Any = ANY, **payload: Any) -> Captured:
        """Assert that a signal was sent, at least once.

        :param signal: its name or handle.
        :param sender: the expected sender; any if omitted.
        :param payload: the expected values; the emission may have more. A value is compared with
            ``==``, so ``unittest.mock.ANY`` and ``pytest.approx(…)`` work. An instance of an
            SQLAlchemy model matches any instance for the same row. A function is a predicate: it
            must return ``True``.
        :return: the first emission that matches.
        :raises AssertionError: if there is none; or for a name that is not declared, has no
            receivers and was not sent, which every assertion refuses as a typo.
        """
        __tracebackhide__ = True
        return self._find(signal, sender, payload)[0]

    def assert_sent_once(self, signal: Named, /, *, sender: Any = ANY, **payload: Any) -> Captured:
        """Assert that a signal was sent exactly once, with this sender and payload.

        Parameters and result are those of :meth:`assert_sent`.

        :raises AssertionError: if no emission matches, or more than one.
        """
        __tracebackhide__ = True
        found = self._find(signal, sender, payload)
        if len(found) > 1:
            sent = _described(found[0].signal, sender, payload)
            raise AssertionError(self._with_tree(f"{sent} was sent {len(found)} times, not once."))
        return found[0]

    def assert_not_sent(self, signal: Named, /, *, sender: Any = ANY, **payload: Any) -> None:
        """Assert that a signal was not sent, or not with this sender and payload.

        Parameters are those of :meth:`assert_sent`.

        :raises AssertionError: if an emission matches.
        :raises Exception: what a predicate raised; it cannot tell that an emission does not match.
        """
        __tracebackhide__ = True
        name = self._name_to_check(signal)
        same = [each for each in self if each.signal == name]
        if any(matches(sender, payload, each.sender, each.payload) for each in same):
            text = f"{_described(name, sender, payload)} was sent."
            raise AssertionError(self._with_tree(text))

    def assert_nothing_sent(self) -> None:
        """Assert that none of the captured signals was sent.

        :raises AssertionError: if one was.
        """
        __tracebackhide__ = True
        if self:
            noun = "signal was" if len(self) == 1 else "signals were"
            raise AssertionError(self._with_tree(f"{len(self)} {noun} sent."))

    def assert_order(self, *signals: Named) -> None:
        """Assert that signals were sent in this order; there may be others between them.

        :param signals: names or handles.
        :raises AssertionError: if one was not sent after those before it.
        """
        __tracebackhide__ = True
        sent = iter([captured.signal for captured in self])
        before = ""
        for name in map(self._name_to_check, signals):
            if name not in sent:  # this takes the signals up to the one that is found
                raise AssertionError(self._with_tree(f"Signal {name!r} was not sent{before}."))
            before += f"{', ' if before else ' after '}{name!r}"

    # -- receivers ----------------------------------------------------------------------------

    def assert_called(self, receiver: Receiver | str) -> Captured:
        """Assert that a receiver was called, at least once, and returned.

        :param receiver: the receiver; or its ``uid``, or its module and name, as a string.
        :return: the first emission that it was called for.
        :raises AssertionError: if it was not called, or failed each time.
        """
        __tracebackhide__ = True
        parts = self._parts_of(receiver)
        found = next((captured for captured, step in parts if step.status == "ran"), None)
        if found is None:
            raise AssertionError(self._about(receiver, "was not called", parts))
        return found

    def assert_skipped(self, receiver: Receiver | str, reason: str | None = None) -> Captured:
        """Assert that a receiver was connected, but did not run for an emission.

        This is because its ``when`` returned false, it is connected for another sender, an earlier
        receiver raised, it was muted, or its delivery dropped the call. A durable receiver that
        raised ``Discard`` counts as dropped, too.

        :param receiver: as for :meth:`assert_called`.
        :param reason: a part of what the tree of a failed assertion says, such as ``"muted"``,
            ``"other sender"`` or ``"is_active returned false"``.
        :return: the first emission that it was skipped for.
        :raises AssertionError: if it was not skipped, or for another reason.
        """
        __tracebackhide__ = True
        parts = self._parts_of(receiver)
        for captured, step in parts:
            if step.status in SKIPPED and (reason or "") in step.explanation:
                return captured
        what = "was not skipped" if reason is None else f"was not skipped because of {reason!r}"
        raise AssertionError(self._about(receiver, what, parts))

    # -- searching ----------------------------------------------------------------------------

    def _name_to_check(self, signal: Named) -> str:
        """Return the name of a signal; refuse a typo, for which "not sent" would always be true."""
        __tracebackhide__ = True
        name = self._name_of(signal)
        sent = {captured.signal for captured, _ in self._recorded.values()}
        if name not in sent and name not in self._app_signals.names:
            near = nearest(name, sent | self._app_signals.names.all() - {name})
            text = f"Signal {name!r} was not sent, is not declared and has no receivers."
            raise AssertionError(self._with_tree(text + suggestion(near)))
        return name

    def _find(self, signal: Named, sender: Any, payload: dict[str, Any]) -> list[Captured]:
        """Return the emissions that match; fail if there is none."""
        __tracebackhide__ = True
        name = self._name_to_check(signal)
        found = [
            captured
            for captured in self
            if captured.signal == name and not _differences(captured, sender, payload)
        ]
        if not found:
            raise AssertionError(self._not_sent(name, sender, payload))
        return found

    def _parts_of(self, receiver: Receiver | str) -> list[_Part]:
        """Return the parts of a receiver, in the order of the sends."""
        found: list[_Part] = []
        for emission in self._emissions():
            captured, entry = self._recorded[emission.number]
            for recorded, step in zip(in_order(entry), emission.steps, strict=True):
                connection = recorded.connection
                key = entry.roster.receivers[connection.order]
                if is_receiver(receiver, key, connection.uid, step.receiver):
                    found.append((captured, step))
        return found

    def _emissions(self) -> list[EmissionInfo]:
        """Return the records of the emissions that the test has not removed from the list."""
        present = set(self)
        recorded = self._recorded.values()
        entries = [entry.again() for captured, entry in recorded if captured in present]
        return describe_entries(self._app_signals, entries)

    # -- texts --------------------------------------------------------------------------------

    def _not_sent(self, name: str, sender: Any, payload: dict[str, Any]) -> str:
        """Describe a signal that was not sent as expected, and the most similar emission."""
        text = f"{_described(name, sender, payload)} was not sent."
        similar = [each for each in self if each.signal == name]
        if not similar:
            return self._with_tree(text)
        near = min(similar, key=lambda captured: len(_differences(captured, sender, payload)))
        differs = "; ".join(_differences(near, sender, payload))
        return self._with_tree(f"{text}\nThe most similar one, {_text(near)}: {differs}.")

    def _about(self, receiver: Receiver | str, what: str, parts: list[_Part]) -> str:
        """Describe what happened to a receiver."""
        text = f"Receiver {receiver_label(receiver)} {what}"
        if parts:
            words = [*dict.fromkeys(step.explanation for _, step in parts)]
            more = ["…"] if len(words) > EXPLANATIONS else []
            return self._with_tree(f"{text} ({'; '.join(words[:EXPLANATIONS] + more)}).")
        text += ": it is not connected to a signal that was sent."
        connected = {named(step.receiver) for each in self._emissions() for step in each.steps}
        if isinstance(receiver, str) and not self._is_connected(receiver):
            text += suggestion(nearest(receiver, connected))
        return self._with_tree(text)

    def _is_connected(self, receiver: str) -> bool:
        """Tell whether a receiver of this name or ``uid`` is connected to any signal."""
        return any(
            is_receiver(receiver, None, connection.options.uid, connection.place)
            for signal in self._app_signals._signals().values()
            for connection in signal.live_connections
        )

    def _with_tree(self, text: str) -> str:
        """Return a text and what was sent."""
        if not self:
            return printable(f"{text}\nNothing was sent in this block.")
        recorded = self._recorded
        lines = list(tree_lines(self._emissions(), lambda each: _text(recorded[each.number][0])))
        sent = textwrap.indent("\n".join(last_lines(lines)), "  ")
        return printable(f"{text}\nSent in this block:\n{sent}")


def _differences(captured: Captured, sender: Any, payload: dict[str, Any]) -> list[str]:
    return [*differences(sender, payload, captured.sender, captured.payload)]


def _text(captured: Captured) -> str:
    """Return an emission with the values of its payload and its sender."""
    values = shown_payload(captured.payload)
    return emission_text(captured.signal, values, shown_sender(captured.sender))


def _described(name: str, sender: Any, payload: dict[str, Any]) -> str:
    """Describe a signal with the expected sender and payload."""
    parts = shown_payload(payload, shown_expected)
    parts += [] if sender is ANY else [f"sender={shown_expected(sender)}"]
    return f"Signal {name!r}{' with ' if parts else ''}{', '.join(parts)}"
