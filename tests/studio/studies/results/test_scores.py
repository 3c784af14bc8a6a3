"""What rewards say of a study: scored in the background, held against choices, hidden while it is open."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import calibri
from calibri.cli import main
from calibri.errors import RewardError, StudyError
from calibri.preference import Rate
from calibri.rewards import base
from studio.core import Core
from studio.machine.rewards import RewardModels
from studio.settings import Settings
from studio.studies.pages import reward_card
from studio.studies.pages.reward_card import CardHandlers, draw_card
from studio.studies.results.analysis import ALL, Filter, read_votes
from studio.studies.results.scores import hung_pairs, pair_scores
from tests.studio.studies.results.test_results import vote_for

INFO = {"role": "reward", "version": "1", "description": "of a test", "range_hint": (0.0, 1.0)}


class Fan:
    """Prefers the pictures of one arm, told by their pixels; `revision` lets its scores be kept."""

    def __init__(self, liked: set[bytes], name: str = "fan", revision: str = "1") -> None:
        self.info = calibri.RewardInfo(name=name, revision=revision, **INFO)
        self.liked, self.seen = liked, 0

    def score(self, images, prompts):
        self.seen += len(images)
        return np.array([float(image.tobytes() in self.liked) for image in images])


def pixels_of(world, study, label: str) -> set[bytes]:
    """What the pictures of one arm are made of."""
    labels = {arm.id: arm.label for arm in world.studies.store.arms(study.id)}
    shas = {
        sha
        for pair in world.studies.store.pairs(study.id)
        if pair.kind == "real"
        for arm, sha in ((pair.arm_x, pair.image_x), (pair.arm_y, pair.image_y))
        if labels[arm] == label
    }
    return {world.studies.images.open(sha).tobytes() for sha in shas}


@pytest.fixture
def voted(world):
    """Three raters of four prefer the calibrated arm, on 12 prompts; closed."""
    study = world.study(prompts=12)
    for number, arm in enumerate(["calibrated-arm"] * 3 + ["base-arm"]):
        vote_for(world, world.rater(study, number).join(), arm)
    return world.studies.set_status(study.id, "closed")


@pytest.fixture
def fans(world, voted):
    """name → reward, loaded once."""
    liked = pixels_of(world, voted, "calibrated-arm")
    made = {"fan": Fan(liked), "indifferent": Fan(set(), "indifferent")}
    made["opponent"] = Fan(pixels_of(world, voted, "base-arm"), "opponent")
    return made


def score(world, study, fans, *names: str) -> None:
    world.studies.scores.start(study.id, names or list(fans), fans.__getitem__)
    assert world.studies.scores.wait()


def test_rewards_are_held_against_what_people_chose(world, voted, fans):
    score(world, voted, fans)
    found = world.studies.scores.find(voted.id)
    assert (found.error, found.now, found.total, found.missing) == ("", "", 24, 0)
    text = draw_card(world.studies, voted, Filter("preference"))
    assert "No reward is told apart from a coin; fan comes nearest: 75.0 %" in text  # four raters are few
    order = [text.index(f"<td>{name}</td>") for name in ("fan", "indifferent", "opponent")]
    assert order == sorted(order)
    assert "50.0 %" in text and "25.0 %" in text
    fan_and_opponent = next(each for each in found.agreements if each.b == "opponent")
    assert fan_and_opponent.overall.value == -1


def test_a_reward_that_is_told_apart_from_a_coin_is_named(world):
    study = world.study(prompts=8)
    for number in range(8):
        vote_for(world, world.rater(study, number).join(), "calibrated-arm")
    study = world.studies.set_status(study.id, "closed")
    score(world, study, {"fan": Fan(pixels_of(world, study, "calibrated-arm"))})
    text = draw_card(world.studies, study, Filter("preference"))
    assert "fan predicts people&#39;s choices best: 100.0 %" in text and "of 64." in text


def test_only_real_valid_votes_under_the_filter_count(world, voted, fans):
    rows = world.studies.votes.rows(voted.id)
    world.studies.votes.invalidate(rows[0]["id"], "pressed by a cat")
    rows = world.studies.votes.rows(voted.id)
    real = sum(row["kind"] == "real" for row in rows)
    votes = read_votes(voted, rows)
    assert sum(vote.kind == "real" for vote in votes) == real - 1 or rows[0]["kind"] != "real"
    score(world, voted, fans, "fan")
    scores = pair_scores(
        hung_pairs(world.studies.store.pairs(voted.id)), world.studies.scores.find(voted.id).scores
    )
    assert len(scores["fan"]) == 12
    assert "no data" in draw_card(world.studies, voted, Filter("preference", consensus=5))


def test_scores_are_kept_for_the_next_start(world, voted, fans):
    score(world, voted, fans, "fan")
    assert fans["fan"].seen == 24
    world.reopen()
    assert world.studies.scores.find(voted.id) is None
    again = Fan(fans["fan"].liked)
    score(world, voted, {"fan": again})
    assert again.seen == 0 and len(world.studies.scores.find(voted.id).scores["fan"]) == 24


def test_more_rewards_can_be_added(world, voted, fans):
    score(world, voted, fans, "fan")
    score(world, voted, fans, "opponent")
    assert list(world.studies.scores.find(voted.id).scores) == ["fan", "opponent"]
    assert len(world.studies.scores.find(voted.id).agreements) == 1


def test_nothing_waits_for_the_scoring_and_one_runs_at_a_time(world, voted, fans):
    gate = threading.Event()

    class Slow(Fan):
        def score(self, images, prompts):
            assert gate.wait(30)
            return super().score(images, prompts)

    slow = {"slow": Slow(set(), "slow")}
    world.studies.scores.start(voted.id, ["slow"], slow.__getitem__)
    assert world.studies.scores.is_busy(voted.id)
    assert "Scoring: slow, 0 of 24 pictures" in draw_card(world.studies, voted, ALL)
    with pytest.raises(StudyError, match="being scored already"):
        world.studies.scores.start(voted.id, ["fan"], fans.__getitem__)
    gate.set()
    assert world.studies.scores.wait() and not world.studies.scores.is_busy(voted.id)


def test_closing_the_studio_ends_it_between_two_batches(world, voted, fans):
    scores = world.studies.scores

    class Closing(Fan):
        def score(self, images, prompts):
            scores._background._closed = True
            return super().score(images, prompts)

    score(world, voted, {"closing": Closing(set(), "closing")})
    assert scores.find(voted.id).scores == {} and scores.find(voted.id).error == ""


def test_what_goes_wrong_is_told(world, voted, fans, caplog):
    def fail(name):
        raise RewardError(f"{name} is not in the cache and the hub cannot be reached")

    world.studies.scores.start(voted.id, ["hpsv3"], fail)
    assert world.studies.scores.wait()
    assert "hpsv3 is not in the cache" in draw_card(world.studies, voted, ALL)

    def surprise(name):
        raise ZeroDivisionError

    world.studies.scores.start(voted.id, ["hpsv3"], surprise)
    assert world.studies.scores.wait()
    assert (
        "Something unexpected" in draw_card(world.studies, voted, ALL)
        and "study-scores failed" in caplog.text
    )
    with pytest.raises(StudyError, match="at least one reward"):
        world.studies.scores.start(voted.id, [], fail)


def test_missing_pictures_are_left_out_and_told(world, voted, fans):
    [(sha, _), *_] = next(iter(hung_pairs(world.studies.store.pairs(voted.id)).values()))
    world.studies.images.path(sha).unlink()
    score(world, voted, fans, "fan")
    found = world.studies.scores.find(voted.id)
    assert (found.total, found.missing, len(found.scores["fan"])) == (23, 1, 23)
    assert "1 picture left out: missing or damaged." in draw_card(world.studies, voted, Filter("preference"))


def test_a_study_without_pictures_has_nothing_to_score(world):
    draft = world.draft(prompts=2)
    world.studies.db.write(lambda t: t.run("UPDATE pairs SET image_x = NULL"))
    with pytest.raises(StudyError, match="no pictures yet"):
        world.studies.scores.start(draft.id, ["fan"], dict)


# ---- the card


def handlers(world, fans, **settings) -> CardHandlers:
    core = Core(
        settings=Settings(data=world.folder, **settings),
        host=SimpleNamespace(backbone=None),
        calibrations=None,
        rewards=RewardModels(lambda name, device: fans[name]),
    )
    return CardHandlers(core, world.studies)


ASKED = ("preference", "", False, 0)


def test_the_card_shows_how_far_it_is_and_what_it_found(world, voted, fans):
    do, request = handlers(world, fans), None  # this process asks
    assert do.on_look(voted.id, *ASKED, request)[0] == ""
    shown, timer = do.on_score(voted.id, *ASKED, ["fan", "opponent"], request)
    assert "Scoring" in shown or "predicts" in shown
    assert world.studies.scores.wait()
    shown, timer = do.on_look(voted.id, *ASKED, request)
    assert "fan comes nearest" in shown and not timer.active
    assert do.on_look(None, *ASKED, request)[0] == ""
    assert (
        "fan comes nearest"
        in do.on_look(voted.id, "a question of another study", None, False, None, request)[0]
    )


def test_who_wins_stays_hidden_while_a_study_is_open(world, fans):
    study = world.study(name="open one", prompts=4)
    vote_for(world, world.rater(study).join(), "calibrated-arm")
    do, request = handlers(world, fans), None  # this process asks
    do.on_score(study.id, *ASKED, ["fan", "opponent"], request)
    assert world.studies.scores.wait()
    shown, _ = do.on_look(study.id, *ASKED, request)
    assert reward_card.HIDDEN.split(".")[1].strip()[:20] in shown
    assert "predicts" not in shown and "%" not in shown
    closed = world.studies.set_status(study.id, "closed")
    assert "predicts" in do.on_look(closed.id, *ASKED, request)[0]


def test_only_organisers_see_or_start_it(world, voted, fans):
    score(world, voted, fans)
    do, request = handlers(world, fans, demo=True), SimpleNamespace(username=None, cookies={})
    assert do.on_look(voted.id, *ASKED, request)[0] == ""
    with pytest.raises(Exception, match="Only the organisers"):
        do.on_score(voted.id, *ASKED, ["fan"], request)


def test_without_names_those_of_the_backbone_are_taken(world, voted, fans):
    assert handlers(world, fans)._usual(voted)[:2] == ["tabletop-align", "tabletop-quality"]


# ---- the command


@pytest.fixture
def command(world, voted, fans, monkeypatch, capsys):
    monkeypatch.setattr(base, "_REGISTERED", {})
    for name, made in fans.items():
        calibri.register_reward(name, lambda device, made=made: made)

    def call(*words: str) -> tuple[int, str, str]:
        world.studies.close()
        code = main(["rewards", "compare", "fan", "opponent", "--data", str(world.folder), *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_the_command_reads_a_closed_study(command, voted):
    code, out, err = command("--study", voted.id, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["pictures"], report["prompts"]) == (24, 12)
    assert report["agreement"][0]["spearman"]["value"] == -1
    said = report["choices"]["preference"]
    assert said["fan"]["value"] == 0.75 and said["opponent"]["value"] == 0.25 and said["fan"]["n"] == 48
    assert said["fan"]["method"] == "two-way cluster bootstrap over 12 prompts and 4 raters"
    out = command("--study", voted.name)[1]
    assert "fan predicts 75.0 %" in out and "a coin would be right in 50 %" in out


def test_the_command_tells_nothing_of_an_open_study(command, world):
    study = world.study(name="open one", prompts=4)
    vote_for(world, world.rater(study).join(), "calibrated-arm")
    code, out, err = command("--study", study.id, "--json")
    assert code == 0, err
    assert json.loads(out)["choices"] is None
    assert "shown once it is closed" in command("--study", study.id)[1]


def test_the_running_studio_gives_the_command_its_study(world, voted):
    from studio.studies.commands import run
    from studio.studies.compare_cli import Asked, tell_choices

    answer = json.loads(json.dumps(run(world.studies, "choices", {"study": voted.id})))
    asked = Asked.read(answer)
    pictures = asked.list_pictures(world.studies.images)
    scores = {"alike": {(each.sha256, each.prompt): 1.0 for each in pictures}}
    told, _ = tell_choices(asked, scores)
    assert told["choices"]["preference"]["alike"]["scored_alike"] == 48
    assert isinstance(asked.votes[0]["rater"], str) and not isinstance(told, Rate)


def test_a_folder_and_a_study_are_not_compared_at_once(command, voted):
    code, _, err = command("--study", voted.id, "--images", "x")
    assert code == 1 and "expected one of them, got both" in err
    assert "There is no such study" in command("--study", "nowhere")[2]
