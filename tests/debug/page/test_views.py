"""The views of the page, as HTML and as JSON."""

import gc
import json
import re
import weakref
from html import unescape
from importlib.resources import files
from typing import Any

import flask.signals
import pytest
from flask import Flask
from markupsafe import Markup

from flask_signals_kit import SignalsKit
from flask_signals_kit.debug.page.views import STATIC, Views
from tests.support import Later


class Account:
    """A sender."""


ACME = Account()


def is_large(account: object, *, amount: int = 0, **extra: object) -> bool:
    """Return whether an amount is large."""
    return amount > 100


def dismiss_alert(account: object, **extra: object) -> None:
    """Be a receiver with a predicate."""


async def sync_to_ledger(account: object, **extra: object) -> None:
    """Be an async receiver with a sender filter."""


def thank(account: object, *, amount: int, method: str, note: str = "") -> None:
    """Be a receiver without ``**extra``."""


def sent_by_hand(account: object, **extra: object) -> None:
    """Be a receiver of an undeclared name."""


def watch_requests(app: Flask, **extra: object) -> None:
    """Be a receiver of Flask's requests."""


def make_app() -> Flask:
    """Return an app with signals and receivers of every kind."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)

    @kit.declare(on_error="isolate")
    def account_funded(sender: Account, *, amount: int, method: str, note: str = "") -> None:
        """Money arrived in an ``Account``."""

    kit.signal("campaign_archived", "It has no receivers yet.")
    kit.on(account_funded)(thank)
    kit.on(account_funded, priority=10, when=is_large, uid="alerts")(dismiss_alert)
    kit.on(account_funded, sender="acme", on_error="raise")(sync_to_ledger)  # type: ignore[call-overload]  # no Account
    kit.on("acount_funded", delivery=Later())(sent_by_hand)
    kit.on("request_started")(watch_requests)
    return app


def page(app: Flask, url: str = "") -> str:
    """Return the HTML of a view: the list of signals, perhaps with a query, or another path."""
    path = url if url.startswith("/") else f"/signals{url}"
    response = app.test_client().get(f"/_signals{path}")
    assert response.status_code == 200
    return response.text


def twin(app: Flask, query: str = "") -> dict[str, Any]:
    """Return the signals in a view's JSON, by name."""
    response = app.test_client().get(f"/_signals/signals.json{query}")
    assert response.mimetype == "application/json"
    return {signal["name"]: signal for signal in response.get_json()["signals"]}


def cards(html: str) -> dict[str, str]:
    """Return the HTML of each signal in a view, by name."""
    found = re.findall(r'<article class="signal[^>]*>.*?</article>', html, re.DOTALL)
    shown = [card for card in found if " hidden" not in card.partition(">")[0]]
    return {str(re.search(r'id="signal-([^"]*)"', card)[1]): card for card in shown}  # type: ignore[index]


def words(html: str) -> str:
    """Return the text of some HTML."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html.replace("<wbr>", ""))).split())


# -- the signals ----------------------------------------------------------------------------------


def test_signal_has_doc_payload_policy_and_place() -> None:
    """What it means and what to expect of it."""
    card = words(cards(page(make_app()))["account_funded"])
    assert card.startswith(
        "account_funded Payload: amount : int method : str note ? : str from Account on_error:"
    )
    assert "Money arrived in an Account ." in card
    assert "on_error: isolate" in card
    assert re.search(r"tests/debug/page/test_views\.py:\d+", card)


def test_receivers_are_listed_in_calling_order_with_their_places() -> None:
    """By priority, then in connection order."""
    card = words(cards(page(make_app()))["account_funded"])
    order = [card.index(f"{name} ") for name in ("dismiss_alert", "thank", "sync_to_ledger")]
    assert order == sorted(order)
    line = dismiss_alert.__code__.co_firstlineno
    assert f"{__name__}. dismiss_alert" in card
    assert f"tests/debug/page/test_views.py:{line}" in card


def test_options_of_a_receiver_are_shown() -> None:
    """Sender, predicate, priority, delivery and policy, and whether it is async."""
    app = make_app()
    card = words(cards(page(app))["account_funded"])
    assert "sync_to_ledger async on_error: raise" in card
    assert "when is_large 10 immediate" in card
    assert "sync_to_ledger async" in card
    assert "sender 'acme' 0 immediate" in card
    assert "any sender 0 later" in words(cards(page(app))["acount_funded"])


def test_orphan_is_marked() -> None:
    """A declared signal without receivers has a mark of its own."""
    shown = cards(page(make_app()))
    assert "orphan" in words(shown["campaign_archived"])
    assert "orphan" not in words(shown["account_funded"])
    assert "orphan" not in words(shown["request_finished"])


def test_problems_are_listed_at_the_top() -> None:
    """Each with cause, fix, and a link to its signal."""
    html = page(make_app())
    summary = html[: html.index("<form")]
    assert "2 problems" in summary
    text = words(summary)
    assert "thank of signal 'account_funded' has no **kwargs" in text
    assert "Fix Add **extra to its parameters." in text
    assert "it is not declared. Did you mean 'account_funded'?" in text
    assert "Fix Use 'account_funded'. If 'acount_funded' is a signal of its own: Declare it" in text
    assert 'href="/_signals/signals/acount_funded"' in summary
    assert "Not declared" in words(cards(html)["acount_funded"])


def test_page_without_problems_has_no_problem_list() -> None:
    """No heading without a problem."""
    app = Flask("shop")
    app.testing = True
    SignalsKit(app)
    html = page(app)
    assert "no problems" in words(html)
    assert "trouble" not in html


def test_third_party_receivers_are_marked_as_foreign() -> None:
    """Such as those of Sentry or a toolbar on Flask's own signals."""
    app = make_app()

    def of_a_toolbar(app: Flask, **extra: object) -> None: ...

    flask.signals.request_started.connect(of_a_toolbar, app)
    card = words(cards(page(app))["request_started"])
    assert "watch_requests" in card
    assert re.search(r"of_a_toolbar weak foreign .* sender this app 0 immediate", card)
    receivers = twin(app)["request_started"]["receivers"]
    assert [receiver["foreign"] for receiver in receivers] == [False, True]


