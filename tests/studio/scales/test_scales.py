"""The page Scales without a browser: desk, text, files and preview."""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from calibri.assets import ASSETS
from calibri.backbones.catalog import resolve
from calibri.backbones.layouts import Layout
from calibri.backbones.sites import sites_of_config
from calibri.calibration.artifact import Calibration
from calibri.calibration.scale_names import words_for
from calibri.errors import ArtifactError, LayoutError
from studio.core import Core
from studio.scales.desk import Desk, list_strips
from studio.scales.edits import (
    BASE,
    add_member,
    add_saved,
    blend,
    change,
    change_member,
    describe_desk,
    find_other,
    get_desk,
    get_place,
    make_calibration,
    open_calibration,
    open_saved,
    preview,
    set_text,
    take_move,
    write_file,
)
from studio.scales.view import draw_bars, list_others, show_desk, show_members, write_sum
from tests.studio.asking import request_of


def desk(core: Core, visitor: str) -> Desk:
    return get_desk(core, get_place(core, visitor))


def test_a_new_desk_is_neutral_at_layer_granularity(core: Core, visitor: str) -> None:
    made = desk(core, visitor)
    assert made.layout.granularity == "layer"
    assert set(made.values) == {1.0}


def test_a_move_changes_the_picture_and_the_way_back_brings_the_first_one(core: Core, visitor: str) -> None:
    base, mine = preview(core, visitor, "a red cube", 3, 2)
    assert np.array_equal(np.asarray(base.image), np.asarray(mine.image))
    change(core, visitor, lambda d: d.set([1.4] * len(d.values)))
    same_base, moved_picture = preview(core, visitor, "a red cube", 3, 2)
    assert same_base is base
    assert not np.array_equal(np.asarray(base.image), np.asarray(moved_picture.image))
    change(core, visitor, Desk.undo)
    assert np.array_equal(
        np.asarray(preview(core, visitor, "a red cube", 3, 2)[1].image), np.asarray(mine.image)
    )


def test_another_seed_renders_the_base_again(core: Core, visitor: str) -> None:
    first, _ = preview(core, visitor, "a red cube", 3, 2)
    second, _ = preview(core, visitor, "a red cube", 4, 2)
    assert not np.array_equal(np.asarray(first.image), np.asarray(second.image))


def test_text_and_desk_are_the_same_vector(core: Core, visitor: str) -> None:
    made = set_text(core, visitor, "double[0-1].attn = 1.05\nsingle.2.fused = 0.9")
    text = show_desk(core, get_place(core, visitor))[1]
    assert set_text(core, visitor, text).values == made.values
    assert sorted(set(made.values)) == [0.9, 1.0, 1.05]


@pytest.mark.parametrize(
    "text", ["double.9.attn = 1", "double.0.attn = much", "nonsense", "double.0.attn = nan", "* = 99"]
)
def test_text_that_does_not_fit_leaves_the_desk_as_it_was(core: Core, visitor: str, text: str) -> None:
    before = set_text(core, visitor, "double.0.attn = 1.2")
    with pytest.raises(LayoutError):
        set_text(core, visitor, text)
    assert desk(core, visitor) == before


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "x",
        {},
        {"values": 3},
        {"values": []},
        {"values": ["1"] * 7},
        {"values": [math.nan] * 7},
        {"values": [1e9] * 7},
    ],
)
def test_what_a_browser_made_up_is_refused(core: Core, visitor: str, payload: object) -> None:
    assert len(desk(core, visitor).values) == 7
    with pytest.raises(LayoutError):
        take_move(core, visitor, payload)


def test_the_time_of_the_last_move_goes_back_with_the_answer(core: Core, visitor: str) -> None:
    take_move(core, visitor, {"values": [1.1] * 7, "sent": 2000})
    take_move(core, visitor, {"values": [1.2] * 7, "sent": 1000})
    place = get_place(core, visitor)
    assert describe_desk(place.desk, place.sent)["sent"] == 2000


