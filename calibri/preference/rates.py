"""Counts, win rates with the plain interval, the left-side rate and the sign test over prompts.

`votes` is always on one question and one pair of arms, turned by `between`, so that x is the same arm.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from calibri.errors import StudyError
from calibri.preference.votes import NoData, Rate, Vote


@dataclass(frozen=True, slots=True)
class Tally:
    """How often x won, lost and tied, and the answers that do not count."""

    wins: int
    losses: int
    ties: int
    both_bad: int
    skips: int
    raters: int
    prompts: int

    @property
    def counted(self) -> int:
        """The votes a win rate stands on: wins, losses and ties."""
        return self.wins + self.losses + self.ties

    @property
    def total(self) -> int:
        return self.counted + self.both_bad + self.skips


def one_pair_of_arms(votes: Sequence[Vote]) -> None:
    """Raises StudyError where votes on several pairs of arms or questions would be pooled."""
    found = {(v.arm_x, v.arm_y, v.question) for v in votes}
    if len(found) > 1:
        raise StudyError(
            f"expected votes on one question and one pair of arms, x the same in all; got {sorted(found)}"
        )


def tally(votes: Sequence[Vote]) -> Tally:
    """Count the answers for x."""
    one_pair_of_arms(votes)
    count = Counter(v.winner for v in votes)
    return Tally(
        wins=count["x"],
        losses=count["y"],
        ties=count["tie"],
        both_bad=count["both_bad"],
        skips=count["skip"],
        raters=len({v.rater for v in votes}),
        prompts=len({v.prompt for v in votes}),
    )


def quantile(level: float, df: float | None = None) -> float:
    """The two-sided critical value of the normal law, or of Student's t with `df` degrees of freedom."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(0.5 + level / 2) if df is None else stdtrit(df, 0.5 + level / 2))


def wilson(share: float, n: float, level: float = 0.95, df: float | None = None) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share in [0, 1] seen in n > 0 independent votes.

    n may be fractional: an effective number of votes (Korn and Graubard 1998). With `df` the normal quantile
    is replaced by Student's t.
    """
    if not 0 <= share <= 1 or n <= 0:
        raise StudyError(f"Wilson's interval needs a share in [0, 1] and n > 0; got {share} and {n}")
    z2 = quantile(level, df) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2) / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if share == 0 else max(0.0, middle - half)
    return low, 1.0 if share == 1 else min(1.0, middle + half)


def win_rate(votes: Sequence[Vote], level: float = 0.95) -> Rate | NoData:
    """How often x is preferred, a tie counting half; both-bad and skip do not count.

    The interval is Wilson's on the counted votes, as if each came from a rater and a prompt of its own. With
    ties it is a little too wide (a tie varies less than a win or a loss), never too narrow for that reason.
    """
    count = tally(votes)
    if not count.counted:
        return NoData("no vote that prefers a side or calls a tie")
    share = (count.wins + count.ties / 2) / count.counted
    return Rate(share, *wilson(share, count.counted, level), n=count.counted, method="Wilson", level=level)


def strict_rate(votes: Sequence[Vote], level: float = 0.95) -> Rate | NoData:
    """How often x wins among the votes that prefer a side: ties left out."""
    count = tally(votes)
    decided = count.wins + count.losses
    if not decided:
        return NoData("no vote that prefers a side")
    share = count.wins / decided
    return Rate(share, *wilson(share, decided, level), n=decided, method="Wilson", level=level)


def left_rate(votes: Sequence[Vote], level: float = 0.95) -> Rate | NoData:
    """How often the left picture is preferred among votes that prefer a side. Any arms, any questions."""
    sides = [(v.winner == "x") == v.left_is_x for v in votes if v.winner in "xy" and v.left_is_x is not None]
    if not sides:
        return NoData("no vote that prefers a side and whose sides are known")
    share = sum(sides) / len(sides)
    return Rate(share, *wilson(share, len(sides), level), n=len(sides), method="Wilson", level=level)


@dataclass(frozen=True, slots=True)
class SignTest:
    """Prompts on which most raters preferred x, or y, or neither; exact two-sided p of the binomial law."""

    for_x: int
    for_y: int
    even: int
    p: float


def sign_test(votes: Sequence[Vote]) -> SignTest | NoData:
    """Exact sign test on prompt majorities: each prompt speaks once, however many raters it had.

    Prompts whose votes are even are left out, as the sign test does (Dixon and Mood 1946).
    """
    one_pair_of_arms(votes)
    balance: defaultdict[str, float] = defaultdict(float)
    for vote in votes:
        if vote.score is not None:
            balance[vote.prompt] += vote.score - 0.5
    for_x = sum(b > 0 for b in balance.values())
    for_y = sum(b < 0 for b in balance.values())
    if not for_x + for_y:
        return NoData("no prompt with a majority")
    return SignTest(for_x, for_y, len(balance) - for_x - for_y, binomial_p(for_x, for_x + for_y))


def binomial_p(k: int, n: int) -> float:
    """Exact two-sided p of k successes in n throws of a fair coin."""
    from scipy.special import bdtr

    return min(1.0, 2.0 * float(bdtr(min(k, n - k), n, 0.5)))
