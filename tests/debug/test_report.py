"""The report: signals, receivers, figures and selections. Creating it changes nothing."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import blinker
import flask.signals
import pytest
from flask import Flask

from flask_signals_kit import AppSignals, Namespace, SignalsKit
from flask_signals_kit.debug.labels import (
    duration,
    near_file,
    short_file,
)
from flask_signals_kit.debug.report import (
    ORIGINS,
    TRAITS,
    Report,
    Selection,
    report,
)
from tests.debug.support import Account, receive, receive_amount, signal_of, waits
from tests.support import Later


def test_report_of_an_empty_app_has_flasks_ten_signals(shop: AppSignals) -> None:
    """Without receivers, and none of them is an orphan."""
    found = report(shop)
    assert found.app == "shop"
    assert {signal.origin for signal in found.signals} == {"flask"}
    assert len(found.signals) == 10
    assert (found.receivers, found.orphans, found.problems) == ((), (), ())


def test_signals_are_sorted_by_origin_and_name(shop: AppSignals) -> None:
    """The app's own first, Flask's last."""
    theirs = blinker.Namespace()
    theirs.signal("invoice-paid")
    shop.bridge(theirs, prefix="billing.")
    shop.signal("b_happened")
    shop.signal("a_happened")
    names = [(signal.origin, signal.name) for signal in report(shop).signals]
    assert names[:4] == [
        ("domain", "a_happened"),
        ("domain", "b_happened"),
        ("bridged", "billing.invoice_paid"),
        ("flask", "appcontext_popped"),
    ]
    assert [origin for origin, _ in names] == sorted(
        (origin for origin, _ in names), key=ORIGINS.index
    )


def test_declared_signal_has_doc_payload_policy_and_place(shop: AppSignals) -> None:
    """All of it from the stub."""

    @shop.declare(on_error="group")
    def account_funded(sender: Account, *, amount: int, note: str = "") -> None:
        """Money arrived.

        A customer paid.
        """

    signal = signal_of(shop, "account_funded")
    assert signal.doc == "Money arrived. A customer paid."
    assert (signal.payload, signal.optional) == (("amount", "note"), ("note",))
    assert signal.on_error == "group"
    assert signal.declared
    assert signal.file == __file__


def test_signal_without_a_stub_has_an_unknown_payload(shop: AppSignals) -> None:
    """``None`` is not the same as no payload."""
    shop.signal("account_funded")

    @shop.declare
    def account_opened(sender: Account) -> None: ...

    assert signal_of(shop, "account_funded").payload is None
    assert signal_of(shop, "account_opened").payload == ()


def test_bridged_signal_has_the_doc_of_its_source(shop: AppSignals) -> None:
    """Bridging counts as a declaration."""
    shop.bridge(blinker.NamedSignal("invoice-paid", "An invoice was paid."))
    signal = signal_of(shop, "invoice_paid")
    assert (signal.origin, signal.doc, signal.declared) == ("bridged", "An invoice was paid.", True)
    assert not signal.orphan


def test_kit_and_app_receivers_are_listed_in_calling_order(shop: AppSignals) -> None:
    """As a send would call them."""
    app = Flask("other")
    kit = SignalsKit(app)
    kit.signal("account_funded")
    order: list[str] = []
    for name, api, priority in (
        ("kit", kit, 0),
        ("app", kit.for_app(app), 0),
        ("first", kit, 5),
        ("last", kit, -5),
    ):

        def receiver(sender: object, name: str = name, **extra: object) -> None:
            order.append(name)

        receiver.__qualname__ = name
        api.on("account_funded", priority=priority)(receiver)
    with app.app_context():
        kit.send("account_funded")
    found = signal_of(kit.for_app(app), "account_funded")
    assert (
        [receiver.name for receiver in found.receivers] == order == ["first", "kit", "app", "last"]
    )


def test_glob_receiver_is_listed_for_each_matching_signal(shop: AppSignals) -> None:
    """A list that misses them would answer the wrong question."""
    shop.signal("account_funded")
    shop.signal("campaign_created")
    shop.on("account_*")(receive)
    shop.signal("account_opened")
    listening = [signal.name for signal in report(shop).signals if signal.receivers]
    assert listening == ["account_funded", "account_opened"]


@pytest.mark.parametrize(
    ("sender", "label"),
    [
        (Account, f"type {Account.__module__}.Account"),
        ("acme", "'acme'"),
        (0, "0"),
        (False, "False"),
    ],
)
def test_sender_filter_is_shown_by_value_or_type(
    shop: AppSignals, sender: object, label: str
) -> None:
    """Falsy ones are filters, too."""
    shop.signal("account_funded")
    shop.on("account_funded", sender=sender)(receive)
    [receiver] = signal_of(shop, "account_funded").receivers
    assert receiver.sender == label


def foreign(app_signals: AppSignals, name: str) -> list[tuple[str, str | None, bool]]:
    """Return name, sender and weakness of the foreign receivers of a signal."""
    return [
        (receiver.name, receiver.sender, receiver.weak)
        for receiver in signal_of(app_signals, name).receivers
        if receiver.foreign
    ]


def test_third_party_receivers_of_flask_signals_are_listed(shop: AppSignals) -> None:
    """For any sender and for this app; not those of another app."""
    other = Flask("other")

    def any_app(app: Flask, **extra: object) -> None: ...
    def this_app(app: Flask, **extra: object) -> None: ...
    def other_app(app: Flask, **extra: object) -> None: ...

    source = flask.signals.request_finished
    source.connect(any_app)
    source.connect(this_app, shop.app, weak=False)
    source.connect(other_app, other)
    found = [
        (name.rpartition(".")[2], sender, weak)
        for name, sender, weak in foreign(shop, "request_finished")
    ]
    assert found == [("any_app", None, True), ("this_app", "this app", False)]
    source.disconnect(this_app)


def test_relays_are_not_listed(shop: AppSignals) -> None:
    """Neither this app's nor another's; their receivers are."""
    other = Flask("other")
    theirs = blinker.Namespace().signal("invoice-paid")
    for app in (shop, SignalsKit(other).for_app(other)):
        app.on(theirs, "request_started", "appcontext_pushed")(receive)
        app.on_exception(lambda app, exception, **extra: None)
    for name in ("invoice_paid", "request_started", "appcontext_pushed", "got_request_exception"):
        assert foreign(shop, name) == []
    assert [r.name for r in signal_of(shop, "request_started").receivers] == ["receive"]


def test_manual_relay_is_listed(shop: AppSignals) -> None:
    """It is a method of the kit's, but the app connected it."""
    theirs = blinker.Namespace().signal("invoice-paid")
    shop.bridge(theirs)
    ours = shop.signal("account_charged")
    theirs.connect(ours.send, weak=False)
    assert foreign(shop, "invoice_paid") == [("DomainSignal.send", None, False)]


