"""A calibration on a bare transformer: its members see what it is called with, and their sum comes out."""

from __future__ import annotations

import pytest
import torch

import calibri
from calibri import Member, load_calibration
from tests import golden_cases as golden
from tests.tiny import flux_transformer
from tests.tiny_families import assert_near, random_calibration


def bare(name):
    model, inputs = golden.transformer(name), golden.inputs(name)
    if "img_shapes" in inputs:
        inputs["img_shapes"] = [[tuple(shape) for shape in each] for each in inputs["img_shapes"]]
    return model, inputs


def predict(model, inputs):
    with torch.no_grad():
        return model(**inputs | {"return_dict": False})[0]


@pytest.mark.parametrize("name", ["flux", "sd3", "sd35m", "qwen"])
def test_the_output_is_the_weighted_sum_of_the_members(name):
    model, inputs = bare(name)
    calibration = random_calibration(model, (1.6, "positive"), (-0.4, "negative"), (0.5, "positive"))
    base = predict(model, inputs)
    alone = []
    for k, member in enumerate(calibration.members):
        only = calibration.only(k)
        assert only.members == (member,)
        with load_calibration(model, only):
            alone.append(predict(model, inputs))
        unweighted = only.model_copy(update={"members": (member.model_copy(update={"weight": 1.0}),)})
        with load_calibration(model, unweighted):
            assert_near(alone[-1], member.weight * predict(model, inputs))
    with load_calibration(model, calibration):
        together = predict(model, inputs)
        as_object = model(**inputs, return_dict=True).sample
    assert_near(together, sum(alone))
    assert_near(together, as_object)
    assert torch.equal(predict(model, inputs), base)


@pytest.mark.parametrize("name", ["sd3", "sd35m", "qwen"])
def test_an_imported_checkpoint_gives_what_the_papers_code_gave(name):
    model, inputs = bare(name)
    calibration = calibri.import_checkpoint(golden.checkpoint(name, "cfg_k2"), model)
    expected = golden.expected(name, "cfg_k2")
    for k, each in enumerate(("cond", "uncond")):
        with load_calibration(model, calibration.only(k)):
            assert golden.same(predict(model, inputs), expected[each])
    with load_calibration(model, calibration):
        assert golden.same(
            predict(model, inputs), expected.get("both", expected["cond"] + expected["uncond"])
        )


@pytest.mark.parametrize("case", ["block_k1", "layer_k1", "gate_k1", "layer_k2"])
def test_imported_flux_checkpoints_too(case):
    model, inputs = bare("flux")
    calibration = calibri.import_checkpoint(golden.checkpoint("flux", case), model)
    with load_calibration(model, calibration):
        assert golden.same(predict(model, inputs), golden.expected("flux", case)["out"])


def test_a_model_in_bf16_keeps_its_dtype_and_small_scales_count(flux_inputs):
    model, inputs = flux_transformer().to(torch.bfloat16), flux_inputs(dtype=torch.bfloat16)
    base = predict(model, inputs)
    ones = random_calibration(model, spread=0.0)
    small = ones.model_copy(update={"members": (Member(scales=(1.0039,) * len(ones.names)),)})
    with load_calibration(model, ones):
        assert torch.equal(predict(model, inputs), base)
    with load_calibration(model, small):
        assert not torch.equal(predict(model, inputs), base)
    with load_calibration(model, random_calibration(model, (0.5, "positive"), (0.5, "positive"))):
        assert predict(model, inputs).dtype == torch.bfloat16


def test_arguments_may_be_positional_on_a_bare_transformer(flux_inputs):
    model, inputs = flux_transformer(), flux_inputs()
    calibration = random_calibration(model, (0.5, "positive"), (0.7, "positive"))
    with torch.no_grad(), load_calibration(model, calibration):
        expected = model(**inputs)[0]
        first = inputs.pop("hidden_states")
        assert_near(model(first, **inputs)[0], expected)


# ---- compiled


@pytest.mark.slow
@pytest.mark.parametrize("how", ["blocks", "whole", "in place"])
def test_a_transformer_that_was_compiled_before_is_calibrated_too(flux_inputs, how):
    model, inputs = flux_transformer(1, 1), flux_inputs()
    alone = random_calibration(model)
    several = random_calibration(model, (0.6, "positive"), (0.5, "positive"))
    expected = []
    for calibration in (alone, several):
        with load_calibration(model, calibration):
            expected.append(predict(model, inputs))
    torch._dynamo.reset()
    if how == "blocks":
        model.compile_repeated_blocks(backend="eager")
    elif how == "in place":
        model.compile(backend="eager")
    compiled = torch.compile(model, backend="eager") if how == "whole" else model
    base = predict(compiled, inputs)
    for calibration, output in zip((alone, several), expected, strict=True):
        with load_calibration(compiled, calibration):
            assert_near(predict(compiled, inputs), output)
        assert torch.equal(predict(compiled, inputs), base)
    torch._dynamo.reset()


# ---- weights that are elsewhere


def offload_sequentially(model):
    from accelerate import cpu_offload

    cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=True)
    assert next(model.parameters()).device.type == "meta"


def offload_as_a_whole(model):
    from accelerate import cpu_offload_with_hook

    cpu_offload_with_hook(model, execution_device=torch.device("cpu"))


def offload_in_groups(model):
    model.enable_group_offload(
        onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1
    )


@pytest.mark.parametrize("offload", [offload_sequentially, offload_as_a_whole, offload_in_groups])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_offloaded_transformer_is_calibrated_too(flux_inputs, offload, when):
    """All offloads work on a CPU too; they replace `forward` and move weights under the hooks."""
    model, inputs = flux_transformer(), flux_inputs()
    base = predict(model, inputs)
    calibration = random_calibration(model, (0.6, "positive"), (0.5, "positive"))
    with load_calibration(model, calibration):
        expected = predict(model, inputs)
    if when == "before":
        offload(model)
    with load_calibration(model, calibration):
        if when == "after":
            offload(model)
        for _ in range(2):
            assert torch.equal(predict(model, inputs), expected)
    assert torch.equal(predict(model, inputs), base)


def test_a_lora_and_a_calibration_together(flux_inputs):
    from peft import LoraConfig

    model, inputs = flux_transformer(), flux_inputs()
    model.add_adapter(
        LoraConfig(r=2, target_modules=["to_q", "to_out.0", "norm1.linear"], init_lora_weights=False)
    )
    base = predict(model, inputs)
    ones = random_calibration(model, spread=0.0)
    with load_calibration(model, ones):
        assert torch.equal(predict(model, inputs), base)
    calibration = random_calibration(model)
    with load_calibration(model, calibration):
        scaled = predict(model, inputs)
    assert (scaled - base).abs().max() > 1e-3
    model.fuse_lora()
    with load_calibration(model, calibration):
        assert_near(predict(model, inputs), scaled)
