"""Scores of candidates: in pairs with the base, the same pictures for all, never anything but numbers."""

import numpy as np
import pytest

from calibri.backbones.layouts import Layout
from calibri.errors import SearchError
from calibri.rewards.base import RewardInfo
from calibri.search.objective import Objective

NAMES = ("double.0.attn", "double.0.mlp", "single.0.fused")


@pytest.fixture
def layout():
    return Layout(granularity="layer", names=NAMES, groups=((0,), (1,), (2,)))


@pytest.fixture
def make_objective(make_config, formula_scorer, layout):
    def make(factors=None, infos=None, shrink=1, **values):
        scorer = formula_scorer(factors or {"redness": 2.0})
        scorer.infos, scorer.shrink = infos or {}, shrink
        objective = Objective(make_config(**values), layout, scorer)
        raw, images = objective.measure_base()
        objective.use_base(objective.base_record(raw, images=images, seconds=0.0))
        return objective

    return make


VECTORS = np.array([[1.0, 1.0, 1.0], [1.1, 1.0, 1.0], [0.9, 0.9, 1.0], [1.0, 1.2, 1.1]])


def test_a_score_is_the_difference_from_the_base_over_its_spread(make_objective):
    objective = make_objective()
    spread = objective._scale.spread["redness"]
    scores = objective.evaluate(VECTORS, [0, 1])
    np.testing.assert_allclose(scores.told, 2 * np.array([0, 0.1, -0.2, 0.3]) / spread, atol=1e-12)
    np.testing.assert_allclose(scores.rewards[:, 0], [0, 0.2, -0.4, 0.6], atol=1e-12)


def test_rewards_are_weighted_in_units_of_their_spread(make_objective):
    factors = {"redness": 2.0, "size": 20.0}
    objective = make_objective(factors, rewards=({"name": "redness"}, {"name": "size", "weight": 0.5}))
    spread = objective._scale.spread
    told = objective.evaluate(VECTORS, [0, 1]).told
    step = 2.0 / spread["redness"] + 0.5 * 20.0 / spread["size"]
    np.testing.assert_allclose(told, step * np.array([0, 0.1, -0.2, 0.3]), atol=1e-12)


def test_every_candidate_sees_the_same_prompts_and_seeds(make_objective):
    objective = make_objective()
    objective.scorer.seen.clear()
    objective.evaluate(VECTORS[1:], [4, 5])
    seen = {}
    for request in objective.scorer.seen:
        key = request.members[0].scales if request.members else "base"
        seen.setdefault(key, []).append((request.prompt, request.seed))
    assert len(seen) == 3 and len({tuple(pairs) for pairs in seen.values()}) == 1


def test_the_base_is_rendered_once_for_each_pair(make_objective):
    objective = make_objective()
    before = objective.images
    scores = objective.evaluate(VECTORS, [0, 1])
    assert objective.images - before == scores.images == 6  # three candidates; base and its twin were there
    assert all(request.members is not None for request in objective.scorer.seen[-6:])


def test_what_the_base_lacks_renders_beside_the_candidates(make_objective):
    objective = make_objective(pool=0, bucket=3, race=2)
    scorer, sizes = objective.scorer, []

    def counted(requests, names, **options):
        sizes.append(len(requests))
        return scorer(requests, names, **options)

    counted.known = scorer.known
    objective.scorer = counted
    scores = objective.evaluate(VECTORS, [64, 65, 66])
    assert sizes == [3 + 3 * 2, 2] and scores.images == 11  # the base's twin is not painted
    expected = [scorer.noise(p.prompt, p.seed) + 6.0 for p in map(objective.source.pair, [64, 65, 66])]
    np.testing.assert_allclose(scores.base[:, 0, 0], expected)


def test_the_base_has_all_its_samples_before_a_generation_is_judged(make_objective):
    objective = make_objective(pool=0, objective="win-rate", base_samples=3)
    base = objective.evaluate(VECTORS, [64, 65]).base
    samples = [objective.source.base_samples(i) for i in (64, 65)]
    noise = [[objective.scorer.noise(p.prompt, p.seed) for p in row] for row in samples]
    np.testing.assert_allclose(base[..., 0], np.array(noise) + 6.0)


def test_a_candidate_that_is_the_base_costs_nothing_and_scores_zero(make_objective):
    objective = make_objective()
    before = objective.images
    assert objective.evaluate(np.ones((1, 3)), [0, 1]).told == [0.0]
    assert objective.images == before


def test_under_guidance_the_base_is_its_two_members(make_objective):
    objective = make_objective(guidance=1.5, conditions=("positive", "negative"), weights=(1.5, -0.5))
    guided = np.array([1.0] * 6 + [1.5, -0.5])
    assert objective.is_base(objective.space.decode(guided))
    assert not objective.is_base(objective.space.decode(guided * 1.01))
    assert objective.scorer.seen[0].guidance == 1.5 and objective.scorer.seen[0].members is None


def test_a_race_sends_only_the_better_half_to_the_later_pairs(make_objective):
    objective = make_objective(bucket=4, race=2)
    scores = objective.evaluate(VECTORS, [0, 1, 2, 3])
    assert scores.images == 3 * 2 + 2 * 2
    assert sorted(np.argsort(scores.told)[-2:]) == [1, 3]


def test_losers_of_a_race_rank_below_every_winner_in_their_order(make_objective):
    objective = make_objective(bucket=4, race=2)
    told = objective.evaluate(VECTORS, [0, 1, 2, 3]).told
    assert told[3] > told[1] > told[0] > told[2]


