"""Random sequences of connect, disconnect, mute, send and collection, against a model.

Everything that a signal says and does is compared with `model.py` after each step; for receivers
that connect, disconnect, drop or send in the midst of a send, within it as well.
"""

import contextvars
import functools
import gc
import logging
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flask_signals_kit import Connection, Deferred, Emission, Failed, Ok, ReceiverError, Signal
from flask_signals_kit.core.scopes import EVERYWHERE, scopes
from tests.core.actions import (
    ACTION,
    BLOCK,
    CONNECTION,
    DELIVERIES,
    KIND,
    LIMIT,
    POLICIES,
    PREDICATES,
    RECEIVER,
    SEND,
    SENDER,
    Action,
    BoomError,
    RefusedError,
    Stop,
    check_payload,
)
from tests.core.model import ANY_SENDER, Link, Model, Policy, Send, Way, When, is_async, owner
from tests.core.players import (
    MAKERS,
    RECEIVERS,
    SENDERS,
    VALUES,
    find,
    label_of,
    name_of,
    run_alone,
    to_async,
    to_sync,
)
from tests.support import ON_CI, FunctionsEnvironment

EXAMPLES, STEPS = 25, 40
# Shrinking a failing example takes minutes, so CI does without.
PHASES = [Phase.reuse, Phase.generate, *([] if ON_CI else [Phase.shrink])]
MOST_BLOCKS, MOST_OBSERVERS, MANY = 3, 2, 4

GAMES = (
    "strong",
    "weak",
    "limits",
    "policies",
    "observers",
    "blocks",
    "blocks limits",
    "blocks policies",
    "limits special",
    "policies special",
    "async special",
    "limits special async policies blocks observers",
)
"""What is played with. Each word takes a send off its fastest way, so that most have few."""

logger = logging.getLogger("flask_signals_kit")


@dataclass
class Block:
    """An open `muted()` or `connected_to()` block."""

    number: int
    manager: AbstractContextManager[None]
    receiver: str = ""  # both are empty for `muted`
    sender: str = ""


class Tap(logging.Handler):
    """A log handler that keeps only the subject of each record, not the receivers in it."""

    def __init__(self, notified: list[tuple[Any, ...]]) -> None:
        super().__init__()
        self.notified = notified

    def emit(self, record: logging.LogRecord) -> None:
        self.notified.append(("logged", str(record.msg).partition(" ")[0]))


