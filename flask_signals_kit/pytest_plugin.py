"""What the pytest plugin does in a project that uses the kit.

pytest imports the module ``_flask_signals_kit_pytest``, whose hooks and fixtures call the functions
here.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Generator, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

import blinker
import pytest
from flask import Flask

from .app.app_signals import AppSignals
from .app.changes import Change
from .app.environment import AppEnvironment
from .app.handle import DomainSignal
from .app.registry import Registry
from .compat import is_current
from .core.dispatch import next_number
from .core.signal import Signal
from .debug.labels import label, named, near_file
from .errors import did_you_mean, type_name
from .extension import SignalsKit, kits
from .settings import EXTENSION

if TYPE_CHECKING:
    from .core.connection import LiveConnection
    from .debug.activity import EmissionInfo
    from .testing import CapturedSignals


SETUP_LINES = 20
"""The most lines of an app's tree that show what the setup sent, if something was sent after it."""


def _apps() -> dict[Flask, AppSignals]:
    """Return the apps of this process with their signals. The result keeps the apps alive."""
    every = [app_signals for kit in list(kits) for app_signals in kit.registry.apps]
    return {app: each for each in every if (app := each._app()) is not None}


# -- fixtures -------------------------------------------------------------------------------------


def kit_of(app: Any) -> SignalsKit:
    """Return the kit of an app; fail the test if it has none."""
    app_signals = getattr(app, "extensions", {}).get(EXTENSION)
    if not isinstance(app_signals, AppSignals):
        pytest.fail(
            f"The fixture 'app' returned {_named(app)}, which has no SignalsKit: call "
            "kit.init_app(app) in its factory.",
            pytrace=False,
        )
    kit: SignalsKit = app_signals.kit.owner
    return kit


def _named(app: Any) -> str:
    return f"app {app.name!r}" if hasattr(app, "extensions") else type_name(app)


@contextmanager
def capturing(app: Any, kit: SignalsKit) -> Generator[CapturedSignals, None, None]:
    """Record what an app sends while a block runs; push a context if the app is not current."""
    with nullcontext() if is_current(app) else app.app_context(), kit.capture() as captured:
        yield captured


# -- the section of a failed test -----------------------------------------------------------------


class _Test:
    """What is known of the test that runs."""

    def __init__(self, phase: str, number: int) -> None:
        self.began: dict[str, int] = {phase: number}
        """The number of the last emission before each phase."""
        self.shown: int = number
        """The number of the last emission that a report could show."""
        self.has_failed: bool = False

    def phase_of(self, emission: EmissionInfo) -> str:
        """Return the phase that an emission was sent in."""
        return [phase for phase, number in self.began.items() if number < emission.number][-1]


_TEST = pytest.StashKey[_Test]()

_NEXT: dict[str | None, str] = {"setup": "call", "call": "teardown"}
"""The phase after another one."""


def begin(item: pytest.Item) -> None:
    """Note the last emission before a test."""
    item.stash[_TEST] = _Test("setup", next_number())


def end_phase(item: pytest.Item, report: pytest.TestReport) -> None:
    """Add to a report what was sent in a test that failed, since its last such report.

    pytest makes the report of the call before the teardown. It prints a section of the teardown
    with a failed call if the word is in the section's title.
    """
    test = item.stash.get(_TEST, None)
    if test is None:  # the test has imported the kit
        test = item.stash[_TEST] = _Test(str(report.when), 0)
    following = _NEXT.get(report.when)
    if following is not None:
        test.began.pop(following, None)  # a subtest had ended, not the phase
    test.has_failed |= report.failed
    if report.failed or (report.when == "teardown" and test.has_failed):
        text = _sent_in(test)
        test.shown = next_number()
        if text:
            report.sections.append(("Signals" if report.failed else "Signals teardown", text))
    if following is not None:
        test.began[following] = next_number()


def _sent_in(test: _Test) -> str:
    """Return the tree of what was sent, for each app; an empty string if nothing was."""
    from .debug.activity import emissions_after  # imported when a test fails
    from .debug.tree_text import LINES

    apps = _apps()
    sent = {app: emissions_after(each, test.shown, LINES) for app, each in apps.items()}
    senders = sorted(filter(sent.get, apps), key=lambda app: sent[app][0].number)
    trees = ["\n".join(_tree(apps[app], sent[app], test)) for app in senders]
    if len(trees) > 1:
        trees = [f"App {app.name!r}\n\n{tree}" for app, tree in zip(senders, trees, strict=True)]
    return "\n\n".join(trees)


