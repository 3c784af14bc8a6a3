"""`calibri study …`: human preference studies without a page.

DuckDB has one owner. Where a studio has the data folder open, the command asks that studio over HTTP and
proves with the folder's key that it may; otherwise it opens the file itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from calibri.backbones.options import LoadOptions
from calibri.commands.loading import add_loading_arguments, read_options
from calibri.errors import CalibriError, StudyError
from calibri.files import read_text, write_whole
from studio.studies import board_cli
from studio.studies.compare_cli import attach

LONG = 24 * 3600  # seconds: rendering with --wait
MOST_NAMES = 2**20  # bytes of a file of names
VALUES = "study count first number again vote reason format category without_flagged consensus"  # of commands


def register(subparsers: Any) -> None:
    """Add `study` and `board` to the parser of `calibri` (entry point group `calibri.commands`)."""
    top = subparsers.add_parser("study", help="human preference studies: create, open, close, report, export")
    top.add_argument(
        "--data", type=Path, default=Path("data"), help="the studio's data folder (default: data)"
    )
    top.add_argument(
        "--url", default="http://127.0.0.1:7860", help="the running studio, if it has the folder open"
    )
    actions = top.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str, *, study: bool = True) -> argparse.ArgumentParser:
        made = actions.add_parser(name, help=text, description=text)
        made.set_defaults(run=run, action=name)
        if study:
            made.add_argument("study", help="id or name")
        return made

    action("list", "all studies, the newest first", study=False)
    action("show", "one study and how far it is")
    add_plan(action("plan", "votes that a study needs, and what they cost in time and pictures", study=False))
    new = action("create", "make a draft from a JSON file, or from options", study=False)
    new.add_argument("spec", nargs="?", type=Path, help="JSON with the fields of a new study")
    new.add_argument("--name")
    new.add_argument(
        "--arm",
        action="append",
        default=[],
        metavar="LABEL[=FILE][@STEPS]",
        help="an arm; FILE: a calibration (none: the base); STEPS: its own steps",
    )
    new.add_argument("--steps", type=int, default=8, help="for arms without their own (default: 8)")
    new.add_argument(
        "--prompts",
        default="held-out:40",
        metavar="FILE|SPLIT:N",
        help="a prompt file, or the first of a split of the set that suits the backbone",
    )
    new.add_argument("--preset", default="side-by-side")
    new.add_argument("--backbone", default="tabletop")
    new.add_argument("--seeds", type=int, default=1, help="pictures of each prompt and arm")
    new.add_argument("--seed", type=int)
    new.add_argument("--invited", action="store_true", help="only raters with an invite link")
    rendering = action("render", "render the pictures that are missing")
    add_loading_arguments(rendering)
    for name, text in (
        ("open", "let raters vote"),
        ("close", "end the voting and take a snapshot"),
        ("archive", "put a draft or a closed study away"),
    ):
        action(name, text)
    _add_invites(action)
    invalidate = action("invalidate", "leave a vote out of all results; it stays in the exports", study=False)
    invalidate.add_argument("vote", help="id of the vote, as exports show it")
    invalidate.add_argument("--reason", required=True, help="kept with the vote")
    for name, text, formats in (
        ("report", "write the report", ("html", "md")),
        ("export", "write the votes", ("csv", "csv-bom", "jsonl", "parquet", "preferences", "zip")),
    ):
        made = action(name, text)
        made.add_argument("--format", choices=formats, default=formats[0])
        if name == "report":
            made.add_argument("--without-flagged", action="store_true", help="leave flagged raters out")
            made.add_argument("--category", help="only prompts of this category")
            made.add_argument(
                "--consensus",
                type=int,
                metavar="K",
                help="only pairs on which K raters or more all agree; this inflates win rates",
            )
        made.add_argument("--out", type=Path, help="file to write (default: named after the study, here)")
    made = action("participants", "write who takes part, with the ids of their panel's links, as CSV")
    made.add_argument("--out", type=Path, help="file to write (default: named after the study, here)")
    action("snapshot", "write a Parquet snapshot of all tables", study=False)
    action("backup", "copy the database while people vote", study=False).add_argument("path")
    action("repair", "put a damaged file of votes aside and keep what can be read of it", study=False)
    action("restore", "add the rows of a snapshot that are missing", study=False).add_argument("folder")
    attach(subparsers)
    board_cli.register(subparsers)


def _add_invites(action: Callable[..., argparse.ArgumentParser]) -> None:
    invite = action("invite", "print invite links, one for each rater")
    invite.add_argument("--count", type=int, default=1)
    invite.add_argument("--first", type=int, default=1, help="number of the first link")
    invite.add_argument(
        "--names", type=Path, metavar="FILE", help="people to invite by name, one on each line, instead"
    )
    action("invited", "who was invited by name, how far each one came, and their links")
    back = action("take-back", "end the link of somebody who was invited by name; their votes stay")
    back.add_argument("number", type=int, help="of the link, as `invited` shows it")
    back.add_argument("--again", action="store_true", help="make a new link, with which they go on")


WISHES = "share power arms prompts seeds raters_a_pair cap prompt_icc rater_icc seconds"  # of `plan`


def add_plan(made: argparse.ArgumentParser) -> None:
    """The options of `calibri study plan`, which has none that is needed."""
    made.add_argument(
        "--share",
        type=float,
        nargs="+",
        metavar="PERCENT",
        help="how often the better arm truly wins (default: 52 55 60)",
    )
    made.add_argument("--power", type=float, metavar="PERCENT", help="chance to find it out (default: 80)")
    made.add_argument("--preset", default="side-by-side", help="checks and caps are those of this protocol")
    made.add_argument("--arms", type=int, help="arms that are compared (default: 2)")
    made.add_argument("--prompts", type=int, help="as many as these, and no more (default: as it takes)")
    made.add_argument("--seeds", type=int, help="pictures of each prompt and arm (default: 1)")
    made.add_argument("--raters-a-pair", type=int, help="votes on each pair of pictures (default: 5)")
    made.add_argument("--cap", type=int, help="pairs a rater sees at most (default: the preset's)")
    known = "(default: from finished studies here, else {:g})"
    made.add_argument(
        "--prompt-icc", type=float, help="how alike votes on one prompt are, 0 to 1 " + known.format(0.1)
    )
    made.add_argument(
        "--rater-icc", type=float, help="how alike votes of one rater are, 0 to 1 " + known.format(0.05)
    )
    made.add_argument("--seconds", type=float, help="time that a vote takes " + known.format(8))


def run(args: argparse.Namespace) -> int:
    """Do one action. Returns the exit code; errors are CalibriErrors."""
    from studio.studies.storage.database import FileInUse

    values = read_values(args)
    options = read_options(args)
    try:
        answer = open_and_run(args.data, args.action, dict(values), options)
    except FileInUse:
        if args.action == "render":
            values.pop("wait")
        answer = ask_studio(args.data, args.url, args.action, values)
    if isinstance(answer, tuple):
        name, data = answer
        path = args.out or Path(name)
        write_whole(path, data)
        print(path)
    else:
        print(json.dumps(answer, indent=1, ensure_ascii=False, default=str))
    return 0


def read_values(args: argparse.Namespace) -> dict[str, Any]:
    """The command's values: the arguments without those of this program."""
    if args.action == "create":
        return {"spec": read_spec(args.spec) if args.spec else make_spec(args)}
    if args.action == "plan":
        return {"preset": args.preset, "wish": {name: getattr(args, name) for name in WISHES.split()}}
    values = {k: getattr(args, k) for k in VALUES.split() if getattr(args, k, None) is not None}
    for name in ("path", "folder"):
        if getattr(args, name, None):
            values[name] = str(Path(getattr(args, name)).resolve())
    if getattr(args, "names", None):
        values["names"] = read_text(args.names, MOST_NAMES, StudyError)
    if args.action == "render":
        values["wait"] = True
    return values


