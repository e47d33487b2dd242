"""Durable receivers in real Celery workers, with beat and a Redis that loses things."""

import pytest

from tests.contrib.support import CeleryShop


@pytest.mark.parametrize(
    "pool",
    ["prefork", "solo", "threads", pytest.param("gevent", marks=pytest.mark.needs("gevent"))],
)
def test_message_is_delivered(shop: CeleryShop, pool: str) -> None:
    """Also that of a run that failed; the worker's log names the receiver."""
    shop.worker(pool)
    shop.beat()
    shop.fund(1)
    shop.fund(2, first="fail")
    shop.wait_for_effects(1, 2)
    assert [effect.attempt for effect in shop.effects()] == [1, 2]
    keys = [effect.key for effect in shop.effects()]
    assert all(f"Task signals.deliver:shop.pay[{key}] received" in shop.log for key in keys)


def test_message_is_not_lost_while_the_broker_is_down(shop: CeleryShop) -> None:
    """A send does not need it; the worker and beat connect again."""
    shop.worker()
    shop.beat()
    shop.fund(1)
    shop.wait_for_effects(1)
    shop.redis.stop()
    shop.fund(2)
    shop.redis.start()
    shop.wait_for_effects(1, 2)


def test_message_that_the_broker_lost_is_sent_again(shop: CeleryShop) -> None:
    """The row is the truth, and the broker was flushed."""
    shop.fund(1, 2, 3)
    shop.forward(resend=1)
    assert len(shop.redis.tasks()) == 3
    with shop.redis.client() as client:
        client.flushall()
    shop.worker()
    shop.beat()
    shop.wait_for_effects(1, 2, 3)


def test_message_that_the_broker_trebles_is_run_once(shop: CeleryShop) -> None:
    """Two processes get each of them at the same time."""
    numbers = range(20)
    shop.fund(*numbers)
    shop.forward()
    with shop.redis.client() as client:
        for task in shop.redis.tasks():
            client.rpush("celery", task, task)
    assert len(shop.redis.tasks()) == 60
    shop.worker()
    shop.wait_for(lambda: shop.log.count(" succeeded in ") == 60, "60 tasks have run")
    shop.wait_for_effects(*numbers)
    assert {effect.attempt for effect in shop.effects()} == {1}


def test_message_of_a_killed_worker_is_run_again(shop: CeleryShop) -> None:
    """When the lease has ended, by another worker."""
    worker = shop.worker()
    shop.beat()
    shop.fund(1, first="kill")
    assert shop.wait_for_end(worker) == -9
    assert [message.attempt for message in shop.messages()] == [1]
    shop.worker()
    shop.wait_for_effects(1)
    assert [effect.attempt for effect in shop.effects()] == [2]


def test_receiver_that_hangs_is_killed(shop: CeleryShop) -> None:
    """Before its lease ends; then it is run again."""
    shop.worker()
    shop.beat()
    shop.fund(1, first="hang")
    shop.wait_for_effects(1)
    assert [effect.attempt for effect in shop.effects()] == [2]
    assert "Hard time limit (3.6s) exceeded for signals.deliver:shop.pay" in shop.log


def test_queue_has_workers_of_its_own(shop: CeleryShop) -> None:
    """Other workers leave its messages alone."""
    shop.worker()
    shop.beat()
    shop.ask_for_report(1)
    shop.fund(2)
    shop.wait_for(shop.effects, "the other message has run")
    shop.wait_for(lambda: shop.redis.tasks("reports"), "the message is in its queue")
    assert [effect.number for effect in shop.effects()] == [2]
    shop.worker(queues="reports")
    shop.wait_for_effects(1, 2)


def test_second_beat_does_no_harm(shop: CeleryShop) -> None:
    """Nor does a second worker: each message runs once."""
    for start in (shop.worker, shop.worker, shop.beat, shop.beat):
        start()
    numbers = range(60)
    for number in numbers:
        shop.fund(number)
    shop.wait_for_effects(*numbers)
    assert {effect.attempt for effect in shop.effects()} == {1}
    assert len({effect.process for effect in shop.effects()}) > 1
