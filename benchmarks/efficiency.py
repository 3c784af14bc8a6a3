"""Images and seconds: our search against a plain loop that does what the paper's code does.

    python benchmarks/efficiency.py --images 4000 --seeds 5
    python benchmarks/efficiency.py --quick

The plain loop (SEARCH.md): pycma's default population, sigma0 0.25, start at ones, a fresh bucket of 16
prompts for each generation, shared prompts and seeds for its candidates, bounds [-1, 2], one candidate
after the other in batches of 4 through the pipeline itself, and it returns the best candidate ever seen.
Both loops get the same number of images and the same rewards, each divided by its spread on the base.

Reported: images after which our shipped point (the tail average) reaches the plain loop's final held-out
gain and stays there at the next checkpoint too, and rendered images per second. JSON on stdout, progress on
stderr; finished seeds are kept under --work.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import cma
import numpy as np
import torch

from calibri.analysis.evaluate import pairs_of
from calibri.backbones.loading import Backbone, load_backbone
from calibri.calibration.artifact import Member
from calibri.calibration.layout import Layout
from calibri.rewards.base import load_reward
from calibri.sampling.hooks import ScaleHooks
from calibri.sampling.renderer import Renderer, RenderRequest
from calibri.search.config import Budget, RewardTerm, SearchConfig
from calibri.search.journal import read_journal
from calibri.search.records import BaseRecord, GenerationRecord
from calibri.search.run import run_search
from calibri.search.scoring import LocalScorer
from calibri.search.stopping import tail_average
from calibri.tabletop.prompts import prompt_set

CHECKPOINTS = 24


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Normal:
    """pycma's randn over a generator of its own, so that the plain loop can be repeated."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, *shape: int) -> np.ndarray:
        return self.generator.standard_normal(shape)


class Ruler:
    """Held-out gain of a vector: Σ w · (R − R(base)) / spread over the held-out pairs."""

    def __init__(
        self, args: argparse.Namespace, scorer: LocalScorer, layout: Layout, terms, spread: np.ndarray
    ) -> None:
        self.pairs = pairs_of(prompt_set("held-out", args.prompts, seed=0), seed=1)
        self.scorer, self.layout, self.steps = scorer, layout, args.steps
        self.names = [term.name for term in terms]
        self.weights = np.array([term.weight for term in terms])
        self.spread = spread
        self.base = self._scores(None)

    def _scores(self, vector: np.ndarray | None) -> np.ndarray:
        members = None if vector is None else (Member(scales=tuple(float(v) for v in vector)),)
        requests = [
            RenderRequest(
                prompt=pair.prompt,
                seed=pair.seed,
                steps=self.steps,
                members=members,
                layout=None if members is None else self.layout,
            )
            for pair in self.pairs
        ]
        return self.scorer(requests, self.names)

    def gain(self, vector: np.ndarray) -> float:
        return float((((self._scores(vector) - self.base) / self.spread) @ self.weights).mean())


def plain_loop(
    args, backbone: Backbone, rewards, terms, spread: np.ndarray, seed: int, prompts: list[str]
) -> dict:
    """What the paper's code does, on this backbone's pipeline."""
    layout = backbone.layout(args.granularity)
    n = len(layout.names)
    es = cma.CMAEvolutionStrategy(
        [1.0] * n,
        0.25,
        {
            "bounds": list(args.plain_bounds),
            "randn": Normal(seed),
            "seed": math.nan,
            "verbose": -9,
            "verb_log": 0,
            "signals_filename": None,
        },
    )
    es.inject([np.ones(n)], force=True)
    draw = np.random.Generator(np.random.PCG64([seed, 99]))
    weights = np.array([term.weight for term in terms]) / spread
    best, best_score, images = np.ones(n), -math.inf, 0
    began = time.monotonic()
    pipeline = backbone.pipeline
    pipeline.set_progress_bar_config(disable=True)
    tokens = min(backbone.spec.max_sequence_length, pipeline.tokenizer_2.model_max_length)
    with ScaleHooks(pipeline.transformer, backbone.sites) as hooks, torch.inference_mode():
        while images < args.images:
            bucket = [prompts[i] for i in draw.choice(len(prompts), 16, replace=False)]
            seeds = draw.integers(0, 2**31, 16).tolist()
            candidates = es.ask()
            scores = []
            for candidate in candidates:
                hooks.set(layout.expand(candidate))
                total = 0.0
                for i in range(0, 16, 4):
                    generators = [torch.Generator("cpu").manual_seed(s) for s in seeds[i : i + 4]]
                    pictures = pipeline(
                        prompt=bucket[i : i + 4],
                        num_inference_steps=args.steps,
                        generator=generators,
                        height=backbone.spec.height,
                        width=backbone.spec.width,
                        guidance_scale=backbone.spec.guidance or 0.0,
                        max_sequence_length=tokens,
                    ).images
                    for weight, term in zip(weights, terms, strict=True):
                        total += weight * float(np.sum(rewards[term.name].score(pictures, bucket[i : i + 4])))
                scores.append(total / 16)
                images += 16
                if scores[-1] > best_score:
                    best, best_score = candidate.copy(), scores[-1]
            es.tell(candidates, [-score for score in scores])
            say(f"  plain: {images} images, best ever {best_score:.3f}, sigma {es.sigma:.3f}")
    seconds = time.monotonic() - began
    return {
        "vector": best.tolist(),
        "mean": es.result.xfavorite.tolist(),
        "images": images,
        "seconds": seconds,
        "claimed": best_score,
    }


