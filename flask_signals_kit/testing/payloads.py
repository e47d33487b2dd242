"""Payloads of a declared signal: a sample of each type, or what Hypothesis generates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

from ..app.contract import Contract
from ..app.handle import DomainSignal
from ..errors import ConfigurationError, ContractError, DeclarationError, did_you_mean, type_name
from ..records import SENDER
from .samples import NoSampleError, is_model, why_no_model

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def payloads(
    signal: DomainSignal[Any, ..., Any], /, **strategies: SearchStrategy[Any]
) -> SearchStrategy[dict[str, Any]]:
    """Return a Hypothesis strategy for the payloads of a signal, as dictionaries by name.

    It generates each name by the type that the stub declares, with Hypothesis's ``from_type``.
    Names that a send may omit are sometimes missing.

    :param signal: a handle that ``@kit.declare`` returned.
    :param strategies: strategies by the names of the payload, to use instead. They are required for
        SQLAlchemy models, and for types that Hypothesis has no strategy for.
    :raises ConfigurationError: if Hypothesis is not installed.
    :raises DeclarationError: for a signal without a declared payload.
    :raises ContractError: for a name that is not in the payload, or one without a strategy.

    >>> from flask_signals_kit import SignalsKit
    >>> from flask_signals_kit.testing import payloads
    >>> kit = SignalsKit()
    >>> @kit.declare
    ... def account_funded(sender: str, *, amount: int, note: str = "") -> None:
    ...     "Money arrived in an account."
    >>> payloads(account_funded)
    fixed_dictionaries({'amount': integers()}, optional={'note': text()})
    """
    try:
        from hypothesis import strategies as st
    except ImportError as error:
        raise ConfigurationError(
            "payloads() needs Hypothesis: install the kit with its extra, "
            "pip install 'flask-signals-kit[hypothesis]'."
        ) from error
    contract = getattr(signal, "contract", None)
    if contract is None:
        raise DeclarationError(
            f"payloads() needs the handle of a signal with a declared payload, not "
            f"{getattr(signal, 'name', None) or type_name(signal)!r}: declare it by @kit.declare."
        )
    check_names(contract, strategies, "payloads")
    missing = [name for name in contract.names if name not in strategies]
    made = make_values(contract, missing, _strategy, f"payloads({signal.name}, {{}}=strategy)")
    chosen = made | strategies
    optional = {name: chosen.pop(name) for name in contract.optional}
    return st.fixed_dictionaries(chosen, optional=optional)


def _strategy(kind: Any) -> SearchStrategy[Any]:
    """Return Hypothesis's strategy for a type.

    Of a model, Hypothesis would make instances without values: their constructor needs none.
    """
    from hypothesis import strategies as st

    model = next(filter(is_model, _parts(kind)), None)
    if model is not None:
        raise NoSampleError(why_no_model(model))
    strategy: SearchStrategy[Any] = st.from_type(kind)
    try:
        strategy.validate()
    except Exception as error:  # of Hypothesis, and a TypeError for some protocols
        raise NoSampleError(f"Hypothesis cannot make it: {error}") from error
    return strategy


def _parts(kind: Any) -> Iterator[Any]:
    """Yield a type and the types that it consists of."""
    yield kind
    for argument in get_args(kind):
        yield from _parts(argument)


def make_values(
    contract: Contract, names: Iterable[str], make: Callable[[Any], Any], how: str
) -> dict[str, Any]:
    """Return what a function makes of the declared types of payload names, or of the sender.

    :param contract: the contract of the signal.
    :param names: the names; that of the sender is ``sender``.
    :param make: makes a value of a type, or raises :class:`.NoSampleError`.
    :param how: the code that passes a value instead, with braces for the name.
    :raises ContractError: for a name without a type, or if there is no value of its type.
    """
    hints = contract.resolve_types()
    values: dict[str, Any] = {}
    for name in names:
        try:
            values[name] = make(_type_of(contract, hints, name))
        except NoSampleError as error:
            what = "The sender" if name == SENDER else f"Payload {name!r}"
            declared = f", declared in {contract.place}," if contract.place else ""
            raise ContractError(
                f"{what} of signal {contract.signal!r}{declared} must be passed: {error}. "
                f"Write {how.format(name)}."
            ) from error
    return values


def _type_of(contract: Contract, hints: Mapping[str, Any], name: str) -> Any:
    """Return the declared type of a payload name or of the sender.

    :param hints: the declared types that exist at run time.
    """
    if name in hints:
        return hints[name]
    text = contract.sender_type if name == SENDER else dict(contract.types).get(name)
    if text is None:
        raise NoSampleError("its type is not declared")
    raise NoSampleError(
        f"its type {text} does not exist at run time; it may be imported for type checkers only"
    )


def check_names(contract: Contract, names: Collection[str], function: str) -> None:
    """Refuse names that are not in the payload.

    :param function: the function that they were passed to.
    :raises ContractError: with the names, and the payload.
    """
    unknown = [name for name in names if name not in contract.names]
    if unknown and not contract.open:
        declared = f", declared in {contract.place}" if contract.place else ""
        raise ContractError(
            f"{function}() got {', '.join(map(repr, unknown))}, but the payload of signal "
            f"{contract.signal!r}{declared}, is {', '.join(contract.names) or 'empty'}."
            f"{did_you_mean(unknown[0], contract.names)}"
        )
