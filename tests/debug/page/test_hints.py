"""Hints on the page for causes that a status alone does not explain."""

import re

from flask import Flask
from markupsafe import Markup

from flask_signals_kit import SignalsKit
from tests.debug.page.test_views import MARKUP, page, words
from tests.support import make_app


class Account:
    """A sender."""


def receive(sender: object, **extra: object) -> None:
    """Be a receiver."""


def send(kit: SignalsKit, app: Flask, name: str = "account_funded") -> str:
    """Send a signal, and return the HTML of its emission."""
    with app.app_context():
        kit.namespace.signal(name).send(Account())
    journal = kit.for_app(app).journal
    assert journal is not None
    [entry] = [entry for entry in journal.entries() if entry.signal == name]
    return page(app, f"/emissions/{entry.number}")


def journaled_app(kit: SignalsKit) -> Flask:
    """Return an app with a page, a journal and a declared signal."""
    kit.signal("account_funded")
    return make_app(kit, TESTING=True)


def test_other_sender_of_the_same_type_is_said_to_be_another_object(kit: SignalsKit) -> None:
    """The two names would be the same, which looks like a contradiction."""
    app = journaled_app(kit)
    account = Account()
    kit.on("account_funded", sender=account)(receive)
    kit.on("account_funded", sender=Account)(lambda sender, **extra: None)
    kit.on("account_funded")(lambda sender, **extra: None)
    shown = words(send(kit, app))
    assert f"connected for another object of type {__name__}.Account" in shown
    assert f"connected for sender type {__name__}.Account, sent by {__name__}.Account" in shown


def test_skipping_lambda_is_shown_with_its_place(kit: SignalsKit) -> None:
    """The name of a lambda does not tell which one it is."""
    app = journaled_app(kit)
    kit.on("account_funded", when=lambda sender, **extra: False)(receive)
    shown = words(send(kit, app))
    assert re.search(r"<lambda> \(\S*test_hints\.py:\d+\) returned false", shown)


def test_undeclared_signal_is_marked_in_the_tree(kit: SignalsKit) -> None:
    """A pattern may have receivers for a name with a typo, so that nothing else looks wrong."""
    app = journaled_app(kit)
    kit.on("account_*")(receive)
    assert "Not declared" in words(send(kit, app, "account_fundd"))
    assert "Not declared" not in words(send(kit, app, "account_funded"))


def test_signal_links_to_receivers_of_a_similar_name(kit: SignalsKit) -> None:
    """A receiver that was connected to a typo is searched where it should have run."""
    app = journaled_app(kit)
    assert "Is it a typo?" not in page(app, "/signals/account_funded")
    kit.on("acount_funded")(receive)
    shown = page(app, "/signals/account_funded")
    assert "The receivers of acount_funded are not among them" in words(shown)
    assert 'href="/_signals/signals/acount_funded"' in shown
    assert "Is it a typo?" not in page(app, "/signals/request_started"), "not similar"
    assert "Is it a typo?" not in page(app, "/signals/acount_funded"), "it is the typo"


def test_explanation_says_that_a_missing_receiver_was_not_connected(kit: SignalsKit) -> None:
    """Such as one in a module that was not imported."""
    app = journaled_app(kit)
    send(kit, app)
    assert "A receiver that is missing here was not connected" in page(
        app, "/signals/account_funded"
    )


def test_names_with_markup_in_hints_are_escaped(kit: SignalsKit) -> None:
    """A name that is similar, and one in the tree, both of them ``Markup``."""
    app = journaled_app(kit)
    long = f"account_funded_and_confirmed_and_booked_and_archived{MARKUP}"
    kit.for_app(app).namespace.signal(Markup(f"{long}!")).connect(receive)
    kit.for_app(app).namespace.signal(Markup(MARKUP)).connect(receive)
    kit.signal(long.replace(MARKUP, "scriptalert1script"))
    for html in (
        page(app, f"/signals/{long.replace(MARKUP, 'scriptalert1script')}"),
        send(kit, app, Markup(MARKUP)),
    ):
        assert "&lt;script&gt;" in html
        assert "<script>alert" not in html