def our_loop(args, backbone: Backbone, rewards, terms, seed: int, prompts: list[str], folder: Path) -> dict:
    """Our search with the same number of images; the points that it would have shipped at checkpoints."""
    config = SearchConfig.make(
        args.preset,
        granularity=args.granularity,
        rewards=terms,
        steps=args.steps,
        seed=seed,
        prompts=tuple(prompts),
        validation_pairs=0,
        held_out_pairs=0,
        convergence="none",
        batch_size=args.batch_size,
    )
    for record in run_search(
        config, folder, backbone=backbone, rewards=rewards, budget=Budget(images=args.images)
    ):
        if isinstance(record, GenerationRecord) and record.generation % 5 == 0:
            say(f"  ours: {record.images} images, {record.bucket_mean.text()}, sigma {record.sigma:.3f}")
    records = read_journal(folder)
    generations = [r for r in records if isinstance(r, GenerationRecord)]
    base = next(r for r in records if isinstance(r, BaseRecord))
    points, last = [], 0
    for place, record in enumerate(generations):
        if record.images >= 1.2 * last or place + 1 == len(generations):
            last = record.images
            points.append((record.images, tail_average(generations[: place + 1], config.tail)))
    final = generations[-1]
    return {"points": points, "images": final.images, "seconds": final.seconds, "base": base}


def one_seed(args, backbone, rewards, scorer, terms, ruler: Ruler, seed: int) -> dict:
    prompts = prompt_set("search", 512, seed=0)
    folder = args.work / f"ours-{args.preset}-{args.granularity}-{args.images}-{seed}"
    ours = our_loop(args, backbone, rewards, terms, seed, prompts, folder)
    plain = plain_loop(args, backbone, rewards, terms, ruler.spread, seed, prompts)
    goal = ruler.gain(np.array(plain["vector"]))
    curve = [(images, ruler.gain(point)) for images, point in ours["points"]]
    reached = next(
        (
            images
            for k, (images, gain) in enumerate(curve)
            if gain >= goal and (k + 1 == len(curve) or curve[k + 1][1] >= goal)
        ),
        None,
    )
    report = {
        "seed": seed,
        "plain": {
            "held_out_gain": goal,
            "held_out_gain_of_its_mean": ruler.gain(np.array(plain["mean"])),
            "images": plain["images"],
            "images_per_second": plain["images"] / plain["seconds"],
        },
        "ours": {
            "held_out_gain": curve[-1][1],
            "curve": [[images, round(gain, 4)] for images, gain in curve],
            "images": ours["images"],
            "images_per_second": ours["images"] / ours["seconds"],
        },
        "images_to_reach_plain": reached,
        "times_fewer_images": None if reached is None else plain["images"] / reached,
        "times_faster_rendering": (ours["images"] / ours["seconds"]) / (plain["images"] / plain["seconds"]),
    }
    say(
        f"seed {seed}: plain {goal:.3f} after {plain['images']} images, ours {curve[-1][1]:.3f}; "
        f"reached after {reached}; "
        f"rendering {report['times_faster_rendering']:.2f} times as fast"
    )
    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=4000, help="of each loop")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--granularity", default="layer", choices=("block", "layer", "gate"))
    parser.add_argument("--reward", default="tabletop-align,tabletop-quality")
    parser.add_argument("--preset", default="default")
    parser.add_argument(
        "--plain-bounds", type=lambda text: tuple(map(float, text.split(","))), default=(-1.0, 2.0)
    )
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--work", type=Path, default=Path("runs/efficiency"))
    parser.add_argument("--quick", action="store_true", help="two seeds of 400 images: does it work?")
    args = parser.parse_args()
    if args.quick:
        args.images, args.seeds, args.prompts, args.work = 400, 2, 24, args.work / "quick"
    args.work.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone("tabletop")
    terms = tuple(RewardTerm.parse(text) for text in args.reward.split(","))
    rewards = {term.name: load_reward(term.name, backbone.device.type) for term in terms}
    scorer = LocalScorer(Renderer(backbone, batch_size=args.batch_size), rewards, args.batch_size)
    layout = backbone.layout(args.granularity)
    ruler = Ruler(args, scorer, layout, terms, np.ones(len(terms)))
    ruler.spread = ruler.base.std(axis=0, ddof=1)
    reports = []
    for seed in range(args.seeds):
        kept = args.work / f"seed-{args.preset}-{args.granularity}-{args.images}-{seed}.json"
        if not kept.exists():
            report = one_seed(args, backbone, rewards, scorer, terms, ruler, seed)
            kept.write_text(json.dumps(report), encoding="utf-8")
        reports.append(json.loads(kept.read_text(encoding="utf-8")))
    never = [r["seed"] for r in reports if r["times_fewer_images"] is None]
    fewer = sorted(r["times_fewer_images"] or 0.0 for r in reports)
    faster = sorted(r["times_faster_rendering"] for r in reports)
    out = {
        "command": "python benchmarks/efficiency.py " + " ".join(sys.argv[1:]),
        "backbone": backbone.fingerprint,
        "threads": torch.get_num_threads(),
        "times_fewer_images": {
            "median": statistics.median(fewer),
            "low": fewer[0],
            "high": fewer[-1],
            "aim": 5,
        },
        "seeds_that_never_reached_plain": never,
        "times_faster_rendering": {
            "median": statistics.median(faster),
            "low": faster[0],
            "high": faster[-1],
            "aim": 2,
        },
        "seeds": reports,
    }
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
