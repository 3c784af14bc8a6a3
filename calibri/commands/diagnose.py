"""`calibri diagnose`: bypass and scale one block at a time, and see what each does to the rewards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from calibri.backbones.step_cache import refuse_step_cache
from calibri.commands.loading import add_loading_arguments, read_options
from calibri.commands.prompts import load_prompts, tell_unread
from calibri.commands.rewards import add_loading, add_scores, admit_files, open_scores, read_loading
from calibri.errors import SearchError

HELP = "bypass and scale one block at a time"
DESCRIPTION = (
    "Measures each scale of a layout at several values against the base, on the same "
    "prompts and seeds. The file goes on where it stopped; `calibri search --start FILE` begins from its "
    "best values."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--backbone", default="tabletop")
    parser.add_argument("--granularity", default="block", choices=("block", "layer", "gate"))
    parser.add_argument(
        "--reward", required=True, metavar="NAMES", help="comma-separated, with weights: a,b:2"
    )
    add_loading(parser)
    add_scores(parser)
    parser.add_argument("--steps", type=int, help="sampling steps (default: the backbone's)")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--values", default="0,0.25,0.5,0.75,1.25,1.5", help="0 bypasses")
    parser.add_argument(
        "--pairs", type=int, default=32, help="(prompt, seed) pairs for each cell (default 32)"
    )
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=32)
    add_loading_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="cells, one a line")
    parser.add_argument("--json", action="store_true", help="print cells as JSON lines")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from calibri.analysis.diagnose import SweepFile, run_sweep, sweep_header
    from calibri.analysis.evaluate import pairs_of
    from calibri.analysis.settings import SweepSettings
    from calibri.backbones.catalog import resolve
    from calibri.backbones.loading import load_backbone
    from calibri.rewards.scoring import LocalScorer
    from calibri.sampling.renderer import Renderer
    from calibri.search.prompts import sweep_prompts

    if args.out.suffix != ".jsonl":
        raise SearchError(f"--out: expected a file that ends in .jsonl, got {args.out}")
    # Checked before the backbone is loaded, which takes seconds.
    options = read_options(args)
    refuse_step_cache(options, "a sweep")
    settings = SweepSettings.parse(
        granularity=args.granularity,
        rewards=admit_files(args.reward),
        prompts=sweep_prompts(load_prompts(args.prompts), args.backbone, args.pairs),
        pairs=args.pairs,
        steps=args.steps or resolve(args.backbone).steps,
        guidance=args.guidance,
        values=args.values,
        seed=args.seed,
    )
    terms, steps = settings.rewards, settings.steps
    names = [term.name for term in terms]
    loading = read_loading(args, names)
    backbone = load_backbone(args.backbone, options=options)
    layout = backbone.layout(args.granularity)
    tell_unread(backbone, settings.prompts)
    # Not settings.draw_pairs: files that were written before go on with the pairs they began with.
    pairs = pairs_of(settings.prompts, args.seed, -(-args.pairs // len(settings.prompts)))[: args.pairs]
    header = sweep_header(backbone.fingerprint, args.granularity, terms, steps, args.guidance, pairs)
    scorer = LocalScorer(
        Renderer(backbone, batch_size=args.batch_size),
        loading.load(names, backbone.device),
        args.batch_size,
        cache=open_scores(args.scores),
    )
    total = len(layout.names) * len(settings.values)
    with SweepFile(args.out, header) as file:
        for cell in run_sweep(file, settings, layout, pairs, scorer):
            if args.json:
                print(cell.model_dump_json(), flush=True)
            else:
                words = f"{cell.name:20s} × {cell.value:<5g} {cell.objective.text()}"
                print(f"{len(file.cells):4d}/{total}  {words}", flush=True)
    print(f"Sweep: {args.out}", file=sys.stderr)
    return 0
