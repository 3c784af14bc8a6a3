"""Every way of loading × calibrated: the same picture within the mode's precision, or a sentence why not.

Real pipelines with tiny random weights. What needs a GPU is marked so; the rest runs on a processor.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calibri.backbones.loading import Backbone, load_backbone
from calibri.backbones.options import LoadOptions
from calibri.backbones.placing import place
from calibri.backbones.quantisations import QUANTISATIONS, is_installed
from calibri.calibration.artifact import Calibration, Member
from calibri.calibration.fold import fold_calibration
from calibri.errors import ArtifactError, BackboneError, RenderError, SearchError
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.tiny import flux_transformer, tiny_flux
from tests.tiny_families import tiny_qwen, tiny_sd3
from tests.tiny_modes import write_gguf

STEPS = 6
FAMILIES = ("flux", "sd3", "qwen")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("modes")
    tiny_flux(root / "flux")
    words = {"steps": STEPS, "height": 16, "width": 16, "max_sequence_length": 8}
    for name, make in (("sd3", tiny_sd3), ("qwen", tiny_qwen)):
        make().save_pretrained(root / name)
        (root / name / "calibri.json").write_text(json.dumps({"name": name, **words}), encoding="utf-8")
    wide = tiny_flux()  # some quantisers leave small layers alone
    wide.transformer = flux_transformer(heads=10)
    wide.save_pretrained(root / "wide")
    (root / "wide" / "calibri.json").write_text((root / "flux" / "calibri.json").read_text("utf-8"), "utf-8")
    return {name: root / name for name in (*FAMILIES, "wide")}


def make_calibrations(backbone: Backbone) -> list[Calibration | None]:
    """The base, all ones, one member, and two of which one sees the negative prompt."""
    layout = backbone.layout("gate")
    count = len(layout.names)
    scales = np.random.default_rng(5).uniform(0.2, 1.8, (2, count)).tolist()
    members = [
        Member(scales=tuple(row), weight=w, condition=c)
        for row, w, c in zip(scales, (1.6, -0.6), ("positive", "negative"), strict=True)
    ]
    one = Member(scales=tuple(scales[0]))
    shared = {"granularity": "gate", "names": layout.names}
    made = [Calibration(members=(one,), **shared), Calibration(members=tuple(members), **shared)]
    return [None, Calibration.base(layout), *made]


def paint(backbone: Backbone, **settings: Any) -> np.ndarray:
    """(4, H, W, 3), of base, all ones, one member, two members; each batch of its own."""
    pictures = [
        Renderer(backbone).render([RenderRequest.of("a red cube", 3, STEPS, found, **settings)])[0].image
        for found in make_calibrations(backbone)
    ]
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


_PLAIN: dict[Path, np.ndarray] = {}


def paint_plain(folder: Path) -> np.ndarray:
    if folder not in _PLAIN:
        _PLAIN[folder] = paint(load_backbone(folder, device="cpu"))
    return _PLAIN[folder]


def assert_calibrated(found: np.ndarray, plain: np.ndarray, share: float) -> None:
    """All ones is the base bit for bit. Calibrated pictures differ from the plain ones, on average over all
    values, by at most `share` of what the scales do: that is the mode's precision."""
    assert np.array_equal(found[0], found[1])
    for number in (2, 3):
        effect = np.abs(plain[number] - plain[0]).mean()
        assert effect > 2, "the scales of this test do too little"
        assert np.abs(found[number] - plain[number]).mean() <= share * effect


