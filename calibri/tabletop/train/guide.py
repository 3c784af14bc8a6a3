"""Stage `guide`: the transformer learns to paint in one forward what the base paints with guidance.

Guidance distillation (arXiv 2210.03142), as FLUX.1-dev has been through it: student and teacher start from
one set of weights, and the student's velocity moves to u + w·(c − u), the teacher's guided one. That aim
holds no noise of sampling, so it is learnt in a fraction of the steps that the flow took.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from calibri.tabletop import backbone as b
from calibri.tabletop.data import scene_at
from calibri.tabletop.train import flow
from calibri.tabletop.train.common import BACKBONE_SEED, Clock, Place, load_state
from calibri.tabletop.train.team import Team, run_team

GUIDANCE = 2.0
_RATE_SHARE, _EMA, _SAVE_EVERY = 0.3, 0.995, 300  # of the flow's learning rates; seconds


def guided(teacher: flow.Student, x, t, prompts: list[str], text_ids, image_ids) -> torch.Tensor:
    """The teacher's velocity at `GUIDANCE`, (B, 64, 32); for an empty prompt its plain one."""
    both, _ = teacher(
        torch.cat([x, x]), torch.cat([t, t]), [*prompts, *[""] * len(prompts)], text_ids, image_ids
    )
    with_prompt, without = both.float().chunk(2)
    return torch.lerp(without, with_prompt, GUIDANCE)


def train_guide(place: Place, heads: int = 4) -> None:
    """Leaves `work/tabletop/`, as the flow stage does. The teacher is what that stage left, or the published
    backbone.
    """
    flow.prepare(place)
    run_team(_train, place.processes, place, heads)


def _train(team: Team, place: Place, heads: int) -> None:
    """One process of the team; all hold the same weights."""
    latents, features = flow.encoded(place)
    size = (place.batch or flow.BATCH) // team.size
    scenes = [scene_at(i, BACKBONE_SEED) for i in range(len(latents))]
    with torch.random.fork_rng():
        torch.random.manual_seed(53)
        student = flow.Student(features.shape[-1], heads).to(place.device)
    taught = place.work / "flow.safetensors"
    if place.published or not taught.exists():
        flow.from_published(place, student)
    else:
        student.load_state_dict({k[4:]: v for k, v in load_file(taught).items() if k.startswith("ema.")})
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    clock = Clock("guide", place.minutes, every=30)
    checkpoint = place.work / "guide.safetensors"
    ema = flow.resumed(place, student, None if place.fresh else load_state(checkpoint, clock))
    student.head.requires_grad_(False)  # has no part in this stage
    optimizers = flow.optimizers_of(student)
    rates = [_RATE_SHARE * o.param_groups[0]["lr"] for o in optimizers]
    rng = np.random.default_rng([BACKBONE_SEED, 63, clock.steps, team.rank])
    noise = torch.Generator(place.device).manual_seed(73 + clock.steps + 1_000_003 * team.rank)
    text_ids, image_ids = torch.zeros(b.TEXT_TOKENS, 3, device=place.device), b.image_ids().to(place.device)
    supply = b.batches(len(latents), size, rng)
    running, saved, started = True, clock.used, clock.steps
    clock.pause()
    while running:
        factor = team.agree(flow.rate_at(clock.progress, clock.steps - started))
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
        rows = next(supply)
        z = latents[rows].to(place.device).float()
        eps = torch.randn(z.shape, generator=noise, device=z.device)
        t = torch.sigmoid(0.2 + torch.randn(size, generator=noise, device=z.device))
        x = torch.lerp(z, eps, t[:, None, None])
        prompts = flow.prompts_of(rows, scenes, rng)
        with place.autocast():
            with torch.no_grad():
                aim = guided(teacher, x, t, prompts, text_ids, image_ids)
            velocity, _ = student(x, t, prompts, text_ids, image_ids)
        loss = F.mse_loss(velocity.float(), aim)
        flow.improve(loss, student, optimizers, team)
        if team.leads:
            flow.follow(ema, student, min(_EMA, (1 + clock.steps) / (10 + clock.steps)))
        running = bool(team.agree(clock.step(loss.item(), size * team.size, shown=team.leads)))
        if team.leads and (not running or clock.used - saved > _SAVE_EVERY):
            saved = clock.used
            flow.save(place, checkpoint, student, ema, clock)
