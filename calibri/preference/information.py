"""Which pair of arms to ask about next: the one whose answer is expected to tell most about the ranking.

The strengths' posterior is the normal approximation at the Bradley–Terry fit (calibri.preference
.bradley_terry, with its one virtual tie for each pair of arms as the prior). The ranking's uncertainty is the
sum, over all pairs of arms, of the entropy of which of the two is stronger; what an answer is worth is how
much of it goes on average (Lindley, Annals of Mathematical Statistics 27, 1956). Votes that are on their way
count as made, with an outcome that is not known yet, so that many raters at once are not all asked the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibri.preference.bradley_terry import fit_strengths, information_matrix


@dataclass(frozen=True, slots=True)
class Posterior:
    """Strengths of k arms, mean 0, in natural-log odds. `mean`: (k,); `covariance`: (k, k)."""

    mean: np.ndarray
    covariance: np.ndarray

    def chance(self, arm: int, other: int) -> float:
        """The chance that `arm` is preferred to `other`, at the mean."""
        return float(1 / (1 + np.exp(self.mean[other] - self.mean[arm])))


def fit_posterior(wins: np.ndarray, open_votes: np.ndarray | None = None) -> Posterior:
    """The posterior after these votes. `wins`: (k, k), how often arm i won over arm j, a tie being half a win
    for both; `open_votes`: (k, k), symmetric, votes that are on their way."""
    k = len(wins)
    ties = 1.0 - np.eye(k)  # the virtual ones
    games = wins + wins.T + ties
    mean, _ = fit_strengths(games, wins.sum(axis=1) + ties.sum(axis=1) / 2)
    chance = 1 / (1 + np.exp(mean[None, :] - mean[:, None]))
    more = games if open_votes is None else games + open_votes
    return Posterior(mean, np.linalg.pinv(information_matrix(more, chance)))


def rank_doubt(mean: np.ndarray, covariance: np.ndarray) -> float:
    """The ranking's uncertainty in nats: Σ over pairs of arms of the entropy of which is stronger."""
    first, second = np.triu_indices(len(mean), 1)
    variance = np.diag(covariance)
    spread = np.sqrt(np.maximum(variance[first] + variance[second] - 2 * covariance[first, second], 1e-300))
    from scipy.special import ndtr, xlogy

    above = ndtr((mean[first] - mean[second]) / spread)
    return float(-(xlogy(above, above) + xlogy(1 - above, 1 - above)).sum())


def expected_information(posterior: Posterior, arm: int, other: int) -> float:
    """How much of `rank_doubt` one more vote on these two arms takes away on average, in nats."""
    mean, covariance = posterior.mean, posterior.covariance
    chance = posterior.chance(arm, other)
    weight = chance * (1 - chance)
    along = covariance[:, arm] - covariance[:, other]  # Σd, d = e_arm − e_other
    doubt = weight / (1 + weight * (along[arm] - along[other]))
    after = covariance - doubt * np.outer(along, along)  # Sherman and Morrison: one more vote's information
    step = after[:, arm] - after[:, other]
    left = sum(
        share * rank_doubt(mean + (won - chance) * step, after)
        for won, share in ((1.0, chance), (0.0, 1 - chance))
    )
    return rank_doubt(mean, covariance) - left
