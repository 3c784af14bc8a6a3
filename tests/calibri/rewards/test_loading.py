"""Rewards with weights of one's own in searches, evaluations and `calibri rewards`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import calibri
from calibri.cli import main
from calibri.errors import JournalError, RewardError
from calibri.rewards.base import RewardLoading
from calibri.rewards.catalog import CATALOG
from calibri.rewards.sources import name_source, read_sources
from calibri.search.config import SearchConfig
from calibri.search.distributed import gpu_share, gpus_of_worker
from calibri.search.journal import read_journal
from calibri.search.provenance import moved_revisions
from calibri.search.records import SessionRecord


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a red cube\na blue sphere\ntwo green cones\na fox\n")
    held = tmp_path / "held.txt"
    held.write_text("a yellow cube\na grey fox\n")
    return path, held


def run(*argv):
    return main([str(word) for word in argv])


def search(flux_folder, prompts, out, *more):
    small = (
        "--generations 1 --steps 1 --bucket 2 --pool 4 --popsize 4 --validation-pairs 0 --held-out-pairs 2"
    )
    return run(
        "search", "--backbone", flux_folder, "--prompts", prompts[0], "--held-out", prompts[1], "--out", out,
        "--granularity", "block", "--device", "cpu", "--convergence", "none", *small.split(), *more,
    )  # fmt: skip


def test_a_search_takes_rewards_from_folders_and_goes_on_with_the_same(
    golden, flux_folder, prompts, tmp_path, capsys
):
    mine = tmp_path / "mine"
    shutil.copytree(golden("pickscore").folder, mine)
    for path in mine.iterdir():
        path.chmod(0o644)
    out = tmp_path / "run"
    sources = ["--reward-source", f"pickscore={mine}", "--reward-source", f"hpsv2={golden('hpsv2').folder}"]
    assert search(flux_folder, prompts, out, "--reward", "pickscore,hpsv2:2", *sources) == 0
    config = SearchConfig.from_json((out / "config.json").read_text())
    assert config.reward_loading.sources["pickscore"] == str(mine)
    expected = {
        name: calibri.load_reward(name, source=source).info.revision
        for name, source in config.reward_loading.sources.items()
    }
    sessions = [record for record in read_journal(out) if isinstance(record, SessionRecord)]
    assert sessions[0].rewards == expected
    found = json.loads(next(out.glob("tail*.json")).read_text())["found"]
    assert found["reward_revisions"] == expected

    assert run("search", "--resume", out, "--generations", "2") == 0
    from safetensors.torch import load_file, save_file

    tensors = load_file(mine / "model.safetensors")
    tensors["logit_scale"] = tensors["logit_scale"] * 0.9
    save_file(tensors, mine / "model.safetensors")
    capsys.readouterr()
    assert run("search", "--resume", out, "--generations", "3") == 1
    assert "scored with other weights of pickscore" in capsys.readouterr().err


def test_a_resumed_search_keeps_its_rewards(flux_folder, prompts, tmp_path, capsys):
    argv = ["search", "--resume", tmp_path, "--reward-device", "cpu"]
    assert run(*argv) == 1
    assert "a resumed run keeps its settings: leave out --reward-device" in capsys.readouterr().err


def test_an_evaluation_finds_its_scores_again(golden, flux_folder, prompts, tmp_path, capsys):
    argv = [
        "evaluate", "--backbone", flux_folder, "--prompts", prompts[0], "--pairs", 4, "--steps", 1, "--json",
        "--device", "cpu", "--reward", "mps", "--reward-source", f"mps={golden('mps').folder}",
        "--scores", tmp_path / "kept" / "scores.db",
    ]  # fmt: skip
    assert run(*argv) == 0
    first = capsys.readouterr().out
    assert run(*argv) == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "kept" / "scores.db").stat().st_size > 0


def test_sources_are_checked():
    with pytest.raises(RewardError, match="a source is given for hpsv2, expected one of pickscore"):
        RewardLoading(sources={"hpsv2": "a/b"}).load(["pickscore"], "cpu")


@pytest.mark.parametrize("text", ["pickscore", "=a/b", "pickscore="])
def test_a_source_that_is_written_otherwise_is_refused(text, capsys):
    assert run("evaluate", "--reward", "pickscore", "--reward-source", text) == 1
    assert f"--reward-source: expected NAME=SOURCE, got {text!r}" in capsys.readouterr().err


def test_a_dtype_is_for_rewards_that_know_it(golden):
    loading = RewardLoading(sources={"pickscore": str(golden("pickscore").folder)}, dtype="bfloat16")
    loaded = loading.load(["pickscore", "tabletop-quality"], "cpu")
    assert loaded["pickscore"].info.revision.endswith("bfloat16")
    assert loaded["tabletop-quality"].info.revision.endswith("float32")


def test_bits_are_for_rewards_that_take_them():
    loading = RewardLoading(device="cuda:1", dtype="8bit")
    assert loading.place("hpsv3", "cpu") == ("cuda:1", "8bit")
    assert loading.place("pickscore", "cpu") == ("cuda:1", "auto")
    loading.check(["hpsv3", "pickscore"])
    with pytest.raises(RewardError, match="8bit is for hpsv3 alone, got pickscore"):
        loading.check(["pickscore"])
    with pytest.raises(RewardError, match=r"dtype: expected auto, .*got 'half'"):
        RewardLoading.read({}, None, "half")


def test_what_cannot_be_loaded_is_told_before_the_backbone_is(flux_folder, prompts, tmp_path, capsys):
    options = ["--reward", "pickscore", "--reward-dtype", "4bit"]
    assert search(tmp_path / "no-backbone", prompts, tmp_path / "run", *options) == 1
    assert "4bit is for hpsv3 alone, got pickscore" in capsys.readouterr().err


def test_sources_are_told_without_folders(golden):
    assert read_sources(["a=b/c@d, e=f/g", "h=~nobody/x"], "") == {
        "a": "b/c@d", "e": "f/g", "h": "~nobody/x",
    }  # fmt: skip
    assert name_source(str(golden("mps").folder)) == "mps"
    assert [name_source(text) for text in ("owner/name@commit", "", "calibri")] == [
        "owner/name@commit", "", "calibri",
    ]  # fmt: skip


def test_configs_of_earlier_versions_load():
    config = SearchConfig.make(rewards=({"name": "tabletop-align"},), prompts=("a",), judges=("b",))
    old = json.loads(config.to_json())
    del old["reward_loading"]
    assert SearchConfig.from_json(json.dumps(old)) == config
    assert config.reward_names == ("tabletop-align", "b")


def test_sessions_of_earlier_versions_go_on():
    old = SessionRecord(time="t", pid=1, host="h", generation=0)
    assert moved_revisions([old], {"a": "1234-p1-pillow1-float32"}) == ""
    now = old.model_copy(update={"rewards": {"a": "1234-p1-pillow1-float32"}})
    assert moved_revisions([old, now], {"a": "1234-p1-pillow1-float32", "b": ""}) == ""
    assert "a (1234-p1-pillow1-float32 before, 1234-p1-pillow2-float32 now)" in moved_revisions(
        [now], {"a": "1234-p1-pillow2-float32"}
    )
    with pytest.raises(JournalError, match="other weights of a"):
        moved_revisions([now], {"a": "5678-p1-pillow1-float32"})


@pytest.mark.parametrize(
    "devices, needed",
    [
        (("cpu", "cpu"), 0),
        (("auto", "cpu"), 1),
        (("cuda", "cuda:1"), 2),
        (("cpu", "cuda"), 1),
        (("cuda:3", "cpu"), 4),
    ],
)
def test_a_worker_gets_the_gpus_that_its_devices_name(devices, needed):
    assert gpus_of_worker(*devices) == needed


@pytest.mark.parametrize(
    "gpus, workers, needed, share",
    [(4, 2, 2, 2), (4, 4, 1, 1), (2, 4, 1, 0.5), (3, 2, 2, 1), (0, 2, 1, 0), (8, 2, 0, 0), (8, 2, 1, 1)],
)
def test_ray_gives_whole_gpus_or_parts_of_one(gpus, workers, needed, share):
    assert gpu_share(gpus, workers, needed) == share


def test_the_examples_of_the_page_run(monkeypatch, capsys):
    root = Path(__file__).resolve().parents[3]
    monkeypatch.chdir(root)
    page = (root / "docs" / "rewards.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    plain = [text for text in examples if "class " not in text]  # the other one is test_own's
    assert len(plain) == 2
    for example in plain:
        exec(compile(example, "docs/rewards.md", "exec"), {})
    said = capsys.readouterr().out
    assert "-pillow" in said and "0.625" in said


# ---- calibri rewards


def test_the_list_names_all_rewards_and_what_they_need(capsys):
    assert run("rewards", "list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows)[: len(CATALOG)] == list(CATALOG)
    assert rows["tabletop-align"]["there"] and rows["pickscore"]["missing"] == []
    assert rows["hpsv2"]["memory"]["bfloat16"] > 2e9
    assert run("rewards", "list", "--backbone", "FLUX.1-dev") == 0
    said = capsys.readouterr().out
    assert "pickscore" in said and "tabletop" not in said


@pytest.mark.parametrize("name, folder", [("pickscore", "pickscore"), ("clipscore", "aesthetic")])
def test_a_trial_compares_with_the_scores_that_come_with_the_weights(golden, capsys, name, folder):
    assert run("rewards", "test", name, "--source", golden(folder).folder, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["golden_of_spread"] < 1e-5 and report["alone"] < 1e-3
    assert report["revision"].startswith(report["weights"])
    assert run("rewards", "test", name, "--source", golden(folder).folder) == 0
    assert "from the scores in cases.json they differ by at most" in capsys.readouterr().out


def test_a_trial_of_a_reward_without_cases_draws_its_pictures(capsys):
    assert run("rewards", "test", "tabletop-quality") == 0
    said = capsys.readouterr().out
    assert "pictures a second on cpu" in said and "cases.json" not in said


def test_a_trial_of_what_is_not_there_is_one_sentence(capsys, monkeypatch, tmp_path):
    assert run("rewards", "test", "pickscore", "--source", tmp_path) == 1
    err = capsys.readouterr().err
    assert err.startswith("calibri: pickscore: ") and err.count("\n") == 1
    assert run("rewards", "test", "beauty") == 1
    assert "unknown reward 'beauty'; known are tabletop-align" in capsys.readouterr().err
