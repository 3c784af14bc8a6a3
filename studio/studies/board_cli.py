"""`calibri board`: all calibrations over all quick votes, by strength."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HELP = "all calibrations over all quick votes, by strength"


def register(subparsers: Any) -> None:
    """Add `board` to the parser of `calibri`."""
    made = subparsers.add_parser("board", help=HELP, description=HELP)
    made.add_argument("--backbone", metavar="NAME", help="only this one (default: all that were voted on)")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument(
        "--data", type=Path, default=Path("data"), help="the studio's data folder (default: data)"
    )
    made.add_argument(
        "--url", default="http://127.0.0.1:7860", help="the running studio, if it has the folder open"
    )
    made.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the boards."""
    from studio.studies.cli import open_or_ask

    values = {"backbone": args.backbone} if args.backbone else {}
    boards = open_or_ask(args.data, args.url, "board", values)["boards"]
    if args.json:
        print(json.dumps(boards, indent=1, ensure_ascii=False))
    else:
        print("\n\n".join(map(write_board, boards)) or "Nobody has voted in Quick vote yet.")
    return 0


def write_board(board: dict[str, Any]) -> str:
    """One board, as the command `board` gives it, for a terminal."""
    lines = [f"{board['backbone']}: {board['votes']} quick votes", *board["said"]]
    for group in board["groups"]:
        width = max(len(s["name"]) for s in group["standings"])
        lines.append("")
        lines += [
            f"{s['name']:<{width}}  {s['strength']:+.2f} [{s['low']:+.2f}, {s['high']:+.2f}]  "
            f"{s['wins']} won, {s['ties']} tied of {s['votes']}"
            for s in group["standings"]
        ]
    if board["waiting"]:
        lines += ["", f"Not voted on yet: {', '.join(board['waiting'])}"]
    return "\n".join(lines)
