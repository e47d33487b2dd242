"""The picture of a flow as SVG: modules that send, signals, modules that receive."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from statistics import fmean

from markupsafe import Markup

from .flow import Edge, Flow, Node
from .labels import plain

HEADS = ("Sent in", "Signal", "Received in")
"""The headings of the columns."""

TOP = 30
"""The height of the headings, in pixels, as all sizes here."""

ROW = 30
"""The height of a row."""

BOX = 22
"""The height of a box."""

CHARACTER = 7.3
"""The width of a character: at 12 pixels, those of all common monospaced fonts are narrower."""

PADDING = 10
"""The space before and after the text in a box."""

LONGEST = 34
"""The most characters in a box."""

GAP = 150
"""The space between two columns."""

LINES = (1.0, 1.75, 3.0, 5.0)
"""The width of a line, by the weight of its edge."""

PICTURE = Markup(
    '<svg xmlns="http://www.w3.org/2000/svg" class="flow" role="group" '
    'aria-labelledby="flow-title" aria-describedby="flow-desc" '
    'viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}">'
    '<title id="flow-title">The flow of signals in {app}</title>'
    '<desc id="flow-desc">{description}</desc>{style}{parts}</svg>'
)
"""The SVG element."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Box:
    """The place of a node in the picture."""

    x: float
    """The left edge."""
    y: float
    """The upper edge."""
    width: float
    """The width."""

    @property
    def middle(self) -> float:
        """The height at which its lines end."""
        return self.y + BOX / 2


def to_svg(
    flow: Flow, link: Callable[[Node], str | None] = lambda node: None, style: str = ""
) -> Markup:
    """Return the picture as an SVG element.

    :param flow: the flow.
    :param link: returns the URL of a node, or ``None``.
    :param style: the text of a style sheet to include.
    """
    columns = [
        (head, nodes)
        for head, nodes in zip(HEADS, (flow.senders, flow.signals, flow.receivers), strict=True)
        if nodes
    ]
    boxes = _layout(flow, [nodes for _, nodes in columns])
    width = max((box.x + box.width for box in boxes.values()), default=0) + 1
    height = TOP + ROW * max((len(nodes) for _, nodes in columns), default=0)
    parts = [
        *(_head(head, boxes[nodes[0]]) for head, nodes in columns),
        Markup('<g aria-hidden="true">'),
        *(_line(edge, boxes) for edge in (*flow.sends, *flow.receives)),
        Markup("</g>"),
        *(_box(node, box, link(node)) for node, box in boxes.items()),
    ]
    return PICTURE.format(
        width=width,
        height=height,
        app=clean(flow.app),
        description=_describe(flow),
        style=Markup("<style>{}</style>").format(Markup(style)) if style else "",  # noqa: S704
        parts=Markup("\n").join(parts),
    )


def to_file(flow: Flow) -> str:
    """Return the picture as an SVG file that contains its colours, in ASCII."""
    text = to_svg(flow, style=_own_style())
    return text.encode("ascii", "xmlcharrefreplace").decode()


