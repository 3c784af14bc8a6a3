"""What others wrote is read within limits, and one bad entry of a folder hides no other."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from calibri.errors import CalibriError, SearchError
from calibri.files import DEEPEST_JSON, LONGEST_INTEGER, load_json, read_folder, read_limited, read_object


@pytest.mark.parametrize(
    "make, most, words",
    [
        (
            lambda n: "[" * n + "]" * n,
            DEEPEST_JSON,
            "expected JSON of at most {} levels, got some nested too deep",
        ),
        (
            lambda n: '{"a":' * n + "1" + "}" * n,
            DEEPEST_JSON,
            "expected JSON of at most {} levels, got some nested too deep",
        ),
        (lambda n: f"[-{'9' * n}]", LONGEST_INTEGER, "expected an integer of at most {} digits, got {}"),
    ],
)
def test_levels_and_digits_are_counted_before_anything_is_built(make, most: int, words: str) -> None:
    assert load_json(make(most)) == json.loads(make(most))
    with pytest.raises(ValueError, match=words.format(most, most + 1)):
        load_json(make(most + 1))
    with pytest.raises(ValueError, match=words.format(most, 10**6)):
        load_json(make(10**6))


@pytest.mark.parametrize(
    "text", ['["[[[[", "\\"[[["]' * 1, '"' + "[" * 500 + '"', json.dumps([["\\", "[]" * 200, '"{']] * 90)]
)
def test_brackets_inside_texts_do_not_count(text: str) -> None:
    assert load_json(text) == json.loads(text)


@pytest.mark.parametrize("text", ["", "{", '"' + "[" * 100, '[["\\', "[" * 60 + '\\"' * 50])
def test_what_is_no_json_says_so(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        load_json(text)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 10)
    assert read_limited(path, 10, CalibriError) == b"x" * 10
    with pytest.raises(CalibriError, match=r"^expected at most 9 bytes, got 10$"):
        read_limited(path, 9, CalibriError)


def spoil(folder: Path) -> dict[str, str]:
    """Puts an entry of each kind that cannot be read into a folder. Name → why, as it is told."""
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / "loop.json").symlink_to(folder / "loop.json")
    (folder / "nothing.json").symlink_to(folder / "gone")
    (folder / "digits.json").write_text('{"a": ' + "9" * 5000 + "}")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "list.json").write_text("[1]")
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")
    (folder / "device.json").symlink_to("/dev/null")
    return {
        "folder.json": "expected a file, got a folder",
        "pipe.json": "expected a file, got a pipe",
        "loop.json": "a link that leads to itself",
        "nothing.json": "No such file or directory",
        "digits.json": "at most 400 digits, got 5000",
        "deep.json": "at most 64 levels",
        "list.json": "expected a JSON object",
        "binary.json": "not a text file",
        "device.json": "expected a file, got a device",
    }


def test_a_bad_entry_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "z.json").write_text('{"z": 1}')
    (tmp_path / ".hidden.json").write_text("{")
    (tmp_path / "note.txt").write_text("{")
    why = spoil(tmp_path)
    listing = read_folder(tmp_path, "*.json", lambda path: read_object(path, SearchError))
    assert listing.found == {"a.json": {"a": 1}, "z.json": {"z": 1}}
    told = dict(listing.unreadable)
    assert set(told) == set(why)
    for name, words in why.items():
        with pytest.raises(CalibriError, match=words):
            read_object(tmp_path / name, CalibriError)
        assert words in told[name] and str(tmp_path) not in told[name]


def test_folders_are_read_by_the_file_inside(tmp_path: Path) -> None:
    for name in ("a", "b", "empty", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "config.json").write_text("{}")
    (tmp_path / "b" / "config.json").mkdir()
    (tmp_path / "other" / "x").write_text("{}")
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    listing = read_folder(
        tmp_path, "*/config.json", lambda path: read_object(path / "config.json", SearchError)
    )
    assert listing.found == {"a": {}}
    assert dict(listing.unreadable) == {
        "b": "config.json: expected a file, got a folder",
        "gone": "a link to nothing",
        "loop": "a link that leads to itself",
    }


def test_a_folder_that_is_none_is_told_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert read_folder(tmp_path / "file", "*", str).unreadable == (("file", "Not a directory"),)
    assert read_folder(tmp_path / "none", "*", str) == ({}, ())


def test_what_may_not_be_read_is_told() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for each in ("a.json", "b.json"):
            (folder / each).write_text("{}")
        (folder / "a.json").chmod(0)
        before = os.geteuid()
        if before == 0:  # root may read everything
            os.seteuid(65534)
        try:
            listing = read_folder(folder, "*.json", lambda path: read_object(path, SearchError))
        finally:
            os.seteuid(before)
    assert listing == ({"b.json": {}}, (("a.json", "Permission denied"),))
