"""The views of the page: each shows the report, and computes nothing itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from flask import Response, request
from jinja2 import Environment, PackageLoader, StrictUndefined

from ...errors import SignalsKitError
from ...records import DURABLE
from .. import activity
from ..activity import RequestFilter
from ..flow import Flow, Node, flow, grouped, seen
from ..flow_svg import to_svg
from ..flow_text import to_dot, to_mermaid
from ..labels import (
    age,
    brief_moment,
    clock,
    doc_parts,
    duration,
    label,
    moment,
    plain,
    short_error,
    short_file,
)
from ..outbox import STATUSES, counts_of_signal, in_words
from ..report import ORIGINS, POLICIES, TRAITS, Selection, SignalInfo, report
from .outbox import outbox_page, read_id, read_outbox_filter, stored_message
from .source import editor_url, source

if TYPE_CHECKING:
    from ...app.app_signals import AppSignals

T = TypeVar("T")

PACKAGE = __name__.rpartition(".")[0]
"""The package of the templates and the static files."""

STATIC = {
    "activity.css": "text/css",
    "flow.css": "text/css",
    "icon.svg": "image/svg+xml",
    "live.js": "text/javascript",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "picture.css": "text/css",
}
"""The static files and their MIME types; a route of the page serves them, behind its guard."""


PAGE = 100
"""The number of signals on one page of the list, and of receivers in the view of a signal."""

BRIEF = 20
"""The number of receivers per signal in the list, of problems in each view, and of receivers whose
source is shown."""

COMPLETE = 1000
"""The most receivers of all signals together for which a list of one page is sent with its hidden
signals, so that the browser can filter it."""

ROWS = 2000
"""The most rows of a request's tree."""

LINE = 88
"""The line length of code, as in most formatters."""

NAVIGATION = ("requests", "signals", "flow", "outbox")
"""The views in the navigation. Only an app with durable receivers has an outbox."""


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


def _paged_requests(app_signals: AppSignals, wanted: RequestFilter) -> Paged[activity.RequestInfo]:
    """Return the records of one page of the requests; only those are put together."""
    paged: Paged[Any] = _paged(activity.requests(app_signals, wanted), _read_number("page"))
    return replace(paged, items=activity.describe(app_signals, paged.items))


