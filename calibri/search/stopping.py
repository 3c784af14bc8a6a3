"""When a search has converged, in words. Pure functions of its records."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from calibri.search.records import Generation, GenerationRecord, ValidationRecord

STOPPED = "stopped by the user"
CHECKPOINTS = 3
PAPER_WINDOW = 20


def next_validation(last_images: int, pairs: int, spacing: float, share: float) -> int:
    """Images at which the point reached is next held against the base.

    Checkpoints lie a factor `spacing` apart (SEARCH.md: 1.24), and never cost more than `share` of the
    images.
    """
    return math.ceil(max(last_images * spacing, last_images + pairs / share))


def validation_converged(validations: Sequence[ValidationRecord], total_spread: float) -> str | None:
    """The rule of SEARCH.md: what three more checkpoints bring is, with its error, too little to go on for.

    d = paired improvement over three checkpoints, stop when mean(d) + sd(d)/√n < max(2 % of the spread, 5 %
    of the gain).
    """
    if len(validations) <= CHECKPOINTS:
        return None
    now = np.array(validations[-1].objectives)
    then = np.array(validations[-1 - CHECKPOINTS].objectives)
    d = now - then
    hope = float(d.mean() + d.std(ddof=1) / math.sqrt(d.size))
    enough = max(0.02 * total_spread, 0.05 * float(now.mean()))
    if hope >= enough:
        return None
    return (
        f"converged: the last three validations gained {d.mean():+.3f}, at most {hope:+.3f} with one "
        f"standard error, and going on is worth it from {enough:.3f}"
    )


def paper_converged(
    generations: Sequence[GenerationRecord | Generation], window: int = PAPER_WINDOW
) -> str | None:
    """Our reading of the rule in the paper's supplement: sigma has settled and the bucket mean has stopped
    improving.

    Settled: sigma changed by less than 10 % over `window` generations. Stopped: their mean is not above
    that of as many generations before. On noisy buckets it stops 10–19 % short (SEARCH.md).
    """
    if len(generations) < 2 * window + 1:
        return None
    change = generations[-1].sigma / generations[-1 - window].sigma
    recent = float(np.mean([g.bucket_mean.mean for g in generations[-window:]]))
    before = float(np.mean([g.bucket_mean.mean for g in generations[-2 * window : -window]]))
    if abs(math.log(change)) >= math.log(1.1) or recent > before:
        return None
    return (
        f"converged by the paper's rule: over {window} generations sigma changed by "
        f"{100 * (change - 1):+.0f} % and the bucket mean went from {before:.3f} to {recent:.3f}"
    )


def kept_point(generations: Sequence[GenerationRecord | Generation], share: float) -> np.ndarray:
    """What a search keeps after these generations, (n,): what the last one says, else the tail average."""
    point = generations[-1].point
    return np.array(point, dtype=np.float64) if point else tail_average(generations, share)


def tail_average(generations: Sequence[GenerationRecord | Generation], share: float) -> np.ndarray:
    """Average of the means over the last `share` of the images, each mean weighted by its generation's
    images. (n,)

    SEARCH.md: 1.32 of a true optimum of 2, where the luckiest candidate gave 0.85 and the last mean 1.17.
    """
    start, means, weights = 0, [], []
    since = generations[-1].images * (1 - share)
    for record in generations:
        if record.images > since:
            means.append(record.mean)
            weights.append(record.images - start)
        start = record.images
    return np.average(np.array(means), axis=0, weights=np.array(weights, dtype=np.float64))
