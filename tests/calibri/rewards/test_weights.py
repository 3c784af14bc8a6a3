"""Where weights come from, what identifies them, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from calibri.errors import RewardError
from calibri.rewards.weights import find_files, load_tensors, weights_id

from .small_hub import COMMIT, small_hub

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path):
    for name in ("config.json", "model-00001-of-00002.bin", "model-00002-of-00002.bin", "in/vocab.txt"):
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
    return tmp_path / "model"


def test_the_first_name_that_is_there_counts_and_patterns_find_all_shards(folder):
    names = {
        "weights": ("model.safetensors", "model-*.bin"),
        "vocab": ("vocab.txt", "in/vocab.txt"),
        "config": "config.json",
    }
    found = find_files(folder, names)
    assert list(found) == ["weights", "vocab", "config"] and len(found) == 3
    assert [path.name for path in found.all("weights")] == [
        "model-00001-of-00002.bin",
        "model-00002-of-00002.bin",
    ]
    assert found["vocab"] == folder / "in" / "vocab.txt"
    assert found.size == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_a_shard_that_is_missing_is_no_model(folder):
    (folder / "model-00002-of-00002.bin").unlink()
    with pytest.raises(RewardError, match=r"best: .*model has no model-\*.bin: expected the layout"):
        find_files(folder, {"weights": "model-*.bin"}, reward="best")


@pytest.mark.parametrize("source", ["nowhere", "a/b/c", "", "owner/na me", "/no/such/folder"])
def test_what_is_neither_folder_nor_hub_id_is_refused(source):
    with pytest.raises(RewardError, match="best: expected a folder or a hub id owner/name as the source"):
        find_files(source, {"weights": "model.bin"}, reward="best")


def test_weights_are_known_by_their_content(folder, tmp_path):
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    first = weights_id(paths)
    assert len(first) == 16 and first == weights_id(reversed(paths))
    moved = folder.rename(tmp_path / "elsewhere")
    paths = sorted(p for p in moved.rglob("*") if p.is_file())
    assert weights_id(paths) == first
    paths[0].write_text("something else")
    assert weights_id(paths) != first
    with pytest.raises(RewardError, match="at least one file"):
        weights_id([])


def test_tensors_of_all_formats_are_the_same(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.arange(3)}
    save_file(tensors, tmp_path / "x.safetensors")
    torch.save(tensors, tmp_path / "x.pth")
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "x.pt")
    for name in ("x.safetensors", "x.pth", "x.pt"):
        found = load_tensors(tmp_path / name)
        assert all(torch.equal(found[key], tensors[key]) for key in tensors) and set(found) == {"a", "n"}
    half = load_tensors(tmp_path / "x.pt", dtype=torch.bfloat16)
    assert half["a"].dtype == torch.bfloat16 and half["n"].dtype == torch.int64


class Evil:
    """What runs code when a pickle is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path):
    torch.save({"w": torch.zeros(2), "evil": Evil(tmp_path / "ran")}, tmp_path / "x.pt")
    with pytest.raises(RewardError, match=r"x\.pt is damaged, or a pickle that holds more than tensors"):
        load_tensors(tmp_path / "x.pt")
    assert not (tmp_path / "ran").exists()