def clean(text: str) -> str:
    """Return a text without characters that XML forbids, such as control characters."""
    return re.sub(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", plain(text))


def describe_edge(edge: Edge) -> str:
    """Return an edge in words."""
    seen = f"seen {edge.seen} time{'' if edge.seen == 1 else 's'}" if edge.seen else "connected"
    ends = f"{edge.source.title} → {edge.target.title}"
    return f"{ends}: {seen}" if edge.connected else f"{ends}: {seen}, no longer connected"


def _describe(flow: Flow) -> str:
    return (
        f"Modules that send: {len(flow.senders)}. Signals and groups: {len(flow.signals)}. "
        f"Modules that receive: {len(flow.receivers)}."
    )


def _layout(flow: Flow, columns: list[Sequence[Node]]) -> dict[Node, Box]:
    """Place the signals in their order, and each module near the signals of its lines."""
    height = ROW * max(map(len, columns), default=0)
    heights = {
        signal: height / len(flow.signals) * (index + 0.5) - ROW / 2
        for index, signal in enumerate(flow.signals)
    }
    near: dict[Node, list[float]] = {}
    for edge in flow.sends:
        near.setdefault(edge.source, []).append(heights[edge.target])
    for edge in flow.receives:
        near.setdefault(edge.target, []).append(heights[edge.source])
    wanted = heights | {module: fmean(found) for module, found in near.items()}
    boxes: dict[Node, Box] = {}
    left = 1.0
    for nodes in columns:
        width = max(len(_label(node.title)) for node in nodes) * CHARACTER + 2 * PADDING
        boxes |= {
            node: Box(x=left, y=TOP + y + (ROW - BOX) / 2, width=width)
            for node, y in _spread(nodes, wanted, height).items()
        }
        left += width + GAP
    return boxes


def _spread(
    nodes: Iterable[Node], wanted: Mapping[Node, float], height: float
) -> dict[Node, float]:
    """Return the height of each node: near the wanted one, a row apart, within the picture."""
    ordered = sorted(nodes, key=wanted.__getitem__)
    lowest, placed = 0.0, []
    for node in ordered:
        lowest = max(wanted[node], lowest)
        placed.append(lowest)
        lowest += ROW
    highest = height - ROW
    for index in reversed(range(len(placed))):
        placed[index] = min(placed[index], highest)
        highest = placed[index] - ROW
    return dict(zip(ordered, placed, strict=True))


def _label(text: str) -> str:
    """Return a name that fits into a box: of a long one, the end."""
    return text if len(text) <= LONGEST else f"…{text[1 - LONGEST :]}"


def _head(text: str, box: Box) -> Markup:
    return Markup('<text class="head" x="{:.1f}" y="16">{}</text>').format(box.x, text)


def _line(edge: Edge, boxes: Mapping[Node, Box]) -> Markup:
    source, target = boxes[edge.source], boxes[edge.target]
    start = source.x + source.width
    bend = (target.x - start) / 2
    path = (
        f"M{start:.1f} {source.middle:.1f}C{start + bend:.1f} {source.middle:.1f} "
        f"{target.x - bend:.1f} {target.middle:.1f} {target.x:.1f} {target.middle:.1f}"
    )
    kind = "seen" if edge.seen else "unseen"
    return Markup('<path class="line {}" d="{}" stroke-width="{}"><title>{}</title></path>').format(
        kind if edge.connected else "gone",
        path,
        LINES[edge.weight],
        clean(describe_edge(edge)),
    )


def _box(node: Node, box: Box, url: str | None) -> Markup:
    kind = f"{node.origin or 'module'}{' unused' if node.is_unused else ''}"
    inside = Markup(
        '<g class="box {}"><title>{}</title>'
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" rx="5"/>'
        '<text x="{:.1f}" y="{:.1f}">{}</text></g>'
    ).format(
        kind,
        clean(_hint(node)),
        box.x,
        box.y,
        box.width,
        BOX,
        box.x + PADDING,
        box.y + 15,
        clean(_label(node.title)),
    )
    return inside if url is None else Markup('<a href="{}">{}</a>').format(url, inside)


def _hint(node: Node) -> str:
    """Return the full name of a node, with the first members of a group."""
    if len(node.members) == 1:
        return node.name
    more = "" if len(node.members) <= LONGEST else ", …"
    return f"{node.title}: {', '.join(node.members[:LONGEST])}{more}"


def _own_style() -> str:
    """Return the style sheet with the page's colours in place of its variables.

    Not all programs that show SVG files know variables.
    """
    page, sheet = map(_read_static, ("page.css", "picture.css"))
    light, dark, *_ = (
        dict(re.findall(r"--([\w-]+):\s*([^;]+);", block))
        for block in re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    )
    night = _with_colours(sheet, light | dark)
    return f"{_with_colours(sheet, light)}@media (prefers-color-scheme: dark) {{\n{night}}}\n"


def _read_static(name: str) -> str:
    return files(f"{__package__}.page").joinpath("static", name).read_text("utf-8")


def _with_colours(sheet: str, colours: Mapping[str, str]) -> str:
    return re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], sheet)
