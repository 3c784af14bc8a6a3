"""The run folder: what is on the disk is whole, in order, and untouched, or it is refused."""

import json
import os
import subprocess
import sys

import pytest

from calibri.errors import JournalError
from calibri.search.journal import JournalTail, RunFolder, owner_of, read_journal


@pytest.fixture
def run(tmp_path, make_config, make_generation):
    with RunFolder(tmp_path / "run", make_config()) as folder:
        for number in range(3):
            folder.append(make_generation(number))
    return tmp_path / "run"


def journal(run):
    return run / "journal.jsonl"


def test_what_was_written_is_read_back_exactly(run, make_generation):
    assert read_journal(run) == [make_generation(number) for number in range(3)]


def test_candidates_survive_bit_by_bit(run, make_generation):
    stored = read_journal(run)[2].candidate_array()
    assert (stored == make_generation(2).candidate_array()).all()


def test_every_line_is_json(run):
    assert [json.loads(line)["generation"] for line in journal(run).read_text().splitlines()] == [0, 1, 2]


@pytest.mark.parametrize("keep", [1, 7, 80, -2, -1])
def test_a_torn_last_line_is_cut_off_and_the_run_goes_on(run, make_generation, keep):
    lines = journal(run).read_bytes().splitlines(keepends=True)
    journal(run).write_bytes(b"".join(lines[:2]) + lines[2][:keep])
    with RunFolder(run) as folder:
        assert folder.repaired == len(lines[2][:keep])
        assert [r.generation for r in folder.records] == [0, 1]
        folder.append(make_generation(2))
    assert journal(run).read_bytes() == b"".join(lines)


@pytest.mark.parametrize("garbage", [b"\x00" * 300, b"\xff\xfe nonsense\n", b'{"prev": 1\n'])
def test_a_last_line_of_garbage_is_cut_off(run, garbage):
    whole = journal(run).read_bytes()
    journal(run).write_bytes(whole + garbage)
    with RunFolder(run) as folder:
        assert len(folder.records) == 3
    assert journal(run).read_bytes() == whole


@pytest.mark.parametrize("line", [0, 1, 2])
def test_an_altered_line_is_refused_by_its_number(run, line):
    lines = journal(run).read_text().splitlines(keepends=True)
    lines[line] = lines[line].replace('"best":0.3', '"best":0.4')
    journal(run).write_text("".join(lines))
    with pytest.raises(JournalError, match=f"line {line + 1} .*altered"):
        RunFolder(run)


def test_an_altered_line_with_a_new_digest_is_refused_by_the_next(run):
    lines = journal(run).read_text().splitlines(keepends=True)
    whole = journal(run).read_text()
    journal(run).write_text(lines[1] + lines[2])
    with pytest.raises(JournalError, match=r"line 1 .*does not follow from config\.json"):
        RunFolder(run)
    journal(run).write_text(lines[0] + lines[2])
    with pytest.raises(JournalError, match=r"line 2 .*does not follow from line 1"):
        RunFolder(run)
    journal(run).write_text(whole)
    RunFolder(run).close()


def test_garbage_in_the_middle_is_refused(run):
    lines = journal(run).read_bytes().splitlines(keepends=True)
    journal(run).write_bytes(lines[0] + b"garbage\n" + lines[2])
    with pytest.raises(JournalError, match="line 2"):
        RunFolder(run)


def test_an_altered_config_is_refused(run):
    path = run / "config.json"
    path.write_text(path.read_text().replace('"steps": 2', '"steps": 3'))
    with pytest.raises(JournalError, match=r"config\.json"):
        RunFolder(run)


def test_another_search_in_the_folder_is_refused_with_what_differs(run, make_config):
    with pytest.raises(JournalError, match="differ in seed"):
        RunFolder(run, make_config(seed=5))


def test_the_same_search_opens_its_folder_again(run, make_config):
    with RunFolder(run, make_config()) as folder:
        assert len(folder.records) == 3


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(JournalError, match="no run folder"):
        RunFolder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_refused_with_the_first_ones_process_id(run):
    with RunFolder(run), pytest.raises(JournalError, match=f"process {os.getpid()}"):
        RunFolder(run)


HOLDER = """
import sys
from calibri.search.journal import RunFolder
folder = RunFolder(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_is_refused_until_the_first_one_dies(run):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(JournalError, match=f"process {holder.pid}"):
                RunFolder(run)
            assert owner_of(run) == holder.pid
        finally:
            holder.kill()
    RunFolder(run).close()
    assert owner_of(run) is None


def test_asking_for_the_owner_never_blocks_a_writer(run):
    assert owner_of(run) is None
    RunFolder(run).close()


def test_a_tail_sees_each_record_once_as_it_is_completed(tmp_path, make_config, make_generation):
    tail = JournalTail(tmp_path / "run")
    assert tail.poll() == [] and tail.config() is None
    with RunFolder(tmp_path / "run", make_config()) as folder:
        assert tail.poll() == []
        folder.append(make_generation(0))
        assert [r.generation for r in tail.poll()] == [0]
        assert tail.poll() == []
        folder.append(make_generation(1))
        folder.append(make_generation(2))
        assert [r.generation for r in tail.poll()] == [1, 2]
    assert tail.config() == make_config()


def test_a_tail_waits_for_an_unfinished_line_and_never_writes(run, make_generation):
    lines = journal(run).read_bytes().splitlines(keepends=True)
    journal(run).write_bytes(lines[0] + lines[1][:50])
    tail = JournalTail(run)
    assert [r.generation for r in tail.poll()] == [0]
    assert journal(run).read_bytes() == lines[0] + lines[1][:50]
    journal(run).write_bytes(lines[0] + lines[1])
    assert [r.generation for r in tail.poll()] == [1]


def test_a_tail_follows_a_run_whose_torn_line_was_repaired(run, make_generation):
    lines = journal(run).read_bytes().splitlines(keepends=True)
    journal(run).write_bytes(b"".join(lines[:2]) + lines[2][:40])
    tail = JournalTail(run)
    assert len(tail.poll()) == 2
    with RunFolder(run) as folder:
        folder.append(make_generation(2))
    assert [r.generation for r in tail.poll()] == [2]


def test_records_are_on_the_disk_before_append_returns(tmp_path, make_config, make_generation, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), real(fd)))
    with RunFolder(tmp_path / "run", make_config()) as folder:
        synced.clear()
        folder.append(make_generation(0))
        assert synced == [journal(tmp_path / "run").stat().st_size]


def test_a_closed_folder_takes_no_more_records(run, make_generation):
    folder = RunFolder(run)
    folder.close()
    with pytest.raises(JournalError, match="closed"):
        folder.append(make_generation(3))
