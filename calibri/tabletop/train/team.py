"""Several processes that train one model, each on its share of the batch.

On a CPU one thread in each of two processes does a third more than two threads in one process: they meet once
a step instead of at every operation.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


class Team:
    """This process's place among `size` processes; rank 0 keeps time and writes files."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def agree(self, value: float) -> float:
        """Rank 0's value, for all."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(told, 0)
        return told.item()

    def average(self, params: Iterable[torch.Tensor]) -> None:
        """Replaces the gradients by their mean over the team."""
        if self.size == 1:
            return
        grads = [p.grad for p in params if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        flat /= self.size
        for g, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            g.copy_(mean.view_as(g))


def run_team(work: Callable[..., None], size: int, *args: Any) -> None:
    """Calls `work(team, *args)` in `size` processes and waits for all; an error in one ends the others."""
    if size == 1:
        work(Team(), *args)
        return
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_member, (size, str(Path(folder) / "meeting"), work, args), nprocs=size)


def _member(rank: int, size: int, meeting: str, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        work(Team(rank, size), *args)
    finally:
        dist.destroy_process_group()
