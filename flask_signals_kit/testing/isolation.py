"""``kit.isolated()``: undoes the changes of a block to a kit and its apps."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Generator
from contextlib import ExitStack, contextmanager
from types import FrameType

from ..app.changes import Change, observers
from ..app.registry import Registry


@contextmanager
def isolated(registry: Registry) -> Generator[None, None, None]:
    """Restore a kit's registry, and what its apps have of their own, when a block ends.

    What a module does while it is imported in the block for the first time is repeated after the
    block, because a later import does not run its code.

    :param registry: the kit's registry.
    :raises DuplicateReceiverError: if a receiver of such a module has the ``uid`` of another one;
        if several cannot be repeated, the first error.
    """
    registries = [registry, *(app.registry for app in registry.apps)]
    snapshots = [registry.snapshot(), *(app._snapshot() for app in registry.apps)]
    changes: list[tuple[str, Change]] = []

    def note(module: str, change: Change) -> None:
        if change.registry in registries:
            changes.append((module, change))

    try:
        with observing_imports(note):
            yield
    finally:
        with ExitStack() as last_first:  # one that fails does not keep the others from running
            last_first.callback(_sync_hooks, registry)
            last_first.callback(_repeat, changes)
            while snapshots:  # else they keep the signals of a dropped app alive
                last_first.callback(snapshots.pop())


def _sync_hooks(registry: Registry) -> None:
    for app in registry.apps:
        app._sync_hooks()


def _repeat(changes: list[tuple[str, Change]]) -> None:
    """Repeat the changes of modules, except of those whose import failed."""
    errors: list[Exception] = []
    for module, change in changes:
        try:
            if module in sys.modules:
                change.repeat()
        except Exception as error:  # noqa: BLE001  raised below
            errors.append(error)
    if errors:
        raise errors[0]


@contextmanager
def observing_imports(note: Callable[[str, Change], None]) -> Generator[None, None, None]:
    """Note each change that a module makes while it is imported in a block for the first time.

    :param note: called with the name of the module and the change.
    """
    before = frozenset(sys.modules)

    def observe(change: Change) -> None:
        module = _importing(before)
        if module is not None:
            note(module, change)

    observers.append(observe)
    try:
        yield
    finally:
        observers.remove(observe)


def _importing(before: Collection[str]) -> str | None:
    """Return the new module whose top-level code is running; the innermost if there are several.

    :param before: the names of the modules that are not new.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            name = str(frame.f_globals.get("__name__"))
            if name in sys.modules and name not in before:
                return name
        frame = frame.f_back
    return None
