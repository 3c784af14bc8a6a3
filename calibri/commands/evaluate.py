"""`calibri evaluate`: a table of rewards of base and calibrations at several numbers of steps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from calibri.backbones.lora import LoraUse, names_of, parse_lora
from calibri.commands.loading import add_loading_arguments, read_options
from calibri.commands.prompts import load_prompts, tell_unread
from calibri.commands.rewards import add_loading, add_scores, admit_files, open_scores, read_loading
from calibri.errors import SearchError

MOST_STEP_COUNTS = 100  # of one option
HELP = "compare base and calibrations by rewards"
DESCRIPTION = (
    "Renders every arm on the same prompts and seeds. The first arm is the reference: "
    "base at the first of --base-steps."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("calibrations", nargs="*", type=Path, help="files, or OWNER/NAME of the hub")
    parser.add_argument("--backbone", default="tabletop")
    parser.add_argument(
        "--reward", required=True, metavar="NAMES", help="rewards and judges, comma-separated"
    )
    add_loading(parser)
    add_scores(parser)
    parser.add_argument("--steps", default="8", help="of the calibrations, comma-separated")
    parser.add_argument("--base-steps", help="of the base, comma-separated (default: as --steps)")
    parser.add_argument(
        "--guidance", type=float, help="adds the base with this guidance at each of its steps"
    )
    parser.add_argument("--pairs", type=int, default=64, help="(prompt, seed) pairs (default 64)")
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE", help="prompts (default: held-out ones that suit the backbone)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=32)
    add_loading_arguments(parser)
    parser.add_argument(
        "--lora-arms", action="store_true", help="also the base without LoRAs, and with each of several alone"
    )
    parser.add_argument("--json", action="store_true", help="print rows as JSON lines")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from calibri.analysis.evaluate import Arm, evaluate, pairs_of
    from calibri.backbones.loading import load_backbone
    from calibri.calibration.reading import read_for_backbone
    from calibri.rewards.scoring import LocalScorer
    from calibri.sampling.renderer import Renderer
    from calibri.search.prompts import held_out_prompts

    steps = _steps(args.steps, "--steps")
    base_steps = _steps(args.base_steps, "--base-steps") if args.base_steps else steps
    if args.pairs < 2:
        raise SearchError(f"--pairs: expected 2 or more, got {args.pairs}")
    found = [(path.stem, read_for_backbone(path, args.backbone)) for path in args.calibrations]
    options = read_options(args, [calibration for _, calibration in found])
    if args.lora_arms and not options.loras:
        raise SearchError("--lora-arms: expected a LoRA (--lora FILE), got none")
    names = [name.strip() for name in admit_files(args.reward).split(",") if name.strip()]
    loading = read_loading(args, names)
    arms = [Arm(f"base at {s}", s) for s in base_steps]
    if args.guidance is not None:
        arms += [
            Arm(f"base with guidance {args.guidance:g} at {s}", s, guidance=args.guidance) for s in base_steps
        ]
    if args.lora_arms:
        arms += [
            Arm(f"{name} at {s}", s, loras=uses)
            for name, uses in lora_arms(options.loras)
            for s in base_steps
        ]
    arms += [Arm(f"{name} at {s}", s, calibration) for name, calibration in found for s in steps]
    prompts = held_out_prompts(load_prompts(args.prompts), args.backbone, args.pairs)
    backbone = load_backbone(args.backbone, options=options)
    tell_unread(backbone, prompts)
    pairs = pairs_of(prompts, args.seed, -(-args.pairs // len(prompts)))[: args.pairs]
    scorer = LocalScorer(
        Renderer(backbone, batch_size=args.batch_size),
        loading.load(names, backbone.device),
        args.batch_size,
        cache=open_scores(args.scores),
    )
    if not args.json:
        print(f"{len(pairs)} pairs; differences from {arms[0].name}, 95 % intervals", file=sys.stderr)
    for row in evaluate(arms, pairs, scorer, names):
        if args.json:
            print(row.model_dump_json(), flush=True)
        else:
            cells = "  ".join(f"{n} {row.means[n].mean:.3f} ({row.differences[n].text()})" for n in names)
            print(f"{row.arm:36s} NFE {row.nfe:3d}  {cells}", flush=True)
    return 0


def lora_arms(texts: Sequence[str]) -> list[tuple[str, tuple[LoraUse, ...]]]:
    """(name, LoRAs that are on): none, and each of several alone."""
    sources = [parse_lora(text) for text in texts]
    uses = [(name, each.strength) for name, each in zip(names_of(sources), sources, strict=True)]
    alone = [(f"base with {name} alone", ((name, strength),)) for name, strength in uses]
    return [("base without LoRAs", ()), *(alone if len(alone) > 1 else [])]


def _steps(text: str, option: str) -> list[int]:
    if (count := text.count(",") + 1) > MOST_STEP_COUNTS:
        raise SearchError(f"{option}: expected at most {MOST_STEP_COUNTS} numbers, got {count}")
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise SearchError(f"{option}: expected whole numbers with commas between, got {text!r}") from error
    if min(steps) < 1:
        raise SearchError(f"{option}: expected 1 or more, got {min(steps)}")
    return list(dict.fromkeys(steps))
