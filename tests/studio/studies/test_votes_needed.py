"""Planning a study: what is known of earlier ones, the command, the panel in the form."""

from __future__ import annotations

import json
import math
from random import Random

import pytest

from calibri.errors import StudyError
from calibri.preference import Likeness, NoData, plan_votes
from studio.studies import commands
from studio.studies.cli import main
from studio.studies.pages.plan_panel import make_handler
from studio.studies.pages.rules import write_protocol
from studio.studies.planning import NewArm, NewPrompt, NewStudy, plan
from studio.studies.protocol import PRESETS
from studio.studies.votes_needed import (
    SECONDS,
    Experience,
    count_pictures,
    gather_experience,
    plan_study,
    read_wish,
)
from tests.studio.studies.conftest import calibration


def finish(world, raters: int = 24, prompts: int = 20, name: str = "earlier") -> None:
    """A closed study in which half of the prompts favour one arm, and everybody looks for three seconds."""
    study = world.study(prompts=prompts, name=name)
    random = Random(1)
    for number in range(raters):
        rater = world.rater(study, number).join()
        rater.looks = 3.0
        while rater.view.stage == "vote":
            prompt = int(rater.view.showings[0]["prompt"].split()[-1])
            left_is_x = world.studies.db.read(
                "SELECT left_is_x FROM assignments WHERE token = ?", [rater.token]
            )[0][0]
            x_wins = random.random() < (0.9 if prompt % 2 else 0.4)
            rater.vote("left" if x_wins == left_is_x else "right", response_ms=3000)
    world.studies.set_status(study.id, "closed")


def test_without_finished_studies_the_defaults_are_told(world):
    known = gather_experience(world.studies)
    assert known == Experience()
    told = plan_study(read_wish({}), known)
    assert {k: v["from"] for k, v in told["assumed"].items()} == dict.fromkeys(
        ("prompt_icc", "rater_icc", "seconds_a_vote"), "default"
    )
    assert told["assumed"]["seconds_a_vote"]["value"] == SECONDS
    assert [row["share"] for row in told["plans"]] == [52, 55, 60]
    votes = [row["votes"] for row in told["plans"]]
    assert votes[0] > 4 * votes[1] > 12 * votes[2] > 0  # about as 1 over the distance squared
    assert any("default" in words for words in told["remarks"])


def test_finished_studies_tell_how_alike_votes_are_and_how_long_they_take(world):
    finish(world)
    known = gather_experience(world.studies)
    assert known.votes == 480 and known.studies == 1
    # the prompts' chances are 0.9 and 0.4: variance 0.0625 of 0.65 · 0.35
    assert known.likeness.prompts == pytest.approx(0.0625 / (0.65 * 0.35), abs=0.1)
    assert known.likeness.raters < 0.05
    assert known.seconds == pytest.approx(3, abs=0.1)
    told = plan_study(read_wish({"share": [60]}), known)
    assert "480 votes of 1 finished study" in told["assumed"]["prompt_icc"]["from"]
    given = plan_study(read_wish({"share": [60], "prompt_icc": 0.0}), known)
    assert given["assumed"]["prompt_icc"] == {"value": 0.0, "from": "given"}
    assert given["plans"][0]["votes"] < told["plans"][0]["votes"]


def test_open_studies_tell_nothing(world):
    study = world.study(prompts=20)
    for number in range(10):
        world.rater(study, number).join().vote_all(seed=number)
    assert gather_experience(world.studies) == Experience()


def test_the_costs_follow_from_the_plan():
    wish = read_wish(
        {"share": [60], "arms": 3, "cap": 40, "gold_rate": 0.1, "repeat_rate": 0.1, "seconds": 6}
    )
    [row] = plan_study(wish, Experience())["plans"]
    found = plan_votes(0.6, Likeness(), pairs_a_rater=32, contests=3)
    assert not isinstance(found, NoData)
    assert (row["votes"], row["raters"], row["prompts"]) == (found.all_votes, found.raters, found.prompts)
    showings = math.ceil(found.all_votes / 0.8)
    assert row["hours_in_all"] == pytest.approx(showings * 6 / 3600, abs=0.06)
    assert row["minutes_a_rater"] == pytest.approx(showings / found.raters * 6 / 60, abs=0.06)


def test_the_pictures_are_those_that_a_study_renders():
    protocol = PRESETS["five-per-pair"]
    arms = (NewArm(label="base"), NewArm(label="c", kind="calibrated", calibration=calibration()))
    wish = read_wish({"arms": 2, "seeds": 2, "cap": protocol.cap})
    found = plan_votes(0.7, Likeness(), seeds=2)
    prompts = tuple(NewPrompt(text=f"p{i}") for i in range(found.prompts))
    new = NewStudy(name="n", arms=arms, prompts=prompts, seeds_per_prompt=2, protocol=protocol, seed=1)
    _, _, pairs = plan(new, b"key")
    pictures = {(arm, p.seed) for p in pairs if p.kind != "repeat" for arm in (p.arm_x, p.arm_y)}
    assert count_pictures(wish, found) == len(pictures)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"share": [50]}, "above 50 %"),
        ({"share": [100]}, "below 100 %"),
        ({"power": 100}, "power"),
        ({"arms": 1}, "arms"),
        ({"prompt_icc": 2}, "prompt_icc"),
        ({"nonsense": 2}, "nonsense"),
    ],
)
def test_a_wish_that_does_not_fit_is_a_sentence(wrong, words):
    with pytest.raises(StudyError, match=words):
        read_wish(wrong)


def test_two_correlations_that_leave_nothing_to_chance_are_refused(world):
    with pytest.raises(StudyError, match="less than 1 together"):
        commands.run(world.studies, "plan", {"wish": {"prompt_icc": 0.6, "rater_icc": 0.5}})


def test_the_command_needs_no_data_folder_and_makes_none(capsys, tmp_path):
    code = main(
        ["--data", str(tmp_path / "none"), "plan", "--share", "60", "--power", "90", "--prompts", "200"]
    )
    told = json.loads(capsys.readouterr().out)
    assert code == 0 and told["power"] == 90
    [row] = told["plans"]
    assert row["prompts"] == 200 and row["power"] >= 90
    assert list(tmp_path.iterdir()) == []


def test_the_command_takes_what_finished_studies_tell(capsys, world):
    finish(world)
    world.studies.close()
    assert main(["--data", str(world.folder), "plan", "--share", "55"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "finished study" in told["assumed"]["rater_icc"]["from"]
    world.open()


def test_the_panel_shows_both_tables(world, core):
    answer = make_handler(core, world.studies, 20)
    rules = write_protocol(PRESETS["five-per-pair"])
    drawn = answer([{}, {}, {}], "", 1, rules, 58, 80, None)
    assert "58 %" in drawn and "20 prompts are not enough" in drawn
    assert "default" in drawn and "3 pairs of arms" in drawn
    with pytest.raises(StudyError, match="protocol"):
        answer([], "", 1, "nonsense", 58, 80, None)
    with pytest.raises(StudyError, match="above 50"):
        answer([], "", 1, rules, 40, 80, None)
