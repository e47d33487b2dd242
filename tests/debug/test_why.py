"""``flask signals why``: what decides whether a receiver runs, and what a running app recorded."""

import gc
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from flask import Flask, Response
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_signals_kit import SignalsKit
from flask_signals_kit.debug import activity
from tests.debug.support import receive, run, waits
from tests.debug.test_outbox import execute, make_each_status
from tests.deliveries.durable.support import DurableShop
from tests.support import Later, serving


def is_large(account: object, *, amount: int, **extra: object) -> bool:
    """Be a predicate."""
    return amount > 100


def fail(account: object, *, amount: int, **extra: object) -> None:
    """Be a receiver that raises for one amount."""
    if amount == 13:
        raise LookupError(amount)


def greet(account: object, **extra: object) -> None:
    """Be a receiver of one sender."""


async def notify(account: object, **extra: object) -> None:
    """Be an async receiver."""


@pytest.fixture
def shop(tmp_path: Path) -> Flask:
    """Give an app with a database, whose view sends a signal and rolls back."""
    app, db, kit = Flask("shop"), SQLAlchemy(), SignalsKit()
    app.testing = True
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/shop.sqlite"
    db.init_app(app)
    kit.init_app(app)
    kit.signal("account_funded", "Money arrived.")
    kit.signal("account_closed", "No receiver is connected.")
    with app.app_context():
        kit.begin_immediate(db.engine)

    @app.get("/fund/<name>/<int:amount>")
    def fund(name: str, amount: int) -> str:
        db.session.execute(text("SELECT 1"))
        kit.send("account_funded", name, amount=amount)
        db.session.rollback()
        kit.send("account_closed", name)
        return "funded"

    return app


def get(url: str) -> None:
    """Send a request; the answer may be an error."""
    try:
        with urlopen(url, timeout=30) as response:
            response.read()
    except HTTPError as error:
        error.close()


def ok(app: Flask, *arguments: str, **environ: str) -> str:
    """Run ``flask signals why …`` and return its output."""
    result = run(app, "why", *arguments, **environ)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def facts(app: Flask, *arguments: str) -> dict[str, dict[str, str]]:
    """Return what decides about the receivers, by name."""
    data = json.loads(ok(app, *arguments, "--json"))
    return {receiver["name"]: receiver["decides"] for receiver in data["receivers"]}


def happened(app: Flask, url: str, *arguments: str) -> list[dict[str, tuple[str, str | None]]]:
    """Return status and reason of each receiver in each of the last emissions."""
    data = json.loads(ok(app, "account_funded", *arguments, "--url", url, "--json"))
    return [
        {step["receiver"]["name"]: (step["status"], step["reason"]) for step in each["steps"]}
        for each in data["emissions"]
    ]


# -- what decides ---------------------------------------------------------------------------------


def test_predicate_is_named_with_its_place(shop: Flask) -> None:
    """The file and line of the function that must return true."""
    shop.extensions["signals_kit"].on("account_funded", when=is_large)(receive)
    found = facts(shop, "account_funded")["receive"]["when"]
    line = is_large.__code__.co_firstlineno
    assert found == f"{__name__}.is_large must return true (tests/debug/test_why.py:{line})"


def test_sender_and_pattern_are_named(shop: Flask) -> None:
    """A receiver of one sender, and one that a pattern connected."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_funded", sender="acme")(greet)
    kit.on("account_*")(receive)
    found = facts(shop, "account_funded")
    assert found["greet"]["sender"] == "only 'acme'"
    assert "pattern" not in found["greet"]
    assert (found["receive"]["sender"], found["receive"]["pattern"]) == ("any", "account_*")


def test_policy_says_which_receivers_are_not_reached(shop: Flask) -> None:
    """In the order of the send, which gives a call to its delivery at the receiver's own place."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_funded", priority=3, delivery="after_commit")(waits)
    kit.on("account_funded", priority=2)(fail)
    kit.on("account_funded", priority=1, on_error="isolate")(receive)
    kit.on("account_funded", delivery=Later())(greet)
    found = facts(shop, "account_funded")
    assert list(found) == ["fail", "receive", "waits", "greet"]
    assert found["fail"]["on_error"] == "raise: if it raises, receivers 2 and 4 are not reached"
    assert found["receive"]["reached"] == "not if receiver 1 raises"
    assert found["greet"]["reached"] == "not if receiver 1 raises"
    assert "reached" not in found["waits"]
    assert found["receive"]["on_error"].startswith("isolate: the failure is logged")
    assert found["waits"]["on_error"].startswith("the failure is logged and reported; the commit")
    assert found["receive"]["order"] == "after receiver 1, with priority 1"


