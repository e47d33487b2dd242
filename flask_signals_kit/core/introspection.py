"""Inspect callables, senders and callers, without calling or printing user objects."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TypeAlias

from ..errors import name_of_type, type_name
from ..records import Emission, Place


def place_of(target: Any) -> Place:
    """Return the place where a callable is defined.

    The attributes that :func:`functools.update_wrapper` sets on an object precede those of its
    class.

    :param target: a function, method, partial, class or instance with ``__call__``.
    :return: its :class:`Place`. No ``repr()`` is called: it may be slow, fail or leak secrets.

    >>> place_of(place_of).name
    'place_of'
    """
    return locate(target)[0]


def locate(target: Any) -> tuple[Place, types.CodeType | None]:
    """Return the place and the code of a callable, inside decorators, methods and partials.

    The code is ``None`` if there is none in Python, as for a builtin or a class.
    """
    if type(target) is types.FunctionType and not hasattr(target, "__wrapped__"):  # the usual case
        code = target.__code__
        module, name, file = target.__module__, target.__qualname__, code.co_filename
        if all(type(text) is str and text.isascii() for text in (module, name, file)):
            return Place(module=module, name=name, file=file, line=code.co_firstlineno), code
    try:
        return _locate(target)
    except Exception:  # noqa: BLE001  a user's metaclass or descriptor may raise
        return Place(module="?", name="?"), None


def is_reloaded(new: Any, old: Any) -> bool:
    """Tell whether a function is the reloaded version of another.

    Their module, qualified name and line are the same, and their code objects differ. Closures that
    one loop makes share a code object.
    """
    return reloaded(new)(old)


def reloaded(new: Any) -> Callable[[Any], bool]:
    """Return a fast version of :func:`is_reloaded` that compares one function with many others."""
    place, code = locate(new)
    key = reload_key(place, code)

    def is_former(old: Any) -> bool:
        if key is None:
            return False
        is_function = type(old) is types.FunctionType and not hasattr(old, "__wrapped__")
        if is_function and old.__code__.co_firstlineno != place.line:  # the usual case
            return False
        former_place, former = locate(old)
        return key == reload_key(former_place, former) and code is not former

    return is_former


def reload_key(place: Place, code: types.CodeType | None) -> Hashable:
    """Return the key that a function shares with its reloaded version; ``None`` without code.

    Several lambdas may be on one line. For these the key contains the code: code objects are equal
    if they were compiled from the same source at the same position.
    """
    if code is None:
        return None
    lambda_code = code if "<lambda>" in place.name else None
    return place.module, place.name, place.line, lambda_code


def _locate(target: Any) -> tuple[Place, types.CodeType | None]:
    # Check the type, not isinstance(): a proxy or a mock pretends to be an instance of other types.
    target = _behind_celery_proxy(target)[0]
    kind = type(target)
    if issubclass(kind, staticmethod):
        return locate(target.__func__)
    if issubclass(kind, functools.partial):
        inner, code = locate(target.func)
        return replace(inner, name=f"partial({inner.name})"), code
    if kind is types.MethodType:
        owner = target.__self__
        owner = owner if issubclass(type(owner), type) else type(owner)
        inner, code = locate(target.__func__)
        name = inner.name if "." in inner.name else f"{owner.__qualname__}.{inner.name}"
        return replace(inner, name=name), code
    if kind is types.FunctionType or kind is types.BuiltinFunctionType:
        code = _code_of(target)
        return _place(target.__module__, target.__qualname__, code), code
    if issubclass(kind, type):
        return _place(target.__module__, target.__qualname__, None), None
    attributes, wrapped = _instance_attributes(target), _innermost(target)
    if isinstance(attributes.get("__qualname__"), str):
        identity = attributes.get("__module__", kind.__module__), attributes["__qualname__"]
    elif wrapped is not target:
        return locate(wrapped)
    else:
        identity = kind.__module__, kind.__qualname__
    run = _delegate_of(target)
    if run is None:
        run = inspect.getattr_static(kind, "__call__", None)
    code = _code_of(target) or _code_of(getattr(run, "__func__", run))
    return _place(*identity, code), code


def _place(module: object, name: object, code: types.CodeType | None) -> Place:
    if code is None:
        return Place(module=_text(module), name=_text(name))
    file, line = _text(code.co_filename), code.co_firstlineno
    return Place(module=_text(module), name=_text(name), file=file, line=line)


def _text(text: object) -> str:
    """Return a plain string that can be encoded; ``"?"`` for an object that is not a string."""
    if not isinstance(text, str):
        return "?"
    if type(text) is str and text.isascii():
        return text  # the same object, to save memory
    return str.encode(text, "utf-8", "backslashreplace").decode()


def _instance_attributes(thing: object) -> dict[str, Any]:
    """Return the instance attributes of an object, without running its code."""
    try:
        own = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return own if type(own) is dict else {}


def _innermost(target: Any) -> Any:
    """Follow ``__wrapped__`` to the innermost object; return the object itself for a cycle."""
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
    if type(thing) is types.FunctionType:  # reading its __dict__ would create one
        return getattr(thing, "__wrapped__", _NOTHING)
    return _instance_attributes(thing).get("__wrapped__", _NOTHING)


def _behind_celery_proxy(target: Any) -> tuple[Any, bool]:
    """Return the object behind a Celery proxy, and whether a call passes the task first.

    The object is the task, or its function if there is no task yet: Celery creates the task when
    the proxy is first used, from the current settings of its app. So the proxy is not used here;
    its stored arguments are read. A shared task does not store ``bind``; a first parameter ``self``
    indicates it.
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
        code = _code_of(function)
        return function, code is not None and code.co_varnames[:1] == ("self",)
    return target, False


