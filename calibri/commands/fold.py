"""`calibri fold`: a calibrated pipeline as a folder that plain diffusers loads."""

from __future__ import annotations

import argparse
from pathlib import Path

from calibri.backbones.lora import names_of, parse_lora
from calibri.commands.loading import read_options
from calibri.errors import ArtifactError

HELP = "write a calibrated pipeline that needs no Calibri"
DESCRIPTION = (
    "Multiplies a calibration of one member into the transformer's weights and writes the whole pipeline as "
    "a folder: DiffusionPipeline.from_pretrained(FOLDER) paints what Calibri paints with the calibration. "
    "Files of weights keep their names, shards and dtype. One prediction is compared before that."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("calibration", type=Path)
    parser.add_argument("--backbone", default="tabletop", help="name, folder or hub id (default tabletop)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument("--device", default="cpu", help="where the prediction is compared (default cpu)")
    parser.add_argument(
        "--lora",
        dest="loras",
        action="append",
        metavar="FILE[:STRENGTH]",
        help="a LoRA that is fused into the weights first; may be given several times",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.out.exists():
        raise ArtifactError(f"--out: {args.out} exists, expected a new folder")
    from calibri.backbones.catalog import resolve
    from calibri.calibration.reading import read_for_backbone
    from calibri.sampling.fold_folder import fold_backbone

    calibration = read_for_backbone(args.calibration, args.backbone)
    options = read_options(args, [calibration])
    difference = fold_backbone(args.backbone, calibration, args.out, options)
    if options.loras:
        print(f"fused first: {', '.join(names_of([parse_lora(text) for text in options.loras]))}")
    print(f"{args.out}: {resolve(args.backbone).name} with “{calibration.title}” in its weights")
    print(f"one prediction differs from that with hooks by {difference:.1e} of its largest value")
    return 0