def _tree(app_signals: AppSignals, emissions: list[EmissionInfo], test: _Test) -> Iterator[str]:
    """Yield the last lines of an app's emissions, below the request and the phase of each."""
    from .debug.activity import OUTSIDE, describe, requests
    from .debug.terminal import printable
    from .debug.tree_text import last_lines, title_text, tree_lines

    titles = {
        each.id: title_text(each)
        for each in describe(app_signals, requests(app_signals))
        if each.kind != "none"
    }
    groups: dict[tuple[int, str], list[EmissionInfo]] = {}
    for emission in emissions:
        request = emission.request if emission.request in titles else 0
        groups.setdefault((request, test.phase_of(emission)), []).append(emission)
    setup: list[str] = []
    later: list[str] = []
    for (request, phase), group in groups.items():
        title = titles.get(request, OUTSIDE)
        lines = setup if phase == "setup" else later
        lines.append(title if phase == "call" else f"{title} ({phase})")
        lines += [f"  {line}" for line in tree_lines(group)]
    shown = _last_with_title(setup) if later else setup
    yield from map(printable, last_lines([*shown, *later], len(shown) < len(setup)))


def _last_with_title(setup: list[str]) -> list[str]:
    """Return the last lines of what the setup sent, below the title of the first of them."""
    start = max(0, len(setup) - SETUP_LINES)
    titles = [line for line in setup[: start + 1] if not line.startswith(" ")]
    return titles[-1:] + setup[start + 1 :]


# -- the marker -----------------------------------------------------------------------------------


def _arguments(item: pytest.Item) -> list[Any]:
    """Return the arguments of a test's markers; a marker without any has the glob ``*``."""
    return [
        argument
        for marker in item.iter_markers("no_receivers")
        for argument in marker.args or ("*",)
    ]


def _signals(item: pytest.Item) -> tuple[str | blinker.Signal, ...]:
    """Return the names, globs and third-party signals of a test's markers."""
    named = [
        argument.name if isinstance(argument, DomainSignal | Signal) else argument
        for argument in _arguments(item)
    ]
    return tuple(dict.fromkeys(each for each in named if isinstance(each, str | blinker.Signal)))


def refuse_invalid(item: pytest.Item) -> None:
    """Fail a test whose marker has an argument that is not a signal."""
    invalid = [
        f"the argument {name}="
        for marker in item.iter_markers("no_receivers")
        for name in marker.kwargs
    ]
    invalid += [
        type_name(argument)
        for argument in _arguments(item)
        if not isinstance(argument, str | DomainSignal | blinker.Signal)
    ]
    if invalid:
        pytest.fail(
            f"The marker no_receivers of {item.name} got {', '.join(invalid)}: give it names, "
            "globs, handles or blinker signals, as in no_receivers('mail_sent', 'account_*').",
            pytrace=False,
        )


@contextmanager
def muted(item: pytest.Item) -> Generator[None, None, None]:
    """Call no receivers of a test's muted signals, in any app, thread or task."""
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AppEnvironment, "muted", _signals(item))
            _discard_plans()
            yield
    finally:
        _discard_plans()  # those of muted signals take the slow path


def _discard_plans() -> None:
    for app_signals in _apps().values():
        for signal in app_signals._signals().values():
            signal.invalidate()


def warn_unknown(item: pytest.Item) -> None:
    """Warn about arguments of a marker that match no signal of a kit or an app."""
    known = [(kit.registry, kit.registry.names()) for kit in list(kits)]
    known += [(each.registry, each.names.all()) for each in _apps().values()]
    for signal in _signals(item) if known else ():
        if not any(_has(registry, names, signal) for registry, names in known):
            name = getattr(signal, "name", signal)
            near = did_you_mean(str(name), {name for _, names in known for name in names})
            item.warn(
                pytest.PytestWarning(
                    f"The marker no_receivers({name!r}) of {item.name} names no signal that is "
                    f"declared or has receivers.{near}"
                )
            )


def _has(registry: Registry, names: set[str], signal: str | blinker.Signal) -> bool:
    """Tell whether a name, glob or third-party signal stands for one of these names."""
    is_glob_of_receivers = signal == "*" or signal in registry.globs
    return is_glob_of_receivers or any(registry.matches(name, signal) for name in names)