def _delegate_of(target: Any) -> Any:
    """Return what an object's ``__call__(*args, **kwargs)`` calls, or ``None`` if it is unknown.

    This is its method ``run``, as in Celery's tasks, or its ``__wrapped__``.
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
    inner = _innermost(target)
    return None if inner is target else inner


def _call_target(target: Any) -> Any:
    """Return the callable that gets the arguments of a call: the object, or its delegate.

    A function returned by a decorator is its own target: it may add or remove arguments.
    """
    target, is_bound = _behind_celery_proxy(target)
    if is_bound:
        return types.MethodType(target, object())
    run = _delegate_of(target)
    return target if run is None else run


def _code_of(target: Any) -> types.CodeType | None:
    inner = _innermost(target)
    if type(inner) is types.FunctionType:
        return inner.__code__
    return target.__code__ if type(target) is types.FunctionType else None


def unwrap(sender: Any) -> Any:
    """Return the object behind a Werkzeug ``LocalProxy``, or the object itself.

    :raises RuntimeError: from Werkzeug, if the proxy is unbound.
    """
    kind, attribute = type(sender), "_get_current_object"
    # The metaclass of a class that is no proxy's may fake attributes.
    if hasattr(kind, attribute) and any(attribute in vars(base) for base in kind.__mro__):
        return sender._get_current_object()
    return sender


def sender_behind(sender: Any) -> Any:
    """Do the same as :func:`unwrap`, but return an unbound proxy as it is."""
    try:
        return unwrap(sender)
    except RuntimeError:  # such as `request` outside of a request, sent by third-party code
        return sender


def sender_key(sender: Any) -> Hashable:
    """Return the key that a sender is matched by.

    Strings and integers match by value, ``True`` and ``False`` only themselves, all other objects
    by identity. The key of an address is a plain ``int``, the key of a value is not, so they cannot
    be confused.
    """
    if type(sender) is str:  # the usual case first: every send to receivers of one sender calls it
        return sender
    try:
        sender = unwrap(sender)
    except RuntimeError:  # an unbound proxy: its own key, which matches no connected sender
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
    """Return the key of a receiver; it is the same for each look-up of one bound method."""
    if type(receiver) is types.MethodType:
        return id(receiver.__func__), id(receiver.__self__)
    if type(receiver) is types.BuiltinMethodType:
        return receiver.__name__, id(receiver.__self__)
    return id(receiver)


def is_async(receiver: Any) -> bool:
    """Tell whether a call returns a coroutine, also for objects with ``async __call__``."""
    if type(receiver) is types.FunctionType:
        return inspect.iscoroutinefunction(receiver)
    receiver, _ = _behind_celery_proxy(receiver)
    while issubclass(kind := type(receiver), (functools.partial, staticmethod)):
        receiver = receiver.func if issubclass(kind, functools.partial) else receiver.__func__
    if not issubclass(kind, (types.FunctionType, types.MethodType, type)):
        call = inspect.getattr_static(kind, "__call__", None)
        if inspect.iscoroutinefunction(call):
            return True
    try:
        return inspect.iscoroutinefunction(receiver)
    except Exception:  # noqa: BLE001  it reads an attribute, and a user's __getattr__ may raise
        return False


def takes_extra(receiver: Any) -> bool:
    """Tell whether a receiver has ``**kwargs``; true if its signature cannot be read."""
    if type(receiver) is types.FunctionType and not _has_other_signature(receiver):
        return bool(receiver.__code__.co_flags & inspect.CO_VARKEYWORDS)
    parameters = parameters_of(receiver)
    return parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters)


def _has_other_signature(function: types.FunctionType) -> bool:
    """Tell whether :mod:`inspect` would read a signature other than the function's own."""
    return any(hasattr(function, name) for name in ("__wrapped__", "__signature__"))


