"""What Compare shows of its pictures, without a browser."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibri.errors import RenderError
from studio.compare.comparison import compare
from studio.compare.form import (
    USUAL,
)
from studio.compare.measures import measure_difference
from studio.compare.view import (
    MAPPED,
    choose_pair,
    lay_over,
    open_overlay,
    show_comparison,
    show_row,
    write_legend,
)
from studio.core import Core
from studio.machine.host import HostStatus
from studio.rendering.arms import NOTHING, Choice
from tests.studio.compare.pictures import CUBE, caption_of, pixels


def test_two_pictures_lie_over_one_another(stocked: Core, visitor: str) -> None:
    row = compare(stocked, visitor, replace(CUBE, arms=(USUAL[0], Choice(NOTHING), USUAL[2]))).shots
    assert choose_pair(row, "0", "1")[:2] == (0, 2)  # where one is missing, the next that has a picture
    assert choose_pair(row, "2", "0")[:2] == (2, 0)
    assert choose_pair(row, None, "x")[:2] == (0, 2)
    assert choose_pair(row[:1], "0", "1") is None
    assert "Render two arms" in lay_over(row[:1], "Slider", "0", "1")[2]
    slider, mapped, words, left, right = lay_over(row, MAPPED, "0", "2")
    assert not slider.visible and mapped.visible and "levels" in words
    assert (left.value, right.value) == ("0", "2")


def test_a_difference_map_is_dark_where_two_pictures_agree() -> None:
    from PIL import Image

    one = Image.new("RGB", (4, 2), (10, 20, 30))
    two = one.copy()
    two.putpixel((3, 1), (10, 20, 230))
    picture, words = measure_difference(one, two)
    light = pixels(picture).astype(int).sum(axis=2)
    assert light[1, 3] > 600 and (np.delete(light.ravel(), 7) < 20).all()
    assert "the largest 200" in words and "12 % of the pixels" in words
    assert "same in every pixel" in measure_difference(one, one)[1]
    assert "the same" in write_legend(words) and words in write_legend(words)
    with pytest.raises(RenderError, match="one size"):
        measure_difference(one, two.resize((2, 2)))


def test_captions_escape_what_people_typed(stocked: Core) -> None:
    shot = compare(stocked, None, CUBE).shots[1]
    evil = shot.arm.calibration.model_copy(update={"title": "<script>alert(1)</script>"})
    shot = replace(shot, arm=replace(shot.arm, calibration=evil))
    assert "<script" not in caption_of(shot, None)
    assert "<script" not in lay_over([shot, shot], "Slider", "0", "1")[2]


def test_the_page_shows_empty_places_before_anything_is_made() -> None:
    assert [part.value for part in show_row([])[::2]] == [None] * 3
    assert open_overlay([])[0] is None
    assert show_comparison(None, 0)[-1] == ["", 0]


def test_a_studio_that_still_loads_says_how_far_it_is() -> None:
    from studio.shell.model_bar import bar_html

    text = bar_html(HostStatus(phase="loading", backbone="tabletop", started=0.0))
    assert "loading" in text and "tabletop" in text
