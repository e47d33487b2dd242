"""The table of `SIGNALS_KIT_*` keys: valid values, invalid values, and error messages."""

import dataclasses
from typing import Any

import pytest
from flask import Flask

from flask_signals_kit import ConfigurationError, SignalsKit
from flask_signals_kit.settings import EDITORS, TABLE, Settings, read_settings

GOOD: list[tuple[str, Any, Any]] = [
    ("SIGNALS_KIT_STRICT", True, True),
    ("SIGNALS_KIT_STRICT", False, False),
    ("SIGNALS_KIT_ON_ERROR", "raise", "raise"),
    ("SIGNALS_KIT_ON_ERROR", "group", "group"),
    ("SIGNALS_KIT_ON_ERROR", "isolate", "isolate"),
    ("SIGNALS_KIT_VALIDATE", True, True),
    ("SIGNALS_KIT_VALIDATE", False, False),
    ("SIGNALS_KIT_VALIDATE", None, None),
    ("SIGNALS_KIT_PAGE", True, True),
    ("SIGNALS_KIT_PAGE", False, False),
    ("SIGNALS_KIT_PAGE", None, None),
    ("SIGNALS_KIT_PAGE_URL", "/admin/signals", "/admin/signals"),
    ("SIGNALS_KIT_PAGE_URL", "/admin/signals/", "/admin/signals"),
    ("SIGNALS_KIT_PAGE_URL", "/~me/v1.0/..signals-é", "/~me/v1.0/..signals-é"),
    ("SIGNALS_KIT_JOURNAL", True, True),
    ("SIGNALS_KIT_JOURNAL", None, None),
    ("SIGNALS_KIT_JOURNAL_SIZE", 1, 1),
    ("SIGNALS_KIT_JOURNAL_SIZE", 100_000, 100_000),
    ("SIGNALS_KIT_IMPORT", ["shop.onboarding", "shop"], ("shop.onboarding", "shop")),
    ("SIGNALS_KIT_IMPORT", (), ()),
    ("SIGNALS_KIT_ENGINE", "embedded", "embedded"),
    ("SIGNALS_KIT_ENGINE", "none", "none"),
    ("SIGNALS_KIT_ENGINE", "celery", "celery"),
    ("SIGNALS_KIT_EDITOR", None, None),
    ("SIGNALS_KIT_EDITOR", "vscode", EDITORS["vscode"]),
    ("SIGNALS_KIT_EDITOR", "pycharm", EDITORS["pycharm"]),
    ("SIGNALS_KIT_EDITOR", "sublime", EDITORS["sublime"]),
    ("SIGNALS_KIT_EDITOR", "x-emacs+1.0:{file}", "x-emacs+1.0:{file}"),
    ("SIGNALS_KIT_EDITOR", "http://[::1]/?f={file}&l={line}", "http://[::1]/?f={file}&l={line}"),
]
BAD: list[tuple[str, Any, str]] = [
    ("SIGNALS_KIT_STRICT", "yes", "'yes'"),
    ("SIGNALS_KIT_STRICT", 1, "1"),
    ("SIGNALS_KIT_STRICT", None, "None"),
    ("SIGNALS_KIT_ON_ERROR", "ignore", "'ignore'"),
    ("SIGNALS_KIT_ON_ERROR", None, "None"),
    ("SIGNALS_KIT_ON_ERROR", ["raise"], "list"),
    ("SIGNALS_KIT_VALIDATE", "", "''"),
    ("SIGNALS_KIT_PAGE", 0, "0"),
    ("SIGNALS_KIT_PAGE", "true", "'true'"),
    ("SIGNALS_KIT_JOURNAL", 1, "1"),
    ("SIGNALS_KIT_JOURNAL_SIZE", 0, "0"),
    ("SIGNALS_KIT_JOURNAL_SIZE", 100_001, "100001"),
    ("SIGNALS_KIT_JOURNAL_SIZE", True, "True"),
    ("SIGNALS_KIT_JOURNAL_SIZE", None, "None"),
    ("SIGNALS_KIT_PAGE_URL", "signals", "'signals'"),
    ("SIGNALS_KIT_PAGE_URL", "/", "'/'"),
    ("SIGNALS_KIT_PAGE_URL", "/<name>", "'/<name>'"),
    ("SIGNALS_KIT_PAGE_URL", "/signals?x=1", "'/signals?x=1'"),
    ("SIGNALS_KIT_PAGE_URL", "//signals", "'//signals'"),
    ("SIGNALS_KIT_PAGE_URL", "/admin//signals", "'/admin//signals'"),
    ("SIGNALS_KIT_PAGE_URL", "/../signals", "'/../signals'"),
    ("SIGNALS_KIT_PAGE_URL", "/admin/.", "'/admin/.'"),
    ("SIGNALS_KIT_PAGE_URL", "/sig%20nals", "'/sig%20nals'"),
    ("SIGNALS_KIT_PAGE_URL", "/sig\nnals", r"'/sig\nnals'"),
    ("SIGNALS_KIT_PAGE_URL", "/signals\n", r"'/signals\n'"),
    ("SIGNALS_KIT_PAGE_URL", "/sig\\nals", r"'/sig\\nals'"),
    ("SIGNALS_KIT_PAGE_URL", None, "None"),
    ("SIGNALS_KIT_IMPORT", "shop.onboarding", "'shop.onboarding'"),
    ("SIGNALS_KIT_IMPORT", ["shop onboarding"], "list"),
    ("SIGNALS_KIT_IMPORT", ["shop..onboarding"], "list"),
    ("SIGNALS_KIT_IMPORT", [3], "list"),
    ("SIGNALS_KIT_IMPORT", None, "None"),
    ("SIGNALS_KIT_ENGINE", "threads", "'threads'"),
    ("SIGNALS_KIT_ENGINE", None, "None"),
    ("SIGNALS_KIT_ENGINE", ["celery"], "list"),
    ("SIGNALS_KIT_EDITOR", "emacs", "'emacs'"),
    ("SIGNALS_KIT_EDITOR", "", "''"),
    ("SIGNALS_KIT_EDITOR", True, "True"),
    ("SIGNALS_KIT_EDITOR", ["vscode"], "list"),
    ("SIGNALS_KIT_EDITOR", "edit://open?line={line}", "'edit://open?line={line}'"),
    ("SIGNALS_KIT_EDITOR", "edit://{file}:{column}", "'edit://{file}:{column}'"),
    ("SIGNALS_KIT_EDITOR", "edit://{file.name}{file}", "'edit://{file.name}{file}'"),
    ("SIGNALS_KIT_EDITOR", "edit://{file!r}", "'edit://{file!r}'"),
    ("SIGNALS_KIT_EDITOR", "edit://{file}}", "'edit://{file}}'"),
    ("SIGNALS_KIT_EDITOR", "edit://{li{file}ne}", "'edit://{li{file}ne}'"),
    ("SIGNALS_KIT_EDITOR", "{file}:{line}", "'{file}:{line}'"),
    ("SIGNALS_KIT_EDITOR", "//host/{file}", "'//host/{file}'"),
    ("SIGNALS_KIT_EDITOR", "javascript:alert('{file}')", "\"javascript:alert('{file}')\""),
    ("SIGNALS_KIT_EDITOR", "JavaScript:{file}", "'JavaScript:{file}'"),
    ("SIGNALS_KIT_EDITOR", " javascript:{file}", "' javascript:{file}'"),
    ("SIGNALS_KIT_EDITOR", "java\nscript:{file}", r"'java\nscript:{file}'"),
    ("SIGNALS_KIT_EDITOR", "data:text/html,{file}", "'data:text/html,{file}'"),
    ("SIGNALS_KIT_EDITOR", "vbscript:{file}", "'vbscript:{file}'"),
]


