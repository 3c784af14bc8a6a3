"""`calibri compose`: several calibrations as one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from calibri.backbones.layouts import GRANULARITIES, Layout
from calibri.calibration.compose import WAYS, compose
from calibri.errors import ArtifactError

HELP = "blend or multiply calibrations into one"
DESCRIPTION = (
    "Makes one calibration of several of the same backbone. blend: the weighted mean of each scale; product: "
    "what applying them one after the other gives, each to the power of its weight."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--weights", help="one number for each file, with commas (default: 1 for each)")
    parser.add_argument("--how", choices=WAYS, default="blend")
    parser.add_argument("--granularity", choices=GRANULARITIES, help="that of the result, where they differ")
    parser.add_argument("--backbone", help="name, folder or hub id (default: that of the first file)")
    parser.add_argument("--title", help="of the result (default: the titles together)")
    parser.add_argument("-o", "--out", type=Path, default=Path("composed.json"), metavar="FILE.json")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from calibri.backbones.catalog import resolve
    from calibri.calibration.reading import read_calibration, read_for_backbone
    from calibri.commands.info import sites_of_spec

    weights = None
    if args.weights:
        try:
            weights = [float(each) for each in args.weights.split(",")]
        except ValueError:
            raise ArtifactError(f"--weights: expected numbers with commas, got {args.weights!r}") from None
    read = read_calibration if args.backbone is None else lambda path: read_for_backbone(path, args.backbone)
    parts = [read(path) for path in args.files]
    layout = None
    if args.granularity:
        sites = sites_of_spec(resolve(args.backbone or parts[0].backbone))
        layout = Layout.from_sites(sites, args.granularity)
    made = compose(parts, weights, args.how, layout=layout)
    if args.title:
        made = made.model_copy(update={"title": args.title})
    made.save(args.out)
    scales = [scale for member in made.members for scale in member.scales]
    print(f"{args.out}: “{made.title}”, {made.granularity}, scales {min(scales):.2f} to {max(scales):.2f}")
    return 0
