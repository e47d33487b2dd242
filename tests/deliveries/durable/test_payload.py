"""How messages store the sender and the payload: types, model instances, and old versions."""

from __future__ import annotations

import enum
import traceback
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import ForeignKey, String, TypeDecorator, event, inspect, text
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.local import LocalProxy

from flask_signals_kit import ContractError, DeclarationError, PayloadError
from flask_signals_kit.deliveries.durable.payload import encode
from tests.deliveries.durable.support import DurableShop
from tests.deliveries.support import Account, Base
from tests.support import write_down

if TYPE_CHECKING:
    from fractions import Fraction


class Method(enum.Enum):
    """A way to pay."""

    CARD = "card"


@dataclass
class Line:
    """A line of an invoice."""

    text: str
    price: Decimal


@dataclass(eq=False)
class Reading:
    """A record that compares by identity, and whose values may be of any type."""

    of: Any
    at: datetime | None = None


class Pair(NamedTuple):
    """A record whose values may be of any type."""

    first: Any


class Size(enum.IntEnum):
    """A number that JSON reads as a plain one."""

    BIG = 1


class Unit(enum.StrEnum):
    """A text that JSON reads as a plain one."""

    EUR = "eur"


BERLIN = ZoneInfo("Europe/Berlin")
REPEATED = [datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=BERLIN) for fold in (0, 1)]
"""The time that clocks show twice when summer ends."""


class Uuid(TypeDecorator[UUID]):
    """A type of the app's own, which does not say what its values are."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Store it as text."""
        return None if value is None else str(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Read it from text."""
        return None if value is None else UUID(value)


class PlainUuid(Uuid):
    """The same type, which does."""

    cache_ok = True
    python_type = UUID


class Ticket(Base):
    """A model whose key is of a type of the app's own."""

    __tablename__ = "ticket"

    code: Mapped[UUID] = mapped_column(Uuid, primary_key=True)


class PlainTicket(Base):
    """A model whose key is of a type that says what its values are."""

    __tablename__ = "plain_ticket"

    code: Mapped[UUID] = mapped_column(PlainUuid, primary_key=True)


class Coupon(Base):
    """A model with a primary key of two columns, one of them a UUID."""

    __tablename__ = "coupon"

    code: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), primary_key=True)


CODE = UUID("8b8d2a3e-6a0f-4f8e-9f0a-0d0b5d0f6f52")


@pytest.fixture
def ran(shop: DurableShop) -> list[Any]:
    """Connect a receiver to ``sale_made``; give what it gets."""
    got: list[Any] = []

    def receive(sender: Any, **payload: Any) -> None:
        got.append((sender, payload))

    shop.on(receive, signal="sale_made", max_attempts=1)
    return got


def declare_value(shop: DurableShop, hint: Any) -> None:
    """Declare a signal whose payload is a value of a type."""

    def sale_made(sender: str, *, value: Any) -> None: ...

    sale_made.__annotations__["value"] = hint
    shop.kit.declare(sale_made)


