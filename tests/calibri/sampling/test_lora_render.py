"""Pictures with LoRAs: which are on for a request, in which batch, and how strong in each block."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import calibri
from calibri.calibration.artifact import Calibration, Member
from calibri.errors import BackboneError, LayoutError, RenderError
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.calibri.sampling.test_renderer import close, pixels, stock
from tests.tiny import tiny_flux
from tests.tiny_lora import fresh, write_lora

RED = "a red cube"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loras")
    model = tiny_flux().transformer
    ink = write_lora(
        folder / "ink_lora.safetensors", model, lambda p: p.endswith(("to_q", "proj_out")), seed=1
    )
    oil = write_lora(folder / "oil.safetensors", model, lambda p: "blocks" in p and "norm" in p, seed=2)
    return str(ink), str(oil)


@pytest.fixture(scope="module")
def backbone(files):
    return fresh("flux", f"{files[0]}:0.7", files[1], blocks=True)


@pytest.fixture(scope="module")
def base():
    return fresh("flux")


def paint(backbone, *requests, **settings):
    return [pixels(each) for each in Renderer(backbone, **settings).render(requests)]


def request(seed=1, **settings):
    return RenderRequest(RED, seed, 2, **settings)


def test_without_its_loras_a_picture_is_bit_for_bit_the_bases(backbone, base):
    [without] = paint(backbone, request(loras=()))
    [expected] = paint(base, request())
    assert np.array_equal(without, expected)
    [zero] = paint(backbone, request(loras=(("ink-lora", 0.0), ("oil", 0.0))))
    assert np.array_equal(zero, expected)
    [on] = paint(backbone, request())
    assert np.abs(on - expected).mean() > 2


def test_with_them_it_is_what_diffusers_paints(backbone, files):
    pipeline = tiny_flux()
    pipeline.load_lora_weights(files[0], adapter_name="a")
    pipeline.load_lora_weights(files[1], adapter_name="b")
    for uses, strengths in ((None, [0.7, 1.0]), ((("oil", 0.4), ("ink-lora", -0.3)), [-0.3, 0.4])):
        pipeline.set_adapters(["a", "b"], strengths)
        [found] = paint(backbone, request(seed=3, loras=uses))
        backbone_like = type("Stock", (), {"pipeline": pipeline})
        assert np.array_equal(found, stock(backbone_like, RED, 3))


def test_arms_of_one_call_may_have_other_loras(backbone):
    """Each is what it is alone: no batch mixes them, and afterwards all are on again."""
    uses = [None, (), (("ink-lora", 1.0),), (("oil", 0.5),), None, ()]
    asked = [request(seed, loras=each) for seed, each in enumerate(uses)]
    alone = [paint(backbone, each, batch_size=1)[0] for each in asked]
    for one, batched in zip(alone, paint(backbone, *asked), strict=True):
        assert close(one, batched)
    assert close(paint(backbone, request(4))[0], alone[4])


def test_a_lora_of_a_text_encoder_too_changes_prompts_only_where_it_is_on(base, tmp_path):
    """Embeddings are kept: those with a LoRA are others than those without, and with another strength."""
    pipeline = tiny_flux()
    file = write_lora(tmp_path / "both.safetensors", pipeline.transformer, lambda p: p.endswith("to_q"))
    text = write_lora(
        tmp_path / "text.safetensors",
        pipeline.text_encoder,
        lambda p: "_proj" in p,
        gain=4,
        part="text_encoder",
    )
    save_file({**load_file(file), **load_file(text)}, file)
    backbone = fresh("flux", str(file))
    assert backbone.loras.loaded[0].reads_text
    renderer = Renderer(backbone)
    pipeline.load_lora_weights(str(file), adapter_name="both")
    like = type("Stock", (), {"pipeline": pipeline})
    for strength in (1.0, 0.0, 0.3, 1.0):
        pipeline.set_adapters(["both"], [strength])
        [found] = renderer.render([request(loras=(("both", strength),))])
        assert np.array_equal(pixels(found), stock(like, RED, 1))
    [off] = renderer.render([request(loras=())])
    assert np.array_equal(pixels(off), paint(base, request())[0])


def test_a_lora_that_is_not_loaded_is_refused_by_name(backbone, base):
    with pytest.raises(RenderError, match="LoRA 'wax' is not loaded: expected one of ink-lora, oil"):
        paint(backbone, request(loras=(("wax", 1.0),)))
    with pytest.raises(RenderError, match="expected one of none"):
        paint(base, request(loras=(("oil", 1.0),)))
    with pytest.raises(RenderError, match="LoRA 'oil' is named twice"):
        paint(backbone, request(loras=(("oil", 1.0), ("oil", 1.0))))
    with pytest.raises(RenderError, match="LoRA oil: expected a finite number as its strength, got nan"):
        paint(backbone, request(loras=(("oil", float("nan")),)))


def test_after_an_error_all_loras_are_on_again(backbone):
    [before] = paint(backbone, request())
    layout = backbone.layout("block")
    wild = Member(scales=(1e30,) * len(layout))
    with pytest.raises(RenderError, match="not finite"):
        paint(backbone, request(loras=(), members=(wild,), layout=layout))
    assert np.array_equal(paint(backbone, request())[0], before)


def members_of(layout, *rows):
    return [(Member(scales=tuple(row)),) for row in rows]


def test_candidates_with_other_strengths_in_blocks_share_a_batch(backbone):
    layout = backbone.layout("layer")
    assert [n for n in layout.names if n.startswith("lora.ink-lora.")] == [
        f"lora.ink-lora.{block}"
        for block in ("double.0", "double.1", "single.0", "single.1", "single.2", "rest")
    ]
    rows = np.random.default_rng(0).normal(1, 0.5, (5, len(layout)))
    rest = layout.index("lora.ink-lora.rest")
    rows[:, rest] = 1.0
    asked = [
        request(seed, members=members, layout=layout)
        for seed, members in enumerate(members_of(layout, *rows))
    ]
    calls = []
    handle = backbone.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        together = paint(backbone, *asked, batch_size=8)
        assert len(calls) == 2  # one batch of two steps
    finally:
        handle.remove()
    for each, batched in zip(asked, together, strict=True):
        assert close(paint(backbone, each)[0], batched)
    assert np.abs(together[0] - paint(backbone, request(0))[0]).mean() > 1


def test_strength_zero_in_every_block_is_the_base(backbone, base):
    layout = backbone.layout("block")
    scales = tuple(0.0 if name.startswith("lora.") else 1.0 for name in layout.names)
    [found] = paint(backbone, request(members=(Member(scales=scales),), layout=layout))
    assert np.array_equal(found, paint(base, request())[0])


def test_members_of_an_ensemble_have_strengths_of_their_own(backbone):
    """v = 0.5 · v(LoRA off) + 0.5 · v(LoRA on), in one forward and in two."""
    layout = backbone.layout("block")
    off = tuple(0.0 if name.startswith("lora.") else 1.0 for name in layout.names)
    pair = Calibration(
        granularity="block",
        names=layout.names,
        members=(Member(scales=off, weight=0.5), Member(scales=(1.0,) * len(layout), weight=0.5)),
    )
    [found] = paint(backbone, RenderRequest.of(RED, 1, 2, calibration=pair))
    with calibri.load_calibration(backbone, pair):
        assert close(found, stock(backbone, RED, 1))


def test_a_calibration_without_strengths_leaves_them_at_one(backbone, base):
    plain = base.layout("layer")
    scales = tuple(np.random.default_rng(3).normal(1, 0.2, len(plain)))
    narrow = Calibration(granularity="layer", names=plain.names, members=(Member(scales=scales),))
    [found] = paint(backbone, RenderRequest.of(RED, 1, 2, calibration=narrow))
    with calibri.load_calibration(backbone.pipeline, narrow):
        assert np.array_equal(found, stock(backbone, RED, 1))


def test_a_calibration_with_strengths_names_the_lora_that_it_needs(backbone, base):
    layout = backbone.layout("layer")
    wide = Calibration(
        granularity="layer", names=layout.names, members=(Member(scales=(1.0,) * len(layout)),)
    )
    asked = RenderRequest.of(RED, 1, 2, calibration=wide)
    with pytest.raises(LayoutError, match=r"the strength of the LoRA 'ink-lora' in blocks .*--lora-blocks"):
        paint(base, asked)
    with pytest.raises(LayoutError, match="adapter_name='ink-lora'"):
        calibri.load_calibration(base.pipeline, wide)
    assert wide.without_loras().names == base.layout("layer").names


def test_strengths_in_blocks_work_beside_a_plain_pipeline(backbone, files):
    layout = backbone.layout("block")
    scales = tuple(np.random.default_rng(4).normal(1, 0.4, len(layout)))
    found = Calibration(granularity="block", names=layout.names, members=(Member(scales=scales),))
    [mine] = paint(backbone, RenderRequest.of(RED, 2, 2, calibration=found))
    pipeline = tiny_flux()
    pipeline.load_lora_weights(files[0], adapter_name="ink-lora")
    pipeline.load_lora_weights(files[1], adapter_name="oil")
    pipeline.set_adapters(["ink-lora", "oil"], [0.7, 1.0])
    like = type("Stock", (), {"pipeline": pipeline})
    with calibri.load_calibration(pipeline, found):
        assert close(mine, stock(like, RED, 2))


def test_blocks_without_a_lora_are_refused(base):
    with pytest.raises(BackboneError, match="expected a LoRA"):
        base.use_lora_blocks()


def test_compiled_blocks_follow_strengths_and_arms(files):
    torch._dynamo.reset()
    eager = fresh("flux", files[0], blocks=True)
    layout = eager.layout("block")
    rows = np.random.default_rng(5).normal(1, 0.4, (2, len(layout)))
    asked = [request(members=m, layout=layout) for m in members_of(layout, *rows)]
    asked.append(request(loras=()))
    expected = [paint(eager, each)[0] for each in asked]
    eager.transformer.compile_repeated_blocks(backend="eager")
    try:
        for each, want in zip(asked, expected, strict=True):
            assert close(paint(eager, each)[0], want)
    finally:
        torch._dynamo.reset()