# -- the check for leaks --------------------------------------------------------------------------

_Owner: TypeAlias = "SignalsKit | AppSignals"

_Held: TypeAlias = "WeakKeyDictionary[Registry, Counter[Hashable]]"
"""How often each receiver is connected to each target and sender, by the registry of its owner."""


class Leaks:
    """A plugin that fails a test which leaves receivers connected.

    It compares the connections of every kit and app that exist when the test begins, or that a
    fixture makes which serves more tests. Those that a module makes while the test imports it, or
    such a fixture, may stay.
    """

    def __init__(self) -> None:
        self._permitted: _Held = WeakKeyDictionary()
        self._modules: frozenset[str] = frozenset()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Permit what modules connect that the test is the first to import."""
        from .testing.isolation import observing_imports  # imported if the check is on

        with observing_imports(self._permit):
            return (yield)

    def _permit(self, module: str, change: Change) -> None:
        before = self._permitted.get(change.registry)
        if before is not None:
            self._permitted[change.registry] = before + Counter(map(_key, change.connections))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Permit the connections before the test."""
        self._permitted, self._modules = _held(), frozenset(sys.modules)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        """Permit what a fixture connects that serves more tests than this one."""
        if fixturedef.scope == "function":
            return (yield)
        before, permitted = _held(), self._permitted.copy()
        result = yield
        for registry, connected in _held().items():
            if registry in permitted or registry not in before:
                added = connected - before.get(registry, Counter())
                self._permitted[registry] = permitted.get(registry, Counter()) + added
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Fail if the test leaves connections."""
        result = yield
        leaks = list(self._leaks())
        if any(connection.weak for _, connection in leaks):
            gc.collect()  # a receiver in a reference cycle is not left behind
            leaks = list(self._leaks())
        if item.stash[_TEST].has_failed:  # its traceback keeps weak receivers alive
            leaks = [each for each in leaks if not each[1].weak]
        if leaks:
            pytest.fail(_describe(item, leaks), pytrace=False)
        return result

    def _leaks(self) -> Iterator[tuple[str, LiveConnection]]:
        """Yield what is connected more often than permitted, and where."""
        for owner, where in _owners().items():
            if owner.registry not in self._permitted:
                continue
            connections, direct = _connections(owner), _direct_connections(owner)
            more = Counter(map(_key, connections)) - self._permitted[owner.registry]
            for connection in reversed(connections):
                key = _key(connection)
                # A registry does not report a direct connection: one to a receiver of a module
                # that is new in this test is permitted.
                is_new = connection in direct and connection.place.module not in self._modules
                if more[key] > 0 and not is_new:
                    more[key] -= 1
                    yield where, connection


def _owners() -> dict[_Owner, str]:
    """Return what has connections, each with words for a message."""
    owners: dict[_Owner, str] = dict.fromkeys(kits, "")
    return owners | {each: f" of app {app.name!r}" for app, each in _apps().items()}


def _held() -> _Held:
    return WeakKeyDictionary(
        {each.registry: Counter(map(_key, _connections(each))) for each in _owners()}
    )


def _connections(owner: _Owner) -> list[LiveConnection]:
    """Return the connections made with a kit, or with one app and its signals."""
    return [*owner.registry.connections, *_direct_connections(owner)]


def _direct_connections(owner: _Owner) -> list[LiveConnection]:
    """Return the connections made with an app's signals themselves."""
    if not isinstance(owner, AppSignals):
        return []
    return [connection for signal in owner._signals().values() for connection in signal._own]


def _key(connection: LiveConnection) -> Hashable:
    """Return what a receiver has in common with the one that replaces it after a reload."""
    return connection.target, connection.place, connection.key[1]


def _describe(item: pytest.Item, leaks: list[tuple[str, LiveConnection]]) -> str:
    lines = [f"{item.name} leaves receivers connected, which later tests then call:"]
    for where, connection in leaks:
        place = connection.place
        file = f" ({label(place, near_file)})" if place.file else ""
        lines.append(f"  {named(place)}{file}, connected to {connection.target!r}{where}")
    lines.append(
        "Connect a receiver for the test alone: with signal.connected_to(receiver), or with kit.on "
        "inside 'with kit.isolated():'."
    )
    return "\n".join(lines)