def test_flask_signals_without_receivers_come_last() -> None:
    """All ten are listed; those without receivers take little room."""
    html = page(make_app())
    names = list(cards(html))
    assert len([name for name in names if name in {*twin(make_app(), "?origin=flask")}]) == 10
    assert names.index("request_started") < names.index("appcontext_popped")


# -- one signal -----------------------------------------------------------------------------------


def test_signal_has_a_view() -> None:
    """With all its facts, its problems, and sample code to connect to it."""
    text = words(page(make_app(), "/signals/account_funded"))
    assert "the sender continues" in text
    assert "3 receivers, in calling order" in text
    assert "Sender Account Payload Payload: amount : int method : str note ? : str Sent" in text
    assert "uid alerts" in text
    assert "sync_to_ledger async on_error: raise" in text
    assert "has no **kwargs" in text
    assert "def receiver(sender, *, amount, method, note=None, **extra):" in text


def test_sample_code_matches_the_signal() -> None:
    """Flask's signals are sent by the app; one with any payload has no names."""
    app = make_app()
    assert "def receiver(app, *, response, **extra):" in page(app, "/signals/request_finished")
    assert "def receiver(sender, **extra):" in page(app, "/signals/campaign_archived")


def sample(html: str) -> str:
    """Return the sample code of a view, which Python must accept."""
    found = re.search(r"<pre[^>]*><code>(.*?)</code>", html, re.DOTALL)
    assert found is not None
    code = unescape(found[1])
    compile(code, "sample", "exec")
    return code


def test_sample_code_is_valid_and_readable() -> None:
    """Whatever the payload's names and number."""
    app = make_app()
    kit = app.extensions["signals_kit"]

    @kit.declare
    def odd_happened(sender: Account, *, extra: int, extra_: int = 0) -> None: ...

    @kit.declare
    def campaign_created(
        sender: Account,
        *,
        campaign_name: str,
        daily_budget: int,
        opening_day: str,
        closing_day: str = "",
    ) -> None: ...

    assert "(sender, *, extra, extra_=None, **extra__):" in sample(
        page(app, "/signals/odd_happened")
    )
    assert sample(page(app, "/signals/campaign_created")).splitlines()[1:-1] == [
        "def receiver(",
        "    sender,",
        "    *,",
        "    campaign_name,",
        "    daily_budget,",
        "    opening_day,",
        "    closing_day=None,",
        "    **extra,",
        "):",
    ]


def test_open_payload_is_marked() -> None:
    """A stub with ``**extra`` allows undeclared names."""
    app = make_app()
    kit = app.extensions["signals_kit"]

    @kit.declare
    def report_asked(sender: Account, *, title: str, **extra: object) -> None: ...

    @kit.declare
    def all_done(sender: Account, **extra: object) -> None: ...

    html = page(app)
    assert words(cards(html)["report_asked"]).startswith(
        "report_asked Payload: title : str **extra"
    )
    assert words(cards(html)["all_done"]).startswith("all_done Payload: **extra")
    assert "**extra" not in words(cards(html)["campaign_archived"])
    assert "Payload: title : str **extra" in words(page(app, "/signals/report_asked"))
    names = ("report_asked", "all_done", "campaign_archived", "account_funded")
    assert [twin(app)[name]["open"] for name in names] == [True, True, True, False]