class SignalMachine(RuleBasedStateMachine):
    """A signal and its model, side by side."""

    game = ""

    def __init__(self) -> None:
        super().__init__()
        gc.collect()
        gc.freeze()  # what is here already need not be looked at in each of the collections below
        self.model = Model()
        self.things: dict[str, Any] = {}  # by kind; this is what keeps senders and receivers alive
        self.names: dict[str, str] = {}  # by kind; a new name for each
        self.dropped: set[str] = set()  # by the machine; others may still keep them
        self.dead: set[str] = set()
        self.muted_everywhere = False
        self.blocks: list[Block] = []
        self.sends: list[Send] = []
        self.lessons: dict[str, list[Action]] = {}
        self.problems: list[BaseException] = []
        self.number = count(1)
        self.grumpy: list[bool] = []  # the observers: whether they raise
        self.detach: list[Callable[[], None]] = []
        self.notified: list[tuple[Any, ...]] = []  # by the signal
        self.to_notify: list[tuple[Any, ...]] = []  # as the model says
        self.lost: list[str] = []  # the weak receivers that went, as the signal says
        self.may_be_lost: set[str] = set()
        self.must_be_lost: set[str] = set()
        self.in_use = False  # as of the last `on_change`
        self.tap = Tap(self.notified)
        logger.addHandler(self.tap)
        for kind in MAKERS:
            self._make(kind)

    @initialize(
        receivers=st.lists(st.sampled_from(RECEIVERS), min_size=2, max_size=5, unique=True),
        senders=st.lists(st.sampled_from(SENDERS), min_size=1, max_size=3, unique=True),
        wrappers=st.booleans(),
        weak=st.booleans(),
    )
    def begin(
        self,
        receivers: list[str],
        senders: list[str],
        wrappers: bool,
        weak: bool,
    ) -> None:
        """Choose the features of this run, create the signal, and connect receivers."""
        self.senders, self.wrappers = senders, wrappers
        self.weak = self.game == "weak" or (weak and self.game != "strong")
        unfit = () if "async" in self.game else ("coroutine", "ledger")
        if self.game == "weak":  # those that a send has no fast way for
            unfit = (*unfit, "account.receive", "other.receive", "slotted")
        self.receivers = [name for name in receivers if name not in unfit] or ["function"]
        self.kinds = sorted({owner(name) for name in (*self.receivers, *senders)} & {*MAKERS})
        self.policy: Policy = "raise"
        self.picky = False
        self.functions: dict[str, Any] = {
            "async_wrapper": to_sync if wrappers else None,
            "sync_wrapper": to_async if wrappers else None,
            "on_failure": self._note_failure,
            "on_change": self._note_change,
            "on_collected": self._note_collected,
        }
        environment = FunctionsEnvironment(self.functions)
        self.signal = Signal("account_funded", environment=environment)
        self.signal.receiver_connected.connect(self._note_connected, weak=False)
        self.signal.receiver_disconnected.connect(self._note_disconnected, weak=False)
        self.connect_all(0)

    # -- rules ------------------------------------------------------------------------------------

    @rule(connections=st.lists(st.tuples(*CONNECTION), min_size=1, max_size=3))
    def connect_some(self, connections: list[tuple[Any, ...]]) -> None:
        for connection in connections:
            self.connect(*connection)

    @rule(rise=st.integers(-1, 1), receiver=RECEIVER, action=ACTION, who=SENDER)
    def connect_all_and_send(self, rise: int, receiver: int, action: Action, who: int) -> None:
        """Connect all receivers, one of which acts during a send."""
        self.connect_all(rise)
        self.send("send", who, {"number": 1}, True, False)
        self.teach(receiver, [action])
        self.send("send", who, {"number": 1}, True, False)

    @rule(receiver=RECEIVER, limit=LIMIT, elsewhere=st.booleans())
    def disconnect_one(self, receiver: int, limit: int, elsewhere: bool) -> None:
        self.disconnect(receiver, limit, elsewhere)

    @precondition(lambda self: self.blocks and len(self.model.links) > MANY)
    @rule()
    def clear(self) -> None:
        self.signal._clear_state()
        self.model.links = []
        self._settle()

    @rule(kind=KIND)
    def drop_one(self, kind: int) -> None:
        self.drop(kind)

    @precondition(lambda self: "blocks" in self.game and len(self.blocks) < MOST_BLOCKS)
    @rule()
    def enter_muted(self) -> None:
        self.mute()

    @precondition(lambda self: "blocks" in self.game and len(self.blocks) < MOST_BLOCKS)
    @rule(receiver=RECEIVER, limit=LIMIT)
    def enter_connected_to(self, receiver: int, limit: int) -> None:
        self.borrow(receiver, limit)

    @precondition(lambda self: self.blocks)
    @rule(block=BLOCK)
    def leave_one_block(self, block: int) -> None:
        self.leave(block)

    @precondition(lambda self: self.blocks)
    @rule(outermost_first=st.booleans())
    def leave_every_block(self, outermost_first: bool) -> None:
        while self.blocks:
            self.leave(0 if outermost_first else -1)

    @rule(send=st.tuples(*SEND))
    def mute_everywhere_for_a_while(self, send: tuple[Any, ...]) -> None:
        for muted in (True, False):
            self.signal.is_muted = self.muted_everywhere = muted
            self.send(*send)

    @precondition(lambda self: "policies" in self.game)
    @rule(
        policy=st.sampled_from(POLICIES),
        picky=st.booleans(),
        receiver=RECEIVER,
        send=st.tuples(*SEND),
    )
    def declare_anew(
        self, policy: Policy, picky: bool, receiver: int, send: tuple[Any, ...]
    ) -> None:
        self.configure(policy, picky)
        self.teach(receiver, [("fail",)])
        self.send(*send)

    @precondition(lambda self: "observers" in self.game and len(self.grumpy) < MOST_OBSERVERS)
    @rule(grumpy=st.booleans())
    def observe(self, grumpy: bool) -> None:
        self.grumpy.append(grumpy)
        self.detach.append(self.signal.observe(functools.partial(self._note_emission, grumpy)))

    @precondition(lambda self: self.detach)
    @rule(index=st.integers(0, MOST_OBSERVERS - 1))
    def end_observing(self, index: int) -> None:
        index %= len(self.detach)
        self.detach.pop(index)()
        self.grumpy.pop(index)

    @rule(receiver=RECEIVER, actions=st.lists(ACTION, min_size=1, max_size=3))
    def teach(self, receiver: int, actions: list[Action]) -> None:
        """Give a receiver actions, one for each of its next calls."""
        self.lessons[self._name(self._pick(self.receivers, receiver))] = actions

    @rule(sender=SENDER, sends=st.lists(st.tuples(*SEND), min_size=1, max_size=3))
    def send_some(self, sender: int, sends: list[tuple[Any, ...]]) -> None:
        self.send("send", sender, {"number": 1}, True, False)
        for send in sends:
            self.send(*send)

    @rule(
        send=st.tuples(*SEND),
        lessons=st.lists(st.tuples(RECEIVER, ACTION), min_size=1, max_size=4),
    )
    def send_to_active_receivers(
        self, send: tuple[Any, ...], lessons: list[tuple[int, Action]]
    ) -> None:
        """Send to receivers that act during the send, and send again."""
        for receiver, action in lessons:
            self.teach(receiver, [action])
        self.send(*send)
        self.send(*send)

    # -- what rules and receivers do --------------------------------------------------------------

    def connect_all(self, rise: int) -> None:
        for number in range(len(self.receivers)):
            self.connect(number, 0, self.weak, number * rise, "always", "immediate", None)

    def connect(
        self,
        receiver: int,
        limit: int,
        weak: bool,
        priority: int,
        when: When,
        way: Way,
        on_error: Policy | None,
    ) -> None:
        if "special" not in self.game:
            when, way = "always", "immediate"
        if "policies" not in self.game:
            on_error = None
        if self.game in ("strong", "weak"):
            weak = self.weak
        who, sender = self._pick(self.receivers, receiver), self._limit(limit)
        uid = f"uid {next(self.number)}"
        note(
            f"connect({who}, {sender}, {weak=}, {priority=}, {when=}, {way=}, {on_error=}, {uid=})"
        )
        options: Any = {"priority": priority, "uid": uid, "on_error": on_error}
        link = self.model.connect(
            self._name(who), self._name(sender), weak, when=when, way=way, **options
        )
        real = self._find(who)
        options |= {"when": PREDICATES[when], "delivery": DELIVERIES[way]}
        if link is None:
            with pytest.raises(ReceiverError, match="does not support weak references"):
                self.signal.connect(real, self._find(sender), weak, **options)
            return
        assert self.signal.connect(real, self._find(sender), weak, **options) is real
        self.to_notify.append(("connected", link.receiver, link.sender, weak))
        del real
        self._settle()

    def disconnect(self, receiver: int, limit: int, elsewhere: bool = False) -> None:
        who, sender = self._pick(self.receivers, receiver), self._limit(limit)
        note(f"disconnect({who}, {sender}, {elsewhere=})")
        run = contextvars.Context().run if elsewhere else _run_here
        run(self.signal.disconnect, self._find(who), self._find(sender))
        blocks = self._open_blocks(elsewhere)
        self.model.disconnect(self._name(who), self._name(sender), blocks)
        self.to_notify.append(("disconnected", self._name(who), self._name(sender)))
        self._settle()

    def disconnect_all(self) -> None:
        for number in range(len(self.receivers)):
            self.disconnect(number, 0)

    def drop(self, kind: int) -> None:
        """Drop an object, and create another of its kind, perhaps at the same address."""
        what = self._pick(self.kinds, kind)
        note(f"drop({what})")
        self.dropped.add(self.names[what])
        del self.things[what]
        self._settle()
        self._make(what)

    def mute(self) -> None:
        if "blocks" in self.game and not self._is_elsewhere():
            note("muted() begins")
            manager = self.signal.muted()
            manager.__enter__()
            self.blocks.append(Block(next(self.number), manager))

    def borrow(self, receiver: int, limit: int) -> None:
        if "blocks" in self.game and not self._is_elsewhere():
            who, sender = self._pick(self.receivers, receiver), self._limit(limit)
            note(f"connected_to({who}, {sender}) begins")
            manager = self.signal.connected_to(self._find(who), self._find(sender))
            manager.__enter__()
            block = Block(next(self.number), manager, self._name(who), self._name(sender))
            self.blocks.append(block)
            self.model.connect(block.receiver, block.sender, False, block=block.number)
            self.to_notify.append(("connected", block.receiver, block.sender, False))

    def leave(self, index: int) -> None:
        """Leave one of the open blocks, the innermost or another."""
        if self.blocks and not self._is_elsewhere():
            block = self.blocks.pop(index % len(self.blocks))
            note(f"block of {block.receiver or 'muted'} ends")
            block.manager.__exit__(None, None, None)
            if block.receiver:
                self.model.end_block(block.number)
                self.to_notify.append(("disconnected", block.receiver, block.sender))
            del block
            self._settle()

    def configure(self, policy: Policy, picky: bool) -> None:
        if "policies" in self.game:
            check = check_payload if picky else None
            self.functions.update(on_error=policy, check_payload=check)
            self.signal.invalidate()
            self.policy, self.picky = policy, picky

    def send(
        self, how: str, sender: int, payload: dict[str, Any], wrapped: bool, elsewhere: bool
    ) -> None:
        who = self._pick(self.senders, sender)
        note(f"{how}({who}, {payload}, {wrapped=}, {elsewhere=})")
        send = Send(
            how=how,
            sender=self._name(who),
            payload=payload,
            links=self.model.reached(self._name(who), self._open_blocks(elsewhere)),
            policy=self.policy,
            given_wrapper=wrapped and "robust" not in how,
            default_wrapper=self.wrappers,
            elsewhere=elsewhere,
            is_alive=self._is_alive,
        )
        muted = self._is_muted(elsewhere)
        refused = self.picky and "refused" in payload
        send.rest = [] if muted or refused else [*send.links]
        self.sends.append(send)
        result = error = None
        try:
            run = contextvars.Context().run if elsewhere else _run_here
            result, error = run(self._send, send, self._find(who))
            if refused:
                assert type(error) is RefusedError
                assert not send.called
            else:
                self._compare(send, result, error)
        finally:
            self.sends.pop()
            del send, result, error
        if not self.sends and self.problems:
            raise self.problems[0]
        self._settle()

    def _send(self, send: Send, sender: Any) -> tuple[Any, BaseException | None]:
        wrapper: Any = {}
        if send.given_wrapper and send.asynchronous:
            wrapper = {"_sync_wrapper": to_async}
        elif send.given_wrapper:
            wrapper = {"_async_wrapper": to_sync}
        try:
            result = getattr(self.signal, send.how)(sender, **wrapper, **send.payload)
            return (run_alone(result) if send.asynchronous else result), None
        except BaseException as error:  # noqa: BLE001  compared with what was to come
            return None, error

    def on_call(self, name: str, sender: Any, payload: dict[str, Any]) -> Any:
        """Be called as one of the receivers."""
        send = self.sends[-1]
        link = send.next_call()
        send.expected.append("none" if link is None else link.receiver)
        send.called.append((name, name_of(sender), payload))
        if link is None or link.receiver != name:
            return None  # `_compare` will complain
        what, *arguments = (self.lessons.get(name) or [("return_value",)]).pop(0)
        note(f"  {name} is called" + ("" if what == "return_value" else f", does {what}"))
        if what in ("fail", "interrupt"):
            self._raise(send, link, BoomError(name) if what == "fail" else Stop(name))
        value = BoomError(name) if what == "return_error" else f"{name}, {next(self.number)}"
        send.done.append((link, "ok", value))
        if what not in ("return_value", "return_error"):
            try:
                getattr(self, what)(*arguments)
            except BaseException as problem:  # noqa: BLE001  or a policy would contain it
                self.problems.append(problem)
        return value

    def _raise(self, send: Send, link: Link, error: BaseException) -> None:
        if isinstance(error, Stop):
            send.stop(link, error)
        else:
            send.fail(link, error)
        try:
            raise error
        finally:
            del error  # or the traceback would keep this frame, and with it the receiver

    # -- what is compared -------------------------------------------------------------------------

    def _compare(self, send: Send, result: Any, error: BaseException | None) -> None:
        assert send.next_call() is None, "a receiver was not called"
        assert [name for name, _, _ in send.called] == send.expected
        assert all(call[1:] == (send.sender, send.payload) for call in send.called)
        failures = [value for _, status, value in send.done if status == "failed"]
        policies = [send.policy_of(link) for link, status, _ in send.done if status == "failed"]
        grouped = [
            failure for failure, own in zip(failures, policies, strict=True) if own == "group"
        ]
        stopped = bool(failures) and isinstance(failures[-1], Stop)
        if stopped:
            assert error is failures[-1]
        elif send.robust:
            assert error is None
            assert len(result) == len(send.done)
            assert all(map(_is_outcome, result, send.done))
        elif policies and policies[-1] == "raise":
            assert _is_error(error, failures[-1])
        elif grouped:
            assert isinstance(error, ExceptionGroup)
            assert len(error.exceptions) == len(grouped)
            assert all(map(_is_error, error.exceptions, grouped))
        else:
            assert error is None
            fine = [(link.receiver, value) for link, status, value in send.done if status == "ok"]
            assert [(name_of(receiver), value) for receiver, value in result] == fine
        ended_early = stopped or policies[-1:] == ["raise"]
        self._expect_reports(send, policies[:-1] if stopped else policies, ended_early)

    def _expect_reports(self, send: Send, policies: list[Policy], ended_early: bool) -> None:
        contained = ["delivery" for _, status, _ in send.done if status == "contained"]
        contained += ["receiver"] * policies.count("isolate")
        if ended_early:  # what was to be raised as a group is not
            contained += ["receiver"] * policies.count("group")
        for source in contained:
            self.to_notify += [("failed", source), ("logged", "Receiver")]
        seen = tuple((link.uid, status) for link, status, _ in send.done)
        for grumpy in self.grumpy:
            self.to_notify += [("observed", seen), *[("logged", "Observer")] * grumpy]

    @invariant()
    def connections_are_those_of_the_model(self) -> None:
        assert bool(self.signal.receivers) == bool(self.model.links)
        assert [
            (
                c.uid,
                c.priority,
                c.weak,
                c.sender,
                c.is_async,
                c.when is None,
                c.delivery,
                c.on_error,
            )
            for c in self.signal.connections
        ] == [
            (
                link.uid,
                link.priority,
                link.weak,
                None if link.sender == ANY_SENDER else label_of(link.sender),
                is_async(link.receiver),
                link.when == "always",
                link.way,
                link.on_error,
            )
            for link in self.model.in_order()
        ]

    @invariant()
    def on_change_follows_whether_the_signal_is_in_use(self) -> None:
        assert self.in_use == self.signal.in_use == bool(self.model.links or self.grumpy)

    @invariant()
    def notifications_match_what_happened(self) -> None:
        assert Counter(self.notified) == Counter(self.to_notify)
        assert self.must_be_lost <= {*self.lost} <= self.may_be_lost
        assert len({*self.lost}) == len(self.lost)
        for log in (self.notified, self.to_notify, self.lost, self.may_be_lost, self.must_be_lost):
            log.clear()

    @invariant()
    def answers_are_those_of_the_model(self) -> None:
        if next(self.number) % 2:  # not always, so that a send has to make its plan by itself
            return
        run = contextvars.Context().run
        assert self.signal.is_muted == self._is_muted()
        assert run(lambda: self.signal.is_muted) == self.muted_everywhere
        for sender in (ANY_SENDER, *SENDERS):
            self._ask(sender, False)
        for sender in (ANY_SENDER, *self.senders):
            run(self._ask, sender, True)

    def _ask(self, sender: str, elsewhere: bool) -> None:
        reached = self.model.reached(self._name(sender), self._open_blocks(elsewhere))
        expected = list(dict.fromkeys(link.receiver for link in reached))
        real = self._find(sender)
        assert [name_of(receiver) for receiver in self.signal.receivers_for(real)] == expected
        assert self.signal.has_receivers_for(real) == bool(expected)

    def teardown(self) -> None:
        """Drop all objects: what has no other reference is freed, and the signal is freed."""
        logger.removeHandler(self.tap)
        while self.blocks:
            self.leave(-1)
        if sys.exc_info()[0] is not None:
            return  # a step has failed, and its traceback keeps everybody
        for kind in range(len(self.kinds)):
            self.drop(kind)
        assert len(self.signal.connections) == len(self.model.links)
        assert scopes.get() == {EVERYWHERE}
        signal = weakref.ref(self.signal)
        self.detach.clear()
        del self.signal
        assert signal() is None

    # -- what the signal tells --------------------------------------------------------------------

    def _note_connected(self, signal: Any, *, receiver: Any, sender: Any, weak: bool) -> None:
        assert signal is self.signal
        self.notified.append(("connected", name_of(receiver), name_of(sender), weak))

    def _note_disconnected(self, signal: Any, *, receiver: Any, sender: Any) -> None:
        assert signal is self.signal
        self.notified.append(("disconnected", name_of(receiver), name_of(sender)))

    def _note_collected(self, connection: Connection) -> None:
        self.lost.append(str(connection.uid))

    def _note_change(self) -> None:
        self.in_use = self.signal.in_use

    def _note_failure(self, error: Any, receiver: Any, emission: Emission, source: str) -> None:
        self.notified.append(("failed", source))

    def _note_emission(self, grumpy: bool, seen: Any) -> None:
        steps = [*seen.steps()]
        assert all(seconds >= 0 for _, _, seconds, _ in steps)
        outcome = tuple((connection.uid, status) for connection, status, _, _ in steps)
        self.notified.append(("observed", outcome))
        if grumpy:
            raise BoomError("observer")

    # -- names, contexts and lives ----------------------------------------------------------------

    def _pick(self, few: list[str], number: int) -> str:
        return few[number % len(few)]

    def _limit(self, number: int) -> str:
        """Pick the sender to connect for; app_signals of the time, any."""
        limited = number > 1 and "limits" in self.game
        return self._pick(self.senders, number) if limited else ANY_SENDER

    def _make(self, kind: str) -> None:
        name = self.names[kind] = f"{kind}{next(self.number)}"
        self.things[kind] = MAKERS[kind](name, self.on_call)

    def _find(self, which: str) -> Any:
        return find(which, self.things)

    def _name(self, which: str) -> str:
        if which in VALUES or which == ANY_SENDER:
            return which
        kind, _, what = which.partition(".")
        return f"{self.names[kind]}.{what}" if what not in ("", "proxy") else self.names[kind]

    def _is_elsewhere(self) -> bool:
        return any(send.elsewhere for send in self.sends)

    def _open_blocks(self, elsewhere: bool = False) -> set[int]:
        return set() if elsewhere or self._is_elsewhere() else {b.number for b in self.blocks}

    def _is_muted(self, elsewhere: bool = False) -> bool:
        here = not (elsewhere or self._is_elsewhere())
        return self.muted_everywhere or (here and any(not b.receiver for b in self.blocks))

    def _is_alive(self, name: str) -> bool:
        """Return whether an object is referenced."""
        if name not in self.dropped:
            return name not in self.dead
        kept = any(link.holds(name) for link in self.model.links)
        for block in self.blocks:
            kept |= name in (owner(block.receiver), owner(block.sender))
        for send in self.sends:
            kept |= name == owner(send.sender)
            kept |= any(link.holds(name) for link in send.links)
            kept |= any(owner(link.receiver) == name for link, _, _ in send.done)
        return kept

    def _settle(self) -> None:
        """End the connections of collected objects, in the signal and in the model."""
        if not self.dropped:
            return
        gc.collect()
        while True:
            dead = [
                link
                for link in self.model.links
                if not all(map(self._is_alive, (owner(link.receiver), owner(link.sender))))
            ]
            if not dead:
                break
            self.model.links = [link for link in self.model.links if link not in dead]
            weak = [link for link in dead if link.weak]
            self.may_be_lost |= {str(link.uid) for link in weak}
            self.must_be_lost |= {str(k.uid) for k in weak if self._is_alive(owner(k.sender))}
        gone = {name for name in self.dropped if not self._is_alive(name)}
        self.dropped -= gone
        self.dead |= gone


