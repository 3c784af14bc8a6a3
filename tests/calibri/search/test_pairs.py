"""Which pictures a search looks at."""

import pytest

from calibri.search.pairs import PairSource


def test_each_prompt_comes_once_before_any_comes_twice(make_config):
    source = PairSource(make_config())
    prompts = source.config.prompts
    for start in (0, len(prompts)):
        assert sorted(source.pair(start + i).prompt for i in range(len(prompts))) == sorted(prompts)


def test_every_pair_has_a_seed_of_its_own(make_config):
    source = PairSource(make_config())
    seeds = [source.pair(i, role).seed for role in ("search", "validation", "held-out") for i in range(200)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_pool_is_used_up_before_a_pair_comes_again(make_config):
    source = PairSource(make_config(pool=8, bucket=2))
    for epoch in range(3):
        seen = [i for g in range(4 * epoch, 4 * epoch + 4) for i in source.bucket(g)]
        assert sorted(seen) == list(range(8))


def test_the_pool_comes_in_a_new_order_each_time(make_config):
    source = PairSource(make_config(pool=8, bucket=2))
    orders = {tuple(i for g in range(4 * e, 4 * e + 4) for i in source.bucket(g)) for e in range(4)}
    assert len(orders) > 2


@pytest.mark.parametrize("pool", [5, 6, 7])
def test_a_bucket_never_holds_a_pair_twice(make_config, pool):
    source = PairSource(make_config(pool=pool, bucket=3))
    for generation in range(20):
        bucket = source.bucket(generation)
        assert len(set(bucket)) == 3 and max(bucket) < pool


def test_without_a_pool_every_generation_has_new_pairs(make_config):
    source = PairSource(make_config(pool=0, bucket=3))
    seen = [i for g in range(10) for i in source.bucket(g)]
    assert len(set(seen)) == 30


def test_pairs_follow_from_the_config_alone(make_config):
    first, again = PairSource(make_config(seed=4)), PairSource(make_config(seed=4))
    again.bucket(7)  # asking in another order changes nothing
    assert [first.pair(i) for i in range(9)] == [again.pair(i) for i in range(9)]
    assert first.pair(0) != PairSource(make_config(seed=5)).pair(0)


def test_the_win_rate_compares_with_other_seeds_of_the_same_prompt(make_config):
    source = PairSource(make_config(objective="win-rate", base_samples=3))
    samples = source.base_samples(2)
    assert samples[0] == source.pair(2)
    assert {s.prompt for s in samples} == {samples[0].prompt} and len({s.seed for s in samples}) == 3
    assert len(PairSource(make_config()).base_samples(2)) == 1
