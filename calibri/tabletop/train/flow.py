"""Stage `flow`: the transformer and both text encoders, by rectified flow on latents of clear and dull
pictures.

Two levers, each measured against plain AdamW in a trial: Muon on the blocks' matrices, and representation
alignment (REPA, arXiv 2410.06940): image tokens after the last double block predict the `keep` net's feature
map of the clear picture. The head that does so is thrown away. Two more, in their own modules: what the
predicted clean latents do not show of the caption's facts is part of the loss (`reader.py`), and the token
encoder learns to read before it sees pictures (`binding.py`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers import AutoencoderTiny, FluxPipeline
from safetensors.torch import load_file

from calibri.backbones.catalog import CATALOG, DEFAULTS_FILE
from calibri.tabletop import backbone as b
from calibri.tabletop.captions import caption
from calibri.tabletop.data import scene_at
from calibri.tabletop.degrade import degrade, severities, to_tensor
from calibri.tabletop.nets import FactsNet
from calibri.tabletop.train.binding import Parser, new_head, taught_words, unread
from calibri.tabletop.train.common import (
    BACKBONE_SEED,
    Clock,
    Place,
    channels_last,
    load_state,
    save_state,
    set_rates,
)
from calibri.tabletop.train.facts import WIDTHS, targets
from calibri.tabletop.train.muon import Muon
from calibri.tabletop.train.reader import blurred, missed, trained_reader
from calibri.tabletop.train.team import Team, run_team

BATCH = 64  # pictures in a step
_EMA, _EMPTY = 0.999, 0.1
_ADAM_RATE, _MUON_RATE = 1.2e-3, 0.012
_ALIGN_WEIGHT, _FACTS_WEIGHT, _BINDING_WEIGHT = 0.5, 0.03, 0.02
_DECAY_FROM = 0.6
_SAVE_EVERY = 300  # seconds


def rate_at(progress: float, step: int) -> float:
    """Warm-up over 100 steps (also after a resume), constant, then linear to 2 % over the last 40 % of the
    time.
    """
    decay = (
        1.0 if progress < _DECAY_FROM else max(1 - 0.98 * (progress - _DECAY_FROM) / (1 - _DECAY_FROM), 0.02)
    )
    return min(1.0, (step + 1) / 100) * decay


def encoded(place: Place) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed latents of mixed pictures (n, 64, 32) and standardised feature maps of the clear ones (n, 64,
    c), float16.
    """
    path = place.work / "latents.safetensors"
    if path.exists():
        kept = load_file(path)
        return kept["latents"], kept["features"]
    pictures = place.pictures(BACKBONE_SEED)
    rng = np.random.default_rng([BACKBONE_SEED, 41])
    vae = channels_last(AutoencoderTiny.from_pretrained(place.work / "vae"), place.device).eval()
    scale, shift = vae.config.scaling_factor, vae.config.shift_factor
    guide = FactsNet(WIDTHS["keep"])
    guide.load_state_dict(load_file(place.assets / "rewards" / "keep.safetensors"))
    guide = channels_last(guide, place.device).eval()
    latents, features = [], []
    with torch.inference_mode(), place.autocast():
        for i in range(0, len(pictures), 100):
            x = to_tensor(pictures[i : i + 100]).to(place.device, memory_format=torch.channels_last)
            features.append(guide.features(x).flatten(2).transpose(1, 2).half().cpu())
            dull = degrade(x, torch.from_numpy(severities(len(x), rng)).to(place.device))
            z = (vae.encoder(dull * 2 - 1).float() - shift) * scale
            latents.append(b.pack(z).half().cpu())
            if i % 4000 == 0:
                print(f"flow: encoding {i}/{len(pictures)}", flush=True)
    z, f = torch.cat(latents), torch.cat(features)
    sample = f[:2000].float()
    f = ((f.float() - sample.mean((0, 1))) / (sample.std((0, 1)) + 1e-3)).half()
    from safetensors.torch import save_file

    save_file({"latents": z, "features": f}, path)
    return z, f