@pytest.mark.parametrize(("key", "value", "expected"), GOOD)
def test_valid_value_is_accepted(key: str, value: Any, expected: Any) -> None:
    """Each key fills its field of the settings."""
    field = next(row.field for row in TABLE if row.key == key)
    assert getattr(read_settings({key: value}), field) == expected


@pytest.mark.parametrize(("key", "value", "shown"), BAD)
def test_invalid_value_is_refused_at_init_app(key: str, value: Any, shown: str) -> None:
    """The message names the key, the value (or its type) and what it must be."""
    app = Flask("shop")
    app.config[key] = value
    with pytest.raises(ConfigurationError) as caught:
        SignalsKit(app)
    row = next(row for row in TABLE if row.key == key)
    message = f"app.config[{key!r}] is {shown}, but it must be {row.expects}."
    assert str(caught.value).partition(" An environment variable")[0] == message
    assert "signals_kit" not in app.extensions


@pytest.mark.parametrize("key", [row.key for row in TABLE])
def test_every_key_has_a_valid_and_an_invalid_example(key: str) -> None:
    """A new row of the table needs new rows here."""
    assert key in [good for good, _, _ in GOOD]
    assert key in [bad for bad, _, _ in BAD]


def test_value_that_can_be_a_secret_is_not_printed() -> None:
    """Only strings and numbers are shown; of other values the message has the type."""
    with pytest.raises(ConfigurationError) as caught:
        read_settings({"SIGNALS_KIT_PAGE": {"password": "hunter2"}})
    assert "hunter2" not in str(caught.value)
    assert "dict" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "fix"),
    [
        ("FLASK_SIGNALS_KIT_STRICT", "True", "FLASK_SIGNALS_KIT_STRICT=true"),
        ("FLASK_SIGNALS_KIT_STRICT", "1", "FLASK_SIGNALS_KIT_STRICT=true"),
        ("FLASK_SIGNALS_KIT_VALIDATE", "False", "FLASK_SIGNALS_KIT_VALIDATE=true"),
        ("FLASK_SIGNALS_KIT_PAGE", "None", "FLASK_SIGNALS_KIT_PAGE=true"),
        ("FLASK_SIGNALS_KIT_JOURNAL", "", "FLASK_SIGNALS_KIT_JOURNAL=true"),
        ("FLASK_SIGNALS_KIT_JOURNAL_SIZE", "1_000", "FLASK_SIGNALS_KIT_JOURNAL_SIZE=1000"),
        (
            "FLASK_SIGNALS_KIT_IMPORT",
            "shop.onboarding",
            """FLASK_SIGNALS_KIT_IMPORT='["shop.onboarding"]'""",
        ),
    ],
)
def test_invalid_environment_variable_is_refused_with_a_valid_example(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, fix: str
) -> None:
    """Flask parses JSON: `True` stays a string. The example in the message is valid."""
    monkeypatch.setenv(name, text)
    app = Flask("shop")
    app.config.from_prefixed_env()
    with pytest.raises(ConfigurationError) as caught:
        read_settings(app.config)
    assert str(caught.value).endswith(fix)
    monkeypatch.setenv(name, fix.partition("=")[2].strip("'"))
    app.config.from_prefixed_env()
    read_settings(app.config)