def test_backticks_become_code() -> None:
    """One or two of them, and Sphinx roles; a single backtick stays."""
    app = make_app()
    kit = app.extensions["signals_kit"]
    kit.signal("report_asked", "A `b` ``c`` :func:`d` :py:class:`e` it's ` alone.")
    card = cards(page(app))["report_asked"]
    assert (
        "<p>A <code>b</code> <code>c</code> <code>d</code> <code>e</code> it&#39;s ` alone.</p>"
        in card.replace("\n", "")
    )


def test_unknown_signal_is_404_with_a_suggestion() -> None:
    """Inside the page, a 404 may be helpful."""
    client = make_app().test_client()
    response = client.get("/_signals/signals/account_fundd")
    assert response.status_code == 404
    assert "Did you mean account_funded ?" in words(response.text)
    assert '<a href="/_signals/signals/account_funded">' in response.text
    assert "Did you mean" not in client.get("/_signals/signals/zebra").text


def test_back_link_of_a_signal_keeps_the_filters() -> None:
    """A signal's link has them, and its view links back with them."""
    app = make_app()
    card = cards(page(app, "?q=money&only=async"))["account_funded"]
    assert 'href="/_signals/signals/account_funded?q=money&amp;only=async"' in card
    html = page(app, "/signals/account_funded?q=money&only=async")
    assert (
        'href="/_signals/signals?q=money&amp;only=async#signal-account_funded">All signals' in html
    )


# -- filters --------------------------------------------------------------------------------------

QUERIES = {
    "": None,
    "q=FUNDED+money": {"account_funded"},
    "q=funded": {"account_funded", "acount_funded"},
    "q=dismiss_alert": {"account_funded"},
    "q=test_views.py&only=orphans": {"campaign_archived"},
    "q=is_large": {"account_funded"},
    "q=amount": {"account_funded"},
    "q=later": {"acount_funded"},
    "q=none+such": set(),
    "origin=domain": {"account_funded", "acount_funded", "campaign_archived"},
    "origin=domain&only=receivers": {"account_funded", "acount_funded"},
    "origin=bridged": set(),
    "origin=domain&origin=bridged&only=orphans": {"campaign_archived"},
    "only=problems": {"account_funded", "acount_funded"},
    "only=failing": set(),
    "only=async": {"account_funded"},
    "only=problems&only=async": {"account_funded"},
    "only=receivers&origin=flask": {"request_started"},
    "only=none_such&origin=none_such&else=1": None,
}


@pytest.mark.parametrize("query", QUERIES)
def test_filters_apply_to_html_and_json(query: str) -> None:
    """All words, any of the origins, all traits; unknown values filter nothing."""
    app = make_app()
    everything = {"account_funded", "acount_funded", "campaign_archived", *twin(app)}
    assert len(everything) == 13
    wanted = everything if QUERIES[query] is None else QUERIES[query]
    html = page(app, f"?{query}")
    assert set(cards(html)) == wanted
    assert set(twin(app, f"?{query}")) == wanted
    nothing = re.search(r'<p[^>]*id="nothing"[^>]*>', html)
    assert nothing is not None
    assert ("hidden" in nothing[0]) is bool(wanted)


def test_form_and_json_link_keep_the_query() -> None:
    """The next click refines the view, and the JSON link has the same result."""
    html = page(make_app(), "?q=money&origin=domain&only=async&only=problems")
    assert 'value="money"' in html
    checked = re.findall(r'value="(\w+)" checked', html)
    assert checked == ["domain", "problems", "async"]
    assert (
        'href="/_signals/signals.json?q=money&amp;origin=domain&amp;only=problems&amp;only=async"'
        in html
    )


def test_signal_view_links_to_its_json() -> None:
    """``?name=`` is exact."""
    app = make_app()
    assert 'href="/_signals/signals.json?name=account_funded"' in page(
        app, "/signals/account_funded"
    )
    assert set(twin(app, "?name=account_funded")) == {"account_funded"}
    assert set(twin(app, "?name=funded")) == set()


