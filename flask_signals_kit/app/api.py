"""The API of a kit and of one app's signals: declare, connect, bridge, send, exception hooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import blinker
from blinker import ANY
from flask import Flask

from ..bridge import choose
from ..core.connection import LiveConnection, Options, is_delivery
from ..core.delivery import Delivery
from ..core.dispatch import Results
from ..core.introspection import call_site, place_of, receiver_key, sender_key, unwrap
from ..core.names import check_name, is_glob
from ..deliveries.after_commit import AfterCommit
from ..deliveries.durable.delivery import Durable
from ..deliveries.sources import source_of
from ..errors import (
    AppContextError,
    ConfigurationError,
    DeclarationError,
    ReceiverError,
    did_you_mean,
    type_name,
)
from ..exception_hooks import register_hook
from ..records import AFTER_COMMIT, DURABLE, IMMEDIATE, OnError, Outcome, Receiver, Source
from ..settings import check_on_error
from .contract import Upgrade, contract_from
from .handle import Connected, DomainSignal, PredicateFor, ReceiverFor, refuse_named_sender
from .registry import Registry

if TYPE_CHECKING:
    from ..core.signal import Signal

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
H = TypeVar("H", bound="Hook")

Named = str | DomainSignal[Any, ..., Any]
"""What ``send`` takes: a name or a handle."""

Target = str | DomainSignal[Any, ..., Any] | blinker.Signal
"""What ``on`` takes: a name, a glob, a handle, or any blinker signal."""


class Hook(Protocol):
    """What ``on_exception`` takes."""

    def __call__(
        self,
        app: Flask,
        exception: Exception,
        /,
        *,
        source: Source,
        handled: bool,
        signal: str | None,
        receiver: Receiver | None,
    ) -> object:
        """Handle an exception."""
        ...


class Declare(Protocol):
    """What ``declare`` with options returns.

    If the stub returns ``None``, receivers may return ``Any``.
    """

    @overload
    def __call__(self, stub: Callable[Concatenate[S, P], None], /) -> DomainSignal[S, P, Any]: ...

    @overload
    def __call__(self, stub: Callable[Concatenate[S, P], R], /) -> DomainSignal[S, P, R]: ...


class Sending:
    """Sends signals by name, for a kit and for one app.

    They differ in their registry: a kit's registry applies to all of its apps, an app's registry to
    that app only.
    """

    registry: Registry

    def send(self, signal: Named, sender: Any = None, /, **payload: Any) -> Results:
        """Send a signal in the current app.

        :param signal: a name, or a handle.
        :param sender: the sender; the app itself if omitted. ``current_app`` is unwrapped.
        :param payload: passed to each receiver by name.
        :return: ``(receiver, result)`` for each receiver that ran and returned, in calling order.
        :raises AppContextError: without a current app.
        :raises UnknownSignalError: for an undeclared name, under ``SIGNALS_KIT_STRICT``.

        >>> from flask import Flask
        >>> from flask_signals_kit import SignalsKit
        >>> app = Flask("shop")
        >>> kit = SignalsKit(app)
        >>> @kit.on("account_funded")
        ... def thank(account, *, amount, **extra):
        ...     return f"thanks for {amount}"
        >>> with app.app_context():
        ...     [result for _, result in kit.send("account_funded", "acme", amount=5)]
        ['thanks for 5']
        """
        target, real = self._prepare(signal, sender, payload)
        return target.send(real, **payload)

    async def send_async(self, signal: Named, sender: Any = None, /, **payload: Any) -> Results:
        """Send a signal, and await its async receivers one after the other.

        Parameters, result and errors are those of :meth:`send`.
        """
        target, real = self._prepare(signal, sender, payload)
        return await target.send_async(real, **payload)

    def send_robust(
        self, signal: Named, sender: Any = None, /, **payload: Any
    ) -> list[Outcome[Any]]:
        """Send a signal and return an outcome for each receiver.

        A failing receiver does not stop the other receivers.

        :return: an ``Ok``, ``Failed`` or ``Deferred`` for each receiver, in calling order.
        """
        target, real = self._prepare(signal, sender, payload)
        return target.send_robust(real, **payload)

    async def send_robust_async(
        self, signal: Named, sender: Any = None, /, **payload: Any
    ) -> list[Outcome[Any]]:
        """Do the same as :meth:`send_robust`, and await async receivers one after the other."""
        target, real = self._prepare(signal, sender, payload)
        return await target.send_robust_async(real, **payload)

    def _prepare(self, signal: Named, sender: Any, payload: dict[str, Any]) -> tuple[Signal, Any]:
        if isinstance(signal, blinker.Signal):
            raise DeclarationError(
                "send() takes a name or a handle, not a blinker signal: call signal.send(...) on "
                f"the {type_name(signal)} itself, which reaches its own receivers as well."
            )
        name = _name_of(self.registry, signal) or ""
        if is_glob(name):
            raise DeclarationError(f"{name!r} is a pattern: send() takes the name of one signal.")
        app_signals = self.registry.owner._current(f"send {name!r}")
        target = app_signals.find(name)
        if sender is None:
            refuse_named_sender(name, payload)
            return target, app_signals.app
        return target, unwrap(sender)


class Api(Sending):
    """Declares and connects signals, too: what a kit and the signals of one app have in common."""

    # -- declaring ----------------------------------------------------------------------------

    def signal(
        self, name: str, doc: str | None = None, *, on_error: OnError | None = None
    ) -> DomainSignal[Any, ..., Any]:
        """Declare a signal with any payload, or return its handle if it is already declared.

        :param name: an identifier in lower_snake, past tense.
        :param doc: one sentence on what it means; the first one given is kept.
        :param on_error: its failure policy; ``SIGNALS_KIT_ON_ERROR`` if omitted.
        :raises DeclarationError: for a name that is not an identifier, an unknown policy, or one
            app's policy for a signal of the kit.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> kit.signal("account_funded", "Money arrived in an account.").name
        'account_funded'
        """
        policy = check_on_error(on_error, f"Signal {name!r}", "SIGNALS_KIT_ON_ERROR")
        place = call_site(sys._getframe())
        return self.registry.declare(check_name(name), doc, policy, place)

    @overload
    def declare(self, stub: Callable[Concatenate[S, P], None], /) -> DomainSignal[S, P, Any]: ...

    @overload
    def declare(self, stub: Callable[Concatenate[S, P], R], /) -> DomainSignal[S, P, R]: ...

    @overload
    def declare(
        self,
        /,
        *,
        on_error: OnError | None = None,
        version: int = 1,
        upgrade: Upgrade | None = None,
    ) -> Declare: ...

    def declare(
        self,
        stub: Callable[..., Any] | None = None,
        /,
        *,
        on_error: OnError | None = None,
        version: int = 1,
        upgrade: Upgrade | None = None,
    ) -> Any:
        """Declare a signal by a stub, which states its name, doc, sender, payload and result.

        The first parameter is the sender. The keyword-only parameters are the payload. The return
        annotation is what receivers return. The body never runs.

        :param stub: the function; or use ``@kit.declare(on_error=…)``.
        :param on_error: its failure policy; ``SIGNALS_KIT_ON_ERROR`` if omitted.
        :param version: the version of the payload, for messages of durable receivers.
        :param upgrade: called as ``upgrade(payload, version)`` with a payload that an older version
            has stored, as JSON types by name; returns that of this version.
        :return: the handle.
        :raises DeclarationError: for a stub without a sender or with a positional payload, a
            reserved payload name, or a name that another stub declares.
        :raises ContractError: if a receiver that is already connected does not match.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> @kit.declare
        ... def account_funded(sender: object, *, amount: int) -> None:
        ...     "Money arrived in an account."
        >>> account_funded.contract.required
        ('amount',)
        """
        if stub is None:
            return lambda stub: self._declare(stub, on_error, version, upgrade)
        return self._declare(stub, on_error, version, upgrade)

    def _declare(
        self, stub: Any, on_error: OnError | None, version: int, upgrade: Upgrade | None
    ) -> DomainSignal[Any, ..., Any]:
        if not callable(stub) or not hasattr(stub, "__name__"):
            raise DeclarationError(
                f"declare takes a stub function, not {type_name(stub)}; "
                "for a signal without one use signal(name, doc)."
            )
        name = check_name(stub.__name__)
        policy = check_on_error(on_error, f"Signal {name!r}", "SIGNALS_KIT_ON_ERROR")
        contract = contract_from(stub, version, upgrade)
        return self.registry.declare_contract(contract, stub.__doc__, policy)

    # -- connecting ---------------------------------------------------------------------------

    @overload
    def on(
        self,
        signal: str | blinker.Signal,
        /,
        *others: Target,
        sender: Any = ANY,
        priority: int = 0,
        when: Callable[..., Any] | None = None,
        delivery: str | Delivery = "immediate",
        on_error: OnError | None = None,
        uid: str | None = None,
        weak: bool = False,
    ) -> Callable[[F], F]: ...

    @overload
    def on(
        self,
        signal: DomainSignal[S, P, R],
        /,
        *others: Target,
        sender: S = ...,
        priority: int = 0,
        when: PredicateFor[S, ...] | None = None,
        delivery: str | Delivery = "immediate",
        on_error: OnError | None = None,
        uid: str | None = None,
        weak: bool = False,
    ) -> Callable[[ReceiverFor[S, P, R]], Connected[S, P]]: ...

    def on(
        self,
        *signals: Any,
        sender: Any = ANY,
        priority: int = 0,
        when: Callable[..., Any] | None = None,
        delivery: str | Delivery = "immediate",
        on_error: OnError | None = None,
        uid: str | None = None,
        weak: bool = False,
    ) -> Callable[[F], F]:
        """Connect the decorated function.

        Use it before or after ``init_app``. Connecting the same function to the same signal and
        sender again only changes its options. A function of a reloaded module (the same module,
        qualified name and line) replaces its earlier version.

        :param signals: names, globs such as ``"account_*"``, handles, or any blinker signal.
        :param sender: limit the receiver to sends by this sender; strings and integers match by
            value.
        :param priority: higher runs first; within one priority, connection order.
        :param when: ``when(sender, **payload)`` decides at each send whether the receiver is
            called.
        :param delivery: ``"immediate"``, ``"after_commit"``, or an object with ``name`` and
            ``deliver(call)``.
        :param on_error: its own failure policy, ``"raise"``, ``"group"`` or ``"isolate"``; the
            signal's if omitted.
        :param uid: a stable name for the receiver, unique in the kit, and in the kit and one app
            together. A function with the same module and name replaces the earlier one; any other
            function is refused.
        :param weak: reference the receiver weakly.
        :return: a decorator that returns the function unchanged.
        :raises ReceiverError: if the decorated object is not callable.
        :raises ContractError: if it cannot take the payload.
        :raises DeclarationError: for an unknown failure policy.
        :raises DuplicateReceiverError: if another receiver has the ``uid``.
        :raises UnknownSignalError: for an undeclared name, under ``SIGNALS_KIT_STRICT``.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> @kit.on("account_funded", priority=10)
        ... def note(account, **extra): ...
        """
        if not signals or any(callable(signal) for signal in signals):
            raise ReceiverError(
                "on() needs the signal to connect to: write @kit.on('account_funded'), "
                "with a name, a glob, a handle or a blinker signal in the parentheses."
            )

        options = Options(
            priority=priority,
            when=when,
            delivery=None if delivery == IMMEDIATE else _find_delivery(delivery),
            on_error=on_error,
            uid=uid,
            weak=weak,
        )

        def decorator(receiver: F) -> F:
            real = sender if sender is ANY else _real_sender(sender, receiver)
            targets = map(self._target, signals)
            connections = [LiveConnection(name, receiver, real, options) for name in targets]
            options.check(receiver)
            self.registry.connect(connections)  # to each of the signals, or to none
            return receiver

        return decorator

    def disconnect(self, receiver: Receiver, *signals: Target, sender: Any = ANY) -> None:
        """Disconnect a receiver in each app that :meth:`on` connected it in.

        :param receiver: the receiver; if it is not connected, nothing happens.
        :param signals: the names, globs or handles that were given to ``on``; all if omitted. To
            disconnect from a glob, give the glob, not a name that it matches.
        :param sender: disconnect from this sender only; from all senders if omitted.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> @kit.on("account_*", "request_started")
        ... def note(sender, **extra): ...
        >>> kit.disconnect(note, "account_*")
        """
        key, limited_to = receiver_key(receiver), None if sender is ANY else sender_key(sender)

        targets = [_name_of(self.registry, signal) or "" for signal in signals]
        for target in dict.fromkeys(targets or self.registry.connections.targets_of(key)):
            for connection in self.registry.remove(target, key, limited_to):
                for app in self.registry.apps:
                    app.disconnected(connection)

    def _target(self, signal: Any) -> str:
        """Return the name or glob of an argument of ``on``; bridge a third-party signal."""
        return _name_of(self.registry, signal) or self.bridge(signal)[0]

    # -- bridges and exception hooks ----------------------------------------------------------

    def bridge(
        self,
        source: str | blinker.Signal | Mapping[str, Any],
        names: Iterable[str] | None = None,
        prefix: str | None = None,
    ) -> tuple[str, ...]:
        """Add third-party signals to the namespace, so that ``on`` can connect to them by name.

        The kit connects to a third-party signal only while the signal has receivers here. If the
        sender is not the app, the signal is relayed only while the app is current.

        :param source: an extension of the catalogue such as ``"flask_login"``, a blinker signal, or
            a blinker namespace. Dashes become underscores.
        :param names: which of its signals to bridge; all if omitted.
        :param prefix: the prefix of each name. By default ``"flask_login."`` for that extension,
            and none for other sources.
        :return: the names in this namespace.
        :raises UnknownSignalError: for an unknown extension or signal name.
        :raises ConfigurationError: for an extension that is not installed.
        :raises DeclarationError: for a name that is already used.

        >>> from blinker import Namespace
        >>> from flask_signals_kit import SignalsKit
        >>> theirs = Namespace()
        >>> _ = theirs.signal("invoice-paid")
        >>> SignalsKit().bridge(theirs, prefix="billing.")
        ('billing.invoice_paid',)
        """
        found = choose(source, names, prefix)
        self.registry.bridge(found)
        return tuple(found)

    @overload
    def on_exception(self, hook: H, /) -> H: ...

    @overload
    def on_exception(
        self,
        /,
        *,
        sources: Iterable[Source] | None = None,
        ignore: Iterable[type[BaseException]] | None = None,
        handled: bool = False,
    ) -> Callable[[H], H]: ...

    def on_exception(
        self,
        hook: Any = None,
        /,
        *,
        sources: Iterable[Source] | None = None,
        ignore: Iterable[type[BaseException]] | None = None,
        handled: bool = False,
    ) -> Any:
        """Call a hook for every failure that leaves the app's code, once per request.

        The hook is called as ``hook(app, exception, *, source, handled, signal=None, receiver=None,
        **extra)``. If a receiver failed, ``signal`` is the name of the signal and ``receiver`` the
        receiver. If the hook itself fails, this is logged and has no other effect. For ``teardown``
        and ``stream``, the request is over and there is no app context: use the hook's ``app``.

        :param hook: the hook; or use ``@kit.on_exception(…)``.
        :param sources: any of ``"request"``, ``"receiver"``, ``"teardown"``, ``"stream"``,
            ``"cli"``, ``"delivery"``; all if omitted.
        :param ignore: exception classes to ignore; ``DEFAULT_IGNORED`` if omitted. A
            ``BaseException`` that is not an ``Exception``, such as ``SystemExit``, is always
            ignored.
        :param handled: also call the hook for exceptions that an error handler turned into a
            response.
        :return: the hook, unchanged.
        :raises ReceiverError: if the hook is not callable.
        :raises ConfigurationError: for an invalid source or ignored class.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> @kit.on_exception(sources=["request", "cli"])
        ... def report(app, exception, *, source, **extra):
        ...     print(source, type(exception).__name__)
        """

        def decorator(hook: Any) -> Any:
            self.registry.add_hook(register_hook(hook, sources, ignore, handled))
            return hook

        return decorator if hook is None else decorator(hook)

    def use_session(self, session: Any) -> None:
        """Set a SQLAlchemy session that after-commit receivers wait for.

        The sessions of Flask-SQLAlchemy and Flask-SQLAlchemy-Lite are found automatically. If
        there are several sessions, receivers wait for the first one that has an open transaction
        when the signal is sent.

        :param session: a ``scoped_session``, or a function that returns the current ``Session`` or
            ``None``.
        :raises ConfigurationError: for anything else; a plain ``sessionmaker`` has no current one.

        >>> from flask import g
        >>> from flask_signals_kit import SignalsKit
        >>> SignalsKit().use_session(lambda: g.get("session"))
        """
        self.registry.use_session(source_of(session))

    def use_outbox(self, metadata: Any, engine: Any = None) -> None:
        """Set where the messages of durable receivers are stored.

        The table ``signals_outbox`` becomes part of the metadata as soon as an app has a durable
        receiver. Call this before :meth:`SignalsKit.init_app`. With Flask-SQLAlchemy it is not
        needed: its ``db.metadata`` is used.

        :param metadata: the ``MetaData`` of the app's tables, such as ``Base.metadata``.
        :param engine: its engine; needed only if the app has no session that knows it.
        :raises ConfigurationError: for an object that is not a ``MetaData``.

        >>> from sqlalchemy import MetaData
        >>> from flask_signals_kit import SignalsKit
        >>> SignalsKit().use_outbox(MetaData())
        """
        if not hasattr(metadata, "create_all"):
            raise ConfigurationError(
                f"use_outbox takes the MetaData of the app's tables, such as Base.metadata, not "
                f"{type_name(metadata)}."
            )
        self.registry.use_outbox(metadata, engine)


def _name_of(registry: Registry, signal: Any) -> str | None:
    """Return the name or glob of an argument of ``on``.

    :return: ``None`` for a third-party signal that is not bridged yet.
    :raises DeclarationError: for anything other than a signal of this kit.
    """
    if isinstance(signal, str):
        return signal if is_glob(signal) else check_name(signal)
    if isinstance(signal, DomainSignal):
        if registry.handle(signal.name) is not signal:
            raise DeclarationError(_why_unknown(registry, signal))
        return signal.name
    if isinstance(signal, blinker.NamedSignal) and any(
        app.namespace.get(signal.name) is signal for app in registry.apps
    ):
        return signal.name
    if isinstance(signal, blinker.Signal):
        bridged = (item for each in registry.related() for item in each.bridged.copy().items())
        return next((name for name, source in bridged if source is signal), None)
    raise DeclarationError(
        f"{type_name(signal)} is not a signal: give a name, a glob, a handle or a blinker signal."
    )


def _why_unknown(registry: Registry, handle: DomainSignal[Any, ..., Any]) -> str:
    """Return why a handle cannot be used here."""
    owners = [each.owner for each in registry.chain]
    declared = [each.declarations.get(handle.name) for each in registry.chain]
    if handle._owner in owners and handle not in declared:
        return (
            f"Signal {handle.name!r} was declared in a block of kit.isolated() that has ended, "
            "which undid it: use the handle in the block, or declare the signal outside of it."
        )
    return (
        f"Signal {handle.name!r} was declared by another kit, or for one app only; use it "
        "through the kit or the kit.for_app(app) that declared it."
    )


def _find_delivery(delivery: str | Delivery) -> Delivery:
    """Return a delivery by its name.

    :param delivery: a name, or an object with ``name`` and ``deliver(call)``.
    :raises ConfigurationError: for an unknown name, or an invalid object.
    """
    if delivery == AFTER_COMMIT:
        return AfterCommit()
    if delivery == DURABLE:
        return Durable()
    if isinstance(delivery, str):
        raise ConfigurationError(
            f"There is no delivery {delivery!r}."
            f"{did_you_mean(delivery, [IMMEDIATE, AFTER_COMMIT, DURABLE])} Use {IMMEDIATE!r}, "
            f"{AFTER_COMMIT!r}, {DURABLE!r}, or an object with a name and a method deliver(call)."
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
            "callable: it must return the SQLAlchemy session to use, or be None. "
            "Rename the attribute if it has another meaning."
        )
    if not is_delivery(delivery):
        raise ConfigurationError(
            f"{type(delivery).__qualname__} is not a delivery: it needs a name and a method "
            "deliver(call)."
        )
    return delivery


def _real_sender(sender: Any, receiver: Receiver) -> Any:
    try:
        return unwrap(sender)
    except RuntimeError as error:
        raise AppContextError(
            f"Cannot connect {place_of(receiver)} for a sender that is a LocalProxy outside an "
            "app context: push one with 'with app.app_context():', or pass the app itself, "
            "as in kit.for_app(app).on(..., sender=app)."
        ) from error
