"""Guidance presets paint what diffusers' own guidance paints, and nothing at strength 0."""

import numpy as np
import pytest
import torch

import calibri
from calibri.calibration.artifact import Calibration
from calibri.calibration.fold import fold_calibration
from calibri.calibration.guidance import guide, guide_by_weaker, skip_layers
from calibri.errors import ArtifactError, RenderError
from calibri.sampling.ensemble import prediction_of
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.tiny import tiny_backbone
from tests.tiny_families import backbone_of, random_calibration, tiny_qwen, tiny_sd3
from tests.tiny_pipelines import opened

PROMPT, SEED, STEPS = "a red cube", 3, 8
PHASE = {"skip_layer_guidance_start": 0.01, "skip_layer_guidance_stop": 0.7}


@pytest.fixture(scope="module")
def sd3():
    return backbone_of(tiny_sd3())


def qwen():
    return backbone_of(tiny_qwen())


def base(backbone, granularity="layer"):
    return Calibration.base(backbone.layout(granularity))


def draw(pipeline, **settings):
    """The pipeline's own picture, (3, H, W) float32."""
    generator = [torch.Generator("cpu").manual_seed(SEED)]
    given = {"prompt": PROMPT, "num_inference_steps": STEPS, "height": 16, "width": 16, "output_type": "pt"}
    return pipeline(**given, max_sequence_length=16, generator=generator, **settings).images[0]


def render(backbone, *calibrations, steps=STEPS, **settings):
    requests = [RenderRequest.of(PROMPT, SEED, steps, calibration=c, **settings) for c in calibrations]
    return Renderer(backbone, batch_size=8).render(requests)


@pytest.mark.parametrize("blocks", [[1], [0, 2]], ids=["middle", "first and last"])
def test_skip_layer_guidance_is_that_of_diffusers(sd3, blocks):
    own = draw(sd3.pipeline, guidance_scale=4.0, skip_guidance_layers=blocks, **PHASE)
    made = guide(sd3, f"cfg:4+skip-layer:{','.join(map(str, blocks))}:2.8@0.01-0.7")
    with calibri.load_calibration(sd3.pipeline, made):
        mine = draw(sd3.pipeline, guidance_scale=1.0)
    assert (mine - own).abs().max() < 1e-5
    [rendered] = render(sd3, made)
    pixels = np.asarray(rendered.image, dtype=np.float64) / 255
    assert abs(pixels - own.permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-5
    assert rendered.nfe == 2 * STEPS + 5  # steps 1 to 5 of 8 lie from 0.01 to 0.7
    without = draw(sd3.pipeline, guidance_scale=4.0)
    assert (own - without).abs().max() > 0.01


def test_the_usual_phase_is_that_of_diffusers(sd3):
    own = draw(sd3.pipeline, guidance_scale=4.0, skip_guidance_layers=[1])
    with calibri.load_calibration(sd3.pipeline, guide(sd3, "cfg:4+skip-layer:1")):
        mine = draw(sd3.pipeline, guidance_scale=1.0)
    assert (mine - own).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["flux", "qwen", "sd3"])
@pytest.mark.parametrize("text", ["skip-layer:{}:0@0-1", "skip-attention:{}:0", "auto:0.8:1", "cfg:1"])
def test_strength_0_is_bit_identical_to_the_plain_ensemble(name, text):
    backbone = {"flux": tiny_backbone, "qwen": qwen, "sd3": lambda: backbone_of(tiny_sd3())}[name]()
    block = "double.1" if name == "flux" else "1"
    plain = random_calibration(backbone.pipeline, (1.0, "positive"))
    guided = guide(backbone, text.format(block), plain)
    one, other = render(backbone, plain, steps=3), render(backbone, guided, steps=3)
    assert one[0].image.tobytes() == other[0].image.tobytes()
    assert one[0].nfe == other[0].nfe == 3