CPU_MODES: dict[str, tuple[dict[str, Any], float]] = {
    "vae tiling": ({"vae_tiling": True}, 0.00),
    "vae slicing": ({"vae_slicing": True}, 0.00),
    "attention native": ({"attention": "native"}, 0.00),
    "attention math": ({"attention": "_native_math"}, 0.01),
    "bfloat16": ({"dtype": "bfloat16"}, 0.40),
    "float16": ({"dtype": "float16"}, 0.08),
    "mixed": ({"dtype": "mixed"}, 0.40),
    "float8": ({"quantisation": "float8"}, 0.50),
    "torchao-int8": ({"quantisation": "torchao-int8"}, 0.15),
    "torchao-float8": ({"quantisation": "torchao-float8"}, 0.60),
    "quanto-int8": ({"quantisation": "quanto-int8"}, 0.15),
    "quanto-float8": ({"quantisation": "quanto-float8"}, 0.60),
}


def load_or_skip(folder: Path, **options: Any) -> Backbone:
    wanted = QUANTISATIONS.get(options.get("quantisation", ""))
    if wanted is not None and wanted.library and not is_installed(wanted.library):
        with pytest.raises(BackboneError, match=f"needs {wanted.library}: pip install"):
            load_backbone(folder, **options)
        pytest.skip(f"{wanted.package} is not installed; refused with a sentence")
    return load_backbone(folder, options=LoadOptions(**options))


