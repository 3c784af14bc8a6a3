"""Several saved calibrations as one draft on the desk."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest

from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.compose import compose
from calibri.errors import ArtifactError, CalibriError, LayoutError
from studio.calibrations import Entry
from studio.core import Core
from studio.library.page import Handlers
from studio.scales.composing import compose_saved, put_on_desk, read_weights
from studio.scales.desk import Desk
from studio.scales.edits import change, get_desk, get_place, make_calibration


def saved(core: Core, title: str, scale: float, granularity: str = "layer", **more: object) -> Entry:
    names = core.host.wait_ready().layout(granularity).names
    scales = (scale, *(1.0 + 0.01 * i for i in range(1, len(names))))
    fields = {
        "backbone": "tiny",
        "granularity": granularity,
        "names": names,
        "members": (Member(scales=scales),),
    }
    return core.calibrations.save(Calibration(**{"title": title, **fields, **more}))


@pytest.mark.parametrize("way, first", [("blend", (2 * 1.5 + 0.5) / 3), ("product", 1.5**2 * 0.5)])
def test_a_draft_lies_on_the_desk_and_is_saved_with_what_it_was_made_of(
    core: Core, visitor: str, way: str, first: float
) -> None:
    parts = [saved(core, "Warm", 1.5), saved(core, "Sharp", 0.5)]
    desk, words = put_on_desk(core, visitor, [p.id for p in parts], "2, 1", way)
    assert desk.values[0] == pytest.approx(first) and "Warm" in words and "save it to keep it" in words
    assert desk is get_desk(core, get_place(core, visitor))
    expected = compose([p.calibration for p in parts], [2, 1], way)
    made = make_calibration(core, visitor, "")
    assert made.hash == expected.hash and made.title == expected.title
    assert [part["weight"] for part in made.found["of"]] == [2.0, 1.0] and made.found["how"] == way
    assert make_calibration(core, visitor, "Mine").found == made.found
    change(core, visitor, lambda d: d.strengthen(0.5))  # what a hand changed is no composition any more
    assert make_calibration(core, visitor, "Mine").found == {"by": "hand, on the mixing desk"}
    with pytest.raises(ArtifactError, match="Expected a title"):
        make_calibration(core, visitor, "")
    change(core, visitor, Desk.undo)
    change(core, visitor, Desk.undo)
    assert set(get_desk(core, get_place(core, visitor)).values) == {1.0}


def test_granularities_are_brought_to_the_finest(core: Core, visitor: str) -> None:
    coarse, fine = saved(core, "Coarse", 1.4, "block"), saved(core, "Fine", 0.8, "gate")
    desk, words = put_on_desk(core, visitor, [coarse.id, fine.id])
    layout = core.host.wait_ready().layout("gate")
    assert desk.layout == layout and "at gate granularity" in words
    spread = coarse.calibration.on_layout(layout).members[0].scales
    mean = (np.array(spread) + np.array(fine.calibration.members[0].scales)) / 2
    np.testing.assert_allclose(desk.values, mean)


def test_what_does_not_fit_together_is_named(stocked: Core, visitor: str) -> None:
    core = stocked
    warm = saved(core, "Warm", 1.5)
    big = saved(core, "Big", 1.5, backbone="FLUX.1-dev")
    far = saved(core, "Far", 4.0)
    before = get_desk(core, get_place(core, visitor))
    for ids, weights, words in (
        ([warm.id, big.id], "", "“Big” is for FLUX.1-dev, but tiny is loaded"),
        ([warm.id, "studio/pair"], "", "expected the same members in both: “Warm” has positive"),
        ([warm.id], "", "Choose 2 to 32"),
        (warm.id, "", "Choose 2 to 32"),
        ([warm.id, "own/gone"], "", "There is no saved calibration 'own/gone'"),
        ([warm.id, far.id], "1, 1, 1", "Expected 2 weights, one for each calibration, got 3"),
        ([warm.id, far.id], "1, much", "expected numbers with commas, got '1, much'"),
        ([warm.id, far.id], "1, -1", "expected a sum other than 0"),
        ([warm.id, far.id], "1, nan", "expected finite numbers"),
    ):
        with pytest.raises(CalibriError) as refused:
            put_on_desk(core, visitor, ids, weights)
        assert words in str(refused.value)
    with pytest.raises(LayoutError, match="expected a scale from -4 to 4"):
        put_on_desk(core, visitor, [warm.id, far.id], "1, 1", "product")
    with pytest.raises(ArtifactError, match="Expected blend or product, got 'sum'"):
        compose_saved(core, [warm.id, far.id], "", "sum")
    wrong = tuple(f"triple.{i}" for i in range(len(warm.calibration.names)))
    other = saved(core, "Other", 1.0, names=wrong)
    with pytest.raises(LayoutError, match=r"it has no scale 'triple.0'"):
        put_on_desk(core, visitor, [warm.id, other.id])
    assert get_desk(core, get_place(core, visitor)) is before


def test_weights_are_read_as_people_write_them() -> None:
    assert read_weights(" ", 2) is None
    assert read_weights("2, −0.5", 2) == read_weights("2 -0.5", 2) == [2.0, -0.5]
    with pytest.raises(ArtifactError, match="as numbers with commas"):
        read_weights(None, 2)


def test_library_offers_those_of_the_loaded_backbone_and_hands_over_to_the_desk(
    stocked: Core, visitor: str
) -> None:
    big = saved(stocked, "Big", 1.5, backbone="FLUX.1-dev")
    warm = saved(stocked, "Warm", 1.2)
    on = Handlers(stocked, None)
    offered = [choice for _, choice in on.list_parts([]).choices]
    assert warm.id in offered and "studio/bent" in offered and big.id not in offered
    assert "blended Bent + Warm" in on.compose(visitor, ["studio/bent", warm.id], "", "blend")
    assert get_desk(stocked, get_place(stocked, visitor)).values[0] == pytest.approx((0.6 + 1.2) / 2)
    with pytest.raises(gr.Error, match="Choose 2 to 32"):
        on.compose(visitor, [], "", "blend")
