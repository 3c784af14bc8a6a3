"""Scales at the gates: exact, reversible, per sample."""

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from calibri.backbones.layouts import Layout
from calibri.backbones.sites import sites_of
from calibri.errors import CalibriError, LayoutError, RenderError
from calibri.sampling.hooks import ScaleHooks
from tests.tiny import flux_transformer


@pytest.fixture(scope="module")
def model():
    return flux_transformer()


def run(model, inputs):
    with torch.no_grad():
        return model(**inputs)[0]


def vectors(count, sites, seed=0, spread=0.3):
    return np.random.default_rng(seed).normal(1, spread, (count, len(sites)))


def state_of(model):
    """What hooks could leave behind: hook lists and attributes of all modules, and keys of the weights."""
    return (
        list(model.state_dict()),
        {
            name: (len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m)))
            for name, m in model.named_modules()
        },
    )


@pytest.mark.parametrize("shape", [(), (3,)])
def test_all_ones_are_bit_identical(model, flux_inputs, shape):
    inputs, sites = flux_inputs(), sites_of(model)
    before = run(model, inputs)
    with ScaleHooks(model, sites) as hooks:
        hooks.set(np.ones((*shape, len(sites))))
        assert torch.equal(run(model, inputs), before)


def test_all_ones_are_bit_identical_in_bf16(flux_inputs):
    model = flux_transformer().to(torch.bfloat16)
    inputs = flux_inputs(dtype=torch.bfloat16)
    before = run(model, inputs)
    with ScaleHooks(model, sites_of(model)) as hooks:
        hooks.set(np.ones(len(sites_of(model))))
        assert torch.equal(run(model, inputs), before)


def test_scales_change_the_output(model, flux_inputs):
    inputs, sites = flux_inputs(), sites_of(model)
    before = run(model, inputs)
    for i in range(len(sites)):
        with ScaleHooks(model, sites) as hooks:
            values = np.ones(len(sites))
            values[i] = 1.5
            hooks.set(values)
            assert not torch.allclose(run(model, inputs), before, atol=1e-4), sites[i].name


def test_leaving_restores_everything(model, flux_inputs):
    inputs, sites = flux_inputs(), sites_of(model)
    before, state = run(model, inputs), state_of(model)
    with ScaleHooks(model, sites) as hooks:
        hooks.set(vectors(1, sites)[0])
        run(model, inputs)
        assert list(model.state_dict()) == state[0]
    assert state_of(model) == state
    assert torch.equal(run(model, inputs), before)


def test_an_exception_restores_everything(model, flux_inputs):
    inputs, sites = flux_inputs(), sites_of(model)
    before, state = run(model, inputs), state_of(model)
    with pytest.raises(ZeroDivisionError), ScaleHooks(model, sites) as hooks:
        hooks.set(vectors(1, sites)[0])
        raise ZeroDivisionError
    assert state_of(model) == state
    assert torch.equal(run(model, inputs), before)


