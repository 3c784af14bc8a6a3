"""When a search says that it is done, and what it keeps."""

import numpy as np
import pytest

from calibri.interval import Interval, paired_interval
from calibri.search.records import ValidationRecord
from calibri.search.stopping import next_validation, paper_converged, tail_average, validation_converged


def validations(*means, sd=0.1, n=64):
    rng = np.random.default_rng(0)
    out = []
    for k, mean in enumerate(means):
        values = mean + rng.normal(0, sd, n)
        out.append(
            ValidationRecord(
                generation=k,
                images=100 * k,
                seconds=0,
                objective=paired_interval(values),
                rewards={},
                objectives=values.tolist(),
                base_scores=[],
                spent=n,
            )
        )
    return out


def test_a_search_that_still_gains_goes_on():
    assert validation_converged(validations(0.2, 0.5, 0.8, 1.1), total_spread=1.0) is None


def test_a_search_that_gains_no_more_stops_in_words():
    assert "converged" in validation_converged(validations(1.0, 1.0, 1.0, 1.0), total_spread=1.0)


def test_three_checkpoints_are_too_few_to_tell():
    assert validation_converged(validations(1.0, 1.0, 1.0), total_spread=1.0) is None


def test_noise_that_could_hide_a_gain_keeps_the_search_going():
    assert validation_converged(validations(1.0, 1.0, 1.0, 1.0, sd=2.0), total_spread=1.0) is None


def test_checkpoints_spread_out_and_cost_at_most_their_share():
    assert next_validation(0, 64, 1.24, 0.1) == 640
    assert next_validation(640, 64, 1.24, 0.1) == 1280
    assert next_validation(10_000, 64, 1.24, 0.1) == 12_400


def generations(make_generation, sigmas, means):
    return [
        make_generation(i, sigma=s, bucket_mean=Interval(mean=m, low=m - 1, high=m + 1, n=4))
        for i, (s, m) in enumerate(zip(sigmas, means, strict=True))
    ]


@pytest.mark.parametrize(
    ("sigmas", "means", "stops"),
    [
        ([0.1] * 11, [1.0] * 11, True),
        ([0.1] * 11, list(np.arange(11.0)), False),
        (list(0.1 * 0.9 ** np.arange(11)), [1.0] * 11, False),
        ([0.1] * 10, [1.0] * 10, False),
    ],
)
def test_the_papers_rule_needs_a_settled_sigma_and_a_flat_bucket_mean(make_generation, sigmas, means, stops):
    reason = paper_converged(generations(make_generation, sigmas, means), window=5)
    assert (reason is not None) == stops


def test_the_tail_average_takes_the_last_half_of_the_images(make_generation):
    done = [make_generation(i, images=100 * (i + 1), mean=[float(i)] * 3) for i in range(4)]
    np.testing.assert_allclose(tail_average(done, 0.5), [2.5] * 3)
    np.testing.assert_allclose(tail_average(done, 1.0), [1.5] * 3)
    np.testing.assert_allclose(tail_average(done[:1], 0.5), [0.0] * 3)


def test_a_generation_with_more_images_counts_more(make_generation):
    done = [make_generation(i, images=n, mean=[float(i)] * 3) for i, n in enumerate((100, 400))]
    np.testing.assert_allclose(tail_average(done, 1.0), [0.75] * 3)
