"""The registration of an exception hook: its arguments are checked, and what it is called for."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, get_args

import click
from werkzeug.exceptions import HTTPException

from ..core.introspection import is_reloaded, place_of, receiver_key, signature_of
from ..errors import ConfigurationError, ReceiverError, did_you_mean, type_name
from ..records import Source

_numbers = count(1)

SOURCES: tuple[Source, ...] = get_args(Source)
"""The sources of exceptions."""


class CeleryControlFlow(Exception, metaclass=ABCMeta):  # noqa: N818 - it is never raised
    """The virtual base class of Celery's ``Retry``, ``Ignore`` and ``Reject``.

    ``isinstance`` recognises them by module and name: the kit does not import Celery, and a program
    may import it at any time after the kit.
    """

    @classmethod
    def __subclasshook__(cls, kind: type, /) -> bool:
        names = [(base.__module__, base.__name__) for base in kind.__mro__]
        return cls in kind.__mro__ or ("celery.exceptions", "TaskPredicate") in names


DEFAULT_IGNORED: tuple[type[Exception], ...] = (
    HTTPException,
    click.ClickException,
    click.exceptions.Exit,
    click.Abort,
    CeleryControlFlow,
)
"""The classes that exception hooks ignore by default: exceptions that end something on purpose.

Extend it with ``ignore=(*DEFAULT_IGNORED, KeyError)``.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HookRegistration:
    """One hook, and the exceptions that it is called for."""

    hook: Callable[..., Any]
    """The hook."""
    sources: tuple[str, ...]
    """The sources of the exceptions."""
    ignore: tuple[type[BaseException], ...]
    """The classes that it is not called for."""
    handled: bool
    """Whether it is also called for exceptions that an error handler turned into a response."""
    number: int = field(default_factory=_numbers.__next__)
    """Identifies the hook in this process."""

    def replaces(self, other: HookRegistration) -> bool:
        """Tell whether this is the same hook, perhaps of a reloaded module.

        Two hooks of one module may have the same name, such as ``_``; their lines tell them apart.
        So a hook whose line has changed before a reload counts as another hook.
        """
        same = receiver_key(self.hook) == receiver_key(other.hook)
        return same or is_reloaded(self.hook, other.hook)


_HOOK = "hook(app, exception, *, source, handled, **extra)"


def register_hook(
    hook: Callable[..., Any],
    sources: Iterable[str] | None,
    ignore: Iterable[type[BaseException]] | None,
    handled: bool,
) -> HookRegistration:
    """Check the arguments of ``on_exception``.

    :raises ReceiverError: if the hook is not callable, or not with the arguments of a hook.
    :raises ConfigurationError: for an unknown source, or an ignored object that is not an exception
        class.
    """
    if not callable(hook):
        raise ReceiverError(
            f"on_exception cannot call {type_name(hook)}; give it a function {_HOOK}."
        )
    if isinstance(hook, type) and issubclass(hook, BaseException):
        raise ReceiverError(
            f"on_exception() takes a hook, and {hook.__name__} is an exception class. The hook is "
            "called for every exception: use sources=, ignore=, or test "
            f"isinstance(exception, {hook.__name__}) in the hook."
        )
    try:
        details = {"source": "", "handled": False, "signal": None, "receiver": None}
        signature_of(hook).bind(None, None, **details)
    except TypeError as error:
        raise ReceiverError(
            f"Exception hook {place_of(hook)} cannot be called: {error}. It must be {_HOOK}."
        ) from None
    except ValueError:
        pass  # a builtin without a signature cannot be checked
    wanted = SOURCES if sources is None else _words(sources)
    for source in wanted:
        if source not in SOURCES:
            raise ConfigurationError(
                f"Exception hook {place_of(hook)} asks for source {source!r}."
                f"{did_you_mean(str(source), SOURCES)} Sources are {', '.join(SOURCES)}."
            )
    ignored = DEFAULT_IGNORED if ignore is None else _classes(ignore)
    for kind in ignored:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise ConfigurationError(
                f"Exception hook {place_of(hook)} ignores {type_name(kind)}, which is not an "
                "exception class; give ignore=(KeyError, …)."
            )
    return HookRegistration(hook=hook, sources=wanted, ignore=ignored, handled=handled)


def _words(sources: Iterable[str]) -> tuple[str, ...]:
    return (sources,) if isinstance(sources, str) else tuple(sources)


def _classes(ignore: Any) -> tuple[Any, ...]:
    return tuple(ignore) if isinstance(ignore, Iterable) else (ignore,)
