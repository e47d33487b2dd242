"""What can be known of a callable, a sender or a caller without calling or printing anything."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..records import Place


def place_of(target: Any) -> Place:
    """Describe where a callable is defined, without calling or printing anything of its owner's.

    What a decorator's object says of itself, as :func:`functools.update_wrapper` has it do, counts
    for more than its class.

    :param target: a function, method, partial, class or instance with ``__call__``.
    :return: its :class:`Place`. No ``repr()`` is taken: it may be slow, fail or leak secrets.

    >>> place_of(place_of).name
    'place_of'
    """
    return look_at(target)[0]


def look_at(target: Any) -> tuple[Place, types.CodeType | None]:
    """Return the place of a callable, and the code in it, behind decorators, methods and partials.

    The code is ``None`` where there is none in Python, as for a builtin or a class.
    """
    if type(target) is types.FunctionType and not hasattr(target, "__wrapped__"):  # the usual case
        code = target.__code__
        module, name, file = target.__module__, target.__qualname__, code.co_filename
        if all(type(text) is str and text.isascii() for text in (module, name, file)):
            return Place(module=module, name=name, file=file, line=code.co_firstlineno), code
    try:
        return _look_at(target)
    except Exception:  # noqa: BLE001  a user's metaclass or descriptor: no more can be known
        return Place(module="?", name="?"), None


def is_reloaded(new: Any, old: Any) -> bool:
    """Tell whether a function is the new self of another, made when its module was loaded again.

    Module, qualified name and line are the same, and the code object is another: all closures that
    one loop makes share a code object.
    """
    return reloaded(new)(old)


def reloaded(new: Any) -> Callable[[Any], bool]:
    """Return what :func:`is_reloaded` tells of one function and many others, only faster."""
    here, code = look_at(new)
    key = reload_key(here, code)

    def is_former(old: Any) -> bool:
        if key is None:
            return False
        is_function = type(old) is types.FunctionType and not hasattr(old, "__wrapped__")
        if is_function and old.__code__.co_firstlineno != here.line:  # the usual case
            return False
        there, former = look_at(old)
        return key == reload_key(there, former) and code is not former

    return is_former


def reload_key(place: Place, code: types.CodeType | None) -> Hashable:
    """Return what a function and its reloaded self have in common; ``None`` without code.

    Several lambdas may stand on one line. Of these, the code tells which is which: code objects are
    equal if they were compiled from the same source at the same position.
    """
    if code is None:
        return None
    lambda_code = code if "<lambda>" in place.name else None
    return place.module, place.name, place.line, lambda_code


def _look_at(target: Any) -> tuple[Place, types.CodeType | None]:
    # The type is asked, and not isinstance(): to that, a proxy or a mock passes for something else.
    target = _in_celery_proxy(target)[0]
    kind = type(target)
    if issubclass(kind, staticmethod):
        return look_at(target.__func__)
    if issubclass(kind, functools.partial):
        inner, code = look_at(target.func)
        return replace(inner, name=f"partial({inner.name})"), code
    if kind is types.MethodType:
        owner = target.__self__
        owner = owner if issubclass(type(owner), type) else type(owner)
        inner, code = look_at(target.__func__)
        name = inner.name if "." in inner.name else f"{owner.__qualname__}.{inner.name}"
        return replace(inner, name=name), code
    if kind is types.FunctionType or kind is types.BuiltinFunctionType:
        code = _code_inside(target)
        return _place(target.__module__, target.__qualname__, code), code
    if issubclass(kind, type):
        return _place(target.__module__, target.__qualname__, None), None
    said, wrapped = _own(target), _inside(target)
    if isinstance(said.get("__qualname__"), str):
        identity = said.get("__module__", kind.__module__), said["__qualname__"]
    elif wrapped is not target:
        return look_at(wrapped)
    else:
        identity = kind.__module__, kind.__qualname__
    run = _run_of(target)
    if run is None:
        run = inspect.getattr_static(kind, "__call__", None)
    code = _code_inside(target) or _code_inside(getattr(run, "__func__", run))
    return _place(*identity, code), code


def _place(module: object, name: object, code: types.CodeType | None) -> Place:
    if code is None:
        return Place(module=_text(module), name=_text(name))
    file, line = _text(code.co_filename), code.co_firstlineno
    return Place(module=_text(module), name=_text(name), file=file, line=line)


def _text(text: object) -> str:
    """Return a plain string that every encoding takes; ``"?"`` for what is none."""
    if not isinstance(text, str):
        return "?"
    if type(text) is str and text.isascii():
        return text  # the very string, which others hold as well
    return str.encode(text, "utf-8", "backslashreplace").decode()


def _own(thing: object) -> dict[str, Any]:
    """Return the attributes that a thing itself has; neither its class nor its code is asked."""
    try:
        own = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return own if type(own) is dict else {}


def _inside(target: Any) -> Any:
    """Follow ``__wrapped__`` to the innermost; where it goes round in circles, stay."""
    seen = {id(target)}
    inner = target
    while (wrapped := _wrapped_by(inner)) is not _NOTHING:
        inner = wrapped
        if id(inner) in seen:
            return target
        seen.add(id(inner))
    return inner


_NOTHING = object()


def _wrapped_by(thing: Any) -> Any:
    if type(thing) is types.FunctionType:  # asked for it, each would get a __dict__, and keep it
        return getattr(thing, "__wrapped__", _NOTHING)
    return _own(thing).get("__wrapped__", _NOTHING)


def _in_celery_proxy(target: Any) -> tuple[Any, bool]:
    """Return what a proxy of Celery's stands for, and whether a call passes the task itself first.

    That is the task, or its function if there is no task yet: Celery makes it when the proxy is
    first used, from the settings that its app has then. So the proxy is not used here, and what it
    was made with is read. A shared task does not keep its ``bind``: a ``self`` tells.
    """
    celery = sys.modules.get("celery.local")
    if celery is None or not issubclass(type(target), celery.Proxy):
        return target, False
    own = functools.partial(object.__getattribute__, target)
    with suppress(AttributeError):
        return own("__thing"), False
    with suppress(
        AttributeError, KeyError, TypeError
    ):  # private names, which another version of Celery may change
        if own("_Proxy__args"):
            return own("_Proxy__args")[0], bool(own("_Proxy__kwargs").get("bind"))
        function = inspect.getclosurevars(own("_Proxy__local")).nonlocals["fun"]
        code = _code_inside(function)
        return function, code is not None and code.co_varnames[:1] == ("self",)
    return target, False


def _run_of(target: Any) -> Any:
    """Return what an object's ``__call__(*args, **kwargs)`` calls, or ``None`` if that is unknown.

    That is its ``run``, as of Celery's tasks, or what it keeps in ``__wrapped__``.
    """
    kind = type(target)
    if kind is types.FunctionType or kind is types.MethodType:
        return None
    call, run = (inspect.getattr_static(kind, name, None) for name in ("__call__", "run"))
    if type(call) is not types.FunctionType:
        return None
    code = call.__code__
    takes_all = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    if code.co_argcount > 1 or code.co_kwonlyargcount or code.co_flags & takes_all != takes_all:
        return None
    if type(run) is staticmethod:
        return run.__func__
    if type(run) is types.FunctionType:
        return types.MethodType(run, target)
    inner = _inside(target)
    return None if inner is target else inner


def _function_in(target: Any) -> Any:
    """Return what gets the arguments of a call, where that is not the object itself.

    A function that is a decorator's is not looked into: it may add arguments and take some away.
    """
    target, is_bound = _in_celery_proxy(target)
    if is_bound:
        return types.MethodType(target, object())
    run = _run_of(target)
    return target if run is None else run


def _code_inside(target: Any) -> types.CodeType | None:
    inner = _inside(target)
    if type(inner) is types.FunctionType:
        return inner.__code__
    return target.__code__ if type(target) is types.FunctionType else None


def type_name(value: Any) -> str:
    """Name the type of a value, such as ``shop.models.Account``; builtins without their module.

    A class that is a value itself is named as such, and ``None`` is ``"None"``.

    >>> type_name(3), type_name(None)
    ('int', 'None')
    """
    if value is None:
        return "None"
    is_class = issubclass(type(value), type)
    kind = value if is_class else type(value)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else (f"{kind.__module__}.{kind.__qualname__}")
    )
    return f"type {name}" if is_class else name


def unwrap(sender: Any) -> Any:
    """Return what a Werkzeug ``LocalProxy`` like ``current_app`` stands for, or the thing itself.

    :raises RuntimeError: Werkzeug's own, if the proxy stands for nothing here.
    """
    kind = type(sender)
    if hasattr(kind, "_get_current_object") and is_proxy(kind):
        return sender._get_current_object()
    return sender


def is_proxy(kind: type) -> bool:
    """Tell a proxy's class from one whose metaclass has an attribute of any name."""
    return any("_get_current_object" in vars(base) for base in kind.__mro__)