def test_undo_and_redo(core: Core, visitor: str) -> None:
    first = change(core, visitor, lambda d: d.set([1.1] * 7))
    second = change(core, visitor, lambda d: d.strengthen(2))
    assert second.values == pytest.approx([1.2] * 7)
    assert change(core, visitor, Desk.undo).values == first.values
    assert change(core, visitor, Desk.redo).values == second.values
    assert change(core, visitor, Desk.redo).values == second.values


def test_a_new_move_forgets_what_was_undone(core: Core, visitor: str) -> None:
    change(core, visitor, lambda d: d.set([1.1] * 7))
    change(core, visitor, Desk.undo)
    change(core, visitor, lambda d: d.set([0.9] * 7))
    assert change(core, visitor, Desk.redo).values == (0.9,) * 7


def test_mirror_twice_is_nothing(core: Core, visitor: str) -> None:
    made = change(core, visitor, lambda d: d.set([0.5, 0.75, 1, 1, 1.25, 1.5, 1]))
    twice = made.strengthen(-1).strengthen(-1)
    assert twice.values == made.values


def test_blend_ends_at_both_vectors(core: Core, visitor: str) -> None:
    made = desk(core, visitor)
    other = [1.5] * 7
    assert made.blend(other, 0).values == made.values
    assert made.blend(other, 1).values == tuple(other)


def test_finer_granularity_keeps_the_picture(core: Core, visitor: str) -> None:
    place = get_place(core, visitor)
    preview(core, visitor, "a red cube", 3, 2)  # with the base make_calibration, both pictures are made alone
    change(core, visitor, lambda d: d.set([1.3] + [1.0] * 6))
    _, layer = preview(core, visitor, "a red cube", 3, 2)
    assert get_desk(core, place, "gate").layout.granularity == "gate"
    _, gate = preview(core, visitor, "a red cube", 3, 2)
    assert np.array_equal(np.asarray(layer.image), np.asarray(gate.image))


def test_a_file_brings_the_desk_back(core: Core, visitor: str) -> None:
    made = change(core, visitor, lambda d: d.set([0.9 + 0.05 * i for i in range(7)]))
    name, text = write_file(made, "tiny", "Warm édges / 2")
    assert name.endswith(".json") and "/" not in name
    change(core, visitor, Desk.reset)
    again, remark = open_calibration(core, visitor, Calibration.from_json(text))
    assert again.values == made.values and remark == "opened “Warm édges / 2”"


def test_an_ensemble_opens_with_all_its_members(stocked: Core, visitor: str) -> None:
    found = stocked.calibrations.get("studio/pair").calibration
    made, remark = open_saved(stocked, visitor, "studio/pair")
    assert made.members == found.members and made.at == 0
    assert remark == "opened “Pair”, 2 members"
    assert [words for words, _ in show_members(made)[0].choices] == [
        "1: positive × 1.50",
        "2: negative × −0.50",
    ]
    with pytest.raises(ArtifactError, match="Choose a saved"):
        open_saved(stocked, visitor, "")


def test_an_ensemble_is_saved_with_all_its_members_or_one_alone(stocked: Core, visitor: str) -> None:
    found = stocked.calibrations.get("studio/pair").calibration
    open_saved(stocked, visitor, "studio/pair")
    again = make_calibration(stocked, visitor, "Pair again")
    assert again.members == found.members and again.hash == found.hash
    _, text = write_file(desk(stocked, visitor), "tiny", "Pair")
    assert Calibration.from_json(text).members == found.members
    change(stocked, visitor, lambda d: d.choose(1))
    (alone,) = make_calibration(stocked, visitor, "One", alone=True).members
    assert alone.scales == found.members[1].scales
    assert (alone.weight, alone.condition) == (1.0, "positive")
    with pytest.raises(ArtifactError, match="title"):
        make_calibration(stocked, visitor, "  ")


def test_the_preview_of_an_ensemble_is_that_of_its_calibration(stocked: Core, visitor: str) -> None:
    from studio.rendering.arms import Arm
    from studio.rendering.asks import Ask
    from studio.rendering.shots import shoot

    open_saved(stocked, visitor, "studio/pair")
    _, mine = preview(stocked, visitor, "a red cube", 3, 2)
    assert mine.arm.kind == "ensemble" and mine.nfe == 4
    found = stocked.calibrations.get("studio/pair").calibration
    (other,) = shoot(stocked, [Arm("ensemble", "Pair", found)], Ask("a red cube", 3, 2))
    assert np.abs(np.asarray(mine.image).astype(int) - np.asarray(other.image)).max() <= 1


