"""How often a score tells which of two pictures people choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from calibri.preference.bootstrap import two_way_interval
from calibri.preference.votes import Answer, NoData, Rate, Vote


def predicted_share(
    votes: Sequence[Vote], scores: Mapping[str, tuple[float, float]], level: float = 0.95, *, seed: int = 0
) -> Rate | NoData:
    """The share of people's choices whose picture has the higher score. `scores`: pair → (of x, of y).

    Only choices on real pairs count: ties, both-bad, skips, gold pairs and repeats do not. Where the two
    scores are equal the score tells nothing: half a hit, as by a coin. The interval is that of win rates,
    over prompts and raters at once. Votes are on one question and any arms; pairs that have no scores are
    left out.
    """
    judged = [turned for vote in votes if (turned := _judge(vote, scores)) is not None]
    if not judged:
        return NoData("no choice on a real pair whose pictures have scores")
    return two_way_interval(judged, level, seed=seed)


def count_undecided(votes: Sequence[Vote], scores: Mapping[str, tuple[float, float]]) -> int:
    """Choices on pairs whose two pictures have the same score."""
    judged = (_judge(vote, scores) for vote in votes)
    return sum(vote is not None and vote.winner == "tie" for vote in judged)


def _judge(vote: Vote, scores: Mapping[str, tuple[float, float]]) -> Vote | None:
    """The vote as one between `right` and `wrong`; None where it is no choice or has no scores."""
    if vote.kind != "real" or vote.winner not in ("x", "y") or vote.pair not in scores:
        return None
    x, y = scores[vote.pair]
    hit: Answer = "tie" if x == y else "x" if (x > y) == (vote.winner == "x") else "y"
    return replace(vote, arm_x="right", arm_y="wrong", winner=hit, left_is_x=None)
