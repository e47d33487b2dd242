"""What can be known of a callable, a sender or a caller without calling or printing anything."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Hashable
from typing import Any

from .records import Place


def place_of(target: Any) -> Place:
    """Describe where a callable is defined, without calling or printing anything of its owner's.

    :param target: a function, method, partial, class or instance with ``__call__``.
    :return: its :class:`Place`. No ``repr()`` is taken: it may be slow, fail or leak secrets.

    >>> place_of(place_of).name
    'place_of'
    """
    if isinstance(target, staticmethod):
        return place_of(target.__func__)
    if isinstance(target, functools.partial):
        inner = place_of(target.func)
        return Place(
            module=inner.module, name=f"partial({inner.name})", file=inner.file, line=inner.line
        )
    if isinstance(target, types.MethodType):
        owner = target.__self__ if isinstance(target.__self__, type) else type(target.__self__)
        inner = place_of(target.__func__)
        name = inner.name if "." in inner.name else f"{owner.__qualname__}.{inner.name}"
        return Place(module=inner.module, name=name, file=inner.file, line=inner.line)
    if isinstance(target, types.FunctionType):
        module, name = target.__module__, target.__qualname__
        inner_most = inspect.unwrap(target)
        code = getattr(inner_most, "__code__", target.__code__)
        return Place(module=str(module), name=name, file=code.co_filename, line=code.co_firstlineno)
    if isinstance(target, types.BuiltinFunctionType):
        return Place(module=str(target.__module__), name=target.__qualname__)
    if isinstance(target, type):
        return Place(module=target.__module__, name=target.__qualname__)
    owner = type(target)
    call = inspect.getattr_static(owner, "__call__", None)
    file = line = None
    if isinstance(call, types.FunctionType):
        file, line = call.__code__.co_filename, call.__code__.co_firstlineno
    return Place(module=owner.__module__, name=owner.__qualname__, file=file, line=line)


def type_name(value: Any) -> str:
    """Name the type of a value, such as ``shop.models.Account``; builtins without their module.

    A class that is a value itself is named as such, and ``None`` is ``"None"``.

    >>> type_name(3), type_name(None)
    ('int', 'None')
    """
    if value is None:
        return "None"
    kind = value if isinstance(value, type) else type(value)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else (f"{kind.__module__}.{kind.__qualname__}")
    )
    return f"type {name}" if isinstance(value, type) else name


def unwrap(sender: Any) -> Any:
    """Return what a Werkzeug ``LocalProxy`` like ``current_app`` stands for, or the thing itself.

    :raises RuntimeError: Werkzeug's own, if the proxy stands for nothing here.
    """
    if hasattr(type(sender), "_get_current_object"):
        return sender._get_current_object()
    return sender


def sender_key(sender: Any) -> Hashable:
    """Return the key that a sender is matched by.

    Strings and integers match by value, ``True`` and ``False`` only themselves, all else by
    identity. An address is a plain ``int`` and a value is not, so the two cannot be mistaken for
    each other.
    """
    sender = unwrap(sender)
    if isinstance(sender, str):
        return str.__str__(sender)
    if isinstance(sender, int) and not isinstance(sender, bool):
        return int, int(sender)
    if isinstance(sender, types.MethodType):
        return id(sender.__func__), id(sender.__self__)
    return id(sender)


def receiver_key(receiver: Any) -> Hashable:
    """Return the key that a receiver is known by: the same for each look-up of one bound method."""
    if isinstance(receiver, types.MethodType):
        return id(receiver.__func__), id(receiver.__self__)
    if isinstance(receiver, types.BuiltinMethodType):
        return receiver.__name__, id(receiver.__self__)
    return id(receiver)


def is_async(receiver: Any) -> bool:
    """Tell whether calling this gives a coroutine, for objects with ``async __call__`` as well."""
    while isinstance(receiver, (functools.partial, staticmethod)):
        receiver = receiver.func if isinstance(receiver, functools.partial) else receiver.__func__
    if inspect.iscoroutinefunction(receiver):
        return True
    if isinstance(receiver, (types.FunctionType, types.MethodType, type)):
        return False
    return inspect.iscoroutinefunction(inspect.getattr_static(type(receiver), "__call__", None))


def takes_extra(receiver: Any) -> bool:
    """Tell whether a receiver has ``**kwargs``; one whose signature cannot be read is trusted."""
    try:
        parameters = signature_of(receiver).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def signature_of(target: Any, *, follow_wrapped: bool = True) -> inspect.Signature:
    """Read a signature without resolving its annotations.

    :param follow_wrapped: read what :func:`functools.wraps` says is inside, and not what is called.
    """
    if sys.version_info >= (3, 14):  # there, reading a signature evaluates annotations by default
        import annotationlib

        return inspect.signature(
            target,
            follow_wrapped=follow_wrapped,
            annotation_format=annotationlib.Format.FORWARDREF,
        )
    return inspect.signature(target, follow_wrapped=follow_wrapped)


_PLUMBING = (f"{__name__.partition('.')[0]}.", "blinker.")


def call_site(frame: types.FrameType | None) -> Place | None:
    """Describe the nearest caller that is neither the kit nor blinker."""
    found = call_frame(frame)
    if found is None:
        return None
    code, module = found.f_code, str(found.f_globals.get("__name__", ""))
    return Place(module=module, name=code.co_qualname, file=code.co_filename, line=found.f_lineno)


def call_frame(frame: types.FrameType | None) -> types.FrameType | None:
    """Find the frame of the nearest caller that is neither the kit nor blinker."""
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if not isinstance(module, str) or not module.startswith(_PLUMBING):
            return frame
        frame = frame.f_back
    return None