@pytest.mark.parametrize(
    ("name", "flat"),
    [
        ("FLASK_SIGNALS_KIT__STRICT", "SIGNALS_KIT_STRICT"),
        ("FLASK_SIGNALS_KIT__PAGE__URL", "SIGNALS_KIT_PAGE_URL"),
        ("FLASK_SIGNALS__KIT__STRICT", "SIGNALS_KIT_STRICT"),
        ("FLASK_SIGNALS_KIT_ON__ERROR", "SIGNALS_KIT_ON_ERROR"),
    ],
)
def test_nested_setting_is_refused_with_its_flat_name(
    monkeypatch: pytest.MonkeyPatch, name: str, flat: str
) -> None:
    """A double underscore makes a dictionary, which would be ignored."""
    monkeypatch.setenv(name, "true")
    app = Flask("shop")
    app.config.from_prefixed_env()
    with pytest.raises(ConfigurationError) as caught:
        read_settings(app.config)
    assert f"app.config[{flat!r}]" in str(caught.value)
    assert f"FLASK_{flat}," in str(caught.value)


def test_unknown_nested_key_is_refused_with_a_suggestion() -> None:
    """Like a flat one; a dictionary of another extension is ignored."""
    with pytest.raises(ConfigurationError, match="Did you mean 'SIGNALS_KIT_STRICT'"):
        read_settings({"SIGNALS_KIT": {"strct": True}})
    assert read_settings({"SIGNALS": {"COLOUR": "red"}, "OTHER_KIT": {}}) == Settings()


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("SIGNALS_KIT_STRCT", "SIGNALS_KIT_STRICT"),
        ("SIGNALS_KIT_ONERROR", "SIGNALS_KIT_ON_ERROR"),
        ("SIGNALS_KIT_IMPORTS", "SIGNALS_KIT_IMPORT"),
        ("SIGNALS_KIT_PAGE_URI", "SIGNALS_KIT_PAGE_URL"),
    ],
)
def test_unknown_key_is_refused_with_a_suggestion(key: str, near: str) -> None:
    """The message has the key, the nearest one and all keys."""
    with pytest.raises(ConfigurationError) as caught:
        read_settings({key: True})
    message = str(caught.value)
    assert f"app.config[{key!r}]" in message
    assert f"Did you mean {near!r}?" in message
    assert all(row.key in message for row in TABLE)


def test_unknown_key_without_a_similar_one_lists_all_keys() -> None:
    """No suggestion is better than a wrong one."""
    with pytest.raises(ConfigurationError) as caught:
        read_settings({"SIGNALS_KIT_ZZZZZZZZZZZZZZZZZZZZZZZZZZZ": 1})
    assert "Did you mean" not in str(caught.value)
    assert "SIGNALS_KIT_STRICT" in str(caught.value)


def test_configuration_errors_are_value_errors() -> None:
    """`except ValueError` catches them, too."""
    with pytest.raises(ValueError, match="SIGNALS_KIT_STRICT"):
        read_settings({"SIGNALS_KIT_STRICT": 3})


def test_keys_of_other_extensions_are_ignored() -> None:
    """Only keys with the prefix are checked."""
    config: dict[str, Any] = {"SIGNALS": 1, "signals_kit_strict": 2, "KIT": object()}
    assert read_settings(config) == Settings()


def test_table_has_a_row_for_each_field_of_the_record() -> None:
    """Every field can be set, by a key with the prefix."""
    assert [row.field for row in TABLE] == [field.name for field in dataclasses.fields(Settings)]
    assert all(row.key.startswith("SIGNALS_KIT_") for row in TABLE)


def test_settings_are_read_once() -> None:
    """Later changes of `app.config` have no effect; the config itself is unchanged."""
    app = Flask("shop")
    app.config["SIGNALS_KIT_ON_ERROR"] = "isolate"
    before = dict(app.config)
    kit = SignalsKit(app)
    assert dict(app.config) == before
    app.config["SIGNALS_KIT_ON_ERROR"] = "raise"
    settings = kit.for_app(app).settings
    assert settings.on_error == "isolate"
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.on_error = "raise"  # type: ignore[misc]
