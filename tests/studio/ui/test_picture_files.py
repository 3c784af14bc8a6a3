"""Pictures that pages fetch: written once, kept while a page asks for them, removed when they are old."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from PIL import Image

from studio.ui import picture_files as module
from studio.ui.picture_files import KEPT, serve, tidy


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path / "pictures"


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (level, level, level))


def aged(path: str) -> None:
    old = time.time() - KEPT - 60
    os.utime(path, (old, old))


def test_the_same_pixels_are_one_file_whose_name_tells_nothing_else(folder: Path) -> None:
    first, again, other = serve(grey(1)), serve(grey(1)), serve(grey(2))
    assert first == again != other and serve(None) is None
    assert sorted(folder.iterdir()) == sorted(map(Path, (first, other)))
    with Image.open(first) as kept:
        assert kept.tobytes() == grey(1).tobytes()


def test_old_pictures_go_and_those_that_are_asked_for_stay(folder: Path) -> None:
    old, asked = serve(grey(1)), serve(grey(2))
    aged(old)
    aged(asked)
    assert serve(grey(2)) == asked  # asked for once more
    assert tidy(folder) == 1
    assert not Path(old).exists() and Path(asked).exists()
    assert serve(grey(1)) == old and Path(old).exists()  # needed again: written again


def test_old_pictures_go_by_themselves(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 1)
    old = serve(grey(1))
    aged(old)
    serve(grey(2))
    assert not Path(old).exists()