def test_a_pickled_model_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "MPS_overall_checkpoint.pth")
    with pytest.raises(RewardError, match="pickle that holds more than tensors, which could run any code"):
        load_tensors(tmp_path / "MPS_overall_checkpoint.pth")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    for name in ("x.safetensors", "x.bin"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(RewardError, match=name):
            load_tensors(tmp_path / name)
    (tmp_path / "x.gguf").write_bytes(b"")
    with pytest.raises(RewardError, match=r"expected weights in \.safetensors, \.pt, \.pth, \.bin, \.ckpt"):
        load_tensors(tmp_path / "x.gguf")
    torch.save([1, 2], tmp_path / "x.pt")
    with pytest.raises(RewardError, match="expected names and tensors, got list"):
        load_tensors(tmp_path / "x.pt")


ASK = """
import json, sys
from calibri.errors import CalibriError
from calibri.rewards.weights import At, find_files
for source, names in json.loads(sys.argv[1]):
    names = {k: [At(*c) if isinstance(c, list) else c for c in v] for k, v in names.items()}
    try:
        found = find_files(source, names, reward="best")
        print(json.dumps([found.source, found.id, [str(found[k]) for k in found]]))
    except CalibriError as error:
        print(json.dumps(str(error)))
"""


def ask(url, home, *questions, offline=False):
    """What find_files answers in a new interpreter whose hub is at `url`, with its cache in `home`."""
    env = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(home),
        "HF_HOME": str(home),
        "HF_ENDPOINT": url,
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
        **({"HF_HUB_OFFLINE": "1"} if offline else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(questions)],
        capture_output=True,
        text=True,
        env=env,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


WANTED = {"weights": ["model.safetensors", "model-*.bin"], "config": ["config.json"]}


def test_the_hub_is_asked_once_for_what_is_needed_and_then_not_at_all(folder, tmp_path):
    (folder / "huge.bin").write_text("not needed")
    other = tmp_path / "other"
    other.mkdir()
    (other / "vocab.json").write_text("{}")
    names = {**WANTED, "vocab": ["vocab.json", ["other/parts", "vocab.json"]]}
    with small_hub({"owner/name": folder, "other/parts": other}) as hub:
        [(source, first, paths)], said = ask(hub.url, tmp_path / "home", ["owner/name", names])
        assert source == f"owner/name@{COMMIT}"
        assert not [path for path in hub.asked if path.endswith(("huge.bin", "in/vocab.txt"))]
        assert all(Path(path).is_file() for path in paths) and len(paths) == 3
        assert "Fetching" in said or "Downloading" in said  # progress
        asked = len(hub.asked)
        [again, pinned], _ = ask(
            hub.url, tmp_path / "home", ["owner/name", names], [f"owner/name@{COMMIT}", names]
        )
        assert again == pinned == [source, first, paths]
        new = [path for path in hub.asked[asked:] if "owner" in path or "other" in path]
        assert new == []
    [offline], _ = ask("http://127.0.0.1:9", tmp_path / "home", ["owner/name", names], offline=True)
    assert offline == [source, first, paths]


def test_the_same_files_have_one_id_wherever_they_lie(folder, tmp_path):
    with small_hub({"owner/name": folder}) as hub:
        [(_, first, _)], _ = ask(hub.url, tmp_path / "home", ["owner/name", WANTED])
    names = {"weights": "model-*.bin", "config": "config.json"}
    assert find_files(folder, names).id == first


def test_what_the_hub_refuses_is_a_sentence_each(folder, tmp_path):
    questions = [
        ["owner/absent", WANTED],
        ["owner/gated", WANTED],
        ["owner/name@v9", WANTED],
        ["owner/name", {"weights": ["nothing.pt"]}],
        ["owner/name", {"vocab": [["owner/gated", "vocab.json"]]}],
    ]
    with small_hub({"owner/name": folder, "owner/gated": None}) as hub:
        absent, gated, revision, missing, part = ask(hub.url, tmp_path / "home", *questions)[0]
    assert absent.startswith("best: no repository owner/absent on the hub, or a private one: see https://")
    assert gated == part
    assert gated == (
        "best: owner/gated asks for an agreement: accept it at https://huggingface.co/owner/gated, "
        "then sign in with `hf auth login`"
    )
    assert revision == "best: owner/name has no revision 'v9'"
    assert missing == (
        f"best: owner/name@{COMMIT} has no nothing.pt: expected the layout in which it was published"
    )


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_and_a_cache_the_sentence_says_what_to_do(tmp_path, offline):
    [said], _ = ask("http://127.0.0.1:9", tmp_path / "home", ["owner/name", WANTED], offline=offline)
    assert said == (
        "best: owner/name is not in the cache and the hub cannot be reached: connect once, or give a folder "
        "with its files as the source"
    )
