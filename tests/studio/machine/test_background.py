"""Work in the background: one piece at a time, none lost, none after the end."""

from __future__ import annotations

import logging
import threading

from studio.machine.background import Background


class Gate:
    """Work that says when it has begun and ends when it may."""

    def __init__(self) -> None:
        self.begun, self.may_end, self.runs = threading.Event(), threading.Event(), 0

    def __call__(self) -> None:
        self.runs += 1
        self.begun.set()
        assert self.may_end.wait(10)


def test_one_piece_at_a_time() -> None:
    background, gate, other = Background("test"), Gate(), Gate()
    assert background.start(gate)
    assert gate.begun.wait(10) and background.busy
    assert not background.start(other)
    gate.may_end.set()
    assert background.wait(10) and not background.busy
    assert (gate.runs, other.runs) == (1, 0)


def test_work_that_is_ensured_runs_after_the_one_under_way_and_once() -> None:
    background, gate, done = Background("test"), Gate(), []
    background.start(gate)
    assert gate.begun.wait(10)
    for number in range(3):
        background.ensure(lambda number=number: done.append(number))
    gate.may_end.set()
    assert background.wait(10)
    assert done == [2]
    background.ensure(lambda: done.append(3))
    assert background.wait(10)
    assert done == [2, 3]


def test_no_wish_is_lost_however_close_to_the_end_it_comes() -> None:
    background, done = Background("test"), [0]

    def count() -> None:
        done[0] += 1

    for _ in range(300):
        before = done[0]
        background.ensure(count)
        background.ensure(count)  # may meet the first one at any moment of its end
        assert background.wait(10)
        assert done[0] > before


def test_an_error_is_logged_and_the_next_piece_runs(caplog) -> None:
    background, done = Background("thumbnails"), []

    def fail() -> None:
        raise ValueError("broken")

    with caplog.at_level(logging.ERROR):
        background.start(fail)
        assert background.wait(10)
    assert "thumbnails failed" in caplog.text and "broken" in caplog.text
    assert background.start(lambda: done.append(1)) and background.wait(10)
    assert done == [1]


def test_after_closing_nothing_begins() -> None:
    background, gate, done = Background("test"), Gate(), []
    background.start(gate)
    assert gate.begun.wait(10)
    background.ensure(lambda: done.append(1))
    threading.Timer(0.05, gate.may_end.set).start()
    background.close()
    assert background.closed and not background.busy
    background.ensure(lambda: done.append(2))
    assert not background.start(lambda: done.append(3))
    assert done == []


def test_work_may_close_its_own_background() -> None:
    background = Background("test")
    background.start(background.close)
    assert background.wait(10) and background.closed
