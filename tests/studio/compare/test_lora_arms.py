"""Arms with other LoRAs: on the page Compare, in PNG files, in studies, through the API, on the desk."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from calibri.backbones.options import LoadOptions
from calibri.calibration.scale_names import group_of, layer_of, stream_of, words_for
from calibri.errors import RenderError
from calibri.sampling.png import read_settings
from studio.compare.comparison import compare
from studio.compare.form import Form, FormError, check_form, form_of
from studio.compare.page import update_form
from studio.compare.png_settings import make_png, read_form
from studio.compare.send import draft_study
from studio.compare.view import list_values, read_values
from studio.core import Core
from studio.machine.host import ModelHost
from studio.rendering.arms import NOTHING, Choice, list_lora_choices
from studio.rendering.shots import facts, shoot_cached
from studio.scales.desk import list_strips
from studio.scales.edits import change, get_place
from studio.shell import api
from studio.studies.planning import NewArm, NewPrompt, NewStudy, plan, read_study
from studio.studies.storage.study_store import _arm, _arm_row
from tests.studio.conftest import make_core
from tests.tiny import tiny_flux
from tests.tiny_lora import write_lora

ARMS = (Choice("base"), Choice("base", loras="none"), Choice("base", loras="oil:0.5"))
FORM = Form("a red cube", 3, 2, arms=ARMS)


@pytest.fixture(scope="module")
def lora_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, model = tmp_path_factory.mktemp("loras"), tiny_flux().transformer
    return [
        str(write_lora(folder / f"{name}.safetensors", model, lambda p: "blocks" in p, seed=seed))
        for seed, name in enumerate(("ink", "oil"))
    ]


@pytest.fixture(scope="module")
def lora_host(tiny_folder: Path, lora_files: list[str]) -> ModelHost:
    options = LoadOptions(device="cpu", loras=(f"{lora_files[0]}:0.7", lora_files[1]), lora_blocks=True)
    host = ModelHost(options=options, batch_size=4)
    host.load(str(tiny_folder), wait=True)
    return host


@pytest.fixture
def painted(lora_host: ModelHost, tmp_path: Path) -> Core:
    return make_core(lora_host, tmp_path)


def pixels(shot) -> np.ndarray:
    return np.asarray(shot.image)


def test_arms_have_their_own_loras(painted: Core, core: Core, visitor: str) -> None:
    made = compare(painted, visitor, FORM)
    plain = compare(core, visitor, Form("a red cube", 3, 2, arms=(Choice("base"),)))
    on, off, half = made.shots
    assert np.array_equal(pixels(off), pixels(plain.shots[0]))
    assert not np.array_equal(pixels(on), pixels(off)) and not np.array_equal(pixels(half), pixels(off))
    assert [fact for fact in facts(off) if "LoRA" in fact] == ["LoRA none"]
    assert [fact for fact in facts(half) if "LoRA" in fact] == ["LoRA oil:0.5"]
    assert not [fact for fact in facts(on) if "LoRA" in fact]


def test_a_picture_brings_its_loras_back(painted: Core, visitor: str, tmp_path: Path) -> None:
    made = compare(painted, visitor, FORM)
    path = tmp_path / "picture.png"
    for shot, files in zip(made.shots, (["ink.safetensors", "oil.safetensors"], [], ["oil.safetensors"])):
        path.write_bytes(make_png(made, shot))
        settings = read_settings(path)
        assert [each["file"] for each in settings["loras"]] == files
        form, remark = read_form(painted, painted.visitors.of(visitor), path)
        assert remark == "" and form.arms == ARMS
    again = compare(painted, visitor, form)
    for one, two in zip(made.shots, again.shots):
        assert np.array_equal(pixels(one), pixels(two))


def test_a_lora_that_is_not_loaded_is_said(painted: Core, core: Core, visitor: str, tmp_path: Path) -> None:
    made = compare(painted, visitor, FORM)
    path = tmp_path / "picture.png"
    path.write_bytes(make_png(made, made.shots[0]))
    form, remark = read_form(core, core.visitors.of(visitor), path)
    assert "It was made with the LoRA ink.safetensors, which is not loaded" in remark
    assert [arm.loras for arm in form.arms] == ["", "", ""]
    # Without LoRAs it is a picture of the base, whatever was loaded beside it.
    only = replace(made, choices=made.choices[1:2], shots=made.shots[1:2])
    path.write_bytes(make_png(only, only.shots[0]))
    assert read_form(core, core.visitors.of(visitor), path)[1] == ""


def test_a_picture_of_the_base_alone_opens_without_loras(
    painted: Core, core: Core, visitor: str, tmp_path: Path
) -> None:
    made = compare(core, visitor, Form("a red cube", 3, 2, arms=(Choice("base"),)))
    path = tmp_path / "picture.png"
    path.write_bytes(make_png(made, made.shots[0]))
    form, remark = read_form(painted, painted.visitors.of(visitor), path)
    assert remark == "" and form.arms == (Choice("base", loras="none"), Choice(NOTHING), Choice(NOTHING))
    assert np.array_equal(pixels(compare(painted, visitor, form).shots[0]), pixels(made.shots[0]))


def test_the_form_comes_back_with_its_loras(painted: Core, core: Core, visitor: str) -> None:
    assert form_of(compare(painted, visitor, FORM)) == FORM
    assert check_form(read_values(tuple(list_values(FORM)))) == check_form(FORM)  # a field's seed is text
    shown = update_form(painted, painted.visitors.of(visitor), FORM)[-3:]
    assert [field.value for field in shown] == ["", "none", "oil:0.5"] and all(f.visible for f in shown)
    hidden = update_form(core, core.visitors.of(visitor), FORM)[-3:]  # another backbone, without LoRAs
    assert [field.value for field in hidden] == ["", "", ""] and not any(f.visible for f in hidden)
    assert list_lora_choices(painted) == [
        ("As loaded", ""),
        ("Without", "none"),
        ("ink alone", "ink:0.7"),
        ("oil alone", "oil:1"),
    ]


def test_what_is_no_lora_is_said_at_its_field(painted: Core, visitor: str) -> None:
    with pytest.raises(FormError) as error:
        compare(painted, visitor, replace(FORM, arms=(Choice("base"), Choice("base", loras="oil:strong"))))
    assert "expected NAME or NAME:STRENGTH" in error.value.problems["loras-2"]
    with pytest.raises(RenderError, match="LoRA 'wax' is not loaded: expected one of ink, oil"):
        compare(painted, visitor, replace(FORM, arms=(Choice("base", loras="wax"),)))


def test_kept_pictures_know_their_loras(painted: Core, visitor: str) -> None:
    made = compare(painted, visitor, FORM)
    wanted = [(shot.arm, shot.ask) for shot in made.shots]
    for shots in (shoot_cached(painted, wanted), shoot_cached(painted, wanted)):  # rendered, and read
        for shot, expected in zip(shots, made.shots):
            assert np.array_equal(pixels(shot), pixels(expected))


def test_a_study_keeps_the_loras_of_its_arms(painted: Core, visitor: str) -> None:
    sent = draft_study(painted, visitor, compare(painted, visitor, FORM))
    assert [arm.loras for arm in sent.arms] == ["", "none", "oil:0.5"]
    assert len({arm.label for arm in sent.arms}) == 3
    arms = tuple(NewArm(**asdict(arm)) for arm in sent.arms)
    _, planned, _ = plan(
        NewStudy(name="inks", arms=arms, prompts=(NewPrompt(text="a red cube"),), backbone="tiny"), b"key"
    )
    real = [arm for arm in planned if arm.kind != "gold"]
    assert [arm.loras for arm in real] == ["", "none", "oil:0.5"]
    assert len({arm.recipe("f", "a red cube", 1) for arm in real}) == 3
    for arm in real:  # into the database and out of it
        row = _arm_row(arm)
        assert "loras" not in row and _arm(row) == arm
    bad = {"name": "x", "prompts": "a red cube", "arms": [{"label": "a", "loras": "ink:much"}]}
    with pytest.raises(Exception, match="expected NAME or NAME:STRENGTH"):
        read_study(bad)


def test_programs_choose_loras_too(painted: Core, visitor: str) -> None:
    made = compare(painted, visitor, FORM)
    for shot, text in zip(made.shots, ("", "none", " oil : 0.5 ".replace(" : ", ":"))):
        image, told = api.render(painted, "a red cube", 3, 2, 1.0, "", text)
        assert np.array_equal(np.asarray(image), pixels(shot))
        assert told["loras"] == shot.painted_by["loras"]


# strengths in blocks, on the desk


def test_strengths_in_blocks_stand_in_groups_of_their_own(painted: Core, visitor: str) -> None:
    change(painted, visitor, lambda desk: desk)
    desk = get_place(painted, visitor).desk
    strips = list_strips(desk.layout)
    of_ink = [strip for strip in strips if strip["group"] == "lora.ink"]
    assert [strip["tag"] for strip in of_ink] == ["double.0", "double.1", "single.0", "single.1", "single.2"]
    assert {strip["layer"] for strip in of_ink} == {"lora"}
    groups = list(dict.fromkeys(strip["group"] for strip in strips))
    assert groups[-2:] == ["lora.ink", "lora.oil"]  # behind those of the base
    assert words_for("lora.ink.double.1") == "LoRA ink: its strength in double block 1"
    assert words_for("lora.ink.rest") == "LoRA ink: its strength in layers outside of blocks"
    name = "lora.ink.double.1"
    assert (group_of(name), layer_of(name), stream_of(name)) == ("lora.ink", "lora", "joint")


def test_a_slider_of_a_block_changes_the_picture_and_comes_back_from_it(
    painted: Core, visitor: str, tmp_path: Path
) -> None:
    change(painted, visitor, lambda desk: desk)
    desk = get_place(painted, visitor).desk
    off = [0.0 if name.startswith("lora.") else 1.0 for name in desk.layout.names]
    change(painted, visitor, lambda desk: desk.set(off))
    made = compare(painted, visitor, replace(FORM, arms=(Choice("desk"), Choice("base", loras="none"))))
    assert np.array_equal(pixels(made.shots[0]), pixels(made.shots[1]))
    path = tmp_path / "picture.png"
    path.write_bytes(make_png(made, made.shots[0]))
    other = painted.visitors.of(painted.visitors.new_id())
    form, remark = read_form(painted, other, path)
    assert remark == "" and form.arms[0].what.startswith("png/")
