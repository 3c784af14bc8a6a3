"""Compiled blocks of each kind of operation see new scales without being compiled anew."""

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from calibri.backbones.sites import sites_of
from calibri.sampling.ensemble import prediction_of
from calibri.sampling.hooks import ScaleHooks
from tests import tiny_makers as makers


def flux2():
    model = makers.flux2_transformer(8, guidance_embeds=False)
    call = {
        "hidden_states": torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)),
        "encoder_hidden_states": torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1)),
        "timestep": torch.full((3,), 0.5),
        "img_ids": torch.arange(64.0).view(16, 4),
        "txt_ids": torch.zeros(5, 4),
    }
    return model, call


def flux3():
    return makers.flux3(), makers.flux3_call(3)


def outputs():
    """Krea 2, whose branches' outputs are multiplied."""
    from tests.tiny_one_stream import krea2

    model = krea2().transformer
    call = {
        "hidden_states": torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)),
        "encoder_hidden_states": torch.randn(3, 5, 2, 16, generator=torch.Generator().manual_seed(1)),
        "timestep": torch.full((3,), 0.5),
        "position_ids": torch.arange(63.0).view(21, 3),
    }
    return model, call


def run(model: torch.nn.Module, call: dict) -> torch.Tensor:
    with torch.no_grad():
        return prediction_of(model(**call))[0]


@pytest.mark.slow
@pytest.mark.parametrize("make", [flux2, flux3, outputs])
def test_compiled_blocks_see_new_scales_without_recompiling(make):
    model, call = make()
    sites = sites_of(model)
    rows = np.random.default_rng(0).normal(1, 0.3, (3, len(sites)))
    with ScaleHooks(model, sites) as hooks:
        hooks.set(rows)
        eager = run(model, call)
    counter = CompileCounterWithBackend("eager")
    torch._dynamo.reset()
    with ScaleHooks(model, sites) as hooks:
        hooks.set(np.ones((3, len(sites))))
        model.compile_repeated_blocks(backend=counter)
        run(model, call)
        compiled = counter.frame_count
        hooks.set(rows)
        torch.testing.assert_close(run(model, call), eager, atol=1e-5, rtol=1e-5)
        hooks.set(rows[::-1].copy())
        run(model, call)
        assert compiled > 0 and counter.frame_count == compiled
    torch._dynamo.reset()
