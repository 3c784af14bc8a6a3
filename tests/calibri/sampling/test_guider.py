"""CalibriGuidance on tiny random modular pipelines of real classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ModularPipeline
from diffusers.guiders import ClassifierFreeGuidance

import calibri
from calibri.backbones.layouts import Layout
from calibri.backbones.sites import sites_of
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import ArtifactError, LayoutError, RenderError
from calibri.sampling.guider import CalibriGuidance
from calibri.sampling.hooks import ATTRIBUTE
from tests.tiny_pipelines import TINY

STEPS, STRENGTH = 3, 2.5
MODULAR = pytest.mark.parametrize("name", ["sd3", "qwen", "z-image", "flux2-klein"])
OFF = ClassifierFreeGuidance(enabled=False)


@cache
def opened(name: str) -> ModularPipeline:
    """The modular pipeline of a folder in the hub's format."""
    with TemporaryDirectory() as folder:
        TINY[name].make().save_pretrained(folder)
        pipe = ModularPipeline.from_pretrained(folder)
        pipe.load_components()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def paint(name: str, guider: Any, steps: int = STEPS) -> torch.Tensor:
    pipe, side = opened(name), TINY[name].side
    pipe.update_components(guider=guider)
    more = {"max_sequence_length": 16} if name == "sd3" else {}
    if name != "flux2-klein":
        more["negative_prompt"] = "a hot rock"
    return pipe(
        prompt="a red cube",
        height=side,
        width=side,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(1),
        output_type="pt",
        output="images",
        **more,
    )


def layout_of(name: str) -> Layout:
    return Layout.from_sites(sites_of(opened(name).transformer), "layer")


def bent(name: str, seed: int = 0) -> tuple[float, ...]:
    return tuple(np.random.default_rng(seed).normal(1, 0.3, len(layout_of(name))).tolist())


def made(name: str, members: Sequence[tuple[Sequence[float], float, str]]) -> Calibration:
    return Calibration(
        granularity="layer",
        names=layout_of(name).names,
        members=tuple(Member(scales=tuple(s), weight=w, condition=c) for s, w, c in members),
    )


def plain(name: str) -> list[float]:
    return [1.0] * len(layout_of(name))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@MODULAR
def test_one_member_of_ones_paints_the_bits_of_the_pipeline(name: str) -> None:
    assert torch.equal(
        paint(name, CalibriGuidance(made(name, [(plain(name), 1, "positive")]))), paint(name, OFF)
    )


@MODULAR
def test_guidance_as_an_ensemble_is_the_modular_pipelines_own(name: str) -> None:
    pair = [(plain(name), STRENGTH, "positive"), (plain(name), 1 - STRENGTH, "negative")]
    for members in (pair, pair[::-1]):
        found = paint(name, CalibriGuidance(made(name, members)))
        close(found, paint(name, ClassifierFreeGuidance(guidance_scale=STRENGTH)))
    assert (found - paint(name, OFF)).abs().max() > 1e-3


@MODULAR
def test_scales_are_those_of_load_calibration(name: str) -> None:
    scales, transformer = bent(name), opened(name).transformer
    one = made(name, [(scales, 1, "positive")])
    found = paint(name, CalibriGuidance(one))
    with calibri.load_calibration(transformer, one):
        close(found, paint(name, OFF))
        guided = paint(name, ClassifierFreeGuidance(guidance_scale=STRENGTH))
    assert (found - paint(name, OFF)).abs().max() > 1e-3
    pair = made(name, [(scales, STRENGTH, "positive"), (scales, 1 - STRENGTH, "negative")])
    close(paint(name, CalibriGuidance(pair)), guided)


@MODULAR
def test_members_have_scales_of_their_own(name: str) -> None:
    """On a bare transformer load_calibration runs members one after the other, on the same arguments."""
    first, second = bent(name, 1), bent(name, 2)
    three = [(first, 0.7, "positive"), (plain(name), -0.2, "positive"), (second, 0.5, "positive")]
    ensemble = made(name, three)
    found = paint(name, CalibriGuidance(ensemble))
    if (
        name == "qwen"
    ):  # which rescales to the first member; load_calibration rescales on whole pipelines alone
        assert (found - paint(name, CalibriGuidance(made(name, three[:1])))).abs().max() > 1e-3
        return
    with calibri.load_calibration(opened(name).transformer, ensemble):
        close(found, paint(name, OFF))


@MODULAR
def test_afterwards_the_transformer_is_as_it_was(name: str) -> None:
    base, transformer = paint(name, OFF), opened(name).transformer

    def hooks() -> int:
        return sum(
            len(m._forward_hooks) + len(m._forward_pre_hooks) + hasattr(m, ATTRIBUTE)
            for m in transformer.modules()
        )

    before, guider = hooks(), CalibriGuidance(made(name, [(bent(name), 1, "positive")]))
    paint(name, guider)
    assert hooks() == before
    last = transformer.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        paint(name, guider)
    last.remove()
    assert hooks() == before and torch.equal(paint(name, OFF), base)


def test_it_works_between_start_and_stop() -> None:
    pair = [(bent("sd3"), STRENGTH, "positive"), (plain("sd3"), 1 - STRENGTH, "negative")]
    whole, base = paint("sd3", CalibriGuidance(made("sd3", pair))), paint("sd3", OFF)
    early = CalibriGuidance(made("sd3", pair), stop=0.5)
    found = paint("sd3", early)
    assert all((found - other).abs().max() > 1e-4 for other in (whole, base))
    assert torch.equal(paint("sd3", early), found)  # it was past its end when this call encoded the prompts
    early.disable()
    assert torch.equal(paint("sd3", early), base)
    early.enable()
    assert torch.equal(paint("sd3", early, steps=1), paint("sd3", OFF, steps=1))  # half of one step is none
    with pytest.raises(ValueError, match="start"):
        CalibriGuidance(made("sd3", pair), start=2.0)


def test_what_does_not_fit_is_a_sentence() -> None:
    other = made("flux2-klein", [(plain("flux2-klein"), 1, "positive")])
    with pytest.raises(LayoutError, match="expected a calibration of this SD3Transformer2DModel"):
        paint("sd3", CalibriGuidance(other))
    pair = CalibriGuidance(made("sd3", [(plain("sd3"), 2, "positive"), (plain("sd3"), -1, "negative")]))
    rows = torch.ones(1, 2)
    for data in ({"x": rows}, {"x": (rows, None)}):
        with pytest.raises(RenderError, match="give it a negative_prompt"):
            pair.prepare_inputs(data)
    with pytest.raises(ArtifactError, match="expected a calibration or the path of its file, got int"):
        CalibriGuidance(3)
    transformer = TINY["sd3"].make().transformer
    transformer.compile()
    with pytest.raises(RenderError, match="does not see the scales of a guider"):
        pair.prepare_models(transformer)


def test_it_is_saved_and_copied_as_diffusers_guiders_are(tmp_path) -> None:
    guider = CalibriGuidance(made("sd3", [(bent("sd3"), 1, "positive")]), stop=0.8)
    guider.save_pretrained(tmp_path)
    again = CalibriGuidance.from_pretrained(tmp_path)
    assert (again.calibration.hash, again._stop) == (guider.calibration.hash, 0.8)
    assert guider.new(stop=0.5)._stop == 0.5 and "num_conditions: 1" in repr(guider)
    guider.calibration.save(tmp_path / "bent.json")
    assert torch.equal(paint("sd3", CalibriGuidance(tmp_path / "bent.json", stop=0.8)), paint("sd3", again))
