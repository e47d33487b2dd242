"""Celery's tasks as receivers: known by their function, and made when Celery makes them."""

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
    """Take itself, and no payload."""


def make(celery: Celery, kind: str, function: Any, bind: bool = False) -> Any:
    """Make a task of a function: Celery's proxy, one of a shared task, or the task itself."""
    if kind == "shared":
        return shared_task(function, bind=bind) if bind else shared_task(function)
    task = celery.task(function, bind=bind) if bind else celery.task(function)
    return task._get_current_object() if kind == "made" else task


KINDS = pytest.mark.parametrize("kind", ["lazy", "shared", "made"])


@KINDS
@pytest.mark.parametrize("function", [mail, retry])
def test_a_task_is_shown_as_its_function_and_runs_as_the_task(
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
def test_a_tasks_function_is_checked_against_the_contract(
    celery: Celery, kit: SignalsKit, kind: str, function: Any
) -> None:
    """It's refused as the function itself is, with its own place."""
    task = make(celery, kind, function, bind=function is unfit_bound)
    with pytest.raises(ContractError, match=r"unfit.*test_celery_tasks.*does not take 'amount'"):
        kit.on("account_funded")(task)


@pytest.mark.parametrize("shared", [False, True])
def test_a_task_is_not_made_when_it_is_connected(
    celery: Celery, kit: SignalsKit, shared: bool
) -> None:
    """Celery makes it at its first use, from the settings that its app has then."""
    app = Flask("shop")
    kit.init_app(app)
    task = make(celery, "shared" if shared else "lazy", mail)
    kit.on("account_funded")(task)
    with app.app_context():
        assert [problem.kind for problem in kit.check()] == ["no_extra"]
    assert not celery.finalized
    celery.conf.task_ignore_result = True
    assert task.ignore_result


def test_a_task_of_a_class_is_shown_as_the_class(celery: Celery, kit: SignalsKit) -> None:
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
    """An object that hands its arguments on, as Celery's tasks do."""

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


def test_what_hands_its_arguments_on_is_checked_by_what_gets_them(kit: SignalsKit) -> None:
    """A `run`, or what is kept in `__wrapped__`; but not where the call itself has parameters."""
    assert takes_extra(Job())
    kit.on("account_funded")(Job())
    kit.on("account_funded")(Worker())
    assert place_of(Worker()).line == Worker.__call__.__code__.co_firstlineno
    assert place_of(Job()).line == Job.run.__code__.co_firstlineno
    kit.on("account_funded")(update_wrapper(partial(mail, amount=5), mail))
    for wrap in (cache, Wrapped):
        with pytest.raises(ContractError, match="does not take 'amount'"):
            kit.on("account_funded")(wrap(unfit))


def test_an_async_function_in_a_task_is_seen(celery: Celery) -> None:
    """The proxy is not used for it."""

    async def later(account: str) -> None:
        """Wait."""

    assert is_async(make(celery, "lazy", later))
    assert not is_async(make(celery, "lazy", mail))
    assert not is_async(make(celery, "shared", mail))
