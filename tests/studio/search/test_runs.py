"""Run folders as pages see them: read as they grow, whoever writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibri.errors import SearchError
from calibri.search.config import Budget
from calibri.search.journal import JOURNAL, RunFolder, read_journal
from calibri.search.records import GenerationRecord, read_generation
from calibri.search.stopping import tail_average
from calibri.words import slug
from studio.search.runs import RunStore
from tests.studio.search.runfolders import EACH, Writer, config, generation


def test_what_is_kept_of_a_generation_is_what_its_record_says(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs" / "one")
    writer.generations(0, 5)
    run = RunStore(tmp_path / "runs").get("one")
    records = [r for r in read_journal(writer.folder) if isinstance(r, GenerationRecord)]
    assert len(run.generations) == len(records) == 5
    for step, record in zip(run.generations, records):
        assert step[:4] == (record.generation, record.images, record.seconds, record.best)
        assert step.bucket_mean == record.bucket_mean
        assert (step.sigma, step.axis_ratio) == (record.sigma, record.axis_ratio)
        assert list(step.mean) == record.mean and list(step.spread) == record.spread
    assert run.images == 64 + 5 * EACH and run.base.pairs == 64
    assert np.array_equal(run.point(), tail_average(records, run.config.tail))


def test_a_line_with_its_fields_in_another_order_reads_the_same() -> None:
    record = generation(3, 4)
    usual = record.model_dump_json().encode()
    data = record.model_dump(mode="json")
    turned = json.dumps(dict(reversed(list(data.items())))).encode()
    assert read_generation(usual) == read_generation(turned)


def test_a_poll_reads_only_what_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(tmp_path / "runs" / "one")
    writer.generations(0, 400)
    store = RunStore(tmp_path / "runs")
    run = store.get("one")
    assert len(run.generations) == 400
    read = []
    tail, plain = run._tail, run._tail._read

    def counted(most: int | None) -> bytes:
        data = plain(most)
        read.append(len(data))
        return data

    monkeypatch.setattr(tail, "_read", counted)
    store.refresh(now=True)
    assert sum(read) == 0 and run.lines == 402
    writer.generations(400, 402)
    store.refresh(now=True)
    assert len(run.generations) == 402 and run.lines == 404
    assert sum(read) < 3 * 6000  # two lines, not the four hundred before them


def test_a_long_journal_is_read_in_pieces_and_whole(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs" / "long")
    writer.generations(0, 300)
    size = (writer.folder / JOURNAL).stat().st_size
    run = RunStore(tmp_path / "runs").get("long")
    from calibri.search.journal import JournalTail

    pieces, tail = [], JournalTail(writer.folder)
    while bodies := tail.poll_bodies(most=size // 10):
        pieces.append(len(bodies))
    assert len(pieces) > 5 and sum(pieces) == run.lines == 302
    whole = JournalTail(writer.folder)
    assert len(whole.poll_bodies(most=100)) >= 1  # a line longer than a piece


def test_an_unfinished_line_waits_and_an_altered_one_is_told(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs" / "one")
    writer.generations(0, 3)
    journal = writer.folder / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-40])
    store = RunStore(tmp_path / "runs")
    run = store.get("one")
    assert len(run.generations) == 2 and run.error == ""
    journal.write_bytes(whole)
    store.refresh(now=True)
    assert len(run.generations) == 3
    journal.write_bytes(whole.replace(b'"generation":1,', b'"generation":9,'))
    told = RunStore(tmp_path / "runs").get("one")
    assert "was altered" in told.error and len(told.generations) == 1
    assert str(tmp_path) not in told.error


def test_folders_come_and_go_and_broken_ones_are_left_out(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs", tmp_path / "shelf")
    assert store.all() == []
    Writer(tmp_path / "runs" / "mine")
    Writer(tmp_path / "shelf" / "example")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "runs" / "no-run").mkdir()
    store.refresh(now=True)
    assert {run.id for run in store.all()} == {"mine", "example"}
    assert store.several(["example", "nothing", "example", None]) == [store.get("example")]
    for name in ("../mine", "nothing", "", None, "broken"):
        with pytest.raises(SearchError, match="There is no search"):
            store.get(name)
    (tmp_path / "runs" / "mine" / "config.json").unlink()
    store.refresh(now=True)
    assert [run.id for run in store.all()] == ["example"]


def test_new_folders_have_short_names_and_their_note(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    first = store.create("Łayer, 2 × quality!", "ann", Budget(images=7))
    second = store.create("Łayer, 2 × quality!", "", None)
    assert (first.name, second.name) == ("ayer-2-quality", "ayer-2-quality-2")
    assert slug("../../etc", "search") == "etc" and slug("", "search") == "search"
    assert len(slug("x" * 200, "search")) == 40
    for path in (first, second):
        with RunFolder(path, config()):
            pass
    store.refresh(now=True)
    run = store.get(first.name)
    assert (run.title, run.note.by, run.limits.images) == ("Łayer, 2 × quality!", "ann", 7)
    assert [r.id for r in store.all()] == [second.name, first.name]


def test_who_writes_a_run_is_known_while_it_writes(tmp_path: Path) -> None:
    import os

    store = RunStore(tmp_path / "runs")
    with RunFolder(tmp_path / "runs" / "live", config()):
        store.refresh(now=True)
        assert store.get("live").owner == os.getpid()
    store.refresh(now=True)
    assert store.get("live").owner is None


def test_the_point_reached_is_a_calibration_of_all_members(tmp_path: Path) -> None:
    made = config(conditions=("positive", "negative"), weights=(1.5, -0.5))
    writer = Writer(tmp_path / "runs" / "pair", made, scales=4)
    store = RunStore(tmp_path / "runs")
    with pytest.raises(SearchError, match="no generation yet"):
        store.get("pair").calibration()
    session = read_journal(writer.folder)[0]
    names = ["double.0.attn", "double.0.mlp"]
    told = [f"{k}: {name}" for k in (1, 2) for name in names] + ["1: weight", "2: weight"]
    writer = Writer(tmp_path / "runs" / "two", made, scales=6)
    (writer.folder / JOURNAL).unlink()
    writer._prev = __import__("hashlib").sha256((writer.folder / "config.json").read_bytes()).hexdigest()
    writer.put(session.model_copy(update={"labels": told}))
    writer.generations(0, 2)
    store.refresh(now=True)
    found = store.get("two").calibration("Both")
    assert found.names == tuple(names) and [m.condition for m in found.members] == ["positive", "negative"]
    tail = store.get("two").point()
    assert found.members[1].scales == tuple(tail[2:4]) and found.members[1].weight == tail[5]
    assert found.title == "Both" and found.found["verdict"] == "not judged"
