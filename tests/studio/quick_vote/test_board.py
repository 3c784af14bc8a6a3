"""The board of all calibrations over all quick votes: only arms that votes connect are compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibri.calibration.artifact import Calibration
from calibri.cli import main
from studio.calibrations import CalibrationStore, Entry
from studio.quick_vote.votes import Contender, analyse_votes, offer, vote
from studio.studies.pages.board import draw_board
from studio.studies.results.board import list_backbones, make_board, say_groups
from tests.studio.quick_vote.test_quick_votes import VISITOR, contenders, play
from tests.studio.studies.conftest import calibration, picture


def entry(scale: float, title: str) -> Entry:
    made = Calibration.from_json(calibration(scale, title))
    return Entry(f"own/{title}", Path(f"{title}.json"), made, False)


def meet(world, first: str, second: str, count: int, backbone: str = "tabletop") -> None:
    """Two arms named by their scales meet; the first one wins every time."""
    for seed in range(count):
        made = []
        for place, scale in enumerate((first, second)):
            found = Calibration.from_json(calibration(float(scale), f"scale {scale}"))
            known = {"calibration": found.to_json(), "calibration_hash": found.hash}
            image = picture(1000 * place + seed)
            made.append(Contender.of(image, label=found.title, kind="calibrated", steps=8, **known))
        shown = offer(world.studies, VISITOR, backbone, f"prompt {seed}", seed, made)
        side = "left" if shown.left.tobytes() == made[0].image.tobytes() else "right"
        vote(world.studies, VISITOR, shown.study, shown.token, side)


def test_the_one_that_wins_stands_first(world):
    list(play(world, 6, "Mine"))
    board = make_board(world.studies, "tabletop")
    [group] = board.groups
    first, second = group.standings
    assert first.name.startswith("Mine") and second.name == "Base, 8 steps"
    assert first.low < first.strength < first.high and first.strength > 0 > second.strength
    assert (first.votes, first.wins, second.wins, board.votes) == (6, 6, 0, 6)
    assert say_groups(board) == []


def test_where_all_arms_met_it_says_what_the_study_says(world):
    list(play(world, 9, "Many", of=3))
    analysis = analyse_votes(world.studies, "tabletop")
    fit = analysis.strengths["preference"]
    [group] = make_board(world.studies, "tabletop").groups
    assert [s.name for s in group.standings] == [s.arm for s in fit.arms]
    for mine, theirs in zip(group.standings, fit.arms):
        assert (mine.strength, mine.low, mine.high) == pytest.approx((theirs.value, theirs.low, theirs.high))


def test_groups_that_never_met_stand_apart_and_words_say_so(world):
    meet(world, "1.1", "1.2", 4)
    meet(world, "1.3", "1.4", 2)
    board = make_board(world.studies, "tabletop")
    assert [group.votes for group in board.groups] == [4, 2]
    names = [{s.name.split(" #")[0] for s in group.standings} for group in board.groups]
    assert names == [{"scale 1.1", "scale 1.2"}, {"scale 1.3", "scale 1.4"}]
    assert "2 groups that never met" in draw_board(board)
    meet(world, "1.2", "1.3", 1)
    joined = make_board(world.studies, "tabletop")
    assert [group.votes for group in joined.groups] == [7]
    [group] = joined.groups
    assert (group.met, group.pairs) == (3, 6) and "3 of 6 pairs met" in draw_board(joined)


def test_saved_calibrations_go_by_their_titles_of_today_and_those_without_a_vote_are_named(world):
    meet(world, "1.1", "1.2", 1)
    saved = [entry(1.1, "Renamed"), entry(1.5, "<b>Unmet</b>")]
    board = make_board(world.studies, "tabletop", saved)
    [group] = board.groups
    assert any(s.name.startswith("Renamed #") for s in group.standings)
    assert board.waiting == ("<b>Unmet</b>",)
    assert "Not voted on yet: &lt;b&gt;Unmet" in draw_board(board)


def test_votes_of_a_quick_study_that_was_put_away_count_and_other_backbones_do_not(world):
    meet(world, "1.1", "1.2", 2)
    [first] = world.studies.store.all()
    world.studies.set_status(first.id, "closed")
    world.studies.set_status(first.id, "archived")
    meet(world, "1.1", "1.2", 3)
    world.study(prompts=2)  # a study with other people is no quick vote
    [group] = make_board(world.studies, "tabletop").groups
    assert [(s.votes, s.wins) for s in group.standings] == [(5, 5), (5, 0)]
    assert list_backbones(world.studies) == ["tabletop"]
    assert make_board(world.studies, "other").groups == ()


def test_before_any_vote_the_board_says_so(world):
    assert "Nobody has voted" in draw_board(make_board(world.studies, "tabletop"))


def test_an_answer_that_compares_nothing_connects_nothing(world):
    shown = offer(world.studies, VISITOR, "tabletop", "a red cube", 1, contenders(1)[:2])
    vote(world.studies, VISITOR, shown.study, shown.token, "both_bad")
    board = make_board(world.studies, "tabletop")
    assert (board.groups, board.votes) == ((), 1)


def test_calibri_board_prints_it_as_text_and_as_json(world, capsys):
    meet(world, "1.1", "1.2", 3)
    own = CalibrationStore(world.folder / "none", world.folder / "calibrations")
    own.save(Calibration.from_json(calibration(1.1, "Mine")))
    world.studies.close()
    where = ["--data", str(world.folder)]
    assert main(["board", *where]) == 0
    said = capsys.readouterr().out
    assert said.startswith("tabletop: 3 quick votes") and "3 won, 0 tied of 3" in said
    assert main(["board", "--json", "--backbone", "tabletop", *where]) == 0
    [board] = json.loads(capsys.readouterr().out)
    assert board["groups"][0]["standings"][0]["name"].startswith("Mine #")
    assert main(["board", "--backbone", "other", *where]) != 0
    assert "known: tabletop" in capsys.readouterr().err
