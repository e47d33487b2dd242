"""The text in which a message stores its sender and payload, and how both are read again.

Values become JSON by msgspec, and get back the types that the declaration states. A model instance
is stored as its class and primary key, and loaded again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec
from sqlalchemy import inspect
from sqlalchemy.orm import Mapper

from ...core.introspection import sender_behind
from ...errors import PayloadError, type_name
from ...records import SENDER, Place

_EXACT = frozenset({str, int, bool})
"""The types whose values JSON keeps, if it can encode them."""

APP = "app"
"""Stands for the app as the sender."""

Hints: TypeAlias = Mapping[str, Any]
"""The types of the sender and the payload, by name, as far as they are declared and importable."""

Load: TypeAlias = Callable[[type, Any], Any]
"""Loads a model instance by its class and primary key; returns ``None`` if there is none."""


class Headers(msgspec.Struct, omit_defaults=True):
    """What a message stores besides its payload."""

    id: str
    """The id of the message, which is also the idempotency key."""
    correlation: str
    """The id of the first message of a chain."""
    sent_at: float
    """When the signal was sent, in seconds since the epoch."""
    sender: str
    """The type of the sender."""
    causation: str | None = None
    """The id of the message whose receiver sent this one."""
    request: str | None = None
    """The method and path of the request that it was sent in."""
    site: tuple[str, str, str | None, int | None] | None = None
    """Module, name, file and line of the send."""
    version: int = 1
    """The version of the declaration."""
    traceparent: str | None = None
    """The trace that the send belongs to, as in the HTTP header of that name."""
    spent: int = 0
    """The attempts that do not count: those before a command retried it, and those in other
    releases of the app, which lack its receiver or its version."""
    missed: int = 0
    """How often in a row it was begun by such a release."""

    def to_text(self) -> str:
        """Return it as text."""
        return msgspec.json.encode(self).decode()

    def renewed(self, attempt: int) -> Headers:
        """Return the headers of a message that gets as many attempts as a new one.

        :param attempt: how often it has run.
        """
        return msgspec.structs.replace(self, spent=attempt, missed=0)

    def after_miss(self) -> Headers:
        """Return the headers of a message that was begun by a release that cannot run it."""
        return msgspec.structs.replace(self, spent=self.spent + 1, missed=self.missed + 1)

    def after_run(self) -> Headers:
        """Return the headers after a run that has found the receiver: ``missed`` is 0 again."""
        return msgspec.structs.replace(self, missed=0)

    @classmethod
    def from_text(cls, text: str) -> Headers | None:
        """Read it from text; return ``None`` if the text is damaged."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError:
            return None


class Values(msgspec.Struct, omit_defaults=True):
    """The sender and the payload."""

    values: dict[str, msgspec.Raw]
    """JSON by name; for a model instance, the primary key."""
    models: dict[str, str] = {}
    """The class of each model instance, such as ``shop.models:Account``."""


def encode(signal: str, app: Any, sender: Any, payload: dict[str, Any], hints: Hints) -> str:
    """Return sender and payload as text.

    :param signal: the signal's name, for errors.
    :param app: the app, which may be the sender.
    :param hints: their declared types.
    :raises PayloadError: naming the value that cannot be stored.
    """
    models: dict[str, str] = {}
    if SENDER in payload:
        raise PayloadError(
            f"Signal {signal!r} was sent with a payload named 'sender', which the message of a "
            "durable receiver cannot have: rename it."
        )
    values: dict[str, Any] = {SENDER: sender, **payload}
    for name, given in values.items():
        kind = type(given)
        if kind in _EXACT and hints.get(name, kind) is kind:
            continue
        value = sender_behind(given)  # of a LocalProxy
        if value is None:
            values[name] = None
        elif name == SENDER and value is app:
            values[name], models[name] = None, APP
        elif hasattr(value, "_sa_instance_state"):
            values[name], models[name] = _encode_model(signal, name, value)
        else:
            values[name] = _encode_value(signal, name, value, hints)
    try:
        return msgspec.json.encode(Values(values=values, models=models)).decode()
    except ValueError:  # a text with surrogates, or an integer of thousands of digits
        for name, value in values.items():
            if type(value) in _EXACT:
                _encode_value(signal, name, value, hints)
        raise


