"""The page Quick vote: blind votes on the arms that were compared last."""

from __future__ import annotations

import dataclasses

import pytest

from calibri.errors import StudyError
from studio.quick_vote import page
from studio.rendering.arms import Arm
from studio.rendering.asks import Ask
from studio.rendering.places import SharedPlace
from studio.rendering.shots import Comparison, shoot_all
from studio.studies.studies import open_studies


@pytest.fixture
def studies(stocked, tmp_path):
    made = open_studies(tmp_path / "data", stocked.host)
    yield made
    made.close()


def compared(core, visitor) -> Comparison:
    """What the page Compare leaves: the base at more steps, and a calibration."""
    ask = Ask("a red cube", 3, 2)
    found = next(e for e in core.calibrations.entries() if not e.calibration.is_ensemble)
    arms = [Arm("base", "Base"), Arm("calibrated", "Calibrated", found.calibration)]
    asks = [dataclasses.replace(ask, steps=3), ask]
    made = Comparison(ask, shoot_all(core, list(zip(arms, asks)), score=False))
    core.visitors.of(visitor).place(SharedPlace).history.appendleft(made)
    return made


def test_the_arms_compared_last_meet_again_on_a_seed_of_their_own(stocked, studies, visitor):
    last = compared(stocked, visitor)
    ask = Ask("two blue balls", 77, 8)
    made = page.deal(stocked, studies, visitor, ask, page.LAST, {}, "layer")
    shown = {made.left.tobytes(), made.right.tobytes()}
    assert len(shown) == 2
    assert not shown & {s.image.tobytes() for s in last.shots}
    told = page.vote(studies, visitor, made.study, made.token, "left")
    assert {told.left.rpartition(", ")[2], told.right.rpartition(", ")[2]} == {"3 steps", "2 steps"}
    words, figure = page.draw_score(stocked, studies)
    assert "Bent" in words
    assert len(figure["data"]) == 1


def test_without_a_comparison_there_is_a_sentence(stocked, studies, visitor):
    with pytest.raises(StudyError, match="page Compare"):
        page.deal(stocked, studies, visitor, Ask("p", 1, 2), page.LAST, {}, "layer")


def test_arms_may_be_chosen_on_the_page(stocked, studies, visitor):
    picks = {"base": None, "calibrated": None}
    made = page.deal(stocked, studies, visitor, Ask("a red cube", 1, 2), page.OWN, picks, "layer")
    assert made.left.size == made.right.size
    with pytest.raises(StudyError, match="two arms"):
        page.deal(stocked, studies, visitor, Ask("a red cube", 1, 2), page.OWN, {"base": None}, "layer")
