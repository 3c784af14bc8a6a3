"""Compare without a browser."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from calibri.errors import RenderError
from studio.arms import DESK, LONGEST_PROMPT, Ask, arm, choices, problems_of
from studio.components import was_cancelled
from studio.deskwork import change
from studio.host import HostStatus
from studio.pages.compare import caption_of, compare, latest, pair, shown, thumbnails
from studio.services import Services


def pixels(image) -> np.ndarray:
    return np.asarray(image)


def test_three_arms_of_one_noise_give_three_pictures(stocked: Services, visitor: str) -> None:
    made = compare(stocked, visitor, "a red cube", 3, 2, "layer")
    base, calibrated, ensemble = (pixels(s.image) for s in made.shots)
    assert not np.array_equal(base, calibrated)
    assert not np.array_equal(calibrated, ensemble)


def test_nfe_counts_the_members(stocked: Services, visitor: str) -> None:
    made = compare(stocked, visitor, "a red cube", 3, 2, "layer")
    assert [s.nfe for s in made.shots] == [2, 2, 4]


def test_the_same_question_gives_the_same_picture(stocked: Services, visitor: str) -> None:
    first, second = (compare(stocked, visitor, "a red cube", 3, 2, "layer") for _ in range(2))
    assert np.array_equal(pixels(first.shots[1].image), pixels(second.shots[1].image))


def test_another_seed_gives_another_picture(stocked: Services, visitor: str) -> None:
    first, second = (compare(stocked, visitor, "a red cube", seed, 2, "layer") for seed in (3, 4))
    assert not np.array_equal(pixels(first.shots[0].image), pixels(second.shots[0].image))


def test_an_arm_without_a_calibration_says_so_and_the_base_is_rendered(
    services: Services, visitor: str
) -> None:
    base, calibrated, ensemble = compare(services, visitor, "a red cube", 3, 2, "layer").shots
    assert base.image is not None
    assert calibrated.image is None and "No calibration" in caption_of(calibrated, base)
    assert ensemble.image is None and "No ensemble" in caption_of(ensemble, base)


def test_the_desk_can_be_an_arm(services: Services, visitor: str) -> None:
    change(services, visitor, lambda d: d.set([1.3] * len(d.layout.names)))
    made = compare(services, visitor, "a red cube", 3, 2, "layer", 1.0, DESK)
    assert made.shots[1].image is not None


def test_guidance_spends_two_evaluations_a_step_where_there_is_no_ensemble(
    stocked: Services, visitor: str
) -> None:
    made = compare(stocked, visitor, "a red cube", 3, 2, "layer", 2.0)
    assert [s.nfe for s in made.shots] == [4, 4, 4]


@pytest.mark.parametrize(
    "prompt, seed, steps, field",
    [
        ("", 3, 8, "prompt"),
        ("   ", 3, 8, "prompt"),
        (None, 3, 8, "prompt"),
        ("x" * (LONGEST_PROMPT + 1), 3, 8, "prompt"),
        ("a cube", -1, 8, "seed"),
        ("a cube", None, 8, "seed"),
        ("a cube", 1.5, 8, "seed"),
        ("a cube", float("nan"), 8, "seed"),
        ("a cube", 3, 0, "steps"),
        ("a cube", 3, "8", "steps"),
        ("a cube", 3, True, "steps"),
    ],
)
def test_what_cannot_be_asked_is_said_at_its_field(prompt, seed, steps, field: str) -> None:
    assert list(problems_of(prompt, seed, steps)) == [field]
    with pytest.raises(RenderError):
        Ask.checked(prompt, seed, steps)


def test_a_newer_press_calls_off_the_older(stocked: Services, visitor: str) -> None:
    started = threading.Event()
    caught: list[BaseException] = []

    def older() -> None:
        try:
            compare(stocked, visitor, "a red cube", 1, 100, "layer", on_step=lambda *_: started.set())
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=older)
    thread.start()
    assert started.wait(30)
    newer = compare(stocked, visitor, "a blue cone", 2, 2, "layer")
    thread.join(30)
    assert len(caught) == 1 and was_cancelled(caught[0])
    assert latest(stocked, visitor) is newer


def test_history_is_the_newest_first_and_belongs_to_one_visitor(stocked: Services, visitor: str) -> None:
    compare(stocked, visitor, "one", 1, 2, "layer")
    compare(stocked, visitor, "two", 1, 2, "layer")
    assert [words.split(" · ")[0] for _, words in thumbnails(stocked, visitor)] == ["two", "one"]
    assert thumbnails(stocked, stocked.visitors.new_id()) == []


def test_the_slider_shows_two_pictures_of_one_size_or_nothing(stocked: Services, visitor: str) -> None:
    made = compare(stocked, visitor, "a red cube", 3, 2, "layer")
    left, right = pair(made, "base", "ensemble")
    assert left.size == right.size == (384, 384)
    assert pair(None, "base", "ensemble") is None


def test_captions_escape_what_people_typed(stocked: Services) -> None:
    layout = stocked.host.wait_ready().layout("layer")
    desk = change(stocked, None, lambda d: d)
    assert desk.layout == layout
    made = arm(stocked, "calibrated", "layer", None, None)
    evil = made.calibration.model_copy(update={"title": "<script>alert(1)</script>"})
    shot = compare(stocked, None, "a red cube", 3, 2, "layer").shots[1]
    text = caption_of(type(shot)(type(made)("calibrated", "x", evil), shot.ask, shot.image), None)
    assert "<script" not in text


def test_choices_are_of_this_backbone_and_granularity_only(stocked: Services) -> None:
    assert [title for title, _ in choices(stocked, "calibrated", "layer")] == ["Bent"]
    assert [title for title, _ in choices(stocked, "ensemble", "layer")] == ["Pair"]
    assert choices(stocked, "calibrated", "gate") == []


def test_the_page_shows_empty_places_before_anything_is_made() -> None:
    assert [part for part in shown(None) if part is None] == [None] * 3


def test_a_studio_that_still_loads_says_how_far_it_is() -> None:
    from studio.components import bar_html

    text = bar_html(HostStatus(phase="loading", backbone="tabletop", started=0.0))
    assert "loading" in text and "tabletop" in text