@pytest.mark.parametrize("mode", CPU_MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_calibrated_pictures_in_every_mode_of_a_processor(folders, family, mode):
    options, share = CPU_MODES[mode]
    backbone = load_or_skip(folders[family], device="cpu", **options)
    assert_calibrated(paint(backbone), paint_plain(folders[family]), share)
    assert len(backbone.fingerprint) == 64
    plain = load_backbone(folders[family], device="cpu").fingerprint
    paints_other = options.keys() & {"dtype", "quantisation"}
    assert (backbone.fingerprint != plain) == bool(paints_other)


@pytest.mark.parametrize(("quantisation", "share"), [("sdnq-int8", 0.15), ("sdnq-uint4", 0.8)])
def test_calibrated_pictures_with_a_quantiser_that_leaves_small_layers_alone(folders, quantisation, share):
    backbone = load_or_skip(folders["wide"], device="cpu", quantisation=quantisation)
    kinds = {type(module).__name__ for module in backbone.transformer.modules()}
    assert any("SDNQ" in kind for kind in kinds)
    assert_calibrated(paint(backbone), paint_plain(folders["wide"]), share)


@pytest.mark.parametrize("offload", ["model", "group"])
@pytest.mark.parametrize("family", FAMILIES)
def test_offload_brings_the_same_weights(folders, family, offload):
    """From a processor to a processor, which nobody needs, but which takes the same path as to a GPU."""
    backbone = load_backbone(folders[family], device="cpu")
    how = LoadOptions(device="cpu", offload=offload)
    place(backbone.pipeline, torch.device("cpu"), how)
    backbone.options = how
    assert_calibrated(paint(backbone), paint_plain(folders[family]), 0.0)


# one file


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gguf_file_takes_the_place_of_the_transformer(folders, family, tmp_path):
    file = tmp_path / f"{family}-Q8_0.gguf"
    if not is_installed("gguf"):
        file.write_bytes(b"GGUF")
        with pytest.raises(BackboneError, match="needs gguf: pip install gguf"):
            load_backbone(folders[family], options=LoadOptions(device="cpu", transformer=str(file)))
        pytest.skip("gguf is not installed; refused with a sentence")
    write_gguf(folders[family], file)
    backbone = load_backbone(folders[family], options=LoadOptions(device="cpu", transformer=str(file)))
    assert any(type(weight).__name__ == "GGUFParameter" for weight in backbone.transformer.parameters())
    assert_calibrated(paint(backbone), paint_plain(folders[family]), 0.15)
    assert backbone.fingerprint != load_backbone(folders[family], device="cpu").fingerprint


@pytest.mark.parametrize("family", ["flux", "qwen"])
def test_a_gguf_file_that_lacks_a_weight_is_named(folders, tmp_path, family):
    pytest.importorskip("gguf")
    file = tmp_path / "part.gguf"
    write_gguf(folders[family], file, leave_out="proj_out.weight")
    with pytest.raises(BackboneError, match=r"part\.gguf does not hold all weights of a"):
        load_backbone(folders[family], options=LoadOptions(device="cpu", transformer=str(file)))


def test_a_safetensors_file_takes_the_place_of_the_transformer(folders):
    file = folders["flux"] / "transformer" / "diffusion_pytorch_model.safetensors"
    backbone = load_backbone(folders["flux"], options=LoadOptions(device="cpu", transformer=str(file)))
    assert_calibrated(paint(backbone), paint_plain(folders["flux"]), 0.0)
    assert backbone.fingerprint == load_backbone(folders["flux"], device="cpu").fingerprint


@pytest.mark.parametrize("name", ["broken.gguf", "broken.safetensors"])
def test_a_damaged_file_is_a_sentence(folders, tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights")
    with pytest.raises(BackboneError) as told:
        load_backbone(folders["flux"], options=LoadOptions(transformer=str(tmp_path / name), device="cpu"))
    assert "\n" not in str(told.value)


# step caches


@pytest.mark.parametrize("cache", ["taylorseer", "pab", "pab:3"])
@pytest.mark.parametrize("family", ["flux", "qwen"])
def test_a_step_cache_does_not_depend_on_the_batch(folders, family, cache):
    backbone = load_backbone(folders[family], options=LoadOptions(device="cpu", step_cache=cache))
    alone = paint(backbone)
    requests = [RenderRequest.of("a red cube", 3, STEPS, each) for each in make_calibrations(backbone)]
    if family == "qwen":  # members with prompts of unlike lengths
        requests = requests[:3]
    together = [np.asarray(each.image).astype(int) for each in Renderer(backbone).render(requests)]
    for one, several in zip(alone, together, strict=False):
        assert np.abs(one - several).max() <= 1
    plain = paint_plain(folders[family])
    assert np.abs(alone[2] - plain[2]).max() > 1, "the cache did nothing"
    assert np.abs(alone[2] - plain[2]).mean() < np.abs(plain[2] - plain[0]).mean()
    assert np.array_equal(alone, paint(backbone)), "what one batch left behind changed the next"


def test_a_transformer_that_takes_no_step_cache_is_named(folders):
    with pytest.raises(BackboneError, match="SD3Transformer2DModel takes none"):
        load_backbone(folders["sd3"], options=LoadOptions(device="cpu", step_cache="pab"))


def test_a_step_cache_is_part_of_the_fingerprint(folders):
    prints = {
        load_backbone(folders["flux"], options=LoadOptions(device="cpu", step_cache=cache)).fingerprint
        for cache in ("", "pab", "taylorseer", "taylorseer:3")
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("cache", "words"),
    [
        ("first-block", "decides by the whole batch"),
        ("sea:2", "decides by the whole batch"),
        ("mag", "scales change them"),
        ("faster", "guidance is an ensemble here"),
        ("teacache", "'teacache': expected taylorseer or pab"),
        ("pab:1", "expected a whole number from 2 to 100"),
        ("pab:x", "expected a whole number from 2 to 100"),
    ],
)
def test_caches_that_would_change_what_is_compared_are_refused(cache, words):
    with pytest.raises(BackboneError, match=words):
        LoadOptions(step_cache=cache).check()


def test_no_search_and_no_sweep_renders_with_a_step_cache(tmp_path):
    from calibri.cli import main
    from calibri.search.config import SearchConfig

    with pytest.raises(SearchError, match="a search renders without a step cache, got pab"):
        SearchConfig.make(
            rewards=({"name": "tabletop-quality"},), prompts=("a",), loading=LoadOptions(step_cache="pab")
        )
    out = tmp_path / "sweep.jsonl"
    assert main(["diagnose", "--reward", "tabletop-quality", "--step-cache", "pab", "--out", str(out)]) == 1
    assert not out.exists()


# what cannot be


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"offload": "sequential"}, "offload needs a CUDA device, not cpu"),
        ({"quantisation": "4bit"}, "quantisation 4bit needs a CUDA device, not cpu"),
        ({"quantisation": "modelopt-fp8"}, "needs a CUDA device"),
        ({"attention": "flashy"}, "attention 'flashy': expected one of flash"),
        ({"attention": "flash"}, "attention flash cannot be used here"),
        ({"transformer": "nowhere.gguf"}, "expected a file, got nowhere.gguf, which is not there"),
        ({"transformer": "weights.ckpt"}, "expected a file that ends in .gguf or .safetensors"),
        ({"transformer": "a.gguf", "quantisation": "torchao-int8"}, "leave quantisation out"),
        ({"dtype": "mixed", "quantisation": "torchao-int8"}, "expected bfloat16 with quantised weights"),
        ({"compile": True, "offload": "sequential"}, "expected model or group offload"),
        ({"compile": True, "step_cache": "pab"}, "expected one or the other"),
    ],
)
def test_what_cannot_be_is_a_sentence(folders, options, words):
    with pytest.raises(BackboneError, match=words):
        load_backbone(folders["flux"], options=LoadOptions(device="cpu", **options))


