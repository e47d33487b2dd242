"""Contracts: the payload names that a send passes and a receiver must take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import FunctionType, NoneType, SimpleNamespace, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ForwardRef,
    Literal,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from ..core.introspection import parameters_of, place_of, signature_of
from ..errors import ContractError, DeclarationError, sender_label
from ..records import SENDER, Place, Receiver, same_function

if TYPE_CHECKING:
    from ..core.connection import LiveConnection

RESERVED = ("sender", "_async_wrapper", "_sync_wrapper")
"""Names that a payload cannot have: blinker's ``send`` would consume or refuse them."""

Upgrade: TypeAlias = Callable[[dict[str, Any], int], dict[str, Any]]
"""Takes a stored payload, as JSON types by name, and the version that stored it."""


@dataclass(frozen=True, kw_only=True)  # without slots, which a cached property cannot have
class Contract:
    """The contract of a declared signal: the names that a send passes and a receiver must take."""

    signal: str
    """The signal's name."""
    required: tuple[str, ...]
    """Payload names that each send passes."""
    optional: tuple[str, ...] = ()
    """Payload names with a default in the stub: a send may omit them."""
    open: bool = False
    """Whether the stub has ``**extra``, so that a send may pass other names as well."""
    place: Place | None = None
    """Where the stub is."""
    types: tuple[tuple[str, str], ...] = ()
    """The names of the annotated payload, each with the text of its annotation."""
    sender_type: str | None = None
    """The text of the sender's annotation, or ``None`` without one."""
    stub: Callable[..., Any] | None = field(default=None, compare=False, repr=False)
    """The stub, whose types are read when a durable receiver needs them."""
    version: int = field(default=1, compare=False)
    """The version of the payload."""
    upgrade: Upgrade | None = field(default=None, compare=False, repr=False)
    """Turns the payload of an older version into that of this one."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every declared payload name."""
        return (*self.required, *self.optional)

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The declared types, as of the first use; see :meth:`resolve_types`."""
        return self.resolve_types()

    def resolve_types(self) -> dict[str, Any]:
        """Return the declared types; those that cannot be imported are missing.

        The sender's type has the name ``sender``, whatever the stub calls it.
        """
        if self.stub is None:
            return {}
        hints: dict[str, Any] = {}
        scope = self.stub.__globals__
        for index, parameter in enumerate(signature_of(self.stub).parameters.values()):
            if parameter.annotation is parameter.empty:
                continue
            name = parameter.name if index else SENDER
            alone = SimpleNamespace(__annotations__={name: parameter.annotation}, __globals__=scope)
            with suppress(Exception):  # imported for type checkers only
                hints[name] = get_type_hints(alone, include_extras=True)[name]
        return hints

    def refuse_second(self, other: Contract) -> None:
        """Refuse the contract of another stub, unless it is the same stub in a reloaded module.

        :raises DeclarationError: naming both.
        """
        if not same_function(self.place, other.place):  # type: ignore[arg-type]  # of stubs
            raise DeclarationError(
                f"Signal {other.signal!r} is declared twice: by {self.place} and by {other.place}. "
                "Keep one, and import it where it is needed."
            )

    def check_payload(self, payload: Collection[str]) -> None:
        """Refuse a payload whose names are not the declared ones.

        :raises ContractError: naming the missing and the undeclared names.
        """
        missing = [name for name in self.required if name not in payload]
        unknown = [] if self.open else [name for name in payload if name not in self.names]
        if missing or unknown:
            wrong = [f"without {_names(missing)}"] if missing else []
            wrong += [f"with unknown {_names(unknown)}"] if unknown else []
            raise ContractError(
                f"Signal {self.signal!r} was sent {' and '.join(wrong)}. Its payload is "
                f"{_names(self.names) or 'empty'}, declared in {self.place}."
            )

    def check_required(self, payload: Collection[str]) -> None:
        """Refuse a payload that lacks a name, whether or not payloads are checked.

        :raises ContractError: naming what is missing.
        """
        if any(name not in payload for name in self.required):
            self.check_payload(payload)

    def check_receiver(self, receiver: Receiver, what: str = "Receiver") -> None:
        """Refuse a receiver that could not be called with the declared payload.

        The signature of the callable itself is checked, not that of a function inside a decorator:
        a decorator may add or remove arguments.

        :param receiver: the receiver, or a ``when`` predicate, which gets the same arguments.
        :param what: how the error names it.

        :raises ContractError: naming the receiver, its file and line, and the parameter.
        """
        parameters = parameters_of(receiver, follow_wrapped=False)
        if parameters is None:
            return
        reason = _misfit(parameters, self)
        if self.open and not reason and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            reason = "a send may pass other names as well; add **extra"
        if reason:
            declared = f", declared in {self.place}" if self.place else ""
            raise ContractError(
                f"{what} {place_of(receiver)} cannot receive signal {self.signal!r}{declared}: "
                f"{reason}."
            )

    def check_connection(self, connection: LiveConnection) -> None:
        """Refuse a receiver or a ``when`` predicate that could not be called.

        :raises ContractError: as :meth:`check_receiver` does.
        """
        receiver = connection.resolve()
        if receiver is not None:  # not collected
            self.check_receiver(receiver)
        if connection.options.when is not None:
            self.check_receiver(connection.options.when, "Predicate")


def check_takes_sender(receiver: Receiver, signal: str) -> None:
    """Refuse a receiver that cannot be called with a sender, whatever the payload is.

    :raises ContractError: naming the receiver, its file and line.
    """
    if _surely_takes_sender(receiver):
        return
    parameters = parameters_of(receiver, follow_wrapped=False)
    if parameters is None:
        return
    reason = None
    if not any(p.kind in _POSITIONAL or p.kind is p.VAR_POSITIONAL for p in parameters):
        reason = _NO_SENDER
    elif _is_unbound(receiver, parameters):
        reason = _UNBOUND
    if reason:
        raise ContractError(
            f"Receiver {place_of(receiver)} cannot receive signal {signal!r}: {reason}."
        )


def _surely_takes_sender(receiver: Receiver) -> bool:
    """Tell it from the code of a plain function: reading a signature takes time and memory."""
    if type(receiver) is not FunctionType or hasattr(receiver, "__signature__"):
        return False
    code = receiver.__code__
    return code.co_argcount > 0 and code.co_varnames[0] != "self"


def _is_unbound(receiver: Receiver, parameters: list[inspect.Parameter]) -> bool:
    """Tell whether this is a method without an instance: read from its class or its body."""
    if type(receiver) is not FunctionType:
        return False
    owner = receiver.__qualname__.rpartition(".")[0]
    return (
        owner != ""
        and not owner.endswith("<locals>")
        and len(parameters) > 1
        and parameters[0].name == "self"
        and parameters[1].kind in _POSITIONAL
        and parameters[1].default is inspect.Parameter.empty
    )


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NO_SENDER = (
    "it takes no positional parameter for the sender; "
    "give it one, as in def receiver(sender, **extra)"
)
_UNBOUND = (
    "it is a method without an instance, so the sender would become its self; "
    "connect a bound one, as in kit.on(...)(instance.method)"
)


def _misfit(parameters: list[inspect.Parameter], contract: Contract) -> str | None:
    """Explain why a receiver with these parameters cannot take a sender and this payload."""
    names = contract.names
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    takes_rest = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not positional and not takes_rest:
        return _NO_SENDER
    first, others = positional[:1], positional[1:]
    for parameter in first:
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name in names:
            return (
                f"its first parameter takes the sender, but is called {parameter.name!r} like one "
                "of the payload; rename it, or put a '/' after it"
            )
    by_name = {p.name for p in others if p.kind is p.POSITIONAL_OR_KEYWORD}
    by_name |= {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        untaken = [name for name in names if name not in by_name]
        if untaken:
            return f"it does not take {_names(untaken)}; add **extra, or the parameter by name"
    for parameter in parameters:
        needed = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if parameter in first or not needed:
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            return (
                f"it needs a second positional parameter {parameter.name!r}, "
                "and only the sender is one"
            )
        if parameter.name in contract.optional:
            return f"it needs {parameter.name!r}, which a send may omit; give it a default"
        if parameter.name not in contract.required:
            known = _names(names) or "empty"
            return f"it needs {parameter.name!r}, which is not in the payload ({known})"
    return None


def _names(names: Collection[str]) -> str:
    return ", ".join(map(repr, names))


def contract_from(
    stub: Callable[..., Any], version: int = 1, upgrade: Upgrade | None = None
) -> Contract:
    """Read a contract from a ``declare`` stub.

    :param stub: ``def signal_name(sender, *, payload…) -> result``; its body never runs.
    :param version: the version of the payload.
    :param upgrade: as in :class:`Contract`.
    :raises DeclarationError: if its parameters are not one sender and keyword-only payload, or for
        an invalid version or upgrade.
    """
    place = place_of(stub)
    if type(version) is not int or version < 1 or not (upgrade is None or callable(upgrade)):
        raise DeclarationError(
            f"The stub {place} is declared with version={sender_label(version)} and "
            f"upgrade={sender_label(upgrade)}: the version is a whole number from 1, and upgrade "
            "a function, called as upgrade(payload, version)."
        )
    parameters = list(signature_of(stub).parameters.values())
    if not parameters or parameters[0].kind not in _POSITIONAL:
        raise DeclarationError(
            f"The stub {place} has no sender: its first parameter must be the sender, as in "
            f"def {stub.__name__}(sender, *, amount)."
        )
    required: list[str] = []
    optional: list[str] = []
    is_open = False
    for parameter in parameters[1:]:
        if parameter.kind is parameter.VAR_KEYWORD:
            is_open = True
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            raise DeclarationError(
                f"The stub {place} has a positional parameter {parameter.name!r} after the "
                "sender: the payload is keyword-only, so put a '*' in front of it."
            )
        elif parameter.name in RESERVED:
            raise DeclarationError(
                f"The stub {place} declares a payload named {parameter.name!r}, which blinker's "
                f"send reserves; rename it (reserved: {', '.join(RESERVED)})."
            )
        elif parameter.default is parameter.empty:
            required.append(parameter.name)
        else:
            optional.append(parameter.name)
    return Contract(
        signal=stub.__name__,
        required=tuple(required),
        optional=tuple(optional),
        open=is_open,
        place=place,
        types=_types([p for p in parameters[1:] if p.kind is p.KEYWORD_ONLY]),
        sender_type=dict(_types(parameters[:1])).get(parameters[0].name),
        stub=stub,
        version=version,
        upgrade=upgrade,
    )


def _types(parameters: list[inspect.Parameter]) -> tuple[tuple[str, str], ...]:
    """Return the names of the annotated parameters, each with the text of its annotation."""
    return tuple((p.name, _text(p.annotation)) for p in parameters if p.annotation is not p.empty)


def _text(annotation: Any) -> str:
    """Return the text of an annotation, without evaluating it or a ``repr()`` of its parts.

    A string is returned as it was written. Other annotations, which Python has evaluated, are
    written with the names of their classes, such as ``dict[str, Account] | None``.
    """
    kind = type(annotation)
    if issubclass(kind, str):
        return str.__str__(annotation)
    if annotation is None or annotation is NoneType:
        return "None"
    if issubclass(kind, type):
        return str.__str__(annotation.__qualname__)
    if kind is list:  # the parameters of a Callable
        return f"[{', '.join(map(_text, annotation))}]"
    if kind is ForwardRef:
        return _text(annotation.__forward_arg__)
    if (origin := get_origin(annotation)) is not None:
        return _generic_text(origin, get_args(annotation))
    if annotation is ...:
        return "..."
    is_named = kind.__module__ == "typing"  # a type variable, a special form
    return str.__str__(annotation.__name__ if is_named else kind.__qualname__)


def _generic_text(origin: Any, arguments: tuple[Any, ...]) -> str:
    if origin is Annotated:
        return _text(arguments[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(sender_label, arguments))}]"
    if origin is Union or origin is UnionType:
        return " | ".join(map(_text, arguments))
    return f"{_text(origin)}[{', '.join(map(_text, arguments))}]" if arguments else _text(origin)
