"""PNG files with settings: what they hold, and what they bring back."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibri.errors import CalibriError, RenderError
from calibri.sampling.png import read_settings, save_png, settings_of
from calibri.sampling.request import Rendered, RenderRequest
from studio.compare.comparison import compare
from studio.compare.form import USUAL, Form, check_form, form_of
from studio.compare.png_settings import describe_picture, make_png, make_zip, name_file, read_form
from studio.compare.view import list_values, read_values
from studio.core import Core
from studio.rendering.arms import DESK, NOTHING, Choice, resolve_arms
from studio.scales.edits import change

FORM = Form(
    "a red cube", 3, 2, arms=(Choice("base", 5), Choice("studio/bent", None, 2.0), Choice("ensemble"))
)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "picture.png"
    path.write_bytes(content)
    return path


def test_a_png_brings_the_form_back(stocked: Core, visitor: str, tmp_path: Path) -> None:
    made = compare(stocked, visitor, replace(FORM, width=48))
    path = written(tmp_path, make_png(made, made.shots[1]))
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), np.asarray(made.shots[1].image))
    form, remark = read_form(stocked, stocked.visitors.of(visitor), path)
    assert (form.prompt, form.seed, form.steps, remark) == ("a red cube", 3, 2, "")
    assert (form.width, form.height) == (48, None)  # the height is the backbone's own
    assert form.arms == (Choice("base", 5), Choice("studio/bent", None, 2.0), Choice("studio/pair"))
    again = compare(stocked, visitor, form)
    for one, two in zip(made.shots, again.shots):
        assert np.array_equal(np.asarray(one.image), np.asarray(two.image))


def test_a_calibration_that_is_saved_nowhere_comes_along(stocked: Core, visitor: str, tmp_path: Path) -> None:
    change(stocked, visitor, lambda d: d.set([1.3] * 7))
    made = compare(stocked, visitor, replace(FORM, arms=(Choice(DESK), Choice("base"), Choice(NOTHING))))
    path = written(tmp_path, make_png(made, made.shots[0]))
    other = stocked.visitors.of(stocked.visitors.new_id())
    form, _ = read_form(stocked, other, path)
    assert form.arms[0].what.startswith("png/") and form.arms[1:] == (Choice("base"), Choice(NOTHING))
    [arm] = resolve_arms(stocked, form.arms[:1], other)
    assert arm.calibration.members[0].scales == (1.3,) * 7


def test_the_settings_are_whole_and_name_no_folder_of_this_machine(
    stocked: Core, visitor: str, tmp_path: Path
) -> None:
    made = compare(stocked, visitor, FORM)
    found = {"run": str(tmp_path / "runs" / "one"), "nested": [{"file": "C:\\data\\two"}], "reward": "a/b"}
    shot = made.shots[1]
    told = replace(shot.arm, calibration=shot.arm.calibration.model_copy(update={"found": found}))
    shots = [made.shots[0], replace(shot, arm=told), made.shots[2]]
    settings = describe_picture(replace(made, shots=shots), shots[1])
    assert settings["calibration"]["found"] == {"run": "one", "nested": [{"file": "two"}], "reward": "a/b"}
    assert str(tmp_path) not in json.dumps(settings)
    assert {"seed", "steps", "guidance", "width", "nfe", "rewards", "backbone_fingerprint"} <= set(settings)
    assert settings["versions"]["torch"] and settings["backbone"] == "tiny"
    assert [arm["kind"] for arm in settings["arms"]] == ["base", "calibrated", "ensemble"]


def test_a_png_of_the_command_line_opens_as_base_and_its_calibration(
    stocked: Core, visitor: str, tmp_path: Path
) -> None:
    entry = stocked.calibrations.get("studio/bent").calibration
    settings = {"prompt": "a cube", "seed": 1, "steps": 4, "guidance": None, "backbone": "tiny"}
    path = tmp_path / "cli.png"
    save_png(Image.new("RGB", (32, 32)), path, {**settings, "calibration": json.loads(entry.to_json())})
    form, _ = read_form(stocked, stocked.visitors.of(visitor), path)
    assert form == Form("a cube", 1, 4, arms=(Choice("base"), Choice("studio/bent"), Choice(NOTHING)))


SEED = 1125899906842624123  # a browser's number would be another one


def test_all_settings_of_a_picture_of_the_command_line_are_kept_and_come_back(
    stocked: Core, visitor: str, tmp_path: Path
) -> None:
    backbone, path = stocked.host.wait_ready(), tmp_path / "cli.png"
    request = RenderRequest.of(
        "a red cube", SEED, 120, guidance=2.0, negative_prompt="a blue cube", embedded_guidance=4.5
    )
    image = Image.new("RGB", (32, 32))
    save_png(image, path, settings_of(Rendered(image, request, 240, 1.0), backbone))
    settings = read_settings(path)
    assert settings["embedded_guidance"] == 4.5
    form, note = read_form(stocked, stocked.visitors.of(visitor), path)
    assert (form.seed, form.steps, form.negative, form.embedded) == (SEED, 120, "a blue cube", 4.5)
    assert form.arms[0] == Choice("base", None, 2.0)
    assert note == ""


def test_a_form_goes_through_the_pages_fields_and_back_without_a_change(stocked: Core) -> None:
    form = Form("a cube", SEED, 120, "one\ntwo", "4", 30.0, None, 48, USUAL, negative="a ball", embedded=3.0)
    values = list_values(form)
    assert values[1] == str(SEED)  # as text: a browser would round it
    assert check_form(read_values(values)) == check_form(form)


def test_a_negative_prompt_makes_another_guided_picture_and_is_in_its_file(
    stocked: Core, visitor: str, tmp_path: Path
) -> None:
    plain = Form("a red cube", 3, 2, guidance=2.0, arms=(Choice("base"), Choice(NOTHING), Choice(NOTHING)))
    first = compare(stocked, visitor, plain)
    made = compare(stocked, visitor, replace(plain, negative="a blue cube"))
    assert not np.array_equal(np.asarray(first.shots[0].image), np.asarray(made.shots[0].image))
    path = written(tmp_path, make_png(made, made.shots[0]))
    form, _ = read_form(stocked, stocked.visitors.of(visitor), path)
    again = compare(stocked, visitor, form)
    assert np.array_equal(np.asarray(again.shots[0].image), np.asarray(made.shots[0].image))
    assert form_of(made).negative == "a blue cube"


@pytest.mark.parametrize(
    "settings, words",
    [
        (None, "no settings"),
        ({"prompt": "a", "seed": 1, "steps": 2, "backbone": "FLUX.1-dev"}, "made on 'FLUX.1-dev'"),
        ({"prompt": "", "seed": 1, "steps": 2}, "prompt: expected"),
        ({"prompt": "a", "seed": -1, "steps": 2}, "seed"),
        ({"prompt": "a", "seed": 1, "steps": 2, "width": "wide"}, "width"),
        ({"prompt": "a", "seed": 1, "steps": 2, "arms": "many"}, "arms"),
        ({"prompt": "a", "seed": 1, "steps": 2, "calibration": {"format": "x"}}, "damaged. calibration"),
        ({"prompt": "a", "seed": 1, "steps": 2, "guidance": "much"}, "guidance"),
    ],
)
def test_a_png_that_does_not_fit_is_refused_in_words(
    core: Core, visitor: str, tmp_path: Path, settings, words: str
) -> None:
    path = tmp_path / "picture.png"
    save_png(Image.new("RGB", (8, 8)), path, settings)
    with pytest.raises(RenderError, match=words) as caught:
        read_form(core, core.visitors.of(visitor), path)
    assert str(tmp_path) not in str(caught.value)


def test_what_is_no_png_is_refused_without_its_path(core: Core, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_text("no picture", encoding="utf-8")
    with pytest.raises(RenderError, match=r"^picture\.png: no picture") as caught:
        read_form(core, core.visitors.of(None), path)
    assert str(tmp_path) not in str(caught.value)


def test_another_version_of_the_backbone_is_said(stocked: Core, visitor: str, tmp_path: Path) -> None:
    made = compare(stocked, visitor, FORM)
    older = replace(made, made_on={**made.made_on, "backbone_fingerprint": "0" * 64})
    path = written(tmp_path, make_png(older, made.shots[0]))
    assert "another version" in read_form(stocked, stocked.visitors.of(visitor), path)[1]


def test_all_pictures_go_into_one_zip(stocked: Core, visitor: str, tmp_path: Path) -> None:
    arms = (Choice("base"), Choice("base"), Choice("calibrated"))
    made = compare(stocked, visitor, replace(FORM, seeds="4", arms=arms))
    with zipfile.ZipFile(io.BytesIO(make_zip(made))) as archive:
        names = archive.namelist()
        content = archive.read(names[-1])
    assert len(set(names)) == 6
    assert names[0] == name_file(made.shots[0]) == "a-red-cube-seed3-base-2.png"
    assert read_settings(written(tmp_path, content))["seed"] == 4


def test_without_a_picture_there_is_no_file(core: Core, visitor: str) -> None:
    made = compare(core, visitor, replace(FORM, arms=(Choice("ensemble"),)))
    with pytest.raises(CalibriError, match="no picture"):
        make_png(made, made.shots[0])
    with pytest.raises(CalibriError, match="no picture"):
        make_zip(made)
