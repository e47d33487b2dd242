"""Pending calls are kept by the kit: the app cannot lose them; each lost call is logged."""

import gc
import logging
import weakref
from collections.abc import Callable
from contextlib import closing

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from tests.deliveries.support import Shop, messages


@pytest.mark.parametrize("name", ["after_commit", "after_rollback", "after_soft_rollback"])
def test_clearing_session_info_loses_no_call(any_shop: Shop, name: str) -> None:
    """An app can clear ``session.info`` in every event of SQLAlchemy."""
    seen = any_shop.listen()

    def clear(session: Session, *transaction: object) -> None:
        session.info.clear()

    with any_shop.open() as session:
        event.listen(session, name, clear)
        session.info["user"] = "ada"
        any_shop.fund("acme")
        session.begin_nested().rollback()
        assert list(session.info) in ([], ["user"])
        savepoint = session.begin_nested()
        any_shop.fund("globex")
        savepoint.commit()
        session.info.clear()
        session.commit()
        event.remove(session, name, clear)
    assert seen == any_shop.rows() == ["acme", "globex"]


def _send_in(shop: Shop, session: Session, sender: object) -> None:
    with shop.open():
        session.begin()
        shop.funded.send(sender)


@pytest.mark.parametrize("make", [lambda session: "acme", lambda session: session])
def test_session_collected_while_calls_wait_is_logged(
    sqlite: str, make: Callable[[Session], object], caplog: pytest.LogCaptureFixture
) -> None:
    """A session that is never closed is freed with its calls; the log has their receivers."""
    with closing(Shop(sqlite, "use_session")) as shop:
        current: list[Session] = [Session(shop.engine)]
        shop.kit.use_session(lambda: current[0] if current else None)
        seen = shop.listen()
        _send_in(shop, current[0], make(current[0]))
        gone = weakref.ref(current.pop())
        gc.collect()
        assert gone() is None
        [warning] = messages(caplog, logging.WARNING)
        assert "discarded without commit, rollback or close" in warning
        assert "Shop.listen" in warning
        assert "'account_funded'" in warning
        assert seen == []
        assert shop.tally().dropped == 1


def test_closed_session_logs_no_warning(any_shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Calls that were dropped or have run are not lost."""
    any_shop.listen()
    for end in ("commit", "rollback", "close"):
        with any_shop.open() as session:
            any_shop.fund(end)
            getattr(session, end)()
    gc.collect()
    assert messages(caplog, logging.WARNING) == []