def sender_behind(sender: Any) -> Any:
    """Return what :func:`unwrap` does, and a proxy that stands for nothing here as it is."""
    try:
        return unwrap(sender)
    except RuntimeError:  # such as `request` outside of a request, sent by code of others
        return sender


def sender_key(sender: Any) -> Hashable:
    """Return the key that a sender is matched by.

    Strings and integers match by value, ``True`` and ``False`` only themselves, all else by
    identity. An address is a plain ``int`` and a value is not, so the two cannot be mistaken for
    each other.
    """
    if type(sender) is str:  # what is usual, at once: each send to receivers of a sender asks
        return sender
    try:
        sender = unwrap(sender)
    except RuntimeError:  # a proxy for nothing: known by itself, it is no sender that was connected
        return id(sender)
    kind = type(sender)
    if issubclass(kind, str):
        return str.__str__(sender)
    if issubclass(kind, int) and kind is not bool:
        return int, int(sender)
    if kind is types.MethodType:
        return id(sender.__func__), id(sender.__self__)
    return id(sender)


def receiver_key(receiver: Any) -> Hashable:
    """Return the key that a receiver is known by: the same for each look-up of one bound method."""
    if type(receiver) is types.MethodType:
        return id(receiver.__func__), id(receiver.__self__)
    if type(receiver) is types.BuiltinMethodType:
        return receiver.__name__, id(receiver.__self__)
    return id(receiver)


