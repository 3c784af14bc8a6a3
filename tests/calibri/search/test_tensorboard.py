"""Searches as TensorBoard reads them; with its own reader where the extra is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from calibri.errors import SearchError
from calibri.search.journal import read_journal
from calibri.search.tensorboard import list_scalars, write_events
from tests.studio.search.runfolders import EACH, Writer

INSTALLED = importlib.util.find_spec("tensorboard") is not None
needs_it = pytest.mark.skipif(not INSTALLED, reason="the extra tensorboard is not installed")


def make(folder: Path) -> Path:
    writer = Writer(folder, scales=4)
    writer.generations(0, 3)
    writer.validation(3)
    return folder


def test_every_number_of_a_run_has_a_tag_and_images_as_its_step(tmp_path: Path) -> None:
    scalars = list(list_scalars(read_journal(make(tmp_path / "run"))))
    by_tag: dict[str, list[int]] = {}
    for scalar in scalars:
        by_tag.setdefault(scalar.tag, []).append(scalar.step)
    steps = [64 + EACH * i for i in (1, 2, 3)]
    for tag in ("gain/mean of candidates", "search/sigma", "search/axis ratio", "scales/double.0.attn"):
        assert by_tag[tag] == steps
    assert sum(tag.startswith("spread/") for tag in by_tag) == 4
    assert by_tag["validation/objective"] == [64 + 3 * EACH] == by_tag["validation/align"]


@pytest.mark.skipif(INSTALLED, reason="the extra tensorboard is installed")
def test_without_the_package_a_sentence_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match=r"calibri-studio\[tensorboard\]"):
        write_events(make(tmp_path / "run"), tmp_path / "events")
    assert not (tmp_path / "events").exists()


@needs_it
def test_its_own_reader_finds_the_numbers_the_times_and_the_settings(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = make(tmp_path / "run")
    count = write_events(run, tmp_path / "events")
    read = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    scalars = list(list_scalars(read_journal(run)))
    assert count == len(scalars) == sum(len(read.Scalars(tag)) for tag in read.Tags()["scalars"])
    first = next(s for s in scalars if s.tag == "search/sigma")
    seen = read.Scalars("search/sigma")[0]
    assert (seen.step, seen.value) == (first.step, pytest.approx(first.value))
    assert seen.wall_time == pytest.approx(1767323045 + first.seconds)  # 2026-01-02T03:04:05Z
    [settings] = read.Tensors("settings")
    assert b'"granularity": "layer"' in settings.tensor_proto.string_val[0]


@needs_it
def test_a_folder_that_holds_events_is_refused(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    write_events(run, tmp_path / "events")
    with pytest.raises(SearchError, match="holds events already"):
        write_events(run, tmp_path / "events")
