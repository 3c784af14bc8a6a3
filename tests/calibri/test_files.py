"""A file appears whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from calibri.files import replacing, write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_what_was_written_is_there_and_nothing_beside_it(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    write_whole(path, "größer\r\n", durable=durable)
    assert path.read_bytes() == "größer\r\n".encode()
    write_whole(path, b"\x00\xff", durable=durable)
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["a.json"]


def test_a_failure_leaves_what_stood_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "before")
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_text("half")
        1 / 0  # noqa: B018
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_nobody_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as part:
        part.write_text("half")
        assert not path.exists() and part.parent == path.parent
    assert path.read_text() == "half"


def test_others_may_read_it_as_any_new_file(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    write_whole(tmp_path / "whole", "x")
    assert stat.S_IMODE((tmp_path / "whole").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_very_long_name_fits(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    write_whole(path, "x")
    assert path.read_text() == "x"


def test_a_folder_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):
        write_whole(tmp_path / "file" / "a.txt", "x")
