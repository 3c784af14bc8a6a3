"""A search of a tiny FLUX with tiny HPSv3 and PickScore: killed and resumed, and with a worker that dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from calibri.cli import main
from calibri.rewards.cache import ScoreCache
from calibri.search.config import Budget, SearchConfig
from calibri.search.distributed import RayScorer
from calibri.search.journal import JournalTail, read_journal
from calibri.search.records import EventRecord, GenerationRecord, ResultRecord, SessionRecord
from calibri.search.run import run_search

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "rewards"
NAMES = ("hpsv3", "pickscore")
GENERATIONS = 5
SMALL = (
    f"--generations {GENERATIONS} --steps 1 --popsize 4 --bucket 2 --pool 4 --batch-size 4 --device cpu "
    "--granularity block --convergence none --validation-pairs 0 --held-out-pairs 2 --json"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums come out the same only with the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def command(tiny_folder, tmp_path_factory):
    """The command line of the search, but for its run folder."""
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "search.txt").write_text("a red cube\na blue sphere\ntwo green cones\na fox\n")
    (folder / "held.txt").write_text("a yellow cube\na grey fox\n")
    words = ["search", "--backbone", str(tiny_folder), "--reward", ",".join(NAMES), *SMALL.split()]
    words += ["--prompts", str(folder / "search.txt"), "--held-out", str(folder / "held.txt")]
    for name in NAMES:
        words += ["--reward-source", f"{name}={GOLDEN / name}"]
    return words


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The run folder of the search, which nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main([*command, "--out", str(folder)]) == 0
    return folder


def story(folder):
    records = read_journal(folder)
    generations = [
        (r.generation, r.candidates, r.scores, r.rewards, r.base_scores, r.images)
        for r in records
        if isinstance(r, GenerationRecord)
    ]
    [result] = [r for r in records if isinstance(r, ResultRecord)]
    return generations, result.vector, result.gains


def count_generations(folder):
    path = folder / "journal.jsonl"
    return path.read_bytes().count(b'"kind":"generation"') if path.exists() else 0


def test_killed_in_the_middle_and_resumed_it_is_the_same_search_to_the_bit(command, whole, tmp_path):
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "calibri.cli", *command, "--out", str(folder)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 300
    while count_generations(folder) < 2:
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.01)
    process.kill()
    told = process.communicate(timeout=60)[1]
    assert "Loading weights" not in told and "Traceback" not in told
    before = count_generations(folder)
    assert before < GENERATIONS, "it was over before it was killed"
    assert main(["search", "--resume", str(folder), "--generations", str(GENERATIONS)]) == 0
    assert story(folder) == story(whole)
    records = read_journal(folder)
    assert sum(isinstance(r, SessionRecord) for r in records) == 2
    assert any(isinstance(r, EventRecord) and r.text.startswith("Resumed after") for r in records)


def test_its_records_name_the_weights_and_a_shipped_file_no_folder(whole):
    [session] = [r for r in read_journal(whole) if isinstance(r, SessionRecord)]
    assert session.sources == {name: name for name in NAMES}  # folders by their names
    assert all("-pillow" in session.rewards[name] for name in NAMES)
    config = SearchConfig.from_json((whole / "config.json").read_text(encoding="utf-8"))
    assert config.reward_loading.sources == {name: str(GOLDEN / name) for name in NAMES}
    [file] = whole.glob("tail*.json")
    found = json.loads(file.read_text(encoding="utf-8"))["found"]
    assert found["reward_sources"] == session.sources and found["reward_revisions"] == session.rewards
    assert str(ROOT) not in file.read_text(encoding="utf-8")


def test_workers_load_the_rewards_by_name_and_a_killed_ones_share_is_done_again(
    whole, backbone, tmp_path, monkeypatch
):
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config, scores = JournalTail(whole).config(), tmp_path / "scores.db"
    with RayScorer.connected(config, workers=2, scores=scores) as scorer:
        assert {name: Path(info.source).name for name, info in scorer.infos.items()} == dict(
            zip(NAMES, NAMES)
        )
        victim = ray.get(scorer.actors[0].process.remote())
        killed = []

        def kill_once(done, total):
            if not killed and total > config.batch_size:
                os.kill(victim, signal.SIGKILL)
                killed.append(done)

        budget = Budget(generations=GENERATIONS)
        for _ in run_search(
            config, tmp_path / "ray", backbone=backbone, rewards={}, budget=budget, scorer=scorer,
            progress=kill_once,
        ):  # fmt: skip
            pass
        assert killed and victim not in ray.get([actor.process.remote() for actor in scorer.actors])
    assert story(tmp_path / "ray") == story(whole)
    assert len(ScoreCache(scores)) >= 2 * read_journal(whole)[-1].images  # of two rewards, each once


def test_known_pictures_are_not_scored_again(command, whole, tmp_path, monkeypatch):
    from calibri.rewards.hpsv3 import HPSv3
    from calibri.rewards.pickscore import PickScore

    scored = []
    for cls in (HPSv3, PickScore):
        real = cls._score

        def count(self, images, prompts, real=real):
            scored.append(len(images))
            return real(self, images, prompts)

        monkeypatch.setattr(cls, "_score", count)
    keep = [*command, "--scores", str(tmp_path / "scores.db")]
    assert main([*keep, "--out", str(tmp_path / "first")]) == 0
    assert sum(scored) > 0
    scored.clear()
    assert main([*keep, "--out", str(tmp_path / "second")]) == 0
    assert scored == []
    assert story(tmp_path / "first") == story(tmp_path / "second") == story(whole)
