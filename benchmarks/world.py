"""The embedded world in figures: `python benchmarks/world.py > world.json`. Progress on stderr; all seeds
fixed.

Measures, on held-out prompts: the judges and rewards on true pictures, the VAE, and the base at 4, 8, 15
and 30 steps
with and without guidance 2, each with a 95 % interval of its mean. Writes a contact sheet with --sheet.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from calibri.backbones.loading import load_backbone
from calibri.calibration.artifact import Member
from calibri.rewards import load_reward
from calibri.sampling.renderer import Renderer, RenderRequest
from calibri.tabletop.degrade import degrade, severities, to_tensor
from calibri.tabletop.prompts import scenes
from calibri.tabletop.raycast import raycast
from calibri.tabletop.world import Scene

NAMES = ("tabletop-align", "tabletop-quality", "tabletop-judge", "tabletop-facts")
IMAGE_SEED = 900_000


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def mean_with_interval(x: np.ndarray) -> dict[str, float]:
    """Mean, half width of its 95 % interval (normal), n."""
    return {
        "mean": round(float(x.mean()), 4),
        "ci95": round(float(1.96 * x.std(ddof=1) / len(x) ** 0.5), 4),
        "n": len(x),
    }


def as_images(x: torch.Tensor) -> list[Image.Image]:
    """(n, 3, h, w) in [0, 1] → pictures."""
    return [
        Image.fromarray(p) for p in (x.permute(0, 2, 3, 1).numpy() * 255 + 0.5).clip(0, 255).astype(np.uint8)
    ]


def share(better: np.ndarray, worse: np.ndarray) -> float:
    return round(float((better > worse).mean()), 4)


def true_pictures(n: int) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Held-out prompts, their clear pictures and a dull view of each, (n, 3, 128, 128) in [0, 1]."""
    drawn = scenes("held-out", n)
    clear = to_tensor(np.stack([raycast(scene) for scene, _ in drawn]))
    rng = np.random.default_rng([3, 1])
    dull = degrade(clear, torch.from_numpy(severities(n, rng, clear_share=0.0)))
    return [prompt for _, prompt in drawn], clear, dull


def also_true(of: Scene, other: Scene) -> bool:
    """Whether a prompt about `other` is true of a picture of `of` too: the same solids, and the same relation
    or order where both tell one. "Crimson orb" is no wrong answer to "a red sphere".
    """
    mine, theirs = (sorted(s.kind for s in scene.solids) for scene in (of, other))
    if mine != theirs:
        return False
    told = {scene.kind for scene in (of, other)}
    return of.key == other.key or not told <= {"pair", "row"}


def top1_of_64(align, images: list[Image.Image], drawn: list[tuple[Scene, str]]) -> float:
    """Share of pictures whose own prompt scores higher than the next 63 prompts that are not true of them."""
    cosine = align.features(images) @ align.text_features([prompt for _, prompt in drawn]).T
    n, hits = len(drawn), []
    for i, (scene, _) in enumerate(drawn):
        after = [(i + k) % n for k in range(1, n)]
        wrong = [j for j in after if not also_true(scene, drawn[j][0])][:63]
        hits.append(cosine[i, i] > cosine[i, wrong].max())
    return round(float(np.mean(hits)), 4)