class Student(nn.Module):
    """All that is trained: transformer, text encoders and the alignment head."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.t5, self.clip = b.t5_tokenizer(), b.clip_tokenizer()
        self.transformer = b.new_transformer(heads)
        self.tokens, self.pooled = b.text_encoders(self.t5, self.clip)
        width = self.transformer.inner_dim
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, features))
        self.binding, self.parser = new_head(), Parser(self.t5)
        self._middle: torch.Tensor | None = None
        # A double block returns (text stream, image stream)
        self.transformer.transformer_blocks[-1].register_forward_hook(self._keep_middle)

    def _keep_middle(self, module: nn.Module, args: tuple, out: tuple[torch.Tensor, torch.Tensor]) -> None:
        self._middle = out[1]

    def text(self, prompts: list[str], device: str | torch.device) -> tuple[torch.Tensor, ...]:
        """Token embeddings (B, 24, 128) and pooled vectors (B, 64), as FluxPipeline makes them, and what the
        embeddings do not tell of the pairs, a scalar.
        """
        ids = self.t5(prompts, **b.PADDED).input_ids
        tokens = self.tokens(ids.to(device))[0]
        unsaid = unread(self.binding, tokens, self.parser(ids).to(device))
        pooled = self.pooled(self.clip(prompts, **b.PADDED).input_ids.to(device)).pooler_output
        return tokens, pooled, unsaid

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        prompts: list[str],
        text_ids: torch.Tensor,
        image_ids: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        """Velocity (B, 64, 32), predicted features (B, 64, c) and what the text does not tell."""
        tokens, pooled, unsaid = self.text(prompts, x.device)
        velocity = self.transformer(
            hidden_states=x,
            timestep=t,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            txt_ids=text_ids,
            img_ids=image_ids,
            return_dict=False,
        )[0]
        return velocity, self.head(self._middle), unsaid


def optimizers_of(student: Student) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks other than the modulation layers, AdamW for the rest."""
    muon: list[nn.Parameter] = []
    adam: list[nn.Parameter] = []
    for name, p in student.named_parameters():
        in_block = "transformer_blocks" in name
        (muon if in_block and p.ndim == 2 and ".norm" not in name else adam).append(p)
    return [
        Muon(muon, lr=_MUON_RATE, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(adam, lr=_ADAM_RATE, betas=(0.9, 0.99), weight_decay=0.01),
    ]


def prompts_of(rows: np.ndarray, scenes: list, rng: np.random.Generator) -> list[str]:
    return ["" if rng.random() < _EMPTY else caption(scenes[i], rng) for i in rows]


def from_published(place: Place, student: Student) -> None:
    """Starts from the published backbone: its transformer and text encoders; the head starts anew."""
    pipe = FluxPipeline.from_pretrained(place.assets / "tabletop")
    student.transformer.load_state_dict(pipe.transformer.state_dict())
    words = student.clip.get_vocab(), pipe.tokenizer.get_vocab()
    student.pooled.load_state_dict(b.in_order_of(words[0], pipe.text_encoder.state_dict(), words[1]))
    trained = pipe.text_encoder_2.state_dict()
    for name, own in student.tokens.state_dict().items():
        own.copy_(trained[name][: len(own)])  # rows past the vocabulary of training are copies, for capitals


def _resumed(
    place: Place, student: Student, state: dict[str, torch.Tensor] | None
) -> dict[str, torch.Tensor]:
    """The weight average; it and the student's weights are those of a checkpoint, where there is one."""
    if state:
        student.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("raw.")})
        return {k[4:]: v.to(place.device) for k, v in state.items() if k.startswith("ema.")}
    return {k: v.detach().clone() for k, v in student.state_dict().items()}


def _export(place: Place, student: Student, ema: dict[str, torch.Tensor]) -> None:
    """Writes the averaged weights as a FluxPipeline directory, half precision, with the VAE beside them."""
    raw = {k: v.detach().clone() for k, v in student.state_dict().items()}
    student.load_state_dict(ema)
    vae = AutoencoderTiny.from_pretrained(place.work / "vae")
    parts = b.pipeline(vae, student.transformer, student.t5, student.clip, student.tokens, student.pooled)
    parts.save_pretrained(place.work / "tabletop")
    shown = {key: getattr(CATALOG["tabletop"], key) for key in ("steps", "height", "width")}
    (place.work / "tabletop" / DEFAULTS_FILE).write_text(json.dumps(shown), encoding="utf-8")
    student.load_state_dict(raw)


def _improve(loss: torch.Tensor, student: Student, optimizers: list, team: Team) -> None:
    """One step of the optimisers, by the mean gradient of the team."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    team.average(student.parameters())
    torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()


def _follow(ema: dict[str, torch.Tensor], student: Student, keep: float) -> None:
    """Moves the weight average towards the student's weights."""
    state = student.state_dict()
    torch._foreach_lerp_([ema[k] for k in state], list(state.values()), 1 - keep)


