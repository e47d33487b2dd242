"""How an assertion compares what a test expects with what was sent."""

from __future__ import annotations

import functools
import inspect
import reprlib
from collections.abc import Callable, Hashable, Iterator, Mapping
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
    """Return a short ``repr`` of a value that was sent."""
    return _reprs.repr(value)


def shown_expected(expected: Any) -> str:
    """Return a short ``repr`` of an expected value; that of a predicate is its name and place."""
    place = place_of(expected) if is_predicate(expected) else None
    if place is None or place.file is None:
        return shown(expected)
    return f"{place.name} ({label(place, short_file)})"


def shown_sender(sender: Any) -> str:
    """Return the type of a sender and its short ``repr``."""
    kind = "" if isinstance(sender, (str, int, type(None))) else f"{type_name(sender)} "
    return f"{kind}{_reprs.repr(sender)}"


def shown_payload(payload: Mapping[str, Any], show: Callable[[Any], str] = shown) -> list[str]:
    """Return each value of a payload as it is passed by name."""
    return [f"{name}={show(value)}" for name, value in payload.items()]


def is_predicate(expected: Any) -> bool:
    """Tell whether an expected value is called with the value that was sent.

    Functions are, also methods, builtins and partials; other objects that can be called are values.
    """
    return inspect.isroutine(expected) or isinstance(expected, functools.partial)


def agrees(expected: Any, actual: Any) -> bool:
    """Tell whether a value that was sent is what a test expects.

    :param expected: a value that is equal, such as ``unittest.mock.ANY`` or ``pytest.approx(1)``;
        an instance of a model for the same row, because a request loads its own; or a predicate,
        which returns ``True`` for it. A function that was sent equals itself.
    """
    if not is_predicate(expected):
        # First whether it is the same object: an array has no truth value when it is compared.
        return expected is actual or bool(expected == actual) or _is_same_row(expected, actual)
    return (is_predicate(actual) and expected == actual) or expected(actual) is True


def matches(sender: Any, payload: Mapping[str, Any], sent_by: Any, sent: Mapping[str, Any]) -> bool:
    """Tell whether an emission is what a test expects.

    Parameters are those of :func:`differences`.

    :raises Exception: what a predicate or a comparison raised.
    """
    by_sender = sender is ANY or agrees(unwrap(sender), sent_by)
    return by_sender and all(
        name in sent and agrees(expected, sent[name]) for name, expected in payload.items()
    )


def _is_same_row(expected: Any, actual: Any) -> bool:
    """Tell whether two instances of an SQLAlchemy model stand for the same row."""
    states = [getattr(value, "_sa_instance_state", None) for value in (expected, actual)]
    if any(getattr(state, "was_deleted", False) for state in states):
        return False  # another row may have its key now
    keys = [getattr(state, "key", None) for state in states]
    return keys[0] is not None and keys[0] == keys[1]


def differences(
    sender: Any, payload: Mapping[str, Any], sent_by: Any, sent: Mapping[str, Any]
) -> Iterator[str]:
    """Yield in which fields an emission is not what a test expects, in words.

    A value that cannot be compared is another one.

    :param sender: the expected sender, or ``ANY``.
    :param payload: the expected part of the payload.
    :param sent_by: the sender.
    :param sent: the payload.
    """
    if sender is not ANY:
        yield from _difference("sender", unwrap(sender), sent_by)
    for name, expected in payload.items():
        if name in sent:
            yield from _difference(name, expected, sent[name])
        else:
            yield f"{name} is missing"


def _difference(name: str, expected: Any, actual: Any) -> Iterator[str]:
    """Yield how a value differs from an expected one; nothing if it agrees."""
    wanted = shown_expected(expected)
    try:
        if agrees(expected, actual):
            return
    except Exception as error:  # noqa: BLE001  the code of a test or of a value
        what = (
            f"for which {wanted}" if is_predicate(expected) else f"whose comparison with {wanted}"
        )
        yield f"{name} is {shown(actual)}, {what} raised {type_name(error)}: {error}"
        return
    if is_predicate(expected):
        yield f"{name} is {shown(actual)}, for which {wanted} does not return True"
    else:
        yield f"{name} is {shown(actual)}, not {wanted}"


def is_receiver(wanted: Receiver | str, key: Hashable, uid: str | None, place: Place) -> bool:
    """Tell whether a receiver is the wanted one.

    :param wanted: the receiver, its ``uid``, or its module and name.
    :param key: the key of the receiver.
    :param uid: its ``uid``.
    :param place: its place.
    """
    if isinstance(wanted, str):
        return wanted in {uid, named(place)}
    # The key may be that of a receiver which was freed, and its address used again.
    return receiver_key(wanted) == key and place_of(wanted) == place


def receiver_label(wanted: Receiver | str) -> str:
    """Return how a test names a receiver."""
    return repr(wanted) if isinstance(wanted, str) else str(place_of(wanted))
