"""Rewards in files: on the command line, in a program, in records, on workers; never by a page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import calibri
from calibri.cli import main
from calibri.errors import RewardError, SearchError
from calibri.rewards import own
from calibri.rewards.base import RewardLoading, RewardTerm, known_rewards, load_known
from calibri.search.config import SearchConfig
from calibri.search.distributed import Worker
from calibri.search.journal import read_journal
from calibri.search.records import SessionRecord

ROOT = Path(__file__).resolve().parents[3]
FILE = """
import numpy as np
from calibri import RewardInfo

class Redness:
    info = RewardInfo(name="any", role="reward", version="1", description="red", range_hint=(0.0, 1.0))

    def __init__(self, device="cpu", source=""):
        self.source = source

    def score(self, images, prompts):
        if "raise" in prompts:
            raise ValueError("no /srv/somebody/table.txt")
        return [np.asarray(image, dtype=np.float64)[..., 0].mean() / 255 for image in images]

class NoReward:
    def __init__(self, device): pass

class Strange:
    def __init__(self): pass

class judge(Redness):
    info = Redness.info.model_copy(update={"role": "judge", "revision": "ab-c"})
"""


@pytest.fixture(autouse=True)
def nothing_admitted(monkeypatch):
    monkeypatch.setattr(own, "_ADMITTED", {})


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with my_reward.py in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_reward.py").write_text(FILE)
    return tmp_path


def run(*argv):
    return main([str(word) for word in argv])


def small_search(flux_folder, here, out, *more):
    (here / "prompts.txt").write_text("a red cube\na blue sphere\ntwo green cones\na fox\n")
    (here / "held.txt").write_text("a yellow cube\na grey fox\n")
    options = (
        "--generations 1 --steps 1 --bucket 2 --pool 4 --popsize 4 --validation-pairs 0 --held-out-pairs 2 "
        "--granularity block --device cpu --convergence none --prompts prompts.txt --held-out held.txt"
    )
    return run("search", "--backbone", flux_folder, "--out", out, *options.split(), *more)


# ---- names


@pytest.mark.parametrize(
    "text, name, weight",
    [
        ("tabletop-keep:2", "tabletop-keep", 2.0),
        ("./my_reward.py:MyReward", "./my_reward.py:MyReward", 1.0),
        ("./my_reward.py:MyReward:0.5", "./my_reward.py:MyReward", 0.5),
        ("a b/ünï.py:Größe:-1", "a b/ünï.py:Größe", -1.0),
        ("./old.toml", "./old.toml", 1.0),
        ("./old.toml:3", "./old.toml", 3.0),
    ],
)
def test_a_term_is_a_name_and_a_weight(text, name, weight):
    term = RewardTerm.parse(text)
    assert (term.name, term.weight) == (name, weight)
    assert RewardTerm.parse(term.text) == term


@pytest.mark.parametrize("text", ["./my_reward.py:A:b", "./my_reward.py:2x", "./old.toml:x"])
def test_a_term_that_is_written_otherwise_is_refused(text):
    with pytest.raises(SearchError, match="name or name:weight"):
        RewardTerm.parse(text)


def test_records_have_the_path_from_here(here, tmp_path_factory):
    assert own.admit("./my_reward.py:Redness") == "my_reward.py:Redness"
    assert own.admit(f"{here}/my_reward.py:Redness") == "my_reward.py:Redness"
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "other.py"
    elsewhere.write_text(FILE)
    assert own.admit(f"{elsewhere}:Redness") == "other.py:Redness"
    (here / "other.py").write_text(FILE)
    with pytest.raises(RewardError, match=r"^other.py:Redness: expected one file of this name, got two"):
        own.admit("other.py:Redness")
    assert own.paths_of(["tabletop-align", "other.py:Redness"]) == {"other.py:Redness": str(elsewhere)}


# ---- loading


def test_a_file_is_loaded_and_its_content_is_in_the_revision(here):
    reward = calibri.load_reward("./my_reward.py:Redness", source="s")
    assert reward.info.name == reward.info.source == "my_reward.py:Redness"
    assert reward.score([Image.new("RGB", (2, 2), "red")], ["a"]).tolist() == [1.0]
    first = reward.info.revision
    assert re.fullmatch(r"[0-9a-f]{16}-pillow[\d.]+", first)
    (here / "my_reward.py").write_text(FILE + "# the same, with a remark\n")
    assert calibri.load_reward("./my_reward.py:Redness").info.revision != first
    judge = calibri.load_reward("./my_reward.py:judge").info
    assert judge.role == "judge" and re.fullmatch(r"[0-9a-f]{16}\+ab-c", judge.revision)
    assert sorted(path.name for path in here.iterdir()) == ["my_reward.py"]  # no bytecode beside it


@pytest.mark.parametrize(
    "name, said",
    [
        ("./absent.py:Redness", r"^absent.py:Redness: expected a file at this path from the current folder"),
        ("./my_reward.py", r"^expected FILE.py:Class or FILE.toml, got './my_reward.py'"),
        ("./my_reward.py:Absent", r"expected a class or function Absent in the file, got none"),
        ("./my_reward.py:NoReward", r"expected an object with `info`, a RewardInfo"),
        ("./my_reward.py:Strange", r"expected a class that is called with the device"),
        ("./broken.py:Redness", r"^broken.py:Redness cannot be run: SyntaxError"),
        ("./exits.py:Redness", r"^exits.py:Redness cannot be run: SystemExit: 3"),
        ("./raises.py:Redness", r"^raises.py:Redness cannot be run: OSError: no x.txt$"),
        ("./wrong.toml", r"^wrong.toml: expected TOML"),
        ("./empty.toml", r"^empty.toml: place: Field required"),
        ("./more.toml", r"^more.toml: evil: Extra inputs"),
    ],
)
def test_what_is_no_reward_is_a_sentence(here, name, said):
    (here / "broken.py").write_text("class Redness(:\n")
    (here / "exits.py").write_text("raise SystemExit(3)\n")
    (here / "raises.py").write_text("raise OSError('no /a/b/x.txt')\n")
    (here / "wrong.toml").write_text("place = \n")
    (here / "empty.toml").write_text("")
    (here / "more.toml").write_text('place = "a:B"\nevil = 1\n')
    with pytest.raises(RewardError, match=said) as told:
        calibri.load_reward(name)
    assert str(here) not in str(told.value)


def test_what_the_file_raises_while_scoring_is_a_sentence(here):
    reward = calibri.load_reward("./my_reward.py:Redness")
    with pytest.raises(RewardError, match=r"^my_reward.py:Redness: ValueError: no table.txt$"):
        reward.score([Image.new("RGB", (2, 2))], ["raise"])


# ---- who may name one


def test_a_name_that_came_from_elsewhere_runs_no_file(here):
    mark = here / "ran"
    (here / "evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    for name in ("./evil.py:X", "evil.py:X", str(here / "evil.py") + ":X", "evil.toml"):
        with pytest.raises(RewardError, match="files are run by commands and programs alone"):
            load_known(name)
        with pytest.raises(RewardError, match="files are run by commands and programs alone"):
            RewardLoading().load([name], "cpu")
    calibri.load_reward("./my_reward.py:Redness")  # admits nothing
    with pytest.raises(RewardError, match=r"got the file my_reward\.py:Redness"):
        load_known("my_reward.py:Redness")
    assert not mark.exists() and "my_reward.py:Redness" not in known_rewards()


# ---- commands


def test_a_search_with_a_file_goes_on_and_records_no_folder(here, flux_folder, capsys):
    names = ["--reward", f"{here}/my_reward.py:Redness:2", "--judge", "./my_reward.py:judge"]
    assert small_search(flux_folder, here, here / "run", *names) == 0
    config = SearchConfig.from_json((here / "run" / "config.json").read_text())
    assert [term.text for term in config.rewards] == ["my_reward.py:Redness:2"]
    assert config.judges == ("my_reward.py:judge",)
    # The backbone here is a folder of the test's, which the config names.
    written = "".join(path.read_text() for path in (here / "run").glob("*.json*"))
    assert str(here) not in written.replace(str(flux_folder), "")
    digest = calibri.load_reward("./my_reward.py:Redness").info.revision
    [session] = [record for record in read_journal(here / "run") if isinstance(record, SessionRecord)]
    assert session.rewards["my_reward.py:Redness"] == digest

    own._ADMITTED.clear()  # as in a new process
    assert run("search", "--resume", here / "run", "--generations", "2") == 0
    own._ADMITTED.clear()
    (here / "my_reward.py").write_text(FILE + "# changed\n")
    capsys.readouterr()
    assert run("search", "--resume", here / "run", "--generations", "3") == 1
    assert "other weights of my_reward.py:Redness" in capsys.readouterr().err
    own._ADMITTED.clear()
    (here / "my_reward.py").unlink()
    assert run("search", "--resume", here / "run", "--generations", "3") == 1
    assert (
        "my_reward.py:Redness: expected a file at this path from the current folder"
        in capsys.readouterr().err
    )


def test_a_resumed_search_of_the_library_finds_it_too(here, flux_folder):
    assert small_search(flux_folder, here, here / "run", "--reward", "my_reward.py:Redness") == 0
    own._ADMITTED.clear()
    records = list(calibri.run_search(None, here / "run", budget=calibri.Budget(generations=2)))
    assert records[-1].kind == "result"


def test_evaluate_and_diagnose_take_files(here, flux_folder, capsys):
    common = ["--backbone", flux_folder, "--steps", 1, "--pairs", 4, "--device", "cpu", "--json"]
    prompts = here / "prompts.txt"
    prompts.write_text("a red cube\na blue sphere\n")
    assert run("evaluate", *common, "--prompts", prompts, "--reward", f"{here}/my_reward.py:Redness") == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert list(row["means"]) == ["my_reward.py:Redness"]
    out = here / "sweep.jsonl"
    argv = ["--prompts", prompts, "--reward", "./my_reward.py:Redness:2", "--values", "0.5", "--out", out]
    assert run("diagnose", *common, *argv) == 0
    assert "my_reward.py:Redness" in out.read_text() and str(here) not in out.read_text()


def test_files_are_compared_with_other_rewards(here, capsys):
    for i in range(6):
        Image.new("RGB", (64, 64), (40 * i, 10, 0)).save(here / f"{i}.png")
        (here / f"{i}.txt").write_text(f"a red cube {i}")
    names = [f"{here}/my_reward.py:Redness", "my_reward.py:judge"]
    assert run("rewards", "compare", *names, "--images", here, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["rewards"]) == ["my_reward.py:Redness", "my_reward.py:judge"]
    assert str(here) not in json.dumps(report)


def test_a_trial_of_a_file(here, capsys):
    assert run("rewards", "test", "./my_reward.py:Redness", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["name"] == "my_reward.py:Redness" and len(report["scores"]) == 3
    assert run("rewards", "test", "./my_reward.py:Redness", "--dtype", "bfloat16") == 1
    assert "is called with the device and dtype" in capsys.readouterr().err


def test_ray_workers_find_it_in_any_folder(here, flux_folder, tmp_path_factory, monkeypatch):
    name = own.admit("./my_reward.py:Redness")
    paths = own.paths_of([name, "tabletop-align"])
    assert paths == {name: str(here / "my_reward.py")}
    own._ADMITTED.clear()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    worker = Worker(str(flux_folder), [name], 1, {"device": "cpu", "dtype": "float32"}, 1, files=paths)
    revision = calibri.load_reward(f"{here}/my_reward.py:Redness").info.revision
    assert worker.about()["rewards"] == {name: revision}
    with pytest.raises(RewardError, match="expected its file at the same place on every machine") as told:
        own.admit_paths({name: "/nowhere/my_reward.py"})
    assert "/nowhere" not in str(told.value)


def test_the_example_of_the_page_has_20_lines_and_runs(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
    [example] = [
        text
        for text in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        if "class " in text
    ]
    assert len(example.splitlines()) <= 20
    (tmp_path / "my_reward.py").write_text(example)
    monkeypatch.chdir(tmp_path)
    assert run("rewards", "test", "./my_reward.py:MyReward", "--json") == 0
    assert np.ptp(json.loads(capsys.readouterr().out)["scores"]) > 0


@pytest.mark.slow
def test_a_search_over_ray_scores_with_the_file(here, flux_folder):
    assert small_search(flux_folder, here, here / "near", "--reward", "./my_reward.py:Redness") == 0
    ray = ["--ray", "--workers", "2", "--reward", f"{here}/my_reward.py:Redness"]
    assert small_search(flux_folder, here, here / "far", *ray) == 0
    records = [record for name in ("near", "far") for record in read_journal(here / name)]
    near, far = (record.rewards for record in records if isinstance(record, SessionRecord))
    assert near == far and list(far) == ["my_reward.py:Redness"]
    written = "".join(path.read_text() for path in (here / "far").glob("*.json*"))
    assert str(here) not in written.replace(str(flux_folder), "")