def test_members_are_added_changed_and_removed(core: Core, visitor: str) -> None:
    change(core, visitor, lambda d: d.set([1.2] * 7))
    two = add_member(core, visitor)
    assert two.at == 1 and two.member == two.members[0]
    change_member(core, visitor, 1, lambda d: d.weigh(-0.5))
    made = change_member(core, visitor, 0, lambda d: d.weigh(1.5))
    assert made.at == 1 and [m.weight for m in made.members] == [1.5, -0.5]
    made = change_member(core, visitor, 1, lambda d: d.condition("negative"))
    assert [m.condition for m in made.members] == ["positive", "negative"]
    take_move(core, visitor, {"values": [0.9] * 7, "sent": 1, "member": 0})
    assert desk(core, visitor).members[0].scales == (0.9,) * 7
    assert desk(core, visitor).members[1].scales == (1.2,) * 7
    assert len(change(core, visitor, Desk.remove).members) == 1
    assert len(change(core, visitor, Desk.undo).members) == 2
    assert "add up to 1.00" in write_sum(desk(core, visitor))


@pytest.mark.parametrize("path", sorted((ASSETS / "calibrations").glob("*.json")), ids=lambda p: p.stem)
def test_the_desk_warns_of_none_of_the_studios_own_calibrations(path: Path) -> None:
    made, spec = Calibration.load(path), resolve("tabletop")
    assert spec.transformer is not None
    layout = Layout.from_sites(sites_of_config(*spec.transformer), made.granularity)
    words = write_sum(Desk(layout, made.members))
    assert "pictures may come out" not in words


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda d: d.remove(), "last member"),
        (lambda d: d.choose(1), "got member 2"),
        (lambda d: d.weigh(None), "a weight.*None"),
        (lambda d: d.weigh(math.inf), "a weight.*inf"),
        (lambda d: d.weigh(99), "from −20 to 20"),
        (lambda d: d.condition("neutral"), "positive or negative"),
        (lambda d: d.add([d.member] * 8), "1 to 8 members"),
    ],
)
def test_what_cannot_be_done_to_members_leaves_the_desk(core: Core, visitor: str, edit, words: str) -> None:
    before = change(core, visitor, lambda d: d.set([1.1] * 7))
    with pytest.raises(LayoutError, match=words):
        change(core, visitor, edit)
    assert desk(core, visitor) == before
    with pytest.raises(LayoutError):
        change_member(core, visitor, None, Desk.reset)


