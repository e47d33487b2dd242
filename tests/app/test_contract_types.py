"""The texts of a stub's annotations, for the page and the commands."""

# Without ``from __future__ import annotations``: annotations of both kinds are tested.

import enum
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NewType, Optional, TypeVar

import pytest

from flask_signals_kit.app.contract import contract_from

T = TypeVar("T")
Id = NewType("Id", int)


class Account:
    """A sender."""


class Page(Generic[T]):
    """A generic class."""


class Method(enum.Enum):
    """A way to pay."""

    CARD = 1


class Untouchable:
    """An object that fails if it is printed or compared."""

    def fail(self, *args: object) -> Any:
        raise RuntimeError("this must not be called")

    __repr__ = __str__ = __bool__ = __format__ = __eq__ = __len__ = fail
    __hash__ = object.__hash__


def text_of(annotation: Any) -> str:
    """Return the text of an annotation of a stub's payload."""

    def happened(sender: Any, *, it: Any) -> None: ...

    happened.__annotations__["it"] = annotation
    return dict(contract_from(happened).types)["it"]


def test_contract_has_the_types_of_sender_and_payload() -> None:
    """In the order of the stub; names without an annotation have no type."""

    def happened(
        sender: Account,
        *,
        method: str = "card",
        amount: Decimal,
        note=None,
        **extra: object,
    ) -> None: ...

    contract = contract_from(happened)
    assert contract.types == (("method", "str"), ("amount", "Decimal"))
    assert contract.sender_type == "Account"


def test_stub_without_annotations_has_no_types() -> None:
    """Neither for the sender nor for the payload."""

    def happened(sender, *, amount): ...

    contract = contract_from(happened)
    assert (contract.types, contract.sender_type) == ((), None)


def test_text_annotation_is_kept_as_written() -> None:
    """It is not evaluated: the name may exist for type checkers only."""
    for text in ("shop.models.Account", "List [ int ]", "1/0", "<b>"):
        assert text_of(text) == text


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (None, "None"),
        (Any, "Any"),
        (Account, "Account"),
        (Id, "Id"),
        (T, "T"),
        (list, "list"),
        (list[int], "list[int]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (dict[str, list[Account]], "dict[str, list[Account]]"),
        (Page[Account], "Page[Account]"),
        (int | None, "int | None"),
        (Optional[Account], "Account | None"),  # noqa: UP045
        (Optional["Account"], "Account | None"),
        (Callable[[int, str], bool], "Callable[[int, str], bool]"),
        (Callable[..., None], "Callable[..., None]"),
        (Literal["card", 1, True], "Literal['card', 1, True]"),
        (type[Account], "type[Account]"),
    ],
)
def test_evaluated_annotation_is_written_with_names_of_classes(annotation: Any, text: str) -> None:
    """As most people would write it."""
    assert text_of(annotation) == text


def test_objects_in_annotations_are_not_printed() -> None:
    """They are the user's; only their types are named."""
    assert text_of(Annotated[int, Untouchable()]) == "int"
    assert text_of(Untouchable()) == "Untouchable"
    assert text_of(Literal[Method.CARD]) == f"Literal[{__name__}.Method]"
