"""Another backbone, or the same one in another way: what a load that fails leaves, and what the bar says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from calibri.backbones.options import LoadOptions
from calibri.errors import BackboneError, CalibriError
from calibri.sampling.request import RenderRequest
from studio.core import Core
from studio.machine.host import ModelHost
from studio.machine.queue import HostError
from studio.settings import Settings
from studio.shell.load_settings import NAMES, list_quantisations, read_settings, write_loras
from studio.shell.model_bar import bar_html, bring_back, offer_last, switch
from tests.studio.conftest import make_core

REQUESTS = [RenderRequest("a red cube", 1, 2)]


def load_host(folder: Path, **options: object) -> ModelHost:
    host = ModelHost(options=LoadOptions(device="cpu", **options), batch_size=4)  # type: ignore[arg-type]
    host.load(str(folder), wait=True)
    return host


@pytest.fixture
def own(tiny_folder: Path, tmp_path: Path) -> Core:
    return make_core(load_host(tiny_folder), tmp_path)


def typed(**changes: object) -> tuple[object, ...]:
    """The fields of the fold."""
    usual = {name: getattr(LoadOptions(), name) for name in NAMES} | changes
    return tuple(usual[name] for name in NAMES)


def copy_without(folder: Path, place: Path, part: str) -> Path:
    """A copy of a pipeline whose weights of one part are damaged."""
    shutil.copytree(folder, place)
    for file in (place / part).glob("*.safetensors"):
        file.write_bytes(b"no weights")
    return place


def test_what_can_be_told_to_fail_leaves_the_loaded_backbone(
    own: Core, tiny_folder: Path, tmp_path: Path
) -> None:
    before = np.asarray(own.host.render(REQUESTS)[0].image)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    shutil.rmtree(broken / "vae")
    loaded = own.host.backbone
    with pytest.raises(HostError, match=r"broken was not loaded: .*its folder vae is not there\. tiny stays"):
        own.host.load(str(broken), wait=True)
    with pytest.raises(HostError, match=r"offload needs a CUDA device.*tiny stays"):
        own.host.load(str(tiny_folder), LoadOptions(device="cpu", offload="model"), wait=True)
    status = own.host.status
    assert (status.phase, status.backbone, status.loads) == ("ready", "tiny", 1)
    assert own.host.backbone is loaded and own.host.options == LoadOptions(device="cpu")
    assert "tiny stays" in bar_html(status)
    assert np.array_equal(np.asarray(own.host.render(REQUESTS)[0].image), before)


def test_the_last_backbone_is_offered_again_where_the_weights_of_the_next_were_bad(
    tiny_folder: Path, tmp_path: Path
) -> None:
    own = make_core(load_host(tiny_folder, dtype="bfloat16"), tmp_path / "data")
    assert not offer_last(own).visible
    switch(own, str(copy_without(tiny_folder, tmp_path / "bad", "transformer")), None)
    with pytest.raises(HostError, match="cannot be loaded"):
        own.host.wait_ready()
    offer = offer_last(own)
    assert offer.visible and "again" in offer.value and str(tmp_path) not in offer.value
    assert "loading" in bring_back(own, None)
    assert str(own.host.wait_ready().dtype) == "torch.bfloat16"
    assert not offer_last(own).visible


def test_nothing_is_brought_back_before_anything_was_loaded(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="No backbone was loaded before"):
        bring_back(make_core(ModelHost(), tmp_path), None)


def test_the_same_backbone_is_loaded_in_another_way_and_the_bar_names_it(own: Core) -> None:
    with pytest.raises(HostError, match="tiny is loaded already"):
        switch(own, "tiny", None, own.host.options)
    assert own.host.status.mode == ""
    switch(own, "tiny", None, read_settings(own, typed(dtype="bfloat16", vae_tiling=True)))
    backbone = own.host.wait_ready()
    assert str(backbone.dtype) == "torch.bfloat16" and backbone.options.device == "cpu"
    assert own.host.status.mode == "bfloat16, VAE tiling"
    assert "on cpu, bfloat16, VAE tiling" in bar_html(own.host.status)
    own.host.load(own.host.known["tiny"], wait=True)  # stays so until it is said otherwise
    assert own.host.status.mode == "bfloat16, VAE tiling"


def test_loras_stand_one_a_line(own: Core) -> None:
    found = read_settings(own, typed(loras="ink.safetensors:0.7\n\n owner/name ", lora_blocks=True))
    assert found.loras == ("ink.safetensors:0.7", "owner/name") and found.lora_blocks
    assert read_settings(own, typed(loras=write_loras(found.loras))).loras == found.loras
    with pytest.raises(BackboneError, match="expected a finite number as its strength, got 'much'"):
        read_settings(own, typed(loras="ink.safetensors:much"))
    with pytest.raises(BackboneError, match="lora-blocks: expected a LoRA too"):
        read_settings(own, typed(loras="", lora_blocks=True))


def test_fields_that_do_not_fit_are_sentences(own: Core) -> None:
    assert read_settings(own, typed()) == LoadOptions(device="cpu")
    assert read_settings(own, typed(dtype=None, attention=None)) == LoadOptions(device="cpu")
    for changes, words in (
        ({"step_cache": "first-block"}, "decides by the whole batch"),
        ({"transformer": "weights.bin"}, "ends in .gguf or .safetensors"),
        ({"compile": True, "step_cache": "pab"}, "expected one or the other"),
    ):
        with pytest.raises(BackboneError, match=words):
            read_settings(own, typed(**changes))


def test_only_organisers_name_files_where_others_can_reach(own: Core) -> None:
    import dataclasses

    reached = dataclasses.replace(own, settings=Settings(host="0.0.0.0", auth="ann:x"))
    for changes in ({"transformer": "/etc/x.gguf"}, {"attention": "flash_hub"}):
        with pytest.raises(CalibriError, match="only its organisers"):
            switch(reached, "tiny", None, LoadOptions(device="cpu", **changes))
    assert own.host.status.loads == 1


def test_searches_and_sweeps_refuse_a_backbone_with_a_step_cache(own: Core, tmp_path: Path) -> None:
    from calibri.analysis.settings import SweepSettings
    from calibri.errors import SearchError
    from studio.diagnose.sweeps import Sweeps
    from studio.search.form import read_program

    switch(own, "tiny", None, read_settings(own, typed(step_cache="pab")))
    own.host.wait_ready()
    with pytest.raises(SearchError, match="a search renders without a step cache, got pab"):
        read_program(own, {"rewards": "tabletop-quality", "images": 200})
    settings = SweepSettings.parse(
        granularity="block", rewards="tabletop-quality", prompts=["a red cube"], pairs=2, steps=2
    )
    with pytest.raises(SearchError, match="a sweep renders without a step cache"):
        Sweeps(tmp_path / "sweeps", own.host, rewards=own.rewards).start(settings)


def test_a_search_keeps_how_the_studio_loaded_its_backbone(own: Core) -> None:
    from studio.search.form import read_program
    from studio.search.view import setting_words

    switch(own, "tiny", None, read_settings(own, typed(dtype="bfloat16", vae_tiling=True)))
    own.host.wait_ready()
    config = read_program(own, {"rewards": "tabletop-quality", "images": 200}).config
    assert config.load_options == LoadOptions(dtype="bfloat16", vae_tiling=True)
    assert setting_words(config)["Backbone loaded"] == "bfloat16, VAE tiling"


def test_quantisers_that_are_not_installed_say_so() -> None:
    words = {name: label for label, name in list_quantisations()}
    assert "needs" not in words["float8"] and "CUDA" not in words["float8"]
    assert words["4bit"].startswith("4bit: NF4, CUDA")
