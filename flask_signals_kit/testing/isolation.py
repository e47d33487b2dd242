"""``kit.isolated()``: undoes the changes of a block to a kit and its apps."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..app.registry import Registry


@contextmanager
def isolated(registry: Registry) -> Generator[None, None, None]:
    """Restore a kit's registry, and what its apps have of their own, when a block ends.

    What a module does that is imported in the block for the first time remains, because a later
    import does not run it again.

    :param registry: the kit's registry.
    """
    snapshots = [registry.snapshot(), *(app._snapshot() for app in registry.apps)]
    before = frozenset(sys.modules)
    try:
        yield
    finally:
        make_again = registry.made_by(sys.modules.keys() - before)
        with ExitStack() as last_first:  # one that fails does not keep the others from running
            for app in registry.apps:
                last_first.callback(app._sync_hooks)
            last_first.callback(make_again)
            for restore in reversed(snapshots):
                last_first.callback(restore)
