"""The flow stage: what the reader tells it, and a short run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from safetensors.torch import save_file

from calibri.backbones.catalog import resolve
from calibri.tabletop.nets import KINDS
from calibri.tabletop.train.common import Place
from calibri.tabletop.train.flow import train_flow
from calibri.tabletop.train.reader import NOISE, LatentReader, blurred, missed

ASSETS = Path(__file__).resolve().parents[3] / "assets"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The published backbone, and latents of noise: what is learnt does not matter here."""
    made = Place(tmp_path, ASSETS, "cpu", minutes=0.02, batch=4, published=True)
    draw = torch.Generator().manual_seed(0)
    noise = {"latents": torch.randn(16, 64, 32, generator=draw), "features": torch.zeros(16, 64, 8)}
    save_file({name: x.half() for name, x in noise.items()}, tmp_path / "latents.safetensors")
    return made


def sure_of(kinds: list[int], count: int):
    """A reader that is sure of these pairs and this count, whatever it is shown."""
    seen = torch.full((1, len(KINDS)), -20.0)
    seen[0, kinds] = 20.0
    number = torch.full((1, 4), -20.0)
    number[0, count] = 20.0
    return lambda latents: (seen, number)


def test_what_is_missed_is_nothing_where_all_is_there_and_grows_with_each_fact() -> None:
    latents, asked, two = torch.zeros(1, 64, 32), torch.zeros(1, len(KINDS)), torch.tensor([2])
    asked[0, [3, 7]] = 1
    all_there = missed(sure_of([3, 7], 2), latents, asked, two)
    one_gone = missed(sure_of([3], 2), latents, asked, two)
    also_miscounted = missed(sure_of([3], 1), latents, asked, two)
    assert all_there.item() < 1e-6
    assert one_gone.item() > 1 and also_miscounted > one_gone + 1


def test_a_frozen_reader_moves_the_latents_alone() -> None:
    torch.manual_seed(0)
    reader = LatentReader().eval().requires_grad_(False)
    latents = torch.randn(2, 64, 32, requires_grad=True)
    asked = torch.zeros(2, len(KINDS))
    missed(reader, latents, asked, torch.tensor([1, 2])).sum().backward()
    assert latents.grad is not None and latents.grad.abs().sum() > 0
    assert all(p.grad is None for p in reader.parameters())


def test_noise_before_reading_is_of_every_spread_up_to_its_limit() -> None:
    latents = torch.zeros(400, 64, 32)
    spread = blurred(latents, torch.Generator().manual_seed(0)).std((1, 2))
    assert spread.min() < 0.1 * NOISE and 0.9 * NOISE < spread.max() < 1.1 * NOISE


def test_a_short_run_moves_the_published_weights_and_leaves_a_pipeline(place: Place) -> None:
    train_flow(place)
    published = FluxPipeline.from_pretrained(place.assets / "tabletop").transformer.state_dict()
    trained = FluxPipeline.from_pretrained(place.work / "tabletop").transformer.state_dict()
    assert any(not torch.equal(v, published[k].to(v.dtype)) for k, v in trained.items())
    assert all(torch.isfinite(v).all() for v in trained.values())
    assert (place.work / "reader.safetensors").exists()
    spec = resolve(place.work / "tabletop")
    assert (spec.steps, spec.height, spec.width) == (8, 128, 128)
