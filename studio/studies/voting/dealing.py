"""Which pair a rater sees next, and which picture is on the left. In memory: no database, no Gradio.

Pairs with the fewest votes come first, never one that the rater has seen; which arms meet may follow from
what the votes have told (studio.studies.voting.contests). Sides are tossed by a coin that leans towards
balance. Checks (gold pairs, and repeats with sides swapped) come at the protocol's rates, at moments that the
rater cannot predict.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from calibri.errors import StudyError
from calibri.preference.votes import SCORES
from studio.studies.protocol import Protocol
from studio.studies.storage.study_store import StudyPair
from studio.studies.voting.contests import choose_contest

ArmPair = tuple[str, str]

# A side that follows from earlier showings would reveal the arm to whoever knows them, so sides are tossed:
# by a fair coin near balance, else by one that favours the rarer side a little (Efron, Biometrika 58, 1971).
# Someone who knew all earlier showings would guess right with probability BIAS at most.
BIAS = 0.6
FREE = 4  # imbalance up to which the coin is fair

# A showing holds its place among a pair's votes only while somebody seems to look at it. Its token stays
# good: who votes after all adds a vote to those that were wanted.
UNSEEN = timedelta(minutes=5)  # until its pictures are fetched
SEEN = timedelta(minutes=3)  # afterwards, where others would find nothing to vote on


@dataclass
class Showing:
    """One assignment. `answer`: the winner of the first question, once there is one."""

    token: str
    pair: StudyPair
    rater: str
    left_is_x: bool
    issued: datetime
    expires: datetime
    state: str = "issued"
    answer: str | None = None
    late: bool = False  # open, but it holds no place any more
    seen: bool = False  # a browser fetched its pictures
    number: int = 0  # in the order of dealing, which clocks do not change

    @property
    def weights(self) -> tuple[int, int]:
        """(for the pair's load, for the balance of sides). A skipped pair still needs a vote, but its sides
        were shown; an expired one counts for neither.
        """
        if self.state == "issued":
            return (0, 0) if self.late else (1, 1)
        return (int(self.answer != "skip"), 1) if self.state == "voted" else (0, 0)


@dataclass
class RaterBook:
    """What one rater has been shown, in order."""

    showings: list[Showing] = field(default_factory=list)
    last_vote: datetime | None = None

    @property
    def counted(self) -> list[Showing]:
        """Showings that use up the rater's cap: answered, or open to be answered."""
        return [s for s in self.showings if s.state in ("issued", "voted")]

    @property
    def voted(self) -> list[Showing]:
        return [s for s in self.showings if s.state == "voted"]


class Book:
    """The dealing state of one open study. Not thread-safe: its owner calls it from one thread at a time."""

    def __init__(
        self, study: str, protocol: Protocol, seed: int, pairs: Iterable[StudyPair], name: str = ""
    ) -> None:
        self.study, self.protocol, self.seed, self.name = study, protocol, seed, name
        self.consented: set[str] = set()
        self.pairs = {p.id: p for p in pairs}
        self.real = [p for p in self.pairs.values() if p.kind == "real"]
        self.gold = [p for p in self.pairs.values() if p.kind == "gold"]
        self.repeats = {p.repeat_of: p for p in self.pairs.values() if p.kind == "repeat"}
        self.raters: defaultdict[str, RaterBook] = defaultdict(RaterBook)
        self.load: defaultdict[str, int] = defaultdict(int)  # pair → votes and open showings
        self.lean: defaultdict[ArmPair, int] = defaultdict(int)  # arm_x left − arm_x right, real pairs
        self.meetings: defaultdict[ArmPair, int] = defaultdict(int)  # votes and open showings, real pairs
        self.score: defaultdict[ArmPair, list[float]] = defaultdict(lambda: [0.0, 0.0])  # wins of x, counted
        self._waiting: defaultdict[str, list[Showing]] = defaultdict(
            list
        )  # pair → showings that hold a place
        self._ending: list[tuple[datetime, str]] = []  # when holds end
        self.last_number = 0  # of the showings and votes so far
        self._by_token: dict[str, Showing] = {}

    # bookkeeping

    def add(self, showing: Showing) -> None:
        """Take in a showing that was issued or read from the database."""
        self.raters[showing.rater].showings.append(showing)
        self._by_token[showing.token] = showing
        self.last_number = max(self.last_number, showing.number)
        self._count(showing, +1)
        if showing.state == "issued":
            heapq.heappush(self._ending, (self._find_end(showing), showing.token))

    def next_number(self) -> int:
        """A number above those of all showings and votes of this study."""
        self.last_number += 1
        return self.last_number

    def _find_end(self, showing: Showing) -> datetime:
        """When a showing gives up its place by itself."""
        if showing.seen:
            return showing.expires
        return min(showing.expires, self._find_start(showing) + UNSEEN)

    def _find_start(self, showing: Showing) -> datetime:
        """When its token was made; `issued` is older for one that was dealt again."""
        return showing.expires - timedelta(minutes=self.protocol.expires_minutes)

    def note_seen(self, token: str) -> None:
        """A browser fetched the pictures of this showing, so somebody seems to look at it."""
        showing = self._by_token.get(token)
        if showing is None or showing.state != "issued" or showing.seen:
            return
        self._count(showing, -1)
        showing.seen, showing.late = True, False
        self._count(showing, +1)
        heapq.heappush(self._ending, (self._find_end(showing), token))

    def _count(self, showing: Showing, sign: int) -> None:
        load, side = showing.weights
        self.load[showing.pair.id] += sign * load
        if showing.state == "issued" and load and sign > 0:
            self._waiting[showing.pair.id].append(showing)
        elif showing.state == "issued" and load:
            self._waiting[showing.pair.id].remove(showing)
        if showing.pair.kind != "real":
            return
        arms = (showing.pair.arm_x, showing.pair.arm_y)
        self.meetings[arms] += sign * side
        self.lean[arms] += sign * (side if showing.left_is_x else -side)
        if showing.state == "voted" and showing.answer in SCORES:
            self.score[arms][0] += sign * SCORES[showing.answer]
            self.score[arms][1] += sign

    def get(self, token: str) -> Showing | None:
        """The showing of this token in this study, if there is one."""
        return self._by_token.get(token)

    def find(self, token: str) -> Showing:
        """The showing of this token. Raises StudyError where memory and tables differ, which is a bug."""
        try:
            return self._by_token[token]
        except KeyError:
            raise StudyError("The studio lost track of this pair. Reload the page to go on.") from None

    def include(self, pair: StudyPair) -> None:
        """Add a pair that was made after the study was opened."""
        self.pairs[pair.id] = pair
        self.real.append(pair)

    def has_consent(self, rater: str) -> bool:
        return rater in self.consented

    def settle(self, showing: Showing, state: str, answer: str | None = None) -> None:
        """Note that a showing was voted on, undone or dropped."""
        self._count(showing, -1)
        showing.state, showing.answer = state, answer
        self._count(showing, +1)

    def sweep(self, moment: datetime) -> None:
        """Free the places of showings that have expired, and of those that nobody looked at in time."""
        while self._ending and self._ending[0][0] <= moment:
            showing = self._by_token[heapq.heappop(self._ending)[1]]
            if showing.state == "issued" and not showing.late and self._find_end(showing) <= moment:
                self._give_up(showing)

    def _give_up(self, showing: Showing) -> None:
        self._count(showing, -1)
        showing.late = True

    def free_a_place(self, rater: str, moment: datetime) -> bool:
        """Give up the showing that has held a place for longest without being looked at, or else the oldest
        that was left lying. Returns whether this rater can have a pair now.
        """
        held = self._find_held(rater)
        lying = [s for s in held if self._find_weak_end(s) <= moment]
        if not lying:
            return False
        self._give_up(min(lying, key=lambda s: (s.seen, s.number)))
        return True

    def find_wait(self, rater: str, moment: datetime) -> float | None:
        """Seconds until this rater may find a pair, where others hold all that is left; else None."""
        ends = [self._find_weak_end(s) for s in self._find_held(rater)]
        return max(0.0, (min(ends) - moment).total_seconds()) if ends else None

    def _find_weak_end(self, showing: Showing) -> datetime:
        """When a showing gives up its place to somebody who would find nothing otherwise."""
        start = self._find_start(showing)
        return min(showing.expires, start + SEEN) if showing.seen else start

    def _find_held(self, rater: str) -> list[Showing]:
        """Showings that keep this rater from a pair, where only places that are held are left."""
        wanted = self.protocol.votes_per_pair
        if wanted is None or len(self.raters[rater].counted) >= self.protocol.cap:
            return []
        seen = {s.pair.id for s in self.raters[rater].showings}
        return [
            showing
            for pair, showings in self._waiting.items()
            if pair not in seen
            and self.load[pair] - len(showings) < wanted <= self.load[pair]
            and self.pairs[pair].kind == "real"
            for showing in showings
        ]

    def open_showings(self, rater: str) -> list[Showing]:
        """This rater's unanswered showings, oldest first."""
        return sorted((s for s in self.raters[rater].showings if s.state == "issued"), key=lambda s: s.number)

    # choosing

    def choose(self, rater: str, random: Random) -> tuple[StudyPair, bool] | None:
        """(pair, left_is_x) for this rater, or None when nothing is left for them."""
        mine = self.raters[rater].counted
        if len(mine) >= self.protocol.cap:
            return None
        number = len(mine) + 1
        if self._due(rater, "repeat", number, self.protocol.repeat_rate, mine):
            chosen = self._repeat(mine, random)
            if chosen is not None:
                return chosen
        seen = {s.pair.id for s in self.raters[rater].showings}
        if self._due(rater, "gold", number, self.protocol.gold_rate, mine):
            fresh = [p for p in self.gold if p.id not in seen]
            if fresh:
                return random.choice(fresh), random.random() < 0.5
        return self._real(rater, seen, random)

    def _due(self, rater: str, kind: str, number: int, rate: float, mine: list[Showing]) -> bool:
        """Whether the rater has had fewer checks of this kind than the rate asks for."""
        return self._checks_by(rater, kind, number, rate) > sum(s.pair.kind == kind for s in mine)

    def _checks_by(self, rater: str, kind: str, number: int, rate: float) -> int:
        """How many checks of this kind belong among the rater's first `number` showings. Each rater has their
        own phase, so nobody predicts the next check.
        """
        if rate <= 0:
            return 0
        digest = hashlib.sha256(f"{self.seed}:{rater}:{kind}".encode()).digest()
        phase = int.from_bytes(digest[:8], "big") / 2**64
        return math.floor(number * rate + phase)

    def _repeat(self, mine: list[Showing], random: Random) -> tuple[StudyPair, bool] | None:
        again = {s.pair.repeat_of for s in mine if s.pair.kind == "repeat"}
        old = mine[: max(0, len(mine) - self.protocol.repeat_gap + 1)]
        repeatable = [
            s
            for s in old
            if s.pair.kind == "real"
            and s.state == "voted"
            and s.answer not in (None, "skip")
            and s.pair.id not in again
            and s.pair.id in self.repeats
        ]
        if not repeatable:
            return None
        first = random.choice(repeatable)
        return self.repeats[first.pair.id], not first.left_is_x

    def _real(self, rater: str, seen: set[str], random: Random) -> tuple[StudyPair, bool] | None:
        wanted = self.protocol.votes_per_pair
        fresh = [p for p in self.real if p.id not in seen and (wanted is None or self.load[p.id] < wanted)]
        if not fresh:
            return None
        if self.protocol.sampling == "adaptive":
            widest = max({(p.arm_x, p.arm_y) for p in fresh}, key=lambda arms: (self._doubt(arms), arms))
            fresh = [p for p in fresh if (p.arm_x, p.arm_y) == widest]
        elif self.protocol.sampling == "informative":
            asked = choose_contest({(p.arm_x, p.arm_y) for p in fresh}, self.score, self.meetings)
            fresh = [p for p in fresh if (p.arm_x, p.arm_y) == asked]
        least = min(self.load[p.id] for p in fresh)
        fresh = [p for p in fresh if self.load[p.id] == least]
        met: defaultdict[ArmPair, int] = defaultdict(int)
        for showing in self.raters[rater].counted:
            met[(showing.pair.arm_x, showing.pair.arm_y)] += 1
        rarest = min(met[(p.arm_x, p.arm_y)] for p in fresh)
        pair = random.choice([p for p in fresh if met[(p.arm_x, p.arm_y)] == rarest])
        return pair, self.toss_side(pair, random)

    def toss_side(self, pair: StudyPair, random: Random) -> bool:
        """Whether x is on the left, by a coin that is fair or, far from balance, favours the rarer side."""
        lean = self.lean[(pair.arm_x, pair.arm_y)]
        chance = 0.5 if abs(lean) <= FREE else BIAS if lean < 0 else 1 - BIAS
        return random.random() < chance

    def _doubt(self, arms: ArmPair) -> float:
        """Variance of Beta(wins + 1, losses + 1): the adaptive sampler picks the pair of arms where it is
        largest.
        """
        wins, counted = self.score[arms]
        a, b = wins + 1, counted - wins + 1
        return a * b / ((a + b) ** 2 * (a + b + 1))

    def _count_looked_at(self, pair: str) -> int:
        """Votes, and open showings that somebody looks at."""
        return self.load[pair] - sum(not s.seen for s in self._waiting.get(pair, ()))

    def total_for(self, rater: str) -> int:
        """How many showings this rater will have had at the end, checks included.

        Checks still to come are counted by their rates, not by what was dealt: a total that grew with a check
        would reveal it.
        """
        book = self.raters.get(rater) or RaterBook()  # a mere look stores nothing
        mine = book.counted
        seen = {s.pair.id for s in book.showings}
        wanted = self.protocol.votes_per_pair
        real = sum(s.pair.kind == "real" for s in mine) + sum(
            p.id not in seen and (wanted is None or self._count_looked_at(p.id) < wanted) for p in self.real
        )
        repeatable = max(0, real - self.protocol.repeat_gap + 1) if self.repeats else 0
        kinds = (
            ("gold", self.protocol.gold_rate, len(self.gold)),
            ("repeat", self.protocol.repeat_rate, repeatable),
        )

        def checks(number: int) -> int:
            return sum(min(most, self._checks_by(rater, k, number, rate)) for k, rate, most in kinds)

        total = real
        while total < self.protocol.cap and real + checks(total + 1) > total:
            total += 1
        return max(min(total, self.protocol.cap), len(mine))
