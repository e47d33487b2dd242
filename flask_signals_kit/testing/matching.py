"""How an assertion compares what a test expects with what was sent."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from blinker import ANY

from ..core.introspection import place_of, receiver_key, unwrap
from ..debug.labels import label, named, short_file
from ..errors import type_name

if TYPE_CHECKING:
    from ..records import Place, Receiver

_WIDTH = 80

_reprs = reprlib.Repr()
_reprs.maxstring = _reprs.maxother = _reprs.maxlong = _WIDTH


def shown(value: Any) -> str:
    """Return a short ``repr`` of a value; that of a predicate is its name and place."""
    if is_predicate(value):
        place = place_of(value)
        return f"{place.name} ({label(place, short_file)})"
    return _reprs.repr(value)


def shown_sender(sender: Any) -> str:
    """Return the type of a sender and its short ``repr``."""
    kind = "" if isinstance(sender, (str, int, type(None))) else f"{type_name(sender)} "
    return f"{kind}{_reprs.repr(sender)}"


def shown_payload(payload: Mapping[str, Any]) -> list[str]:
    """Return each value of a payload as it is passed by name."""
    return [f"{name}={shown(value)}" for name, value in payload.items()]


def is_predicate(expected: Any) -> bool:
    """Tell whether an expected value is called with the value that was sent."""
    return callable(expected) and not isinstance(expected, type)


def agrees(expected: Any, actual: Any) -> bool:
    """Tell whether a value that was sent is what a test expects.

    :param expected: a value that is equal, such as ``unittest.mock.ANY`` or ``pytest.approx(1)``;
        an instance of a model for the same row, because a request loads its own; or a predicate,
        which returns ``True`` for it. A truthy result is not enough: a mock is callable as well.
    """
    if expected == actual or _is_same_row(expected, actual):
        return True
    return is_predicate(expected) and expected(actual) is True


def _is_same_row(expected: Any, actual: Any) -> bool:
    """Tell whether two instances of an SQLAlchemy model stand for the same row."""
    states = [getattr(value, "_sa_instance_state", None) for value in (expected, actual)]
    keys = [getattr(state, "key", None) for state in states]
    return keys[0] is not None and keys[0] == keys[1]


def differences(
    sender: Any, payload: Mapping[str, Any], sent_by: Any, sent: Mapping[str, Any]
) -> Iterator[str]:
    """Yield in which fields an emission is not what a test expects, in words.

    :param sender: the expected sender, or ``ANY``.
    :param payload: the expected part of the payload.
    :param sent_by: the sender.
    :param sent: the payload.
    """
    if sender is not ANY and not agrees(unwrap(sender), sent_by):
        yield _difference("sender", sender, sent_by)
    for name, expected in payload.items():
        if name not in sent:
            yield f"{name} is missing"
        elif not agrees(expected, sent[name]):
            yield _difference(name, expected, sent[name])


def _difference(name: str, expected: Any, actual: Any) -> str:
    if is_predicate(expected):
        return f"{name} is {shown(actual)}, for which {shown(expected)} does not return True"
    return f"{name} is {shown(actual)}, not {shown(expected)}"


def is_receiver(wanted: Receiver | str, key: Hashable, uid: str | None, place: Place) -> bool:
    """Tell whether a test means a receiver.

    :param wanted: the receiver, its ``uid``, or its module and name.
    :param key: the key of the receiver.
    :param uid: its ``uid``.
    :param place: its place.
    """
    if isinstance(wanted, str):
        return wanted in {uid, named(place)}
    return receiver_key(wanted) == key


def receiver_label(wanted: Receiver | str) -> str:
    """Return how a test names a receiver."""
    return repr(wanted) if isinstance(wanted, str) else str(place_of(wanted))
