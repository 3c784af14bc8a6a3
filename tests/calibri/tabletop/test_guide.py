"""Guidance distillation: the aim, and a short run of the stage with a small batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import FluxPipeline

from calibri.tabletop import backbone as b
from calibri.tabletop.train import flow
from calibri.tabletop.train.common import Place
from calibri.tabletop.train.guide import GUIDANCE, guided, train_guide


def test_the_aim_is_the_guided_velocity_and_the_plain_one_without_a_prompt(place: Place) -> None:
    student = flow.Student(features=8, heads=4).eval()
    flow.from_published(place, student)
    draw = torch.Generator().manual_seed(1)
    x, t = torch.randn(2, 64, 32, generator=draw), torch.tensor([0.3, 0.8])
    ids = torch.zeros(b.TEXT_TOKENS, 3), b.image_ids()
    with torch.inference_mode():
        aim = guided(student, x, t, ["a red cube", ""], *ids)
        asked, _ = student(x, t, ["a red cube", ""], *ids)
        without, _ = student(x, t, ["", ""], *ids)
    torch.testing.assert_close(aim[1], without[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(aim[0], without[0] + GUIDANCE * (asked - without)[0], atol=1e-5, rtol=0)
    assert (asked[0] - without[0]).abs().max() > 0.1


def test_a_stage_leaves_a_pipeline_and_goes_on_from_its_checkpoint(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    train_guide(place)
    published = FluxPipeline.from_pretrained(place.assets / "tabletop").transformer.state_dict()
    first = FluxPipeline.from_pretrained(place.work / "tabletop").transformer.state_dict()
    moved = [k for k, v in first.items() if not torch.equal(v, published[k].to(v.dtype))]
    assert moved and all(torch.isfinite(v).all() for v in first.values())
    train_guide(replace(place, minutes=0.04))
    second = FluxPipeline.from_pretrained(place.work / "tabletop").transformer.state_dict()
    assert any(not torch.equal(second[k], first[k]) for k in first)
