"""Importance of scales, on functions whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibri.errors import SearchError
from calibri.search.importance import FEWEST, find_importance, read_candidates
from tests.studio.search.runfolders import Writer, config


def known(count: int = 3000, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """score = 3·a + (b − 1)²·4 + c + noise, and d in vain; each generation of 12 has an offset of its own."""
    rng = np.random.default_rng(seed)
    x = 1 + 0.3 * rng.standard_normal((count, 4))
    groups = np.arange(count) // 12
    offset = rng.normal(0, 50, groups.max() + 1)[groups]
    parts = np.stack([3 * x[:, 0], 4 * (x[:, 1] - 1) ** 2, x[:, 2], 0 * x[:, 3]], axis=1)
    return x, parts.sum(axis=1) + noise * rng.standard_normal(count) + offset, groups


def test_an_additive_function_gets_twice_the_variance_of_its_parts() -> None:
    x, y, groups = known()
    made = find_importance("abcd", x, y, groups)
    parts = np.array(
        [(3 * 0.3) ** 2, 16 * 2 * 0.3**4, 0.3**2, 0.0]
    )  # Var of 3a, of 4(b−1)², of c, of nothing
    total = parts.sum() + 0.25
    assert np.allclose(made.mean, 2 * parts / total, atol=0.06)
    assert made.explained == pytest.approx(parts.sum() / total, abs=0.06)
    assert np.argsort(made.mean).tolist() == [3, 2, 1, 0]
    assert made.low[0] > 0 and made.low[3] < 0.01 and made.count == 3000


def test_pure_noise_explains_nothing_and_marks_no_scale() -> None:
    rng = np.random.default_rng(1)
    x, groups = rng.standard_normal((600, 5)), np.arange(600) // 12
    made = find_importance("abcde", x, rng.standard_normal(600), groups)
    assert made.explained < 0.05 and max(made.mean) < 0.05


def test_offsets_of_generations_and_units_change_nothing() -> None:
    x, y, groups = known(600)
    once = find_importance("abcd", x, y, groups)
    again = find_importance("abcd", x, 7 * y + 1000 * groups, groups)
    assert np.allclose(once.mean, again.mean, atol=1e-6)
    assert once == find_importance("abcd", x, y, groups)  # the same seed, the same shuffles


def test_a_scale_that_never_moved_has_none() -> None:
    x, y, groups = known(600)
    x[:, 2] = 1.0
    assert find_importance("abcd", x, y, groups).mean[2] == 0.0


def test_too_little_to_tell_is_a_sentence() -> None:
    x, y, groups = known(FEWEST - 1)
    with pytest.raises(SearchError, match=f"at least {FEWEST} scored candidates, got {FEWEST - 1}"):
        find_importance("abcd", x, y, groups)
    with pytest.raises(SearchError, match="scored the same"):
        find_importance("abcd", known(60)[0], np.ones(60), np.zeros(60, dtype=int))


def test_candidates_of_several_runs_are_read_with_a_group_for_each_generation(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Writer(tmp_path / name, scales=4).generations(0, 3)
    labels, x, y, groups = read_candidates([tmp_path / "a", tmp_path / "b"])
    assert (len(labels), x.shape, y.shape, len(set(groups.tolist()))) == (4, (72, 4), (72,), 6)
    Writer(tmp_path / "c", config(granularity="block"), scales=6)
    with pytest.raises(SearchError, match="same scales"):
        read_candidates([tmp_path / "a", tmp_path / "c"])
    assert read_candidates([tmp_path / "c"])[1].shape == (0, 0)
