"""Source code on the page: links that open an editor, and the code of a receiver."""

from __future__ import annotations

import inspect
import linecache
import re
import textwrap
import tokenize
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ..labels import Located

SOURCE_LINES = 80
"""The most lines of a function that are shown."""

_ABSOLUTE = re.compile(r"/|(?P<windows>[A-Za-z]:[\\/]|\\\\)")
"""The start of an absolute path, on any system."""

_FUNCTION = re.compile(r"\s*(@|(async\s+)?def\s)|[^#]*\blambda\b")
"""The first line of a function, which may be a decorator."""


def editor_url(pattern: str | None, place: Located) -> str | None:
    """Return the URL that opens a place in an editor.

    :param pattern: the URL with ``{file}`` and ``{line}``; ``None`` without an editor.
    :param place: the file and the line; without a line, the URL leads to the first one.
    :return: ``None`` also if the place has no absolute path, as in ``<string>``.
    """
    path = place.file or ""
    absolute = _ABSOLUTE.match(path)
    if pattern is None or absolute is None:
        return None
    if absolute["windows"]:
        path = path.replace("\\", "/")
    if path.startswith("/"):  # "edit://{file}" has no host, and needs the slash
        pattern = re.sub(r"(?<!:/)/\{file\}", "{file}", pattern)
    file = quote(path, safe="/:", errors="backslashreplace")
    return pattern.replace("{line}", str(place.line or 1)).replace("{file}", file)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """The code of a function."""

    text: str
    """Its first lines, without the indentation that they have in common."""
    shown: int
    """The number of these lines."""
    total: int
    """The number of all its lines."""


def source(place: Located) -> Source | None:
    """Return the code of the function that begins at a place, with its decorators.

    It is read from the file, so it is what the file contains now. The function itself is not used.

    :return: ``None`` for code without a Python file, for a file that cannot be read, and if no
        function begins at that line any more.
    """
    file, line = place.file, place.line
    if file is None or line is None or not file.endswith(".py") or not Path(file).is_absolute():
        return None
    linecache.checkcache(file)
    lines = linecache.getlines(file)[line - 1 :]
    if not lines or not _FUNCTION.match(lines[0]):
        return None
    try:
        block = inspect.getblock(lines)
    except (SyntaxError, tokenize.TokenError):  # a lambda within an expression of several lines
        block = lines[:1]
    text = textwrap.dedent("".join(block[:SOURCE_LINES]))
    return Source(text=text, shown=min(len(block), SOURCE_LINES), total=len(block))