def test_third_party_receivers_for_other_senders_are_listed(shop: AppSignals) -> None:
    """Blueprints, models and strings can be senders of third-party signals."""
    theirs = blinker.Namespace().signal("invoice-paid")
    shop.bridge(theirs)
    account = Account()
    theirs.connect(receive, account)
    theirs.connect(receive_amount, "acme")
    assert foreign(shop, "invoice_paid") == [
        ("receive", f"{Account.__module__}.Account", True),
        ("receive_amount", "one value", True),
    ]


def test_third_party_receivers_of_a_bridged_kit_signal_are_listed(
    shop: AppSignals,
) -> None:
    """The kit's own signal class stores them differently from blinker's."""
    other = Flask("other")
    theirs = Namespace().signal("invoice-paid")
    for app in (shop, SignalsKit(other).for_app(other)):
        app.bridge(theirs)
        app.on("invoice_paid")(receive)
    theirs.connect(receive)
    theirs.connect(receive_amount, shop.app)
    theirs.connect(fails, other)
    theirs.connect(waits, "acme", priority=5)
    assert [
        (receiver.name, receiver.sender, receiver.priority, receiver.foreign)
        for receiver in signal_of(shop, "invoice_paid").receivers
    ] == [
        ("receive", None, 0, False),
        ("waits", "'acme'", 5, True),
        ("receive", None, 0, True),
        ("receive_amount", "this app", 0, True),
    ]


class OfNoModule:
    """A receiver whose class has no valid module."""

    __module__ = None  # type: ignore[assignment]

    def __call__(self, sender: object, **extra: object) -> None:
        """Listen."""