def parameters_of(target: Any, *, follow_wrapped: bool = True) -> list[inspect.Parameter] | None:
    """Return the parameters of a callable, or ``None`` if they cannot be read.

    :param follow_wrapped: as in :func:`signature_of`.
    """
    try:
        return list(signature_of(target, follow_wrapped=follow_wrapped).parameters.values())
    except Exception:  # noqa: BLE001  a builtin without one, or a user's __signature__
        return None


def signature_of(target: Any, *, follow_wrapped: bool = True) -> inspect.Signature:
    """Return a signature without resolving its annotations.

    For a Celery task, and any other object that passes all arguments to its ``run`` or
    ``__wrapped__``, this is the signature of that callable.

    :param follow_wrapped: for a function made with :func:`functools.wraps`, return the signature of
        the wrapped function instead of its own.
    """
    if type(target) is not types.FunctionType:
        target = _call_target(target)
    how: dict[str, Any] = {}
    if sys.version_info >= (3, 14):  # where it evaluates annotations by default
        import annotationlib

        how["annotation_format"] = annotationlib.Format.FORWARDREF
    try:
        return inspect.signature(target, follow_wrapped=follow_wrapped, **how)
    except ValueError:  # a builtin; if it wraps a function, as functools.cache does, use that
        return inspect.signature(_innermost(target), follow_wrapped=follow_wrapped, **how)


Caller: TypeAlias = tuple[str, types.CodeType, int]
"""The place of a call: the module, its code, and the index of the instruction.

Python takes some time to find the line, which most sends do not need.
"""

# A `with` block of the kit is entered through contextlib.
_INTERNAL_MODULES = (f"{__name__.partition('.')[0]}.", "blinker.", "contextlib")


def call_site(frame: types.FrameType | None) -> Place | None:
    """Return the place of the nearest caller outside the kit and blinker."""
    return place_of_caller(find_caller(frame))


def find_caller(frame: types.FrameType | None) -> Caller | None:
    """Return the nearest caller outside the kit and blinker."""
    while frame is not None:
        module: Any = frame.f_globals.get("__name__")
        try:
            is_internal = module.startswith(_INTERNAL_MODULES)
        except (AttributeError, TypeError):  # no text, as in the code of a template
            module, is_internal = "", False
        if not is_internal:
            return module, frame.f_code, frame.f_lasti
        frame = frame.f_back
    return None


