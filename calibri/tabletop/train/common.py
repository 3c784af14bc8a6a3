"""What every stage shares: where things lie, the clock, checkpoints, the progress line."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from calibri.tabletop.data import make_pictures

BACKBONE_SEED, JUDGE_SEED = 1, 2  # two data sets of scenes: judges never see the backbone's pictures
BACKBONE_COUNT, JUDGE_COUNT = 40_000, 12_000

Net = TypeVar("Net", bound=torch.nn.Module)


@dataclass(frozen=True)
class Place:
    """Where a training run works and what it leaves. `work` is never committed; `assets` is."""

    work: Path
    assets: Path
    device: str
    minutes: float
    batch: int | None = None
    fresh: bool = False
    published: bool = False
    processes: int = 1
    compile: bool = False

    def pictures(self, seed: int) -> np.ndarray:
        """(n, 128, 128, 3) uint8 pictures of the data set, made where they are missing."""
        count = BACKBONE_COUNT if seed == BACKBONE_SEED else JUDGE_COUNT
        path = self.work / f"scenes-{seed}.npy"
        return make_pictures(
            path, count, seed, os.cpu_count() or 1, lambda d, n: print(f"scenes {d}/{n}", flush=True)
        )

    def autocast(self) -> torch.autocast:
        """bfloat16 for matrix products where the processor multiplies in it: emulated, a step takes two to
        three times as long as in float32.
        """
        # mkldnn's own question says yes to every AVX-512 processor, also to those that emulate
        native = (
            self.device != "cpu"
            or torch.cpu._is_avx512_bf16_supported()
            or torch.cpu._is_amx_tile_supported()
        )
        return torch.autocast(self.device, torch.bfloat16, enabled=native)


def channels_last(net: Net, device: str) -> Net:
    """The net on `device`, its weights in the order in which convolutions are fastest."""
    # Module.to takes a memory format; its declared overloads leave it out.
    return net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # see above


def new_net(make: Callable[[], Net], seed: int, device: str) -> Net:
    """A net to train, its weights drawn from `seed`; no other random stream moves."""
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        return channels_last(make(), device).train()


def cosine(progress: float, warmup: float = 0.03, floor: float = 0.02) -> float:
    """Learning-rate factor at progress 0 … 1: linear warm-up, then a half cosine down to `floor`."""
    if progress < warmup:
        return progress / warmup
    x = min((progress - warmup) / (1 - warmup), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * x))


class Clock:
    """Progress by time: training seconds used of the budget, over interruptions too, and a printed line now
    and then.
    """

    def __init__(self, stage: str, minutes: float, every: float = 15.0) -> None:
        self.stage, self.budget, self.every = stage, minutes * 60, every
        self.used, self.steps, self.samples = 0.0, 0, 0
        self._last = self._shown = time.monotonic()
        self._loss = 0.0
        self._count = 0

    @property
    def progress(self) -> float:
        return self.used / self.budget

    def step(self, loss: float, samples: int, shown: bool = True) -> bool:
        """Counts one step; False when the budget is used up. `shown`: print a line now and then."""
        now = time.monotonic()
        self.used += now - self._last
        self._last = now
        self.steps += 1
        self.samples += samples
        self._loss += loss
        self._count += 1
        if shown and now - self._shown > self.every:
            left = max(self.budget - self.used, 0)
            print(
                f"{self.stage}: step {self.steps}, loss {self._loss / self._count:.4f}, "
                f"{self.samples / max(self.used, 1e-9):.0f} pictures/s, {left / 60:.1f} min left",
                flush=True,
            )
            self._shown, self._loss, self._count = now, 0.0, 0
        return self.progress < 1

    def pause(self) -> None:
        """Time from the last step to now is not training time (checkpoints, evaluation)."""
        self._last = time.monotonic()


def save_state(path: Path, tensors: dict[str, torch.Tensor], clock: Clock) -> None:
    """One checkpoint file, replaced whole: training state in safetensors, the clock in its metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    meta = {"used": repr(clock.used), "steps": str(clock.steps), "samples": str(clock.samples)}
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, part, meta)
    part.replace(path)
    clock.pause()


def load_state(path: Path, clock: Clock) -> dict[str, torch.Tensor] | None:
    """The checkpoint's tensors, and the clock set to where it was; None where there is none."""
    if not path.exists():
        return None
    from safetensors import safe_open

    with safe_open(path, "pt") as f:
        meta = f.metadata()
    clock.used, clock.steps, clock.samples = float(meta["used"]), int(meta["steps"]), int(meta["samples"])
    return load_file(path)


def set_rates(optimizers: Sequence[torch.optim.Optimizer], rates: Sequence[float], factor: float) -> None:
    """Learning rates of the optimisers' groups of parameters: each one's rate × factor."""
    for optimizer, rate in zip(optimizers, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor


def descend(
    loss: torch.Tensor,
    parameters: Iterable[torch.Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
) -> float:
    """One step of the optimisers down the loss, its gradient no longer than 1. Returns the loss."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def run_steps(
    place: Place,
    stage: str,
    net: torch.nn.Module,
    take_step: Callable[[float], tuple[float, int]],
    save_every: int,
    begin: Callable[[], None] | None = None,
) -> Clock:
    """Trains `net` until the minutes of this place are used up. Returns the clock.

    `take_step(progress)`: one step, at a progress of 0 … 1; returns its loss and how many pictures it saw.
    A checkpoint is left at `work/<stage>.safetensors`, every `save_every` steps and at the end; one that is
    there is gone on with. `begin` is called where there is none.
    """
    clock = Clock(stage, place.minutes)
    checkpoint = place.work / f"{stage}.safetensors"
    state = None if place.fresh else load_state(checkpoint, clock)
    if state:
        net.load_state_dict(state)
    elif begin is not None:
        begin()
    while clock.progress < 1:
        if not clock.step(*take_step(clock.progress)):
            break
        if clock.steps % save_every == 0:
            save_state(checkpoint, net.state_dict(), clock)
    save_state(checkpoint, net.state_dict(), clock)
    return clock


def train_net(
    place: Place,
    name: str,
    net: torch.nn.Module,
    rate: float,
    weight_decay: float,
    lose: Callable[[], tuple[torch.Tensor, int]],
) -> Clock:
    """Trains a reward's net by AdamW at a cosine of the rate. `lose`: the loss of the next batch, and how
    many pictures that has.
    """
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=weight_decay)

    def take_step(progress: float) -> tuple[float, int]:
        set_rates([optimizer], [rate], cosine(progress))
        loss, pictures = lose()
        return descend(loss, net.parameters(), [optimizer]), pictures

    return run_steps(place, name, net, take_step, save_every=300)


def save_net(place: Place, name: str, net: torch.nn.Module, width: int, seed: int, clock: Clock) -> None:
    """Leaves `assets/rewards/<name>.safetensors`, as `reward_nets.load_net` reads it."""
    out = place.assets / "rewards" / f"{name}.safetensors"
    out.parent.mkdir(parents=True, exist_ok=True)
    meta = {
        "net": type(net).__name__,
        "width": str(width),
        "scenes_seed": str(seed),
        "samples": str(clock.samples),
    }
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, out, meta)
