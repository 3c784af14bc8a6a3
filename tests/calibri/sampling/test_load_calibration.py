"""A calibration on pipelines and transformers that are called as their users call them."""

from __future__ import annotations

import copy

import pytest
import torch

import calibri
from calibri import Member, load_calibration
from calibri.errors import ArtifactError, BackboneError, CalibriError, LayoutError, RenderError
from calibri.sampling import renderer as renderer_module
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.tiny import PIXELS, TOKENS, flux_transformer, tiny_flux
from tests.tiny_families import (
    assert_near,
    backbone_of,
    random_calibration,
    sd3_transformer,
    tiny_qwen,
    tiny_sd3,
)

MAKE = {"flux": tiny_flux, "sd3": tiny_sd3, "qwen": tiny_qwen}
# How each family is called without and with its own guidance of strength 3.
CALL = {
    "flux": {"height": PIXELS, "width": PIXELS, "max_sequence_length": TOKENS},
    "sd3": {"height": 16, "width": 16, "guidance_scale": 1.0, "max_sequence_length": TOKENS},
    "qwen": {"height": 16, "width": 16, "true_cfg_scale": 1.0},
}
GUIDED = {
    "flux": {"true_cfg_scale": 3.0, "negative_prompt": "dull"},
    "sd3": {"guidance_scale": 3.0, "negative_prompt": "dull"},
    "qwen": {"true_cfg_scale": 3.0, "negative_prompt": "dull"},
}


@pytest.fixture(scope="module")
def pipelines():
    return {name: make() for name, make in MAKE.items()}


@pytest.fixture(params=MAKE)
def family(request):
    return request.param


@pytest.fixture
def pipe(pipelines, family):
    return pipelines[family]


