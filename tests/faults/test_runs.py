"""Several workers, runs that outlive their lease, messages that are carried again, and SIGTERM."""

import signal
from subprocess import Popen

import pytest

from tests.faults.support import LIMIT, Processes, read_until, some_long
from tests.support import wait_until


def end(process: "Popen[str]") -> str:
    """Wait for the end of a process and return its output."""
    output, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, output
    return output


def test_run_that_outlives_its_lease_stores_nothing(shop: Processes) -> None:
    """While it was stopped, another worker has begun the message, and owns it."""
    shop.send()
    first = shop.start("work", 1, "once", fault="in_receiver:1:stop", timeout=0.1)
    shop.wait_until_reached(first)
    second = shop.start("work", 1, "once", fault="in_receiver:1:wait")
    shop.wait_until_reached(second)  # the lease is over: nothing has made the message due
    first.send_signal(signal.SIGCONT)
    assert "took too long" in end(first)
    assert shop.read("SELECT id FROM effect") == []
    (shop.folder / "go").touch()
    end(second)
    shop.check(orders=1, effects=1)
    assert shop.read("SELECT attempt FROM effect") == [(2,)]


def test_run_that_outlives_its_lease_does_not_revive_a_dead_message(shop: Processes) -> None:
    """Another run has used up the attempts, and was reported."""
    shop.send()
    shop.write("UPDATE signals_outbox SET attempt = 3 WHERE receiver = 'inside'")
    first = shop.start("work", 1, "once", fault="in_receiver:1:stop", timeout=0.1)
    shop.wait_until_reached(first)
    assert "is dead" in shop.run("work", 1, "once", fault="in_receiver:*:fail")
    first.send_signal(signal.SIGCONT)
    end(first)
    shop.check(orders=1, effects=0, dead=1)


def test_message_that_is_carried_three_times_is_run_once(shop: Processes) -> None:
    """Each of the three is given to a thread, and the first of them waits for the others."""
    shop.send(1, 20)
    worker = shop.start("work", 6, "tripled", fault="in_outside_receiver:1:wait")
    shop.wait_for_effects(20)
    (shop.folder / "go").touch()
    end(worker)
    shop.check(orders=20, effects=20, repeated=0)


@pytest.mark.parametrize("workers", [2, pytest.param(8, marks=pytest.mark.long)])
def test_several_workers_run_each_message_once(shop: Processes, workers: int) -> None:
    """While two senders go on."""
    senders = [shop.start("send", first, 40) for first in (1, 1001)]
    started = [shop.start("work", 2) for _ in range(workers)]
    for sender in senders:
        assert end(sender).count("\n") == 40
    wait_until(lambda: not shop.messages())
    for worker in started:
        worker.terminate()
    for worker in started:
        end(worker)
    shop.check(orders=80, effects=80, repeated=0)
    assert all(attempt == 1 for [attempt] in shop.read("SELECT attempt FROM effect"))


@pytest.mark.parametrize("clock", some_long((-3600, 3600), 3600))
def test_clock_of_a_worker_does_not_count(shop: Processes, clock: int) -> None:
    """Only that of the database tells whether a lease is over, or a message is due."""
    shop.send(1, 2, clock=-clock)
    first = shop.start("work", 1, fault="in_receiver:1:wait")
    shop.wait_until_reached(first)
    shop.write("UPDATE signals_outbox SET due = due - 100 WHERE attempt = 0")
    shop.run("work", 1, "once", clock=clock)
    [left] = shop.messages()
    assert (left.receiver, left.attempt) == ("inside", 1)
    (shop.folder / "go").touch()
    wait_until(lambda: not shop.messages())
    first.terminate()
    end(first)
    shop.check(orders=2, effects=2, repeated=0)


@pytest.mark.parametrize("commit", some_long((1, 2, 3, 4, 5), 3))
def test_lost_answer_to_a_commit_of_the_worker_changes_nothing(
    shop: Processes, commit: int
) -> None:
    """It commits the claim, then the begin and the finish of each message."""
    shop.send()
    shop.run("work", 1, "once", fault=f"answer:{commit}:fail")
    shop.check(orders=1, waiting=shop.count().waiting)
    shop.drain()
    shop.check(orders=1, effects=1, repeated=0)


def test_lost_answer_to_the_commit_of_a_sender_changes_nothing(shop: Processes) -> None:
    """The sender sees an error, but the order is stored, and so are its messages."""
    printed = shop.send(1, 2, fault="answer:*:fail")
    assert printed.count("failed the answer is lost") == 2
    shop.check(orders=2, waiting=4)
    shop.drain()
    shop.check(orders=2, effects=2, repeated=0)


# -- SIGTERM --------------------------------------------------------------------------------------


def test_idle_worker_ends_with_sigterm(shop: Processes) -> None:
    """There is nothing to finish."""
    with shop.working():
        pass


@pytest.mark.parametrize("times", some_long((1, 2), 2))
def test_worker_finishes_what_runs_at_sigterm(shop: Processes, times: int) -> None:
    """It begins nothing else, and the rest is run by the next worker."""
    shop.send(1, 3)
    worker = shop.start("work", 1, fault="in_receiver:1:wait")
    shop.wait_until_reached(worker)
    for _ in range(times):
        worker.terminate()
    (shop.folder / "go").touch()
    read_until(worker, "stopped")
    end(worker)
    shop.check(orders=3, effects=1, waiting=5)
    shop.drain()
    shop.check(orders=3, effects=3, repeated=0)
