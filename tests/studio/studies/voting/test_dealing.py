"""Who is shown what: fewest votes first, no pair twice, sides and arms balanced, checks at their rates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from studio.studies.planning import NewArm, NewPrompt, NewStudy, plan
from studio.studies.protocol import Protocol
from studio.studies.voting.dealing import Book, Showing
from tests.studio.studies.conftest import calibration, rows


@dataclass
class Table:
    """A dealing book with raters around it, without database."""

    book: Book
    random: Random = field(default_factory=lambda: Random(3))
    now: datetime = datetime(2026, 1, 1)
    shown: list[Showing] = field(default_factory=list)

    def take(self, rater: str) -> Showing | None:
        self.now += timedelta(seconds=1)
        self.book.sweep(self.now)
        chosen = self.book.choose(rater, self.random)
        if chosen is None:
            return None
        expires = self.now + timedelta(minutes=self.book.protocol.expires_minutes)
        showing = Showing(str(len(self.shown)), chosen[0], rater, chosen[1], self.now, expires)
        self.shown.append(showing)
        self.book.add(showing)
        return showing

    def vote(self, rater: str, answer: str = "x") -> Showing | None:
        showing = self.take(rater)
        if showing is not None:
            self.book.settle(showing, "voted", answer)
        return showing

    def crowd(self, raters: int) -> None:
        """All vote in turns until nobody is left with a pair."""
        while any([self.vote(f"r{i}") for i in range(raters)]):
            pass

    def votes(self, kind: str = "real") -> list[Showing]:
        return [s for s in self.shown if s.state == "voted" and s.pair.kind == kind]

    def lean(self) -> dict[tuple[str, str], int]:
        """For each pair of arms, how much oftener the first stood on the left, over votes."""
        count: Counter[tuple[str, str]] = Counter()
        for showing in self.votes():
            count[showing.pair.arm_x, showing.pair.arm_y] += 1 if showing.left_is_x else -1
        return dict(count)


def table(prompts: int, arms: int = 2, **protocol) -> Table:
    others = tuple(
        NewArm(label=f"c{i}", kind="calibrated", calibration=calibration(1 + i / 10)) for i in range(1, arms)
    )
    study, _, pairs = plan(
        NewStudy(
            name="t",
            seed=5,
            arms=(NewArm(label="base"), *others),
            prompts=tuple(NewPrompt(text=f"p{i}") for i in range(prompts)),
            protocol=Protocol(**{"cap": 1000, **protocol}),
        ),
        key=b"secret",
    )
    return Table(Book(study.id, study.protocol, study.seed, pairs))


LEAN = 20  # from balance at most: beyond the free 4, each further step is 2/3 as likely


@pytest.mark.parametrize("arms", [2, 3])
@pytest.mark.parametrize("raters", [1, 8, 30])
def test_sides_stay_near_balance_for_each_pair_of_arms(arms, raters):
    deal = table(prompts=21, arms=arms, gold_rate=0.1, repeat_rate=0.1)
    deal.crowd(raters)
    balance = deal.lean()
    assert len(balance) == arms * (arms - 1) // 2
    assert all(abs(b) <= LEAN for b in balance.values())


def test_sides_stay_near_balance_while_many_pairs_are_open():
    deal = table(prompts=30)
    opened = [deal.take(f"r{i}") for i in range(400)]
    assert abs(sum(1 if s.left_is_x else -1 for s in opened)) <= LEAN


@pytest.mark.parametrize("raters", [1, 7, 100])
def test_whoever_knows_all_earlier_sides_guesses_the_next_at_most_six_times_in_ten(raters):
    right = total = 0
    for seed in range(12):
        deal, lean, before = Table(table(prompts=150).book, Random(seed)), 0, True
        for number in range(150 if raters == 1 else 300):
            showing = deal.vote(f"r{number % raters}")
            guess = lean < 0 if lean else not before  # the rarer side; where there is none, the other one
            right, total = right + (guess == showing.left_is_x), total + 1
            lean, before = lean + (1 if showing.left_is_x else -1), showing.left_is_x
    assert right / total <= 0.6


def joined(showings: list[tuple[str, bool]], pairs: list[str]) -> float:
    """The share of pairs whose sides are told from `showings`, in the order of dealing: (pair, whether its
    first picture stood left, which says nothing of its arm). The attack takes each showing for the mirror
    image of the one before, and what fits best to all such links counts, in the better of its two readings.
    """
    place = {pair: i for i, pair in enumerate(pairs)}
    links = np.zeros((len(pairs), len(pairs)))
    for (one, left), (other, next_left) in pairwise(showings):
        links[place[one], place[other]] += -1 if left == next_left else 1
    guess = np.linalg.eigh(links + links.T)[1][:, -1] > 0
    return max(guess.mean(), 1 - guess.mean())  # `left` is given as x's, so that one reading is all True


def test_a_hundred_identities_that_join_what_they_see_learn_no_arm():
    shares = []
    for seed in range(12):
        deal = Table(table(prompts=40).book, Random(seed))
        shown = [deal.take(f"r{i // 2}") for i in range(200)]  # each consents and sees two pairs
        pairs = sorted({s.pair.id for s in shown})
        shares.append(joined([(s.pair.id, s.left_is_x) for s in shown], pairs))
    coins = [(guess := Random(seed)) and sum(guess.random() < 0.5 for _ in range(40)) for seed in range(400)]
    chance = [max(c, 40 - c) / 40 for c in coins]
    assert np.mean(shares) <= np.mean(chance) + 3 * np.std(chance) / len(shares) ** 0.5


def test_which_side_comes_first_is_a_coin():
    lefts = sum(Table(table(prompts=1).book, Random(i)).vote("r").left_is_x for i in range(60))
    assert 15 < lefts < 45


def test_pairs_fill_up_evenly():
    deal = table(prompts=8, cap=4)
    deal.crowd(6)  # 24 votes on 8 pairs
    assert set(Counter(s.pair.id for s in deal.votes()).values()) == {3}


def test_each_pair_gets_the_raters_it_wants_and_no_more():
    deal = table(prompts=15, votes_per_pair=3)
    deal.crowd(9)
    assert set(Counter(s.pair.id for s in deal.votes()).values()) == {3}


def test_no_rater_sees_a_pair_twice():
    deal = table(prompts=10, arms=3)
    deal.crowd(4)
    seen = Counter((s.rater, s.pair.id) for s in deal.shown)
    assert set(seen.values()) == {1}
    assert len(seen) == 4 * 30


def test_a_skipped_pair_still_gets_its_votes():
    deal = table(prompts=3, votes_per_pair=1)
    for _ in range(3):
        deal.vote("first", "skip")
    assert deal.take("first") is None
    assert [deal.vote("second") is not None for _ in range(4)] == [True, True, True, False]


def test_a_pair_left_lying_goes_to_somebody_else_after_its_time():
    deal = table(prompts=1, votes_per_pair=1, expires_minutes=10)
    deal.take("away")
    assert deal.take("waiting") is None
    deal.now += timedelta(minutes=11)
    assert deal.take("waiting") is not None


def test_a_pair_left_lying_gives_its_side_back():
    deal = table(prompts=9, expires_minutes=10)
    for i in range(5):
        deal.take(f"away{i}")
    deal.now += timedelta(minutes=11)
    deal.crowd(3)
    assert deal.book.lean[deal.shown[0].pair.arm_x, deal.shown[0].pair.arm_y] == next(
        iter(deal.lean().values())
    )


def test_taking_a_vote_back_gives_its_place_back():
    deal = table(prompts=1, votes_per_pair=1)
    deal.book.settle(deal.vote("r1"), "undone")
    assert deal.take("r2") is not None


def test_the_cap_ends_a_rater_s_work():
    deal = table(prompts=10, cap=4)
    deal.crowd(1)
    assert len(deal.votes()) == 4


def test_arms_come_in_turns_for_each_rater():
    deal = table(prompts=9, arms=3, cap=9)
    deal.crowd(1)
    assert set(Counter((s.pair.arm_x, s.pair.arm_y) for s in deal.votes()).values()) == {3}


def test_gold_pairs_come_at_their_rate():
    deal = table(prompts=100, cap=40, gold_rate=0.1)
    deal.crowd(25)
    counts = Counter(s.rater for s in deal.votes("gold"))
    assert set(counts.values()) <= {4, 5}  # 0.1 × 40, and a phase of each rater's own
    assert len(deal.shown) == 25 * 40


def test_repeats_come_at_their_rate_later_and_with_swapped_sides():
    deal = table(prompts=100, cap=40, repeat_rate=0.1, repeat_gap=5)
    deal.crowd(10)
    for rater in {s.rater for s in deal.shown}:
        mine = [s for s in deal.shown if s.rater == rater]
        place = {s.pair.id: i for i, s in enumerate(mine)}
        repeats = [s for s in mine if s.pair.kind == "repeat"]
        assert len(repeats) in (4, 5)
        for again in repeats:
            first = mine[place[again.pair.repeat_of]]
            assert place[again.pair.id] - place[first.pair.id] >= 5
            assert again.left_is_x != first.left_is_x


def test_moments_of_checks_differ_between_raters():
    deal = table(prompts=100, cap=20, gold_rate=0.1)
    deal.crowd(12)
    moments = {
        tuple(i for i, s in enumerate(x for x in deal.shown if x.rater == f"r{r}") if s.pair.kind == "gold")
        for r in range(12)
    }
    assert len(moments) >= 5


@pytest.mark.parametrize(
    "prompts, protocol",
    [
        (100, {"cap": 40, "gold_rate": 0.2, "repeat_rate": 0.2}),
        (12, {"gold_rate": 0.3, "repeat_rate": 0.3, "repeat_gap": 1}),
        (30, {"gold_rate": 0.1}),
        (3, {}),
    ],
)
def test_how_many_are_left_never_tells_that_a_check_comes(prompts, protocol):
    deal = table(prompts=prompts, **protocol)
    for rater in (f"r{i}" for i in range(8)):
        said = [deal.book.total_for(rater)]
        while deal.vote(rater) is not None:
            said.append(deal.book.total_for(rater))
        assert len(set(said)) == 1
        assert said[0] == len([s for s in deal.shown if s.rater == rater])


def test_the_adaptive_sampler_asks_where_it_is_in_doubt():
    deal = table(prompts=60, arms=3, sampling="adaptive")
    for _ in range(90):
        showing = deal.take("r")
        with_base = showing.pair.arm_x.endswith(":0")
        deal.book.settle(showing, "voted", "y" if with_base else ["x", "y"][len(deal.shown) % 2])
    even = sum(not s.pair.arm_x.endswith(":0") for s in deal.shown)
    assert even > 40  # of 90; in turns it would be 30


def test_a_restart_forgets_no_balance(world):
    study = world.study(prompts=3)
    for i in range(3):
        world.rater(study, i).join().vote()
        world.reopen()
    for i in range(3):
        world.rater(study, i).join().vote_all()
    lefts = world.studies.db.read("SELECT a.left_is_x FROM votes JOIN assignments a USING (token)")
    [lean] = world.studies.voting._books[study.id].lean.values()
    assert lean == sum(1 if left else -1 for (left,) in lefts)
    assert set(Counter(v["pair"] for v in rows(world)).values()) == {3}
