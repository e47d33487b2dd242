"""Transactions that do not commit, and messages that cannot be run."""

import json
from itertools import product

from tests.faults.support import Processes


def test_every_rollback_drops_the_messages(shop: Processes) -> None:
    """Only the first two of the orders are committed."""
    shop.run("rollback")
    assert shop.read("SELECT number FROM shop_order ORDER BY number") == [(100,), (101,)]
    shop.check(orders=2, waiting=4)
    shop.drain()
    shop.check(orders=2, effects=2, repeated=0)


def test_damaged_messages_are_dead(shop: Processes) -> None:
    """The reason is stored, and other messages are run."""
    shop.send(1, 7)
    cases = product(("payload", "headers"), ("", "{", "null", "[]", "{}", '{"id": 5}'))
    for number, (column, damaged) in enumerate(cases, 1):
        shop.write(
            f"UPDATE signals_outbox SET {column} = :text WHERE id = :id", text=damaged, id=number
        )
    output = shop.run("work", 2, "once")
    messages = shop.messages()
    assert [(row.id, row.due, row.attempt) for row in messages] == [
        (number, None, 1) for number in range(1, 13)
    ]
    assert all("damaged" in row.error for row in messages)
    assert output.count("is dead") == 12
    assert shop.read("SELECT number FROM effect") == [(7,)]


def test_message_of_a_renamed_receiver_waits_for_it(shop: Processes) -> None:
    """With its former name, and the reason; other messages are run."""
    shop.send()
    shop.write("UPDATE signals_outbox SET receiver = 'shop.former' WHERE receiver = 'outside'")
    shop.run("work", 1, "once")
    [message] = shop.messages()
    assert (message.due is None, message.attempt) == (False, 1)
    assert "no durable receiver 'shop.former'" in message.error
    assert shop.read("SELECT number FROM effect") == [(1,)]


def test_payload_of_a_former_declaration_is_dead_if_it_does_not_match(shop: Processes) -> None:
    """A name that is no longer declared is left out; without a missing one it cannot run."""
    shop.send(1, 2)
    for number, values in ((1, {"number": 1, "gone": 5}), (2, {"gone": 5})):
        payload = json.dumps({"values": {"sender": "shop", **values}, "models": {}})
        shop.write(
            "UPDATE signals_outbox SET payload = :payload WHERE id = :id",
            payload=payload,
            id=2 * number - 1,
        )
    shop.run("work", 1, "once")
    [message] = shop.messages()
    assert (message.due, message.attempt) == (None, 1)
    assert message.error.startswith("The stored payload lacks 'number'")
    assert shop.read("SELECT number FROM effect") == [(1,)]