class Unreadable:
    """A receiver whose attributes all raise."""

    def __call__(self, sender: object, **extra: object) -> None:
        """Listen."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    @property
    def __signature__(self) -> object:
        raise RuntimeError("signature")


@pytest.mark.parametrize("kind", [OfNoModule, Unreadable])
def test_unreadable_third_party_receiver_is_tolerated(shop: AppSignals, kind: type[Any]) -> None:
    """It is shown by its type."""
    receiver = kind()
    flask.signals.message_flashed.connect(receiver, shop.app)
    assert foreign(shop, "message_flashed") == [(kind.__name__, "this app", True)]
    flask.signals.message_flashed.disconnect(receiver)


def fails(sender: object, **extra: object) -> None:
    """Raise for some payloads."""
    raise LookupError("no such account")


def test_receiver_has_figures_if_a_journal_is_kept(shop: AppSignals) -> None:
    """Third-party receivers are not counted, nor calls before the journal begins."""
    shop.signal("account_funded", on_error="isolate")
    shop.on("account_funded")(receive)
    shop.on("account_funded")(fails)
    shop.on("request_started")(receive)
    flask.signals.request_started.connect(fails, shop.app)
    before = report(shop)
    assert not before.journal
    assert {(r.calls, r.failures, r.mean, r.p95) for r in before.receivers} == {(None,) * 4}
    shop.app.testing = True
    with shop.app.app_context():
        shop.send("account_funded")
        shop.send("account_funded")
    found = report(shop)
    assert found.journal
    figures = [
        (r.name, r.calls, r.failures, r.last_failure and r.last_failure.error)
        for r in found.receivers
    ]
    assert figures == [
        ("receive", 2, 0, None),
        ("fails", 2, 2, "LookupError"),
        ("receive", 0, 0, None),
        ("fails", None, None, None),
    ]
    assert all(0 < r.mean <= r.p95 * 2 for r in found.receivers if r.calls and r.mean and r.p95)


def test_signal_with_a_failure_has_the_trait_failing(shop: AppSignals) -> None:
    """The selection can filter by it, and search for the exception's name."""
    shop.app.testing = True
    shop.signal("account_funded", on_error="isolate")
    shop.signal("account_closed", on_error="isolate")
    shop.on("account_funded", "account_closed")(fails)
    shop.on("account_closed")(receive)
    with shop.app.app_context():
        assert report(shop).tally()["failing"] == 0
        shop.send("account_funded")
    found = report(shop)
    assert names(found.select(Selection(traits=("failing",)))) == ["account_funded"]
    assert names(found.select(Selection(words="lookuperror"))) == ["account_funded"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 µs"),
        (0.000_000_3, "0.3 µs"),
        (0.000_009_94, "9.9 µs"),
        (0.000_009_96, "10 µs"),
        (0.000_312_4, "312 µs"),
        (0.000_999_4, "999 µs"),
        (0.000_999_6, "1.0 ms"),
        (0.0123, "12 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (75.4, "75 s"),
        (4000.0, "4,000 s"),
    ],
)
def test_duration_is_formatted_with_a_suitable_unit(seconds: float, text: str) -> None:
    """Never 1,000 of one unit, and few digits."""
    assert duration(seconds) == text


@pytest.fixture
def variety(shop: AppSignals) -> Report:
    """Return a report with signals of several traits."""

    async def later(sender: object, **extra: object) -> None: ...

    shop.signal("account_funded", "Money arrived.")
    shop.signal("account_closed")
    shop.on("account_funded")(later)
    shop.on("request_started", weak=True)(receive)
    return report(shop)


def test_report_of_one_signal_equals_its_part_of_the_full_report(shop: AppSignals) -> None:
    """Without describing the others."""
    shop.signal("account_funded", "Money arrived.")
    shop.signal("account_closed")
    shop.on("account_funded", "account_closed")(receive_amount)
    found = report(shop, "account_funded")
    assert names(found) == ["account_funded"]
    assert asdict(found.signals[0]) == asdict(signal_of(shop, "account_funded"))
    assert report(shop, "account").signals == ()


def names(found: Report) -> list[str]:
    """Return the names of a report's signals."""
    return [signal.name for signal in found.signals]


