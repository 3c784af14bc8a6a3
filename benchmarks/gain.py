"""What a search brings on tabletop: searches, then rewards and judges on held-out prompts, in pairs.

    python benchmarks/gain.py --granularity layer --images 2000      one search
    python benchmarks/gain.py --all --minutes 20                     layer, block, gate and both ensembles
    python benchmarks/gain.py --granularity gate --start FILE         from a calibration that was found
    python benchmarks/gain.py --quick                                a minute, to see that it works

JSON on stdout, progress on stderr. Searches live in run folders under --work: what is there goes on, or is
kept if it is finished. Calibrated and ensembles at 4, 8 (and 15) steps are held against base at 8, 15 and
30.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from calibri.analysis.evaluate import Arm, arm_scores, pairs_of
from calibri.backbones.layouts import Layout
from calibri.backbones.loading import load_backbone
from calibri.calibration.artifact import Calibration
from calibri.interval import paired_interval
from calibri.rewards.base import RewardTerm, load_reward
from calibri.rewards.scoring import LocalScorer, Pair
from calibri.sampling.renderer import Renderer
from calibri.search.config import Budget, SearchConfig
from calibri.search.journal import TAIL
from calibri.search.presets import WHOLE_BOUNDS
from calibri.search.records import BaseRecord, GenerationRecord, ResultRecord, ValidationRecord
from calibri.search.run import run_search
from calibri.search.space import Start, calibration_start, ensemble_start, guidance_start, plain_start
from calibri.tabletop.prompts import prompt_set
from calibri.words import long_duration

JUDGES = ("tabletop-judge", "tabletop-facts")
SEARCHES = ("layer", "block", "gate", "ensemble", "ensemble-guided")
BASE_STEPS = (4, 8, 15, 30)
OWN = ("sigma0", "step_limit", "point")  # options that stand above the preset


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--granularity", dest="searches", action="append", choices=SEARCHES, help="repeatable"
    )
    parser.add_argument("--all", action="store_true", help="all five searches")
    parser.add_argument(
        "--reward", default="tabletop-align,tabletop-quality", help="with weights if wanted: a,b:2"
    )
    parser.add_argument("--preset", default="default")
    parser.add_argument("--start", type=Path, help="a calibration to start from, at any granularity")
    parser.add_argument("--sigma0", type=float, help="first step of the scales; the preset's if not given")
    parser.add_argument("--step-limit", choices=("decay", "none"), help="the preset's if not given")
    parser.add_argument("--point", choices=("tail", "fitted"), help="the preset's if not given")
    parser.add_argument("--guidance-start", type=float, default=1.5, help="of the ensemble-guided search")
    parser.add_argument("--images", type=int, help="of each search")
    parser.add_argument("--minutes", type=float, help="of each search (default 20)")
    parser.add_argument("--prompts", type=int, default=200, help="held-out prompts")
    parser.add_argument("--per-prompt", type=int, default=1, help="seeds for each of them")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--work", type=Path, default=Path("runs/gain"))
    parser.add_argument("--ship", type=Path, help="folder for the calibrations that were shown to be better")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        args.images, args.prompts, args.work = args.images or 300, min(args.prompts, 16), args.work / "quick"
    if args.images is None and args.minutes is None:
        args.minutes = 20
    return args


def main() -> None:
    args = read_arguments()
    wanted = SEARCHES if args.all else tuple(args.searches or ("layer",))

    backbone = load_backbone("tabletop")
    terms = tuple(RewardTerm.parse(text) for text in args.reward.split(","))
    names = [*(term.name for term in terms), *JUDGES]
    rewards = {name: load_reward(name, device=str(backbone.device)) for name in names}
    scorer = LocalScorer(Renderer(backbone, batch_size=args.batch_size), rewards, args.batch_size)
    pairs = pairs_of(prompt_set("held-out", args.prompts, seed=0), seed=1, per_prompt=args.per_prompt)

    def scores(arm: Arm) -> np.ndarray:
        """(prompts, names): the mean over a prompt's seeds, whose pictures are not independent."""
        raw = arm_scores(arm, pairs, scorer, names)
        return raw.reshape(args.prompts, args.per_prompt, len(names)).mean(axis=1)

    args.work.mkdir(parents=True, exist_ok=True)

    out = {
        "command": "python benchmarks/gain.py " + shlex.join(sys.argv[1:]),
        "backbone": backbone.fingerprint,
        "rewards": [term.text for term in terms],
        "judges": list(JUDGES),
        "held_out_pairs": len(pairs),
        "intervals": "95 %, paired over prompts",
        "base": {},
        "searches": {},
    }
    base = {}
    for steps in BASE_STEPS:
        base[steps] = scores(Arm(f"base at {steps}", steps))
        out["base"][steps] = row(base[steps], names)
        say(f"base at {steps}: " + ", ".join(f"{n} {v['mean']:.3f}" for n, v in out["base"][steps].items()))
    for search in wanted:
        result, found, seconds = find(search, args, backbone, rewards, terms)
        report = {
            "search": result.model_dump(mode="json", exclude={"vector"}),
            "searched_seconds": round(seconds, 1),
            "weights": [member.weight for member in found.members],
            "scales_low_high": [
                min(min(m.scales) for m in found.members),
                max(max(m.scales) for m in found.members),
            ],
            "at": {},
        }
        for steps in (4, 8, 15) if found.is_ensemble else (4, 8):
            raw = scores(Arm(f"{search} at {steps}", steps, found))
            against = {s: differences(raw, base[s], names) for s in BASE_STEPS}
            report["at"][steps] = {"means": row(raw, names), "minus_base_at": against}
            for s in sorted({steps, 15, 30}):
                text = ", ".join(
                    f"{n} {v['mean']:+.3f} [{v['low']:+.3f}, {v['high']:+.3f}]" for n, v in against[s].items()
                )
                say(f"{search} at {steps} − base at {s}: {text}")
        report["claims"] = claims(report, [term.name for term in terms], args.steps)
        sheet = args.work / f"{search}.png"
        shown = pairs[:: args.per_prompt][: 6 if args.quick else 16]
        contact_sheet(found, scorer.renderer, shown, args.steps).save(sheet)
        report["contact_sheet"] = str(sheet)
        out["searches"][search] = report
        if args.ship and result.verdict == "better":
            ship(found, search, args.ship, out["command"])
        (args.work / "gain.json").write_text(json.dumps(out, indent=1), encoding="utf-8")
    print(json.dumps(out, indent=1))


