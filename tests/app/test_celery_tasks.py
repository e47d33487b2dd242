"""Celery tasks as receivers: described by their function, and created when Celery creates them."""

from collections.abc import Iterator
from functools import cache, partial, update_wrapper
from typing import Any

import pytest
from celery import Celery, _state, shared_task
from celery.app.task import Task
from flask import Flask

from flask_signals_kit import ContractError, SignalsKit
from flask_signals_kit.core.introspection import is_async, place_of, takes_extra


@pytest.fixture
def celery(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """Give a Celery app that is the current one, without settings yet."""
    before = _state._get_current_app()
    monkeypatch.setattr(_state, "default_app", None)
    app = Celery("shop", broker="memory://", set_as_current=True)
    yield app
    before.set_current()


@pytest.fixture
def kit() -> SignalsKit:
    """Give a kit with a declared signal."""
    kit = SignalsKit()

    @kit.declare
    def account_funded(sender: str, *, amount: int) -> None:
        """Money arrived."""

    return kit


def mail(account: str, *, amount: int) -> str:
    """Send a mail."""
    return f"{account}: {amount}"


def retry(self: Any, account: str, *, amount: int) -> str:
    """Send a mail, from a task that gets itself."""
    return f"{self.name.rpartition('.')[2]}: {amount}"


def unfit(account: str) -> None:
    """Take no payload."""


def unfit_bound(self: Any, account: str) -> None:
    """Take the task, and no payload."""


def make(celery: Celery, kind: str, function: Any, bind: bool = False) -> Any:
    """Make a task of a function: Celery's proxy, one of a shared task, or the task itself."""
    if kind == "shared":
        return shared_task(function, bind=bind) if bind else shared_task(function)
    task = celery.task(function, bind=bind) if bind else celery.task(function)
    return task._get_current_object() if kind == "made" else task


KINDS = pytest.mark.parametrize("kind", ["lazy", "shared", "made"])


@KINDS
@pytest.mark.parametrize("function", [mail, retry])
def test_task_is_described_as_its_function_and_called_as_the_task(
    celery: Celery, kit: SignalsKit, kind: str, function: Any
) -> None:
    """Module, name, file and line are the function's; a send calls the task object itself."""
    app = Flask("shop")
    kit.init_app(app)
    task = make(celery, kind, function, bind=function is retry)
    assert kit.on("account_funded")(task) is task
    [connection] = kit.for_app(app).namespace.signal("account_funded").connections
    assert connection.receiver == place_of(function)
    assert not connection.takes_extra
    with app.app_context():
        [(receiver, result)] = kit.send("account_funded", "acme", amount=5)
    assert receiver is task
    assert result == ("acme: 5" if function is mail else "retry: 5")


@KINDS
@pytest.mark.parametrize("function", [unfit, unfit_bound])
def test_task_function_is_checked_against_the_contract(
    celery: Celery, kit: SignalsKit, kind: str, function: Any
) -> None:
    """It is refused as the function itself is, with its own place."""
    task = make(celery, kind, function, bind=function is unfit_bound)
    with pytest.raises(ContractError, match=r"unfit.*test_celery_tasks.*does not take 'amount'"):
        kit.on("account_funded")(task)


@pytest.mark.parametrize("shared", [False, True])
def test_connecting_a_task_does_not_create_it(
    celery: Celery, kit: SignalsKit, shared: bool
) -> None:
    """Celery creates it at its first use, with the settings that its app has then."""
    app = Flask("shop")
    kit.init_app(app)
    task = make(celery, "shared" if shared else "lazy", mail)
    kit.on("account_funded")(task)
    with app.app_context():
        assert [problem.kind for problem in kit.check()] == ["no_extra"]
    assert not celery.finalized
    celery.conf.task_ignore_result = True
    assert task.ignore_result


def test_class_based_task_is_described_as_its_class(celery: Celery, kit: SignalsKit) -> None:
    """With the line of its `run`, which is checked."""

    class Mail(Task):  # type: ignore[misc]
        name = "mail"

        def run(self, account: str) -> None:
            """Take no payload."""

    task = celery.register_task(Mail())
    place = place_of(task)
    assert place.name.endswith("Mail")
    assert (place.file, place.line) == (__file__, Mail.run.__code__.co_firstlineno)
    with pytest.raises(ContractError, match="does not take 'amount'"):
        kit.on("account_funded")(task)


class Job:
    """An object that forwards its arguments, as Celery's tasks do."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run."""
        return self.run(*args, **kwargs)

    def run(self, account: str, **extra: Any) -> None:
        """Do it."""


class Wrapped:
    """A decorator's object that changes nothing."""

    def __init__(self, function: Any) -> None:
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.__wrapped__(*args, **kwargs)  # type: ignore[attr-defined]


class Worker:
    """An object whose `run` is something else."""

    def __call__(self, account: str, *, amount: int, **extra: Any) -> None:
        """Receive."""

    def run(self) -> None:
        """Work."""


def test_forwarding_object_is_checked_by_its_target(kit: SignalsKit) -> None:
    """A `run` method, or `__wrapped__`; but not if `__call__` itself has parameters."""
    assert takes_extra(Job())
    kit.on("account_funded")(Job())
    kit.on("account_funded")(Worker())
    assert place_of(Worker()).line == Worker.__call__.__code__.co_firstlineno
    assert place_of(Job()).line == Job.run.__code__.co_firstlineno
    kit.on("account_funded")(update_wrapper(partial(mail, amount=5), mail))
    for wrap in (cache, Wrapped):
        with pytest.raises(ContractError, match="does not take 'amount'"):
            kit.on("account_funded")(wrap(unfit))


def test_async_function_in_a_task_is_detected(celery: Celery) -> None:
    """The proxy is not used for it."""

    async def later(account: str) -> None:
        """Wait."""

    assert is_async(make(celery, "lazy", later))
    assert not is_async(make(celery, "lazy", mail))
    assert not is_async(make(celery, "shared", mail))