def place_of_caller(caller: Caller | None) -> Place | None:
    """Return the place of a caller."""
    if caller is None:
        return None
    module, code, index = caller
    return _place_of_call(module, code, index, code.co_filename, code.co_qualname)


@functools.lru_cache(maxsize=1024)
def _place_of_call(module: str, code: types.CodeType, index: int, file: str, name: str) -> Place:
    """Return the place of a call.

    :param file: the code's file; the same code may be in several, and is equal then.
    :param name: the code's qualified name, likewise.
    """
    lines = (line for start, end, line in code.co_lines() if start <= index < end)
    return Place(
        module=module,
        name=name,
        file=_text(file),
        line=next(lines, code.co_firstlineno),
    )


def frame_place(error: BaseException) -> Place | None:
    """Return the place that raised an exception: the last frame of its traceback."""
    traceback = error.__traceback__
    if traceback is None:
        return None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    frame = traceback.tb_frame
    module = frame.f_globals.get("__name__")
    name = module if type(module) is str else ""
    return place_of_caller((name, frame.f_code, traceback.tb_lasti))


LONGEST_CHAIN = 8
"""The number of signals that a note on a recursion names."""


def explain_recursion(error: RecursionError) -> None:
    """Add a note with the chain of signals that led to a ``RecursionError``, innermost last.

    This may exceed the stack itself; then the next outer send tries again.
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


class LazyEmission:
    """The record of an emission, created on first use.

    The data for the record is collected when the signal is sent. It includes neither the sender nor
    the payload, because threads and tasks copy the context that carries this object.

    :param signal: the signal's name.
    :param sender: the sender.
    :param payload: the payload, or its names.
    :param request: the description of the current request, or ``None``.
    :param caller: the place of the send, or ``None`` if it is unknown.
    :param number: its number in the journal, or ``None`` without one.
    """

    __slots__ = (
        "_number",
        "_payload",
        "_record",
        "_sender",
        "_signal",
        "caller",
        "correlation_id",
        "request",
    )

    def __init__(
        self,
        signal: str,
        sender: Any,
        payload: Iterable[str],
        request: str | None,
        caller: Caller | None,
        number: int | None = None,
    ) -> None:
        self._signal = signal
        kind = type(sender)
        if hasattr(kind, "_get_current_object"):
            sender = sender_behind(sender)
            kind = type(sender)
        self._sender: str | type = kind
        if sender is None or issubclass(kind, type):
            self._sender = type_name(sender)
        self._payload = tuple(payload)
        self.caller: Caller | None = caller
        self.request: str | None = request
        """The description of the request that it was sent in, or ``None``."""
        self._number = number
        self._record: Emission | None = None
        self.correlation_id: str | None = None
        """The id that the messages of this emission share, once there is one."""

    @property
    def sender(self) -> str:
        """The type of the sender."""
        kind = self._sender
        return kind if isinstance(kind, str) else name_of_type(kind)

    @property
    def site(self) -> Place | None:
        """Where it was sent."""
        return place_of_caller(self.caller)

    @property
    def emission(self) -> Emission:
        """The record."""
        if self._record is None:
            self._record = Emission(
                signal=self._signal,
                sender=self.sender,
                payload=self._payload,
                site=self.site,
                request=self.request,
                number=self._number,
            )
        return self._record


Parent: TypeAlias = tuple[int, int | None]
"""The emission whose receiver sent another one: its number, and the order of the receiver's
connection, or ``None`` where the time tells which receiver it was."""

parent_emission: ContextVar[Parent | None] = ContextVar("signals_kit_parent", default=None)
"""The observed emission that is calling a receiver in this context."""

carried_emission: ContextVar[LazyEmission | None] = ContextVar("signals_kit_emission", default=None)
"""The emission being delivered, if its send is not on the stack: in another thread or later."""
