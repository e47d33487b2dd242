"""What the machine of `test_model.py` draws: connections, sends, and actions of receivers."""

from typing import Any

from hypothesis import strategies as st

from tests.core.model import Policy, Way, When
from tests.core.players import Contained, Never, Now

POLICIES: tuple[Policy, ...] = ("raise", "group", "isolate")


class BoomError(Exception):
    """An exception that receivers raise."""


class Stop(BaseException):
    """An exception that no policy contains."""


class RefusedError(Exception):
    """An exception of the payload check."""


def check_payload(payload: dict[str, Any]) -> None:
    """Refuse one of the payloads."""
    if "refused" in payload:
        raise RefusedError


def odd(who: Any, /, **payload: Any) -> bool:
    """Return true for every other payload."""
    return bool(payload["number"] % 2)


def broken(who: Any, /, **payload: Any) -> bool:
    """Raise."""
    return bool(1 / 0)


PREDICATES: dict[When, Any] = {"always": None, "odd": odd, "broken": broken}
DELIVERIES: dict[Way, Any] = {
    "immediate": None,
    "now": Now(),
    "contained": Contained(),
    "later": Never(),
}

# Numbers are drawn; the machine picks from the few that a run plays with, so that they meet.
RECEIVER = SENDER = KIND = BLOCK = st.integers(0, 4)
LIMIT = st.integers(0, 5)
CONNECTION = (
    RECEIVER,
    LIMIT,
    st.booleans(),
    st.integers(-1, 1),
    st.sampled_from(["always", "always", "odd", "broken"]),
    st.sampled_from(["immediate", "immediate", "now", "contained", "later"]),
    st.sampled_from([None, None, *POLICIES]),
)
SEND = (
    st.sampled_from(["send", "send", "send", "send_robust", "send_async", "send_robust_async"]),
    SENDER,
    st.sampled_from(
        [
            {"number": 1},
            {"number": 0, "sender": 1, "self": 2, "signal": 3, "receiver": 4},
            {"number": 1, "payload": 1, "connections": 2, "wrapper": 3, "context": 4, "frame": 5},
            {"number": 0, "refused": True},
        ]
    ),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
)
Action = tuple[Any, ...]
DISCONNECT = st.tuples(st.just("disconnect"), RECEIVER, LIMIT)
CONFIGURE = st.tuples(st.just("configure"), st.sampled_from(POLICIES), st.booleans())
ACTION: st.SearchStrategy[Action] = st.one_of(
    st.just(("fail",)),
    st.just(("fail",)),
    st.just(("interrupt",)),
    st.just(("return_error",)),
    st.tuples(st.just("connect"), *CONNECTION),
    DISCONNECT,
    st.just(("disconnect_all",)),
    st.tuples(st.just("drop"), KIND),
    st.tuples(st.just("send"), *SEND),
    st.just(("mute",)),
    st.tuples(st.just("borrow"), RECEIVER, LIMIT),
    st.tuples(st.just("leave"), BLOCK),
    CONFIGURE,
    CONFIGURE,
)
"""What a receiver does when it is called: what to do, or a method of the machine, and arguments."""