def _save(place: Place, path: Path, student: Student, ema: dict[str, torch.Tensor], clock: Clock) -> None:
    """The checkpoint at `path`, and the pipeline of the averaged weights in `work/tabletop`."""
    raw = {f"raw.{k}": v for k, v in student.state_dict().items()}
    save_state(path, raw | {f"ema.{k}": v for k, v in ema.items()}, clock)
    _export(place, student, ema)
    clock.pause()


def prepare(place: Place) -> None:
    """Makes what the processes of a team read: the VAE of this work folder, and the latents."""
    if place.published and not (place.work / "vae").exists():
        shutil.copytree(place.assets / "tabletop" / "vae", place.work / "vae")
    encoded(place)


def train_flow(place: Place, heads: int = 4) -> None:
    """Leaves `work/tabletop/`, a FluxPipeline directory in float32; `publish` puts it into the assets."""
    prepare(place)
    trained_reader(place, encoded(place)[0])
    taught_words(place)
    run_team(_train, place.processes, place, heads)


def _train(team: Team, place: Place, heads: int) -> None:
    """One process of the team; all hold the same weights."""
    latents, features = encoded(place)
    reader = trained_reader(place, latents)
    size = (place.batch or BATCH) // team.size
    scenes = [scene_at(i, BACKBONE_SEED) for i in range(len(latents))]
    presence, numbers = (x.to(place.device) for x in targets(len(latents), BACKBONE_SEED))
    with torch.random.fork_rng():
        torch.random.manual_seed(51)
        student = Student(features.shape[-1], heads).to(place.device).train()
    clock = Clock("flow", place.minutes, every=30)
    checkpoint = place.work / "flow.safetensors"
    state = None if place.fresh else load_state(checkpoint, clock)
    if not state:
        if place.published:
            from_published(place, student)
        student.load_state_dict(taught_words(place), strict=False)
    ema = _resumed(place, student, state)
    optimizers = optimizers_of(student)
    rates = [o.param_groups[0]["lr"] for o in optimizers]
    rng = np.random.default_rng([BACKBONE_SEED, 61, clock.steps, team.rank])
    noise = torch.Generator(place.device).manual_seed(71 + clock.steps + 1_000_003 * team.rank)
    ids = torch.zeros(b.TEXT_TOKENS, 3, device=place.device), b.image_ids().to(place.device)
    supply = b.batches(len(latents), size, rng)
    if place.compile:
        student.transformer.compile()
    running, saved, started = True, clock.used, clock.steps
    clock.pause()
    while running:
        factor = team.agree(rate_at(clock.progress, clock.steps - started))
        set_rates(optimizers, rates, factor)
        rows = next(supply)
        z, f = latents[rows].to(place.device).float(), features[rows].to(place.device).float()
        eps = torch.randn(z.shape, generator=noise, device=z.device)
        t = torch.sigmoid(0.2 + torch.randn(size, generator=noise, device=z.device))
        x = torch.lerp(z, eps, t[:, None, None])
        prompts = prompts_of(rows, scenes, rng)
        with place.autocast():
            velocity, seen, unsaid = student(x, t, prompts, *ids)
        velocity = velocity.float()
        flow = F.mse_loss(velocity, eps - z)
        align = 1 - F.cosine_similarity(seen.float(), f, dim=-1).mean()
        clean = x - t[:, None, None] * velocity
        lacks = missed(reader, blurred(clean, noise), presence[rows], numbers[rows])
        # An empty caption asks for nothing; near pure noise (t = 1) nothing can be there yet
        asked = torch.tensor([bool(prompt) for prompt in prompts], device=lacks.device)
        facts = (asked * ((1 - t) / 0.25).clamp(max=1) * lacks).mean()
        loss = flow + _ALIGN_WEIGHT * align + _FACTS_WEIGHT * facts + _BINDING_WEIGHT * unsaid
        _improve(loss, student, optimizers, team)
        if team.leads:
            _follow(ema, student, min(_EMA, (1 + clock.steps) / (10 + clock.steps)))
        running = bool(team.agree(clock.step(flow.item(), size * team.size, shown=team.leads)))
        if team.leads and (not running or clock.used - saved > _SAVE_EVERY):
            saved = clock.used
            _save(place, checkpoint, student, ema, clock)