def read_spec(path: Path) -> Any:
    """The JSON of a new study. Raises StudyError."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"Expected a JSON file, got {path} ({error}).") from None


def make_spec(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a new study from options, as `planning.read_study` takes them. Raises StudyError."""
    from calibri.calibration.reading import read_for_backbone
    from studio.studies.planning import make_arm
    from studio.studies.protocol import PRESETS

    if not (args.name and args.arm):
        raise StudyError("Give a JSON file, or --name and --arm (twice or more).")
    if args.preset not in PRESETS:
        raise StudyError(f"Unknown preset {args.preset!r}; known: {', '.join(PRESETS)}.")
    arms = []
    for text in args.arm:
        rest, at, steps = text.rpartition("@")
        own = bool(at) and steps.isascii() and steps.isdecimal() and len(steps) < 10
        label, _, file = (rest if own else text).partition("=")
        found = read_for_backbone(file, args.backbone) if file else None
        arms.append(make_arm(label, found, int(steps) if own else args.steps).model_dump())
    protocol = PRESETS[args.preset].model_dump(mode="json")
    if args.invited:
        protocol["access"] = "invite"
    return {
        "name": args.name,
        "arms": arms,
        "prompts": _read_prompts(args.prompts, args.backbone),
        "seeds_per_prompt": args.seeds,
        "backbone": args.backbone,
        "protocol": protocol,
        "seed": args.seed,
    }


