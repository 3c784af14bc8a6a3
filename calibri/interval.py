"""Means of paired differences with a confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from calibri.errors import CalibriError

Verdict = Literal["better", "not told apart", "worse"]


class Interval(BaseModel):
    """A mean, its 95 % interval [low, high] and the number of pairs it stands on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> Verdict:
        """How the mean compares with 0."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "not told apart"

    def text(self, digits: int = 3) -> str:
        """`+0.123 [+0.050, +0.196]`."""
        return f"{self.mean:+.{digits}f} [{self.low:+.{digits}f}, {self.high:+.{digits}f}]"


def paired_interval(differences: Sequence[float] | np.ndarray, level: float = 0.95) -> Interval:
    """Student's t interval of the mean of `differences`, (n,) with n ≥ 2, one independent pair each.

    Raises CalibriError for fewer than two differences or one that is not finite.
    """
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to import

    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise CalibriError(f"an interval needs at least 2 paired differences, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise CalibriError(f"paired differences must be finite, got {values[~np.isfinite(values)][0]}")
    mean = float(values.mean())
    half = float(stdtrit(values.size - 1, 0.5 + level / 2) * values.std(ddof=1) / np.sqrt(values.size))
    return Interval(mean=mean, low=mean - half, high=mean + half, n=int(values.size))
