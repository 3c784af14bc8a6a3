"""The log is on stderr and in files that take turns; a message is one line."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.shell import logs


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def log(screen: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    monkeypatch.setattr(logs, "LARGEST", 10_000)
    handlers = logs.open_logs(tmp_path)
    handlers[0].setStream(screen)
    made = logging.Logger("a")
    for handler in handlers:
        made.addHandler(handler)
    yield made
    for handler in handlers:
        handler.close()


def test_nothing_is_written_before_the_first_line(log: logging.Logger, tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []
    log.info("up")
    assert "INFO a: up" in (tmp_path / "logs" / "studio.log").read_text()


def test_files_take_turns(log: logging.Logger, screen: io.StringIO, tmp_path: Path) -> None:
    for number in range(2000):
        log.info("line %d of a flood", number)
    files = sorted((tmp_path / "logs").iterdir())
    assert [path.name for path in files] == ["studio.log", *(f"studio.log.{i}" for i in range(1, 6))]
    assert all(path.stat().st_size <= logs.LARGEST for path in files)
    assert "line 1999 of" in files[0].read_text()
    assert screen.getvalue().count("of a flood") == 2000


@pytest.mark.parametrize("text", ["a\nINFO b: forged", "a\r\x1b[2J", "a\u2028b", "a" * 100_000])
def test_a_message_is_one_bounded_line(log: logging.Logger, tmp_path: Path, text: str) -> None:
    log.info("got %s", text)
    [line] = (tmp_path / "logs" / "studio.log").read_text().splitlines()
    assert line.isprintable() and len(line) <= logs.LONGEST_LINE * 4


def test_a_trace_keeps_its_lines(log: logging.Logger, tmp_path: Path) -> None:
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        log.exception("it failed")
    assert "\nZeroDivisionError" in (tmp_path / "logs" / "studio.log").read_text()
