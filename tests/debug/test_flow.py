"""The flow of signals between modules, and its pictures."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from flask import Flask

from flask_signals_kit import AppSignals, SignalsKit
from flask_signals_kit.debug import flow as flow_module
from flask_signals_kit.debug.flow import ROWS, SIGNALS, Edge, Flow, Node, flow, grouped, seen
from flask_signals_kit.debug.flow_svg import to_file, to_svg
from flask_signals_kit.debug.flow_text import to_dot, to_mermaid
from flask_signals_kit.debug.report import report
from tests.debug.support import run

HOSTILE = """shop"]; x --> y; <script>alert(1)</script> & `\\" %%{init}%% #quot; \n\x1b[31m"""
"""The name of a module with what HTML, Mermaid, DOT and terminals interpret."""


def receiver_in(module: str) -> Callable[..., None]:
    """Return a receiver that is defined in this module."""

    def receive(sender: object, **extra: object) -> None: ...

    receive.__module__ = module
    return receive


def send_from(module: str, app_signals: AppSignals, name: str, times: int = 1) -> None:
    """Send a signal in this module."""
    code = compile("for _ in range(times): app_signals.send(name)", "<module>", "exec")
    with app_signals.app.app_context():
        exec(code, {"__name__": module, **locals()})


def flow_of(app_signals: AppSignals, **options: Any) -> Flow:
    """Return the flow of all signals, with what was recorded."""
    found = report(app_signals)
    return flow(found, seen(app_signals, found), **options)


def edges(flow: Flow) -> dict[tuple[str, str], tuple[int, bool]]:
    """Return how often each edge was seen, and whether it is connected."""
    return {
        (edge.source.title, edge.target.title): (edge.seen, edge.connected)
        for edge in (*flow.sends, *flow.receives)
    }


def titles(nodes: tuple[Node, ...]) -> list[str]:
    """Return what nodes are called."""
    return [node.title for node in nodes]


def with_many(app_signals: AppSignals, count: int = 100) -> None:
    """Declare signals, each with one receiver, in two modules of each of ten packages."""
    for number in range(count):
        name = f"event_{number:05}_happened"
        app_signals.signal(name, "It happened.")
        module = f"shop.part_{number % 10}.module_{number % 20}"
        app_signals.on(name)(receiver_in(module))


@pytest.fixture
def shop() -> AppSignals:
    """Return signals of an app with a journal."""
    app = Flask("shop")
    app.testing = True
    app_signals = SignalsKit(app).for_app(app)
    app_signals.keep = app  # type: ignore[attr-defined]
    app_signals.signal("account_funded", "Money arrived.")
    app_signals.signal("campaign_archived", "It is over.")
    app_signals.on("account_funded")(receiver_in("shop.alerts"))
    app_signals.on("account_funded")(receiver_in("shop.mails"))
    return app_signals


# -- what flows -----------------------------------------------------------------------------------


def test_edges_lead_from_sending_modules_to_signals_to_receiving_modules(shop: AppSignals) -> None:
    """With how often the journal recorded them."""
    send_from("shop.wire", shop, "account_funded", 3)
    send_from("shop.card", shop, "account_funded")
    found = flow_of(shop)
    assert titles(found.senders) == ["shop.card", "shop.wire"]
    assert titles(found.signals) == ["account_funded", "campaign_archived"]
    assert titles(found.receivers) == ["shop.alerts", "shop.mails"]
    assert edges(found) == {
        ("shop.wire", "account_funded"): (3, True),
        ("shop.card", "account_funded"): (1, True),
        ("account_funded", "shop.alerts"): (4, True),
        ("account_funded", "shop.mails"): (4, True),
    }


def test_signal_that_was_not_sent_has_no_sender(shop: AppSignals) -> None:
    """Nothing tells where it will be sent."""
    found = flow_of(shop)
    assert found.senders == ()
    assert found.sends == ()
    assert {edge.seen for edge in found.receives} == {0}
    assert [node.is_unused for node in found.signals] == [False, True]


