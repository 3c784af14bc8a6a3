"""Grids of two settings on Compare, without a browser."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibri.calibration.artifact import Calibration
from calibri.errors import RenderCancelled, RenderError
from calibri.sampling.png import read_settings
from studio.compare.comparison import compare
from studio.compare.form import FormError
from studio.compare.grid import (
    ONE_ROW,
    WORK,
    Side,
    describe_sheet,
    list_scales,
    make_grid,
    make_sheet,
    name_sheet,
)
from studio.compare.grid_page import show_grid, show_side
from studio.compare.png_settings import read_form
from studio.core import Core
from studio.rendering.arms import DESK, Choice
from tests.studio.compare.pictures import CUBE, pixels

STEPS, NONE = Side("steps", "1, 2"), Side(ONE_ROW)


def refusal(core: Core, visitor: str, arm: str, *sides: Side) -> str:
    with pytest.raises(RenderError) as refused:
        make_grid(core, visitor, CUBE, arm, sides)
    return str(refused.value)


def test_cells_are_the_pictures_that_compare_renders(stocked: Core, visitor: str) -> None:
    arms = Side("arm", arms=["base", "studio/bent"])
    made = make_grid(stocked, visitor, CUBE, "ensemble", [STEPS, arms])
    assert [[(s.arm.kind, s.ask.steps) for s in row] for row in made.rows] == [
        [("base", 1), ("base", 2)],
        [("calibrated", 1), ("calibrated", 2)],
    ]
    known = compare(stocked, visitor, replace(CUBE, arms=(Choice("base"), Choice("studio/bent"))))
    for row, shot in zip(made.rows, known.shots):
        assert np.abs(pixels(row[1].image).astype(int) - pixels(shot.image)).max() <= 1
    assert not stocked.visitors.of(visitor).size - known.size  # a grid is no part of what is kept


def test_one_row_alone_and_other_prompts(stocked: Core, visitor: str) -> None:
    made = make_grid(stocked, visitor, CUBE, "base", [Side("prompt", "a cone\na ball\na cone"), NONE])
    assert [shot.ask.prompt for shot in made.shots] == ["a cone", "a ball"]
    assert len(made.rows) == 1 and "one row" not in show_grid(made).lower()


def test_the_form_counts_where_no_side_changes_it(stocked: Core, visitor: str) -> None:
    form = replace(CUBE, guidance=2.0, negative="grey", width=48, prompts="never\nrendered", seeds="4, 5")
    made = make_grid(stocked, visitor, form, "calibrated", [Side("strength", "0, 1"), NONE])
    assert {(s.ask.seed, s.ask.guidance, s.ask.negative, s.ask.width) for s in made.shots} == {
        (3, 2.0, "grey", 48)
    }
    assert [s.nfe for s in made.shots] == [4, 4]
    none, whole = (pixels(s.image) for s in made.shots)
    assert not np.array_equal(none, whole)


def test_two_scales_by_name_against_each_other(core: Core, visitor: str) -> None:
    names = list_scales(core)
    assert names[0] == "double.0" and "double.0.attn" in names and len(names) == len(set(names))
    sides = [Side("scale", "0, 1", "double.0.attn"), Side("scale", "1, 2", "single.0.fused")]
    made = make_grid(core, visitor, CUBE, "base", sides)
    assert len({pixels(shot.image).tobytes() for shot in made.shots}) == 4
    html = show_grid(made)
    for words in ("double.0.attn 0.00", "single.0.fused 2.00", "2 NFE"):
        assert words in html


@pytest.mark.parametrize(
    "sides, words",
    [
        ([NONE, NONE], "expected a setting for the columns, got none"),
        ([STEPS, STEPS], "two different settings, got steps twice"),
        ([Side("seed", "1-40"), STEPS], "at most 64 pictures in a grid, got 40 × 2 = 80"),
        ([Side("steps", "many"), NONE], "steps: expected whole numbers"),
        ([Side("arm", arms=[]), NONE], "arm: expected at least one value"),
        ([Side("arm", arms=["base", DESK]), NONE], "arm: your desk is empty"),
        ([Side("scale", "1", "double.77"), NONE], "expected a name such as 'double.0.attn'"),
        ([Side("hair", "1"), NONE], "expected a setting of steps"),
        ([Side("strength", "1"), NONE], "strength: expected a calibration, got the base"),
        ([Side("embedded-guidance", "1"), NONE], "expected a distilled model, got tiny"),
    ],
)
def test_what_cannot_be_a_grid_is_answered_with_a_sentence(
    core: Core, visitor: str, sides: list[Side], words: str
) -> None:
    assert words in refusal(core, visitor, "base", *sides)


def test_the_form_is_read_as_for_a_comparison(stocked: Core, visitor: str) -> None:
    with pytest.raises(FormError) as refused:
        make_grid(stocked, visitor, replace(CUBE, prompt=" ", width=33), "base", [STEPS, NONE])
    assert set(refused.value.problems) == {"prompt", "width"}


def test_an_arm_that_is_not_there_says_how_to_get_one(core: Core, visitor: str) -> None:
    assert "arm: no calibration of this backbone is saved" in refusal(core, visitor, "calibrated", STEPS)


def test_stop_ends_a_grid_and_nothing_is_shown(stocked: Core, visitor: str) -> None:
    def stop_at_once(*_: object) -> None:
        stocked.visitors.of(visitor).stop(WORK)

    with pytest.raises(RenderCancelled):
        make_grid(stocked, visitor, CUBE, "base", [Side("seed", "1-8"), STEPS], on_step=stop_at_once)


def test_progress_counts_the_steps_of_all_batches(stocked: Core, visitor: str) -> None:
    seen: list[tuple[int, int]] = []
    make_grid(
        stocked,
        visitor,
        CUBE,
        "base",
        [Side("seed", "1-6"), NONE],
        on_step=lambda step, steps, *_, **__: seen.append((step, steps)),
    )
    assert seen[-1] == (4, 4)  # four pictures at once, and two steps each


def test_a_grid_counts_as_work_of_a_public_studio(stocked: Core, visitor: str) -> None:
    asked: list[int] = []
    admitted = stocked.limits.admitted

    def watch(requests, spec):
        asked.append(len(requests))
        return admitted(requests, spec)

    stocked.limits.admitted = watch  # type: ignore[method-assign]
    make_grid(stocked, visitor, CUBE, "base", [Side("seed", "1-6"), NONE])
    assert asked == [6]


def test_the_sheet_carries_its_settings_and_sets_the_form(
    stocked: Core, visitor: str, tmp_path: Path
) -> None:
    made = make_grid(
        stocked, visitor, CUBE, "studio/bent", [STEPS, Side("arm", arms=["base", "studio/pair"])]
    )
    path = tmp_path / name_sheet(made)
    assert path.name == "a-red-cube-steps-arm.png"
    path.write_bytes(make_sheet(made))
    settings = read_settings(path)
    assert settings == json.loads(json.dumps(describe_sheet(made)))
    assert settings["grid"]["columns"] == {"of": "steps", "values": [1, 2]}
    assert settings["grid"]["rows"]["values"] == ["Base", "Ensemble: Pair"]
    assert Calibration(**settings["grid"]["arms"]["Ensemble: Pair"]).title == "Pair"
    assert (settings["backbone"], settings["nfe"], settings["width"]) == ("tiny", 9, 32)
    assert str(tmp_path) not in json.dumps(settings)
    form, _ = read_form(stocked, stocked.visitors.of(visitor), path)
    assert (form.prompt, form.seed, form.steps) == ("a red cube", 3, 2)


def test_a_side_shows_the_fields_of_its_setting() -> None:
    shown = {kind: [part.visible for part in show_side(kind)] for kind in ("steps", "scale", "arm", ONE_ROW)}
    assert shown == {
        "steps": [True, False, False],
        "scale": [True, True, False],
        "arm": [False, False, True],
        ONE_ROW: [False, False, False],
    }


def test_what_people_typed_is_escaped_in_the_table(core: Core, visitor: str) -> None:
    html = show_grid(make_grid(core, visitor, CUBE, "base", [Side("prompt", "<b onclick=x> a cube"), NONE]))
    assert "<b onclick" not in html and "&lt;b onclick" in html


def test_a_newer_grid_calls_the_older_one_off(stocked: Core, visitor: str) -> None:
    begun, failed = threading.Event(), []

    def older() -> None:
        try:
            make_grid(
                stocked,
                visitor,
                replace(CUBE, steps=200),
                "base",
                [Side("seed", "1-8"), NONE],
                on_step=lambda *_, **__: begun.set(),
            )
        except RenderCancelled as error:
            failed.append(error)

    thread = threading.Thread(target=older)
    thread.start()
    assert begun.wait(60)
    make_grid(stocked, visitor, CUBE, "base", [STEPS, NONE])
    thread.join(60)
    assert len(failed) == 1
