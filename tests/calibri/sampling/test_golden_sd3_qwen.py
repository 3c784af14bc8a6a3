"""Outputs of the paper's own code on small random SD3, SD3.5 and Qwen-Image transformers.

`cond` and `uncond` are members 0 and 1 on the same input, each times its weight; `both` is their sum.
"""

import numpy as np
import pytest
import torch

from calibri.backbones.layouts import Layout
from calibri.backbones.sites import sites_of
from calibri.calibration.fold import fold
from calibri.calibration.official import from_official, read_official
from calibri.errors import ArtifactError
from calibri.sampling.ensemble import Rows, member_rows
from calibri.sampling.hooks import ScaleHooks
from tests import golden_cases as golden

FAMILIES = ("sd3", "sd35m", "qwen")


@pytest.fixture(scope="module", params=FAMILIES)
def case(request):
    family = request.param
    model = golden.transformer(family)
    inputs = golden.inputs(family)
    if "img_shapes" in inputs:
        inputs["img_shapes"] = [[tuple(s) for s in each] for each in inputs["img_shapes"]]
    found = read_official(golden.checkpoint(family, "cfg_k2"), sites_of(model))
    return family, model, inputs, found, golden.expected(family, "cfg_k2")


def run(model, inputs):
    with torch.no_grad():
        return model(**inputs, return_dict=False)[0]


def site_scales(model, found, member):
    return Layout.from_sites(sites_of(model), "gate").expand(found.members[member].scales)


def test_the_base_is_the_same(case):
    _, model, inputs, _, expected = case
    assert golden.same(run(model, inputs), expected["base"])


def test_each_member_gives_what_the_papers_code_gave(case):
    _, model, inputs, found, expected = case
    with ScaleHooks(model, sites_of(model)) as hooks:
        for member, name in enumerate(("cond", "uncond")):
            hooks.set(site_scales(model, found, member))
            assert golden.same(found.members[member].weight * run(model, inputs), expected[name])


def test_both_members_in_one_forward(case):
    _, model, inputs, found, expected = case
    weights = [m.weight for m in found.members]
    rows = Rows.of([weights] * 3)
    scales = np.stack([site_scales(model, found, k) for _, k in rows.order])
    repeated = [n for n in ("hidden_states", "timestep", "img_shapes") if n in inputs]
    per_row = ("encoder_hidden_states", "pooled_projections")
    conditions = {n: rows.repeat(inputs[n]) for n in per_row if n in inputs}
    with ScaleHooks(model, sites_of(model)) as hooks, member_rows(model, rows, repeated, conditions):
        hooks.set(scales)
        out = run(model, inputs)
    assert golden.same(out, expected.get("both", expected["cond"] + expected["uncond"]))


def test_it_is_read_as_guidance_with_two_members(case):
    family, _, _, found, _ = case
    assert [(m.weight, m.condition) for m in found.members] == [(5.3, "positive"), (-3.1, "negative")]
    assert found.granularity == "gate"
    assert ("MLP" in str(found.found.get("warnings"))) == (family == "qwen")


def test_all_ones_are_bit_identical(case):
    _, model, inputs, _, _ = case
    before = run(model, inputs)
    with ScaleHooks(model, sites_of(model)) as hooks:
        hooks.set(np.ones((3, len(sites_of(model)))))
        assert torch.equal(run(model, inputs), before)


def test_every_site_is_alive(case):
    _, model, inputs, _, expected = case
    sites = sites_of(model)
    with ScaleHooks(model, sites) as hooks:
        for i, site in enumerate(sites):
            values = np.ones(len(sites))
            values[i] = 2.0
            hooks.set(values)
            assert (run(model, inputs) - expected["base"]).abs().max() > 1e-5, site.name


def test_folding_equals_hooks(case):
    family, _, inputs, found, expected = case
    model = golden.transformer(family)
    fold(model, site_scales(model, found, 0))
    assert golden.same(found.members[0].weight * run(model, inputs), expected["cond"])


def test_a_modulation_of_twice_the_batch_gets_the_vector_twice():
    """With zero_cond_t img_mod sees [t, 0] and its batch is 2B."""
    from diffusers import QwenImageTransformer2DModel

    from tests.tiny import fill

    model = QwenImageTransformer2DModel(**golden.transformer("qwen").config | {"zero_cond_t": True})
    fill(model, 0)
    inputs, sites = golden.inputs("qwen"), sites_of(model)
    inputs["img_shapes"] = [[(1, 4, 4)]] * 3
    rows = np.random.default_rng(0).normal(1, 0.3, (3, len(sites)))
    with ScaleHooks(model, sites) as hooks:
        hooks.set(rows)
        together = run(model, inputs)
        for i in range(3):
            hooks.set(rows[i])
            alone = {n: v[i : i + 1] if v is not None else v for n, v in inputs.items()}
            torch.testing.assert_close(run(model, alone), together[i : i + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c: c["solution"].append(1.0), "expected 26 numbers.*27"),
        (lambda c: c["solution"].__setitem__(0, None), "solution"),
        (lambda c: c["shapes"].update(n_blocks=4), "4 blocks, this one has 3"),
        (lambda c: c["shapes"].update(n_models=3), "two members"),
        (lambda c: c["shapes"].update(n_models=0), "1 to 8"),
        (lambda c: c.pop("shapes"), "shapes"),
    ],
)
def test_checkpoints_that_do_not_fit_say_why(change, words):
    import json

    content = json.loads(golden.checkpoint("qwen", "cfg_k2").read_text())
    change(content)
    with pytest.raises(ArtifactError, match=words):
        from_official(content, sites_of(golden.transformer("qwen")))


def test_rounding_is_that_of_the_models_dtype():
    sites = sites_of(golden.transformer("flux"))
    source = golden.checkpoint("flux", "gate_k1")
    exact = read_official(source, sites).members[0].scales
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        rounded = read_official(source, sites, round_to=name).members[0].scales
        assert list(rounded) == torch.tensor(exact).to(dtype).double().tolist()


def test_a_skipped_member_is_mentioned():
    import json

    content = json.loads(golden.checkpoint("sd3", "cfg_k2").read_text())
    content["solution"][-1] = 0.0
    found = from_official(content, sites_of(golden.transformer("sd3")))
    assert "weight 0" in found.found["warnings"][0]