def on_truth(rewards: dict, prompts: list[str], clear: torch.Tensor, dull: torch.Tensor) -> dict:
    """What judges and rewards say of true pictures."""
    n = len(prompts)
    views = {"clear": as_images(clear), "dull": as_images(dull)}
    shuffled = [prompts[i] for i in (np.arange(n) + n // 2) % n]
    facts, drawn = rewards["tabletop-facts"], scenes("held-out", n)
    out: dict = {"n": n}
    for view, images in views.items():
        out[view] = {
            "facts": mean_with_interval(facts.score(images, prompts)),
            "facts_shuffled": mean_with_interval(facts.score(images, shuffled)),
            "facts_all_right": round(float(facts.all_right(images, prompts).mean()), 4),
            "align_top1_of_64": top1_of_64(rewards["tabletop-align"], images, drawn),
        }
    for name in ("tabletop-quality", "tabletop-judge"):
        scores = {view: rewards[name].score(images, prompts) for view, images in views.items()}
        out[f"{name}: clear over dull"] = share(scores["clear"], scores["dull"])
    return out


def vae_decibels(backbone, clear: torch.Tensor, dull: torch.Tensor) -> dict:
    from calibri.tabletop.train.vae import psnr

    vae = backbone.pipeline.vae
    return {
        k: round(float(psnr(vae, x.to(vae.dtype)).mean()), 2) for k, x in (("clear", clear), ("dull", dull))
    }


def render(
    renderer: Renderer, prompts: list[str], steps: int, guidance: float | None = None
) -> list[Image.Image]:
    """One picture a prompt, seeds fixed."""
    requests = [RenderRequest(p, IMAGE_SEED + i, steps, guidance=guidance) for i, p in enumerate(prompts)]
    return [done.image for done in renderer.render(requests)]


def render_perturbed(renderer: Renderer, backbone, prompts: list[str]) -> list[Image.Image]:
    """The same pictures at 8 steps with strongly wrong scales, N(1, 0.5) at every gate."""
    layout = backbone.layout("gate")
    scales = np.random.default_rng([3, 2]).normal(1.0, 0.5, (len(prompts), len(layout.names)))
    requests = [
        RenderRequest(p, IMAGE_SEED + i, 8, (Member(scales=tuple(map(float, row))),), layout)
        for i, (p, row) in enumerate(zip(prompts, scales, strict=True))
    ]
    return [done.image for done in renderer.render(requests)]


def table(
    renderer: Renderer, rewards: dict, prompts: list[str], steps: tuple[int, ...]
) -> tuple[list[dict], dict]:
    """The base's scores at each number of steps, without and with guidance 2; the pictures by (steps,
    guidance).
    """
    rows, pictures = [], {}
    for guidance in (None, 2.0):
        for count in steps:
            start = time.perf_counter()
            images = render(renderer, prompts, count, guidance)
            seconds = time.perf_counter() - start
            row = {
                "steps": count,
                "guidance": guidance or 1.0,
                "images_per_second": round(len(images) / seconds, 2),
            }
            row |= {name: mean_with_interval(r.score(images, prompts)) for name, r in rewards.items()}
            row["all_right"] = round(float(rewards["tabletop-facts"].all_right(images, prompts).mean()), 4)
            rows.append(row)
            pictures[count, guidance] = images
            say(json.dumps(row))
    return rows, pictures


def contact_sheet(path: Path, prompts: list[str], rows: list[list[Image.Image]], columns: int = 8) -> None:
    """Pictures with their prompts below; `rows` are shown one above the other for each prompt."""
    side, text = 128, 26
    cell = side * len(rows) + text
    lines = -(-len(prompts) // columns)
    sheet = Image.new("RGB", (columns * (side + 4), lines * cell), "white")
    draw = ImageDraw.Draw(sheet)
    for i, prompt in enumerate(prompts):
        x, y = (i % columns) * (side + 4), (i // columns) * cell
        for k, images in enumerate(rows):
            sheet.paste(images[i], (x, y + k * side))
        half = prompt.rfind(" ", 0, 23) if len(prompt) > 22 else len(prompt)
        draw.text(
            (x + 2, y + side * len(rows)),
            prompt[:half] + "\n" + prompt[half + 1 : half + 24],
            fill="black",
            font_size=10,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--steps", default="4,8,15,30")
    parser.add_argument("--backbone", default="tabletop")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of 24 held-out prompts here")
    a = parser.parse_args()
    backbone = load_backbone(a.backbone)
    renderer = Renderer(backbone, batch_size=64)
    rewards = {name: load_reward(name) for name in NAMES}
    prompts, clear, dull = true_pictures(a.prompts)
    out: dict = {
        "truth": on_truth(rewards, prompts, clear, dull),
        "vae_psnr_db": vae_decibels(backbone, clear, dull),
    }
    say(json.dumps(out))
    steps = tuple(int(s) for s in a.steps.split(","))
    out["base"], pictures = table(renderer, rewards, prompts, steps)
    plain = pictures[8, None] if 8 in steps else render(renderer, prompts, 8)
    wrong = render_perturbed(renderer, backbone, prompts)
    true = as_images(clear)
    for name in ("tabletop-quality", "tabletop-judge"):
        scores = [rewards[name].score(images, prompts) for images in (true, plain, wrong)]
        out[f"{name}: truth over render"] = share(scores[0], scores[1])
        out[f"{name}: render over perturbed"] = share(scores[1], scores[2])
    if a.sheet:
        guided = pictures.get((8, 2.0)) or render(renderer, prompts, 8, 2.0)
        contact_sheet(a.sheet, prompts[:24], [plain[:24], guided[:24]])
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
