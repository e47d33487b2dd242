"""Types, order, patterns and problems: the same on the page, in the JSON and in the commands."""

import re
from typing import Any

import pytest
from flask import Flask
from markupsafe import Markup
from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker

from flask_signals_kit import SignalsKit
from flask_signals_kit.debug.report import FIGURES, report
from tests.debug.page.test_views import MARKUP, cards, page, twin, words
from tests.debug.support import run
from tests.support import Later


class Account:
    """A sender."""


def receive(sender: object, **extra: object) -> None:
    """Be a receiver."""


def make_receiver(name: str, called: list[str] | None = None) -> Any:
    """Return a receiver of this name, which notes its calls."""

    def receiver(sender: object, **extra: object) -> None:
        if called is not None:
            called.append(name)

    receiver.__name__ = receiver.__qualname__ = name
    return receiver


SESSION = scoped_session(sessionmaker(create_engine("sqlite://")))
"""What after-commit receivers wait for."""


def make_app(called: list[str] | None = None, **config: Any) -> Flask:
    """Return an app with a signal whose receivers have several deliveries and patterns."""
    app = Flask("shop")
    app.config.update({"TESTING": True} | config)
    kit = SignalsKit()
    kit.use_session(SESSION)
    kit.init_app(app)

    @kit.declare
    def account_funded(sender: Account, *, amount: int, note: str | None = None) -> None: ...

    for name, target, options in (
        ("second", "account_funded", {}),
        ("fourth", "account_*", {"delivery": "after_commit", "priority": 10}),
        ("sixth", "account_funded", {"delivery": Later(), "priority": 9}),
        ("third", "account_*", {"priority": -1}),
        ("first", "account_funded", {"priority": 1}),
        ("fifth", "account_funded", {"delivery": "after_commit", "priority": 9}),
    ):
        kit.on(target, **options)(make_receiver(name, called))
    return app


ORDER = ["first", "second", "third", "fourth", "fifth", "sixth"]


# -- types ----------------------------------------------------------------------------------------


def test_signal_has_the_types_of_its_stub() -> None:
    """In every form of the report."""
    app = make_app()
    signal = twin(app)["account_funded"]
    assert signal["payload"] == ["amount", "note"]
    assert signal["types"] == {"amount": "int", "note": "str | None"}
    assert signal["sender_type"] == "Account"
    for url in ("", "/signals/account_funded"):
        html = page(app, url)
        assert "amount : int note ? : str | None" in words(html)
        assert "Account" in words(html)
    shown = run(app, "show", "account_funded").output
    assert "  Sender    Account\n  Payload   amount: int, note?: str | None\n" in shown


def test_signal_without_a_stub_has_no_types() -> None:
    """Flask sends its own signals."""
    app = make_app()
    app.extensions["signals_kit"].signal("account_closed")
    closed, started = (twin(app)[name] for name in ("account_closed", "request_started"))
    assert (closed["payload"], closed["types"], closed["sender_type"]) == (None, {}, None)
    assert (started["payload"], started["types"], started["sender_type"]) == ([], {}, "Flask")
    assert "Sender any" in words(page(app, "/signals/account_closed"))
    assert "Sender" not in run(app, "show", "account_closed").output


def test_types_and_patterns_can_be_searched() -> None:
    """As everything that the list shows."""
    app = make_app()
    app.extensions["signals_kit"].signal("account_closed")
    assert list(twin(app, "?q=str")) == ["account_funded"]
    assert list(twin(app, "?q=account_*")) == ["account_closed", "account_funded"]


# -- the order of the receivers -------------------------------------------------------------------


def test_receivers_of_later_deliveries_follow_in_groups_of_their_own() -> None:
    """Whatever their priority is; the numbers continue."""
    app = make_app()
    assert [receiver["name"] for receiver in twin(app)["account_funded"]["receivers"]] == ORDER
    heads = {4: "After the commit", 6: "By delivery 'later'"}
    wanted = [
        text
        for number, name in enumerate(ORDER, start=1)
        for text in ([heads[number]] if number in heads else []) + [f"{number} {name}"]
    ]
    for html in (cards(page(app))["account_funded"], page(app, "/signals/account_funded")):
        rows = [
            words(row)
            for row in re.findall(r"<tr(?: class=\"phase\")?>.*?</tr>", html, re.DOTALL)[1:]
        ]
        assert [re.sub(rf" {__name__}\. (\w+).*", r" \1", row) for row in rows] == wanted
    output = run(app, "show", "account_funded").output
    lines = re.findall(r"^(?:[AB]\w+ .*|  \d  .*)$", output, re.MULTILINE)
    assert [re.sub(rf"^  (\d)  {__name__}\.", r"\1 ", line) for line in lines] == wanted
    listed = run(app, "list", "account_funded").output
    assert re.findall(rf"{re.escape(__name__)}\.(\w+)", listed) == ORDER


