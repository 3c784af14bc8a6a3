"""`calibri grid`: pictures of any two settings against each other, as one contact sheet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibri.commands.loading import add_loading_arguments, read_options
from calibri.commands.prompts import tell_unread
from calibri.commands.render import check_asked, show_step, size_of
from calibri.errors import RenderError
from calibri.words import count, duration

if TYPE_CHECKING:
    from calibri.analysis.axes import Axis
    from calibri.analysis.grid import Grid
    from calibri.backbones.loading import Backbone
    from calibri.calibration.artifact import Calibration
    from calibri.sampling.request import Rendered

HELP = "two settings against each other, as a sheet of pictures"
DESCRIPTION = (
    "Renders a prompt with one setting changed from column to column and another one from row to row: steps, "
    "guidance, embedded-guidance, seed, strength (of the calibration: 0 is the base), scale:NAME, arm (base "
    "and files of calibrations) or prompt. The PNG file has heads and carries all settings."
)
VALUES = "2,4,8 or a range with its step, 1-7:2; prompts with | between"
BASE = "base"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("prompt")
    parser.add_argument(
        "--columns", required=True, metavar="SETTING=VALUES", help=f"from left to right: {VALUES}"
    )
    parser.add_argument("--rows", metavar="SETTING=VALUES", help="from top to bottom (default: one row)")
    parser.add_argument("--backbone", default="tabletop", help="name, folder or hub id (default tabletop)")
    parser.add_argument(
        "--calibration",
        type=Path,
        metavar="FILE",
        help="of every picture: a file, or OWNER/NAME of the hub; without it: the base",
    )
    parser.add_argument("--steps", type=int, help="sampling steps (default: the backbone's)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument("--guidance", type=float, help="classifier-free guidance (default: none)")
    parser.add_argument(
        "--embedded-guidance", type=float, help="of distilled models (default: the backbone's)"
    )
    parser.add_argument("--negative", default="", metavar="PROMPT", help="what negative members see")
    parser.add_argument("--size", metavar="WxH", help="in pixels (default: the backbone's)")
    parser.add_argument("--batch-size", type=int, default=8)
    add_loading_arguments(parser)
    parser.add_argument("-o", "--out", type=Path, default=Path("grid.png"), metavar="FILE.png")
    parser.set_defaults(count=1)  # check_asked looks at the last of so many seeds


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    if args.out.suffix.lower() != ".png":
        raise RenderError(f"--out: expected a file that ends in .png, got {args.out}")
    from calibri.analysis.grid import Grid, Point, render_grid
    from calibri.backbones.catalog import resolve
    from calibri.calibration.reading import read_for_backbone

    # Checked before the backbone is loaded, which takes seconds.
    check_asked(args)
    typed = [read_side("--columns", args.columns)]
    typed += [read_side("--rows", args.rows)] if args.rows else []
    sides, arms = read_arms(typed, args.backbone)
    calibration = None if args.calibration is None else read_for_backbone(args.calibration, args.backbone)
    width, height = size_of(args.size) if args.size else (None, None)
    options = read_options(args, [calibration, *arms.values()])
    spec = resolve(args.backbone)
    start = Point(
        args.prompt,
        args.seed,
        args.steps or spec.steps,
        args.guidance,
        args.embedded_guidance,
        arm=BASE if calibration is None else calibration.title,
        calibration=calibration,
    )
    grid = Grid(start, sides[0], sides[1] if len(sides) > 1 else None, arms)

    from calibri.backbones.loading import load_backbone
    from calibri.sampling.renderer import Renderer

    backbone = load_backbone(args.backbone, options=options)
    tell_unread(backbone, filter(None, (args.prompt, args.negative)))
    made = render_grid(
        Renderer(backbone, args.batch_size),
        grid,
        on_step=show_step if sys.stderr.isatty() else None,
        width=width,
        height=height,
        negative_prompt=args.negative,
    )
    write_sheet(args.out, grid, made, backbone)
    seconds = sum(each.seconds for each in made)
    print(f"{args.out}: {count(len(made), 'picture')}, {duration(seconds)}")
    return 0


def read_side(option: str, text: str) -> Axis:
    """`steps=2,4,8`, `scale:double.0.attn=0-2:0.5` as an axis. Raises RenderError with the option."""
    from calibri.analysis.axes import read_axis

    setting, equals, values = text.partition("=")
    kind, _, scale = setting.strip().partition(":")
    if not equals:
        raise RenderError(f"{option}: expected SETTING=VALUES, such as steps=2,4,8, got {text[:60]!r}")
    try:
        typed: Any = [part.strip() for part in values.split(",") if part.strip()] if kind == "arm" else values
        return read_axis(kind, typed, scale)
    except RenderError as error:
        raise RenderError(f"{option}: {error}") from None


def read_arms(sides: list[Axis], backbone: str) -> tuple[list[Axis], dict[str, Calibration | None]]:
    """The sides with arms named without their folders, and the calibration of each name; the base has
    none."""
    from dataclasses import replace

    from calibri.calibration.reading import read_for_backbone

    arms: dict[str, Calibration | None] = {BASE: None}
    named = {BASE: BASE}
    for place in (value for side in sides if side.kind == "arm" for value in side.values):
        if place not in named:
            found = read_for_backbone(place, backbone)
            name = short = Path(place).stem
            while name in arms:  # files of one name in two folders
                name = f"{short} ({len(arms)})"
            named[place], arms[name] = name, found
    for number, side in enumerate(sides):
        if side.kind == "arm":
            sides[number] = replace(side, values=tuple(named[value] for value in side.values))
    return sides, arms


def write_sheet(path: Path, grid: Grid, made: list[Rendered], backbone: Backbone) -> None:
    """The contact sheet as a PNG with the settings of the grid. Raises RenderError."""
    from calibri.analysis.sheet import draw_sheet
    from calibri.sampling.png import save_png, settings_of

    nfe = sum(each.nfe for each in made)
    settings = {**settings_of(made[0], backbone), **grid.settings(), "nfe": nfe}
    labels = [axis.labels for axis in grid.axes]
    sheet = draw_sheet([each.image for each in made], *labels, caption=grid.write_caption(backbone.spec.name))
    save_png(sheet, path, settings)
