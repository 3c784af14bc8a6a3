"""`calibri check`: is a file a calibration, and does it fit its backbone?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.errors import ArtifactError, BackboneError

if TYPE_CHECKING:
    from calibri.backbones.sites import Site

HELP = "validate a calibration file"
DESCRIPTION = (
    "Checks a calibration, and that its scales are those of its backbone. A checkpoint of "
    "the paper's own code is read too, with --backbone; --save writes it as a calibration."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path)
    parser.add_argument("--backbone", help="check against this one (default: the one named in the file)")
    parser.add_argument("--round-to", choices=("bfloat16", "float16"), help="for the paper's checkpoints")
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="write what was read as a calibration")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command; an error where the file is not valid or does not fit."""
    from calibri.backbones.layouts import Layout
    from calibri.calibration.artifact import Calibration

    sites = None
    if _is_official(args.file):
        from calibri.calibration.official import read_official

        if args.backbone is None:
            raise ArtifactError(f"{args.file} is a checkpoint of the paper's code: give its --backbone")
        name, sites = _sites(args.backbone)
        found = read_official(args.file, sites, backbone=name, round_to=args.round_to)
    else:
        found = Calibration.load(args.file)
        if args.backbone is not None or found.backbone:
            try:
                _, sites = _sites(args.backbone or found.backbone)
            except BackboneError:
                if args.backbone is not None:
                    raise  # a backbone only named in the file may be unknown here
    fits = None
    if sites is not None:
        found.on_layout(Layout.from_sites(sites, found.granularity))
        fits = args.backbone or found.backbone
    if args.save is not None:
        found.save(args.save)
    if args.json:
        summary = {
            "file": str(args.file),
            "title": found.title,
            "backbone": found.backbone,
            "granularity": found.granularity,
            "scales": len(found.names),
            "members": [{"weight": m.weight, "condition": m.condition} for m in found.members],
            "hash": found.hash,
            "fits": fits,
        }
        print(json.dumps(summary, indent=1, ensure_ascii=False))
        return 0
    print(f"{args.file}: valid. {found.title or 'No title'}")
    print(f"{found.granularity}, {len(found.names)} scales, hash {found.hash[:12]}")
    for number, member in enumerate(found.members, 1):
        low, high = min(member.scales), max(member.scales)
        print(
            f"member {number}: weight {member.weight:g}, {member.condition}, scales {low:.2f} to {high:.2f}"
        )
    for warning in found.found.get("warnings", ()):
        print(f"note: {warning}")
    print(f"Fits {fits}." if fits else f"Backbone {found.backbone!r} is not known here: names not compared.")
    return 0


def _is_official(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # Calibration.load says what is wrong
    return isinstance(content, dict) and "solution" in content and "shapes" in content


def _sites(backbone: str) -> tuple[str, tuple[Site, ...]]:
    from calibri.backbones.catalog import resolve
    from calibri.commands.info import sites_of_spec

    spec = resolve(backbone)
    return spec.name, sites_of_spec(spec)