VALUES: list[tuple[Any, Any]] = [
    (Decimal, Decimal("5.50")),
    (datetime, datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
    (date, date(2030, 1, 2)),
    (timedelta, timedelta(seconds=5)),
    (UUID, CODE),
    (Method, Method.CARD),
    (Line, Line("ad", Decimal("0.10"))),
    (list[Line], [Line("ad", Decimal("0.10"))]),
    (tuple[int, ...], (1, 2)),
    (set[str], {"a"}),
    (dict[str, Decimal], {"eur": Decimal(1)}),
    (bytes, b"\x00\xff"),
    (Decimal | None, None),
    (float, 0.1),
    (str, "\u2028\U0001f600'\"\x00"),
]


@pytest.mark.parametrize(("hint", "value"), VALUES, ids=lambda each: str(each)[:30])
def test_declared_type_is_kept(shop: DurableShop, ran: list[Any], hint: Any, value: Any) -> None:
    """Whatever JSON makes of it in between."""
    if shop.engine.dialect.name == "postgresql" and value == VALUES[-1][1]:
        value = value.replace("\x00", "")
    declare_value(shop, hint)
    with shop.open():
        shop.kit.send("sale_made", "acme", value=value)
    shop.work()
    assert ran == [("acme", {"value": value})]
    assert type(ran[0][1]["value"]) is type(value)


@pytest.mark.parametrize(
    "value",
    [None, True, -0.5, "text", "tëxt", [1, [None]], {"a": {"b": "c"}}, "", 5, 2**63, -(2**63)],
)
def test_json_types_need_no_declaration(shop: DurableShop, ran: list[Any], value: Any) -> None:
    """They are what they were."""
    with shop.open():
        shop.kit.send("sale_made", "acme", value=value)
    shop.work()
    assert ran == [("acme", {"value": value})]


@pytest.mark.parametrize(
    "value", [Decimal(5), (1, 2), {1: 2}, float("nan"), CODE, b"x", Method.CARD, {"a"}]
)
def test_other_types_must_be_declared(shop: DurableShop, ran: list[Any], value: Any) -> None:
    """Instead of arriving as something else."""
    with shop.open(), pytest.raises(PayloadError) as caught:
        shop.kit.send("sale_made", "acme", value=value)
    assert "Payload 'value' of signal 'sale_made' is" in str(caught.value)
    assert "declare it by @kit.declare" in str(caught.value)
    assert shop.messages() == []


@pytest.mark.parametrize("value", ["\udc80", 10**5000], ids=["surrogate", "digits"])
def test_value_that_json_cannot_encode_is_refused(
    shop: DurableShop, ran: list[Any], value: Any
) -> None:
    """The error names it."""
    with shop.open(), pytest.raises(PayloadError, match=r"Payload 'note' .* stored as JSON"):
        shop.kit.send("sale_made", "acme", number=5, at=[1], note=value)
    assert shop.messages() == []


@pytest.mark.parametrize("at", REPEATED)
def test_time_of_a_repeated_hour_is_kept(shop: DurableShop, ran: list[Any], at: datetime) -> None:
    """Its zone becomes an offset, with which Python finds it unequal."""

    @shop.kit.declare
    def sale_made(sender: str, *, at: datetime, reading: Reading) -> None: ...

    with shop.open():
        shop.kit.send("sale_made", "acme", at=at, reading=Reading(1, at))
    shop.work()
    [(_, payload)] = ran
    for read in (payload["at"], payload["reading"].at):
        assert (read.isoformat(), read.timestamp()) == (at.isoformat(), at.timestamp())


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Reading, Reading(Decimal(1))),
        (Reading, Reading(Size.BIG)),
        (Pair, Pair(Unit.EUR)),
        (dict[str, int], {Unit.EUR: 1}),
        (set[str], {Unit.EUR}),
    ],
)
def test_other_types_inside_of_a_record_are_refused(
    shop: DurableShop, ran: list[Any], hint: Any, value: Any
) -> None:
    """Although some equal what would be read."""
    declare_value(shop, hint)
    with shop.open(), pytest.raises(PayloadError, match="would not keep its type or value"):
        shop.kit.send("sale_made", "acme", value=value)


def test_refusal_has_no_value_in_its_traceback(shop: DurableShop, ran: list[Any]) -> None:
    """The error that caused it would show it."""

    @shop.kit.declare
    def sale_made(sender: str, *, method: Method) -> None: ...

    with shop.open(), pytest.raises(PayloadError) as caught:
        shop.kit.send("sale_made", "acme", method="secret-4111")
    shown = "".join(traceback.format_exception(caught.value, chain=True)).replace(__file__, "")
    assert "Invalid enum value" not in shown


@pytest.mark.parametrize(("hint", "value"), [(Decimal, "five"), (int, "5"), (date, 3), (Line, 3)])
def test_value_of_another_type_is_refused(
    shop: DurableShop, ran: list[Any], hint: Any, value: Any
) -> None:
    """At the send, not in the receiver."""
    declare_value(shop, hint)
    with shop.open(), pytest.raises(PayloadError, match="it is declared as"):
        shop.kit.send("sale_made", "acme", value=value)


