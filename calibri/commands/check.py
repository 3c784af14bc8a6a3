"""`calibri check`: are files calibrations, and do they fit their backbones?"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.errors import ArtifactError, BackboneError, CalibriError
from calibri.files import read_folder

if TYPE_CHECKING:
    from calibri.backbones.sites import Site
    from calibri.calibration.artifact import Calibration
from calibri.calibration.phases import describe_phase

HELP = "validate calibration files"
DESCRIPTION = (
    "Checks a calibration, and that its scales are those of its backbone; several, or all of a folder, one "
    "after the other: a bad one hides no other. A checkpoint of the paper's own code and a vector as text, "
    "CSV or JSON are read too, with --backbone; --save writes it as a calibration."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path, nargs="+", metavar="FILE", help="a calibration, or a folder")
    parser.add_argument("--backbone", help="check against this one (default: the one named in the file)")
    parser.add_argument("--round-to", choices=("bfloat16", "float16"), help="for the paper's checkpoints")
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="write what was read as a calibration")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Runs the command; an error where a file is not valid or does not fit."""
    files = _list_files(args.file)
    if args.save is not None and len(files) != 1:
        raise ArtifactError(f"--save: expected one file, got {len(files)}")
    if len(args.file) == 1 and files == args.file:
        _tell(files[0], args, *_check(files[0], args))
        return 0
    rows: list[dict[str, Any]] = []
    for path in files:
        try:
            found = _check(path, args)
        except CalibriError as error:
            rows.append({"file": str(path), "error": str(error)})
            print(f"calibri: {' '.join(str(error).split())}", file=sys.stderr)
            continue
        rows.append(_summarise(path, *found))
        if not args.json:
            _tell(path, args, *found)
    if args.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    return 1 if any("error" in row for row in rows) else 0


def _list_files(given: Sequence[Path]) -> list[Path]:
    """The files, and those of folders."""
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            listing = read_folder(path, "*.json", lambda found: found)
            files += listing.found.values() or [path]
        else:
            files.append(path)
    return files


def _check(path: Path, args: argparse.Namespace) -> tuple[Calibration, str | None]:
    """The calibration in a file, saved if wanted, and the backbone that it fits; None where that is not
    known."""
    from calibri.backbones.layouts import Layout
    from calibri.calibration.reading import read_calibration

    name, sites = _sites(args.backbone) if args.backbone is not None else ("", ())
    found = read_calibration(path, sites, backbone=name, round_to=args.round_to)
    if args.backbone is None and found.backbone:
        with contextlib.suppress(BackboneError):  # a backbone only named in the file may be unknown here
            _, sites = _sites(found.backbone)
    fits = None
    if sites:
        found.on_layout(Layout.from_sites(sites, found.granularity))
        fits = args.backbone or found.backbone
    if args.save is not None:
        found.save(args.save)
    return found, fits


def _summarise(path: Path, found: Calibration, fits: str | None) -> dict[str, Any]:
    return {
        "file": str(path),
        "title": found.title,
        "backbone": found.backbone,
        "granularity": found.granularity,
        "scales": len(found.names),
        "members": [m.model_dump(mode="json", exclude={"scales"}) for m in found.members],
        "hash": found.hash,
        "fits": fits,
    }


def _tell(path: Path, args: argparse.Namespace, found: Calibration, fits: str | None) -> None:
    if args.json:
        print(json.dumps(_summarise(path, found, fits), indent=1, ensure_ascii=False))
        return
    print(f"{path}: valid. {found.title or 'No title'}")
    print(f"{found.granularity}, {len(found.names)} scales, hash {found.hash[:12]}")
    for number, member in enumerate(found.members, 1):
        low, high = min(member.scales), max(member.scales)
        kind = ", ".join(filter(None, (member.condition, describe_phase(member))))
        print(f"member {number}: weight {member.weight:g}, {kind}, scales {low:.2f} to {high:.2f}")
    for warning in found.found.get("warnings", ()):
        print(f"note: {warning}")
    print(f"Fits {fits}." if fits else f"Backbone {found.backbone!r} is not known here: names not compared.")


def _sites(backbone: str) -> tuple[str, tuple[Site, ...]]:
    from calibri.backbones.catalog import resolve
    from calibri.commands.info import sites_of_spec

    spec = resolve(backbone)
    return spec.name, sites_of_spec(spec)
