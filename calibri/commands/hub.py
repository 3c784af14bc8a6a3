"""`calibri push` and `calibri pull`: calibrations on the Hugging Face hub."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from calibri.errors import ArtifactError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds both commands."""
    push = subparsers.add_parser(
        "push",
        help="send a calibration to the Hugging Face hub",
        description="Sends a calibration with a card to a repository, which is made where it is not there: "
        "private, unless --public. The token is that of HF_TOKEN or of `hf auth login`.",
    )
    push.add_argument("file", type=Path)
    push.add_argument("repo", metavar="OWNER/NAME")
    push.add_argument("--public", action="store_true", help="a new repository is for everybody")
    push.add_argument("--pictures", type=Path, nargs="+", default=[], metavar="FILE.png", help="for the card")
    push.set_defaults(run=run_push)
    pull = subparsers.add_parser(
        "pull",
        help="fetch a calibration from the Hugging Face hub",
        description="Fetches the calibration of a repository. Commands and load_calibration take OWNER/NAME "
        "in the place of a file, too.",
    )
    pull.add_argument("repo", metavar="OWNER/NAME[@REVISION]")
    pull.add_argument("-o", "--out", type=Path, metavar="FILE.json", help="default: NAME.json")
    pull.set_defaults(run=run_pull)


def run_push(args: argparse.Namespace) -> int:
    """Runs `calibri push`."""
    from calibri.calibration.artifact import Calibration
    from calibri.calibration.hub import push

    made = Calibration.load(args.file)
    address = push(made, args.repo, private=not args.public, pictures=args.pictures)
    print(f"“{made.title}” is at {address}")
    return 0


def run_pull(args: argparse.Namespace) -> int:
    """Runs `calibri pull`."""
    from calibri.calibration.hub import pull
    from calibri.calibration.reading import read_calibration

    path = pull(args.repo)
    found = read_calibration(path)
    out = args.out or Path(args.repo.partition("@")[0].rpartition("/")[2] + ".json")
    if out.exists():
        raise ArtifactError(f"{out} exists: name another with --out")
    try:
        shutil.copyfile(path, out)
    except OSError as error:
        raise ArtifactError(f"{out}: {error.strerror or error}") from error
    print(
        f"{out}: “{found.title}”, {found.granularity}, {len(found.names)} scales for {found.backbone or '?'}"
    )
    return 0
