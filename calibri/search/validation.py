"""The point reached against the base on pairs that nothing is searched on, and what the judges say of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from calibri.interval import paired_interval
from calibri.search.objective import Objective
from calibri.search.records import ValidationRecord


def validate(
    objective: Objective,
    earlier: Sequence[ValidationRecord],
    vector: np.ndarray,
    *,
    generation: int,
    images: int,
    clock: Callable[[], float],
) -> ValidationRecord:
    """Renders `vector`, (n,), on the validation pairs, and the base the first time. `earlier`: validations of
    this run. `images`: rendered by it so far; `clock`: its seconds.

    Judges cost no pictures, only their scoring. A run that began without them goes on without them.
    """
    config = objective.config
    pairs = objective.source.pairs(config.validation_pairs, "validation")
    names = [*objective.names, *(name for name in config.judges if name not in objective.names)]
    before, k = objective.images, len(objective.names)
    if earlier:
        base = np.array(earlier[0].base_scores)
        names = names[: base.shape[1]]
    else:
        requests = [objective.request(pair, None) for pair in pairs]
        base = objective.scores(requests, ["the base"] * len(pairs), names)
    members = objective.space.decode(vector)
    requests = [objective.request(pair, members) for pair in pairs]
    raw = objective.scores(requests, ["the point reached"] * len(pairs), names)
    gain, changes = objective.gain(raw[:, :k], base[:, :k]), raw - base
    spent = objective.images - before
    return ValidationRecord(
        generation=generation,
        images=images + spent,
        seconds=clock(),
        objective=paired_interval(gain),
        rewards={name: paired_interval(changes[:, r]) for r, name in enumerate(names)},
        objectives=gain.tolist(),
        judged={name: changes[:, r].tolist() for r, name in enumerate(names) if r >= k},
        base_scores=[] if earlier else base.tolist(),
        spent=spent,
    )
