"""Declared signals: a handle for modules to import, and the contract that its stub states."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeAlias, TypeVar, overload

import blinker
from flask import Flask
from werkzeug.local import LocalProxy

from .callables import parameters_of, place_of, signature_of, type_name, unwrap
from .calls import Delivery, Receiver
from .dispatch import explain_recursion
from .errors import ContractError, DeclarationError, ReceiverError
from .records import OnError, Outcome, Place
from .signals import Signal

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")

Fitting: TypeAlias = (
    Callable[Concatenate[S, P], R] | Callable[Concatenate[S, P], Coroutine[Any, Any, R]]
)
"""A receiver that fits a signal's sender, payload and result; it may be async."""

Deciding: TypeAlias = Callable[Concatenate[S, P], bool] | Callable[Concatenate[S, P], object]
"""A ``when``. Of a single ``Callable``, mypy refuses each lambda that spells it differently."""

Connected: TypeAlias = Callable[Concatenate[S, P], Any]
"""A receiver once it is connected. A type checker can check it or keep its very type, not both."""

THE_APP: Any = None
"""The default of a sender: the current app."""

ANY: Any = blinker.ANY
"""The default of a sender to be limited to: none; ``Any``, so that it passes for every type."""

RESERVED = ("sender", "_async_wrapper", "_sync_wrapper")
"""Names that a payload cannot have: blinker's ``send`` would swallow or refuse them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a declaration promises: which names a send passes and a receiver must take."""

    signal: str
    """The signal's name."""
    required: tuple[str, ...]
    """Payload names that each send passes."""
    optional: tuple[str, ...] = ()
    """Payload names with a default in the stub: a send may leave them out."""
    open: bool = False
    """Whether the stub has ``**extra``, so that a send may pass other names as well."""
    place: Place | None = None
    """Where the stub is."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every declared payload name."""
        return (*self.required, *self.optional)

    def check_payload(self, payload: Collection[str]) -> None:
        """Refuse a payload whose names are not the declared ones.

        :raises ContractError: naming what is missing and what nobody declared.
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

    def check_receiver(self, receiver: Receiver, what: str = "Receiver") -> None:
        """Refuse a receiver that could not be called with the declared payload.

        What counts is the callable itself: a decorator may add and take away what the function
        inside gets.

        :param receiver: the receiver, or a ``when`` predicate, which gets the same.
        :param what: what to call it in the error.

        :raises ContractError: naming the receiver, its file and line, and the parameter.
        """
        parameters = parameters_of(receiver, follow_wrapped=False)
        if parameters is None:
            return
        reason = _misfit(parameters, self.required, self.optional)
        if self.open and not reason and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            reason = "it does not take what a send may pass besides; add **extra"
        if reason:
            declared = f", declared in {self.place}" if self.place else ""
            raise ContractError(
                f"{what} {place_of(receiver)} cannot receive signal {self.signal!r}{declared}: "
                f"{reason}."
            )

    def check_connection(self, receiver: Receiver, when: Receiver | None) -> None:
        """Refuse a receiver, or the predicate before it, that could not be called.

        :raises ContractError: as :meth:`check_receiver` does.
        """
        self.check_receiver(receiver)
        if when is not None:
            self.check_receiver(when, "Predicate")


def check_takes_sender(receiver: Receiver, signal: str) -> None:
    """Refuse a receiver that could not even be called with a sender, whatever the payload is.

    :raises ContractError: naming the receiver, its file and line.
    """
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


def _is_unbound(receiver: Receiver, parameters: list[inspect.Parameter]) -> bool:
    """Tell whether this is a method that was taken from its class, or decorated in its body."""
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


def _misfit(
    parameters: list[inspect.Parameter], required: tuple[str, ...], optional: tuple[str, ...]
) -> str | None:
    """Say why a receiver with these parameters cannot take a sender and this payload."""
    names = (*required, *optional)
    positional = [p for p in parameters if p.kind in _POSITIONAL]
    takes_rest = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not positional and not takes_rest:
        return _NO_SENDER
    first, others = positional[:1], positional[1:]
    for parameter in first:
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.name in names:
            return (
                f"its first parameter takes the sender, but is called {parameter.name!r} like one "
                "of the payload; rename it, or put a '/' behind it"
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
        if parameter.name in optional:
            return f"it needs {parameter.name!r}, which a send may leave out; give it a default"
        if parameter.name not in required:
            known = _names(names) or "empty"
            return f"it needs {parameter.name!r}, which is not in the payload ({known})"
    return None


def _names(names: Collection[str]) -> str:
    return ", ".join(map(repr, names))


def contract_from(stub: Callable[..., Any]) -> Contract:
    """Read a contract from a ``declare`` stub.

    :param stub: ``def signal_name(sender, *, payload…) -> result``; its body never runs.
    :raises DeclarationError: if its parameters are not one sender and keyword-only payload.
    """
    place = place_of(stub)
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
                f"The stub {place} has a positional parameter {parameter.name!r} behind the "
                "sender: the payload is keyword-only, so put a '*' in front of it."
            )
        elif parameter.name in RESERVED:
            raise DeclarationError(
                f"The stub {place} declares a payload named {parameter.name!r}, which blinker's "
                f"send keeps for itself; rename it (reserved: {', '.join(RESERVED)})."
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
    )


def check_name(name: object) -> str:
    """Return a signal's name, or refuse what is no identifier.

    Dotted names are for bridged signals (``flask_login.user_logged_in``) and for grouping.

    :raises DeclarationError: with a name that would do.
    """
    if isinstance(name, str) and name and all(part.isidentifier() for part in name.split(".")):
        return name
    shown = repr(name) if isinstance(name, str) else type_name(name)
    raise DeclarationError(
        f"{shown} is no name for a signal: use an identifier in lower_snake, past tense, such as "
        f"{_suggest(name)!r}."
    )


def _suggest(name: object) -> str:
    words = (
        "".join(c if c.isalnum() else "_" for c in name).strip("_") if isinstance(name, str) else ""
    )
    return words.lower() if words.isidentifier() else "account_funded"


class Wiring(Protocol):
    """What a handle needs from the kit or from one app's half: where to resolve and to connect."""

    def resolve(self, name: str) -> Signal:
        """Return the current app's signal of this name."""
        ...

    def connect_receiver(
        self,
        receiver: Receiver,
        signals: tuple[Any, ...],
        *,
        sender: Any = ANY,
        priority: int = 0,
        when: Callable[..., Any] | None = None,
        delivery: str | Delivery = "immediate",
        on_error: OnError | None = None,
        uid: str | None = None,
        weak: bool = False,
    ) -> None:
        """Connect as ``on`` does."""

    def disconnect_receiver(self, receiver: Receiver, signal: str, sender: Any = ANY) -> None:
        """Undo :meth:`connect_receiver`."""

    def default_sender(self) -> Any:
        """Return who sends where no sender is given: the app."""