def test_json_has_everything_in_the_html() -> None:
    """Both show one report."""
    signal = twin(make_app())["account_funded"]
    assert signal["doc"] == "Money arrived in an ``Account``."
    assert signal["origin"] == "domain"
    assert signal["payload"] == ["amount", "method", "note"]
    assert signal["optional"] == ["note"]
    assert signal["on_error"] == "isolate"
    assert [problem["kind"] for problem in signal["problems"]] == ["no_extra"]
    first = signal["receivers"][0]
    assert (
        first
        | {
            "module": __name__,
            "name": "dismiss_alert",
            "file": __file__,
            "line": dismiss_alert.__code__.co_firstlineno,
            "sender": None,
            "priority": 10,
            "delivery": "immediate",
            "when": {
                "module": __name__,
                "name": "is_large",
                "file": __file__,
                "line": is_large.__code__.co_firstlineno,
            },
            "is_async": False,
            "weak": False,
            "uid": "alerts",
            "takes_extra": True,
            "on_error": None,
            "foreign": False,
        }
        == first
    )


# -- what it must not do --------------------------------------------------------------------------

MARKUP = "<script>alert(1)</script>\"'&"


def test_texts_of_the_app_are_escaped() -> None:
    """Docs, names, senders, uids, deliveries and the app's name can contain markup."""
    app = Flask(MARKUP)
    app.testing = True
    kit = SignalsKit(app)

    class Sneaky(Later):
        name = MARKUP

    def receiver(sender: object, **extra: object) -> None: ...

    receiver.__qualname__ = receiver.__module__ = MARKUP
    kit.signal("funded", f"{MARKUP} `{MARKUP}`")
    kit.signal("dismissed", Markup(MARKUP))
    kit.on("funded", sender=MARKUP, uid=MARKUP, delivery=Sneaky(), when=receiver)(receiver)
    kit.for_app(app).namespace.signal(f"odd/{MARKUP}").connect(receiver)
    client = app.test_client()
    for url in (
        f"?q={MARKUP}",
        "/signals/funded",
        "/signals/dismissed",
        f"/signals/odd/{MARKUP}",
    ):
        html = page(app, url)
        assert "&lt;script&gt;" in html
        assert "<script>alert" not in html
        assert not re.search(r"=\"[^\"]*<script", html)
    missing = client.get(f"/_signals/signals/{MARKUP}")
    assert missing.status_code == 404
    assert "<script>alert" not in missing.text


def test_markup_objects_are_escaped() -> None:
    """Names that are ``Markup`` are names."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)

    class Sneaky(Later):
        name: str = Markup(MARKUP)

    kit.on(Markup("funded"), uid=Markup(MARKUP), delivery=Sneaky())(dismiss_alert)
    kit.for_app(app).namespace.signal(Markup(MARKUP)).connect(dismiss_alert)
    for url in ("", "/signals/funded", f"/signals/{MARKUP}"):
        html = page(app, url)
        assert "&lt;script&gt;" in html
        assert "<script>alert" not in html
        assert not re.search(r"=\"[^\"]*<script", html)


def test_markup_as_the_name_of_the_app_or_of_a_sender_is_escaped() -> None:
    """Both may be strings of a class of their own."""
    app = Flask("shop")
    app.name = Markup(MARKUP)
    app.testing = True
    kit = SignalsKit(app)
    sender = type("Sender", (), {"__module__": "builtins", "__qualname__": Markup(MARKUP)})()
    kit.on("funded", sender=sender)(dismiss_alert)
    for url in ("", "/signals/funded"):
        html = page(app, url)
        assert html.count("&lt;script&gt;") > 1
        assert "<script>alert" not in html


def test_lone_surrogates_are_escaped() -> None:
    """File systems accept names of any bytes, which Python decodes to lone surrogates."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    scope: dict[str, Any] = {}
    exec(compile("def hears(sender, **extra): ...", "/srv/caf\udce9.py", "exec"), scope)
    kit.signal("funded", "Caf\udce9.")
    kit.on("funded", uid="caf\udce9")(scope["hears"])
    kit.for_app(app).namespace.signal("caf\udce9").connect(dismiss_alert)
    for url in ("", "/signals/funded"):
        assert "/caf\\udce9.py:1" in words(page(app, url)).replace("/ ", "/")
    assert "Caf\\udce9." in page(app)
    signal = twin(app)["funded"]
    assert signal["doc"] == "Caf\udce9."
    assert signal["receivers"][0]["uid"] == "caf\udce9"


class Untouchable:
    """An object that fails on any access by the page."""

    def fail(self, *args: object) -> Any:
        raise RuntimeError("this must not be called")

    __repr__ = __str__ = __len__ = __bool__ = __format__ = fail

    def __call__(self, sender: object, **extra: object) -> bool:
        return True


