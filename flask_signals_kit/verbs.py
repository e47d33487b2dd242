"""The verbs that the kit and one app's half share: declare, connect, send."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import blinker
from blinker import ANY
from flask import Flask

from .callables import call_site, place_of, receiver_key, sender_key, type_name, unwrap
from .calls import Delivery, Receiver
from .declarations import (
    Connected,
    Contract,
    Deciding,
    DomainSignal,
    Fitting,
    Wiring,
    check_name,
    check_takes_sender,
    contract_from,
    not_callable,
    refuse_named_sender,
)
from .delivery import find_delivery
from .dispatch import Results
from .errors import AppContextError, DeclarationError, ReceiverError
from .links import check_options
from .records import OnError, Outcome, Place, Source, same_function
from .registry import (
    BUILTIN_PAYLOADS,
    HookRegistration,
    Registration,
    Registry,
    is_glob,
    register_hook,
)
from .settings import check_on_error
from .signals import (
    Signal,
)
from .transactions import source_of

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
H = TypeVar("H", bound="Hook")

Named = str | DomainSignal[Any, ..., Any]
"""What ``send`` sends: a name or a handle."""

Target = str | DomainSignal[Any, ..., Any] | blinker.Signal
"""What ``on`` connects to: a name, a glob, a handle, or any blinker signal."""


class App(Protocol):
    """One app's half, as the verbs see it."""

    registry: Registry
    kit: Registry

    @property
    def app(self) -> Flask:
        """The app."""
        ...

    def find(self, name: str) -> Signal:
        """Return the app's signal of this name."""
        ...

    def find_own(self, name: str) -> blinker.NamedSignal | None:
        """Return what the app's namespace has under this name."""
        ...

    def configure(self, name: str) -> None:
        """Bring the app's signal in line with its declaration."""

    def refuse_unknown(self, name: str, place: Place | None) -> None:
        """Refuse a name that nobody declared, where that is asked for."""

    def check_registration(self, registration: Registration) -> None:
        """Refuse what could not be connected, before anything is."""

    def attach_registration(self, registration: Registration) -> None:
        """Connect what was registered."""

    def detach_registration(self, registration: Registration) -> None:
        """Undo ``attach_registration``."""

    def _known_contracts(self, target: str) -> Iterable[Contract]:
        """Return the contracts that hold in the app for a name or a glob."""
        ...

    def relay(self, name: str) -> None:
        """Relay the signal of others that was bridged under this name."""

    def add_hook(self, registration: HookRegistration) -> None:
        """Add an exception hook."""


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
        """Be told of an exception."""
        ...


class Declare(Protocol):
    """What ``declare`` with options returns.

    A stub that returns ``None`` says nothing on what receivers return, so that is ``Any``.
    """

    @overload
    def __call__(self, stub: Callable[Concatenate[S, P], None], /) -> DomainSignal[S, P, Any]: ...

    @overload
    def __call__(self, stub: Callable[Concatenate[S, P], R], /) -> DomainSignal[S, P, R]: ...