def test_type_that_is_imported_for_type_checkers_only(shop: DurableShop, ran: list[Any]) -> None:
    """It cannot be restored, so only JSON types are taken."""

    @shop.kit.declare
    def sale_made(sender: str, *, amount: Decimal, share: Fraction) -> None: ...

    with shop.open():
        sale_made.send("acme", amount=Decimal(5), share=3)  # type: ignore[arg-type]
        with pytest.raises(PayloadError, match="imported at run time"):
            sale_made.send("acme", amount=Decimal(5), share=Decimal(3))  # type: ignore[arg-type]
    shop.work()
    assert ran == [("acme", {"amount": Decimal(5), "share": 3})]


def test_sender_that_cannot_be_stored_is_refused(shop: DurableShop, ran: list[Any]) -> None:
    """Such as an object of a service."""
    with shop.open(), pytest.raises(PayloadError, match="The sender of signal 'sale_made' is obj"):
        shop.kit.send("sale_made", object())


def test_payload_with_the_name_of_the_sender_is_refused() -> None:
    """A message stores both side by side."""
    with pytest.raises(PayloadError, match="a payload named 'sender'"):
        encode("account_funded", None, "acme", {"sender": "bob"}, {})


def test_missing_name_is_refused_even_if_payloads_are_not_checked(shop: DurableShop) -> None:
    """The receiver could never run."""
    shop.app.config["SIGNALS_KIT_VALIDATE"] = False
    shop.kit.for_app(shop.app).validating = False

    @shop.kit.declare
    def sale_made(sender: str, *, amount: int) -> None: ...

    shop.on(write_down, signal="sale_made")
    with shop.open(), pytest.raises(ContractError, match="without 'amount'"):
        shop.kit.send("sale_made", "acme")


def test_failed_insert_shows_no_payload(sqlite: str, caplog: pytest.LogCaptureFixture) -> None:
    """SQLAlchemy's errors contain the parameters of a statement."""
    shop = DurableShop(sqlite)
    shop.on(write_down)
    with shop.outside.begin() as connection:
        connection.execute(text("DROP TABLE signals_outbox"))
        connection.execute(
            text(
                "CREATE TABLE signals_outbox (id INTEGER PRIMARY KEY, receiver TEXT, signal TEXT,"
                " payload TEXT, headers TEXT, queue TEXT, due REAL, attempt INTEGER,"
                " error TEXT, other TEXT NOT NULL)"
            )
        )
    with shop.open(), pytest.raises(Exception, match="NOT NULL") as caught:
        shop.funded.send("acme", password="secret-4111")
    assert "secret" not in str(caught.value)
    assert "secret" not in caplog.text
    shop.close()


# -- model instances ------------------------------------------------------------------------------


def test_model_instances_are_loaded_again(shop: DurableShop, ran: list[Any]) -> None:
    """As the sender and in the payload, by the whole primary key, in the receiver's session."""
    keys: list[Any] = []

    def read(sender: Account, *, coupon: Coupon) -> None:
        keys.append((sender.name, coupon.code, coupon.account_id, coupon in shop.session))

    shop.on(read, signal="sale_made")
    with shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        session.flush()
        coupon = Coupon(code=CODE, account_id=account.id)
        session.add(coupon)
        shop.kit.send("sale_made", account, coupon=coupon)
        session.commit()
    shop.work()
    assert keys == [("acme", CODE, 1, True)]


def test_proxy_is_stored_as_what_it_stands_for(shop: DurableShop) -> None:
    """As Flask-Login's ``current_user``."""
    got: list[Any] = []
    shop.on(lambda sender, *, user, **extra: got.append(user.name))
    with shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        shop.funded.send("x", user=LocalProxy(lambda: account))
        session.commit()
    shop.work()
    assert got == ["acme"]


def test_instance_that_is_gone_makes_the_message_dead(shop: DurableShop, ran: list[Any]) -> None:
    """With the reason."""
    with shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        shop.kit.send("sale_made", account)
        session.commit()
        session.delete(account)
        session.commit()
    shop.work()
    [message] = shop.messages()
    assert message.due is None
    assert message.error == (
        f"The instance of {Account.__module__}:Account that was sent does not exist any more."
    )