def test_a_vector_for_each_sample_equals_separate_forwards(model, flux_inputs):
    inputs, sites = flux_inputs(3), sites_of(model)
    rows = vectors(3, sites)
    with ScaleHooks(model, sites) as hooks:
        hooks.set(rows)
        together = run(model, inputs)
        for i in range(3):
            hooks.set(rows[i])
            batched = {n for n, v in inputs.items() if torch.is_tensor(v) and v.shape[0] == 3}
            alone = {n: v[i : i + 1] if n in batched else v for n, v in inputs.items()}
            torch.testing.assert_close(run(model, alone), together[i : i + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("granularity", ["block", "layer"])
def test_tied_gates_equal_the_coarser_layout(model, flux_inputs, granularity):
    inputs, sites = flux_inputs(), sites_of(model)
    coarse, gates = Layout.from_sites(sites, granularity), Layout.from_sites(sites, "gate")
    values = np.random.default_rng(1).normal(1, 0.3, len(coarse.names))
    tied = [values[next(k for k, g in enumerate(coarse.groups) if i in g)] for i in range(len(sites))]
    with ScaleHooks(model, sites) as hooks:
        hooks.set(coarse.expand(values))
        one = run(model, inputs)
        hooks.set(gates.expand(tied))
        assert torch.equal(run(model, inputs), one)


def test_scaling_a_gate_is_scaling_what_the_branch_adds(model, flux_inputs):
    """The image attention of block 0, by hand: its gate times its output is what joins the stream."""
    inputs, sites = flux_inputs(), sites_of(model)
    index = next(i for i, s in enumerate(sites) if s.name == "double.0.img.attn")
    values = np.ones(len(sites))
    values[index] = 0.25
    with ScaleHooks(model, sites) as hooks:
        hooks.set(values)
        hooked = run(model, inputs)
    handle = model.transformer_blocks[0].attn.register_forward_hook(
        lambda module, args, output: (output[0] * 0.25, *output[1:])
    )
    try:
        torch.testing.assert_close(run(model, inputs), hooked, atol=1e-5, rtol=1e-5)
    finally:
        handle.remove()


def test_values_change_in_place(model):
    sites = sites_of(model)
    with ScaleHooks(model, sites) as hooks:
        hooks.set(vectors(2, sites))
        before = [m.calibri_scales[0][1].data_ptr() for m in model.modules() if hasattr(m, "calibri_scales")]
        hooks.set(vectors(2, sites, seed=1))
        after = [m.calibri_scales[0][1].data_ptr() for m in model.modules() if hasattr(m, "calibri_scales")]
    assert before == after


def test_small_scales_count_in_bf16(flux_inputs):
    """1.0039 is 1.0 in bf16; kept in float32 it still changes the picture."""
    model = flux_transformer().to(torch.bfloat16)
    inputs, sites = flux_inputs(dtype=torch.bfloat16), sites_of(model)
    assert torch.tensor(1.0039).to(torch.bfloat16) == 1
    with ScaleHooks(model, sites) as hooks:
        before = run(model, inputs)
        hooks.set(np.full(len(sites), 1.0039))
        after = run(model, inputs)
    assert after.dtype == torch.bfloat16
    assert not torch.equal(after, before)


@pytest.mark.parametrize(
    "values, words",
    [
        (lambda n: np.ones(n - 1), "one for each site"),
        (lambda n: np.ones((2, n + 1)), "one for each site"),
        (lambda n: np.ones((1, 1, n)), "one for each site"),
        (lambda n: np.array([1.0] * (n - 1) + [np.nan]), "single.2.fused"),
        (lambda n: np.array([np.inf] + [1.0] * (n - 1)), "double.0.img.attn"),
    ],
)
def test_wrong_values_are_named(model, values, words):
    sites = sites_of(model)
    with ScaleHooks(model, sites) as hooks, pytest.raises(LayoutError, match=words):
        hooks.set(values(len(sites)))


def test_hooks_do_not_stack(model):
    sites = sites_of(model)
    with (
        ScaleHooks(model, sites),
        pytest.raises(RenderError, match="scaled already"),
        ScaleHooks(model, sites),
    ):
        pass
    with ScaleHooks(model, sites):
        pass


def test_values_outside_the_context_are_refused(model):
    hooks = ScaleHooks(model, sites_of(model))
    with pytest.raises(CalibriError, match="inside"):
        hooks.set(np.ones(11))


@pytest.mark.slow
def test_compiled_blocks_see_new_values_without_recompiling(flux_inputs):
    model = flux_transformer()
    inputs, sites = flux_inputs(), sites_of(model)
    rows = vectors(3, sites)
    with ScaleHooks(model, sites) as hooks:
        hooks.set(rows)
        eager = run(model, inputs)
    counter = CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    with ScaleHooks(model, sites) as hooks:
        hooks.set(np.ones((3, len(sites))))
        model.compile_repeated_blocks(backend=counter)
        run(model, inputs)
        compiled = counter.frame_count
        hooks.set(rows)
        torch.testing.assert_close(run(model, inputs), eager, atol=1e-5, rtol=1e-5)
        assert counter.frame_count == compiled
    with ScaleHooks(model, sites) as hooks:  # a second context, as the next render opens
        hooks.set(rows[::-1])
        again = run(model, inputs)
    torch._dynamo.reset()
    with ScaleHooks(flux_transformer(), sites) as hooks:
        hooks.set(rows[::-1])
        torch.testing.assert_close(run(hooks._transformer, inputs), again, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_another_batch_size_is_not_compiled_anew(flux_inputs):
    """Also where the first batch is as large as there are sites, or as other sizes of the code."""
    model = flux_transformer()
    sites = sites_of(model)
    counter = CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    model.compile_repeated_blocks(backend=counter, dynamic=True)

    def render(batch):
        with ScaleHooks(model, sites) as hooks:
            hooks.set(vectors(batch, sites))
            run(model, flux_inputs(batch))

    render(len(sites))
    compiled = counter.frame_count
    for batch in (5, 12, 3, len(sites) - 1, 26):
        render(batch)
    assert counter.frame_count == compiled
