"""Globs: which signals they match while they and the signals change."""

from collections.abc import Callable, Iterator
from typing import Any

import blinker
from flask import Flask

from flask_signals_kit import SignalsKit


class Glob(str):  # noqa: SLOT000  it needs an attribute
    """A glob that does something the first time that the kit looks for wildcards in it."""

    interrupt: Callable[[], object] | None = None

    def __iter__(self) -> Iterator[str]:
        interrupt, self.interrupt = self.interrupt, None
        if interrupt is not None:
            interrupt()
        return super().__iter__()


def test_glob_connected_while_another_thread_lists_the_globs_is_found() -> None:
    """A list of globs that was begun before a connection is not used after it."""
    app = Flask("shop")
    kit = SignalsKit(app)
    called: list[str] = []
    glob = Glob("account_f*")
    kit.on(glob)(lambda sender, **extra: called.append("first"))
    glob.interrupt = lambda: kit.on("account_*")(lambda sender, **extra: called.append("second"))
    with app.app_context():
        kit.send("account_funded", "acme")
        called.clear()
        kit.on("other_*")(lambda sender, **extra: None)  # does not match
        kit.send("account_funded", "acme")
    assert called == ["first", "second"]


def test_glob_no_longer_matches_a_name_that_is_bridged_later() -> None:
    """Globs match domain signals alone, also where a name was sent before it was bridged."""
    app = Flask("shop")
    kit = SignalsKit(app)
    called: list[Any] = []
    kit.on("*")(lambda sender, **extra: called.append(sender))
    with app.app_context():
        kit.send("invoice_paid", "before")
        kit.bridge(blinker.NamedSignal("invoice_paid"))
        kit.send("invoice_paid", "after")
    assert called == ["before"]
