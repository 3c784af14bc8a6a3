"""Muon in the precision of the weights.

torch.optim.Muon orthogonalises in bfloat16 always; a processor without it emulates that, and the optimiser
takes twice the time of forward and backward together. Here matrices of one shape go through Newton–Schulz as
one batch.
Source of the method and its coefficients: Keller Jordan, Muon (2024), as documented for torch.optim.Muon.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

_COEFFICIENTS, _ROUNDS, _TINY = (3.4445, -4.7750, 2.0315), 5, 1e-7


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Each of (n, rows, columns) with its singular values moved to about 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp_min(_TINY)[:, None, None]
    a, b, c = _COEFFICIENTS
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for matrices; weight decay apart from the gradient.

    The rate of a (rows, columns) matrix is lr · √max(1, rows/columns).
    """

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for p in self.param_groups[0]["params"]:
            if p.ndim != 2:
                raise ValueError(f"Muon takes matrices, got a tensor of shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # it takes no closure
        """One update of all parameters that have a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                kept = state.setdefault("momentum", torch.zeros_like(p.grad))
                kept.lerp_(p.grad, 1 - group["momentum"])
                shapes[p.shape].append((p, torch.lerp(p.grad, kept, group["momentum"])))
            for shape, pairs in shapes.items():
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                moves = orthogonal(torch.stack([move for _, move in pairs]).float())
                for (p, _), move in zip(pairs, moves, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(move.to(p.dtype), alpha=-rate)
