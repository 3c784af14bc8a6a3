"""Arms on the same prompts and seeds: every reward's mean, and its paired difference from a reference arm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from calibri.backbones.lora import LoraUse
from calibri.calibration.artifact import Calibration
from calibri.calibration.phases import count_evaluations
from calibri.errors import SearchError
from calibri.interval import Interval, paired_interval
from calibri.rewards.base import Frozen
from calibri.rewards.scoring import Pair, Progress, Scorer
from calibri.sampling.request import RenderRequest


@dataclass(frozen=True)
class Arm:
    """What is compared: a calibration (None is the base) with its render settings.

    `loras`: which of the backbone's LoRAs are on, with their strengths; None are all.
    """

    name: str
    steps: int
    calibration: Calibration | None = None
    guidance: float | None = None
    loras: tuple[LoraUse, ...] | None = None

    @property
    def nfe(self) -> int:
        """Transformer evaluations per image: steps × members that count."""
        if self.calibration is not None and self.calibration.is_ensemble:
            return count_evaluations(self.calibration.members, self.steps)
        return self.steps * (1 if self.guidance in (None, 1) else 2)

    def request(self, pair: Pair) -> RenderRequest:
        return RenderRequest.of(
            pair.prompt,
            pair.seed,
            self.steps,
            calibration=self.calibration,
            guidance=self.guidance,
            loras=self.loras,
        )


class ArmScores(Frozen):
    """One arm's row: mean of each reward with its interval, and the paired difference from the reference
    arm.
    """

    arm: str
    steps: int
    nfe: int
    pairs: int
    means: dict[str, Interval]
    differences: dict[str, Interval]
    reference: str


def evaluate(
    arms: Sequence[Arm],
    pairs: Sequence[Pair],
    scorer: Scorer,
    names: Sequence[str],
    *,
    reference: int = 0,
    stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> Iterator[ArmScores]:
    """One row an arm, in order, each yielded when it is rendered; the reference's differences are all 0.

    `pairs`: at least 2, the same for all arms. `reference`: which arm the others are compared with. Raises
    SearchError for a repeated arm name or a score that is not finite.
    """
    labels = [arm.name for arm in arms]
    if len(set(labels)) != len(labels):
        raise SearchError(f"expected arms with different names, got {', '.join(labels)}")
    base = arm_scores(arms[reference], pairs, scorer, names, stop=stop, progress=progress)
    for index, arm in enumerate(arms):
        raw = (
            base
            if index == reference
            else arm_scores(arm, pairs, scorer, names, stop=stop, progress=progress)
        )
        yield ArmScores(
            arm=arm.name,
            steps=arm.steps,
            nfe=arm.nfe,
            pairs=len(pairs),
            means={name: paired_interval(raw[:, r]) for r, name in enumerate(names)},
            differences={name: paired_interval(raw[:, r] - base[:, r]) for r, name in enumerate(names)},
            reference=arms[reference].name,
        )


def arm_scores(
    arm: Arm,
    pairs: Sequence[Pair],
    scorer: Scorer,
    names: Sequence[str],
    *,
    stop: Callable[[], bool] | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Raw scores of one arm, (pairs, names). Raises SearchError for a score that is not finite."""
    raw = scorer([arm.request(pair) for pair in pairs], names, stop=stop, progress=progress)
    check_finite(raw, pairs, names, f"arm {arm.name}")
    return raw


def check_finite(
    raw: np.ndarray, pairs: Sequence[Pair | RenderRequest], names: Sequence[str], what: str
) -> None:
    """SearchError with reward, prompt and seed of the first of the scores (pairs, names) that is no finite
    number.
    """
    for i, r in np.argwhere(~np.isfinite(raw)):
        raise SearchError(
            f"reward {names[r]} gave {raw[i, r]} for {what} on prompt {pairs[i].prompt!r} "
            f"with seed {pairs[i].seed}"
        )


def pairs_of(prompts: Sequence[str], seed: int = 0, per_prompt: int = 1) -> list[Pair]:
    """Fixed (prompt, seed) pairs: `per_prompt` seeds for each prompt, all different, all following from
    `seed`.
    """
    if not prompts:
        raise SearchError("no prompts to compare on")
    seeds = np.random.SeedSequence((seed, len("evaluate"))).generate_state(len(prompts) * per_prompt) >> 1
    return [
        Pair(prompt=prompt, seed=int(seeds[i * per_prompt + k]))
        for i, prompt in enumerate(prompts)
        for k in range(per_prompt)
    ]
