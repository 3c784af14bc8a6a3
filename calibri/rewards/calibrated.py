"""Calibrated rewards: how likely a picture wins, so that rewards of any scale have one unit.

Source: "Calibrated Multi-Preference Optimization for Aligning Diffusion Models" (CaPO), eq. 7 and 28.
"""

from __future__ import annotations

import numpy as np

from calibri.errors import RewardError
from calibri.rewards.catalog import Kind


def beats(
    scores: np.ndarray, others: np.ndarray, kind: Kind, temperature: float = 1.0, alpha: float = 1.0
) -> np.ndarray:
    """How likely a picture of score `scores` is preferred to one of score `others`: shapes broadcast.

    `bt`: σ((s − s′) / temperature), `temperature` in the reward's units for one unit of log odds.
    `probability`: s^α / (s^α + s′^α), and ½ where both are 0 (CaPO eq. 28). Raises RewardError for a
    temperature or α that is not above 0, and for a probability outside [0, 1].
    """
    s, t = np.asarray(scores, dtype=np.float64), np.asarray(others, dtype=np.float64)
    if kind == "bt":
        if not temperature > 0:
            raise RewardError(f"expected a temperature above 0, got {temperature}")
        return np.asarray(0.5 * (1 + np.tanh((s - t) / (2 * temperature))))  # the sigmoid without overflow
    if not alpha > 0:
        raise RewardError(f"expected an alpha above 0, got {alpha}")
    for values in (s, t):
        if values.size and not (values.min() >= 0 and values.max() <= 1 + 1e-6):
            raise RewardError(
                f"expected probabilities in [0, 1], got values from {values.min():g} to {values.max():g}"
            )
    # Divided by the greater one: small probabilities to a large power would both become 0.
    most = np.maximum(s, t)
    known = most > 0
    most = np.where(known, most, 1.0)
    a, b = (s / most) ** alpha, (t / most) ** alpha
    return np.where(known, a / np.where(known, a + b, 1.0), 0.5)


def expected_wins(
    scores: np.ndarray, reference: np.ndarray, kind: Kind, temperature: float = 1.0, alpha: float = 1.0
) -> np.ndarray:
    """Expected win rate of each picture against the reference's for the same prompt (CaPO eq. 7, against
    samples of the reference): scores (…, M) and reference (…, N) → (…, M), each in [0, 1].

    Raises RewardError without reference pictures, and as `beats` does.
    """
    s, r = np.asarray(scores, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if not r.shape or not r.shape[-1]:
        raise RewardError("expected at least one picture of the reference, got none")
    return np.asarray(beats(s[..., :, None], r[..., None, :], kind, temperature, alpha).mean(axis=-1))


def calibrate(scores: np.ndarray, kind: Kind, temperature: float = 1.0, alpha: float = 1.0) -> np.ndarray:
    """Expected win rate of each of N pictures of one prompt against the others: (…, N) → (…, N).

    CaPO eq. 7. For any reward the N values add up to N / 2. Raises RewardError for fewer than two pictures.
    """
    s = np.asarray(scores, dtype=np.float64)
    if not s.shape or s.shape[-1] < 2:
        raise RewardError(f"expected at least 2 pictures of a prompt, got shape {s.shape}")
    wins = beats(s[..., :, None], s[..., None, :], kind, temperature, alpha)
    return np.asarray((wins.sum(axis=-1) - 0.5) / (s.shape[-1] - 1))  # without the picture against itself
