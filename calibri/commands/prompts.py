"""`calibri prompts`: what a prompt file holds, before pictures are spent on it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from calibri.prompts.files import FIRST, describe, read_prompts


def register(subparsers: argparse._SubParsersAction) -> None:
    """Adds `prompts` to the command line."""
    parser = subparsers.add_parser(
        "prompts",
        help="show what a prompt file holds",
        description="Reads a prompt file as search, diagnose, evaluate and study do: text with one prompt a "
        "line, CSV, TSV, JSON or JSON lines. Prints its format, count, categories and first prompts.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a file with prompts")
    parser.add_argument("--all", action="store_true", help="print every prompt, one a line, and nothing else")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs the command; an error where the file is not read."""
    file = read_prompts(args.file)
    if args.json:
        told = describe(file)
        if args.all:
            told["prompts"] = [{"prompt": p, "category": c} for p, c in zip(file.prompts, file.categories)]
        print(json.dumps(told, indent=1, ensure_ascii=False))
        return 0
    if args.all:
        print("\n".join(file.prompts))
        return 0
    print(f"{args.file}: {file.format}")
    print(f"{len(file.prompts)} prompt{'s' if len(file.prompts) != 1 else ''}")
    for category, number in file.counts.items():
        print(f"  {category or 'no category'}: {number}")
    print("\n".join(f"{number}. {prompt}" for number, prompt in enumerate(file.prompts[:FIRST], 1)))
    for note in file.notes:
        print(f"note: {note}")
    return 0