def test_receivers_are_listed_in_the_order_in_which_they_run() -> None:
    """Here, the last one is run by a delivery of the test's own, after the commit."""
    called: list[str] = []
    app = make_app(called)
    listed = [receiver["name"] for receiver in twin(app)["account_funded"]["receivers"]]
    with app.app_context():
        SESSION.execute(text("SELECT 1"))
        app.extensions["signals_kit"].send("account_funded", amount=1)
        assert called == listed[:3]
        SESSION.commit()
    SESSION.remove()
    assert called == listed[:5]


def test_heading_of_a_delivery_is_repeated_on_the_next_page() -> None:
    """A page can begin in the middle of a group."""
    app = make_app()
    kit = app.extensions["signals_kit"]
    for number in range(98):
        kit.on("account_funded", delivery="after_commit")(make_receiver(f"receiver_{number}"))
    for number in (1, 2):
        html = page(app, f"/signals/account_funded?receivers={number}")
        assert html.count("After the commit") == 1


def test_receivers_of_the_send_have_no_heading() -> None:
    """Most signals have no others."""
    app = Flask("shop")
    app.testing = True
    SignalsKit(app).on("request_started")(receive)
    assert 'class="phase"' not in page(app, "/signals/request_started")


# -- patterns -------------------------------------------------------------------------------------


def test_receiver_has_the_pattern_that_connected_it() -> None:
    """Or none, if it was connected by name."""
    app = make_app()
    patterns = {
        receiver["name"]: receiver["pattern"]
        for receiver in twin(app)["account_funded"]["receivers"]
    }
    assert patterns == dict.fromkeys(ORDER) | {"third": "account_*", "fourth": "account_*"}
    for url in ("", "/signals/account_funded"):
        assert words(page(app, url)).count("by pattern account_*") == 2
    assert run(app, "show", "account_funded").output.count(", by pattern account_*\n") == 2


# -- problems -------------------------------------------------------------------------------------


def test_number_of_problems_is_the_same_everywhere() -> None:
    """Two in one signal, and one of a Flask signal without other receivers."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)

    def one(sender: object) -> None: ...
    def two(sender: object) -> None: ...

    kit.signal("account_funded")
    kit.on("account_funded")(one)
    kit.on("account_funded")(two)

    def collected(app: Flask, **extra: object) -> None: ...

    kit.on("request_started", weak=True)(collected)
    del collected
    assert len(report(kit.for_app(app)).problems) == 3
    text = words(page(app))
    assert "no orphans, 3 problems" in text
    assert "Problems 3 " in text
    assert "no orphans, 3 problems." in run(app, "list").output
    assert run(app, "check").output.endswith("3 problems\n")
    assert set(twin(app, "?only=problems")) == {"account_funded", "request_started"}


# -- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("journal", [True, False])
def test_json_has_figures_only_if_they_are_counted(journal: bool) -> None:
    """Without a journal they are absent; with one, those that do not exist yet are null."""
    app = make_app(SIGNALS_KIT_JOURNAL=journal)
    receiver = twin(app)["account_funded"]["receivers"][0]
    figures = {name: value for name, value in receiver.items() if name in FIGURES}
    counted = {"calls": 0, "failures": 0, "dropped": 0}
    absent = {"mean": None, "p95": None, "last_failure": None}
    assert figures == (counted | absent if journal else {})


# -- urls -----------------------------------------------------------------------------------------


def test_signals_have_a_url_of_their_own() -> None:
    """The navigation, the form and all links lead there; the index shows the same."""
    app = make_app()
    client = app.test_client()
    html = client.get("/_signals/signals").text
    assert '<a href="/_signals/signals" aria-current="page">Signals</a>' in html
    assert 'action="/_signals/signals"' in html
    assert not re.search(r'(href|action)="/_signals(\?|#|")', html)
    assert client.get("/_signals").text == html
    assert client.get("/_signals/signals/").text == html


def test_filters_that_match_nothing_are_marked() -> None:
    """They stay, because they may be selected."""
    html = page(make_app(), "?only=failing")
    labels = dict(re.findall(r'<label for="(\w+-\w+)"([^>]*)>', html))
    assert labels["only-receivers"] == ""
    assert labels["only-failing"] == labels["origin-bridged"] == ' class="none"'
    assert 'value="failing" checked' in html


# -- escaping -------------------------------------------------------------------------------------


def test_types_patterns_and_deliveries_are_escaped() -> None:
    """All of them may contain markup, and be strings of a class that templates trust."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)

    class Sneaky(Later):
        name: str = Markup(MARKUP)

    def account_funded(sender: Any, *, amount: Any, note: Any) -> None: ...

    odd = type("Odd", (), {"__qualname__": Markup(MARKUP)})
    account_funded.__annotations__ = {"sender": Markup(MARKUP), "amount": odd, "note": MARKUP}
    kit.declare(account_funded)
    kit.on(Markup("account_[<b>f]*"), delivery=Sneaky())(receive)
    for url in ("", "/signals/account_funded"):
        html = page(app, url)
        assert html.count("&lt;script&gt;alert(1)") >= 5
        assert "account_[&lt;b&gt;f]*" in html
        assert "<script>alert" not in html
        assert "<b>f" not in html
        assert not re.search(r"=\"[^\"]*<(script|b>f)", html)