def is_async(receiver: Any) -> bool:
    """Tell whether calling this gives a coroutine, for objects with ``async __call__`` as well."""
    if type(receiver) is types.FunctionType:
        return inspect.iscoroutinefunction(receiver)
    receiver, _ = _in_celery_proxy(receiver)
    while issubclass(kind := type(receiver), (functools.partial, staticmethod)):
        receiver = receiver.func if issubclass(kind, functools.partial) else receiver.__func__
    if not issubclass(kind, (types.FunctionType, types.MethodType, type)):
        call = inspect.getattr_static(kind, "__call__", None)
        if inspect.iscoroutinefunction(call):
            return True
    try:
        return inspect.iscoroutinefunction(receiver)
    except Exception:  # noqa: BLE001  it looks for a mark, and somebody's __getattr__ may raise
        return False


def takes_extra(receiver: Any) -> bool:
    """Tell whether a receiver has ``**kwargs``; one whose signature cannot be read is trusted."""
    if type(receiver) is types.FunctionType and not _has_other_signature(receiver):
        return bool(receiver.__code__.co_flags & inspect.CO_VARKEYWORDS)
    parameters = parameters_of(receiver)
    return parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters)


def _has_other_signature(function: types.FunctionType) -> bool:
    """Tell whether :mod:`inspect` would read another signature than the function's own."""
    return any(hasattr(function, name) for name in ("__wrapped__", "__signature__"))


def parameters_of(target: Any, *, follow_wrapped: bool = True) -> list[inspect.Parameter] | None:
    """Read the parameters of a callable, or return ``None`` where only a call can tell them.

    :param follow_wrapped: as in :func:`signature_of`.
    """
    try:
        return list(signature_of(target, follow_wrapped=follow_wrapped).parameters.values())
    except Exception:  # noqa: BLE001  a builtin without one, or somebody's __signature__
        return None


def signature_of(target: Any, *, follow_wrapped: bool = True) -> inspect.Signature:
    """Read a signature without resolving its annotations.

    Of a Celery task, and of any other object that hands all arguments on to its ``run`` or to what
    it keeps in ``__wrapped__``, it is the signature of that.

    :param follow_wrapped: read what :func:`functools.wraps` says is inside, and not what is called.
    """
    if type(target) is not types.FunctionType:
        target = _function_in(target)
    how: dict[str, Any] = {}
    if sys.version_info >= (3, 14):  # there, reading a signature evaluates annotations by default
        import annotationlib

        how["annotation_format"] = annotationlib.Format.FORWARDREF
    try:
        return inspect.signature(target, follow_wrapped=follow_wrapped, **how)
    except ValueError:  # a builtin: one that wraps a function, such as functools.cache, has its
        return inspect.signature(_inside(target), follow_wrapped=follow_wrapped, **how)


# A `with` block of the kit's is entered through the standard library.
_PLUMBING = (f"{__name__.partition('.')[0]}.", "blinker.", "contextlib")


def call_site(frame: types.FrameType | None) -> Place | None:
    """Describe the nearest caller that is neither the kit nor blinker."""
    found = call_frame(frame)
    if found is None:
        return None
    code, module = found.f_code, str(found.f_globals.get("__name__", ""))
    file = _text(code.co_filename)
    return Place(module=module, name=code.co_qualname, file=file, line=found.f_lineno)


def call_frame(frame: types.FrameType | None) -> types.FrameType | None:
    """Find the frame of the nearest caller that is neither the kit nor blinker."""
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if not isinstance(module, str) or not module.startswith(_PLUMBING):
            return frame
        frame = frame.f_back
    return None


LONGEST_CHAIN = 8
"""How many signals a note on a recursion names."""


def explain_recursion(error: RecursionError) -> None:
    """Add to Python's own error the chain of signals that led to it, innermost last.

    It may run out of stack itself; then the next send further up tries again.
    """
    if getattr(error, "__notes__", None):
        return
    chain: list[str] = []
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and len(chain) < LONGEST_CHAIN:
        if frame.f_code.co_name == "send":
            name = getattr(frame.f_locals.get("self"), "name", None)
            chain += [name] if isinstance(name, str) else []
        frame = frame.f_back
    error.add_note(f"Signals sent one within another: … → {' → '.join(reversed(chain))}.")
