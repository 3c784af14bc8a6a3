"""`calibri tensorboard`: searches as TensorBoard reads them."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write searches as TensorBoard reads them"
DESCRIPTION = (
    "Writes gains, sigma, scales, validations and the judgement of searches as scalars, with images used "
    "as the "
    "step. Then: tensorboard --logdir FOLDER. Needs the extra tensorboard."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, nargs="+", metavar="RUN", help="folder of a search")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the events go")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    from calibri.search.tensorboard import write_events

    for folder in args.folder:
        name = folder.resolve().name
        print(f"{name}: {write_events(folder, args.out / name)} numbers")
    return 0