def test_empty_selection_keeps_every_signal(variety: Report) -> None:
    """It is what the page shows without filters."""
    assert variety.select(Selection()).signals == variety.signals


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(words="MONEY funded"), ["account_funded"]),
        (Selection(words="test_report account"), ["account_closed", "account_funded"]),
        (Selection(words="support request"), ["request_started"]),
        (Selection(origins=("domain",)), ["account_closed", "account_funded"]),
        (Selection(origins=("domain", "flask"), traits=("weak",)), ["request_started"]),
        (Selection(traits=("receivers", "async")), ["account_funded"]),
        (Selection(traits=("orphans",)), ["account_closed"]),
        (Selection(traits=("orphans", "async")), []),
    ],
)
def test_selection_filters_by_words_origins_and_traits(
    variety: Report, selection: Selection, wanted: list[str]
) -> None:
    """Origins are alternatives; words and traits must all match."""
    assert names(variety.select(selection)) == wanted


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("account_*", ["account_closed", "account_funded"]),
        ("*funded", ["account_funded"]),
        ("FUND", ["account_funded"]),
        ("account_?", []),
        ("none", []),
    ],
)
def test_names_can_be_searched_by_glob_and_by_part(
    variety: Report, pattern: str, wanted: list[str]
) -> None:
    """A glob must match the whole name."""
    assert names(variety.like(pattern)) == wanted


def test_unused_flask_and_bridged_signals_can_be_hidden(variety: Report) -> None:
    """The app's own orphans stay."""
    assert names(variety.without_unused()) == [
        "account_closed",
        "account_funded",
        "request_started",
    ]


def test_counts_of_origins_and_traits(variety: Report) -> None:
    """One signal counts in each that it has."""
    tally = variety.tally()
    assert (tally["domain"], tally["bridged"], tally["flask"]) == (2, 0, 10)
    assert {trait: tally[trait] for trait in TRAITS} == {
        "receivers": 2,
        "orphans": 1,
        "problems": 0,
        "failing": 0,
        "async": 1,
        "weak": 1,
        "foreign": 0,
    }


def test_report_is_json_serialisable(variety: Report) -> None:
    """Strings, numbers, lists and nothing else, the same after a round trip."""
    data = variety.to_json()
    assert (data["app"], data["journal"]) == ("shop", False)
    again: Any = json.loads(json.dumps(data))
    assert [signal["name"] for signal in again["signals"]] == names(variety)
    assert again["signals"][1]["receivers"][0]["is_async"] is True


def test_file_names_are_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the page as imported; in the terminal relative to the working directory."""
    project, installed = tmp_path / "project", tmp_path / "project" / "venv" / "site-packages"
    monkeypatch.syspath_prepend(str(installed))
    installed.mkdir(parents=True)
    monkeypatch.chdir(project)
    own, theirs = str(project / "shop" / "a.py"), str(installed / "sentry" / "b.py")
    assert short_file(own) == near_file(own) == str(Path("shop", "a.py"))
    assert short_file(theirs) == str(Path("sentry", "b.py"))
    assert near_file(theirs) == str(Path("venv", "site-packages", "sentry", "b.py"))
    assert short_file("/else/where.py") == near_file("/else/where.py") == "/else/where.py"


def test_file_in_a_sibling_of_the_working_directory_is_not_shortened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``/project-2`` only begins like ``/project``."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    other = str(tmp_path / "project-2" / "a.py")
    assert near_file(other) == other


@pytest.mark.skipif(sys.platform == "win32", reason="a directory in use cannot be removed there")
def test_deleted_working_directory_is_tolerated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server can outlive the directory in which it was started."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert near_file("/else/where.py") == "/else/where.py"


def test_fix_for_a_catalogue_signal_is_to_bridge_it() -> None:
    """Declaring it would create a signal that the extension never sends."""
    kit = SignalsKit()
    kit.on("flask_login.user_logged_in")(lambda sender, **extra: None)
    app = Flask("shop")
    kit.init_app(app)
    with app.app_context():
        [problem] = kit.check()
    assert problem.fix == "Bridge the signals of that extension with kit.bridge('flask_login')."


def test_receivers_have_the_position_in_which_a_send_comes_to_them(shop: AppSignals) -> None:
    """Receivers with a delivery are listed last, but a send comes to them in turn."""
    shop.on("account_funded", delivery=Later())(waits)
    shop.on("account_funded")(receive)
    flask.signals.request_started.connect(receive, shop.app)
    receivers = signal_of(shop, "account_funded").receivers
    assert [(each.name, each.position) for each in receivers] == [("receive", 2), ("waits", 1)]
    assert [each.position for each in signal_of(shop, "request_started").receivers] == [None]


def test_muted_signals_are_marked(shop: AppSignals) -> None:
    """Muting can apply to every thread, or to a block."""
    shop.signal("account_funded", "Money arrived.")
    assert not signal_of(shop, "account_funded").muted
    with shop.namespace["account_funded"].muted():
        assert signal_of(shop, "account_funded").muted
    shop.namespace["account_funded"].is_muted = True
    assert signal_of(shop, "account_funded").muted