@pytest.mark.parametrize("quantisation", ["torchao-int8", "quanto-int8", "sdnq-int8"])
def test_quantised_weights_are_not_folded(folders, quantisation):
    backbone = load_or_skip(folders["wide"], device="cpu", quantisation=quantisation)
    with pytest.raises(ArtifactError, match=r"load it unquantised to fold|no quantised one"):
        fold_calibration(backbone, make_calibrations(backbone)[2])


def test_a_cache_that_somebody_else_put_there_is_refused(folders):
    backbone = load_backbone(folders["flux"], options=LoadOptions(device="cpu", step_cache="pab"))
    backbone.options = LoadOptions(device="cpu")
    with pytest.raises(RenderError, match="a step cache is on"):
        Renderer(backbone).render([RenderRequest("a red cube", 0, 2)])


# on a GPU


GPU_MODES: dict[str, tuple[dict[str, Any], float]] = {
    "model offload": ({"offload": "model", "dtype": "float32"}, 0.05),
    "sequential offload": ({"offload": "sequential", "dtype": "float32"}, 0.05),
    "group offload": ({"offload": "group", "dtype": "float32"}, 0.05),
    "group offload, compiled": ({"offload": "group", "dtype": "float32", "compile": True}, 0.05),
    "8bit": ({"quantisation": "8bit", "dtype": "float16"}, 0.5),
    "4bit": ({"quantisation": "4bit"}, 0.9),
    "4bit, model offload": ({"quantisation": "4bit", "offload": "model"}, 0.9),
    "torchao-int4": ({"quantisation": "torchao-int4"}, 0.9),
    "modelopt-fp8": ({"quantisation": "modelopt-fp8"}, 0.6),
    "attention flash": ({"attention": "flash", "dtype": "bfloat16"}, 0.4),
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", GPU_MODES)
def test_calibrated_pictures_in_every_mode_of_a_gpu(folders, mode):
    options, share = GPU_MODES[mode]
    backbone = load_or_skip(folders["flux"], device="cuda", **options)
    assert_calibrated(paint(backbone), paint_plain(folders["flux"]), share)


def test_attention_is_of_one_backbone_and_not_of_those_loaded_later(tmp_path):
    from diffusers.models import attention_dispatch

    tiny_flux().save_pretrained(tmp_path)
    own = attention_dispatch._AttentionBackendRegistry.get_active_backend()[0]
    backbone = load_backbone(tmp_path, device="cpu", options=LoadOptions(attention="_native_math"))
    chosen = {
        m.processor._attention_backend for m in backbone.transformer.modules() if hasattr(m, "processor")
    }
    assert {each.value for each in chosen} == {"_native_math"}
    assert attention_dispatch._AttentionBackendRegistry.get_active_backend()[0] == own
