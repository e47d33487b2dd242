"""The handle of a declared signal, which every module can import."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    overload,
)

import blinker
from flask import Flask
from werkzeug.local import LocalProxy

from ..core.introspection import explain_recursion, unwrap
from ..errors import ContractError
from ..records import OnError, Outcome, Place, Receiver

if TYPE_CHECKING:
    from ..core.delivery import Delivery
    from ..core.signal import Signal
    from .contract import Contract

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")

ReceiverFor: TypeAlias = (
    Callable[Concatenate[S, P], R] | Callable[Concatenate[S, P], Coroutine[Any, Any, R]]
)
"""A receiver that matches a signal's sender, payload and result; it may be async."""

PredicateFor: TypeAlias = Callable[Concatenate[S, P], bool] | Callable[Concatenate[S, P], object]
"""A ``when`` predicate. It is a union because mypy refuses lambdas for a single ``Callable``."""

Connected: TypeAlias = Callable[Concatenate[S, P], Any]
"""A connected receiver. A type checker can either check it or keep its exact type, not both."""

THE_APP: Any = None
"""The default of ``sender`` in a send: the current app."""

ANY: Any = blinker.ANY
"""The default of ``sender`` in a connection: any sender. Typed ``Any``, to match every type."""


class Owner(Protocol):
    """What a handle needs from its owner: the kit, or the signals of one app."""

    def resolve(self, name: str) -> Signal:
        """Return the current app's signal of this name."""
        ...

    def default_sender(self) -> Flask:
        """Return the app: the sender of a send without one."""
        ...

    def on(self, *signals: Any, **options: Any) -> Callable[[Any], Any]:
        """Return a decorator that connects a receiver."""
        ...

    def disconnect(self, receiver: Receiver, *signals: Any, sender: Any = ANY) -> None:
        """Disconnect a receiver that :meth:`on` connected."""


class DomainSignal(Generic[S, P, R]):
    """A declared signal: a handle that every module can import.

    ``kit.signal(name, doc)`` and ``@kit.declare`` return it. It belongs to no app. Methods that
    send, query or mute, and ``connected_to``, apply to the current app. ``connect``,
    ``connect_via`` and ``disconnect`` apply to every app of the kit, and connect strongly.

    :param name: the signal's name.
    :param doc: one sentence on what it means.
    :param contract: the contract that its stub states, or ``None`` for a signal with any payload.
    :param on_error: its failure policy, or ``None`` for the app's.
    :param owner: the kit, or the app's signals that it was declared for.
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
        owner: Owner,
        contract: Contract | None = None,
        on_error: OnError | None = None,
        place: Place | None = None,
    ) -> None:
        self.name = name
        """Its name."""
        self.contract = contract
        """Its contract: ``contract.required`` and ``contract.optional`` name the payload. ``None``
        for a signal with any payload."""
        self.on_error: OnError | None = on_error
        """Its own failure policy, or ``None`` for the app's."""
        self.place = place
        """Where it was declared, a :class:`Place`."""
        self.__doc__ = doc
        self._owner = owner
        self._resolve = owner.resolve

    def __repr__(self) -> str:
        return f"<DomainSignal {self.name!r}>"

    # -- sending: the current app -------------------------------------------------------------

    # The second overload is for stubs with `sender: Flask` and for signals without a stub: if no
    # sender is given, the app is the sender. For all other signals, type checkers require one.

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

        :param sender: the sender; the app if omitted.
        :param payload: passed to each receiver by name. Exception: ``_async_wrapper`` is blinker's
            argument, which makes an async receiver callable.
        :return: ``(receiver, result)`` for each receiver that ran and returned, in calling order.
        :raises AppContextError: without a current app.
        :raises ContractError: for an undeclared payload, if validation is on.
        :raises Exception: what a receiver raised, depending on the signal's ``on_error``.
        """
        if args:
            raise self._too_many(args)
        signal = self._resolve(self.name)
        if sender is None or type(sender) is LocalProxy:
            sender = self._sender(sender, payload)
        try:
            fast = signal._fast
            if "_async_wrapper" in payload:  # not a parameter: matching its name takes longer
                return signal.send(sender, **payload)
            if fast is not None:  # as Signal.send, without packing the payload again
                return [(receiver, receiver(sender, **payload)) for receiver in fast]
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
            return self._owner.default_sender()
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
        """Call the current app's receivers, and await async ones one after the other.

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
        """Call the current app's receivers and return an outcome for each.

        A failing receiver does not stop the other receivers.

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
        """Do the same as :meth:`send_robust`, and await async receivers one after the other."""
        if args:
            raise self._too_many(args)
        signal = self._resolve(self.name)
        return await signal.send_robust_async(self._sender(sender, payload), **payload)

    # -- querying and muting: the current app -------------------------------------------------

    @property
    def receivers(self) -> Mapping[Any, Any]:
        """The current app's receivers; as in blinker, only the truth value is guaranteed."""
        return self._resolve(self.name).receivers

    def has_receivers_for(self, sender: Any) -> bool:
        """Tell whether a send by this sender would call any receiver in the current app."""
        return self._resolve(self.name).has_receivers_for(self._sender(sender))

    def receivers_for(self, sender: Any) -> Iterator[Receiver]:
        """Yield the current app's receivers that a send by this sender would call, in order."""
        return self._resolve(self.name).receivers_for(self._sender(sender))

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """Call no receivers of the current app while a ``with`` block runs, in this context."""
        with self._resolve(self.name).muted():
            yield

    @contextmanager
    def connected_to(
        self, receiver: ReceiverFor[S, P, R], sender: S = ANY
    ) -> Generator[None, None, None]:
        """Connect a receiver in the current app while a ``with`` block runs, in this context."""
        if self.contract is not None and callable(receiver):
            self.contract.check_receiver(receiver)
        with self._resolve(self.name).connected_to(receiver, sender):
            yield

    # -- connecting: every app ----------------------------------------------------------------

    def connect(
        self,
        receiver: ReceiverFor[S, P, R],
        sender: S = ANY,
        *,
        priority: int = 0,
        when: PredicateFor[S, P] | None = None,
        delivery: str | Delivery = "immediate",
        on_error: OnError | None = None,
        uid: str | None = None,
        weak: bool = False,
    ) -> Connected[S, P]:
        """Connect a receiver in every app of the kit, as ``kit.on`` does; usable as a decorator.

        :return: the receiver, unchanged.
        :raises ContractError: if the receiver cannot take the payload.
        """
        connect = self._owner.on(
            self,
            sender=sender,
            priority=priority,
            when=when,
            delivery=delivery,
            on_error=on_error,
            uid=uid,
            weak=weak,
        )
        connect(receiver)
        return receiver

    def connect_via(
        self, sender: S, weak: bool = False
    ) -> Callable[[ReceiverFor[S, P, R]], Connected[S, P]]:
        """Connect the decorated function to one sender, in every app of the kit."""
        return self._owner.on(self, sender=sender, weak=weak)

    def disconnect(self, receiver: Receiver, sender: Any = ANY) -> None:
        """Disconnect a receiver in every app of the kit.

        :param sender: disconnect from this sender only; from all senders if omitted.
        """
        self._owner.disconnect(receiver, self, sender=sender)


def refuse_named_sender(signal: str, payload: Collection[str]) -> None:
    """Refuse a sender that is given by name: it would be payload, and the app the sender.

    :raises ContractError: explaining how to pass it.
    """
    if "sender" in payload:
        raise ContractError(
            f"Signal {signal!r} was sent with sender=…: the sender is given by position, as in "
            "send(account, amount=5); by name it would be part of the payload."
        )
