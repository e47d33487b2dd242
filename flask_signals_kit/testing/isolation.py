"""``kit.isolated()``: undoes the changes of a block to a kit and its apps."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..app.registry import Registry


@contextmanager
def isolated(registry: Registry) -> Generator[None, None, None]:
    """Restore a kit's registry, and what its apps have of their own, when a block ends.

    :param registry: the kit's registry.
    """
    snapshots = [registry.snapshot(), *(app._snapshot() for app in registry.apps)]
    try:
        yield
    finally:
        for restore in snapshots:
            restore()
        for app in registry.apps:
            app._sync_hooks()
