"""The node for ComfyUI in ComfyUI's own models, samplers and patcher: predictions as in diffusers."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from calibri.backbones.catalog import CATALOG
from calibri.backbones.layouts import Layout
from calibri.backbones.sites import sites_of, sites_of_config
from calibri.calibration.artifact import Calibration, Member
from calibri.sampling.hooks import ScaleHooks
from integrations.comfyui.node import KEY, apply_calibration
from integrations.comfyui.scaling import BEFORE, FACTORS
from integrations.comfyui.table import CalibrationError, list_sites
from tests.comfy_models import (
    CHECKOUT,
    TOKENS,
    TWINS,
    at_full_size,
    comfy,
    list_modules,
    opened,
    record,
    recorded,
)
from tests.house import ROOT

if not CHECKOUT:
    pytest.skip(
        "CALIBRI_COMFYUI names no checkout of ComfyUI: see tests/comfy_models.py", allow_module_level=True
    )

FAMILIES = pytest.mark.parametrize("name", TWINS)
SIGMAS = (0.9, 0.6, 0.3, 0.0)
PICTURES = 2


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompts(name: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(text, pooled text) of a positive and a negative prompt."""
    twin = TWINS[name]
    return [(draw(1, TOKENS, twin.text, seed=i), draw(1, twin.pooled, seed=10 + i)) for i in (1, 2)]


def calibration(name: str, granularity: str = "gate", weights: Sequence[float] = (1.0,)) -> Calibration:
    """Random scales; members of negative weight see the negative prompt."""
    layout = Layout.from_sites(sites_of(opened(name)[0]), granularity)
    scales = np.random.default_rng(3).normal(1, 0.3, (len(weights), len(layout))).tolist()
    members = tuple(
        Member(scales=tuple(row), weight=w, condition="positive" if w > 0 else "negative")
        for row, w in zip(scales, weights)
    )
    return Calibration(granularity=granularity, names=layout.names, members=members)


