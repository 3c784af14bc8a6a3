"""The lock of ModelHost: people before searches, first come first served, and a way out of the queue."""

from __future__ import annotations

import threading
import time

import pytest

from calibri.errors import RenderCancelled
from studio.machine.queue import Priority, PriorityLock


def wait_until(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def queue_up(
    lock: PriorityLock, order: list[str], name: str, priority: Priority, waiting: int
) -> threading.Thread:
    """A thread that waits for the lock; returns once it stands in the queue as number `waiting`."""

    def work() -> None:
        with lock.hold(priority, name):
            order.append(name)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: lock.waiting == waiting)
    return thread


def test_people_go_before_a_search_that_came_earlier() -> None:
    lock, order = PriorityLock(), []
    with lock.hold(Priority.SEARCH, "batch"):
        threads = [
            queue_up(lock, order, "search", Priority.SEARCH, 1),
            queue_up(lock, order, "ann", Priority.INTERACTIVE, 2),
            queue_up(lock, order, "ben", Priority.INTERACTIVE, 3),
        ]
    for thread in threads:
        thread.join(5)
    assert order == ["ann", "ben", "search"]


def test_one_at_a_time() -> None:
    lock, inside, most = PriorityLock(), [], []

    def work() -> None:
        for _ in range(20):
            with lock.hold(Priority.INTERACTIVE, "x"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert set(most) == {1} and len(most) == 120


def test_a_waiter_is_told_how_many_are_ahead_and_who_has_it() -> None:
    lock, told = PriorityLock(), []
    with lock.hold(Priority.INTERACTIVE, "3 pictures"):
        thread = threading.Thread(
            target=lambda: lock.hold(
                Priority.INTERACTIVE, "mine", on_wait=lambda ahead, who: told.append((ahead, who))
            ).__enter__()
        )
        thread.start()
        wait_until(lambda: told)
    thread.join(5)
    assert told[0] == (1, "3 pictures")


def test_a_waiter_can_leave_and_the_next_one_is_served() -> None:
    lock, order, gone = PriorityLock(), [], threading.Event()
    with lock.hold(Priority.INTERACTIVE, "holder"):

        def leave() -> None:
            hold = lock.hold(Priority.INTERACTIVE, "leaver", cancel=lambda: True)
            with pytest.raises(RenderCancelled), hold:
                order.append("leaver")
            gone.set()

        threading.Thread(target=leave).start()
        assert gone.wait(5)
        thread = queue_up(lock, order, "next", Priority.INTERACTIVE, 1)
    thread.join(5)
    assert order == ["next"] and lock.waiting == 0


def test_an_error_inside_gives_the_lock_back() -> None:
    lock = PriorityLock()
    with pytest.raises(ZeroDivisionError), lock.hold(Priority.INTERACTIVE, "x"):
        1 / 0  # noqa: B018
    with lock.hold(Priority.INTERACTIVE, "y"):
        assert lock.holder == "y"
    assert lock.holder == ""
