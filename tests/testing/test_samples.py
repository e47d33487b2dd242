"""Sample values of types."""

import collections.abc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import pytest
from sqlalchemy.orm import Mapped, MappedAsDataclass, mapped_column
from typing_extensions import TypeAliasType

from flask_signals_kit.testing.samples import NoSampleError, sample
from tests.testing.models import Base, Campaign


class Invoice(MappedAsDataclass, Base):
    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)


class Method(Enum):
    CARD = "card"
    WIRE = "wire"


@dataclass(frozen=True, kw_only=True)
class Money:
    amount: Decimal
    currency: str
    note: str = "none"
    history: list[int] = field(default_factory=list)
    shown: str = field(init=False, default="")


@dataclass
class Positive:
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 5:
            raise ValueError("too small")


class Address(TypedDict):
    city: str
    street: NotRequired[str]


class Point(NamedTuple):
    x: int
    label: str = "here"


@dataclass
class Node:
    value: int
    next: "Node | None"


@dataclass
class Page:
    parent: "Page | int"
    children: "list[Page]"
    siblings: "tuple[Page, ...]"
    by_name: "Mapping[str, Page]"


@dataclass
class Loop:
    other: "tuple[int, Turn]"


@dataclass
class Turn:
    loop: Loop


@dataclass
class Pair:
    left: Point
    right: Point


class Interning(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **kwargs)


@dataclass
class Currency(metaclass=Interning):
    code: str


@dataclass(init=False)
class Options:
    depth: int

    def __init__(self, **values: Any) -> None:
        self.depth = values["depth"]


UNHASHABLE = "does not accept its sample: unhashable type:"

T = TypeVar("T")
PAIR: Any = TypeAliasType("Pair", tuple[T, T], type_params=(T,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind", [int, float, Decimal, str, bytes, bool, date, datetime, time, timedelta, UUID]
)
def test_sample_has_exactly_the_simple_type(kind: type) -> None:
    """A datetime is not a sample of a date, and a bool not one of an int."""
    assert type(sample(kind)) is kind


def test_datetime_has_a_time_zone() -> None:
    """An app that compares it with the current time in UTC does not fail."""
    assert sample(datetime).tzinfo is not None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (None | int, 1),
        (Optional[int], 1),  # noqa: UP045
        (Union[Campaign, int], 1),  # noqa: UP007
        (Campaign | None, None),
        (Literal["card", "wire"], "card"),
        (Annotated[int, ["unhashable"]], 1),
        (NewType("Cents", int), 1),
        (TypeAliasType("Cents", int), 1),
        (Method, Method.CARD),
        (list[int], [1]),
        (Sequence[int], [1]),
        (set[int], {1}),
        (frozenset[int], frozenset({1})),
        (dict[str, int], {"text": 1}),
        (Mapping[str, list[int]], {"text": [1]}),
        (tuple[int, str], (1, "text")),
        (tuple[int, ...], (1,)),
        (list, []),
        (dict, {}),
        (tuple, ()),
        (collections.abc.Sequence, []),
        (collections.abc.Mapping, {}),
        (collections.abc.Set, set()),
        (collections.abc.Collection, []),
        (Node, Node(1, None)),
        (Page, Page(1, [], (), {})),
        (list[Page], [Page(1, [], (), {})]),
        (Pair, Pair(Point(1), Point(1))),
        (Money, Money(amount=Decimal(1), currency="text")),
        (Address, {"city": "text"}),
        (Point, Point(1)),
        (Currency, Currency("text")),
        (Options, Options(depth=1)),
        (list[Money], [Money(amount=Decimal(1), currency="text")]),
    ],
    ids=str,
)
def test_sample_of_a_composed_type(kind: Any, expected: Any) -> None:
    """Collections have one item, and what has a default is left out."""
    found = sample(kind)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (object, "no sample of object can be built"),
        (Any, "no sample of Any can be built"),
        (T, "no sample of ~T can be built"),
        (Iterator[int], "no sample of collections.abc.Iterator[int] can be built"),
        (Campaign, "Campaign is a model, and its instances belong to a session"),
        (Campaign | object, "Campaign is a model, and its instances belong to a session"),
        (PAIR[int], "no sample of Pair[int] can be built"),
        (list[Campaign], "Campaign is a model, and its instances belong to a session"),
        (Invoice, "Invoice is a model, and its instances belong to a session"),
        (Positive, "Positive does not accept its sample: too small"),
        (Exception, "no sample of Exception can be built"),
        (collections.abc.Iterator, "no sample of Iterator can be built"),
        (Loop, "Loop contains itself"),
        (Turn, "Turn contains itself"),
        (set[list[int]], f"set[list[int]] {UNHASHABLE} 'list'"),
        (
            Mapping[dict[str, int], int],
            f"collections.abc.Mapping[dict[str, int], int] {UNHASHABLE} 'dict'",
        ),
    ],
    ids=str,
)
def test_type_without_a_sample_is_refused(kind: Any, reason: str) -> None:
    """The innermost type is named."""
    with pytest.raises(NoSampleError) as failure:
        sample(kind)
    assert str(failure.value) == reason


def test_unknown_type_inside_a_dataclass_is_named() -> None:
    """Such as one that is imported for type checkers only."""
    kind: Any = dataclass(type("Order", (), {"__annotations__": {"account": "Missing"}}))
    with pytest.raises(NoSampleError, match="Order has a type that does not exist at run time"):
        sample(kind)