def test_arms_with_and_without_phases_share_a_batch(sd3):
    plain = random_calibration(sd3.pipeline, (1.0, "positive"))
    arms = [
        None,
        guide(sd3, "cfg:4", plain),
        guide(sd3, "skip-layer:1:2.8@0-0.5", plain),
        plain,
        guide(sd3, "cfg:3@0.5-1+skip-layer:0:2@0.25-0.75", plain),
        guide(sd3, "auto:0.8:2@0.5-1", plain),
    ]
    together = render(sd3, *arms)
    assert [made.nfe for made in together] == [8, 16, 12, 8, 16, 12]
    for arm, made in zip(arms, together, strict=True):
        [alone] = render(sd3, arm)
        far = np.asarray(made.image, dtype=int) - np.asarray(alone.image, dtype=int)
        assert abs(far).max() <= 1  # rounding of other numbers of rows


def test_rescaling_families_rescale_only_where_something_guides():
    """Qwen-Image brings a guided prediction to the norm of the positive one, and leaves others alone."""
    backbone = qwen()
    half = guide(backbone, "cfg:4@0.5-1")
    [late, none] = render(backbone, half, None, steps=4)
    predictions = []
    handle = backbone.transformer.register_forward_hook(
        lambda module, given, output: predictions.append(prediction_of(output)[0].shape[0])
    )
    try:
        render(backbone, half, steps=4)
    finally:
        handle.remove()
    assert predictions == [1, 1, 2, 2]
    assert (late.nfe, none.nfe) == (6, 4) and late.image.tobytes() != none.image.tobytes()


def test_auto_guidance_is_the_sum_of_its_formula():
    backbone = tiny_backbone()
    good = random_calibration(backbone.pipeline, (1.0, "positive"))
    weak = base(backbone)
    made = guide_by_weaker(good, weak, 2.5)
    call = {"prompt": "red", "num_inference_steps": 1, "output_type": "latent"}

    def latents(calibration):
        with calibri.load_calibration(backbone.pipeline, calibration):
            generator = [torch.Generator("cpu").manual_seed(0)]
            return backbone.pipeline(**call, height=32, width=32, generator=generator).images

    noise_free = latents(weak), latents(good)
    assert torch.allclose(
        latents(made), noise_free[1] + 1.5 * (noise_free[1] - noise_free[0]), atol=1e-5, rtol=0
    )


def test_a_bare_transformer_takes_balanced_members_but_no_phases(sd3):
    always, part = skip_layers(base(sd3), "1", 2.0, 0.0, 1.0), skip_layers(base(sd3), "1")
    with pytest.raises(RenderError, match="a bare transformer does not tell its step"):
        calibri.load_calibration(sd3.transformer, part)
    with calibri.load_calibration(sd3.transformer, always):
        pass


def test_negatives_are_refused_where_the_pipeline_guides_with_another_transformer():
    backbone = opened("ideogram4")
    with pytest.raises(ArtifactError, match="guides with a transformer of its own"):
        guide(backbone, "cfg:4")
    assert guide(backbone, "skip-layer:1:2").is_ensemble


def test_folding_refuses_guidance_and_says_why(sd3):
    with pytest.raises(ArtifactError, match=r"an ensemble of 2 .* guidance needs a forward for each"):
        fold_calibration(sd3, guide(sd3, "skip-layer:1"))
    part = base(sd3)
    member = part.members[0].model_copy(update={"stop": 0.5})
    with pytest.raises(ArtifactError, match="counts in a part of the steps cannot be folded"):
        fold_calibration(sd3, part.model_copy(update={"members": (member,)}))


def test_steps_without_a_member_are_named(sd3):
    part = base(sd3)
    member = part.members[0].model_copy(update={"stop": 0.5})
    with pytest.raises(RenderError, match="at step 5 of 8 no member counts"):
        render(sd3, part.model_copy(update={"members": (member,)}))


def test_a_guider_of_modular_pipelines_counts_members_where_they_count(sd3):
    guider = calibri.CalibriGuidance(guide(sd3, "cfg:4+skip-layer:1:2.8@0.01-0.7"))
    ones = torch.ones(1, 2)
    for step, weights in [(0, [4.0, -3.0]), (1, [6.8, -2.8, -3.0]), (6, [4.0, -3.0])]:
        guider.set_state(step=step, num_inference_steps=8, timestep=torch.tensor(1.0))
        assert len(guider._batches()) == len(weights)
        scaled = [ones * (i + 1) for i in range(len(weights))]
        expected = sum(w * (i + 1) for i, w in enumerate(weights))
        torch.testing.assert_close(guider.forward(*scaled).pred, ones * expected)
