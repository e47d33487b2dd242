"""Many after-commit receivers at once, and long chains of them."""

from typing import Any

import pytest

from flask_signals_kit import AfterCommit
from tests.delivery.support import Account, Shop, messages

CHAIN = 1_000


@pytest.mark.parametrize("what", ["nothing", "read", "write", "commit"])
@pytest.mark.parametrize("start", ["commit", "at once"])
def test_long_chain_of_receivers(
    shop: Shop, what: str, start: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each receiver sends for the next: a loop, and no recursion."""
    ran: list[int] = []

    @shop.kit.on("account_funded", delivery="after_commit")
    def go_on(sender: object, *, number: int, **extra: Any) -> None:
        ran.append(number)
        session = shop.session
        if what == "read":
            assert session.get(Account, 1)
        elif what != "nothing":
            session.add(Account(name=f"{number}"))
        if number < CHAIN:
            shop.funded.send(sender, number=number + 1)
        if what == "commit":
            session.commit()

    with shop.open() as session:
        acme = Account(name="acme")
        session.add(acme)
        if start == "at once":
            session.commit()
        shop.funded.send(acme, number=1)
        session.commit()
        assert not session.in_transaction()
    assert messages(caplog) == []
    assert ran == [*range(1, CHAIN + 1)]
    assert len(shop.rows()) == (CHAIN + 1 if what in {"write", "commit"} else 1)


def test_receiver_that_commits_another_session_runs_what_waits_for_it(
    sqlite_shop: Shop,
) -> None:
    """That session may be closed when the receiver returns, and its instances with it."""
    order: list[str] = []
    shop = sqlite_shop
    current: list[Any] = []
    other = AfterCommit(session=lambda: current[-1] if current else None)

    @shop.kit.on("account_opened", delivery=other)
    def note(sender: Account, **extra: Any) -> None:
        order.append(sender.name)

    @shop.kit.on("account_funded", delivery="after_commit")
    def open_another(sender: str, **extra: Any) -> None:
        with shop.app.app_context():
            current.append(shop.session)
            account = Account(name="friend")
            shop.session.add(account)
            shop.opened.send(account)
            shop.session.commit()
            order.append("committed")

    with shop.open() as session:
        shop.fund("acme")
        session.commit()
    assert order == ["friend", "committed"]
