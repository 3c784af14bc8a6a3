"""From a choice to an arm, and what can be asked for."""

from __future__ import annotations

import pytest

from calibri.calibration.scale_names import parse_names
from calibri.errors import ArtifactError, RenderError
from calibri.ranges import LARGEST_SEED
from studio.core import Core
from studio.rendering.arms import DESK, KINDS, NOTHING, Arm, Choice, list_saved, resolve_arms
from studio.rendering.asks import Ask
from studio.rendering.places import SharedPlace
from studio.scales.edits import change


def test_saved_calibrations_are_of_this_backbone_and_granularity_only(stocked: Core) -> None:
    assert [title for title, _ in list_saved(stocked, "calibrated", "layer")] == ["Bent"]
    assert [title for title, _ in list_saved(stocked, "ensemble")] == ["Pair"]
    assert list_saved(stocked, "calibrated", "gate") == []


def test_a_kind_means_the_first_saved_one_of_that_kind(stocked: Core) -> None:
    base, calibrated, ensemble = resolve_arms(stocked, [Choice(kind) for kind in KINDS])
    assert base.calibration is None and not base.missing
    assert (calibrated.name, ensemble.name) == ("Calibrated: Bent", "Ensemble: Pair")
    [by_gate] = resolve_arms(stocked, [Choice("calibrated", granularity="gate")])
    assert by_gate.calibration is None and "gate" in by_gate.missing


def test_an_id_and_what_came_inside_a_png_are_found_and_others_are_an_error(
    stocked: Core, visitor: str
) -> None:
    pair = stocked.calibrations.get("studio/pair").calibration
    found = stocked.visitors.of(visitor)
    borrowed = found.place(SharedPlace).borrow(pair)
    for choice in ("studio/pair", borrowed):
        [arm] = resolve_arms(stocked, [Choice(choice)], found)
        assert arm.kind == "ensemble" and arm.calibration == pair
    with pytest.raises(ArtifactError, match="own/gone"):
        resolve_arms(stocked, [Choice("own/gone")], found)
    with pytest.raises(ArtifactError, match="png"):
        resolve_arms(stocked, [Choice(borrowed)])  # of another visitor


def test_the_desk_and_nothing_are_arms_that_may_be_missing(stocked: Core, visitor: str) -> None:
    choices = [Choice(DESK), Choice(NOTHING)]
    assert all(arm.missing for arm in resolve_arms(stocked, choices))
    change(stocked, visitor, lambda desk: desk.set([1.2] * 7))
    desk, nothing = resolve_arms(stocked, choices, stocked.visitors.of(visitor))
    assert desk.calibration is not None and desk.calibration.members[0].scales == (1.2,) * 7
    assert nothing.name == "Nothing" and nothing.missing


def test_a_name_is_the_kind_and_the_first_part_of_the_title(stocked: Core) -> None:
    bent = stocked.calibrations.get("studio/bent").calibration
    titled = bent.model_copy(update={"title": "Warm, by align and quality"})
    assert Arm("calibrated", "Calibrated", titled).name == "Calibrated: Warm"
    assert Arm("base", "Base").name == "Base"


def test_an_ask_is_read_from_what_a_page_or_a_program_sent() -> None:
    assert Ask.read("  a \n cube ", 3.0, 8, 2) == Ask("a cube", 3, 8, 2.0)
    for values, words in (
        (("a", LARGEST_SEED + 1, 8), "seed: expected a whole number"),
        (("a", 3, 8, True), "guidance: expected a number"),
        ((["a"], 3, 8), "prompt: expected"),
    ):
        with pytest.raises(RenderError, match=words):
            Ask.read(*values)


def test_newer_work_of_a_visitor_calls_off_the_older_of_its_kind(stocked: Core, visitor: str) -> None:
    found = stocked.visitors.of(visitor)
    first, other = found.begin("compare"), found.begin("preview")
    second = found.begin("compare")
    assert first() and not second() and not other()
    found.stop("preview")
    assert other() and not second()


def test_names_are_parsed_once_for_each_layout(stocked: Core) -> None:
    names = stocked.host.wait_ready().layout("gate").names
    assert parse_names(names) is parse_names(tuple(names))
    assert parse_names(names)[0].words == "double block 0: attention, image stream"
