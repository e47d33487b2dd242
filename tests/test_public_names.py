"""What `flask_signals_kit` exports, and that all of it has docstrings."""

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
import types
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import flask_signals_kit

PUBLIC = [
    "AfterCommit",
    "AlreadyInitializedError",
    "AppContextError",
    "AppSignals",
    "AsyncReceiverError",
    "Call",
    "Captured",
    "CapturedSignals",
    "ConfigurationError",
    "Connection",
    "ContractError",
    "DEFAULT_IGNORED",
    "DeadMessageError",
    "DeclarationError",
    "Deferred",
    "Delivery",
    "Discard",
    "DomainSignal",
    "DuplicateReceiverError",
    "Durable",
    "Emission",
    "Failed",
    "Namespace",
    "NotInitializedError",
    "Observation",
    "Ok",
    "OutboxError",
    "Outcome",
    "PayloadError",
    "Place",
    "Problem",
    "ReceiverError",
    "RecordedRequest",
    "RetryAfter",
    "Signal",
    "SignalsKit",
    "SignalsKitError",
    "Transaction",
    "UnknownSignalError",
    "current_emission",
]

CLASSES = [name for name in PUBLIC if inspect.isclass(getattr(flask_signals_kit, name))]
ERRORS = [name for name in CLASSES if name.endswith("Error")]
OTHERS = [name for name in PUBLIC if name not in CLASSES]

WITH_EXAMPLE = ["DomainSignal", "Namespace", "Signal", "SignalsKit"]
"""What users build on; records and errors speak for themselves."""


def members(name: str) -> list[tuple[str, Any]]:
    """Return the public methods and properties of a class, the kit's inherited ones included."""
    kind = getattr(flask_signals_kit, name)
    return [
        (member, value)
        for member, value in inspect.getmembers_static(kind)
        if not member.startswith("_")
        and (inspect.isroutine(value) or isinstance(value, (property, staticmethod, classmethod)))
        and getattr(_function(value), "__module__", "").startswith("flask_signals_kit")
    ]


def _function(value: Any) -> Any:
    if isinstance(value, property):
        return value.fget
    return getattr(value, "__func__", value)


def source_of(name: str) -> ast.Module:
    """Return the parsed module that a name comes from, for names of objects other than classes."""
    tree = ast.parse(Path(flask_signals_kit.__file__).read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            module = importlib.import_module(f"flask_signals_kit.{node.module}")
            return ast.parse(Path(str(module.__file__)).read_text())
    raise AssertionError(f"{name} is imported from nowhere")


def test_exported_names_are_pinned_and_sorted() -> None:
    """Adding or removing a name is a decision, and is made here as well."""
    assert flask_signals_kit.__all__ == PUBLIC
    assert sorted(PUBLIC) == PUBLIC
    assert len({*PUBLIC}) == len(PUBLIC)


def test_star_import_gives_exactly_the_exported_names() -> None:
    """Whatever is listed is there."""
    namespace: dict[str, Any] = {}
    exec("from flask_signals_kit import *", namespace)
    assert namespace.keys() - {"__builtins__"} == {*PUBLIC}


def test_package_attributes_are_its_names_and_modules() -> None:
    """No helper shows in completion."""
    shown = {name for name in dir(flask_signals_kit) if not name.startswith("_")}
    rooms = {
        name for name in shown if isinstance(getattr(flask_signals_kit, name), types.ModuleType)
    }
    assert shown - rooms == {*PUBLIC}


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_class_has_a_docstring_of_its_own(name: str) -> None:
    """It begins with a sentence."""
    doc = getattr(flask_signals_kit, name).__dict__.get("__doc__")
    assert doc, f"{name} has no docstring"
    assert not doc.startswith(f"{name}("), f"{name} has only the one that dataclasses write"
    assert inspect.cleandoc(doc).split("\n\n")[0].rstrip().endswith((".", ":"))


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_public_name_has_a_docstring_below_it(name: str) -> None:
    """A string right after the assignment, where Sphinx finds it."""
    body = source_of(name).body
    for node, after in pairwise(body):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == name:
            assert isinstance(after, ast.Expr), f"{name} has no docstring"
            assert isinstance(after.value, ast.Constant)
            assert isinstance(after.value.value, str)
            return
    pytest.fail(f"{name} is not assigned in its module")


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_and_property_has_a_docstring(name: str) -> None:
    """Inherited ones of blinker have blinker's."""
    missing = [member for member, value in members(name) if not inspect.getdoc(_function(value))]
    assert missing == []


@pytest.mark.parametrize("name", CLASSES)
def test_every_field_of_a_public_record_has_a_docstring(name: str) -> None:
    """A line of doc below each field."""
    kind = getattr(flask_signals_kit, name)
    if not hasattr(kind, "__dataclass_fields__"):
        return
    tree = ast.parse(Path(inspect.getsourcefile(kind) or "").read_text())
    [node] = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    described = {
        field.target.id
        for field, after in pairwise(node.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(after, ast.Expr)
    }
    assert described == {*kind.__dataclass_fields__}


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_classes_that_users_call_have_an_example(name: str) -> None:
    """A `>>>` in the class's own docstring; that it runs is tested with all others."""
    kind = getattr(flask_signals_kit, name)
    assert doctest.DocTestParser().get_examples(kind.__doc__)


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_derives_from_signals_kit_error_and_a_builtin(name: str) -> None:
    """`except SignalsKitError` and, say, `except LookupError` both catch it."""
    kind = getattr(flask_signals_kit, name)
    assert issubclass(kind, flask_signals_kit.SignalsKitError)
    if kind is not flask_signals_kit.SignalsKitError:
        builtin = [base for base in kind.__mro__ if base.__module__ == "builtins"]
        assert builtin[0] not in (Exception, BaseException, object)


def test_every_error_of_the_package_is_exported() -> None:
    """Every error can be caught by name."""
    from flask_signals_kit import errors

    raised = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind)
        and issubclass(kind, Exception)
        and kind.__module__ == errors.__name__
    }
    assert raised == {*ERRORS}


def test_importing_the_package_does_not_import_debug() -> None:
    """A process that shows no report does not wait for it; `Problem` is imported on access."""
    code = (
        "import sys, flask_signals_kit as kit;"
        "names = ('debug', 'debug.report', 'debug.page', 'debug.cli');"
        "late = [f'flask_signals_kit.{name}' for name in names];"
        "assert not [name for name in late if name in sys.modules], late;"
        "assert kit.Problem.__module__ == 'flask_signals_kit.debug.report'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