class Verbs:
    """What the kit and one app's half both do; they differ in the apps that it concerns."""

    registry: Registry

    # -- to be filled in ----------------------------------------------------------------------

    def _states(self) -> list[App]:
        """Return the apps that a declaration or a connection concerns now."""
        raise NotImplementedError

    def _current(self, doing: str) -> App:
        """Return the app that a send concerns, or raise an error which says what was being done."""
        raise NotImplementedError

    def _wiring(self) -> Wiring:
        """Return what handles made here resolve and connect through."""
        raise NotImplementedError

    def _owns(self, handle: DomainSignal[Any, ..., Any]) -> bool:
        """Tell whether a handle belongs here."""
        raise NotImplementedError

    def _known_contracts(self, target: str) -> Iterable[Contract]:
        """Return the contracts that are known here for a name or a glob."""
        raise NotImplementedError

    def _choose(
        self,
        source: str | blinker.Signal | Mapping[str, Any],
        names: Iterable[str] | None,
        prefix: str | None,
    ) -> dict[str, blinker.Signal]:
        """Return the signals of others that a call of :meth:`bridge` means, by their names here."""
        raise NotImplementedError

    def handle(self, name: str) -> DomainSignal[Any, ..., Any] | None:
        """Return the declaration of a name that holds here."""
        return self.registry.declarations.get(name)

    # -- declaring ----------------------------------------------------------------------------

    def signal(
        self, name: str, doc: str | None = None, *, on_error: OnError | None = None
    ) -> DomainSignal[Any, ..., Any]:
        """Declare a signal with any payload, or return the handle of one declared before.

        :param name: an identifier in lower_snake, past tense.
        :param doc: one sentence on what it means; the first one given counts.
        :param on_error: its failure policy; ``SIGNALS_KIT_ON_ERROR``, if left out.
        :raises DeclarationError: for a name that is no identifier, a policy that does not exist, or
            one app's policy for a signal of the kit.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> kit.signal("account_funded", "Money arrived in an account.").name
        'account_funded'
        """
        check_name(name)
        policy = check_on_error(on_error, f"Signal {name!r}", "SIGNALS_KIT_ON_ERROR")
        place = call_site(sys._getframe())
        with self.registry.lock:
            handle = self.handle(name)
            if handle is None:
                handle = DomainSignal(
                    name, doc, wiring=self._wiring(), on_error=policy, place=place
                )
                self.registry.declarations[name] = handle
            elif name in self.registry.declarations:
                handle.__doc__ = handle.__doc__ or doc
                handle.on_error = policy or handle.on_error
            elif policy is not None and policy != handle.on_error:
                raise DeclarationError(
                    f"Signal {name!r} was declared for every app of the kit, at {handle.place}, so "
                    f"one app cannot give it on_error={policy!r}: give it there, or set "
                    "app.config['SIGNALS_KIT_ON_ERROR'] for the whole app."
                )
        self._declared(handle)
        return handle

    @overload
    def declare(self, stub: Callable[Concatenate[S, P], None], /) -> DomainSignal[S, P, Any]: ...

    @overload
    def declare(self, stub: Callable[Concatenate[S, P], R], /) -> DomainSignal[S, P, R]: ...

    @overload
    def declare(self, /, *, on_error: OnError | None = None) -> Declare: ...

    def declare(
        self, stub: Callable[..., Any] | None = None, /, *, on_error: OnError | None = None
    ) -> Any:
        """Declare a signal by a stub: its name, doc, sender, payload and result in one place.

        The first parameter is the sender, keyword-only parameters are the payload, the return
        annotation is what receivers return. The body never runs.

        :param stub: the function; or use ``@kit.declare(on_error=…)``.
        :param on_error: its failure policy; ``SIGNALS_KIT_ON_ERROR``, if left out.
        :return: the handle.
        :raises DeclarationError: for a stub that states no sender and keyword-only payload, a
            reserved payload name, or a name that another stub has declared.
        :raises ContractError: if a receiver that is already connected does not fit.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> @kit.declare
        ... def account_funded(sender: object, *, amount: int) -> None:
        ...     "Money arrived in an account."
        >>> account_funded.contract.required
        ('amount',)
        """
        if stub is None:
            return lambda stub: self._declare(stub, on_error)
        return self._declare(stub, on_error)

    def _declare(self, stub: Any, on_error: OnError | None) -> DomainSignal[Any, ..., Any]:
        if not callable(stub) or not hasattr(stub, "__name__"):
            raise DeclarationError(
                f"declare takes a stub function, not {type_name(stub)}; "
                "for a signal without one use signal(name, doc)."
            )
        name = check_name(stub.__name__)
        contract = contract_from(stub)
        policy = check_on_error(on_error, f"Signal {name!r}", "SIGNALS_KIT_ON_ERROR")
        if name in BUILTIN_PAYLOADS:
            raise DeclarationError(
                f"The stub {contract.place} has the name of Flask's own signal {name!r}; rename it."
            )
        with self.registry.lock:
            before = self.handle(name)
            if before is not None and before.contract is not None:
                _refuse_second_stub(before.contract, contract)
            self._check_connected(contract)
            own = self.registry.declarations.get(name)
            handle = own or DomainSignal(name, None, wiring=self._wiring())
            if own is None and before is not None:
                handle.__doc__, handle.on_error = before.__doc__, before.on_error
            handle.contract = contract
            handle.place = contract.place
            handle.on_error = policy or handle.on_error
            handle.__doc__ = stub.__doc__ or handle.__doc__
            self.registry.declarations[name] = handle
        self._declared(handle)
        return handle

    def _check_connected(self, contract: Contract) -> None:
        """Refuse a contract which a receiver that is already connected does not fit."""
        registries = [self.registry]
        for state in self._states():
            own = state.registry.declarations.get(contract.signal)
            if state.registry is self.registry:
                registries.append(state.kit)
            elif own is None or own.contract is None:
                registries.append(state.registry)
        for registry in registries:
            for registration in registry.meant_by(contract.signal):
                if (receiver := registration.receiver) is not None:
                    contract.check_connection(receiver, registration.when)

    def _declared(self, handle: DomainSignal[Any, ..., Any]) -> None:
        for state in self._states():
            state.configure(handle.name)

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
        when: Deciding[S, ...] | None = None,
        delivery: str | Delivery = "immediate",
        on_error: OnError | None = None,
        uid: str | None = None,
        weak: bool = False,
    ) -> Callable[[Fitting[S, P, R]], Connected[S, P]]: ...

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

        May be used before and after ``init_app``. Connecting the same function to the same signal
        and sender again changes its options and nothing else. A function of a reloaded module (the
        same module, qualified name and line) replaces its former self.

        :param signals: names, globs such as ``"account_*"``, handles, or any blinker signal.
        :param sender: only sends by this sender; strings and integers match by value.
        :param priority: higher runs first; within one priority, connection order.
        :param when: ``when(sender, **payload)`` decides at each send.
        :param delivery: ``"immediate"``, ``"after_commit"``, or an object with ``name`` and
            ``deliver(call)``.
        :param on_error: its own failure policy, ``"raise"``, ``"group"`` or ``"isolate"``; the
            signal's, if left out.
        :param uid: a stable name for the receiver, which no other receiver of the kit, or of the
            kit and the app, has: the same module and name replaces the earlier one, another is
            refused.
        :param weak: do not keep the receiver alive.
        :return: a decorator that returns the function unchanged.
        :raises ReceiverError: if what is decorated is not callable.
        :raises ContractError: if it cannot take the payload.
        :raises DeclarationError: for a failure policy that does not exist.
        :raises DuplicateReceiverError: if another receiver has the ``uid``.
        :raises UnknownSignalError: for a name that nobody declared, under ``SIGNALS_KIT_STRICT``.

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

        def decorator(receiver: F) -> F:
            self.connect_receiver(
                receiver,
                signals,
                sender=sender,
                priority=priority,
                when=when,
                delivery=delivery,
                on_error=on_error,
                uid=uid,
                weak=weak,
            )
            return receiver

        return decorator

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
        """Connect a receiver to each of some signals: what ``on`` and every handle come down to."""
        targets = [self._target(signal) for signal in signals]
        if not callable(receiver):
            raise not_callable(receiver, targets[0])
        check_options(receiver, priority, when, on_error, uid)
        sender = self._real_sender(sender, receiver)
        way = find_delivery(delivery)
        for target in targets:
            check_takes_sender(receiver, target)
            known = [state._known_contracts(target) for state in self._states()]
            for contract in dict.fromkeys(chain(self._known_contracts(target), *known)):
                contract.check_connection(receiver, when)
        registrations = [
            Registration(
                receiver,
                target,
                sender=sender,
                priority=priority,
                when=when,
                delivery=way,
                on_error=on_error,
                uid=uid,
                weak=weak,
                forget=self.registry.forget,
            )
            for target in targets
        ]
        others = [] if uid is None else self._other_registries()
        for registration in registrations:  # all are checked before any is connected
            for registry in (self.registry, *others):
                registry.refuse_taken_uid(registration)
            for state in self._states():
                state.check_registration(registration)
        for registration in registrations:
            self._register(registration)

    def _other_registries(self) -> list[Registry]:
        """Return those that meet this one in an app: the kit's, or those of the kit's apps."""
        states = self._states()
        return [s.kit if s.registry is self.registry else s.registry for s in states]

    def _register(self, registration: Registration) -> None:
        with self.registry.lock:
            former = self.registry.replace_former(registration)
            before = self.registry.find(registration.key)
            if before is not None:
                registration.order = before.order
                if registration.weak and not before.weak:
                    registration.keep()
            self.registry.add(registration)
        # An app that is initialised meanwhile either sees the registration or is seen here.
        try:
            for state in self._states():
                state.attach_registration(registration)
        except Exception:
            self._unregister(registration)
            for other in [*former, *([] if before is None else [before])]:
                self.registry.add(other)
                for state in self._states():
                    state.attach_registration(other)
            raise
        for other in former:
            self._unregister(other)

    def _unregister(self, registration: Registration) -> None:
        self.registry.forget(registration)
        for state in self._states():
            state.detach_registration(registration)

    def disconnect(self, receiver: Receiver, *signals: Target, sender: Any = ANY) -> None:
        """Undo :meth:`on`, for all apps that it was said for.

        :param receiver: the receiver; one that is not connected is passed over.
        :param signals: what it was connected to, as it was given to ``on``: a glob ends with the
            glob, not with a name that it takes in. Everything, if left out.
        :param sender: from this sender only; from all, if left out.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> @kit.on("account_*", "request_started")
        ... def note(sender, **extra): ...
        >>> kit.disconnect(note, "account_*")
        """
        if signals:
            targets = [self._target(signal, bridge=False) for signal in signals]
        else:
            targets = [registration.target for registration in self.registry.registrations]
        for target in dict.fromkeys(targets):
            self.disconnect_receiver(receiver, target, sender)

    def disconnect_receiver(self, receiver: Receiver, signal: str, sender: Any = ANY) -> None:
        """Undo ``on`` for one signal, for one sender or for all."""
        key = receiver_key(receiver)
        wanted = None if sender is ANY else sender_key(sender)
        for registration in list(self.registry.of(signal).values()):
            _, other, limited_to = registration.key
            if other == key and (sender is ANY or limited_to == wanted):
                self._unregister(registration)

    def _target(self, signal: Any, *, bridge: bool = True) -> str:
        """Return the name or glob that something given to ``on`` stands for.

        :param bridge: bring in a signal of others that is not there yet; without, its name is
            empty.
        """
        if isinstance(signal, str):
            return signal if is_glob(signal) else check_name(signal)
        if isinstance(signal, DomainSignal):
            if not self._owns(signal):
                raise DeclarationError(
                    f"Signal {signal.name!r} was declared by another kit, or for one app alone; "
                    "use it through the kit or the kit.for_app(app) that declared it."
                )
            return signal.name
        if isinstance(signal, Signal) and any(
            state.find_own(signal.name) is signal for state in self._states()
        ):
            return signal.name
        if isinstance(signal, blinker.Signal):
            return self._bridged_name(signal) or (self.bridge(signal)[0] if bridge else "")
        raise DeclarationError(
            f"{type_name(signal)} is no signal: give a name, a glob, a handle or a blinker signal."
        )

    def _bridged_name(self, source: blinker.Signal) -> str | None:
        for registry in (self.registry, *(state.registry for state in self._states())):
            for name, bridged in registry.bridged.copy().items():
                if bridged is source:
                    return name
        return None

    def _real_sender(self, sender: Any, receiver: Receiver) -> Any:
        try:
            return unwrap(sender)
        except RuntimeError as error:
            raise AppContextError(
                f"Cannot connect {place_of(receiver)} for a sender that is a LocalProxy outside an "
                "app context: push one with 'with app.app_context():', or pass the app itself, "
                "as in kit.for_app(app).on(..., sender=app)."
            ) from error

    # -- bridging and hooking -----------------------------------------------------------------

    def bridge(
        self,
        source: str | blinker.Signal | Mapping[str, Any],
        names: Iterable[str] | None = None,
        prefix: str | None = None,
    ) -> tuple[str, ...]:
        """Bring signals of others into the namespace, under names that ``on`` takes.

        Nothing listens to them until somebody connects here. Where the sender is not the app, a
        signal is passed on only while the app is current.

        :param source: an extension of the catalogue such as ``"flask_login"``, a blinker signal, or
            a blinker namespace. Dashes become underscores.
        :param names: which of its signals; all, if left out.
        :param prefix: put in front of each name; ``"flask_login."`` for that extension, else
            nothing.
        :return: the names here.
        :raises UnknownSignalError: for an extension or a name that is not there.
        :raises ConfigurationError: for an extension that is not installed.
        :raises DeclarationError: for a name that is taken.

        >>> from blinker import Namespace
        >>> from flask_signals_kit import SignalsKit
        >>> theirs = Namespace()
        >>> _ = theirs.signal("invoice-paid")
        >>> SignalsKit().bridge(theirs, prefix="billing.")
        ('billing.invoice_paid',)
        """
        found = self._choose(source, names, prefix)
        with self.registry.lock:
            for name, signal in found.items():
                taken = name in self.registry.declarations or (
                    self.registry.bridged.get(name, signal) is not signal
                )
                if taken or (name in BUILTIN_PAYLOADS and name not in self.registry.bridged):
                    raise DeclarationError(
                        f"Cannot bridge a signal as {name!r}: that name is taken. "
                        "Give the bridge a prefix, as in kit.bridge(source, prefix='theirs.')."
                    )
            self.registry.bridged.update(found)
        for name in found:
            for state in self._states():
                state.relay(name)
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
        """Call a hook for every failure that leaves the app's code, each once in a request.

        The hook is called as ``hook(app, exception, *, source, handled, signal=None, receiver=None,
        **extra)``; ``signal`` is the name of the signal and ``receiver`` the receiver where a
        receiver failed. A hook that fails is logged and changes nothing. For ``teardown`` and
        ``stream`` the request is over and there is no app context: use the hook's ``app``.

        :param hook: the hook; or use ``@kit.on_exception(…)``.
        :param sources: any of ``"request"``, ``"receiver"``, ``"teardown"``, ``"stream"``,
            ``"cli"``, ``"delivery"``; all, if left out.
        :param ignore: exception classes to leave out; ``DEFAULT_IGNORED`` if not given. What is
            no ``Exception``, such as ``SystemExit``, is left out in any case.
        :param handled: call it as well for what an error handler turned into a response.
        :return: the hook, unchanged.
        :raises ReceiverError: if the hook is not callable.
        :raises ConfigurationError: for a source or an ignored class that is none.

        >>> from flask_signals_kit import SignalsKit
        >>> kit = SignalsKit()
        >>> @kit.on_exception(sources=["request", "cli"])
        ... def report(app, exception, *, source, **extra):
        ...     print(source, type(exception).__name__)
        """

        def decorator(hook: Any) -> Any:
            registration = register_hook(hook, sources, ignore, handled)
            with self.registry.lock:
                hooks = self.registry.hooks
                others = [other for other in hooks if not registration.replaces(other)]
                self.registry.hooks = [*others, registration]
            for state in self._states():
                state.add_hook(registration)
            return hook

        return decorator if hook is None else decorator(hook)

    def use_session(self, session: Any) -> None:
        """Name a SQLAlchemy session that after-commit receivers wait for.

        Flask-SQLAlchemy's and Flask-SQLAlchemy-Lite's are found without it. Of several sessions,
        the first counts that has a transaction open when the signal is sent.

        :param session: a ``scoped_session``, or a function that returns the current ``Session`` or
            ``None``.
        :raises ConfigurationError: for anything else; a plain ``sessionmaker`` has no current one.

        >>> from flask import g
        >>> from flask_signals_kit import SignalsKit
        >>> SignalsKit().use_session(lambda: g.get("session"))
        """
        source = source_of(session)
        with self.registry.lock:
            self.registry.sessions.append(source)

    # -- sending ------------------------------------------------------------------------------

    def send(self, signal: Named, sender: Any = None, /, **payload: Any) -> Results:
        """Send a signal in the current app.

        :param signal: a name, or a handle.
        :param sender: who sends; the app itself, if left out. ``current_app`` is unwrapped.
        :param payload: passed to each receiver by name.
        :return: ``(receiver, result)`` for each receiver that ran and returned, in calling order.
        :raises AppContextError: without a current app.
        :raises UnknownSignalError: for a name that nobody declared, under ``SIGNALS_KIT_STRICT``.

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
        """Send a signal so that a failing receiver stops nobody, and say what became of each.

        :return: an ``Ok``, ``Failed`` or ``Deferred`` for each receiver, in calling order.
        """
        target, real = self._prepare(signal, sender, payload)
        return target.send_robust(real, **payload)

    async def send_robust_async(
        self, signal: Named, sender: Any = None, /, **payload: Any
    ) -> list[Outcome[Any]]:
        """Await what :meth:`send_robust` calls; async receivers run one after the other."""
        target, real = self._prepare(signal, sender, payload)
        return await target.send_robust_async(real, **payload)

    def _prepare(self, signal: Named, sender: Any, payload: dict[str, Any]) -> tuple[Signal, Any]:
        if isinstance(signal, blinker.Signal):
            raise DeclarationError(
                "send() takes a name or a handle, not a blinker signal: call signal.send(...) on "
                f"the {type_name(signal)} itself, which reaches its own receivers as well."
            )
        name = self._target(signal)
        if is_glob(name):
            raise DeclarationError(
                f"{name!r} is a pattern, and one signal is sent at a time: give its name."
            )
        state = self._current(f"send {name!r}")
        target = state.find(name)
        if sender is None:
            refuse_named_sender(name, payload)
            return target, state.app
        return target, unwrap(sender)


def _refuse_second_stub(old: Contract, new: Contract) -> None:
    """Let a reloaded module declare its stub again, and no other."""
    same = old.place is not None and new.place is not None and same_function(old.place, new.place)
    if not same:
        raise DeclarationError(
            f"Signal {new.signal!r} is declared twice: by {old.place} and by {new.place}. "
            "Keep one, and import it where it is needed."
        )