def _read_prompts(source: str, backbone: str) -> list[dict[str, str]]:
    """The prompts of a file, or `SPLIT:N` of the set that suits the backbone. Raises PromptError."""
    from calibri.commands.prompts import tell_file
    from studio.studies.planning import draw_prompts, take_file

    name, _, number = source.partition(":")
    drawn = number.isdecimal() and not Path(source).exists()
    found = draw_prompts(backbone, name, int(number)) if drawn else take_file(tell_file(Path(source)))
    return [prompt.model_dump() for prompt in found]


def open_and_run(data: Path, action: str, values: dict[str, Any], options: LoadOptions) -> Any:
    """Open the data folder, do the command, close. A file is returned as (name, bytes)."""
    from studio.machine.host import ModelHost
    from studio.studies.commands import run as do
    from studio.studies.studies import open_studies

    if action not in ("create", "restore", "list", "plan") and not data.is_dir():
        raise StudyError(f"There is no data folder {data}. Set it with --data.")
    host = ModelHost(options=options)
    studies = open_studies(data, host)
    try:
        if action == "render":
            host.load(studies.store.arms(studies.store.get(values["study"]).id)[0].backbone)
        answer = do(studies, action, values)
        return (answer.name, answer.read_bytes()) if isinstance(answer, Path) else answer
    finally:
        studies.close()


def open_or_ask(data: Path, url: str, action: str, values: dict[str, Any]) -> Any:
    """The command's answer from the data folder, or from the studio that has it open."""
    from calibri.backbones.options import USUAL
    from studio.studies.storage.database import FileInUse

    try:
        return open_and_run(data, action, dict(values), USUAL)
    except FileInUse:
        return ask_studio(data, url, action, values)


def ask_studio(data: Path, url: str, action: str, values: dict[str, Any]) -> Any:
    """Ask the studio that has the folder open. Raises StudyError with its answer, or for no answer."""
    from studio.studies.commands import secret
    from studio.studies.storage.database import open_secret

    body = json.dumps({"command": action, "values": values}).encode()
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {secret(open_secret(data / 'studies.key')())}",
    }
    request = urllib.request.Request(f"{url.rstrip('/')}/ballot/organise", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=LONG) as answer:
            data_back = answer.read()
            name = answer.headers.get("x-file-name")
            return (name, data_back) if name else json.loads(data_back)
    except urllib.error.HTTPError as error:
        told = json.loads(error.read() or b"{}")
        raise StudyError(told.get("text", f"the studio answered {error.code}")) from None
    except OSError as error:
        raise StudyError(
            f"{data} is open in another process, but no studio answers at {url} ({error}). "
            "Set its address with --url."
        ) from None


def main(arguments: list[str] | None = None) -> int:
    """`python -m studio.studies.cli ACTION …`, where the package is not installed."""
    parser = argparse.ArgumentParser(prog="python -m studio.studies.cli")
    register(parser.add_subparsers(dest="command", required=True))
    given = parser.parse_args(["study", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        return int(given.run(given))
    except CalibriError as error:
        print(f"study: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
