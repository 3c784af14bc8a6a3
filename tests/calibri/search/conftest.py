"""What the search's tests share: a small config and records that need no rendering."""

import numpy as np
import pytest

from calibri.interval import Interval
from calibri.rewards.base import RewardInfo
from calibri.rewards.scoring import Pair
from calibri.search.records import GenerationRecord, pack
from tests.small_search import Redness, make_small


@pytest.fixture
def make_config():
    return make_small


@pytest.fixture
def make_generation():
    def make(number, **values):
        rng = np.random.default_rng(number)
        candidates = rng.normal(1, 0.1, (4, 3))
        defaults = {
            "generation": number,
            "images": 10 * (number + 1),
            "seconds": 1.0,
            "bucket": [0, 1],
            "pairs": [Pair(prompt="p", seed=1), Pair(prompt="q", seed=2)],
            "candidates": pack(candidates),
            "scores": rng.normal(size=4).tolist(),
            "objective": [0.0] * 4,
            "rewards": {"redness": [0.1] * 4},
            "base_scores": [[[0.5]], [[0.25]]],
            "bucket_mean": Interval(mean=0.1, low=0.0, high=0.2, n=2),
            "best": 0.3,
            "sigma": 0.1,
            "axis_ratio": 1.0,
            "mean_rate": 1.0,
            "mean": [1.0, 1.0, 1.0],
            "spread": [0.1, 0.1, 0.1],
        }
        return GenerationRecord(**{**defaults, **values})

    return make


class FormulaScorer:
    """A Scorer whose scores are a formula of the request: what the objective makes of them can be checked
    by hand.

    The score of reward `name` is factor · (Σ_k w_k · Σ scales_k) + noise(prompt, seed), the noise shared by
    all arms.
    """

    judges = frozenset()
    shrink = 1  # what the noise is divided by

    def __init__(self, factors, n_scales=3):
        self.factors = factors
        self.known = tuple(factors)
        self.n_scales = n_scales
        self.seen = []

    def noise(self, prompt, seed):
        return ((len(prompt) * 31 + seed) % 97) / 97 / self.shrink

    def __call__(self, requests, names, *, stop=None, progress=None):
        self.seen += list(requests)
        rows = []
        for request in requests:
            if request.members is None:
                total = float(self.n_scales)
            else:
                total = sum(member.weight * sum(member.scales) for member in request.members)
            noise = self.noise(request.prompt, request.seed)
            rows.append([self.factors[name] * total + noise for name in names])
        return np.array(rows)


@pytest.fixture
def formula_scorer():
    return FormulaScorer


class Contrast(Redness):
    """Spread of a picture's pixels."""

    info = RewardInfo(name="contrast", role="judge", version="1", description="spread", range_hint=(0, 1))

    def score(self, images, prompts):
        return np.array([np.asarray(image, dtype=np.float64).std() / 255 for image in images])


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A tiny random FluxPipeline on the disk: 1 double and 1 single block."""
    from tests.tiny import tiny_flux

    folder = tmp_path_factory.mktemp("tiny")
    tiny_flux(folder, doubles=1, singles=1)
    return folder


@pytest.fixture(scope="session")
def backbone(tiny_folder):
    from calibri.backbones.loading import load_backbone

    return load_backbone(str(tiny_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def rewards():
    return {"redness": Redness(), "contrast": Contrast()}