def test_receiver_that_ran_and_is_disconnected_has_an_edge(shop: AppSignals) -> None:
    """Which says that it is no longer connected."""
    gone = receiver_in("shop.gone")
    shop.on("account_funded")(gone)
    shop.on("campaign_archived", when=lambda sender, **extra: False)(receiver_in("shop.skipped"))
    send_from("shop.wire", shop, "account_funded")
    send_from("shop.wire", shop, "campaign_archived")
    shop.disconnect(gone)
    found = edges(flow_of(shop))
    assert found["account_funded", "shop.gone"] == (1, False)
    assert found["account_funded", "shop.mails"] == (1, True)
    assert found["campaign_archived", "shop.skipped"] == (0, True)


def test_unused_signals_of_flask_are_left_out(shop: AppSignals) -> None:
    """All ten are in the report."""
    shop.on("request_started")(receiver_in("shop.audit"))
    assert titles(flow_of(shop).signals) == [
        "account_funded",
        "campaign_archived",
        "request_started",
    ]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("account", ["account_funded"]),
        ("campaign_*", ["campaign_archived"]),
        ("shop.mails", ["account_funded"]),
        ("shop.m*", ["account_funded"]),
        ("MONEY alerts", ["account_funded"]),
        ("shop.wire", ["campaign_archived"]),
        ("*.wire", ["campaign_archived"]),
        ("none such", []),
    ],
)
def test_words_select_signals_and_modules(shop: AppSignals, words: str, names: list[str]) -> None:
    """By name, docstring, receiver or sender; a glob by the names of signals and modules."""
    send_from("shop.wire", shop, "campaign_archived")
    assert titles(flow_of(shop, words=words).signals) == names


def test_signals_without_receivers_can_be_left_out(shop: AppSignals) -> None:
    """They have no flow."""
    assert titles(flow_of(shop, connected=True).signals) == ["account_funded"]