def test_a_race_of_the_whole_bucket_is_no_race(make_objective):
    plain = make_objective(bucket=4).evaluate(VECTORS, [0, 1, 2, 3])
    raced = make_objective(bucket=4, race=2).evaluate(VECTORS, [0, 1, 2, 3])
    winners = np.argsort(plain.told)[-2:]
    np.testing.assert_allclose(raced.told[winners], plain.told[winners], atol=1e-12)


def test_the_win_rate_follows_its_formula(make_objective):
    objective = make_objective(objective="win-rate", base_samples=3)
    temperature = objective._scale.temperatures["redness"]
    index, gain = 2, 2 * 0.3
    pairs = objective.source.base_samples(index)
    own = objective.scorer.noise(pairs[0].prompt, pairs[0].seed)
    margins = [own + gain - objective.scorer.noise(p.prompt, p.seed) for p in pairs]
    expected = np.mean([1 / (1 + np.exp(-m / temperature)) for m in margins])  # CaPO eq. 7
    told = objective.evaluate(VECTORS[3:], [index]).told
    np.testing.assert_allclose(told, [expected], atol=1e-12)


def info(name, **values):
    return RewardInfo(
        **{"name": name, "role": "reward", "version": "1", "description": "", "range_hint": (0, 1), **values}
    )


def test_a_temperature_of_the_rewards_own_is_used_where_it_is_asked_for(make_objective):
    infos = {"redness": info("redness", temperature=0.25)}
    asked = {"objective": "win-rate", "infos": infos, "rewards": ({"name": "redness"},)}
    assert make_objective(temperature="reward", **asked)._scale.temperatures == {"redness": 0.25}
    usual, unknown = (
        make_objective(**asked),
        make_objective(temperature="reward", objective="win-rate", infos={"redness": info("redness")}),
    )
    assert usual._scale.temperatures == unknown._scale.temperatures != {"redness": 0.25}


def test_a_probability_wins_by_its_share(make_objective):
    infos = {"redness": info("redness", kind="probability")}
    objective = make_objective(
        {"redness": 0.1}, objective="win-rate", base_samples=2, infos=infos, alpha=2.0, shrink=10
    )
    assert objective._scale.alphas == {"redness": 2.0}
    pairs = objective.source.base_samples(2)
    base = [0.3 + objective.scorer.noise(p.prompt, p.seed) for p in pairs]
    own = base[0] + 0.03
    told = objective.evaluate(VECTORS[3:], [2]).told
    np.testing.assert_allclose(told, [np.mean([own**2 / (own**2 + b**2) for b in base])])  # CaPO eq. 28


def test_the_win_rate_of_several_rewards_is_their_weighted_mean(make_objective):
    infos = {"redness": info("redness", temperature=0.5), "size": info("size", temperature=2.0)}
    objective = make_objective(
        {"redness": 1.0, "size": 3.0},
        objective="win-rate",
        temperature="reward",
        base_samples=2,
        infos=infos,
        rewards=({"name": "redness"}, {"name": "size", "weight": 3.0}),
    )
    apart = np.diff([objective.scorer.noise(p.prompt, p.seed) for p in objective.source.base_samples(2)])[0]
    odds = [[0.3 / 0.5, (0.3 - apart) / 0.5], [0.9 / 2, (0.9 - apart) / 2]]
    first, second = (1 / (1 + np.exp(-np.array(odds)))).mean(axis=1)
    np.testing.assert_allclose(objective.evaluate(VECTORS[3:], [2]).told, [(first + 3 * second) / 4])


def test_a_run_from_before_probabilities_goes_on_as_it_was(make_objective):
    infos = {"redness": info("redness", kind="probability")}
    objective = make_objective({"redness": 0.1}, objective="win-rate", infos=infos, shrink=10)
    now = objective.evaluate(VECTORS, [2]).told
    objective.use_base(objective._scale.model_copy(update={"alphas": {}}))
    assert not np.allclose(objective.evaluate(VECTORS, [2]).told, now)


def test_the_win_rate_does_not_overflow(make_objective):
    objective = make_objective({"redness": 1e6}, objective="win-rate")
    told = objective.evaluate(VECTORS, [0, 1]).told
    assert np.isfinite(told).all() and told.min() >= 0 and told.max() <= 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_not_finite_names_prompt_seed_candidate_and_reward(make_objective, bad):
    objective = make_objective()
    pair = objective.source.pair(1)
    good = objective.scorer.noise
    hit = (pair.prompt, pair.seed)
    objective.scorer.noise = lambda prompt, seed: bad if (prompt, seed) == hit else good(prompt, seed)
    with pytest.raises(SearchError) as error:
        objective.evaluate(VECTORS, [0, 1])
    for word in ("redness", "candidate 1", pair.prompt, str(pair.seed), str(bad)):
        assert word in str(error.value)


def test_a_reward_that_never_changes_is_refused(make_config, formula_scorer, layout):
    scorer = formula_scorer({"redness": 2.0})
    scorer.noise = lambda prompt, seed: 0.0
    objective = Objective(make_config(), layout, scorer)
    raw, images = objective.measure_base()
    with pytest.raises(SearchError, match="redness gives the same score"):
        objective.base_record(raw, images=images, seconds=0.0)


def test_an_unknown_reward_is_named(make_config, formula_scorer, layout):
    with pytest.raises(SearchError, match=r"expected loaded rewards \(size\), got redness"):
        Objective(make_config(), layout, formula_scorer({"size": 1.0}))


def test_a_judge_is_optimised_only_on_purpose(make_config, formula_scorer, layout):
    scorer = formula_scorer({"redness": 2.0})
    scorer.judges = frozenset({"redness"})
    with pytest.raises(SearchError, match="is a judge"):
        Objective(make_config(), layout, scorer)
    Objective(make_config(optimize_judges=True), layout, scorer)
