"""``assert_connected()``: a check that a receiver is connected, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from blinker import ANY
from flask import current_app, has_app_context

from ..app.api import Target
from ..core.delivery import Delivery
from ..core.introspection import place_of, receiver_key, sender_key
from ..core.names import is_glob
from ..debug.labels import named
from ..errors import (
    AppContextError,
    NotInitializedError,
    nearest,
    sender_label,
    suggestion,
    type_name,
)
from ..records import IMMEDIATE, OnError, Receiver
from ..settings import EXTENSION

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..core.connection import LiveConnection


class ExpectedOptions(TypedDict, total=False):
    """The options of a connection, as they are given to ``kit.on``."""

    sender: Any
    """The only sender; ``ANY`` of blinker for any sender."""
    priority: int
    """Higher runs first."""
    when: Callable[..., Any] | None
    """The predicate."""
    delivery: str | Delivery
    """A name, or an object with the same settings."""
    on_error: OnError | None
    """The receiver's own failure policy."""
    uid: str | None
    """The stable name."""
    weak: bool
    """Whether the receiver is referenced weakly."""


def assert_connected(
    signal: Target, receiver: Receiver, /, **options: Unpack[ExpectedOptions]
) -> None:
    """Fail unless a receiver is connected to a signal of the current app.

    :param signal: a name or a handle, not a pattern. A receiver that is connected by a pattern
        counts, too.
    :param receiver: the receiver.
    :param options: the options to compare, as they were given to ``kit.on``: ``sender``,
        ``priority``, ``when``, ``delivery``, ``on_error``, ``uid``, ``weak``. Others may differ.
    :raises AssertionError: with the receivers that are connected, and what differs; or for a
        pattern.
    :raises AppContextError: without a current app.

    >>> from flask import Flask
    >>> from flask_signals_kit import SignalsKit
    >>> from flask_signals_kit.testing import assert_connected
    >>> app = Flask("shop")
    >>> kit = SignalsKit(app)
    >>> @kit.on("account_funded", priority=10)
    ... def thank(account, **extra): ...
    >>> with app.app_context():
    ...     assert_connected("account_funded", thank, priority=10)
    """
    __tracebackhide__ = True
    unknown = sorted(options.keys() - ExpectedOptions.__annotations__.keys())
    if unknown:
        raise TypeError(
            f"assert_connected() has no option {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(ExpectedOptions.__annotations__)}."
        )
    app_signals = _current_signals()
    name, key = app_signals._target(signal), receiver_key(receiver)
    if is_glob(name):
        raise AssertionError(
            f"assert_connected() checks one signal, and {name!r} is a pattern: name a signal that "
            "it matches."
        )
    found = [
        [*_differences(connection, options)]
        for connection in _connections(app_signals, name)
        if connection.key[0] == key
    ]
    if [] not in found:
        nearest_one = min(found, key=len, default=None)
        raise AssertionError(_explain(app_signals, name, receiver, nearest_one))


def _current_signals() -> AppSignals:
    if not has_app_context():
        raise AppContextError(
            "assert_connected() needs an app context, because connections belong to an app. Push "
            "one: 'with app.app_context():'."
        )
    app_signals: AppSignals | None = current_app.extensions.get(EXTENSION)
    if app_signals is None:
        raise NotInitializedError(
            f"App {current_app.name!r} has no SignalsKit; call kit.init_app(app) first."
        )
    return app_signals


def _connections(app_signals: AppSignals, name: str) -> Sequence[LiveConnection]:
    """Return the connections of a signal; of an unused one, those by a pattern that matches."""
    if name not in app_signals.namespace and not app_signals.registry.has_connections(name):
        return ()
    return app_signals.namespace.signal(name).live_connections


def _differences(connection: LiveConnection, expected: Mapping[str, Any]) -> Iterator[str]:
    """Yield each option in which a connection differs from what is expected."""
    for option, value in expected.items():
        if option == "delivery":
            yield from _delivery_differences(connection.options.delivery, value)
        elif option == "sender":
            if connection.key[1] != (None if value is ANY else sender_key(value)):
                actual = connection.resolve_sender()
                yield f"sender is {_shown(actual)}, not {_shown(value)}"
        else:
            owner = connection if option == "weak" else connection.options
            actual = getattr(owner, option)
            if actual != value:
                yield f"{option} is {_shown(actual)}, not {_shown(value)}"


def _delivery_differences(actual: Any, expected: Any) -> Iterator[str]:
    """Yield how a delivery differs from an expected one: in its name, or in its attributes."""
    name = IMMEDIATE if actual is None else actual.name
    if isinstance(expected, str):
        if name != expected:
            yield f"delivery is {name!r}, not {expected!r}"
    elif type(actual) is not type(expected):
        yield f"delivery is {name!r}, not {type_name(expected)}"
    else:
        settings = _settings(actual)
        for setting, value in _settings(expected).items():
            if settings.get(setting) != value:
                own = _shown(settings.get(setting))
                yield f"{setting} of its delivery is {own}, not {_shown(value)}"


def _settings(delivery: Any) -> dict[str, Any]:
    """Return the public attributes of a delivery; a session is another object each time."""
    names = getattr(delivery, "__dict__", {}) or getattr(delivery, "__slots__", ())
    public = (name for name in names if not name.startswith("_") and name != "session")
    return {name: getattr(delivery, name) for name in public}


def _shown(value: Any) -> str:
    if value is ANY:
        return "any"
    return str(place_of(value)) if isinstance(value, FunctionType) else sender_label(value)


def _explain(
    app_signals: AppSignals, name: str, receiver: Receiver, differences: list[str] | None
) -> str:
    """Return the text of a failure.

    :param differences: those of the connection that is most similar, or ``None`` without any.
    """
    from ..debug.lock import to_lock
    from ..debug.report import report

    place = place_of(receiver)
    if differences is None:
        reason = f"{place} is not connected to signal {name!r}."
        reason += _near_miss(app_signals, name, receiver)
    else:
        reason = f"{place} is connected to signal {name!r}, but {', '.join(differences)}."
    lines = to_lock(report(app_signals, name))
    if not lines:
        return f"{reason}\nThe signal has no receivers."
    return "\n  ".join([f"{reason}\nConnected, in calling order:", *lines])


def _near_miss(app_signals: AppSignals, name: str, receiver: Receiver) -> str:
    """Return a sentence on the probable intention, or an empty text."""
    key = receiver_key(receiver)
    others = [
        other
        for other in sorted(app_signals.namespace)
        if any(connection.key[0] == key for connection in _connections(app_signals, other))
    ]
    if others:
        return f" It is connected to {', '.join(map(repr, others))}."
    own = named(place_of(receiver))
    near = nearest(own, {named(each.place) for each in _connections(app_signals, name)})
    if near == own:
        return " Another function of this name is connected."
    if near is None and not app_signals.registry.is_declared(name):
        near = app_signals.names.nearest(name)
    return suggestion(near)