def test_numbers_of_many_receivers_are_short(shop: Flask) -> None:
    """As ranges."""
    kit = shop.extensions["signals_kit"]
    for number in range(1, 8):
        policy = "isolate" if number == 4 else "raise"
        receiver: Callable[..., None] = lambda account, **extra: None  # noqa: E731
        receiver.__qualname__ = f"receiver_{number}"
        kit.on("account_funded", on_error=policy)(receiver)
    found = facts(shop, "account_funded")
    assert found["receiver_7"]["order"] == "after receivers 1 to 6, with priority 0"
    assert found["receiver_7"]["reached"] == "not if one of receivers 1 to 3, 5 and 6 raises"
    assert found["receiver_3"]["order"] == "after receivers 1 and 2, with priority 0"
    assert found["receiver_3"]["reached"] == "not if receiver 1 or 2 raises"
    assert found["receiver_2"]["reached"] == "not if receiver 1 raises"


def test_delivery_weak_and_async_are_explained(shop: Flask) -> None:
    """Each with what it waits for."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_funded", delivery="after_commit")(waits)
    kit.on("account_funded", weak=True)(notify)
    found = facts(shop, "account_funded")
    assert found["waits"]["delivery"].startswith("after_commit: waits for the commit, and is dropp")
    assert found["notify"]["delivery"] == "immediate: runs during the send"
    assert found["notify"]["weak"] == "it is disconnected when it is garbage-collected"
    assert "async" in found["notify"]
    assert not {"weak", "async"} & {*found["waits"]}


def test_muted_signal_says_so(shop: Flask) -> None:
    """Muting that applies to every thread is known to a command."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_funded")(receive)
    assert "muted" not in ok(shop, "account_funded")
    kit.namespace["account_funded"].is_muted = True
    assert "  It is muted, so no receiver runs.\n" in ok(shop, "account_funded")


def test_orphan_says_that_a_send_calls_nothing(shop: Flask) -> None:
    """It is no error: the signal exists."""
    assert "  It has no receivers, so a send calls nothing.\n" in ok(shop, "account_closed")


def test_collected_receiver_is_a_problem_that_can_be_asked_for(shop: Flask) -> None:
    """It is connected no longer, but its name is known."""
    kit = shop.extensions["signals_kit"]

    def lost(account: object, **extra: object) -> None: ...

    kit.on("account_funded", weak=True)(lost)
    kit.on("account_funded")(receive)
    del lost
    gc.collect()
    output = ok(shop, "account_funded", "lost")
    assert "was connected weakly and has been garbage-collected." in output
    assert "support.receive" not in output
    assert "garbage-collected" not in ok(shop, "account_funded", "debug.support.receive")


def test_undeclared_name_has_a_suggestion(shop: Flask) -> None:
    """The receiver is connected to a name that is never sent."""
    kit = shop.extensions["signals_kit"]
    kit.on("acount_funded")(receive)
    kit.on("acount_funded")(greet)
    output = ok(shop, "acount_funded", "GREET")
    assert "is not declared. Did you mean 'account_funded'?" in output


def test_foreign_receiver_is_explained(shop: Flask) -> None:
    """The kit decides nothing about it."""
    from flask.signals import request_started

    request_started.connect(receive, shop)
    found = facts(shop, "request_started")["receive"]
    assert found["order"] == "as connected to the original signal, which other code did"
    assert found["sender"] == "only this app"
    assert "on_error" not in found


def test_unknown_names_are_errors_with_a_suggestion(shop: Flask) -> None:
    """Exit code 1, as with the other commands."""
    shop.extensions["signals_kit"].on("account_funded")(greet)
    result = run(shop, "why", "acount_funded")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no signal 'acount_funded'. Did you mean 'account_funded'? See" in result.stderr
    result = run(shop, "why", "account_funded", "gret")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "'account_funded' has no receiver 'gret'. Did you mean 'greet'? 'flask" in result.stderr