class DomainSignal(Generic[S, P, R]):
    """A declared signal: a handle that every module may import and no app owns.

    Made by ``kit.signal(name, doc)`` and ``@kit.declare``. Sending, asking, muting and
    ``connected_to`` concern the current app; ``connect``, ``connect_via`` and ``disconnect``
    concern every app of the kit, and connect strongly.

    :param name: the signal's name.
    :param doc: one sentence on what it means.
    :param contract: what its stub promises, or ``None`` for a signal with any payload.
    :param on_error: its failure policy, or ``None`` for the app's.
    :param wiring: the kit, or one app's half.
    :param place: where it was declared.

    >>> from flask import Flask
    >>> from flask_signals_kit import SignalsKit
    >>> app = Flask("shop")
    >>> kit = SignalsKit(app)
    >>> account_funded = kit.signal("account_funded", "Money arrived in an account.")
    >>> _ = account_funded.connect(lambda account, **extra: f"thanks to {account}")
    >>> with app.app_context():
    ...     [result for _, result in account_funded.send("acme", amount=5)]
    ['thanks to acme']
    """

    def __init__(
        self,
        name: str,
        doc: str | None,
        *,
        wiring: Wiring,
        contract: Contract | None = None,
        on_error: OnError | None = None,
        place: Place | None = None,
    ) -> None:
        self.name = name
        """Its name."""
        self.contract = contract
        """What its stub promises: ``contract.required`` and ``contract.optional`` name the payload.
        ``None`` for a signal with any payload."""
        self.on_error: OnError | None = on_error
        """Its own failure policy, or ``None`` where the app's counts."""
        self.place = place
        """Where it was declared, a :class:`Place`."""
        self.__doc__ = doc
        self._wiring = wiring
        self._resolve = wiring.resolve

    def __repr__(self) -> str:
        return f"<DomainSignal {self.name!r}>"

    # -- sending: the current app -------------------------------------------------------------

    # The second signature of each is for stubs that say `sender: Flask` and for signals without a
    # stub: the app is the sender if none is given. Anywhere else, a type checker wants one.

    @overload
    def send(
        self, sender: S, /, *args: P.args, **payload: P.kwargs
    ) -> list[tuple[Callable[..., Any], R]]: ...

    @overload
    def send(
        self: DomainSignal[Flask, P, R], /, *args: P.args, **payload: P.kwargs
    ) -> list[tuple[Callable[..., Any], R]]: ...

    def send(
        self,
        sender: Any = THE_APP,
        /,
        *args: Any,
        **payload: Any,
    ) -> list[tuple[Callable[..., Any], R]]:
        """Call the current app's receivers.

        :param sender: who sends; the app, if left out.
        :param payload: passed to each receiver by name; but ``_async_wrapper``, which makes an
            async receiver callable, is blinker's.
        :return: ``(receiver, result)`` for each receiver that ran and returned, in calling order.
        :raises AppContextError: without a current app.
        :raises ContractError: for a payload that was not declared, where validation is on.
        :raises Exception: what a receiver raised, as the signal's ``on_error`` says.
        """
        if args:
            raise self._too_many(args)
        signal = self._resolve(self.name)
        if sender is None or type(sender) is LocalProxy:
            sender = self._sender(sender, payload)
        try:
            strong = signal._strong
            if "_async_wrapper" in payload:  # no parameter: to match its name takes longer
                return signal.send(sender, **payload)
            if strong is not None:  # what Signal.send does, without packing the payload once more
                return [(receiver, receiver(sender, **payload)) for receiver in strong]
            return signal._send(sender, payload, None)
        except RecursionError as error:
            explain_recursion(error)
            raise

    def _too_many(self, args: tuple[Any, ...]) -> ContractError:
        return ContractError(
            f"Signal {self.name!r} was sent with {len(args) + 1} positional arguments: "
            "only the sender is one; pass the payload by name."
        )

    def _sender(self, sender: Any, payload: Collection[str] = ()) -> Any:
        if sender is None:
            refuse_named_sender(self.name, payload)
            return self._wiring.default_sender()
        return unwrap(sender)

    @overload
    async def send_async(
        self, sender: S, /, *args: P.args, **payload: P.kwargs
    ) -> list[tuple[Callable[..., Any], R]]: ...

    @overload
    async def send_async(
        self: DomainSignal[Flask, P, R], /, *args: P.args, **payload: P.kwargs
    ) -> list[tuple[Callable[..., Any], R]]: ...

    async def send_async(
        self, sender: Any = THE_APP, /, *args: Any, **payload: Any
    ) -> list[tuple[Callable[..., Any], R]]:
        """Await the current app's receivers one after the other; plain ones are called directly.

        Parameters, result and errors are those of :meth:`send`.
        """
        if args:
            raise self._too_many(args)
        signal = self._resolve(self.name)
        return await signal.send_async(self._sender(sender, payload), **payload)

    @overload
    def send_robust(self, sender: S, /, *args: P.args, **payload: P.kwargs) -> list[Outcome[R]]: ...

    @overload
    def send_robust(
        self: DomainSignal[Flask, P, R], /, *args: P.args, **payload: P.kwargs
    ) -> list[Outcome[R]]: ...

    def send_robust(self, sender: Any = THE_APP, /, *args: Any, **payload: Any) -> list[Outcome[R]]:
        """Call the current app's receivers and say what became of each; a failure stops nobody.

        :return: an ``Ok``, ``Failed`` or ``Deferred`` for each receiver.
        """
        if args:
            raise self._too_many(args)
        signal = self._resolve(self.name)
        return signal.send_robust(self._sender(sender, payload), **payload)

    @overload
    async def send_robust_async(
        self, sender: S, /, *args: P.args, **payload: P.kwargs
    ) -> list[Outcome[R]]: ...

    @overload
    async def send_robust_async(
        self: DomainSignal[Flask, P, R], /, *args: P.args, **payload: P.kwargs
    ) -> list[Outcome[R]]: ...

    async def send_robust_async(
        self, sender: Any = THE_APP, /, *args: Any, **payload: Any
    ) -> list[Outcome[R]]:
        """Await the current app's receivers and say what became of each."""
        if args:
            raise self._too_many(args)
        signal = self._resolve(self.name)
        return await signal.send_robust_async(self._sender(sender, payload), **payload)

    # -- asking and trying: the current app ---------------------------------------------------

    @property
    def receivers(self) -> Mapping[Any, Any]:
        """The current app's receivers; as with blinker, only its truth value is promised."""
        return self._resolve(self.name).receivers

    def has_receivers_for(self, sender: Any) -> bool:
        """Tell whether a send by this sender would reach anybody in the current app."""
        return self._resolve(self.name).has_receivers_for(self._sender(sender))

    def receivers_for(self, sender: Any) -> Iterator[Receiver]:
        """Yield the current app's receivers that a send by this sender would call, in order."""
        return self._resolve(self.name).receivers_for(self._sender(sender))

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """Call none of the current app's receivers while a ``with`` block runs, in this context."""
        with self._resolve(self.name).muted():
            yield

    @contextmanager
    def connected_to(
        self, receiver: Fitting[S, P, R], sender: S = ANY
    ) -> Generator[None, None, None]:
        """Connect a receiver in the current app while a ``with`` block runs, in this context."""
        self._check(receiver)
        with self._resolve(self.name).connected_to(receiver, sender):
            yield

    def _check(self, receiver: Receiver) -> None:
        if not callable(receiver):
            raise not_callable(receiver, self.name)
        if self.contract is not None:
            self.contract.check_receiver(receiver)

    # -- connecting: every app ----------------------------------------------------------------

    def connect(
        self,
        receiver: Fitting[S, P, R],
        sender: S = ANY,
        *,
        priority: int = 0,
        when: Deciding[S, P] | None = None,
        delivery: str | Delivery = "immediate",
        on_error: OnError | None = None,
        uid: str | None = None,
        weak: bool = False,
    ) -> Connected[S, P]:
        """Connect a receiver in every app of the kit, as ``kit.on`` does; usable as a decorator.

        :return: the receiver, unchanged.
        :raises ContractError: if the receiver cannot take the payload.
        """
        self._wiring.connect_receiver(
            receiver,
            (self,),
            sender=sender,
            priority=priority,
            when=when,
            delivery=delivery,
            on_error=on_error,
            uid=uid,
            weak=weak,
        )
        return receiver

    def connect_via(
        self, sender: S, weak: bool = False
    ) -> Callable[[Fitting[S, P, R]], Connected[S, P]]:
        """Connect the decorated function for one sender, in every app of the kit."""

        def decorator(receiver: Fitting[S, P, R]) -> Connected[S, P]:
            self._wiring.connect_receiver(receiver, (self,), sender=sender, weak=weak)
            return receiver

        return decorator

    def disconnect(self, receiver: Receiver, sender: Any = ANY) -> None:
        """Disconnect a receiver in every app of the kit.

        :param sender: from this sender only; from all, if left out.
        """
        self._wiring.disconnect_receiver(receiver, self.name, sender)


def refuse_named_sender(signal: str, payload: Collection[str]) -> None:
    """Refuse a sender that was given by name: it would be payload, and the app would send.

    :raises ContractError: saying how to give it.
    """
    if "sender" in payload:
        raise ContractError(
            f"Signal {signal!r} was sent with sender=…: the sender is given by position, as in "
            "send(account, amount=5); by name it would be part of the payload."
        )


def not_callable(receiver: object, signal: str) -> ReceiverError:
    """Return the error for something that was connected and cannot be called."""
    return ReceiverError(
        f"Cannot connect {type_name(receiver)} to signal {signal!r}: it is not callable. "
        "Connect a function, a method or an object with __call__."
    )
