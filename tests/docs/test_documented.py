"""Everything public is documented: the manual's tables and headings are compared with the code."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest
from flask import Flask

import flask_signals_kit
from flask_signals_kit import SignalsKit, testing
from flask_signals_kit.bridge import BUILTIN_PAYLOADS
from flask_signals_kit.catalogue import CATALOGUE
from flask_signals_kit.core.journal import StepStatus
from flask_signals_kit.debug.cli import signals
from flask_signals_kit.debug.outbox import STATUSES
from flask_signals_kit.debug.report import TITLES, report
from flask_signals_kit.exception_hooks.registration import SOURCES
from flask_signals_kit.settings import ON_ERROR, TABLE, Setting, Settings
from tests.docs.support import ROOT, code_in, table, text_of


def test_table_of_settings_equals_the_code() -> None:
    """Every key stands in the manual with its default and a sentence on its meaning."""
    rows = table("docs/settings.md", "key", "default")
    documented = [[*code_in(key), *code_in(default)] for key, default, _ in rows]
    defaults = Settings()
    assert documented == [[row.key, repr(getattr(defaults, row.field))] for row in TABLE]
    assert all(meaning.endswith(".") for _, _, meaning in rows)


@pytest.mark.parametrize("setting", TABLE, ids=lambda setting: setting.key)
def test_setting_has_a_section(setting: Setting) -> None:
    """Beyond the table, the manual says which values a key takes and what they do."""
    assert f"\n## `{setting.key}`\n" in text_of("docs/settings.md")


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command of a group, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_command_is_documented() -> None:
    """Each ``flask signals …`` has a section of its own, and no section is left over."""
    headings = re.findall(
        r"^## `(flask signals [a-z ]+)`$", text_of("docs/commands.md"), re.MULTILINE
    )
    assert sorted(headings) == sorted(name for name, _ in commands(signals, "flask signals"))
    assert headings


def test_every_option_of_a_command_is_documented() -> None:
    """A command's section names each of its arguments and options."""
    page = text_of("docs/commands.md")
    for name, command in commands(signals, "flask signals"):
        section = page.partition(f"\n## `{name}`\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            shown = parameter.opts if isinstance(parameter, click.Option) else [str(parameter.name)]
            for word in shown:
                assert word.lower() in section.lower(), f"{name} takes {word}"


def test_reference_has_every_public_name_once() -> None:
    """What can be imported from the package stands in the reference, and nothing else does."""
    page = text_of("docs/reference.md")
    names = re.findall(r"^\.\. (?:auto\w+|py:data):: (\w+)$", page, re.MULTILINE)
    assert sorted(names) == sorted(flask_signals_kit.__all__)


def test_reference_has_every_name_for_tests() -> None:
    """What only ``flask_signals_kit.testing`` has stands there, too, with its module."""
    page = text_of("docs/reference.md")
    names = re.findall(r"^\.\. auto\w+:: flask_signals_kit\.testing\.(\w+)$", page, re.MULTILINE)
    only_there = {*testing.__all__} - {*flask_signals_kit.__all__}
    assert sorted(names) == sorted(only_there)


def test_every_error_is_explained() -> None:
    """The table of errors has each error class of the package with the builtin that it is."""
    rows = table("docs/errors.md", "error", "is a")
    errors = [
        thing
        for name in flask_signals_kit.__all__
        if isinstance(thing := getattr(flask_signals_kit, name), type)
        and issubclass(thing, flask_signals_kit.SignalsKitError)
    ]
    builtins = {error.__name__: [error.__bases__[-1].__name__] for error in errors}
    assert {code_in(row[0])[0]: code_in(row[1]) for row in rows} == builtins
    assert len(rows) == len(builtins)


def test_attributes_of_log_records_are_documented() -> None:
    """Each that the package gives a record stands in the manual, and no other does."""
    rows = table("docs/errors.md", "attribute")
    package = Path(flask_signals_kit.__file__).parent
    given = {
        name
        for file in package.rglob("*.py")
        for name in re.findall(r'"(signals_kit_\w+)":', file.read_text(encoding="utf-8"))
    }
    assert {code_in(row[0])[0] for row in rows} == given
    assert len(rows) == len(given)


def test_every_extra_is_explained() -> None:
    """The installation instructions say what each extra is for."""
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    extras = {f"flask-signals-kit[{name}]" for name in project["optional-dependencies"]}
    rows = table("docs/quickstart.md", "extra")
    assert {code_in(row[0])[0] for row in rows} == extras
    assert set(re.findall(r"`(flask-signals-kit\[\w+\])`", text_of("README.md"))) == extras


def test_every_exception_source_is_documented() -> None:
    """The table of sources has each source of exceptions, once."""
    rows = table("docs/exceptions.md", "source")
    assert [code_in(row[0]) for row in rows] == [[source] for source in SOURCES]


def test_flasks_signals_are_documented_with_their_payload() -> None:
    """The table of Flask's signals has all ten, with the names that they pass."""
    rows = table("docs/bridge.md", "signal", "payload")
    assert {code_in(row[0])[0]: tuple(code_in(row[1])) for row in rows} == BUILTIN_PAYLOADS


def test_catalogue_is_documented() -> None:
    """Each extension stands in the manual with what to install and the signals that it has."""
    rows = table("docs/bridge.md", "name", "install")
    documented = {
        code_in(name)[0]: (code_in(install), tuple(code_in(names))) for name, install, names in rows
    }
    assert documented == {
        name: ([source.distribution], source.names) for name, source in CATALOGUE.items()
    }


def test_every_failure_policy_is_documented() -> None:
    """The table of policies has each that ``on_error`` takes."""
    rows = table("docs/sending.md", "`on_error`")
    assert [code_in(row[0])[0].strip('"') for row in rows] == list(ON_ERROR)


def test_every_kind_of_problem_is_documented() -> None:
    """What the page calls a problem is explained beside it."""
    rows = table("docs/page.md", "problem")
    titles = {code_in(kind)[0]: title.replace("`", "") for title, kind, _ in rows}
    assert titles == TITLES


def test_fields_of_the_json_are_documented() -> None:
    """What scripts may read stands in the manual in the order in which it comes."""
    app = Flask("shop")
    app.testing = True  # a journal is kept
    kit = SignalsKit(app)
    kit.on("account_funded")(lambda account: None)
    with app.app_context():
        pass
    answer = report(kit.for_app(app)).to_json()
    text = text_of("docs/page.md").partition("\n## As JSON\n")[2].partition("\n## ")[0]
    assert all(f"`{field}`" in text for field in answer)
    signal = answer["signals"][0]
    for thing, fields in (
        ("signal", signal),
        ("receiver", signal["receivers"][0]),
        ("problem", signal["problems"][0]),
    ):
        rows = table("docs/page.md", f"of a {thing}")
        assert [name for names, _ in rows for name in code_in(names)] == list(fields)


def test_fields_of_the_json_of_requests_are_documented() -> None:
    """In the order in which they come, too."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    kit.on("account_funded")(lambda account, **extra: None)
    with app.app_context():
        kit.send("account_funded")
    answer = app.test_client().get("/_signals/requests.json").get_json()
    text = text_of("docs/page.md").partition("\n## Requests as JSON\n")[2].partition("\n## ")[0]
    assert all(f"`{field}`" in text for field in answer)
    [request] = answer["requests"]
    [emission] = request["emissions"]
    for thing, fields in (
        ("a request", request),
        ("an emission", emission),
        ("a step", emission["steps"][0]),
    ):
        rows = table("docs/page.md", f"of {thing}")
        assert [name for names, _ in rows for name in code_in(names)] == list(fields)


def test_every_status_of_a_receiver_is_documented() -> None:
    """The table of statuses has each that a step can have."""
    rows = table("docs/page.md", "status")
    assert [code_in(row[0]) for row in rows] == [[status] for status in get_args(StepStatus)]


def test_every_status_of_a_message_is_documented() -> None:
    """The table of the outbox has each that a message can have."""
    rows = table("docs/page.md", "message")
    assert [code_in(row[0]) for row in rows] == [[status] for status in STATUSES]


PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_links_to_files_that_exist(page: Path) -> None:
    """On the forge, too, no relative link or picture of a page leads nowhere."""
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r"(?:src|srcset)=\"([^\"]+)\"", text)
    links += re.findall(r"^:::\{image\} (\S+)", text, re.MULTILINE)
    gone = [
        link
        for link in links
        if not link.startswith(("http:", "https:")) and not (page.parent / link).is_file()
    ]
    assert gone == []
