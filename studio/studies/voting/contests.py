"""Which two arms meet next in a study with the sampling `informative`. In memory: no database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np

from calibri.preference import expected_information, fit_posterior

ArmPair = tuple[str, str]

FLOOR = 0.5  # of an even share: below it a pair of arms meets next, whatever is known of it


def choose_contest(
    offered: Set[ArmPair], score: Mapping[ArmPair, Sequence[float]], meetings: Mapping[ArmPair, int]
) -> ArmPair:
    """The two arms whose next vote is expected to tell most about the ranking.

    `offered`: pairs of arms of which this rater can see a pair of pictures. `score`: wins of the first arm
    (ties half) and the votes that these are of; `meetings`: votes and open showings. Answers that prefer no
    arm count as votes with an unknown outcome: arms that nobody can tell apart are not asked about for ever.
    Every pair of arms keeps FLOOR of an even share, so that no early vote decides what is never asked again.
    """
    known = sorted({*offered, *score, *meetings})
    even = sum(meetings.get(arms, 0) for arms in known) / len(known)
    rarest = min(sorted(offered), key=lambda arms: meetings.get(arms, 0))
    if len(offered) == 1 or meetings.get(rarest, 0) < FLOOR * even:
        return rarest
    place = {arm: i for i, arm in enumerate(sorted({arm for arms in known for arm in arms}))}
    wins, open_votes = np.zeros((len(place), len(place))), np.zeros((len(place), len(place)))
    for x, y in known:
        won, counted = score.get((x, y), (0.0, 0.0))
        wins[place[x], place[y]] += won
        wins[place[y], place[x]] += counted - won
        waiting = max(0.0, meetings.get((x, y), 0) - counted)
        open_votes[place[x], place[y]] += waiting
        open_votes[place[y], place[x]] += waiting
    posterior = fit_posterior(wins, open_votes)
    return max(
        sorted(offered, key=lambda arms: (meetings.get(arms, 0), arms)),
        key=lambda arms: round(expected_information(posterior, place[arms[0]], place[arms[1]]), 12),
    )