def test_key_of_a_type_of_the_app_needs_its_python_type(shop: DurableShop, ran: list[Any]) -> None:
    """Else it would be read as a text."""
    with shop.open() as session:
        session.add_all([ticket := Ticket(code=CODE), plain := PlainTicket(code=CODE)])
        session.flush()
        with pytest.raises(PayloadError, match="give the column's type a python_type"):
            shop.kit.send("sale_made", ticket)
        shop.kit.send("sale_made", plain)
        session.commit()
    shop.work()
    assert [inspect(sender).identity for sender, _ in ran] == [(CODE,)]


def test_instance_that_is_not_stored_is_refused(shop: DurableShop, ran: list[Any]) -> None:
    """It has no primary key yet."""
    with shop.open(), pytest.raises(PayloadError, match="is not stored yet: add it to the session"):
        shop.kit.send("sale_made", "acme", account=Account(name="acme"))


def test_instance_whose_class_cannot_be_found_is_refused(
    shop: DurableShop, ran: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a class in a function."""
    with shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        session.flush()
        monkeypatch.setattr("tests.deliveries.support.Account", None)
        with pytest.raises(PayloadError, match="could not be loaded again"):
            shop.kit.send("sale_made", account)


def test_model_that_is_gone_makes_the_message_dead(shop: DurableShop, ran: list[Any]) -> None:
    """Its module is not imported for it."""
    with shop.open() as session:
        account = Account(name="acme")
        session.add(account)
        shop.kit.send("sale_made", account)
        session.commit()
    for path in ("shop.models:Account", f"{__name__}:Line", f"{__name__}:", "os:system"):
        with shop.outside.begin() as connection:
            connection.execute(
                text("UPDATE signals_outbox SET due = 0, attempt = 0, payload = :payload"),
                {"payload": f'{{"values":{{"sender":[1]}},"models":{{"sender":"{path}"}}}}'},
            )
        shop.work()
        [message] = shop.messages()
        assert message.error.startswith(f"There is no model {path!r} any more")


# -- versions -------------------------------------------------------------------------------------


def redeclare(shop: DurableShop, stub: Any, **how: Any) -> None:
    """Declare a signal again, as the next release of the app would."""
    shop.kit.registry.declarations.pop("sale_made")
    shop.kit.declare(**how)(stub)


def test_old_payload_is_upgraded(shop: DurableShop, ran: list[Any]) -> None:
    """By the function that the declaration names, as often as a message is run."""
    asked: list[Any] = []

    def sale_made(sender: str, *, cents: int) -> None: ...
    def upgrade(payload: dict[str, Any], version: int) -> dict[str, Any]:
        asked.append((payload, version))
        return {"amount": payload["cents"] / 100}

    shop.kit.declare(sale_made)
    with shop.open():
        shop.kit.send("sale_made", "acme", cents=550)

    def newer(sender: str, *, amount: Decimal) -> None: ...

    newer.__name__ = "sale_made"
    redeclare(shop, newer, version=3, upgrade=upgrade)
    with shop.open():
        shop.kit.send("sale_made", "globe", amount=Decimal(7))
    shop.work()
    assert ran == [("acme", {"amount": Decimal("5.5")}), ("globe", {"amount": Decimal(7)})]
    assert asked == [({"cents": 550}, 1)]


def test_name_that_is_no_longer_declared_is_left_out(shop: DurableShop, ran: list[Any]) -> None:
    """So removing a name needs no upgrade."""

    def sale_made(sender: str, *, amount: int, note: str) -> None: ...
    def newer(sender: str, *, amount: int) -> None: ...

    shop.kit.declare(sale_made)
    with shop.open():
        shop.kit.send("sale_made", "acme", amount=5, note="x")
    newer.__name__ = "sale_made"
    redeclare(shop, newer)
    shop.work()
    assert ran == [("acme", {"amount": 5})]


def test_name_that_is_missing_makes_the_message_dead(shop: DurableShop, ran: list[Any]) -> None:
    """The reason says what to do."""

    def sale_made(sender: str) -> None: ...
    def newer(sender: str, *, amount: int) -> None: ...

    shop.kit.declare(sale_made)
    with shop.open():
        shop.kit.send("sale_made", "acme")
    newer.__name__ = "sale_made"
    redeclare(shop, newer)
    shop.work()
    [message] = shop.messages()
    assert message.error.startswith("The stored payload lacks 'amount': declare the signal with")


def test_failure_to_load_an_instance_is_tried_again(shop: DurableShop) -> None:
    """Such as that of the database, or of a listener of the app."""
    ran: list[Any] = []
    shop.on(lambda sender, **extra: ran.append(sender), signal="sale_made")
    failures = [ValueError("not yet")]

    def fail_once(*details: Any) -> None:
        if failures:
            raise failures.pop()

    with shop.open() as session:
        account = Account(name="acme", balance=0)
        session.add(account)
        shop.kit.send("sale_made", account)
        session.commit()
    event.listen(Account, "load", fail_once)
    try:
        shop.work()
    finally:
        event.remove(Account, "load", fail_once)
    assert len(ran) == 1
    assert shop.messages() == []


@pytest.mark.parametrize("upgraded", [None, {"amount": "five"}, {"amount": 5.5}])
def test_upgrade_that_returns_something_else(
    shop: DurableShop, ran: list[Any], upgraded: Any
) -> None:
    """The message is dead, and the receiver is not called."""

    def sale_made(sender: str, *, cents: int) -> None: ...
    def newer(sender: str, *, amount: int) -> None: ...

    shop.kit.declare(sale_made)
    with shop.open():
        shop.kit.send("sale_made", "acme", cents=5)
    newer.__name__ = "sale_made"
    redeclare(shop, newer, version=2, upgrade=lambda payload, version: upgraded)
    shop.work()
    assert ran == []
    assert shop.messages()[0].due is None


@pytest.mark.parametrize("how", [{"version": 0}, {"version": "2"}, {"upgrade": 3}])
def test_invalid_version_is_refused(shop: DurableShop, how: dict[str, Any]) -> None:
    """With the place of the stub."""

    def sale_made(sender: str) -> None: ...

    with pytest.raises(DeclarationError, match=r"sale_made .* is declared with version="):
        shop.kit.declare(**how)(sale_made)


# -- damaged rows ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{",
        "[]",
        '{"values": {}}',
        '{"values": {"sender": 1, "amount": {"a": 1}}}',
        '{"values": {"sender": [1, 2]}, "models": {"sender": "tests.deliveries.support:Account"}}',
    ],
)
def test_damaged_payload_makes_the_message_dead(shop: DurableShop, payload: str) -> None:
    """The receiver is not called, and the worker goes on."""
    ran: list[Any] = []

    @shop.kit.declare
    def sale_made(sender: str, *, amount: int) -> None: ...

    shop.on(lambda sender, **extra: ran.append(sender), signal="sale_made")
    with shop.open():
        sale_made.send("acme", amount=1)
    with shop.outside.begin() as connection:
        connection.execute(text("UPDATE signals_outbox SET payload = :p"), {"p": payload})
    with shop.open():
        sale_made.send("globe", amount=1)
    shop.work()
    [message] = shop.messages()
    assert (message.due, ran) == (None, ["globe"])
    assert "stored" in message.error


def test_reason_of_a_dead_message_has_no_value(shop: DurableShop, ran: list[Any]) -> None:
    """It is stored and shown; types may be named."""

    def sale_made(sender: str, *, method: str) -> None: ...
    def newer(sender: str, *, method: Method) -> None: ...

    shop.kit.declare(sale_made)
    with shop.open():
        shop.kit.send("sale_made", "acme", method="secret-4111")
    newer.__name__ = "sale_made"
    redeclare(shop, newer)
    shop.work()
    [message] = shop.messages()
    assert message.error == "The stored payload 'method' does not match its declaration."