def _run_here(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


def _is_error(error: BaseException | None, expected: Any) -> bool:
    """Return whether this is the expected exception, or a foreign one of the expected name."""
    if isinstance(expected, BaseException):
        return error is expected
    return type(error).__name__ == str(expected)


def _is_outcome(outcome: Any, step: tuple[Link, str, Any]) -> bool:
    """Return whether an outcome matches the step."""
    link, status, value = step
    if name_of(outcome.receiver) != link.receiver:
        return False
    match status:
        case "ok":
            return isinstance(outcome, Ok) and outcome.value is value
        case "deferred":
            return isinstance(outcome, Deferred) and outcome.delivery == link.way
        case _:
            return isinstance(outcome, Failed) and _is_error(outcome.exception, value)


@contextmanager
def alone() -> Iterator[None]:
    """Run without automatic garbage collection, and without handlers that keep log records."""
    handlers, logger.handlers = logger.handlers, []
    propagate, logger.propagate = logger.propagate, False
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        logger.propagate = propagate
        logger.handlers = handlers


@pytest.mark.timeout(600)
@pytest.mark.parametrize("game", GAMES)
def test_signal_behaves_like_the_model(game: str) -> None:
    """Same receivers, order, results, exceptions, notifications and queries at each step."""
    machine = type("SignalMachine", (SignalMachine,), {"game": game})
    with alone():
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES,
                stateful_step_count=STEPS,
                deadline=None,
                derandomize=ON_CI,
                suppress_health_check=[HealthCheck.too_slow],
                phases=PHASES,
                report_multiple_bugs=False,
            ),
        )
