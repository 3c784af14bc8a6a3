"""Requests → pictures: what they depend on, and what they do not."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from calibri.calibration.artifact import Calibration, Member
from calibri.errors import CalibriError, RenderCancelled
from calibri.sampling.renderer import Renderer, RenderRequest
from tests.tiny import PIXELS, TOKENS, tiny_backbone

PROMPTS = ("a red cube", "two blue balls", "a green cone left of a box")


def pixels(rendered):
    return np.asarray(rendered.image).astype(int)


def close(a, b, levels=1, share=0.01):
    """Equal but for rounding: a few pixels may differ by one level of 255."""
    difference = np.abs(a - b)
    return difference.max() <= levels and (difference > 0).mean() <= share


def stock(backbone, prompt, seed, steps=2, **settings):
    """The same picture by diffusers alone."""
    return np.asarray(
        backbone.pipeline(
            prompt,
            num_inference_steps=steps,
            height=PIXELS,
            width=PIXELS,
            max_sequence_length=TOKENS,
            generator=[torch.Generator().manual_seed(seed)],
            **settings,
        ).images[0]
    ).astype(int)


@pytest.fixture
def mixed(backbone):
    """Base, one member, guidance and an ensemble, on several prompts and seeds, with different steps."""
    layer, gate = backbone.layout("layer"), backbone.layout("gate")
    rng = np.random.default_rng(0)

    def member(layout, **settings):
        return Member(scales=rng.normal(1, 0.3, len(layout.names)).tolist(), **settings)

    ensemble = Calibration(
        granularity="gate",
        names=gate.names,
        members=(
            member(gate, weight=1.8),
            member(gate, weight=-0.8, condition="negative"),
            member(gate, weight=0.1),
        ),
    )
    return [
        RenderRequest(PROMPTS[0], 0, 2),
        RenderRequest(PROMPTS[0], 0, 2, members=(member(layer),), layout=layer),
        RenderRequest(PROMPTS[1], 5, 3),
        RenderRequest(PROMPTS[1], 1, 2, guidance=3.0),
        RenderRequest.of(PROMPTS[2], 2, 2, calibration=ensemble),
        RenderRequest(PROMPTS[2], 2, 2),
        RenderRequest(PROMPTS[2], 7, 2, members=(member(gate, weight=0.9),), layout=gate),
        RenderRequest(PROMPTS[0], 3, 2, guidance=2.0, negative_prompt="a yellow box"),
    ]


def test_the_base_is_what_diffusers_paints(backbone):
    for prompt, seed in zip(PROMPTS, (0, 3, 9), strict=True):
        (mine,) = Renderer(backbone).render([RenderRequest(prompt, seed, 2)])
        assert np.array_equal(pixels(mine), stock(backbone, prompt, seed))


def test_all_ones_paint_the_base_bit_for_bit(backbone):
    layout = backbone.layout("gate")
    ones = (Member(scales=(1.0,) * len(layout.names)),)
    base = [RenderRequest(p, s, 2) for p in PROMPTS for s in (0, 1)]
    same = [RenderRequest(p, s, 2, members=ones, layout=layout) for p in PROMPTS for s in (0, 1)]
    renderer = Renderer(backbone, batch_size=6)
    for a, b in zip(renderer.render(base), renderer.render(same), strict=True):
        assert np.array_equal(pixels(a), pixels(b))


def test_guidance_is_the_pipelines_own(backbone):
    (mine,) = Renderer(backbone).render([RenderRequest(PROMPTS[0], 4, 3, guidance=4.0)])
    theirs = stock(backbone, PROMPTS[0], 4, steps=3, negative_prompt="", true_cfg_scale=4.0)
    assert close(pixels(mine), theirs)
    assert not close(pixels(mine), stock(backbone, PROMPTS[0], 4, steps=3))


def test_two_members_with_weights_g_and_one_minus_g_are_guidance(backbone):
    layout = backbone.layout("block")
    ones = (1.0,) * len(layout.names)
    members = (
        Member(scales=ones, weight=4.0),
        Member(scales=ones, weight=-3.0, condition="negative"),
    )
    request = RenderRequest(PROMPTS[0], 4, 3, members=members, layout=layout, negative_prompt="mud")
    (mine,) = Renderer(backbone).render([request])
    theirs = stock(backbone, PROMPTS[0], 4, steps=3, negative_prompt="mud", true_cfg_scale=4.0)
    assert close(pixels(mine), theirs)


def test_guidance_on_a_calibration_scales_both_members(backbone):
    layout = backbone.layout("layer")
    scales = tuple(np.random.default_rng(3).normal(1, 0.3, len(layout.names)).tolist())
    one = RenderRequest(PROMPTS[0], 4, 2, members=(Member(scales=scales),), layout=layout, guidance=3.0)
    two = RenderRequest(
        PROMPTS[0],
        4,
        2,
        members=(
            Member(scales=scales, weight=3.0),
            Member(scales=scales, weight=-2.0, condition="negative"),
        ),
        layout=layout,
    )
    a, b = Renderer(backbone).render([one, two])
    assert np.array_equal(pixels(a), pixels(b))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_picture_does_not_depend_on_the_batch_size(backbone, mixed, batch_size):
    together = Renderer(backbone, batch_size=8).render(mixed)
    apart = Renderer(backbone, batch_size=batch_size).render(mixed)
    for a, b in zip(together, apart, strict=True):
        assert close(pixels(a), pixels(b))


def test_a_picture_does_not_depend_on_the_order(backbone, mixed):
    forward = Renderer(backbone, batch_size=3).render(mixed)
    order = np.random.default_rng(1).permutation(len(mixed))
    shuffled = Renderer(backbone, batch_size=3).render([mixed[i] for i in order])
    for place, picture in zip(order, shuffled, strict=True):
        assert picture.request is mixed[place]
        assert close(pixels(forward[place]), pixels(picture))


def test_the_same_call_gives_the_same_bits(backbone, mixed):
    first = Renderer(backbone, batch_size=3).render(mixed)
    warm = Renderer(backbone, batch_size=3)
    warm.render(mixed[::-1])  # other things happened before
    for a, b in zip(first, warm.render(mixed), strict=True):
        assert np.array_equal(pixels(a), pixels(b))


def test_requests_differ_where_they_should(backbone, mixed):
    pictures = [pixels(r) for r in Renderer(backbone).render(mixed)]
    for i, a in enumerate(pictures):
        for b in pictures[i + 1 :]:
            assert np.abs(a - b).max() > 3


def test_rendering_leaves_no_trace(backbone, mixed):
    model = backbone.transformer
    before = stock(backbone, PROMPTS[0], 0), list(model.state_dict())
    Renderer(backbone).render(mixed)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert np.array_equal(stock(backbone, PROMPTS[0], 0), before[0])
    assert list(model.state_dict()) == before[1]


def test_nfe_counts_members_that_must_be_evaluated(backbone, mixed):
    assert [r.nfe for r in Renderer(backbone).render(mixed)] == [2, 2, 3, 4, 6, 2, 2, 4]


def test_members_of_weight_zero_cost_nothing(backbone):
    layout = backbone.layout("block")
    wild = Member(scales=(9.0,) * len(layout.names), weight=0.0)
    one = Member(scales=(1.1,) * len(layout.names))
    a, b = Renderer(backbone).render(
        [
            RenderRequest(PROMPTS[0], 0, 2, members=(one, wild), layout=layout),
            RenderRequest(PROMPTS[0], 0, 2, members=(one,), layout=layout),
        ]
    )
    assert a.nfe == b.nfe == 2
    assert np.array_equal(pixels(a), pixels(b))


def test_progress_counts_every_step_of_every_batch(backbone):
    steps = []
    requests = [RenderRequest(PROMPTS[0], i, 2) for i in range(3)] + [RenderRequest(PROMPTS[0], 0, 5)]
    Renderer(backbone, batch_size=2).render(requests, on_step=lambda *a: steps.append(a))
    assert steps == [(i, 9) for i in range(1, 10)]


def test_cancel_stops_between_two_steps(backbone):
    seen = []
    with pytest.raises(RenderCancelled):
        Renderer(backbone).render(
            [RenderRequest(PROMPTS[0], 0, 6)],
            on_step=lambda done, total: seen.append(done),
            cancel=lambda: len(seen) == 3,
        )
    assert seen == [1, 2, 3]
    assert all(not m._forward_hooks for m in backbone.transformer.modules())


def test_pictures_have_the_size_that_was_asked(backbone):
    requests = [RenderRequest(PROMPTS[0], 0, 1), RenderRequest(PROMPTS[0], 0, 1, height=48, width=64)]
    assert [r.image.size for r in Renderer(backbone).render(requests)] == [(32, 32), (64, 48)]


def test_nothing_asked_is_nothing_rendered(backbone):
    assert Renderer(backbone).render([]) == []


def test_embedded_guidance_reaches_the_model_row_by_row():
    backbone = tiny_backbone(guidance_embeds=True)
    requests = [RenderRequest(PROMPTS[0], 0, 2, embedded_guidance=g) for g in (None, 1.0, 6.0)]
    default, weak, strong = (pixels(r) for r in Renderer(backbone).render(requests))
    for picture, scale in ((default, 3.5), (weak, 1.0), (strong, 6.0)):
        assert close(picture, stock(backbone, PROMPTS[0], 0, guidance_scale=scale))
    assert not close(weak, strong)


def test_mixed_precision_paints_nearly_the_same_from_the_same_noise(backbone, mixed):
    exact = [pixels(r) for r in Renderer(backbone).render(mixed)]
    fast = tiny_backbone(mixed=True)
    rounded = [pixels(r) for r in Renderer(fast).render(mixed)]
    for a, b in zip(exact, rounded, strict=True):
        assert not np.array_equal(a, b)
        assert np.abs(a - b).mean() < 4
    assert fast.fingerprint != backbone.fingerprint


def test_a_calibration_of_the_same_names_in_another_order_is_understood(backbone):
    layout = backbone.layout("layer")
    scales = np.random.default_rng(0).normal(1, 0.3, len(layout.names)).tolist()
    straight = Calibration(granularity="layer", names=layout.names, members=(Member(scales=scales),))
    turned = Calibration(
        granularity="layer", names=layout.names[::-1], members=(Member(scales=scales[::-1]),)
    )
    a, b = Renderer(backbone).render(
        [RenderRequest.of(PROMPTS[0], 0, 2, calibration=c) for c in (straight, turned)]
    )
    assert np.array_equal(pixels(a), pixels(b))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"steps": 0}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"seed": -1}, "seed"),
        ({"prompt": None}, "prompt"),
        ({"height": 33}, "height: expected a multiple of 16"),
        ({"width": 0.5}, "width"),
        ({"guidance": float("nan")}, "guidance"),
        ({"members": ()}, "at least one"),
        ({"members": (Member(scales=(1.0,)),)}, "one for each site"),
        ({"members": (Member(scales=(1.0,) * 11, weight=0.0),)}, "weight 0"),
        ({"members": (Member(scales=(1.0,) * 11),) * 2, "guidance": 2.0}, "leave guidance out"),
        ({"members": (Member(scales=(1.0,) * 5),), "granularity": "layer"}, "expected 7 scales"),
        (
            {"members": (Member(scales=(1.0,)),), "granularity": "block", "names": ("double.9",)},
            "double.9",
        ),
    ],
)
def test_requests_that_cannot_be_rendered_say_why(backbone, change, words):
    values = {"prompt": PROMPTS[0], "seed": 0, "steps": 2} | change
    with pytest.raises(CalibriError, match=words):
        Renderer(backbone).render([RenderRequest(**values)])


def test_a_picture_that_is_not_finite_is_an_error_with_prompt_and_seed(backbone):
    layout = backbone.layout("block")
    wild = (Member(scales=(1e38,) * len(layout.names)),)
    with pytest.raises(CalibriError, match=r"'a red cube' with seed 6 is not finite"):
        Renderer(backbone).render([RenderRequest(PROMPTS[0], 6, 2, members=wild, layout=layout)])


def test_a_step_cache_is_refused():
    from diffusers import FirstBlockCacheConfig

    backbone = tiny_backbone()
    backbone.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.2))
    with pytest.raises(CalibriError, match="disable_cache"):
        Renderer(backbone).render([RenderRequest(PROMPTS[0], 0, 2)])


def test_each_batch_has_a_turn_of_its_own_with_a_free_transformer_between(backbone):
    free, turns = [], []

    @contextmanager
    def turn():
        free.append(all(not m._forward_hooks for m in backbone.transformer.modules()))
        turns.append(renderer.batch_size)
        yield
        free.append(all(not m._forward_hooks for m in backbone.transformer.modules()))

    renderer, other = Renderer(backbone, batch_size=2), Renderer(backbone)
    requests = [RenderRequest(PROMPTS[0], i, 2) for i in range(5)]
    whole = renderer.render(requests)

    @contextmanager
    def shared_turn():
        with turn():
            yield
        other.render(requests[:1])  # somebody else renders between two batches

    for made in (renderer.render(requests, turn=turn), renderer.render(requests, turn=shared_turn)):
        assert all(np.array_equal(pixels(a), pixels(b)) for a, b in zip(whole, made, strict=True))
    assert turns == [2] * 6 and all(free)


def test_the_renderers_own_allocator_runs_out_and_the_batch_is_halved(backbone):
    def ask_too_much(_module, _args, kwargs):
        if kwargs["hidden_states"].shape[0] > 1:
            torch.empty(2**50)  # more than any machine has: the error of torch's own allocator

    renderer = Renderer(backbone, batch_size=4)
    hook = backbone.transformer.register_forward_pre_hook(ask_too_much, with_kwargs=True)
    try:
        made = renderer.render([RenderRequest(PROMPTS[0], i, 2) for i in range(3)])
    finally:
        hook.remove()
    assert [r.request.seed for r in made] == [0, 1, 2] and renderer.batch_size == 1


def test_progress_never_runs_backwards_where_memory_ends_after_some_steps(backbone):
    told, calls = [], []

    def run_out(_module, _args, kwargs):
        calls.append(kwargs["hidden_states"].shape[0])
        if calls == [3, 3, 3]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = backbone.transformer.register_forward_pre_hook(run_out, with_kwargs=True)
    try:
        requests = [RenderRequest(PROMPTS[0], i, 4) for i in range(3)]
        Renderer(backbone, batch_size=3).render(requests, on_step=lambda *now: told.append(now))
    finally:
        hook.remove()
    assert [done for done, _ in told] == list(range(1, 13))
    assert [total for _, total in told] == [4] * 2 + [12] * 10


def test_out_of_memory_halves_the_batch(backbone, monkeypatch):
    renderer = Renderer(backbone, batch_size=4)
    sizes = []
    inner = renderer._render_batch

    def short_of_memory(batch, *rest):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(batch, *rest)

    monkeypatch.setattr(renderer, "_render_batch", short_of_memory)
    requests = [RenderRequest(PROMPTS[0], i, 2) for i in range(3)]
    assert [r.request.seed for r in renderer.render(requests)] == [0, 1, 2]
    assert sizes == [3, 1, 1, 1]
    assert renderer.batch_size == 1


def test_one_picture_that_does_not_fit_is_an_error_in_words(backbone, monkeypatch):
    renderer = Renderer(backbone, batch_size=1)

    def short_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(renderer, "_render_batch", short_of_memory)
    with pytest.raises(CalibriError, match="smaller size"):
        renderer.render([RenderRequest(PROMPTS[0], 0, 2)])
