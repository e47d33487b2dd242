"""How the tests of the manual read its pages."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

_CELL = re.compile(r"(?<!\\)\|")


def text_of(name: str) -> str:
    """Return a page, by its path from the project's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def table(name: str, *header: str) -> list[list[str]]:
    """Return the rows of the one table of a page whose header begins with these cells."""
    tables: list[list[list[str]]] = []
    previous = ""
    for line in text_of(name).splitlines():
        if line.startswith("|"):
            if not previous.startswith("|"):
                tables.append([])
            tables[-1].append([cell.strip() for cell in _CELL.split(line)[1:-1]])
        previous = line
    [rows] = [rows for rows in tables if rows[0][: len(header)] == list(header)]
    return rows[2:]


_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name: str, language: str) -> list[str]:
    """Return the visible blocks of a page in a language, without interactive sessions."""
    found = [text for each, text in _BLOCK.findall(text_of(name)) if each == language]
    return [text for text in found if not text.startswith(">>> ")]


def code_in(cell: str) -> list[str]:
    """Return what stands between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)
