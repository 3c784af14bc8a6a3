"""Our Muon against torch's, which works in bfloat16."""

from __future__ import annotations

import pytest
import torch

from calibri.tabletop.train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 24), (16, 64), (64, 16)])
def test_steps_agree_with_torchs_muon_within_bfloat16(shape):
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    options = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    optimizers = Muon([ours], **options), torch.optim.Muon([theirs], **options)
    noise = torch.Generator().manual_seed(2)
    for _ in range(4):
        grad = torch.randn(shape, generator=noise)
        for p, optimizer in zip((ours, theirs), optimizers, strict=True):
            p.grad = grad.clone()
            optimizer.step()
    moved = (theirs - start).abs().max()
    assert moved > 0.01
    assert (ours - theirs).abs().max() < 0.03 * moved


def test_singular_values_come_near_one_for_each_matrix_of_a_batch():
    x = (
        torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(3))
        * torch.tensor([1.0, 50.0, 0.01])[:, None, None]
    )
    values = torch.linalg.svdvals(orthogonal(x))
    assert values.min() > 0.4 and values.max() < 1.4


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="matrices"):
        Muon([torch.nn.Parameter(torch.ones(3))], lr=0.1)
