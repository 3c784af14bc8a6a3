"""Searches in the background: real searches of a tiny pipeline, real journals, a real reward."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from calibri.calibration.artifact import Calibration
from calibri.errors import CalibriError, RenderError, SearchError
from calibri.rewards.base import load_reward
from calibri.search.config import Budget, SearchConfig
from calibri.search.journal import read_journal
from calibri.search.records import GenerationRecord, ResultRecord, SessionRecord, ValidationRecord
from calibri.search.run import run_search
from studio.machine.host import ModelHost
from studio.machine.queue import HostError, Priority
from studio.search.jobs import Searches, explain
from studio.search.runs import RunStore
from studio.search.status import see
from studio.search.view import card, choice_words
from tests.small_search import make_small

WORKER = Path(__file__).with_name("search_worker.py")
ROOT = Path(__file__).parents[3]
PATIENCE = 240.0
WHOLE = Budget(generations=6)


def small(**values: object) -> SearchConfig:
    """A search of a few pictures of the tiny pipeline."""
    defaults = {
        "backbone": "tiny",
        "rewards": ({"name": "tabletop-quality"},),
        "prompts": tuple(f"a red cube {i}" for i in range(6)),
        "steps": 1,
        "validation_share": 0.3,
        "convergence": "none",
    }
    return make_small(**{**defaults, **values})


def story(folder: Path) -> tuple[list[object], list[object]]:
    """What must not depend on pauses, kills and who looked on."""
    records = read_journal(folder)
    generations = [
        (r.generation, r.candidates, r.scores, r.images) for r in records if isinstance(r, GenerationRecord)
    ]
    return generations, [(r.generation, r.objectives) for r in records if isinstance(r, ValidationRecord)]


def until(what: Callable[[], bool], words: str) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, words
        time.sleep(0.005)


@pytest.fixture
def jobs(host: ModelHost, tmp_path: Path) -> Iterator[Searches]:
    made = Searches(host, tmp_path / "runs", tmp_path / "assets")
    yield made
    made.close()


@pytest.fixture(scope="module")
def reference(host: ModelHost, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same search, uninterrupted, without the studio."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    rewards = {"tabletop-quality": load_reward("tabletop-quality")}
    for _ in run_search(small(), folder, backbone=host.wait_ready(), rewards=rewards, budget=WHOLE):
        pass
    return folder


def test_a_search_runs_to_its_end_and_its_calibration_can_be_opened(jobs: Searches, reference: Path) -> None:
    run = jobs.start(small(), WHOLE, "My first: search!", by="ann")
    assert run == "my-first-search"
    done = jobs.wait(run, PATIENCE)
    assert (done.state, done.error, done.generations) == ("done", "", 6)
    assert done.verdict in ("better", "not told apart", "worse") and done.seconds > 0
    assert not jobs.busy and jobs.busy_words() == ""
    assert story(jobs.store.folder / run) == story(reference)
    found = jobs.calibration(run)
    assert found.names == jobs._host.wait_ready().layout("layer").names
    assert found.title == "My first: search!" and found.found["verdict"] == done.verdict
    assert jobs.store.get(run).note.by == "ann"


def test_pausing_holds_between_batches_and_changes_nothing(
    jobs: Searches, host: ModelHost, reference: Path
) -> None:
    run = jobs.start(small(), WHOLE)
    for generation in (1, 3, 4):
        until(lambda g=generation: jobs.status(run).generations >= g, "no generation came")
        jobs.pause(run)
        until(lambda: jobs.status(run).state in ("paused", "done"), "it did not pause")
        lines = jobs.store.get(run).lines
        time.sleep(0.3)
        with host.hold(Priority.INTERACTIVE, "a test"):  # the model is free
            assert host.status.activity == "a test"
        assert jobs.store.get(run).lines == lines
        if jobs.status(run).state == "done":
            pytest.fail("the search was over before it could be paused")
        jobs.resume(run)
    assert jobs.wait(run, PATIENCE).state == "done"
    assert story(jobs.store.folder / run) == story(reference)
    records = read_journal(jobs.store.folder / run)
    assert sum(isinstance(r, SessionRecord) for r in records) == 1  # it was one thread all the time


def test_a_pause_costs_no_time_of_the_budget(jobs: Searches) -> None:
    run = jobs.start(small(), Budget(generations=3))
    until(lambda: jobs.status(run).images > 0, "no picture came")
    jobs.pause(run)
    until(lambda: jobs.status(run).state == "paused", "it did not pause")
    began = time.monotonic()
    time.sleep(2)
    jobs.resume(run)
    assert jobs.wait(run, PATIENCE).state == "done"
    worked = time.monotonic() - began - 2
    last = read_journal(jobs.store.folder / run)[-1]
    assert isinstance(last, ResultRecord)
    before = jobs.store.get(run).base.seconds
    assert last.seconds - before <= worked + 0.5


def test_stop_keeps_the_point_reached_and_judges_it(jobs: Searches) -> None:
    run = jobs.start(small(), Budget(images=100_000))
    until(lambda: jobs.status(run).generations >= 2, "no generation came")
    assert jobs.busy_words().startswith("searching: Layer: tabletop-quality, ")
    unjudged = jobs.calibration(run)
    assert unjudged.found["verdict"] == "not judged"
    jobs.stop(run)
    assert jobs.status(run).state in ("stopping", "done")
    done = jobs.wait(run, PATIENCE)
    assert done.state == "done" and done.verdict != "not judged"
    kept = Calibration.load(jobs.store.folder / run / "tail.json")
    assert kept.found["stopped"] == "stopped by the user"
    assert jobs.calibration(run).members == kept.members


def test_a_second_stop_skips_the_judgement_and_a_resume_makes_up_for_it(jobs: Searches) -> None:
    config = small(held_out_pairs=4000, held_out_prompts=tuple(f"a green ball {i}" for i in range(400)))
    run = jobs.start(config, Budget(generations=1))
    until(lambda: "judging" in jobs.status(run).doing, "the judgement did not begin")
    jobs.stop(run)
    done = jobs.wait(run, PATIENCE)
    assert (done.state, done.verdict) == ("done", "not judged")


def test_searches_queue_and_a_pause_gives_the_turn_to_the_next(jobs: Searches) -> None:
    first = jobs.start(small(), Budget(images=100_000), "first")
    second = jobs.start(small(seed=1), Budget(generations=2), "second")
    third = jobs.start(small(seed=2), Budget(generations=2), "third")
    assert [s.id for s in jobs.all()][-1] == first
    until(lambda: jobs.status(first).generations >= 1, "no generation came")
    assert jobs.status(second).state == jobs.status(third).state == "queued"
    assert "2 searches in the queue" in jobs.busy_words()
    jobs.stop(third)
    assert jobs.wait(third, PATIENCE).state == "interrupted"
    jobs.pause(first)
    assert jobs.wait(second, PATIENCE).state == "done"
    assert jobs.status(first).state == "paused"
    jobs.stop(first)
    assert jobs.wait(first, PATIENCE).state == "done"


def test_what_a_person_stopped_says_so_also_after_a_restart(jobs: Searches) -> None:
    first, second, third = (jobs.start(small(seed=i), Budget(images=100_000)) for i in range(3))
    titles = [status.title for status in jobs.all()]
    assert len(set(titles)) == 3 and titles[-1] == "Layer: tabletop-quality", titles
    until(lambda: jobs.status(first).generations >= 1, "no generation came")
    jobs.stop(second)
    assert jobs.wait(second, PATIENCE).ended == "stopped before it started"
    jobs.pause(third)  # a paused one that never began is no other
    jobs.stop(third)
    jobs.wait(third, PATIENCE)
    jobs.stop(first)
    assert jobs.wait(first, PATIENCE).ended == "stopped by the user"
    for run in RunStore(jobs.store.folder).all():
        status = see(run, None).status
        words = "stopped" if run.id == first else "stopped before it started"
        assert words in choice_words(status) and status.when[:10] in choice_words(status)
        assert f">{words}</span>" in card(status, run)


def test_the_backbone_stays_while_a_search_lives(jobs: Searches, host: ModelHost) -> None:
    run = jobs.start(small(), Budget(images=100_000))
    until(lambda: jobs.status(run).state == "running" and jobs.status(run).images > 0, "it did not begin")
    with pytest.raises(HostError, match="cannot be changed while the search"):
        host.load("tabletop")
    jobs.stop(run)
    jobs.wait(run, PATIENCE)


def test_people_get_the_model_within_one_batch(jobs: Searches, host: ModelHost) -> None:
    run = jobs.start(small(), Budget(images=100_000))
    until(lambda: jobs.status(run).generations >= 1, "no generation came")
    pictures = []
    for _ in range(3):
        job = jobs._jobs[run]
        before = job.rendered
        with host.hold(Priority.INTERACTIVE, "a person"):
            pictures.append(job.rendered - before)
    assert max(pictures) <= 2 * 4  # what was under way, and at most one more that had the lock already
    jobs.stop(run)
    jobs.wait(run, PATIENCE)


def test_closing_leaves_a_run_that_the_next_start_resumes_on_the_same_trajectory(
    host: ModelHost, tmp_path: Path, reference: Path
) -> None:
    runs, assets = tmp_path / "runs", tmp_path / "assets"
    first = Searches(host, runs, assets)
    run = first.start(small(), WHOLE, "kept")
    until(lambda: first.status(run).generations >= 2, "no generation came")
    first.close()
    assert first.status(run).state == "interrupted"
    with pytest.raises(SearchError, match="closing"):
        first.start(small(), WHOLE)

    second = Searches(host, runs, assets)
    assert second.status(run).state == "interrupted" and second.status(run).title == "kept"
    assert second.all()[0].generations >= 2
    second.resume(run)
    assert second.wait(run, PATIENCE).state == "done"
    second.close()
    assert story(runs / run) == story(reference)


def test_killed_with_its_process_a_search_goes_on_as_if_it_had_not_been(
    host: ModelHost, tiny_folder: Path, tmp_path: Path
) -> None:
    import torch

    config = small()
    (tmp_path / "config.json").write_text(config.to_json(), encoding="utf-8")
    runs = tmp_path / "runs"
    whole = tmp_path / "whole"
    rewards = {"tabletop-quality": load_reward("tabletop-quality")}
    for _ in run_search(
        config, whole, backbone=host.wait_ready(), rewards=rewards, budget=Budget(generations=8)
    ):
        pass
    process = subprocess.Popen(
        [sys.executable, WORKER, tiny_folder, runs, tmp_path / "config.json", str(torch.get_num_threads())],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    jobs = Searches(host, runs, tmp_path / "assets")
    try:
        run = process.stdout.readline().strip()
        until(lambda: jobs.status(run).generations >= 2, "no generation came")
        assert jobs.status(run).state == "elsewhere"  # shown live while another process writes it
        with pytest.raises(SearchError, match="Another program"):
            jobs.resume(run)
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()
    jobs.store.refresh(now=True)
    assert jobs.status(run).state == "interrupted" and jobs.status(run).generations < 8
    jobs.resume(run)
    assert jobs.wait(run, PATIENCE).state == "done"
    jobs.close()
    assert story(runs / run) == story(whole)


def test_failures_become_words_and_can_be_resumed(jobs: Searches) -> None:
    run = jobs.start(small(rewards=({"name": "no-such-reward"},)), WHOLE)
    failed = jobs.wait(run, PATIENCE)
    assert failed.state == "failed" and failed.error.startswith("unknown reward 'no-such-reward'")
    jobs.resume(run)
    again = jobs.wait(run, PATIENCE)
    assert again.state == "failed" and str(jobs.store.folder) not in again.error


def test_what_cannot_be_done_is_a_sentence(jobs: Searches) -> None:
    with pytest.raises(SearchError, match=r"needs FLUX.1-dev, but tiny is loaded"):
        jobs.start(small(backbone="FLUX.1-dev", bounds=(0.5, 1.5)), WHOLE)
    with pytest.raises(
        SearchError, match=r"as it began: compiled\. .*one without: choose the same in Change backbone"
    ):
        jobs.start(small(compile=True), WHOLE)
    for action in (jobs.pause, jobs.resume, jobs.stop, jobs.status, jobs.calibration):
        with pytest.raises(SearchError, match=r"no search .\.\./elsewhere"):
            action("../elsewhere")
    run = jobs.start(small(), Budget(generations=1))
    jobs.wait(run, PATIENCE)
    with pytest.raises(SearchError, match="does not run: it is done"):
        jobs.pause(run)
    with pytest.raises(SearchError, match="is finished: the budget of 1 generations"):
        jobs.resume(run)
    jobs.resume(run, Budget(generations=2))
    assert jobs.wait(run, PATIENCE).generations == 2


def test_an_altered_journal_is_shown_as_failed_and_not_resumed(jobs: Searches, tmp_path: Path) -> None:
    run = jobs.start(small(), Budget(generations=2))
    jobs.wait(run, PATIENCE)
    journal = tmp_path / "runs" / run / "journal.jsonl"
    text = journal.read_text(encoding="utf-8")
    journal.write_text(text.replace('"generation":1', '"generation":7', 1), encoding="utf-8")
    fresh = Searches(jobs._host, tmp_path / "runs", tmp_path / "assets")
    status = fresh.status(run)
    assert status.state == "failed" and "was altered" in status.error and str(tmp_path) not in status.error
    with pytest.raises(CalibriError, match="cannot go on"):
        fresh.resume(run)


def test_a_shortage_of_memory_is_told_by_its_cause() -> None:
    import torch

    shortage = RenderError("not enough memory for one picture")
    shortage.__cause__ = torch.OutOfMemoryError("CUDA")
    for problem in (shortage, MemoryError()):
        assert "smaller batches" in explain(problem)
    assert explain(RenderError("a word about out of memory")) == "a word about out of memory"
    assert explain(OSError(28, "No space left on device")).endswith("Make room, then resume.")
    assert explain(ZeroDivisionError("x")) == "ZeroDivisionError: x"


def test_what_can_be_done_follows_the_state(jobs: Searches) -> None:
    run = jobs.start(small(), Budget(images=100_000))
    until(lambda: jobs.status(run).state == "running" and jobs.status(run).images > 0, "it did not begin")
    assert jobs.see(run).acts == {"pause", "stop"} and jobs.busy
    jobs.pause(run)
    until(lambda: jobs.status(run).state == "paused", "it did not pause")
    assert jobs.see(run).acts == {"resume", "stop"} and "1 search paused" in jobs.busy_words()
    jobs.stop(run)
    until(lambda: jobs.see(run).acts != {"resume", "stop"}, "it did not stop")
    jobs.wait(run, PATIENCE)
    assert jobs.see(run).acts == {"resume"} and not jobs.busy and jobs.see("../x") is None
