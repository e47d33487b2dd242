"""A flow as text for other tools: Mermaid and Graphviz."""

from __future__ import annotations

import re

from .flow import Edge, Flow, Node
from .flow_svg import LINES, clean

INDENT = "    "


def to_mermaid(flow: Flow) -> str:
    """Return the flow as a Mermaid flowchart.

    https://mermaid.js.org/syntax/flowchart.html
    """
    names = _names(flow)
    lines = ["flowchart LR"]
    for node, name in names.items():
        left, right = ("(", ")") if node.origin is None else ("[", "]")
        lines.append(f'{INDENT}{name}{left}"{_mermaid(node.title)}"{right}')
    for edge in (*flow.sends, *flow.receives):
        arrow = ("==>" if edge.weight > 1 else "-->") if edge.connected else "-.->"
        count = f"|{edge.seen}|" if edge.seen else ""
        lines.append(f"{INDENT}{names[edge.source]} {arrow}{count} {names[edge.target]}")
    return "\n".join(lines) + "\n"


def to_dot(flow: Flow) -> str:
    """Return the flow as a Graphviz graph.

    https://graphviz.org/doc/info/lang.html
    """
    names = _names(flow)
    lines = ["digraph signals {", f"{INDENT}rankdir=LR", f"{INDENT}node [shape=box]"]
    lines += (
        f'{INDENT}{name} [label="{_dot(node.title)}", style={_dot_style(node)}]'
        for node, name in names.items()
    )
    lines += (
        f"{INDENT}{names[edge.source]} -> {names[edge.target]} [{_dot_edge(edge)}]"
        for edge in (*flow.sends, *flow.receives)
    )
    return "\n".join([*lines, "}"]) + "\n"


def _names(flow: Flow) -> dict[Node, str]:
    """Return a short name for each node, such as ``s1``: the texts may contain anything."""
    columns = (("from", flow.senders), ("signal", flow.signals), ("to", flow.receivers))
    return {
        node: f"{column}{number}"
        for column, nodes in columns
        for number, node in enumerate(nodes, 1)
    }


def _mermaid(text: str) -> str:
    """Return a text with entities for what Mermaid or its Markdown may interpret.

    Underscores within words, as in ``account_funded``, are not interpreted.
    """
    special = r"[^\w.… ]|(?<![^\W_])_|_(?![^\W_])"
    return re.sub(special, lambda found: f"#{ord(found[0])};", clean(text))


def _dot(text: str) -> str:
    return clean(text).replace("\\", "\\\\").replace('"', '\\"')


def _dot_style(node: Node) -> str:
    return "rounded" if node.origin is None else "bold"


def _dot_edge(edge: Edge) -> str:
    style = "solid" if edge.connected else "dashed"
    label = f', label="{edge.seen}"' if edge.seen else ""
    return f"style={style}, penwidth={LINES[edge.weight]}{label}"