def find(
    search: str, args: argparse.Namespace, backbone, rewards, terms
) -> tuple[ResultRecord, Calibration, float]:
    """The search's result: found now, gone on with, or kept from before."""
    granularity = search if search in ("layer", "block", "gate") else "layer"
    start = start_of(search, args, backbone.layout(granularity))
    prompts = prompt_set("search", 576, seed=0)
    config = SearchConfig.make(
        args.preset,
        backbone="tabletop",
        granularity=granularity,
        conditions=start.conditions,
        weights=start.weights,
        start_from=start.words,
        start=start.scales,
        rewards=terms,
        judges=JUDGES,
        steps=args.steps,
        seed=args.seed,
        batch_size=args.batch_size,
        prompts=tuple(prompts[:512]),
        validation_prompts=tuple(prompts[512:]),
        # The run's own judgement uses prompts that the table below does not.
        held_out_prompts=tuple(prompt_set("held-out", args.prompts + 128, seed=0)[args.prompts :]),
        **{name: getattr(args, name) for name in OWN if getattr(args, name) is not None},
        **({"validation_pairs": 8, "held_out_pairs": 8} if args.quick else {}),
    )
    folder = args.work / f"{search}-seed{args.seed}-{config.hash[:8]}"
    say(f"{search}: {folder}")
    began, result = time.monotonic(), None
    for record in run_search(
        config,
        folder,
        backbone=backbone,
        rewards=rewards,
        budget=Budget(images=args.images, minutes=args.minutes),
    ):
        match record:
            case BaseRecord():
                say(
                    f"  base on {record.pairs} pairs: spread "
                    + ", ".join(f"{n} {v:.3f}" for n, v in record.spread.items())
                )
            case GenerationRecord() if record.generation % 5 == 0:
                say(
                    f"  generation {record.generation}: {record.images} images, "
                    f"{long_duration(record.seconds)}, "
                    f"{record.bucket_mean.text()}, sigma {record.sigma:.3f}"
                )
            case ValidationRecord():
                say(f"  validation: {record.objective.text()}")
            case ResultRecord():
                result = record
                say(f"  {record.reason}. {record.text}")
    assert result is not None
    return result, Calibration.load(folder / TAIL), time.monotonic() - began


