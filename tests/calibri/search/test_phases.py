"""Searches of scales that differ early and late: equal vectors are the plain calibration, bit for bit."""

import numpy as np
import pytest

from calibri.calibration.artifact import Calibration, Member
from calibri.errors import SearchError
from calibri.rewards.base import RewardTerm
from calibri.sampling.renderer import Renderer
from calibri.sampling.request import RenderRequest
from calibri.search.config import Budget, MemberRole
from calibri.search.form import SearchForm
from calibri.search.records import GenerationRecord
from calibri.search.run import run_search
from calibri.search.space import SearchSpace, guidance_start, phase_start, plain_start
from tests.small_search import PROMPTS

SPANS = (MemberRole(stop=0.5), MemberRole(start=0.5))
LEAST = {
    "rewards": ["tabletop-quality"],
    "prompts": [f"{prompt} {i}" for prompt in PROMPTS for i in range(3)],
}


def asked(backbone, start=None, **values):
    given = LEAST | {"steps": 4, "popsize": 4, "batch_size": 4, "held_out_pairs": 2} | values
    return SearchForm.read(given).config(backbone, "tiny", start)


def test_phases_part_the_first_member_and_guidance_stays_whole():
    plain = phase_start(plain_start(), (0.5,))
    assert (plain.conditions, plain.weights, plain.roles) == (("positive",) * 2, (1.0, 1.0), SPANS)
    guided = phase_start(guidance_start(3.0), (0.2, 0.6))
    assert guided.conditions == ("positive", "positive", "positive", "negative")
    assert guided.weights == (3.0, 3.0, 3.0, -2.0)
    spans = [(role.start, role.stop) for role in guided.roles]
    assert spans == [(0.0, 0.2), (0.2, 0.6), (0.6, 1.0), (0.0, 1.0)]


@pytest.mark.parametrize("shares", ["0", "1", "0.5,0.5", "0.6,0.4", "0.1,0.2,0.3", "nan", "half", "1.5"])
def test_shares_that_part_nothing_are_a_sentence(backbone, shares):
    with pytest.raises(SearchError, match="phases"):
        asked(backbone, phases=shares)


def test_phases_and_an_ensemble_do_not_go_together(backbone):
    with pytest.raises(SearchError, match="phases: expected one vector"):
        asked(backbone, phases="0.5", conditions=("positive", "positive"))


def test_a_search_in_phases_has_twice_the_numbers_and_the_same_evaluations(backbone):
    plain, parted = asked(backbone), asked(backbone, phases="0.5")
    scales = len(backbone.layout("layer").names)
    assert parted.numbers(scales) == 2 * scales and parted.nfe == plain.nfe == 4
    assert not parted.search_weights and parted.roles == SPANS and parted.start_from == "base, in 2 phases"
    guided = asked(backbone, phases=[0.5], strength=2.0)
    assert guided.search_weights and guided.nfe == 8  # weights of phases are a schedule of guidance


def test_equal_vectors_paint_the_plain_calibration_bit_for_bit(backbone):
    layout = backbone.layout("layer")
    bent = tuple(np.random.default_rng(3).uniform(0.7, 1.3, len(layout.names)).tolist())
    halves = tuple(Member(scales=bent, **role.placed) for role in SPANS)
    arms = [
        (Member(scales=bent),),
        halves,
        (Member(scales=bent, stop=0.5), Member(scales=(1.0,) * len(bent), start=0.5)),
    ]
    renderer = Renderer(backbone, batch_size=4)
    made = renderer.render([RenderRequest("a red cube", 1, 4, members=arm, layout=layout) for arm in arms])
    plain, same, other = (np.asarray(each.image) for each in made)
    np.testing.assert_array_equal(plain, same)
    assert (plain != other).any()
    assert [each.nfe for each in made] == [4, 4, 4]


def test_a_search_in_phases_runs_ships_its_phases_and_goes_on_from_them(tmp_path, backbone, rewards):
    config = asked(backbone, phases="0.5").model_copy(update={"rewards": (RewardTerm(name="redness"),)})
    records = list(
        run_search(config, tmp_path / "run", backbone=backbone, rewards=rewards, budget=Budget(generations=2))
    )
    first = next(record for record in records if isinstance(record, GenerationRecord))
    assert (first.candidate_array()[0] == 1).all() and first.scores[0] == 0.0
    assert first.images == records[1].images + 3 * config.bucket  # the base itself is not painted again
    found = Calibration.load(tmp_path / "run" / "tail.json")
    assert [(m.start, m.stop, m.weight) for m in found.members] == [(0.0, 0.5, 1.0), (0.5, 1.0, 1.0)]
    assert found.members[0].scales != found.members[1].scales
    space = SearchSpace.of(config, backbone.layout("layer"))
    np.testing.assert_array_equal(space.encode(found.members), records[-1].vector)
    again = asked(backbone, start=lambda draft: found)
    assert again.roles == SPANS and not again.search_weights
    assert again.start == tuple(member.scales for member in found.members)
