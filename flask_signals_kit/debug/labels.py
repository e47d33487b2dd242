"""Texts for places, docstrings and durations, as the page and the commands show them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from ..records import ASKED

if TYPE_CHECKING:
    from ..records import Place

plain: Callable[[str], str] = str.__str__
"""Returns a plain ``str``: a template would not escape a subclass like Markup."""


def near_file(file: str) -> str:
    """Return a source file relative to the working directory, if it is inside."""
    return _without_root(file, (_working_directory(),))


def short_file(file: str) -> str:
    """Return a source file relative to the folder that it is imported from."""
    return _without_root(file, (_working_directory(), *sys.path))


@lru_cache(maxsize=1024)  # one file has many receivers
def _without_root(file: str, roots: tuple[str, ...]) -> str:
    folders = [root.rstrip(os.sep) + os.sep for root in roots if root]
    return file.removeprefix(max(filter(file.startswith, folders), key=len, default=""))


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  called for each receiver; Path is ten times slower
    except OSError:  # it has been removed
        return ""


class Located(Protocol):
    """An object with a place in the source code."""

    @property
    def file(self) -> str | None:
        """The file, or ``None`` for code without a file."""

    @property
    def line(self) -> int | None:
        """The line in it."""


def label(thing: Located, shorten: Callable[[str], str]) -> str:
    """Return ``file:line``, or an empty string for code without a file."""
    if thing.file is None:
        return ""
    return shorten(thing.file) if thing.line is None else f"{shorten(thing.file)}:{thing.line}"


def named(place: Place) -> str:
    """Return the importable name of a place, without its file."""
    return f"{place.module}.{place.name}"


_CODE = re.compile(r"``(.+?)``|(?::[\w:+-]{1,80}:)?(?<!`)`([^`]+)`(?!`)")


def doc_parts(doc: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a docstring, each with whether it is code, enclosed in backticks.

    >>> list(doc_parts("See :func:`send`."))
    [('See ', False), ('send', True), ('.', False)]
    """
    end = 0
    for found in _CODE.finditer(doc):
        yield doc[end : found.start()], False
        yield found[1] or found[2], True
        end = found.end()
    yield doc[end:], False


def duration(seconds: float) -> str:
    """Return a duration with a readable unit, such as ``"1.2 ms"``."""
    value, unit = seconds, "s"
    for factor, smaller in ((1e6, "µs"), (1e3, "ms")):
        if seconds * factor < 999.5:  # noqa: PLR2004  more would be rounded to 1,000
            value, unit = seconds * factor, smaller
            break
    return f"{value:,.{1 if value < 9.95 else 0}f} {unit}"  # noqa: PLR2004  the same for 10


def clock(seconds: float) -> str:
    """Return a time since the epoch as the local time of day, with milliseconds."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S.%f")[:-3]


def moment(seconds: float) -> str:
    """Return a time since the epoch as :func:`clock` does, with the date if it is not today."""
    found = datetime.fromtimestamp(seconds).astimezone()
    today = datetime.now().astimezone().date()
    return clock(seconds) if found.date() == today else found.strftime("%Y-%m-%d %H:%M:%S")


def brief_moment(seconds: float) -> str:
    """Return a time as :func:`moment` does, without milliseconds."""
    return moment(seconds).partition(".")[0]


_UNITS = (("day", 86_400), ("h", 3600), ("min", 60))


def age(seconds: float) -> str:
    """Return a long duration with one unit, such as ``"3 min"``."""
    for unit, length in _UNITS:
        count = int(seconds // length)
        if count:
            return f"{count:,} {unit}" + ("s" if unit == "day" and count > 1 else "")
    return f"{int(seconds)} s"


_VALUES = frozenset({bool, float, int, str, type(None)})
"""The types that are JSON types."""


def to_json(value: Any) -> Any:
    """Return a record, a tuple or a plain value as JSON types; the fields of a record are likewise.

    This is several times as fast as ``asdict``.
    """
    kind: type = type(value)
    if kind in _VALUES:
        return value
    if kind is tuple:
        return [to_json(each) for each in value]
    names = _names_of(kind)
    return {name: to_json(getattr(value, name)) for name in names} if names else value


@cache
def _names_of(kind: type) -> tuple[str, ...]:
    """Return the names of the fields of a record; those of other types are none."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


_ERROR = re.compile(rf"(?:[\w.<>]+|{ASKED}) at (?P<place>.+:\d+)")


def short_error(text: str) -> str:
    """Return the error of a message with a short file.

    :param text: type and place, such as ``KeyError at /srv/shop/ledger.py:7``; or another text.
    """
    found = _ERROR.fullmatch(text)
    return text[: found.start("place")] + short_file(found["place"]) if found else text