def paint(pipe, family, prompt="a red cube", seeds=(1,), **settings):
    """(B, 3, H, W) float32 in [0, 1], in two steps."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(
        prompt,
        **{"num_inference_steps": 2, "generator": generators, "output_type": "pt"} | CALL[family] | settings,
    ).images


@pytest.fixture
def rendered(monkeypatch):
    """What the Renderer paints, before it is rounded to 255 levels."""

    def paint_with_renderer(pipe, calibration, prompt="a red cube", seed=1, **settings):
        seen = []
        rounded = renderer_module._pictures
        monkeypatch.setattr(
            renderer_module, "_pictures", lambda x, batch: (seen.append(x), rounded(x, batch))[1]
        )
        Renderer(backbone_of(pipe)).render([RenderRequest.of(prompt, seed, 2, calibration, **settings)])
        monkeypatch.setattr(renderer_module, "_pictures", rounded)
        return seen[0]

    return paint_with_renderer


# ---- one member


@pytest.mark.parametrize("granularity", ["block", "layer", "gate"])
def test_two_lines_paint_what_the_renderer_paints(pipe, family, rendered, granularity):
    calibration = random_calibration(pipe, granularity=granularity)
    with load_calibration(pipe, calibration):
        found = paint(pipe, family)
    assert_near(found, rendered(pipe, calibration))
    assert (found - paint(pipe, family)).abs().max() > 1e-3


def test_a_weight_multiplies_the_prediction(pipe, family, rendered):
    calibration = random_calibration(pipe, (1.3, "positive"))
    with load_calibration(pipe, calibration):
        found = paint(pipe, family)
    assert_near(found, rendered(pipe, calibration))


def test_the_pipelines_own_guidance_works_on_the_calibrated_model(pipe, family, rendered):
    """SD3 guides in one call with both prompts, FLUX and Qwen in two calls."""
    calibration = random_calibration(pipe)
    with load_calibration(pipe, calibration):
        found = paint(pipe, family, **GUIDED[family])
    assert_near(found, rendered(pipe, calibration, guidance=3.0, negative_prompt="dull"))


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_a_weight_and_guidance_together(pipelines, rendered, name):
    calibration = random_calibration(pipelines[name], (1.2, "positive"))
    with load_calibration(pipelines[name], calibration):
        found = paint(pipelines[name], name, **GUIDED[name])
    assert_near(found, rendered(pipelines[name], calibration, guidance=3.0, negative_prompt="dull"))


def test_batches_several_pictures_a_prompt_and_callbacks(pipe, family):
    calibration, steps = random_calibration(pipe, (0.9, "positive")), []

    def after_step(pipeline, step, timestep, tensors):
        steps.append(step)
        return {}

    with load_calibration(pipe, calibration):
        together = paint(
            pipe,
            family,
            [
                "a red cube",
                "a red ball",
            ],  # equally long: diffusers 0.42 repeats Qwen's masks in another order
            (1, 2, 3, 4),
            num_images_per_prompt=2,
            callback_on_step_end=after_step,
        )
        alone = [paint(pipe, family, "a red cube", (2,)), paint(pipe, family, "a red ball", (3,))]
    assert steps == [0, 1]
    assert together.shape[0] == 4
    assert_near(together[1:2], alone[0])
    assert_near(together[2:3], alone[1])


def test_embedded_guidance_stays_that_of_the_call(rendered):
    pipe = tiny_flux(guidance_embeds=True)
    calibration = random_calibration(pipe, (1.4, "positive"), (-0.4, "negative"))
    with load_calibration(pipe, calibration):
        found = paint(pipe, "flux", guidance_scale=2.0)
    assert_near(found, rendered(pipe, calibration, embedded_guidance=2.0))


# ---- as it was


def test_all_ones_and_afterwards_are_the_bits_of_the_base(pipe, family):
    base = paint(pipe, family, **GUIDED[family])
    with load_calibration(pipe, random_calibration(pipe, spread=0.0)):
        assert torch.equal(paint(pipe, family, **GUIDED[family]), base)
    with load_calibration(pipe, random_calibration(pipe, (1.2, "positive"), (0.1, "positive"))):
        paint(pipe, family)
    assert torch.equal(paint(pipe, family, **GUIDED[family]), base)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_interruption_restores_everything(pipe, family, error):
    base = paint(pipe, family)
    state = {path: set(vars(module)) for path, module in pipe.transformer.named_modules()}

    def interrupt(*_):
        raise error

    calibration = random_calibration(pipe, (1.2, "positive"), (0.1, "negative"))
    with pytest.raises(error), load_calibration(pipe, calibration):
        paint(pipe, family, callback_on_step_end=interrupt)
    assert {path: set(vars(module)) for path, module in pipe.transformer.named_modules()} == state
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in pipe.transformer.modules())
    assert torch.equal(paint(pipe, family), base)


def test_an_error_inside_a_member_leaves_the_next_call_whole(family, pipe):
    calibration = random_calibration(pipe, (0.6, "positive"), (0.4, "positive"))
    with load_calibration(pipe, calibration):
        expected, calls = paint(pipe, family), []

        def fail_at_the_second(module, args):
            calls.append(module)
            if len(calls) == 2:
                raise ZeroDivisionError

        handle = pipe.transformer.proj_out.register_forward_pre_hook(fail_at_the_second)
        with pytest.raises(ZeroDivisionError):
            paint(pipe, family)
        handle.remove()
        assert torch.equal(paint(pipe, family), expected)


def test_a_context_may_be_entered_again_but_not_twice_at_once(pipelines):
    pipe = pipelines["flux"]
    attached = load_calibration(pipe, random_calibration(pipe))
    with attached:
        first = paint(pipe, "flux")
        with pytest.raises(RenderError, match="scaled already"), attached:
            pass
        with (
            pytest.raises(RenderError, match="scaled already"),
            load_calibration(pipe, random_calibration(pipe)),
        ):
            pass
        with pytest.raises(RenderError, match="scaled already"):
            Renderer(backbone_of(pipe)).render([RenderRequest("a cube", 1, 1)])
        assert torch.equal(paint(pipe, "flux"), first)
    with attached:
        assert torch.equal(paint(pipe, "flux"), first)


# ---- several members


@pytest.mark.parametrize(
    "members",
    [
        [(0.7, "positive"), (0.4, "positive")],
        [(2.5, "positive"), (-1.5, "negative")],
        [(-1.5, "negative"), (1.7, "positive"), (0.8, "positive")],
        [(0.9, "negative")],
        [(1.0, "positive"), (0.0, "negative")],
    ],
)
def test_an_ensemble_runs_its_members_on_a_pipeline(pipe, family, rendered, members):
    calibration = random_calibration(pipe, *members)
    with load_calibration(pipe, calibration, negative_prompt="dull"):
        found = paint(pipe, family)
    assert_near(found, rendered(pipe, calibration, negative_prompt="dull"))


def test_negative_members_in_a_batch_see_the_negative_prompt(pipe, family, rendered):
    calibration = random_calibration(pipe, (2.0, "positive"), (-1.0, "negative"))
    with load_calibration(pipe, calibration):
        found = paint(pipe, family, ["a red cube", "a long prompt of a blue ball"], (1, 2))
    assert_near(found[:1], rendered(pipe, calibration, "a red cube", 1))
    assert_near(found[1:], rendered(pipe, calibration, "a long prompt of a blue ball", 2))


def test_negative_members_beside_the_pipelines_own_guidance_are_refused(pipe, family):
    calibration = random_calibration(pipe, (2.0, "positive"), (-1.0, "negative"))
    with load_calibration(pipe, calibration):
        with pytest.raises(RenderError, match=r"guidance_scale=1|true_cfg_scale=1") as raised:
            paint(pipe, family, **GUIDED[family])
        assert "Renderer" in str(raised.value)
        paint(pipe, family)  # which goes on working


def test_positive_members_may_be_guided_by_the_pipeline(pipelines, rendered):
    """Guidance g of an ensemble is one with weights g·w on the prompt and (1 − g)·w on the negative."""
    pipe = pipelines["sd3"]
    calibration = random_calibration(pipe, (0.7, "positive"), (0.4, "positive"))
    with load_calibration(pipe, calibration):
        found = paint(pipe, "sd3", **GUIDED["sd3"])
    members = [
        Member(scales=each.scales, weight=strength * each.weight, condition=condition)
        for strength, condition in ((3.0, "positive"), (-2.0, "negative"))
        for each in calibration.members
    ]
    explicit = calibration.model_copy(update={"members": tuple(members)})
    assert_near(found, rendered(pipe, explicit, negative_prompt="dull"))


def test_a_step_cache_is_refused_for_several_members(pipelines):
    from diffusers import FirstBlockCacheConfig

    pipe = pipelines["flux"]
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    try:
        with (
            pytest.raises(RenderError, match="disable_cache"),
            load_calibration(pipe, random_calibration(pipe, (0.5, "positive"), (0.5, "positive"))),
        ):
            paint(pipe, "flux")
    finally:
        pipe.transformer.disable_cache()


# ---- what does not fit


def test_a_calibration_of_another_backbone_says_what_was_expected_and_what_came(pipelines):
    foreign = random_calibration(flux_transformer(doubles=1))
    with pytest.raises(LayoutError, match=r"expected .*FluxTransformer2DModel.*7 scales.*got .*5") as raised:
        load_calibration(pipelines["flux"], foreign)
    assert "double.1.attn" in str(raised.value)
    with pytest.raises(LayoutError, match="SD3Transformer2DModel"):
        load_calibration(pipelines["sd3"], foreign)


def test_unknown_models_name_the_known_classes():
    with pytest.raises(BackboneError, match=r"Linear.*FluxTransformer2DModel, .*Qwen.*, SD3"):
        load_calibration(torch.nn.Linear(2, 2), random_calibration(flux_transformer()))
    with pytest.raises(BackboneError, match="got str"):
        load_calibration("FLUX.1-dev", random_calibration(flux_transformer()))


def test_files_and_calibrations_are_taken_and_nothing_else(pipelines, tmp_path):
    pipe = pipelines["flux"]
    calibration = random_calibration(pipe)
    calibration.save(tmp_path / "it.json")
    for source in (calibration, tmp_path / "it.json", str(tmp_path / "it.json")):
        with load_calibration(pipe, source) as given:
            assert given.hash == calibration.hash
    with pytest.raises(ArtifactError, match=r"absent\.json"):
        load_calibration(pipe, tmp_path / "absent.json")
    with pytest.raises(ArtifactError, match="got dict"):
        load_calibration(pipe, {"members": []})


def test_a_backbone_stands_for_its_pipeline(pipelines):
    pipe = pipelines["flux"]
    calibration = random_calibration(pipe, (1.5, "positive"), (-0.5, "negative"))
    with load_calibration(pipe, calibration):
        expected = paint(pipe, "flux")
    with load_calibration(backbone_of(pipe), calibration):
        assert torch.equal(paint(pipe, "flux"), expected)


def test_scales_in_another_order_are_found_by_name(pipelines):
    pipe = pipelines["flux"]
    calibration = random_calibration(pipe)
    turned = calibration.model_copy(
        update={
            "names": calibration.names[::-1],
            "members": (Member(scales=calibration.members[0].scales[::-1]),),
        }
    )
    with load_calibration(pipe, calibration):
        expected = paint(pipe, "flux")
    with load_calibration(pipe, turned):
        assert torch.equal(paint(pipe, "flux"), expected)


def test_only_takes_members_and_says_which_there_are():
    calibration = random_calibration(flux_transformer(), (1.6, "positive"), (-0.4, "negative"))
    assert [calibration.only(k).members[0].weight for k in (0, 1)] == [1.6, -0.4]
    assert calibration.only(1).names == calibration.names
    for wrong in (2, -1, True, "0"):
        with pytest.raises(ArtifactError, match="0 to 1"):
            calibration.only(wrong)


# ---- folding


def test_folding_paints_what_the_context_paints(family):
    pipe = MAKE[family]()
    calibration = random_calibration(pipe)
    with load_calibration(pipe, calibration):
        expected = paint(pipe, family, **GUIDED[family])
        with pytest.raises(RenderError, match="before you fold"):
            calibri.fold(pipe, calibration)
    bare_copy = copy.deepcopy(pipe.transformer)
    calibri.fold(pipe, calibration)
    assert_near(paint(pipe, family, **GUIDED[family]), expected)
    calibri.fold(bare_copy, calibration)
    for name, weight in pipe.transformer.state_dict().items():
        assert torch.equal(bare_copy.state_dict()[name], weight), name


def test_what_cannot_be_folded_is_refused(tmp_path):
    model = sd3_transformer()
    for members, words in (
        ([(0.5, "positive"), (0.5, "positive")], "ensemble of 2"),
        ([(1.2, "positive")], r"weight 1\.2"),
        ([(1.0, "negative")], "negative"),
    ):
        with pytest.raises(CalibriError, match=words):
            calibri.fold(model, random_calibration(model, *members))
    with pytest.raises(LayoutError, match="expected"):
        calibri.fold(model, random_calibration(flux_transformer()))
