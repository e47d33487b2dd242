"""`current_emission`: what a receiver is called for."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from flask import Flask

from flask_signals_kit import (
    Emission,
    SignalsKit,
    current_emission,
)
from tests.support import (
    Later,
    make_app,
    results,
)


def test_current_emission_is_falsy_outside_a_receiver() -> None:
    """Reading an attribute raises an error that says why."""
    assert not bool(current_emission)
    with pytest.raises(RuntimeError, match="only available while a receiver runs"):
        current_emission.signal  # noqa: B018


def test_current_emission_has_signal_sender_payload_names_site_and_request(kit: SignalsKit) -> None:
    """The sender is given as its type."""
    app = make_app(kit)
    seen: list[Emission] = []

    @kit.on("account_funded")
    def receive(sender: Any, **extra: Any) -> None:
        assert bool(current_emission)
        seen.append(current_emission._get_current_object())  # type: ignore[attr-defined]

    @app.post("/fund")
    def fund() -> str:
        kit.send("account_funded", app, amount=5, method="card")
        return "funded"

    app.test_client().post("/fund")
    [emission] = seen
    assert isinstance(emission, Emission)
    assert emission.signal == "account_funded"
    assert emission.sender == "flask.app.Flask"
    assert emission.payload == ("amount", "method")
    assert emission.request == "POST /fund"
    assert emission.site is not None
    assert emission.site.file == __file__
    assert emission.site.name.endswith("fund")
    assert emission.attempt == 1
    assert emission.idempotency_key is None


SENDS: dict[str, Callable[[SignalsKit, str], Any]] = {
    "kit": lambda kit, name: kit.send(name, "acme", **{name: 1}),
    "handle": lambda kit, name: kit.signal(name).send("acme", **{name: 1}),
    "signal": lambda kit, name: kit.namespace.signal(name).send("acme", **cast(Any, {name: 1})),
    "robust": lambda kit, name: kit.send_robust(name, "acme", **{name: 1}),
    "async": lambda kit, name: asyncio.run(kit.send_async(name, "acme", **{name: 1})),
    "robust async": lambda kit, name: asyncio.run(kit.send_robust_async(name, "acme", **{name: 1})),
}


@pytest.mark.parametrize("testing", [False, True])
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("outer", SENDS)
@pytest.mark.parametrize("inner", ["kit", "handle", "signal", "robust"])
def test_current_emission_is_right_in_nested_sends(
    kit: SignalsKit, outer: str, inner: str, special: bool, testing: bool
) -> None:
    """Before, within and after an inner send, however each is sent, journal on or off."""
    app = make_app(kit, TESTING=testing)
    story: list[tuple[str, str, tuple[str, ...]]] = []

    def note(where: str) -> None:
        story.append((where, current_emission.signal, current_emission.payload))

    how: dict[str, Any] = {"when": lambda sender, **payload: True} if special else {}

    @kit.on("outer", **how)
    def receive_outer(sender: Any, **extra: Any) -> None:
        note("before")
        SENDS[inner](kit, "inner")
        note("after")

    @kit.on("inner", **how)
    def receive_inner(sender: Any, **extra: Any) -> None:
        note("within")

    with app.app_context():
        SENDS[outer](kit, "outer")
    assert not bool(current_emission)
    assert story == [
        ("before", "outer", ("outer",)),
        ("within", "inner", ("inner",)),
        ("after", "outer", ("outer",)),
    ]


def test_current_emission_is_separate_for_concurrent_async_receivers(
    kit: SignalsKit, app: Flask
) -> None:
    """Tasks that wait for each other keep their own."""
    seen: list[tuple[str, tuple[str, ...]]] = []

    @kit.on("account_*")
    async def receive(sender: Any, **payload: Any) -> None:
        await asyncio.sleep(0.001)
        seen.append((current_emission.signal, current_emission.payload))

    async def story() -> None:
        with app.app_context():
            await asyncio.gather(
                kit.send_async("account_funded", "acme", amount=5),
                kit.send_async("account_closed", "acme", reason="bored"),
            )

    asyncio.run(story())
    assert sorted(seen) == [("account_closed", ("reason",)), ("account_funded", ("amount",))]


def test_current_emission_is_set_in_tasks_started_by_a_receiver(
    kit: SignalsKit, app: Flask
) -> None:
    """What an async receiver gathers belongs to the emission."""
    seen: list[str] = []

    @kit.on("account_funded")
    async def receive(sender: Any, **payload: Any) -> None:
        async def part() -> None:
            await asyncio.sleep(0)
            seen.append(current_emission.signal)

        await asyncio.gather(part(), part())

    async def story() -> None:
        with app.app_context():
            await kit.send_async("account_funded", "acme")

    asyncio.run(story())
    assert seen == ["account_funded", "account_funded"]


def test_current_emission_is_separate_for_each_thread(kit: SignalsKit, app: Flask) -> None:
    """A thread that a receiver starts has none; another thread's send does not change it."""
    seen: list[Any] = []

    @kit.on("account_funded")
    def receive(sender: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(bool, current_emission).result(10))
        seen.append(current_emission.signal)

    results(kit, app)
    assert seen == [False, "account_funded"]


def test_current_emission_is_set_in_predicates_and_deferred_calls(
    kit: SignalsKit, app: Flask
) -> None:
    """A delivery carries it into another thread."""
    later = Later()
    seen: list[str] = []

    def when(sender: Any, **payload: Any) -> bool:
        seen.append(f"when {current_emission.signal}")
        return True

    @kit.on(
        "account_funded",
        delivery=later,
        when=when,
    )
    def receive(sender: Any, **extra: Any) -> None:
        seen.append(f"receive {current_emission.signal}")

    assert results(kit, app) == []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(later.calls[0].run).result(10)
    assert seen == ["when account_funded", "receive account_funded"]
    assert not bool(current_emission)
