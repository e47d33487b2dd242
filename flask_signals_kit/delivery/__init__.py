"""How one receiver gets one emission: at once, after the commit, or in a way of its own."""

from __future__ import annotations

from ..calls import Call, Delivery
from ..errors import ConfigurationError, did_you_mean
from ..records import AFTER_COMMIT, IMMEDIATE
from .after_commit import AfterCommit

__all__ = ["AfterCommit", "Call", "Delivery", "find_delivery"]


def find_delivery(delivery: str | Delivery) -> Delivery | None:
    """Return the delivery of this name, or ``None`` for the immediate one.

    :param delivery: a name, or an object with ``name`` and ``deliver(call)``.
    :raises ConfigurationError: for a name that no delivery has, or an object that is none.
    """
    if delivery == IMMEDIATE:
        return None
    if delivery == AFTER_COMMIT:
        return AfterCommit()
    if isinstance(delivery, str):
        raise ConfigurationError(
            f"There is no delivery {delivery!r}."
            f"{did_you_mean(delivery, [IMMEDIATE, AFTER_COMMIT])} Use {IMMEDIATE!r}, "
            f"{AFTER_COMMIT!r}, or an object with a name and a method deliver(call)."
        )
    if isinstance(delivery, type):
        raise ConfigurationError(
            f"{delivery.__qualname__} is a class; a delivery is an object of it: "
            f"write delivery={delivery.__qualname__}()."
        )
    session = getattr(delivery, "session", None)
    if session is not None and not callable(session):
        raise ConfigurationError(
            f"Delivery {type(delivery).__qualname__} has an attribute session that is not "
            "callable: it must return the SQLAlchemy session to look at, or be None. "
            "Call the attribute something else."
        )
    if callable(getattr(delivery, "deliver", None)) and isinstance(
        getattr(delivery, "name", None), str
    ):
        return delivery
    raise ConfigurationError(
        f"{type(delivery).__qualname__} is no delivery: it needs a name and a method deliver(call)."
    )
