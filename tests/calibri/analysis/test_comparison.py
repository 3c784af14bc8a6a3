"""Pictures of a folder with their prompts, and rewards that are compared on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import calibri
from calibri.analysis.album import find_pictures
from calibri.analysis.comparison import agree, describe, predict, score_pictures
from calibri.cli import main
from calibri.errors import PromptError, RewardError
from calibri.preference import NoData
from calibri.preference.votes import Vote
from calibri.rewards import base
from calibri.rewards.cache import ScoreCache
from calibri.sampling.png import save_png

INFO = {"role": "reward", "version": "1", "description": "of a test", "range_hint": (0.0, 1.0)}
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "rewards"


class Level:
    """The mean of one colour, and how often it was asked."""

    channel, shift, revision, closed, seen = 0, 0.0, "1", 0, 0

    def __init__(self, device: str) -> None:
        self.info = calibri.RewardInfo(name="redness", revision=self.revision, **INFO)

    def score(self, images, prompts):
        type(self).seen += len(images)
        means = [np.asarray(image)[..., self.channel].mean() / 255 for image in images]
        return np.array(means) + self.shift

    def close(self) -> None:
        type(self).closed += 1


class Shifted(Level):
    shift = 0.25


class Green(Level):
    channel = 1


class Broken(Level):
    def score(self, images, prompts):
        return np.full(len(images), np.nan)


@pytest.fixture(autouse=True)
def own_rewards(monkeypatch):
    monkeypatch.setattr(base, "_REGISTERED", {})
    for name, made in (("red", Level), ("red-too", Shifted), ("green", Green), ("broken", Broken)):
        calibri.register_reward(name, made)
        monkeypatch.setattr(made, "closed", 0)
        monkeypatch.setattr(made, "seen", 0)


@pytest.fixture
def folder(tmp_path) -> Path:
    """12 pictures, two of each prompt; redder ones are less green."""
    made = tmp_path / "pictures"
    made.mkdir()
    for i in range(12):
        picture = Image.new("RGB", (8, 8), (20 * i, 250 - 20 * i, 0))
        save_png(picture, made / f"{i:02d}.png", {"prompt": f"prompt {i // 2}", "seed": i})
    return made


# ---- pictures and prompts


def test_prompts_come_from_the_settings_inside_a_png(folder):
    found = find_pictures(folder)
    assert [each.path.name for each in found] == [f"{i:02d}.png" for i in range(12)]
    assert [each.prompt for each in found] == [f"prompt {i // 2}" for i in range(12)]
    assert found[3].open().getpixel((0, 0)) == (60, 190, 0)


def test_a_text_beside_a_picture_is_its_prompt(folder):
    Image.new("L", (8, 8)).save(folder / "a photo.jpg")
    (folder / "a photo.txt").write_text("a grey\nsquare \n", encoding="utf-8")
    (folder / "00.txt").write_text("another", encoding="utf-8")
    found = {each.path.name: each.prompt for each in find_pictures(folder)}
    assert found["a photo.jpg"] == "a grey square" and found["00.png"] == "another" and len(found) == 13


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", json.dumps({f"sub/{i:02d}.png": f"new {i}" for i in range(12)} | {"more.png": "x"})),
        ("p.csv", "Image,seed,Prompt\n" + "".join(f'{i:02d}.png,1,"new {i}"\n' for i in range(12))),
        ("p.tsv", "file name\tcaption\n" + "".join(f"{i:02d}.png\tnew {i}\n" for i in range(12))),
        ("p.txt", "\n".join(f"new {i}" for i in range(12))),
    ],
)
def test_prompts_come_from_a_file(folder, tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [each.prompt for each in find_pictures(folder, tmp_path / name)] == [f"new {i}" for i in range(12)]


def test_repeated_lines_are_prompts_of_different_pictures(folder, tmp_path):
    (tmp_path / "p.txt").write_text("the same\n" * 12)
    assert {each.prompt for each in find_pictures(folder, tmp_path / "p.txt")} == {"the same"}


def test_what_does_not_fit_is_told(folder, tmp_path):
    (tmp_path / "p.txt").write_text("one\ntwo\n")
    with pytest.raises(PromptError, match="one line for each of 12 pictures, got 2"):
        find_pictures(folder, tmp_path / "p.txt")
    (tmp_path / "p.json").write_text('{"00.png": "one"}')
    with pytest.raises(PromptError, match=r"a prompt for every picture, got none for 01\.png"):
        find_pictures(folder, tmp_path / "p.json")
    with pytest.raises(PromptError, match="absent"):
        find_pictures(folder, tmp_path / "absent.txt")
    with pytest.raises(RewardError, match="expected a folder with pictures"):
        find_pictures(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RewardError, match="expected pictures"):
        find_pictures(tmp_path / "empty")
    Image.new("L", (8, 8)).save(folder / "plain.png")
    with pytest.raises(RewardError, match=r"plain\.png: expected its prompt in plain\.txt or .*give a file"):
        find_pictures(folder)


def test_a_file_that_is_no_picture_is_named(folder):
    (folder / "05.png").write_bytes(b"no picture")
    (folder / "05.txt").write_text("a prompt")
    with pytest.raises(RewardError, match=r"05\.png: expected a picture"):
        score_pictures(calibri.load_reward("red"), find_pictures(folder))


# ---- scores


def test_scores_are_kept_and_told(folder, tmp_path):
    pictures, cache = find_pictures(folder), ScoreCache(tmp_path / "scores.db")
    reward, told = calibri.load_reward("red"), []
    scores = score_pictures(reward, pictures, cache, told.append)
    assert scores == pytest.approx([20 * i / 255 for i in range(12)]) and told == [12]
    assert (score_pictures(reward, pictures, cache) == scores).all() and Level.seen == 12
    with pytest.raises(RewardError, match="finite"):
        score_pictures(calibri.load_reward("broken"), pictures)
    assert score_pictures(reward, []).shape == (0,)


def test_agreement_of_rewards():
    scores = {"a": np.arange(6.0), "b": np.arange(6.0) + 0.5, "c": -(np.arange(6.0) ** 2)}
    [ab, ac, _] = agree(scores, ["p", "p", "q", "q", "r", "r"])
    assert (ab.a, ab.b, ab.overall.value, ab.within.value, ab.largest) == ("a", "b", 1, 1, 0.5)
    assert (ac.overall.value, ac.largest, ac.at) == (-1, 30, 5)
    assert describe(ab.overall)["prompts"] == 3 and describe(NoData("why")) == {"no_data": "why"}


def test_the_reward_that_predicts_best_comes_first():
    votes = [
        Vote("q", "x", "y", f"p{i}", f"r{j}", "x" if (i + j) % 4 else "y", pair=f"p{i}")
        for i in range(8)
        for j in range(8)
    ]
    pairs = [f"p{i}" for i in range(8)]
    scores = {
        "never": dict.fromkeys(pairs, (0.0, 1.0)),
        "no scores": {},
        "always": dict.fromkeys(pairs, (1.0, 0.0)),
        "alike": dict.fromkeys(pairs, (1.0, 1.0)),
    }
    found = predict(votes, scores)
    assert [each.reward for each in found] == ["always", "alike", "never", "no scores"]
    assert [each.undecided for each in found] == [0, 64, 0, 0]
    assert found[0].rate.value == 0.75 and found[1].rate.value == 0.5 and isinstance(found[3].rate, NoData)


# ---- the command


def compare(capsys, *words: object) -> tuple[int, str, str]:
    code = main(["rewards", "compare", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_rewards_are_compared_on_a_folder(capsys, folder):
    code, out, err = compare(capsys, "red", "red-too", "green", "--images", folder, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["pictures"], report["prompts"]) == (12, 6)
    [same, turned, _] = report["agreement"]
    assert same["rewards"] == ["red", "red-too"] and same["largest_difference"] == pytest.approx(0.25)
    assert same["spearman"]["value"] == 1 and same["spearman_within_prompts"]["value"] == 1
    assert turned["spearman"]["value"] == -1 and turned["spearman"]["prompts"] == 6
    assert report["rewards"]["red"]["mean"] == pytest.approx(110 / 255)
    assert (Level.closed, Shifted.closed, Green.closed) == (1, 1, 1)  # one in memory at a time


def test_the_comparison_in_words(capsys, folder):
    out = compare(capsys, "red", "green", "--images", folder)[1]
    assert "12 pictures of 6 prompts" in out and "red and green" in out
    assert "order within prompts: Spearman −1.00 [−1.00, −1.00], cluster bootstrap over 6 prompts" in out
    assert "largest difference 0.98, of 00.png" in out


def test_published_rewards_are_compared_on_their_golden_weights(capsys, folder):
    names = {"clipscore": GOLDEN / "aesthetic", "aesthetic": GOLDEN / "aesthetic"}
    sources = [word for name in names for word in ("--reward-source", f"{name}={names[name]}")]
    code, out, err = compare(capsys, *names, "--images", folder, *sources, "--json")
    assert code == 0, err
    assert json.loads(out)["agreement"][0]["largest_difference"] > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["red", "--images", "x"], "expected two or more different rewards, got red"),
        (["red", "red", "--images", "x"], "two or more different rewards"),
        (["red", "green"], "give --images DIR"),
        (["red", "green", "--images", "no such folder"], "expected a folder"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(capsys, words, told):
    code, _, err = compare(capsys, *words)
    assert code == 1 and told in err


def test_a_source_for_another_reward_is_refused(capsys, folder):
    words = ["red", "green", "--images", folder, "--reward-source", "pickscore=x/y"]
    assert "a source is given for pickscore" in compare(capsys, *words)[2]
    assert "unknown reward 'beauty'" in compare(capsys, "red", "beauty", "--images", folder)[2]
