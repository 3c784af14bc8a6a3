"""A walk as a user would: models of today in one studio, a search on each, the result carried out of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import calibri
from calibri.backbones.options import LoadOptions
from calibri.search.config import Budget
from studio.library.form import BASE
from studio.library.page import Handlers
from studio.library.travel import pull, push
from studio.library.travel_page import TravelHandlers
from studio.machine.host import ModelHost
from studio.rendering.arms import Arm
from studio.rendering.asks import Ask
from studio.rendering.shots import shoot
from studio.settings import Settings
from studio.shell.app import Studio, open_studio
from tests.fake_hub import FakeHub, open_hub
from tests.small_search import make_small
from tests.studio.asking import request_of
from tests.tiny_lora import write_lora
from tests.tiny_pipelines import STEPS, TINY

HERE = request_of()
PROMPT, SEED, IMAGES, STRENGTH = "a red cube", 3, 60, 0.7
#: What turns the own guidance of each stock pipeline off.
MODELS: dict[str, dict[str, Any]] = {
    "sd3": {"guidance_scale": 1.0},
    "qwen": {"true_cfg_scale": 1.0},
    "z-image": {"guidance_scale": 0.0},
    "flux2-klein": {"guidance_scale": 1.0},
}
#: What diffusers is told of parts that the tiny model is without.
WITHOUT: dict[str, dict[str, None]] = {"sd3": {"text_encoder_3": None, "tokenizer_3": None}}


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """One studio for the whole walk, opened with everything that it has."""
    made = open_studio(Settings(data=tmp_path_factory.mktemp("walk") / "data", device="cpu"))
    yield made
    made.close()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with open_hub(tmp_path, monkeypatch, "hf_ann") as server:
        yield server


def save_model(name: str, folder: Path) -> Path:
    """The tiny model in the hub's format, as somebody has it on their disk."""
    tiny = TINY[name]
    tiny.make().save_pretrained(folder)
    facts = {"height": tiny.side, "width": tiny.side, "max_sequence_length": tiny.tokens, "steps": STEPS}
    (folder / "calibri.json").write_text(json.dumps({"name": f"tiny-{name}", **facts}), encoding="utf-8")
    return folder


def save_lora(name: str, path: Path) -> Path:
    """A LoRA of all attention layers, in the format that people find on the hub."""
    return write_lora(path, TINY[name].make().transformer, lambda layer: "att" in layer, gain=0.2)


def open_plain(folder: Path, name: str, lora: Path | None = None) -> DiffusionPipeline:
    pipe = DiffusionPipeline.from_pretrained(folder, **WITHOUT.get(name, {}))
    if lora is not None:
        pipe.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name="mine")
        pipe.set_adapters(["mine"], [STRENGTH])
    return pipe


def paint(pipe: DiffusionPipeline, host: ModelHost, name: str) -> np.ndarray:
    """What plain diffusers paints, (height, width, 3) in [0, 1]."""
    pipe.set_progress_bar_config(disable=True)
    call = dict(MODELS[name])
    if "max_sequence_length" in signature(type(pipe).__call__).parameters:
        call["max_sequence_length"] = host.wait_ready().adapter.tokens
    made = pipe(
        prompt=PROMPT,
        height=TINY[name].side,
        width=TINY[name].side,
        num_inference_steps=STEPS,
        generator=[torch.Generator().manual_seed(SEED)],
        output_type="np",
        **call,
    )
    return np.asarray(made.images[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_from_a_folder_by_a_search_to_plain_diffusers(
    name: str, studio: Studio, hub: FakeHub, tmp_path: Path
) -> None:
    core, host = studio.core, studio.core.host
    assert studio.searches is not None and studio.folding is not None
    folder, lora = save_model(name, tmp_path / name), save_lora(name, tmp_path / "mine.safetensors")
    host.load(str(folder), LoadOptions(device="cpu", loras=(f"{lora}:{STRENGTH}",)), wait=True)

    rewards = ({"name": "tabletop-quality"},)
    config = make_small(backbone=f"tiny-{name}", rewards=rewards, granularity="layer", convergence="none")
    config = config.loaded_as(host.options)
    run = studio.searches.start(config, Budget(images=IMAGES), f"Walk {name}")
    done = studio.searches.wait(run, 600)
    assert (done.state, done.error) == ("done", "") and IMAGES - 8 < done.images <= IMAGES
    found = studio.searches.calibration(run)
    assert len(set(found.members[0].scales)) > 1
    entry = core.calibrations.save(found)

    travel = TravelHandlers(core, studio.folding)
    travel.fold(entry.id, HERE)
    assert studio.folding.wait(300) and studio.folding.state.phase == "done", studio.folding.state.words
    address = push(core, entry, f"ann/walk-{name}", True, HERE)
    assert address.endswith(f"/ann/walk-{name}") and hub.repos[f"ann/walk-{name}"].private
    again = pull(core, f"ann/walk-{name}", HERE)
    assert again.calibration.hash == entry.calibration.hash
    assert again.title in Handlers(core, None).draw(again.id, BASE)[0]

    bare = paint(open_plain(folder, name), host, name)
    plain = open_plain(folder, name, lora)
    base = paint(plain, host, name)
    with calibri.load_calibration(plain, f"ann/walk-{name}"):
        carried = paint(plain, host, name)
    folded = paint(open_plain(studio.folding.folder / f"walk-{name}", name), host, name)
    assert np.abs(base - bare).max() > 1e-3 and np.abs(carried - base).max() > 1e-3
    assert np.abs(folded - carried).max() < 1e-5
    # The studio's own picture of it has 8 bits.
    [shot] = shoot(core, [Arm("calibrated", entry.title, entry.calibration)], Ask.read(PROMPT, SEED, STEPS))
    assert np.abs(np.asarray(shot.image) / 255.0 - carried).max() <= 0.51 / 255
