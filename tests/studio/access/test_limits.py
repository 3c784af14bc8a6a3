"""What a public studio renders for one visitor, and how often."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from calibri.backbones.catalog import BackboneSpec
from calibri.calibration.artifact import Member
from calibri.sampling.request import RenderRequest
from studio.access import limits
from studio.access.limits import MOST_AT_ONCE, MOST_PICTURES, STRANGER, LimitError, Limits
from studio.settings import Settings

SPEC = BackboneSpec(name="tiny", source="memory", height=64, width=64)
ONE = (RenderRequest("a red cube", 1, 2),)


@dataclass
class Door:
    """Who comes next, and when."""

    who: str | None = "ann"
    now: float = 0.0

    def limits(self, **settings: object) -> Limits:
        made = Settings.model_validate({"demo": True, "rate": 6, **settings})
        return Limits(made, lambda: self.who, lambda: self.now)


def render(asked: Limits, requests=ONE, times: int = 1) -> None:
    for _ in range(times):
        with asked.admitted(requests, SPEC):
            pass


@pytest.fixture
def door() -> Door:
    return Door()


def test_a_visitor_renders_a_burst_and_then_waits(door: Door) -> None:
    asked = door.limits()
    render(asked, times=MOST_PICTURES)
    with pytest.raises(LimitError, match=r"6 pictures a minute.*Go on in 1[01] seconds"):
        render(asked)
    door.now = 10.0
    render(asked)
    with pytest.raises(LimitError):
        render(asked)


def test_a_request_costs_as_many_as_it_has_pictures(door: Door) -> None:
    asked = door.limits()
    render(asked, ONE * MOST_PICTURES)
    with pytest.raises(LimitError, match="pictures a minute"):
        render(asked)


def test_what_was_refused_costs_nothing(door: Door) -> None:
    asked = door.limits()
    render(asked, times=MOST_PICTURES - 1)
    for _ in range(5):
        with pytest.raises(LimitError):
            render(asked, ONE * 2)
    render(asked)


def test_visitors_do_not_use_up_one_another(door: Door) -> None:
    asked = door.limits()
    render(asked, times=MOST_PICTURES)
    door.who = "ben"
    render(asked)


def test_whoever_throws_the_cookie_away_shares_one_allowance(door: Door) -> None:
    asked = door.limits()
    door.who = STRANGER
    render(asked, times=MOST_PICTURES)
    with pytest.raises(LimitError, match="Each visitor"):
        render(asked)


def test_all_together_have_ten_times_as_much(door: Door) -> None:
    asked = door.limits()
    for number in range(60 // MOST_PICTURES):
        door.who = f"visitor {number}"
        render(asked, times=MOST_PICTURES)
    door.who = "one more"
    with pytest.raises(LimitError, match="Many people"):
        render(asked)
    door.now = 1.0
    render(asked)


def test_forgotten_visitors_take_no_memory(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_VISITORS", 3)
    asked = door.limits(rate=1000)
    for number in range(9):
        door.who = f"visitor {number}"
        render(asked)
    assert len(asked._buckets) == 3


def test_one_visitor_has_few_requests_under_way_and_all_have_a_queue(door: Door) -> None:
    asked = door.limits(queue=MOST_AT_ONCE + 1, rate=1000)
    held = [asked.admitted(ONE, SPEC) for _ in range(MOST_AT_ONCE)]
    for each in held:
        each.__enter__()
    with pytest.raises(LimitError, match="earlier pictures"):
        render(asked)
    door.who = "ben"
    other = asked.admitted(ONE, SPEC)
    other.__enter__()
    door.who = "cleo"
    with pytest.raises(LimitError, match="wait already"):
        render(asked)
    for each in (*held, other):
        each.__exit__(None, None, None)
    render(asked)
    assert asked._at_once == {}


def test_a_render_that_failed_is_no_longer_under_way(door: Door) -> None:
    asked = door.limits()
    for _ in range(MOST_AT_ONCE + 1):
        with pytest.raises(ZeroDivisionError), asked.admitted(ONE, SPEC):
            raise ZeroDivisionError
    render(asked)


TOO_LARGE = {
    "300": RenderRequest("x" * 301, 1, 2),
    "31 steps": RenderRequest("a cube", 1, 31),
    "128 × 64 pixels": RenderRequest("a cube", 1, 2, width=128),
    "5 members": RenderRequest("a cube", 1, 2, members=(Member(scales=(1.0,)),) * 5),
}


@pytest.mark.parametrize("words", TOO_LARGE)
def test_what_is_too_large_is_refused_in_words(door: Door, words: str) -> None:
    with pytest.raises(LimitError, match=words):
        render(door.limits(), (TOO_LARGE[words],))


def test_too_many_pictures_at_once_are_refused(door: Door) -> None:
    with pytest.raises(LimitError, match=r"13 pictures.*12"):
        render(door.limits(rate=1000), ONE * 13)


def test_other_sides_with_no_more_pixels_are_fine(door: Door) -> None:
    render(door.limits(), (RenderRequest("a cube", 1, 2, width=128, height=32),))


@pytest.mark.parametrize("settings, who", [({"demo": False}, "ann"), ({}, None)])
def test_a_private_studio_and_the_studios_own_work_are_not_limited(
    door: Door, settings: dict, who: str | None
) -> None:
    door.who = who
    render(door.limits(**settings), tuple(TOO_LARGE.values()) * 20, times=3)
