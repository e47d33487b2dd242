"""Sample values of types, for a receiver that a test calls alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)
from uuid import UUID

SIMPLE: Mapping[Any, Any] = {
    NoneType: None,
    bool: True,
    int: 1,
    float: 1.0,
    Decimal: Decimal(1),
    str: "text",
    bytes: b"bytes",
    date: date(2000, 1, 1),
    datetime: datetime(2000, 1, 1, 12, tzinfo=UTC),
    time: time(12),
    timedelta: timedelta(days=1),
    UUID: UUID(int=1),
}
"""The samples of types without parts."""

COLLECTIONS: tuple[Any, ...] = (list, set, frozenset, dict, tuple)
"""What samples of collections are made of; the first one that has the type is used."""


class NoSampleError(Exception):
    """A type that no sample can be built of; its text is the reason, as a part of a sentence."""


class _ContainsItselfError(NoSampleError):
    """A type whose values need another value of the same type."""


def sample(kind: Any, outer: tuple[Any, ...] = ()) -> Any:
    """Return a sample value of a type.

    A collection has one item, unless this would contain itself, as in a tree. Of a union, the first
    type is used that a sample can be built of, and ``None`` only if there is no other. What has a
    default is left out.

    :param kind: the type, as an annotation that has been evaluated.
    :param outer: the types that the sample becomes a part of.
    :raises NoSampleError: if none can be built.

    >>> sample(dict[str, int | None])
    {'text': 1}
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is None:
        return _of_class(kind, outer)
    if origin is Annotated:
        return sample(arguments[0], outer)
    if origin is Literal:
        return arguments[0]
    if origin is Union or origin is UnionType:
        return _of_union(arguments, outer)
    if origin is tuple and arguments[-1:] != (...,):
        return tuple(sample(argument, outer) for argument in arguments)
    if isinstance(origin, type):
        return _of_collection(kind, origin, arguments, outer)
    raise _no_sample(kind)


def is_model(kind: Any) -> bool:
    """Tell whether this is a mapped class of SQLAlchemy."""
    return isinstance(kind, type) and hasattr(kind, "__mapper__")


def why_no_model(kind: type) -> str:
    """Return the reason why there is no sample of a model."""
    return f"{kind.__qualname__} is a model, and its instances belong to a session"


def _of_collection(
    kind: Any, origin: type, arguments: tuple[Any, ...], outer: tuple[Any, ...]
) -> Any:
    """Return a collection of one item; an empty one if it has no type or would contain itself.

    :param kind: the type.
    :param origin: its class.
    :param arguments: the types of its items.
    """
    collection = next((each for each in COLLECTIONS if issubclass(each, origin)), None)
    if collection is None:
        raise _no_sample(kind)
    try:
        items = tuple(sample(each, outer) for each in arguments if each is not ...)
    except _ContainsItselfError:
        items = ()
    try:
        return collection([items] if collection is dict and items else items)
    except TypeError as error:  # an item of a set, or a key, that is not hashable
        raise _refused(kind, error) from error


def _of_class(kind: Any, outer: tuple[Any, ...]) -> Any:
    if kind in SIMPLE:
        return SIMPLE[kind]
    if kind in outer:
        raise _ContainsItselfError(f"{_name(kind)} contains itself")
    outer = (*outer, kind)
    if not isinstance(kind, type):  # NewType; `type Name = ...`, since Python 3.12
        named = getattr(kind, "__supertype__", None) or getattr(kind, "__value__", None)
        if named is None:
            raise _no_sample(kind)
        return sample(named, outer)
    if is_model(kind):
        raise NoSampleError(why_no_model(kind))
    if kind in COLLECTIONS or kind.__module__ == "collections.abc":
        return _of_collection(kind, kind, (), outer)
    if issubclass(kind, Enum) and len(kind):
        return next(iter(kind))
    required = _required(kind)
    if required is None:
        raise _no_sample(kind)
    return _make(kind, required, outer)


def _required(kind: Any) -> list[str] | None:
    """Return the names that a value of a class needs; ``None`` for a class that is not known."""
    if is_typeddict(kind):
        return sorted(kind.__required_keys__)
    if is_dataclass(kind):
        return [
            field.name
            for field in fields(kind)
            if field.init and field.default is MISSING and field.default_factory is MISSING
        ]
    if issubclass(kind, tuple):
        defaults = getattr(kind, "_field_defaults", {})
        return [name for name in getattr(kind, "_fields", ()) if name not in defaults]
    return None


def _make(kind: Any, required: list[str], outer: tuple[Any, ...]) -> Any:
    """Return an instance of a class, with samples for the names that it needs."""
    try:
        hints = get_type_hints(kind)
    except NameError as error:
        reason = f"{kind.__qualname__} has a type that does not exist at run time"
        raise NoSampleError(f"{reason}: {error}") from error
    values = {name: sample(hints.get(name, Any), outer) for name in required}
    try:
        return kind(**values)
    except Exception as error:
        raise _refused(kind, error) from error


def _of_union(kinds: tuple[Any, ...], outer: tuple[Any, ...]) -> Any:
    """Return a sample of the first type that one can be built of; ``None`` comes last."""
    failures: list[NoSampleError] = []
    for kind in sorted(kinds, key=lambda kind: kind is NoneType):
        try:
            return sample(kind, outer)
        except NoSampleError as error:
            failures.append(error)
    raise failures[0]


def _no_sample(kind: Any) -> NoSampleError:
    return NoSampleError(f"no sample of {_name(kind)} can be built")


def _refused(kind: Any, error: Exception) -> NoSampleError:
    return NoSampleError(f"{_name(kind)} does not accept its sample: {error}")


def _name(kind: Any) -> str:
    is_class = isinstance(kind, type) and get_origin(kind) is None
    return kind.__qualname__ if is_class else str(kind)
