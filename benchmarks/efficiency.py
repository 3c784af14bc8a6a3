"""Images and seconds: our search against a plain loop that does what the paper's code does.

    python -m benchmarks.efficiency --images 2000 --seeds 5
    python -m benchmarks.efficiency --quick

The plain loop (SEARCH.md): pycma's default population, sigma0 0.25, start at ones, a fresh bucket of 16
prompts for each generation, shared prompts and seeds for its candidates, bounds [-1, 2], one candidate
after the other in batches of 4 through the pipeline as diffusers loads it, and it returns the best candidate
ever seen. Both loops get the same number of images and the same rewards, each divided by its spread on the
base. With --processes, several seeds at once: each loop then has its share of the processor. With --workers,
our loop spreads its pictures over processes of one thread each, where the plain loop has as many threads;
with --compile it renders with compiled blocks; its workers keep freed memory (calibri/memory.py). Loading
and compiling are not in the rates.

Reported: images after which the point that our search would ship reaches the plain loop's final held-out
gain and stays there at the next checkpoint too, for each seed and for the means of all, and rendered images
per second. JSON on stdout, progress on stderr; finished seeds are kept under --work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

import cma
import numpy as np
import torch
from diffusers import FluxPipeline

from benchmarks.ruler import Ruler, add_options, checkpoints, say, search_prompts
from calibri.rewards.scoring import Scorer
from calibri.sampling.hooks import ScaleHooks
from calibri.sampling.renderer import RenderRequest
from calibri.search.distributed import RayScorer
from calibri.search.stopping import kept_point, tail_average

SPACING = 1.25  # between the points of our search that are judged, in images


class Normal:
    """pycma's randn over a generator of its own, so that the plain loop can be repeated."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, *shape: int) -> np.ndarray:
        return self.generator.standard_normal(shape)


def plain_loop(args: argparse.Namespace, ruler: Ruler, seed: int, prompts: list[str]) -> dict:
    """What the paper's code does, on a plain pipeline of the same weights."""
    layout, spec = ruler.layout, ruler.backbone.spec
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
    weights = ruler.weights / ruler.spread
    best, best_score, images = np.ones(n), -math.inf, 0
    pipeline = FluxPipeline.from_pretrained(spec.source)
    pipeline.set_progress_bar_config(disable=True)
    tokens = min(spec.max_sequence_length, pipeline.tokenizer_2.model_max_length)
    began = time.monotonic()
    with ScaleHooks(pipeline.transformer, ruler.backbone.sites) as hooks, torch.inference_mode():
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
                        height=spec.height,
                        width=spec.width,
                        guidance_scale=spec.guidance or 0.0,
                        max_sequence_length=tokens,
                    ).images
                    for weight, name in zip(weights, ruler.names, strict=True):
                        scored = ruler.rewards[name].score(pictures, bucket[i : i + 4])
                        total += weight * float(np.sum(scored))
                scores.append(total / 16)
                images += 16
                if scores[-1] > best_score:
                    best, best_score = candidate.copy(), scores[-1]
            es.tell(candidates, [-score for score in scores])
            say(f"  plain {seed}: {images} images, best ever {best_score:.3f}, sigma {es.sigma:.3f}")
    return {
        "vector": best,
        "mean": es.result.xfavorite,
        "images": images,
        "seconds": time.monotonic() - began,
    }


def our_loop(args: argparse.Namespace, ruler: Ruler, seed: int, images: int) -> dict:
    """Our search with the same number of images; at checkpoints the points that it would have shipped, and
    the tail averages of its means.
    """
    config = ruler.config(args.preset, seed, compile=args.compile)
    folder = args.work / f"ours-{args.granularity}-{config.hash[:8]}-{images}"
    with contextlib.ExitStack() as stack:
        scorer = None
        if args.workers > 1:
            scorer = stack.enter_context(RayScorer.connected(config, workers=args.workers))
        warm_up(args, ruler, scorer)
        generations = ruler.search(config, folder, images, scorer)
    points = [
        (so_far[-1].images, kept_point(so_far, config.tail), tail_average(so_far, config.tail))
        for so_far in (generations[:count] for count in checkpoints(generations, SPACING))
    ]
    return {"points": points, "images": generations[-1].images, "seconds": generations[-1].seconds}


def warm_up(args: argparse.Namespace, ruler: Ruler, scorer: Scorer | None) -> None:
    """Pictures that nobody counts: compiled code is made with the first ones, as weights are loaded once."""
    if not args.compile:
        return
    began = time.monotonic()
    for pictures in (args.batch_size * args.workers * 2, args.workers, args.batch_size * args.workers):
        requests = [RenderRequest("a red cube", i, args.steps) for i in range(pictures)]
        (scorer or ruler.scorer)(requests, ruler.names)
    say(f"  compiled and warm after {time.monotonic() - began:.0f} s")


def reached(curve: list[tuple[int, float]], goal: float) -> int | None:
    """Images at the first checkpoint whose gain is `goal` or more and stays so at the next; None if there is
    none.
    """
    for k, (images, gain) in enumerate(curve):
        if gain >= goal and (k + 1 == len(curve) or curve[k + 1][1] >= goal):
            return images
    return None


