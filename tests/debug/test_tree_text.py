"""The tree of emissions as text."""

import re

from flask_signals_kit import AppSignals
from flask_signals_kit.debug.activity import emissions_after
from flask_signals_kit.debug.tree_text import tree_lines

EXPECTED = """\
account_funded(amount, method), sent by str at FILE
   1  failed        fail, TIME: raised ZeroDivisionError at FILE
   2  ran           thank, TIME
      mail_sent(), sent by str at FILE
         1  ran           count, TIME
            mails_counted(), sent by flask.app.Flask at FILE
                  no receivers
         2  other sender  never: connected for sender 'bank', sent by str
   3  ran           note, TIME
alert_dismissed(), sent by str at FILE
      no receivers
"""


def test_what_a_receiver_sent_stands_below_it(shop: AppSignals) -> None:
    """Each level begins where the outcome of the receiver does."""
    shop.app.testing = True
    shop.signal("account_funded", on_error="isolate")

    @shop.on("account_funded")
    def fail(account: str, **extra: object) -> None:
        1 / 0  # noqa: B018

    @shop.on("account_funded")
    def thank(account: str, **extra: object) -> None:
        shop.send("mail_sent", account)

    @shop.on("account_funded")
    def note(account: str, **extra: object) -> None: ...

    @shop.on("mail_sent")
    def count(account: str, **extra: object) -> None:
        shop.send("mails_counted")

    @shop.on("mail_sent", sender="bank")
    def never(account: str, **extra: object) -> None: ...

    with shop.app.app_context():
        shop.send("account_funded", "acme", amount=5, method="card")
        shop.send("alert_dismissed", "acme")
    text = "".join(f"{line}\n" for line in tree_lines(emissions_after(shop, 0, rows=100)))
    text = re.sub(r"[\w/.]+\.py:\d+", "FILE", text)
    text = re.sub(r"[\d.]+ (µs|ms)", "TIME", text)
    text = re.sub(r"[\w.]+\.<locals>\.", "", text)
    assert text == EXPECTED


def test_emissions_can_be_shown_otherwise(shop: AppSignals) -> None:
    """Only the places of the sends stay, and what happened to the receivers."""
    shop.app.testing = True
    shop.on("account_funded")(lambda account, **extra: shop.send("mail_sent", account))
    with shop.app.app_context():
        shop.send("account_funded", "acme", amount=5)
    sent = emissions_after(shop, 0, rows=100)
    plain, other = [*tree_lines(sent)], [*tree_lines(sent, lambda each: each.signal.upper())]
    assert plain[0].startswith("account_funded(amount), sent by str at ")
    assert other[0].startswith("ACCOUNT_FUNDED at ")
    assert other[2].strip().startswith("MAIL_SENT at ")
    assert plain[1::2] == other[1::2]


def test_emissions_after_another_one(shop: AppSignals) -> None:
    """An emission that was sent in an earlier one has no parent without it."""
    shop.app.testing = True
    shop.on("account_funded")(lambda account: shop.send("mail_sent", account))
    with shop.app.app_context():
        shop.send("account_funded", "acme")
    first, second = emissions_after(shop, 0, rows=100)
    assert (first.signal, second.signal) == ("account_funded", "mail_sent")
    assert emissions_after(shop, first.number, rows=100)[0].signal == "mail_sent"
    assert emissions_after(shop, second.number, rows=100) == []
    assert [each.signal for each in emissions_after(shop, 0, rows=0)] == ["account_funded"]
