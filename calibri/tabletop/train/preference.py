"""Stages `quality` (a reward) and `judge`: a Bradley–Terry net on pairs whose better side is known.

Better over worse: a clear view over a dull one, a less dull view over a duller one, a true picture over a
render, a
render over the same seed with strongly perturbed scales, and a true picture over a spoilt one (blotches,
grids, false
contrast, halos): what a search would otherwise discover as cheap gain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from calibri.tabletop.degrade import degrade, severities, to_tensor
from calibri.tabletop.nets import QualityNet
from calibri.tabletop.train.common import BACKBONE_SEED, JUDGE_SEED, Place, new_net, save_net, train_net

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

WIDTHS = {"quality": 20, "judge": 28}
_TRUE, _RENDERED, _RATE = 6, 46, 2e-3  # pairs of each true kind and of renders in a step
_RENDERS = 1280
_CROP = 112  # of 128 px: no net can learn a render by heart when it never sees it twice in one place


def spoil(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Pictures with one fault each that no camera makes. x: (B, 3, H, W) in [0, 1]."""
    out = x.clone()
    h = x.shape[-1]
    for i in range(len(x)):
        fault, force = int(rng.integers(6)), float(rng.uniform(0.3, 1.0))
        if fault == 0:  # coloured blotches
            n = int(rng.integers(3, 12))
            low = torch.from_numpy(rng.normal(size=(1, 3, n, n)).astype(np.float32))
            out[i] += 0.18 * force * F.interpolate(low, (h, h), mode="bicubic")[0].to(x.device)
        elif fault == 1:  # a faint grid, as of latent patches
            period = int(rng.choice([8, 16]))
            at = torch.arange(h, device=x.device)
            lines = ((at % period) < period // 8 + 1).float()
            out[i] += 0.12 * force * float(rng.choice([-1, 1])) * torch.maximum(lines[None], lines[:, None])
        elif fault == 2:  # false contrast
            out[i] = 0.5 + (1 + 0.9 * force) * (out[i] - 0.5) + float(rng.uniform(-0.12, 0.12))
        elif fault == 3:  # false colours: over-saturated, tinted
            grey = out[i].mean(0, keepdim=True)
            tint = torch.from_numpy(rng.normal(size=(3, 1, 1)).astype(np.float32)).to(x.device)
            out[i] = grey + (1 + 1.0 * force) * (out[i] - grey) + 0.10 * force * tint
        elif fault == 4:  # halos of over-sharpening
            soft = F.avg_pool2d(out[i][None], 5, 1, 2)[0]
            out[i] += 2.0 * force * (out[i] - soft)
        else:  # grain
            out[i] += (
                0.12 * force * torch.from_numpy(rng.normal(size=(3, h, h)).astype(np.float32)).to(x.device)
            )
    return out.clamp(0, 1)


def perturbations(count: int, n_scales: int, rng: np.random.Generator) -> np.ndarray:
    """(count, n_scales) strongly wrong scales: each N(1, 0.15 … 0.8), or all together × 0.4 … 1.6 (not near
    1), or both.
    """
    each = rng.normal(1.0, rng.uniform(0.15, 0.8, (count, 1)), (count, n_scales))
    both = np.where(
        rng.random((count, 1)) < 0.5, rng.uniform(0.4, 0.8, (count, 1)), rng.uniform(1.25, 1.6, (count, 1))
    )
    pick = rng.random((count, 1))
    return np.where(pick < 0.6, each, np.where(pick < 0.8, both, each * both)).astype(np.float32)


def _renders(place: Place, name: str) -> dict[str, torch.Tensor]:
    """uint8 pictures (n, 128, 128, 3): `render` by the base and `spoilt` by the base with wrong scales,
    same seeds. Those of bases that were published earlier stay in use: the more pairs, the better.
    """
    from calibri.backbones.loading import load_backbone

    backbone = load_backbone(str(place.assets / "tabletop"), device=place.device)
    path = place.work / f"renders-{name}-{backbone.fingerprint[:8]}.safetensors"
    known = sorted(place.work.glob(f"renders-{name}-*.safetensors"))
    every = [load_file(each) for each in known]
    if path not in known:
        every.append(_new_renders(backbone, name, len(known)))
        save_file(every[-1], path)
    return {kind: torch.cat([each[kind] for each in every]) for kind in every[0]}


def _new_renders(backbone: Backbone, name: str, earlier: int) -> dict[str, torch.Tensor]:
    """Such pictures by this base, of other prompts and seeds than those of `earlier` bases."""
    from calibri.calibration.artifact import Member
    from calibri.sampling.renderer import Renderer, RenderRequest
    from calibri.tabletop.prompts import prompt_set

    layout = backbone.layout("gate")
    renderer = Renderer(backbone, batch_size=64)
    rng = np.random.default_rng([JUDGE_SEED if name == "judge" else BACKBONE_SEED, 111, earlier])
    number = _RENDERS // 2 if earlier else _RENDERS
    prompts = prompt_set("train", number, seed=(201 if name == "judge" else 200) + 10 * earlier)
    scales = perturbations(number, len(layout.names), rng)
    start = (500_000 if name == "judge" else 400_000) + _RENDERS * earlier
    kept: dict[str, torch.Tensor] = {}
    for kind in ("render", "spoilt"):
        requests = []
        for i, prompt in enumerate(prompts):
            members = (Member(scales=tuple(map(float, scales[i]))),) if kind == "spoilt" else None
            guidance = 2.0 if i % 4 == 0 else None
            requests.append(RenderRequest(prompt, start + i, 8, members, layout, guidance=guidance))
        done = renderer.render(requests)
        kept[kind] = torch.from_numpy(np.stack([np.asarray(r.image) for r in done]))
        print(f"{name}: {len(done)} pictures of kind {kind}", flush=True)
    return kept


def _pairs(
    x: torch.Tensor, good: torch.Tensor, bad: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """(better, worse), each (3n + m, 3, H, W). x: 3n true pictures; good, bad: m ≥ n renders and their
    perturbed twins, which take the larger part: they are the hardest to tell apart.
    """
    view, true, plain = x.chunk(3)
    n = len(view)
    dull = torch.from_numpy(severities(n, rng, 0.0)).to(x.device)
    # Half of these pairs hold two dull views of one scene, the better one less dull
    less = dull * torch.from_numpy((rng.random(n) < 0.5) * rng.uniform(0, 0.7, n)).float().to(x.device)
    # A true picture is better than a render only where it is not itself the duller of the two
    true = degrade(true, torch.from_numpy(0.3 * severities(n, rng, 0.6)).to(x.device))
    plain = degrade(plain, torch.from_numpy(severities(n, rng)).to(x.device))
    other = good[torch.from_numpy(rng.permutation(len(good))[:n]).to(x.device)]
    return (
        torch.cat([degrade(view, less), true, good, plain]),
        torch.cat([degrade(view, dull), other, bad, spoil(plain, rng)]),
    )


def _shaken(
    better: torch.Tensor, worse: torch.Tensor, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sides of each pair cropped at one place; half of the pairs mirrored, half with exchanged colour
    channels.
    """
    top, left = (int(at) for at in rng.integers(0, better.shape[-1] - _CROP + 1, 2))
    mirrored = torch.from_numpy(rng.random(len(better)) < 0.5).to(better.device)[:, None, None, None]
    better, worse = (x[..., top : top + _CROP, left : left + _CROP] for x in (better, worse))
    dyed = torch.from_numpy(rng.random(len(better)) < 0.5).to(better.device)[:, None, None, None]
    channels = rng.permutation(3).tolist()
    better, worse = (torch.where(mirrored, x.flip(-1), x) for x in (better, worse))
    return torch.where(dyed, better[:, channels], better), torch.where(dyed, worse[:, channels], worse)


def train_preference(place: Place, name: str) -> None:
    """Leaves `assets/rewards/<name>.safetensors`."""
    seed = JUDGE_SEED if name == "judge" else BACKBONE_SEED
    renders = _renders(place, name)
    pictures = place.pictures(seed)[:12_000]
    rng = np.random.default_rng([seed, 121])
    net = new_net(lambda: QualityNet(WIDTHS[name]), 131 + seed, place.device)
    count = len(renders["render"])

    def lose() -> tuple[torch.Tensor, int]:
        rows = np.sort(rng.integers(len(pictures), size=3 * _TRUE))
        pick = rng.integers(count, size=_RENDERED)
        x = to_tensor(pictures[rows])[torch.from_numpy(rng.permutation(3 * _TRUE))].to(place.device)
        good, bad = (to_tensor(renders[kind][pick].numpy()).to(place.device) for kind in ("render", "spoilt"))
        better, worse = _shaken(*_pairs(x, good, bad, rng), rng)
        with place.autocast():
            both = net(torch.cat([better, worse]).to(memory_format=torch.channels_last)).float()
        up, down = both.chunk(2)
        # Bradley–Terry: P(better preferred) = sigmoid(difference); a small pull towards 0 fixes the free
        # constant
        loss = F.softplus(down - up).mean() + 1e-3 * both.pow(2).mean()
        return loss, len(both)

    clock = train_net(place, name, net, _RATE, 0.05, lose)
    save_net(place, name, net, WIDTHS[name], seed, clock)
