"""The views of the page: each shows the report, and computes nothing itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from flask import Response, request
from jinja2 import Environment, PackageLoader, StrictUndefined

from ...app.app_signals import AppSignals
from ..report import (
    ORIGINS,
    POLICIES,
    TRAITS,
    Located,
    Report,
    Selection,
    SignalInfo,
    doc_parts,
    duration,
    label,
    report,
    short_file,
)

T = TypeVar("T")

PACKAGE = __name__.rpartition(".")[0]
"""The package of the templates and the static files."""

STATIC = {
    "icon.svg": "image/svg+xml",
    "page.css": "text/css",
    "page.js": "text/javascript",
}
"""The static files and their MIME types; a route of the page serves them, behind its guard."""


PAGE = 100
"""The number of signals on one page of the list, and of receivers in the view of a signal."""

BRIEF = 20
"""The number of receivers per signal in the list, and of problems in each view."""

COMPLETE = 1000
"""The most receivers of all signals together for which a list of one page is sent with its hidden
signals, so that the browser can filter it."""

LINE = 88
"""The line length of code, as in most formatters."""

NAVIGATION = (("signals", "Signals", "/signals"),)
"""The views in the navigation: name, title and path below the page's URL."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paged(Generic[T]):
    """One page of a long list."""

    items: Sequence[T]
    """The items on this page."""
    total: int
    """The number of items on all pages."""
    number: int
    """The number of this page, counted from 1."""
    last: int
    """The number of the last page."""

    @property
    def before(self) -> int:
        """The number of items on the pages before."""
        return (self.number - 1) * PAGE

    @property
    def nearby(self) -> list[int | None]:
        """The pages to link to: the first, the last and the nearest; ``None`` for a gap."""
        near = range(self.number - 2, self.number + 3)
        wanted = sorted({1, self.last, *(page for page in near if 1 <= page <= self.last)})
        found: list[int | None] = []
        for page in wanted:
            if found and page - 1 not in wanted:
                found.append(None)
            found.append(page)
        return found


def _paged(items: Sequence[T], number: int) -> Paged[T]:
    """Return one page of the items; the last page if the number is too high."""
    last = max(1, -(-len(items) // PAGE))
    number = min(number, last)
    there = items[(number - 1) * PAGE : number * PAGE]
    return Paged(items=there, total=len(items), number=number, last=last)


class Views:
    """The views of one app's page.

    :param prefix: the page's URL within the app.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._templates = Environment(
            loader=PackageLoader(PACKAGE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        filters: dict[str, Any] = self._templates.filters
        filters.update(doc_parts=doc_parts, duration=duration, camel_parts=_camel_parts)
        filters.update(place=_place, quote=_quote)

    def index(self, app_signals: AppSignals) -> Response:
        """Show the first view."""
        return self.signals(app_signals)

    def signals(self, app_signals: AppSignals) -> Response:
        """Show the signals with their receivers, one page at a time.

        If all signals fit on one page, the response also contains those that a filter hides, so
        that the browser can filter.
        """
        selection, found = _read_selection(), report(app_signals)
        chosen = found.select(selection).signals
        complete = len(found.signals) <= PAGE and len(found.receivers) <= COMPLETE
        paged = _paged(chosen, _read_number("page"))
        return self._render(
            "signals.html",
            found,
            view="signals",
            selection=selection,
            query=_query(selection),
            back=_query(selection, paged.number),
            origins=ORIGINS,
            traits=tuple(TRAITS),
            tally=found.tally(),
            complete=complete,
            paged=paged,
            cards=found.signals if complete else paged.items,
            shown=frozenset(signal.name for signal in paged.items),
        )

    def signals_json(self, app_signals: AppSignals) -> Response:
        """Return the content of :meth:`signals` and :meth:`signal` as JSON."""
        found = report(app_signals, request.args.get("name")).select(_read_selection())
        body = json.dumps(found.to_json(), ensure_ascii=False)
        return Response(_encode(f"{body}\n"), mimetype="application/json")

    def signal(self, app_signals: AppSignals, name: str) -> Response:
        """Show everything about one signal."""
        found = report(app_signals, name)
        signal = found.find(name)
        if signal is None:
            found = report(app_signals)
            near = found.nearest(name)
            return self._render("missing.html", found, 404, view=None, name=name, near=near)
        return self._render(
            "signal.html",
            found,
            view="signals",
            signal=signal,
            paged=_paged(signal.receivers, _read_number("receivers")),
            back=_query(_read_selection(), _read_number("page")),
            sample=_sample(signal),
            policies=POLICIES,
        )

    def static(self, app_signals: AppSignals, filename: str) -> Response:
        """Return one of the static files."""
        if filename not in STATIC:
            return Response("There is no such file.\n", 404, mimetype="text/plain")
        body = files(PACKAGE).joinpath("static", filename).read_bytes()
        return Response(body, mimetype=STATIC[filename])

    def _render(self, template: str, found: Report, status: int = 200, **context: Any) -> Response:
        body = self._templates.get_template(template).render(
            report=found,
            navigation=NAVIGATION,
            root=_local(request.script_root + "/"),
            url=self._url,
            brief=BRIEF,
            **context,
        )
        return Response(_encode(body), status, mimetype="text/html")

    def _url(self, path: str = "", query: Mapping[str, Any] | None = None) -> str:
        """Return the URL of a path of the page, without a host."""
        url = _local(request.script_root + self._prefix + path)
        return f"{url}?{urlencode(query, doseq=True)}" if query else url


def _encode(text: str) -> bytes:
    """Encode a response; escape surrogates, which a file name may contain."""
    return text.encode(errors="backslashreplace")


def _local(path: str) -> str:
    """Return the URL of a path on the same host."""
    return "/" + _quote(path).lstrip("/")


def _quote(text: str) -> str:
    return quote(text, errors="backslashreplace")


def _read_selection() -> Selection:
    """Read the filters from the query; ignore unknown ones."""
    arguments = request.args
    return Selection(
        words=arguments.get("q", "").strip(),
        origins=tuple(origin for origin in ORIGINS if origin in arguments.getlist("origin")),
        traits=tuple(trait for trait in TRAITS if trait in arguments.getlist("only")),
    )


def _read_number(name: str) -> int:
    """Read the number of a page from the query; use 1 if it is invalid."""
    return max(1, request.args.get(name, 1, type=int))


def _query(selection: Selection, page: int = 1) -> dict[str, Any]:
    """Return the query of a selection, without empty values."""
    query: dict[str, Any] = {
        "q": selection.words,
        "origin": selection.origins,
        "only": selection.traits,
        "page": page if page > 1 else None,
    }
    return {name: value for name, value in query.items() if value}


def _place(thing: Located) -> str:
    return label(thing, short_file)


def _camel_parts(name: str) -> list[str]:
    """Return the parts of a class name between which a line may break."""
    return re.split(r"(?<=[a-z0-9.>])(?=[A-Z])", name)


def _sample(signal: SignalInfo) -> str:
    """Return sample code that connects a receiver to a signal."""
    payload = signal.payload or ()
    names = [f"{name}=None" if name in signal.optional else name for name in payload]
    sender = "app" if signal.origin == "flask" else "sender"
    extra = "extra"
    while extra in payload:
        extra += "_"
    parameters = [sender, *(["*", *names] if names else []), f"**{extra}"]
    head = f"def receiver({', '.join(parameters)}):"
    if len(head) > LINE:
        head = "\n".join(["def receiver(", *(f"    {each}," for each in parameters), "):"])
    return f'@kit.on("{signal.name}")\n{head}\n    ...'