def test_text_has_the_number_and_place_of_each_receiver(shop: Flask) -> None:
    """The number is that of the whole list, also if only one receiver is wanted."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_funded", priority=1)(receive)
    kit.on("account_funded")(greet)
    output = ok(shop, "account_funded", "greet")
    line = greet.__code__.co_firstlineno
    assert f"\n  2  {__name__}.greet\n     tests/debug/test_why.py:{line}\n" in output
    assert "\n     Order     after receiver 1, with priority 0\n" in output
    assert "\n     On error  raise: the exception propagates to the sender" in output
    assert "support.receive\n" not in output


# -- what happened --------------------------------------------------------------------------------


def test_running_app_says_what_happened(shop: Flask) -> None:
    """The classic causes, for each of the last emissions, newest first."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_funded", priority=2)(fail)
    kit.on("account_funded", when=is_large)(receive)
    kit.on("account_funded", sender="acme")(greet)
    kit.on("account_funded", delivery="after_commit")(waits)
    with serving(shop) as url:
        for path in ("acme/5", "acme/500", "globe/13"):
            get(f"{url}/fund/{path}")
        newest, second, oldest = happened(shop, url)
    raised = f"receiver 1, {__name__}.fail, raised LookupError"
    assert newest["fail"] == ("failed", "raised LookupError")
    assert newest["receive"] == newest["waits"] == ("not_reached", raised)
    assert newest["greet"][0] == "other_sender"
    assert (second["receive"], second["greet"]) == (("ran", None), ("ran", None))
    assert oldest["receive"] == ("skipped", f"{__name__}.is_large returned false")
    assert oldest["waits"][0] == "dropped"


def test_text_has_time_link_and_reason_of_each_emission(shop: Flask) -> None:
    """And nothing of other receivers, if one is wanted."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_funded", priority=2)(fail)
    kit.on("account_funded", when=is_large)(receive)
    with serving(shop) as url:
        get(f"{url}/fund/acme/5")
        output = ok(shop, "account_funded", "receive", "--url", url)
    assert re.search(
        r"\nLast emissions, newest first\n\n"
        r"#(\d+)  \d\d:\d\d:\d\d\.\d{3}  GET /fund/acme/5 200\n"
        rf"     {url}/_signals/emissions/\1\n"
        r"     sent by str at tests/debug/test_why\.py:\d+\n"
        r"  2  skipped       tests\.debug\.support\.receive: "
        rf"{__name__}\.is_large returned false\n$",
        output,
    )


def test_running_app_says_how_many_messages_are_stored(durable_shop: DurableShop) -> None:
    """Also without emissions; not of a signal without durable receivers, nor without the table."""
    make_each_status(durable_shop)
    app = durable_shop.app
    durable_shop.kit.on("account_opened")(greet)
    journal = durable_shop.kit.for_app(app).journal
    assert journal is not None
    journal._entries.clear()
    with serving(app) as url:
        output = ok(app, "account_funded", "--url", url)
        assert (
            "\nOutbox: 5 messages are stored: 2 due, 1 running, 1 retrying, 1 dead\n\n"
            "No emissions are recorded.\n" in output
        )
        data = json.loads(ok(app, "account_funded", "--url", url, "--json"))
        assert data["stored"] == {"due": 2, "running": 1, "retrying": 1, "dead": 1}
        assert "Outbox" not in ok(app, "account_opened", "--url", url)
        execute(durable_shop, "DROP TABLE signals_outbox")
        assert "Outbox" not in ok(app, "account_funded", "--url", url)


def test_text_has_the_place_where_a_receiver_raised(shop: Flask) -> None:
    """Of the running app."""
    shop.extensions["signals_kit"].on("account_funded")(fail)
    with serving(shop) as url:
        get(f"{url}/fund/acme/13")
        output = " ".join(ok(shop, "account_funded", "fail", "--url", url).split())
    line = fail.__code__.co_firstlineno + 3
    assert f"raised LookupError at tests/debug/test_why.py:{line}" in output


@pytest.mark.parametrize("width", [40, 60, 80])
def test_lines_about_emissions_are_no_wider_than_the_terminal(shop: Flask, width: int) -> None:
    """Unless one word is longer than the rest of a line."""
    shop.extensions["signals_kit"].on("account_funded", when=is_large)(receive)
    with serving(shop) as url:
        get(f"{url}/fund/acme/5")
        output = ok(shop, "account_funded", "--url", url, COLUMNS=str(width))
    for line in output.partition("Last emissions")[2].splitlines():
        assert len(line) <= width or len(line.split()) == 1 or line[19:].count(" ") == 0, line
        assert line == line.rstrip()


def test_orphan_that_was_sent_is_shown(shop: Flask) -> None:
    """It had no receivers."""
    with serving(shop) as url:
        get(f"{url}/fund/acme/5")
        output = ok(shop, "account_closed", "--url", url)
    assert output.endswith("\n     no receivers\n")


def test_receiver_that_was_not_connected_is_no_missing_receiver(shop: Flask) -> None:
    """Others were connected."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_funded")(receive)
    with serving(shop) as url:
        get(f"{url}/fund/acme/5")
        kit.on("account_funded")(greet)
        output = ok(shop, "account_funded", f"{__name__}.greet", "--url", url)
    assert output.endswith("\n     not connected\n")


