"""Changes of registries, as the testing tools observe them and make them again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..core.connection import LiveConnection
    from .handle import DomainSignal
    from .registry import Registry


class Change(NamedTuple):
    """A change of a registry."""

    registry: Registry
    """The registry."""
    repeat: Callable[[], object]
    """Makes the change again."""
    connections: Collection[LiveConnection]
    """The connections that it made."""


observers: list[Callable[[Change], None]] = []
"""Called after each change of any registry, also of one that is made later. Only the testing tools
add to it, for the length of a block."""


def notify(
    registry: Registry,
    repeat: Callable[[], object],
    connections: Collection[LiveConnection] = (),
) -> None:
    """Call the observers with a change."""
    for observe in tuple(observers):
        observe(Change(registry, repeat, connections))


def notify_declaration(registry: Registry, handle: DomainSignal[Any, ..., Any]) -> None:
    """Call the observers with a declaration, which may be that of the registry's parent."""
    name, attributes = handle.name, vars(handle).copy()
    owner = next(each for each in registry.chain if name in each.declarations)

    def repeat() -> None:
        vars(handle).update(attributes)
        owner.declarations[name] = handle
        owner.notify_declared(name)

    notify(registry, repeat)


def notify_connection(registry: Registry, connections: list[LiveConnection]) -> None:
    """Call the observers with new connections, which need their bridges and sessions."""
    targets = {connection.target for connection in connections}
    bridged = {name: source for name, source in registry.bridged.items() if name in targets}
    is_delivered = any(connection.options.delivery is not None for connection in connections)
    related = registry.related() if is_delivered else []
    needed = [(each, each.sessions, each.outbox) for each in related]

    def repeat() -> None:
        for each, sessions, outbox in needed:
            each.sessions = tuple(dict.fromkeys((*each.sessions, *sessions)))
            each.outbox = each.outbox or outbox
        registry.bridge(bridged)
        registry.connect([connection.copy() for connection in connections if connection.is_alive])

    notify(registry, repeat, connections)