def start_of(search: str, args: argparse.Namespace, layout: Layout) -> Start:
    """Where a search begins: the base, or what --start names; guidance begins with itself."""
    if search == "ensemble-guided":
        return guidance_start(args.guidance_start)
    start = plain_start()
    if args.start is not None:
        known = Calibration.load(args.start)
        start = calibration_start(known, layout, WHOLE_BOUNDS, known.title)
    return ensemble_start(start, ("positive", "negative")) if search == "ensemble" else start


def row(raw, names) -> dict:
    return {name: rounded(paired_interval(raw[:, r])) for r, name in enumerate(names)}


def differences(raw, base, names) -> dict:
    return row(raw - base, names)


def rounded(interval) -> dict:
    return {key: round(value, 4) for key, value in interval.model_dump().items()}


def claims(report: dict, optimised: list[str], steps: int) -> dict[str, bool]:
    """What the search set out to show, as yes or no, at the searched number of steps."""
    at = report["at"][steps if steps in report["at"] else 8]
    same = at["minus_base_at"][steps if steps in BASE_STEPS else 8]
    few = report["at"][4]["minus_base_at"][30]
    return {
        "optimised rewards above 0": all(
            same[name]["low"] > 0 for name in optimised if name != "tabletop-keep"
        ),
        "independent judge above 0": same["tabletop-judge"]["low"] > 0,
        "facts held (mean above -0.03, interval reaches 0)": same["tabletop-facts"]["mean"] >= -0.03
        and same["tabletop-facts"]["high"] >= 0,
        "judge at 4 steps above base at 30": few["tabletop-judge"]["low"] > 0,
    }


def contact_sheet(found: Calibration, renderer: Renderer, pairs: list[Pair], steps: int) -> Image.Image:
    """Base | calibrated | base at 30 steps, a row a prompt, three prompts beside each other."""
    arms = [Arm("base", steps), Arm("calibrated", steps, found), Arm("base at 30", 30)]
    pictures = [[r.image for r in renderer.render([arm.request(pair) for pair in pairs])] for arm in arms]
    side, gap, columns = pictures[0][0].width, 22, 2
    block = len(arms) * side + 12
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * block, rows * (side + gap)), (128, 128, 128))
    draw = ImageDraw.Draw(sheet)
    for i, pair in enumerate(pairs):
        x, y = (i % columns) * block, (i // columns) * (side + gap)
        draw.text(
            (x + 2, y + 4), f"{pair.prompt}  ({' | '.join(arm.name for arm in arms)})"[:66], fill="white"
        )
        for k in range(len(arms)):
            sheet.paste(pictures[k][i], (x + k * side, y + gap))
    return sheet


TITLES = {
    "block": "Tabletop by block",
    "layer": "Tabletop by layer",
    "gate": "Tabletop by gate",
    "ensemble": "Tabletop ensemble",
    "ensemble-guided": "Tabletop guided ensemble",
}


def ship(found: Calibration, search: str, folder: Path, command: str) -> None:
    """Save it as the studio offers it: a short title, and the command that found it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tabletop-{search}.json"
    told = {"title": TITLES[search], "found": {**found.found, "command": command}}
    found.model_copy(update=told).save(path)
    say(f"shipped {path.name}")


if __name__ == "__main__":
    main()