def _encode_model(signal: str, name: str, value: Any) -> tuple[msgspec.Raw, str]:
    state, kind = inspect(value), type(value)
    identity = state.identity
    if identity is None and state.session is not None:  # in an event of SQLAlchemy's flush
        found = tuple(state.mapper.primary_key_from_instance(value))
        identity = None if None in found else found
    if identity is None:
        raise _refused(signal, name, value, "is not stored yet: add it to the session")
    path = f"{kind.__module__}:{kind.__qualname__}"
    if _class_at(path) is not kind:
        raise _refused(signal, name, value, f"could not be loaded again: {path} is no class")
    try:
        raw = msgspec.Raw(msgspec.json.encode(identity))
        is_same = _is_same(_key_of(state.mapper, raw), tuple(identity))
    except Exception:  # noqa: BLE001  not "from" it: its text may contain the value
        raise _refused(signal, name, value, "has a primary key that is no JSON") from None
    if not is_same:
        why = "has a primary key that would not keep its type: give the column's type a python_type"
        raise _refused(signal, name, value, why)
    return raw, path


def _class_at(path: str) -> Any:
    """Return what is at a path such as ``shop.models:Account``, in modules that are imported."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _encode_value(signal: str, name: str, value: Any, hints: Hints) -> msgspec.Raw:
    """Return a value as JSON, after a check that the same can be read again."""
    try:
        raw = msgspec.json.encode(value)
        if _is_same(msgspec.json.decode(raw, type=hints.get(name, Any)), value):
            return msgspec.Raw(raw)
    except Exception:  # noqa: BLE001  as above
        why = f"cannot be stored as JSON{_declared(name, hints)}"
        raise _refused(signal, name, value, why) from None
    how = _declared(name, hints) or (
        ": declare it by @kit.declare, with a type that can be imported at run time"
    )
    raise _refused(signal, name, value, f"would not keep its type or value{how}")


def _declared(name: str, hints: Hints) -> str:
    return f"; it is declared as {_shown(hints[name])}" if name in hints else ""


def _is_same(read: Any, value: Any) -> bool:
    """Tell whether what was read is what was stored, also inside of collections and records."""
    if type(read) is not type(value):
        numbers = (int, float, Decimal)  # an integer may stand for the others
        return type(value) is int and type(read) in numbers and bool(read == value)
    if type(value) in _PLAIN:
        return bool(read == value)
    parts = _parts(value)
    if parts is not None:
        others = _parts(read) or []
        return len(others) == len(parts) and all(map(_is_same, others, parts))
    if isinstance(value, datetime):  # == is false between zones in a repeated hour (PEP 495)
        return [read.replace(tzinfo=None), read.utcoffset()] == [
            value.replace(tzinfo=None),
            value.utcoffset(),
        ]
    if isinstance(value, AbstractSet):
        return bool(read == value) and {*map(type, read)} == {*map(type, value)}
    return bool(read == value)


_PLAIN = frozenset({str, int, float, bool, type(None), Decimal})
"""Types without parts, compared first because they are the most frequent."""


def _parts(value: Any) -> list[Any] | None:
    """Return what a collection or a record consists of, in its order; ``None`` for other values."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        return list(value)
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, msgspec.Struct):
        return list(msgspec.structs.astuple(value))
    return None


def _shown(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) else str(hint)


def _refused(signal: str, name: str, value: Any, why: str) -> PayloadError:
    what = "The sender" if name == SENDER else f"Payload {name!r}"
    advice = "Send a text, a number, a type that is declared, or a model instance."
    return PayloadError(
        f"{what} of signal {signal!r} is {type_name(value)}, which {why}. It has a durable "
        f"receiver, so it must be stored. {advice}"
    )


