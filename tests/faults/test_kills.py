"""``kill -9`` of a sender or a worker, at each step."""

import pytest

from tests.faults.support import KILLED, Processes, read_until, some_long

SENDER_POINTS = ("before_flush", "after_flush", "after_send", "after_commit")

WORKER_POINTS = (
    "after_claim",  # not committed yet
    "before_submit",
    "after_begin",  # not committed yet
    "before_run",
    "in_receiver",
    "after_effect",
    "after_outside_effect",
    "after_finish",  # not committed yet
    "after_run",
)


@pytest.mark.parametrize("point", some_long(SENDER_POINTS, "after_send"))
def test_sender_is_killed(shop: Processes, point: str) -> None:
    """The order and its messages are stored, or neither."""
    printed = shop.send(1, 3, fault=f"{point}:2:kill", code=KILLED)
    assert printed == "1\n"
    orders = 2 if point == "after_commit" else 1
    shop.check(orders=orders, waiting=2 * orders)
    shop.drain()
    shop.check(orders=orders, effects=orders, repeated=0)


@pytest.mark.parametrize("point", some_long(WORKER_POINTS, "before_submit", "after_finish"))
def test_worker_is_killed(shop: Processes, point: str) -> None:
    """Each message is run again, and has one effect in the database."""
    shop.send(1, 8)  # more messages than one claim takes
    shop.run("work", 1, "once", fault=f"{point}:2:kill", code=KILLED)
    shop.check(orders=8, waiting=shop.count().waiting)
    shop.drain()
    counts = shop.check(orders=8, effects=8)
    # The second message that ends is one for the receiver outside of the database; while others
    # are claimed, such a message may run as well.
    assert counts.repeated <= (point in {"after_claim", "after_outside_effect", "after_finish"})


def test_receiver_that_kills_its_process_ends_dead(shop: Processes) -> None:
    """An attempt counts when it begins; the other receiver is run."""
    shop.send()
    for _ in range(5):
        shop.make_due()
        shop.run("work", 1, "once", fault="in_receiver:*:kill", code=KILLED)
    shop.drain(fault="in_receiver:*:kill")
    shop.check(dead=1, effects=0, repeated=0)
    [message] = shop.messages()
    assert (message.receiver, message.attempt) == ("inside", 5)
    assert "used up its attempts (5). The last one: it did not end" in message.error


@pytest.mark.long
@pytest.mark.timeout(280)
def test_forty_kills_under_load(shop: Processes) -> None:
    """Twenty of senders and twenty of workers, at any time: nothing is lost or doubled."""
    for number in range(20):
        first = 1 + 1000 * number
        sender, worker = shop.start("send", first, 1000), shop.start("work", 4)
        before = len(shop.read("SELECT id FROM effect"))
        sent = 3 + 7 * (number % 5)
        read_until(sender, str(first + sent - 1))
        sender.kill()
        # Not more: the last worker may have run all that was sent before.
        shop.wait_for_effects(before + min(1 + 3 * (number % 4), sent))
        worker.kill()
        shop.make_due()
    shop.drain()
    counts = shop.check()
    assert counts.orders == counts.effects >= 60
    assert counts.repeated <= 40
