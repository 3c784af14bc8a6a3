"""Stage `guide`: the transformer learns to paint in one forward what the base paints with guidance.

Guidance distillation (arXiv 2210.03142), as FLUX.1-dev has been through it: student and teacher start from
one set of weights, and the student's velocity moves to u + w·(c − u), the teacher's guided one. That aim
holds no noise of sampling, so it is learnt in a fraction of the steps that the flow took.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from calibri.tabletop.train import flow
from calibri.tabletop.train.common import Clock, Place, load_state
from calibri.tabletop.train.team import Team, run_team

GUIDANCE = 2.0
_RATE_SHARE, _EMA = 0.3, 0.995  # of the flow's learning rates; of the weight average, a step


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
    state = None if place.fresh else load_state(place.work / "guide.safetensors", clock)
    student.head.requires_grad_(False)  # has no part in this stage

    def loss_of(batch: flow.Batch, velocity: torch.Tensor, seen: torch.Tensor):
        with torch.no_grad(), place.autocast():
            aim = guided(teacher, batch.x, batch.t, batch.prompts, *batch.ids)
        loss = F.mse_loss(velocity, aim)
        return loss, loss

    flow.learn(
        team,
        place,
        "guide",
        student,
        latents,
        loss_of,
        state=state,
        clock=clock,
        share=_RATE_SHARE,
        keep=_EMA,
        seed=63,
    )