def test_muted_signal_is_shown(shop: Flask) -> None:
    """As the running app recorded it."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_funded")(receive)
    kit.namespace["account_funded"].is_muted = True
    with serving(shop) as url:
        get(f"{url}/fund/acme/5")
        assert happened(shop, url) == [{"receive": ("muted", "the signal was muted")}]


def test_running_app_may_know_more_than_the_command(shop: Flask) -> None:
    """A name that was sent with a typo, and a receiver that is connected later."""
    kit = shop.extensions["signals_kit"]
    kit.on("account_closed")(greet)
    bare = Flask("shop")
    SignalsKit(bare).signal("account_closed", "No receiver is connected here.")
    with serving(shop) as url:
        get(f"{url}/fund/acme/5")
        assert "known to the running app only" in ok(bare, "account_funded", "--url", url)
        assert f"{__name__}.greet" in ok(bare, "account_closed", "greet", "--url", url)
        assert run(bare, "why", "account_closed", "gret", "--url", url).exit_code == 1


@pytest.mark.parametrize("name", ["", " ", " account_funded"])
def test_name_that_is_no_signal_is_an_error_with_a_running_app(shop: Flask, name: str) -> None:
    """As an empty variable of a shell; the emissions of other signals are not shown."""
    with serving(shop) as url:
        get(f"{url}/fund/acme/5")
        result = run(shop, "why", name, "--url", url)
    assert result.exit_code == 1
    assert f"no signal {name!r}" in result.stderr


def test_signal_that_was_not_sent_has_no_emissions(shop: Flask) -> None:
    """The command says so."""
    with serving(shop) as url:
        assert ok(shop, "account_funded", "--url", url).endswith("\nNo emissions are recorded.\n")


def test_only_the_last_emissions_are_shown(shop: Flask) -> None:
    """Eight of them, of all requests together, and the newest of each request first."""
    kit = shop.extensions["signals_kit"]

    @shop.get("/twice/<int:amount>")
    def twice(amount: int) -> str:
        kit.send("account_funded", "acme", amount=amount)
        kit.send("account_funded", "acme", amount=amount)
        return "funded"

    with serving(shop) as url:
        for amount in range(5):
            get(f"{url}/twice/{amount}")
        data = json.loads(ok(shop, "account_funded", "--url", url, "--json"))
    titles = [each["title"] for each in data["emissions"]]
    assert titles == [f"GET /twice/{amount}" for amount in (4, 4, 3, 3, 2, 2, 1, 1)]
    numbers = [each["number"] for each in data["emissions"]]
    assert numbers == sorted(numbers, reverse=True)
    newest = data["emissions"][0]
    assert newest["url"] == f"{url}/_signals/emissions/{newest['number']}"


def test_many_emissions_of_other_signals_do_not_hide_one(shop: Flask) -> None:
    """Only those of the signal are asked for; an answer has 20,000 at most."""
    kit = shop.extensions["signals_kit"]
    shop.config["SIGNALS_KIT_JOURNAL_SIZE"] = 1000

    @shop.get("/many")
    def many() -> str:
        kit.send("account_funded", "acme", amount=1)
        for _ in range(500):
            kit.send("account_moved", "acme")
        return "sent"

    with serving(shop) as url, pytest.MonkeyPatch.context() as patch:
        get(f"{url}/many")
        patch.setattr(activity, "JSON_ROWS", 100)
        data = json.loads(ok(shop, "account_funded", "--url", url, "--json"))
    assert [each["title"] for each in data["emissions"]] == ["GET /many"]


def test_page_may_have_another_url(shop: Flask) -> None:
    """That of the setting is used."""
    app = Flask("shop")
    app.testing = True
    app.config["SIGNALS_KIT_PAGE_URL"] = "/admin/signals"
    kit = SignalsKit(app)
    kit.signal("account_funded", "Money arrived.")
    with app.app_context():
        kit.send("account_funded")
    with serving(app) as url:
        for given in (url, f"{url}/", f"{url}/admin/signals", f"{url}/admin/signals/"):
            output = ok(app, "account_funded", "--url", given)
            assert f"     {url}/admin/signals/emissions/" in output


# -- hostile names --------------------------------------------------------------------------------


def test_control_characters_are_escaped(shop: Flask) -> None:
    """A name cannot clear the terminal or reverse a line."""
    kit = shop.extensions["signals_kit"]

    def hostile(account: object, **extra: object) -> None: ...

    hostile.__qualname__ = "\x1b[2J\u202e<b>evil</b>"
    kit.signal("account_moved", "Doc \x1b[31m.")
    kit.on("account_moved", sender="\x1b[5m")(hostile)

    @shop.get("/move/<name>")
    def move(name: str) -> str:
        kit.send("account_moved", name)
        return "moved"

    with serving(shop) as url:
        get(f"{url}/move/%1B%5B2J")
        output = ok(shop, "account_moved", "--url", url)
        data = json.loads(ok(shop, "account_moved", "--url", url, "--json"))
    assert not {*output} & {"\x1b", "\u202e"}
    assert output.count("\\x1b[2J\\u202e<b>evil</b>") == 2
    assert "GET /move/\\x1b[2J 200\n" in output
    assert data["emissions"][0]["steps"][0]["receiver"]["name"] == hostile.__qualname__


# -- errors ---------------------------------------------------------------------------------------


def error(app: Flask, url: str) -> str:
    """Return the error of a command that asks this URL."""
    result = run(app, "why", "account_funded", "--url", url)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    return result.stderr


def test_refused_connection_is_an_error(shop: Flask) -> None:
    """It asks whether the app runs."""
    with serving(shop) as url:
        pass
    assert "refused. Is the app running?" in error(shop, url)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:5000", "file://localhost/etc/passwd", "http://", "http://[::1"]
)
def test_text_that_is_no_url_is_an_error(shop: Flask, url: str) -> None:
    """Only http and https are asked."""
    assert f"{url!r} is not a URL such as 'http://127.0.0.1:5000'" in error(shop, url)


def test_user_name_in_a_url_is_an_error(shop: Flask) -> None:
    """It is not sent, and the password is not repeated."""
    message = error(shop, "http://ada:secret-4111@127.0.0.1:5000")
    assert "must not have a user name and a password" in message
    assert "secret" not in message


def test_app_without_the_page_is_an_error() -> None:
    """Outside debug and testing, it answers 404."""
    app = Flask("shop")
    SignalsKit(app).signal("account_funded", "Money arrived.")
    with serving(app) as url:
        assert "answered 404. The page is served in debug and testing" in error(app, url)


@pytest.mark.parametrize("body", [b"<h1>Log in</h1>", b"\xff\xfe\x00"])
def test_answer_that_is_not_json_is_an_error(shop: Flask, body: bytes) -> None:
    """Such as a login form."""
    with serving(Response(body)) as url:
        assert "did not answer with JSON" in error(shop, url)


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b'{"app": "a", "journal": true, "requests": [{"emissions": [{}]}]}']
)
def test_other_json_is_an_error(shop: Flask, body: bytes) -> None:
    """Another server, or another version."""
    with serving(Response(body)) as url:
        assert "is not the page of this version of flask_signals_kit" in error(shop, url)


def test_app_without_a_journal_is_an_error(shop: Flask) -> None:
    """It records nothing."""
    app = Flask("shop")
    app.testing = True
    app.config["SIGNALS_KIT_JOURNAL"] = False
    SignalsKit(app).signal("account_funded", "Money arrived.")
    with serving(app) as url:
        assert "keeps no journal. Set SIGNALS_KIT_JOURNAL to True." in error(app, url)