class Views:
    """The views of one app's page.

    :param prefix: the page's URL within the app.
    :param editor: the URL that opens a place in an editor, or ``None``.
    """

    def __init__(self, prefix: str, editor: str | None = None) -> None:
        self._prefix = prefix
        self._templates = Environment(
            loader=PackageLoader(PACKAGE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        names: dict[str, Any] = self._templates.globals
        names.update(brief=BRIEF, origins=ORIGINS, policies=POLICIES)
        names.update(statuses=STATUSES, traits=TRAITS)
        filters: dict[str, Any] = self._templates.filters
        filters.update(doc_parts=doc_parts, duration=duration)
        filters.update(
            place=partial(label, shorten=short_file), quote=_quote, clock=clock, iso=_iso
        )
        filters.update(editor_url=partial(editor_url, editor))
        filters.update(moment=moment, brief_moment=brief_moment, age=age, short_error=short_error)

    def index(self, app_signals: AppSignals) -> Response:
        """Show the requests once a signal was sent, and the signals before."""
        journal = app_signals.journal
        is_empty = journal is None or journal.is_empty
        return self.signals(app_signals) if is_empty else self.requests(app_signals)

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
            app_signals,
            view="signals",
            report=found,
            selection=selection,
            query=_query(selection),
            back=_query(selection, paged.number),
            tally=found.tally(),
            complete=complete,
            paged=paged,
            cards=found.signals if complete else paged.items,
            shown=frozenset(signal.name for signal in paged.items),
        )

    def signals_json(self, app_signals: AppSignals) -> Response:
        """Return the content of :meth:`signals` and :meth:`signal` as JSON."""
        found = report(app_signals, request.args.get("name")).select(_read_selection())
        return _json(found.to_json())

    def signal(self, app_signals: AppSignals, name: str) -> Response:
        """Show everything about one signal."""
        found = report(app_signals, name)
        signal = found.find(name)
        if signal is None:
            near = plain(app_signals.names.nearest(name) or "")
            return self._render("missing.html", app_signals, 404, view=None, name=name, near=near)
        paged = _paged(signal.receivers, _read_number("receivers"))
        emissions = activity.last_emissions(app_signals, name)
        return self._render(
            "signal.html",
            app_signals,
            view="signals",
            signal=signal,
            paged=paged,
            sources=[source(receiver) for receiver in paged.items[:BRIEF]],
            back=_query(_read_selection(), _read_number("page")),
            sample=_sample(signal),
            similar=activity.similar_name(app_signals, name),
            emissions=emissions,
            rows=activity.receivers_by_emission(emissions),
            stored=_stored(app_signals, signal),
        )

    def requests(self, app_signals: AppSignals) -> Response:
        """Show the requests in which signals were sent, newest first."""
        wanted = _read_request_filter()
        return self._render(
            "requests.html",
            app_signals,
            view="requests",
            wanted=wanted,
            query=_request_query(wanted),
            total=len(activity.requests(app_signals)),
            paged=_paged_requests(app_signals, wanted),
        )

    def requests_json(self, app_signals: AppSignals) -> Response:
        """Return the content of :meth:`requests` and :meth:`request` as JSON, one page of it."""
        paged = _paged_requests(app_signals, _read_request_filter())
        only = request.args.get("only", "").strip()
        content = activity.requests_to_json(app_signals, paged.items, only)
        return _json({**content, "total": paged.total, "page": paged.number, "pages": paged.last})

    def request(self, app_signals: AppSignals, number: int) -> Response:
        """Show the tree of the emissions of one request."""
        info = activity.request(app_signals, number)
        if info is None:
            return self._missing_record(app_signals, "request", number)
        sent = activity.emissions(app_signals, [info], ROWS)[number]
        return self._tree(app_signals, info, sent)

    def emission(self, app_signals: AppSignals, number: int) -> Response:
        """Show one emission, and what its receivers sent."""
        sent = activity.within(app_signals, number, ROWS)
        info = activity.request(app_signals, sent[0].request) if sent else None
        if info is None:
            return self._missing_record(app_signals, "emission", number)
        return self._tree(app_signals, info, sent, sent[0])

    def _tree(
        self,
        app_signals: AppSignals,
        info: activity.RequestInfo,
        sent: list[activity.EmissionInfo],
        emission: activity.EmissionInfo | None = None,
    ) -> Response:
        rows = list(islice(activity.tree(sent), ROWS + 1))
        return self._render(
            "request.html",
            app_signals,
            view="requests",
            info=info,
            emission=emission,
            undeclared=[s for s in info.signals if not app_signals.registry.is_declared(s)],
            rows=rows[:ROWS],
            is_cut=len(rows) > ROWS,
        )

    def _missing_record(self, app_signals: AppSignals, what: str, number: int) -> Response:
        return self._render(
            "not_recorded.html", app_signals, 404, view=None, what=what, number=number
        )

    def outbox(self, app_signals: AppSignals) -> Response:
        """Show the messages of durable receivers, the newest first."""
        wanted = read_outbox_filter(request.args)
        try:
            found, error = outbox_page(app_signals, wanted), None
        except SignalsKitError as failure:
            found, error = None, str(failure)
        return self._render(
            "outbox.html",
            app_signals,
            200 if found else 503 if error else 404,
            view="outbox",
            wanted=wanted,
            found=found,
            error=error,
        )

    def outbox_json(self, app_signals: AppSignals) -> Response:
        """Return the content of :meth:`outbox` and :meth:`message` as JSON."""
        app = plain(app_signals.app.name)
        try:
            found = outbox_page(app_signals, read_outbox_filter(request.args))
        except SignalsKitError as error:
            return _json({"app": app, "error": str(error)}, 503)
        if found is None:
            return _json({"app": app, "error": "This app has no durable receivers."}, 404)
        return _json(found.to_json())

    def message(self, app_signals: AppSignals, number: int) -> Response:
        """Show one message of a durable receiver."""
        try:
            message, error = stored_message(app_signals, number), None
        except SignalsKitError as failure:
            message, error = None, str(failure)
        return self._render(
            "message.html",
            app_signals,
            200 if message else 503 if error else 404,
            view="outbox",
            number=number,
            message=message,
            error=error,
            emission=message and activity.emission_of_message(app_signals, message.message_id),
        )

    def flow(self, app_signals: AppSignals) -> Response:
        """Show which modules send and receive which signals."""
        shown = grouped(_read_flow(app_signals))
        query = {name: request.args[name] for name in ("q", "connected") if request.args.get(name)}
        return self._render(
            "flow.html",
            app_signals,
            view="flow",
            flow=shown,
            query=query,
            picture=to_svg(shown, self._node_url),
            link=self._node_url,
            mermaid=to_mermaid(shown),
            dot=to_dot(shown),
        )

    def flow_json(self, app_signals: AppSignals) -> Response:
        """Return the content of :meth:`flow` as JSON."""
        return _json(_read_flow(app_signals).to_json())

    def _node_url(self, node: Node) -> str | None:
        """Return the URL of a signal, of a group of signals, or of a module's part of the flow."""
        if node.is_rest:
            return None
        if node.origin is None:
            return self._url("/flow", {"q": node.name.encode(errors="backslashreplace")})
        if len(node.members) > 1:
            only = {"only": "orphans"} if node.is_unused else {"origin": node.origin}
            return self._url("/signals", only)
        return self._url(f"/signals/{node.name}")

    def static(self, app_signals: AppSignals, filename: str) -> Response:
        """Return one of the static files."""
        if filename not in STATIC:
            return Response("There is no such file.\n", 404, mimetype="text/plain")
        body = files(PACKAGE).joinpath("static", filename).read_bytes()
        return Response(body, mimetype=STATIC[filename])

    def _render(
        self, template: str, app_signals: AppSignals, status: int = 200, **context: Any
    ) -> Response:
        """Render a view; answer 304 to a script that fetches it again, if it has not changed."""
        body = self._templates.get_template(template).render(
            app=plain(app_signals.app.name),
            journal=app_signals.journal is not None,
            navigation=NAVIGATION if app_signals.outbox is not None else NAVIGATION[:-1],
            root=_local(request.script_root + "/"),
            url=self._url,
            **context,
        )
        response = Response(_encode(body), status, mimetype="text/html")
        response.add_etag()
        response.make_conditional(request)
        return response

    def _url(self, path: str = "", query: Mapping[str, Any] | None = None) -> str:
        """Return the URL of a path of the page, without a host."""
        url = _local(request.script_root + self._prefix + path)
        return f"{url}?{urlencode(query, doseq=True)}" if query else url


def _stored(app_signals: AppSignals, signal: SignalInfo) -> str | None:
    """Return how many messages of a signal are stored; ``None`` without durable receivers."""
    if all(receiver.delivery != DURABLE for receiver in signal.receivers):
        return None
    counts = counts_of_signal(app_signals, signal.name)
    return None if counts is None else in_words(counts)


def _json(content: Any, status: int = 200) -> Response:
    body = json.dumps(content, ensure_ascii=False)
    return Response(_encode(f"{body}\n"), status, mimetype="application/json")


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


def _read_request_filter() -> RequestFilter:
    """Read the filters of the requests from the query."""
    arguments = request.args
    return RequestFilter(
        id=read_id(arguments),
        path=arguments.get("q", "").strip(),
        signal=arguments.get("signal", "").strip(),
        status=arguments.get("status", "").strip(),
        failed="failed" in arguments,
        domain="domain" in arguments,
    )


def _read_flow(app_signals: AppSignals) -> Flow:
    """Return the flow of the signals that match the query."""
    found, words = report(app_signals), request.args.get("q", "").strip()
    recorded = seen(app_signals, found)
    return flow(found, recorded, words=words, connected=bool(request.args.get("connected")))


def _request_query(wanted: RequestFilter) -> dict[str, Any]:
    """Return the query of the filters of requests, without empty values."""
    query = {"q": wanted.path, "signal": wanted.signal, "status": wanted.status}
    query["failed"] = "1" if wanted.failed else ""
    query["domain"] = "1" if wanted.domain else ""
    return {name: value for name, value in query.items() if value}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds")


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
