"""The registry of declarations, bridges and connections, of a kit or of one app."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import blinker

from ..bridge import BUILTIN_PAYLOADS, FLASK_SIGNALS
from ..core.connection import Connections, LiveConnection
from ..core.names import is_glob
from ..errors import DeclarationError
from ..records import OnError, Place
from . import changes
from .contract import Contract, check_takes_sender
from .handle import DomainSignal
from .replacements import Replacements, check_uid


class Registry:
    """The declarations and connections of a kit, for all of its apps, or of one app.

    :param owner: the kit or the app's signals; handles resolve and connect through it.
    :param parent: for an app's registry, that of the kit, which applies to the app as well.
    """

    def __init__(self, owner: Any, parent: Registry | None = None) -> None:
        self.owner = owner
        self.parent = parent
        self.chain: tuple[Registry, ...] = (self,) if parent is None else (self, parent)
        """This registry and its parent, in order of precedence."""
        # `snapshot` must list each attribute that a test can change.
        self.declarations: dict[str, DomainSignal[Any, ..., Any]] = {}
        self.bridged: dict[str, blinker.Signal] = dict(FLASK_SIGNALS) if parent is None else {}
        self.hooks: tuple[Any, ...] = ()
        self.sessions: tuple[Any, ...] = ()
        self.outbox: tuple[Any, Any] | None = None
        self.lock: threading.RLock = threading.RLock()
        self.connections: Connections = Connections(self)
        self._apps: tuple[weakref.ref[Any], ...] = ()
        self.replacements: Replacements = Replacements(self.connections, self.lock)
        self._globs: list[tuple[str, ...]] = []  # empty if unknown; replaced when a glob changes

    # -- apps ---------------------------------------------------------------------------------

    @property
    def apps(self) -> list[Any]:
        """The signals of each app that this registry applies to."""
        return [app for ref in self._apps if (app := ref()) is not None]

    def add_app(self, app: Any) -> None:
        """Apply this registry to an app."""
        with self.lock:
            self._apps = (*(ref for ref in self._apps if ref() is not None), weakref.ref(app))

    def remove_app(self, app: Any) -> None:
        """Undo :meth:`add_app`."""
        with self.lock:
            self._apps = tuple(ref for ref in self._apps if ref() not in (None, app))

    def related(self) -> list[Registry]:
        """Return this registry, and those that apply to an app together with it."""
        return [*self.chain, *(app.registry for app in self.apps if app.registry is not self)]

    # -- declarations -------------------------------------------------------------------------

    def handle(self, name: str) -> DomainSignal[Any, ..., Any] | None:
        """Return the declaration of a name; the app's own precedes the kit's."""
        for registry in self.chain:
            if (found := registry.declarations.get(name)) is not None:
                return found
        return None

    def source(self, name: str) -> blinker.Signal | None:
        """Return the third-party signal that is bridged under a name."""
        found = self.bridged.get(name)
        return self.parent.source(name) if found is None and self.parent is not None else found

    def is_domain(self, name: str) -> bool:
        """Tell whether a name is neither one of Flask's signals nor a bridged one."""
        return self.source(name) is None

    def matches(self, name: str, signal: str | blinker.Signal) -> bool:
        """Tell whether a name belongs to a signal, or matches a glob and is a domain signal's.

        :param signal: a name, a glob or a third-party signal.
        """
        if isinstance(signal, str):
            return name == signal or (self.is_domain(name) and fnmatchcase(name, signal))
        return self.source(name) is signal

    def is_declared(self, name: str) -> bool:
        """Tell whether a name was declared or bridged."""
        return self.handle(name) is not None or not self.is_domain(name)

    def names(self) -> set[str]:
        """Return every name that was declared, bridged or connected."""
        own = {*self.declarations.copy(), *self.bridged.copy()}
        own |= {target for target in self.connections.targets if not is_glob(target)}
        return own if self.parent is None else own | self.parent.names()

    def contracts(self, target: str) -> list[Contract]:
        """Return the contracts that a receiver of this name or glob must match."""
        if target in BUILTIN_PAYLOADS:
            return [Contract(signal=target, required=BUILTIN_PAYLOADS[target])]
        handles: list[DomainSignal[Any, ..., Any]] = []
        matches_many = is_glob(target)
        for registry in self.chain[::-1]:
            declared = registry.declarations
            if matches_many:
                handles += [h for name, h in list(declared.items()) if fnmatchcase(name, target)]
            elif target in declared:
                handles.append(declared[target])
        return [*{h.name: h.contract for h in handles if h.contract is not None}.values()]

    def declare(
        self, name: str, doc: str | None, on_error: OnError | None, place: Place | None
    ) -> DomainSignal[Any, ..., Any]:
        """Declare a signal with any payload, or return its handle if it is already declared.

        :raises DeclarationError: for one app's policy for a signal of the kit.
        """
        with self.lock:
            handle = self.handle(name)
            if handle is None:
                handle = DomainSignal(name, doc, owner=self.owner, on_error=on_error, place=place)
                self.declarations[name] = handle
            elif name in self.declarations:
                handle.__doc__ = handle.__doc__ or doc
                handle.on_error = on_error or handle.on_error
            elif on_error is not None and on_error != handle.on_error:
                raise DeclarationError(
                    f"Signal {name!r} was declared for every app of the kit, at {handle.place}, so "
                    f"one app cannot give it on_error={on_error!r}: give it there, or set "
                    "app.config['SIGNALS_KIT_ON_ERROR'] for the whole app."
                )
        self.notify_declared(name)
        changes.notify_declaration(self, handle)
        return handle

    def declare_contract(
        self, contract: Contract, doc: str | None, on_error: OnError | None
    ) -> DomainSignal[Any, ..., Any]:
        """Declare a signal by its contract.

        :raises DeclarationError: for the name of one of Flask's signals or of another stub.
        :raises ContractError: if a receiver that is already connected does not match.
        """
        name = contract.signal
        if name in BUILTIN_PAYLOADS:
            raise DeclarationError(
                f"The stub {contract.place} has the name of Flask's own signal {name!r}; rename it."
            )
        with self.lock:
            before = self.handle(name)
            if before is not None and before.contract is not None:
                before.contract.refuse_second(contract)
            self._check_connected(contract)
            own = self.declarations.get(name)
            handle = own or DomainSignal(name, None, owner=self.owner)
            if own is None and before is not None:
                handle.__doc__, handle.on_error = before.__doc__, before.on_error
            handle.contract, handle.place = contract, contract.place
            handle.on_error = on_error or handle.on_error
            handle.__doc__ = doc or handle.__doc__
            self.declarations[name] = handle
        self.notify_declared(name)
        changes.notify_declaration(self, handle)
        return handle

    def _check_connected(self, contract: Contract) -> None:
        """Refuse a contract that a connected receiver does not match."""
        name = contract.signal
        for registry in self.related():
            own = registry.declarations.get(name)
            if registry.parent is self and own is not None and own.contract is not None:
                continue  # another contract applies in that app
            targets = [name, *(glob for glob in registry.globs if fnmatchcase(name, glob))]
            for connection in (c for target in targets for c in registry.connections.of(target)):
                contract.check_connection(connection)

    def notify_declared(self, name: str) -> None:
        """Notify the apps of a new declaration."""
        for app in self.apps:
            app.declared(name)

    # -- bridges, exception hooks and sessions ------------------------------------------------

    def bridge(self, sources: dict[str, blinker.Signal]) -> None:
        """Add third-party signals by their names here.

        :raises DeclarationError: for a name that is already used.
        """
        with self.lock:
            for name, source in sources.items():
                taken = name in self.declarations or self.bridged.get(name, source) is not source
                if taken or (name in BUILTIN_PAYLOADS and name not in self.bridged):
                    raise DeclarationError(
                        f"Cannot bridge a signal as {name!r}: that name is taken. "
                        "Give the bridge a prefix, as in kit.bridge(source, prefix='theirs.')."
                    )
            self.bridged.update(sources)
        for app in self.apps:
            app.bridged(sources)
        changes.notify(self, partial(self.bridge, sources))

    def add_hook(self, hook: Any) -> None:
        """Add the registration of an exception hook; it replaces an earlier one of the hook."""
        with self.lock:
            self.hooks = (*(other for other in self.hooks if not hook.replaces(other)), hook)
        for app in self.apps:
            app.hooks.add(hook)
        changes.notify(self, partial(self.add_hook, hook))

    def use_session(self, source: Any) -> None:
        """Add the source of a session."""
        with self.lock:
            self.sessions = (*self.sessions, source)
        changes.notify(self, partial(self.use_session, source))

    def use_outbox(self, metadata: Any, engine: Any) -> None:
        """Set the tables and the engine of the outbox."""
        self.outbox = (metadata, engine)
        changes.notify(self, partial(self.use_outbox, metadata, engine))

    # -- connections --------------------------------------------------------------------------

    def resolve(self, name: str, receiver: Hashable = None) -> list[LiveConnection]:
        """Return the connections of a signal: at most one for each receiver and sender.

        This is the only place that decides precedence: a connection by name precedes one by glob,
        and an app's own connection precedes its kit's.

        :param receiver: the key of a receiver, to return only its connections.
        """
        chosen: dict[Any, LiveConnection] = {}
        for registry, target in self._targets(name):
            for connection in registry.connections.of(target, receiver):
                chosen.setdefault(connection.key, connection)
        return [*chosen.values()]

    def has_connections(self, name: str) -> bool:
        """Tell whether a signal has connections."""
        return any(registry.connections.has(target) for registry, target in self._targets(name))

    def _targets(self, name: str) -> Iterator[tuple[Registry, str]]:
        """Yield each registry and target that applies to a signal, in order of precedence."""
        for registry in self.chain:
            yield registry, name
        if self.is_domain(name):
            for registry in self.chain:
                for glob in registry.globs:
                    if fnmatchcase(name, glob):
                        yield registry, glob

    @property
    def globs(self) -> tuple[str, ...]:
        """The globs that receivers are connected to."""
        cache = self._globs
        if not cache:
            cache.append(tuple(filter(is_glob, self.connections.targets)))
        return cache[0]

    def connect(self, connections: list[LiveConnection]) -> None:
        """Add the connections of a receiver to several targets; if one fails, add none.

        :raises ContractError: for a receiver that does not match a contract.
        :raises DuplicateReceiverError: if another function has the ``uid``.
        :raises Exception: what the check of an app or a receiver of ``receiver_connected`` raised.
        """
        apps = self.apps
        for connection in connections:
            self._check(connection, apps)
        added: list[tuple[LiveConnection, list[LiveConnection]]] = []
        try:
            for connection in connections:
                replaced = self.add(connection)
                added.append((connection, replaced))
                self.connections.notify(each.target for each in (connection, *replaced))
                for app in self.apps:  # including an app that is being initialised
                    app.connected(connection)
        except Exception:
            for connection, replaced in reversed(added):
                with self.lock:
                    self.replacements.forget_orders(connection, replaced)
                self.connections.restore(connection, replaced)
            raise
        for connection, replaced in added:
            for former in replaced:
                for app in apps if former.key[0] != connection.key[0] else ():
                    app.disconnected(former)
        if changes.observers:
            changes.notify_connection(self, connections)

    def _check(self, connection: LiveConnection, apps: list[Any]) -> None:
        """Refuse a connection whose receiver could not be connected or called."""
        check_takes_sender(connection.receiver, connection.target)
        registries = dict.fromkeys([self, *(app.registry for app in apps)])
        contracts = [c for registry in registries for c in registry.contracts(connection.target)]
        for contract in dict.fromkeys(contracts):
            contract.check_connection(connection)
        if connection.weak:
            connection.check_weak()
        for app in apps:
            app.check_connection(connection)

    def add(self, connection: LiveConnection) -> list[LiveConnection]:
        """Add a connection; replace those of the same receiver, or of its earlier version.

        The caller notifies the apps, without the lock: a thread that makes a plan may need it.

        :return: the replaced connections.
        :raises DuplicateReceiverError: if another function has the ``uid``.
        """
        with self.lock:
            if connection.options.uid is not None:
                check_uid(connection, [registry.replacements for registry in self.related()])
            same = None if self.parent is None else self.parent.connections.find(connection)
            if same is not None:
                connection.order = same.order
            return self.replacements.add(connection)

    def remove(self, target: str, receiver: Hashable, sender: Hashable) -> list[LiveConnection]:
        """Remove and return the connections of one target and one receiver.

        :param receiver: the receiver's key.
        :param sender: the key of the only sender, or ``None`` for every sender.
        """
        found = [c for c in self.connections.of(target, receiver) if sender in (None, c.key[1])]
        for connection in found:
            self.connections.remove(connection)
            self.replacements.forget_uid(connection)
        changes.notify(self, partial(self.remove, target, receiver, sender))
        return found

    def _connections_changed(self, target: str, wait: bool) -> None:
        if is_glob(target):
            self._globs = []
        for app in self.apps:
            app.connections_changed(target, wait)

    def _connection_lost(self, connection: LiveConnection) -> None:
        self.replacements.forget_uid(connection)
        for app in self.apps:
            app.connection_lost(connection)

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present declarations, bridges and connections."""
        with self.lock:
            restore_connections = self.connections.snapshot()
            restore_replacements = self.replacements.snapshot()
            declarations, bridged = self.declarations.copy(), self.bridged.copy()
            handles = [(handle, vars(handle).copy()) for handle in declarations.values()]
            hooks, sessions, outbox = self.hooks, self.sessions, self.outbox

        def restore() -> None:
            with self.lock:
                names = {*self.declarations, *declarations, *(self.bridged.keys() - bridged)}
                self.declarations, self.bridged = declarations, bridged
                self.hooks, self.sessions, self.outbox = hooks, sessions, outbox
                for handle, attributes in handles:
                    vars(handle).update(attributes)
            restore_connections()
            with self.lock:
                restore_replacements()
            for name in names:
                self.notify_declared(name)

        return restore
