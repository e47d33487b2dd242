"""The signal names that one app knows, and what happens to others."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from ..core.introspection import call_site
from ..core.names import is_glob
from ..errors import UnknownSignalError, how_to_declare, nearest, suggestion
from ..records import Place

if TYPE_CHECKING:
    from ..core.signal import Namespace
    from .registry import Registry

logger: logging.Logger = logging.getLogger("flask_signals_kit")


class KnownNames:
    """The names that one app knows; warns about others, or refuses them.

    :param registry: the app's registry.
    :param namespace: the app's namespace.
    :param strict: whether names that are not declared are refused: ``SIGNALS_KIT_STRICT``.
    """

    def __init__(self, registry: Registry, namespace: Namespace, strict: bool) -> None:
        self._registry = registry
        self._namespace = namespace
        self._strict = strict
        self.unknown: dict[str, tuple[Place | None, str | None]] = {}
        """By each unknown name that was sent: the place of its first send, and the nearest name."""

    def all(self) -> set[str]:
        """Return every name that was declared, bridged or connected."""
        signals = self._namespace.copy().items()
        return self._registry.names() | {name for name, each in signals if _has_receivers(each)}

    def __contains__(self, name: str) -> bool:
        """Tell whether a name is declared or bridged, or has receivers."""
        return (
            _has_receivers(self._namespace.get(name))
            or self._registry.is_declared(name)
            or self._registry.has_connections(name)
        )

    def nearest(self, name: str) -> str | None:
        """Return the declared name that is most similar to this one, or ``None``."""
        return nearest(name, filter(self._registry.is_declared, self.all() - {name}))

    def refuse(self, name: str, place: Place | None = None) -> None:
        """Under ``SIGNALS_KIT_STRICT``, refuse a name that is not declared.

        :param place: where it is used; the nearest caller outside of the kit if omitted.
        :raises UnknownSignalError: with the place and the nearest name.
        """
        if self._strict and not is_glob(name) and not self._registry.is_declared(name):
            place = place or call_site(sys._getframe())
            near = self.nearest(name)
            raise UnknownSignalError(
                f"Signal {name!r}, used by {place}, is not declared, and SIGNALS_KIT_STRICT is on."
                f"{suggestion(near)} {how_to_declare(name, near)}"
            )

    def warn_of_capture(self, name: str) -> None:
        """Warn about a captured name that is not declared and has no receivers.

        :raises UnknownSignalError: under ``SIGNALS_KIT_STRICT``.
        """
        place = call_site(sys._getframe())
        self.refuse(name, place)
        if name not in self:
            _warn("is captured by", name, place, self.nearest(name))

    def warn_of_send(self, name: str) -> None:
        """Warn about a send of a name that is not declared and has no receivers, once per name."""
        if name not in self.unknown:
            place, near = call_site(sys._getframe()), nearest(name, self.all() - {name})
            self.unknown[name] = place, near
            _warn("was sent from", name, place, near)


def _has_receivers(signal: Any) -> bool:
    return signal is not None and signal.has_receivers


def _warn(what: str, name: str, place: Place | None, near: str | None) -> None:
    logger.warning(
        "Signal %r %s %s, but it is not declared and has no receivers.%s",
        name,
        what,
        place,
        suggestion(near),
        extra={"signals_kit_signal": name, "signals_kit_site": str(place)},
    )