def names_in(text: str) -> tuple[str, ...]:
    """Return the names in a stored payload; none if it is damaged."""
    try:
        names = msgspec.json.decode(text, type=Values).values
    except msgspec.MsgspecError:
        return ()
    return tuple(name for name in names if name != SENDER)


def site_of(headers: Headers) -> Place | None:
    """Return the place where a message was sent."""
    if headers.site is None:
        return None
    module, name, file, line = headers.site
    return Place(module=module, name=name, file=file, line=line)


def decode(
    text: str, app: Any, hints: Hints, load: Load, upgrade: Callable[[dict[str, Any]], Any] | None
) -> tuple[Any, dict[str, Any]]:
    """Return the sender and the payload of a message.

    :param upgrade: changes a payload that an old version has stored; ``None`` for the current one.
    :raises PayloadError: if it cannot be read, or a model instance does not exist any more.
    """
    try:
        stored = msgspec.json.decode(text, type=Values)
    except msgspec.MsgspecError as error:
        raise PayloadError(f"The stored payload is damaged: {error}.") from error
    values: dict[str, Any] = dict(stored.values)
    if upgrade is not None:
        values = _upgraded(values, stored.models, upgrade)
    read = {
        name: _decode_value(name, value, app, hints, load, stored.models.get(name))
        for name, value in values.items()
    }
    return read.pop(SENDER, None), read


def _upgraded(
    values: dict[str, Any], models: dict[str, str], upgrade: Callable[[dict[str, Any]], Any]
) -> dict[str, Any]:
    kept = {name: raw for name, raw in values.items() if name in models or name == SENDER}
    old = {name: msgspec.json.decode(raw) for name, raw in values.items() if name not in kept}
    new = upgrade(old)
    if not isinstance(new, dict):
        raise PayloadError(f"The upgrade of the payload returned {type_name(new)}, not a dict.")
    return {**kept, **new}


def _decode_value(
    name: str, value: Any, app: Any, hints: Hints, load: Load, model: str | None
) -> Any:
    if model == APP:
        return app
    mapper = None if model is None else _mapper_at(model)
    try:
        if mapper is not None:
            key = _key_of(mapper, value)
        elif not isinstance(value, msgspec.Raw):
            return msgspec.convert(value, hints.get(name, Any), strict=False)
        elif bytes(value) == b"null":
            return None
        else:
            return msgspec.json.decode(value, type=hints.get(name, Any))
    except (msgspec.MsgspecError, ValueError) as error:
        what = "sender" if name == SENDER else f"payload {name!r}"
        reason = _without_value(error)
        # Not "from error": its text may contain a value, and it would be logged.
        raise PayloadError(f"The stored {what} does not match its declaration{reason}.") from None
    found = load(mapper.class_, key)
    if found is None:
        raise PayloadError(f"The instance of {model} that was sent does not exist any more.")
    return found


_WITHOUT_VALUE = ("Expected `", "Object missing required field")
"""How those texts of msgspec begin that state types and names only."""


def _without_value(error: Exception) -> str:
    """Return the text of an error; nothing if it may contain a value: it is stored and shown."""
    text = str(error)
    return f": {text}" if text.startswith(_WITHOUT_VALUE) else ""


def _mapper_at(path: str) -> Any:
    """Return the mapper of a model."""
    mapper = inspect(_class_at(path), raiseerr=False)
    if not isinstance(mapper, Mapper):
        raise PayloadError(f"There is no model {path!r} any more; it was the class of an instance.")
    return mapper


def _key_of(mapper: Any, raw: msgspec.Raw) -> tuple[Any, ...]:
    """Return a stored primary key, with the types of its columns."""
    stored = msgspec.json.decode(raw, type=list[Any])
    types = [_python_type(column) for column in mapper.primary_key]
    return tuple(
        msgspec.convert(part, kind, strict=False) for part, kind in zip(stored, types, strict=True)
    )


def _python_type(column: Any) -> Any:
    try:
        return column.type.python_type
    except NotImplementedError:  # a type of the database's own
        return Any
