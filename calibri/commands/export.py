"""`calibri export`: the scales of a calibration as text, table or JSON, for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from calibri.calibration.artifact import Calibration
from calibri.calibration.export import FORMS, write_scales
from calibri.errors import ArtifactError
from calibri.files import write_whole

HELP = "write the scales of a calibration as text, CSV or JSON"
DESCRIPTION = (
    "text: one line for each scale, as the page Scales reads it; csv: name,scale rows; json: an object of "
    "names and scales. All three are read again by commands and by the page Library. With --lora: a LoRA "
    "file with the strengths that the calibration gives it in each block, for any program at strength 1."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path)
    parser.add_argument("--as", dest="form", choices=FORMS, default="text")
    parser.add_argument("--member", type=int, default=1, metavar="K", help="of an ensemble, counted from 1")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="instead of the terminal")
    lora = parser.add_argument_group("a LoRA with the calibration's strengths")
    lora.add_argument(
        "--lora",
        dest="loras",
        action="append",
        metavar="FILE[:STRENGTH]",
        help="that the calibration was found with; several become one file",
    )
    lora.add_argument("--backbone", default="tabletop", help="name, folder or hub id (default tabletop)")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.loras:
        return _write_lora(args)
    text = write_scales(Calibration.load(args.file), args.form, args.member)
    if args.out is None:
        print(text, end="")
        return 0
    try:
        write_whole(args.out, text)
    except OSError as error:
        raise ArtifactError(f"{args.out}: {error.strerror or error}") from error
    return 0


def _write_lora(args: argparse.Namespace) -> int:
    if args.out is None:
        raise ArtifactError("--lora: expected the file to write (--out FILE.safetensors), got none")
    from calibri.backbones.loading import load_backbone
    from calibri.calibration.lora_file import save_lora
    from calibri.calibration.reading import read_for_backbone

    calibration = read_for_backbone(args.file, args.backbone)
    backbone = load_backbone(args.backbone, device="cpu", lora=args.loras)
    layers = save_lora(backbone, calibration, args.out, args.member)
    print(
        f"{args.out}: {', '.join(backbone.loras.names)} with the strengths of “{calibration.title}”, "
        f"{layers} layers"
    )
    plain = calibration.without_loras()
    if any(scale != 1 for scale in plain.members[args.member - 1].scales):
        print("the scales of the base itself are not in it: fold them, or load the calibration too")
    return 0
