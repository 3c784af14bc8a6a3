"""Presets of guidance on the mixing desk."""

from __future__ import annotations

import pytest

from calibri.calibration.artifact import Calibration
from calibri.errors import ArtifactError, LayoutError
from studio.core import Core
from studio.scales.desk import Desk
from studio.scales.edits import add_guide, change, get_desk, get_place, make_calibration, preview, write_file
from studio.scales.view import show_members, write_sum


def desk(core: Core, visitor: str) -> Desk:
    return get_desk(core, get_place(core, visitor))


def test_a_preset_adds_a_member_that_guides(core: Core, visitor: str) -> None:
    change(core, visitor, lambda d: d.set([1.1] * len(d.values)))
    made, remark = add_guide(core, visitor, "skip-layer", "double.1", 2.8, 0.01, 0.2, 8)
    assert remark == "added skip-layer guidance, which counts at 1 of 8 steps"
    assert made.at == 1 and made.member.balanced and made.member.weight == -2.8
    assert [words for words, _ in show_members(made)[0].choices] == [
        "1: positive × 1.00",
        "2: positive × −2.80, 1–20 % of the steps, balanced",
    ]
    assert "add up to 1.00." in write_sum(made)
    _, mine = preview(core, visitor, "a red cube", 3, 8)
    assert mine.nfe == 9
    _, text = write_file(made, "tiny", "Guided")
    assert Calibration.from_json(text).members == made.members
    add_guide(core, visitor, "cfg", "", 2.0, 0.5, 1.0, 8)
    assert preview(core, visitor, "a red cube", 3, 8)[1].nfe == 13
    again = change(core, visitor, lambda d: d.undo().undo())
    assert not again.is_ensemble and set(again.values) == {1.1}


def test_presets_that_do_not_fit_leave_the_desk_as_it_was(core: Core, visitor: str) -> None:
    before = desk(core, visitor)
    for asked, words in [
        (("skip-layer", "7", 2.8, 0, 1, 8), "expected some of double.0"),
        (("skip-attention", "single.0", 2.8, 0, 1, 8), "no scale of its own for attention"),
        (("auto", "nobody", 2.0, 0, 1, 8), "saved title"),
        (("auto", "base", 2.0, 0, 1, 8), "expected weaker scales"),
        (("cfg", "", 2.0, 0.5, 0.5, 8), "start before stop"),
    ]:
        with pytest.raises(ArtifactError, match=words):
            add_guide(core, visitor, *asked)
    for asked in [("none", "", 1, 0, 1, 8), ("cfg", "", "2", 0, 1, 8)]:
        with pytest.raises(LayoutError):
            add_guide(core, visitor, *asked)
    assert desk(core, visitor) == before


def test_somebody_must_pay_for_a_balanced_member(core: Core, visitor: str) -> None:
    add_guide(core, visitor, "auto", "0.9", 2.0, 0, 1, 8)
    with pytest.raises(LayoutError, match="one must stay"):
        change(core, visitor, lambda d: d.choose(0).remove())
    with pytest.raises(LayoutError, match="start before stop"):
        change(core, visitor, lambda d: d.place(0.6, 0.2))
    made = change(core, visitor, lambda d: d.balance(False).place(0.25, 0.75))
    assert "in a part of the steps" in write_sum(made)
    assert make_calibration(core, visitor, "One", alone=True).members[0].has_phase is False
