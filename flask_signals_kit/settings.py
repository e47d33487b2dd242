"""The table of every ``SIGNALS_KIT_*`` key, and the frozen record that they are read into.

Also the key of ``app.extensions``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from .errors import ConfigurationError, DeclarationError, did_you_mean
from .records import OnError

PREFIX = "SIGNALS_KIT_"

EXTENSION = "signals_kit"
"""The key of the app's signals in ``app.extensions``."""

ON_ERROR: tuple[OnError, ...] = get_args(OnError)
"""Every failure policy."""


def check_on_error(on_error: Any, owner: str, default: str) -> OnError | None:
    """Return the failure policy of a signal or a receiver, or ``None`` if it has none.

    :param on_error: the given ``on_error``.
    :param owner: the signal or receiver, as the error names it.
    :param default: the default policy, as the error names it.
    :raises DeclarationError: for an unknown policy, naming those that exist.
    """
    if on_error is None or (isinstance(on_error, str) and on_error in ON_ERROR):
        return on_error
    shown = repr(on_error) if isinstance(on_error, str) else type(on_error).__name__
    raise DeclarationError(
        f"{owner} has on_error={shown}; use one of {', '.join(map(repr, ON_ERROR))}, "
        f"or omit it for {default}."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One app's settings; ``None`` means "in debug and testing", resolved as the app starts."""

    strict: bool = False
    """Refuse undeclared signal names."""
    on_error: OnError = "raise"
    """The failure policy of signals without a policy of their own."""
    validate: bool | None = None
    """Check the payload's names against the declaration at each send."""
    page: bool | None = None
    """Serve the page. Outside debug and testing it also needs ``page_auth``."""
    page_url: str = "/_signals"
    """The path of the page."""
    journal: bool | None = None
    """Count calls and failures, and record the last emissions."""
    journal_size: int = 1000
    """The number of emissions that are recorded."""
    imports: tuple[str, ...] = ()
    """Modules to import at ``init_app``, so that their receivers are connected."""
    engine: str = "embedded"
    """What runs durable receivers."""
    editor: str | None = None
    """The URL that opens a file in an editor, with ``{file}`` and perhaps ``{line}``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setting:
    """One row of the table: the field that a key fills, and the check of its value."""

    key: str
    """The key in ``app.config``."""
    field: str
    """The field of :class:`Settings` that it fills."""
    expects: str
    """The valid values, for the error message."""
    read: Callable[[Any], Any]
    """Turn a configured value into the field's value; raise ``ValueError`` if it is invalid."""
    environment: str | None = None
    """An example of the value in an environment variable; ``None`` if it is plain text."""


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _optional_flag(value: Any) -> bool | None:
    return None if value is None else _flag(value)


def _on_error(value: Any) -> Any:
    if not isinstance(value, str) or value not in ON_ERROR:
        raise ValueError
    return value


_PATH = r"(/(?!\.\.?(/|$))[\w.~-]+)+"
"""Paths of letters of any language and characters that need no quoting, without dot segments."""


def _url(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(_PATH, path := value.rstrip("/")):
        raise ValueError
    return path


LARGEST_JOURNAL = 100_000


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_JOURNAL:
        raise ValueError
    return value


def _modules(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise ValueError
    for name in value:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise ValueError
    return tuple(value)


EDITORS = {
    "vscode": "vscode://file/{file}:{line}",
    "pycharm": "pycharm://open?file={file}&line={line}",
    "sublime": "subl://open?url=file:///{file}&line={line}",
}
"""The URLs of editors. For a file that begins with a slash, ``/{file}`` has no second one."""

_EDITOR_URL = r"(?i)(?!(javascript|data|vbscript):)[a-z][a-z\d+.-]*:[!-~]+"
"""Absolute URLs that do not run code; browsers ignore spaces and line breaks in others."""


def _editor(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError
    url = EDITORS.get(value, value)
    filled = url.replace("{file}", "file").replace("{line}", "line")
    if "{file}" not in url or set("{}") & set(filled) or not re.fullmatch(_EDITOR_URL, url):
        raise ValueError
    return url


ENGINES = ("embedded", "celery", "none")


def _engine(value: Any) -> str:
    if not isinstance(value, str) or value not in ENGINES:
        raise ValueError
    return value


TABLE: tuple[Setting, ...] = (
    Setting(
        key="SIGNALS_KIT_STRICT",
        field="strict",
        expects="True or False",
        read=_flag,
        environment="true",
    ),
    Setting(
        key="SIGNALS_KIT_ON_ERROR",
        field="on_error",
        expects="one of 'raise', 'group', 'isolate'",
        read=_on_error,
    ),
    Setting(
        key="SIGNALS_KIT_VALIDATE",
        field="validate",
        expects="True, False or None",
        read=_optional_flag,
        environment="true",
    ),
    Setting(
        key="SIGNALS_KIT_PAGE",
        field="page",
        expects="True, False or None",
        read=_optional_flag,
        environment="true",
    ),
    Setting(
        key="SIGNALS_KIT_PAGE_URL",
        field="page_url",
        expects="a path such as '/_signals', of parts that are letters, digits and '-._~', but not "
        "'.' or '..' alone",
        read=_url,
    ),
    Setting(
        key="SIGNALS_KIT_JOURNAL",
        field="journal",
        expects="True, False or None",
        read=_optional_flag,
        environment="true",
    ),
    Setting(
        key="SIGNALS_KIT_JOURNAL_SIZE",
        field="journal_size",
        expects=f"a whole number from 1 to {LARGEST_JOURNAL}",
        read=_size,
        environment="1000",
    ),
    Setting(
        key="SIGNALS_KIT_IMPORT",
        field="imports",
        expects="a list of module names such as ['shop.onboarding']",
        read=_modules,
        environment="""'["shop.onboarding"]'""",
    ),
    Setting(
        key="SIGNALS_KIT_ENGINE",
        field="engine",
        expects="one of 'embedded', 'celery', 'none'",
        read=_engine,
    ),
    Setting(
        key="SIGNALS_KIT_EDITOR",
        field="editor",
        expects=f"None, one of {', '.join(map(repr, EDITORS))}, or a URL with {{file}} and perhaps "
        "{line}, such as 'vscode-insiders://file/{file}:{line}', but not of 'javascript:' or "
        "'data:'",
        read=_editor,
    ),
)


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Read the ``SIGNALS_KIT_*`` keys of an app's config.

    :param config: ``app.config``; it is not changed.
    :raises ConfigurationError: for an unknown key with the prefix, an invalid value, or a setting
        nested in a dictionary.

    >>> read_settings({"SIGNALS_KIT_STRICT": True}).strict
    True
    """
    known = {row.key: row for row in TABLE}
    values: dict[str, Any] = {}
    for key, value in config.items():
        if key.startswith("SIGNALS") and isinstance(value, Mapping):
            _refuse_nested(key, value, known)
        if not key.startswith(PREFIX):
            continue
        row = known.get(key)
        if row is None:
            raise _unknown_key(key, key, known)
        try:
            values[row.field] = row.read(value)
        except ValueError:
            raise ConfigurationError(_bad_value(row, value)) from None
    return Settings(**values)


def _unknown_key(key: str, name: str, known: Collection[str]) -> ConfigurationError:
    return ConfigurationError(
        f"app.config[{key!r}] is not a setting of flask_signals_kit."
        f"{did_you_mean(name, known)} The settings are {', '.join(sorted(known))}."
    )


def _refuse_nested(key: str, value: Mapping[Any, Any], known: Collection[str]) -> None:
    """Refuse settings in a dictionary, which for example ``FLASK_SIGNALS_KIT__STRICT`` creates."""
    flat = list(_flat_names(key, value))
    for name in flat:
        if name in known:
            raise ConfigurationError(
                f"app.config[{key!r}] is a dictionary, but settings are not nested: set "
                f"app.config[{name!r}]. In the environment that is FLASK_{name}, with single "
                "underscores."
            )
    if key == PREFIX.rstrip("_"):
        raise _unknown_key(key, next(iter(flat), key), known)


def _flat_names(key: str, value: object) -> Iterator[str]:
    """Return the names of the values in nested dictionaries, joined by underscores."""
    if not isinstance(value, Mapping):
        yield key.upper()
        return
    for inner, nested in value.items():
        yield from _flat_names(f"{key}_{inner}", nested)


def _bad_value(row: Setting, value: object) -> str:
    plain = isinstance(value, (str, int))
    shown = repr(value) if plain or value is None else type(value).__name__
    message = f"app.config[{row.key!r}] is {shown}, but it must be {row.expects}."
    if plain and row.environment:
        message += (
            " An environment variable for app.config.from_prefixed_env() takes JSON: "
            f"FLASK_{row.key}={row.environment}"
        )
    return message