def test_page_accesses_no_user_objects() -> None:
    """Receivers, predicates and senders are shown by type and place, without a call on them."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    account = Untouchable()
    signal = kit.for_app(app).namespace.signal("account_funded")
    signal.connect(Untouchable(), account, weak=False, when=Untouchable())
    flask.signals.request_started.connect(watcher := Untouchable(), app)
    text = words(cards(page(app))["account_funded"])
    assert f"{__name__}. Untouchable" in text
    assert f"sender {__name__}.Untouchable when Untouchable" in text
    assert "Untouchable weak foreign" in words(cards(page(app))["request_started"])
    flask.signals.request_started.disconnect(watcher)


def test_page_shows_no_payload_values() -> None:
    """Names alone, whatever was sent before."""
    app = make_app()
    with app.app_context():
        app.extensions["signals_kit"].send(
            "acount_funded", "a-secret-sender", card_number="4111-1111"
        )
    html = page(app) + json.dumps(twin(app))
    assert "4111-1111" not in html
    assert "a-secret-sender" not in html


def test_page_keeps_no_receiver_alive() -> None:
    """A weak receiver that was shown is freed with its last reference, and then is a problem."""
    app = Flask("shop")
    app.testing = True
    state = SignalsKit(app).for_app(app)
    state.signal("account_funded")

    def receiver(sender: object, **extra: object) -> None: ...

    state.namespace.signal("account_funded").connect(receiver)
    gone = weakref.ref(receiver)
    assert "receiver" in cards(page(app))["account_funded"]
    del receiver
    assert gone() is None
    assert "Receiver collected" in words(cards(page(app))["account_funded"])


def test_page_changes_no_blinker_tables() -> None:
    """They keep their entries of collected receivers and senders."""
    app = Flask("shop")
    app.testing = True
    kit = SignalsKit(app)
    source = flask.signals.template_rendered

    def ghost(app: Flask, **extra: object) -> None: ...
    def lasting(app: Flask, **extra: object) -> None: ...

    class Sender:
        pass

    sender = Sender()
    source.connect(lasting, app)
    source.connect(ghost, sender)
    source.disconnect(ghost, sender)  # blinker keeps it in `receivers`
    kit.on("template_rendered")(lambda app, **extra: None)

    def state_of_it() -> tuple[Any, ...]:
        return (
            dict(source.receivers),
            {key: set(value) for key, value in source._by_sender.items()},
            {key: set(value) for key, value in source._by_receiver.items()},
            dict(source._weak_senders),
        )

    app.test_client().get("/")
    gc.collect()
    before = state_of_it()
    assert "lasting" in cards(page(app))["template_rendered"]
    twin(app)
    page(app, "/signals/template_rendered")
    assert state_of_it() == before
    source.disconnect(lasting)


def test_page_sends_no_rendering_signals_of_flask() -> None:
    """It renders with an environment of its own, so no receivers run for it."""
    app = make_app()
    rendered: list[str] = []
    app.extensions["signals_kit"].on("template_rendered", "before_render_template")(
        lambda app, template, **extra: rendered.append(template.name)
    )
    page(app)
    assert rendered == []


# -- static files ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "mimetype"), STATIC.items())
def test_static_files_are_served(name: str, mimetype: str) -> None:
    """Each with its own type, because ``nosniff`` forbids browsers to guess."""
    response = make_app().test_client().get(f"/_signals/static/{name}")
    assert response.status_code == 200
    assert response.mimetype == mimetype
    assert len(response.data) > 100


def test_only_existing_static_files_are_served() -> None:
    """Not the templates' sources, for example."""
    there = {
        file.name for file in files("flask_signals_kit.debug.page").joinpath("static").iterdir()
    }
    assert there == set(STATIC)


def test_links_are_paths_on_the_same_host() -> None:
    """Whatever the request says of its host and mount point."""
    app = Flask("shop")
    app.testing = True
    SignalsKit(app)
    response = app.test_client().get(
        "/_signals",
        headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"},
        environ_overrides={"SCRIPT_NAME": "//evil.example"},
    )
    assert response.status_code == 200
    links = re.findall(r'(?:href|src|action)="([^"]*)"', response.text)
    assert len(links) > 10
    assert all(re.match(r"[/#](?!/)", link) for link in links)


def test_views_keep_no_app_alive() -> None:
    """The page is freed with its app."""
    app = make_app()
    page(app)
    gone = weakref.ref(app)
    assert not any(isinstance(value, Flask) for value in vars(Views("/_signals")).values())
    del app
    gc.collect()
    assert gone() is None