def test_edits_at_one_time_lose_none(core: Core, visitor: str) -> None:
    desk(core, visitor)

    def slowly(values: list[float]) -> None:
        def edit(held: Desk) -> Desk:
            time.sleep(0.02)
            return held.add([held.member]).set(values)

        change(core, visitor, edit)

    threads = [threading.Thread(target=slowly, args=([1 + i / 10] * 7,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(desk(core, visitor).members) == 6


def test_the_members_of_a_saved_calibration_join_those_of_the_desk(stocked: Core, visitor: str) -> None:
    made, remark = add_saved(stocked, visitor, "studio/pair")
    assert [m.weight for m in made.members] == [1.0, 1.5, -0.5] and made.at == 1
    assert "Pair" in remark


def test_all_members_move_to_another_granularity(stocked: Core, visitor: str) -> None:
    open_saved(stocked, visitor, "studio/pair")
    made = get_desk(stocked, get_place(stocked, visitor), "gate")
    assert [len(m.scales) for m in made.members] == [len(made.layout.names)] * 2
    assert [m.weight for m in made.members] == [1.5, -0.5]


def test_a_blend_counts_from_where_it_began_and_is_one_step_back(stocked: Core, visitor: str) -> None:
    start = change(stocked, visitor, lambda d: d.set([0.8] * 7))
    bent = stocked.calibrations.get("studio/bent").calibration.members[0].scales
    blend(stocked, visitor, "studio/bent", 0.25)
    blend(stocked, visitor, "studio/bent", 1)
    made, remark = blend(stocked, visitor, "studio/bent", 0.5)
    assert made.values == pytest.approx([(0.8 + b) / 2 for b in bent])
    assert remark == "50 % of “Bent”"
    assert change(stocked, visitor, Desk.undo).values == start.values
    made, _ = blend(stocked, visitor, BASE, 0.5)  # after another change it begins anew
    assert made.values == pytest.approx([0.9] * 7)
    for choice, share in (("", 0.5), ("studio/bent", 1.5), ("studio/bent", None)):
        with pytest.raises(LayoutError):
            blend(stocked, visitor, choice, share)


def test_the_bars_stand_beside_another_calibration(stocked: Core, visitor: str) -> None:
    place = get_place(stocked, visitor)
    desk(stocked, visitor)
    assert len(draw_bars(stocked, place)["data"]) == 1
    assert [value for _, value in list_others(stocked)] == ["", BASE, "studio/bent", "studio/pair"]
    place.beside = "studio/bent"
    other = draw_bars(stocked, place)["data"][1]
    assert other["name"] == "Bent"
    assert tuple(other["y"]) == stocked.calibrations.get("studio/bent").calibration.members[0].scales
    open_saved(stocked, visitor, "studio/pair")
    change(stocked, visitor, lambda d: d.choose(1))
    assert find_other(stocked, place.desk, "studio/pair")[0] == "Pair, member 2"


def test_a_calibration_of_another_backbone_is_refused_in_words(stocked: Core, visitor: str) -> None:
    entry = stocked.calibrations.entries()[0]
    other = json.loads(entry.calibration.to_json())
    other["names"] = [f"triple.{i}" for i in range(len(other["names"]))]
    with pytest.raises(LayoutError, match="triple"):
        open_calibration(stocked, visitor, Calibration.from_json(json.dumps(other)))


def test_a_saved_calibration_is_listed_and_never_overwritten_by_another(core: Core, visitor: str) -> None:

    store = core.calibrations
    first = store.save(desk(core, visitor).calibration("tiny", "Mine"))
    changed = change(core, visitor, lambda d: d.strengthen(1).set([1.2] * 7))
    second = store.save(changed.calibration("tiny", "Mine"))
    assert {e.id for e in store.entries("tiny")} == {first.id, second.id} and first.id != second.id
    assert store.get(first.id).calibration.members[0].scales == (1.0,) * 7


def test_a_broken_file_on_the_shelf_is_left_out(stocked: Core, tmp_path: Path) -> None:
    (tmp_path / "built-in" / "broken.json").write_text("{", encoding="utf-8")
    assert len(stocked.calibrations.entries()) == 2
    with pytest.raises(ArtifactError):
        stocked.calibrations.get("studio/broken")


def test_ids_from_a_browser_reach_no_other_file(stocked: Core) -> None:
    with pytest.raises(ArtifactError):
        stocked.calibrations.get("../../etc/passwd")


def test_strips_speak_in_words(core: Core) -> None:
    layout = core.host.wait_ready().layout("gate")
    words = [s["words"] for s in list_strips(layout)]
    assert words[0] == "double block 0: attention, image stream"
    assert (
        words[-1] == words_for(layout.names[-1]) == "single block 2: attention and MLP, fused, both streams"
    )


def test_the_middle_of_the_desk_is_one_also_with_values_beyond_its_range(core: Core, visitor: str) -> None:
    made = change(core, visitor, lambda d: d.set([3.0] + [1.0] * 6))
    layout = describe_desk(made)["layout"]
    assert layout["high"] >= 3.0 and layout["high"] - 1 == pytest.approx(1 - layout["low"])


def test_saving_is_for_organisers_in_demo_mode(core: Core) -> None:
    import dataclasses

    from calibri.errors import CalibriError

    demo = dataclasses.replace(core, settings=core.settings.model_copy(update={"demo": True}))
    with pytest.raises(CalibriError):
        demo.rights.organisers_only(None)
    with pytest.raises(CalibriError):
        demo.rights.organisers_only(request_of())
    demo.rights.organisers_only(request_of(demo, "ann"))
    core.rights.organisers_only(None)