def one_seed(args: argparse.Namespace, ruler: Ruler, seed: int) -> dict:
    plain = plain_loop(args, ruler, seed, search_prompts())
    ours = our_loop(args, ruler, seed, plain["images"])
    goal = ruler.gain(plain["vector"])
    curve = [(images, ruler.gain(point)) for images, point, _ in ours["points"]]
    tails = [(images, ruler.gain(tail)) for images, _, tail in ours["points"]]
    images = reached(curve, goal)
    rates = {name: loop["images"] / loop["seconds"] for name, loop in (("plain", plain), ("ours", ours))}
    report = {
        "seed": seed,
        "plain": {
            "held_out_gain": goal,
            "held_out_gain_of_its_mean": ruler.gain(plain["mean"]),
            "images": plain["images"],
            "images_per_second": rates["plain"],
        },
        "ours": {
            "held_out_gain": curve[-1][1],
            "curve": [[images, round(gain, 4)] for images, gain in curve],
            "curve_of_the_tail_average": [[images, round(gain, 4)] for images, gain in tails],
            "images": ours["images"],
            "images_per_second": rates["ours"],
        },
        "images_to_reach_plain": images,
        "times_fewer_images": None if images is None else plain["images"] / images,
        "times_faster_rendering": rates["ours"] / rates["plain"],
    }
    say(
        f"seed {seed}: plain {goal:.3f} after {plain['images']} images, ours {curve[-1][1]:.3f}; "
        f"reached after {images}; rendering {report['times_faster_rendering']:.2f} times as fast"
    )
    return report


def some_seeds(args: argparse.Namespace, seeds: list[int], threads: int) -> None:
    """Measures each seed whose report is not there yet; what a process does."""
    torch.set_num_threads(threads)
    ruler = Ruler(args, compile=args.compile and args.workers == 1)
    for seed in seeds:
        path = report_path(args, seed)
        if not path.exists():
            path.write_text(json.dumps(one_seed(args, ruler, seed)), encoding="utf-8")


def report_path(args: argparse.Namespace, seed: int) -> Path:
    return args.work / f"seed-{args.preset}-{args.granularity}-{args.images}-{seed}.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser, Path("runs/efficiency"), prompts=200, images=2000)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--preset", default="default")
    parser.add_argument(
        "--plain-bounds", type=lambda text: tuple(map(float, text.split(","))), default=(-1.0, 2.0)
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="Ray workers of our loop, each with one thread (extra `ray`)"
    )
    parser.add_argument("--compile", action="store_true", help="our loop compiles the transformer's blocks")
    parser.add_argument("--processes", type=int, default=1, help="seeds that are measured at once")
    parser.add_argument("--threads", type=int, help="of each process; default: the cores, shared out")
    parser.add_argument("--quick", action="store_true", help="two seeds of 400 images: does it work?")
    args = parser.parse_args()
    if args.quick:
        args.images, args.seeds, args.prompts, args.work = 400, 2, 24, args.work / "quick"
    args.work.mkdir(parents=True, exist_ok=True)
    threads = args.threads or max(1, (os.cpu_count() or 1) // args.processes)
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    shares = [list(seeds[k :: args.processes]) for k in range(args.processes)]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        pool.starmap(some_seeds, [(args, share, threads) for share in shares], chunksize=1)
    reports = [json.loads(report_path(args, seed).read_text(encoding="utf-8")) for seed in seeds]
    fewer = sorted(r["times_fewer_images"] or 0.0 for r in reports)
    faster = sorted(r["times_faster_rendering"] for r in reports)
    out = {
        "command": "python -m benchmarks.efficiency " + " ".join(sys.argv[1:]),
        "threads_of_each_process": threads,
        "times_fewer_images": median_of(fewer, aim=5),
        "seeds_that_never_reached_plain": [r["seed"] for r in reports if r["times_fewer_images"] is None],
        "times_faster_rendering": median_of(faster, aim=2),
        "mean_of_seeds": mean_of_seeds(reports),
        "seeds": reports,
    }
    print(json.dumps(out, indent=1))


def mean_of_seeds(reports: list[dict]) -> dict | None:
    """The mean gains of all seeds, which no single lucky candidate decides: the plain loop's final one, and
    ours at the checkpoints. None if those do not lie at the same images for all seeds.
    """
    plain = statistics.fmean(r["plain"]["held_out_gain"] for r in reports)
    images = [[at for at, _ in r["ours"]["curve"]] for r in reports]
    if any(row != images[0] for row in images):
        return None

    def mean_curve(name: str) -> list[tuple[int, float]]:
        gains = np.mean([[gain for _, gain in r["ours"][name]] for r in reports], axis=0)
        return list(zip(images[0], np.round(gains, 4).tolist(), strict=True))

    ours = mean_curve("curve")
    found = reached(ours, plain)
    return {
        "plain": plain,
        "ours": ours,
        "ours_by_tail_average": mean_curve("curve_of_the_tail_average"),
        "images_to_reach_plain": found,
        "times_fewer_images": None if found is None else reports[0]["plain"]["images"] / found,
    }


def median_of(values: list[float], aim: float) -> dict[str, float]:
    """Median and range of sorted values, beside what was aimed at."""
    return {"median": statistics.median(values), "low": values[0], "high": values[-1], "aim": aim}


if __name__ == "__main__":
    main()
