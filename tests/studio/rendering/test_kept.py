"""What pages keep of a visitor, and what may be typed: each with its limit."""

from __future__ import annotations

import pytest
from PIL import Image

from calibri.analysis.settings import MOST_VALUES, SweepSettings
from calibri.calibration.artifact import LARGEST_FOUND, Calibration, Member
from calibri.commands.evaluate import MOST_STEP_COUNTS, _steps
from calibri.errors import CalibriError
from studio.compare.form import LONGEST_PROMPTS, LONGEST_SEEDS, MOST_SEEDS, read_prompts, read_seeds
from studio.compare.view import write_count
from studio.rendering import places
from studio.rendering.arms import Arm
from studio.rendering.asks import Ask
from studio.rendering.places import MOST_BORROWED, MOST_BORROWED_BYTES, MOST_COMPARISONS, SharedPlace
from studio.rendering.shots import Comparison, Shot
from studio.scales.desk import HISTORY, MOST_KEPT, Desk


def compared(side: int) -> Comparison:
    ask = Ask("a", 1, 1)
    return Comparison(ask, [Shot(Arm("base", "Base"), ask, Image.new("RGB", (side, side)))])


def test_a_history_has_a_number_and_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    place = SharedPlace()
    for _ in range(MOST_COMPARISONS + 2):
        place.remember(compared(10))
    assert len(place.history) == MOST_COMPARISONS and place.size == MOST_COMPARISONS * 300
    monkeypatch.setattr(places, "MOST_PIXEL_BYTES", 900)
    place.remember(compared(10))
    assert len(place.history) == 3
    place.remember(newest := compared(100))  # too large alone: the newest stays
    assert list(place.history) == [newest]


def borrowed(number: int, size: int) -> Calibration:
    member = Member(scales=(1.0 + number,))
    return Calibration(granularity="block", names=("a",), members=(member,), found={"a": "x" * size})


def test_calibrations_from_pictures_have_a_number_and_a_size() -> None:
    place = SharedPlace()
    choices = [place.borrow(borrowed(i, 10)) for i in range(MOST_BORROWED + 1)]
    assert list(place.borrowed) == choices[1:]
    for i in range(200):
        place.borrow(borrowed(100 + i, LARGEST_FOUND - 100))
        assert place.size <= MOST_BORROWED_BYTES
    assert len(place.borrowed) == MOST_BORROWED  # of the largest there are


def test_the_steps_back_of_a_desk_have_a_size(core) -> None:
    layout = core.host.wait_ready().layout("layer")
    desk = Desk.neutral(layout)
    for number in range(2 * HISTORY):
        desk = desk.set([1 + number / 1000] * len(layout.names))
    assert len(desk.past) == HISTORY
    for number in range(HISTORY):
        members = [Member(scales=(0.5 + number / 1000 + i / 10,) * len(layout.names)) for i in range(8)]
        desk = desk.hold(members)
    assert len({id(member) for state, _ in desk.past for member in state}) <= MOST_KEPT
    assert len(desk.past) >= MOST_KEPT // 8 - 1


def test_seeds_are_counted_before_they_are_written_out() -> None:
    assert len(read_seeds(f"0-{MOST_SEEDS - 1}")) == MOST_SEEDS
    for text in (f"0-{MOST_SEEDS}", f"0-{MOST_SEEDS - 1}, 7"):
        with pytest.raises(ValueError, match=f"at most {MOST_SEEDS} seeds, .*, got {MOST_SEEDS + 1}"):
            read_seeds(text)
    with pytest.raises(ValueError, match=r"at most 1000 seeds, .*, got 4294966002"):
        read_seeds("0-2147483000, 0-2147483000")
    assert read_seeds("7 ".ljust(LONGEST_SEEDS) + "") == (7,)
    with pytest.raises(ValueError, match=f"at most {LONGEST_SEEDS} characters, got {LONGEST_SEEDS + 1}"):
        read_seeds("7," * (LONGEST_SEEDS // 2) + "7")


def test_prompts_are_counted_before_they_are_split() -> None:
    assert len(read_prompts("x\n" * (LONGEST_PROMPTS // 2))) == 1
    with pytest.raises(ValueError, match=f"at most {LONGEST_PROMPTS} characters together, got"):
        read_prompts("x", "x\n" * (LONGEST_PROMPTS // 2))
    assert "Prompts: expected" in write_count("x", "x" * LONGEST_PROMPTS, "", "base")


def test_values_and_step_counts_have_a_number() -> None:
    def values(count: int) -> str:
        return ",".join(f"{2 + i / 100:g}" for i in range(count))

    def parse(text: str) -> SweepSettings:
        return SweepSettings.parse(rewards="tabletop-quality", prompts=("a",), values=text)

    assert len(parse(values(MOST_VALUES)).values) == MOST_VALUES
    for count in (MOST_VALUES + 1, 10**5):
        with pytest.raises(CalibriError, match=f"at most {MOST_VALUES}"):
            parse(values(count))
    assert len(_steps(",".join(map(str, range(1, MOST_STEP_COUNTS + 1))), "--steps")) == MOST_STEP_COUNTS
    with pytest.raises(CalibriError, match=f"at most {MOST_STEP_COUNTS} numbers, got {MOST_STEP_COUNTS + 1}"):
        _steps("1," * MOST_STEP_COUNTS + "1", "--steps")
