"""The presets of a search: what is chosen where nothing is said, and by how many numbers are searched."""

from __future__ import annotations

from typing import Any

from calibri.errors import SearchError

# From so many searched numbers on, `default` searches as `mirrored` does. On a synthetic reward whose true
# gain is known (benchmarks/optimizers.py) mirrored pairs with the fitted point win there at every budget from
# 800 to 12,800 images; up to some 24 numbers CMA-ES is as good or better.
MANY = 50

PUBLISHED_BOUNDS = (-1.0, 2.0)
WHOLE_BOUNDS = (0.5, 1.5)  # on tabletop these kept the pictures whole (TABLETOP.md)

PRESETS: dict[str, dict[str, Any]] = {
    # Levers from SEARCH.md's synthetic rewards. First step and bucket are measured on tabletop with 640
    # images, by benchmarks/settings.py: 0.2 and 4 gain 1.6 times as much as 0.1 and 8, and a first step of
    # 0.3 again 1.7 times as much. Without a limit such steps stay as wide as the bounds allow: of 0.59 gained
    # after 900 images 0.35 were left after 4,000; with one that shrinks, 0.74.
    # The fitted point needs about half the images of the tail average: means of ten seeds by
    # benchmarks/efficiency.py, 0.56 after 880 images against 0.55 after 1,556. In longer searches both end
    # alike: of five other seeds 0.55 against 0.45 after 540 images, 0.65 against 0.67 after 4,000.
    "default": {
        "optimizer": "cma",
        "sigma0": 0.3,
        "mirrors": 0.25,
        "mean_rate": "decay",
        "step_limit": "decay",
        "bucket": 4,
        "pool": 512,
        "race": 0,
        "convergence": "validation",
        "point": "fitted",
    },
    # Four more prompts for the better half of the candidates.
    "race": {
        "optimizer": "cma",
        "sigma0": 0.3,
        "mirrors": 0.25,
        "mean_rate": "decay",
        "step_limit": "decay",
        "bucket": 8,
        "pool": 512,
        "race": 4,
        "convergence": "validation",
    },
    # What the paper's code does (github.com/v-gen-ai/Calibri at fd44332: configs/base.py); only the shipped
    # point differs (the tail average instead of the luckiest). Its pictures: calibri/search/pictures.py.
    "paper": {
        "optimizer": "cma",
        "sigma0": 0.25,
        "weight_sigma": 0.25,
        "mirrors": 0.0,
        "mean_rate": "constant",
        "bucket": 16,
        "pool": 0,
        "race": 0,
        "convergence": "paper",
        "bounds": PUBLISHED_BOUNDS,
        "weight_bounds": (-10.0, 10.0),
    },
    # Many numbers, few images: no covariance to learn. Step, bucket and point by benchmarks/optimizers.py.
    "mirrored": {
        "optimizer": "mirrored-adam",
        "sigma0": 0.2,
        "popsize": 16,
        "mirrors": 0.0,
        "mean_rate": "decay",
        "bucket": 2,
        "pool": 512,
        "race": 0,
        "convergence": "validation",
        "point": "fitted",
    },
}


def choose_preset(name: str, numbers: int | None = None) -> dict[str, Any]:
    """The values of a preset. `numbers`: how many are searched, None where that is not known.

    Raises SearchError, naming the presets there are.
    """
    if name not in PRESETS:
        raise SearchError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS["mirrored" if name == "default" and numbers is not None and numbers >= MANY else name]