def test_long_journal_is_counted_in_part(shop: AppSignals, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last emissions first, up to a number of steps: a signal may have 10,000 receivers."""
    send_from("shop.wire", shop, "account_funded", 50)
    monkeypatch.setattr(flow_module, "STEPS", 30)
    assert edges(flow_of(shop))["shop.wire", "account_funded"] == (10, True)


def test_json_has_the_edges(shop: AppSignals) -> None:
    """Not grouped; counts only with a journal."""
    send_from("shop.wire", shop, "account_funded")
    found = flow_of(shop).to_json()
    assert found["senders"] == ["shop.wire"]
    assert found["signals"][0] == {"name": "account_funded", "origin": "domain"}
    assert found["sends"] == [{"module": "shop.wire", "signal": "account_funded", "seen": 1}]
    assert found["receives"][0] == {
        "signal": "account_funded",
        "module": "shop.alerts",
        "connected": True,
        "seen": 1,
    }
    app = Flask("quiet")
    quiet = SignalsKit(app).for_app(app)
    quiet.on("account_funded")(receiver_in("shop.alerts"))
    assert "seen" not in flow_of(quiet).to_json()["receives"][0]


# -- groups ---------------------------------------------------------------------------------------


def test_short_flow_is_not_grouped(shop: AppSignals) -> None:
    """Everything has a row of its own."""
    whole = flow_of(shop)
    assert edges(grouped(whole)) == edges(whole)
    assert not grouped(whole).is_grouped


def test_modules_of_a_long_column_are_grouped_by_package(shop: AppSignals) -> None:
    """The edges of a group have the sums of the counts of its members."""
    for number in range(ROWS):
        shop.on("account_funded")(receiver_in(f"shop.part_{number % 3}.module_{number}"))
    send_from("shop.wire", shop, "account_funded", 2)
    found = grouped(flow_of(shop))
    assert titles(found.receivers) == [
        "shop.alerts",
        "shop.mails",
        "shop.part_0.*",
        "shop.part_1.*",
        "shop.part_2.*",
    ]
    assert edges(found)["account_funded", "shop.part_0.*"] == (ROWS // 3 * 2, True)
    assert found.receivers[2].members[0] == "shop.part_0.module_0"


def test_hundred_signals_fit_into_a_picture(shop: AppSignals) -> None:
    """Those of Flask are a group, and those without receivers; of others, the most used remain."""
    with_many(shop)
    shop.signal("campaign_paused", "It is on hold.")
    shop.on("request_started", "request_finished")(receiver_in("shop.audit"))
    send_from("shop.wire", shop, "event_00099_happened", 5)
    whole = flow_of(shop)
    found = grouped(whole)
    assert len(found.signals) == SIGNALS
    assert len(found.receivers) <= ROWS
    assert "event_00099_happened" in titles(found.signals)
    assert found.is_grouped
    shown = sum(len(node.members) for node in found.signals)
    assert found.left_out == len(whole.signals) - shown
    chosen = grouped(flow_of(shop, words="paused")).signals
    assert titles(chosen) == ["campaign_paused"]


def test_signals_of_a_long_list_are_grouped(shop: AppSignals) -> None:
    """By origin, and those without receivers."""
    with_many(shop, ROWS)
    shop.signal("campaign_paused", "It is on hold.")
    shop.on("request_started", "request_finished")(receiver_in("shop.audit"))
    names = titles(grouped(flow_of(shop)).signals)
    assert names[:2] == ["account_funded", "2 signals without receivers"]
    assert names[-1] == "2 signals of Flask"


def test_modules_of_the_app_itself_are_not_one_group(shop: AppSignals) -> None:
    """A single row for the whole app would show nothing; the most used modules keep theirs."""
    for number in range(ROWS):
        shop.on("account_funded")(receiver_in(f"shop.module_{number}"))
    names = titles(grouped(flow_of(shop)).receivers)
    assert len(names) == ROWS
    assert {"shop.alerts", "shop.mails", "3 other modules"} <= {*names}


def test_modules_without_packages_have_a_common_row(shop: AppSignals) -> None:
    """If there are too many of them; the others keep theirs."""
    for number in range(1000):
        shop.on("account_funded")(receiver_in(f"module_{number}"))
    found = grouped(flow_of(shop)).receivers
    assert len(found) == ROWS
    assert [node.title for node in found if node.is_rest] == ["979 other modules"]


# -- pictures -------------------------------------------------------------------------------------


def test_mermaid_has_nodes_and_arrows(shop: AppSignals) -> None:
    """A thick arrow was seen ten times or more, a dotted one is no longer connected."""
    gone = receiver_in("shop.gone")
    shop.on("account_funded")(gone)
    send_from("shop.wire", shop, "account_funded", 10)
    shop.disconnect(gone)
    assert to_mermaid(grouped(flow_of(shop))) == (
        "flowchart LR\n"
        '    from1("shop.wire")\n'
        '    signal1["account_funded"]\n'
        '    signal2["campaign_archived"]\n'
        '    to1("shop.alerts")\n'
        '    to2("shop.mails")\n'
        '    to3("shop.gone")\n'
        "    from1 ==>|10| signal1\n"
        "    signal1 ==>|10| to1\n"
        "    signal1 ==>|10| to2\n"
        "    signal1 -.->|10| to3\n"
    )


def test_dot_has_nodes_and_edges(shop: AppSignals) -> None:
    """A dashed edge is no longer connected; the width says how often it was seen."""
    gone = receiver_in("shop.gone")
    shop.on("account_funded")(gone)
    send_from("shop.wire", shop, "account_funded")
    shop.disconnect(gone)
    lines = to_dot(grouped(flow_of(shop))).splitlines()
    assert lines[0] == "digraph signals {"
    assert lines[-1] == "}"
    assert '    from1 [label="shop.wire", style=rounded]' in lines
    assert '    signal1 -> to1 [style=solid, penwidth=1.75, label="1"]' in lines
    assert '    signal1 -> to3 [style=dashed, penwidth=1.75, label="1"]' in lines


@pytest.mark.parametrize(("seen", "weight"), [(0, 0), (1, 1), (9, 1), (10, 2), (100, 3), (5000, 3)])
def test_width_of_a_line_grows_in_steps(seen: int, weight: int) -> None:
    """Not without a limit."""
    node = Node(name="shop", members=("shop",))
    assert Edge(source=node, target=node, seen=seen).weight == weight


def test_svg_has_a_title_and_texts(shop: AppSignals) -> None:
    """Screen readers read it, and nodes can be found by their names."""
    send_from("shop.wire", shop, "account_funded")
    root = ET.fromstring(to_file(grouped(flow_of(shop))))
    texts = [found.text for found in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == [
        "Sent in",
        "Signal",
        "Received in",
        "shop.wire",
        "account_funded",
        "campaign_archived",
        "shop.alerts",
        "shop.mails",
    ]
    assert root[0].text == "The flow of signals in shop"
    assert root[1].text == ("Modules that send: 1. Signals and groups: 2. Modules that receive: 2.")


def test_svg_file_contains_its_colours(shop: AppSignals) -> None:
    """In ASCII, for any pipe; without variables, which many programs do not know."""
    text = to_file(flow_of(shop))
    assert text.isascii()
    assert "var(" not in text
    assert "fill: #15191e" in text
    assert "prefers-color-scheme: dark" in text
    assert "<style" not in to_svg(flow_of(shop))


def test_boxes_do_not_overlap(shop: AppSignals) -> None:
    """However many lines lead to the same place."""
    with_many(shop)
    root = ET.fromstring(to_file(grouped(flow_of(shop))))
    columns: dict[str, list[float]] = {}
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        columns.setdefault(box.attrib["x"], []).append(float(box.attrib["y"]))
        assert float(box.attrib["y"]) + 22 <= float(root.attrib["height"])
    assert len(columns) == 2
    for tops in map(sorted, columns.values()):
        assert all(b - a > 22 for a, b in pairwise(tops))


def test_hostile_names_are_escaped(shop: AppSignals) -> None:
    """In each format: a module may have any name."""
    shop.on("account_funded")(receiver_in(HOSTILE))
    send_from(HOSTILE, shop, "account_funded")
    found = grouped(flow_of(shop))
    assert len(found.receivers) == 3
    root = ET.fromstring(to_file(found))
    kinds = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert kinds == {"svg", "title", "desc", "style", "g", "path", "rect", "text"}
    for line in to_mermaid(found).splitlines()[1:]:
        assert re.fullmatch(
            r'    \w+(?:[(\[]"[\w.… #;]+"[)\]]| (?:-->|==>|-\.->)(?:\|\d+\|)? \w+)', line
        ), line
    for line in to_dot(found).splitlines()[3:-1]:
        node = r'\w+ \[label="(?:[^"\\]|\\.)*", style=\w+\]'
        edge = r"\w+ -> \w+ \[[\w.=, \"]+\]"
        assert re.fullmatch(f"    (?:{node}|{edge})", line), line


# -- the command ----------------------------------------------------------------------------------


def graph(app_signals: AppSignals, *arguments: str) -> Any:
    """Run ``flask signals graph``."""
    return run(app_signals.app, "graph", *arguments)


def test_graph_prints_mermaid(shop: AppSignals) -> None:
    """Unless another format is asked for."""
    assert graph(shop).stdout.startswith('flowchart LR\n    signal1["account_funded"]')
    assert graph(shop, "--format", "dot").stdout.startswith("digraph signals {\n")
    assert ET.fromstring(graph(shop, "--format", "svg").stdout).attrib["class"] == "flow"


def test_graph_selects_by_pattern(shop: AppSignals) -> None:
    """As the other commands."""
    assert "account_funded" not in graph(shop, "campaign_*").stdout
    failed = graph(shop, "none_such")
    assert failed.exit_code == 1
    assert "No signal matches 'none_such'." in failed.stderr
    hint = "have no receivers; 'flask signals list --all' lists them."
    assert hint in graph(shop, "request_started").stderr


def test_graph_says_what_is_left_out(shop: AppSignals) -> None:
    """On standard error, so that the picture can be written to a file."""
    with_many(shop)
    result = graph(shop)
    assert f"Not shown: {102 - SIGNALS} signals." in result.stderr
    assert "Not shown" not in result.stdout
