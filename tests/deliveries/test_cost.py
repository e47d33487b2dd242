"""What a send to an after-commit receiver does not do, so that it costs little."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import flask_signals_kit
from flask_signals_kit import Emission, current_emission
from tests.deliveries.support import Account, Shop

PACKAGE = str(Path(flask_signals_kit.__file__).parent)


def calls_within(function: Callable[[], object]) -> list[str]:
    """Return the functions of the package that are called."""
    called: list[str] = []

    def note(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            called.append(frame.f_code.co_qualname)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return called


def emissions() -> int:
    """Count the records of emissions that exist."""
    gc.collect()
    return sum(type(each) is Emission for each in gc.get_objects())


def send_and_commit(shop: Shop, sender: Any) -> tuple[list[str], list[str]]:
    """Return what the kit calls in a send, and in the commit that follows."""
    with shop.open() as session:
        acme = Account(name=f"acme {len(shop.rows())}")
        session.add(acme)
        session.flush()
        sent = calls_within(lambda: shop.funded.send(sender or acme, amount=1))
        return sent, calls_within(session.commit)


@pytest.mark.parametrize(("sender", "limit"), [(None, 45), ("acme", 57)], ids=["model", "string"])
def test_send_and_its_commit_are_few_calls(sqlite_shop: Shop, sender: Any, limit: int) -> None:
    """A request with one receiver pays for each of them; the journal is on here."""
    shop = sqlite_shop
    ran: list[Any] = []
    shop.kit.on("account_funded", delivery="after_commit")(lambda s, **extra: ran.append(s))
    send_and_commit(shop, sender)  # computes the plan
    sent, committed = send_and_commit(shop, sender)
    assert len(ran) == 2
    assert len(sent) <= limit, sent
    assert len(committed) <= 22, committed


def test_more_receivers_of_one_emission_share_what_is_the_same(sqlite_shop: Shop) -> None:
    """The transaction is looked for once, and the emission is noted once."""
    shop = sqlite_shop
    for _ in range(5):
        shop.kit.on("account_funded", delivery="after_commit")(lambda s, **extra: None)
    send_and_commit(shop, None)
    sent, committed = send_and_commit(shop, None)
    for once in ("Sessions.transaction", "LazyEmission.__init__"):
        assert sent.count(once) == 1
    assert committed.count("_Loop.run") == 1
    assert len(sent) <= 45 + 4 * 11, len(sent)
    assert len(committed) <= 22 + 4 * 9, len(committed)


def test_emission_that_no_receiver_reads_is_not_described(sqlite_shop: Shop) -> None:
    """The record is made when it is first read; then it tells where the signal was sent."""
    shop = sqlite_shop
    seen: list[Emission] = []
    shop.kit.on("account_funded", delivery="after_commit")(lambda s, **extra: None)

    @shop.kit.on("account_opened", delivery="after_commit")
    def read(sender: Account, **extra: Any) -> None:
        seen.append(current_emission._get_current_object())  # type: ignore[attr-defined]

    opened = shop.kit.signal("account_opened", "An account is there.")
    with shop.open() as session:
        before = emissions()
        session.add(acme := Account(name="acme"))
        shop.funded.send(acme)
        assert emissions() == before
        session.commit()
        assert emissions() == before
        opened.send(acme, name="acme")
        session.commit()
    (emission,) = seen
    assert emission.signal == "account_opened"
    assert emission.sender == "tests.deliveries.support.Account"
    assert emission.payload == ("name",)
    assert emission.site is not None
    assert emission.site.name == "test_emission_that_no_receiver_reads_is_not_described"
