"""`calibri prompts`: what a prompt file holds, before pictures are spent on it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from calibri.prompts.files import FIRST, PromptFile, describe, read_prompts

if TYPE_CHECKING:
    from calibri.backbones.loading import Backbone

FORMATS = "text with one prompt a line, CSV, TSV, JSON or JSON lines"

HELP = "show what a prompt file holds"
DESCRIPTION = (
    "Reads a prompt file as search, diagnose, evaluate and study do: "
    f"{FORMATS}. Prints its format, count, categories and first prompts."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a file with prompts")
    parser.add_argument("--all", action="store_true", help="print every prompt, one a line, and nothing else")
    parser.add_argument("--json", action="store_true", help="print JSON")


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


def load_prompts(path: Path | None) -> list[str] | None:
    """The prompts of a file for another command, which says on stderr what it read; None without a file."""
    return None if path is None else list(tell_file(path).prompts)


def tell_file(path: Path) -> PromptFile:
    """What a prompt file holds, said on stderr before it is used."""
    file = read_prompts(path)
    print("\n".join([file.summary(), *(f"note: {note}" for note in file.notes)]), file=sys.stderr)
    return file


def tell_unread(backbone: Backbone, prompts: Iterable[str]) -> None:
    """Say on stderr, once, which prompts the backbone does not read to their end."""
    from calibri.backbones.unread import note_unread

    note = note_unread(backbone.adapter, backbone.spec.name, prompts)
    if note:
        print(f"note: {note}", file=sys.stderr)