def sampled(
    name: str, model: Any, cfg: float = 1.0, sigmas: Sequence[float] = SIGMAS
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(latents, prediction) of each step of ComfyUI's own sampler, two pictures in a batch."""
    program, twin, steps = comfy(), TWINS[name], []
    conds = [[[text, {"pooled_output": pooled, "guidance": 3.5}]] for text, pooled in prompts(name)]

    def keep(step: int, denoised: torch.Tensor, x: torch.Tensor, total: int) -> None:
        steps.append((x.clone(), (x - denoised) / sigmas[step]))

    noise = draw(PICTURES, *twin.shape, seed=5)
    with torch.inference_mode():
        program.samplers.sample(
            model,
            noise,
            *conds,
            cfg,
            torch.device("cpu"),
            program.samplers.ksampler("euler"),
            torch.tensor(sigmas),
            latent_image=torch.zeros_like(noise),
            callback=keep,
            disable_pbar=True,
        )
    return steps


def predicted(name: str, x: torch.Tensor, sigma: float, scales: np.ndarray, prompt: int = 0) -> torch.Tensor:
    """diffusers' prediction with our hooks."""
    transformer = opened(name)[0]
    text, pooled = (each.expand(PICTURES, *each.shape[1:]) for each in prompts(name)[prompt])
    with torch.no_grad(), ScaleHooks(transformer, sites_of(transformer)) as hooks:
        hooks.set(scales)
        return TWINS[name].predict(transformer, x, torch.full((PICTURES,), sigma), text, pooled)


def vectors(name: str, made: Calibration) -> list[np.ndarray]:
    layout = Layout.from_sites(sites_of(opened(name)[0]), made.granularity)
    return [layout.expand(member.scales) for member in made.members]


def assert_alike(found: torch.Tensor, expected: torch.Tensor, share: float = 1e-5) -> None:
    """To 1e-5 of the largest number."""
    torch.testing.assert_close(found, expected, rtol=0, atol=share * float(expected.abs().max()))


@FAMILIES
@pytest.mark.parametrize("granularity", ["block", "layer", "gate"])
def test_the_node_predicts_what_diffusers_does_with_our_hooks(name: str, granularity: str) -> None:
    made = calibration(name, granularity)
    [scales] = vectors(name, made)
    steps = sampled(name, apply_calibration(opened(name)[1], made.to_json()))
    base = np.ones(len(scales))
    assert len(steps) == len(SIGMAS) - 1
    for sigma, (x, prediction) in zip(SIGMAS, steps):
        expected = predicted(name, x, sigma, scales)
        assert_alike(prediction, expected)
        assert (expected - predicted(name, x, sigma, base)).abs().max() > 1e-2 * expected.abs().max()


@FAMILIES
def test_the_sampler_guides_with_the_calibrated_model(name: str) -> None:
    """Both prompts are in one batch, and all rows have the scales."""
    made = calibration(name)
    [scales] = vectors(name, made)
    for sigma, (x, prediction) in zip(
        SIGMAS, sampled(name, apply_calibration(opened(name)[1], made.to_json()), 4)
    ):
        positive, negative = (predicted(name, x, sigma, scales, prompt) for prompt in (0, 1))
        assert_alike(prediction, negative + 4 * (positive - negative))


@FAMILIES
def test_members_are_weighted(name: str) -> None:
    made = calibration(name, weights=(0.75, 0.5))
    for sigma, (x, prediction) in zip(
        SIGMAS, sampled(name, apply_calibration(opened(name)[1], made.to_json()))
    ):
        first, second = (predicted(name, x, sigma, scales) for scales in vectors(name, made))
        expected = 0.75 * first + 0.5 * second
        assert_alike(prediction, rescaled(expected, first) if name == "qwen" else expected)


@FAMILIES
def test_negative_members_are_the_guidance(name: str) -> None:
    """Each half of the batch has its own scales; the sampler's `cfg` counts nothing, also where it is 1."""
    made = calibration(name, weights=(4.5, -3.25))
    for cfg in (1.0, 7.0):
        steps = sampled(name, apply_calibration(opened(name)[1], made.to_json()), cfg)
        for sigma, (x, prediction) in zip(SIGMAS, steps):
            scales = vectors(name, made)
            first, second = (predicted(name, x, sigma, scales[i], i) for i in (0, 1))
            expected = 4.5 * first - 3.25 * second
            assert_alike(prediction, rescaled(expected, first) if name == "qwen" else expected)


def rescaled(combined: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """As calibri's own adapter of Qwen-Image does it, on packed tokens."""
    from calibri.backbones.qwen_pipeline import QwenAdapter
    from tests.comfy_models import packed, unpacked

    tokens = [packed(each[:, :, 0]) for each in (combined, like)]
    return unpacked(QwenAdapter.finish(None, *tokens))[:, :, None]


@FAMILIES
def test_all_ones_are_the_bits_of_the_model(name: str) -> None:
    ones = calibration(name).model_copy(
        update={"members": (Member(scales=(1.0,) * len(calibration(name).names)),)}
    )
    before = sampled(name, opened(name)[1], 4)
    for (_, found), (_, expected) in zip(
        sampled(name, apply_calibration(opened(name)[1], ones.to_json()), 4), before
    ):
        assert torch.equal(found, expected)
    halved = apply_calibration(opened(name)[1], calibration(name).to_json(), strength=0)
    assert torch.equal(sampled(name, halved, 4)[-1][1], before[-1][1])


@FAMILIES
def test_nothing_is_left_on_the_model(name: str) -> None:
    model = opened(name)[1]
    inner = model.model.diffusion_model
    kept = copy.deepcopy((model.model_options, model.wrappers, model.attachments, model.object_patches))
    weights = {key: value.clone() for key, value in inner.state_dict().items()}
    before = sampled(name, model, 4)
    sampled(name, apply_calibration(model, calibration(name, weights=(4.5, -3.25)).to_json()), 4)
    assert (model.model_options, model.wrappers, model.attachments, model.object_patches) == kept
    assert not any({"forward", FACTORS, BEFORE} & set(vars(each)) for each in inner.modules())
    assert all(torch.equal(value, weights[key]) for key, value in inner.state_dict().items())
    assert torch.equal(sampled(name, model, 4)[-1][1], before[-1][1])


def test_nothing_is_left_after_an_error() -> None:
    model = apply_calibration(opened("flux")[1], calibration("flux").to_json())
    inner = model.model.diffusion_model
    handle = inner.final_layer.register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        with pytest.raises(ZeroDivisionError):
            sampled("flux", model)
    finally:
        handle.remove()
    assert not any({"forward", FACTORS, BEFORE} & set(vars(each)) for each in inner.modules())


@FAMILIES
def test_nodes_in_a_row_multiply_or_replace(name: str) -> None:
    model, made = opened(name)[1], calibration(name)
    [scales] = vectors(name, made)
    once = apply_calibration(model, made.to_json(), strength=0.5)
    twice = apply_calibration(once, made.to_json())
    (x, prediction), *_ = sampled(name, twice)
    assert_alike(prediction, predicted(name, x, SIGMAS[0], scales * (1 + 0.5 * (scales - 1))))
    replaced = apply_calibration(twice, made.to_json(), combine="replace")
    assert_alike(sampled(name, replaced)[0][1], predicted(name, x, SIGMAS[0], scales))
    assert len(replaced.get_all_wrappers("apply_model")) == 1
    assert_alike(sampled(name, once)[0][1], predicted(name, x, SIGMAS[0], 1 + 0.5 * (scales - 1)))


def test_an_ensemble_takes_one_member_before_or_behind_it() -> None:
    model, one = opened("sd3")[1], calibration("sd3")
    guided = calibration("sd3", weights=(4.5, -3.25))
    steps = [
        sampled("sd3", apply_calibration(apply_calibration(model, a.to_json()), b.to_json()))[0]
        for a, b in ((one, guided), (guided, one))
    ]
    scales, [more] = vectors("sd3", guided), vectors("sd3", one)
    for x, prediction in steps:
        first, second = (predicted("sd3", x, SIGMAS[0], scales[i] * more, i) for i in (0, 1))
        assert_alike(prediction, 4.5 * first - 3.25 * second)
    with pytest.raises(CalibrationError, match="expected at most one ensemble in a row"):
        apply_calibration(apply_calibration(model, guided.to_json()), guided.to_json())
    plain = apply_calibration(apply_calibration(model, guided.to_json()), one.to_json(), combine="replace")
    assert "sampler_cfg_function" not in plain.model_options
    assert plain.get_attachment(KEY).guides is False


@FAMILIES
@pytest.mark.parametrize("first", ["lora", "node"])
def test_loras_work_beside_it(name: str, first: str) -> None:
    """A patch of all the modulations' weights, before or behind the node, equals changed weights."""
    model, made = opened(name)[1], calibration(name)
    keys = [key for key in model.model.state_dict() if key.endswith((".lin.weight", "_mod.1.weight"))]
    keys += [
        key
        for key in model.model.state_dict()
        if key.endswith("adaLN_modulation.1.weight") and "final" not in key
    ]
    assert len(keys) >= 5
    weights = model.model.state_dict()
    patches = {key: ("diff", (0.1 * draw(*weights[key].shape, seed=i),)) for i, key in enumerate(keys)}

    def with_lora(before: Any) -> Any:
        clone = before.clone()
        assert len(clone.add_patches(patches, 0.8)) == len(keys)
        return clone

    if first == "lora":
        both = apply_calibration(with_lora(model), made.to_json())
    else:
        both = with_lora(apply_calibration(model, made.to_json()))
    steps = sampled(name, both)
    both.unpatch_model()
    baked = copy.deepcopy(model.model)
    with torch.no_grad():
        for key in keys:
            baked.get_parameter(key).add_(0.8 * patches[key][1][0])
    alone = comfy().model_patcher.ModelPatcher(baked, model.load_device, model.offload_device)
    for (_, found), (_, expected) in zip(steps, sampled(name, apply_calibration(alone, made.to_json()))):
        assert_alike(found, expected)
    assert (steps[0][1] - sampled(name, apply_calibration(model, made.to_json()))[0][1]).abs().max() > 1e-3


def test_a_sampler_without_a_negative_prompt_is_refused() -> None:
    program, model = (
        comfy(),
        apply_calibration(opened("flux")[1], calibration("flux", weights=(2, -1)).to_json()),
    )
    guider = program.samplers.CFGGuider(model)
    text, pooled = prompts("flux")[0]
    guider.inner_set_conds({"positive": [[text, {"pooled_output": pooled}]]})
    noise = draw(1, *TWINS["flux"].shape)
    with pytest.raises(CalibrationError, match="expected a sampler with a negative prompt"):
        guider.sample(
            noise, torch.zeros_like(noise), program.samplers.ksampler("euler"), torch.tensor(SIGMAS)
        )


def test_a_guidance_of_another_node_is_not_overwritten() -> None:
    model = opened("flux")[1].clone()
    model.set_model_sampler_cfg_function(lambda args: args["cond"])
    with pytest.raises(CalibrationError, match="without a guidance of its own"):
        apply_calibration(model, calibration("flux", weights=(2, -1)).to_json())


@pytest.mark.slow
def test_a_compiled_model_sees_the_scales() -> None:
    """ComfyUI's own node compiles; what was compiled before for the model without calibration is not used."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model, made = opened("flux")[1].clone(), calibration("flux")
    [scales] = vectors("flux", made)
    set_torch_compile_wrapper(model, backend="eager")

    def once(patched: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return sampled("flux", patched, sigmas=(0.9, 0.0))[0]

    x, base = once(model)
    assert_alike(once(apply_calibration(model, made.to_json()))[1], predicted("flux", x, 0.9, scales))
    halved = apply_calibration(model, made.to_json(), strength=0.5)
    assert_alike(once(halved)[1], predicted("flux", x, 0.9, 1 + 0.5 * (scales - 1)))
    assert_alike(once(model)[1], base)


def test_a_forward_of_another_node_is_kept() -> None:
    """Nodes that put a `forward` on a Linear: it is called, scaled, and there again afterwards."""
    model, made = opened("flux")[1].clone(), calibration("flux")
    linear = model.model.diffusion_model.double_blocks[0].img_mod.lin
    calls = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return type(linear).forward(linear, x)

    model.add_object_patch("diffusion_model.double_blocks.0.img_mod.lin.forward", counted)
    expected = sampled("flux", apply_calibration(opened("flux")[1], made.to_json()))
    found = sampled("flux", apply_calibration(model, made.to_json()))
    assert linear.forward is counted and len(calls) == len(found)
    assert torch.equal(found[-1][1], expected[-1][1])
    model.unpatch_model()
    vars(linear).pop("forward", None)  # where ComfyUI leaves the method that was there before


@pytest.mark.parametrize("backbone", ["FLUX.1-dev", "SD3.5-medium", "SD3.5-large", "Qwen-Image"])
def test_the_published_sizes_have_all_scales(backbone: str) -> None:
    """ComfyUI's models at full size, without weights."""
    spec = CATALOG[backbone]
    assert spec.transformer is not None
    expected = [site.name for site in sites_of_config(*spec.transformer)]
    model = at_full_size(backbone)
    assert [site.name for site in list_sites(type(model).__name__, list_modules(model))] == expected


def test_comfyui_loads_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it loads any folder of custom_nodes; the node then offers the files in models/calibri."""
    comfy()
    import folder_paths
    import nodes

    assert asyncio.run(nodes.load_custom_node(str(ROOT / "integrations" / "comfyui")))
    node = nodes.NODE_CLASS_MAPPINGS["CalibriApplyCalibration"]
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    (tmp_path / "calibri").mkdir()
    made = calibration("flux", "block")
    made.save(tmp_path / "calibri" / "found.json")
    choices = node.INPUT_TYPES()["required"]["calibration"][0]
    assert choices[1:] == ["found.json"]
    [model] = node().apply(opened("flux")[1], "found.json")
    (x, prediction), *_ = sampled("flux", model)
    assert_alike(prediction, predicted("flux", x, SIGMAS[0], vectors("flux", made)[0]))
    before = node.IS_CHANGED(calibration="found.json", text="", model=None)
    calibration("flux", "gate").save(tmp_path / "calibri" / "found.json")
    assert node.IS_CHANGED(calibration="found.json", text="", model=None) != before
    with pytest.raises(ValueError, match=r"other\.json: expected a file in models/calibri"):
        node().apply(opened("flux")[1], "other.json")


@FAMILIES
def test_the_recorded_modules_are_todays(name: str) -> None:
    assert recorded()[name] == record()[name]
    assert list_modules(opened(name)[1].model.diffusion_model) == recorded()[name]["modules"]
