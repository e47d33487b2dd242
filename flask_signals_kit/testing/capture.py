"""``kit.capture()``: records emissions, limits which receivers run, and runs those that wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..compat import is_current
from ..core.delivery import add_note, report
from ..core.names import is_glob
from ..core.signal import restricted
from ..debug.labels import named
from ..errors import ReceiverError, did_you_mean
from ..records import DURABLE, Receiver
from .captured import CapturedSignals
from .matching import is_receiver, receiver_label

if TYPE_CHECKING:
    from ..app.app_signals import AppSignals
    from ..core.connection import LiveConnection
    from ..core.observation import Observation
    from ..deliveries.transactions import Pending


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runs:
    """Which receivers of the captured signals run."""

    run: bool
    """Whether any receivers run."""
    only: tuple[Receiver | str, ...] | None
    """The only receivers that run, or ``None`` for all."""
    except_: tuple[Receiver | str, ...]
    """Receivers that do not run."""
    after_commit: bool
    """Whether the after-commit receivers that still wait run when the block ends."""
    durable: bool
    """Whether the durable receivers run when the block ends."""
    contain: bool
    """Whether failures of these are contained, as after a commit."""

    @property
    def are_limited(self) -> bool:
        """Whether some receivers do not run."""
        return not self.run or self.only is not None or bool(self.except_)

    def allows(self, connection: LiveConnection) -> bool:
        """Tell whether a connection is called."""
        is_named = self.only is None or _is_among(self.only, connection)
        return self.run and is_named and not _is_among(self.except_, connection)


def _is_among(receivers: Iterable[Receiver | str], connection: LiveConnection) -> bool:
    key, uid, place = connection.key[0], connection.options.uid, connection.place
    return any(is_receiver(receiver, key, uid, place) for receiver in receivers)


@contextmanager
def capture(
    app_signals: AppSignals,
    names: list[str],
    name_of: Callable[[Any], str],
    runs: Runs,
) -> Generator[CapturedSignals, None, None]:
    """Record the emissions of an app while a ``with`` block runs.

    :param app_signals: the app's signals.
    :param names: the signals' names and globs; every domain signal if empty.
    :param name_of: returns the name of a signal that an assertion gets.
    :param runs: which receivers run.
    """
    selection = _Selection(app_signals, names)
    captured = CapturedSignals(app_signals, lambda signal: selection.check(name_of(signal)))
    late = _LateCalls(app_signals, runs)
    with ExitStack() as stack:
        selection.observe(captured._record, stack)
        if runs.are_limited:
            selection.check_receivers(runs)
            stack.enter_context(
                restricted(app_signals.namespace, selection.includes, runs.allows, "by kit.capture")
            )
        stack.enter_context(app_signals.sessions.observe_kept(late.keep))
        yield captured
        late.run()


class _Selection:
    """The signals that one block captures.

    :param app_signals: the app's signals.
    :param names: their names and globs; every domain signal if empty.
    """

    def __init__(self, app_signals: AppSignals, names: list[str]) -> None:
        self._app_signals = app_signals
        self._names = {name for name in names if not is_glob(name)}
        self._globs = [name for name in names if is_glob(name)] if names else ["*"]
        for name in self._names:
            app_signals.names.warn_of_capture(name)

    def includes(self, name: str) -> bool:
        """Tell whether the signal of this name is captured."""
        return name in self._names or self._matches_glob(name)

    def _matches_glob(self, name: str) -> bool:
        return any(self._app_signals.registry.matches(name, glob) for glob in self._globs)

    def check(self, name: str) -> str:
        """Return a name that an assertion gets.

        :raises AssertionError: for a glob, or if its signal is not captured, because then each
            assertion that it was not sent would be true.
        """
        __tracebackhide__ = True
        if is_glob(name):
            raise AssertionError(
                f"{name!r} is a pattern: an assertion takes the name of one signal. "
                "assert_nothing_sent() is about every signal of a block, such as "
                f"kit.capture({name!r})."
            )
        if not self.includes(name):
            captured = ", ".join(sorted({*self._names, *self._globs}))
            raise AssertionError(
                f"Signal {name!r} is not captured in this block, which captures {captured}: name "
                "it in kit.capture(…)."
            )
        return name

    def observe(self, record: Callable[[Observation], None], stack: ExitStack) -> None:
        """Call a function with each emission, until the stack is closed."""
        namespace = self._app_signals.namespace
        for name in self._names:
            stack.callback(namespace.signal(name).observe(record))
        if self._globs:
            stack.callback(namespace.observe(_PassiveObserver(self._is_only_by_glob, record)))

    def _is_only_by_glob(self, name: str) -> bool:
        return name not in self._names and self._matches_glob(name)

    def check_receivers(self, runs: Runs) -> None:
        """Refuse a receiver that is not connected to a captured signal.

        :raises ReceiverError: naming it and those that are.
        """
        connected = [*self._connected()]
        for receiver in (*(runs.only or ()), *runs.except_):
            if not any(_is_among([receiver], connection) for connection in connected):
                names = {
                    connection.options.uid or named(connection.place) for connection in connected
                }
                near = did_you_mean(receiver, names) if isinstance(receiver, str) else ""
                raise ReceiverError(
                    f"kit.capture got the receiver {receiver_label(receiver)}, which is not "
                    f"connected to a captured signal.{near} Connected are: "
                    f"{', '.join(sorted(names)) or 'none'}."
                )

    def _connected(self) -> Iterator[LiveConnection]:
        """Yield the connections of the captured signals."""
        for name, signal in self._app_signals.namespace.copy().items():
            if self.includes(name):
                yield from signal.live_connections  # type: ignore[attr-defined]
        if self._globs:  # they may match signals that are not sent yet, which globs connect to
            for registry in self._app_signals.registry.chain:
                for glob in registry.globs:
                    yield from registry.connections.of(glob)


class _PassiveObserver:
    """Records emissions of some signals; the kit connects to no third-party signal for it."""

    passive = True

    def __init__(
        self, wanted: Callable[[str], bool], record: Callable[[Observation], None]
    ) -> None:
        self._wanted = wanted
        self._record = record

    def __call__(self, observation: Observation) -> None:
        if self._wanted(observation.signal):
            self._record(observation)


class _LateCalls:
    """The calls of a block that wait for a commit, and its durable messages.

    :param app_signals: the app's signals.
    :param runs: which of them run when the block ends.
    """

    def __init__(self, app_signals: AppSignals, runs: Runs) -> None:
        self._app_signals = app_signals
        self._runs = runs
        self._thread = get_ident()
        self._kept: list[tuple[Pending | None, Any]] = []

    def keep(self, pending: Pending | None, call: Any) -> None:
        """Keep a call or a durable message of this thread."""
        wanted = self._runs.durable if _is_durable(call) else self._runs.after_commit
        if wanted and get_ident() == self._thread:  # not the session of another thread
            self._kept.append((pending, call))

    def run(self) -> None:
        """Run what still waits, in the order of the sends, and what begins to wait meanwhile.

        :raises Exception: the first failure, unless failures are contained; then the rest is not
            run.
        """
        while self._kept:
            kept, self._kept = self._kept, []
            # Take all before one of them commits. Those that were rolled back are not taken.
            taken = [each for each in kept if _take(*each)]
            left = deque(sorted(taken, key=lambda each: each[1].number))
            while left:
                pending, call = left.popleft()
                try:
                    self._run(pending, call)
                except Exception as error:
                    add_note(error, call.emission)
                    if not self._runs.contain:
                        for _, other in left:
                            other.drop("an earlier receiver raised")
                        raise
                    report(error, call._context, call._receiver, call.emission, "delivery")

    def _run(self, pending: Pending | None, call: Any) -> None:
        if not _is_durable(call):
            call.run()
            return
        outbox: Any = self._app_signals.outbox
        app = self._app_signals.app
        if pending is not None and not (call.is_committed or pending.is_committed):
            if pending.has_ended:
                call.drop("an earlier receiver ended the transaction")
                return
            from ..app.runs import run_before_commit  # it needs SQLAlchemy and msgspec

            with nullcontext() if is_current(app) else app.app_context():
                run_before_commit(outbox, call.message, pending.session)
            return
        result = outbox.run(call.message, 0)
        if result is not None and result.error is not None and not self._runs.contain:
            raise result.error


def _is_durable(call: Any) -> bool:
    return bool(call.connection.delivery == DURABLE)


def _take(pending: Pending | None, call: Any) -> bool:
    """Tell whether a call still waits, and let it wait no more; or whether a message is due."""
    return getattr(call, "is_committed", False) or (pending is not None and pending.withdraw(call))
