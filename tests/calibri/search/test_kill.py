"""`kill -9` at ten random moments: the run goes on, each time, on the very same candidates."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calibri.search.journal import owner_of, read_journal
from calibri.search.records import GenerationRecord, PointRecord, SessionRecord, ValidationRecord

WORKER = Path(__file__).with_name("kill_worker.py")
ROOT = Path(__file__).parents[3]


def story(folder):
    records = read_journal(folder)
    generations = [
        (r.generation, r.candidates, r.scores, r.images) for r in records if isinstance(r, GenerationRecord)
    ]
    validations = [(r.generation, r.objectives) for r in records if isinstance(r, ValidationRecord)]
    points = [(r.number, r.vector, r.gains) for r in records if isinstance(r, PointRecord)]
    return generations, validations, records[-1], points


@pytest.mark.slow
@pytest.mark.parametrize("what", [[], ["front"]])
def test_killed_at_ten_random_moments_a_search_ends_as_if_it_had_not_been(tmp_path, tiny_folder, what):
    moments = np.random.default_rng(20).uniform(0.03, 0.25, 10)
    text = ",".join(f"{moment:.4f}" for moment in moments)
    done = subprocess.run(
        [sys.executable, str(WORKER), str(tiny_folder), str(tmp_path), text, *what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3000,
        env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert outcome["finished"] and outcome["killed"] >= 5
    whole, killed = story(tmp_path / "whole"), story(tmp_path / "killed")
    assert len(whole[0]) == 10
    assert killed[0] == whole[0]
    assert killed[1] == whole[1]
    assert killed[3] == whole[3] and len(whole[3]) == (5 if what else 0)
    assert killed[2].vector == whole[2].vector and killed[2].gains == whole[2].gains
    sessions = [r for r in read_journal(tmp_path / "killed") if isinstance(r, SessionRecord)]
    assert len(sessions) > 2
    assert owner_of(tmp_path / "killed") is None
